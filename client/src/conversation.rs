//! What is said, what is said again, and what is kept: the machine on real desks, without a line.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ordonnans_identity::Signer;
use ordonnans_label::Kind;
use ordonnans_message::{
    Envelope, Frame, MessageId, Precedence, Receipt, ReceiptKind, ReplyCode, SignedReceipt,
    Timestamp,
};
use ordonnans_seal::sign_receipt;
use ordonnans_transport::Lane;

use crate::desk::Desk;
use crate::failure::Exit;
use crate::house::{House, know, message};
use crate::machine::{Machine, REPEAT, Transfer, WINDOW};
use crate::spool::Verdict;

fn heard(machine: &mut Machine) -> Vec<(Lane, Frame)> {
    let mut all = vec![];
    loop {
        let Some((lane, bytes)) = machine.heads().into_iter().next() else {
            return all;
        };
        machine.said(lane);
        all.push((lane, Frame::decode(&bytes).expect("a frame")));
    }
}

fn begun(desk: &Arc<Desk>, now: Instant) -> Machine {
    Machine::begin(Arc::clone(desk), now).expect("begins")
}

fn published(machine: &mut Machine) -> Vec<Bytes> {
    let frames = heard(machine).into_iter();
    let envelope = |(_, f)| match f {
        Frame::Publish { envelope } => Some(envelope),
        _ => None,
    };
    frames.filter_map(envelope).collect()
}

fn receipts(machine: &mut Machine) -> Vec<SignedReceipt> {
    let frames = heard(machine).into_iter();
    let receipt = |(_, f)| match f {
        Frame::Receipt { receipt } => Some(SignedReceipt::decode(&receipt).expect("a receipt")),
        _ => None,
    };
    frames.filter_map(receipt).collect()
}

fn accepted(id: MessageId) -> Frame {
    let at = Timestamp::from_millis(7);
    Frame::Accepted {
        id,
        at,
        sequence: 3,
    }
}

fn refused(id: MessageId, code: ReplyCode, retry_after_ms: Option<u32>) -> Frame {
    Frame::Refused {
        id: Some(id),
        code,
        rule: None,
        recipient: None,
        retry_after_ms,
    }
}

fn stored(r: &SignedReceipt) -> Frame {
    let Receipt {
        message, kind, by, ..
    } = r.receipt().clone();
    Frame::ReceiptStored {
        id: message,
        kind,
        by,
    }
}

/// A message of `a` that is ready to be delivered.
fn sealed(a: &Desk, to: &str, body: &[u8]) -> (MessageId, Bytes) {
    let id = a.submit(&message(&[to], body)).expect("submitted");
    (id, a.outgoing(id).expect("read").expect("in the outbox"))
}

#[test]
fn a_message_is_published_until_the_broker_has_decided() {
    let mut house = House::new();
    let (a, _) = house.pair();
    let now = Instant::now();
    let mut machine = begun(&a, now);
    let first = heard(&mut machine);
    assert!(matches!(
        first[..],
        [
            (Lane::Control, Frame::KeyPackage { .. }),
            (Lane::Control, Frame::DirectoryGet)
        ]
    ));
    let (id, envelope) = sealed(&a, "locc", b"x");
    machine.pump(now).expect("pumps");
    assert_eq!(published(&mut machine), std::slice::from_ref(&envelope));
    machine.pump(now + REPEAT / 2).expect("pumps");
    assert!(published(&mut machine).is_empty(), "too early");
    machine.pump(now + REPEAT).expect("pumps");
    assert_eq!(published(&mut machine), [envelope], "the same bytes again");
    machine.take(accepted(id), now + REPEAT).expect("taken");
    let sent = a.spool.sent(id).expect("read").expect("kept");
    assert!(matches!(
        sent.verdict,
        Some(Verdict::Accepted { sequence: 3, .. })
    ));
    machine.pump(now + REPEAT * 3).expect("pumps");
    assert!(published(&mut machine).is_empty());
    assert!(a.outgoing(id).expect("read").is_none());
}

