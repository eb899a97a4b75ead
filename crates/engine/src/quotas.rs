//! What one node may ask of the broker, so that what it does costs the others nothing.

use std::collections::BTreeMap;

use ordonnans_audit::Detail;
use ordonnans_label::{Level, Name};
use ordonnans_message::{Header, Precedence, Timestamp};

use crate::engine::Engine;

const MINUTE_MS: u64 = 60 * 1000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// When to try again where copies must be received first, in milliseconds.
const LATER_MS: u32 = 30_000;

/// What one node may send. What is beyond gets `Busy` with the time after which to try again; nothing of it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Messages a minute.
    pub messages: u32,
    /// The same for those that are IMMEDIATE or above, which do not count among the others.
    pub urgent: u32,
    /// Sealed bytes an hour, with attachments.
    pub bytes: u64,
    /// Messages from Stg.C up an hour. More is an alarm, too.
    pub state_secret: u32,
    /// Copies of its messages that wait for their recipients.
    pub copies: u64,
    /// Sealed bytes of such messages, with attachments.
    pub stored: u64,
}

impl Default for Quotas {
    /// More than a crisis centre sends on its worst night, and less than would keep a broker busy.
    fn default() -> Self {
        Self {
            messages: 6_000,
            urgent: 600,
            bytes: 16 << 30,
            state_secret: 600,
            copies: 100_000,
            stored: 64 << 30,
        }
    }
}

/// Something that is counted in windows of a fixed length.
#[derive(Clone, Copy, Debug)]
struct Window {
    began: Timestamp,
    count: u64,
}

impl Window {
    /// Counts up where that stays within a limit, else says how long to wait, in milliseconds. A clock that was set back begins anew.
    fn take(&mut self, now: Timestamp, length: u64, n: u64, limit: u64) -> Result<(), u64> {
        if self.count == 0 || now.since(self.began) >= length || self.began > now {
            *self = Self {
                began: now,
                count: 0,
            };
        }
        // One thing that is larger than the limit by itself goes alone.
        if self.count > 0 && self.count.saturating_add(n) > limit {
            return Err(length - now.since(self.began));
        }
        self.count = self.count.saturating_add(n);
        Ok(())
    }
}

/// What a node has sent lately.
#[derive(Clone, Copy, Debug)]
struct Sent {
    messages: Window,
    urgent: Window,
    bytes: Window,
    state_secret: Window,
    /// Whether the alarm of this hour was made.
    alarmed: Option<Timestamp>,
}

/// What nodes have sent lately: one row for each node of the register that sends.
#[derive(Debug, Default)]
pub(crate) struct Spent(BTreeMap<Name, Sent>);

impl Engine {
    /// Takes what a message costs from its node's quotas, or says when to try again, in milliseconds.
    pub(crate) fn spend(
        &mut self,
        now: Timestamp,
        header: &Header,
        copies: usize,
    ) -> Result<(), u32> {
        let (q, from) = (self.settings.quotas, &header.originator);
        let outstanding = self.mailbox.outstanding(from);
        let bytes = header.sealed_bytes();
        if outstanding.copies.saturating_add(copies as u64) > q.copies
            || outstanding.bytes.saturating_add(bytes) > q.stored
        {
            return Err(LATER_MS);
        }
        let new = Window {
            began: now,
            count: 0,
        };
        let sent = self.spent.0.entry(from.clone()).or_insert(Sent {
            messages: new,
            urgent: new,
            bytes: new,
            state_secret: new,
            alarmed: None,
        });
        // All or nothing: what is refused costs nothing.
        let mut after = *sent;
        let number = if header.precedence() >= Precedence::Immediate {
            after.urgent.take(now, MINUTE_MS, 1, q.urgent.into())
        } else {
            after.messages.take(now, MINUTE_MS, 1, q.messages.into())
        };
        let level = header.label.confidentiality.level();
        let secret = if level >= Level::StgC {
            after
                .state_secret
                .take(now, HOUR_MS, 1, q.state_secret.into())
        } else {
            Ok(())
        };
        let bytes = after.bytes.take(now, HOUR_MS, bytes, q.bytes);
        let waits = [number, secret, bytes].into_iter().filter_map(Result::err);
        let Some(wait) = waits.max() else {
            *sent = after;
            return Ok(());
        };
        let hour = after.state_secret.began;
        if secret.is_err() && sent.alarmed != Some(hour) {
            sent.alarmed = Some(hour);
            let detail = Detail {
                who: Some(from.clone()),
                note: Some(format!(
                    "more than {} messages from Stg.C up within an hour",
                    q.state_secret
                )),
                ..Detail::default()
            };
            self.alarm(now, detail);
        }
        Err(u32::try_from(wait).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_says_when_to_come_back() {
        let at = Timestamp::from_millis;
        let mut w = Window {
            began: at(1_000),
            count: 0,
        };
        let mut take = |now: u64, n| w.take(at(now), 60_000, n, 10);
        assert_eq!(take(1_000, 6), Ok(()));
        assert_eq!(take(2_000, 4), Ok(()));
        assert_eq!(take(3_000, 1), Err(58_000));
        assert_eq!(take(61_000, 1), Ok(()), "the next window");
        // The clock goes back an hour: nobody waits for it to come on again.
        assert_eq!(take(500, 10), Ok(()));
        assert_eq!(take(600, 1), Err(59_900));
        // Larger than the limit: alone, once.
        assert_eq!(take(61_000, 1_000), Ok(()));
        assert_eq!(take(62_000, 1), Err(59_000));
    }
}
