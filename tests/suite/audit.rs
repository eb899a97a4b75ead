//! The log as officers and witnesses meet it: over the line, with a whole broker and daemons.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use ordonnans_audit::{Account, Fork, Quorum, Verb, Verdict, VerifierKey};
use ordonnans_broker::Broker;
use ordonnans_client::Daemon;
use ordonnans_client::config::Config;
use ordonnans_client::exports::{quorum, verify};
use ordonnans_client::local::{Request, ask};
use ordonnans_client::officer::Officer;
use ordonnans_engine::{
    AlarmLimits, Effect, Engine, Input, Recovered, Retention, Session, Settings,
};
use ordonnans_identity::Signer as _;
use ordonnans_label::{Kind, Level};
use ordonnans_message::{
    AuditQuery, Envelope, Frame, MessageId, OrderKind, Precedence, ProofOf, ReceiptKind, ReplyCode,
};
use ordonnans_seal::{SeededEntropy, Verified};
use ordonnans_tests::house::{Draft, House, STRUCTURE};
use ordonnans_tests::site::{Peer, Site, WITHIN, now, write_credentials};
use ordonnans_transport::{CloseCode, Lane};
use serde_json::Value;

const NCC: usize = 0;
const DEF: usize = 1;
const LOCC: usize = 2;

struct World {
    house: House,
    site: Site,
    broker: Option<Broker>,
    entropy: SeededEntropy,
    _dir: tempfile::TempDir,
}

impl World {
    /// A broker with this at the end of its configuration.
    async fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut house = House::new();
        let site = Site::new(dir.path(), &mut house);
        let toml = site.broker_toml();
        let text = std::fs::read_to_string(&toml).expect("reads");
        std::fs::write(&toml, format!("{text}{more}")).expect("writes");
        let mut world = Self {
            house,
            site,
            broker: None,
            entropy: SeededEntropy::new(9),
            _dir: dir,
        };
        world.start().await;
        for node in 0..world.house.nodes.len() {
            let peer = world.peer(node).await;
            peer.connection.finish(CloseCode::Done, "done").await;
        }
        world
    }

    async fn start(&mut self) {
        self.broker = Some(Broker::start(self.site.config()).await.expect("starts"));
    }

    async fn stop(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.stop().await.expect("stops");
        }
    }

    async fn peer(&self, node: usize) -> Peer {
        self.site.peer(&self.house, node).await.expect("comes in")
    }

    async fn officer(&self) -> Officer {
        Officer::connect(&self.site.officer())
            .await
            .expect("comes in")
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

    async fn publish(&mut self, from: &Peer, to: &[usize]) -> MessageId {
        let e = self.seal(NCC, to, Level::StgC);
        from.publish(e.get().encode()).await.expect("sends");
        let answer = from.decision().await;
        assert!(matches!(answer, Some(Frame::Accepted { .. })), "{answer:?}");
        e.get().header().id
    }

    /// A daemon for a node, in a folder of its own.
    fn node(&self, node: usize) -> (Config, PathBuf) {
        let n = &self.house.nodes[node];
        let dir = &self.site.dir;
        let local = n.name.local();
        let credentials = write_credentials(dir, local, &n.issued);
        let path = dir.join(format!("{local}.toml"));
        let text = format!(
            "broker = \"{}\"\nbroker_name = \"b1.broker.{STRUCTURE}\"\ntrust = \"trust\"\ndata = \"{local}\"\n{credentials}",
            self.site.address
        );
        std::fs::write(&path, text).expect("writes");
        (Config::load(&path).expect("a configuration"), path)
    }

    /// What the log says about a message.
    async fn account(&self, id: MessageId) -> Account {
        let mut officer = self.officer().await;
        let query = AuditQuery {
            message: Some(id),
            ..AuditQuery::default()
        };
        let entries = officer.search(&query, 1_000).await.expect("reads");
        officer.finish().await;
        Account::of(id, &entries)
    }

    /// The notes of the records of a verb, once there are so many.
    async fn notes(&self, verb: Verb, times: usize) -> Vec<String> {
        let began = Instant::now();
        loop {
            let mut officer = self.officer().await;
            let query = AuditQuery {
                verb: Some(verb.code()),
                ..AuditQuery::default()
            };
            let entries = officer.search(&query, 1_000).await.expect("reads");
            officer.finish().await;
            let note = |e: &ordonnans_audit::Entry| e.read()?.1?.note;
            let notes: Vec<String> = entries.iter().filter_map(note).collect();
            if notes.len() >= times {
                return notes;
            }
            assert!(began.elapsed() < WITHIN, "{verb:?} is not in the log");
        }
    }

    async fn count(&self, verb: Verb) -> usize {
        let mut officer = self.officer().await;
        let query = AuditQuery {
            verb: Some(verb.code()),
            ..AuditQuery::default()
        };
        let entries = officer.search(&query, 1_000).await.expect("reads");
        officer.finish().await;
        entries.len()
    }

    fn key(&self) -> PathBuf {
        self.site.dir.join("data").join("audit.pub")
    }

    /// The program, as an officer runs it.
    async fn run(&self, words: &[&str]) -> ExitCode {
        let config = self.site.dir.join("officer.toml").into_os_string();
        let mut all = vec!["ordonnans".into(), "-c".into(), config];
        all.extend(words.iter().map(Into::into));
        // The program makes a runtime of its own.
        tokio::task::spawn_blocking(|| ordonnans_client::run(all))
            .await
            .expect("runs")
    }
}

