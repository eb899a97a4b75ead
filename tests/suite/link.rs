//! Bad lines: slow ones with an attachment under way, lossy ones, such as swallow large datagrams, and a node that moves.

use std::path::Path;
use std::time::{Duration, Instant};

use ordonnans_audit::Verb;
use ordonnans_broker::Broker;
use ordonnans_client::Daemon;
use ordonnans_client::config::Config;
use ordonnans_client::local::{Request, Submission, ask};
use ordonnans_client::officer::Officer;
use ordonnans_message::AuditQuery;
use ordonnans_tests::house::{House, STRUCTURE};
use ordonnans_tests::link::{Line, Link};
use ordonnans_tests::netns::Namespace;
use ordonnans_tests::site::{Site, now, write_credentials};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const NCC: usize = 0;
const DEF: usize = 1;
/// Nothing here takes so long.
const WITHIN: Duration = Duration::from_secs(120);

/// A broker and two daemons, each behind a line of its own.
struct World {
    site: Site,
    broker: Option<Broker>,
    /// The thread of a broker that is in a namespace.
    far: Option<std::thread::JoinHandle<()>>,
    leave: CancellationToken,
    _space: Option<Namespace>,
    configs: Vec<Config>,
    links: Vec<Link>,
    stop: CancellationToken,
    daemons: Vec<tokio::task::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new(line: Line) -> Self {
        Self::with_broker_in(None, line).await
    }

    /// With the broker at the far end of a wire.
    async fn with_broker_in(space: Option<Namespace>, line: Line) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut house = House::new();
        let mut site = Site::new(dir.path(), &mut house);
        let leave = CancellationToken::new();
        let (mut broker, mut far) = (None, None);
        match &space {
            None => broker = Some(Broker::start(site.config()).await.expect("starts")),
            Some(space) => {
                let near = site.address;
                site.address.set_ip(space.address().into());
                let toml = std::fs::read_to_string(site.broker_toml()).expect("reads");
                let toml = toml.replacen(&near.to_string(), &site.address.to_string(), 1);
                std::fs::write(site.broker_toml(), toml).expect("writes");
                let (config, leave) = (site.config(), leave.clone());
                let enter = space.way_in().expect("a way in");
                far = Some(std::thread::spawn(move || {
                    enter().expect("enters");
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build();
                    runtime.expect("a runtime").block_on(async {
                        let broker = Broker::start(config).await.expect("starts");
                        leave.cancelled().await;
                        broker.stop().await.expect("stops");
                    });
                }));
            }
        }
        let stop = CancellationToken::new();
        let (mut configs, mut links, mut daemons) = (vec![], vec![], vec![]);
        for node in [NCC, DEF] {
            // Fast until both know each other.
            let link = Link::to(site.address, Line::default(), node as u64 + 1);
            let link = link.await.expect("a line");
            let n = &house.nodes[node];
            let local = n.name.local();
            let path = dir.path().join(format!("{local}.toml"));
            let credentials = write_credentials(dir.path(), local, &n.issued);
            let text = format!(
                "broker = \"{}\"\nbroker_name = \"b1.broker.{STRUCTURE}\"\ntrust = \"trust\"\ndata = \"{local}\"\n{credentials}",
                link.address()
            );
            std::fs::write(&path, text).expect("writes");
            let config = Config::load(&path).expect("a configuration");
            let running = Daemon::run(config.clone(), stop.clone());
            daemons.push(tokio::spawn(async move { running.await.expect("runs") }));
            configs.push(config);
            links.push(link);
        }
        let world = Self {
            site,
            broker,
            far,
            leave,
            _space: space,
            configs,
            links,
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
        world.links.iter().for_each(|l| l.set(line));
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
        self.send_of(from, to, precedence, file, 256)
    }

