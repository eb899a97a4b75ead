//! What a session has handed to the engine and has no answer for, so that a node which sends more than it may holds up itself alone.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ordonnans_message::{Frame, MessageId, ReplyCode};
use ordonnans_transport::Lane;

/// A lane whose peer was told that it sends more than it may is not read for so long. The daemon waits by itself; this is for whoever does not.
pub(crate) const HOLD: Duration = Duration::from_millis(50);
/// Messages of one session that are not decided yet: a quarter of the engine's usual door, and four times what a daemon has under way.
const UNDECIDED: usize = 256;

/// Messages that the engine has not answered, by the lane each came on.
#[derive(Default)]
pub(crate) struct Undecided(Mutex<BTreeMap<MessageId, Lane>>);

impl Undecided {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<MessageId, Lane>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of one, where there is a place.
    pub(crate) fn enter(&self, id: MessageId, lane: Lane) -> bool {
        let mut all = self.lock();
        let room = all.len() < UNDECIDED;
        if room {
            all.insert(id, lane);
        }
        room
    }

    /// One did not come so far.
    pub(crate) fn leave(&self, id: MessageId) {
        self.lock().remove(&id);
    }

    /// One is decided; gives the lane that is to be held, where its node has sent more than it may.
    pub(crate) fn decided(&self, frame: &Frame) -> Option<Lane> {
        match frame {
            Frame::Accepted { id, .. } => {
                self.lock().remove(id);
                None
            }
            Frame::Refused {
                id: Some(id), code, ..
            } => {
                let lane = self.lock().remove(id);
                lane.filter(|_| *code == ReplyCode::Busy)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use ordonnans_message::{Precedence, Timestamp};

    use super::*;

    fn answer(id: MessageId, code: ReplyCode) -> Frame {
        Frame::Refused {
            id: Some(id),
            code,
            rule: None,
            recipient: None,
            retry_after_ms: None,
        }
    }

    #[test]
    fn a_session_has_its_share_and_the_lane_of_what_is_too_much_is_held() {
        let undecided = Undecided::default();
        let id = |n: usize| MessageId::new(Timestamp::from_millis(n as u64), [7; 10]);
        let lane = Lane::Class(Precedence::Routine);
        assert!((0..UNDECIDED).all(|n| undecided.enter(id(n), lane)));
        assert!(!undecided.enter(id(UNDECIDED), lane), "its share is taken");
        let busy = answer(id(0), ReplyCode::Busy);
        assert_eq!(undecided.decided(&busy), Some(lane));
        assert_eq!(undecided.decided(&busy), None, "said once");
        assert_eq!(
            undecided.decided(&answer(id(1), ReplyCode::NotPermitted)),
            None
        );
        undecided.leave(id(2));
        assert!((0..3).all(|n| undecided.enter(id(n), lane)));
        assert!(!undecided.enter(id(UNDECIDED), lane));
    }
}
