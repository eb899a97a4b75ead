//! What a node keeps: over restarts, over revocations, and for whom.

use std::io::Write;
use std::time::Instant;

use ordonnans_identity::Signer;
use ordonnans_label::Kind;
use ordonnans_message::{Frame, ReceiptKind};
use ordonnans_seal::sign_statement;

use crate::failure::Exit;
use crate::house::{House, accepted, begun, heard, know, published, receipts, sealed};

#[test]
fn what_was_owed_and_unsent_survives_a_restart() {
    let mut house = House::new();
    let (a, b) = (
        house.issue("ncc", Kind::Node),
        house.issue("locc", Kind::Node),
    );
    let (da, db) = (house.open(&a, "ncc"), house.open(&b, "locc"));
    know(&da, &[&db]);
    let (id, envelope) = sealed(&da, "locc", b"x");
    let mut machine = begun(&db, Instant::now());
    let deliver = Frame::Deliver {
        envelope: envelope.clone(),
    };
    machine.take(deliver, Instant::now()).expect("taken");
    let key = db.package().expect("a key");
    drop((machine, da, db));
    let (da, db) = (house.open(&a, "ncc"), house.open(&b, "locc"));
    let mut machine = begun(&da, Instant::now());
    assert_eq!(published(&mut machine), [envelope]);
    let mut machine = begun(&db, Instant::now());
    let owed = receipts(&mut machine);
    assert_eq!(owed.len(), 1);
    assert_eq!(owed[0].said().message, id);
    assert_eq!(db.package().expect("a key"), key, "the same statement");
    house.later(40 * 24 * 60 * 60 * 1000);
    assert_ne!(db.package().expect("a key"), key, "renewed in time");
    assert!(db.read(id, ReceiptKind::Opened, None).is_ok());
}

#[test]
fn a_revocation_does_not_take_back_what_was_received_before() {
    let mut house = House::new();
    let (a, b) = (
        house.issue("ncc", Kind::Node),
        house.issue("locc", Kind::Node),
    );
    let (da, db) = (house.open(&a, "ncc"), house.open(&b, "locc"));
    know(&da, &[&db]);
    let (id, envelope) = sealed(&da, "locc", b"before");
    let now = Instant::now();
    let deliver = Frame::Deliver { envelope };
    begun(&db, now).take(deliver, now).expect("taken");
    drop(db);
    house.revoke(&a);
    house.later(60_000);
    let opened = house
        .open(&b, "locc")
        .read(id, ReceiptKind::Opened, None)
        .expect("opens");
    assert_eq!(opened.content.body, b"before");
    assert!(!opened.still_believed);
}

#[test]
fn a_certificate_that_ends_while_a_message_waits_does_not_lose_it() {
    for revoked in [false, true] {
        let mut house = House::new();
        let (a, b) = (
            house.issue_short("ncc", Kind::Node),
            house.issue("locc", Kind::Node),
        );
        let (da, db) = (house.open(&a, "ncc"), house.open(&b, "locc"));
        know(&da, &[&db]);
        let (id, envelope) = sealed(&da, "locc", b"waited");
        drop(db);
        house.later(2 * 60 * 60 * 1000);
        if revoked {
            house.revoke(&a);
        }
        let db = house.open(&b, "locc");
        let (now, deliver) = (Instant::now(), Frame::Deliver { envelope });
        begun(&db, now).take(deliver, now).expect("taken");
        let read = db.read(id, ReceiptKind::Opened, None);
        assert_eq!(read.is_ok(), !revoked, "a revocation counts at any time");
    }
}

