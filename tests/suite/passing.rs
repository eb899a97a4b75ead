//! Messages that pass another on: as it is, and as an extract with two signatures. What the broker lets through, what it records, and by which rule it
//! refuses, whatever a client says.

use std::fs;

use ordonnans_audit::Verb;
use ordonnans_broker::Broker;
use ordonnans_client::officer::Officer;
use ordonnans_identity::Signer as _;
use ordonnans_label::{Label, Level, Name};
use ordonnans_message::{
    Act, ActKind, Content, ContentRef, Envelope, Follows, Frame, Header, How, MessageId, OrderKind,
    PassedOn, Precedence, ReceiptKind, Recipient, ReplyCode, Role, Second, SignedAct, SignedSecond,
    sha256,
};
use ordonnans_seal::{Entropy, SeededEntropy, open, seal, sign_statement, verify_envelope};
use ordonnans_tests::house::{Draft, House, register_text};
use ordonnans_tests::site::{Peer, Site, now};
use ordonnans_transport::Lane;

const NCC: usize = 0;
const DEF: usize = 1;
const LOCC: usize = 2;
const POLITIE: usize = 3;
const VR: usize = 4;
const WATER: usize = 5;

struct Town {
    house: House,
    site: Site,
    broker: Broker,
    entropy: SeededEntropy,
    _dir: tempfile::TempDir,
}

/// What a message is made of that passes another on.
struct Draw {
    from: usize,
    to: Vec<usize>,
    content: Content,
    act: Option<SignedAct>,
    label: Label,
    passed: PassedOn,
}

type Verdict = Result<MessageId, (ReplyCode, Option<u16>)>;