/// The next message that a node gets; it gives these receipts for it, and they are stored.
async fn delivered(peer: &Peer, house: &House, node: usize, kinds: &[ReceiptKind]) -> MessageId {
    let got = loop {
        if let Frame::Deliver { envelope } = peer.hear().await.expect("hears") {
            break Envelope::decode(&envelope).expect("decodes");
        }
    };
    for kind in kinds {
        let receipt = house.receipt(&got, node, *kind).get().encode();
        let frame = Frame::Receipt { receipt };
        peer.say(Lane::Control, &frame).await.expect("says");
        loop {
            if let Frame::ReceiptStored { kind: stored, .. } = peer.hear().await.expect("hears") {
                assert_eq!(stored, *kind);
                break;
            }
        }
    }
    got.header().id
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("makes");
    for item in std::fs::read_dir(from).expect("reads") {
        let item = item.expect("reads");
        let target = to.join(item.file_name());
        if item.file_type().expect("knows").is_dir() {
            copy(&item.path(), &target);
        } else if item.file_type().expect("knows").is_file() {
            std::fs::copy(item.path(), &target).expect("copies");
        }
    }
}

/// Asks a daemon until it says what is wanted.
async fn known(config: &Config, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let socket = config.socket.clone();
        let said = tokio::task::spawn_blocking(move || ask(&socket, &Request::Witness)).await;
        if let Ok(said) = said.expect("asks")
            && wanted(&said)
        {
            return said;
        }
        assert!(
            began.elapsed() < WITHIN * 2,
            "the daemon does not come to know it"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_countersign_and_a_broker_put_back_is_noticed_and_proven() {
    let mut w = World::new("[checkpoints]\nseconds = 1\n").await;
    let (config, _) = w.node(LOCC);
    let stop = tokio_util::sync::CancellationToken::new();
    let daemon = tokio::spawn(Daemon::run(config.clone(), stop.clone()));
    let first = known(&config, |v| v["records"].as_u64() > Some(0)).await;
    // A checkpoint that the node has countersigned, and a policy that asks for it.
    let witness: VerifierKey = first["witness"]
        .as_str()
        .expect("a key")
        .parse()
        .expect("a key");
    let log = std::fs::read_to_string(w.key()).expect("reads");
    let policy = Quorum::parse(&format!("log {log}witness locc {witness}\nquorum locc\n"))
        .expect("a policy");
    let began = Instant::now();
    loop {
        let mut officer = w.officer().await;
        let query = AuditQuery {
            limit: 1,
            ..AuditQuery::default()
        };
        let checkpoint = officer.page(query).await.expect("reads").checkpoint;
        officer.finish().await;
        let signed = checkpoint.and_then(|c| policy.verify(&c).ok());
        if signed.is_some_and(|(_, by)| by.enough) {
            break;
        }
        assert!(began.elapsed() < WITHIN, "nobody countersigns");
    }
    // The disk of now is put aside; the broker goes on, the node remembers more.
    w.stop().await;
    let (data, aside) = (w.site.dir.join("data"), w.site.dir.join("aside"));
    copy(&data, &aside);
    w.start().await;
    let from = w.peer(NCC).await;
    w.publish(&from, &[DEF]).await;
    let size = w.officer().await.checkpoint().await.expect("signs");
    let size: u64 = size
        .lines()
        .nth(1)
        .expect("a size")
        .parse()
        .expect("a size");
    known(&config, |v| v["records"].as_u64() >= Some(size)).await;
    w.stop().await;
    // Rolled back to the copy.
    std::fs::remove_dir_all(&data).expect("removes");
    copy(&aside, &data);
    w.start().await;
    let doubt = known(&config, |v| !v["doubt"].is_null()).await;
    assert!(
        doubt["records"].as_u64() >= Some(size),
        "it still remembers"
    );
    let alarms = w.notes(Verb::Alarm, 1).await;
    assert!(
        alarms
            .iter()
            .any(|n| n.contains("it was put back or changed")),
        "{alarms:?}"
    );
    // It outgrows what the node remembers: the fork can be proven to anyone.
    let began = Instant::now();
    let proven = loop {
        let from = w.peer(NCC).await;
        for _ in 0..20 {
            w.publish(&from, &[DEF]).await;
        }
        w.officer().await.checkpoint().await.expect("signs");
        from.connection.finish(CloseCode::Done, "done").await;
        let said = known(&config, |_| true).await;
        if said["proven"] == true {
            break said;
        }
        assert!(began.elapsed() < WITHIN, "it is not proven: {said}");
    };
    let evidence = PathBuf::from(proven["evidence"].as_str().expect("a file"));
    let fork: Fork =
        serde_json::from_slice(&std::fs::read(&evidence).expect("reads")).expect("evidence");
    let key: VerifierKey = log.trim().parse().expect("a key");
    assert!(matches!(fork.judge(&key), Ok(Verdict::Proven { .. })));
    let (file, by) = (evidence.to_string_lossy(), w.key());
    let words = ["audit", "verify", &*file, "--key", &*by.to_string_lossy()].map(str::to_owned);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let third = w.run(&words);
    assert_eq!(third.await, ExitCode::SUCCESS);
    stop.cancel();
    daemon.await.expect("ends").expect("stops");
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_numbered_and_an_incident_freezes_and_lets_go() {
    let mut w = World::new("").await;
    let from = w.peer(NCC).await;
    let id = w.publish(&from, &[DEF, LOCC]).await;
    let both = [ReceiptKind::Delivered, ReceiptKind::Opened];
    let def = w.peer(DEF).await;
    assert_eq!(delivered(&def, &w.house, DEF, &both).await, id);
    let account = w.account(id).await;
    assert_eq!(account.copies[0].opened.len(), 1);
    let numbers: Vec<(u32, u32, &str)> = account
        .copies
        .iter()
        .map(|c| (c.number, c.of, c.holder.local()))
        .collect();
    assert_eq!(numbers, [(1, 2, "def"), (2, 2, "locc")]);
    assert!(account.copies[0].delivered.is_some() && account.copies[1].delivered.is_none());
    let had: Vec<&str> = account
        .had(now())
        .iter()
        .map(|c| c.holder.local())
        .collect();
    let could: Vec<&str> = account
        .could(now())
        .iter()
        .map(|c| c.holder.local())
        .collect();
    assert_eq!((had, could), (vec!["def"], vec!["locc"]));
    // Frozen: the copy that waits stays, by order of the officer.
    let mut officer = w.officer().await;
    let incident = || "uitval-2026-1".to_owned();
    let open = OrderKind::Open {
        incident: incident(),
        messages: vec![id],
    };
    officer.order(open).await.expect("kept");
    let locc = w.peer(LOCC).await;
    let other = w.publish(&from, &[LOCC]).await;
    assert_eq!(delivered(&locc, &w.house, LOCC, &both[..1]).await, other);
    let account = w.account(id).await;
    assert!(account.copies[1].withheld.is_some());
    assert_eq!(w.notes(Verb::Withheld, 1).await, ["frozen: uitval-2026-1"]);
    officer
        .order(OrderKind::Close {
            incident: incident(),
        })
        .await
        .expect("kept");
    assert_eq!(delivered(&locc, &w.house, LOCC, &both[..1]).await, id);
    let again = OrderKind::Open {
        incident: incident(),
        messages: vec![id],
    };
    let e = officer.order(again).await.expect_err("closed");
    assert!(e.to_string().contains("closed"), "{e}");
    // A node orders nothing, whatever it signs.
    let order = ordonnans_message::Order {
        what: OrderKind::Close {
            incident: incident(),
        },
        by: w.house.nodes[NCC].name.clone(),
        at: now(),
    };
    let signed = ordonnans_seal::sign_statement(&order, &w.house.nodes[NCC].signer).expect("signs");
    assert_eq!(
        w.house.nodes[NCC].signer.certificate().name().kind(),
        Kind::Node
    );
    let frame = Frame::Order {
        order: signed.encode(),
    };
    from.say(Lane::Control, &frame).await.expect("says");
    loop {
        if let Frame::NotKept { code, .. } = from.hear().await.expect("hears") {
            assert_eq!(code, ReplyCode::NotPermitted);
            break;
        }
    }
    // The program says the same, over the line and offline.
    let (id, dir) = (id.to_string(), w.site.dir.join("tiles"));
    let (dir, key) = (dir.to_string_lossy().into_owned(), w.key());
    assert_eq!(
        w.run(&["audit", "copies", &id, "--json"]).await,
        ExitCode::SUCCESS
    );
    assert_eq!(
        w.run(&["audit", "exposure", &id, "--since", "1h"]).await,
        ExitCode::SUCCESS
    );
    assert_eq!(w.run(&["audit", "export", &dir]).await, ExitCode::SUCCESS);
    let offline = ["--offline", &dir, "--key", &key.to_string_lossy()].map(str::to_owned);
    let offline: Vec<&str> = offline.iter().map(String::as_str).collect();
    for words in [
        &["audit", "copies", &id][..],
        &["audit", "exposure", &id],
        &["audit", "list", "--verb", "CopyMade", "--node", "locc"],
        &["audit", "show", "0"],
        &["audit", "review", "--level", "Stg.C"],
    ] {
        let words = [words, &offline].concat();
        assert_eq!(w.run(&words).await, ExitCode::SUCCESS, "{words:?}");
    }
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_stops_what_waits_and_asks_back_what_does_not() {
    let mut w = World::new("").await;
    let e = w.seal(NCC, &[DEF, LOCC], Level::StgC);
    let (from, def) = (w.peer(NCC).await, w.peer(DEF).await);
    from.publish(e.get().encode()).await.expect("sends");
    assert!(matches!(
        from.decision().await,
        Some(Frame::Accepted { .. })
    ));
    let id = delivered(&def, &w.house, DEF, &[ReceiptKind::Delivered]).await;
    let recall = |node: usize| {
        let receipt = w.house.receipt(e.get(), node, ReceiptKind::Recalled);
        Frame::Receipt {
            receipt: receipt.get().encode(),
        }
    };
    // Who has a copy does not take it back for everyone.
    def.say(Lane::Control, &recall(DEF)).await.expect("says");
    assert!(matches!(
        def.decision().await,
        Some(Frame::Refused {
            code: ReplyCode::NotPermitted,
            ..
        })
    ));
    from.say(Lane::Control, &recall(NCC)).await.expect("says");
    let Frame::Receipt { receipt } = recall(NCC) else {
        panic!("a receipt");
    };
    loop {
        if let Frame::Receipt { receipt: told } = def.hear().await.expect("hears") {
            assert_eq!(told, receipt);
            break;
        }
    }
    let account = w.account(id).await;
    assert_eq!(account.copies.len(), 2);
    assert!(account.copies.iter().all(|c| c.recalled.is_some()));
    assert_eq!(w.notes(Verb::Recalled, 2).await, ["asked back", "stopped"]);
    // What was stopped does not come; what is sent later does.
    let other = w.publish(&from, &[LOCC]).await;
    let locc = w.peer(LOCC).await;
    assert_eq!(
        delivered(&locc, &w.house, LOCC, &[ReceiptKind::Delivered]).await,
        other
    );
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_excerpts_and_reviews_hold_without_the_broker() {
    let mut w = World::new("").await;
    let from = w.peer(NCC).await;
    let id = w.publish(&from, &[DEF]).await.to_string();
    let path = |n: &str| w.site.dir.join(n).to_string_lossy().into_owned();
    let (proof, excerpt, key) = (
        path("record.tlog-proof"),
        path("excerpt"),
        path("data/audit.pub"),
    );
    assert_eq!(
        w.run(&["audit", "prove", "3", "-o", &proof]).await,
        ExitCode::SUCCESS
    );
    assert_eq!(
        w.run(&["audit", "verify", &proof, "--key", &key]).await,
        ExitCode::SUCCESS
    );
    let text = std::fs::read_to_string(&proof).expect("reads");
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra "), "{text}");
    std::fs::write(&proof, text.replacen("index 3", "index 4", 1)).expect("writes");
    assert_eq!(
        w.run(&["audit", "verify", &proof, "--key", &key]).await,
        ExitCode::from(4)
    );
    assert_eq!(
        w.run(&["audit", "export", &excerpt, "--message", &id])
            .await,
        ExitCode::SUCCESS
    );
    let quorum = quorum(Some(&w.key()), None).expect("a key");
    let report = verify(Path::new(&excerpt), &quorum, true).expect("holds");
    // The record of the question is about the message too, and may be there before the answer is made.
    assert!(
        matches!(report["records"].as_u64(), Some(2 | 3)),
        "{report}"
    );
    assert_eq!(report["complete"].as_bool(), Some(false));
    assert_eq!(
        w.run(&["audit", "review", "--level", "Stg.C", "--sign"])
            .await,
        ExitCode::SUCCESS
    );
    let signed = w.notes(Verb::Reviewed, 1).await;
    assert!(signed[0].starts_with("Stg.C, records "), "{signed:?}");
    // A node gets no records and no inclusion proofs, and may ask whether the log goes on.
    let ask = |of| Frame::ProofGet { request: 1, of };
    let inclusion = ask(ProofOf::Inclusion {
        sequence: 0,
        size: 2,
    });
    from.say(Lane::Control, &inclusion).await.expect("says");
    assert!(matches!(
        from.decision().await,
        Some(Frame::Refused {
            code: ReplyCode::NotPermitted,
            ..
        })
    ));
    let goes_on = ask(ProofOf::Consistency { first: 1, size: 2 });
    from.say(Lane::Control, &goes_on).await.expect("says");
    loop {
        if let Frame::Proof { hashes, .. } = from.hear().await.expect("hears") {
            assert_eq!(hashes.map(|h| h.len()), Some(1));
            break;
        }
    }
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_officer_sees_records_as_they_are_made() {
    let mut w = World::new("").await;
    let mut officer = w.officer().await;
    let watch = tokio::spawn(async move {
        let mut seen = vec![];
        let query = AuditQuery {
            from: u64::MAX,
            verb: Some(Verb::CopyMade.code()),
            ..AuditQuery::default()
        };
        let watched = officer.watch(query, |entry| {
            seen.push(entry.read().expect("a record").0.verb);
            seen.len() < 3
        });
        watched.await.expect("watches");
        seen
    });
    // The watch itself is a record; what is published behind it is seen.
    w.notes(Verb::AuditRead, 1).await;
    let from = w.peer(NCC).await;
    for _ in 0..3 {
        w.publish(&from, &[DEF]).await;
    }
    let seen = tokio::time::timeout(WITHIN, watch)
        .await
        .expect("in time")
        .expect("ends");
    assert_eq!(seen, [Verb::CopyMade; 3]);
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_refusals_are_an_alarm_and_sinks_get_every_record_once_the_broker_is_back() {
    let sinks = "[alarms]\nrefused = 3\n[[sink]]\nname = \"siem\"\nfile = \"siem.jsonl\"\nformat = \"ocsf\"\nlevel = \"Dep.V\"\n\
        [[sink]]\nname = \"duty\"\nfile = \"alarms.cef\"\nformat = \"cef\"\nlevel = \"Stg.ZG\"\nalarms_only = true\n";
    let mut w = World::new(sinks).await;
    let from = w.peer(LOCC).await;
    for _ in 0..5 {
        // Not its own message.
        let e = w.seal(NCC, &[DEF], Level::StgC);
        from.publish(e.get().encode()).await.expect("sends");
        assert!(matches!(from.decision().await, Some(Frame::Refused { .. })));
    }
    let alarms = w.notes(Verb::Alarm, 1).await;
    assert_eq!(alarms, ["Refused more than 3 times within an hour"], "once");
    let own = w.peer(NCC).await;
    w.publish(&own, &[DEF]).await;
    w.stop().await;
    w.start().await;
    w.stop().await;
    // Another configuration is a record; the same one is none.
    let toml = w.site.broker_toml();
    let text = std::fs::read_to_string(&toml).expect("reads");
    std::fs::write(&toml, format!("{text}[retention]\ndays = 100\n")).expect("writes");
    w.start().await;
    assert_eq!(w.count(Verb::ConfigurationChanged).await, 2);
    w.stop().await;
    let lines = |name: &str| -> Vec<String> {
        let text = std::fs::read_to_string(w.site.dir.join(name)).expect("reads");
        text.lines().map(str::to_owned).collect()
    };
    let all: Vec<Value> = lines("siem.jsonl")
        .iter()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    let sequences: Vec<u64> = all
        .iter()
        .map(|v| v["metadata"]["sequence"].as_u64().expect("a number"))
        .collect();
    let distinct: std::collections::BTreeSet<u64> = sequences.iter().copied().collect();
    assert_eq!(
        distinct.len() as u64,
        distinct.last().expect("one") + 1,
        "without a gap"
    );
    for v in &all {
        let above = v["unmapped"]["level"] == "Stg.C";
        assert_eq!(v["unmapped"]["detail"].is_null(), above, "{v}");
    }
    let duty = lines("alarms.cef");
    assert!(duty.len() == 1 && duty[0].contains("|Alarm|"), "{duty:?}");
}

/// An engine without a broker around it, at night.
fn engine(house: &House) -> Engine {
    let settings = Settings {
        broker: house.broker(),
        queue: 10,
        remembered: 10,
        remember_ms: ordonnans_message::limits::MAX_LIFETIME_MS,
        labelled: 10,
        clock: ordonnans_audit::ClockQuality::Unknown,
        configuration: ordonnans_message::sha256(&[]),
        alarms: AlarmLimits::default(),
        quotas: ordonnans_engine::Quotas::default(),
        contacts: vec![],
        retention: Retention::default(),
    };
    let engine = Engine::new(
        settings,
        ordonnans_tests::house::approved(1, None),
        ordonnans_policy::Book::built_in(),
        Recovered::default(),
        vec![],
        Box::new(SeededEntropy::new(1)),
        ordonnans_tests::house::night(),
    );
    engine.expect("begins")
}

/// What the alarms say that this engine made since it was last asked.
fn alarms(engine: &mut Engine) -> Vec<String> {
    let mut said = vec![];
    while let Some(effect) = engine.poll_effect() {
        if let Effect::Commit(commit) = effect {
            engine.durable_through(commit.seq);
            let of = commit.records.into_iter();
            let of = of.filter(|r| r.public.verb == Verb::Alarm);
            said.extend(of.filter_map(|r| r.detail.note));
        }
    }
    said
}

#[test]
fn a_receipt_that_does_not_come_and_a_clock_that_jumps_are_alarms() {
    const HOUR: u64 = 60 * 60 * 1000;
    let (house, start) = (House::new(), ordonnans_tests::house::night());
    let mut engine = engine(&house);
    for node in [LOCC, NCC] {
        let (session, peer) = (Session(node as u64), house.nodes[node].certificate.clone());
        engine.handle(
            start,
            Input::Opened {
                session,
                peer,
                line: "simulated".into(),
            },
        );
        if node == LOCC {
            let note = "gone";
            engine.handle(start, Input::Closed { session, note });
        }
    }
    let mut entropy = SeededEntropy::new(2);
    for precedence in [Precedence::Flash, Precedence::Routine] {
        let draft = Draft {
            from: NCC,
            to: vec![LOCC],
            level: Level::DepV,
            circle: false,
            precedence,
            lifetime: 24 * HOUR,
            body: b"x".to_vec(),
        };
        let envelope = Box::new(house.seal(&draft, start, &mut entropy));
        let session = Session(NCC as u64);
        engine.handle(start, Input::Publish { session, envelope });
    }
    let mut tick = |ms: u64| {
        engine.handle(start.after(ms), Input::Tick);
        alarms(&mut engine)
    };
    assert!(tick(HOUR / 6 - 1).is_empty());
    assert_eq!(tick(HOUR / 6 + 60_000), ["no receipt in time, flash"]);
    assert!(tick(HOUR).is_empty(), "once");
    assert_eq!(tick(6 * HOUR), ["no receipt in time, routine"]);
    for (step_ms, times) in [(59_999, 0), (60_000, 1)] {
        let quality = ordonnans_audit::ClockQuality::Unknown;
        engine.handle(start.after(7 * HOUR), Input::Clock { quality, step_ms });
        assert_eq!(alarms(&mut engine).len(), times, "{step_ms}");
    }
}

/// The days whose details are to be destroyed, after what this engine was told.
fn dropped(engine: &mut Engine) -> Vec<u64> {
    let mut days = vec![];
    while let Some(effect) = engine.poll_effect() {
        match effect {
            Effect::Commit(commit) => engine.durable_through(commit.seq),
            Effect::DropDetails { through, .. } => days.push(through),
            _ => {}
        }
    }
    days
}

#[test]
fn details_end_after_their_days_and_not_because_a_clock_jumped() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let (house, start) = (House::new(), ordonnans_tests::house::night());
    let mut engine = engine(&house);
    let first = start.as_millis() / DAY;
    let mut tick = |days: u64| {
        engine.handle(start.after(days * DAY), Input::Tick);
        dropped(&mut engine)
    };
    assert!(tick(92).is_empty(), "the last day counts in full");
    assert_eq!(tick(93), [first], "one day");
    assert!(tick(93).is_empty());
    assert_eq!(
        (tick(95), tick(95), tick(95)),
        (vec![first + 1], vec![first + 2], vec![])
    );
    // The clock jumps ten years ahead: nothing is destroyed for a day.
    let far = start.after(3_650 * DAY);
    let quality = ordonnans_audit::ClockQuality::Unknown;
    let step_ms = 3_555 * DAY;
    engine.handle(far, Input::Clock { quality, step_ms });
    for _ in 0..86_400 {
        engine.handle(far, Input::Tick);
    }
    assert!(dropped(&mut engine).is_empty());
    engine.handle(far, Input::Tick);
    assert_eq!(dropped(&mut engine), [first + 3]);
}
