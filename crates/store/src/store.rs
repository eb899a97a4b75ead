//! The store's face: open and recover, commit.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use ordonnans_audit::{Checkpoint, InvalidCheckpoint, VerifierKey};
use ordonnans_engine::{Commit, Recovered, Seq, Table, Write};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;

use crate::attachments::AttachmentStore;
use crate::details::Details;
use crate::journal::{Fault, Journal, JournalError, sync_dir};
use crate::mailbox::{Mailbox, MailboxError};
use crate::reader::Reader;
use crate::recover::{OpenTrail, Views};
use crate::repair::{NotRepaired, repair_sled_sync};
use crate::trail::{Trail, TrailError};
use crate::views::{Behind, Job, Shared, follow, lock};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a journal segment.
    pub segment_bytes: u64,
    /// Journal segments kept although the views hold their commits: from these a broken view is built again.
    pub spare_segments: usize,
    /// Records after which the audit log begins another database (at least 1).
    pub shard_records: u64,
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
            shard_records: 1 << 19,
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

impl OpenError {
    /// Whether it failed only because no file descriptor was left (`EMFILE`, `ENFILE`): nothing is wrong with the disk, and it may be tried again.
    #[must_use]
    pub fn is_want_of_descriptors(&self) -> bool {
        use rustix::io::Errno;
        let Self::Io { source, .. } = self else {
            return false;
        };
        matches!(
            Errno::from_io_error(source),
            Some(Errno::MFILE | Errno::NFILE)
        )
    }
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

/// The store of one broker.
#[derive(Debug)]
pub struct Store {
    journal: Journal,
    shared: Arc<Shared>,
    jobs: Option<Sender<Job>>,
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
        let details = Details::open(&dir.join("details")).map_err(io(dir))?;
        let checkpoint = read_checkpoint(&dir.join("checkpoint")).map_err(io(dir))?;
        let signed = match (&checkpoint, &options.verifier) {
            (Some(text), Some(key)) => Some(Checkpoint::verify(text, key)?.head),
            _ => None,
        };
        let shard_records = options.shard_records.max(1);
        let open: OpenTrail = {
            let details = details.clone();
            Box::new(move |at| Trail::open(at, details.clone(), shard_records))
        };
        let mut at_signing = None;
        let trail = open(&trail_dir).and_then(|t| {
            let (position, head) = t.verify(signed.map(|s| s.size))?;
            at_signing = head;
            Ok((position, t))
        });
        let mailbox = Mailbox::open(&mailbox_file).and_then(|m| {
            m.verify()?;
            Ok((m.position()?, m))
        });
        let mut views = Views::new(trail, mailbox, &trail_dir, &mailbox_file, open);
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
        let head = position.frontier.head();
        if let Some(signed) = signed {
            let root = match at_signing {
                Some(then) => Some(then.root),
                None => trail.root(signed.size),
            };
            if signed.size > head.size || root != Some(signed.root) {
                return Err(OpenError::History {
                    size: head.size,
                    signed: signed.size,
                });
            }
        }
        let unreadable = |e| OpenError::Mailbox(e, found.first);
        let law = mailbox.rows_of(Table::Law).map_err(unreadable)?;
        let law = law.filter_map(|row| row.ok().map(|(_, _, value)| value));
        let rows = mailbox.rows().map_err(unreadable)?;
        let attachments = AttachmentStore::open(&dir.join("attachments")).map_err(io(dir))?;
        sync_dir(dir).map_err(io(dir))?;
        let recovered = Recovered {
            seq: position.seq,
            at: position.at,
            frontier: position.frontier.clone(),
            register: Recovered::register_of(law),
            rows,
        };
        let shared = Arc::new(Shared {
            behind: Behind::default(),
            trail,
            mailbox,
            pending: Mutex::default(),
            head: watch::Sender::new(head),
            applied: AtomicU64::new(position.seq.0),
            flushed: AtomicU64::new(position.seq.0),
            failed: Mutex::default(),
            checkpoint: Mutex::default(),
            // Without a key to verify it by it is nobody's.
            signed: watch::Sender::new(signed.zip(checkpoint.map(Arc::from))),
            dir: dir.into(),
        });
        // Bounded by the commits in it.
        let (jobs, queue) = channel();
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
        self.shared.behind.add(group.len());
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

fn read_checkpoint(path: &Path) -> std::io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
