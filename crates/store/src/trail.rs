//! The audit log in sled: records, tree hashes and an index, append-only, in one database after another.

mod index;
mod shard;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ordonnans_audit::merkle::{self, Frontier, stored_index};
use ordonnans_audit::{Entry, Public, TreeHead, answers};
use ordonnans_engine::{Commit, Seq};
use ordonnans_label::Level;
use ordonnans_message::cbor::{DecodeError, Reader, Writer, exactly};
use ordonnans_message::{AuditQuery, Digest, MessageId, Timestamp};

use crate::details::{Details, DetailsError, day};
use index::{Asked, BLOCK, Block, Facet, decode};
use shard::{Row, Shard, key};

/// Tree hashes kept in one row: 2 KiB. A row for each would double the rows of the log, and the time to open it.
const HASHES: usize = 64;
/// Databases that stay open once somebody read them, the newest: twelve million records, at some 35 MiB a million. To open one takes 150 ms.
const KEPT_OPEN: usize = 24;
/// Records that one search reads at most before it says where to go on: a few hundred milliseconds.
const SEARCHED: usize = 20_000;

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
    /// The keys of the details.
    #[error(transparent)]
    Details(#[from] DetailsError),
    /// A record is missing.
    #[error("record {0} of the audit log is missing")]
    Missing(u64),
    /// A record, or a hash of it, was changed.
    #[error("record {0} of the audit log was changed")]
    Changed(u64),
    /// The index of a block of records was changed.
    #[error("the index of block {0} of the audit log was changed")]
    Index(u64),
    /// The records are right one by one and lead to another root than the log's own.
    #[error("the audit log has {size} records that do not lead to its own root")]
    Root {
        /// How many there are.
        size: u64,
    },
    /// A commit that does not continue the log.
    #[error("commit {0} does not continue the audit log")]
    Order(u64),
    /// Reading was told to stop. Nothing is wrong.
    #[error("reading the audit log was stopped")]
    Stopped,
}

/// What was found of what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Records, ascending; fewer than asked for where one call read as much as it may.
    pub entries: Vec<Entry>,
    /// The record to go on from.
    pub next: u64,
    /// Whether there may be more records from there on already.
    pub more: bool,
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

    fn size(&self) -> u64 {
        self.frontier.head().size
    }
}

/// Tree hashes kept for so many leaves: each leaf, and each complete subtree above.
fn hashes(leaves: u64) -> u64 {
    (leaves * 2).saturating_sub(u64::from(leaves.count_ones()))
}

/// Takes note of the head of the tree where it has the size asked for.
fn head_at(tree: &Frontier, asked: Option<u64>, found: &mut Option<TreeHead>) {
    let head = tree.head();
    if asked == Some(head.size) {
        *found = Some(head);
    }
}