impl Town {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut house = House::new();
        let site = Site::new(dir.path(), &mut house);
        fs::write(dir.path().join("register.toml"), register_text(1, None)).expect("written");
        let broker = Broker::start(site.config()).await.expect("starts");
        let town = Self {
            house,
            site,
            broker,
            entropy: SeededEntropy::new(11),
            _dir: dir,
        };
        for node in 0..town.house.nodes.len() {
            town.peer(node).await.leave().await;
        }
        town
    }

    async fn restart(self) -> Self {
        self.broker.stop().await.expect("stops");
        let broker = Broker::start(self.site.config()).await.expect("starts");
        Self { broker, ..self }
    }

    async fn peer(&self, node: usize) -> Peer {
        self.site.peer_soon(&self.house, node).await
    }

    /// A message that was accepted.
    async fn sent(&mut self, from: usize, to: &[usize], level: Level) -> Envelope {
        let d = Draft {
            from,
            to: to.to_vec(),
            level,
            circle: false,
            precedence: Precedence::Routine,
            lifetime: 3_600_000,
            body: b"inhoud".to_vec(),
        };
        let e = self.house.seal(&d, now(), &mut self.entropy).into_inner();
        let peer = self.peer(from).await;
        peer.publish(e.encode()).await.expect("sends");
        let decision = peer.decision().await.expect("decides");
        assert!(matches!(decision, Frame::Accepted { .. }), "{decision:?}");
        peer.leave().await;
        e
    }

    /// What a recipient reads in it.
    fn opened(&self, e: &Envelope, by: usize) -> Content {
        let n = &self.house.nodes[by];
        let verified = verify_envelope(e.clone(), &self.house.trust, now()).expect("authentic");
        let secret = std::slice::from_ref(&n.secret);
        open(&verified, secret, &n.name).expect("opens").content
    }

    /// Another content.
    fn text(&mut self, body: &[u8]) -> Content {
        let mut salt = [0; 32];
        self.entropy.fill(&mut salt);
        Content {
            salt,
            media_type: "text/plain".into(),
            body: body.to_vec(),
            ..Content::default()
        }
    }

    fn seal(&mut self, d: &Draw) -> Envelope {
        let (none, at) = (sha256(&[]), now());
        let mut random = [0; 10];
        self.entropy.fill(&mut random);
        let level = d.label.confidentiality.level();
        let from = &self.house.nodes[d.from];
        let to = d.to.iter().map(|i| {
            let n = &self.house.nodes[*i];
            Recipient {
                node: n.name.clone(),
                person: (level >= Level::StgG).then(|| n.vaststeller.certificate().name().clone()),
                role: Role::Action,
                precedence: Precedence::Routine,
            }
        });
        let header = Header {
            id: MessageId::new(at, random),
            originator: from.name.clone(),
            author: None,
            label: d.label.clone(),
            recipients: to.collect(),
            exercise: true,
            created: at,
            expires: at.after(3_600_000),
            reply_by: None,
            references: vec![],
            supersedes: None,
            content: ContentRef {
                digest: none,
                length: 0,
            },
            attachments: vec![],
            sealing: ordonnans_message::Sealing {
                suite: ordonnans_message::SUITE_X_WING,
                commitment: none,
                seals: none,
            },
            act: d.act.clone(),
            groups: vec![],
            passed: Some(d.passed.clone()),
        };
        let all = self.house.nodes.iter();
        let keys: Vec<_> = all
            .flat_map(|n| [n.package.clone(), n.persons_package.clone()])
            .collect();
        seal(header, &d.content, &keys, &from.signer, &mut self.entropy).expect("sealed")
    }

    async fn publish(&mut self, d: &Draw) -> Verdict {
        let e = self.seal(d);
        let peer = self.peer(d.from).await;
        peer.publish(e.encode()).await.expect("sends");
        let decision = peer.decision().await.expect("decides");
        peer.leave().await;
        match decision {
            Frame::Accepted { id, .. } => Ok(id),
            Frame::Refused { code, rule, .. } => Err((code, rule)),
            other => panic!("{other:?}"),
        }
    }

    /// A message passed on as it is, with the act that it came with.
    fn forward(&self, of: &Envelope, by: usize, to: &[usize]) -> Draw {
        let h = of.header();
        let first = h.passed.as_ref().map_or(h.id, |p| p.parent);
        Draw {
            from: by,
            to: to.to_vec(),
            content: self.opened(of, by),
            act: h.act.clone(),
            label: h.label.clone(),
            passed: PassedOn {
                how: How::AsItIs,
                parent: first,
                second: None,
            },
        }
    }

    fn act(&self, by: usize, of: &Envelope, label: &str, content: &Content) -> Act {
        let parent = of.header().act.as_ref().expect("an act");
        let by = self.house.nodes[by].vaststeller.certificate().name();
        Act {
            kind: ActKind::Extract,
            subject: content.digest(),
            label: format!("{label} // VASTGESTELD {by}")
                .parse()
                .expect("a label"),
            node: parent.said().node.clone(),
            by: by.clone(),
            at: now(),
            follows: Some(Follows {
                message: of.header().id,
                act: parent.digest(),
            }),
        }
    }

    fn signed(&self, by: usize, act: &Act) -> SignedAct {
        sign_statement(act, &self.house.nodes[by].vaststeller).expect("signed")
    }

    fn second(&self, by: usize, of: &SignedAct) -> SignedSecond {
        let signer = &self.house.nodes[by].vaststeller;
        let second = Second {
            act: of.digest(),
            by: signer.certificate().name().clone(),
            at: now(),
        };
        sign_statement(&second, signer).expect("signed")
    }

    /// An extract as it should be: signed by the person of NCC, and by that of DEF.
    fn extract(&mut self, of: &Envelope, by: usize, label: &str, to: &[usize]) -> Draw {
        let content = self.text(b"wat naar buiten mag");
        let act = self.signed(NCC, &self.act(NCC, of, label, &content));
        Draw {
            from: by,
            to: to.to_vec(),
            content,
            label: act.said().label.clone(),
            passed: PassedOn {
                how: How::Extract,
                parent: of.header().id,
                second: Some(self.second(DEF, &act)),
            },
            act: Some(act),
        }
    }
}

/// The next message that a peer gets.
async fn delivered(peer: &Peer) -> Envelope {
    peer.next(|f| match f {
        Frame::Deliver { envelope } => Envelope::decode(&envelope).ok(),
        _ => None,
    })
    .await
}

async fn state(peer: &Peer, act: &SignedAct) -> Result<(), (ReplyCode, Option<u16>)> {
    peer.state(&Frame::Act { act: act.encode() }).await
}

const fn rule(n: u16) -> Verdict {
    Err((ReplyCode::NotPermitted, Some(n)))
}

