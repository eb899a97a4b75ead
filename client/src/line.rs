//! One connection with the broker: what is said on it, and what is said again until it is answered.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ordonnans_message::{
    AttachmentRef, Digest, Envelope, Frame, MessageId, PROTOCOL_VERSION, Precedence, ReceiptKind,
    ReplyCode,
};
use ordonnans_transport::{Connection, Lane};
use tokio::sync::mpsc;

use crate::daemon::Daemon;
use crate::desk::Arrival;
use crate::failure::Failure;
use crate::spool::{ReceiptKey, Verdict};
use crate::transfer;

/// How long an answer may take before a publish, receipt, offer or request is repeated.
const REPEAT: Duration = Duration::from_secs(10);
/// Publishes without an answer at one time; what is IMMEDIATE or above does not wait for a free place.
const WINDOW: usize = 64;
/// The longest a busy broker can make us wait.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// The greeting must be answered within this time.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// Messages that wait for their attachments at one time; more are delivered again later.
const MAX_INCOMPLETE: usize = 64;

/// Why a line ended.
pub(crate) enum End {
    /// The connection is gone; make another.
    Lost(String),
    /// The node cannot go on: its disk failed.
    Fatal(Failure),
}

impl From<Failure> for End {
    fn from(f: Failure) -> Self {
        Self::Fatal(f)
    }
}

/// What runs beside the line and reports to it.
enum Event {
    Uploaded(Digest),
    Downloaded(Digest, bool),
}

struct Line {
    daemon: Arc<Daemon>,
    connection: Connection,
    /// When a message was last published, and not before when again.
    published: BTreeMap<MessageId, Instant>,
    hold: BTreeMap<MessageId, Instant>,
    offered: BTreeMap<Digest, Instant>,
    uploading: BTreeSet<Digest>,
    there: BTreeSet<Digest>,
    owed: BTreeMap<ReceiptKey, Instant>,
    /// Delivered messages whose attachments are on their way.
    incomplete: BTreeMap<MessageId, Bytes>,
    wanted: Arc<Mutex<BTreeMap<Digest, (u64, Instant)>>>,
    events: mpsc::Sender<Event>,
}

/// Speaks with the broker until the connection ends.
pub(crate) async fn speak(daemon: &Arc<Daemon>, connection: Connection) -> End {
    match talk(daemon, connection).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

enum Never {}

async fn talk(daemon: &Arc<Daemon>, connection: Connection) -> Result<Never, End> {
    let lost = |e: ordonnans_transport::Closed| End::Lost(e.to_string());
    let hello = Frame::Hello {
        version: PROTOCOL_VERSION,
        checkpoint: daemon.desk.spool.checkpoint()?,
    };
    connection
        .send(Lane::Control, hello.encode())
        .await
        .map_err(lost)?;
    let first = tokio::time::timeout(WELCOME_WITHIN, connection.recv());
    let (_, first) = first
        .await
        .map_err(|_| End::Lost("the broker does not greet".into()))?
        .map_err(lost)?;
    match Frame::decode(&first) {
        Ok(Frame::Welcome { checkpoint, .. }) => {
            if let Some(text) = checkpoint {
                daemon.desk.spool.put_checkpoint(&text)?;
            }
        }
        _ => return Err(End::Lost("the broker does not speak this protocol".into())),
    }
    daemon.set_line(Some((connection.key_exchange(), connection.remote())));
    let (events, mut reports) = mpsc::channel(64);
    let mut line = Line {
        daemon: Arc::clone(daemon),
        connection: connection.clone(),
        published: BTreeMap::new(),
        hold: BTreeMap::new(),
        offered: BTreeMap::new(),
        uploading: BTreeSet::new(),
        there: BTreeSet::new(),
        owed: BTreeMap::new(),
        incomplete: BTreeMap::new(),
        wanted: Arc::default(),
        events,
    };
    let downloads = line.downloads();
    tokio::pin!(downloads);
    let package = daemon.desk.package()?.encode();
    line.say(Lane::Control, &Frame::KeyPackage { package });
    line.say(Lane::Control, &Frame::DirectoryGet);
    line.pump()?;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            frame = connection.recv() => {
                let (_, bytes) = frame.map_err(lost)?;
                let frame = Frame::decode(&bytes)
                    .map_err(|e| End::Lost(format!("the broker sent a frame of another form: {e}")))?;
                line.take(frame)?;
                line.pump()?;
            }
            Some(event) = reports.recv() => {
                line.report(event)?;
                line.pump()?;
            }
            () = daemon.woken() => line.pump()?,
            () = daemon.directory_wanted() => line.say(Lane::Control, &Frame::DirectoryGet),
            _ = tick.tick() => line.pump()?,
            () = &mut downloads => return Err(End::Lost(connection.closed().await.to_string())),
        }
    }
}

