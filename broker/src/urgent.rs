//! Headway for what is urgent: whatever goes out and can wait steps aside for a moment when an urgent message comes.
//!
//! An urgent message passes the queues of the others, yet shares the cores with them: with copies and pieces of attachments that go out as fast as the
//! lines take them. The moment is one of time alone, so nobody can keep it from ending.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What an urgent message usually takes to be decided, durable and gone. Whatever steps aside then has its turn, however many come: many urgent
/// messages slow the others, and do not stop them.
const HEADWAY: Duration = Duration::from_millis(3);

/// Until when an urgent message has headway.
#[derive(Default)]
pub(crate) struct Urgent(Mutex<Option<Instant>>);

impl Urgent {
    /// One has come.
    pub(crate) fn came(&self) {
        let until = Instant::now() + HEADWAY;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Comes back at once, or when the last that has come so far has had its headway.
    pub(crate) async fn step_aside(&self) {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = until.filter(|t| *t > Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_gives_headway_once_and_goes_on() {
        let urgent = Urgent::default();
        let began = Instant::now();
        urgent.step_aside().await;
        assert_eq!(began.elapsed(), Duration::ZERO, "none has come");
        urgent.came();
        let another = async {
            tokio::time::sleep(HEADWAY / 3).await;
            urgent.came();
        };
        tokio::join!(urgent.step_aside(), another);
        let first = began.elapsed();
        assert!(
            first >= HEADWAY && first < HEADWAY + HEADWAY / 3,
            "{first:?}"
        );
        urgent.step_aside().await;
        assert!(began.elapsed() >= HEADWAY + HEADWAY / 3, "for the other");
        let began = Instant::now();
        urgent.step_aside().await;
        assert_eq!(began.elapsed(), Duration::ZERO, "long ago");
    }
}
