//! The whole log as files that public tooling reads: C2SP tlog-tiles, and the details beside them.
//!
//! | path | what |
//! |---|---|
//! | `checkpoint` | the signed tree head |
//! | `tile/L/N[.p/W]` | up to 256 hashes of level L |
//! | `tile/entries/N[.p/W]` | up to 256 public parts, each behind its length in two bytes, big-endian |
//! | `details/N[.p/W]` | as many details in the same form: salt and encoding, or nothing where it is closed or was dropped |
//!
//! Nothing here knows a folder: the caller reads and writes what a path names.

use std::io;

use ordonnans_message::{Digest, limits};

use crate::merkle::{Frontier, leaf_hash, root_of};
use crate::{Entry, InvalidCheckpoint, Quorum, TreeHead, Witnessed};

/// Hashes, or entries, of a full tile.
pub const TILE: u64 = 256;
/// Name of the checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// Bundles that are checked at once: 32,768 records, about 16 MiB.
const BATCH: u64 = 128;

/// Bytes of the largest bundle.
#[must_use]
pub fn max_bundle() -> u64 {
    TILE * (2 + limits::MAX_RECORD as u64)
}

/// The path of the `n`th tile with `width` items below a folder such as `tile/0`: groups of three digits, all but the last behind an `x`; `.p/W` for
/// one that is not full.
fn path(folder: &str, n: u64, width: u64) -> String {
    let mut groups = vec![format!("{:03}", n % 1000)];
    let mut rest = n / 1000;
    while rest > 0 {
        groups.push(format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    groups.reverse();
    let number = groups.join("/");
    if width == TILE {
        format!("{folder}/{number}")
    } else {
        format!("{folder}/{number}.p/{width}")
    }
}

fn hashes(all: &[Digest]) -> Vec<u8> {
    all.iter().flat_map(|d| *d.as_bytes()).collect()
}

/// The hashes of a growing log, level by level: gives each tile when it is full, and at the end those that are not.
#[derive(Debug, Default)]
struct Levels(Vec<(u64, Vec<Digest>)>);

impl Levels {
    fn push(
        &mut self,
        leaf: Digest,
        put: &mut dyn FnMut(&str, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut hash, mut level) = (leaf, 0);
        loop {
            if self.0.len() == level {
                self.0.push((0, vec![]));
            }
            let (n, tile) = &mut self.0[level];
            tile.push(hash);
            if tile.len() as u64 != TILE {
                return Ok(());
            }
            put(&path(&format!("tile/{level}"), *n, TILE), &hashes(tile))?;
            hash = root_of(tile);
            (*n, *tile) = (*n + 1, vec![]);
            level += 1;
        }
    }

    fn finish(&self, put: &mut dyn FnMut(&str, &[u8]) -> io::Result<()>) -> io::Result<()> {
        for (level, (n, tile)) in self.0.iter().enumerate() {
            if !tile.is_empty() {
                put(
                    &path(&format!("tile/{level}"), *n, tile.len() as u64),
                    &hashes(tile),
                )?;
            }
        }
        Ok(())
    }
}

/// Writes a log as it comes, at flat memory.
#[derive(Debug, Default)]
pub struct Writer {
    tree: Frontier,
    levels: Levels,
    entries: Vec<u8>,
    details: Vec<u8>,
    size: u64,
}

fn item(to: &mut Vec<u8>, bytes: &[u8]) {
    let length =
        u16::try_from(bytes.len()).unwrap_or_else(|_| unreachable!("a record is below 64 KiB"));
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(bytes);
}

impl Writer {
    /// Takes the next record; `put` writes a file.
    ///
    /// # Errors
    /// What `put` says.
    pub fn push(
        &mut self,
        entry: &Entry,
        put: &mut dyn FnMut(&str, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        item(&mut self.entries, &entry.public);
        match &entry.opened {
            None => item(&mut self.details, &[]),
            Some((salt, detail)) => item(&mut self.details, &[&salt[..], detail].concat()),
        }
        let leaf = leaf_hash(&entry.public);
        self.tree.append(leaf);
        self.levels.push(leaf, put)?;
        self.size += 1;
        if self.size.is_multiple_of(TILE) {
            self.bundle(TILE, put)?;
        }
        Ok(())
    }

    fn bundle(
        &mut self,
        width: u64,
        put: &mut dyn FnMut(&str, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let n = (self.size - 1) / TILE;
        put(
            &path("tile/entries", n, width),
            &std::mem::take(&mut self.entries),
        )?;
        put(
            &path("details", n, width),
            &std::mem::take(&mut self.details),
        )
    }

    /// Records so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes what is not full, and gives the head that the checkpoint must have.
    ///
    /// # Errors
    /// What `put` says.
    pub fn finish(
        mut self,
        put: &mut dyn FnMut(&str, &[u8]) -> io::Result<()>,
    ) -> io::Result<TreeHead> {
        let width = self.size % TILE;
        if width > 0 {
            self.bundle(width, put)?;
        }
        self.levels.finish(put)?;
        Ok(self.tree.head())
    }
}

/// What is wrong with a folder of tiles.
#[derive(Debug, thiserror::Error)]
#[error("{path}{}: {why}", at(*.record))]
pub struct Fault {
    /// Which file.
    pub path: String,
    /// Which record, where it is about one.
    pub record: Option<u64>,
    /// What does not hold.
    pub why: Why,
}

fn at(record: Option<u64>) -> String {
    record.map_or_else(String::new, |n| format!(", record {n}"))
}

/// What does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It has not the form of such a file.
    #[error("it has another form, or more or fewer records than belong there")]
    Form,
    /// A record that is none, or a detail that is not the one it commits to.
    #[error("the record or its detail was changed")]
    Changed,
    /// Another record stands where this one belongs.
    #[error("another record stands here: one was taken out, put in or moved")]
    Order,
    /// The hashes are not those of the records.
    #[error("the hashes are not those of the records")]
    Hashes,
    /// All records together do not lead to the signed root.
    #[error("the records do not lead to the signed root")]
    Root,
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] InvalidCheckpoint),
    /// Too few witnesses.
    #[error("too few witnesses countersigned it: {0}")]
    Witnesses(usize),
}

/// A good folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The signed head that all records lead to.
    pub head: TreeHead,
    /// Details that were there and right.
    pub opened: u64,
    /// Who countersigned.
    pub witnessed: Witnessed,
}

