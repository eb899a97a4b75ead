//! The header of a message: everything the broker decides on, signed by the originator's node.
//!
//! The subject line and the media type are content and never stand here.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use ordonnans_label::{Kind, Label, Level, Name};

use crate::act::{ActKind, SignedAct};
use crate::cbor::{DecodeError, Reader, Writer, exactly};
use crate::group::{Addressed, Group};
use crate::label::{decode_label, encode_label};
use crate::passing::PassedOn;
use crate::{Digest, MessageId, Timestamp, limits, sha256};

/// Form of the header this version writes and reads.
const VERSION: u64 = 1;

/// How fast a message must travel, independent of its level (STANAG 4406; the numbers are that standard's).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Precedence {
    /// After everything else.
    Deferred = 0,
    /// R.
    Routine = 1,
    /// P.
    Priority = 2,
    /// O.
    Immediate = 3,
    /// Z.
    Flash = 4,
    /// Y: before everything else.
    Override = 5,
}

/// A word that names no precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a precedence; write deferred, routine, priority, immediate, flash or override (or R, P, O, Z, Y)"
)]
pub struct InvalidPrecedence;

impl Precedence {
    /// All, lowest first.
    pub const ALL: [Self; 6] = [
        Self::Deferred,
        Self::Routine,
        Self::Priority,
        Self::Immediate,
        Self::Flash,
        Self::Override,
    ];

    /// Whether it is one of those that do not wait: IMMEDIATE and above. They have quotas, windows and turns of their own.
    #[must_use]
    pub fn is_urgent(self) -> bool {
        self >= Self::Immediate
    }

    /// The number in encodings.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The precedence of a number, or `None` above 5.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Within this time of its acceptance a copy is due, in milliseconds: the delivery objectives of the military precedences, and a day for
    /// what may wait.
    #[must_use]
    pub fn due_within_ms(self) -> u64 {
        let minutes = match self {
            Self::Override | Self::Flash => 10,
            Self::Immediate => 30,
            Self::Priority => 3 * 60,
            Self::Routine => 6 * 60,
            Self::Deferred => 24 * 60,
        };
        minutes * 60 * 1000
    }

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deferred => "deferred",
            Self::Routine => "routine",
            Self::Priority => "priority",
            Self::Immediate => "immediate",
            Self::Flash => "flash",
            Self::Override => "override",
        }
    }
}

impl fmt::Display for Precedence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Precedence {
    type Err = InvalidPrecedence;

    fn from_str(s: &str) -> Result<Self, InvalidPrecedence> {
        match s.to_ascii_lowercase().as_str() {
            "r" => Ok(Self::Routine),
            "p" => Ok(Self::Priority),
            "o" => Ok(Self::Immediate),
            "z" => Ok(Self::Flash),
            "y" => Ok(Self::Override),
            word => Self::ALL
                .into_iter()
                .find(|p| p.as_str() == word)
                .ok_or(InvalidPrecedence),
        }
    }
}

/// Whether a recipient must act or is only informed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Must act.
    Action,
    /// Is informed.
    Info,
}

/// One addressee.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recipient {
    /// The node the copy goes to.
    pub node: Name,
    /// The person at that node who alone may open it, where one is named.
    pub person: Option<Name>,
    /// Action or information.
    pub role: Role,
    /// How fast for this recipient.
    pub precedence: Precedence,
}

/// Who holds a copy, and whose key it is sealed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder<'h> {
    /// The node the copy goes to.
    pub node: &'h Name,
    /// The person it is sealed to; without one it is sealed to the node.
    pub person: Option<&'h Name>,
}

impl<'h> Holder<'h> {
    /// Whose key the copy is sealed to.
    #[must_use]
    pub fn owner(&self) -> &'h Name {
        self.person.unwrap_or(self.node)
    }
}

/// The sealed content, by digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentRef {
    /// SHA-256 of the sealed bytes.
    pub digest: Digest,
    /// Number of sealed bytes, at most [`limits::MAX_CONTENT`]; [`limits::MAX_COPIES`] where copies are numbered.
    pub length: u32,
}

