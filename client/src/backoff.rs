//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// The first wait.
pub(crate) const FIRST: Duration = Duration::from_millis(100);
/// The longest wait: a crisis is not the time to be offline for minutes after the line is back.
pub(crate) const LONGEST: Duration = Duration::from_secs(15);

/// Exponential backoff with jitter. The jitter is passed in, so a test decides it.
pub(crate) struct Backoff {
    attempts: u32,
    /// Gives a number; its remainder places the wait inside its window.
    jitter: Box<dyn FnMut() -> u64 + Send>,
}

impl Backoff {
    /// A backoff that draws from `jitter`.
    #[must_use]
    pub(crate) fn new(jitter: Box<dyn FnMut() -> u64 + Send>) -> Self {
        Self {
            attempts: 0,
            jitter,
        }
    }

    /// The next wait: between half and all of 100 ms, 200 ms, 400 ms … 15 s. Half is kept, so that
    /// no node hammers; half is drawn, so that nodes do not return in one wave.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let window = FIRST
            .saturating_mul(1 << self.attempts.min(16))
            .min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        let half = window / 2;
        let span = u64::try_from(half.as_millis()).unwrap_or(u64::MAX);
        half + Duration::from_millis((self.jitter)() % (span + 1))
    }

    /// Starts over, after a connection that lasted.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, LONGEST};
    use std::time::Duration;

    #[test]
    fn waits_double_up_to_the_bound_and_start_over() {
        let mut low = Backoff::new(Box::new(|| 0));
        let waits: Vec<u64> = (0..4).map(|_| low.next_wait().as_millis() as u64).collect();
        assert_eq!(waits, [50, 100, 200, 400]);
        for _ in 0..100 {
            assert!(low.next_wait() <= LONGEST);
        }
        assert_eq!(low.next_wait(), LONGEST / 2);
        low.reset();
        assert_eq!(low.next_wait(), Duration::from_millis(50));
    }

    #[test]
    fn jitter_stays_within_the_window() {
        let mut draw = 0u64;
        let mut any = Backoff::new(Box::new(move || {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            draw
        }));
        for _ in 0..1000 {
            assert!(any.next_wait() <= LONGEST);
        }
    }
}
