//! The Merkle tree of RFC 9162 section 2.1 over SHA-256.
//!
//! What is kept is every hash of a complete subtree, in the order in which they become complete: leaf 0, leaf 1, the node above
//! them, leaf 2, … A leaf adds one hash for itself and one for each complete subtree it closes, so on average two. From
//! these, any root and any proof follow.

use ordonnans_message::cbor::{DecodeError, Reader, Writer, exactly};
use ordonnans_message::{Digest, sha256};

/// The size of a tree and its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// Number of leaves.
    pub size: u64,
    /// Root.
    pub root: Digest,
}

/// Hash of a leaf: SHA-256 over 0x00 and the entry.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Digest {
    sha256(&[&[0], entry])
}

/// Hash of an inner node: SHA-256 over 0x01, left and right.
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    sha256(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// Where the hash of the complete subtree of height `level` that starts at leaf `index << level` is kept. `None` where the number does
/// not fit 64 bits.
#[must_use]
pub fn stored_index(level: u32, index: u64) -> Option<u64> {
    // Leaf n stands behind all hashes of the n leaves before it: n leaves and n minus popcount(n) inner nodes.
    let last_leaf = index
        .checked_add(1)?
        .checked_shl(level)
        .filter(|n| n >> level == index + 1)?
        .checked_sub(1)?;
    let before = last_leaf
        .checked_mul(2)?
        .checked_sub(u64::from(last_leaf.count_ones()))?;
    before.checked_add(level.into())
}

/// Gives kept hashes by their index. `None` means that the hash is not there, and the proof cannot be made.
pub trait Hashes {
    /// The hash at this index.
    fn hash(&self, index: u64) -> Option<Digest>;
}

impl<F: Fn(u64) -> Option<Digest>> Hashes for F {
    fn hash(&self, index: u64) -> Option<Digest> {
        self(index)
    }
}

/// The right edge of a growing tree: one hash for each bit of the size. Enough to append and to know the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the complete subtrees, largest first.
    edge: Vec<Digest>,
}

impl Frontier {
    /// Appends a leaf by its hash and gives the hashes that became complete: the leaf, and each node it closes, upwards.
    pub fn append(&mut self, leaf: Digest) -> Vec<Digest> {
        let mut complete = vec![leaf];
        let mut hash = leaf;
        let mut rest = self.size;
        while rest & 1 == 1 {
            let Some(left) = self.edge.pop() else { break };
            hash = node_hash(&left, &hash);
            complete.push(hash);
            rest >>= 1;
        }
        self.edge.push(hash);
        self.size += 1;
        complete
    }

    /// The complete subtrees of which the tree is made, largest first: level and root.
    pub fn edge(&self) -> impl Iterator<Item = (u32, Digest)> {
        let levels = (0..u64::BITS)
            .rev()
            .filter(|l| self.size >> l & 1 == 1)
            .collect::<Vec<_>>();
        levels.into_iter().zip(self.edge.iter().copied())
    }

    /// Size and root. The root of nothing is the hash of nothing.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        let mut upwards = self.edge.iter().rev().copied();
        let root = match upwards.next() {
            None => sha256(&[]),
            Some(last) => upwards.fold(last, |right, left| node_hash(&left, &right)),
        };
        TreeHead {
            size: self.size,
            root,
        }
    }

    /// The one byte form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        self.write(&mut w);
        w.into_bytes()
    }

    /// Reads a frontier.
    ///
    /// # Errors
    /// [`DecodeError::Form`] where the number of hashes does not fit the size.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let read = |r: &mut Reader<'_>| {
            r.tuple("frontier", 2)?;
            let size = r.uint("tree size", u64::MAX)?;
            let n = r.array("frontier", 64)?;
            if n != size.count_ones() as usize {
                return Err(DecodeError::Form("frontier"));
            }
            let edge = (0..n)
                .map(|_| r.fixed::<32>("frontier").map(Digest::from))
                .collect::<Result<_, _>>()?;
            Ok(Self { size, edge })
        };
        exactly(bytes, read, Self::write)
    }

    fn write(&self, w: &mut Writer) {
        w.array(2).uint(self.size).array(self.edge.len());
        for hash in &self.edge {
            w.bytes(hash.as_bytes());
        }
    }
}

