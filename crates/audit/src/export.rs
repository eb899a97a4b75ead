//! The log as an officer takes it away: three files that can be checked with nothing but the log's public key.
//!
//! | file | what |
//! |---|---|
//! | `checkpoint` | the signed tree head |
//! | `records.jsonl` | one JSON object a record, in order: readable fields, and the exact bytes they were read from |
//! | `proofs.jsonl` | one JSON object a record: its leaf hash and its inclusion proof (RFC 9162 section 2.1.3) |
//!
//! Each line has exactly one form: checking writes it again from its bytes and compares, so a changed byte is found wherever it is, also in
//! a field that is there for people only. A detail above the officer's clearance is absent; its record still counts and is proven.
//!
//! Limits: a detail taken out of an export later, with its salt, looks like one that was never opened; the record itself cannot be taken
//! out. The files are opened and closed by the caller; nothing here knows a path.

mod line;

use std::io::{self, BufRead};

use ordonnans_message::{Digest, limits};

use crate::merkle::{self, Frontier, leaf_hash, verify_inclusion};
use crate::{Checkpoint, Detail, InvalidCheckpoint, Public, TreeHead, VerifierKey};

pub use line::{proof_line, read_record, record, record_line};

use line::read_proof;

/// Name of the file with the checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// Name of the file with the records.
pub const RECORDS: &str = "records.jsonl";
/// Name of the file with the proofs.
pub const PROOFS: &str = "proofs.jsonl";

/// Bytes of a line: a record with its detail, in hexadecimal and readable, or a proof of 64 hashes.
const MAX_LINE: u64 = 16 * 1024;

/// What is wrong with an export.
#[derive(Debug, thiserror::Error)]
#[error("{file}{}: {why}", at(*.record))]
pub struct Fault {
    /// Which file.
    pub file: &'static str,
    /// Which record it concerns: the number of its line from 0, which is its sequence number in a whole export. `None` where it is not
    /// about one.
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
    /// A line is not the one form of a record or proof.
    #[error("the line was changed")]
    Form,
    /// The detail is not the one the record commits to.
    #[error("the detail is not the one that was recorded")]
    Detail,
    /// Another record stands where this one belongs.
    #[error("another record stands here: one was taken out, put in or moved")]
    Order,
    /// The proof does not lead to the signed root.
    #[error("the record is not in the signed log")]
    Proof,
    /// Fewer or more lines than the checkpoint has records.
    #[error("the signed log has {0} records; lines are missing or left over")]
    Count(u64),
    /// All records together do not lead to the signed root.
    #[error("the records do not lead to the signed root")]
    Root,
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] InvalidCheckpoint),
}

/// A good export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The signed tree head that all records lead to.
    pub head: TreeHead,
    /// Records that are there and proven: all of the log, or those of an excerpt.
    pub records: u64,
    /// Records whose detail was there and right.
    pub opened: u64,
}

/// Lines of the proofs of a whole log, in order. `None` where the leaves are not those of this head.
#[must_use]
pub fn proofs(leaves: &[Digest], head: &TreeHead) -> Option<Vec<String>> {
    let (mut tree, mut kept) = (Frontier::default(), vec![]);
    for leaf in leaves {
        kept.extend(tree.append(*leaf));
    }
    if tree.head() != *head {
        return None;
    }
    let hashes = |at: u64| {
        usize::try_from(at)
            .ok()
            .and_then(|at| kept.get(at).copied())
    };
    (0..head.size)
        .zip(leaves)
        .map(|(n, leaf)| {
            let proof = merkle::inclusion(&hashes, n, head.size)?;
            Some(proof_line(n, leaf, &proof))
        })
        .collect()
}

