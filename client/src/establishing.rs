//! Drafts, acts and reviews at a desk: what a vaststeller signs, what the broker is told, and what a node knows of a label.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use data_encoding::BASE64;
use ordonnans_identity::{FileSigner, Signer};
use ordonnans_label::{Kind, Name};
use ordonnans_message::{
    Act, ActKind, Content, Declaration, Digest, DirectoryEntry, Envelope, Follows, Frame,
    MessageId, ReplyCode, SignedAct, Timestamp,
};
use ordonnans_seal::{SealSecret, SystemEntropy, open, sign_statement, verify_envelope};

use crate::acts::{Answered, refused};
use crate::addressing::Expanded;
use crate::desk::Desk;
use crate::drafts::DraftId;
use crate::failure::Exit;
use crate::house::{House, accepted, begun, heard, message, name, receipts};
use crate::incoming::Inside;
use crate::local::{Opener, Submission};
use crate::machine::{Machine, REPEAT};
use crate::spool::Verdict;

const LABEL: &str = "Stg.C // TOT 2036-01-01";

fn proposal(to: &str, body: &[u8]) -> Submission {
    Submission {
        label: LABEL.into(),
        ..message(&[to], body)
    }
}

fn act(subject: Digest, label: &str, node: &Name, signer: &FileSigner, desk: &Desk) -> Act {
    let by = signer.certificate().name().clone();
    Act {
        kind: ActKind::Establish,
        subject,
        label: format!("{label} // VASTGESTELD {by}")
            .parse()
            .expect("a label"),
        node: node.clone(),
        by,
        at: desk.now(),
        follows: None,
    }
}

fn statement(desk: &Desk, draft: DraftId, signer: &FileSigner) -> Bytes {
    let (_, content) = desk.draft(draft, None).expect("a draft");
    let act = act(content.digest(), LABEL, &desk.name, signer, desk);
    sign_statement(&act, signer).expect("signed").encode()
}

/// A message that was established and accepted; its id and its first act.
fn sent(a: &Desk, signer: &FileSigner) -> (MessageId, SignedAct, Bytes) {
    let draft = a.propose(&proposal("locc", b"x"), &[]).expect("proposed");
    let id = a
        .establish(draft, &statement(a, draft, signer), None, &Expanded::new())
        .expect("sent");
    let envelope = a.outgoing(id).expect("read").expect("in the outbox");
    let header = Envelope::decode(&envelope)
        .expect("an envelope")
        .header()
        .clone();
    (id, header.act.expect("an act"), envelope)
}

fn revision(
    first: &SignedAct,
    after: Digest,
    id: MessageId,
    label: &str,
    by: &FileSigner,
) -> Bytes {
    let who = by.certificate().name().clone();
    let act = Act {
        kind: ActKind::Revise,
        label: format!("{label} // VASTGESTELD {who}")
            .parse()
            .expect("a label"),
        by: who,
        follows: Some(Follows {
            message: id,
            act: after,
        }),
        ..first.said().clone()
    };
    sign_statement(&act, by).expect("signed").encode()
}

/// The acts and declarations it tells the broker now.
fn stated(machine: &mut Machine) -> Vec<Frame> {
    let said = heard(machine).into_iter().map(|(_, f)| f);
    said.filter(|f| {
        matches!(
            f,
            Frame::Act { .. } | Frame::Declare { .. } | Frame::Kept { .. }
        )
    })
    .collect()
}

