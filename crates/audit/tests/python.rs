//! Another implementation, in another language, checks the same exports.

#[path = "sample/exports.rs"]
mod exports;
mod sample;

use std::process::Command;

use exports::{Export, export};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/python");
const PROGRAM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/python/check_export.py"
);

/// Writes an export to a folder and runs Python with these arguments before it and after the key; the exit code and everything printed.
/// `None`, and a word about it, where there is no Python.
fn python(e: &Export, before: &[&str], after: &[&str]) -> Option<(i32, String)> {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).expect("writes");
    };
    put("checkpoint", &e.checkpoint);
    put("records.jsonl", &e.records);
    put("proofs.jsonl", &e.proofs);
    let out = Command::new("python3")
        .arg("-B")
        .args(before)
        .arg(folder.path())
        .arg(e.key.to_string())
        .args(after)
        .env("PYTHONPATH", FOLDER)
        .output();
    let Ok(out) = out else {
        println!("skipped: python3 is not here");
        return None;
    };
    let text = [out.stdout, out.stderr].concat();
    Some((
        out.status.code().expect("ended by itself"),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

fn check(e: &Export, more: &[&str]) -> Option<(i32, String)> {
    python(e, &[PROGRAM], more)
}

#[test]
fn python_agrees_on_good_exports() {
    for n in [0, 1, 3, 13] {
        let Some((code, said)) = check(&export(n), &[]) else {
            return;
        };
        assert_eq!(code, 0, "{said}");
        let report = format!("{n} records of {n}, complete; {} details opened", n - n / 3);
        assert!(said.starts_with(&report), "{said}");
        if said.contains("NOT CHECKED") {
            println!("{said}");
        }
    }
}

#[test]
fn python_names_the_record_that_was_changed() {
    let good = export(7);
    let half = good.records.len() / 2;
    // In the middle of each file, and in a field of a record that is there for people only.
    let word = b"\"verb\":\"";
    let verb = good
        .records
        .windows(word.len())
        .rposition(|w| w == word)
        .expect("there")
        + word.len();
    for (which, at) in [
        (0, good.checkpoint.len() / 2),
        (0, 3),
        (1, half),
        (1, verb),
        (2, good.proofs.len() / 2),
    ] {
        let mut bad = good.clone();
        let (file, name) = match which {
            0 => (&mut bad.checkpoint, "checkpoint"),
            1 => (&mut bad.records, "records.jsonl"),
            _ => (&mut bad.proofs, "proofs.jsonl"),
        };
        let record = file[..at].iter().filter(|b| **b == b'\n').count();
        file[at] ^= 1;
        let Some((code, said)) = check(&bad, &[]) else {
            return;
        };
        let place = match which {
            0 => format!("does not hold: {name}"),
            _ => format!("does not hold: {name}, record {record}"),
        };
        assert_eq!(code, 4, "{said}");
        assert!(said.starts_with(&place), "{said} is not about {place}");
    }
}

#[test]
fn python_misses_what_is_missing() {
    let good = export(7);
    let cut = |bytes: &[u8]| {
        let end = bytes[..bytes.len() - 1].iter().rposition(|b| *b == b'\n');
        bytes[..=end.expect("lines")].to_vec()
    };
    let less = Export {
        records: cut(&good.records),
        proofs: cut(&good.proofs),
        ..good
    };
    let Some((code, said)) = check(&less, &[]) else {
        return;
    };
    assert_eq!(code, 4, "{said}");
    assert!(
        said.contains("record 6: the signed log has 7 records"),
        "{said}"
    );
    // As an excerpt it holds, and says that it is one.
    let (code, said) = check(&less, &["--excerpt"]).expect("it ran before");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("excerpt"), "{said}");
}

/// Flips every byte of every file; prints the flips that go unseen or are told of another record.
const FLIP_ALL: &str = r#"
import pathlib, sys, check_export
folder, vkey = pathlib.Path(sys.argv[1]), sys.argv[2]
signed = "NOT CHECKED" not in check_export.check(folder, vkey)
flips = 0
for name in ["checkpoint", "records.jsonl", "proofs.jsonl"]:
    good = (folder / name).read_bytes()
    for at in range(len(good)):
        # Where no signature can be checked, one of another key would do.
        if name == "checkpoint" and not signed and at >= good.index(b"\n\n"):
            continue
        bad = bytearray(good)
        bad[at] ^= 1
        (folder / name).write_bytes(bad)
        place = name if name == "checkpoint" else f"{name}, record {good[:at].count(10)}"
        flips += 1
        try:
            check_export.check(folder, vkey)
            sys.exit(f"byte {at} of {name} goes unseen")
        except check_export.Fault as e:
            if not str(e).startswith(place):
                sys.exit(f"byte {at} of {name}: {e}")
    (folder / name).write_bytes(good)
print(flips)
"#;

#[test]
fn python_finds_every_flipped_byte() {
    let e = export(3);
    let Some((code, said)) = python(&e, &["-c", FLIP_ALL], &[]) else {
        return;
    };
    assert_eq!(code, 0, "{said}");
    let flips: usize = said.trim().parse().expect("a number");
    assert!(flips >= e.records.len() + e.proofs.len(), "{flips}");
}
