//! What a revocation costs: from `SIGHUP` until the revoked peer is cut, with a thousand others on the line, by the length of the list.

use std::process::Command;
use std::time::{Duration, Instant};

use ordonnans_label::{Clearance, Level};
use ordonnans_message::Frame;
use ordonnans_tests::site::{Peer, Site, write_trust};
use ordonnans_transport::Lane;

use crate::{broker, crowd, runtime};

const CONNECTIONS: usize = 1_000;

/// How long one answer takes now, in milliseconds.
async fn answer(peer: &Peer) -> f64 {
    let began = Instant::now();
    let asked = peer.say(Lane::Control, &Frame::DirectoryGet).await;
    if asked.is_none() {
        return f64::NAN;
    }
    loop {
        match peer.hear().await {
            Some(Frame::Directory { more: false, .. }) => break,
            Some(_) => {}
            None => return f64::NAN,
        }
    }
    began.elapsed().as_secs_f64() * 1e3
}

pub(crate) fn run() {
    let runtime = runtime();
    let mut house = crowd(CONNECTIONS + 3);
    let Ok(dir) = tempfile::tempdir() else { return };
    let site = Site::new(dir.path(), &mut house);
    let Ok(mut child) = broker(&site) else { return };
    runtime.block_on(async {
        let mut held = vec![];
        for i in 0..CONNECTIONS + 3 {
            held.push(site.peer_soon(&house, i).await);
        }
        let asks = held.pop();
        let (holds, name) = (Clearance::new(Level::StgC), house.nodes[0].name.clone());
        let mut entries = 0;
        for (revoked, length) in [(CONNECTIONS, 1), (CONNECTIONS + 1, 10_000)] {
            house.authority.revoke(&house.nodes[revoked].issued);
            entries += 1;
            while entries < length {
                let Ok(issued) = house.authority.issue(&name, &holds) else {
                    return;
                };
                house.authority.revoke(&issued);
                entries += 1;
            }
            let Ok(trust) = house.authority.trust() else {
                return;
            };
            write_trust(dir.path(), &trust);
            let Some(asks) = &asks else { return };
            let usual = answer(asks).await;
            let began = Instant::now();
            let mut hup = Command::new("kill");
            drop(hup.arg("-HUP").arg(child.id().to_string()).status());
            let mut longest: f64 = 0.0;
            let cut = held[revoked].connection.closed();
            let cut = async {
                cut.await;
                began.elapsed()
            };
            tokio::pin!(cut);
            let cut = loop {
                tokio::select! {
                    biased;
                    at = &mut cut => break at,
                    ms = answer(asks) => longest = longest.max(ms),
                }
            };
            let now = Duration::ZERO;
            let mut left = 0;
            for peer in &held[..CONNECTIONS] {
                let closed = tokio::time::timeout(now, peer.connection.closed());
                left += usize::from(closed.await.is_err());
            }
            println!(
                "a list of {entries:>6}: cut after {:.0} ms, {left} of {CONNECTIONS} others stay; an answer takes {usual:.1} ms, and {longest:.1} ms at most meanwhile",
                cut.as_secs_f64() * 1e3
            );
        }
    });
    drop((child.kill(), child.wait()));
}
