//! The journal: commits in the order in which they became durable.
//!
//! Segment files, named by the number of their first commit, filled with zeros beforehand so that a sync writes no metadata. A commit stands as
//! magic, length, number of the first commit of its group, CRC32C over group and bytes, and the bytes. A group is written at once
//! and synced once.
//!
//! Reading is strict. What is broken at the end belongs to a group that was never synced, hence never acknowledged, and is cut off. What is
//! broken with a later group behind it was durable once: that is an alarm, and the store does not open.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use ordonnans_engine::Commit;

use crate::views::stand_back;

/// Lets a test fail a write: asked before each group is written and before it is synced.
pub trait Fault: Send + Sync + std::fmt::Debug {
    /// An error fails the step.
    ///
    /// # Errors
    /// Whatever the disk should say.
    fn strike(&self, step: &'static str) -> io::Result<()>;
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file could not be read or written.
    #[error("the journal {path} cannot be used: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Durable commits are damaged or missing.
    #[error(
        "the journal {path} is damaged at byte {at}, and later commits follow: durable commits are lost; restore it"
    )]
    Hole {
        /// The segment.
        path: PathBuf,
        /// Where.
        at: u64,
    },
    /// A segment is missing.
    #[error("the journal lacks the commits from {from} to {to}; restore the missing segment")]
    Gap {
        /// First missing commit.
        from: u64,
        /// The last one missing.
        to: u64,
    },
    /// A commit with a right checksum that this version cannot read.
    #[error("the journal {path} has a commit of another version at byte {at}")]
    Version {
        /// The segment.
        path: PathBuf,
        /// Where.
        at: u64,
    },
}

const MAGIC: [u8; 4] = *b"ORJ1";
const HEAD: usize = 20;
/// The segment that is made beforehand, until it gets the number of its first commit.
const NEXT: &str = "next";

/// Bytes of a new segment that are given to the disk at once.
const STEP: u64 = 1 << 20;

/// The journal, open for appending.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    /// The folder itself: syncing a name must not need another descriptor.
    folder: File,
    segment_bytes: u64,
    segments: BTreeMap<u64, PathBuf>,
    file: File,
    path: PathBuf,
    size: u64,
    at: u64,
    last: u64,
    /// The next segment, made beforehand by a thread of its own: filling one takes as long as many syncs.
    next: Option<JoinHandle<io::Result<File>>>,
    fault: Option<Arc<dyn Fault>>,
}

/// What reading found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The first commit there is; 0 where there is none.
    pub(crate) first: u64,
    /// The last commit; 0 where there is none.
    pub(crate) last: u64,
    /// Bytes of a group that was never synced, cut off.
    pub(crate) cut: u64,
}

/// One commit as it stands in a segment.
struct Entry<'b> {
    group: u64,
    bytes: &'b [u8],
}

fn entry(segment: &[u8], at: usize) -> Option<Entry<'_>> {
    let head = segment.get(at..at + HEAD)?;
    let (magic, rest) = head.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (group, rest) = rest.split_first_chunk::<8>()?;
    let sum: [u8; 4] = rest.try_into().ok()?;
    let length = u32::from_le_bytes(*length) as usize;
    let bytes = segment.get(at + HEAD..(at + HEAD).checked_add(length)?)?;
    let right = *magic == MAGIC && checksum(group, bytes) == sum;
    right.then_some(Entry {
        group: u64::from_le_bytes(*group),
        bytes,
    })
}

fn checksum(group: &[u8; 8], bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(group), bytes).to_le_bytes()
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some(next) = self.next.take() {
            // Whoever opens the folder next makes it anew; until then nobody may write to it.
            drop(next.join());
        }
    }
}

