//! What is said, what is said again, and what is kept: the machine on real desks, without a line.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ordonnans_label::{Kind, Label};
use ordonnans_message::{Addressee, Envelope, Frame, Precedence, ReceiptKind, ReplyCode};
use ordonnans_seal::sign_statement;
use ordonnans_transport::Lane;

use crate::house::{
    House, accepted, begun, heard, know, message, published, receipts, refused, sealed, stored,
};
use crate::machine::{REPEAT, Transfer, WINDOW};
use crate::spool::Verdict;

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
        assert_eq!(said[0].said().kind, ReceiptKind::Delivered);
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
    let opened = b.read(id, ReceiptKind::Opened, None).expect("opens");
    assert_eq!(
        (opened.header.id, &opened.content().body[..]),
        (id, &b"the text"[..])
    );
    assert!(opened.still_believed);
    machine.pump(now).expect("pumps");
    assert_eq!(receipts(&mut machine)[0].said().kind, ReceiptKind::Opened);
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
    assert_eq!(said[0].said().kind, ReceiptKind::Refused);
    assert!(lost.spool.inbox().expect("read").is_empty());
    // The originator was told of: it is not believed, and nothing is said that would end the delivery.
    house.revoke(&a);
    drop(db);
    let revoked = house.open(&b, "locc");
    let mut machine = begun(&revoked, now);
    heard(&mut machine);
    machine.take(deliver.clone(), now).expect("taken");
    assert!(heard(&mut machine).is_empty());
    assert!(revoked.read(id, ReceiptKind::Opened, None).is_err());
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
        [receipt.said().clone()]
    );
    // A receipt for other bytes under the same id.
    let mut other = receipt.said().clone();
    other.envelope = other.message.as_bytes()[..]
        .iter()
        .fold(other.envelope, |d, _| {
            ordonnans_message::sha256(&[d.as_bytes()])
        });
    let forged = sign_statement(&other, &*b.signer()).expect("signed");
    let frame = Frame::Receipt {
        receipt: forged.encode(),
    };
    machine.take(frame, now).expect("taken");
    assert!(heard(&mut machine).is_empty());
    assert_eq!(a.spool.receipts(id).expect("read").len(), 1);
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
    let content = b
        .read(id, ReceiptKind::Opened, None)
        .expect("opens")
        .content()
        .clone();
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
fn a_catalogue_is_asked_for_and_heard() {
    let mut house = House::new();
    let (a, _) = house.pair();
    let now = Instant::now();
    let mut machine = begun(&a, now);
    heard(&mut machine);
    let to = |local: &str| Addressee {
        node: crate::house::name(local, Kind::Node),
        person: None,
    };
    let gone = a.ask(vec![to("ncc")]);
    drop(gone);
    let mut answer = a.ask(vec![to("locc")]);
    machine.pump(now).expect("pumps");
    let said = heard(&mut machine);
    let [(Lane::Control, Frame::CatalogGet { request, to: asked })] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!(asked[..], [to("locc")], "who has gone is not asked for");
    let labels: Vec<Label> = vec!["Dep.V".parse().expect("a label")];
    let catalog = |request| Frame::Catalog {
        request,
        labels: labels.clone(),
    };
    machine.take(catalog(request + 1), now).expect("takes");
    assert!(answer.try_recv().is_err(), "the answer to another question");
    machine.take(catalog(*request), now).expect("takes");
    assert_eq!(answer.try_recv(), Ok(labels));
}

#[test]
fn a_label_that_cannot_be_is_told_before_anything_is_sent() {
    let mut house = House::new();
    let (a, _) = house.pair();
    let mut m = message(&["locc"], b"(Stg.C) een deel\nrest");
    for (label, says) in [
        ("Dep.V // TOT 2036-01-01", "line 1 is marked Stg.C"),
        ("NATO SECRET", "does not protect"),
        ("NATO SECRET // RELEASABLE TO NATO", "Context RELEASABLE"),
        ("geheim", "begins with 'geheim'"),
    ] {
        m.label = label.into();
        let e = a.submit(&m).expect_err(label).to_string();
        assert!(e.contains(says), "{label}: {e}");
    }
    assert!(a.outbox().order.is_empty());
    m.label = "Stg.C".into();
    let e = a.submit(&m).expect_err("for how long").to_string();
    assert!(e.contains("says until when"), "{e}");
    m.label = "Stg.C // TOT 2036-01-01".into();
    let e = a.submit(&m).expect_err("by whom");
    assert!(e.to_string().contains("signed statement"), "{e}");
    assert!(e.hint().contains("label propose"));
    assert!(a.propose(&m, &[]).is_ok());
}