fn who(t: &Town, node: usize) -> Option<Name> {
    Some(t.house.nodes[node].name.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_on_keeps_its_label_and_who_gets_it_is_told_of_acts() {
    let mut t = Town::new().await;
    let first = t.sent(NCC, &[DEF], Level::DepV).await;
    let f1 = t.publish(&t.forward(&first, DEF, &[LOCC])).await;
    let f1 = f1.expect("accepted");
    // Who gets it opens the very content that the vaststeller signed.
    let locc = t.peer(LOCC).await;
    let got = delivered(&locc).await;
    assert_eq!(got.header().id, f1);
    assert_eq!(t.opened(&got, LOCC), t.opened(&first, DEF));
    locc.leave().await;
    let log = t.site.told(Verb::Forwarded, 1).await;
    assert_eq!(
        (&log[0].who, log[0].message),
        (&who(&t, DEF), Some(first.header().id))
    );
    assert!(
        log[0]
            .note
            .as_deref()
            .is_some_and(|n| n.ends_with(&f1.to_string()))
    );

    // Who has it from another passes it on again, also after a restart; who has it from nobody does not.
    let mut t = t.restart().await;
    let on = t.forward(&got, LOCC, &[POLITIE]);
    let f2 = t.publish(&on).await.expect("accepted");
    let stranger = Draw {
        from: WATER,
        ..t.forward(&got, LOCC, &[NCC])
    };
    assert_eq!(
        t.publish(&stranger).await,
        rule(3),
        "it may not hold it at all"
    );
    let stranger = Draw {
        from: VR,
        ..t.forward(&got, LOCC, &[NCC])
    };
    assert_eq!(t.publish(&stranger).await, rule(23), "it never had it");
    let mut unknown = t.forward(&first, DEF, &[LOCC]);
    unknown.passed.parent = MessageId::new(now(), [7; 10]);
    assert_eq!(t.publish(&unknown).await, rule(23), "nobody knows it");
    // A lower label is no label of what is passed on as it is, whoever establishes it.
    let content = t.opened(&first, DEF);
    let lower = Act {
        kind: ActKind::Establish,
        label: "Ongerubriceerd // VASTGESTELD p-def.person.crisis.example"
            .parse()
            .expect("a label"),
        node: t.house.nodes[DEF].name.clone(),
        by: t.house.nodes[DEF].vaststeller.certificate().name().clone(),
        follows: None,
        ..t.act(DEF, &first, "Dep.V", &content)
    };
    let lowered = Draw {
        label: lower.label.clone(),
        act: Some(t.signed(DEF, &lower)),
        ..t.forward(&first, DEF, &[WATER])
    };
    assert_eq!(t.publish(&lowered).await, rule(24));
    // Without its act it is no longer what was established.
    let bare = Draw {
        act: None,
        ..t.forward(&first, DEF, &[LOCC])
    };
    assert_eq!(t.publish(&bare).await, rule(24));

    // The vaststeller raises the label: all who have it hear, whoever they have it from. POLITIE's copy waits, and goes out.
    let act = first.header().act.as_ref().expect("an act").digest();
    let up = t
        .house
        .revises(NCC, &first, act, ActKind::Revise, "Stg.C // TOT 2036-01-01");
    let up = up.expect("an act");
    let ncc = t.peer(NCC).await;
    assert_eq!(state(&ncc, &up).await, Ok(()));
    ncc.leave().await;
    for node in [DEF, LOCC, POLITIE] {
        let peer = t.peer(node).await;
        let told = peer.next(|f| match f {
            Frame::Act { act } => Some(act),
            _ => None,
        });
        assert_eq!(told.await, up.encode(), "{node}");
        peer.leave().await;
    }
    // From here on it goes on under that label, by that act.
    assert_eq!(t.publish(&t.forward(&got, LOCC, &[NCC])).await, rule(24));
    let raised = |t: &Town, to| Draw {
        label: up.said().label.clone(),
        act: Some(up.clone()),
        ..t.forward(&got, LOCC, to)
    };
    let (may, not) = (raised(&t, &[NCC]), raised(&t, &[VR]));
    assert!(t.publish(&may).await.is_ok());
    assert_eq!(
        t.publish(&not).await,
        Err((ReplyCode::NotPermitted, None)),
        "about VR"
    );
    let log = t.site.told(Verb::Forwarded, 3).await;
    assert!(log.iter().all(|d| d.message == Some(first.header().id)));
    assert!(
        log[1]
            .note
            .as_deref()
            .is_some_and(|n| n.ends_with(&f2.to_string()))
    );
    let refused = t.site.told(Verb::Refused, 6).await;
    let rules: Vec<_> = refused.iter().filter_map(|d| d.rule).collect();
    assert_eq!(rules, [3, 23, 23, 24, 24, 24, 10]);

    // What its originator takes back goes on no more, whoever has it.
    let back = t.house.receipt(&first, NCC, ReceiptKind::Recalled);
    let receipt = back.get().encode();
    let ncc = t.peer(NCC).await;
    let said = Frame::Receipt { receipt };
    ncc.say(Lane::Control, &said).await.expect("sends");
    ncc.next(|f| matches!(f, Frame::ReceiptStored { .. }).then_some(()))
        .await;
    ncc.leave().await;
    assert_eq!(t.publish(&raised(&t, &[NCC])).await, rule(23));

    // From Stg.G up nothing is passed on as it is.
    let secret = t.sent(NCC, &[DEF], Level::StgG).await;
    let act = secret.header().act.clone();
    let n = &t.house.nodes[DEF];
    let verified = verify_envelope(secret.clone(), &t.house.trust, now()).expect("authentic");
    let me = n.vaststeller.certificate().name();
    let opened = open(&verified, std::slice::from_ref(&n.persons_secret), me).expect("opens");
    let on = Draw {
        from: DEF,
        to: vec![NCC],
        content: opened.content,
        label: secret.header().label.clone(),
        act,
        passed: PassedOn {
            how: How::AsItIs,
            parent: secret.header().id,
            second: None,
        },
    };
    assert_eq!(t.publish(&on).await, rule(25));
    t.broker.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extract_has_two_signatures_or_is_refused_by_its_own_rule() {
    let mut t = Town::new().await;
    let parent = t.sent(NCC, &[DEF, LOCC], Level::StgC).await;
    let other = t.sent(NCC, &[DEF], Level::StgC).await;
    const DEP_V: &str = "Dep.V // TOT 2036-01-01";

    // Refused, each by its own rule, and nothing is kept of it.
    let mut d = t.extract(&parent, NCC, DEP_V, &[VR]);
    let act = d.act.clone().expect("an act");
    d.passed.second = None;
    assert_eq!(t.publish(&d).await, rule(28), "the vaststeller alone");
    d.passed.second = Some(t.second(NCC, &act));
    assert_eq!(t.publish(&d).await, rule(29), "one person twice");
    d.passed.second = Some(t.second(VR, &act));
    assert_eq!(
        t.publish(&d).await,
        rule(30),
        "cleared for the extract alone"
    );
    let text = t.text(b"iets anders");
    for (what, over) in [
        ("content", t.act(NCC, &parent, DEP_V, &text)),
        ("label", t.act(NCC, &parent, "Ongerubriceerd", &d.content)),
        ("parent", t.act(NCC, &other, DEP_V, &d.content)),
    ] {
        let over = t.signed(NCC, &over);
        d.passed.second = Some(t.second(DEF, &over));
        assert_eq!(t.publish(&d).await, rule(28), "over another {what}");
    }
    // Another than the parent's vaststeller, though mandated; what names another act; what is of another node; what nobody knows.
    let mut by = |signer: usize, change: fn(&mut Act)| {
        let content = t.text(b"uittreksel");
        let mut act = t.act(signer, &parent, DEP_V, &content);
        change(&mut act);
        let act = t.signed(signer, &act);
        let second = if signer == DEF { NCC } else { DEF };
        Draw {
            from: NCC,
            to: vec![VR],
            content,
            label: act.said().label.clone(),
            passed: PassedOn {
                how: How::Extract,
                parent: act.said().follows.expect("a parent").message,
                second: Some(t.second(second, &act)),
            },
            act: Some(act),
        }
    };
    let cases = [
        (by(DEF, |_| ()), 27),
        (
            by(NCC, |a| {
                if let Some(f) = &mut a.follows {
                    f.act = sha256(&[b"another act"]);
                }
            }),
            26,
        ),
        (
            by(NCC, |a| {
                a.node = "def.node.crisis.example".parse().expect("a name")
            }),
            26,
        ),
        (
            by(NCC, |a| {
                if let Some(f) = &mut a.follows {
                    f.message = MessageId::new(now(), [9; 10]);
                }
            }),
            23,
        ),
    ];
    for (d, refused) in &cases {
        assert_eq!(t.publish(d).await, rule(*refused));
    }
    // A second signature that is somebody else's than it names is none.
    let mut forged = t.extract(&parent, NCC, DEP_V, &[VR]);
    let act = forged.act.clone().expect("an act");
    let second = t.second(DEF, &act).said().clone();
    let signer = &t.house.nodes[LOCC].vaststeller;
    forged.passed.second = Some(sign_statement(&second, signer).expect("signed"));
    assert_eq!(
        t.publish(&forged).await,
        Err((ReplyCode::NotAuthentic, None))
    );
    // The act of an extract puts no label in the place of the parent's.
    let ncc = t.peer(NCC).await;
    assert_eq!(
        state(&ncc, &act).await,
        Err((ReplyCode::NotPermitted, None))
    );
    ncc.leave().await;

    // With both it goes out, and the log of the parent has it, with who signed.
    let good = t.extract(&parent, NCC, DEP_V, &[VR]);
    let id = t.publish(&good).await.expect("accepted");
    let vr = t.peer(VR).await;
    let got = delivered(&vr).await;
    assert_eq!(
        (got.header().id, t.opened(&got, VR)),
        (id, good.content.clone())
    );
    vr.leave().await;
    let log = t.site.told(Verb::Extracted, 1).await;
    assert_eq!(log[0].message, Some(parent.header().id));
    let vaststeller = t.house.nodes[NCC].vaststeller.certificate().name().clone();
    assert_eq!(log[0].person, Some(vaststeller));
    assert_eq!(
        log[0].note,
        Some(format!("second signature of p-def; extract {id}"))
    );
    assert_eq!(
        t.publish(&good).await,
        Err((ReplyCode::Conflict, None)),
        "one act, one message"
    );
    let refused = t.site.told(Verb::Refused, 10).await;
    let rules: Vec<_> = refused.iter().filter_map(|d| d.rule).collect();
    assert_eq!(rules, [28, 29, 30, 28, 28, 28, 27, 26, 26, 23]);

    // A node that has the parent sends one, too, to whoever may have the extract; and what is Dep.V needs no second.
    let mut t = t.restart().await;
    let from_locc = t.extract(&parent, LOCC, "Ongerubriceerd", &[WATER]);
    t.publish(&from_locc).await.expect("accepted");
    let low = t.sent(NCC, &[LOCC], Level::DepV).await;
    let mut lower = t.extract(&low, NCC, "Ongerubriceerd", &[WATER]);
    lower.passed.second = None;
    t.publish(&lower).await.expect("accepted");
    // After the parent was revised, the act that the extract names is not in force any more.
    let first = parent.header().act.as_ref().expect("an act").digest();
    let up = t.house.revises(
        NCC,
        &parent,
        first,
        ActKind::Revise,
        "Stg.G // TOT 2036-01-01",
    );
    let ncc = t.peer(NCC).await;
    assert_eq!(state(&ncc, &up.expect("an act")).await, Ok(()));
    ncc.leave().await;
    let late = t.extract(&parent, NCC, DEP_V, &[VR]);
    assert_eq!(t.publish(&late).await, rule(26));
    t.broker.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_wait_follow_the_label_and_the_incident_of_what_they_pass_on() {
    let mut t = Town::new().await;
    let first = t.sent(NCC, &[DEF], Level::DepV).await;
    // VR is away: its copy of what DEF passes on waits, and then may not go out under the label in force.
    let id = t.publish(&t.forward(&first, DEF, &[VR])).await;
    let id = id.expect("accepted");
    let act = first.header().act.as_ref().expect("an act").digest();
    let revise = |t: &Town, after, label| {
        let act = t.house.revises(NCC, &first, after, ActKind::Revise, label);
        act.expect("an act")
    };
    let up = revise(&t, act, "Stg.C // TOT 2036-01-01");
    let ncc = t.peer(NCC).await;
    assert_eq!(state(&ncc, &up).await, Ok(()));
    let vr = t.peer(VR).await;
    let withheld = t.site.told(Verb::Withheld, 1).await;
    assert_eq!(
        (withheld[0].message, withheld[0].rule),
        (Some(id), Some(10))
    );
    let down = revise(&t, up.digest(), "Dep.V // TOT 2036-01-01");
    assert_eq!(state(&ncc, &down).await, Ok(()));
    assert_eq!(delivered(&vr).await.header().id, id);
    vr.leave().await;
    ncc.leave().await;

    // An incident about a message is about all that pass it on.
    let second = t.sent(NCC, &[DEF], Level::DepV).await;
    let id = t.publish(&t.forward(&second, DEF, &[LOCC])).await;
    let id = id.expect("accepted");
    let officer = Officer::connect(&t.site.officer()).await;
    let mut officer = officer.expect("comes in");
    let incident = || "lek-2026-1".to_owned();
    let open = OrderKind::Open {
        incident: incident(),
        messages: vec![second.header().id],
    };
    officer.order(open).await.expect("kept");
    let locc = t.peer(LOCC).await;
    let withheld = t.site.told(Verb::Withheld, 2).await;
    let frozen = Some("frozen: lek-2026-1".to_owned());
    assert_eq!(
        (withheld[1].message, &withheld[1].note),
        (Some(id), &frozen)
    );
    let close = OrderKind::Close {
        incident: incident(),
    };
    officer.order(close).await.expect("kept");
    assert_eq!(delivered(&locc).await.header().id, id);
    t.broker.stop().await.expect("stops");
}
