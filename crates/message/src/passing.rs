//! What passes another message on: as it is, or as an extract, with the signature of a second person beside that of the vaststeller.
//!
//! A message that is passed on *as it is* has the content and the label of its parent, and the very act that put that label in force: whoever opens it
//! sees that it is the content the act is about. An *extract* has another content, and an act of its own that names the parent
//! ([`ActKind::Extract`]); the second person signs over that act, and so over content, label and parent.

use ordonnans_label::{Kind, Name};

use crate::act::{Act, ActKind, SignedAct};
use crate::cbor::{DecodeError, Reader, Writer};
use crate::cose::Purpose;
use crate::header::{digest, message_id, name, time};
use crate::statement::{Signed, Statement};
use crate::{Digest, MessageId, Timestamp, limits};

/// How a message passes another on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum How {
    /// Content and label are those of the parent.
    AsItIs = 0,
    /// Another content, made from the parent's, under another label.
    Extract = 1,
}

impl How {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsItIs => "as it is",
            Self::Extract => "extract",
        }
    }
}

/// What a message passes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PassedOn {
    /// How.
    pub how: How,
    /// The parent. Of what was passed on as it is, the message whose act it carries: all that pass it on name that one.
    pub parent: MessageId,
    /// Of an extract, the signature of the second person.
    pub second: Option<SignedSecond>,
}

impl PassedOn {
    /// Whether a message may carry this act.
    fn carries(&self, act: &Act) -> bool {
        let about_parent = act.follows.is_some_and(|f| f.message == self.parent);
        match (self.how, act.kind) {
            (How::Extract, kind) => kind == ActKind::Extract && about_parent,
            // What was in force from the first, and what was put in its place.
            (How::AsItIs, ActKind::Establish | ActKind::Extract) => true,
            (How::AsItIs, ActKind::Revise | ActKind::End) => about_parent,
        }
    }

    /// What holds for every message that passes another on.
    pub(crate) fn check(&self, id: MessageId, act: Option<&SignedAct>) -> Result<(), DecodeError> {
        let acts = match self.how {
            How::AsItIs => act.is_none_or(|a| self.carries(a.said())) && self.second.is_none(),
            How::Extract => act.is_some_and(|a| self.carries(a.said())),
        };
        if acts && self.parent != id {
            Ok(())
        } else {
            Err(DecodeError::Form("passed on"))
        }
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.array(3).uint(self.how as u64);
        w.bytes(self.parent.as_bytes());
        w.option(self.second.as_ref(), |w, s| {
            w.bytes(&s.encode());
        });
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.tuple("passed on", 3)?;
        Ok(Self {
            how: if r.uint("how", 1)? == 0 {
                How::AsItIs
            } else {
                How::Extract
            },
            parent: message_id(r)?,
            second: r.option(|r| SignedSecond::decode(r.bytes("second", limits::MAX_SECOND)?))?,
        })
    }
}

/// A second person's word that an extract may be made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Second {
    /// SHA-256 of the vaststeller's signed act: content, label and parent.
    pub act: Digest,
    /// The second person.
    pub by: Name,
    /// When, by the signer's clock.
    pub at: Timestamp,
}

impl Statement for Second {
    const PURPOSE: Purpose = Purpose::Second;

    fn maker(&self) -> &Name {
        &self.by
    }

    fn write(&self, w: &mut Writer) {
        w.map(3).uint(1).bytes(self.act.as_bytes());
        w.uint(2).text(self.by.as_str());
        w.uint(3).uint(self.at.as_millis());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (mut act, mut by, mut at) = (None, None, None);
        r.map("second", 3, |r, key| {
            match key {
                1 => act = Some(digest(r, "act")?),
                2 => by = Some(name(r, "second person")?),
                3 => at = Some(time(r, "time")?),
                _ => return Err(DecodeError::Unknown("key of a second")),
            }
            Ok(())
        })?;
        let missing = DecodeError::Form("second");
        let second = Self {
            act: act.ok_or(missing)?,
            by: by.ok_or(missing)?,
            at: at.ok_or(missing)?,
        };
        if second.by.kind() == Kind::Person {
            Ok(second)
        } else {
            Err(missing)
        }
    }
}

/// A second person's word with its signature, unverified.
pub type SignedSecond = Signed<Second>;