#[test]
fn a_busy_broker_is_left_alone_and_a_refusal_is_final() {
    let mut house = House::new();
    let (a, _) = house.pair();
    let now = Instant::now();
    let mut machine = begun(&a, now);
    let (id, _) = sealed(&a, "locc", b"x");
    machine.pump(now).expect("pumps");
    assert_eq!(published(&mut machine).len(), 1);
    let busy = refused(id, ReplyCode::Busy, Some(2_000));
    machine.take(busy, now).expect("taken");
    machine
        .pump(now + Duration::from_millis(1_999))
        .expect("pumps");
    assert!(published(&mut machine).is_empty());
    machine
        .pump(now + Duration::from_millis(2_000))
        .expect("pumps");
    assert_eq!(published(&mut machine).len(), 1);
    let no = refused(id, ReplyCode::NotPermitted, None);
    machine.take(no, now).expect("taken");
    assert!(a.outbox().order.is_empty());
    let sent = a.spool.sent(id).expect("read").expect("kept");
    assert!(matches!(sent.verdict, Some(Verdict::Refused { code, .. }) if code == "NotPermitted"));
}

#[test]
fn the_urgent_go_first_and_past_a_full_window() {
    let mut house = House::new();
    let (a, _) = house.pair();
    let now = Instant::now();
    for n in 0..=WINDOW {
        sealed(&a, "locc", &[n as u8]);
    }
    let mut machine = begun(&a, now);
    assert_eq!(published(&mut machine).len(), WINDOW);
    let mut flash = message(&["locc"], b"z");
    flash.precedence = "FLASH".into();
    let flash = a.submit(&flash).expect("submitted");
    machine.pump(now).expect("pumps");
    let next = published(&mut machine);
    assert_eq!(next.len(), 1, "a place for FLASH only");
    let header = Envelope::decode(&next[0]).expect("an envelope");
    assert_eq!(header.header().id, flash);
    // Nothing was answered: all of it again, the urgent first, on its own lane.
    machine.pump(now + REPEAT).expect("pumps");
    let again = heard(&mut machine);
    let first = again
        .iter()
        .find(|(_, f)| matches!(f, Frame::Publish { .. }));
    let lane = first.map(|(lane, _)| *lane);
    assert_eq!(lane, Some(Lane::Class(Precedence::Flash)));
    assert_eq!(again.len(), WINDOW, "within the window");
}

#[test]
fn what_is_delivered_twice_is_kept_once_and_answered_each_time() {
    let mut house = House::new();
    let (a, b) = house.pair();
    let (id, envelope) = sealed(&a, "locc", b"the text");
    let deliver = Frame::Deliver { envelope };
    let now = Instant::now();
    let mut machine = begun(&b, now);
    heard(&mut machine);
    for _ in 0..2 {
        machine.take(deliver.clone(), now).expect("taken");
        let said = receipts(&mut machine);
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].receipt().kind, ReceiptKind::Delivered);
    }
    assert_eq!(b.spool.inbox().expect("read").len(), 1);
    machine.pump(now + REPEAT).expect("pumps");
    let again = receipts(&mut machine);
    assert_eq!(again.len(), 1, "until the broker has it");
    machine.take(stored(&again[0]), now).expect("taken");
    machine.pump(now + REPEAT * 3).expect("pumps");
    assert!(receipts(&mut machine).is_empty());
    assert!(b.owed().is_empty() && b.spool.owed().expect("read").is_empty());
    machine.take(deliver, now).expect("taken");
    assert_eq!(receipts(&mut machine).len(), 1, "and again when asked");
    let opened = b.read(id, None).expect("opens");
    assert_eq!(
        (opened.header.id, &opened.content.body[..]),
        (id, &b"the text"[..])
    );
    assert!(opened.still_believed);
    machine.pump(now).expect("pumps");
    assert_eq!(
        receipts(&mut machine)[0].receipt().kind,
        ReceiptKind::Opened
    );
}

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
    assert_eq!(owed[0].receipt().message, id);
    assert_eq!(db.package().expect("a key"), key, "the same statement");
    house.later(40 * 24 * 60 * 60 * 1000);
    assert_ne!(db.package().expect("a key"), key, "renewed in time");
    assert!(db.read(id, None).is_ok());
}

