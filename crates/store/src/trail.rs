//! The audit log in sled: records, tree hashes and an index by message, append-only, in one tree with key prefixes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ordonnans_audit::merkle::{Frontier, leaf_hash};
use ordonnans_audit::{Detail, Public, Record};
use ordonnans_engine::{Commit, Seq};
use ordonnans_message::cbor::{DecodeError, Reader, Writer, exactly};
use ordonnans_message::{Digest, MessageId, Timestamp, limits};

/// What of sled's cache may stay in memory, in bytes on disk; it takes up to four times as much.
const CACHE: u64 = 64 << 20;
/// Tree hashes kept in one row: 2 KiB. A row for each would double the rows of the log, and the time to open it.
const HASHES: usize = 64;
const POSITION: &[u8] = b"m";

/// Why the audit log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// The database.
    #[error("the audit log {path} cannot be used: {why}")]
    Database {
        /// Its folder.
        path: PathBuf,
        /// What sled says.
        why: String,
    },
    /// A record is missing.
    #[error("record {0} of the audit log is missing")]
    Missing(u64),
    /// A record, or a hash of it, was changed.
    #[error("record {0} of the audit log was changed")]
    Changed(u64),
    /// The records are right one by one and lead to another root than the log's own.
    #[error("the audit log has {size} records that do not lead to its own root")]
    Root {
        /// How many there are.
        size: u64,
    },
    /// A commit that does not continue the log.
    #[error("commit {0} does not continue the audit log")]
    Order(u64),
}

/// A record as the store gives it out: the public part as it was hashed, and what opens its commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Encoded public part.
    pub public: Vec<u8>,
    /// Salt of the commitment.
    pub salt: [u8; 32],
    /// Encoded detail.
    pub detail: Vec<u8>,
}

impl Entry {
    fn of(r: &Record) -> Self {
        Self {
            public: r.public.encode(),
            salt: r.salt,
            detail: r.detail.encode(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        self.write(&mut w);
        w.into_bytes()
    }

    fn write(&self, w: &mut Writer) {
        w.array(3)
            .bytes(&self.public)
            .bytes(&self.salt)
            .bytes(&self.detail);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let read = |r: &mut Reader<'_>| {
            r.tuple("record", 3)?;
            Ok(Self {
                public: r.bytes("record", limits::MAX_RECORD)?.to_vec(),
                salt: r.fixed("salt")?,
                detail: r.bytes("detail", limits::MAX_RECORD)?.to_vec(),
            })
        };
        exactly(bytes, read, Self::write)
    }

    /// Whether the detail is the one the public part commits to, and which record it is.
    fn sequence(&self) -> Option<u64> {
        let public = Public::decode(&self.public).ok()?;
        let detail = Detail::decode(&self.detail).ok()?;
        (detail.commitment(&self.salt) == public.commitment).then_some(public.sequence)
    }
}

/// How far the log is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) seq: Seq,
    pub(crate) at: Timestamp,
    pub(crate) frontier: Frontier,
    /// The hashes of the last row, which is not full. Not kept here: it is that row.
    tail: Vec<u8>,
}

impl Position {
    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        self.write(&mut w);
        w.into_bytes()
    }

    fn write(&self, w: &mut Writer) {
        w.array(3)
            .uint(self.seq.0)
            .uint(self.at.as_millis())
            .bytes(&self.frontier.encode());
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let read = |r: &mut Reader<'_>| {
            r.tuple("position", 3)?;
            Ok(Self {
                seq: Seq(r.uint("commit", u64::MAX)?),
                at: Timestamp::from_millis(r.uint("time", Timestamp::MAX.as_millis())?),
                frontier: Frontier::decode(r.bytes("frontier", 4096)?)?,
                tail: vec![],
            })
        };
        exactly(bytes, read, Self::write)
    }
}

/// The log.
#[derive(Clone, Debug)]
pub(crate) struct Trail {
    db: sled::Db,
    path: PathBuf,
}

