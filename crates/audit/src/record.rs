//! A record: a public part that everyone may see, and a detail that it commits to.

use ordonnans_label::{Level, Name};
use ordonnans_message::cbor::{DecodeError, Reader, Writer, exactly};
use ordonnans_message::{AuditQuery, Digest, MessageId, Timestamp, sha256};

use crate::merkle;

/// Characters of a note.
pub const MAX_NOTE_CHARS: usize = 200;

macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// What happened. The numbers are fixed in `docs/audit.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Verb {
            $($(#[$doc])* $name = $code,)*
        }

        impl Verb {
            /// All verbs, by number.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word, as listings print it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

verbs! {
    /// A message was accepted.
    Accepted = 1,
    /// A message was refused.
    Refused = 2,
    /// A copy was handed to a node: the decision said yes.
    Delivered = 3,
    /// A copy was held back because the decision no longer says yes.
    Withheld = 4,
    /// A node confirmed that it has its copy, or that it cannot use it.
    Receipt = 5,
    /// A reader opened a copy.
    Opened = 6,
    /// A reader passed a message on.
    Forwarded = 7,
    /// An extract was made.
    Extracted = 8,
    /// A copy was printed.
    Printed = 9,
    /// A copy left the system.
    Exported = 10,
    /// A message was recalled.
    Recalled = 11,
    /// A message expired before it reached everyone.
    Expired = 12,
    /// A label was revised or ended.
    Regraded = 13,
    /// A copy was destroyed.
    Destroyed = 14,
    /// A session was opened.
    SessionOpened = 15,
    /// A session was closed.
    SessionClosed = 16,
    /// Connections were refused; strangers are counted together.
    SessionRefused = 17,
    /// Another register came into force.
    RegisterChanged = 18,
    /// Another policy came into force.
    PolicyChanged = 19,
    /// The configuration changed.
    ConfigurationChanged = 20,
    /// Another list of revoked certificates came into force.
    CrlChanged = 21,
    /// An officer read the log.
    AuditRead = 22,
    /// The clock was set.
    ClockStepped = 23,
    /// A checkpoint was signed.
    Checkpoint = 24,
    /// The broker started.
    Started = 25,
    /// The broker stopped in good order.
    Stopped = 26,
    /// The day or event of a label has come: its vaststeller is to weigh it again. The level stays.
    ReviewDue = 27,
    /// An event that labels last until was declared.
    EventDeclared = 28,
    /// A numbered copy was made for a node.
    CopyMade = 29,
    /// An officer has looked at a period and signed it off.
    Reviewed = 30,
    /// An officer opened an incident, or added messages to it: what waits of them is frozen, and no detail of theirs is dropped.
    IncidentOpened = 31,
    /// An officer closed an incident.
    IncidentClosed = 32,
    /// Something that an officer should look at.
    Alarm = 33,
    /// Details whose time was over were destroyed.
    DetailsDropped = 34,
    /// A copy was not there, opened or answered when it was due; its node was reminded where it has it.
    Chased = 35,
    /// It was late still: originator and contact were told.
    Escalated = 36,
    /// Another message took the place of a copy that had not left.
    Superseded = 37,
    /// The sealed bytes of an attachment were removed: no copy that waits refers to them any more.
    AttachmentRemoved = 38,
    /// A node asked for its next certificate.
    RenewalAsked = 39,
    /// A node shows the certificate that it asked for.
    Renewed = 40,
}

impl Verb {
    /// The number in encodings.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The verb of a number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|v| v.code() == code)
    }
}

/// How far the clock could be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ClockQuality {
    /// Nobody asked the system.
    Unknown = 0,
    /// The system says it is synchronised.
    Synchronised = 1,
    /// The system says it is not.
    Unsynchronised = 2,
}

impl ClockQuality {
    /// The word, as listings print it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Synchronised => "synchronised",
            Self::Unsynchronised => "unsynchronised",
        }
    }

    fn from_code(code: u64) -> Option<Self> {
        match code {
            0 => Some(Self::Unknown),
            1 => Some(Self::Synchronised),
            2 => Some(Self::Unsynchronised),
            _ => None,
        }
    }
}

