//! A whole broker over loopback: what peers do right, and what they do wrong.

use std::time::Duration;

use bytes::Bytes;
use ordonnans_audit::{Entry, Public, Verb};
use ordonnans_broker::Broker;
use ordonnans_client::exports::{quorum, verify, write_lines};
use ordonnans_client::officer::Officer;
use ordonnans_label::{Clearance, Level};
use ordonnans_message::{
    Addressee, AuditQuery, BulkHead, Envelope, Frame, Precedence, ReceiptKind, ReplyCode,
    SignedReceipt, Supposed, blake3, limits,
};
use ordonnans_seal::{SeededEntropy, Verified, open};
use ordonnans_tests::house::{Draft, House, register_text};
use ordonnans_tests::site::{Peer, Site, WITHIN, now, whole, write_trust};
use ordonnans_transport::{ClientOptions, CloseCode, Identity, Lane, Limits, connect};

struct World {
    house: House,
    site: Site,
    broker: Broker,
    entropy: SeededEntropy,
    _dir: tempfile::TempDir,
}

const NCC: usize = 0;
const DEF: usize = 1;
const VR: usize = 4;
const WATER: usize = 5;

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut house = House::new();
        let site = Site::new(dir.path(), &mut house);
        let broker = Broker::start(site.config()).await.expect("starts");
        // What a node may hold is known once its certificate was seen.
        for node in 0..house.nodes.len() {
            let peer = site.peer(&house, node).await.expect("comes in");
            peer.connection.finish(CloseCode::Done, "done").await;
        }
        Self {
            house,
            site,
            broker,
            entropy: SeededEntropy::new(9),
            _dir: dir,
        }
    }

    async fn restart(self) -> Self {
        self.broker.stop().await.expect("stops");
        let broker = Broker::start(self.site.config()).await.expect("starts");
        Self { broker, ..self }
    }

    async fn peer(&self, node: usize) -> Peer {
        self.site.peer(&self.house, node).await.expect("comes in")
    }

    fn seal(&mut self, from: usize, to: &[usize], level: Level) -> Verified<Envelope> {
        let draft = Draft {
            from,
            to: to.to_vec(),
            level,
            circle: false,
            precedence: Precedence::Routine,
            lifetime: 3_600_000,
            body: b"inhoud".to_vec(),
        };
        self.house.seal(&draft, now(), &mut self.entropy)
    }

    /// Every record, as the officer gets them, once they include what is asked for.
    async fn log(&self, has: impl Fn(Verb, Level) -> bool) -> (Vec<Entry>, String) {
        let mut officer = Officer::connect(&self.site.officer())
            .await
            .expect("comes in");
        let complete = |entries: &[Entry]| {
            let publics = entries.iter().map(|r| Public::decode(&r.public));
            publics.flatten().any(|p| has(p.verb, p.level))
        };
        let began = std::time::Instant::now();
        let page = loop {
            let page = whole(&mut officer).await.expect("reads");
            if complete(&page.0) {
                break page;
            }
            assert!(began.elapsed() < WITHIN, "the record does not come");
        };
        officer.finish().await;
        page
    }
}

async fn publish(peer: &Peer, e: &Verified<Envelope>) -> Frame {
    peer.publish(e.get().encode()).await.expect("sends");
    peer.decision().await.expect("decides")
}

