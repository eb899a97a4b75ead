//! What officers and witnesses ask about the audit log, and what an officer orders.

use ordonnans_label::{Level, Name};

use crate::cbor::{DecodeError, Reader, Writer};
use crate::cose::Purpose;
use crate::header::{message_id, name, time};
use crate::statement::{Signed, Statement};
use crate::{Digest, MessageId, Timestamp, limits};

/// Which records of the audit log an officer asks for. What is `None` does not narrow it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// First sequence number.
    pub from: u64,
    /// At most this many, up to [`limits::MAX_PAGE`].
    pub limit: u16,
    /// Only records of this message.
    pub message: Option<MessageId>,
    /// Only records of this time or later.
    pub since: Option<Timestamp>,
    /// Only records before this time.
    pub until: Option<Timestamp>,
    /// Only records of this level.
    pub level: Option<Level>,
    /// Only records of this verb, by its number in `docs/audit.md`.
    pub verb: Option<u8>,
    /// Only records that rest on this rule.
    pub rule: Option<u16>,
    /// Only records of what this node, officer or broker did, or what was for it.
    pub node: Option<Name>,
    /// Only records of this person.
    pub person: Option<Name>,
}

impl AuditQuery {
    pub(crate) fn write(&self, w: &mut Writer) {
        w.array(10).uint(self.from).uint(self.limit.into());
        let number = |w: &mut Writer, n: Option<u64>| {
            w.option(n, |w, n| {
                w.uint(n);
            });
        };
        w.option(self.message.as_ref(), |w, id| {
            w.bytes(id.as_bytes());
        });
        number(w, self.since.map(Timestamp::as_millis));
        number(w, self.until.map(Timestamp::as_millis));
        number(w, self.level.map(|l| l.code().into()));
        number(w, self.verb.map(Into::into));
        number(w, self.rule.map(Into::into));
        for n in [&self.node, &self.person] {
            w.option(n.as_ref(), |w, n| {
                w.text(n.as_str());
            });
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.tuple("query", 10)?;
        Ok(Self {
            from: r.uint("sequence", u64::MAX)?,
            limit: u16::try_from(r.uint("page", limits::MAX_PAGE as u64)?).unwrap_or(u16::MAX),
            message: r.option(message_id)?,
            since: r.option(|r| time(r, "time"))?,
            until: r.option(|r| time(r, "time"))?,
            level: r.option(level)?,
            verb: r.option(|r| small(r, "verb"))?,
            rule: r.option(|r| {
                let n = r.uint("rule", u16::MAX.into())?;
                Ok(u16::try_from(n).unwrap_or(u16::MAX))
            })?,
            node: r.option(|r| name(r, "node"))?,
            person: r.option(|r| name(r, "person"))?,
        })
    }
}

fn small(r: &mut Reader<'_>, what: &'static str) -> Result<u8, DecodeError> {
    let n = r.uint(what, u8::MAX.into())?;
    Ok(u8::try_from(n).unwrap_or(u8::MAX))
}

pub(crate) fn level(r: &mut Reader<'_>) -> Result<Level, DecodeError> {
    Level::from_code(small(r, "level")?).ok_or(DecodeError::Unknown("level"))
}

/// A proof of RFC 9162 that somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofOf {
    /// Section 2.1.3: that a record is in the log of `size` records.
    Inclusion {
        /// The record.
        sequence: u64,
        /// The size.
        size: u64,
    },
    /// Section 2.1.4: that the log of `size` records continues the log of `first`.
    Consistency {
        /// The smaller size.
        first: u64,
        /// The larger size.
        size: u64,
    },
    /// The root of the first `size` records: not a proof by itself, but what one is about.
    Root {
        /// The size.
        size: u64,
    },
}

impl ProofOf {
    pub(crate) fn write(self, w: &mut Writer) {
        let (kind, first, size) = match self {
            Self::Inclusion { sequence, size } => (1, sequence, size),
            Self::Consistency { first, size } => (2, first, size),
            Self::Root { size } => (3, size, size),
        };
        w.array(3).uint(kind).uint(first).uint(size);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.tuple("proof", 3)?;
        let kind = r.uint("kind of proof", u64::MAX)?;
        let (first, size) = (r.uint("sequence", u64::MAX)?, r.uint("size", u64::MAX)?);
        match kind {
            1 => Ok(Self::Inclusion {
                sequence: first,
                size,
            }),
            2 => Ok(Self::Consistency { first, size }),
            3 if first == size => Ok(Self::Root { size }),
            3 => Err(DecodeError::Form("size")),
            _ => Err(DecodeError::Unknown("kind of proof")),
        }
    }
}

