//! Passing on at a desk: as it is, and as an extract with two signatures.

use bytes::Bytes;
use ordonnans_certs::Issued;
use ordonnans_identity::{FileSigner, Signer};
use ordonnans_label::Kind;
use ordonnans_message::{
    Act, ActKind, Envelope, Follows, Frame, Header, How, MessageId, ReceiptKind, ReplyCode, Second,
    SignedAct,
};
use ordonnans_seal::sign_statement;
use std::sync::Arc;
use std::time::Instant;

use crate::addressing::Expanded;
use crate::desk::Desk;
use crate::drafts::DraftId;
use crate::failure::{Exit, Failure};
use crate::house::{House, begun, heard, know, message, refused};
use crate::incoming::Arrival;
use crate::local::Submission;
use crate::spool::Verdict;

const STG_C: &str = "Stg.C // TOT 2036-01-01";
const DEP_V: &str = "Dep.V // TOT 2036-01-01";

/// Three nodes that know each other's keys, and two persons.
struct Town {
    house: House,
    a: Arc<Desk>,
    b: Arc<Desk>,
    c: Arc<Desk>,
    v: FileSigner,
    w: FileSigner,
}

impl Town {
    fn new() -> Self {
        let mut house = House::new();
        let nodes: Vec<Issued> = ["ncc", "locc", "toc"]
            .map(|n| house.issue(n, Kind::Node))
            .into();
        let persons: Vec<Issued> = ["vermeer", "bos"]
            .map(|n| house.issue(n, Kind::Person))
            .into();
        let (a, b, c) = (
            house.open(&nodes[0], "ncc"),
            house.open(&nodes[1], "locc"),
            house.open(&nodes[2], "toc"),
        );
        for desk in [&a, &b, &c] {
            know(desk, &[&a, &b, &c]);
        }
        Self {
            v: House::signer(&persons[0]),
            w: House::signer(&persons[1]),
            house,
            a,
            b,
            c,
        }
    }
}

fn act_of(desk: &Desk, draft: DraftId, kind: ActKind, label: &str, by: &FileSigner) -> Act {
    let (kept, content) = desk.draft(draft, None).expect("a draft");
    let who = by.certificate().name().clone();
    let parent = kept.parent.map(|of| desk.parent(of).expect("a parent"));
    Act {
        kind,
        subject: content.digest(),
        label: format!("{label} // VASTGESTELD {who}")
            .parse()
            .expect("a label"),
        node: parent
            .as_ref()
            .map_or(desk.name.clone(), |p| p.act.node.clone()),
        by: who,
        at: desk.now(),
        follows: parent.map(|p| p.follows),
    }
}

fn signed(act: &Act, by: &FileSigner) -> SignedAct {
    sign_statement(act, by).expect("signed")
}

fn envelope(desk: &Desk, id: MessageId) -> Envelope {
    let bytes = desk.outgoing(id).expect("read").expect("in the outbox");
    Envelope::decode(&bytes).expect("an envelope")
}

/// A message with an attachment that was established and sent.
fn sent(t: &Town, desk: &Desk, to: &str, label: &str) -> Envelope {
    let file = t.house.dir.path().join("kaart.bin");
    std::fs::write(&file, b"a map").expect("written");
    let s = Submission {
        label: label.into(),
        attachments: vec![file],
        ..message(&[to], b"(Dep.V) the dike")
    };
    let draft = desk.propose(&s, &[]).expect("proposed");
    let act = signed(&act_of(desk, draft, ActKind::Establish, label, &t.v), &t.v);
    let id = desk.establish(draft, &act.encode(), None, &Expanded::new());
    envelope(desk, id.expect("sent"))
}

/// Brings a message and its attachments to a node.
fn arrives(from: &Desk, to: &Desk, e: &Envelope) {
    for a in &e.header().attachments {
        let mut bytes = vec![];
        let mut file = from.sealed.read(&a.digest).expect("here");
        std::io::Read::read_to_end(&mut file, &mut bytes).expect("read");
        let mut upload = to.attachments.upload(a.digest, a.length).expect("begins");
        upload.append(&bytes).expect("taken");
        assert!(upload.finish().expect("whole"));
    }
    let arrived = to.arrive(e.clone()).expect("kept");
    assert!(matches!(arrived, Arrival::Receipted(_)), "{arrived:?}");
}

fn says(e: &Failure, what: &str) {
    assert!(e.to_string().contains(what), "{e}");
    assert_eq!(e.exit(), Exit::Refused, "{e}");
}

