//! Delivery under load: a FLASH past a hundred thousand others, a backlog, an attachment beside a raw stream.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ordonnans_audit::ClockQuality;
use ordonnans_engine::{Effect, Engine, Input, Recovered, Session};
use ordonnans_label::Level;
use ordonnans_message::{
    AttachmentRef, Blake3Stream, BulkHead, Envelope, Frame, MessageId, Precedence, Receipt,
    ReceiptKind,
};
use ordonnans_policy::Book;
use ordonnans_seal::{SeededEntropy, sign_statement};
use ordonnans_store::{Options, Store};
use ordonnans_tests::house::{Draft, House, approved_of, night};
use ordonnans_tests::link::{Line, Link};
use ordonnans_tests::site::{Peer, Site, now};
use ordonnans_transport::{ClientOptions, Connection, Identity, Lane, Limits, Listener, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::{broker, crowd, percentile, resident, runtime, settings};

/// FLASH messages of one measurement.
const FLASHES: usize = 500;
/// ROUTINE messages that wait meanwhile.
const ROUTINES: usize = 100_000;
/// Bytes of an attachment.
const ATTACHED: u64 = 256 << 20;
/// Times each way is measured, beside a raw stream of that moment.
const ROUNDS: usize = 9;

pub(crate) fn draft(from: usize, to: usize, precedence: Precedence) -> Draft {
    Draft {
        from,
        to: vec![to],
        level: Level::Ongerubriceerd,
        circle: false,
        precedence,
        lifetime: 86_400_000,
        body: vec![7; 256],
    }
}

fn sealed(house: &House, from: usize, precedence: Precedence, n: usize, seed: u64) -> Vec<Bytes> {
    let (d, mut entropy) = (draft(from, 0, precedence), SeededEntropy::new(seed));
    let one = |_| house.seal(&d, now(), &mut entropy).get().encode();
    (0..n).map(one).collect()
}

/// The receipt of the recipient, signed and not checked again: what is measured is the broker, and both share the cores.
fn delivered(house: &House, envelope: &Envelope) -> Option<Bytes> {
    let to = &house.nodes[0];
    let receipt = Receipt {
        message: envelope.header().id,
        envelope: envelope.digest(),
        kind: ReceiptKind::Delivered,
        by: to.name.clone(),
        at: now(),
    };
    Some(sign_statement(&receipt, &to.signer).ok()?.encode())
}

/// A task that says receipts for a peer: whoever waits to say something hears nothing.
fn receipting(peer: &Peer) -> mpsc::UnboundedSender<Bytes> {
    let (receipts, mut to_say) = mpsc::unbounded_channel();
    let saying = peer.clone();
    tokio::spawn(async move {
        while let Some(receipt) = to_say.recv().await {
            saying
                .say(Lane::Control, &Frame::Receipt { receipt })
                .await?;
        }
        Some(())
    });
    receipts
}

/// Hears everything, gives receipts, and says when each message of a precedence came.
pub(crate) async fn receives(
    peer: Peer,
    house: Arc<House>,
    of: Precedence,
    came: mpsc::UnboundedSender<(MessageId, Instant)>,
) -> Option<()> {
    let receipts = receipting(&peer);
    loop {
        let Frame::Deliver { envelope } = peer.hear().await? else {
            continue;
        };
        let at = Instant::now();
        let envelope = Envelope::decode(&envelope).ok()?;
        let header = envelope.header();
        if header.precedence() == of {
            came.send((header.id, at)).ok()?;
        }
        // What has an attachment is not there before that is.
        if !header.attachments.is_empty() {
            continue;
        }
        receipts.send(delivered(&house, &envelope)?).ok()?;
    }
}

/// From handing a message to the line until it lies at its recipient, in milliseconds, sorted.
pub(crate) async fn latencies(
    from: &Peer,
    of: Precedence,
    pool: Vec<Bytes>,
    came: &mut mpsc::UnboundedReceiver<(MessageId, Instant)>,
) -> Option<Vec<f64>> {
    let mut times = vec![];
    for e in pool {
        let id = Envelope::decode(&e).ok()?.header().id;
        let began = Instant::now();
        let lane = Lane::Class(of);
        from.say(lane, &Frame::Publish { envelope: e }).await?;
        loop {
            let (came_id, at) = came.recv().await?;
            if came_id == id {
                times.push((at - began).as_secs_f64() * 1e3);
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    times.sort_by(f64::total_cmp);
    Some(times)
}

/// Uploads so many of a byte; gives the digest and the seconds until they are durable.
async fn upload(peer: &Peer, bytes: u64, fill: u8) -> Option<(AttachmentRef, f64)> {
    let chunk = vec![fill; 1 << 20];
    // Not on the threads that say when a message came.
    let digest = tokio::task::spawn_blocking(move || {
        let chunk = vec![fill; 1 << 20];
        let mut stream = Blake3Stream::default();
        (0..bytes >> 20).for_each(|_| stream.update(&chunk));
        stream.finish()
    });
    let digest = digest.await.ok()?;
    let offer = Frame::AttachmentOffer {
        digest,
        length: bytes,
    };
    peer.say(Lane::Control, &offer).await?;
    while !matches!(peer.hear().await?, Frame::AttachmentState { .. }) {}
    let began = Instant::now();
    let head = BulkHead { digest, offset: 0 }.encode();
    let mut bulk = peer.connection.send_bulk(head).await.ok()?;
    for _ in 0..bytes >> 20 {
        bulk.write_all(&chunk).await.ok()?;
    }
    bulk.flush().await.ok()?;
    bulk.finish().ok()?;
    loop {
        if let Frame::AttachmentState { have, .. } = peer.hear().await?
            && have == bytes
        {
            let length = bytes;
            let took = began.elapsed().as_secs_f64();
            return Some((AttachmentRef { digest, length }, took));
        }
    }
}

/// Fetches an attachment; gives the seconds it took.
async fn download(peer: &Peer, of: AttachmentRef) -> Option<f64> {
    let (digest, offset) = (of.digest, 0);
    let began = Instant::now();
    peer.say(Lane::Control, &Frame::AttachmentGet { digest, offset })
        .await?;
    let (_, stream) = peer.connection.accept_bulk().await.ok()?;
    (swallow(stream).await == of.length).then(|| began.elapsed().as_secs_f64())
}

async fn swallow(mut stream: impl tokio::io::AsyncRead + Unpin) -> u64 {
    let (mut buffer, mut all) = (vec![0; 256 << 10], 0);
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        all += n as u64;
    }
    all
}

/// Messages that wait for a recipient who is away.
async fn hand_in(from: &Peer, envelopes: Vec<Bytes>) -> Option<()> {
    let (mut offered, mut answered) = (0, 0);
    for e in envelopes {
        from.publish(e).await?;
        offered += 1;
        while offered - answered >= 256 {
            from.decision().await?;
            answered += 1;
        }
    }
    while answered < offered {
        from.decision().await?;
        answered += 1;
    }
    Some(())
}

/// Fetches an attachment again and again.
fn fetching(to: Peer, of: AttachmentRef) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { while download(&to, of).await.is_some() {} })
}

/// Sends one attachment after the other, each of a byte of its own.
fn sending(from: Peer) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        for fill in 6..u8::MAX {
            if upload(&from, ATTACHED, fill).await.is_none() {
                return;
            }
        }
    })
}