/// Reads a file of at most so many bytes.
pub type Read<'a> = dyn Fn(&str, u64) -> io::Result<Vec<u8>> + Sync + 'a;

fn fault(path: &str, record: Option<u64>, why: impl Into<Why>) -> Fault {
    Fault {
        path: path.into(),
        record,
        why: why.into(),
    }
}

/// Splits a bundle into its items.
fn items(bundle: &[u8], width: u64) -> Option<Vec<&[u8]>> {
    let mut rest = bundle;
    let mut all = vec![];
    for _ in 0..width {
        let (length, more) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        all.push(more.get(..length)?);
        rest = &more[length..];
    }
    rest.is_empty().then_some(all)
}

/// The records of one bundle, each checked by itself and in its place.
///
/// # Errors
/// [`Fault`] names the file and the record.
pub fn bundle(read: &Read<'_>, n: u64, size: u64) -> Result<Vec<Entry>, Fault> {
    let width = TILE.min(size - n * TILE);
    let get = |folder: &str| {
        let path = path(folder, n, width);
        let bytes = read(&path, max_bundle()).map_err(|e| fault(&path, None, e))?;
        Ok((path, bytes))
    };
    let (path, publics) = get("tile/entries")?;
    let (beside, details) = get("details")?;
    let publics = items(&publics, width).ok_or_else(|| fault(&path, None, Why::Form))?;
    let details = items(&details, width).ok_or_else(|| fault(&beside, None, Why::Form))?;
    let mut entries = vec![];
    for (i, (public, detail)) in publics.into_iter().zip(details).enumerate() {
        let number = n * TILE + i as u64;
        let opened = match detail.split_first_chunk::<32>() {
            Some((salt, detail)) => Some((*salt, detail.to_vec())),
            None if detail.is_empty() => None,
            None => return Err(fault(&beside, Some(number), Why::Form)),
        };
        let public = public.to_vec();
        let entry = Entry { public, opened };
        let (read, _) = entry
            .read()
            .ok_or_else(|| fault(&path, Some(number), Why::Changed))?;
        if read.sequence != number {
            return Err(fault(&path, Some(number), Why::Order));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Reads the checkpoint and checks its signatures.
///
/// # Errors
/// [`Fault`]; also where too few witnesses signed.
pub fn head(read: &Read<'_>, quorum: &Quorum) -> Result<(TreeHead, Witnessed), Fault> {
    let no = |why: Why| fault(CHECKPOINT, None, why);
    let most = limits::MAX_CHECKPOINT as u64;
    let bytes = read(CHECKPOINT, most).map_err(|e| no(e.into()))?;
    let text = String::from_utf8(bytes).map_err(|_| no(InvalidCheckpoint::Form.into()))?;
    let (checkpoint, witnessed) = quorum.verify(&text).map_err(|e| no(e.into()))?;
    if !witnessed.enough {
        return Err(no(Why::Witnesses(witnessed.by.len())));
    }
    Ok((checkpoint.head, witnessed))
}

/// Checks a whole log: every record, every detail, every hash, the order, the root, the signatures. On all cores, at flat memory; `progress` hears
/// how many records are done.
///
/// # Errors
/// The first [`Fault`]; nothing of the folder may be relied on.
pub fn verify(
    read: &Read<'_>,
    quorum: &Quorum,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, Fault> {
    let (head, witnessed) = head(read, quorum)?;
    let bundles = head.size.div_ceil(TILE);
    let (mut tree, mut levels, mut opened) = (Frontier::default(), Levels::default(), 0);
    let mut check = |path: &str, want: &[u8]| {
        let have = read(path, TILE * 32)?;
        if have == want {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::InvalidData))
        }
    };
    let of_tile = |e: io::Error| match e.kind() {
        io::ErrorKind::InvalidData => Why::Hashes,
        _ => Why::Io(e),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let mut from = 0;
    while from < bundles {
        let until = bundles.min(from + BATCH);
        let share = (until - from).div_ceil(cores).max(1);
        let work = |first: u64| {
            let mut leaves = vec![];
            let mut opened = 0;
            for n in first..until.min(first + share) {
                for entry in bundle(read, n, head.size)? {
                    opened += u64::from(entry.opened.is_some());
                    leaves.push(leaf_hash(&entry.public));
                }
            }
            Ok((leaves, opened))
        };
        let parts: Vec<Result<(Vec<Digest>, u64), Fault>> = std::thread::scope(|scope| {
            let firsts = (0..cores).map(|i| from + i * share).filter(|f| *f < until);
            let threads: Vec<_> = firsts.map(|f| scope.spawn(move || work(f))).collect();
            let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
            let whole = |part: std::thread::Result<_>| {
                part.unwrap_or_else(|_| Err(fault("tile/entries", None, Why::Form)))
            };
            joined.map(whole).collect()
        });
        for part in parts {
            let (leaves, of_part) = part?;
            opened += of_part;
            for leaf in leaves {
                tree.append(leaf);
                levels
                    .push(leaf, &mut check)
                    .map_err(|e| fault("tile", Some(tree.head().size - 1), of_tile(e)))?;
            }
        }
        from = until;
        progress((from * TILE).min(head.size), head.size);
    }
    levels
        .finish(&mut check)
        .map_err(|e| fault("tile", None, of_tile(e)))?;
    if tree.head() != head {
        return Err(fault(CHECKPOINT, None, Why::Root));
    }
    Ok(Report {
        head,
        opened,
        witnessed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_format() {
        assert_eq!(path("tile/0", 5, 256), "tile/0/005");
        assert_eq!(path("tile/1", 1_234_067, 256), "tile/1/x001/x234/067");
        assert_eq!(path("tile/entries", 273, 112), "tile/entries/273.p/112");
    }
}
