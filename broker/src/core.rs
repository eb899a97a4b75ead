//! The engine's task and the store's thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ordonnans_audit::ClockQuality;
use ordonnans_engine::{Commit, Effect, Engine, Input, Inspect, Seq, Session, Why};
use ordonnans_message::{Digest, Frame, MessageId, Precedence, Timestamp};
use ordonnans_store::{Fatal, Store};
use ordonnans_transport::{CloseCode, Connection};
use tokio::sync::{mpsc, watch};

use crate::renewals::Keep;

/// Commits written with one sync. A group grows only while the one before it is being synced.
const GROUP: usize = 512;
/// Commits under way to the disk above which the engine takes no input,
const AHEAD: u64 = 2048;
/// and none that can wait: so an urgent message is behind a group that is being synced and part of one that waits.
const AHEAD_OF_OFFERS: u64 = 768;
/// Other inputs after which a message that can wait has its turn.
const TURN: u32 = 64;
/// How often the engine is told that time passed.
const TICK: Duration = Duration::from_secs(1);
/// A jump of the clock beyond this is a step, not drift.
const STEP_MS: u64 = 2_000;

/// The time by the system's clock.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

/// What a session is to send.
#[derive(Debug)]
pub(crate) enum Out {
    Welcome,
    Frame(Frame),
    Deliver(MessageId, Precedence),
    Inspect {
        request: u32,
        size: u64,
        what: Inspect,
    },
    Attachment {
        digest: Digest,
        offset: u64,
    },
    Close(CloseCode, &'static str),
}

/// The queue of what a session is to send. In boxes, for it sets 32 places aside and most stay empty.
pub(crate) type Outgoing = mpsc::Sender<Box<Out>>;

/// The live sessions' ends that the engine's task writes to.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<Session, (Outgoing, Connection)>>);

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Session, (Outgoing, Connection)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, session: Session, out: Outgoing, connection: Connection) {
        self.lock().insert(session, (out, connection));
    }

    pub(crate) fn remove(&self, session: Session) {
        self.lock().remove(&session);
    }

    /// Everyone on the line.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        self.lock().values().map(|(_, c)| c.clone()).collect()
    }

    pub(crate) fn tell(&self, session: Session, out: Out) {
        let sessions = self.lock();
        let Some((queue, connection)) = sessions.get(&session) else {
            return;
        };
        if queue.try_send(Box::new(out)).is_err() {
            // What was not sent stays in the mailbox and goes out when the peer is back.
            connection.close(CloseCode::Full, "the peer reads too slowly");
        }
    }
}

/// Details whose time is over.
#[derive(Debug)]
pub(crate) enum Dropped {
    /// Of the days through this one, but for messages that an incident keeps.
    Days(u64, BTreeMap<MessageId, String>),
    /// What was kept for an incident.
    Incident(String),
}

/// What the engine's task shows of itself.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) records: u64,
    pub(crate) queued: u64,
    pub(crate) register: u64,
    pub(crate) durable: u64,
}

/// The engine's task: runs until it has stopped or the store has failed.
pub(crate) struct Core {
    pub(crate) engine: Engine,
    /// The last commit that was durable before this start.
    pub(crate) recovered: Seq,
    pub(crate) sessions: Arc<Sessions>,
    /// What is urgent, and everything that is no message.
    pub(crate) inputs: mpsc::Receiver<Input>,
    /// Messages that can wait: they come after the rest, and never behind more than [`TURN`] of it.
    pub(crate) offers: mpsc::Receiver<Input>,
    pub(crate) commits: mpsc::UnboundedSender<Commit>,
    pub(crate) durable: mpsc::UnboundedReceiver<Result<Seq, Fatal>>,
    pub(crate) remove_attachment: mpsc::UnboundedSender<Digest>,
    pub(crate) dropped: mpsc::UnboundedSender<Dropped>,
    pub(crate) renewals: mpsc::UnboundedSender<Keep>,
    pub(crate) figures: watch::Sender<Figures>,
}