/// Ends what went on besides; `None` where it had ended before, so that nothing was measured beside it.
fn ended(besides: &tokio::task::JoinHandle<()>) -> Option<()> {
    let went_on = !besides.is_finished();
    besides.abort();
    went_on.then_some(())
}

/// Over loopback, where everything shares two cores, and over lines such as a crisis centre has.
pub(crate) fn flash() {
    println!("over loopback, as fast as it goes");
    flash_over(None);
    println!("each node behind a line of 100 Mbit/s and 10 ms");
    flash_over(Some(Line {
        rate: 100_000_000,
        delay: Duration::from_millis(10),
        queue: 256 << 10,
        ..Line::default()
    }));
}

fn flash_over(line: Option<Line>) {
    let mut house = crowd(3);
    let Ok(dir) = tempfile::tempdir() else { return };
    let site = Site::new(dir.path(), &mut house);
    let Ok(mut child) = broker(&site) else { return };
    let house = Arc::new(house);
    let pool = |seed| sealed(&house, 1, Precedence::Flash, FLASHES, seed);
    let pools = [2, 3, 4, 5, 6].map(pool);
    let routine = sealed(&house, 1, Precedence::Routine, ROUTINES, 1);
    let played = runtime().block_on(async {
        let [idle, beside, coming, behind, both] = pools;
        let mut links = vec![];
        let mut ends = [site.clone(), site.clone(), site.clone()];
        if let Some(line) = line {
            for end in &mut ends {
                let link = Link::to(site.address, line, 1).await.ok()?;
                end.address = link.address();
                links.push(link);
            }
        }
        let [at_to, at_from, at_third] = ends;
        let to = at_to.peer_soon(&house, 0).await;
        let from = at_from.peer_soon(&house, 1).await;
        let (say, mut came) = mpsc::unbounded_channel();
        let hears = tokio::spawn(receives(
            to.clone(),
            Arc::clone(&house),
            Precedence::Flash,
            say.clone(),
        ));
        let idle = latencies(&from, Precedence::Flash, idle, &mut came).await?;
        let (attached, _) = upload(&from, ATTACHED, 5).await?;
        let mut entropy = SeededEntropy::new(9);
        let d = draft(1, 0, Precedence::Deferred);
        let e = house.seal_with(&d, now(), &mut entropy, |h| h.attachments = vec![attached]);
        hand_in(&from, vec![e.get().encode()]).await?;
        let fetches = fetching(to.clone(), attached);
        let beside = latencies(&from, Precedence::Flash, beside, &mut came).await?;
        ended(&fetches)?;
        let third = at_third.peer_soon(&house, 2).await;
        let sends = sending(third.clone());
        let coming = latencies(&from, Precedence::Flash, coming, &mut came).await?;
        ended(&sends)?;
        third.leave().await;
        to.leave().await;
        hears.abort();
        // The recipient is away while the others are handed in.
        hand_in(&from, routine).await?;
        let to = at_to.peer_soon(&house, 0).await;
        let hears = tokio::spawn(receives(
            to.clone(),
            Arc::clone(&house),
            Precedence::Flash,
            say,
        ));
        let behind = latencies(&from, Precedence::Flash, behind, &mut came).await?;
        let fetches = fetching(to, attached);
        let both = latencies(&from, Precedence::Flash, both, &mut came).await?;
        hears.abort();
        ended(&fetches)?;
        Some([idle, beside, coming, behind, both])
    });
    drop((child.kill(), child.wait()));
    let Some(played) = played else {
        println!("the broker, or what was to go on besides, went away");
        return;
    };
    let what = [
        "FLASH end to end, idle",
        "an attachment going out besides",
        "attachments of a third coming in",
        "100,000 ROUTINE going out besides",
        "both",
    ];
    let idle = percentile(&played[0], 99);
    for (what, t) in what.iter().zip(&played) {
        let [p50, p99] = [50, 99].map(|p| percentile(t, p));
        println!(
            "{what:<36} p50 {p50:>7.2} ms, p99 {p99:>7.2} ms, {:>5.2} of the idle p99",
            p99 / idle
        );
    }
}

