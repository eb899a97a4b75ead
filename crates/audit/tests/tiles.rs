//! Tiles: the layout of published sizes, every flipped byte, proofs of one record, and the same checks in another language.

mod sample;

use std::collections::BTreeMap;
use std::io;
use std::process::Command;

use ordonnans_audit::merkle::{Frontier, inclusion};
use ordonnans_audit::{Checkpoint, Entry, Quorum, VerifierKey, proof, tiles};
use ordonnans_identity::ed25519::SigningKey;
use ordonnans_message::Digest;
use sample::{ORIGIN, record};

type Files = BTreeMap<String, Vec<u8>>;

fn key() -> SigningKey {
    SigningKey::from_seed(&[3; 32]).expect("a seed")
}

fn verifier() -> VerifierKey {
    VerifierKey::new(ORIGIN, key().public()).expect("a name")
}

/// A log of `n` records as files, its hashes and its checkpoint; the detail of every third from 2 on is closed.
fn export(n: u64) -> (Files, Vec<Digest>, String) {
    let (mut files, mut tree, mut kept) = (Files::new(), Frontier::default(), vec![]);
    let mut put = |name: &str, bytes: &[u8]| {
        files.insert(name.into(), bytes.into());
        Ok(())
    };
    let mut writer = tiles::Writer::default();
    for i in 0..n {
        let r = record(i);
        kept.extend(tree.append(r.public.leaf()));
        let mut entry = Entry::from(&r);
        if i % 3 == 2 {
            entry.opened = None;
        }
        writer.push(&entry, &mut put).expect("puts");
    }
    let head = writer.finish(&mut put).expect("puts");
    assert_eq!(head, tree.head());
    let origin = ORIGIN.into();
    let text = Checkpoint { origin, head }.sign(&key()).expect("signs");
    files.insert(tiles::CHECKPOINT.into(), text.clone().into_bytes());
    (files, kept, text)
}

fn verify(files: &Files) -> Result<tiles::Report, tiles::Fault> {
    let read = |name: &str, most: u64| {
        let bytes = files.get(name).cloned();
        let bytes = bytes.filter(|b| b.len() as u64 <= most);
        bytes.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    tiles::verify(&read, &Quorum::of_log(verifier()), &mut |_, _| ())
}

#[test]
fn the_layout_is_that_of_published_sizes() {
    let count = |files: &Files, folder: &str, full: bool| {
        let of = |n: &&String| n.starts_with(folder) && n.contains(".p/") != full;
        files.keys().filter(of).count()
    };
    // C2SP tlog-tiles: 256 leaves are one full tile and a partial one above; 70,000 are 273 full ones, 112 left, 17 above those, and one.
    let (files, ..) = export(256);
    assert!(files.contains_key("tile/0/000") && files.contains_key("tile/1/000.p/1"));
    assert_eq!(verify(&files).expect("holds").head.size, 256);
    let (files, ..) = export(70_000);
    assert_eq!(
        (
            count(&files, "tile/0/", true),
            count(&files, "tile/1/", true)
        ),
        (273, 1)
    );
    for name in [
        "tile/0/273.p/112",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
        "tile/entries/273.p/112",
    ] {
        assert!(files.contains_key(name), "{name}");
    }
    assert_eq!(files["tile/0/100"].len(), 8_192);
    let report = verify(&files).expect("holds");
    assert_eq!(
        (report.head.size, report.opened),
        (70_000, 70_000 - 70_000 / 3)
    );
}

#[test]
fn no_byte_can_change_and_no_file_be_missing() {
    let (good, ..) = export(260);
    assert!(verify(&good).is_ok());
    for (name, bytes) in &good {
        let mut less = good.clone();
        less.remove(name);
        assert!(verify(&less).is_err(), "{name} is missing");
        // Every byte of small files; of large ones some.
        for at in (0..bytes.len()).step_by(bytes.len().div_ceil(300)) {
            let mut other = good.clone();
            other.get_mut(name).expect("there")[at] ^= 1;
            assert!(verify(&other).is_err(), "byte {at} of {name}");
        }
    }
    for n in [0, 1, 255, 257, 513] {
        assert_eq!(verify(&export(n).0).expect("holds").head.size, n);
    }
}

#[test]
fn one_record_is_proven_by_one_file() {
    let (_, kept, checkpoint) = export(21);
    let hashes = |at: u64| kept.get(usize::try_from(at).ok()?).copied();
    let quorum = Quorum::of_log(verifier());
    for n in 0..21 {
        let public = record(n).public.encode();
        let path = inclusion(&hashes, n, 21).expect("there");
        let text = proof::write(&public, n, &path, &checkpoint);
        let proven = proof::verify(&text, &quorum).expect("holds");
        assert_eq!((proven.public, proven.head.size), (record(n).public, 21));
        let body = text.find("\n\n").expect("a checkpoint");
        for at in 0..body {
            let mut other = text.clone().into_bytes();
            other[at] ^= 1;
            if let Ok(other) = String::from_utf8(other) {
                assert!(
                    proof::verify(&other, &quorum).is_err(),
                    "byte {at} of the proof of {n}"
                );
            }
        }
    }
}

#[test]
fn python_says_the_same_of_tiles() {
    let program = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/python/check_export.py"
    );
    let python = |files: &Files| {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, bytes) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
            std::fs::write(path, bytes).expect("writes");
        }
        let key = verifier().to_string();
        let out = Command::new("python3")
            .arg("-B")
            .arg(program)
            .arg(folder.path())
            .arg(key)
            .output();
        out.ok().map(|o| {
            (
                o.status.code(),
                String::from_utf8_lossy(&[o.stdout, o.stderr].concat()).into_owned(),
            )
        })
    };
    let (good, ..) = export(600);
    let Some((code, said)) = python(&good) else {
        println!("skipped: python3 is not here");
        return;
    };
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.starts_with("600 records of 600, complete; 400 details opened"),
        "{said}"
    );
    for name in [
        "tile/entries/001",
        "details/001",
        "tile/0/001",
        "tile/1/000.p/2",
        "tile/entries/002.p/88",
    ] {
        let mut bad = good.clone();
        let file = bad.get_mut(name).expect("there");
        let middle = file.len() / 2;
        file[middle] ^= 1;
        let (code, said) = python(&bad).expect("it ran before");
        assert_eq!(code, Some(4), "{name}: {said}");
    }
}