fn due(last: Option<&Instant>) -> bool {
    last.is_none_or(|t| t.elapsed() >= REPEAT)
}

impl Line {
    /// Says something that is said again where no answer comes: a full queue drops it.
    fn say(&self, lane: Lane, frame: &Frame) {
        drop(self.connection.try_send(lane, frame.encode()));
    }

    /// Takes streams of attachment bytes, each in a task of its own.
    fn downloads(&self) -> impl Future<Output = ()> + use<> {
        let (connection, desk) = (self.connection.clone(), Arc::clone(&self.daemon.desk));
        let (wanted, events) = (Arc::clone(&self.wanted), self.events.clone());
        async move {
            let mut running = tokio::task::JoinSet::new();
            while let Ok((head, stream)) = connection.accept_bulk().await {
                let (desk, wanted, events) =
                    (Arc::clone(&desk), Arc::clone(&wanted), events.clone());
                running.spawn(async move {
                    let length = |d: &Digest| {
                        let wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
                        wanted.get(d).map(|(length, _)| *length)
                    };
                    let done = transfer::download(&desk, length, &head, stream).await;
                    if let Some((digest, whole)) = done {
                        drop(events.send(Event::Downloaded(digest, whole)).await);
                    }
                });
            }
        }
    }

    /// Says everything that is due: messages by precedence, receipts, requests for attachments.
    fn pump(&mut self) -> Result<(), Failure> {
        let mut outbox: Vec<(Reverse<Precedence>, MessageId, Vec<AttachmentRef>)> = self
            .daemon
            .desk
            .outbox()
            .iter()
            .map(|(id, w)| (Reverse(w.precedence), *id, w.attachments.clone()))
            .collect();
        outbox.sort_by_key(|(p, id, _)| (*p, *id));
        let known: BTreeSet<MessageId> = outbox.iter().map(|(_, id, _)| *id).collect();
        self.published.retain(|id, _| known.contains(id));
        self.hold
            .retain(|id, until| known.contains(id) && *until > Instant::now());
        for (Reverse(precedence), id, attachments) in outbox {
            if !due(self.published.get(&id)) || self.hold.contains_key(&id) {
                continue;
            }
            if self.published.len() >= WINDOW && precedence < Precedence::Immediate {
                break;
            }
            if self.all_there(&attachments)
                && let Some(envelope) = self.daemon.desk.outgoing(id)?
            {
                self.published.insert(id, Instant::now());
                self.say(Lane::Class(precedence), &Frame::Publish { envelope });
            }
        }
        for (key, receipt) in self.daemon.desk.spool.owed()? {
            if due(self.owed.get(&key)) {
                self.owed.insert(key, Instant::now());
                self.say(Lane::Control, &Frame::Receipt { receipt });
            }
        }
        let mut asked = vec![];
        {
            let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            for (digest, (_, last)) in wanted.iter_mut() {
                if last.elapsed() >= REPEAT {
                    *last = Instant::now();
                    asked.push(*digest);
                }
            }
        }
        for digest in asked {
            self.get(digest);
        }
        Ok(())
    }

    /// Whether the broker has every attachment; offers those that nobody has asked it about.
    fn all_there(&mut self, attachments: &[AttachmentRef]) -> bool {
        let mut all = true;
        for a in attachments {
            if self.there.contains(&a.digest) {
                continue;
            }
            all = false;
            if due(self.offered.get(&a.digest)) && !self.uploading.contains(&a.digest) {
                self.offered.insert(a.digest, Instant::now());
                let (digest, length) = (a.digest, a.length);
                self.say(Lane::Control, &Frame::AttachmentOffer { digest, length });
            }
        }
        all
    }

    fn get(&self, digest: Digest) {
        let (offset, _) = self.daemon.desk.attachments.have(&digest);
        self.say(Lane::Control, &Frame::AttachmentGet { digest, offset });
    }

    fn take(&mut self, frame: Frame) -> Result<(), Failure> {
        let desk = Arc::clone(&self.daemon.desk);
        match frame {
            Frame::Accepted { id, at, sequence } => {
                self.published.remove(&id);
                desk.decided(id, Verdict::Accepted { at, sequence })?;
                self.daemon.tell();
            }
            Frame::Refused {
                id: Some(id),
                code,
                rule,
                recipient,
                retry_after_ms,
            } => self.refused(id, code, rule, recipient, retry_after_ms)?,
            Frame::Refused { code, .. } => {
                tracing::warn!(?code, "the broker refused something");
                // Attachment states are asked for again.
                self.uploading.clear();
            }
            Frame::Deliver { envelope } => self.arrive(envelope)?,
            Frame::ReceiptStored { id, kind, by } => {
                let key = (id, kind, by);
                self.owed.remove(&key);
                desk.spool.paid(&key)?;
            }
            Frame::Receipt { receipt } => {
                if let Some(r) = desk.receipted(&receipt)? {
                    let (id, kind, by) = (r.message, r.kind, r.by);
                    self.say(Lane::Control, &Frame::ReceiptStored { id, kind, by });
                    self.daemon.tell();
                } else {
                    tracing::warn!(
                        "the broker passed on a receipt that is not for us or not right"
                    );
                }
            }
            Frame::Directory { entries, .. } => {
                desk.spool.list(&entries)?;
                self.daemon.tell();
            }
            Frame::AttachmentState { digest, have } => self.state(digest, have),
            // The rest is either no answer or not ours.
            _ => {}
        }
        Ok(())
    }

