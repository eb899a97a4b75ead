//! Attachments that no message refers to: an upload comes before its message, and the message may never come.

use std::collections::{BTreeMap, BTreeSet};

use ordonnans_message::{Digest, Header, Timestamp};

use crate::effects::Effect;
use crate::engine::Engine;

/// How long an attachment waits for its message, in milliseconds: a day, for a gigabyte beside it takes hours on a bad line.
const WAITS_MS: u64 = 24 * 60 * 60 * 1000;

/// Attachments without a message at one time: more than every node's daemon uploads at once, and bounded where they are small.
const MOST: usize = 65_536;

/// Whole attachments without a message, and since when they are here.
#[derive(Debug, Default)]
pub(crate) struct Unclaimed {
    since: BTreeMap<Digest, (Timestamp, u64)>,
    oldest: BTreeSet<(Timestamp, Digest)>,
    bytes: u64,
}

impl Unclaimed {
    fn add(&mut self, now: Timestamp, digest: Digest, length: u64) {
        if self.since.insert(digest, (now, length)).is_none() {
            self.oldest.insert((now, digest));
            self.bytes = self.bytes.saturating_add(length);
        }
    }

    fn remove(&mut self, digest: &Digest) {
        if let Some((at, length)) = self.since.remove(digest) {
            self.oldest.remove(&(at, *digest));
            self.bytes = self.bytes.saturating_sub(length);
        }
    }
}

impl Engine {
    /// An attachment is whole. Until a message refers to it, it is nobody's.
    pub(crate) fn attachment_stored(&mut self, now: Timestamp, digest: Digest, length: u64) {
        self.attachments.insert(digest, length);
        if !self.mailbox.refers_to(&digest) && !self.unclaimed.since.contains_key(&digest) {
            self.unclaimed.add(now, digest, length);
        }
    }

    /// A message refers to it from here on.
    pub(crate) fn attachment_claimed(&mut self, digest: &Digest) {
        self.unclaimed.remove(digest);
    }

    /// A message was refused for good: what it alone would have referred to goes at once. Another message that names the same is asked for it again.
    pub(crate) fn attachments_refused(&mut self, header: &Header) {
        for a in &header.attachments {
            if self.unclaimed.since.contains_key(&a.digest) {
                self.drop_unclaimed(a.digest);
            }
        }
    }

    fn drop_unclaimed(&mut self, digest: Digest) {
        self.unclaimed.remove(&digest);
        self.attachments.remove(&digest);
        self.out.push(Effect::RemoveAttachment { digest });
    }

    /// Removes what has waited too long, and the oldest where all together are more than one node may have stored: a node that uploads and sends nothing
    /// fills no disk. No record is made of it, for no message was accepted.
    pub(crate) fn end_unclaimed(&mut self, now: Timestamp) {
        while let Some((at, digest)) = self.unclaimed.oldest.first().copied() {
            let (held, q) = (&self.unclaimed, &self.settings.quotas);
            let room = held.bytes <= q.stored && held.since.len() <= MOST;
            if now.since(at) < WAITS_MS && room {
                return;
            }
            self.drop_unclaimed(digest);
        }
    }
}
