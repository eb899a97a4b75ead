//! The one form of a line, written and read.

use data_encoding::HEXLOWER;
use ordonnans_label::{Level, Name};
use ordonnans_message::{Digest, MessageId, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::{Detail, Entry, Public};

/// A line of `records.jsonl`: the order of the fields is their order in the file.
#[derive(Serialize)]
struct RecordLine<'a> {
    sequence: u64,
    time: Timestamp,
    clock: &'static str,
    verb: &'static str,
    level: Level,
    commitment: Digest,
    public: String,
    salt: Option<String>,
    detail: Option<DetailFields<'a>>,
    detail_bytes: Option<String>,
}

#[derive(Serialize)]
struct DetailFields<'a> {
    who: &'a Option<Name>,
    person: &'a Option<Name>,
    to: &'a Option<Name>,
    message: Option<MessageId>,
    digest: Option<Digest>,
    rule: Option<String>,
    register: Option<Digest>,
    register_version: Option<u64>,
    policy: Option<Digest>,
    copy: Option<u32>,
    note: Option<&'a str>,
}

/// A line of `proofs.jsonl`.
#[derive(Serialize)]
struct ProofLine<'a> {
    sequence: u64,
    leaf: &'a Digest,
    proof: &'a [Digest],
}

fn readable(d: &Detail) -> DetailFields<'_> {
    DetailFields {
        who: &d.who,
        person: &d.person,
        to: &d.to,
        message: d.message,
        digest: d.digest,
        rule: d.rule.map(|n| format!("POL-{n:02}")),
        register: d.register.map(|r| r.digest),
        register_version: d.register.map(|r| r.version),
        policy: d.policy,
        copy: d.copy,
        note: d.note.as_deref(),
    }
}

/// Gives the fields of an entry to `to`. `None` where its bytes are no record.
fn fields<T>(entry: &Entry, to: impl FnOnce(&RecordLine<'_>) -> Option<T>) -> Option<T> {
    let p = Public::decode(&entry.public).ok()?;
    let opened = match &entry.opened {
        None => None,
        Some((salt, bytes)) => Some((salt, bytes, Detail::decode(bytes).ok()?)),
    };
    to(&RecordLine {
        sequence: p.sequence,
        time: p.time,
        clock: p.clock.as_str(),
        verb: p.verb.as_str(),
        level: p.level,
        commitment: p.commitment,
        public: HEXLOWER.encode(&entry.public),
        salt: opened.as_ref().map(|(salt, ..)| HEXLOWER.encode(&salt[..])),
        detail: opened.as_ref().map(|(.., d)| readable(d)),
        detail_bytes: opened.as_ref().map(|(_, b, _)| HEXLOWER.encode(b)),
    })
}

/// The readable form of an entry, and the bytes it was read from. `None` where these are no record.
#[must_use]
pub fn record(entry: &Entry) -> Option<Value> {
    fields(entry, |line| serde_json::to_value(line).ok())
}

/// The line of a record, without its end. `None` where the entry is no record.
#[must_use]
pub fn record_line(entry: &Entry) -> Option<String> {
    fields(entry, |line| serde_json::to_string(line).ok())
}

/// The line of a proof, without its end.
#[must_use]
pub fn proof_line(sequence: u64, leaf: &Digest, proof: &[Digest]) -> String {
    let line = ProofLine {
        sequence,
        leaf,
        proof,
    };
    serde_json::to_string(&line).unwrap_or_else(|_| unreachable!("digests have a JSON form"))
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

pub(super) fn read_proof(line: &str) -> Option<(u64, Digest, Vec<Digest>)> {
    let v: Value = serde_json::from_str(line).ok()?;
    let n = v["sequence"].as_u64()?;
    let leaf = v["leaf"].as_str()?.parse().ok()?;
    let proof = v["proof"].as_array()?.iter();
    let proof: Vec<Digest> = proof
        .map(|h| h.as_str()?.parse().ok())
        .collect::<Option<_>>()?;
    (proof_line(n, &leaf, &proof) == line).then_some((n, leaf, proof))
}