/// The next line without its end; `None` at the end of the file. A line without an end, or that is too long, is no line.
fn next_line(from: &mut impl BufRead) -> Result<Option<String>, Why> {
    let mut line = vec![];
    io::Read::take(&mut *from, MAX_LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    match line.pop() {
        Some(b'\n') => String::from_utf8(line).map(Some).map_err(|_| Why::Form),
        _ => Err(Why::Form),
    }
}

/// Reads the checkpoint and checks its signature.
fn head(checkpoint: &[u8], key: &VerifierKey) -> Result<TreeHead, Fault> {
    let fault = |why: InvalidCheckpoint| Fault {
        file: CHECKPOINT,
        record: None,
        why: why.into(),
    };
    if checkpoint.len() > limits::MAX_CHECKPOINT {
        return Err(fault(InvalidCheckpoint::Form));
    }
    let text = std::str::from_utf8(checkpoint).map_err(|_| fault(InvalidCheckpoint::Form))?;
    Ok(Checkpoint::verify(text, key).map_err(fault)?.head)
}

/// Records and proofs, read side by side.
struct Lines<R, P> {
    records: R,
    proofs: P,
    /// The line that is read next.
    at: u64,
}

/// What a record's line and its proof's line say, each by itself right.
struct Pair {
    public: Public,
    leaf: Digest,
    opened: bool,
}

impl<R: BufRead, P: BufRead> Lines<R, P> {
    fn fault(&self, file: &'static str, why: impl Into<Why>) -> Fault {
        Fault {
            file,
            record: Some(self.at),
            why: why.into(),
        }
    }

    /// The next record with its proof; `None` where both files end.
    fn next(&mut self, head: &TreeHead) -> Result<Option<Pair>, Fault> {
        let line = next_line(&mut self.records).map_err(|w| self.fault(RECORDS, w))?;
        let Some(line) = line else {
            return match next_line(&mut self.proofs) {
                Ok(None) => Ok(None),
                _ => Err(self.fault(RECORDS, Why::Count(head.size))),
            };
        };
        let entry = read_record(&line).ok_or_else(|| self.fault(RECORDS, Why::Form))?;
        let public = Public::decode(&entry.public).map_err(|_| self.fault(RECORDS, Why::Form))?;
        if let Some((salt, detail)) = &entry.opened {
            let detail = Detail::decode(detail).map_err(|_| self.fault(RECORDS, Why::Form))?;
            if detail.commitment(salt) != public.commitment {
                return Err(self.fault(RECORDS, Why::Detail));
            }
        }
        let line = next_line(&mut self.proofs).map_err(|w| self.fault(PROOFS, w))?;
        let line = line.ok_or_else(|| self.fault(PROOFS, Why::Count(head.size)))?;
        let (n, stated, proof) = read_proof(&line).ok_or_else(|| self.fault(PROOFS, Why::Form))?;
        if n != public.sequence {
            return Err(self.fault(PROOFS, Why::Order));
        }
        if verify_inclusion(head, n, &stated, &proof).is_err() {
            return Err(self.fault(PROOFS, Why::Proof));
        }
        let leaf = leaf_hash(&entry.public);
        if stated != leaf {
            return Err(self.fault(RECORDS, Why::Proof));
        }
        Ok(Some(Pair {
            public,
            leaf,
            opened: entry.opened.is_some(),
        }))
    }
}

/// Checks a whole export: every line, every detail, every proof, the order, the count, the root, the signature.
///
/// # Errors
/// The first [`Fault`]; nothing of the export may be relied on.
pub fn verify(
    checkpoint: &[u8],
    records: impl BufRead,
    proofs: impl BufRead,
    key: &VerifierKey,
) -> Result<Report, Fault> {
    let head = head(checkpoint, key)?;
    let (mut tree, mut opened) = (Frontier::default(), 0);
    let mut lines = Lines {
        records,
        proofs,
        at: 0,
    };
    while lines.at < head.size {
        let Some(pair) = lines.next(&head)? else {
            return Err(lines.fault(RECORDS, Why::Count(head.size)));
        };
        if pair.public.sequence != lines.at {
            return Err(lines.fault(RECORDS, Why::Order));
        }
        tree.append(pair.leaf);
        opened += u64::from(pair.opened);
        lines.at += 1;
    }
    let left_over = |file, why| Fault {
        file,
        record: None,
        why,
    };
    for (file, rest) in [
        (RECORDS, next_line(&mut lines.records)),
        (PROOFS, next_line(&mut lines.proofs)),
    ] {
        if !matches!(rest, Ok(None)) {
            return Err(left_over(file, Why::Count(head.size)));
        }
    }
    if tree.head() != head {
        return Err(left_over(RECORDS, Why::Root));
    }
    Ok(Report {
        head,
        records: head.size,
        opened,
    })
}

/// Checks an excerpt: some records of the log with their proofs, in ascending order. It proves that each of them is in the signed log; it
/// does not show that none was left out.
///
/// # Errors
/// The first [`Fault`]; nothing of the excerpt may be relied on.
pub fn verify_excerpt(
    checkpoint: &[u8],
    records: impl BufRead,
    proofs: impl BufRead,
    key: &VerifierKey,
) -> Result<Report, Fault> {
    let head = head(checkpoint, key)?;
    let (mut least, mut opened) = (0, 0);
    let mut lines = Lines {
        records,
        proofs,
        at: 0,
    };
    while let Some(pair) = lines.next(&head)? {
        if pair.public.sequence < least {
            return Err(lines.fault(RECORDS, Why::Order));
        }
        least = pair.public.sequence.saturating_add(1);
        opened += u64::from(pair.opened);
        lines.at += 1;
    }
    Ok(Report {
        head,
        records: lines.at,
        opened,
    })
}
