//! A part of the log, in a sled database of its own. The last is written; the others are full and only read.
//!
//! sled reads its whole history again at each start, and its table of pages stays in memory: so a database is left alone once it has its
//! records, and opened again only when somebody asks for one of them.

use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ordonnans_audit::{Entry, Public};
use ordonnans_message::cbor::{DecodeError, Reader, Writer, exactly};
use ordonnans_message::{MAX_INCIDENT_CHARS, limits};

use super::{Position, TrailError};
use crate::details::{Details, day};
use crate::journal::sync_dir;

/// What of sled's cache may stay in memory for a database, in bytes on disk; it takes up to four times as much.
const CACHE: u64 = 8 << 20;
/// sled closes its file on threads of its own, some moments after the database was dropped; until then it cannot be opened again.
const LETS_GO: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);
/// Where the shard ends: how far the log is after its last record.
const END: &[u8] = b"m";
/// Where it begins.
const BEGIN: &[u8] = b"s";

fn locked(e: &sled::Error) -> bool {
    matches!(e, sled::Error::Io(e) if e.to_string().starts_with("could not acquire lock"))
}

pub(crate) fn key(prefix: u8, n: u64) -> [u8; 9] {
    let mut k = [prefix; 9];
    k[1..].copy_from_slice(&n.to_be_bytes());
    k
}

/// A record as it is kept: the public part, and salt and detail sealed under the key of its day.
pub(crate) struct Row {
    pub(crate) public: Vec<u8>,
    pub(crate) sealed: Vec<u8>,
}

impl Row {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        self.write(&mut w);
        w.into_bytes()
    }

    fn write(&self, w: &mut Writer) {
        w.array(2).bytes(&self.public).bytes(&self.sealed);
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let read = |r: &mut Reader<'_>| {
            r.tuple("record", 2)?;
            Ok(Self {
                public: r.bytes("record", limits::MAX_RECORD)?.to_vec(),
                sealed: r.bytes("detail", limits::MAX_RECORD)?.to_vec(),
            })
        };
        exactly(bytes, read, Self::write)
    }

    /// Opens the detail, where its time is not over or an incident keeps it.
    pub(crate) fn open(
        self,
        n: u64,
        shard: &Shard,
        details: &Details,
    ) -> Result<(Public, Entry), TrailError> {
        let public = Public::decode(&self.public).map_err(|_| TrailError::Changed(n))?;
        let (key, sealed) = match details.for_day(day(public.time))? {
            Some(key) => (Some(key), self.sealed),
            None => match shard.kept(n)? {
                Some((incident, sealed)) => (details.of_incident(&incident, false)?, sealed),
                None => (None, vec![]),
            },
        };
        let opened = match key {
            None => None,
            Some(key) => {
                let plain = key.open(&public.commitment, &self.public, sealed);
                let plain = plain.ok_or(TrailError::Changed(n))?;
                let (salt, detail) = plain
                    .split_first_chunk::<32>()
                    .ok_or(TrailError::Changed(n))?;
                Some((*salt, detail.to_vec()))
            }
        };
        let entry = Entry {
            public: self.public,
            opened,
        };
        Ok((public, entry))
    }
}

/// One database.
pub(crate) struct Shard {
    /// There until this is dropped.
    db: Option<sled::Db>,
    path: PathBuf,
    written: bool,
}

