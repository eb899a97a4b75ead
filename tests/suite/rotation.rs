//! Certificates, the issuing authority and the root change while messages flow: nothing is lost, nothing comes twice, and who still shows a certificate of
//! the old root is refused only once that is retired. And a node whose certificate is about to end has it renewed by itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ordonnans_audit::Verb;
use ordonnans_broker::{Broker, admin};
use ordonnans_certs::Workshop;
use ordonnans_client::config::Config;
use ordonnans_client::local::{Request, ask};
use ordonnans_identity::{FileSigner, Renewal, SecretKey, Signer, Trust, certificate_request};
use ordonnans_label::{Clearance, Clearances, Kind, Level, Policies};
use ordonnans_message::{AuditQuery, Digest, Frame, PROTOCOL_VERSION, ReplyCode};
use ordonnans_tests::house::{STRUCTURE, register_text};
use ordonnans_tests::pair::{self, DEF, LOCAL, NCC, Pair, hand_in};
use ordonnans_tests::site::now;
use ordonnans_transport::{ClientOptions, CloseCode, Connection, Identity, Lane, Limits, connect};
use serde_json::Value;

/// Nothing here takes so long.
const WITHIN: Duration = Duration::from_secs(120);
/// Messages each way in every phase.
const PHASE: usize = 5;
/// The broker's folder of renewals.
const RENEWALS: &str = "renewals";
/// Of the sixty days of a certificate that is about to end.
const AGE: time::Duration = time::Duration::days(45);

/// Two nodes that write to each other all the time, each message once.
struct Traffic {
    sent: [Arc<Mutex<BTreeSet<String>>>; 2],
    going: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    writers: Vec<std::thread::JoinHandle<()>>,
}

struct World {
    dir: PathBuf,
    workshop: Workshop,
    pair: Pair,
    traffic: Traffic,
    days: i64,
    folder: tempfile::TempDir,
}

fn ids(config: &Config, request: &Request, only: impl Fn(&Value) -> bool) -> Vec<String> {
    let rows = ask(&config.socket, request).expect("answers");
    let rows = rows.as_array().cloned().unwrap_or_default();
    let ids = rows
        .iter()
        .filter(|r| only(r))
        .filter_map(|r| r["id"].as_str());
    ids.map(str::to_owned).collect()
}

impl Traffic {
    fn begin(configs: &[Config]) -> Self {
        let (going, ended) = (Arc::new(AtomicBool::new(true)), Arc::default());
        let mut traffic = Self {
            sent: Default::default(),
            going,
            ended,
            writers: vec![],
        };
        for from in [NCC, DEF] {
            let config = configs[from].clone();
            let sent = Arc::clone(&traffic.sent[from]);
            let (going, ended) = (Arc::clone(&traffic.going), Arc::clone(&traffic.ended));
            traffic.writers.push(std::thread::spawn(move || {
                while !ended.load(Ordering::SeqCst) {
                    if !going.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                        continue;
                    }
                    // An id that was given is a promise.
                    let mut all = sent.lock().expect("held by nobody that failed");
                    let before = all.len();
                    all.extend(hand_in(&config, LOCAL[1 - from], "ROUTINE", None, 256));
                    assert_eq!(all.len(), before + 1, "the daemon takes it, once");
                    drop(all);
                    // As people write, and not as fast as a disk takes it.
                    std::thread::sleep(Duration::from_millis(20));
                }
            }));
        }
        traffic
    }

    fn count(&self, from: usize) -> usize {
        self.sent[from]
            .lock()
            .expect("held by nobody that failed")
            .len()
    }
}

