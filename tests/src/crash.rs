//! The crash test: a broker in a process of its own is killed again and again while messages are published and received.
//!
//! What it acknowledged must be there: every accepted message reaches its recipient, has its record, and no copy was delivered without
//! one. The log is exported at the end and checked offline.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ordonnans_audit::Entry;
use ordonnans_audit::{Detail, Public, Verb};
use ordonnans_client::exports::{quorum, verify, write_lines};
use ordonnans_client::officer::Officer;
use ordonnans_label::Level;
use ordonnans_message::{Envelope, Frame, MessageId, Precedence, ReceiptKind};
use ordonnans_seal::{SeededEntropy, Verified};
use ordonnans_transport::{CloseCode, Lane};
use rustix::process::{Pid, Signal, kill_process};

use crate::house::{Draft, House};
use crate::sim::Dice;
use crate::site::{Peer, Site, now, whole};

/// As first argument of a test program: become the broker.
pub const ROLE: &str = "--in-the-role-of-the-broker";
/// Publishes without an answer at one time.
const WINDOW: usize = 32;
/// Everything may take so long to arrive at the end.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);

/// Becomes the broker where the arguments say so; a test program asks first.
#[must_use]
pub fn in_the_role(args: &[String]) -> Option<std::process::ExitCode> {
    let at = args.iter().position(|a| a == ROLE)?;
    let rest = args[at + 1..].iter().map(Into::into);
    Some(ordonnans_broker::run(
        std::iter::once("ordonnans-broker".into()).chain(rest),
    ))
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Times the broker was killed.
    pub kills: usize,
    /// Messages acknowledged.
    pub accepted: usize,
    /// Copies received.
    pub received: usize,
    /// Records in the log at the end.
    pub records: u64,
}

struct Run<'h> {
    house: &'h House,
    site: Site,
    /// The messages, in the order they are offered.
    pool: Vec<(MessageId, Bytes, Verified<Envelope>)>,
    next: usize,
    accepted: BTreeSet<MessageId>,
    offered: BTreeSet<usize>,
    received: BTreeMap<MessageId, usize>,
    receipted: BTreeSet<MessageId>,
}

const FROM: usize = 0;
const TO: usize = 1;

fn draft() -> Draft {
    Draft {
        from: FROM,
        to: vec![TO],
        level: Level::DepV,
        circle: false,
        precedence: Precedence::Routine,
        lifetime: 86_400_000,
        body: vec![7; 256],
    }
}

/// Plays rounds of killing. `program` starts the broker: a command whose arguments follow [`ROLE`].
///
/// # Errors
/// What was lost, or delivered without a record.
pub fn run(program: &Path, rounds: usize, messages: usize, seed: u64) -> Result<Tally, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mut house = House::new();
    let site = Site::new(dir.path(), &mut house);
    let (draft, mut entropy) = (draft(), SeededEntropy::new(seed));
    let pool = (0..messages)
        .map(|_| {
            let e = house.seal(&draft, now(), &mut entropy);
            (e.get().header().id, e.get().encode(), e)
        })
        .collect();
    let mut r = Run {
        house: &house,
        site,
        pool,
        next: 0,
        accepted: BTreeSet::new(),
        offered: BTreeSet::new(),
        received: BTreeMap::new(),
        receipted: BTreeSet::new(),
    };
    let mut dice = Dice::new(seed);
    for _ in 0..rounds {
        let mut broker = serve(program, &r.site)?;
        let life = Duration::from_millis(20 + dice.below(380) as u64);
        runtime.block_on(r.round(life));
        broker.kill().map_err(|e| e.to_string())?;
        broker.wait().map_err(|e| e.to_string())?;
    }
    let mut broker = serve(program, &r.site)?;
    let checked = runtime.block_on(r.drain());
    broker.kill().map_err(|e| e.to_string())?;
    broker.wait().map_err(|e| e.to_string())?;
    let records = checked?;
    Ok(Tally {
        kills: rounds,
        accepted: r.accepted.len(),
        received: r.received.len(),
        records,
    })
}

