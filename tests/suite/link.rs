//! Bad lines: slow ones with an attachment under way, lossy ones, such as swallow large datagrams, and a node that moves.

use std::time::Duration;

use ordonnans_audit::Verb;
use ordonnans_broker::Broker;
use ordonnans_client::local::Request;
use ordonnans_client::officer::Officer;
use ordonnans_message::AuditQuery;
use ordonnans_tests::house::{House, STRUCTURE};
use ordonnans_tests::link::{Line, Link};
use ordonnans_tests::netns::{Far, Namespace};
use ordonnans_tests::pair::{DEF, LOCAL, NCC, Pair};
use ordonnans_tests::site::{Site, write_credentials};

/// A broker and two daemons, each behind a line of its own.
struct World {
    site: Site,
    pair: Pair,
    links: Vec<Link>,
    _far: Option<(Far, Namespace)>,
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
        let (mut broker, mut far) = (None, None);
        match space {
            None => broker = Some(Broker::start(site.config()).await.expect("starts")),
            Some(space) => {
                let near = site.address.to_string();
                site.address.set_ip(space.address().into());
                let toml = std::fs::read_to_string(site.broker_toml()).expect("reads");
                let toml = toml.replacen(&near, &site.address.to_string(), 1);
                std::fs::write(site.broker_toml(), toml).expect("writes");
                far = Some((space.start(site.config()).expect("starts"), space));
            }
        }
        let (mut files, mut links) = (vec![], vec![]);
        for node in [NCC, DEF] {
            // Fast until both know each other.
            let link = Link::to(site.address, Line::default(), node as u64 + 1);
            let link = link.await.expect("a line");
            let local = LOCAL[node];
            let credentials = write_credentials(dir.path(), local, &house.nodes[node].issued);
            let text = format!(
                "broker = \"{}\"\nbroker_name = \"b1.broker.{STRUCTURE}\"\ntrust = \"trust\"\ndata = \"{local}\"\n{credentials}",
                link.address()
            );
            files.push(dir.path().join(format!("{local}.toml")));
            std::fs::write(&files[node], text).expect("writes");
            links.push(link);
        }
        let pair = Pair::start(broker, &files);
        pair.know_each_other().await;
        links.iter().for_each(|l| l.set(line));
        Self {
            site,
            pair,
            links,
            _far: far,
            _dir: dir,
        }
    }

    fn file(&self, name: &str, bytes: usize) -> std::path::PathBuf {
        let path = self.site.dir.join(name);
        std::fs::write(&path, vec![9; bytes]).expect("writes");
        path
    }
}

/// An attachment goes up and then down; at each half a FLASH comes in between, and past what was handed in before it.
async fn flash_overtakes(w: World, line: Line, bytes: usize, routine: usize) {
    let file = w.file("large", bytes);
    let large = w
        .pair
        .send(NCC, "def", "ROUTINE", Some(&file))
        .expect("handed in");
    // The line is gone for a moment, so that messages are waiting.
    let gone = Line { loss: 100, ..line };
    w.links[NCC].set(gone);
    let before: Vec<String> = (0..routine)
        .map(|_| {
            w.pair
                .send_of(NCC, "def", "ROUTINE", None, 16 << 10)
                .expect("handed in")
        })
        .collect();
    let flash = w.pair.send(NCC, "def", "FLASH", None).expect("handed in");
    w.links[NCC].set(line);
    w.pair.until(|p| p.inbox(DEF).contains(&flash)).await;
    let there = w.pair.inbox(DEF);
    assert!(
        !w.pair.accepted(NCC, &large),
        "the attachment is still on its way up"
    );
    assert!(
        before.iter().any(|id| !there.contains(id)),
        "it overtook what was handed in before it"
    );
    // Now down: the broker has it, and the other node fetches it.
    w.pair.until(|p| p.accepted(NCC, &large)).await;
    let flash = w.pair.send(NCC, "def", "FLASH", None).expect("handed in");
    w.pair.until(|p| p.inbox(DEF).contains(&flash)).await;
    assert!(
        !w.pair.inbox(DEF).contains(&large),
        "the attachment is still on its way down"
    );
    w.pair
        .until(|p| {
            let there = p.inbox(DEF);
            there.contains(&large) && before.iter().all(|id| there.contains(id))
        })
        .await;
    w.pair.end().await;
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
            w.pair
                .send_of(NCC, "def", "ROUTINE", None, 8 << 10)
                .expect("handed in")
        })
        .collect();
    sent.push(
        w.pair
            .send(NCC, "def", "PRIORITY", Some(&file))
            .expect("handed in"),
    );
    w.pair
        .until(|p| {
            let there = p.inbox(DEF);
            sent.iter().all(|id| there.contains(id))
        })
        .await;
    assert_eq!(w.pair.inbox(DEF).len(), sent.len() + 1, "each once");
    w.pair
        .until(|p| {
            let rows = p.rows(NCC, &Request::Receipts { id: None });
            rows.iter().all(|r| r["delivered"] == 1)
        })
        .await;
    w.pair.end().await;
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
        .pair
        .send(NCC, "def", "ROUTINE", Some(&file))
        .expect("handed in");
    for _ in 0..3 {
        w.links[NCC].moves().await.expect("moves");
        let id = w.pair.send(NCC, "def", "FLASH", None).expect("handed in");
        w.pair.until(|p| p.inbox(DEF).contains(&id)).await;
    }
    w.pair.until(|p| p.inbox(DEF).contains(&large)).await;
    assert_eq!(opened().await, before, "the same session");
    w.pair.end().await;
}
