//! Frames that wait for the line, by lane: what is urgent never waits behind what is not.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ordonnans_transport::Lane;

/// The queues of all lanes, by their place in [`Lane::URGENT_FIRST`]. Who fills them looks at [`Self::len`] first.
#[derive(Default)]
pub(crate) struct Queues(BTreeMap<usize, VecDeque<Bytes>>);

/// The place of a lane: the most urgent first.
fn rank(lane: Lane) -> usize {
    let place = Lane::URGENT_FIRST.iter().position(|l| *l == lane);
    place.unwrap_or_else(|| unreachable!("every lane has a place"))
}

impl Queues {
    pub(crate) fn put(&mut self, lane: Lane, frame: Bytes) {
        self.0.entry(rank(lane)).or_default().push_back(frame);
    }

    /// Frames in all queues.
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(VecDeque::len).sum()
    }

    /// The first frame of each lane that has one, the most urgent lane first.
    pub(crate) fn heads(&self) -> Vec<(Lane, Bytes)> {
        let head = |(place, q): (&usize, &VecDeque<Bytes>)| {
            Some((Lane::URGENT_FIRST[*place], q.front()?.clone()))
        };
        self.0.iter().filter_map(head).collect()
    }

    /// The first frame of this lane is on its way.
    pub(crate) fn said(&mut self, lane: Lane) {
        if let Some(queue) = self.0.get_mut(&rank(lane)) {
            queue.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use ordonnans_message::Precedence;

    use super::*;

    #[test]
    fn each_lane_keeps_its_order_and_the_urgent_lane_is_first() {
        let mut queues = Queues::default();
        let (routine, flash) = (
            Lane::Class(Precedence::Routine),
            Lane::Class(Precedence::Flash),
        );
        for (lane, frame) in [
            (routine, "a"),
            (routine, "b"),
            (flash, "c"),
            (Lane::Control, "d"),
        ] {
            queues.put(lane, frame.into());
        }
        assert_eq!(queues.len(), 4);
        let heads = |q: &Queues| q.heads().into_iter().map(|(l, _)| l).collect::<Vec<_>>();
        assert_eq!(heads(&queues), [flash, Lane::Control, routine]);
        queues.said(routine);
        assert_eq!(queues.heads()[2], (routine, Bytes::from_static(b"b")));
        queues.said(flash);
        queues.said(Lane::Control);
        assert_eq!(heads(&queues), [routine]);
    }
}
