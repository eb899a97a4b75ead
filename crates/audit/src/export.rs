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
//! Limits: a detail taken out of an export later looks like one that was never opened; the record itself cannot be taken out.

use std::io::{self, BufRead};

use data_encoding::HEXLOWER;
use ordonnans_message::{Digest, limits};
use serde_json::{Value, json};

use crate::merkle::{self, Frontier, leaf_hash, verify_inclusion};
use crate::{Checkpoint, Detail, InvalidCheckpoint, Public, TreeHead, VerifierKey};

/// Name of the file with the checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// Name of the file with the records.
pub const RECORDS: &str = "records.jsonl";
/// Name of the file with the proofs.
pub const PROOFS: &str = "proofs.jsonl";

/// Bytes of a line: a record with its detail, in hexadecimal and readable, or a proof of 64 hashes.
const MAX_LINE: u64 = 16 * 1024;

/// A record as the log gives it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The encoded public part, as it was hashed.
    pub public: Vec<u8>,
    /// Salt and encoded detail, where the reader is cleared for it.
    pub opened: Option<([u8; 32], Vec<u8>)>,
}

/// What is wrong with an export.
#[derive(Debug, thiserror::Error)]
#[error("{file}{}: {why}", at(*.record))]
pub struct Fault {
    /// Which file.
    pub file: &'static str,
    /// Which record it concerns; `None` where it is not about one.
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
    /// Records whose detail was there and right.
    pub opened: u64,
}

fn readable(d: &Detail) -> Value {
    json!({
        "who": d.who, "person": d.person, "to": d.to, "message": d.message, "digest": d.digest,
        "rule": d.rule.map(|n| format!("POL-{n:02}")), "register": d.register, "copy": d.copy, "note": d.note,
    })
}

/// The readable form of an entry, and the bytes it was read from. `None` where these are no record.
#[must_use]
pub fn record(entry: &Entry) -> Option<Value> {
    let p = Public::decode(&entry.public).ok()?;
    let opened = match &entry.opened {
        None => None,
        Some((salt, detail)) => Some((salt, detail, Detail::decode(detail).ok()?)),
    };
    Some(json!({
        "sequence": p.sequence,
        "time": p.time,
        "clock": p.clock.as_str(),
        "verb": p.verb.as_str(),
        "level": p.level,
        "public": HEXLOWER.encode(&entry.public),
        "salt": opened.as_ref().map(|(salt, ..)| HEXLOWER.encode(&salt[..])),
        "detail": opened.as_ref().map(|(_, _, d)| readable(d)),
        "detail_bytes": opened.as_ref().map(|(_, bytes, _)| HEXLOWER.encode(bytes)),
    }))
}

/// The line of a record, without its end. `None` where the entry is no record.
#[must_use]
pub fn record_line(entry: &Entry) -> Option<String> {
    record(entry).map(|v| v.to_string())
}