    fn send_of(
        &self,
        from: usize,
        to: &str,
        precedence: &str,
        file: Option<&Path>,
        bytes: usize,
    ) -> Option<String> {
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
            body: vec![7; bytes],
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

    fn accepted(&self, node: usize, id: &str) -> bool {
        let rows = self.rows(node, &Request::Receipts { id: None });
        rows.iter()
            .any(|r| r["id"] == id && r["state"] == "accepted")
    }

    fn file(&self, name: &str, bytes: usize) -> std::path::PathBuf {
        let path = self.site.dir.join(name);
        std::fs::write(&path, vec![9; bytes]).expect("writes");
        path
    }

    async fn end(mut self) {
        self.stop.cancel();
        for daemon in self.daemons.drain(..) {
            daemon.await.expect("ends well");
        }
        if let Some(broker) = self.broker.take() {
            broker.stop().await.expect("stops");
        }
        self.leave.cancel();
        if let Some(far) = self.far.take() {
            tokio::task::block_in_place(|| far.join()).expect("ends well");
        }
    }
}

/// An attachment goes up and then down; at each half a FLASH comes in between, and past what was handed in before it.
async fn flash_overtakes(w: World, line: Line, bytes: usize, routine: usize) {
    let file = w.file("large", bytes);
    let large = w
        .send(NCC, "def", "ROUTINE", Some(&file))
        .expect("handed in");
    // The line is gone for a moment, so that messages are waiting.
    let gone = Line { loss: 100, ..line };
    w.links[NCC].set(gone);
    let before: Vec<String> = (0..routine)
        .map(|_| {
            w.send_of(NCC, "def", "ROUTINE", None, 16 << 10)
                .expect("handed in")
        })
        .collect();
    let flash = w.send(NCC, "def", "FLASH", None).expect("handed in");
    w.links[NCC].set(line);
    w.until(|w| w.inbox(DEF).contains(&flash)).await;
    let there = w.inbox(DEF);
    assert!(
        !w.accepted(NCC, &large),
        "the attachment is still on its way up"
    );
    assert!(
        before.iter().any(|id| !there.contains(id)),
        "it overtook what was handed in before it"
    );
    // Now down: the broker has it, and the other node fetches it.
    w.until(|w| w.accepted(NCC, &large)).await;
    let flash = w.send(NCC, "def", "FLASH", None).expect("handed in");
    w.until(|w| w.inbox(DEF).contains(&flash)).await;
    assert!(
        !w.inbox(DEF).contains(&large),
        "the attachment is still on its way down"
    );
    w.until(|w| {
        let there = w.inbox(DEF);
        there.contains(&large) && before.iter().all(|id| there.contains(id))
    })
    .await;
    w.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flash_passes_an_attachment_at_100_megabit_and_10_milliseconds() {
    let line = Line {
        rate: 100_000_000,
        delay: Duration::from_millis(10),
        queue: 256 << 10,
        ..Line::default()
    };
    flash_overtakes(World::new(line).await, line, 32 << 20, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flash_passes_an_attachment_at_2_megabit_and_300_milliseconds() {
    let line = Line {
        rate: 2_000_000,
        delay: Duration::from_millis(300),
        queue: 128 << 10,
        ..Line::default()
    };
    flash_overtakes(World::new(line).await, line, 2 << 20, 20).await;
}

/// The same through the kernel's own queues: the broker in a namespace, rates by the kernel, and the time on the way by a line on this side.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flash_passes_an_attachment_between_network_namespaces() {
    for (net, rate, delay, bytes, routine) in [
        (1, 100_000_000, 10, 32 << 20, 100),
        (2, 2_000_000, 300, 2 << 20, 20),
    ] {
        let space = match Namespace::new(net, rate, 128 << 10) {
            Ok(space) => space,
            Err(why) => {
                eprintln!("skipped: it needs root, ip, tc and a kernel with veth and tbf ({why})");
                return;
            }
        };
        let line = Line {
            delay: Duration::from_millis(delay),
            ..Line::default()
        };
        let w = World::with_broker_in(Some(space), line).await;
        flash_overtakes(w, line, bytes, routine).await;
    }
}

/// Everything arrives once, whatever the line does.
async fn arrives(w: World, bytes: usize) {
    let file = w.file("some", bytes);
    let mut sent: Vec<String> = (0..10)
        .map(|_| {
            w.send_of(NCC, "def", "ROUTINE", None, 8 << 10)
                .expect("handed in")
        })
        .collect();
    sent.push(
        w.send(NCC, "def", "PRIORITY", Some(&file))
            .expect("handed in"),
    );
    w.until(|w| {
        let there = w.inbox(DEF);
        sent.iter().all(|id| there.contains(id))
    })
    .await;
    assert_eq!(w.inbox(DEF).len(), sent.len() + 1, "each once");
    w.until(|w| {
        let rows = w.rows(NCC, &Request::Receipts { id: None });
        rows.iter().all(|r| r["delivered"] == 1)
    })
    .await;
    w.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_three_datagrams_in_ten_lost_everything_arrives_once() {
    let line = Line {
        delay: Duration::from_millis(2),
        loss: 30,
        ..Line::default()
    };
    arrives(World::new(line).await, 128 << 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_line_that_swallows_large_datagrams_is_found_out() {
    let line = Line {
        delay: Duration::from_millis(2),
        mtu: 1_252,
        ..Line::default()
    };
    arrives(World::new(line).await, 1 << 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_moves_keeps_its_session() {
    let line = Line {
        delay: Duration::from_millis(5),
        ..Line::default()
    };
    let w = World::new(line).await;
    let opened = async || {
        let mut officer = Officer::connect(&w.site.officer()).await.expect("comes in");
        let query = AuditQuery {
            verb: Some(Verb::SessionOpened.code()),
            node: Some(format!("ncc.node.{STRUCTURE}").parse().expect("a name")),
            ..AuditQuery::default()
        };
        let found = officer.search(&query, 100).await.expect("reads").len();
        officer.finish().await;
        found
    };
    let before = opened().await;
    assert!(before > 0);
    let file = w.file("large", 4 << 20);
    let large = w
        .send(NCC, "def", "ROUTINE", Some(&file))
        .expect("handed in");
    for _ in 0..3 {
        w.links[NCC].moves().await.expect("moves");
        let id = w.send(NCC, "def", "FLASH", None).expect("handed in");
        w.until(|w| w.inbox(DEF).contains(&id)).await;
    }
    w.until(|w| w.inbox(DEF).contains(&large)).await;
    assert_eq!(opened().await, before, "the same session");
    w.end().await;
}