/// The part of a record that is a leaf of the tree. Its level is that of what the record speaks of; nothing else in it says what that
/// is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Public {
    /// Place in the log, from 0 without a gap.
    pub sequence: u64,
    /// When, by the broker's clock. Never runs back; order is proven by the tree, not by this.
    pub time: Timestamp,
    /// How far the clock could be trusted.
    pub clock: ClockQuality,
    /// What happened.
    pub verb: Verb,
    /// The level of what it happened to.
    pub level: Level,
    /// Salted hash of the detail.
    pub commitment: Digest,
}

impl Public {
    /// The one byte form: the entry of the leaf.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        self.write(&mut w);
        w.into_bytes()
    }

    /// Reads a public part.
    ///
    /// # Errors
    /// [`DecodeError`] names the part.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        exactly(bytes, Self::read, Self::write)
    }

    /// The hash of the leaf.
    #[must_use]
    pub fn leaf(&self) -> Digest {
        merkle::leaf_hash(&self.encode())
    }

    fn write(&self, w: &mut Writer) {
        w.array(6)
            .uint(self.sequence)
            .uint(self.time.as_millis())
            .uint(self.clock as u64);
        w.uint(self.verb.code().into())
            .uint(self.level.code().into())
            .bytes(self.commitment.as_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.tuple("record", 6)?;
        let sequence = r.uint("sequence", u64::MAX)?;
        let time = Timestamp::from_millis(r.uint("time", Timestamp::MAX.as_millis())?);
        let clock =
            ClockQuality::from_code(r.uint("clock", 255)?).ok_or(DecodeError::Unknown("clock"))?;
        let small = |r: &mut Reader<'_>, what| {
            r.uint(what, 255)
                .map(|n| u8::try_from(n).unwrap_or(u8::MAX))
        };
        let verb = Verb::from_code(small(r, "verb")?).ok_or(DecodeError::Unknown("verb"))?;
        let level = Level::from_code(small(r, "level")?).ok_or(DecodeError::Unknown("level"))?;
        let commitment = r.fixed::<32>("commitment")?.into();
        Ok(Self {
            sequence,
            time,
            clock,
            verb,
            level,
            commitment,
        })
    }
}

/// The register that was in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its text.
    pub digest: Digest,
}

/// Who, what, which copy, under which rule. It carries the level of the record. Never content, never a subject line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// The node, officer or broker that acted.
    pub who: Option<Name>,
    /// The person who acted or is named.
    pub person: Option<Name>,
    /// The node it was for.
    pub to: Option<Name>,
    /// The message.
    pub message: Option<MessageId>,
    /// SHA-256 of the envelope or of another thing the record is about.
    pub digest: Option<Digest>,
    /// The policy rule.
    pub rule: Option<u16>,
    /// The register in force.
    pub register: Option<InForce>,
    /// The policy of the label, where one was asked.
    pub policy: Option<Digest>,
    /// Number of the copy.
    pub copy: Option<u32>,
    /// A short remark of the broker's own, at most [`MAX_NOTE_CHARS`] characters.
    pub note: Option<String>,
}