/// Makes a backlog without a line, gives it to a broker, and lets it drain.
pub(crate) fn backlog() {
    let set = std::env::var("ORDONNANS_BACKLOG").ok();
    let count: usize = set.and_then(|n| n.parse().ok()).unwrap_or(ROUTINES);
    let mut house = crowd(3);
    let Ok(dir) = tempfile::tempdir() else { return };
    let site = Site::new(dir.path(), &mut house);
    if let Err(why) = fill(&house, &site.dir.join("data"), count) {
        println!("{why}");
        return;
    }
    let began = Instant::now();
    let Ok(mut child) = broker(&site) else { return };
    let house = Arc::new(house);
    let drained = runtime().block_on(async {
        // A large one takes longer to open than anything that a test waits for.
        let to = loop {
            if let Some(peer) = site.peer(&house, 0).await {
                break peer;
            }
            if !matches!(child.try_wait(), Ok(None)) {
                return None;
            }
        };
        let (open, open_mib) = (began.elapsed().as_secs_f64(), resident(child.id()) / 1024.0);
        let began = Instant::now();
        let mut left = count;
        let receipts = receipting(&to);
        while left > 0 {
            match to.hear().await? {
                Frame::Deliver { envelope } => {
                    let envelope = Envelope::decode(&envelope).ok()?;
                    receipts.send(delivered(&house, &envelope)?).ok()?;
                }
                Frame::ReceiptStored { .. } => left -= 1,
                _ => {}
            }
        }
        let took = began.elapsed().as_secs_f64();
        Some((open, open_mib, took, resident(child.id()) / 1024.0))
    });
    drop((child.kill(), child.wait()));
    match drained {
        None => println!("the broker went away"),
        Some((open, mib, took, after)) => println!(
            "{count} undelivered messages: open and first session {open:.1} s, {mib:.0} MiB resident; drained in {took:.0} s, {:.0} a second; {after:.0} MiB resident then",
            count as f64 / took
        ),
    }
}