impl World {
    /// Two nodes and a broker; the certificate of `aging` has a quarter of its life left, and is in a folder of the node's own.
    async fn new(aging: Option<usize>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().to_owned();
        let at = now_utc();
        let mut workshop = Workshop::init(&dir.join("ca"), STRUCTURE, at).expect("makes");
        let issued = |w: &mut Workshop, kind, local: &str| {
            let holds = Clearance::new(Level::Ongerubriceerd);
            let path = w.issue(kind, local, &holds, 60, at).expect("issues");
            let (cert, key) = (path.join("cert.pem"), path.join("key.pem"));
            format!("trust = \"ca/trust\"\n[identity]\ncertificate = {cert:?}\nkey = {key:?}\n")
        };
        std::fs::write(dir.join("register.toml"), register_text(1, None)).expect("writes");
        let address = ordonnans_exercise::own_address().expect("an address");
        let lines = issued(&mut workshop, Kind::Broker, "b1");
        let head =
            format!("listen = \"{address}\"\ndata = \"data\"\nregister = \"register.toml\"\n");
        let toml = dir.join("broker.toml");
        std::fs::write(
            &toml,
            format!("renewals = {RENEWALS:?}\n")
                + &head
                + &lines
                + "[quotas]\nmessages = 1000000\ncopies = 1000000\n",
        )
        .expect("writes");
        let config = ordonnans_broker::config::Config::load(&toml).expect("a configuration");
        let broker = Broker::start(config).await.expect("starts");
        let mut files = vec![];
        issued(&mut workshop, Kind::Node, "locc");
        for (node, local) in LOCAL.into_iter().enumerate() {
            let lines = if Some(node) == aging {
                let (holds, then) = (Clearance::new(Level::Ongerubriceerd), at - AGE);
                let path = workshop.issue(Kind::Node, local, &holds, 60, then);
                own(&dir, local, &path.expect("issues"))
            } else {
                issued(&mut workshop, Kind::Node, local)
            };
            let toml = dir.join(format!("{local}.toml"));
            let head = format!(
                "broker = \"{address}\"\nbroker_name = \"b1.broker.{STRUCTURE}\"\ndata = \"{local}\"\n"
            );
            std::fs::write(&toml, head + &lines).expect("writes");
            files.push(toml);
        }
        let pair = Pair::start(broker, &files);
        let known = pair.know_each_other().await;
        let traffic = Traffic::begin(&pair.configs);
        for (from, id) in known.into_iter().enumerate() {
            traffic.sent[from].lock().expect("free").insert(id);
        }
        Self {
            dir,
            workshop,
            pair,
            traffic,
            days: 60,
            folder,
        }
    }

    async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        pair::until(what, || holds(self)).await;
    }

    /// Nobody writes any more, all that was written has arrived, and everything has stopped. Gives the folder.
    async fn end(mut self) -> tempfile::TempDir {
        self.traffic.ended.store(true, Ordering::SeqCst);
        for writer in self.traffic.writers.drain(..) {
            writer.join().expect("wrote until the end");
        }
        self.settled("the end").await;
        self.pair.end().await;
        self.folder
    }

    /// A certificate in place of the one there is, by the authority that issues now. Each lives for another number of days, by which it is known.
    fn renew(&mut self, kind: Kind, local: &str) {
        self.days += 1;
        let holds = Clearance::new(Level::Ongerubriceerd);
        let issued = self
            .workshop
            .issue(kind, local, &holds, self.days, now_utc());
        issued.expect("issues");
    }

    fn broker(&self) -> &Broker {
        self.pair.broker.as_ref().expect("it runs")
    }

    /// What was brought is taken, by everyone.
    async fn reload(&self, nodes: &[usize]) {
        self.broker().reload().await.expect("reloads");
        for node in nodes {
            let socket = &self.pair.configs[*node].socket;
            tokio::task::block_in_place(|| ask(socket, &Request::Reload)).expect("takes it");
        }
    }

    /// Until when the certificate is valid that a node shows on its line; nothing where it has none.
    async fn shown(&self, node: usize) -> Option<String> {
        let status = admin::ask(&self.dir.join("data/admin.sock")).await;
        let sessions = status.expect("answers").sessions;
        let name = format!("{}.node.{STRUCTURE}", LOCAL[node]);
        let own = sessions.into_iter().find(|s| s.peer == name);
        own.map(|s| s.certificate_until)
    }

    async fn shows(&self, node: usize, other_than: Option<&String>) -> String {
        let began = Instant::now();
        loop {
            let shown = self.shown(node).await;
            if let Some(until) = shown.filter(|u| Some(u) != other_than) {
                return until;
            }
            assert!(
                began.elapsed() < WITHIN,
                "{} shows nothing new",
                LOCAL[node]
            );
            tokio::task::yield_now().await;
        }
    }

    /// Messages go on arriving, both ways.
    async fn flows(&self, phase: &str) {
        for from in [NCC, DEF] {
            let goal = self.traffic.count(from) + PHASE;
            self.until(phase, |w| w.traffic.count(from) >= goal).await;
        }
        self.settled(phase).await;
    }

    /// Everything that was handed in until now was accepted, and lies with its recipient, once.
    async fn settled(&self, phase: &str) {
        for from in [NCC, DEF] {
            let sent = self.traffic.sent[from].lock().expect("free").clone();
            let mut missing = 0;
            self.until(phase, |w| {
                let inbox = ids(&w.pair.configs[1 - from], &Request::Inbox, |_| true);
                let once: BTreeSet<&String> = inbox.iter().collect();
                assert_eq!(once.len(), inbox.len(), "{phase}: twice");
                let refused = ids(
                    &w.pair.configs[from],
                    &Request::Receipts { id: None },
                    |r| r["state"] == "refused",
                );
                assert!(refused.is_empty(), "{phase}: {refused:?}");
                missing = sent.iter().filter(|id| !once.contains(id)).count();
                missing == 0
            })
            .await;
        }
    }
}

