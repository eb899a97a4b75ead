//! What two nodes notice of a third that floods, never acknowledges, or does not read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ordonnans_message::{Frame, Precedence};
use ordonnans_seal::SeededEntropy;
use ordonnans_tests::house::House;
use ordonnans_tests::site::{Peer, Site, now};
use ordonnans_transport::Lane;
use tokio::sync::mpsc;

use crate::urgent::{draft, latencies, receives};
use crate::{broker, crowd, percentile, runtime};

/// Messages of one measurement, one at a time.
const MESSAGES: usize = 400;
/// Messages that the flood is made of; they are said again and again.
const FLOOD: usize = 20_000;
/// Copies that wait for the node that does not acknowledge, and for the one that does not read.
const WAITING: usize = 2_000;
/// Bytes of content of these.
const LARGE: usize = 16 << 10;

const RECIPIENT: usize = 0;
const SENDER: usize = 1;
const FLOODS: usize = 2;
const MUTE: usize = 3;
const DEAF: usize = 4;
const FILLS: usize = 5;

fn sealed(
    house: &House,
    (from, to): (usize, usize),
    precedence: Precedence,
    n: usize,
    body: usize,
    seed: u64,
) -> Vec<Bytes> {
    let mut d = draft(from, to, precedence);
    d.body = vec![7; body];
    let mut entropy = SeededEntropy::new(seed);
    let one = |_| house.seal(&d, now(), &mut entropy).get().encode();
    (0..n).map(one).collect()
}

/// Says everything again and again, whatever the answers are; they are read, so that nothing but the broker holds it up.
async fn floods(peer: Peer, precedence: Precedence, all: Vec<Bytes>) {
    let hears = peer.clone();
    let hearing = tokio::spawn(async move { while hears.hear().await.is_some() {} });
    let lane = Lane::Class(precedence);
    'on: loop {
        for envelope in &all {
            let envelope = envelope.clone();
            if peer.say(lane, &Frame::Publish { envelope }).await.is_none() {
                break 'on;
            }
        }
    }
    hearing.abort();
}

/// Hears everything and acknowledges nothing.
async fn is_mute(peer: Peer) {
    while peer.hear().await.is_some() {}
}

/// Comes, reads nothing until it is cut off, and comes again.
async fn is_deaf(site: Site, house: Arc<House>) {
    loop {
        if let Some(peer) = site.peer(&house, DEAF).await {
            peer.connection.closed().await;
        }
    }
}

pub(crate) fn run() {
    let mut house = crowd(6);
    let Ok(dir) = tempfile::tempdir() else { return };
    let site = Site::new(dir.path(), &mut house);
    // With the quotas that are usual.
    let config = std::fs::read_to_string(site.broker_toml()).unwrap_or_default();
    let (start, rest) = config.split_once("[quotas]").unwrap_or((&config, ""));
    let limits = rest.split_once("[limits]").map_or("", |(_, l)| l);
    if let Err(why) = std::fs::write(site.broker_toml(), format!("{start}[limits]{limits}")) {
        return println!("{why}");
    }
    let Ok(mut child) = broker(&site) else { return };
    let house = Arc::new(house);
    let usual = Precedence::Routine;
    let pool = |seed| sealed(&house, (SENDER, RECIPIENT), usual, MESSAGES, 256, seed);
    let pools = [1, 2, 3, 4, 5, 6, 7].map(pool);
    let [flood, urgent] = [usual, Precedence::Flash].map(|precedence| {
        let seed = 8 + precedence as u64;
        sealed(&house, (FLOODS, RECIPIENT), precedence, FLOOD, 256, seed)
    });
    let waiting =
        [MUTE, DEAF].map(|to| sealed(&house, (FILLS, to), usual, WAITING, LARGE, 20 + to as u64));
    let played = runtime().block_on(async {
        let to = site.peer_soon(&house, RECIPIENT).await;
        let from = site.peer_soon(&house, SENDER).await;
        let fills = site.peer_soon(&house, FILLS).await;
        for e in waiting.into_iter().flatten() {
            fills.publish(e).await?;
            fills.decision().await?;
        }
        fills.leave().await;
        let (say, mut came) = mpsc::unbounded_channel();
        let hears = receives(to, Arc::clone(&house), usual, say);
        let hears = tokio::spawn(hears);
        let [first, flooded, flashed, second, muted, third, deafened] = pools;
        let mut one = async |pool| latencies(&from, usual, pool, &mut came).await;
        let mut all = vec![("alone", one(first).await?)];
        for (what, precedence, flood, pool) in [
            ("beside a node that floods", usual, flood, flooded),
            (
                "beside one that floods with FLASH",
                Precedence::Flash,
                urgent,
                flashed,
            ),
        ] {
            let peer = site.peer_soon(&house, FLOODS).await;
            let bad = tokio::spawn(floods(peer.clone(), precedence, flood));
            tokio::time::sleep(Duration::from_secs(1)).await;
            all.push((what, one(pool).await?));
            bad.abort();
            peer.leave().await;
            // What it was let in goes out, and urgent messages are over.
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        all.push(("alone", one(second).await?));
        let bad = tokio::spawn(is_mute(site.peer_soon(&house, MUTE).await));
        all.push(("beside one that acknowledges nothing", one(muted).await?));
        bad.abort();
        all.push(("alone", one(third).await?));
        let bad = tokio::spawn(is_deaf(site.clone(), Arc::clone(&house)));
        all.push(("beside one that does not read", one(deafened).await?));
        bad.abort();
        hears.abort();
        Some(all)
    });
    drop((child.kill(), child.wait()));
    let Some(played) = played else {
        return println!("the broker went away");
    };
    let alone = played.iter().filter(|(what, _)| *what == "alone");
    let idle: Vec<f64> = alone.map(|(_, t)| percentile(t, 99)).collect();
    let alone = idle.iter().sum::<f64>() / idle.len() as f64;
    for (what, t) in &played {
        let [p50, p99] = [50, 99].map(|p| percentile(t, p));
        println!(
            "{what:<38} p50 {p50:>7.2} ms, p99 {p99:>7.2} ms, {:>5.2} of what it is alone",
            p99 / alone
        );
    }
}
