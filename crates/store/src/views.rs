//! The views' thread: follows the journal in its order and makes the views durable now and then.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ordonnans_audit::merkle::TreeHead;
use ordonnans_engine::{Commit, Seq};
use tokio::sync::watch;

use crate::mailbox::Mailbox;
use crate::trail::{Position, Trail};

/// How often the views are made durable.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

/// Commits that may wait for the views before the next group waits for them: as many as come within the longest flush, some tens of MiB.
const BEHIND: usize = 8_192;

/// Commits that are applied at once; a group that is larger by itself goes alone.
const TOGETHER: usize = 512;

/// The least time from one turn of the views to the next, while fewer commits than that wait: each costs sled a sync or two, and the journal's own
/// stands behind those. Who reads the log sees a record so much later at most.
const TURN: Duration = Duration::from_millis(50);
/// How far a thread stands back that nobody waits for, in the system's steps (0 to 19).
const LATER: i32 = 10;

/// Lets the calling thread have what the others leave of the processor. A system that does not allow it is as well.
pub(crate) fn stand_back() {
    let _ = rustix::process::nice(LATER);
}

/// Commits that wait for the views. Counted one by one, for groups are small where little is to be done: a bound on groups would hold an urgent
/// message up for the rest of a flush.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    commits: Mutex<usize>,
    fewer: Condvar,
}

impl Behind {
    /// Counts a group that is to be passed on; waits where too many wait already. A group larger than the bound goes alone.
    pub(crate) fn add(&self, group: usize) {
        let full = |waiting: &mut usize| *waiting > 0 && *waiting + group > BEHIND;
        let waiting = self.fewer.wait_while(lock(&self.commits), full);
        *waiting.unwrap_or_else(PoisonError::into_inner) += group;
    }

    fn done(&self, group: usize) {
        let mut waiting = lock(&self.commits);
        *waiting = waiting.saturating_sub(group);
        drop(waiting);
        self.fewer.notify_one();
    }
}

/// What the views' thread and the readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) behind: Behind,
    pub(crate) trail: Trail,
    pub(crate) mailbox: Mailbox,
    /// Envelopes that are durable and not yet in the mailbox.
    pub(crate) pending: Mutex<BTreeMap<Bytes, (u64, Bytes)>>,
    /// The tree as far as the views are.
    pub(crate) head: watch::Sender<TreeHead>,
    pub(crate) applied: AtomicU64,
    pub(crate) flushed: AtomicU64,
    pub(crate) failed: Mutex<Option<String>>,
    /// The newest checkpoint and what it signs. Written under the lock, so that the file and this never differ.
    pub(crate) checkpoint: Mutex<()>,
    pub(crate) signed: watch::Sender<Option<(TreeHead, Arc<str>)>>,
    pub(crate) dir: PathBuf,
}

pub(crate) fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it left a whole value.
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) enum Job {
    Apply(Vec<Commit>),
    Settle(SyncSender<()>),
}

/// The views' thread: applies groups in order, makes them durable now and then.
pub(crate) fn follow(shared: &Shared, queue: &Receiver<Job>, position: Position) {
    // Nobody waits for the views, but for what waits behind them.
    stand_back();
    keep_up(shared, queue, position);
    // Nothing is taken any more: whoever waits for room is to find that out.
    shared.behind.done(usize::MAX);
}

fn keep_up(shared: &Shared, queue: &Receiver<Job>, mut position: Position) {
    let (mut flushed, mut dirty, mut next) = (Instant::now(), false, None);
    let mut turn = None::<Instant>;
    loop {
        let job = match next.take() {
            Some(job) => Ok(job),
            None => queue.recv_timeout(FLUSH_EVERY),
        };
        let result = match job {
            Ok(Job::Apply(mut commits)) => {
                while commits.len() < TOGETHER {
                    let waits = turn.map(|t| TURN.saturating_sub(t.elapsed()));
                    match queue.recv_timeout(waits.unwrap_or_default()) {
                        Ok(Job::Apply(more)) => commits.extend(more),
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                turn = Some(Instant::now());
                dirty = true;
                let due = flushed.elapsed() >= FLUSH_EVERY;
                let applied = apply(shared, &mut position, &commits);
                shared.behind.done(commits.len());
                applied.and_then(|()| {
                    if due {
                        flush(shared, position.seq, &mut flushed, &mut dirty)
                    } else {
                        Ok(())
                    }
                })
            }
            Ok(Job::Settle(done)) => {
                let r = flush(shared, position.seq, &mut flushed, &mut dirty);
                // Whoever asked may have gone.
                let _ = done.send(());
                r
            }
            Err(RecvTimeoutError::Timeout) if dirty => {
                flush(shared, position.seq, &mut flushed, &mut dirty)
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => {
                if let Err(why) = flush(shared, position.seq, &mut flushed, &mut dirty) {
                    tracing::error!(%why, "the views could not be closed cleanly; they are replayed at the next start");
                }
                return;
            }
        };
        if let Err(why) = result {
            tracing::error!(%why, "a view failed");
            *lock(&shared.failed) = Some(why);
            return;
        }
    }
}

fn apply(shared: &Shared, position: &mut Position, group: &[Commit]) -> Result<(), String> {
    shared
        .trail
        .apply(position, group)
        .map_err(|e| e.to_string())?;
    shared
        .mailbox
        .apply(group, false)
        .map_err(|e| e.to_string())?;
    shared.applied.store(position.seq.0, Ordering::Release);
    shared.head.send_replace(position.frontier.head());
    lock(&shared.pending).retain(|_, (seq, _)| *seq > position.seq.0);
    Ok(())
}

fn flush(shared: &Shared, seq: Seq, flushed: &mut Instant, dirty: &mut bool) -> Result<(), String> {
    shared.trail.flush().map_err(|e| e.to_string())?;
    shared.mailbox.apply(&[], true).map_err(|e| e.to_string())?;
    shared.flushed.store(seq.0, Ordering::Release);
    (*flushed, *dirty) = (Instant::now(), false);
    Ok(())
}
