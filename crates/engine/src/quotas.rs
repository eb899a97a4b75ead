//! What one node may ask of the broker, so that what it does costs the others nothing.

use std::collections::BTreeMap;

use ordonnans_audit::Detail;
use ordonnans_label::{Level, Name};
use ordonnans_message::{Header, Timestamp};

use crate::engine::Engine;

const MINUTE_MS: u64 = 60 * 1000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// Of what a node may send in a minute, one part in so many may come at once,
const AT_ONCE: u64 = 20;
/// and so many always may.
const AT_LEAST: u64 = 30;
/// Nobody is asked back sooner: whoever is, comes with more than one.
const SOONEST_MS: u64 = 1_000;
/// When to try again where copies must be received first, in milliseconds.
const LATER_MS: u32 = 30_000;

/// What one node may send. What is beyond gets `Busy` with the time after which to try again; nothing of it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Messages a minute, evenly: a twentieth of them may come at once, or thirty.
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

/// Something that comes evenly: so many a minute, and a few at once.
#[derive(Clone, Copy, Debug)]
struct Pace {
    at: Timestamp,
    /// What was taken and has not grown back; one message is [`MINUTE_MS`] of these.
    taken: u64,
}

impl Pace {
    /// Takes one where the pace allows it, else says how long to wait, in milliseconds. A clock that was set back gives nothing and costs nothing.
    fn take(&mut self, now: Timestamp, a_minute: u32) -> Result<(), u64> {
        let a_minute = u64::from(a_minute);
        let grown = now.since(self.at).saturating_mul(a_minute);
        let at_once = a_minute.min((a_minute / AT_ONCE).max(AT_LEAST));
        *self = Self {
            at: now,
            taken: self.taken.saturating_sub(grown),
        };
        let (after, room) = (self.taken + MINUTE_MS, at_once * MINUTE_MS);
        if after > room {
            return Err((after - room).div_ceil(a_minute.max(1)).max(SOONEST_MS));
        }
        self.taken = after;
        Ok(())
    }
}

/// What a node has sent lately.
#[derive(Clone, Copy, Debug)]
struct Sent {
    messages: Pace,
    urgent: Pace,
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
        let even = Pace { at: now, taken: 0 };
        let sent = self.spent.0.entry(from.clone()).or_insert(Sent {
            messages: even,
            urgent: even,
            bytes: new,
            state_secret: new,
            alarmed: None,
        });
        // All or nothing: what is refused costs nothing.
        let mut after = *sent;
        let number = if header.precedence().is_urgent() {
            after.urgent.take(now, q.urgent)
        } else {
            after.messages.take(now, q.messages)
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
    fn a_pace_lets_a_few_through_at_once_and_the_rest_evenly() {
        let at = Timestamp::from_millis;
        let mut pace = Pace {
            at: at(0),
            taken: 0,
        };
        let mut take = |now: u64| pace.take(at(now), 6_000);
        assert!((0..300).all(|_| take(0).is_ok()), "a twentieth at once");
        assert_eq!(take(0), Err(SOONEST_MS));
        assert_eq!(take(10), Ok(()), "one has grown back");
        assert!(take(19).is_err());
        assert!((20..=120).step_by(10).all(|t| take(t).is_ok()));
        // The clock goes back an hour and comes on again.
        assert!(take(0).is_err());
        assert_eq!(take(10), Ok(()));
        let mut few = Pace {
            at: at(0),
            taken: 0,
        };
        assert!((0..3).all(|_| few.take(at(0), 3).is_ok()));
        assert_eq!(few.take(at(1_000), 3), Err(19_000));
        assert_eq!(few.take(at(20_000), 3), Ok(()));
    }

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
