//! Attachments that no message refers to: an upload comes before its message, and the message may never come.

use std::collections::{BTreeMap, BTreeSet};

use ordonnans_label::Name;
use ordonnans_message::{Digest, Header, Timestamp};

use crate::effects::Effect;
use crate::engine::Engine;

/// How long an attachment waits for its message, in milliseconds: a day, for a gigabyte beside it takes hours on a bad line.
const WAITS_MS: u64 = 24 * 60 * 60 * 1000;

/// Attachments without a message at one time: more than every node's daemon uploads at once, and bounded where they are small.
const MOST: usize = 65_536;

/// One that no message refers to.
#[derive(Debug)]
struct Waiting {
    since: Timestamp,
    length: u64,
    /// Who brought it, where that is known: not after a restart.
    by: Option<Name>,
}

/// Whole attachments without a message.
#[derive(Debug, Default)]
pub(crate) struct Unclaimed {
    waiting: BTreeMap<Digest, Waiting>,
    oldest: BTreeSet<(Timestamp, Digest)>,
    bytes: u64,
}

impl Unclaimed {
    fn add(&mut self, digest: Digest, one: Waiting) {
        self.oldest.insert((one.since, digest));
        self.bytes = self.bytes.saturating_add(one.length);
        self.waiting.insert(digest, one);
    }

    fn remove(&mut self, digest: &Digest) {
        if let Some(one) = self.waiting.remove(digest) {
            self.oldest.remove(&(one.since, *digest));
            self.bytes = self.bytes.saturating_sub(one.length);
        }
    }
}

impl Engine {
    /// An attachment is whole. Until a message refers to it, it is nobody's.
    pub(crate) fn attachment_stored(
        &mut self,
        now: Timestamp,
        by: Option<Name>,
        digest: Digest,
        length: u64,
    ) {
        self.attachments.insert(digest, length);
        if !self.mailbox.refers_to(&digest) && !self.unclaimed.waiting.contains_key(&digest) {
            let since = now;
            self.unclaimed.add(digest, Waiting { since, length, by });
        }
    }

    /// A message refers to it from here on.
    pub(crate) fn attachment_claimed(&mut self, digest: &Digest) {
        self.unclaimed.remove(digest);
    }

    /// A message was refused for good: what its originator brought for it goes at once. Another message that names the same is asked for it again.
    pub(crate) fn attachments_refused(&mut self, header: &Header) {
        for a in &header.attachments {
            let one = self.unclaimed.waiting.get(&a.digest);
            if one.is_some_and(|w| w.by.as_ref() == Some(&header.originator)) {
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
            let room = held.bytes <= q.stored && held.waiting.len() <= MOST;
            if now.since(at) < WAITS_MS && room {
                return;
            }
            self.drop_unclaimed(digest);
        }
    }
}