#[test]
fn a_draft_waits_with_its_attachments_until_it_is_established() {
    let mut house = House::new();
    let (ia, ib) = (
        house.issue("ncc", Kind::Node),
        house.issue("locc", Kind::Node),
    );
    let v = House::signer(&house.issue("vermeer", Kind::Person));
    let (a, b) = (house.open(&ia, "ncc"), house.open(&ib, "locc"));
    crate::house::know(&a, &[&a, &b]);
    let file = house.dir.path().join("kaart.bin");
    std::fs::write(&file, b"a map").expect("written");
    let mut m = proposal("locc", b"(Dep.V) the text");
    (m.attachments, m.name) = (vec![file], Some("geheim.txt".into()));
    let draft = a.propose(&m, &[]).expect("proposed");
    let kept = a.spool.draft(draft).expect("read").expect("there").message;
    assert!(kept.body.is_empty() && kept.subject.is_empty() && kept.name.is_none());
    assert!(kept.attachments.is_empty(), "no paths either");
    drop(a);
    house.later(29 * 24 * 60 * 60 * 1000);
    // The node's daemon was away, and the message still may go out.
    let a = house.open(&ia, "ncc");
    assert_eq!(
        a.sealed.list().expect("listed").len(),
        1,
        "the attachment waits, too"
    );
    let mut late = a.spool.draft(draft).expect("read").expect("there");
    late.message.expires = a.now().after(1000);
    a.spool.propose(draft, &late).expect("kept");
    let id = a
        .establish(draft, &statement(&a, draft, &v), None, &Expanded::new())
        .expect("sent");
    let twice = a
        .establish(draft, &statement(&a, draft, &v), None, &Expanded::new())
        .expect_err("on its way");
    assert!(twice.to_string().contains("is on its way"), "{twice}");
    assert!(a.discard_draft(draft).is_err(), "on its way");
    // Refused, it is a draft again, with its attachment; nothing is lost.
    let no = Verdict::Refused {
        code: "NotPermitted".into(),
        rule: None,
        recipient: None,
    };
    a.decided(id, no).expect("noted");
    assert_eq!(a.sealed.list().expect("listed").len(), 1);
    let id = a
        .establish(draft, &statement(&a, draft, &v), None, &Expanded::new())
        .expect("sent");
    let envelope = a.outgoing(id).expect("read").expect("in the outbox");
    let envelope = Envelope::decode(&envelope).expect("an envelope");
    let header = envelope.header();
    assert_eq!(
        header.label.to_string(),
        format!("{LABEL} // VASTGESTELD vermeer.person.crisis.example")
    );
    assert_eq!((header.created, header.attachments.len()), (a.now(), 1));
    let history = a.history(id).expect("an act");
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].said().by, name("vermeer", Kind::Person));
    let yes = Verdict::Accepted {
        at: a.now(),
        sequence: 1,
    };
    a.decided(id, yes).expect("noted");
    assert!(
        a.spool.drafts().expect("read").is_empty(),
        "it is a draft no more"
    );
    assert_eq!(
        a.draft(draft, None).err().expect("gone").exit(),
        Exit::Refused
    );
    assert!(a.sealed.list().expect("listed").is_empty());
}

/// A key of a person, and its signed package.
fn key_of(signer: &FileSigner, until: Timestamp) -> (SealSecret, Opener) {
    let secret = SealSecret::generate(&mut SystemEntropy);
    let package = secret.package(signer.certificate().name(), until);
    let package = sign_statement(&package, signer).expect("signed").encode();
    (secret, Opener::Key(BASE64.encode(&package)))
}