async fn next_delivery(peer: &Peer) -> Envelope {
    let delivered = async {
        loop {
            if let Frame::Deliver { envelope } = peer.hear().await.expect("hears") {
                return Envelope::decode(&envelope).expect("decodes");
            }
        }
    };
    tokio::time::timeout(WITHIN, delivered)
        .await
        .expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_sender_to_a_reader_and_back() {
    let mut w = World::new().await;
    let e = w.seal(NCC, &[DEF], Level::StgC);
    let (from, to) = (w.peer(NCC).await, w.peer(DEF).await);
    let Frame::Accepted { id, sequence, at } = publish(&from, &e).await else {
        panic!("refused");
    };
    let again = publish(&from, &e).await;
    assert_eq!(again, Frame::Accepted { id, at, sequence }, "one answer");
    let got = next_delivery(&to).await;
    assert_eq!(got.digest(), e.get().digest());
    let def = &w.house.nodes[DEF];
    let content = open(&e, std::slice::from_ref(&def.secret), &def.name)
        .expect("opens")
        .content;
    assert_eq!(content.body, b"inhoud");
    let receipt = w
        .house
        .receipt(&got, DEF, ReceiptKind::Delivered)
        .get()
        .encode();
    to.say(
        Lane::Control,
        &Frame::Receipt {
            receipt: receipt.clone(),
        },
    )
    .await
    .expect("says");
    assert!(matches!(to.hear().await, Some(Frame::ReceiptStored { .. })));
    assert_eq!(from.hear().await, Some(Frame::Receipt { receipt }));
    // Stopped and started, nothing of it is forgotten, and nothing comes twice.
    let w = w.restart().await;
    let from = w.peer(NCC).await;
    assert_eq!(
        publish(&from, &e).await,
        Frame::Accepted { id, at, sequence }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_before_a_stop_is_delivered_after_it() {
    let mut w = World::new().await;
    let e = w.seal(NCC, &[DEF], Level::StgC);
    let from = w.peer(NCC).await;
    assert!(matches!(publish(&from, &e).await, Frame::Accepted { .. }));
    let w = w.restart().await;
    let got = next_delivery(&w.peer(DEF).await).await;
    assert_eq!(got.digest(), e.get().digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uncleared_recipient_refuses_the_whole_and_the_answer_tells_nothing() {
    let mut w = World::new().await;
    let from = w.peer(NCC).await;
    let e = w.seal(NCC, &[DEF, VR], Level::StgC);
    let vr = w.house.nodes[VR].name.clone();
    let Frame::Refused {
        code,
        rule,
        recipient,
        ..
    } = publish(&from, &e).await
    else {
        panic!("accepted");
    };
    assert_eq!(
        (code, rule, recipient),
        (ReplyCode::NotPermitted, None, Some(vr))
    );
    // The refusal is a record, at the level of what was refused.
    w.log(|verb, level| verb == Verb::Refused && level == Level::StgC)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_recipient_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut house = House::new();
    let site = Site::new(dir.path(), &mut house);
    let text = register_text(1, None);
    let cut = text.rfind("[[node]]\nname = \"water\"").expect("there");
    let officer = text.rfind("[[officer]]").expect("there");
    let text = format!("{}{}", &text[..cut], &text[officer..]).replace(", \"water\"", "");
    std::fs::write(dir.path().join("register.toml"), text).expect("writes");
    let broker = Broker::start(site.config()).await.expect("starts");
    let mut w = World {
        house,
        site,
        broker,
        entropy: SeededEntropy::new(9),
        _dir: dir,
    };
    let e = w.seal(NCC, &[WATER], Level::Ongerubriceerd);
    let water = w.house.nodes[WATER].name.clone();
    let answer = publish(&w.peer(NCC).await, &e).await;
    let Frame::Refused {
        code, recipient, ..
    } = answer
    else {
        panic!("accepted");
    };
    assert_eq!(
        (code, recipient),
        (ReplyCode::UnknownRecipient, Some(water))
    );
    assert!(
        w.site.peer(&w.house, WATER).await.is_none(),
        "and does not come in"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_authentic_is_refused() {
    let mut w = World::new().await;
    let from = w.peer(NCC).await;
    let e = w.seal(NCC, &[DEF], Level::StgC);
    let foreign = w.seal(DEF, &[NCC], Level::StgC);
    let code = |f: Frame| match f {
        Frame::Refused { code, .. } => code,
        _ => panic!("accepted"),
    };
    assert_eq!(
        code(publish(&from, &foreign).await),
        ReplyCode::NotAuthentic,
        "another's"
    );
    let bytes = e.get().encode();
    for at in (40..bytes.len()).step_by(97) {
        let mut other = bytes.to_vec();
        other[at] ^= 0x20;
        from.publish(Bytes::from(other)).await.expect("sends");
        let answer = from.decision().await.expect("decides");
        assert!(matches!(answer, Frame::Refused { .. }), "byte {at}");
    }
    assert!(
        matches!(publish(&from, &e).await, Frame::Accepted { .. }),
        "the right one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_is_one_message() {
    let mut w = World::new().await;
    let from = w.peer(NCC).await;
    w.entropy = SeededEntropy::new(1);
    let at = now();
    let draft = |body: &[u8]| Draft {
        from: NCC,
        to: vec![DEF],
        level: Level::DepV,
        circle: false,
        precedence: Precedence::Flash,
        lifetime: 60_000,
        body: body.to_vec(),
    };
    let same_id = |body| w.house.seal(&draft(body), at, &mut SeededEntropy::new(5));
    let (first, other) = (same_id(b"a"), same_id(b"b"));
    assert_eq!(first.get().header().id, other.get().header().id);
    assert!(matches!(
        publish(&from, &first).await,
        Frame::Accepted { .. }
    ));
    let Frame::Refused { code, .. } = publish(&from, &other).await else {
        panic!("accepted");
    };
    assert_eq!(code, ReplyCode::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_key_is_taken_from_that_persons_node_alone_and_listed() {
    let w = World::new().await;
    let (own, other) = (w.peer(DEF).await, w.peer(NCC).await);
    let persons = &w.house.nodes[DEF].persons_package;
    let package = persons.get().encode();
    let offer = Frame::KeyPackage { package };
    other.say(Lane::Control, &offer).await.expect("says");
    let Some(Frame::Refused { code, .. }) = other.decision().await else {
        panic!("taken from another node");
    };
    assert_eq!(code, ReplyCode::NotAuthentic);
    let listed = async || {
        let asked = other.say(Lane::Control, &Frame::DirectoryGet).await;
        asked.expect("says");
        loop {
            if let Frame::Directory { entries, .. } = other.hear().await.expect("hears") {
                let name = &persons.get().said().name;
                let entry = entries.into_iter().find(|e| e.name == *name);
                return entry.and_then(|e| e.package);
            }
        }
    };
    assert_eq!(listed().await, None);
    own.say(Lane::Control, &offer).await.expect("says");
    loop {
        if own.hear().await.expect("hears") == Frame::KeyPackageStored {
            break;
        }
    }
    assert_eq!(listed().await, Some(persons.get().encode()));
    w.broker.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_too_much_and_the_wrong_words_end_the_connection_and_nothing_else() {
    let mut w = World::new().await;
    let good = w.peer(NCC).await;
    let wrong: [Bytes; 4] = [
        Bytes::from_static(b"\xff garbage"),
        Bytes::new(),
        // A content above its limit inside an envelope of the right form.
        Frame::Publish {
            envelope: vec![0; limits::MAX_ENVELOPE].into(),
        }
        .encode(),
        Frame::KeyPackageStored.encode(),
    ];
    for (i, bytes) in wrong.into_iter().enumerate() {
        let bad = w.peer(VR).await;
        bad.connection
            .send(Lane::Control, bytes)
            .await
            .expect("sends");
        match i {
            // It has the form of a frame: it is answered, not cut off.
            2 => assert!(matches!(
                bad.decision().await,
                Some(Frame::Refused {
                    code: ReplyCode::TooLarge | ReplyCode::Malformed,
                    ..
                })
            )),
            _ => {
                let closed = tokio::time::timeout(WITHIN, bad.connection.closed());
                let closed = closed.await.expect("is cut off");
                assert_eq!(closed.code, Some(CloseCode::Violation), "{i}: {closed}");
            }
        }
    }
    let e = w.seal(NCC, &[DEF], Level::StgC);
    assert!(matches!(publish(&good, &e).await, Frame::Accepted { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_node_is_cut_off_and_its_copies_are_held() {
    let mut w = World::new().await;
    let (from, to) = (w.peer(NCC).await, w.peer(DEF).await);
    std::fs::write(
        w.site.dir.join("register.toml"),
        register_text(2, Some(DEF)),
    )
    .expect("writes");
    w.broker.reload().await.expect("reloads");
    let closed = tokio::time::timeout(WITHIN, to.connection.closed())
        .await
        .expect("in time");
    assert_eq!(closed.code, Some(CloseCode::NotBelieved));
    let e = w.seal(NCC, &[DEF], Level::StgC);
    assert!(matches!(publish(&from, &e).await, Frame::Refused { .. }));
    assert!(
        w.site.peer(&w.house, DEF).await.is_none(),
        "does not come back in"
    );
    std::fs::write(w.site.dir.join("register.toml"), "version = 3").expect("writes");
    assert!(
        w.broker.reload().await.is_err(),
        "a broken register changes nothing"
    );
    assert!(matches!(publish(&from, &e).await, Frame::Refused { .. }));
    std::fs::write(w.site.dir.join("register.toml"), register_text(4, None)).expect("writes");
    w.broker.reload().await.expect("reloads");
    assert!(matches!(publish(&from, &e).await, Frame::Accepted { .. }));
    assert_eq!(
        next_delivery(&w.peer(DEF).await).await.digest(),
        e.get().digest()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_for_officers_and_a_flipped_byte_in_an_export_is_named() {
    let mut w = World::new().await;
    let from = w.peer(NCC).await;
    let query = Box::new(AuditQuery {
        limit: 10,
        ..AuditQuery::default()
    });
    from.say(Lane::Control, &Frame::AuditGet { request: 1, query })
        .await
        .expect("says");
    let answer = from.decision().await;
    assert!(matches!(
        answer,
        Some(Frame::Refused {
            code: ReplyCode::NotPermitted,
            ..
        })
    ));
    for _ in 0..5 {
        let e = w.seal(NCC, &[DEF], Level::StgC);
        assert!(matches!(publish(&from, &e).await, Frame::Accepted { .. }));
    }
    let (entries, checkpoint) = w
        .log(|verb, level| verb == Verb::Accepted && level == Level::StgC)
        .await;
    let (export, key) = (w.site.dir.join("export"), w.site.dir.join("data/audit.pub"));
    let head = write_lines(&export, &entries, &checkpoint).expect("writes");
    let quorum = quorum(Some(&key), None).expect("a key");
    let checked = verify(&export, &quorum, false).expect("verifies");
    assert_eq!(checked["records"], head.size);
    let by_command = || {
        let args = ["ordonnans", "audit", "verify"].map(Into::into).into_iter();
        let rest = [export.clone().into(), "--key".into(), key.clone().into()];
        ordonnans_client::run(args.chain(rest))
    };
    let code = |c: std::process::ExitCode| format!("{c:?}");
    assert_eq!(code(by_command()), code(0.into()));
    let records = export.join("records.jsonl");
    let whole = std::fs::read(&records).expect("reads");
    let second = whole.iter().position(|b| *b == b'\n').expect("lines") + 30;
    let mut other = whole.clone();
    other[second] ^= 1;
    std::fs::write(&records, other).expect("writes");
    assert_eq!(code(by_command()), code(4.into()));
    let why = verify(&export, &quorum, false)
        .expect_err("changed")
        .to_string();
    assert!(why.contains("record 1"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_nothing_or_half_a_word_holds_up_nobody() {
    let mut w = World::new().await;
    // Silent connections, each with an open stream and half a frame on it.
    let mut silent = vec![];
    for _ in 0..8 {
        let peer = w.peer(VR).await;
        silent.push(peer);
    }
    let from = w.peer(NCC).await;
    let e = w.seal(NCC, &[DEF], Level::StgC);
    let answer = tokio::time::timeout(Duration::from_secs(5), publish(&from, &e));
    assert!(matches!(answer.await, Ok(Frame::Accepted { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_brokers_do_not_share_a_directory() {
    let w = World::new().await;
    let e = Broker::start(w.site.config()).await.expect_err("in use");
    assert!(e.to_string().contains("in use"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_file_is_said_before_anything_listens() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut house = House::new();
    let site = Site::new(dir.path(), &mut house);
    let start = || async {
        Broker::start(site.config())
            .await
            .expect_err("wrong")
            .to_string()
    };
    let spoil = |name: &str, text: &str| {
        let path = dir.path().join(name);
        let good = std::fs::read(&path).expect("reads");
        std::fs::write(&path, text).expect("writes");
        (path, good)
    };
    for (name, text, says) in [
        ("register.toml", "version = \"one\"", "register"),
        ("trust/issuing.crl.pem", "", "issuing.crl.pem"),
        ("trust/root.pem", "nonsense", "root.pem"),
        ("b1.cert.pem", "nonsense", "b1.cert.pem"),
    ] {
        let (path, good) = spoil(name, text);
        let e = start().await;
        assert!(e.contains(says), "{name}: {e}");
        std::fs::write(path, good).expect("writes");
    }
    let key = dir.path().join("b1.key.pem");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&key, mode).expect("sets");
    let e = start().await;
    assert!(e.contains("b1.key.pem"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_node_gets_nothing_on_the_line_or_off_it() {
    let mut w = World::new().await;
    let from = w.peer(NCC).await;
    let on_line = w.peer(VR).await;
    // One is on the line, the other is not.
    for node in [VR, DEF] {
        w.house.authority.revoke(&w.house.nodes[node].issued);
    }
    let trust = w.house.authority.trust().expect("trust");
    write_trust(&w.site.dir, &trust);
    w.broker.reload().await.expect("reloads");
    for node in [VR, DEF] {
        let e = w.seal(NCC, &[node], Level::DepV);
        let Frame::Refused {
            code, recipient, ..
        } = publish(&from, &e).await
        else {
            panic!("accepted");
        };
        let name = w.house.nodes[node].name.clone();
        assert_eq!((code, recipient), (ReplyCode::NotPermitted, Some(name)));
    }
    let closed = tokio::time::timeout(WITHIN, on_line.connection.closed()).await;
    assert_eq!(closed.expect("in time").code, Some(CloseCode::NotBelieved));
    assert!(
        w.site.peer(&w.house, DEF).await.is_none(),
        "does not come in"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_authority_may_give_counts_at_once_and_after_a_restart() {
    let mut w = World::new().await;
    let from = w.peer(NCC).await;
    let e = w.seal(NCC, &[DEF], Level::StgC);
    assert!(matches!(publish(&from, &e).await, Frame::Accepted { .. }));
    // The issuing authority is held to less than what it has issued; the register still says more.
    let all = Clearance::new(Level::DepV).with_circle("ICCB");
    let most = all.expect("a circle");
    w.house.authority.constrain(&most).expect("constrains");
    let trust = w.house.authority.trust().expect("trust");
    write_trust(&w.site.dir, &trust);
    w.broker.reload().await.expect("reloads");
    let closed = tokio::time::timeout(WITHIN, from.connection.closed()).await;
    assert_eq!(closed.expect("in time").code, Some(CloseCode::NotBelieved));
    let mut accepted = vec![];
    for restarts in 0..2 {
        let from = w.peer(NCC).await;
        for (level, taken) in [(Level::StgC, false), (Level::DepV, true)] {
            let e = w.seal(NCC, &[DEF], level);
            let answer = publish(&from, &e).await;
            let is = matches!(answer, Frame::Accepted { .. });
            assert_eq!(is, taken, "{level} after {restarts}: {answer:?}");
            accepted.extend(is.then(|| e.get().digest()));
        }
        w = w.restart().await;
    }
    // What was accepted before is held back.
    let to = w.peer(DEF).await;
    for digest in accepted {
        assert_eq!(next_delivery(&to).await.digest(), digest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_structure_has_a_directory_in_parts() {
    let dir = tempfile::tempdir().expect("a folder");
    let members = (0..limits::MAX_DIRECTORY + 40).map(|i| (format!("n{i}"), Level::StgC, false));
    let mut house = House::of(members.collect());
    let site = Site::new(dir.path(), &mut house);
    let broker = Broker::start(site.config()).await.expect("starts");
    let peer = site.peer(&house, 0).await.expect("comes in");
    peer.say(Lane::Control, &Frame::DirectoryGet)
        .await
        .expect("says");
    let mut parts = vec![];
    loop {
        let Some(Frame::Directory { entries, more, .. }) = peer.hear().await else {
            panic!("something else");
        };
        parts.push(entries.len());
        if !more {
            break;
        }
    }
    assert_eq!(parts, [limits::MAX_DIRECTORY, 40]);
    broker.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_urgent_messages_is_handed_over_in_windows_and_all_of_it_arrives() {
    const MANY: usize = 1_500;
    let mut w = World::new().await;
    let from = w.peer(NCC).await;
    let draft = Draft {
        from: NCC,
        to: vec![DEF],
        level: Level::DepV,
        circle: false,
        precedence: Precedence::Flash,
        lifetime: 3_600_000,
        body: vec![1],
    };
    for _ in 0..MANY {
        let e = w.house.seal(&draft, now(), &mut w.entropy);
        from.publish(e.get().encode()).await.expect("sends");
    }
    for _ in 0..MANY {
        let answer = from.decision().await.expect("decides");
        assert!(matches!(answer, Frame::Accepted { .. }), "{answer:?}");
    }
    let to = w.peer(DEF).await;
    let mut got = std::collections::BTreeMap::new();
    while got.len() < MANY {
        let e = next_delivery(&to).await;
        got.insert(e.header().id, e.clone());
        let receipt = w.house.receipt(&e, DEF, ReceiptKind::Delivered);
        let receipt = receipt.get().encode();
        let said = to.say(Lane::Control, &Frame::Receipt { receipt }).await;
        said.expect("the connection holds");
    }
    // The last receipt speaks of the first message.
    let (_, first) = got.first_key_value().expect("many");
    let receipt = w.house.receipt(first, DEF, ReceiptKind::Opened);
    let receipt = receipt.get().encode();
    let said = to.say(Lane::Control, &Frame::Receipt { receipt }).await;
    said.expect("the connection holds");
    // All of them come back to the sender, on the one connection it has, although more wait than are passed on at once.
    let mut back = std::collections::BTreeSet::new();
    while back.len() < MANY + 1 {
        let heard = tokio::time::timeout(WITHIN, from.hear()).await;
        let Ok(Some(Frame::Receipt { receipt })) = heard else {
            panic!("{} of {MANY} receipts came", back.len());
        };
        let signed = SignedReceipt::decode(&receipt).expect("decodes");
        let r = signed.said();
        back.insert((r.message, r.kind));
        let stored = Frame::ReceiptStored {
            id: r.message,
            kind: r.kind,
            by: r.by.clone(),
        };
        from.say(Lane::Control, &stored).await.expect("says");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_goes_on_from_what_is_there() {
    use tokio::io::AsyncWriteExt;
    let w = World::new().await;
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
    let (digest, length) = (blake3(&bytes), bytes.len() as u64);
    let offer = Frame::AttachmentOffer { digest, length };
    let state = async |peer: &Peer| loop {
        if let Some(Frame::AttachmentState { have, .. }) = peer.hear().await {
            return have;
        }
    };
    let peer = w.peer(NCC).await;
    peer.say(Lane::Control, &offer).await.expect("says");
    assert_eq!(state(&peer).await, 0);
    let head = BulkHead { digest, offset: 0 }.encode();
    let mut bulk = peer.connection.send_bulk(head).await.expect("a place");
    bulk.write_all(&bytes[..1_000_000]).await.expect("writes");
    peer.connection.close(CloseCode::Done, "the link is gone");
    drop((bulk, peer));
    // The broker may still be writing what came before the end.
    let peer = w.peer(NCC).await;
    let began = std::time::Instant::now();
    loop {
        assert!(began.elapsed() < WITHIN, "the upload does not go on");
        peer.say(Lane::Control, &offer).await.expect("says");
        let offset = state(&peer).await;
        if offset == length {
            break;
        }
        let head = BulkHead { digest, offset }.encode();
        let mut bulk = peer.connection.send_bulk(head).await.expect("a place");
        let rest = usize::try_from(offset).expect("small");
        // Where the stream was taken an answer comes; where it was stopped, it is offered again.
        if bulk.write_all(&bytes[rest..]).await.is_ok() {
            bulk.finish().expect("ends");
            drop(tokio::time::timeout(Duration::from_secs(1), state(&peer)).await);
        }
    }
}

/// Handshakes that are begun and not gone on with. Real first packets, each of a connection of its own.
const FLOOD: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_unfinished_handshakes_keep_nobody_out() {
    let mut w = World::new().await;
    let from = w.peer(NCC).await;
    // First packets are caught on a socket nobody answers on, and sent on to the broker.
    let catch = tokio::net::UdpSocket::bind("127.0.0.1:0")
        .await
        .expect("a socket");
    let caught_at = catch.local_addr().expect("an address");
    let mut flood = vec![];
    for _ in 0..16 {
        flood.push(
            tokio::net::UdpSocket::bind("127.0.0.1:0")
                .await
                .expect("a socket"),
        );
    }
    let node = &w.house.nodes[VR].issued;
    let identity = Identity::from_der(vec![node.certificate.to_vec()], node.key_pkcs8());
    let identity = std::sync::Arc::new(identity.expect("fits"));
    let (trust, broker) = (w.house.trust.clone(), w.house.broker());
    let options = ClientOptions {
        hybrid_only: false,
        limits: Limits::default(),
        clock: std::sync::Arc::new(now),
    };
    let mut datagram = vec![0; 2048];
    for i in 0..FLOOD {
        let (identity, trust, broker, options) = (
            identity.clone(),
            trust.clone(),
            broker.clone(),
            options.clone(),
        );
        let begun = tokio::spawn(async move {
            drop(connect(caught_at, &broker, &identity, &trust, &options).await);
        });
        // The hello takes two packets.
        for _ in 0..2 {
            let (n, _) = catch.recv_from(&mut datagram).await.expect("a packet");
            let sent = flood[i % flood.len()].send_to(&datagram[..n], w.site.address);
            sent.await.expect("sends");
        }
        begun.abort();
        if i % 1000 == 999 {
            // Those who are in are served, and who belongs in comes in.
            let e = w.seal(NCC, &[DEF], Level::StgC);
            let answer = tokio::time::timeout(WITHIN, publish(&from, &e)).await;
            assert!(matches!(answer, Ok(Frame::Accepted { .. })), "after {i}");
            let peer = w.site.peer_soon(&w.house, DEF).await;
            peer.connection.finish(CloseCode::Done, "done").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_officer_is_told_why_and_a_node_what_it_may_use() {
    let w = World::new().await;
    let to = |node: usize| Addressee {
        node: w.house.nodes[node].name.clone(),
        person: None,
    };
    let supposed = |label: &str, node: usize| Supposed {
        from: w.house.nodes[NCC].name.clone(),
        to: vec![to(node)],
        label: label.parse().expect("a label"),
        at: None,
    };
    let established = "Stg.C // TOT 2036-01-01 // VASTGESTELD p-ncc.person.crisis.example";
    let mut officer = Officer::connect(&w.site.officer()).await.expect("comes in");
    let yes = officer
        .explain(supposed(established, DEF))
        .await
        .expect("told");
    assert!(yes.iter().all(|r| r.holds), "{yes:?}");
    let no = officer
        .explain(supposed(established, VR))
        .await
        .expect("told");
    let first = no.iter().find(|r| !r.holds).expect("a no");
    assert_eq!((first.rule, &first.recipient), (10, &Some(to(VR).node)));
    assert!(first.fact.contains("register Dep.V"), "{}", first.fact);
    officer.finish().await;
    w.log(|v, _| v == Verb::AuditRead).await;

    let node = w.peer(NCC).await;
    let ask = Frame::CatalogGet {
        request: 7,
        to: vec![to(VR)],
    };
    node.say(Lane::Control, &ask).await.expect("says");
    let answer = async {
        loop {
            if let Frame::Catalog { request, labels } = node.hear().await.expect("hears") {
                return (request, labels);
            }
        }
    };
    let (request, labels) = tokio::time::timeout(WITHIN, answer).await.expect("in time");
    let texts: Vec<String> = labels
        .iter()
        .map(|l| l.confidentiality.to_string())
        .collect();
    assert_eq!(
        (request, &texts[..]),
        (7, &["Ongerubriceerd".to_owned(), "Dep.V".to_owned()][..])
    );
    // What others hold is not for nodes.
    let about = Box::new(supposed(established, VR));
    let ask = Frame::ExplainGet { request: 8, about };
    node.say(Lane::Control, &ask).await.expect("says");
    let Some(Frame::Refused { code, .. }) = node.decision().await else {
        panic!("told");
    };
    assert_eq!(code, ReplyCode::NotPermitted);
    w.broker.stop().await.expect("stops");
}