#[test]
fn what_does_not_open_is_answered_so_and_what_may_be_believed_yet_is_not() {
    let mut house = House::new();
    let (a, b) = (
        house.issue("ncc", Kind::Node),
        house.issue("locc", Kind::Node),
    );
    let (da, db) = (house.open(&a, "ncc"), house.open(&b, "locc"));
    know(&da, &[&db]);
    let (id, envelope) = sealed(&da, "locc", b"x");
    let deliver = Frame::Deliver { envelope };
    let now = Instant::now();
    // The node lost its folder, and with it the key the message is sealed to.
    let lost = house.open(&b, "locc-again");
    let mut machine = begun(&lost, now);
    machine.take(deliver.clone(), now).expect("taken");
    let said = receipts(&mut machine);
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].receipt().kind, ReceiptKind::Refused);
    assert!(lost.spool.inbox().expect("read").is_empty());
    // The originator was told of: it is not believed, and nothing is said that would end the delivery.
    house.revoke(&a);
    drop(db);
    let revoked = house.open(&b, "locc");
    let mut machine = begun(&revoked, now);
    heard(&mut machine);
    machine.take(deliver.clone(), now).expect("taken");
    assert!(heard(&mut machine).is_empty());
    assert!(revoked.read(id, None).is_err());
    // Not for this node.
    let c = house.issue("toc", Kind::Node);
    let other = house.open(&c, "toc");
    let mut machine = begun(&other, now);
    heard(&mut machine);
    machine.take(deliver, now).expect("taken");
    let bytes = Bytes::from_static(b"garbage");
    machine
        .take(Frame::Deliver { envelope: bytes }, now)
        .expect("taken");
    assert!(heard(&mut machine).is_empty());
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
    let opened = house.open(&b, "locc").read(id, None).expect("opens");
    assert_eq!(opened.content.body, b"before");
    assert!(!opened.still_believed);
}

#[test]
fn receipts_for_ours_are_kept_and_confirmed_and_others_are_not() {
    let mut house = House::new();
    let (a, b) = house.pair();
    let (id, envelope) = sealed(&a, "locc", b"x");
    let now = Instant::now();
    let mut machine = begun(&b, now);
    machine
        .take(Frame::Deliver { envelope }, now)
        .expect("taken");
    let receipt = receipts(&mut machine).remove(0);
    let mut machine = begun(&a, now);
    heard(&mut machine);
    let frame = Frame::Receipt {
        receipt: receipt.encode(),
    };
    machine.take(frame, now).expect("taken");
    let said = heard(&mut machine);
    assert!(matches!(said[..], [(_, Frame::ReceiptStored { id: of, .. })] if of == id));
    assert_eq!(
        a.spool.receipts(id).expect("read"),
        [receipt.receipt().clone()]
    );
    // A receipt for other bytes under the same id.
    let mut other = receipt.receipt().clone();
    other.envelope = other.message.as_bytes()[..]
        .iter()
        .fold(other.envelope, |d, _| {
            ordonnans_message::sha256(&[d.as_bytes()])
        });
    let forged = sign_receipt(&other, &b.signer).expect("signed");
    let frame = Frame::Receipt {
        receipt: forged.encode(),
    };
    machine.take(frame, now).expect("taken");
    assert!(heard(&mut machine).is_empty());
    assert_eq!(a.spool.receipts(id).expect("read").len(), 1);
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
        b.read(id, None).err().expect("no person").exit(),
        Exit::Refused
    );
    let mut signed = |who: &str, kind| {
        let signer = House::signer(&house.issue(who, Kind::Person));
        let mut receipt = b
            .to_be_opened(id, signer.certificate().name().clone())
            .expect("prepared");
        receipt.kind = kind;
        sign_receipt(&receipt, &signer).expect("signed").encode()
    };
    let (other, wrong, right) = (
        signed("jansen", ReceiptKind::Opened),
        signed("vermeer", ReceiptKind::Delivered),
        signed("vermeer", ReceiptKind::Opened),
    );
    for bad in [&other[..], &wrong[..], b"nothing"] {
        assert_eq!(
            b.read(id, Some(bad)).err().expect("not them").exit(),
            Exit::Refused
        );
    }
    assert!(!b.spool.inbox().expect("read")[0].1.opened);
    let content = b.read(id, Some(&right)).expect("opens").content;
    assert_eq!(content.body, b"for you");
    assert!(b.spool.inbox().expect("read")[0].1.opened);
}

