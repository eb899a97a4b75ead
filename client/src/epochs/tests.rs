//! What goes to many: who has the key, who gets it, and when another begins.

use std::sync::Arc;
use std::time::Instant;

use ordonnans_certs::Issued;
use ordonnans_label::Kind;
use ordonnans_message::{Frame, ReceiptKind, SignedReceipt};

use super::*;
use crate::desk::Desk;
use crate::house::{House, begun, heard, know, message, receipts};

const TO: [&str; 6] = ["n1", "n2", "n3", "n4", "n5", "n6"];

struct Many {
    house: House,
    from: Arc<Desk>,
    issued: Vec<Issued>,
    to: Vec<Arc<Desk>>,
}

impl Many {
    fn new() -> Self {
        let mut house = House::new();
        let from = house.issue("ncc", Kind::Node);
        let from = house.open(&from, "ncc");
        let issued: Vec<Issued> = TO.iter().map(|n| house.issue(n, Kind::Node)).collect();
        let to: Vec<_> = issued
            .iter()
            .zip(TO)
            .map(|(i, n)| house.open(i, n))
            .collect();
        let mut many = Self {
            house,
            from,
            issued,
            to,
        };
        many.know();
        many
    }

    /// The sender has the keys that everyone has now.
    fn know(&mut self) {
        let all: Vec<&Desk> = self.to.iter().map(|d| &**d).collect();
        know(&self.from, &all);
    }

    fn sends(&self, to: &[&str], label: &str) -> Envelope {
        let mut m = message(to, b"inhoud");
        m.label = label.into();
        m.expires = self.from.now().after(3_600_000);
        let id = self.from.submit(&m).expect("submitted");
        let bytes = self.from.outgoing(id).expect("reads").expect("is there");
        Envelope::decode(&bytes).expect("decodes")
    }

    /// To all of them; gives for whom it has the key.
    fn to_all(&self) -> (Envelope, Vec<&'static str>) {
        let m = self.sends(&TO, "Ongerubriceerd");
        let seals = m.seals().expect("seals");
        let has = |n: &&'static str| seals.iter().any(|s| s.to.local() == *n);
        let with = TO.into_iter().filter(has).collect();
        (m, with)
    }

    /// A node gets a message; its receipt.
    fn gets(&self, n: usize, m: &Envelope) -> SignedReceipt {
        let now = Instant::now();
        let mut machine = begun(&self.to[n], now);
        heard(&mut machine);
        let envelope = m.encode();
        machine
            .take(Frame::Deliver { envelope }, now)
            .expect("taken");
        let all = receipts(&mut machine);
        let of = all.into_iter().find(|r| r.said().message == m.header().id);
        of.expect("a receipt")
    }

    fn answers(&self, receipt: &SignedReceipt) {
        let taken = self.from.receipted(&receipt.encode()).expect("reads");
        assert!(taken.is_some());
    }

    fn reads(&self, n: usize, m: &Envelope) -> Vec<u8> {
        let read = self.to[n].read(m.header().id, ReceiptKind::Opened, None);
        read.expect("opens").content().body.clone()
    }
}

#[test]
fn the_key_goes_to_each_until_it_has_answered_and_every_message_is_read() {
    let mut m = Many::new();
    let (first, with) = m.to_all();
    assert_eq!(with, TO);
    let (second, with) = m.to_all();
    assert_eq!(with, TO, "nobody has answered");
    assert_eq!(first.epoch(), second.epoch());
    // All but the last answer, two of them to the second alone.
    for n in 0..5 {
        let of = if n < 2 { &second } else { &first };
        let receipt = m.gets(n, of);
        assert_eq!(receipt.said().kind, ReceiptKind::Delivered);
        m.answers(&receipt);
    }
    let (third, with) = m.to_all();
    assert_eq!(with, ["n6"]);
    assert_eq!(third.epoch(), first.epoch());
    for n in 0..6 {
        assert_eq!(m.gets(n, &third).said().kind, ReceiptKind::Delivered);
        assert_eq!(m.reads(n, &third), b"inhoud");
    }
    m.answers(&m.gets(5, &third));
    let (fourth, with) = m.to_all();
    assert!(with.is_empty());
    assert!(fourth.encode().len() + 6 * 1_190 < first.encode().len());
    // After a start it opens what it has and what comes, and says until when.
    let at = m.to.remove(0);
    let until = |d: &Desk, e: &Envelope| d.openable_until(e).expect("reads");
    assert!(until(&at, &third).is_some());
    drop(at);
    let again = m.house.open(&m.issued[0], TO[0]);
    m.to.insert(0, again);
    assert_eq!(m.reads(0, &third), b"inhoud");
    assert_eq!(m.gets(0, &fourth).said().kind, ReceiptKind::Delivered);
    assert_eq!(m.reads(0, &fourth), b"inhoud");
    assert_eq!(until(&m.to[0], &fourth), until(&m.to[0], &third));
    // A copy that is destroyed leaves nothing to open it with.
    m.to[0].destroy(fourth.header().id, None).expect("destroys");
    let left = m.to[0].spool.granted(fourth.header().id);
    assert!(left.expect("reads").is_none());
}

