//! What sealing costs by the number of those it is for, beside the bare AEAD in the same run.

use std::io::Cursor;
use std::time::Instant;

use ordonnans_label::Level;
use ordonnans_message::sha256;
use ordonnans_seal::{
    RetentionKey, SeededEntropy, open, open_attachment, seal_attachment, sealed_length,
};
use ordonnans_tests::house::{House, many, night};

use crate::{draft, each};

/// Bytes of the attachment.
const LARGE: usize = 10 << 20;

fn mib_per_s(bytes: usize, us: f64) -> f64 {
    bytes as f64 / (1 << 20) as f64 / (us / 1e6)
}

/// The bare AES-256-GCM over so many bytes, with the copy of the text that sealing makes too: microseconds.
fn bare(bytes: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let key = RetentionKey::create(&folder.path().join("key"), &mut SeededEntropy::new(1))
        .unwrap_or_else(|e| panic!("{e}"));
    let (commitment, plain) = (sha256(&[b"c"]), vec![7; bytes]);
    let n = if bytes > 1 << 20 { 4 } else { 500 };
    each(n, || drop(key.seal(&commitment, b"", &plain)))
}

pub(crate) fn run() {
    let house = House::of(many(31));
    let mut entropy = SeededEntropy::new(1);
    println!(
        "{:<44} {:>10} {:>10} {:>10}",
        "us (seal has signature and check)", "seal", "open", "bare"
    );
    // From Stg.C up each copy is sealed apart, and all together have 160 KiB: 64 KiB goes to few.
    for (level, body, to) in [
        (Level::Ongerubriceerd, 1024, 1),
        (Level::Ongerubriceerd, 1024, 10),
        (Level::Ongerubriceerd, 1024, 30),
        (Level::Ongerubriceerd, 65_000, 1),
        (Level::Ongerubriceerd, 65_000, 10),
        (Level::Ongerubriceerd, 65_000, 30),
        (Level::StgC, 1024, 1),
        (Level::StgC, 1024, 10),
        (Level::StgC, 1024, 30),
        (Level::StgC, 65_000, 1),
    ] {
        let mut d = draft(0, (1..=to).collect(), body);
        d.level = level;
        let sealing = each(20, || drop(house.seal(&d, night(), &mut entropy)));
        let sealed = house.seal(&d, night(), &mut entropy);
        let node = &house.nodes[1];
        let keys = std::slice::from_ref(&node.secret);
        let opening = each(100, || {
            open(&sealed, keys, &node.name).unwrap_or_else(|e| panic!("{e}"));
        });
        let what = format!("{level}, {body} bytes for {to}");
        println!(
            "{what:<44} {sealing:>10.0} {opening:>10.0} {:>10.0}",
            bare(body)
        );
    }
    // Sealed once, for however many: their copies have its key.
    let plain = vec![7u8; LARGE];
    let mut sealed = Vec::with_capacity(LARGE + LARGE / 64);
    let aead = bare(LARGE);
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..5 {
        sealed.clear();
        let began = Instant::now();
        let made = seal_attachment(&mut Cursor::new(&plain), &mut sealed, &mut entropy)
            .unwrap_or_else(|e| panic!("{e}"));
        best.0 = best.0.min(began.elapsed().as_secs_f64() * 1e6);
        let mut out = Vec::with_capacity(LARGE);
        let began = Instant::now();
        open_attachment(&mut Cursor::new(&sealed), &mut out, &made.key)
            .unwrap_or_else(|e| panic!("{e}"));
        best.1 = best.1.min(began.elapsed().as_secs_f64() * 1e6);
        assert_eq!(sealed.len() as u64, sealed_length(LARGE as u64));
    }
    let rate = |us| {
        format!(
            "{:.0} MiB/s ({:.0} %)",
            mib_per_s(LARGE, us),
            100.0 * aead / us
        )
    };
    println!("attachment of 10 MiB: bare {}", rate(aead));
    println!("attachment of 10 MiB: seal, with SHA-256 {}", rate(best.0));
    println!("attachment of 10 MiB: open {}", rate(best.1));
    let digest = each(4, || {
        std::hint::black_box(sha256(&[&plain]));
    });
    println!("attachment of 10 MiB: SHA-256 alone {}", rate(digest));
}
