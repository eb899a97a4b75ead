//! The store's face: open and recover, commit, read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ordonnans_audit::merkle::{self, TreeHead};
use ordonnans_audit::{Checkpoint, InvalidCheckpoint, VerifierKey};
use ordonnans_engine::{Commit, Recovered, Seq, Table, Write};
use ordonnans_message::{Digest, MessageId};
use rustix::fs::{FlockOperation, flock};

use crate::attachments::AttachmentStore;
use crate::journal::{Fault, Journal, JournalError, sync_dir};
use crate::mailbox::{Mailbox, MailboxError};
use crate::repair::{NotRepaired, repair_sled_sync};
use crate::trail::{Entry, Position, Trail, TrailError};

/// How often the views are made durable.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// Groups that may wait for the views before a commit waits for them.
const BEHIND: usize = 64;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a journal segment.
    pub segment_bytes: u64,
    /// Journal segments kept although the views hold their commits: from these a broken view is built again.
    pub spare_segments: usize,
    /// The key of the log's checkpoints. With it the kept checkpoint is verified and must fit the log.
    pub verifier: Option<VerifierKey>,
    /// Makes writes fail, in tests.
    pub fault: Option<Arc<dyn Fault>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            spare_segments: 4,
            verifier: None,
            fault: None,
        }
    }
}

/// Why the store did not open. Nothing was changed, but for what is said to have been cut off.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// The folder.
    #[error("{path} cannot be used: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// sled's flush.
    #[error(transparent)]
    NotRepaired(#[from] NotRepaired),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The audit log, and the journal does not go back far enough to build it again.
    #[error("{0}; the journal begins at commit {1}, so it cannot be built again: restore both")]
    Trail(TrailError, u64),
    /// The mailbox, likewise.
    #[error("{0}; the journal begins at commit {1}, so it cannot be built again: restore both")]
    Mailbox(MailboxError, u64),
    /// A view holds commits the journal lacks, or the other way round.
    #[error(
        "the {view} holds commits up to {held}, the journal goes from {first} to {last}: one of them was replaced"
    )]
    Apart {
        /// Which view.
        view: &'static str,
        /// The last commit it holds.
        held: u64,
        /// The journal's first.
        first: u64,
        /// The journal's last.
        last: u64,
    },
    /// The kept checkpoint.
    #[error("the kept checkpoint is not to be believed: {0}")]
    Checkpoint(#[from] InvalidCheckpoint),
    /// The log is not the one that was signed.
    #[error(
        "the audit log has {size} records and is not the log whose checkpoint of {signed} records was signed: it was changed or rolled back"
    )]
    History {
        /// Records there are.
        size: u64,
        /// Records the checkpoint covers.
        signed: u64,
    },
}

/// The store cannot go on; the broker must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot go on: {0}")]
pub struct Fatal(String);

/// What recovery did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes at the journal's end of a group that was never acknowledged.
    pub cut: u64,
    /// Commits replayed into a view.
    pub replayed: u64,
    /// Views built again, with the reason.
    pub rebuilt: Vec<String>,
}