/// A sealed attachment, by digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttachmentRef {
    /// BLAKE3 of the sealed bytes.
    pub digest: Digest,
    /// Number of sealed bytes, at most [`limits::MAX_ATTACHMENT`].
    pub length: u64,
}

/// How the content is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sealing {
    /// The suite: [`SUITE_X_WING`], or [`SUITE_EPOCH`] below Stg.C.
    pub suite: u16,
    /// Commitment to the content key: one ciphertext opens to one text.
    pub commitment: Digest,
    /// SHA-256 of the seals section of the envelope.
    pub seals: Digest,
}

/// Suite 1: X-Wing, HKDF-SHA256, AES-256-GCM.
pub const SUITE_X_WING: u16 = 1;
/// Suite 2: the same, and what is wrapped is the key of an epoch, from which the content key follows; who has it already has no seal.
pub const SUITE_EPOCH: u16 = 2;

/// What a message says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Names the message.
    pub id: MessageId,
    /// The node that sends it.
    pub originator: Name,
    /// The person who wrote it, where one is named.
    pub author: Option<Name>,
    /// Who may read it.
    pub label: Label,
    /// To whom, 1 to [`limits::MAX_RECIPIENTS`], each node and person once.
    pub recipients: Vec<Recipient>,
    /// Whether it belongs to an exercise.
    pub exercise: bool,
    /// When it was made, by the originator's clock.
    pub created: Timestamp,
    /// When it is no longer delivered.
    pub expires: Timestamp,
    /// When an answer is due.
    pub reply_by: Option<Timestamp>,
    /// Earlier messages it refers to.
    pub references: Vec<MessageId>,
    /// The message it replaces.
    pub supersedes: Option<MessageId>,
    /// The sealed content.
    pub content: ContentRef,
    /// The sealed attachments.
    pub attachments: Vec<AttachmentRef>,
    /// How content and attachments are sealed.
    pub sealing: Sealing,
    /// The vaststeller's signed statement over label and content.
    pub act: Option<SignedAct>,
    /// The groups it is addressed to, at most [`limits::MAX_GROUPS`]. A recipient of none of them is named: the message goes to it or to nobody.
    pub groups: Vec<Addressed>,
    /// The message it passes on.
    pub passed: Option<PassedOn>,
}