fn fill(house: &House, data: &Path, count: usize) -> Result<(), String> {
    let (mut store, recovered, _) =
        Store::open(data, Options::default()).map_err(|e| e.to_string())?;
    let members: Vec<_> = house.members.clone();
    let mut engine = Engine::new(
        settings(house),
        approved_of(&members, 1, None),
        Book::built_in(),
        Recovered { ..recovered },
        vec![],
        Box::new(SeededEntropy::new(2)),
        now(),
    )
    .map_err(|e| e.to_string())?;
    let quality = ClockQuality::Unknown;
    engine.handle(
        now(),
        Input::Clock {
            quality,
            step_ms: 0,
        },
    );
    for (i, node) in [0, 1].into_iter().enumerate() {
        let (session, peer) = (Session(i as u64), house.nodes[node].certificate.clone());
        engine.handle(
            now(),
            Input::Opened {
                session,
                peer,
                line: "simulated".into(),
            },
        );
        if node == 0 {
            let note = "gone";
            engine.handle(now(), Input::Closed { session, note });
        }
    }
    let (d, mut entropy, mut group) = (
        draft(1, 0, Precedence::Routine),
        SeededEntropy::new(4),
        vec![],
    );
    let began = Instant::now();
    for n in 0..count {
        let (session, envelope) = (Session(1), Box::new(house.seal(&d, now(), &mut entropy)));
        engine.handle(now(), Input::Publish { session, envelope });
        while let Some(effect) = engine.poll_effect() {
            match effect {
                Effect::Commit(commit) => {
                    engine.durable_through(commit.seq);
                    group.push(commit);
                }
                Effect::Send {
                    frame: Frame::Refused { code, .. },
                    ..
                } => return Err(format!("message {n} was refused: {code:?}")),
                _ => {}
            }
        }
        if group.len() >= 512 || n + 1 == count {
            store
                .commit(std::mem::take(&mut group))
                .map_err(|e| e.to_string())?;
        }
    }
    store.settle().map_err(|e| e.to_string())?;
    let took = began.elapsed().as_secs_f64();
    println!(
        "{count} messages sealed and stored in {took:.0} s, at {}",
        night().date()
    );
    Ok(())
}

