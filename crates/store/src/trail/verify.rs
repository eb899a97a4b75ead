//! Reads a shard from its first record to its last and builds its part of the tree again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use ordonnans_audit::merkle::leaf_hash;
use ordonnans_audit::{Detail, TreeHead};

use super::index::{BLOCK, Block, decode};
use super::shard::{Row, Shard, key};
use super::{HASHES, Position, TrailError, hashes, head_at};
use crate::details::Details;

/// What reading a shard gives.
pub(crate) struct Verified {
    /// Where the log stands at its end.
    pub(crate) end: Position,
    /// The block that is not full.
    pub(crate) block: Block,
    /// The tree as it was at the size asked for, where that lies in this shard.
    pub(crate) asked: Option<TreeHead>,
}

/// Checks everything a shard has: each record, each detail, each tree hash. With a flag by which it can be stopped, each row of the index too.
pub(crate) fn verify(
    shard: &Shard,
    details: &Details,
    asked: Option<u64>,
    deep: Option<&AtomicBool>,
) -> Result<Verified, TrailError> {
    let all = || read(shard, details, asked, deep);
    // sled panics on some damage.
    catch_unwind(AssertUnwindSafe(all)).map_err(|_| shard.broken("it is damaged"))?
}

fn read(
    shard: &Shard,
    details: &Details,
    asked: Option<u64>,
    deep: Option<&AtomicBool>,
) -> Result<Verified, TrailError> {
    let begin = shard.begin()?.unwrap_or_default();
    let mut end = shard.end()?.unwrap_or_default();
    let (first, size) = (begin.frontier.head().size, end.frontier.head().size);
    let mut tree = begin.frontier.clone();
    let mut block = Block::at(first);
    let mut at_size = None;
    // The first row has the hashes before the shard that belong to it.
    let before = usize::try_from(hashes(first) % HASHES as u64).unwrap_or(0) * 32;
    let mut row: (sled::IVec, usize) = (sled::IVec::default(), 0);
    let mut hash_rows = shard.range(key(b'h', 0)..=key(b'h', u64::MAX))?.values();
    if size > first || before > 0 {
        let next = hash_rows.next().transpose().map_err(|e| shard.broken(e))?;
        row = (next.ok_or(TrailError::Changed(first))?, before);
    }
    let mut rows = shard.range(key(b'e', 0)..=key(b'e', u64::MAX))?;
    for n in first..size {
        let (_, v) = rows
            .next()
            .transpose()
            .map_err(|e| shard.broken(e))?
            .filter(|(k, _)| **k == key(b'e', n))
            .ok_or(TrailError::Missing(n))?;
        let row_of = Row::decode(&v).map_err(|_| TrailError::Changed(n))?;
        let (public, entry) = row_of.open(n, shard, details)?;
        if public.sequence != n {
            return Err(TrailError::Changed(n));
        }
        let detail = match &entry.opened {
            // Its time is over.
            None => Detail::default(),
            Some(_) => {
                let (_, detail) = entry.read().ok_or(TrailError::Changed(n))?;
                detail.unwrap_or_default()
            }
        };
        for hash in tree.append(leaf_hash(&entry.public)) {
            if row.1 >= row.0.len() {
                let next = hash_rows.next().transpose().map_err(|e| shard.broken(e))?;
                row = (next.ok_or(TrailError::Changed(n))?, 0);
            }
            if row.0.get(row.1..row.1 + 32) != Some(&hash.as_bytes()[..]) {
                return Err(TrailError::Changed(n));
            }
            row.1 += 32;
        }
        head_at(&tree, asked, &mut at_size);
        if n / BLOCK != block.number {
            block = Block::at(n);
        }
        if block.add(&public, &detail)
            && let Some(stop) = deep
        {
            compare(shard, &block)?;
            if stop.load(Ordering::Relaxed) {
                return Err(TrailError::Stopped);
            }
        }
    }
    head_at(&tree, asked, &mut at_size);
    if deep.is_some() {
        // The block that the shard ended in.
        compare(shard, &block)?;
    }
    let more = rows.next().is_some() || hash_rows.next().is_some() || row.1 < row.0.len();
    if more || tree != end.frontier {
        return Err(TrailError::Root { size });
    }
    if size > 0 && size / BLOCK != block.number {
        block = Block::at(size);
    }
    end.tail = if hashes(size).is_multiple_of(HASHES as u64) {
        vec![]
    } else {
        row.0.to_vec()
    };
    Ok(Verified {
        end,
        block,
        asked: at_size,
    })
}

/// Holds the rows of a full block against its records. A place that is left out would hide a record from whoever searches.
fn compare(shard: &Shard, block: &Block) -> Result<(), TrailError> {
    for (key, places) in block.rows() {
        let kept = shard.get(&key)?.unwrap_or_default();
        let (kept, made) = (decode(&kept), decode(&places));
        if !made.iter().all(|p| kept.binary_search(p).is_ok()) {
            return Err(TrailError::Index(block.number));
        }
    }
    Ok(())
}