/// Tells a broker to stop (SIGTERM) with a message on its way: it ends well, and the message is there after it.
///
/// # Errors
/// What was not as it should be.
pub fn told_to_stop(program: &Path) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mut house = House::new();
    let site = Site::new(dir.path(), &mut house);
    let envelope = house.seal(&draft(), now(), &mut SeededEntropy::new(1));
    let mut broker = serve(program, &site)?;
    runtime.block_on(async {
        let to = site.peer_soon(&house, TO).await;
        to.connection.finish(CloseCode::Done, "done").await;
        let from = site.peer_soon(&house, FROM).await;
        let sent = from.publish(envelope.get().encode()).await;
        sent.ok_or("the connection broke")?;
        match from.decision().await {
            Some(Frame::Accepted { .. }) => {}
            _ => return Err("it was not accepted".to_owned()),
        }
        let pid = i32::try_from(broker.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or("no process")?;
        kill_process(pid, Signal::TERM).map_err(|e| e.to_string())?;
        let closed = from.connection.closed().await;
        if closed.code.is_some_and(|c| c != CloseCode::Stopping) {
            return Err(format!("peers were told something else: {closed}"));
        }
        Ok(())
    })?;
    let ended = broker.wait().map_err(|e| e.to_string())?;
    if !ended.success() {
        return Err(format!("it ended with {ended}"));
    }
    let mut broker = serve(program, &site)?;
    let delivered = runtime.block_on(async {
        let to = site.peer_soon(&house, TO).await;
        loop {
            match to.hear().await {
                Some(Frame::Deliver { envelope: e }) => return Some(e == envelope.get().encode()),
                Some(_) => {}
                None => return None,
            }
        }
    });
    broker.kill().map_err(|e| e.to_string())?;
    broker.wait().map_err(|e| e.to_string())?;
    if delivered == Some(true) {
        Ok(())
    } else {
        Err("the message did not come after the stop".into())
    }
}

/// Starts the broker as a process of its own.
///
/// # Errors
/// What the system says.
pub(crate) fn serve(program: &Path, site: &Site) -> Result<Child, String> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(site.dir.join("broker.log"))
        .map_err(|e| e.to_string())?;
    Command::new(program)
        .arg(ROLE)
        .arg("-c")
        .arg(site.broker_toml())
        .arg("serve")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|e| e.to_string())
}

