//! Room for what is urgent: while urgent messages come, copies that can wait and attachments go at a measured pace.
//!
//! An urgent message passes the queues of the others, yet shares the cores with them: with copies and pieces of attachments that go out as fast as the
//! lines take them, and that wake the tasks of both ends as often. The pace is one for all sessions and one of time alone: nobody holds it, so nobody
//! can keep it from going on, and nobody waits longer than [`KEPT`]. Each class of copies has turns of its own, and attachments have theirs, so that
//! none is later for what is below it (ADR 17).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ordonnans_message::Precedence;
use tokio::time::Instant;

/// How long after an urgent message the pace is kept, and what anybody waits for a turn at most. Urgent messages seldom come alone.
const KEPT: Duration = Duration::from_millis(500);
/// From one turn to the next: five hundred copies of a class a second from the whole broker, a twelfth of what it can.
const TURN: Duration = Duration::from_millis(2);
/// Bytes of an attachment that take one turn: 32 MB/s.
pub(crate) const BYTES: usize = 64 << 10;

/// Whether urgent messages come, and whose turn it is meanwhile.
#[derive(Default)]
pub(crate) struct Urgent(Mutex<Pace>);

#[derive(Default)]
struct Pace {
    until: Option<Instant>,
    /// When the next turn is: of each class, and of attachments.
    next: BTreeMap<Option<Precedence>, Instant>,
}

impl Urgent {
    /// One has come.
    pub(crate) fn came(&self) {
        let mut pace = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pace.until = Some(Instant::now() + KEPT);
    }

    /// Whether they come.
    pub(crate) fn come(&self) -> bool {
        let pace = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pace.until.is_some_and(|t| t > Instant::now())
    }

    /// Comes back at once where nothing urgent came of late, and else when it is the turn of a copy of this class.
    pub(crate) async fn turn(&self, class: Precedence) {
        self.wait(Some(class), TURN).await;
    }

    /// The same for so many bytes of an attachment.
    pub(crate) async fn turn_of_piece(&self, bytes: usize) {
        let turns = u32::try_from(bytes.div_ceil(BYTES)).unwrap_or(u32::MAX);
        self.wait(None, TURN.saturating_mul(turns)).await;
    }

    async fn wait(&self, whose: Option<Precedence>, takes: Duration) {
        let turn = self.take(whose, takes);
        // A sleep is a millisecond long, even where it is over.
        if let Some(turn) = turn.filter(|t| *t > Instant::now()) {
            tokio::time::sleep_until(turn).await;
        }
    }

    fn take(&self, whose: Option<Precedence>, takes: Duration) -> Option<Instant> {
        let now = Instant::now();
        let mut pace = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pace.until.filter(|until| *until > now)?;
        let next = pace.next.entry(whose).or_insert(now);
        // Where more wait than have a turn in that time, the pace gives way, and not they.
        let turn = (*next).clamp(now, now + KEPT);
        *next = turn + takes;
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
        let hundred = async |class| {
            for _ in 0..100 {
                urgent.turn(class).await;
            }
        };
        let routine = Precedence::Routine;
        hundred(routine).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "none has come");
        urgent.came();
        // Two who wait share the pace, and an urgent message more does not hold it up.
        let more = async {
            tokio::time::sleep(TURN * 50).await;
            urgent.came();
        };
        // Another class and an attachment have turns of their own.
        let others = async {
            hundred(Precedence::Priority).await;
            let took = began.elapsed();
            assert!(took >= TURN * 99 && took <= TURN * 102, "{took:?}");
        };
        let pieces = async {
            urgent.turn_of_piece(3 * BYTES + 1).await;
            urgent.turn_of_piece(1).await;
            let took = began.elapsed();
            assert!(took >= TURN * 4 && took <= TURN * 6, "by size: {took:?}");
        };
        tokio::join!(hundred(routine), hundred(routine), more, others, pieces);
        let took = began.elapsed();
        assert!(took >= TURN * 199 && took <= TURN * 202, "{took:?}");
        tokio::time::sleep(KEPT).await;
        let began = Instant::now();
        hundred(routine).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_pace_is_kept() {
        let urgent = Urgent::default();
        urgent.came();
        // They took their turns and left: what they booked holds nobody up.
        for _ in 0..10_000 {
            urgent.take(Some(Precedence::Routine), TURN);
        }
        let began = Instant::now();
        urgent.turn(Precedence::Routine).await;
        let took = began.elapsed();
        assert!(took <= KEPT + TURN * 2, "{took:?}");
    }
}
