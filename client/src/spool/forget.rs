//! What the spool forgets: a node runs for years.

use std::collections::BTreeSet;

use ordonnans_message::{MessageId, Timestamp};
use ordonnans_store as store;

use super::{
    ACTS, ARRIVED, Arrived, BELIEFS, INBOX, OWED, RECEIPTS, REVIEWS, SENT, Sent, Spool, TOLD,
    broken, id, parse,
};
use crate::failure::Failure;

/// Messages that are forgotten at once: bounds the write.
const AT_ONCE: usize = 4_096;

impl Spool {
    /// Forgets what expired before a time: what was sent and decided, with its receipts and what was told of it; and that something arrived, where
    /// it was destroyed and the broker knows. Gives the number of messages, at most [`AT_ONCE`]. What is in the inbox stays with all that is known of it.
    pub(crate) fn forget(&self, before: Timestamp) -> Result<usize, Failure> {
        let mut batch = store::SpoolBatch::new();
        let mut gone = BTreeSet::<MessageId>::new();
        for (key, row) in self.0.range(SENT, &[]).map_err(broken)? {
            let sent: Sent = parse(&row)?;
            let over = sent.expires < before && sent.verdict.is_some();
            if over && gone.len() < AT_ONCE && !self.has(INBOX, &key)? {
                batch.remove(SENT, &key);
                gone.insert(id(&key)?);
            }
        }
        let mut beliefs = BTreeSet::new();
        for (key, row) in self.0.range(ARRIVED, &[]).map_err(broken)? {
            let (of, arrived): (_, Arrived) = (id(&key)?, parse(&row)?);
            let done =
                arrived.expires < before && !self.has(INBOX, &key)? && !self.has(OWED, &key)?;
            if done && (gone.contains(&of) || gone.len() < AT_ONCE) {
                batch.remove(ARRIVED, &key);
                gone.insert(of);
            } else {
                beliefs.insert(*arrived.belief.as_bytes());
            }
        }
        if gone.is_empty() {
            return Ok(0);
        }
        for of in &gone {
            for table in [RECEIPTS, TOLD, ACTS, REVIEWS] {
                for (key, _) in self.0.range(table, of.as_bytes()).map_err(broken)? {
                    batch.remove(table, &key);
                }
            }
        }
        for (key, _) in self.0.range(BELIEFS, &[]).map_err(broken)? {
            if !beliefs.iter().any(|b| b[..] == key[..]) {
                batch.remove(BELIEFS, &key);
            }
        }
        self.apply(batch)?;
        Ok(gone.len())
    }

    /// Whether a table has a row whose key begins so.
    fn has(&self, table: &'static str, key: &[u8]) -> Result<bool, Failure> {
        Ok(!self.0.range(table, key).map_err(broken)?.is_empty())
    }
}