#[test]
fn attachments_go_before_the_message_and_arrive_before_its_receipt() {
    let mut house = House::new();
    let (a, b) = house.pair();
    let path = house.dir.path().join("kaart.bin");
    let plain: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(&path, &plain).expect("written");
    let mut with = message(&["locc"], b"see the map");
    with.attachments = vec![path];
    let id = a.submit(&with).expect("submitted");
    let now = Instant::now();
    let mut machine = begun(&a, now);
    let offer = heard(&mut machine).into_iter().find_map(|(_, f)| match f {
        Frame::AttachmentOffer { digest, length } => Some((digest, length)),
        Frame::Publish { .. } => panic!("before its attachment"),
        _ => None,
    });
    let (digest, length) = offer.expect("an offer");
    let state = |have| Frame::AttachmentState { digest, have };
    machine.take(state(5), now).expect("taken");
    let transfer = Transfer {
        digest,
        offset: 5,
        length,
    };
    assert_eq!(machine.uploads(), [transfer]);
    machine.take(state(length), now).expect("taken");
    machine.uploaded(&digest, now);
    let envelope = published(&mut machine).remove(0);
    // The broker lost it: it is offered again, not at once.
    let missing = refused(id, ReplyCode::AttachmentMissing, None);
    machine.take(missing, now).expect("taken");
    assert!(heard(&mut machine).is_empty());
    machine.pump(now + REPEAT).expect("pumps");
    assert!(matches!(
        heard(&mut machine)[..],
        [(_, Frame::AttachmentOffer { .. })]
    ));

    let mut sealed = vec![];
    let mut file = a.sealed.read(&digest).expect("here");
    std::io::Read::read_to_end(&mut file, &mut sealed).expect("read");
    let mut machine = begun(&b, now);
    heard(&mut machine);
    machine
        .take(Frame::Deliver { envelope }, now)
        .expect("taken");
    assert!(matches!(
        heard(&mut machine)[..],
        [(_, Frame::AttachmentGet { offset: 0, .. })]
    ));
    assert_eq!(machine.downloading(digest, 1), None, "from elsewhere");
    assert!(machine.downloading(digest, 0).is_some());
    assert_eq!(machine.downloading(digest, 0), None, "a second time");
    let mut half = b.attachments.upload(digest, length).expect("begins");
    half.append(&sealed[..1000]).expect("taken");
    assert!(!half.finish().expect("kept"));
    machine.downloaded(digest, false, now).expect("taken");
    assert!(heard(&mut machine).is_empty());
    machine.pump(now + REPEAT).expect("pumps");
    assert!(matches!(
        heard(&mut machine)[..],
        [(_, Frame::AttachmentGet { offset: 1000, .. })]
    ));
    let mut rest = b.attachments.upload(digest, length).expect("goes on");
    rest.append(&sealed[1000..]).expect("taken");
    assert!(rest.finish().expect("whole"));
    machine.downloaded(digest, true, now).expect("taken");
    assert_eq!(receipts(&mut machine).len(), 1);
    let content = b.read(id, None).expect("opens").content;
    let out = house.dir.path().join("out.bin");
    b.save_attachment(&content.attachments[0], &out)
        .expect("saved");
    assert_eq!(std::fs::read(&out).expect("read"), plain);
    assert!(
        b.save_attachment(&content.attachments[0], &out).is_err(),
        "not overwritten"
    );

    a.decided(
        id,
        Verdict::Accepted {
            at: a.now(),
            sequence: 1,
        },
    )
    .expect("kept");
    assert!(a.sealed.list().expect("listed").is_empty());
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
fn a_checkpoint_that_goes_back_or_aside_is_kept_as_evidence() {
    let mut house = House::new();
    let (a, _) = house.pair();
    let text = |size: u64, root: &str| format!("b1.broker.crisis.example\n{size}\n{root}\n\n");
    for good in [text(5, "AA"), text(5, "AA"), text(9, "BB")] {
        a.checkpoint(&good).expect("kept");
        assert!(!a.spool.contradicted().expect("read"));
    }
    for bad in [text(9, "CC"), text(8, "BB"), "nothing".into()] {
        a.checkpoint(&bad).expect("kept");
        assert!(a.spool.contradicted().expect("read"));
        assert_eq!(a.spool.checkpoint().expect("read"), Some(text(9, "BB")));
    }
}