impl Header {
    /// The one byte form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        self.write(&mut w, true);
        w.into_bytes()
    }

    /// Reads a header and checks what holds for every header: at least one recipient and none twice, lifetimes in order, kinds
    /// of names.
    ///
    /// # Errors
    /// [`DecodeError`] names the part.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > limits::MAX_HEADER {
            return Err(DecodeError::Limit("header"));
        }
        let header = exactly(bytes, Self::read, |h, w| h.write(w, true))?;
        header.check()?;
        Ok(header)
    }

    /// What a seal binds: SHA-256 of the header as it is before anything is sealed (without content, attachments and sealing).
    /// A changed label, recipient or time opens nothing.
    #[must_use]
    pub fn binding(&self) -> Digest {
        let mut w = Writer::default();
        self.write(&mut w, false);
        sha256(&[b"ordonnans/1 binding", &w.into_bytes()])
    }

    /// The highest precedence of any recipient: the class it travels in to the broker.
    #[must_use]
    pub fn precedence(&self) -> Precedence {
        self.recipients
            .iter()
            .map(|r| r.precedence)
            .max()
            .unwrap_or(Precedence::Deferred)
    }

    /// Sealed bytes of content and attachments.
    #[must_use]
    pub fn sealed_bytes(&self) -> u64 {
        let attached = self.attachments.iter().map(|a| a.length);
        attached.fold(self.content.length.into(), u64::saturating_add)
    }

    /// Whether a recipient is named, and not only a member of a group.
    #[must_use]
    pub fn is_named(&self, place: usize) -> bool {
        let in_group = |a: &Addressed| a.members.iter().any(|n| usize::from(*n) == place);
        !self.groups.iter().any(in_group)
    }

    /// The nodes that get a copy, each once.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<&Name> {
        self.recipients.iter().map(|r| &r.node).collect()
    }

    /// The copies that are sealed, in the order of their numbers, which is that of node and person: from Stg.G up one for each named person,
    /// below one for each node.
    #[must_use]
    pub fn copies(&self) -> BTreeSet<Holder<'_>> {
        let to_persons = self.label.confidentiality.level() >= Level::StgG;
        self.recipients
            .iter()
            .map(|r| Holder {
                node: &r.node,
                person: r.person.as_ref().filter(|_| to_persons),
            })
            .collect()
    }

    /// Whether every copy has a number and a ciphertext of its own: from Stg.C up (VIRBI 2013 annex 1, row 6K).
    #[must_use]
    pub fn numbered(&self) -> bool {
        self.label.confidentiality.level() >= Level::StgC
    }

    /// What holds for every header, whoever made it.
    ///
    /// # Errors
    /// [`DecodeError`] names the part.
    pub fn check(&self) -> Result<(), DecodeError> {
        if self.recipients.is_empty() {
            return Err(DecodeError::Form("recipients"));
        }
        if self.originator.kind() != Kind::Node {
            return Err(DecodeError::Form("originator"));
        }
        if self
            .author
            .as_ref()
            .is_some_and(|a| a.kind() != Kind::Person)
        {
            return Err(DecodeError::Form("author"));
        }
        let mut seen = BTreeSet::new();
        for r in &self.recipients {
            let kinds = r.node.kind() == Kind::Node
                && r.person.as_ref().is_none_or(|p| p.kind() == Kind::Person);
            if !kinds || !seen.insert((&r.node, &r.person)) {
                return Err(DecodeError::Form("recipients"));
            }
        }
        let fits = |s: &SignedAct| {
            let a = s.said();
            let own = a.kind == ActKind::Establish && a.node == self.originator;
            a.label == self.label && (own || self.passed.is_some())
        };
        let in_order = |a: &Addressed| {
            let within = |n: &u16| usize::from(*n) < self.recipients.len();
            a.members.is_sorted_by(|x, y| x < y) && a.members.iter().all(within)
        };
        let mut names: Vec<&Group> = self.groups.iter().map(|a| &a.group).collect();
        names.sort();
        if !self.groups.iter().all(in_order) || !names.is_sorted_by(|x, y| x < y) {
            return Err(DecodeError::Form("groups"));
        }
        if !self.act.as_ref().is_none_or(fits) {
            return Err(DecodeError::Form("act"));
        }
        if let Some(passed) = &self.passed {
            passed.check(self.id, self.act.as_ref())?;
        }
        if self.expires <= self.created {
            return Err(DecodeError::Form("expires"));
        }
        if self.expires.since(self.created) > limits::MAX_LIFETIME_MS {
            return Err(DecodeError::Limit("lifetime"));
        }
        let most = if self.numbered() {
            limits::MAX_COPIES
        } else {
            limits::MAX_CONTENT
        };
        if self.content.length as usize > most {
            return Err(DecodeError::Limit("content"));
        }
        match self.sealing.suite {
            SUITE_X_WING => Ok(()),
            // A numbered copy has a key of its own.
            SUITE_EPOCH if self.numbered() => Err(DecodeError::Form("suite")),
            SUITE_EPOCH => Ok(()),
            _ => Err(DecodeError::Unknown("suite")),
        }
    }

    fn write(&self, w: &mut Writer, sealed: bool) {
        let pairs = 7
            + usize::from(self.author.is_some())
            + usize::from(self.reply_by.is_some())
            + usize::from(!self.references.is_empty())
            + usize::from(self.supersedes.is_some())
            + usize::from(self.act.is_some())
            + usize::from(!self.groups.is_empty())
            + usize::from(self.passed.is_some())
            + if sealed {
                2 + usize::from(!self.attachments.is_empty())
            } else {
                0
            };
        w.map(pairs);
        w.uint(0).uint(VERSION);
        w.uint(1).bytes(self.id.as_bytes());
        w.uint(2).text(self.originator.as_str());
        if let Some(author) = &self.author {
            w.uint(3).text(author.as_str());
        }
        encode_label(&self.label, w.uint(4));
        w.uint(5).array(self.recipients.len());
        for r in &self.recipients {
            w.array(4).text(r.node.as_str());
            w.option(r.person.as_ref(), |w, p| {
                w.text(p.as_str());
            });
            w.uint(u64::from(r.role == Role::Info))
                .uint(u64::from(r.precedence.code()));
        }
        w.uint(6).bool(self.exercise);
        w.uint(7)
            .array(2)
            .uint(self.created.as_millis())
            .uint(self.expires.as_millis());
        if let Some(t) = self.reply_by {
            w.uint(8).uint(t.as_millis());
        }
        if !self.references.is_empty() {
            w.uint(9).array(self.references.len());
            for id in &self.references {
                w.bytes(id.as_bytes());
            }
        }
        if let Some(id) = &self.supersedes {
            w.uint(10).bytes(id.as_bytes());
        }
        if sealed {
            self.write_sealed(w);
        }
        if let Some(act) = &self.act {
            w.uint(14).bytes(&act.encode());
        }
        if !self.groups.is_empty() {
            w.uint(15).array(self.groups.len());
            self.groups.iter().for_each(|a| a.write(w));
        }
        if let Some(passed) = &self.passed {
            passed.write(w.uint(16));
        }
    }

    /// What is known once it is sealed.
    fn write_sealed(&self, w: &mut Writer) {
        w.uint(11)
            .array(2)
            .bytes(self.content.digest.as_bytes())
            .uint(self.content.length.into());
        if !self.attachments.is_empty() {
            w.uint(12).array(self.attachments.len());
            for a in &self.attachments {
                w.array(2).bytes(a.digest.as_bytes()).uint(a.length);
            }
        }
        let s = &self.sealing;
        w.uint(13)
            .array(3)
            .uint(s.suite.into())
            .bytes(s.commitment.as_bytes())
            .bytes(s.seals.as_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (mut version, mut id, mut originator, mut author, mut label) =
            (None, None, None, None, None);
        let (mut recipients, mut exercise, mut times, mut reply_by) = (None, None, None, None);
        let (mut references, mut supersedes, mut content) = (vec![], None, None);
        let (mut attachments, mut sealing, mut act, mut groups) = (vec![], None, None, vec![]);
        let mut passed = None;
        r.map("header", 17, |r, key| {
            match key {
                0 => version = Some(r.uint("version", u64::MAX)?),
                1 => id = Some(message_id(r)?),
                2 => originator = Some(name(r, "originator")?),
                3 => author = Some(name(r, "author")?),
                4 => label = Some(decode_label(r)?),
                5 => {
                    let n = r.array("recipients", limits::MAX_RECIPIENTS)?;
                    recipients = Some(
                        (0..n)
                            .map(|_| recipient(r))
                            .collect::<Result<Vec<_>, _>>()?,
                    );
                }
                6 => exercise = Some(r.bool("exercise")?),
                7 => {
                    r.tuple("times", 2)?;
                    times = Some((time(r, "created")?, time(r, "expires")?));
                }
                8 => reply_by = Some(time(r, "reply-by")?),
                9 => {
                    let n = r.array("references", limits::MAX_REFERENCES)?;
                    references = (0..n).map(|_| message_id(r)).collect::<Result<_, _>>()?;
                }
                10 => supersedes = Some(message_id(r)?),
                11 => {
                    r.tuple("content", 2)?;
                    let digest = digest(r, "content")?;
                    let length = r.uint("content", limits::MAX_COPIES as u64)?;
                    content = Some(ContentRef {
                        digest,
                        length: u32::try_from(length).unwrap_or(u32::MAX),
                    });
                }
                12 => {
                    let n = r.array("attachments", limits::MAX_ATTACHMENTS)?;
                    attachments = (0..n).map(|_| attachment(r)).collect::<Result<_, _>>()?;
                }
                13 => sealing = Some(read_sealing(r)?),
                14 => act = Some(SignedAct::decode(r.bytes("act", limits::MAX_ACT)?)?),
                15 => {
                    let n = r.array("groups", limits::MAX_GROUPS)?;
                    groups = (0..n)
                        .map(|_| Addressed::read(r))
                        .collect::<Result<_, _>>()?;
                }
                16 => passed = Some(PassedOn::read(r)?),
                _ => return Err(DecodeError::Unknown("header key")),
            }
            Ok(())
        })?;
        if version != Some(VERSION) {
            return Err(DecodeError::Unknown("header version"));
        }
        let missing = DecodeError::Form("header");
        let (created, expires) = times.ok_or(missing)?;
        Ok(Self {
            id: id.ok_or(missing)?,
            originator: originator.ok_or(missing)?,
            author,
            label: label.ok_or(missing)?,
            recipients: recipients.ok_or(missing)?,
            exercise: exercise.ok_or(missing)?,
            created,
            expires,
            reply_by,
            references,
            supersedes,
            content: content.ok_or(missing)?,
            attachments,
            sealing: sealing.ok_or(missing)?,
            act,
            groups,
            passed,
        })
    }
}