#[test]
fn from_stg_g_persons_hold_a_draft_and_the_node_does_not() {
    let mut house = House::new();
    let (a, b) = house.pair();
    let (issued, w) = (
        house.issue("vermeer", Kind::Person),
        house.issue("bos", Kind::Person),
    );
    let (v, w) = (House::signer(&issued), House::signer(&w));
    let secret_label = "Stg.G // TOT 2030-01-01";
    let high = Submission {
        label: secret_label.into(),
        ..message(&["locc"], b"for two pairs of eyes")
    };
    let until = a.now().after(3_600_000);
    let (secret, key) = key_of(&v, until);
    let node = House::signer(&house.issue("toc", Kind::Node));
    let stranger = House::signer(&House::new().issue("vermeer", Kind::Person));
    for (openers, what) in [
        (vec![], "none is named"),
        (vec![Opener::Named("bos".into())], "has published no key"),
        (vec![Opener::Named("b o s".into())], "name"),
        (vec![Opener::Key("x".into())], "the key of whoever signs"),
        (vec![key_of(&node, until).1], "no person's"),
        (vec![key_of(&stranger, until).1], "the key of whoever signs"),
        (vec![key_of(&v, a.now()).1], "key"),
    ] {
        let e = a.propose(&high, &openers).expect_err(what);
        assert!(e.to_string().contains(what), "{what}: {e}");
    }
    let low = a.propose(&proposal("locc", b"x"), &[Opener::Named("bos".into())]);
    assert!(
        low.expect_err("the node's")
            .to_string()
            .contains("below Stg.G")
    );
    assert!(a.spool.drafts().expect("read").is_empty());

    // The directory's key of one, and one made for this draft of another.
    let (others, package) = key_of(&w, until);
    let Opener::Key(package) = package else {
        unreachable!()
    };
    let listed = |name: &Name, package: Bytes| DirectoryEntry {
        name: name.clone(),
        title: "somebody".into(),
        package: Some(package),
    };
    let package = BASE64.decode(package.as_bytes()).expect("base64");
    let all = [
        listed(&b.name, b.package().expect("a key")),
        listed(w.certificate().name(), package.into()),
    ];
    a.list(&all).expect("a directory");
    let draft = a
        .propose(&high, &[key, Opener::Named("bos".into())])
        .expect("proposed");
    assert_eq!(
        a.draft(draft, None).err().expect("sealed").exit(),
        Exit::Refused
    );
    let (_, Inside::Sealed { envelope, .. }) = a.inside(draft).expect("kept") else {
        panic!("the node can open it");
    };
    let verified = verify_envelope(*envelope, &a.trust(), a.now()).expect("authentic");
    let opened = |by: &FileSigner, key: &SealSecret| {
        let keys = std::slice::from_ref(key);
        open(&verified, keys, by.certificate().name()).map(|o| o.content)
    };
    assert!(a.open_own(&verified, None).is_err());
    assert!(opened(&v, &others).is_err());
    let content = opened(&v, &secret).expect("opens");
    assert_eq!(opened(&w, &others).expect("opens"), content);
    // What is handed over is what was drafted, to the last byte of its salt.
    let signed = |content: &Content| {
        let act = act(content.digest(), secret_label, &a.name, &v, &a);
        sign_statement(&act, &v).expect("signed").encode()
    };
    let other = Content {
        salt: [1; 32],
        ..content.clone()
    };
    let e = a.establish(draft, &signed(&other), Some(&other), &Expanded::new());
    assert_eq!(e.expect_err("another").exit(), Exit::Proof);
    assert!(a.outbox().order.is_empty());
    let id = a.establish(draft, &signed(&content), Some(&content), &Expanded::new());
    let envelope = a.outgoing(id.expect("sent")).expect("read");
    let envelope = Envelope::decode(&envelope.expect("in the outbox")).expect("an envelope");
    assert_eq!(
        envelope.header().recipients[0].node,
        name("locc", Kind::Node)
    );
    // Refused, it is a draft again; but for one that nobody could open any more, which is gone with its attachments.
    let no = || Verdict::Refused {
        code: "NotPermitted".into(),
        rule: None,
        recipient: None,
    };
    a.decided(envelope.header().id, no()).expect("noted");
    assert_eq!(a.spool.drafts().expect("read").len(), 1);
    let file = house.dir.path().join("bijlage.bin");
    std::fs::write(&file, b"a map").expect("written");
    let once = Submission {
        attachments: vec![file],
        ..high.clone()
    };
    let (key, package) = key_of(&v, until);
    let Opener::Key(package) = package else {
        unreachable!()
    };
    let draft = a.propose(&once, &[Opener::Once(package)]).expect("kept");
    let (_, Inside::Sealed { envelope, .. }) = a.inside(draft).expect("kept") else {
        panic!("the node can open it");
    };
    let verified = verify_envelope(*envelope, &a.trust(), a.now()).expect("authentic");
    let keys = std::slice::from_ref(&key);
    let opened = open(&verified, keys, v.certificate().name()).expect("opens");
    let handed = Some(&opened.content);
    let act = signed(&opened.content);
    let id = a
        .establish(draft, &act, handed, &Expanded::new())
        .expect("sent");
    assert_eq!(a.sealed.list().expect("listed").len(), 1);
    a.decided(id, no()).expect("noted");
    assert_eq!(a.spool.drafts().expect("read").len(), 1, "the other");
    assert!(a.sealed.list().expect("listed").is_empty());
    // One whose command ended before it was sent is dropped at the next start.
    let Opener::Key(package) = key_of(&v, until).1 else {
        unreachable!()
    };
    a.propose(&high, &[Opener::Once(package)]).expect("kept");
    a.drop_stranded().expect("dropped");
    assert_eq!(a.spool.drafts().expect("read").len(), 1, "the other");
    // Whoever is revoked before it is established has signed for a key that counts no more.
    house.revoke(&issued);
    let (_, late) = key_of(&v, until);
    *a.trust.write().expect("a lock") = Arc::new(house.authority.trust().expect("a trust"));
    assert!(a.propose(&high, &[late]).is_err());
}