/// What the views' thread and the readers share.
#[derive(Debug)]
struct Shared {
    trail: Trail,
    mailbox: Mailbox,
    /// Envelopes that are durable and not yet in the mailbox.
    pending: Mutex<BTreeMap<Bytes, (u64, Bytes)>>,
    /// The tree as far as the views are.
    head: Mutex<TreeHead>,
    applied: AtomicU64,
    flushed: AtomicU64,
    failed: Mutex<Option<String>>,
    checkpoint: Mutex<Option<String>>,
    dir: PathBuf,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it left a whole value.
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Job {
    Apply(Vec<Commit>),
    Settle(SyncSender<()>),
}

/// The store of one broker.
#[derive(Debug)]
pub struct Store {
    journal: Journal,
    shared: Arc<Shared>,
    jobs: Option<SyncSender<Job>>,
    views: Option<JoinHandle<()>>,
    attachments: AttachmentStore,
    spare: usize,
    dead: Option<Fatal>,
    _lock: File,
}

impl Store {
    /// Opens a data directory, verifies and repairs it, and gives back what the engine needs to go on.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong and what to do. The broker does not start.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Recovered, Recovery), OpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        let file = dir.join("LOCK");
        let held = File::create(&file).map_err(io(&file))?;
        flock(&held, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| OpenError::InUse(dir.into()))?;
        repair_sled_sync()?;
        let mut recovery = Recovery::default();
        let (trail_dir, mailbox_file) = (dir.join("audit"), dir.join("mailbox.redb"));
        let trail = Trail::open(&trail_dir).and_then(|t| Ok((t.verify()?, t)));
        let mailbox = Mailbox::open(&mailbox_file).and_then(|m| {
            m.rows()?;
            Ok((m.position()?, m))
        });
        let mut views = Views::new(trail, mailbox, &trail_dir, &mailbox_file);
        let (journal, found) = Journal::open(
            &dir.join("journal"),
            options.segment_bytes,
            options.fault.clone(),
            &mut |commit| views.replay(commit),
        )?;
        recovery.cut = found.cut;
        let (position, trail, mailbox) = views.finish(found.first, found.last, &mut recovery)?;
        trail
            .flush()
            .map_err(|e| OpenError::Trail(e, found.first))?;
        mailbox
            .apply(&[], true)
            .map_err(|e| OpenError::Mailbox(e, found.first))?;
        let checkpoint = read_checkpoint(&dir.join("checkpoint")).map_err(io(dir))?;
        let head = position.frontier.head();
        if let (Some(text), Some(key)) = (&checkpoint, &options.verifier) {
            let signed = Checkpoint::verify(text, key)?.head;
            let hashes = |at| trail.hash(at);
            let same =
                signed.size <= head.size && merkle::root(&hashes, signed.size) == Some(signed.root);
            if !same {
                return Err(OpenError::History {
                    size: head.size,
                    signed: signed.size,
                });
            }
        }
        let rows = mailbox
            .rows()
            .map_err(|e| OpenError::Mailbox(e, found.first))?;
        let attachments = AttachmentStore::open(&dir.join("attachments")).map_err(io(dir))?;
        sync_dir(dir).map_err(io(dir))?;
        let recovered = Recovered {
            seq: position.seq,
            at: position.at,
            frontier: position.frontier.clone(),
            rows,
        };
        let shared = Arc::new(Shared {
            trail,
            mailbox,
            pending: Mutex::default(),
            head: Mutex::new(head),
            applied: AtomicU64::new(position.seq.0),
            flushed: AtomicU64::new(position.seq.0),
            failed: Mutex::default(),
            checkpoint: Mutex::new(checkpoint),
            dir: dir.into(),
        });
        let (jobs, queue) = sync_channel(BEHIND);
        let views = Arc::clone(&shared);
        let views = std::thread::Builder::new()
            .name("views".into())
            .spawn(move || follow(&views, &queue, position))
            .map_err(io(dir))?;
        let store = Self {
            journal,
            shared,
            jobs: Some(jobs),
            views: Some(views),
            attachments,
            spare: options.spare_segments,
            dead: None,
            _lock: held,
        };
        Ok((store, recovered, recovery))
    }

    /// Makes a group of commits durable, with one sync, and passes them to the views. When it returns they may be acknowledged.
    ///
    /// # Errors
    /// [`Fatal`]: nothing of the group may be acknowledged, and the store takes no more. Open it again: recovery finds out what is durable.
    pub fn commit(&mut self, group: Vec<Commit>) -> Result<Seq, Fatal> {
        if let Some(dead) = &self.dead {
            return Err(dead.clone());
        }
        self.try_commit(group).map_err(|why| {
            let fatal = Fatal(why);
            self.dead = Some(fatal.clone());
            fatal
        })
    }

    fn try_commit(&mut self, group: Vec<Commit>) -> Result<Seq, String> {
        if let Some(why) = &*lock(&self.shared.failed) {
            return Err(why.clone());
        }
        let mut next = self.journal.last();
        for commit in &group {
            next += 1;
            if commit.seq.0 != next {
                return Err(format!("commit {} came where {next} was due", commit.seq.0));
            }
        }
        let bytes: Vec<(u64, Bytes)> = group.iter().map(|c| (c.seq.0, c.encode())).collect();
        self.journal.append(&bytes).map_err(|e| e.to_string())?;
        {
            let mut pending = lock(&self.shared.pending);
            for commit in &group {
                for write in &commit.writes {
                    if let Write::Put {
                        table: Table::Messages,
                        key,
                        value,
                    } = write
                    {
                        pending.insert(key.clone(), (commit.seq.0, value.clone()));
                    }
                }
            }
        }
        let gone = || "the views stopped".to_owned();
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(Job::Apply(group)).map_err(|_| gone())?;
        self.journal
            .trim(self.shared.flushed.load(Ordering::Acquire), self.spare)
            .map_err(|e| e.to_string())?;
        Ok(Seq(next))
    }