/// The log.
#[derive(Clone, Debug)]
pub(crate) struct Trail {
    path: PathBuf,
    details: Details,
    /// Records after which a new database is begun.
    shard_records: u64,
    /// By the number of their first record; those that nobody asked for are not open.
    shards: Arc<Mutex<BTreeMap<u64, Option<Arc<Shard>>>>>,
    /// Subtrees that were complete before the last shard began. With its own hashes any root from there on follows without another shard.
    edge: Arc<Mutex<BTreeMap<u64, Digest>>>,
    block: Arc<Mutex<Block>>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it left a whole value.
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Trail {
    /// Opens the log, without believing it yet.
    pub(crate) fn open(
        path: &Path,
        details: Details,
        shard_records: u64,
    ) -> Result<Self, TrailError> {
        let io = |e: std::io::Error| TrailError::Database {
            path: path.into(),
            why: e.to_string(),
        };
        std::fs::create_dir_all(path).map_err(io)?;
        let mut shards = BTreeMap::new();
        for item in std::fs::read_dir(path).map_err(io)? {
            let name = item.map_err(io)?.file_name();
            let first = name.to_str().and_then(|n| n.parse::<u64>().ok());
            shards.extend(first.map(|n| (n, None)));
        }
        let trail = Self {
            path: path.into(),
            details,
            shard_records,
            shards: Arc::new(Mutex::new(shards)),
            edge: Arc::default(),
            block: Arc::default(),
        };
        // A shard that a kill left without a beginning holds nothing.
        loop {
            let last = lock(&trail.shards).last_key_value().map(|(n, _)| *n);
            let Some(last) = last.filter(|n| *n > 0) else {
                break;
            };
            if trail
                .shard(last)?
                .is_some_and(|s| s.begin().is_ok_and(|b| b.is_some()))
            {
                break;
            }
            lock(&trail.shards).remove(&last);
            std::fs::remove_dir_all(trail.folder(last)).map_err(io)?;
        }
        if lock(&trail.shards).is_empty() {
            lock(&trail.shards).insert(0, None);
        }
        Ok(trail)
    }

    fn folder(&self, first: u64) -> PathBuf {
        self.path.join(format!("{first:020}"))
    }

    fn last(&self) -> Result<(u64, Arc<Shard>), TrailError> {
        let first = lock(&self.shards).last_key_value().map_or(0, |(n, _)| *n);
        let shard = self.shard(first)?.ok_or(TrailError::Missing(first))?;
        Ok((first, shard))
    }

    /// The shard that begins with this record, opened where it is not.
    fn shard(&self, first: u64) -> Result<Option<Arc<Shard>>, TrailError> {
        let mut shards = lock(&self.shards);
        let written = shards.last_key_value().is_some_and(|(n, _)| *n == first);
        match shards.get_mut(&first) {
            None => Ok(None),
            Some(Some(shard)) => Ok(Some(Arc::clone(shard))),
            Some(place) => {
                let shard = Arc::new(Shard::open(&self.folder(first), written)?);
                *place = Some(Arc::clone(&shard));
                Ok(Some(shard))
            }
        }
    }

    /// The shards that hold records from `from` on, by their first.
    fn from(&self, from: u64) -> Vec<u64> {
        let shards = lock(&self.shards);
        let first = shards.range(..=from).next_back().map_or(0, |(n, _)| *n);
        shards.range(first..).map(|(n, _)| *n).collect()
    }

    /// Reads the last shard from end to end and builds its part of the tree again; gives how far the log is, and the head at the size asked for.
    /// What lies before was read when it was last, and is read again by [`Self::verify_older`].
    pub(crate) fn verify(
        &self,
        asked: Option<u64>,
    ) -> Result<(Position, Option<TreeHead>), TrailError> {
        let (_, shard) = self.last()?;
        let verified = verify::verify(&shard, &self.details, asked, None)?;
        *lock(&self.block) = verified.block;
        self.note_edge(&shard.begin()?.unwrap_or_default().frontier);
        Ok((verified.end, verified.asked))
    }

    /// Reads everything before the last shard from end to end, with the index, and whether one shard continues the other. Gives the number
    /// of records that were read.
    pub(crate) fn verify_older(&self, stop: &AtomicBool) -> Result<u64, TrailError> {
        let (last, shard) = self.last()?;
        let firsts: Vec<u64> = lock(&self.shards).range(..last).map(|(n, _)| *n).collect();
        let mut stands = Position::default();
        for first in firsts {
            let shard = self.shard(first)?.ok_or(TrailError::Missing(first))?;
            let begin = shard.begin()?.unwrap_or_default();
            if begin.frontier != stands.frontier {
                return Err(TrailError::Root {
                    size: stands.size(),
                });
            }
            stands = verify::verify(&shard, &self.details, None, Some(stop))?.end;
            drop(shard);
            self.close_idle();
        }
        if shard.begin()?.unwrap_or_default().frontier != stands.frontier {
            return Err(TrailError::Root {
                size: stands.size(),
            });
        }
        Ok(stands.size())
    }

    fn note_edge(&self, begin: &Frontier) {
        let (mut edge, mut from) = (BTreeMap::new(), 0);
        for (level, hash) in begin.edge() {
            if let Some(at) = stored_index(level, from >> level) {
                edge.insert(at, hash);
            }
            from += 1 << level;
        }
        *lock(&self.edge) = edge;
    }

    /// Appends commits. Not durable until [`Self::flush`].
    pub(crate) fn apply(
        &self,
        position: &mut Position,
        commits: &[Commit],
    ) -> Result<(), TrailError> {
        // Whoever searches sees the block and its rows as of one moment.
        let mut block = lock(&self.block);
        let (mut first, mut shard) = self.last()?;
        let mut batch = sled::Batch::default();
        for commit in commits {
            if commit.seq.0 != position.seq.0 + 1 {
                return Err(TrailError::Order(commit.seq.0));
            }
            if position.size() - first >= self.shard_records {
                self.put_rest(&mut batch, position);
                block.rows().for_each(|(k, v)| batch.insert(&k, v));
                shard.apply(std::mem::take(&mut batch))?;
                shard.flush()?;
                (first, shard) = self.begin(position)?;
                *block = Block::at(first);
            }
            for record in &commit.records {
                let n = position.size();
                let entry = Entry::from(record);
                let (salt, detail) = entry.opened.unwrap_or_default();
                let key_of_day = self.details.of_day(day(record.public.time))?;
                let seal = |key: &ordonnans_seal::RetentionKey| {
                    let plain = [&salt[..], &detail].concat();
                    key.seal(&record.public.commitment, &entry.public, &plain)
                };
                // A record of a day whose key is gone: replayed after its time was over.
                let sealed = key_of_day.as_deref().map(seal).unwrap_or_default();
                let row = Row {
                    public: entry.public,
                    sealed,
                };
                batch.insert(&key(b'e', n), row.encode());
                let mut count = hashes(n);
                for hash in position.frontier.append(record.public.leaf()) {
                    position.tail.extend_from_slice(hash.as_bytes());
                    count += 1;
                    if count.is_multiple_of(HASHES as u64) {
                        let full = std::mem::take(&mut position.tail);
                        batch.insert(&key(b'h', count / HASHES as u64 - 1), full);
                    }
                }
                if block.add(&record.public, &record.detail) {
                    block.rows().for_each(|(k, v)| batch.insert(&k, v));
                    *block = Block::at(n + 1);
                }
            }
            if position.frontier.head() != commit.head {
                return Err(TrailError::Order(commit.seq.0));
            }
            (position.seq, position.at) = (commit.seq, commit.at);
        }
        self.put_rest(&mut batch, position);
        shard.apply(batch)
    }

    fn put_rest(&self, batch: &mut sled::Batch, position: &Position) {
        if !position.tail.is_empty() {
            let row = hashes(position.size()) / HASHES as u64;
            batch.insert(&key(b'h', row), position.tail.as_slice());
        }
        Shard::put_end(batch, position);
    }

    /// Begins the next shard where the log stands.
    fn begin(&self, position: &Position) -> Result<(u64, Arc<Shard>), TrailError> {
        let first = position.size();
        let shard = Arc::new(Shard::open(&self.folder(first), true)?);
        let mut batch = sled::Batch::default();
        self.put_rest(&mut batch, position);
        Shard::put_begin(&mut batch, position);
        shard.apply(batch)?;
        shard.flush()?;
        self.note_edge(&position.frontier);
        self.close_idle();
        lock(&self.shards).insert(first, Some(Arc::clone(&shard)));
        Ok((first, shard))
    }

    /// Closes the older shards that nobody is reading; whoever asks opens them again.
    fn close_idle(&self) {
        let mut shards = lock(&self.shards);
        for (i, (_, shard)) in shards.iter_mut().rev().enumerate() {
            // One that was written has a thread that flushes; what is only read needs none.
            let over = |s: &Arc<Shard>| i > 0 && (i >= KEPT_OPEN || s.was_written());
            if shard
                .as_ref()
                .is_some_and(|s| Arc::strong_count(s) == 1 && over(s))
            {
                *shard = None;
            }
        }
    }

    /// Makes everything applied durable.
    pub(crate) fn flush(&self) -> Result<(), TrailError> {
        self.last()?.1.flush()
    }

    /// Record `n`.
    pub(crate) fn entry(&self, n: u64) -> Result<Option<Entry>, TrailError> {
        let Some(first) = self.from(n).first().copied() else {
            return Ok(None);
        };
        let Some(shard) = self.shard(first)? else {
            return Ok(None);
        };
        let Some(row) = shard.row(n)? else {
            return Ok(None);
        };
        row.open(n, &shard, &self.details)
            .map(|(_, entry)| Some(entry))
    }

    /// The public part of record `n`.
    fn public(&self, n: u64) -> Result<Public, TrailError> {
        let first = self.from(n).first().copied().unwrap_or(0);
        let shard = self.shard(first)?.ok_or(TrailError::Missing(n))?;
        let row = shard.row(n)?.ok_or(TrailError::Missing(n))?;
        Public::decode(&row.public).map_err(|_| TrailError::Changed(n))
    }

    /// The first record at or after a time, of the first `size`.
    fn since(&self, at: Timestamp, size: u64) -> Result<u64, TrailError> {
        let (mut low, mut high) = (0, size);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.public(middle)?.time < at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Records that answer a question, of the first `size`, as somebody who holds `level` sees them. Where the question is about details, records
    /// above the level are not even looked at: where to go on would say where they are.
    pub(crate) fn search(
        &self,
        query: &AuditQuery,
        size: u64,
        level: Level,
    ) -> Result<Found, TrailError> {
        let limit = usize::from(query.limit);
        let from = match query.since {
            Some(at) => query.from.max(self.since(at, size)?),
            None => query.from,
        };
        let size = match query.until {
            Some(at) => self.since(at, size)?,
            None => size,
        };
        let asked = Asked::new(query, level);
        let (mut entries, mut read) = (vec![], 0);
        for first in self.from(from) {
            let Some(shard) = self.shard(first)? else {
                continue;
            };
            let mut candidates = Candidates::new(self, &shard, &asked, from.max(first), size)?;
            while let Some(n) = candidates.next()? {
                if entries.len() >= limit || read >= SEARCHED {
                    return Ok(Found {
                        entries,
                        next: n,
                        more: true,
                    });
                }
                let Some(row) = shard.row(n)? else {
                    // The next shard has it.
                    break;
                };
                read += 1;
                let (_, entry) = row.open(n, &shard, &self.details)?;
                let entry = entry.up_to(level);
                let (public, detail) = entry.read().ok_or(TrailError::Changed(n))?;
                if answers(query, &public, detail.as_ref()) {
                    entries.push(entry);
                }
            }
        }
        Ok(Found {
            entries,
            next: from.max(size),
            more: false,
        })
    }

    /// A kept tree hash.
    pub(crate) fn hash(&self, at: u64) -> Option<Digest> {
        if let Some(hash) = lock(&self.edge).get(&at) {
            return Some(*hash);
        }
        let (row, within) = (at / HASHES as u64, at % HASHES as u64);
        let first = {
            let shards = lock(&self.shards);
            let holds = |n: &&u64| hashes(**n) / HASHES as u64 <= row;
            shards.keys().rev().find(holds).copied()?
        };
        let bytes = self.shard(first).ok()??.get(&key(b'h', row)).ok()??;
        let within = usize::try_from(within).ok()? * 32;
        Digest::try_from(bytes.get(within..within + 32)?).ok()
    }

    /// The root of the first `size` records.
    pub(crate) fn root(&self, size: u64) -> Option<Digest> {
        merkle::root(&|at| self.hash(at), size)
    }

    /// Destroys details day by day; what incidents keep is sealed anew first.
    pub(crate) fn drop_details(
        &self,
        through: u64,
        keep: &BTreeMap<MessageId, String>,
        size: u64,
    ) -> Result<usize, TrailError> {
        let io = |source| DetailsError::Io {
            path: self.path.clone(),
            source,
        };
        let days = self.details.days_through(through).map_err(io)?;
        for d in &days {
            for n in self.since(midnight(*d), size)?..self.since(midnight(d + 1), size)? {
                self.keep_for(n, keep)?;
            }
            self.details.drop_day(*d).map_err(io)?;
        }
        Ok(days.len())
    }

    fn keep_for(&self, n: u64, keep: &BTreeMap<MessageId, String>) -> Result<(), TrailError> {
        let entry = self.entry(n)?.ok_or(TrailError::Missing(n))?;
        let (public, detail) = entry.read().ok_or(TrailError::Changed(n))?;
        let incident = detail.and_then(|d| keep.get(&d.message?));
        let (Some(incident), Some((salt, detail))) = (incident, &entry.opened) else {
            return Ok(());
        };
        let Some(key) = self.details.of_incident(incident, true)? else {
            return Ok(());
        };
        let plain = [&salt[..], detail].concat();
        let sealed = key.seal(&public.commitment, &entry.public, &plain);
        let first = self.from(n).first().copied().unwrap_or(0);
        let shard = self.shard(first)?.ok_or(TrailError::Missing(n))?;
        let mut batch = sled::Batch::default();
        Shard::put_kept(&mut batch, n, incident, &sealed);
        shard.apply(batch)?;
        shard.flush()
    }

    pub(crate) fn drop_incident(&self, incident: &str) -> Result<(), TrailError> {
        let dropped = self.details.drop_incident(incident);
        dropped.map_err(|source| {
            let path = self.path.clone();
            DetailsError::Io { path, source }.into()
        })
    }
}

/// The beginning of a day.
fn midnight(day: u64) -> Timestamp {
    Timestamp::from_millis(day.saturating_mul(24 * 60 * 60 * 1000))
}

/// Numbers of the records of one shard that may answer a question, ascending.
struct Candidates<'t> {
    shard: &'t Shard,
    asked: &'t Asked,
    /// The block that is not full, where it is in this shard. What of it has become rows since is passed over.
    open: Option<Block>,
    from: u64,
    size: u64,
    /// The rows of the rarest thing asked for; nothing where nothing was asked for.
    rows: Option<sled::Iter>,
    /// Places of the block at hand, to be gone through from the end.
    places: Vec<u64>,
    done: bool,
}

impl<'t> Candidates<'t> {
    fn new(
        trail: &Trail,
        shard: &'t Shard,
        asked: &'t Asked,
        from: u64,
        size: u64,
    ) -> Result<Self, TrailError> {
        let open = if asked.all.is_empty() {
            None
        } else {
            let block = lock(&trail.block);
            let (_, last) = trail.last()?;
            (last.is(shard)).then(|| block.clone())
        };
        let rows = asked.all.first().map(|rarest| {
            let range = rarest.key(from / BLOCK)..=rarest.key(u64::MAX);
            shard.range(range)
        });
        Ok(Self {
            shard,
            asked,
            open,
            from,
            size,
            rows: rows.transpose()?,
            places: vec![],
            done: false,
        })
    }