fn key(prefix: u8, n: u64) -> [u8; 9] {
    let mut k = [prefix; 9];
    k[1..].copy_from_slice(&n.to_be_bytes());
    k
}

/// Tree hashes kept for so many leaves: each leaf, and each complete subtree above.
fn hashes(leaves: u64) -> u64 {
    (leaves * 2).saturating_sub(u64::from(leaves.count_ones()))
}

fn index(id: &MessageId, n: u64) -> Vec<u8> {
    [b"i", &id.as_bytes()[..], &n.to_be_bytes()].concat()
}

impl Trail {
    /// Opens the log, without believing it yet.
    pub(crate) fn open(path: &Path) -> Result<Self, TrailError> {
        let broken = |why: String| TrailError::Database {
            path: path.into(),
            why,
        };
        let io = |e: std::io::Error| broken(e.to_string());
        std::fs::create_dir_all(path).map_err(io)?;
        // A snapshot that a kill left half written keeps sled from opening for ever.
        for item in std::fs::read_dir(path).map_err(io)? {
            let file = item.map_err(io)?.path();
            let name = file.file_name().and_then(|n| n.to_str());
            if name.is_some_and(|n| n.starts_with("snap.") && n.ends_with(".generating")) {
                std::fs::remove_file(&file).map_err(io)?;
            }
        }
        // sled panics on some damage; that must not be ours.
        let open = || {
            sled::Config::new()
                .path(path)
                .cache_capacity(CACHE)
                .flush_every_ms(Some(500))
                .open()
        };
        let db = catch_unwind(AssertUnwindSafe(open))
            .map_err(|_| broken("it is damaged".into()))?
            .map_err(|e| broken(e.to_string()))?;
        // sled syncs neither its settings nor the names of its files.
        for file in ["conf", "db"] {
            std::fs::File::open(path.join(file))
                .and_then(|f| f.sync_all())
                .map_err(io)?;
        }
        crate::journal::sync_dir(path).map_err(io)?;
        if let Some(parent) = path.parent() {
            crate::journal::sync_dir(parent).map_err(io)?;
        }
        Ok(Self {
            db,
            path: path.into(),
        })
    }

    fn broken(&self, e: &sled::Error) -> TrailError {
        TrailError::Database {
            path: self.path.clone(),
            why: e.to_string(),
        }
    }

    /// How far the log says it is.
    pub(crate) fn position(&self) -> Result<Position, TrailError> {
        match self.db.get(POSITION).map_err(|e| self.broken(&e))? {
            None => Ok(Position::default()),
            Some(bytes) => {
                let mut position = Position::decode(&bytes).map_err(|e| TrailError::Database {
                    path: self.path.clone(),
                    why: format!("its position cannot be read: {e}"),
                })?;
                let count = hashes(position.frontier.head().size);
                let full = count.is_multiple_of(HASHES as u64);
                if let Some(row) = (!full).then_some(count / HASHES as u64) {
                    let kept = self.db.get(key(b'h', row)).map_err(|e| self.broken(&e))?;
                    position.tail = kept.map_or_else(Vec::new, |v| v.to_vec());
                }
                Ok(position)
            }
        }
    }

