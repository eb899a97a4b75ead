//! When the node forgets, and by which clock. A wrong clock must not take anything away that the right one would have kept.

use std::time::{Duration, Instant};

use ordonnans_message::Timestamp;

use crate::desk::Desk;
use crate::failure::Failure;

/// A clock that is further ahead of what was believed last than a machine may have been off is in doubt.
const LEAP_MS: u64 = 35 * 24 * 60 * 60 * 1000;
/// One that stays where it leapt to is believed after this time, as the broker does.
const STAYED: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest time between two sweeps.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// Looks after what the node need not remember any more.
#[derive(Debug, Default)]
pub(crate) struct Forgetting {
    /// Since when the clock is where it leapt to.
    doubted: Option<Instant>,
}

impl Forgetting {
    /// How often to sweep.
    pub(crate) fn every(remember: Duration) -> Duration {
        EVERY.min(remember / 10)
    }

    /// Forgets what is over, unless the clock is in doubt; gives the number of messages.
    pub(crate) fn sweep(&mut self, desk: &Desk, at: Instant) -> Result<usize, Failure> {
        let now = desk.now();
        let before = desk.spool.clock()?;
        let leapt = before.is_some_and(|t| now.since(t) > LEAP_MS);
        if leapt {
            let since = *self.doubted.get_or_insert(at);
            if at.duration_since(since) < STAYED {
                return Ok(0);
            }
        }
        self.doubted = None;
        desk.spool.put_clock(now)?;
        let remember = u64::try_from(desk.config.remember.as_millis()).unwrap_or(u64::MAX);
        let over = now.as_millis().saturating_sub(remember);
        desk.spool.forget(Timestamp::from_millis(over))
    }
}

#[cfg(test)]
mod tests {
    use ordonnans_message::{Frame, ReceiptKind, SignedReceipt};

    use super::*;
    use crate::house::{House, accepted, begun, sealed, stored};
    use crate::spool::receipt_key;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const DAYS_40: u64 = 40 * 24 * 60 * 60 * 1000;

    #[test]
    fn what_was_sent_and_what_was_destroyed_is_forgotten_when_the_clock_is_believed() {
        let mut house = House::new();
        let (a, b) = house.pair();
        let (id, envelope) = sealed(&a, "locc", b"x");
        let (kept, other) = sealed(&a, "locc", b"y");
        let at = Instant::now();
        let mut sender = begun(&a, at);
        for id in [id, kept] {
            sender.take(accepted(id), at).expect("taken");
        }
        let mut holder = begun(&b, at);
        for envelope in [envelope, other] {
            holder.take(Frame::Deliver { envelope }, at).expect("taken");
        }
        b.read(id, ReceiptKind::Opened, None).expect("opens");
        b.destroy(id, None).expect("destroyed");
        for (of, bytes) in b.spool.owed().expect("reads") {
            let receipt = SignedReceipt::decode(&bytes).expect("a receipt");
            holder.take(stored(&receipt), at).expect("taken");
            a.spool.receipted(&receipt).expect("kept");
            assert_eq!(receipt_key(receipt.said()), of);
        }
        let mut sweeps = [Forgetting::default(), Forgetting::default()];
        let [fa, fb] = &mut sweeps;
        assert_eq!(fa.sweep(&a, at).expect("sweeps"), 0);
        assert_eq!(fb.sweep(&b, at).expect("sweeps"), 0);
        // A clock that leaps is not believed until it has stayed there for a day.
        house.later(2 * DAYS_40);
        assert_eq!(fa.sweep(&a, at).expect("sweeps"), 0);
        assert!(!a.spool.receipts(id).expect("reads").is_empty());
        assert_eq!(fa.sweep(&a, at + DAY).expect("sweeps"), 2);
        assert!(a.spool.sent(id).expect("reads").is_none());
        assert!(a.spool.receipts(id).expect("reads").is_empty());
        fb.sweep(&b, at).expect("sweeps");
        assert_eq!(
            fb.sweep(&b, at + DAY).expect("sweeps"),
            1,
            "the inbox stays"
        );
        assert!(b.spool.arrived(id).expect("reads").is_none());
        assert!(b.spool.arrived(kept).expect("reads").is_some());
        assert!(b.spool.incoming(kept).expect("reads").is_some());
        assert_eq!(b.spool.inbox().expect("reads").len(), 1);
    }
}