/// The line of a proof, without its end.
#[must_use]
pub fn proof_line(sequence: u64, leaf: &Digest, proof: &[Digest]) -> String {
    json!({ "sequence": sequence, "leaf": leaf, "proof": proof }).to_string()
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

fn bytes(v: &Value) -> Option<Vec<u8>> {
    HEXLOWER.decode(v.as_str()?.as_bytes()).ok()
}

/// Reads a record's line: only the one form it can have.
#[must_use]
pub fn read_record(line: &str) -> Option<Entry> {
    let v: Value = serde_json::from_str(line).ok()?;
    let opened = match (&v["salt"], &v["detail_bytes"]) {
        (Value::Null, Value::Null) => None,
        (salt, detail) => Some((bytes(salt)?.try_into().ok()?, bytes(detail)?)),
    };
    let entry = Entry {
        public: bytes(&v["public"])?,
        opened,
    };
    (record_line(&entry)? == line).then_some(entry)
}

fn read_proof(line: &str) -> Option<(u64, Digest, Vec<Digest>)> {
    let v: Value = serde_json::from_str(line).ok()?;
    let n = v["sequence"].as_u64()?;
    let leaf = v["leaf"].as_str()?.parse().ok()?;
    let proof = v["proof"].as_array()?.iter();
    let proof: Vec<Digest> = proof
        .map(|h| h.as_str()?.parse().ok())
        .collect::<Option<_>>()?;
    (proof_line(n, &leaf, &proof) == line).then_some((n, leaf, proof))
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

/// Checks a whole export: every line, every detail, every proof, the order, the count, the root, the signature.
///
/// # Errors
/// The first [`Fault`]; nothing of the export may be relied on.
pub fn verify(
    checkpoint: &[u8],
    mut records: impl BufRead,
    mut proofs: impl BufRead,
    key: &VerifierKey,
) -> Result<Report, Fault> {
    let of = |file, record| move |why: Why| Fault { file, record, why };
    let unsigned = of(CHECKPOINT, None);
    if checkpoint.len() > limits::MAX_CHECKPOINT {
        return Err(unsigned(InvalidCheckpoint::Form.into()));
    }
    let text = std::str::from_utf8(checkpoint)
        .map_err(|_| of(CHECKPOINT, None)(InvalidCheckpoint::Form.into()))?;
    let head = Checkpoint::verify(text, key)
        .map_err(|e| unsigned(e.into()))?
        .head;
    let (mut tree, mut opened) = (Frontier::default(), 0);
    for n in 0..head.size {
        let fault = of(RECORDS, Some(n));
        let line = next_line(&mut records).map_err(of(RECORDS, Some(n)))?;
        let line = line.ok_or_else(|| of(RECORDS, Some(n))(Why::Count(head.size)))?;
        let entry = read_record(&line).ok_or_else(|| of(RECORDS, Some(n))(Why::Form))?;
        let public = Public::decode(&entry.public).map_err(|_| fault(Why::Form))?;
        let fault = |why| of(RECORDS, Some(n))(why);
        if public.sequence != n {
            return Err(fault(Why::Order));
        }
        if let Some((salt, detail)) = &entry.opened {
            let detail = Detail::decode(detail).map_err(|_| fault(Why::Form))?;
            if detail.commitment(salt) != public.commitment {
                return Err(fault(Why::Detail));
            }
            opened += 1;
        }
        let leaf = leaf_hash(&entry.public);
        tree.append(leaf);
        let unproven = |why| of(PROOFS, Some(n))(why);
        let line = next_line(&mut proofs).map_err(unproven)?;
        let line = line.ok_or_else(|| unproven(Why::Count(head.size)))?;
        let (m, stated, proof) = read_proof(&line).ok_or_else(|| unproven(Why::Form))?;
        if m != n {
            return Err(unproven(Why::Order));
        }
        if verify_inclusion(&head, n, &stated, &proof).is_err() {
            return Err(unproven(Why::Proof));
        }
        if stated != leaf {
            return Err(fault(Why::Proof));
        }
    }
    for (file, rest) in [
        (RECORDS, next_line(&mut records)),
        (PROOFS, next_line(&mut proofs)),
    ] {
        if !matches!(rest, Ok(None)) {
            return Err(of(file, None)(Why::Count(head.size)));
        }
    }
    if tree.head() == head {
        Ok(Report { head, opened })
    } else {
        Err(of(RECORDS, None)(Why::Root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClockQuality, Record, Verb};
    use ordonnans_identity::ed25519::SigningKey;
    use ordonnans_label::Level;
    use ordonnans_message::Timestamp;

    #[derive(Clone)]
    struct Export {
        checkpoint: Vec<u8>,
        records: Vec<u8>,
        proofs: Vec<u8>,
        key: VerifierKey,
    }

    fn lines(all: impl IntoIterator<Item = String>) -> Vec<u8> {
        all.into_iter()
            .flat_map(|l| format!("{l}\n").into_bytes())
            .collect()
    }

    fn export(n: u64) -> Export {
        let (mut tree, mut leaves, mut entries) = (Frontier::default(), vec![], vec![]);
        for i in 0..n {
            let detail = Detail {
                who: "ncc.node.crisis.example".parse().ok(),
                rule: Some(7),
                note: Some(format!("é \"{i}\"")),
                ..Detail::default()
            };
            let at = Timestamp::from_millis(i);
            let r = Record::new(
                i,
                at,
                ClockQuality::Unknown,
                Verb::Refused,
                Level::StgG,
                detail,
                [i as u8; 32],
            );
            leaves.push(r.public.leaf());
            tree.append(r.public.leaf());
            entries.push(Entry {
                public: r.public.encode(),
                opened: (i % 3 != 2).then(|| (r.salt, r.detail.encode())),
            });
        }
        let key = SigningKey::from_seed(&[3; 32]).expect("a seed");
        let origin = "b1.broker.crisis.example";
        let checkpoint = Checkpoint {
            origin: origin.into(),
            head: tree.head(),
        };
        Export {
            checkpoint: checkpoint.sign(&key).expect("signs").into_bytes(),
            records: lines(entries.iter().map(|e| record_line(e).expect("a record"))),
            proofs: lines(proofs(&leaves, &tree.head()).expect("fits")),
            key: VerifierKey::new(origin, key.public()).expect("a name"),
        }
    }

    impl Export {
        fn verify(&self) -> Result<Report, Fault> {
            verify(
                &self.checkpoint,
                &self.records[..],
                &self.proofs[..],
                &self.key,
            )
        }
    }

    #[test]
    fn whole_exports_verify() {
        for n in [0, 1, 2, 13] {
            let report = export(n).verify().expect("verifies");
            assert_eq!(report.head.size, n);
            assert_eq!(report.opened, n - n / 3);
        }
    }

    #[test]
    fn a_flipped_byte_is_found_wherever_it_is_and_its_record_named() {
        let e = export(7);
        for (which, length) in [
            (0, e.checkpoint.len()),
            (1, e.records.len()),
            (2, e.proofs.len()),
        ] {
            for at in 0..length {
                for bit in [0x01, 0x20, 0x80] {
                    let mut e = e.clone();
                    let file = match which {
                        0 => &mut e.checkpoint,
                        1 => &mut e.records,
                        _ => &mut e.proofs,
                    };
                    let record = file[..at].iter().filter(|b| **b == b'\n').count() as u64;
                    file[at] ^= bit;
                    let fault = e.verify().expect_err("changed");
                    let named = (which > 0).then_some(record);
                    assert_eq!(fault.record, named, "byte {at} of file {which}: {fault}");
                }
            }
        }
    }

    #[test]
    fn records_taken_out_swapped_or_repeated_are_found() {
        let e = export(7);
        let split = |bytes: &[u8]| -> Vec<Vec<u8>> {
            bytes
                .split_inclusive(|b| *b == b'\n')
                .map(<[u8]>::to_vec)
                .collect()
        };
        let (records, proofs) = (split(&e.records), split(&e.proofs));
        let tampered: [fn(&mut Vec<Vec<u8>>); 5] = [
            |l| drop(l.pop()),
            |l| drop(l.remove(3)),
            |l| l.swap(2, 4),
            |l| l.push(l[6].clone()),
            |l| l.clear(),
        ];
        for change in tampered {
            let (mut r, mut p) = (records.clone(), proofs.clone());
            change(&mut r);
            let both = |r: &[Vec<u8>], p: &[Vec<u8>]| Export {
                records: r.concat(),
                proofs: p.concat(),
                ..export(7)
            };
            assert!(both(&r, &proofs).verify().is_err());
            change(&mut p);
            assert!(both(&r, &p).verify().is_err());
        }
        let other = VerifierKey::new("b1.broker.crisis.example", [9; 32]).expect("a name");
        assert!(Export { key: other, ..e }.verify().is_err(), "another key");
    }
}
