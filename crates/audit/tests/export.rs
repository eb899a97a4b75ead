//! An export holds, and no change of it goes unseen.

#[path = "sample/exports.rs"]
mod exports;
mod sample;

use exports::{Export, export};
use ordonnans_audit::export::{self, Fault, PROOFS, RECORDS, Report, Why};
use ordonnans_audit::{InvalidCheckpoint, VerifierKey};
use sample::ORIGIN;

fn verify(e: &Export) -> Result<Report, Fault> {
    export::verify(&e.checkpoint, &e.records[..], &e.proofs[..], &e.key)
}

fn verify_excerpt(e: &Export) -> Result<Report, Fault> {
    export::verify_excerpt(&e.checkpoint, &e.records[..], &e.proofs[..], &e.key)
}

fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes
        .split_inclusive(|b| *b == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

/// The export with only these lines, in this order.
fn only(e: &Export, records: &[usize], proofs: &[usize]) -> Export {
    let pick = |bytes: &[u8], which: &[usize]| {
        let lines = split(bytes);
        which.iter().flat_map(|i| lines[*i].clone()).collect()
    };
    Export {
        records: pick(&e.records, records),
        proofs: pick(&e.proofs, proofs),
        ..e.clone()
    }
}

#[test]
fn whole_exports_verify() {
    for n in [0, 1, 2, 3, 8, 13] {
        let report = verify(&export(n)).expect("verifies");
        assert_eq!(
            (report.head.size, report.records, report.opened),
            (n, n, n - n / 3)
        );
    }
}

#[test]
fn a_flipped_byte_is_found_wherever_it_is_and_its_record_named() {
    let e = export(9);
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
                let fault = verify(&e).expect_err("changed");
                let named = (which > 0).then_some(record);
                assert_eq!(fault.record, named, "byte {at} of file {which}: {fault}");
            }
        }
    }
}

#[test]
fn a_cut_file_is_found_wherever_it_is_cut() {
    let e = export(5);
    for at in 0..e.records.len() {
        let mut cut = e.clone();
        cut.records.truncate(at);
        let line = e.records[..at].iter().filter(|b| **b == b'\n').count() as u64;
        assert_eq!(verify(&cut).expect_err("cut").record, Some(line));
    }
    for at in 0..e.proofs.len() {
        let mut cut = e.clone();
        cut.proofs.truncate(at);
        let line = e.proofs[..at].iter().filter(|b| **b == b'\n').count() as u64;
        assert_eq!(verify(&cut).expect_err("cut").record, Some(line));
    }
    for at in 0..e.checkpoint.len() {
        let mut cut = e.clone();
        cut.checkpoint.truncate(at);
        assert!(verify(&cut).is_err(), "checkpoint cut at {at}");
    }
}

#[test]
fn records_taken_out_swapped_or_repeated_are_found() {
    let e = export(7);
    let all: Vec<usize> = (0..7).collect();
    let tampered: [(&[usize], Option<u64>); 6] = [
        (&[0, 1, 2, 3, 4, 5], Some(6)),
        (&[0, 1, 2, 4, 5, 6], Some(3)),
        (&[0, 1, 4, 3, 2, 5, 6], Some(2)),
        (&[0, 1, 2, 3, 4, 5, 6, 6], None),
        (&[1, 2, 3, 4, 5, 6], Some(0)),
        (&[], Some(0)),
    ];
    for (lines, record) in tampered {
        let fault = verify(&only(&e, lines, lines)).expect_err("both files");
        assert_eq!((fault.file, fault.record), (RECORDS, record), "{lines:?}");
        assert!(verify(&only(&e, lines, &all)).is_err(), "records alone");
        assert!(verify(&only(&e, &all, lines)).is_err(), "proofs alone");
    }
}

#[test]
fn an_excerpt_is_proven_and_in_order() {
    let e = export(12);
    let some = [1, 4, 5, 11];
    let report = verify_excerpt(&only(&e, &some, &some)).expect("an excerpt");
    assert_eq!(
        (report.records, report.opened, report.head.size),
        (4, 2, 12)
    );
    assert!(verify_excerpt(&e).is_ok(), "the whole is an excerpt too");
    assert_eq!(
        verify_excerpt(&only(&e, &[], &[])).map(|r| r.records).ok(),
        Some(0)
    );
    for (records, proofs) in [
        (&[4, 1][..], &[4, 1][..]),
        (&[4, 4], &[4, 4]),
        (&[1, 4], &[1, 5]),
        (&[1, 4], &[1]),
        (&[1], &[1, 4]),
    ] {
        let bad = only(&e, records, proofs);
        assert!(verify_excerpt(&bad).is_err(), "{records:?} {proofs:?}");
    }
    let good = only(&e, &some, &some);
    for at in 0..good.records.len() {
        let mut bad = good.clone();
        bad.records[at] ^= 1;
        assert!(verify_excerpt(&bad).is_err(), "byte {at}");
    }
}

#[test]
fn another_key_another_log_another_detail() {
    let e = export(4);
    let with = |key| verify(&Export { key, ..e.clone() }).map_err(|f| f.why);
    let other = VerifierKey::new(ORIGIN, [9; 32]).expect("a name");
    assert!(matches!(
        with(other),
        Err(Why::Checkpoint(InvalidCheckpoint::Unsigned))
    ));
    let elsewhere = VerifierKey::new("b2.broker.crisis.example", [9; 32]).expect("a name");
    assert!(matches!(
        with(elsewhere),
        Err(Why::Checkpoint(InvalidCheckpoint::Origin))
    ));

    // A detail in its right form that is not the one of this record.
    let first = split(&e.records)[0].clone();
    let line = String::from_utf8(first).expect("text");
    let mut entry = export::read_record(line.trim_end()).expect("a record");
    let salt = entry.opened.as_ref().expect("opened").0;
    entry.opened = Some((salt, sample::record(1).detail.encode()));
    let forged = exports::lines([export::record_line(&entry).expect("a record")]);
    let rest = only(&e, &[1, 2, 3], &[0, 1, 2, 3]);
    let fault = verify(&Export {
        records: [forged, rest.records].concat(),
        ..rest
    })
    .expect_err("another detail");
    assert!(matches!(fault.why, Why::Detail));
    assert_eq!((fault.file, fault.record), (RECORDS, Some(0)));
}

#[test]
fn a_proof_of_another_tree_is_named_as_a_proof() {
    let (e, other) = (export(6), export(7));
    let six = only(&other, &[0, 1, 2, 3, 4, 5], &[0, 1, 2, 3, 4, 5]);
    let fault = verify(&Export {
        proofs: six.proofs,
        ..e
    })
    .expect_err("another tree");
    assert_eq!(fault.file, PROOFS);
    assert!(matches!(fault.why, Why::Proof));
}

#[test]
fn what_may_be_taken_away_is_known() {
    // Documented limit: without its detail and salt a record reads as one that was never opened to this officer.
    let e = export(3);
    let line = String::from_utf8(split(&e.records)[0].clone()).expect("text");
    let mut entry = export::read_record(line.trim_end()).expect("a record");
    entry.opened = None;
    let closed = exports::lines([export::record_line(&entry).expect("a record")]);
    let rest = only(&e, &[1, 2], &[0, 1, 2]);
    let report = verify(&Export {
        records: [closed, rest.records].concat(),
        ..rest
    });
    assert_eq!(report.map(|r| r.opened).ok(), Some(1));
}