#[test]
fn what_goes_on_is_the_same_content_under_the_act_in_force() {
    let t = Town::new();
    let first = sent(&t, &t.a, "locc", STG_C);
    let id = first.header().id;
    arrives(&t.a, &t.b, &first);
    let to = message(&["toc"], b"");
    let on = |desk: &Desk, id, s: &Submission| {
        let label = desk.passable(id)?.to_string();
        desk.forward(
            id,
            None,
            &Submission { label, ..s.clone() },
            &Expanded::new(),
        )
    };
    let forwarded = envelope(&t.b, on(&t.b, id, &to).expect("passed on"));
    let h: &Header = forwarded.header();
    let passed = h.passed.as_ref().expect("it says so");
    assert_eq!((passed.how, passed.parent), (How::AsItIs, id));
    let of = first.header();
    assert_eq!((&h.label, &h.act, h.exercise), (&of.label, &of.act, true));
    assert_eq!(h.attachments, of.attachments);
    // The receipt *opened* is owed, as for every reader.
    let me = t.b.name.clone();
    assert!(t.b.owed().contains_key(&(id, ReceiptKind::Opened, me)));
    arrives(&t.b, &t.c, &forwarded);
    let read = |desk: &Desk, id| {
        let read = desk.read(id, ReceiptKind::Opened, None).expect("opens");
        read.content().clone()
    };
    assert_eq!(read(&t.c, h.id), read(&t.b, id));
    assert_eq!(t.b.sealed.list().expect("listed").len(), 1);
    let yes = Verdict::Accepted {
        at: t.b.now(),
        sequence: 1,
    };
    t.b.decided(h.id, yes).expect("noted");
    assert!(t.b.sealed.list().expect("listed").is_empty());

    // An act on the first is told to who has it from another: it stands beside that, and what goes on from there carries it.
    let established = of.act.as_ref().expect("an act");
    let up = Act {
        kind: ActKind::Revise,
        label: "Stg.C // TOT 2040-01-01 // VASTGESTELD vermeer.person.crisis.example"
            .parse()
            .expect("a label"),
        follows: Some(Follows {
            message: id,
            act: established.digest(),
        }),
        ..established.said().clone()
    };
    let up = signed(&up, &t.v);
    assert!(t.c.told(&up.encode()).expect("kept"));
    let shown = t.c.revised(h.id).expect("read").expect("revised");
    assert_eq!(shown, up.said().label);
    let again = on(&t.c, h.id, &message(&["locc"], b"")).expect("passed on");
    let again = envelope(&t.c, again);
    assert_eq!(again.header().act.as_ref(), Some(&up));
    assert_eq!(again.header().passed.as_ref().map(|p| p.parent), Some(id));

    // What may not go on, by name, and nothing is signed for it.
    says(
        &on(&t.c, id, &to).expect_err("it has only what was passed on"),
        "is not in the inbox",
    );
    let secret = sent(&t, &t.a, "locc", "Dep.V // TOT 2036-01-01");
    arrives(&t.a, &t.b, &secret);
    let act_of = secret.header().act.as_ref().expect("an act");
    let raised = Act {
        kind: ActKind::Revise,
        label: "Stg.G // TOT 2040-01-01 // VASTGESTELD vermeer.person.crisis.example"
            .parse()
            .expect("a label"),
        follows: Some(Follows {
            message: secret.header().id,
            act: act_of.digest(),
        }),
        ..act_of.said().clone()
    };
    assert!(t.b.told(&signed(&raised, &t.v).encode()).expect("kept"));
    let e = on(&t.b, secret.header().id, &to).expect_err("raised to Stg.G");
    says(&e, "POL-25");
    let key = (secret.header().id, ReceiptKind::Opened, t.b.name.clone());
    assert!(!t.b.owed().contains_key(&key), "nobody opened it");
    let mut row = t.b.spool.arrived(id).expect("read").expect("here");
    row.recalled = Some(t.b.now());
    t.b.spool.recalled(id, &row).expect("noted");
    says(&on(&t.b, id, &to).expect_err("recalled"), "taken back");
}

fn second(of: &SignedAct, by: &FileSigner, desk: &Desk) -> Bytes {
    let said = Second {
        act: of.digest(),
        by: by.certificate().name().clone(),
        at: desk.now(),
    };
    sign_statement(&said, by).expect("signed").encode()
}