#[test]
fn a_statement_about_something_else_sends_nothing() {
    let mut house = House::new();
    let (a, b) = house.pair();
    let v = House::signer(&house.issue("vermeer", Kind::Person));
    let node = House::signer(&house.issue("toc", Kind::Node));
    let draft = a
        .propose(&proposal("locc", b"(Stg.C) x"), &[])
        .expect("proposed");
    let other = a
        .propose(&proposal("locc", b"(Stg.C) x"), &[])
        .expect("proposed");
    let (_, content) = a.draft(draft, None).expect("a draft");
    let signed = |act: &Act| sign_statement(act, &v).expect("signed").encode();
    let good = act(content.digest(), LABEL, &a.name, &v, &a);
    let elsewhere = Act {
        node: b.name.clone(),
        ..good.clone()
    };
    let lower = act(content.digest(), "Dep.V // TOT 2036-01-01", &a.name, &v, &a);
    let for_ever = act(content.digest(), "Stg.C", &a.name, &v, &a);
    let forged = sign_statement(&good, &node).expect("signed").encode();
    for (what, bytes, says) in [
        (
            "of another draft",
            statement(&a, other, &v),
            "about something else",
        ),
        (
            "of another node",
            signed(&elsewhere),
            "about something else",
        ),
        (
            "below a marked line",
            signed(&lower),
            "line 1 is marked Stg.C",
        ),
        ("without an end", signed(&for_ever), "says until when"),
        ("by somebody else", forged, "certificate"),
        ("nonsense", Bytes::from_static(b"x"), "the statement"),
    ] {
        let e = a
            .establish(draft, &bytes, None, &Expanded::new())
            .expect_err(what);
        assert!(e.to_string().contains(says), "{what}: {e}");
    }
    assert!(a.outbox().order.is_empty());
    // From Stg.G up persons hold it, which the node did until now.
    let too_high = act(content.digest(), "Stg.G // TOT 2030-01-01", &a.name, &v, &a);
    let e = a.establish(draft, &signed(&too_high), None, &Expanded::new());
    assert!(e.expect_err("the node has it").hint().contains("--for"));
    // Another label than was proposed is the vaststeller's to give.
    let higher = act(content.digest(), "Stg.C // TOT 2030-01-01", &a.name, &v, &a);
    a.establish(draft, &signed(&higher), None, &Expanded::new())
        .expect("sent");
    a.discard_draft(other).expect("dropped");
    assert_eq!(
        a.spool.drafts().expect("read").len(),
        1,
        "the one on its way"
    );
    let plain = a
        .propose(&message(&["locc"], b"x"), &[])
        .expect_err("nothing to establish");
    assert!(plain.hint().contains("ordonnans send"));
}

#[test]
fn an_act_of_ours_is_told_until_the_broker_has_answered() {
    let mut house = House::new();
    let (ia, ib) = (
        house.issue("ncc", Kind::Node),
        house.issue("locc", Kind::Node),
    );
    let v = House::signer(&house.issue("vermeer", Kind::Person));
    let (a, b) = (house.open(&ia, "ncc"), house.open(&ib, "locc"));
    crate::house::know(&a, &[&a, &b]);
    let (id, first, _) = sent(&a, &v);
    let now = Instant::now();
    let mut machine = begun(&a, now);
    machine.take(accepted(id), now).expect("taken");
    let act = revision(&first, first.digest(), id, "Dep.V // TOT 2030-01-01", &v);
    let of = a.state(&Frame::Act { act: act.clone() }).expect("kept");
    machine.pump(now).expect("pumps");
    heard(&mut machine);
    machine.pump(now + REPEAT / 2).expect("pumps");
    assert!(stated(&mut machine).is_empty(), "too early");
    machine.pump(now + REPEAT).expect("pumps");
    assert_eq!(stated(&mut machine), [Frame::Act { act: act.clone() }]);
    drop((machine, a));
    let a = house.open(&ia, "ncc");
    let mut machine = begun(&a, now);
    assert_eq!(
        stated(&mut machine),
        [Frame::Act { act }],
        "also after a restart"
    );
    let busy = Frame::NotKept {
        of,
        code: ReplyCode::Busy,
        rule: None,
    };
    machine.take(busy, now).expect("taken");
    assert_eq!(a.revised(id).expect("read"), None, "not in force yet");
    machine.take(Frame::Kept { of }, now).expect("taken");
    let shown = a.revised(id).expect("read").expect("revised").to_string();
    assert!(shown.starts_with("Dep.V // TOT 2030-01-01"), "{shown}");
    machine.pump(now + REPEAT * 3).expect("pumps");
    assert!(stated(&mut machine).is_empty());

    // One that is refused changes nothing, and what became of it is known.
    let last = a.history(id).expect("acts").last().expect("one").digest();
    let act = revision(&first, last, id, "Stg.ZG // TOT 2030-01-01", &v);
    let of = a.state(&Frame::Act { act }).expect("kept");
    let no = Frame::NotKept {
        of,
        code: ReplyCode::NotPermitted,
        rule: Some(7),
    };
    machine.take(no, now).expect("taken");
    let verdict = a
        .spool
        .statement(&of)
        .expect("read")
        .expect("there")
        .verdict;
    assert_eq!(verdict, Some(refused(ReplyCode::NotPermitted, Some(7))));
    assert_ne!(verdict, Some(Answered::Kept));
    assert_eq!(a.history(id).expect("acts").len(), 2);
}