impl Shard {
    /// Opens it, without believing it yet.
    pub(crate) fn open(path: &Path, written: bool) -> Result<Self, TrailError> {
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
                // One that is only read has nothing to flush, and needs no thread for it.
                .flush_every_ms(written.then_some(500))
                .open()
        };
        let began = Instant::now();
        let db = loop {
            let opened = catch_unwind(AssertUnwindSafe(open));
            match opened.map_err(|_| broken("it is damaged".into()))? {
                Ok(db) => break db,
                // No other process has it: that was looked for before (the store's own lock).
                Err(e) if locked(&e) && began.elapsed() < LETS_GO => std::thread::sleep(LOOK),
                Err(e) => return Err(broken(e.to_string())),
            }
        };
        // sled syncs neither its settings nor the names of its files.
        for file in ["conf", "db"] {
            std::fs::File::open(path.join(file))
                .and_then(|f| f.sync_all())
                .map_err(io)?;
        }
        sync_dir(path).map_err(io)?;
        if let Some(parent) = path.parent() {
            sync_dir(parent).map_err(io)?;
        }
        Ok(Self {
            db: Some(db),
            path: path.into(),
            written,
        })
    }

    fn db(&self) -> Result<&sled::Db, TrailError> {
        self.db.as_ref().ok_or_else(|| self.broken("it was closed"))
    }

    /// Whether it was opened to be written.
    pub(crate) fn was_written(&self) -> bool {
        self.written
    }

    /// Whether the other is this one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.path == other.path
    }

    pub(crate) fn broken(&self, why: impl std::fmt::Display) -> TrailError {
        TrailError::Database {
            path: self.path.clone(),
            why: why.to_string(),
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, TrailError> {
        let db = self.db()?;
        // sled panics on some damage.
        catch_unwind(AssertUnwindSafe(|| db.get(key)))
            .map_err(|_| self.broken("it is damaged"))?
            .map_err(|e| self.broken(e))
    }

    fn position(&self, key: &[u8]) -> Result<Option<Position>, TrailError> {
        let Some(bytes) = self.get(key)? else {
            return Ok(None);
        };
        let position = Position::decode(&bytes)
            .map_err(|e| self.broken(format!("its position cannot be read: {e}")))?;
        Ok(Some(position))
    }

    /// Where it begins; `None` where it was never begun.
    pub(crate) fn begin(&self) -> Result<Option<Position>, TrailError> {
        self.position(BEGIN)
    }

    /// How far the log is after its last record.
    pub(crate) fn end(&self) -> Result<Option<Position>, TrailError> {
        self.position(END)
    }

    pub(crate) fn put_begin(batch: &mut sled::Batch, position: &Position) {
        batch.insert(BEGIN, position.encode());
    }

    pub(crate) fn put_end(batch: &mut sled::Batch, position: &Position) {
        batch.insert(END, position.encode());
    }

    /// The rows of a range of keys.
    pub(crate) fn range<const N: usize>(
        &self,
        keys: RangeInclusive<[u8; N]>,
    ) -> Result<sled::Iter, TrailError> {
        Ok(self.db()?.range(keys))
    }

    pub(crate) fn apply(&self, batch: sled::Batch) -> Result<(), TrailError> {
        self.db()?.apply_batch(batch).map_err(|e| self.broken(e))
    }

    pub(crate) fn flush(&self) -> Result<(), TrailError> {
        self.db()?.flush().map(drop).map_err(|e| self.broken(e))
    }

    /// Keeps the detail of a record for an incident, sealed under its key.
    pub(crate) fn put_kept(batch: &mut sled::Batch, n: u64, incident: &str, sealed: &[u8]) {
        let mut w = Writer::default();
        w.array(2).text(incident).bytes(sealed);
        batch.insert(&key(b'k', n), w.into_bytes());
    }

    fn kept(&self, n: u64) -> Result<Option<(String, Vec<u8>)>, TrailError> {
        let Some(row) = self.get(&key(b'k', n))? else {
            return Ok(None);
        };
        let read = |r: &mut Reader<'_>| {
            r.tuple("kept detail", 2)?;
            let incident = r.text("incident", MAX_INCIDENT_CHARS)?.to_owned();
            Ok((incident, r.bytes("detail", limits::MAX_RECORD)?.to_vec()))
        };
        let write = |(incident, sealed): &(String, Vec<u8>), w: &mut Writer| {
            w.array(2).text(incident).bytes(sealed);
        };
        let kept = exactly(&row, read, write);
        kept.map(Some).map_err(|_| TrailError::Changed(n))
    }

    pub(crate) fn row(&self, n: u64) -> Result<Option<Row>, TrailError> {
        match self.get(&key(b'e', n))? {
            None => Ok(None),
            Some(v) => Row::decode(&v)
                .map(Some)
                .map_err(|_| TrailError::Changed(n)),
        }
    }
}

impl Drop for Shard {
    /// sled syncs its file as it closes and panics where that cannot be, as on a disk that has turned read-only. Nothing rests on that last sync:
    /// what is not in the journal any more was flushed before.
    fn drop(&mut self) {
        let db = self.db.take();
        drop(catch_unwind(AssertUnwindSafe(|| drop(db))));
    }
}

impl std::fmt::Debug for Shard {
    /// The path alone: sled would print its rows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shard({})", self.path.display())
    }
}