impl Run<'_> {
    /// Publishes and receives for a while; what was in the air when the time is up is in the air.
    async fn round(&mut self, life: Duration) {
        let (from, to) = tokio::join!(
            self.site.peer_soon(self.house, FROM),
            self.site.peer_soon(self.house, TO)
        );
        let busy = async {
            loop {
                tokio::select! {
                    more = self.publish(&from) => if more.is_none() { return },
                    heard = to.hear() => match heard {
                        Some(frame) => { if self.take(&to, frame).await.is_none() { return } }
                        None => return,
                    },
                    heard = from.hear() => match heard {
                        Some(frame) => { if self.answered(&from, frame).await.is_none() { return } }
                        None => return,
                    },
                }
            }
        };
        // The time is up, or the connection broke: either way the broker dies next.
        drop(tokio::time::timeout(life, busy).await);
        self.offered.clear();
    }

    /// Offers the next message, or one whose answer was lost, where the window allows.
    async fn publish(&mut self, from: &Peer) -> Option<()> {
        if self.offered.len() >= WINDOW {
            return std::future::pending().await;
        }
        let open =
            |i: &usize| !self.offered.contains(i) && !self.accepted.contains(&self.pool[*i].0);
        let Some(i) = (0..self.pool.len()).skip(self.next).find(open) else {
            return std::future::pending().await;
        };
        self.offered.insert(i);
        from.publish(self.pool[i].1.clone()).await
    }

    async fn answered(&mut self, from: &Peer, frame: Frame) -> Option<()> {
        match frame {
            Frame::Accepted { id, .. } => {
                self.accepted.insert(id);
                let i = self.pool.iter().position(|(m, ..)| *m == id)?;
                self.offered.remove(&i);
                while self
                    .pool
                    .get(self.next)
                    .is_some_and(|(m, ..)| self.accepted.contains(m))
                {
                    self.next += 1;
                }
            }
            Frame::Refused { id: Some(id), .. } => {
                let i = self.pool.iter().position(|(m, ..)| *m == id)?;
                self.offered.remove(&i);
            }
            Frame::Receipt { receipt } => {
                let signed = ordonnans_message::SignedReceipt::decode(&receipt).ok()?;
                let r = signed.said();
                let stored = Frame::ReceiptStored {
                    id: r.message,
                    kind: r.kind,
                    by: r.by.clone(),
                };
                from.say(Lane::Control, &stored).await?;
            }
            _ => {}
        }
        Some(())
    }

    async fn take(&mut self, to: &Peer, frame: Frame) -> Option<()> {
        match frame {
            Frame::Deliver { envelope } => {
                let e = Envelope::decode(&envelope).ok()?;
                *self.received.entry(e.header().id).or_default() += 1;
                let receipt = self.house.receipt(&e, TO, ReceiptKind::Delivered);
                let receipt = receipt.get().encode();
                to.say(Lane::Control, &Frame::Receipt { receipt }).await?;
            }
            Frame::ReceiptStored { id, .. } => {
                self.receipted.insert(id);
            }
            _ => {}
        }
        Some(())
    }

    /// Lets everything arrive, then compares it with the log. Gives the number of records.
    async fn drain(&mut self) -> Result<u64, String> {
        let (from, to) = tokio::join!(
            self.site.peer_soon(self.house, FROM),
            self.site.peer_soon(self.house, TO)
        );
        // A receipt whose answer was lost is given again, as a daemon does.
        for (id, _, envelope) in &self.pool {
            if self.received.contains_key(id) && !self.receipted.contains(id) {
                let receipt = self
                    .house
                    .receipt(envelope.get(), TO, ReceiptKind::Delivered);
                let receipt = receipt.get().encode();
                let said = to.say(Lane::Control, &Frame::Receipt { receipt }).await;
                said.ok_or("the recipient's connection broke")?;
            }
        }
        let began = Instant::now();
        while !self.accepted.iter().all(|id| self.receipted.contains(id)) {
            if began.elapsed() > DRAIN_WITHIN {
                let lost = self
                    .accepted
                    .iter()
                    .filter(|id| !self.received.contains_key(id));
                return Err(format!(
                    "{} acknowledged messages did not arrive",
                    lost.count()
                ));
            }
            tokio::select! {
                heard = to.hear() => {
                    let frame = heard.ok_or("the recipient's connection broke")?;
                    self.take(&to, frame).await.ok_or("the recipient's connection broke")?;
                }
                heard = from.hear() => {
                    let frame = heard.ok_or("the sender's connection broke")?;
                    self.answered(&from, frame).await.ok_or("the sender's connection broke")?;
                }
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
        from.connection.finish(CloseCode::Done, "done").await;
        to.connection.finish(CloseCode::Done, "done").await;
        self.compare().await
    }

    async fn compare(&self) -> Result<u64, String> {
        let said = |f: ordonnans_client::failure::Failure| f.to_string();
        let mut officer = Officer::connect(&self.site.officer()).await.map_err(said)?;
        let began = Instant::now();
        // The newest checkpoint covers the last receipt within a second or two.
        let (entries, checkpoint, seen) = loop {
            let (entries, checkpoint) = whole(&mut officer).await.map_err(said)?;
            let seen = Seen::of(&entries)?;
            if self.receipted.is_subset(&seen.receipts) || began.elapsed() > DRAIN_WITHIN {
                break (entries, checkpoint, seen);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        officer.finish().await;
        let missing =
            |what: &str, need: &mut dyn Iterator<Item = &MessageId>, have: &BTreeSet<MessageId>| {
                let n = need.filter(|id| !have.contains(id)).count();
                if n == 0 {
                    Ok(())
                } else {
                    Err(format!("{n} {what} are not in the log"))
                }
            };
        missing(
            "acknowledged messages",
            &mut self.accepted.iter(),
            &seen.accepted,
        )?;
        missing("deliveries", &mut self.received.keys(), &seen.delivered)?;
        missing(
            "acknowledged receipts",
            &mut self.receipted.iter(),
            &seen.receipts,
        )?;
        let dir = self.site.dir.join("export");
        let head = write_lines(&dir, &entries, &checkpoint).map_err(said)?;
        let key = self.site.dir.join("data").join("audit.pub");
        let quorum = quorum(Some(&key), None).map_err(said)?;
        verify(&dir, &quorum, false).map_err(said)?;
        Ok(head.size)
    }
}

#[derive(Default)]
struct Seen {
    accepted: BTreeSet<MessageId>,
    delivered: BTreeSet<MessageId>,
    receipts: BTreeSet<MessageId>,
}

impl Seen {
    fn of(entries: &[Entry]) -> Result<Self, String> {
        let mut seen = Self::default();
        for e in entries {
            let public = Public::decode(&e.public).map_err(|e| e.to_string())?;
            let (_, detail) = e
                .opened
                .as_ref()
                .ok_or("a detail the officer may see is closed")?;
            let detail = Detail::decode(detail).map_err(|e| e.to_string())?;
            let Some(id) = detail.message else { continue };
            let into = match public.verb {
                Verb::Accepted => &mut seen.accepted,
                Verb::Delivered => &mut seen.delivered,
                Verb::Receipt => &mut seen.receipts,
                _ => continue,
            };
            if !into.insert(id) {
                return Err(format!("{:?} of {id} is recorded twice", public.verb));
            }
        }
        Ok(seen)
    }
}
