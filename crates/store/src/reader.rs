//! Reading beside the writer.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ordonnans_audit::merkle::{self, TreeHead};
use ordonnans_engine::{Seq, Table};
use ordonnans_message::{Digest, MessageId};

use crate::journal::sync_dir;
use crate::mailbox::MailboxError;
use crate::store::OpenError;
use crate::trail::{Entry, TrailError};
use crate::views::{Shared, lock};

/// Reads the store beside its writer.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(crate) shared: Arc<Shared>,
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
