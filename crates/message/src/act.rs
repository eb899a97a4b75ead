//! The legal act: what a vaststeller signs over content and label (VIRBI 2025 articles 1 and 4), and that an event has happened.
//!
//! An act *establishes* the label of a message before it is sent. One that *revises* or *ends* a label names the message and the act it
//! follows, so that the acts on a message stand in one line. One for an *extract* establishes the label of another content made from a message, and names
//! that message and the act in force on it: it begins a line of its own. The content is named by a salted digest ([`crate::Content::digest`]): whoever has not
//! opened the message learns nothing of it, whoever has can tell that the act is about it.

use ordonnans_label::{Kind, Label, Level, MAX_EVENT_CHARS, Name, State};

use crate::cbor::{DecodeError, Reader, Writer};
use crate::cose::Purpose;
use crate::header::{digest, message_id, name, time};
use crate::label::{decode_label, encode_label};
use crate::statement::{Signed, Statement};
use crate::{Digest, MessageId, Timestamp};

/// What a vaststeller does to a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum ActKind {
    /// Gives it, before the message is sent.
    Establish = 1,
    /// Puts another in its place.
    Revise = 2,
    /// Ends the rubricering.
    End = 3,
    /// Gives it to an extract of a message.
    Extract = 4,
}

impl ActKind {
    /// The number in encodings.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Establish => "establish",
            Self::Revise => "revise",
            Self::End => "end",
            Self::Extract => "extract",
        }
    }
}

/// The act that one follows, or was in force when an extract was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Follows {
    /// The message.
    pub message: MessageId,
    /// SHA-256 of that signed act.
    pub act: Digest,
}

/// A vaststeller's statement about one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Act {
    /// What it does.
    pub kind: ActKind,
    /// The content: [`crate::Content::digest`].
    pub subject: Digest,
    /// The label from now on: established, by whoever signs.
    pub label: Label,
    /// Whose information it is: a node.
    pub node: Name,
    /// The vaststeller: a person.
    pub by: Name,
    /// When, by the signer's clock.
    pub at: Timestamp,
    /// What it follows; none where it establishes.
    pub follows: Option<Follows>,
}

impl Act {
    /// What holds for every act, whoever signs it.
    ///
    /// # Errors
    /// [`DecodeError`] names the part.
    pub fn check(&self) -> Result<(), DecodeError> {
        let established = State::Established {
            by: self.by.clone(),
        };
        let c = &self.label.confidentiality;
        let whole = self.by.kind() == Kind::Person
            && self.node.kind() == Kind::Node
            && self.label.state == established
            // Under another policy the act is its originator's.
            && c.alternative().is_none();
        let ended = c.level() == Level::Ongerubriceerd && self.label.duration.is_none();
        let fits = match self.kind {
            ActKind::Establish => self.follows.is_none(),
            ActKind::Revise | ActKind::Extract => self.follows.is_some(),
            ActKind::End => self.follows.is_some() && ended,
        };
        if whole && fits {
            Ok(())
        } else {
            Err(DecodeError::Form("act"))
        }
    }
}

impl Statement for Act {
    const PURPOSE: Purpose = Purpose::Act;

    fn maker(&self) -> &Name {
        &self.by
    }

    fn write(&self, w: &mut Writer) {
        w.map(6 + usize::from(self.follows.is_some()));
        w.uint(1).uint(self.kind.code().into());
        w.uint(2).bytes(self.subject.as_bytes());
        encode_label(&self.label, w.uint(3));
        w.uint(4).text(self.node.as_str());
        w.uint(5).text(self.by.as_str());
        w.uint(6).uint(self.at.as_millis());
        if let Some(f) = &self.follows {
            w.uint(7)
                .array(2)
                .bytes(f.message.as_bytes())
                .bytes(f.act.as_bytes());
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (mut kind, mut subject, mut label, mut node) = (None, None, None, None);
        let (mut by, mut at, mut follows) = (None, None, None);
        r.map("act", 7, |r, key| {
            match key {
                1 => {
                    kind = Some(match r.uint("act kind", 4)? {
                        1 => ActKind::Establish,
                        2 => ActKind::Revise,
                        3 => ActKind::End,
                        4 => ActKind::Extract,
                        _ => return Err(DecodeError::Unknown("act kind")),
                    });
                }
                2 => subject = Some(digest(r, "subject")?),
                3 => label = Some(decode_label(r)?),
                4 => node = Some(name(r, "node")?),
                5 => by = Some(name(r, "vaststeller")?),
                6 => at = Some(time(r, "act time")?),
                7 => {
                    r.tuple("follows", 2)?;
                    follows = Some(Follows {
                        message: message_id(r)?,
                        act: digest(r, "act")?,
                    });
                }
                _ => return Err(DecodeError::Unknown("act key")),
            }
            Ok(())
        })?;
        let missing = DecodeError::Form("act");
        let act = Self {
            kind: kind.ok_or(missing)?,
            subject: subject.ok_or(missing)?,
            label: label.ok_or(missing)?,
            node: node.ok_or(missing)?,
            by: by.ok_or(missing)?,
            at: at.ok_or(missing)?,
            follows,
        };
        act.check()?;
        Ok(act)
    }
}

/// An act with its signature, unverified.
pub type SignedAct = Signed<Act>;

impl SignedAct {
    /// SHA-256 of its one byte form: what names it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        crate::sha256(&[&self.encode()])
    }
}

/// A statement that an event of the register has happened. Labels that last until then are due for review; none changes by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// The event, as the register names it.
    pub event: Box<str>,
    /// Who says so: a person whom the register lets declare it.
    pub by: Name,
    /// When, by the signer's clock.
    pub at: Timestamp,
}

impl Statement for Declaration {
    const PURPOSE: Purpose = Purpose::Declaration;

    fn maker(&self) -> &Name {
        &self.by
    }

    fn write(&self, w: &mut Writer) {
        w.map(3).uint(1).text(&self.event);
        w.uint(2).text(self.by.as_str());
        w.uint(3).uint(self.at.as_millis());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (mut event, mut by, mut at) = (None, None, None);
        r.map("declaration", 3, |r, key| {
            match key {
                1 => event = Some(r.text("event", 4 * MAX_EVENT_CHARS)?.into()),
                2 => by = Some(name(r, "declarer")?),
                3 => at = Some(time(r, "declaration time")?),
                _ => return Err(DecodeError::Unknown("declaration key")),
            }
            Ok(())
        })?;
        let missing = DecodeError::Form("declaration");
        Ok(Self {
            event: event.ok_or(missing)?,
            by: by.ok_or(missing)?,
            at: at.ok_or(missing)?,
        })
    }
}

/// A declaration with its signature, unverified.
pub type SignedDeclaration = Signed<Declaration>;
