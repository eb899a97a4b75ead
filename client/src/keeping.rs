//! What a node keeps: over restarts, over revocations, and for whom.

use std::io::Write;
use std::time::Instant;

use ordonnans_identity::Signer;
use ordonnans_label::Kind;
use ordonnans_message::{CopyNumber, DirectoryEntry, Frame, MessageId, ReceiptKind};
use ordonnans_seal::{SealSecret, SystemEntropy, open, sign_statement, verify_envelope};

use crate::addressing::Expanded;
use crate::desk::Desk;
use crate::failure::{Exit, Failure};
use crate::house::{House, accepted, begun, heard, know, message, published, receipts, sealed};
use crate::incoming::Inside;

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
    assert!(db.key_is_due());
    assert_ne!(db.package().expect("a key"), key, "renewed in time");
    assert!(!db.key_is_due());
    assert!(db.read(id, ReceiptKind::Opened, None).is_ok());
    // Its key ends, and it with that, as the inbox has said all along.
    let until = |db: &Desk| {
        let envelope = db.spool.inbox().expect("read").remove(0).0;
        db.openable_until(&envelope).expect("read")
    };
    assert!(until(&db).is_some_and(|t| t > db.now()));
    house.later(90 * 24 * 60 * 60 * 1000);
    db.package().expect("a key");
    assert_eq!(until(&db), None);
    let gone = db.read(id, ReceiptKind::Opened, None).err().expect("ended");
    assert!(gone.to_string().contains("destroyed"), "{gone}");
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
    assert_eq!(opened.content().body, b"before");
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
        .content()
        .clone();
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
    let half = data.join("keys").join("000001800000000.new");
    std::fs::write(&half, b"").expect("written");
    let desk = house.open(&node, "ncc");
    assert!(!draft.exists() && !half.exists());
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

/// Seals a message at Stg.G, as the daemon does when it is established.
fn at_stg_g(desk: &Desk, to: &[&str]) -> Result<MessageId, Failure> {
    let mut m = message(to, b"for you alone");
    m.label = "Stg.G // TOT 2036-01-01".into();
    let level = desk.label(&m)?.confidentiality.level();
    let to = desk.addressed(&m, level, &Expanded::new())?;
    let composed = desk.compose(&m, to)?;
    desk.dispatch(composed, None)
}