    fn next(&mut self) -> Result<Option<u64>, TrailError> {
        if self.asked.all.is_empty() {
            let n = self.from;
            self.from += 1;
            return Ok((n < self.size).then_some(n));
        }
        loop {
            while let Some(n) = self.places.pop() {
                if n >= self.from && n < self.size {
                    return Ok(Some(n));
                }
            }
            if self.done {
                return Ok(None);
            }
            let next = self.rows.as_mut().and_then(Iterator::next).transpose();
            match next.map_err(|e| self.shard.broken(e))? {
                Some((key, row)) => {
                    let block = key.last_chunk::<8>().copied().unwrap_or_default();
                    let block = u64::from_be_bytes(block);
                    if self.open.as_ref().is_some_and(|o| block >= o.number) {
                        continue;
                    }
                    let of = |facet: Facet| {
                        let row = self.shard.get(&facet.key(block))?;
                        Ok(row.map(|r| decode(&r)).unwrap_or_default())
                    };
                    let places = self.asked.narrow(decode(&row), of)?;
                    self.put(block, &places);
                }
                None => {
                    self.done = true;
                    if let Some(open) = self.open.take() {
                        let places = open.places(self.asked.all[0]);
                        let places = self.asked.narrow(places, |f| Ok(open.places(f)))?;
                        self.put(open.number, &places);
                    }
                }
            }
        }
    }

    fn put(&mut self, block: u64, places: &[u16]) {
        let numbers = places.iter().rev();
        self.places = numbers.map(|p| block * BLOCK + u64::from(*p)).collect();
    }
}
