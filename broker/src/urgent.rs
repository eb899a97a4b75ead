//! Room for what is urgent: while urgent messages come, copies that can wait and attachments go at a measured pace.
//!
//! An urgent message passes the queues of the others, yet shares the cores with them: with copies and pieces of attachments that go out as fast as the
//! lines take them, and that wake the tasks of both ends as often. The pace is one for all sessions and one of time alone: nobody holds it, so nobody
//! can keep it from going on, and those who wait go in the order they came.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long after an urgent message the pace is kept. Urgent messages seldom come alone.
const KEPT: Duration = Duration::from_millis(500);
/// From one turn to the next: a thousand copies a second from the whole broker then, a sixth of what it can.
const TURN: Duration = Duration::from_millis(1);
/// Bytes for which one turn is taken: 128 MB/s.
const BYTES: usize = 128 << 10;

#[derive(Clone, Copy)]
struct Pace {
    until: Instant,
    /// When the next turn is.
    next: Instant,
}

/// Whether urgent messages come, and whose turn it is meanwhile.
#[derive(Default)]
pub(crate) struct Urgent(Mutex<Option<Pace>>);

impl Urgent {
    /// One has come.
    pub(crate) fn came(&self) {
        let now = Instant::now();
        let mut pace = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = pace.map_or(now, |p| p.next);
        let until = now + KEPT;
        *pace = Some(Pace { until, next });
    }

    /// Comes back at once where nothing urgent came of late, and else when it is the turn of so many bytes.
    pub(crate) async fn turn(&self, bytes: usize) {
        let turn = self.take(bytes);
        // A sleep is a millisecond long, even where it is over.
        if let Some(turn) = turn.filter(|t| *t > Instant::now()) {
            tokio::time::sleep_until(turn).await;
        }
    }

    fn take(&self, bytes: usize) -> Option<Instant> {
        let now = Instant::now();
        let mut pace = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pace = pace.as_mut().filter(|p| p.until > now)?;
        let turn = pace.next.max(now);
        let turns = u32::try_from(bytes.div_ceil(BYTES)).unwrap_or(u32::MAX);
        pace.next = turn + TURN * turns.max(1);
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_goes_at_a_pace_while_urgent_messages_come() {
        let urgent = Urgent::default();
        let began = Instant::now();
        let hundred = async || {
            for _ in 0..100 {
                urgent.turn(1).await;
            }
        };
        hundred().await;
        assert_eq!(began.elapsed(), Duration::ZERO, "none has come");
        urgent.came();
        // Two who wait share the pace, and an urgent message more does not hold it up.
        let more = async {
            tokio::time::sleep(TURN * 50).await;
            urgent.came();
        };
        tokio::join!(hundred(), hundred(), more);
        let took = began.elapsed();
        assert!(took >= TURN * 199 && took <= TURN * 202, "{took:?}");
        let began = Instant::now();
        urgent.turn(3 * BYTES + 1).await;
        urgent.turn(1).await;
        let took = began.elapsed();
        assert!(took >= TURN * 4 && took <= TURN * 6, "by size: {took:?}");
        tokio::time::sleep(KEPT).await;
        let began = Instant::now();
        hundred().await;
        assert_eq!(began.elapsed(), Duration::ZERO, "long ago");
    }
}