/// A stream over a connection with nothing behind it; gives the seconds.
async fn raw(house: &mut House, bytes: u64) -> Option<f64> {
    let clock: ordonnans_transport::Clock = Arc::new(now);
    let (name, server) = (house.broker(), house.broker_identity()?);
    let node = &house.nodes[1].issued;
    let client = Identity::from_der(vec![node.certificate.to_vec()], node.key_pkcs8()).ok()?;
    let any = ([127, 0, 0, 1], 0).into();
    let limits = Limits::default();
    let listener = Listener::bind(any, &server, &house.trust, limits, Arc::clone(&clock)).ok()?;
    let options = ClientOptions {
        hybrid_only: false,
        limits: Limits::default(),
        clock,
    };
    let at = listener.local_addr();
    let (client, served) = tokio::join!(
        connect(at, &name, &client, &house.trust, &options),
        listener.accept()
    );
    let (client, served): (Connection, Connection) = (client.ok()?, served?);
    let began = Instant::now();
    let hears = tokio::spawn(async move {
        let (_, stream) = served.accept_bulk().await.ok()?;
        Some(swallow(stream).await)
    });
    let chunk = vec![5u8; 1 << 20];
    let mut bulk = client.send_bulk(Bytes::from_static(b"head")).await.ok()?;
    for _ in 0..bytes >> 20 {
        bulk.write_all(&chunk).await.ok()?;
    }
    bulk.flush().await.ok()?;
    bulk.finish().ok()?;
    let heard = hears.await.ok()??;
    (heard == bytes).then(|| began.elapsed().as_secs_f64())
}

/// The one in the middle, and the range.
struct Middle(Vec<f64>);

impl std::fmt::Display for Middle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = &self.0;
        let places = f.precision().unwrap_or(2);
        let of = |i: usize| all.get(i).copied().unwrap_or(f64::NAN);
        write!(
            f,
            "{:.places$} ({:.places$} to {:.places$})",
            of(all.len() / 2),
            of(0),
            of(all.len().saturating_sub(1))
        )
    }
}

fn middle(mut all: Vec<f64>) -> Middle {
    all.sort_by(f64::total_cmp);
    Middle(all)
}

/// What one round of attachments took: seconds for a raw stream, up and down; the broker's memory before and at most, in MiB.
struct Attached {
    raw: f64,
    up: f64,
    down: f64,
    before: f64,
    most: f64,
}

/// One way and the other, on a broker and a folder of its own: what is left of one round in the system's memory is not what the next has to do without.
fn attached() -> Option<Attached> {
    let mut house = crowd(3);
    let dir = tempfile::tempdir().ok()?;
    let site = Site::new(dir.path(), &mut house);
    let mut child = broker(&site).ok()?;
    let id = child.id();
    let memory = || resident(id) / 1024.0;
    let played = runtime().block_on(async {
        let to = site.peer_soon(&house, 0).await;
        let from = site.peer_soon(&house, 1).await;
        let raw = raw(&mut house, ATTACHED).await?;
        let before = memory();
        let (of, up) = upload(&from, ATTACHED, 5).await?;
        let after = memory();
        let d = draft(1, 0, Precedence::Routine);
        let mut entropy = SeededEntropy::new(9);
        let e = house.seal_with(&d, now(), &mut entropy, |h| h.attachments = vec![of]);
        from.publish(e.get().encode()).await?;
        from.decision().await?;
        let down = download(&to, of).await?;
        Some(Attached {
            raw,
            up,
            down,
            before,
            most: after.max(memory()),
        })
    });
    drop((child.kill(), child.wait()));
    played
}

pub(crate) fn attachment() {
    let mib = (ATTACHED >> 20) as f64;
    let Some(rounds) = (0..ROUNDS).map(|_| attached()).collect::<Option<Vec<_>>>() else {
        println!("the broker went away");
        return;
    };
    let of = |what: &dyn Fn(&Attached) -> f64| middle(rounds.iter().map(what).collect());
    println!("of {ROUNDS} rounds of {mib} MiB the middle one, and the range");
    println!(
        "raw stream, both ends in one process: {:.0} MiB/s",
        of(&|r| mib / r.raw)
    );
    println!(
        "node to broker, durable: {:.0} MiB/s, ratio {:.2}",
        of(&|r| mib / r.up),
        of(&|r| r.raw / r.up)
    );
    println!(
        "broker to node: {:.0} MiB/s, ratio {:.2}",
        of(&|r| mib / r.down),
        of(&|r| r.raw / r.down)
    );
    println!(
        "the broker, resident: {:.0} MiB before, {:.0} at most after a transfer",
        of(&|r| r.before),
        of(&|r| r.most)
    );
}