    /// Reads every record and every hash and builds the tree again.
    pub(crate) fn verify(&self) -> Result<Position, TrailError> {
        let position = self.position()?;
        let size = position.frontier.head().size;
        let mut tree = Frontier::default();
        let mut row: (sled::IVec, usize) = (sled::IVec::default(), 0);
        let mut hash_rows = self.db.range(key(b'h', 0)..=key(b'h', u64::MAX)).values();
        let mut rows = self.db.range(key(b'e', 0)..=key(b'e', u64::MAX));
        for n in 0..size {
            let (_, v) = rows
                .next()
                .transpose()
                .map_err(|e| self.broken(&e))?
                .filter(|(k, _)| **k == key(b'e', n))
                .ok_or(TrailError::Missing(n))?;
            let entry = Entry::decode(&v).map_err(|_| TrailError::Changed(n))?;
            if entry.sequence() != Some(n) {
                return Err(TrailError::Changed(n));
            }
            for hash in tree.append(leaf_hash(&entry.public)) {
                if row.1 >= row.0.len() {
                    let next = hash_rows.next().transpose();
                    let next = next.map_err(|e| self.broken(&e))?;
                    row = (next.ok_or(TrailError::Changed(n))?, 0);
                }
                if row.0.get(row.1..row.1 + 32) != Some(&hash.as_bytes()[..]) {
                    return Err(TrailError::Changed(n));
                }
                row.1 += 32;
            }
        }
        let more = rows.next().is_some() || hash_rows.next().is_some() || row.1 < row.0.len();
        if more || tree != position.frontier {
            return Err(TrailError::Root { size });
        }
        Ok(position)
    }

    /// Appends commits in one batch. Not durable until [`Self::flush`].
    pub(crate) fn apply(
        &self,
        position: &mut Position,
        commits: &[Commit],
    ) -> Result<(), TrailError> {
        let mut batch = sled::Batch::default();
        for commit in commits {
            if commit.seq.0 != position.seq.0 + 1 {
                return Err(TrailError::Order(commit.seq.0));
            }
            for record in &commit.records {
                let n = position.frontier.head().size;
                let entry = Entry::of(record);
                batch.insert(&key(b'e', n), entry.encode());
                let mut count = hashes(n);
                for hash in position.frontier.append(record.public.leaf()) {
                    position.tail.extend_from_slice(hash.as_bytes());
                    count += 1;
                    if count.is_multiple_of(HASHES as u64) {
                        let full = std::mem::take(&mut position.tail);
                        batch.insert(&key(b'h', count / HASHES as u64 - 1), full);
                    }
                }
                if let Some(id) = &record.detail.message {
                    batch.insert(index(id, n), &[][..]);
                }
            }
            if position.frontier.head() != commit.head {
                return Err(TrailError::Order(commit.seq.0));
            }
            (position.seq, position.at) = (commit.seq, commit.at);
        }
        if !position.tail.is_empty() {
            let row = hashes(position.frontier.head().size) / HASHES as u64;
            batch.insert(&key(b'h', row), position.tail.as_slice());
        }
        batch.insert(POSITION, position.encode());
        self.db.apply_batch(batch).map_err(|e| self.broken(&e))
    }

    /// Makes everything applied durable.
    pub(crate) fn flush(&self) -> Result<(), TrailError> {
        self.db.flush().map(drop).map_err(|e| self.broken(&e))
    }

    /// Record `n`.
    pub(crate) fn entry(&self, n: u64) -> Result<Option<Entry>, TrailError> {
        match self.db.get(key(b'e', n)).map_err(|e| self.broken(&e))? {
            None => Ok(None),
            Some(v) => Entry::decode(&v)
                .map(Some)
                .map_err(|_| TrailError::Changed(n)),
        }
    }

    /// Numbers of the records of a message, from `from` on.
    pub(crate) fn of_message(
        &self,
        id: &MessageId,
        from: u64,
        limit: usize,
    ) -> Result<Vec<u64>, TrailError> {
        self.db
            .range(index(id, from)..=index(id, u64::MAX))
            .keys()
            .take(limit)
            .map(|k| {
                let k = k.map_err(|e| self.broken(&e))?;
                let n = k.last_chunk::<8>().copied().unwrap_or_default();
                Ok(u64::from_be_bytes(n))
            })
            .collect()
    }

    /// A kept tree hash.
    pub(crate) fn hash(&self, at: u64) -> Option<Digest> {
        let (row, within) = (at / HASHES as u64, at % HASHES as u64);
        let bytes = self.db.get(key(b'h', row)).ok()??;
        let within = usize::try_from(within).ok()? * 32;
        Digest::try_from(bytes.get(within..within + 32)?).ok()
    }
}