impl Core {
    pub(crate) async fn run(mut self) -> Result<(), Fatal> {
        let mut tick = tokio::time::interval(TICK);
        let (mut wall, mut steady) = (now(), Instant::now());
        let (mut durable, mut stopping) = (self.recovered, false);
        let mut others = 0;
        loop {
            while let Some(effect) = self.engine.poll_effect() {
                self.perform(effect);
            }
            let ahead = self.engine.last_commit().0.saturating_sub(durable.0);
            if stopping && ahead == 0 {
                return Ok(());
            }
            tokio::select! {
                biased;
                done = self.durable.recv() => {
                    // The thread says why before it ends; without a word there is nothing to wait for.
                    let Some(done) = done else { return Ok(()) };
                    durable = done?;
                    self.engine.durable_through(durable);
                }
                _ = tick.tick() => {
                    let expected = wall.after(u64::try_from(steady.elapsed().as_millis()).unwrap_or(0));
                    let at = now();
                    let step_ms = at.since(expected).max(expected.since(at));
                    (wall, steady) = (at, Instant::now());
                    if step_ms >= STEP_MS {
                        tracing::warn!(step_ms, "the clock was set");
                        let quality = ClockQuality::Unknown;
                        self.engine.handle(at, Input::Clock { quality, step_ms });
                    }
                    self.engine.handle(at, Input::Tick);
                    self.figures.send_replace(Figures {
                        records: self.engine.records(),
                        queued: self.engine.queued(),
                        register: self.engine.register().version(),
                        durable: durable.0,
                    });
                }
                input = self.inputs.recv(), if ahead < AHEAD && !stopping && others < TURN => {
                    let input = input.unwrap_or(Input::Stopping);
                    stopping = matches!(input, Input::Stopping);
                    others += 1;
                    self.engine.handle(now(), input);
                }
                Some(input) = self.offers.recv(), if ahead < AHEAD_OF_OFFERS && !stopping => {
                    others = 0;
                    self.engine.handle(now(), input);
                }
                () = std::future::ready(()), if others >= TURN => others = 0,
            }
        }
    }

    fn perform(&self, effect: Effect) {
        match effect {
            Effect::Commit(commit) => {
                // The thread is gone only after it has said why.
                drop(self.commits.send(commit));
            }
            Effect::Admit { session } => self.sessions.tell(session, Out::Welcome),
            Effect::Send { session, frame } => self.sessions.tell(session, Out::Frame(frame)),
            Effect::Deliver {
                session,
                id,
                precedence,
            } => self.sessions.tell(session, Out::Deliver(id, precedence)),
            Effect::Inspect {
                session,
                request,
                size,
                what,
            } => self.sessions.tell(
                session,
                Out::Inspect {
                    request,
                    size,
                    what,
                },
            ),
            Effect::DropDetails { through, keep } => {
                let keep = keep.into_iter().collect();
                drop(self.dropped.send(Dropped::Days(through, keep)));
            }
            Effect::DropIncident { incident } => {
                drop(self.dropped.send(Dropped::Incident(incident)));
            }
            Effect::SendAttachment {
                session,
                digest,
                offset,
            } => self
                .sessions
                .tell(session, Out::Attachment { digest, offset }),
            Effect::RemoveAttachment { digest } => drop(self.remove_attachment.send(digest)),
            Effect::KeepRenewal {
                session,
                node,
                of,
                text,
            } => {
                let keep = Keep {
                    session,
                    node,
                    of,
                    text,
                };
                drop(self.renewals.send(keep));
            }
            Effect::Close { session, why } => {
                let (code, reason) = match why {
                    Why::NotBelieved => (
                        CloseCode::NotBelieved,
                        "not, or no longer, in the register in good standing",
                    ),
                    Why::Replaced => (CloseCode::Replaced, "replaced by a newer connection"),
                    Why::Stopping => (CloseCode::Stopping, "the broker stops"),
                };
                self.sessions.tell(session, Out::Close(code, reason));
            }
        }
    }
}

/// The store's thread: gathers what waits, makes it durable with one sync, says so. Ends with the channel; the store is then settled.
pub(crate) fn write(
    mut store: Store,
    mut commits: mpsc::UnboundedReceiver<Commit>,
    durable: &mpsc::UnboundedSender<Result<Seq, Fatal>>,
) -> Result<(), Fatal> {
    while let Some(commit) = commits.blocking_recv() {
        let mut group = vec![commit];
        while group.len() < GROUP
            && let Ok(commit) = commits.try_recv()
        {
            group.push(commit);
        }
        let done = store.commit(group);
        let failed = done.as_ref().err().cloned();
        // Nobody listens any more only when the broker is going down.
        drop(durable.send(done));
        if let Some(fatal) = failed {
            return Err(fatal);
        }
    }
    store.settle()
}
