//! Commits: what must become durable together.

use bytes::Bytes;
use ordonnans_audit::{Detail, Public, Record, TreeHead};
use ordonnans_message::cbor::{DecodeError, Reader, Writer, exactly};
use ordonnans_message::{Digest, Timestamp, limits};

/// Number of a commit, from 1 without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// The tables of the mailbox. The engine alone knows what their rows mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Message id to envelope.
    Messages = 1,
    /// What waits for a node.
    Queue = 2,
    /// Message id to the first answer.
    Seen = 3,
    /// Node to its key package.
    Packages = 4,
    /// Receipts on their way back to the originator.
    Returns = 5,
    /// Node to the certificate it was last seen with.
    Certified = 6,
    /// The text of the register in force, in parts.
    Law = 7,
    /// Message id to the label in force, where a person established one.
    Labels = 8,
    /// What nodes are to be told of labels.
    Notices = 9,
    /// Events that have happened.
    Events = 10,
    /// Incident to its messages, and the orders about it.
    Incidents = 11,
    /// What outlives a run: up to which day details were destroyed, and the configuration.
    Standing = 12,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 12] = [
        Self::Messages,
        Self::Queue,
        Self::Seen,
        Self::Packages,
        Self::Returns,
        Self::Certified,
        Self::Law,
        Self::Labels,
        Self::Notices,
        Self::Events,
        Self::Incidents,
        Self::Standing,
    ];

    /// The number in encodings.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The table of a number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.code() == code)
    }
}

/// A change of one row.
#[derive(Clone, PartialEq, Eq)]
pub enum Write {
    /// The row has this value now.
    Put {
        /// The table.
        table: Table,
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// The row is gone.
    Delete {
        /// The table.
        table: Table,
        /// The key.
        key: Bytes,
    },
}

impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Put { table, value, .. } => {
                write!(f, "Put({table:?}, {} bytes)", value.len())
            }
            Self::Delete { table, .. } => write!(f, "Delete({table:?})"),
        }
    }
}

/// Everything one input changed. Self-contained: from the commits alone, in their order, the store can be built again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its number.
    pub seq: Seq,
    /// When, by the broker's clock; never before the commit ahead of it.
    pub at: Timestamp,
    /// New audit records.
    pub records: Vec<Record>,
    /// The tree with these records.
    pub head: TreeHead,
    /// Changed rows.
    pub writes: Vec<Write>,
}

/// Records or rows of one commit: a tick that expires a full queue stays below it.
const MAX_ITEMS: usize = 16_384;
/// Bytes of a row's key: two names.
const MAX_KEY: usize = 512;

impl Commit {
    /// The one byte form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::default();
        self.write(&mut w);
        w.into_bytes().into()
    }

    /// Reads a commit.
    ///
    /// # Errors
    /// [`DecodeError`] names the part. Where the bytes had the right checksum, they were written by another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        exactly(bytes, Self::read, Self::write)
    }

    fn write(&self, w: &mut Writer) {
        w.array(6).uint(self.seq.0).uint(self.at.as_millis());
        w.array(self.records.len());
        for r in &self.records {
            w.array(3)
                .bytes(&r.public.encode())
                .bytes(&r.salt)
                .bytes(&r.detail.encode());
        }
        w.uint(self.head.size).bytes(self.head.root.as_bytes());
        w.array(self.writes.len());
        for write in &self.writes {
            match write {
                Write::Put { table, key, value } => {
                    w.array(3).uint(table.code().into()).bytes(key).bytes(value);
                }
                Write::Delete { table, key } => {
                    w.array(2).uint(table.code().into()).bytes(key);
                }
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.tuple("commit", 6)?;
        let seq = Seq(r.uint("commit number", u64::MAX)?);
        let at = Timestamp::from_millis(r.uint("commit time", Timestamp::MAX.as_millis())?);
        let n = r.array("records", MAX_ITEMS)?;
        let record = |r: &mut Reader<'_>| {
            r.tuple("record", 3)?;
            Ok(Record {
                public: Public::decode(r.bytes("record", limits::MAX_RECORD)?)?,
                salt: r.fixed("salt")?,
                detail: Detail::decode(r.bytes("detail", limits::MAX_RECORD)?)?,
            })
        };
        let records = (0..n).map(|_| record(r)).collect::<Result<_, _>>()?;
        let head = TreeHead {
            size: r.uint("tree size", u64::MAX)?,
            root: Digest::from(r.fixed::<32>("root")?),
        };
        let n = r.array("rows", MAX_ITEMS)?;
        let write = |r: &mut Reader<'_>| {
            let parts = r.array("row", 3)?;
            let table = u8::try_from(r.uint("table", u8::MAX.into())?)
                .ok()
                .and_then(Table::from_code)
                .ok_or(DecodeError::Unknown("table"))?;
            let key = Bytes::copy_from_slice(r.bytes("key", MAX_KEY)?);
            match parts {
                2 => Ok(Write::Delete { table, key }),
                3 => Ok(Write::Put {
                    table,
                    key,
                    value: Bytes::copy_from_slice(r.bytes("row", limits::MAX_FRAME)?),
                }),
                _ => Err(DecodeError::Form("row")),
            }
        };
        let writes = (0..n).map(|_| write(r)).collect::<Result<_, _>>()?;
        Ok(Self {
            seq,
            at,
            records,
            head,
            writes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ordonnans_audit::{ClockQuality, Verb};
    use ordonnans_label::Level;
    use ordonnans_message::sha256;

    #[test]
    fn there_and_back() {
        let at = Timestamp::from_millis(5);
        let record = Record::new(
            0,
            at,
            ClockQuality::Unknown,
            Verb::Started,
            Level::Ongerubriceerd,
            Detail::default(),
            [1; 32],
        );
        let c = Commit {
            seq: Seq(1),
            at,
            head: TreeHead {
                size: 1,
                root: sha256(&[b"r"]),
            },
            records: vec![record],
            writes: vec![
                Write::Put {
                    table: Table::Queue,
                    key: Bytes::from_static(b"k"),
                    value: Bytes::from_static(b"v"),
                },
                Write::Delete {
                    table: Table::Seen,
                    key: Bytes::from_static(b"k"),
                },
            ],
        };
        let bytes = c.encode();
        assert_eq!(Commit::decode(&bytes), Ok(c));
        for cut in 0..bytes.len() {
            assert!(Commit::decode(&bytes[..cut]).is_err());
        }
    }
}