impl Detail {
    /// The one byte form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        self.write(&mut w);
        w.into_bytes()
    }

    /// Reads a detail.
    ///
    /// # Errors
    /// [`DecodeError`] names the part.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        exactly(bytes, Self::read, Self::write)
    }

    /// What a public part says of this detail: SHA-256 over the salt and the encoding. Without the salt nobody can find the
    /// detail by guessing.
    #[must_use]
    pub fn commitment(&self, salt: &[u8; 32]) -> Digest {
        sha256(&[salt, &self.encode()])
    }

    fn write(&self, w: &mut Writer) {
        let name = |w: &mut Writer, n: &Option<Name>| {
            w.option(n.as_ref(), |w, n| {
                w.text(n.as_str());
            });
        };
        let digest = |w: &mut Writer, d: &Option<Digest>| {
            w.option(d.as_ref(), |w, d| {
                w.bytes(d.as_bytes());
            });
        };
        let number = |w: &mut Writer, n: Option<u64>| {
            w.option(n, |w, n| {
                w.uint(n);
            });
        };
        w.array(10);
        name(w, &self.who);
        name(w, &self.person);
        name(w, &self.to);
        w.option(self.message.as_ref(), |w, id| {
            w.bytes(id.as_bytes());
        });
        digest(w, &self.digest);
        number(w, self.rule.map(Into::into));
        w.option(self.register.as_ref(), |w, r| {
            w.array(2).uint(r.version).bytes(r.digest.as_bytes());
        });
        digest(w, &self.policy);
        number(w, self.copy.map(Into::into));
        w.option(self.note.as_deref(), |w, n| {
            w.text(n);
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = |r: &mut Reader<'_>| r.option(|r| r.parsed::<Name>("name", Name::MAX_BYTES));
        let digest = |r: &mut Reader<'_>| r.option(|r| r.fixed::<32>("digest").map(Digest::from));
        r.tuple("detail", 10)?;
        Ok(Self {
            who: name(r)?,
            person: name(r)?,
            to: name(r)?,
            message: r.option(|r| {
                r.bytes("message id", 16)?
                    .try_into()
                    .map_err(|_| DecodeError::Form("message id"))
            })?,
            digest: digest(r)?,
            rule: r
                .option(|r| r.uint("rule", u16::MAX.into()))?
                .and_then(|n| n.try_into().ok()),
            register: r.option(|r| {
                r.tuple("register", 2)?;
                Ok(InForce {
                    version: r.uint("register version", u64::MAX)?,
                    digest: r.fixed::<32>("digest")?.into(),
                })
            })?,
            policy: digest(r)?,
            copy: r
                .option(|r| r.uint("copy", u32::MAX.into()))?
                .and_then(|n| n.try_into().ok()),
            note: r.option(|r| {
                let note = r.text("note", 4 * MAX_NOTE_CHARS)?;
                if note.chars().count() > MAX_NOTE_CHARS {
                    return Err(DecodeError::Limit("note"));
                }
                Ok(note.to_owned())
            })?,
        })
    }
}

/// A record as the log gives it out.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The encoded public part, as it was hashed.
    pub public: Vec<u8>,
    /// Salt and encoded detail, where they are there and the reader is cleared for them.
    pub opened: Option<([u8; 32], Vec<u8>)>,
}

impl Entry {
    /// Reads both parts. `None` where they are not what they claim to be, or the detail is not the one that the public part commits to.
    #[must_use]
    pub fn read(&self) -> Option<(Public, Option<Detail>)> {
        let public = Public::decode(&self.public).ok()?;
        let Some((salt, bytes)) = &self.opened else {
            return Some((public, None));
        };
        if sha256(&[salt, bytes]) != public.commitment {
            return None;
        }
        Some((public, Some(Detail::decode(bytes).ok()?)))
    }

    /// The same without what is above this level.
    #[must_use]
    pub fn up_to(self, level: Level) -> Self {
        let may = Public::decode(&self.public).is_ok_and(|p| p.level <= level);
        let opened = self.opened.filter(|_| may);
        Self { opened, ..self }
    }
}

impl From<&Record> for Entry {
    fn from(r: &Record) -> Self {
        Self {
            public: r.public.encode(),
            opened: Some((r.salt, r.detail.encode())),
        }
    }
}

impl std::fmt::Debug for Entry {
    /// The length alone: a detail may be above the reader of a log line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({} bytes)", self.public.len())
    }
}

