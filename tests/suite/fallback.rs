//! Nodes whose UDP is blocked, and a node that sleeps.

use std::path::Path;
use std::time::{Duration, Instant};

use ordonnans_audit::{Detail, Entry, Public, Verb};
use ordonnans_broker::Broker;
use ordonnans_client::Daemon;
use ordonnans_client::config::Config;
use ordonnans_client::local::{Request, Submission, ask};
use ordonnans_client::officer::Officer;
use ordonnans_label::Name;
use ordonnans_tests::house::{House, STRUCTURE};
use ordonnans_tests::link::{Line, Link};
use ordonnans_tests::site::{Site, now, whole, write_credentials};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const NCC: usize = 0;
const DEF: usize = 1;
/// Nothing here takes so long.
const WITHIN: Duration = Duration::from_secs(120);
/// Swallows everything.
const GONE: Line = Line {
    rate: 0,
    delay: Duration::ZERO,
    queue: u64::MAX,
    loss: 100,
    mtu: usize::MAX,
};

/// A broker that listens for both carriers, and two daemons; the first behind a line for its UDP.
struct World {
    site: Site,
    broker: Broker,
    configs: Vec<Config>,
    link: Link,
    stop: CancellationToken,
    daemons: Vec<tokio::task::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl World {
    /// `tcp`: whether the first daemon knows where the broker listens for TCP.
    async fn new(line: Line, tcp: bool) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut house = House::new();
        let site = Site::new(dir.path(), &mut house);
        let mut config = site.config();
        config.listen_tcp = Some("127.0.0.1:0".parse().expect("an address"));
        let broker = Broker::start(config).await.expect("starts");
        let over_tcp = broker.tcp_addr().expect("listens");
        let link = Link::to(site.address, line, 1).await.expect("a line");
        let stop = CancellationToken::new();
        let (mut configs, mut daemons) = (vec![], vec![]);
        for node in [NCC, DEF] {
            let n = &house.nodes[node];
            let local = n.name.local();
            let path = dir.path().join(format!("{local}.toml"));
            let credentials = write_credentials(dir.path(), local, &n.issued);
            let address = if node == NCC {
                link.address()
            } else {
                site.address
            };
            let more = if node == NCC && tcp {
                format!("broker_tcp = \"{over_tcp}\"\nquic_again_seconds = 1\n")
            } else {
                String::new()
            };
            let text = format!(
                "broker = \"{address}\"\n{more}broker_name = \"b1.broker.{STRUCTURE}\"\ntrust = \"trust\"\ndata = \"{local}\"\n{credentials}"
            );
            std::fs::write(&path, text).expect("writes");
            let config = Config::load(&path).expect("a configuration");
            let running = Daemon::run(config.clone(), stop.clone());
            daemons.push(tokio::spawn(async move { running.await.expect("runs") }));
            configs.push(config);
        }
        let world = Self {
            site,
            broker,
            configs,
            link,
            stop,
            daemons,
            _dir: dir,
        };
        // Written to once each way, both have the other's key.
        for (from, to) in [(NCC, "def"), (DEF, "ncc")] {
            world
                .until(|w| w.send(from, to, "ROUTINE", None).is_some())
                .await;
        }
        world
            .until(|w| w.inbox(NCC).len() == 1 && w.inbox(DEF).len() == 1)
            .await;
        world
    }

    async fn until(&self, mut holds: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !tokio::task::block_in_place(|| holds(self)) {
            assert!(began.elapsed() < WITHIN, "it does not come about");
            tokio::task::yield_now().await;
        }
    }

    /// Hands a message in; gives its id.
    fn send(&self, from: usize, to: &str, precedence: &str, file: Option<&Path>) -> Option<String> {
        let message = Submission {
            to: vec![to.into()],
            info: vec![],
            precedence: precedence.into(),
            info_precedence: None,
            label: "Ongerubriceerd".into(),
            exercise: true,
            subject: "x".into(),
            media_type: "text/plain".into(),
            name: None,
            body: vec![7; 256],
            attachments: file.into_iter().map(Into::into).collect(),
            author: None,
            expires: now().after(3_600_000),
            reply_by: None,
            references: vec![],
            supersedes: None,
        };
        let request = Request::Send {
            message: Box::new(message),
            wait: false,
        };
        let answer = ask(&self.configs[from].socket, &request).ok()?;
        Some(answer["id"].as_str()?.to_owned())
    }

    fn hand_in(&self, from: usize, to: &str, precedence: &str) -> String {
        self.send(from, to, precedence, None).expect("handed in")
    }

    fn rows(&self, node: usize, request: &Request) -> Vec<Value> {
        let answer = ask(&self.configs[node].socket, request);
        let rows = answer.ok().and_then(|v| v.as_array().cloned());
        rows.unwrap_or_default()
    }