/// A node's certificate and key in a folder of its own, where they can be replaced; gives the lines of its configuration.
fn own(dir: &Path, local: &str, issued: &Path) -> String {
    let folder = dir.join(format!("{local}.own"));
    std::fs::create_dir(&folder).expect("makes");
    for file in ["cert.pem", "key.pem"] {
        std::fs::rename(issued.join(file), folder.join(file)).expect("moves");
    }
    format!(
        "trust = \"ca/trust\"\n[identity]\ncertificate = {:?}\nkey = {:?}\n",
        folder.join("cert.pem"),
        folder.join("key.pem")
    )
}

fn now_utc() -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc()
}

/// A line by hand, of a node that has no daemon; what certificate the broker shows on it.
async fn by_hand(dir: &Path, to: std::net::SocketAddr) -> (Connection, Digest) {
    let own = dir.join(format!("ca/issued/locc.node.{STRUCTURE}"));
    let identity = Identity::load(&own.join("cert.pem"), &own.join("key.pem")).expect("fits");
    let trust = Trust::load_dir(&dir.join("ca/trust")).expect("trust");
    let options = ClientOptions {
        hybrid_only: false,
        limits: Limits::default(),
        clock: Arc::new(now),
    };
    let broker = format!("b1.broker.{STRUCTURE}").parse().expect("a name");
    let line = connect(to, &broker, &identity, &trust, options).await;
    let line = line.expect("connects");
    let hello = Frame::Hello {
        version: PROTOCOL_VERSION,
        checkpoint: None,
    };
    line.send(Lane::Control, hello.encode())
        .await
        .expect("says");
    let (_, welcome) = line.recv().await.expect("hears");
    assert!(matches!(Frame::decode(&welcome), Ok(Frame::Welcome { .. })));
    let shown = line.peer().fingerprint();
    (line, shown)
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_and_certificates_change_while_messages_flow() {
    let (nothing, policies) = (Clearances::default(), Policies::built_in());
    let mut w = World::new(None).await;
    w.flows("as it was").await;
    let first = [w.shows(NCC, None).await, w.shows(DEF, None).await];

    // Another issuing authority, and a node that gets its certificate from it.
    let made = w.workshop.rollover_issuing(&nothing, policies, now_utc());
    assert_eq!(made.expect("another"), "issuing-2");
    w.reload(&[NCC, DEF]).await;
    w.flows("two issuing authorities").await;
    w.renew(Kind::Node, "ncc");
    w.reload(&[NCC]).await;
    let second = w.shows(NCC, Some(&first[NCC])).await;
    w.flows("a node of the new authority").await;

    // The broker shows another certificate to whoever comes; who is on the line stays.
    let address = w.broker().local_addr();
    let (line, old) = by_hand(&w.dir, address).await;
    w.renew(Kind::Broker, "b1");
    w.reload(&[]).await;
    line.send(Lane::Control, Frame::DirectoryGet.encode())
        .await
        .expect("it holds");
    loop {
        let (_, frame) = line.recv().await.expect("it is answered");
        if let Ok(Frame::Directory { more: false, .. }) = Frame::decode(&frame) {
            break;
        }
    }
    line.finish(CloseCode::Done, "done").await;
    let (line, new) = by_hand(&w.dir, address).await;
    assert_ne!(old, new);
    line.finish(CloseCode::Done, "done").await;
    assert_eq!(w.shown(NCC).await.as_ref(), Some(&second), "its line holds");
    w.flows("a broker of the new authority").await;

    // Another root beside the first: both count, and one node stays what it was.
    let made = w.workshop.rollover_root(&nothing, policies, now_utc());
    assert_eq!(made.expect("another"), ["root-2", "issuing-3"]);
    w.reload(&[NCC, DEF]).await;
    w.renew(Kind::Broker, "b1");
    w.renew(Kind::Node, "ncc");
    w.reload(&[NCC, DEF]).await;
    w.shows(NCC, Some(&second)).await;
    w.flows("two roots").await;
    assert_eq!(
        w.shown(DEF).await.as_ref(),
        Some(&first[DEF]),
        "with what it had at first"
    );

    // The first root goes, and with it who still shows a certificate of it.
    w.traffic.going.store(false, Ordering::SeqCst);
    w.settled("before the end of the old root").await;
    w.workshop.retire("root", true, now_utc()).expect("retires");
    w.reload(&[NCC]).await;
    w.until("it is cut off and refused", |w| {
        let status = ask(&w.pair.configs[DEF].socket, &Request::Status).expect("answers");
        let why = status["why"].as_str().unwrap_or_default();
        status["connected"] == false && why.contains("UnknownIssuer")
    })
    .await;
    let began = Instant::now();
    while w.shown(DEF).await.is_some() {
        assert!(
            began.elapsed() < WITHIN,
            "the broker still has it on the line"
        );
        tokio::task::yield_now().await;
    }
    assert!(w.shown(NCC).await.is_some(), "who has the new one stays");
    w.renew(Kind::Node, "def");
    w.reload(&[NCC, DEF]).await;
    w.shows(DEF, Some(&first[DEF])).await;
    w.traffic.going.store(true, Ordering::SeqCst);
    w.flows("the new root alone").await;

    w.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_renews_its_own_certificate_while_messages_flow() {
    let mut w = World::new(Some(NCC)).await;
    let folder = w.dir.join(RENEWALS);
    let file = |ending: &str| folder.join(format!("ncc.node.{STRUCTURE}.{ending}"));
    let first = w.shows(NCC, None).await;
    w.flows("with a certificate that is about to end").await;
    w.until("it asks", |_| file("request.pem").exists()).await;
    // What is not its own is put aside: another's certificate, and one of another workshop on the very key that it asked for.
    let other = w
        .dir
        .join(format!("ca/issued/def.node.{STRUCTURE}/cert.pem"));
    std::fs::copy(other, file("cert.pem")).expect("copies");
    w.until("another's is refused", |_| {
        file("cert.pem.refused").exists() && !file("cert.pem").exists()
    })
    .await;
    std::fs::remove_file(file("cert.pem.refused")).expect("removes");
    let asked = ordonnans_certs::Request::load(&file("request.pem")).expect("a request");
    let mut elsewhere =
        Workshop::init(&w.dir.join("elsewhere"), STRUCTURE, now_utc()).expect("makes");
    let holds = Clearance::new(Level::StgZg);
    let forged = elsewhere
        .sign(&asked, &holds, 90, now_utc())
        .expect("signs");
    std::fs::copy(forged.join("cert.pem"), file("cert.pem")).expect("copies");
    w.until("a forged one is refused", |_| {
        file("cert.pem.refused").exists() && !file("cert.pem").exists()
    })
    .await;
    assert_eq!(w.shown(NCC).await.as_ref(), Some(&first), "as it was");
    w.flows("with what is forged in the folder").await;

    // The workshop signs by its rule, as its timer has it do; nobody touches the node.
    let renewed = |w: &mut World| {
        let all = w.workshop.renew_folder(&folder, 90, now_utc());
        all.expect("reads").pop().expect("a request").certificate
    };
    assert_eq!(renewed(&mut w).expect("by the rule"), file("cert.pem"));
    let second = w.shows(NCC, Some(&first)).await;
    assert_ne!(first, second);
    w.until("it is done with", |_| {
        !file("cert.pem").exists() && !file("request.pem").exists()
    })
    .await;
    w.flows("with what it has renewed").await;
    let own = w.dir.join("ncc.own");
    let signer = FileSigner::load(&own.join("cert.pem"), &own.join("key.pem"));
    let ends = signer.expect("they fit").certificate().not_after();
    assert_eq!(ends.to_string(), second);
    assert!(!w.dir.join("ncc/renewal/key.pem").exists());

    let data = w.dir.join("data");
    let _folder = w.end().await;
    let options = ordonnans_store::Options::default();
    let (store, ..) = ordonnans_store::Store::open(&data, options).expect("opens");
    let notes = |verb: Verb| -> Vec<String> {
        let query = AuditQuery {
            verb: Some(verb.code()),
            limit: 256,
            ..AuditQuery::default()
        };
        let found = store.reader().search(&query, Level::StgZg).expect("reads");
        let details = found.entries.iter().map(|e| e.read().expect("reads").1);
        let said = |d: Option<ordonnans_audit::Detail>| {
            let d = d.expect("is there");
            let who = d.who.map(|n| n.local().to_owned()).unwrap_or_default();
            format!("{who} {}", d.note.unwrap_or_default())
        };
        details.map(said).collect()
    };
    assert_eq!(notes(Verb::RenewalAsked), ["ncc "]);
    assert_eq!(notes(Verb::Renewed), [format!("ncc until {ends}")]);
    let refused = "ncc a certificate in the folder of renewals is refused:";
    assert_eq!(
        notes(Verb::Alarm),
        [
            format!("{refused} it names another subject"),
            format!("{refused} it is not believed: its chain does not hold"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_heard_once_a_minute_and_only_from_the_key_on_the_line() {
    let w = World::new(None).await;
    let (line, _) = by_hand(&w.dir, w.pair.broker.as_ref().expect("runs").local_addr()).await;
    let own = w.dir.join(format!("ca/issued/locc.node.{STRUCTURE}"));
    let old = FileSigner::load(&own.join("cert.pem"), &own.join("key.pem")).expect("fits");
    let asks = |old: &FileSigner| {
        let key = SecretKey::in_memory().expect("a key");
        let request = certificate_request(old.certificate().name(), &key).expect("a request");
        let asked = Renewal::sign(request, old).expect("signs");
        Frame::RenewalAsk {
            request: asked.request().to_vec().into(),
            signature: asked.signature().to_vec().into(),
        }
    };
    let answer = async |frame: Frame| {
        let said = frame.digest();
        line.send(Lane::Control, frame.encode())
            .await
            .expect("says");
        loop {
            let (_, bytes) = line.recv().await.expect("hears");
            match Frame::decode(&bytes).expect("a frame") {
                Frame::Kept { of } if of == said => return None,
                Frame::NotKept { of, code, .. } if of == said => return Some(code),
                _ => {}
            }
        }
    };
    // Another node's key has signed it: it is not the one that this line shows.
    let other = w.dir.join(format!("ca/issued/def.node.{STRUCTURE}"));
    let other = FileSigner::load(&other.join("cert.pem"), &other.join("key.pem")).expect("fits");
    assert_eq!(answer(asks(&other)).await, Some(ReplyCode::NotAuthentic));
    let nothing = Frame::RenewalAsk {
        request: vec![0x30; 9].into(),
        signature: vec![0; 64].into(),
    };
    assert_eq!(answer(nothing).await, Some(ReplyCode::NotAuthentic));
    let good = asks(&old);
    assert_eq!(answer(good.clone()).await, None);
    assert_eq!(answer(good).await, Some(ReplyCode::Busy));
    assert_eq!(answer(asks(&old)).await, Some(ReplyCode::Busy));
    let kept = w.dir.join(RENEWALS);
    let files = std::fs::read_dir(kept).expect("a folder").count();
    assert_eq!(files, 1, "one of each node");
    // What only the broker says ends the line.
    let certificate = old.certificate().der().to_vec().into();
    let frame = Frame::Renewed { certificate };
    line.send(Lane::Control, frame.encode())
        .await
        .expect("says");
    while line.recv().await.is_ok() {}
    w.end().await;
}
