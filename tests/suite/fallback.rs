//! Nodes whose UDP is blocked, and a node that sleeps.

use std::time::Duration;

use ordonnans_audit::{Detail, Entry, Public, Verb};
use ordonnans_broker::Broker;
use ordonnans_client::officer::Officer;
use ordonnans_label::Name;
use ordonnans_tests::house::{House, STRUCTURE};
use ordonnans_tests::link::{Line, Link};
use ordonnans_tests::pair::{DEF, LOCAL, NCC, Pair};
use ordonnans_tests::site::{Site, whole, write_credentials};

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
    pair: Pair,
    link: Link,
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
        let mut files = vec![];
        for node in [NCC, DEF] {
            let local = LOCAL[node];
            let credentials = write_credentials(dir.path(), local, &house.nodes[node].issued);
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
            files.push(dir.path().join(format!("{local}.toml")));
            std::fs::write(&files[node], text).expect("writes");
        }
        let pair = Pair::start(broker, &files);
        pair.know_each_other().await;
        Self {
            site,
            pair,
            link,
            _dir: dir,
        }
    }

    fn hand_in(&self, from: usize, to: &str, precedence: &str) -> String {
        let id = self.pair.send(from, to, precedence, None);
        id.expect("handed in")
    }

    /// Each of these is there, once, and so is nothing else but the first.
    async fn there_once(&self, node: usize, sent: &[String]) {
        self.pair
            .until(|p| {
                let there = p.inbox(node);
                sent.iter().all(|id| there.contains(id))
            })
            .await;
        assert_eq!(self.pair.inbox(node).len(), sent.len() + 1, "each once");
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn where_udp_is_blocked_a_node_comes_over_tcp_and_goes_back() {
    let w = World::new(GONE, true).await;
    let status = w.pair.status(NCC);
    assert_eq!(status["carrier"], "tcp");
    assert_eq!(status["key_exchange"], "X25519MLKEM768");
    let (mut up, mut down) = (vec![], vec![]);
    // An attachment each way; what is urgent comes in between.
    for (from, to, sent) in [(NCC, "def", &mut up), (DEF, "ncc", &mut down)] {
        let at = if from == NCC { DEF } else { NCC };
        let file = w.site.dir.join("large");
        std::fs::write(&file, vec![9; 96 << 20]).expect("writes");
        let large = w
            .pair
            .send(from, to, "ROUTINE", Some(&file))
            .expect("handed in");
        let flash = w.hand_in(from, to, "FLASH");
        w.pair.until(|p| p.inbox(at).contains(&flash)).await;
        assert!(!w.pair.inbox(at).contains(&large), "still on its way");
        sent.extend([large, flash]);
    }
    w.there_once(DEF, &up).await;
    w.there_once(NCC, &down).await;

    // UDP is back. What is handed in meanwhile comes on either.
    w.link.set(Line::default());
    w.pair
        .until(|p| {
            if up.len() < 60 {
                up.push(w.hand_in(NCC, "def", "PRIORITY"));
                down.push(w.hand_in(DEF, "ncc", "PRIORITY"));
            }
            p.status(NCC)["carrier"] == "quic"
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
    w.pair.until(|p| p.status(NCC)["carrier"] == "tcp").await;
    w.there_once(DEF, &up).await;
    w.pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_laptop_that_sleeps_resumes() {
    let w = World::new(Line::default(), false).await;
    // Nothing comes through for longer than either end keeps a silent session.
    w.link.set(GONE);
    let up: Vec<String> = (0..5).map(|_| w.hand_in(NCC, "def", "PRIORITY")).collect();
    let down: Vec<String> = (0..5).map(|_| w.hand_in(DEF, "ncc", "PRIORITY")).collect();
    w.pair.until(|p| p.status(NCC)["connected"] == false).await;
    assert_eq!((w.pair.inbox(DEF).len(), w.pair.inbox(NCC).len()), (1, 1));
    w.link.set(Line::default());
    w.there_once(DEF, &up).await;
    w.there_once(NCC, &down).await;
    assert_eq!(w.sessions().await.len(), 2, "one before, one after");
    w.pair.end().await;
}
