//! What sealing costs by the number of those it is for, beside the bare AEAD in the same run.

use std::fs::File;
use std::io::{Read, Write};
use std::time::Instant;

use ordonnans_label::Level;
use ordonnans_message::{Digest, blake3, sha256};
use ordonnans_seal::{
    AttachmentOpener, AttachmentSealer, RetentionKey, SeededEntropy, open, open_attachment,
    seal_attachment, sealed_length,
};
use ordonnans_tests::house::{House, many, night};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::{draft, each, percentile};

/// Bytes of the attachment.
const LARGE: usize = 10 << 20;
/// Times each is taken.
const ROUNDS: usize = 31;

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
    large();
}

/// One attachment of 10 MiB: sealed once, for however many, as their copies have its key.
fn large() {
    let mut entropy = SeededEntropy::new(1);
    let plain = vec![7u8; LARGE];
    let mut bare = None;
    let mut says = |what: &str, us: f64| {
        let bare = *bare.get_or_insert(us);
        let (rate, share) = (mib_per_s(LARGE, us), 100.0 * bare / us);
        println!("{what:<44} {rate:>10.0} MiB/s {share:>5.0} %");
    };
    println!("attachment of 10 MiB, medians of {ROUNDS} one after the other");
    let aead = bare_aead();
    // Every buffer has been written before: what the first touch of memory costs is not what is asked.
    let mut second = plain.clone();
    says(
        "bare AES-256-GCM where it lies",
        median(|| aead(&mut second)),
    );
    let copied = median(|| {
        second.copy_from_slice(&plain);
        aead(&mut second);
    });
    says("the same into a second buffer", copied);
    let mut sealed = vec![7; sealed_length(LARGE as u64) as usize];
    let mut seal = |sealed: &mut [u8]| {
        let sealer = AttachmentSealer::new(&mut entropy);
        let made = sealer.finish(sealed).unwrap_or_else(|e| panic!("{e}"));
        made.key
    };
    says(
        "seal where it lies, with its digest",
        median(|| _ = seal(&mut sealed)),
    );
    sealed.fill(7);
    let key = seal(&mut sealed);
    let mut open = || {
        let opener = AttachmentOpener::new(&key);
        let done = opener.finish(&sealed, &mut second);
        done.unwrap_or_else(|e| panic!("{e}"));
    };
    says("open, from memory to memory", median(&mut open));
    assert!(second == plain);
    let [copied, sealed, opened] = files(&plain, &mut entropy).unwrap_or_else(|e| panic!("{e}"));
    says("bare AES-256-GCM, from file to file", copied);
    says("seal, from file to file", sealed);
    says("open, from file to file", opened);
    let hashed = |hash: &dyn Fn() -> Digest| median(|| _ = std::hint::black_box(hash()));
    says("SHA-256 alone, on one core", hashed(&|| sha256(&[&plain])));
    says("BLAKE3 alone, on one core", hashed(&|| blake3(&plain)));
}

/// The middle of what it takes, in microseconds, without a pause between.
fn median(mut work: impl FnMut()) -> f64 {
    let once = |_| {
        let began = Instant::now();
        work();
        began.elapsed().as_secs_f64() * 1e6
    };
    let mut times: Vec<f64> = (0..ROUNDS).map(once).collect();
    times.sort_by(f64::total_cmp);
    percentile(&times, 50)
}

/// AES-256-GCM as it is, over bytes where they lie.
fn bare_aead() -> impl Fn(&mut [u8]) {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap_or_else(|e| panic!("{e}"));
    let key = LessSafeKey::new(key);
    move |bytes| {
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), bytes);
        std::hint::black_box(tag.is_ok());
    }
}

/// From file to file, in the page cache: with the bare AEAD between, sealed, and opened again.
fn files(plain: &[u8], entropy: &mut SeededEntropy) -> std::io::Result<[f64; 3]> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let ends = |from: &str, to: &str| {
        let both = File::open(at(from)).and_then(|from| Ok((from, File::create(at(to))?)));
        both.unwrap_or_else(|e| panic!("{e}"))
    };
    std::fs::write(at("plain"), plain)?;
    let aead = bare_aead();
    let mut buffer = vec![0; 64 * 1024];
    let copied = median(|| {
        let (mut from, mut to) = ends("plain", "copy");
        loop {
            let n = from.read(&mut buffer).unwrap_or_else(|e| panic!("{e}"));
            aead(&mut buffer[..n]);
            to.write_all(&buffer[..n]).unwrap_or_else(|e| panic!("{e}"));
            if n == 0 {
                break;
            }
        }
    });
    let mut key = [0; 32];
    let sealed = median(|| {
        let (mut from, mut to) = ends("plain", "sealed");
        let made = seal_attachment(&mut from, &mut to, entropy);
        key = made.unwrap_or_else(|e| panic!("{e}")).key;
    });
    let opened = median(|| {
        let (mut from, mut to) = ends("sealed", "opened");
        let done = open_attachment(&mut from, &mut to, &key);
        done.unwrap_or_else(|e| panic!("{e}"));
    });
    Ok([copied, sealed, opened])
}
