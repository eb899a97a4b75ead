//! Reading beside the writer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use ordonnans_audit::merkle::{self, TreeHead};
use ordonnans_engine::{Seq, Table};
use ordonnans_identity::replace_file;
use ordonnans_label::Level;
use ordonnans_message::{AuditQuery, Digest, MessageId};

use crate::mailbox::MailboxError;
use crate::store::OpenError;
use crate::trail::{Found, TrailError};
use crate::views::{Shared, lock};
use tokio::sync::watch;

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
        match self.waiting(id) {
            Some(bytes) => Ok(Some(bytes)),
            None => self.shared.mailbox.get(Table::Messages, id.as_bytes()),
        }
    }

    /// The same without reading the disk: the envelope of a message that is durable and that the mailbox has not taken up yet.
    #[must_use]
    pub fn waiting(&self, id: MessageId) -> Option<Bytes> {
        let pending = lock(&self.shared.pending);
        pending.get(&id.as_bytes()[..]).map(|(_, b)| b.clone())
    }

    /// The tree over the records that can be read.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        *self.shared.head.borrow()
    }

    /// The last commit the views have.
    #[must_use]
    pub fn applied(&self) -> Seq {
        Seq(self.shared.applied.load(Ordering::Acquire))
    }

    /// Records that answer a question, as somebody who may see details up to `level` sees them, and where to go on. One call reads a bounded
    /// number of records, so there may be more before there are as many as asked for. Nothing of the answer depends on details above the level.
    ///
    /// # Errors
    /// [`TrailError`]: the log cannot be read.
    pub fn search(&self, query: &AuditQuery, level: Level) -> Result<Found, TrailError> {
        self.shared.trail.search(query, self.head().size, level)
    }

    /// Reads everything again that a start does not read, from end to end: all but the newest database of the log. Gives the number of its
    /// records. Ends early once the flag is set.
    ///
    /// # Errors
    /// [`TrailError::Stopped`] where it ended early; any other names the record that was changed or is missing: the broker must stop.
    pub fn verify_older(&self, stop: &AtomicBool) -> Result<u64, TrailError> {
        self.shared.trail.verify_older(stop)
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

    /// The root of the first `size` records; `None` where there are not so many.
    #[must_use]
    pub fn root(&self, size: u64) -> Option<Digest> {
        (size <= self.head().size)
            .then(|| self.shared.trail.root(size))
            .flatten()
    }

    /// The newest checkpoint: the head that was signed, and the text.
    #[must_use]
    pub fn checkpoint(&self) -> Option<(TreeHead, Arc<str>)> {
        self.shared.signed.borrow().clone()
    }

    /// Says when there are more records.
    #[must_use]
    pub fn grows(&self) -> watch::Receiver<TreeHead> {
        self.shared.head.subscribe()
    }

    /// Says when there is another checkpoint, or another signature below it: the head that was signed, and the text.
    #[must_use]
    pub fn signs(&self) -> watch::Receiver<Option<(TreeHead, Arc<str>)>> {
        self.shared.signed.subscribe()
    }

    /// Keeps a checkpoint of the log as it was at `head`, durably, in place of the one before.
    ///
    /// # Errors
    /// [`OpenError`]: the old one is still there.
    pub fn put_checkpoint(&self, head: TreeHead, text: &str) -> Result<(), OpenError> {
        let _held = lock(&self.shared.checkpoint);
        self.keep_checkpoint(head, text)
    }

    /// Puts another signature line below the newest checkpoint, where that has this size. Gives whether it did.
    ///
    /// # Errors
    /// [`OpenError`]: the text is as it was.
    pub fn countersigned(
        &self,
        size: u64,
        with_line: impl FnOnce(&str) -> Option<String>,
    ) -> Result<bool, OpenError> {
        let _held = lock(&self.shared.checkpoint);
        let newest = self.shared.signed.borrow().clone();
        let Some((head, text)) = newest.filter(|(head, _)| head.size == size) else {
            return Ok(false);
        };
        match with_line(&text) {
            None => Ok(false),
            Some(text) => self.keep_checkpoint(head, &text).map(|()| true),
        }
    }

    fn keep_checkpoint(&self, head: TreeHead, text: &str) -> Result<(), OpenError> {
        let path = self.shared.dir.join("checkpoint");
        replace_file(&path, text.as_bytes(), 0o666)
            .map_err(|source| OpenError::Io { path, source })?;
        self.shared.signed.send_replace(Some((head, text.into())));
        Ok(())
    }

    /// Destroys the details of the days up to and with `through`, counted from 1970, but for those of messages that an incident keeps; these are
    /// sealed anew under the incident's own key first. Gives the number of days whose details were destroyed. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`TrailError`]: the day at hand still has its details; the broker must stop.
    pub fn drop_details(
        &self,
        through: u64,
        keep: &BTreeMap<MessageId, String>,
    ) -> Result<usize, TrailError> {
        self.shared
            .trail
            .drop_details(through, keep, self.head().size)
    }

    /// Destroys what was kept for an incident.
    ///
    /// # Errors
    /// [`TrailError`]: it is still there; the broker must stop.
    pub fn drop_incident(&self, incident: &str) -> Result<(), TrailError> {
        self.shared.trail.drop_incident(incident)
    }
}