fn recipient(r: &mut Reader<'_>) -> Result<Recipient, DecodeError> {
    r.tuple("recipient", 4)?;
    let node = name(r, "recipient")?;
    let person = r.option(|r| name(r, "recipient"))?;
    let role = if r.uint("role", 1)? == 0 {
        Role::Action
    } else {
        Role::Info
    };
    Ok(Recipient {
        node,
        person,
        role,
        precedence: precedence(r)?,
    })
}

pub(crate) fn precedence(r: &mut Reader<'_>) -> Result<Precedence, DecodeError> {
    let code = r.uint("precedence", 5)?;
    let precedence = u8::try_from(code).ok().and_then(Precedence::from_code);
    precedence.ok_or(DecodeError::Form("precedence"))
}

fn attachment(r: &mut Reader<'_>) -> Result<AttachmentRef, DecodeError> {
    r.tuple("attachment", 2)?;
    Ok(AttachmentRef {
        digest: digest(r, "attachment")?,
        length: r.uint("attachment", limits::MAX_ATTACHMENT)?,
    })
}

fn read_sealing(r: &mut Reader<'_>) -> Result<Sealing, DecodeError> {
    r.tuple("sealing", 3)?;
    let suite = u16::try_from(r.uint("suite", u16::MAX.into())?).unwrap_or(u16::MAX);
    Ok(Sealing {
        suite,
        commitment: digest(r, "commitment")?,
        seals: digest(r, "seals")?,
    })
}