#[test]
fn what_the_broker_passes_on_stands_beside_the_message_in_its_line() {
    let mut house = House::new();
    let (a, b) = house.pair();
    let v = House::signer(&house.issue("vermeer", Kind::Person));
    let (id, first, envelope) = sent(&a, &v);
    let now = Instant::now();
    let mut machine = begun(&b, now);
    heard(&mut machine);
    let second = revision(&first, first.digest(), id, "Stg.G // TOT 2030-01-01", &v);
    let between = SignedAct::decode(&second).expect("an act").digest();
    let third = revision(&first, between, id, "Dep.V // TOT 2030-01-01", &v);
    // They come in any order, even before the message, and once more than needed.
    for act in [third.clone(), second.clone(), third] {
        let frame = Frame::Act { act };
        let of = frame.digest();
        machine.take(frame, now).expect("taken");
        assert_eq!(stated(&mut machine), [Frame::Kept { of }]);
    }
    machine
        .take(Frame::Deliver { envelope }, now)
        .expect("taken");
    assert_eq!(receipts(&mut machine).len(), 1);
    let history = b.history(id).expect("acts");
    let shown: Vec<String> = history.iter().map(|a| a.said().label.to_string()).collect();
    assert_eq!(shown.len(), 3);
    assert!(
        shown[0].starts_with("Stg.C") && shown[1].starts_with("Stg.G"),
        "{shown:?}"
    );
    let in_force = b.revised(id).expect("read").expect("revised").to_string();
    assert!(in_force.starts_with("Dep.V"), "{in_force}");
    // The message itself is as it came.
    let inbox = b.spool.inbox().expect("read");
    assert!(inbox[0].0.header().label.to_string().starts_with("Stg.C"));
    // One that follows nothing known is kept and not in force; one that is not authentic is not kept.
    let stray = revision(&first, first.said().subject, id, "Ongerubriceerd", &v);
    machine.take(Frame::Act { act: stray }, now).expect("taken");
    assert_eq!(stated(&mut machine).len(), 1);
    assert_eq!(b.history(id).expect("acts").len(), 3);
    for act in [Bytes::from_static(b"x"), first.encode()] {
        machine.take(Frame::Act { act }, now).expect("taken");
        assert!(stated(&mut machine).is_empty());
    }
}

#[test]
fn a_review_that_is_due_stays_so_until_somebody_acts() {
    let mut house = House::new();
    let (a, _) = house.pair();
    let v = House::signer(&house.issue("vermeer", Kind::Person));
    let (id, first, _) = sent(&a, &v);
    let now = Instant::now();
    let mut machine = begun(&a, now);
    heard(&mut machine);
    let due = Frame::ReviewDue {
        id,
        by: name("vermeer", Kind::Person),
        event: Some("einde".into()),
    };
    for _ in 0..2 {
        machine.take(due.clone(), now).expect("taken");
        assert_eq!(stated(&mut machine), [Frame::Kept { of: due.digest() }]);
    }
    let all = a.spool.reviews().expect("read");
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].0, all[0].1.event.as_deref()), (id, Some("einde")));
    let act = revision(&first, first.digest(), id, "Stg.C // TOT 2040-01-01", &v);
    let of = a.state(&Frame::Act { act }).expect("kept");
    assert_eq!(
        a.spool.reviews().expect("read").len(),
        1,
        "not yet in force"
    );
    machine.take(Frame::Kept { of }, now).expect("taken");
    assert!(a.spool.reviews().expect("read").is_empty());
}

#[test]
fn a_statement_that_nobody_believes_never_leaves() {
    let mut house = House::new();
    let (a, _) = house.pair();
    let stranger = House::new().issue("vermeer", Kind::Person);
    let stranger = House::signer(&stranger);
    let d = Declaration {
        event: "einde".into(),
        by: stranger.certificate().name().clone(),
        at: a.now(),
    };
    let declaration = sign_statement(&d, &stranger).expect("signed").encode();
    let e = a
        .state(&Frame::Declare { declaration })
        .expect_err("a stranger");
    assert!(e.to_string().contains("the statement is not right"), "{e}");
    assert!(
        a.state(&Frame::DirectoryGet).is_err(),
        "no statement at all"
    );
    assert!(a.statements().is_empty());
}