/// Root of the leaves `start..end` (`MTH(D[start:end])`), where `start` is a multiple of the largest power of two below the width:
/// all that proofs ask for.
fn range_root(hashes: &dyn Hashes, start: u64, end: u64) -> Option<Digest> {
    let width = end.checked_sub(start).filter(|w| *w > 0)?;
    if width.is_power_of_two() {
        let level = width.trailing_zeros();
        return hashes.hash(stored_index(level, start >> level)?);
    }
    let k = split(width);
    Some(node_hash(
        &range_root(hashes, start, start + k)?,
        &range_root(hashes, start + k, end)?,
    ))
}

/// The largest power of two smaller than `n`; `n` is at least 2.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// The root over these hashes, as if each were that of a leaf.
pub(crate) fn root_of(leaves: &[Digest]) -> Digest {
    let mut tree = Frontier::default();
    for leaf in leaves {
        tree.append(*leaf);
    }
    tree.head().root
}

/// The root of the first `size` leaves. `None` where a hash is missing.
#[must_use]
pub fn root(hashes: &dyn Hashes, size: u64) -> Option<Digest> {
    if size == 0 {
        Some(sha256(&[]))
    } else {
        range_root(hashes, 0, size)
    }
}

/// The inclusion proof of leaf `index` in the tree of `size` leaves (section 2.1.3.1), leaf to root. `None` where the index is outside
/// or a hash is missing.
#[must_use]
pub fn inclusion(hashes: &dyn Hashes, index: u64, size: u64) -> Option<Vec<Digest>> {
    if index >= size {
        return None;
    }
    let (mut start, mut end, mut path) = (0, size, vec![]);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range_root(hashes, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(hashes, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// The consistency proof between the trees of `first` and `second` leaves (section 2.1.4.1). Empty for equal sizes and for a first size
/// of 0. `None` where first is larger or a hash is missing.
#[must_use]
pub fn consistency(hashes: &dyn Hashes, first: u64, second: u64) -> Option<Vec<Digest>> {
    if first > second {
        return None;
    }
    if first == 0 || first == second {
        return Some(vec![]);
    }
    let (mut start, mut end, mut whole, mut path) = (0, second, true, vec![]);
    while first != end {
        let middle = start + split(end - start);
        if first <= middle {
            path.push(range_root(hashes, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(hashes, start, middle)?);
            start = middle;
            whole = false;
        }
    }
    if !whole {
        path.push(range_root(hashes, start, end)?);
    }
    path.reverse();
    Some(path)
}

/// A proof that does not prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProof {
    /// The leaf is outside the tree, or the first tree is larger than the second.
    #[error("the proof speaks of a place outside the tree")]
    Outside,
    /// The proof has more or fewer hashes than such a proof has.
    #[error("the proof has the wrong length")]
    Length,
    /// The hashes lead to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// Checks an inclusion proof (section 2.1.3.2).
///
/// # Errors
/// [`InvalidProof`]: the leaf is not proven to be in the tree.
pub fn verify_inclusion(
    head: &TreeHead,
    index: u64,
    leaf: &Digest,
    proof: &[Digest],
) -> Result<(), InvalidProof> {
    if index >= head.size {
        return Err(InvalidProof::Outside);
    }
    let (mut at, mut last, mut hash) = (index, head.size - 1, *leaf);
    for p in proof {
        if last == 0 {
            return Err(InvalidProof::Length);
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(p, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, p);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(InvalidProof::Length);
    }
    if hash == head.root {
        Ok(())
    } else {
        Err(InvalidProof::Root)
    }
}

/// Checks that the tree of `second` continues the tree of `first` (section 2.1.4.2). A first size of 0 needs an empty proof.
///
/// # Errors
/// [`InvalidProof`]: one history is not proven to continue the other.
pub fn verify_consistency(
    first: &TreeHead,
    second: &TreeHead,
    proof: &[Digest],
) -> Result<(), InvalidProof> {
    if first.size > second.size {
        return Err(InvalidProof::Outside);
    }
    if first.size == second.size || first.size == 0 {
        if !proof.is_empty() {
            return Err(InvalidProof::Length);
        }
        let empty_right = first.size != 0 || first.root == sha256(&[]);
        let same = first.size != second.size || first.root == second.root;
        return if empty_right && same {
            Ok(())
        } else {
            Err(InvalidProof::Root)
        };
    }
    let mut path = proof.iter();
    let seed = if first.size.is_power_of_two() {
        first.root
    } else {
        *path.next().ok_or(InvalidProof::Length)?
    };
    if proof.is_empty() {
        return Err(InvalidProof::Length);
    }
    let (mut at, mut last) = (first.size - 1, second.size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut older, mut newer) = (seed, seed);
    for p in path {
        if last == 0 {
            return Err(InvalidProof::Length);
        }
        if at & 1 == 1 || at == last {
            older = node_hash(p, &older);
            newer = node_hash(p, &newer);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            newer = node_hash(&newer, p);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(InvalidProof::Length);
    }
    if older == first.root && newer == second.root {
        Ok(())
    } else {
        Err(InvalidProof::Root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word for word.
    fn naive(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => sha256(&[]),
            [one] => *one,
            many => {
                let (l, r) = many.split_at(split(many.len() as u64) as usize);
                node_hash(&naive(l), &naive(r))
            }
        }
    }

    fn tree(n: u64) -> (Vec<Digest>, Vec<Digest>, Vec<TreeHead>) {
        let leaves: Vec<Digest> = (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let (mut f, mut kept) = (Frontier::default(), vec![]);
        let mut heads = vec![f.head()];
        for leaf in &leaves {
            kept.extend(f.append(*leaf));
            heads.push(f.head());
        }
        assert_eq!(Frontier::decode(&f.encode()), Ok(f));
        (leaves, kept, heads)
    }

    #[test]
    fn every_proof_of_every_small_tree() {
        let (leaves, kept, heads) = tree(66);
        let hashes = |i: u64| kept.get(i as usize).copied();
        for size in 0..=66u64 {
            let head = heads[size as usize];
            assert_eq!(
                (head.size, head.root),
                (size, naive(&leaves[..size as usize]))
            );
            assert_eq!(root(&hashes, size), Some(head.root));
            for index in 0..size {
                let proof = inclusion(&hashes, index, size).expect("all hashes are there");
                assert_eq!(
                    verify_inclusion(&head, index, &leaves[index as usize], &proof),
                    Ok(())
                );
                let wrong = leaf_hash(b"another");
                assert_eq!(
                    verify_inclusion(&head, index, &wrong, &proof),
                    Err(InvalidProof::Root)
                );
            }
            assert_eq!(inclusion(&hashes, size, size), None);
            for first in 0..=size {
                let proof = consistency(&hashes, first, size).expect("all hashes are there");
                let older = heads[first as usize];
                assert_eq!(
                    verify_consistency(&older, &head, &proof),
                    Ok(()),
                    "{first} to {size}"
                );
                if first > 0 {
                    let rewritten = TreeHead {
                        root: leaf_hash(b"x"),
                        ..older
                    };
                    assert!(
                        verify_consistency(&rewritten, &head, &proof).is_err(),
                        "{first} to {size}"
                    );
                }
            }
        }
    }

    #[test]
    fn known_roots() {
        // The empty tree and the one-leaf tree of an empty entry, as RFC 9162 defines them.
        let head = Frontier::default().head();
        assert_eq!(
            head.root.to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let mut f = Frontier::default();
        f.append(leaf_hash(b""));
        assert_eq!(
            f.head().root.to_string(),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
    }

    #[test]
    fn indices_of_kept_hashes() {
        // 0: leaf 0, 1: leaf 1, 2: their node, 3: leaf 2, 4: leaf 3, 5: their node, 6: the node of four.
        for (level, index, at) in [
            (0, 0, 0),
            (0, 1, 1),
            (1, 0, 2),
            (0, 2, 3),
            (0, 3, 4),
            (1, 1, 5),
            (2, 0, 6),
            (0, 4, 7),
        ] {
            assert_eq!(stored_index(level, index), Some(at));
        }
        assert_eq!(stored_index(0, u64::MAX), None);
        assert_eq!(stored_index(63, 9), None);
    }

    proptest! {
        #[test]
        fn a_changed_proof_does_not_prove(size in 2u64..200, a: u64, at: usize, how in 0u8..4) {
            let (leaves, kept, heads) = tree(size);
            let hashes = |i: u64| kept.get(i as usize).copied();
            let index = a % size;
            let mut proof = inclusion(&hashes, index, size).expect("there");
            let at = at % proof.len();
            match how {
                0 => { proof.remove(at); }
                1 => proof.insert(at, leaf_hash(b"x")),
                2 => proof[at] = leaf_hash(b"x"),
                _ => { proof.push(heads[1].root); }
            }
            prop_assert!(verify_inclusion(&heads[size as usize], index, &leaves[index as usize], &proof).is_err());
        }
    }
}