#[test]
fn what_is_sealed_to_persons_no_daemon_opens() {
    let mut house = House::new();
    let (a, b) = house.pair();
    let refused = at_stg_g(&a, &["vermeer@locc"]).expect_err("no key yet");
    assert_eq!(refused.exit(), Exit::Refused);
    assert!(
        refused
            .to_string()
            .contains("vermeer.person.crisis.example has published no key"),
        "{refused}"
    );
    assert!(a.outbox().order.is_empty(), "nothing leaves");

    // Two persons at one node publish keys; the broker lists them.
    let until = b.now().after(90 * 24 * 60 * 60 * 1000);
    let mut entries = vec![];
    let mut persons = vec![];
    for local in ["vermeer", "jansen"] {
        let issued = house.issue(local, Kind::Person);
        let (signer, secret) = (
            House::signer(&issued),
            SealSecret::generate(&mut SystemEntropy),
        );
        let package = secret.package(signer.certificate().name(), until);
        let signed = sign_statement(&package, &signer).expect("signed");
        b.publish(&signed.encode()).expect("kept");
        entries.push(DirectoryEntry {
            name: package.name,
            title: "locc".into(),
            package: Some(signed.encode()),
        });
        persons.push((issued, signer, secret));
    }
    let now = Instant::now();
    let mut machine = begun(&b, now);
    let offered = heard(&mut machine);
    let keys = offered
        .iter()
        .filter(|(_, f)| matches!(f, Frame::KeyPackage { .. }));
    assert_eq!(
        keys.count(),
        3,
        "its own and those of its persons, in every session"
    );
    assert!(b.publish(b"nothing").is_err());
    assert!(
        b.publish(&a.package().expect("a key")).is_err(),
        "of no person"
    );
    a.list(&entries).expect("a directory");

    let id = at_stg_g(&a, &["vermeer@locc", "jansen@locc"]).expect("sealed");
    let envelope = a.outgoing(id).expect("read").expect("in the outbox");
    machine
        .take(Frame::Deliver { envelope }, now)
        .expect("taken");
    assert_eq!(
        receipts(&mut machine).len(),
        1,
        "kept, though it cannot be opened"
    );
    assert_eq!(
        b.read(id, ReceiptKind::Opened, None)
            .err()
            .expect("no person")
            .exit(),
        Exit::Refused
    );
    let by = |signer: &ordonnans_identity::FileSigner, kind| {
        let name = signer.certificate().name().clone();
        let receipt = b.to_be_opened(id, name, kind).expect("prepared");
        sign_statement(&receipt, signer).expect("signed").encode()
    };
    for (number, (_, signer, secret)) in [(2, &persons[0]), (1, &persons[1])] {
        let name = signer.certificate().name();
        assert_eq!(b.sealed_to(id, name).expect("read"), Some(secret.kid()));
        let opened = by(signer, ReceiptKind::Opened);
        let read = b
            .read(id, ReceiptKind::Opened, Some(&opened))
            .expect("given");
        let owed = b.spool.owed().expect("read");
        assert!(owed.iter().any(|(k, _)| k.2 == *name), "durable first");
        let Inside::Sealed { envelope, .. } = read.inside else {
            panic!("the daemon has opened it");
        };
        let verified = verify_envelope(*envelope, &b.trust(), b.now()).expect("authentic");
        assert!(b.open_own(&verified, None).is_err());
        let opened = open(&verified, std::slice::from_ref(secret), name).expect("opens");
        assert_eq!(opened.content.body, b"for you alone");
        assert_eq!(opened.copy, Some(CopyNumber { number, of: 2 }));
    }
    // One destroys; the other still has theirs.
    let (_, vermeer, _) = &persons[0];
    let (_, jansen, _) = &persons[1];
    b.destroy(id, Some(&by(vermeer, ReceiptKind::Destroyed)))
        .expect("destroyed");
    let again = by(vermeer, ReceiptKind::Opened);
    assert!(b.read(id, ReceiptKind::Opened, Some(&again)).is_err());
    let others = by(jansen, ReceiptKind::Opened);
    assert!(b.read(id, ReceiptKind::Opened, Some(&others)).is_ok());
    b.destroy(id, Some(&by(jansen, ReceiptKind::Destroyed)))
        .expect("destroyed");
    assert!(b.spool.inbox().expect("read").is_empty());
}

#[test]
fn nothing_is_sealed_to_a_key_that_is_revoked_stale_or_anothers() {
    let mut house = House::new();
    let node = house.issue("ncc", Kind::Node);
    let desk = house.open(&node, "ncc");
    let (v, w) = (
        house.issue("vermeer", Kind::Person),
        house.issue("jansen", Kind::Person),
    );
    let package = |of: &ordonnans_certs::Issued, until| {
        let signer = House::signer(of);
        let secret = SealSecret::generate(&mut SystemEntropy);
        let package = secret.package(signer.certificate().name(), until);
        sign_statement(&package, &signer).expect("signed").encode()
    };
    let list = |desk: &Desk, package| {
        let entry = DirectoryEntry {
            name: crate::house::name("vermeer", Kind::Person),
            title: "locc".into(),
            package: Some(package),
        };
        desk.list(&[entry]).expect("a directory");
    };
    let why = |desk: &Desk| {
        at_stg_g(desk, &["vermeer@locc"])
            .expect_err("refused")
            .to_string()
    };
    let later = desk.now().after(1_000_000);
    list(&desk, package(&w, later));
    assert!(why(&desk).contains("a key that is not its own"));
    list(&desk, package(&v, desk.now()));
    assert!(why(&desk).contains("stale"));
    let good = package(&v, later);
    list(&desk, good.clone());
    assert!(at_stg_g(&desk, &["vermeer@locc"]).is_ok());
    drop(desk);
    house.revoke(&v);
    let desk = house.open(&node, "ncc");
    list(&desk, good);
    assert!(why(&desk).contains("cannot be believed"));
}