    /// Waits until the views hold every commit durably.
    ///
    /// # Errors
    /// [`Fatal`] where a view failed.
    pub fn settle(&self) -> Result<(), Fatal> {
        let (done, settled) = sync_channel(1);
        let sent = self.jobs.as_ref().map(|j| j.send(Job::Settle(done)));
        let answered = matches!(sent, Some(Ok(()))) && settled.recv().is_ok();
        match &*lock(&self.shared.failed) {
            Some(why) => Err(Fatal(why.clone())),
            None if answered => Ok(()),
            None => Err(Fatal("the views stopped".into())),
        }
    }

    /// Reads beside the writer.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader {
            shared: Arc::clone(&self.shared),
        }
    }

    /// The attachments.
    #[must_use]
    pub fn attachments(&self) -> &AttachmentStore {
        &self.attachments
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(views) = self.views.take() {
            // A panic there has been reported, and what it missed is replayed.
            drop(views.join());
        }
    }
}

/// The views' thread: applies groups in order, makes them durable now and then.
fn follow(shared: &Shared, queue: &Receiver<Job>, mut position: Position) {
    let mut flushed = Instant::now();
    let mut dirty = false;
    loop {
        let job = queue.recv_timeout(FLUSH_EVERY);
        let result = match job {
            Ok(Job::Apply(group)) => {
                dirty = true;
                let due = flushed.elapsed() >= FLUSH_EVERY;
                apply(shared, &mut position, &group).and_then(|()| {
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
    *lock(&shared.head) = position.frontier.head();
    shared.applied.store(position.seq.0, Ordering::Release);
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

/// The views during recovery: what was found of each, and what is replayed into them.
struct Views {
    trail: Result<(Position, Trail), TrailError>,
    mailbox: Result<(Seq, Mailbox), MailboxError>,
    trail_dir: PathBuf,
    mailbox_file: PathBuf,
    first: Option<u64>,
    replayed: u64,
    rebuilt: Vec<String>,
    group: Vec<Commit>,
}

/// Commits replayed at once.
const REPLAY: usize = 256;

impl Views {
    fn new(
        trail: Result<(Position, Trail), TrailError>,
        mailbox: Result<(Seq, Mailbox), MailboxError>,
        trail_dir: &Path,
        mailbox_file: &Path,
    ) -> Self {
        Self {
            trail,
            mailbox,
            trail_dir: trail_dir.into(),
            mailbox_file: mailbox_file.into(),
            first: None,
            replayed: 0,
            rebuilt: vec![],
            group: vec![],
        }
    }

    fn replay(&mut self, commit: Commit) -> Result<(), OpenError> {
        let first = *self.first.get_or_insert(commit.seq.0);
        if first == commit.seq.0 {
            self.rebuild(first)?;
        }
        self.group.push(commit);
        if self.group.len() >= REPLAY {
            self.drain(first)?;
        }
        Ok(())
    }

    /// A broken view is set aside and begun anew, where the journal still goes back to the first commit.
    fn rebuild(&mut self, first: u64) -> Result<(), OpenError> {
        let aside = |path: &Path| {
            let to = path.with_extension("broken");
            let gone = std::fs::remove_dir_all(&to).or_else(|_| std::fs::remove_file(&to));
            drop(gone);
            std::fs::rename(path, &to).map_err(|source| OpenError::Io {
                path: path.into(),
                source,
            })
        };
        if first == 1 {
            if let Err(why) = &self.trail {
                self.rebuilt.push(why.to_string());
                aside(&self.trail_dir)?;
                self.trail = Trail::open(&self.trail_dir).and_then(|t| Ok((t.verify()?, t)));
            }
            if let Err(why) = &self.mailbox {
                self.rebuilt.push(why.to_string());
                aside(&self.mailbox_file)?;
                self.mailbox =
                    Mailbox::open(&self.mailbox_file).and_then(|m| Ok((m.position()?, m)));
            }
        }
        Ok(())
    }

    fn drain(&mut self, first: u64) -> Result<(), OpenError> {
        let group = std::mem::take(&mut self.group);
        if let Ok((position, trail)) = &mut self.trail {
            let from = group.partition_point(|c| c.seq <= position.seq);
            if let Some(commit) = group.get(from) {
                if commit.seq.0 != position.seq.0 + 1 {
                    return Err(OpenError::Apart {
                        view: "audit log",
                        held: position.seq.0,
                        first,
                        last: group.last().map_or(first, |c| c.seq.0),
                    });
                }
                trail
                    .apply(position, &group[from..])
                    .map_err(|e| OpenError::Trail(e, first))?;
                self.replayed += (group.len() - from) as u64;
            }
        }
        if let Ok((seq, mailbox)) = &mut self.mailbox {
            let from = group.partition_point(|c| c.seq <= *seq);
            if let Some(commit) = group.get(from) {
                if commit.seq.0 != seq.0 + 1 {
                    return Err(OpenError::Apart {
                        view: "mailbox",
                        held: seq.0,
                        first,
                        last: group.last().map_or(first, |c| c.seq.0),
                    });
                }
                mailbox
                    .apply(&group[from..], false)
                    .map_err(|e| OpenError::Mailbox(e, first))?;
                *seq = group.last().map_or(*seq, |c| c.seq);
            }
        }
        Ok(())
    }

    fn finish(
        mut self,
        first: u64,
        last: u64,
        recovery: &mut Recovery,
    ) -> Result<(Position, Trail, Mailbox), OpenError> {
        if self.first.is_none() && last == 0 {
            // Killed during its very first start.
            self.rebuild(first)?;
        }
        self.drain(first)?;
        (recovery.replayed, recovery.rebuilt) = (self.replayed, std::mem::take(&mut self.rebuilt));
        let (position, trail) = self.trail.map_err(|e| OpenError::Trail(e, first))?;
        let (seq, mailbox) = self.mailbox.map_err(|e| OpenError::Mailbox(e, first))?;
        for (view, held) in [("audit log", position.seq.0), ("mailbox", seq.0)] {
            if held != last {
                return Err(OpenError::Apart {
                    view,
                    held,
                    first,
                    last,
                });
            }
        }
        Ok((position, trail, mailbox))
    }
}

fn read_checkpoint(path: &Path) -> std::io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Reads the store beside its writer.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    /// The stored envelope of a message; `None` where its last copy is done with.
    ///
    /// # Errors
    /// [`MailboxError`]: the broker must stop.
    pub fn message(&self, id: MessageId) -> Result<Option<Bytes>, MailboxError> {
        if let Some((_, bytes)) = lock(&self.shared.pending).get(&id.as_bytes()[..]) {
            return Ok(Some(bytes.clone()));
        }
        self.shared.mailbox.get(Table::Messages, id.as_bytes())
    }

    /// The tree over the records that can be read.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        *lock(&self.shared.head)
    }

    /// The last commit the views have.
    #[must_use]
    pub fn applied(&self) -> Seq {
        Seq(self.shared.applied.load(Ordering::Acquire))
    }

    /// Records from `from` on, at most `limit`; with `message`, only that message's.
    ///
    /// # Errors
    /// [`TrailError`]: the log cannot be read.
    pub fn entries(
        &self,
        from: u64,
        limit: usize,
        message: Option<&MessageId>,
    ) -> Result<Vec<Entry>, TrailError> {
        let size = self.head().size;
        let numbers: Vec<u64> = match message {
            Some(id) => self.shared.trail.of_message(id, from, limit)?,
            None => (from..size).take(limit).collect(),
        };
        numbers
            .into_iter()
            .filter(|n| *n < size)
            .map(|n| self.shared.trail.entry(n)?.ok_or(TrailError::Missing(n)))
            .collect()
    }

    /// The proof that record `index` is in the log of `size` records.
    #[must_use]
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Digest>> {
        merkle::inclusion(&|at| self.shared.trail.hash(at), index, size)
    }

    /// The proof that the log of `second` records continues the log of `first`.
    #[must_use]
    pub fn consistency(&self, first: u64, second: u64) -> Option<Vec<Digest>> {
        merkle::consistency(&|at| self.shared.trail.hash(at), first, second)
    }

    /// The newest checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Option<String> {
        lock(&self.shared.checkpoint).clone()
    }

    /// Keeps a checkpoint, durably, in place of the one before.
    ///
    /// # Errors
    /// [`OpenError::Io`]: the old one is still there.
    pub fn put_checkpoint(&self, text: String) -> Result<(), OpenError> {
        let path = self.shared.dir.join("checkpoint");
        let new = path.with_extension("new");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            sync_dir(&self.shared.dir)
        };
        let mut kept = lock(&self.shared.checkpoint);
        write().map_err(|source| OpenError::Io {
            path: path.clone(),
            source,
        })?;
        *kept = Some(text);
        Ok(())
    }
}