    fn refused(
        &mut self,
        id: MessageId,
        code: ReplyCode,
        rule: Option<u16>,
        recipient: Option<ordonnans_label::Name>,
        retry_after_ms: Option<u32>,
    ) -> Result<(), Failure> {
        self.published.remove(&id);
        match code {
            ReplyCode::Busy | ReplyCode::Stopping => {
                let wait = Duration::from_millis(retry_after_ms.unwrap_or(1_000).into());
                self.hold.insert(id, Instant::now() + wait.min(MAX_WAIT));
            }
            ReplyCode::AttachmentMissing => {
                let outbox = self.daemon.desk.outbox();
                for a in outbox.get(&id).into_iter().flat_map(|w| &w.attachments) {
                    self.there.remove(&a.digest);
                    self.offered.remove(&a.digest);
                }
            }
            _ => {
                let verdict = Verdict::Refused {
                    code: format!("{code:?}"),
                    rule,
                    recipient,
                };
                // A receipt that was refused names a message that is not in the outbox.
                let ours = self.daemon.desk.outbox().contains_key(&id);
                if ours {
                    self.daemon.desk.decided(id, verdict)?;
                    self.daemon.tell();
                } else {
                    self.give_up(id)?;
                }
            }
        }
        Ok(())
    }

    /// The broker will never take our receipts for this message: it has forgotten it.
    fn give_up(&mut self, id: MessageId) -> Result<(), Failure> {
        tracing::warn!(%id, "the broker does not take a receipt for this message");
        for (key, _) in self.daemon.desk.spool.owed()? {
            if key.0 == id {
                self.owed.remove(&key);
                self.daemon.desk.spool.paid(&key)?;
            }
        }
        Ok(())
    }

    fn state(&mut self, digest: Digest, have: u64) {
        self.offered.remove(&digest);
        let Some(length) = self.daemon.desk.to_upload(&digest) else {
            return;
        };
        if have == length {
            self.uploading.remove(&digest);
            self.there.insert(digest);
        } else if self.uploading.insert(digest) {
            let (desk, connection) = (Arc::clone(&self.daemon.desk), self.connection.clone());
            let events = self.events.clone();
            tokio::spawn(async move {
                if let Err(why) = transfer::upload(&desk, &connection, digest, have).await {
                    tracing::debug!(%digest, %why, "an attachment was not sent to its end");
                }
                drop(events.send(Event::Uploaded(digest)).await);
            });
        }
    }

    fn report(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            // The broker says what it has; if that is not all, it goes on from there.
            Event::Uploaded(digest) => {
                self.uploading.remove(&digest);
                self.offered.insert(digest, Instant::now());
            }
            Event::Downloaded(digest, whole) => {
                if !whole {
                    return Ok(());
                }
                self.wanted
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&digest);
                let waiting = std::mem::take(&mut self.incomplete);
                for envelope in waiting.into_values() {
                    self.arrive(envelope)?;
                }
            }
        }
        Ok(())
    }

    fn arrive(&mut self, bytes: Bytes) -> Result<(), Failure> {
        match self.daemon.desk.arrive(&bytes)? {
            Arrival::Ignored(why) => {
                tracing::warn!(why, "a delivered message was not taken");
            }
            Arrival::Receipted(receipt) => {
                let r = receipt.receipt();
                if r.kind == ReceiptKind::Refused {
                    tracing::warn!(id = %r.message, "a delivered message does not open");
                }
                let key = crate::spool::receipt_key(r);
                self.owed.insert(key, Instant::now());
                let receipt = receipt.encode();
                self.say(Lane::Control, &Frame::Receipt { receipt });
                self.daemon.tell();
            }
            Arrival::Missing(missing) => {
                let Ok(envelope) = Envelope::decode(&bytes) else {
                    return Ok(());
                };
                if self.incomplete.len() >= MAX_INCOMPLETE {
                    return Ok(());
                }
                self.incomplete.insert(envelope.header().id, bytes);
                for a in missing {
                    let new = self
                        .wanted
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(a.digest, (a.length, Instant::now()))
                        .is_none();
                    if new {
                        self.get(a.digest);
                    }
                }
            }
        }
        Ok(())
    }
}
