//! A node that writes to six others again and again: the key travels until each has answered, and everyone reads everything.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use ordonnans_broker::Broker;
use ordonnans_certs::Workshop;
use ordonnans_client::Daemon;
use ordonnans_client::config::Config;
use ordonnans_client::local::{Request, Submission, ask};
use ordonnans_client::opening::open_message;
use ordonnans_label::{Clearance, Kind, Level};
use ordonnans_message::{Envelope, MessageId, ReceiptKind};
use ordonnans_store::{Options, Store};
use ordonnans_tests::house::{STRUCTURE, many, register_of};
use ordonnans_tests::site::now;
use tokio_util::sync::CancellationToken;

/// Nothing here takes so long.
const WITHIN: Duration = Duration::from_secs(60);
/// The sender and six others.
const NODES: usize = 7;

struct Node {
    local: String,
    config: Config,
    stop: CancellationToken,
    running: Option<tokio::task::JoinHandle<()>>,
}

impl Node {
    fn start(&mut self) {
        self.stop = CancellationToken::new();
        let running = Daemon::run(self.config.clone(), self.stop.clone());
        self.running = Some(tokio::spawn(async move { running.await.expect("runs") }));
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.await.expect("stops");
        }
    }

    fn has(&self, id: MessageId) -> bool {
        let rows = ask(&self.config.socket, &Request::Inbox).unwrap_or_default();
        let mut rows = rows.as_array().into_iter().flatten();
        rows.any(|r| r["id"] == id.to_string())
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !tokio::task::block_in_place(&holds) {
        assert!(began.elapsed() < WITHIN, "it does not come about: {what}");
        tokio::task::yield_now().await;
    }
}

async fn begin(dir: &Path) -> (Broker, Vec<Node>) {
    let at = time::OffsetDateTime::now_utc();
    let mut workshop = Workshop::init(&dir.join("ca"), STRUCTURE, at).expect("makes");
    let mut issued = |kind, local: &str| {
        let holds = Clearance::new(Level::Ongerubriceerd);
        let path = workshop.issue(kind, local, &holds, 60, at).expect("issues");
        let (cert, key) = (path.join("cert.pem"), path.join("key.pem"));
        format!("trust = \"ca/trust\"\n[identity]\ncertificate = {cert:?}\nkey = {key:?}\n")
    };
    let members = many(NODES);
    let register = register_of(&members, 1, None);
    std::fs::write(dir.join("register.toml"), register).expect("writes");
    let address = ordonnans_exercise::own_address().expect("an address");
    let head = format!("listen = \"{address}\"\ndata = \"data\"\nregister = \"register.toml\"\n");
    let toml = dir.join("broker.toml");
    std::fs::write(&toml, head + &issued(Kind::Broker, "b1")).expect("writes");
    let config = ordonnans_broker::config::Config::load(&toml).expect("a configuration");
    let broker = Broker::start(config).await.expect("starts");
    let mut nodes = vec![];
    for (local, ..) in members {
        let lines = issued(Kind::Node, &local);
        let toml = dir.join(format!("{local}.toml"));
        let head = format!(
            "broker = \"{address}\"\nbroker_name = \"b1.broker.{STRUCTURE}\"\ndata = \"{local}\"\n"
        );
        std::fs::write(&toml, head + &lines).expect("writes");
        let mut node = Node {
            local,
            config: Config::load(&toml).expect("a configuration"),
            stop: CancellationToken::new(),
            running: None,
        };
        node.start();
        nodes.push(node);
    }
    (broker, nodes)
}

/// Sends to all but the first; nothing where a key is not known yet.
fn send(nodes: &[Node], body: &str) -> Option<MessageId> {
    let message = Submission {
        to: nodes[1..].iter().map(|n| n.local.clone()).collect(),
        info: vec![],
        precedence: "ROUTINE".into(),
        info_precedence: None,
        label: "Ongerubriceerd".into(),
        exercise: true,
        subject: "x".into(),
        media_type: "text/plain".into(),
        name: None,
        body: body.into(),
        attachments: vec![],
        author: None,
        expires: now().after(3_600_000),
        reply_by: None,
        references: vec![],
        supersedes: None,
    };
    let message = Box::new(message);
    let sent = ask(
        &nodes[0].config.socket,
        &Request::Send {
            message,
            wait: false,
        },
    );
    sent.ok()?["id"].as_str()?.parse().ok()
}

/// Those whose receipt the sender has.
fn answered(nodes: &[Node], id: MessageId) -> BTreeSet<String> {
    let all = ask(&nodes[0].config.socket, &Request::Receipts { id: Some(id) });
    let all = all.unwrap_or_default().to_string();
    let of = nodes[1..].iter().map(|n| n.local.clone());
    of.filter(|n| all.contains(&format!("{n}.node.")) && all.contains("delivered"))
        .collect()
}

fn reads(node: &Node, id: MessageId) -> String {
    let read = open_message(&node.config.socket, id, ReceiptKind::Opened, None, None);
    let read = read.expect("opens");
    let body = BASE64.decode(read["body"].as_str().expect("a body").as_bytes());
    String::from_utf8(body.expect("base64")).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_travels_once_and_everyone_reads_everything() {
    let dir = tempfile::tempdir().expect("a folder");
    let (broker, mut nodes) = begin(dir.path()).await;
    let mut first = None;
    let began = Instant::now();
    while first.is_none() {
        assert!(began.elapsed() < WITHIN, "they do not know each other");
        first = tokio::task::block_in_place(|| send(&nodes, "one"));
    }
    let first = first.expect("sent");
    until("all have it", || nodes[1..].iter().all(|n| n.has(first))).await;
    until("all have answered", || {
        answered(&nodes, first).len() == NODES - 1
    })
    .await;
    // One is away, and comes back with what it had: the second leaves it out like the others.
    let away = NODES - 1;
    nodes[away].stop().await;
    let second = tokio::task::block_in_place(|| send(&nodes, "two")).expect("sent");
    until("the others have it", || {
        nodes[1..away].iter().all(|n| n.has(second))
    })
    .await;
    nodes[away].start();
    until("it has it, too", || nodes[away].has(second)).await;
    for node in &nodes[1..] {
        let (one, two) = tokio::task::block_in_place(|| (reads(node, first), reads(node, second)));
        assert_eq!(
            (one.as_str(), two.as_str()),
            ("one", "two"),
            "{}",
            node.local
        );
    }
    // What waits at the broker for one that is away shows how it is sealed.
    nodes[away].stop().await;
    let third = tokio::task::block_in_place(|| send(&nodes, "three")).expect("sent");
    until("the others have it", || {
        nodes[1..away].iter().all(|n| n.has(third))
    })
    .await;
    for node in &mut nodes {
        node.stop().await;
    }
    broker.stop().await.expect("stops");
    let opened = Store::open(&dir.path().join("data"), Options::default());
    let (store, ..) = opened.expect("opens");
    let waits = store.reader().message(third).expect("reads");
    let waits = Envelope::decode(&waits.expect("it waits")).expect("decodes");
    assert!(waits.epoch().expect("reads").is_some());
    assert!(waits.seals().expect("reads").is_empty());
}