    fn inbox(&self, node: usize) -> Vec<String> {
        let rows = self.rows(node, &Request::Inbox);
        let ids = rows
            .iter()
            .filter_map(|r| r["id"].as_str().map(str::to_owned));
        ids.collect()
    }

    fn status(&self, node: usize) -> Value {
        ask(&self.configs[node].socket, &Request::Status).expect("answers")
    }

    /// Each of these is there, once, and so is nothing else but the first.
    async fn there_once(&self, node: usize, sent: &[String]) {
        self.until(|w| {
            let there = w.inbox(node);
            sent.iter().all(|id| there.contains(id))
        })
        .await;
        assert_eq!(self.inbox(node).len(), sent.len() + 1, "each once");
    }

    /// What the log says of the sessions of the first node, oldest first.
    async fn sessions(&self) -> Vec<String> {
        let ncc: Name = format!("ncc.node.{STRUCTURE}").parse().expect("a name");
        let mut officer = Officer::connect(&self.site.officer())
            .await
            .expect("comes in");
        let (entries, _) = whole(&mut officer).await.expect("reads");
        officer.finish().await;
        let of_it = |(public, detail): (Public, Option<Detail>)| {
            let detail = detail.filter(|_| public.verb == Verb::SessionOpened)?;
            detail.note.filter(|_| detail.who.as_ref() == Some(&ncc))
        };
        let read = entries.iter().filter_map(Entry::read);
        read.filter_map(of_it).collect()
    }

    async fn end(mut self) {
        self.stop.cancel();
        for daemon in self.daemons.drain(..) {
            daemon.await.expect("ends well");
        }
        self.broker.stop().await.expect("stops");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn where_udp_is_blocked_a_node_comes_over_tcp_and_goes_back() {
    let w = World::new(GONE, true).await;
    let status = w.status(NCC);
    assert_eq!(status["carrier"], "tcp");
    assert_eq!(status["key_exchange"], "X25519MLKEM768");
    let (mut up, mut down) = (vec![], vec![]);
    // An attachment each way; what is urgent comes in between.
    for (from, to, sent) in [(NCC, "def", &mut up), (DEF, "ncc", &mut down)] {
        let at = if from == NCC { DEF } else { NCC };
        let file = w.site.dir.join("large");
        std::fs::write(&file, vec![9; 96 << 20]).expect("writes");
        let large = w.send(from, to, "ROUTINE", Some(&file)).expect("handed in");
        let flash = w.hand_in(from, to, "FLASH");
        w.until(|w| w.inbox(at).contains(&flash)).await;
        assert!(!w.inbox(at).contains(&large), "still on its way");
        sent.extend([large, flash]);
    }
    w.there_once(DEF, &up).await;
    w.there_once(NCC, &down).await;

    // UDP is back. What is handed in meanwhile comes on either.
    w.link.set(Line::default());
    w.until(|w| {
        if up.len() < 60 {
            up.push(w.hand_in(NCC, "def", "PRIORITY"));
            down.push(w.hand_in(DEF, "ncc", "PRIORITY"));
        }
        w.status(NCC)["carrier"] == "quic"
    })
    .await;
    up.push(w.hand_in(NCC, "def", "FLASH"));
    down.push(w.hand_in(DEF, "ncc", "FLASH"));
    w.there_once(DEF, &up).await;
    w.there_once(NCC, &down).await;
    let suite = "X25519MLKEM768 TLS13_AES_256_GCM_SHA384";
    let expected = [format!("tcp {suite}"), format!("quic {suite}")];
    assert_eq!(w.sessions().await, expected);

    // And gone again: the session over QUIC is lost, and the next one is over TCP.
    w.link.set(GONE);
    up.push(w.hand_in(NCC, "def", "FLASH"));
    w.until(|w| w.status(NCC)["carrier"] == "tcp").await;
    w.there_once(DEF, &up).await;
    w.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_laptop_that_sleeps_resumes() {
    let w = World::new(Line::default(), false).await;
    // Nothing comes through for longer than either end keeps a silent session.
    w.link.set(GONE);
    let up: Vec<String> = (0..5).map(|_| w.hand_in(NCC, "def", "PRIORITY")).collect();
    let down: Vec<String> = (0..5).map(|_| w.hand_in(DEF, "ncc", "PRIORITY")).collect();
    w.until(|w| w.status(NCC)["connected"] == false).await;
    assert_eq!((w.inbox(DEF).len(), w.inbox(NCC).len()), (1, 1));
    w.link.set(Line::default());
    w.there_once(DEF, &up).await;
    w.there_once(NCC, &down).await;
    assert_eq!(w.sessions().await.len(), 2, "one before, one after");
    w.end().await;
}