impl Journal {
    /// Opens the journal in a folder and gives every commit, in order, to `each`. `next` is the number of the commit that a new
    /// journal starts with.
    pub(crate) fn open(
        dir: &Path,
        segment_bytes: u64,
        fault: Option<Arc<dyn Fault>>,
        each: &mut dyn FnMut(Commit) -> Result<(), crate::OpenError>,
    ) -> Result<(Self, Found), crate::OpenError> {
        let broken = |path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { path, source }
        };
        std::fs::create_dir_all(dir).map_err(broken(dir))?;
        let mut segments = BTreeMap::new();
        for item in std::fs::read_dir(dir).map_err(broken(dir))? {
            let path = item.map_err(broken(dir))?.path();
            let first = path
                .file_name()
                .and_then(|n| n.to_str()?.strip_suffix(".seg")?.parse::<u64>().ok());
            if let Some(first) = first {
                segments.insert(first, path);
            }
        }
        let (mut found, mut last_group, mut end) = (Found::default(), 0, 0);
        let last_segment = segments.keys().next_back().copied();
        // One for all: several of this size would stay with the process.
        let mut bytes = Vec::with_capacity(usize::try_from(segment_bytes).unwrap_or(0));
        for (first, path) in &segments {
            if found.last != 0 && *first != found.last + 1 {
                let (from, to) = (found.last + 1, first.saturating_sub(1));
                return Err(JournalError::Gap { from, to }.into());
            }
            if found.first == 0 {
                (found.first, found.last) = (*first, first.saturating_sub(1));
            }
            bytes.clear();
            File::open(path)
                .and_then(|mut f| f.read_to_end(&mut bytes))
                .map_err(broken(path))?;
            let mut at = 0;
            while let Some(e) = entry(&bytes, at) {
                let here = at as u64;
                let commit = Commit::decode(e.bytes).map_err(|_| JournalError::Version {
                    path: path.clone(),
                    at: here,
                })?;
                if commit.seq.0 != found.last + 1 || e.group < last_group {
                    break;
                }
                (found.last, last_group) = (commit.seq.0, e.group);
                at += HEAD + e.bytes.len();
                each(commit)?;
            }
            end = at as u64;
            let rest = bytes.get(at..).unwrap_or_default();
            let torn = rest.iter().any(|b| *b != 0);
            let hole = || JournalError::Hole {
                path: path.clone(),
                at: end,
            };
            if torn {
                let later = (0..rest.len())
                    .filter(|i| rest[*i] == MAGIC[0])
                    .filter_map(|i| entry(rest, i))
                    .any(|e| e.group > found.last + 1);
                if later || Some(*first) != last_segment {
                    return Err(hole().into());
                }
                found.cut =
                    rest.len() as u64 - rest.iter().rev().take_while(|b| **b == 0).count() as u64;
            }
        }
        let (path, file, size) = match last_segment.and_then(|f| segments.get(&f)) {
            Some(path) => {
                let path = path.clone();
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(&path)
                    .map_err(broken(&path))?;
                // Nothing of a group that was cut off may be read again behind a new one.
                let size = file.metadata().map_err(broken(&path))?.len();
                let size = size.max(segment_bytes);
                file.set_len(end).map_err(broken(&path))?;
                fill(&file, end, size).map_err(broken(&path))?;
                (path, file, size)
            }
            None => {
                found.first = 1;
                let path = segment_path(dir, 1);
                let file = create(&path, segment_bytes).map_err(broken(&path))?;
                segments.insert(1, path.clone());
                (path, file, segment_bytes)
            }
        };
        let folder = File::open(dir).map_err(broken(dir))?;
        folder.sync_all().map_err(broken(dir))?;
        let mut journal = Self {
            dir: dir.into(),
            folder,
            segment_bytes,
            segments,
            file,
            path,
            size,
            at: end,
            last: found.last,
            next: None,
            fault,
        };
        journal.prepare();
        Ok((journal, found))
    }

    /// Makes a group durable: one write, one sync.
    pub(crate) fn append(&mut self, group: &[(u64, Bytes)]) -> Result<(), JournalError> {
        let Some((first, _)) = group.first() else {
            return Ok(());
        };
        let mut buffer = Vec::with_capacity(group.iter().map(|(_, b)| HEAD + b.len()).sum());
        for (_, bytes) in group {
            let number = first.to_le_bytes();
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            buffer.extend(MAGIC);
            buffer.extend(length.to_le_bytes());
            buffer.extend(number);
            buffer.extend(checksum(&number, bytes));
            buffer.extend_from_slice(bytes);
        }
        if self.at + buffer.len() as u64 > self.size {
            self.roll(*first)?;
        }
        self.write(&buffer).map_err(|source| JournalError::Io {
            path: self.path.clone(),
            source,
        })?;
        self.at += buffer.len() as u64;
        self.last = group.last().map_or(self.last, |(seq, _)| *seq);
        Ok(())
    }

    fn write(&self, buffer: &[u8]) -> io::Result<()> {
        let strike = |step| self.fault.as_ref().map_or(Ok(()), |f| f.strike(step));
        strike("write")?;
        self.file.write_all_at(buffer, self.at)?;
        strike("sync")?;
        self.file.sync_data()
    }

    /// Goes on in the next segment, where it is ready. Where it is not, or could not be made (no file descriptor, no room), the one at hand grows: its
    /// syncs then write metadata too, and what cannot be written there fails there.
    fn roll(&mut self, first: u64) -> Result<(), JournalError> {
        let Some(next) = self.next.take_if(|next| next.is_finished()) else {
            self.prepare();
            return Ok(());
        };
        let Ok(Ok(file)) = next.join() else {
            self.prepare();
            return Ok(());
        };
        let path = segment_path(&self.dir, first);
        let broken = |source| JournalError::Io {
            path: path.clone(),
            source,
        };
        std::fs::rename(self.dir.join(NEXT), &path).map_err(broken)?;
        self.folder.sync_all().map_err(broken)?;
        (self.file, self.size, self.at) = (file, self.segment_bytes, 0);
        self.segments.insert(first, path.clone());
        self.path = path;
        self.prepare();
        Ok(())
    }

    /// Begins to make the next segment, where none is made yet.
    fn prepare(&mut self) {
        if self.next.is_none() {
            let (path, size) = (self.dir.join(NEXT), self.segment_bytes);
            let made = std::thread::Builder::new().name("segment".into());
            let make = move || {
                stand_back();
                // What was begun takes the room that the segment at hand may need.
                create(&path, size).inspect_err(|_| drop(std::fs::remove_file(&path)))
            };
            self.next = made.spawn(make).ok();
        }
    }

    /// The last commit.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Removes segments whose commits the views hold durably, but for the last `spare` of them.
    pub(crate) fn trim(&mut self, held: u64, spare: usize) -> Result<(), JournalError> {
        while self.segments.len() > spare + 1 {
            let mut firsts = self.segments.keys().copied();
            let (Some(first), Some(next)) = (firsts.next(), firsts.next()) else {
                break;
            };
            if next > held + 1 {
                break;
            }
            let Some(path) = self.segments.remove(&first) else {
                break;
            };
            std::fs::remove_file(&path).map_err(|source| JournalError::Io { path, source })?;
        }
        Ok(())
    }
}

fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.seg"))
}

fn create(path: &Path, size: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    fill(&file, 0, size)?;
    Ok(file)
}

/// Writes zeros from `from` to `to` and syncs: later syncs then write data alone. Syncs in steps, for the sync of a group stands behind what the disk
/// was given at once.
fn fill(file: &File, from: u64, to: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let (mut at, mut synced) = (from, from);
    while at < to {
        let n = (to - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..n as usize], at)?;
        at += n;
        if at - synced >= STEP {
            file.sync_data()?;
            synced = at;
        }
    }
    file.sync_all()
}