pub(crate) fn name(r: &mut Reader<'_>, what: &'static str) -> Result<Name, DecodeError> {
    r.parsed(what, Name::MAX_BYTES)
}

pub(crate) fn message_id(r: &mut Reader<'_>) -> Result<MessageId, DecodeError> {
    r.bytes("message id", 16)?
        .try_into()
        .map_err(|_| DecodeError::Form("message id"))
}

pub(crate) fn digest(r: &mut Reader<'_>, what: &'static str) -> Result<Digest, DecodeError> {
    r.fixed::<32>(what).map(Digest::from)
}

pub(crate) fn time(r: &mut Reader<'_>, what: &'static str) -> Result<Timestamp, DecodeError> {
    r.uint(what, Timestamp::MAX.as_millis())
        .map(Timestamp::from_millis)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cose::{Algorithm, Draft, Purpose};
    use crate::{Act, Statement};
    use proptest::prelude::*;

    fn act(label: Label) -> SignedAct {
        let act = Act {
            kind: ActKind::Establish,
            subject: sha256(&[b"subject"]),
            label,
            node: "ncc.node.crisis.example".parse().expect("a name"),
            by: "jansen.person.crisis.example".parse().expect("a name"),
            at: Timestamp::from_millis(900),
            follows: None,
        };
        let draft = Draft::new(Purpose::Act, Algorithm::Es256, b"c", act.encode());
        SignedAct::new(draft.finish(vec![0; 64])).expect("an act")
    }

    /// A header with every optional part, or with none.
    pub(crate) fn sample(full: bool) -> Header {
        let n = |s: &str| s.parse::<Name>().expect("a name");
        let id = |b| MessageId::new(Timestamp::from_millis(1), [b; 10]);
        let label = if full {
            "Stg.G // KRING ICCB, NAFIN // COMPARTIMENT CYBER // MERKING NL // TOT 2036-01-01 // VASTGESTELD jansen.person.crisis.example"
        } else {
            "Ongerubriceerd"
        };
        let person = full.then(|| n("vermeer.person.crisis.example"));
        Header {
            id: id(1),
            originator: n("ncc.node.crisis.example"),
            author: person.clone(),
            label: label.parse().expect("a label"),
            recipients: vec![Recipient {
                node: n("locc.node.crisis.example"),
                person,
                role: Role::Action,
                precedence: Precedence::Flash,
            }],
            exercise: true,
            created: Timestamp::from_millis(1_000),
            expires: Timestamp::from_millis(2_000),
            reply_by: full.then(|| Timestamp::from_millis(1_500)),
            references: if full { vec![id(2), id(3)] } else { vec![] },
            supersedes: full.then(|| id(4)),
            content: ContentRef {
                digest: sha256(&[b"content"]),
                length: 7,
            },
            attachments: if full {
                vec![AttachmentRef {
                    digest: sha256(&[b"a"]),
                    length: 1 << 30,
                }]
            } else {
                vec![]
            },
            sealing: Sealing {
                suite: 1,
                commitment: sha256(&[b"key"]),
                seals: sha256(&[b"seals"]),
            },
            act: full.then(|| act(label.parse().expect("a label"))),
            groups: vec![],
            passed: None,
        }
    }

    #[test]
    fn one_value_one_form() {
        for full in [false, true] {
            let h = sample(full);
            assert_eq!(Header::decode(&h.encode()), Ok(h));
        }
    }

    #[test]
    fn the_binding_covers_all_but_the_seal() {
        let h = sample(true);
        let same = Header {
            content: ContentRef {
                length: 8,
                ..h.content
            },
            attachments: vec![],
            ..h.clone()
        };
        assert_eq!(same.binding(), h.binding());
        let label = "Stg.C // TOT 2036-01-01".parse().expect("a label");
        for other in [
            Header { label, ..h.clone() },
            Header {
                exercise: false,
                ..h.clone()
            },
            Header {
                expires: h.expires.after(1),
                ..h.clone()
            },
            Header {
                recipients: vec![],
                ..h.clone()
            },
        ] {
            assert_ne!(other.binding(), h.binding());
        }
    }

    #[test]
    fn what_no_header_may_say() {
        let h = sample(true);
        let twice = vec![h.recipients[0].clone(), h.recipients[0].clone()];
        for (bad, why) in [
            (
                Header {
                    recipients: vec![],
                    ..h.clone()
                },
                DecodeError::Form("recipients"),
            ),
            (
                Header {
                    recipients: twice,
                    ..h.clone()
                },
                DecodeError::Form("recipients"),
            ),
            (
                Header {
                    originator: "x.person.crisis.example".parse().expect("a name"),
                    ..h.clone()
                },
                DecodeError::Form("originator"),
            ),
            (
                Header {
                    expires: h.created,
                    ..h.clone()
                },
                DecodeError::Form("expires"),
            ),
            (
                Header {
                    expires: h.created.after(limits::MAX_LIFETIME_MS + 1),
                    ..h.clone()
                },
                DecodeError::Limit("lifetime"),
            ),
            (
                Header {
                    sealing: Sealing {
                        suite: 3,
                        ..h.sealing
                    },
                    ..h.clone()
                },
                DecodeError::Unknown("suite"),
            ),
        ] {
            assert_eq!(Header::decode(&bad.encode()), Err(why));
        }
        let longest = Header {
            expires: h.created.after(limits::MAX_LIFETIME_MS),
            ..h
        };
        assert!(Header::decode(&longest.encode()).is_ok());
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_another_header_or_none(at in 0usize..10_000, to: u8) {
            let h = sample(true);
            let mut bytes = h.encode();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            if let Ok(other) = Header::decode(&bytes) {
                prop_assert_ne!(&other, &h);
                prop_assert_eq!(other.encode(), bytes);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(h) = Header::decode(&bytes) {
                prop_assert_eq!(h.encode(), bytes);
            }
        }
    }
}