/// Whether a record answers a question. A detail that is not there answers none.
#[must_use]
pub fn answers(query: &AuditQuery, public: &Public, detail: Option<&Detail>) -> bool {
    let of_public = public.sequence >= query.from
        && query.since.is_none_or(|t| public.time >= t)
        && query.until.is_none_or(|t| public.time < t)
        && query.level.is_none_or(|l| public.level == l)
        && query.verb.is_none_or(|v| public.verb.code() == v);
    let asks_detail = query.message.is_some()
        || query.rule.is_some()
        || query.node.is_some()
        || query.person.is_some();
    let of_detail = |d: &Detail| {
        query.message.is_none_or(|id| d.message == Some(id))
            && query.rule.is_none_or(|n| d.rule == Some(n))
            && (query.node.is_none() || query.node == d.who || query.node == d.to)
            && (query.person.is_none() || query.person == d.person)
    };
    of_public && (!asks_detail || detail.is_some_and(of_detail))
}

/// A whole record: the public part, and what opens its commitment.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The leaf.
    pub public: Public,
    /// The salt of the commitment.
    pub salt: [u8; 32],
    /// The detail.
    pub detail: Detail,
}

impl Record {
    /// A record; the commitment follows from salt and detail.
    #[must_use]
    pub fn new(
        sequence: u64,
        time: Timestamp,
        clock: ClockQuality,
        verb: Verb,
        level: Level,
        detail: Detail,
        salt: [u8; 32],
    ) -> Self {
        let commitment = detail.commitment(&salt);
        Self {
            public: Public {
                sequence,
                time,
                clock,
                verb,
                level,
                commitment,
            },
            salt,
            detail,
        }
    }
}

impl std::fmt::Debug for Record {
    /// The public part alone: a detail may be above the reader of a log line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Record({}, {})",
            self.public.sequence,
            self.public.verb.as_str()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let name = |s: &str| Some(s.parse::<Name>().expect("a name"));
        let detail = Detail {
            who: name("ncc.node.crisis.example"),
            person: name("vermeer.person.crisis.example"),
            to: None,
            message: Some(MessageId::new(Timestamp::from_millis(1), [2; 10])),
            digest: Some(sha256(&[b"e"])),
            rule: Some(7),
            register: Some(InForce {
                version: 4,
                digest: sha256(&[b"r"]),
            }),
            policy: Some(sha256(&[b"p"])),
            copy: Some(3),
            note: Some("noot".into()),
        };
        Record::new(
            9,
            Timestamp::from_millis(8),
            ClockQuality::Synchronised,
            Verb::Opened,
            Level::StgG,
            detail,
            [1; 32],
        )
    }

    #[test]
    fn there_and_back() {
        let r = record();
        assert_eq!(Public::decode(&r.public.encode()), Ok(r.public));
        for d in [r.detail.clone(), Detail::default()] {
            assert_eq!(Detail::decode(&d.encode()), Ok(d));
        }
        assert!(!format!("{r:?}").contains("ncc"), "a detail does not print");
        for (note, good) in [
            ("é".repeat(MAX_NOTE_CHARS), true),
            ("x".repeat(MAX_NOTE_CHARS + 1), false),
        ] {
            let d = Detail {
                note: Some(note),
                ..Detail::default()
            };
            assert_eq!(Detail::decode(&d.encode()).is_ok(), good);
        }
    }

    #[test]
    fn the_leaf_commits_to_the_detail_and_hides_it() {
        let r = record();
        assert_eq!(r.public.commitment, r.detail.commitment(&r.salt));
        assert_ne!(
            r.public.commitment,
            r.detail.commitment(&[2; 32]),
            "another salt"
        );
        let other = Detail {
            copy: Some(4),
            ..r.detail.clone()
        };
        assert_ne!(
            r.public.commitment,
            other.commitment(&r.salt),
            "another detail"
        );
        let hidden = r.public.encode();
        assert!(!hidden.windows(3).any(|w| w == b"ncc"));
    }

    #[test]
    fn the_document_lists_every_verb() {
        let page = include_str!("../../../docs/audit.md");
        for v in Verb::ALL {
            let row = format!("| {} | {} |", v.code(), v.as_str());
            assert!(page.contains(&row), "docs/audit.md lacks: {row}");
            assert_eq!(Verb::from_code(v.code()), Some(*v));
        }
        assert_eq!(Verb::from_code(0), None);
        assert_eq!(Verb::from_code(41), None);
    }
}
