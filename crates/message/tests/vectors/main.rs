//! The test vectors in `docs/vectors`: good encodings and what they mean, bad ones and the name of what is wrong with them.
//!
//! Each run reads the files and holds them against the decoders, and against what is made here. After a deliberate change of a form,
//! `ORDONNANS_WRITE_VECTORS=1 cargo test -p ordonnans-message --test vectors` writes them anew. Signatures and certificates in them
//! are dummy bytes: they show the form, not the cryptography.

mod frames;
mod labels;
mod passing;
mod plain;
mod signed;

use std::collections::BTreeMap;
use std::process::Command;

use data_encoding::HEXLOWER;
use ordonnans_message::DecodeError;
use serde::{Deserialize, Serialize};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/vectors");
const PYTHON: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/python/check_vectors.py"
);
const DUMMY: &str =
    "certificates, signatures, keys and sealed bytes are dummies that show the form";

/// What a decoder gives: what follows from the bytes, by name, and the bytes written again.
type Decoded = Result<(Facts, Vec<u8>), DecodeError>;
/// What follows from good bytes and another decoder can compare.
type Facts = BTreeMap<String, String>;

/// One file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Set {
    /// What the bytes are, as `docs/wire.cddl` calls it.
    rule: String,
    note: String,
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

/// A set, as it is made: good and bad bytes with a name each, and the decoder they are for.
struct Source {
    file: &'static str,
    rule: &'static str,
    good: Vec<(String, Vec<u8>)>,
    bad: Vec<(&'static str, Vec<u8>)>,
    decode: fn(&[u8]) -> Decoded,
}

fn facts<const N: usize>(all: [(&str, String); N]) -> Facts {
    all.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

fn sources() -> Vec<Source> {
    vec![
        labels::source(),
        frames::source(),
        signed::envelopes(),
        signed::receipts(),
        signed::key_packages(),
        signed::approvals(),
        signed::acts(),
        passing::seconds(),
        signed::declarations(),
        signed::orders(),
        plain::source(),
    ]
}

impl Source {
    fn make(&self) -> Set {
        let good = |(name, bytes): &(String, Vec<u8>)| {
            let (facts, _) = (self.decode)(bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            Good {
                name: name.clone(),
                facts,
                hex: HEXLOWER.encode(bytes),
            }
        };
        let bad = |(name, bytes): &(&'static str, Vec<u8>)| {
            let error = (self.decode)(bytes).expect_err(name).name();
            Bad {
                name: (*name).into(),
                error: error.into(),
                hex: HEXLOWER.encode(bytes),
            }
        };
        Set {
            rule: self.rule.into(),
            note: DUMMY.into(),
            good: self.good.iter().map(good).collect(),
            bad: self.bad.iter().map(bad).collect(),
        }
    }

    fn path(&self) -> String {
        format!("{FOLDER}/{}.json", self.file)
    }

    fn read(&self) -> Set {
        let text = std::fs::read_to_string(self.path()).expect("the vectors are there");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", self.path()))
    }
}

#[test]
fn the_files_hold() {
    for source in sources() {
        if std::env::var_os("ORDONNANS_WRITE_VECTORS").is_some() {
            let text = serde_json::to_string_pretty(&source.make()).expect("JSON");
            std::fs::write(source.path(), text + "\n").expect("writes");
        }
        let set = source.read();
        let unhex = |hex: &str| HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal");
        for good in &set.good {
            let bytes = unhex(&good.hex);
            let (facts, again) = (source.decode)(&bytes)
                .unwrap_or_else(|e| panic!("{}, {}: {e}", source.file, good.name));
            assert_eq!(again, bytes, "{}, {}", source.file, good.name);
            assert_eq!(facts, good.facts, "{}, {}", source.file, good.name);
        }
        for bad in &set.bad {
            let error = (source.decode)(&unhex(&bad.hex))
                .map(drop)
                .map_err(|e| e.name());
            let place = format!("{}, {}", source.file, bad.name);
            assert_eq!(error, Err(bad.error.as_str()), "{place}");
        }
        assert!(!set.good.is_empty() && !set.bad.is_empty());
    }
}

#[test]
fn the_files_are_what_this_version_makes() {
    for source in sources() {
        assert!(
            source.read() == source.make(),
            "docs/vectors/{}.json is of another version; a deliberate change is written with ORDONNANS_WRITE_VECTORS=1",
            source.file
        );
    }
}

#[test]
fn every_error_a_decoder_gives_has_a_vector() {
    let seen: std::collections::BTreeSet<String> = sources()
        .iter()
        .flat_map(|s| s.make().bad)
        .map(|b| b.error)
        .collect();
    for error in [
        DecodeError::Truncated,
        DecodeError::Trailing,
        DecodeError::Form(""),
        DecodeError::Limit(""),
        DecodeError::NotDeterministic,
        DecodeError::Unknown(""),
        DecodeError::Unsupported(""),
    ] {
        assert!(seen.contains(error.name()), "{}", error.name());
    }
}

#[test]
fn python_agrees() {
    let out = Command::new("python3")
        .arg("-B")
        .arg(PYTHON)
        .arg(FOLDER)
        .output();
    let Ok(out) = out else {
        println!("skipped: python3 is not here");
        return;
    };
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(out.status.success(), "{said}");
    println!("{said}");
}