/// A node, and who there could have read something of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readers {
    /// The node.
    pub node: Name,
    /// Its organisation, for people.
    pub title: String,
    /// Whether it is of the Rijksdienst.
    pub rijksdienst: bool,
    /// Whether it is on the line now.
    pub on_line: bool,
    /// How its security authority (BVA) is reached, where the register says so.
    pub bva: Option<String>,
    /// Persons registered there whose clearance reaches the level, at most [`limits::MAX_READERS`].
    pub persons: Vec<Name>,
}

impl Readers {
    pub(crate) fn write(&self, w: &mut Writer) {
        w.array(6).text(self.node.as_str()).text(&self.title);
        w.bool(self.rijksdienst).bool(self.on_line);
        w.option(self.bva.as_deref(), |w, t| {
            w.text(t);
        });
        w.array(self.persons.len());
        for p in &self.persons {
            w.text(p.as_str());
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.tuple("readers", 6)?;
        let node = name(r, "node")?;
        let title = r.text("title", 4 * limits::MAX_TEXT)?.to_owned();
        let (rijksdienst, on_line) = (r.bool("rijksdienst")?, r.bool("on the line")?);
        let bva = r.option(|r| r.text("bva", 4 * limits::MAX_TEXT).map(str::to_owned))?;
        let n = r.array("persons", limits::MAX_READERS)?;
        let persons = (0..n)
            .map(|_| name(r, "person"))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            node,
            title,
            rijksdienst,
            on_line,
            bva,
            persons,
        })
    }
}

/// Characters of the name of an incident.
pub const MAX_INCIDENT_CHARS: usize = 64;

/// Whether a text can name an incident: lower-case letters, digits and hyphens, so that it can stand in a file name and on a command line.
#[must_use]
pub fn is_incident_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=MAX_INCIDENT_CHARS).contains(&text.len()) && text.chars().all(good)
}

/// What an officer orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderKind {
    /// An incident is opened, or grows: copies of these messages that wait are frozen, and no detail of their records is dropped.
    Open {
        /// Its name, as [`is_incident_name`] wants it.
        incident: String,
        /// The messages, 1 to [`limits::MAX_REFERENCES`].
        messages: Vec<MessageId>,
    },
    /// An incident is closed: what was frozen may go, and the details are kept for the time that the law asks after an incident.
    Close {
        /// Its name.
        incident: String,
    },
    /// A review is signed off: the officer has looked at these records.
    Review {
        /// Of which level.
        level: Level,
        /// The first record.
        from: u64,
        /// The record after the last.
        until: u64,
        /// SHA-256 of the page that was looked at.
        page: Digest,
    },
}

/// An order of a security officer (BVA), signed by that officer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub what: OrderKind,
    /// The officer.
    pub by: Name,
    /// When, by the officer's clock.
    pub at: Timestamp,
}

impl Statement for Order {
    const PURPOSE: Purpose = Purpose::Order;

    fn maker(&self) -> &Name {
        &self.by
    }

    fn write(&self, w: &mut Writer) {
        w.array(3);
        match &self.what {
            OrderKind::Open { incident, messages } => {
                w.array(3).uint(1).text(incident).array(messages.len());
                for id in messages {
                    w.bytes(id.as_bytes());
                }
            }
            OrderKind::Close { incident } => {
                w.array(2).uint(2).text(incident);
            }
            OrderKind::Review {
                level,
                from,
                until,
                page,
            } => {
                w.array(5).uint(3).uint(level.code().into());
                w.uint(*from).uint(*until).bytes(page.as_bytes());
            }
        }
        w.text(self.by.as_str()).uint(self.at.as_millis());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let incident = |r: &mut Reader<'_>| {
            let text = r.text("incident", MAX_INCIDENT_CHARS)?;
            if is_incident_name(text) {
                Ok(text.to_owned())
            } else {
                Err(DecodeError::Form("incident"))
            }
        };
        r.tuple("order", 3)?;
        let n = r.array("order", 5)?;
        let what = match (r.uint("order", u64::MAX)?, n) {
            (1, 3) => {
                let incident = incident(r)?;
                let n = r.array("messages", limits::MAX_REFERENCES)?;
                if n == 0 {
                    return Err(DecodeError::Form("messages"));
                }
                let messages = (0..n).map(|_| message_id(r)).collect::<Result<_, _>>()?;
                OrderKind::Open { incident, messages }
            }
            (2, 2) => OrderKind::Close {
                incident: incident(r)?,
            },
            (3, 5) => OrderKind::Review {
                level: level(r)?,
                from: r.uint("sequence", u64::MAX)?,
                until: r.uint("sequence", u64::MAX)?,
                page: r.fixed::<32>("page")?.into(),
            },
            (1..=3, _) => return Err(DecodeError::Form("order")),
            _ => return Err(DecodeError::Unknown("order")),
        };
        Ok(Self {
            what,
            by: name(r, "officer")?,
            at: time(r, "time")?,
        })
    }
}

/// A signed order.
pub type SignedOrder = Signed<Order>;