#[test]
fn an_extract_waits_for_both_who_sign_it() {
    let t = Town::new();
    let parent = sent(&t, &t.a, "locc", STG_C);
    arrives(&t.a, &t.b, &parent);
    let of = parent.header().id;
    let extract = |label: &str| Submission {
        label: label.into(),
        exercise: false,
        ..message(&["toc"], b"(Dep.V) be careful")
    };
    // Neither higher, nor under another policy, nor below a marked line, nor of what is not known here.
    for (label, what) in [
        ("Stg.G // TOT 2036-01-01", "not higher than its parent"),
        ("Ongerubriceerd", "line 1 is marked Dep.V"),
    ] {
        let e = t.b.extract(of, &extract(label), &[]).expect_err(label);
        assert!(e.to_string().contains(what), "{e}");
    }
    let foreign = Submission {
        body: b"be careful".to_vec(),
        ..extract("NATO RESTRICTED")
    };
    let e =
        t.b.extract(of, &foreign, &[])
            .expect_err("of another policy");
    assert!(e.to_string().contains("has a Dutch label"), "{e}");
    let strange = MessageId::new(t.b.now(), [3; 10]);
    let e =
        t.b.extract(strange, &extract(DEP_V), &[])
            .expect_err("unknown");
    says(&e, "no label that a person established here");

    // By the node that has it, and by the one that sent it.
    for desk in [&t.b, &t.a] {
        let draft = desk.extract(of, &extract(DEP_V), &[]).expect("a draft");
        let early = second(&parent.header().act.clone().expect("an act"), &t.w, desk);
        let e = desk.second(draft, &early, None, &Expanded::new());
        says(&e.expect_err("too early"), "nobody has established");
        // What establishes a message of its own is none of an extract, and the vaststeller's alone does not send it.
        let own = Act {
            kind: ActKind::Establish,
            node: desk.name.clone(),
            follows: None,
            ..act_of(desk, draft, ActKind::Extract, DEP_V, &t.v)
        };
        let e = desk.sign_first(draft, &signed(&own, &t.v).encode(), None);
        says(&e.expect_err("no extract"), "about something else");
        let first = signed(&act_of(desk, draft, ActKind::Extract, DEP_V, &t.v), &t.v);
        assert!(desk.sign_first(draft, &first.encode(), None).expect("kept"));
        let before = desk.outbox().order.len();
        for (by, over, what) in [
            (&t.v, first.clone(), "POL-29"),
            (&t.w, signed(&own, &t.v), "POL-28"),
        ] {
            let e = desk.second(draft, &second(&over, by, desk), None, &Expanded::new());
            says(&e.expect_err(what), what);
        }
        assert_eq!(desk.outbox().order.len(), before, "nothing went out");
        let word = second(&first, &t.w, desk);
        let id = desk
            .second(draft, &word, None, &Expanded::new())
            .expect("sent");
        let e = envelope(desk, id);
        let passed = e.header().passed.clone().expect("it says so");
        assert_eq!((passed.how, passed.parent), (How::Extract, of));
        assert_eq!(passed.second.map(|s| s.encode()), Some(word.clone()));
        assert!(e.header().exercise, "of an exercise, whatever was typed");
        arrives(desk, &t.c, &e);
        // Refused by the broker it is a draft again, and the second may sign once more.
        let now = Instant::now();
        let mut machine = begun(desk, now);
        heard(&mut machine);
        machine
            .take(refused(id, ReplyCode::NotPermitted, None), now)
            .expect("taken");
        let id = desk.second(draft, &word, None, &Expanded::new());
        assert!(id.is_ok());
    }

    // Once the parent was revised, what was signed before is stale.
    let draft = t.b.extract(of, &extract(DEP_V), &[]).expect("a draft");
    let first = signed(&act_of(&t.b, draft, ActKind::Extract, DEP_V, &t.v), &t.v);
    assert!(t.b.sign_first(draft, &first.encode(), None).expect("kept"));
    let established = parent.header().act.as_ref().expect("an act");
    let up = Act {
        kind: ActKind::Revise,
        follows: Some(Follows {
            message: of,
            act: established.digest(),
        }),
        label: format!(
            "Stg.G // TOT 2036-01-01 // VASTGESTELD {}",
            t.v.certificate().name()
        )
        .parse()
        .expect("a label"),
        ..established.said().clone()
    };
    let up = Frame::Act {
        act: signed(&up, &t.v).encode(),
    };
    let Frame::Act { act } = &up else {
        unreachable!()
    };
    assert!(t.b.told(act).expect("kept"));
    let e =
        t.b.second(draft, &second(&first, &t.w, &t.b), None, &Expanded::new());
    says(&e.expect_err("stale"), "about something else");
    // It is Stg.G now, so persons hold an extract until it is signed, whatever level is proposed; and what the node holds goes nowhere.
    let first = signed(&act_of(&t.b, draft, ActKind::Extract, DEP_V, &t.v), &t.v);
    let e = t.b.sign_first(draft, &first.encode(), None);
    says(&e.expect_err("the node has it"), "persons hold it");
    let e = t.b.extract(of, &extract(DEP_V), &[]);
    assert!(e.expect_err("nobody").to_string().contains("none is named"));
}