#[test]
fn a_message_for_a_person_opens_with_that_persons_receipt_only() {
    let mut house = House::new();
    let (a, b) = house.pair();
    let (id, envelope) = sealed(&a, "vermeer@locc", b"for you");
    let now = Instant::now();
    begun(&b, now)
        .take(Frame::Deliver { envelope }, now)
        .expect("taken");
    assert_eq!(
        b.read(id, ReceiptKind::Opened, None)
            .err()
            .expect("no person")
            .exit(),
        Exit::Refused
    );
    let mut signed = |who: &str, kind| {
        let signer = House::signer(&house.issue(who, Kind::Person));
        let mut receipt = b
            .to_be_opened(id, signer.certificate().name().clone(), ReceiptKind::Opened)
            .expect("prepared");
        receipt.kind = kind;
        sign_statement(&receipt, &signer).expect("signed").encode()
    };
    let (other, wrong, right) = (
        signed("jansen", ReceiptKind::Opened),
        signed("vermeer", ReceiptKind::Delivered),
        signed("vermeer", ReceiptKind::Opened),
    );
    for bad in [&other[..], &wrong[..], b"nothing"] {
        assert_eq!(
            b.read(id, ReceiptKind::Opened, Some(bad))
                .err()
                .expect("not them")
                .exit(),
            Exit::Refused
        );
    }
    assert!(!b.spool.inbox().expect("read")[0].1.opened);
    let content = b
        .read(id, ReceiptKind::Opened, Some(&right))
        .expect("opens")
        .content;
    assert_eq!(content.body, b"for you");
    assert!(b.spool.inbox().expect("read")[0].1.opened);
}

#[test]
fn a_start_clears_what_a_killed_daemon_left() {
    let mut house = House::new();
    let node = house.issue("ncc", Kind::Node);
    let data = house.config("ncc").data;
    drop(house.open(&node, "ncc"));
    let draft = data.join("sealing-0000000000000001");
    std::fs::File::create(&draft)
        .and_then(|mut f| f.write_all(b"half"))
        .expect("written");
    let left = ordonnans_message::sha256(&[b"left"]);
    std::fs::write(data.join("sealed").join(left.to_string()), b"left").expect("written");
    std::fs::write(data.join("node.x-wing.new"), b"").expect("written");
    let desk = house.open(&node, "ncc");
    assert!(!draft.exists());
    assert!(desk.sealed.list().expect("listed").is_empty());
}

#[test]
fn a_copy_that_was_destroyed_is_gone_and_does_not_come_again() {
    let mut house = House::new();
    let (a, b) = house.pair();
    let (id, envelope) = sealed(&a, "locc", b"x");
    let now = Instant::now();
    let mut machine = begun(&b, now);
    let deliver = Frame::Deliver { envelope };
    machine.take(deliver.clone(), now).expect("taken");
    receipts(&mut machine);
    b.destroy(id, None).expect("destroyed");
    assert!(b.spool.inbox().expect("read").is_empty());
    assert!(b.read(id, ReceiptKind::Opened, None).is_err());
    assert!(b.destroy(id, None).is_err(), "it is not there");
    machine.pump(now).expect("pumps");
    let said = receipts(&mut machine);
    assert_eq!(said[0].said().kind, ReceiptKind::Destroyed);
    machine.take(deliver, now).expect("taken");
    assert!(
        b.spool.inbox().expect("read").is_empty(),
        "it has been here"
    );
}

#[test]
fn a_recall_is_signed_by_its_originator_and_marks_the_copy() {
    let mut house = House::new();
    let (a, b) = house.pair();
    let (id, envelope) = sealed(&a, "locc", b"x");
    let now = Instant::now();
    assert!(a.recall(id).is_err(), "the broker has not decided");
    let mut machine = begun(&a, now);
    machine.take(accepted(id), now).expect("taken");
    a.recall(id).expect("recalled");
    machine.pump(now).expect("pumps");
    let recall = receipts(&mut machine).pop().expect("said");
    assert_eq!(recall.said().kind, ReceiptKind::Recalled);
    let mut machine = begun(&b, now);
    machine
        .take(Frame::Deliver { envelope }, now)
        .expect("taken");
    heard(&mut machine);
    let marked = || b.spool.inbox().expect("read")[0].1.recalled.is_some();
    let told = |receipt: bytes::Bytes| Frame::Receipt { receipt };
    // Somebody else's word for it.
    let mut other = recall.said().clone();
    other.by = b.name.clone();
    let other = sign_statement(&other, &*b.signer()).expect("signed");
    machine.take(told(other.encode()), now).expect("taken");
    assert!(heard(&mut machine).is_empty() && !marked());
    machine.take(told(recall.encode()), now).expect("taken");
    assert!(matches!(
        heard(&mut machine)[..],
        [(_, Frame::ReceiptStored { .. })]
    ));
    assert!(marked());
}
