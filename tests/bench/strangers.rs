//! A flood of handshakes that nobody goes on with, and what those who are in notice of it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ordonnans_label::Level;
use ordonnans_message::Precedence;
use ordonnans_seal::SeededEntropy;
use ordonnans_tests::house::{Draft, House};
use ordonnans_tests::site::{Peer, Site, now};
use ordonnans_transport::{ClientOptions, Identity, Limits, connect};

use crate::{broker, crowd, percentile, runtime};

/// Handshakes of the flood. Each is of a connection of its own, made beforehand.
const FLOOD: usize = 50_000;
/// How many a second: what one core of a machine beside the broker makes anew.
const A_SECOND: usize = 5_000;
/// Sockets the flood comes from.
const SOCKETS: usize = 16;
/// Messages of the measurement without a flood.
const MESSAGES: usize = 2_000;
/// Datagrams of a hello; with the hybrid group it does not fit one.
const HELLO: usize = 2;

/// The first packets of so many connections, caught on a socket that nobody answers on.
async fn hellos(house: &House) -> Option<Vec<[Vec<u8>; HELLO]>> {
    let catch = tokio::net::UdpSocket::bind("127.0.0.1:0").await.ok()?;
    let at = catch.local_addr().ok()?;
    let node = &house.nodes[2].issued;
    let identity = Identity::from_der(vec![node.certificate.to_vec()], node.key_pkcs8()).ok()?;
    let identity = Arc::new(identity);
    let options = ClientOptions {
        hybrid_only: true,
        limits: Limits::default(),
        clock: Arc::new(now),
    };
    let mut all = Vec::with_capacity(FLOOD);
    let mut datagram = [0; 2048];
    for _ in 0..FLOOD {
        let (identity, trust) = (Arc::clone(&identity), house.trust.clone());
        let (name, options) = (house.broker(), options.clone());
        let begun = tokio::spawn(async move {
            drop(connect(at, &name, &identity, &trust, &options).await);
        });
        let mut hello = [vec![], vec![]];
        for part in &mut hello {
            let (n, _) = catch.recv_from(&mut datagram).await.ok()?;
            *part = datagram[..n].to_vec();
        }
        begun.abort();
        all.push(hello);
    }
    Some(all)
}

/// Sends them evenly. What comes back is not read. Gives how many went out, and in how many seconds.
fn flood(hellos: &[[Vec<u8>; HELLO]], to: SocketAddr) -> std::io::Result<f64> {
    let sockets: Vec<UdpSocket> = (0..SOCKETS)
        .map(|_| UdpSocket::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let began = Instant::now();
    for (i, hello) in hellos.iter().enumerate() {
        let due = Duration::from_secs_f64(i as f64 / A_SECOND as f64);
        if let Some(early) = due.checked_sub(began.elapsed()) {
            std::thread::sleep(early);
        }
        for part in hello {
            sockets[i % SOCKETS].send_to(part, to)?;
        }
    }
    Ok(began.elapsed().as_secs_f64())
}

fn sealed(house: &House, n: usize, seed: u64) -> Vec<Bytes> {
    let d = Draft {
        from: 1,
        to: vec![0],
        level: Level::Ongerubriceerd,
        circle: false,
        precedence: Precedence::Routine,
        lifetime: 86_400_000,
        body: vec![7; 256],
    };
    let mut entropy = SeededEntropy::new(seed);
    let one = |_| house.seal(&d, now(), &mut entropy).get().encode();
    (0..n).map(one).collect()
}

/// From handing a message in until it is durably decided, one after the other while `going`; in milliseconds, sorted.
async fn decided(from: &Peer, pool: Vec<Bytes>, going: impl Fn() -> bool) -> Option<Vec<f64>> {
    let mut times = vec![];
    for e in pool {
        if !going() {
            break;
        }
        let began = Instant::now();
        from.publish(e).await?;
        from.decision().await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Some(times)
}

pub(crate) fn run() {
    let mut house = crowd(3);
    let Ok(dir) = tempfile::tempdir() else { return };
    let site = Site::new(dir.path(), &mut house);
    let Ok(mut child) = broker(&site) else { return };
    let played = runtime().block_on(async {
        drop(site.peer_soon(&house, 0).await);
        let from = site.peer_soon(&house, 1).await;
        let hellos = hellos(&house).await?;
        let (first, second) = (
            sealed(&house, MESSAGES, 1),
            sealed(&house, 20 * MESSAGES, 2),
        );
        let idle = decided(&from, first, || true).await?;
        let over = Arc::new(AtomicBool::new(false));
        let flooding = tokio::task::spawn_blocking({
            let (over, to) = (Arc::clone(&over), site.address);
            move || {
                let took = flood(&hellos, to);
                over.store(true, Ordering::SeqCst);
                took
            }
        });
        let during = decided(&from, second, || !over.load(Ordering::SeqCst)).await?;
        let took = flooding.await.ok()?.ok()?;
        Some((idle, during, took))
    });
    drop((child.kill(), child.wait()));
    let Some((idle, during, took)) = played else {
        println!("the broker went away, or there is no socket");
        return;
    };
    println!(
        "{FLOOD} handshakes begun in {took:.1} s, {:.0} a second",
        FLOOD as f64 / took
    );
    for (what, times) in [("idle", &idle), ("during the flood", &during)] {
        println!(
            "{what:18} {:6} messages decided, p50 {:.2} ms, p99 {:.2} ms",
            times.len(),
            percentile(times, 50),
            percentile(times, 99)
        );
    }
    let ratio = percentile(&during, 99) / percentile(&idle, 99);
    println!("p99 during the flood beside idle: {ratio:.2}");
}