#[test]
fn who_has_lost_the_key_says_so_and_gets_it_with_the_next() {
    let mut m = Many::new();
    let (first, _) = m.to_all();
    for n in 0..6 {
        m.answers(&m.gets(n, &first));
    }
    // The folder is lost but for the encryption keys, as with an old copy of the spool.
    let keys = m.house.dir.path().join("n2/keys");
    let copy = m.house.dir.path().join("again");
    std::fs::create_dir_all(&copy).expect("makes");
    std::fs::rename(keys, copy.join("keys")).expect("moves");
    m.to[1] = m.house.open(&m.issued[1], "again");
    let (second, with) = m.to_all();
    assert!(with.is_empty());
    let receipt = m.gets(1, &second);
    assert_eq!(receipt.said().kind, ReceiptKind::Refused);
    m.answers(&receipt);
    let (third, with) = m.to_all();
    assert_eq!(with, ["n2"]);
    assert_eq!(m.gets(1, &third).said().kind, ReceiptKind::Delivered);
    assert_eq!(m.reads(1, &third), b"inhoud");
}

#[test]
fn another_epoch_begins_when_anything_of_it_changes() {
    let mut m = Many::new();
    let epoch = |e: &Envelope| e.epoch().expect("reads");
    let answered = |m: &Many| {
        let (first, _) = m.to_all();
        for n in 0..6 {
            m.answers(&m.gets(n, &first));
        }
        let (next, with) = m.to_all();
        assert!(with.is_empty());
        epoch(&next)
    };
    let first = answered(&m);
    // Fewer than six, and from Stg.C up: by themselves.
    assert_eq!(epoch(&m.sends(&TO[1..], "Ongerubriceerd")), None);
    // Others, and another label, are another epoch, and the first goes on.
    m.house.later(1);
    let other = m.sends(&TO, "Ongerubriceerd // KRING ICCB");
    assert_ne!(epoch(&other), first);
    assert_eq!(other.seals().expect("seals").len(), 6);
    assert_eq!(epoch(&m.to_all().0), first);
    // A recipient has another key; then another certificate.
    m.house.later(30 * LIFE_MS);
    let (later, with) = m.to_all();
    assert_eq!(
        (with.len(), epoch(&later) == first),
        (6, false),
        "a day has passed"
    );
    let second = answered(&m);
    m.to[3].package().expect("the next key");
    m.know();
    let (turned, with) = m.to_all();
    assert_eq!((with.len(), epoch(&turned) == second), (6, false));
    let third = answered(&m);
    let issued = m.house.issue(TO[4], Kind::Node);
    m.to.remove(4);
    let again = m.house.open(&issued, TO[4]);
    m.to.insert(4, again);
    m.know();
    let (certified, with) = m.to_all();
    assert_eq!((with.len(), epoch(&certified) == third), (6, false));
}

#[test]
fn epochs_are_bounded_in_time_messages_and_number() {
    let m = Many::new();
    let answer = |m: &Many, e: &Envelope| m.answers(&m.gets(0, e));
    let (first, _) = m.to_all();
    answer(&m, &first);
    for _ in 1..MESSAGES {
        assert_eq!(m.to_all().1.len(), 5);
    }
    let (next, with) = m.to_all();
    assert_eq!(with.len(), 6, "one more is of the next");
    answer(&m, &next);
    m.house.later(LIFE_MS - 1);
    assert_eq!(m.to_all().1.len(), 5);
    m.house.later(1);
    let (later, with) = m.to_all();
    assert_eq!(with.len(), 6);
    answer(&m, &later);
    for n in 0..LIVE {
        m.house.later(1);
        m.sends(&TO, &format!("Ongerubriceerd // KRING K{n}"));
    }
    assert_eq!(crate::desk::lock(&m.from.epochs).0.len(), LIVE);
    assert_eq!(m.to_all().1.len(), 6, "the oldest has ended");
    // A receipt for another message says nothing of it.
    let mut of = later.header().clone();
    of.id = MessageId::new(m.from.now(), [7; 10]);
    let receipt = Receipt {
        message: of.id,
        envelope: later.digest(),
        kind: ReceiptKind::Delivered,
        by: m.to[1].name.clone(),
        at: m.from.now(),
    };
    crate::desk::lock(&m.from.epochs).answered(&receipt);
    assert_eq!(m.to_all().1.len(), 6);
}
