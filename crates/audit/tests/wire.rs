//! The test vectors of the log in `docs/vectors`: records, details and checkpoints, good and bad.
//!
//! Each run reads the files and holds them against the decoders, and against what is made here. After a deliberate change of a form,
//! `ORDONNANS_WRITE_VECTORS=1 cargo test -p ordonnans-audit --test wire` writes them anew. The key of the checkpoints is a test's own; their
//! signatures are real.

mod sample;

use std::collections::BTreeMap;

use data_encoding::{BASE64, HEXLOWER};
use ordonnans_audit::merkle::Frontier;
use ordonnans_audit::{
    Checkpoint, Detail, InvalidCheckpoint, MAX_NOTE_CHARS, Public, TreeHead, VerifierKey,
};
use ordonnans_identity::ed25519::SigningKey;
use ordonnans_message::cbor::Writer;
use ordonnans_message::{DecodeError, sha256};
use serde::{Deserialize, Serialize};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/vectors");

type Facts = BTreeMap<String, String>;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Set {
    /// What the bytes are, as `docs/wire.cddl` calls it.
    rule: String,
    good: Vec<Good>,
    bad: Vec<Bad>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Good {
    name: String,
    facts: Facts,
    hex: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Bad {
    name: String,
    /// [`DecodeError::name`].
    error: String,
    hex: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Checkpoints {
    rule: String,
    /// The key they are checked with.
    vkey: String,
    good: Vec<GoodText>,
    bad: Vec<BadText>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct GoodText {
    name: String,
    facts: Facts,
    text: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct BadText {
    name: String,
    /// The variant of [`InvalidCheckpoint`].
    error: String,
    text: String,
}

fn facts<const N: usize>(all: [(&str, Option<String>); N]) -> Facts {
    all.into_iter()
        .filter_map(|(k, v)| Some((k.to_owned(), v?)))
        .collect()
}

fn read_record(bytes: &[u8]) -> Result<(Facts, Vec<u8>), DecodeError> {
    let p = Public::decode(bytes)?;
    let all = facts([
        ("sequence", Some(p.sequence.to_string())),
        ("time", Some(p.time.to_string())),
        ("clock", Some(p.clock.as_str().into())),
        ("verb", Some(p.verb.as_str().into())),
        ("level", Some(p.level.to_string())),
        ("commitment", Some(p.commitment.to_string())),
        ("leaf", Some(p.leaf().to_string())),
    ]);
    Ok((all, p.encode()))
}

/// The salt of every detail in the vectors.
const SALT: [u8; 32] = [0x5a; 32];

fn read_detail(bytes: &[u8]) -> Result<(Facts, Vec<u8>), DecodeError> {
    let d = Detail::decode(bytes)?;
    let all = facts([
        ("who", d.who.as_ref().map(ToString::to_string)),
        ("person", d.person.as_ref().map(ToString::to_string)),
        ("to", d.to.as_ref().map(ToString::to_string)),
        ("message", d.message.map(|id| id.to_string())),
        ("digest", d.digest.map(|d| d.to_string())),
        ("rule", d.rule.map(|n| format!("POL-{n:02}"))),
        ("register", d.register.map(|r| r.digest.to_string())),
        (
            "register_version",
            d.register.map(|r| r.version.to_string()),
        ),
        ("policy", d.policy.map(|d| d.to_string())),
        ("copy", d.copy.map(|n| n.to_string())),
        ("note", d.note.clone()),
        ("salt", Some(HEXLOWER.encode(&SALT))),
        ("commitment", Some(d.commitment(&SALT).to_string())),
    ]);
    Ok((all, d.encode()))
}

type Read = fn(&[u8]) -> Result<(Facts, Vec<u8>), DecodeError>;

fn set(rule: &str, good: Vec<(&str, Vec<u8>)>, bad: Vec<(&str, Vec<u8>)>, read: Read) -> Set {
    let of_good = |(name, bytes): (&str, Vec<u8>)| Good {
        name: name.into(),
        facts: read(&bytes).expect(name).0,
        hex: HEXLOWER.encode(&bytes),
    };
    let of_bad = |(name, bytes): (&str, Vec<u8>)| Bad {
        name: name.into(),
        error: read(&bytes).expect_err(name).name().into(),
        hex: HEXLOWER.encode(&bytes),
    };
    Set {
        rule: rule.into(),
        good: good.into_iter().map(of_good).collect(),
        bad: bad.into_iter().map(of_bad).collect(),
    }
}

fn records() -> Set {
    let public = |i| sample::record(i).public;
    let raw = |time: u64, clock: u64, verb: u64, level: u64, commitment: &[u8]| {
        let mut w = Writer::default();
        w.array(6).uint(7).uint(time).uint(clock).uint(verb);
        w.uint(level).bytes(commitment);
        w.into_bytes()
    };
    let whole = public(1).encode();
    let good = vec![
        ("the first", public(0).encode()),
        ("a later one", public(25).encode()),
        (
            "the last there can be",
            Public {
                sequence: u64::MAX,
                ..public(3)
            }
            .encode(),
        ),
    ];
    let bad = vec![
        ("nothing", vec![]),
        ("cut", whole[..whole.len() - 1].to_vec()),
        ("a byte over", [&whole[..], &[0]].concat()),
        (
            "a number in two bytes",
            [&[0x86, 0x18], &whole[1..]].concat(),
        ),
        ("clock 3", raw(0, 3, 1, 0, &[0; 32])),
        ("verb 0", raw(0, 0, 0, 0, &[0; 32])),
        ("verb 41", raw(0, 0, 41, 0, &[0; 32])),
        ("level 5", raw(0, 0, 1, 5, &[0; 32])),
        ("a commitment of 31 bytes", raw(0, 0, 1, 0, &[0; 31])),
        ("a commitment of 33 bytes", raw(0, 0, 1, 0, &[0; 33])),
        (
            "a time after the year 9999",
            raw(253_402_300_800_000, 0, 1, 0, &[0; 32]),
        ),
    ];
    set("record", good, bad, read_record)
}

fn details() -> Set {
    let whole = sample::record(0).detail;
    let noted = |note: String| Detail {
        note: Some(note),
        ..Detail::default()
    };
    // Null eight times and one item.
    let one = |at: usize, write: &dyn Fn(&mut Writer)| {
        let mut w = Writer::default();
        w.array(9);
        for i in 0..9 {
            if i == at {
                write(&mut w);
            } else {
                w.option(None::<u8>, |_, _| ());
            }
        }
        w.into_bytes()
    };
    let good = vec![
        ("everything a detail can have", whole.encode()),
        ("nothing that must be there", Detail::default().encode()),
        (
            "the longest note",
            noted("é".repeat(MAX_NOTE_CHARS)).encode(),
        ),
    ];
    let bytes = whole.encode();
    let bad = vec![
        ("cut", bytes[..bytes.len() - 1].to_vec()),
        ("a byte over", [&bytes[..], &[0]].concat()),
        ("eight items", [&[0x88][..], &[0xf6; 8]].concat()),
        (
            "a note of 201 characters",
            noted("x".repeat(MAX_NOTE_CHARS + 1)).encode(),
        ),
        (
            "a name that is none",
            one(0, &|w| {
                w.text("ncc");
            }),
        ),
        (
            "a message id that is none",
            one(3, &|w| {
                w.bytes(&[0; 16]);
            }),
        ),
        (
            "a digest of 31 bytes",
            one(4, &|w| {
                w.bytes(&[0; 31]);
            }),
        ),
        (
            "rule 65,536",
            one(5, &|w| {
                w.uint(65_536);
            }),
        ),
        (
            "a copy below zero",
            one(7, &|w| {
                w.int(-1);
            }),
        ),
    ];
    set("detail", good, bad, read_detail)
}

fn checkpoints() -> Checkpoints {
    let key = SigningKey::from_seed(&[3; 32]).expect("a seed");
    let vkey = VerifierKey::new(sample::ORIGIN, key.public()).expect("a name");
    let of = |origin: &str, n: u64, key: &SigningKey| {
        let mut tree = Frontier::default();
        (0..n).for_each(|i| drop(tree.append(sample::record(i).public.leaf())));
        let c = Checkpoint {
            origin: origin.into(),
            head: tree.head(),
        };
        c.sign(key).expect("signs")
    };
    let ours = |n| of(sample::ORIGIN, n, &key);
    let other = SigningKey::from_seed(&[4; 32]).expect("a seed");
    let witness = BASE64.encode(&[9; 76]);
    let three = ours(3);
    let good = [
        ("an empty log", ours(0)),
        ("three records", three.clone()),
        ("seven records", ours(7)),
        (
            "a witness that is not known here",
            format!("{three}\u{2014} w1.broker.crisis.example {witness}\n"),
        ),
    ];
    let bad = [
        ("nothing", String::new()),
        (
            "no signature",
            three
                .split_inclusive("\n\n")
                .next()
                .unwrap_or_default()
                .into(),
        ),
        ("without its last line feed", three.trim_end().into()),
        ("another size", three.replacen("\n3\n", "\n4\n", 1)),
        (
            "a size with a zero before it",
            three.replacen("\n3\n", "\n03\n", 1),
        ),
        ("an extension line", three.replacen("\n\n", "\nx\n\n", 1)),
        ("carriage returns", three.replace('\n', "\r\n")),
        ("another log", of("b2.broker.crisis.example", 3, &key)),
        ("another key", of(sample::ORIGIN, 3, &other)),
        (
            "the signature of another checkpoint",
            three
                .split_inclusive("\n\n")
                .take(1)
                .chain(ours(7).split_inclusive("\n\n").skip(1))
                .collect(),
        ),
    ];
    let verify = |text: &str| Checkpoint::verify(text, &vkey);
    Checkpoints {
        rule: "checkpoint".into(),
        good: good
            .into_iter()
            .map(|(name, text)| GoodText {
                name: name.into(),
                facts: head_facts(verify(&text).expect(name).head),
                text,
            })
            .collect(),
        bad: bad
            .into_iter()
            .map(|(name, text)| BadText {
                name: name.into(),
                error: variant(verify(&text).expect_err(name)).into(),
                text,
            })
            .collect(),
        vkey: vkey.to_string(),
    }
}

fn head_facts(head: TreeHead) -> Facts {
    facts([
        ("size", Some(head.size.to_string())),
        ("root", Some(head.root.to_string())),
    ])
}

fn variant(e: InvalidCheckpoint) -> &'static str {
    match e {
        InvalidCheckpoint::Form => "Form",
        InvalidCheckpoint::Unsigned => "Unsigned",
        InvalidCheckpoint::Signature => "Signature",
        InvalidCheckpoint::Origin => "Origin",
    }
}

/// The file as it stands; written first where that was asked for.
fn file<T: Serialize + for<'a> Deserialize<'a>>(name: &str, made: &T) -> T {
    let path = format!("{FOLDER}/{name}.json");
    if std::env::var_os("ORDONNANS_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(made).expect("JSON");
        std::fs::write(&path, text + "\n").expect("writes");
    }
    let text = std::fs::read_to_string(&path).expect("the vectors are there");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn records_and_details() {
    let made = vec![records(), details()];
    let stand = file("record", &made);
    for (set, read) in stand.iter().zip([read_record as Read, read_detail]) {
        let unhex = |hex: &str| HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal");
        for good in &set.good {
            let bytes = unhex(&good.hex);
            let (facts, again) = read(&bytes).unwrap_or_else(|e| panic!("{}: {e}", good.name));
            assert_eq!((&facts, again), (&good.facts, bytes), "{}", good.name);
        }
        for bad in &set.bad {
            let error = read(&unhex(&bad.hex)).map(drop).map_err(|e| e.name());
            assert_eq!(error, Err(bad.error.as_str()), "{}", bad.name);
        }
    }
    assert_eq!(
        stand, made,
        "docs/vectors/record.json is of another version"
    );
}

#[test]
fn checkpoints_hold() {
    let made = checkpoints();
    let stand = file("checkpoint", &made);
    let key: VerifierKey = stand.vkey.parse().expect("a key");
    for good in &stand.good {
        let c = Checkpoint::verify(&good.text, &key).expect(&good.name);
        assert_eq!(head_facts(c.head), good.facts, "{}", good.name);
    }
    for bad in &stand.bad {
        let error = Checkpoint::verify(&bad.text, &key)
            .map(drop)
            .map_err(variant);
        assert_eq!(error, Err(bad.error.as_str()), "{}", bad.name);
    }
    assert_eq!(
        stand, made,
        "docs/vectors/checkpoint.json is of another version"
    );
    // The empty log is the root of nothing, whoever counts.
    assert_eq!(stand.good[0].facts["root"], sha256(&[]).to_string());
}
