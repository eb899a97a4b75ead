//! Lanes: the streams of frames, whatever carries them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ordonnans_message::{Precedence, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Frames that wait in a queue before who fills it must wait.
const FRAMES: usize = 256;
/// Bytes of frames that wait in a queue. What one peer can make us keep is this for each lane and direction, and a frame half read.
const ROOM: usize = 2 * limits::MAX_FRAME;
/// Frames written at once.
const TOGETHER: usize = 64;
/// Frames up to this many bytes are copied into one piece: the send buffer is searched piece by piece for each packet.
const COPIED: usize = 8 * 1024;
/// Bytes of a frame that are read at once where the carrier does not hand them over.
pub(crate) const PIECE: usize = 64 * 1024;
/// Stands for a length where there are signals.
pub(crate) const SIGNAL: u32 = u32::MAX;

const _: () = assert!(limits::MAX_FRAME < SIGNAL as usize);

/// A stream of frames. What is urgent has its own, so it never waits behind what is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Everything but messages.
    Control,
    /// Messages of one class.
    Class(Precedence),
}

impl Lane {
    /// How many there are: control and six classes.
    pub const COUNT: u32 = 7;

    /// The most urgent first. Control carries the receipts of everything, so what cannot wait goes before it, and the rest after.
    pub const URGENT_FIRST: [Self; Self::COUNT as usize] = [
        Self::Class(Precedence::Override),
        Self::Class(Precedence::Flash),
        Self::Class(Precedence::Immediate),
        Self::Control,
        Self::Class(Precedence::Priority),
        Self::Class(Precedence::Routine),
        Self::Class(Precedence::Deferred),
    ];

    /// The first byte of its stream.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Class(p) => 1 + p.code(),
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::URGENT_FIRST.into_iter().find(|l| l.code() == code)
    }

    /// Its place among [`Self::COUNT`].
    pub(crate) fn index(self) -> usize {
        usize::from(self.code())
    }

    /// QUIC sends the stream of a higher one first; all are above bulk.
    pub(crate) fn priority(self) -> i32 {
        let place = Self::URGENT_FIRST.iter().position(|l| *l == self);
        i32::try_from(Self::URGENT_FIRST.len() - place.unwrap_or(0)).unwrap_or(0)
    }
}

/// A frame in a queue, with the room it takes there. In a box, for a queue sets 32 places aside and most stay empty.
pub(crate) type Queued = Box<Waiting>;

/// What the box holds.
pub(crate) struct Waiting {
    pub(crate) frame: Bytes,
    _room: OwnedSemaphorePermit,
}

/// The end of a queue where frames go in. Bounded in number and in bytes.
pub(crate) struct Queue {
    frames: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
}

/// Why a queue did not take a frame.
pub(crate) enum NotTaken {
    Full,
    Ended,
}

impl Queue {
    /// Whether everything put in has left for QUIC's own buffer.
    #[cfg(test)]
    pub(crate) fn is_written(&self) -> bool {
        self.room.available_permits() == ROOM
    }

    /// Waits for room. A frame must be within [`limits::MAX_FRAME`].
    pub(crate) async fn put(&self, frame: Bytes) -> Result<(), NotTaken> {
        let room = Arc::clone(&self.room)
            .acquire_many_owned(size(&frame))
            .await
            .map_err(|_| NotTaken::Ended)?;
        let queued = Box::new(Waiting { frame, _room: room });
        self.frames.send(queued).await.map_err(|_| NotTaken::Ended)
    }

    /// Does not wait.
    pub(crate) fn try_put(&self, frame: Bytes) -> Result<(), NotTaken> {
        if self.frames.is_closed() {
            return Err(NotTaken::Ended);
        }
        let room = Arc::clone(&self.room)
            .try_acquire_many_owned(size(&frame))
            .map_err(|_| NotTaken::Full)?;
        let queued = Box::new(Waiting { frame, _room: room });
        self.frames.try_send(queued).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => NotTaken::Full,
            mpsc::error::TrySendError::Closed(_) => NotTaken::Ended,
        })
    }
}

fn size(frame: &Bytes) -> u32 {
    u32::try_from(frame.len()).unwrap_or(u32::MAX)
}

fn queue() -> (Queue, mpsc::Receiver<Queued>) {
    let (frames, taken) = mpsc::channel(FRAMES);
    let room = Arc::new(Semaphore::new(ROOM));
    (Queue { frames, room }, taken)
}

/// The ends of a lane's two queues that its tasks hold.
pub(crate) struct Ends {
    pub(crate) outgoing: mpsc::Receiver<Queued>,
    pub(crate) incoming: Queue,
}

/// Both queues of every lane, by [`Lane::index`].
pub(crate) struct Queues {
    pub(crate) outgoing: Vec<Queue>,
    pub(crate) incoming: Vec<mpsc::Receiver<Queued>>,
    pub(crate) ends: Vec<Option<Ends>>,
}

impl Queues {
    pub(crate) fn new() -> Self {
        let mut all = Self {
            outgoing: vec![],
            incoming: vec![],
            ends: vec![],
        };
        for _ in Lane::URGENT_FIRST {
            let (send, outgoing) = queue();
            let (incoming, recv) = queue();
            all.outgoing.push(send);
            all.incoming.push(recv);
            all.ends.push(Some(Ends { outgoing, incoming }));
        }
        all
    }
}

/// What waits, as much as is written at once. Nothing is set aside for it: an idle lane costs its queue alone.
pub(crate) fn gather(first: Queued, outgoing: &mut mpsc::Receiver<Queued>) -> Vec<Queued> {
    let mut batch = vec![first];
    while batch.len() < TOGETHER
        && let Ok(next) = outgoing.try_recv()
    {
        batch.push(next);
    }
    batch
}

/// Frames with their lengths, the small ones in one piece.
pub(crate) fn together(batch: &[Queued]) -> Vec<Bytes> {
    let mut chunks = vec![];
    let mut small = BytesMut::new();
    for queued in batch {
        let frame = &queued.frame;
        small.extend_from_slice(&size(frame).to_be_bytes());
        if frame.len() <= COPIED {
            small.extend_from_slice(frame);
        } else {
            chunks.push(small.split().freeze());
            chunks.push(frame.clone());
        }
    }
    if !small.is_empty() {
        chunks.push(small.freeze());
    }
    chunks
}

/// Why a lane is read no further.
pub(crate) enum Ended {
    /// The connection is gone, in words.
    Line(String),
    /// The peer broke the protocol.
    Violation(&'static str),
}

/// Where a lane's bytes come from.
pub(crate) trait Inlet: Send {
    /// Whether there are signals between the frames.
    const SIGNALS: bool = false;

    /// Fills `into`.
    fn exact(&mut self, into: &mut [u8]) -> impl Future<Output = Result<(), Ended>> + Send;

    /// At least one byte and at most so many.
    fn chunk(&mut self, most: usize) -> impl Future<Output = Result<Bytes, Ended>> + Send;
}

/// What a lane brings.
pub(crate) enum Read {
    Frame(Bytes),
    /// Its kind, and what belongs to it.
    Signal(u8, Vec<u8>),
}

/// The next thing on a lane. Memory grows with what came, not with what was announced.
pub(crate) async fn next<I: Inlet>(inlet: &mut I) -> Result<Read, Ended> {
    let mut length = [0; 4];
    inlet.exact(&mut length).await?;
    let length = u32::from_be_bytes(length);
    if I::SIGNALS && length == SIGNAL {
        let mut head = [0; 2];
        inlet.exact(&mut head).await?;
        let [kind, length] = head;
        let mut rest = vec![0; usize::from(length)];
        inlet.exact(&mut rest).await?;
        return Ok(Read::Signal(kind, rest));
    }
    let length = length as usize;
    if length > limits::MAX_FRAME {
        return Err(Ended::Violation("a frame above its limit"));
    }
    let mut frame = BytesMut::new();
    while frame.len() < length {
        let chunk = inlet.chunk(length - frame.len()).await?;
        if chunk.len() == length {
            return Ok(Read::Frame(chunk));
        }
        frame.extend_from_slice(&chunk);
    }
    Ok(Read::Frame(frame.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn queued(frames: &[Bytes]) -> Vec<Queued> {
        let (queue, mut taken) = queue();
        for frame in frames {
            assert!(queue.put(frame.clone()).await.is_ok());
        }
        let mut all = vec![];
        taken.recv_many(&mut all, TOGETHER).await;
        all
    }

    #[test]
    fn every_lane_has_its_number() {
        for code in 0..=u8::MAX {
            let lane = Lane::from_code(code);
            assert_eq!(lane.is_some(), u32::from(code) < Lane::COUNT);
            assert!(lane.is_none_or(|l| l.code() == code));
        }
        let flash = Lane::Class(Precedence::Flash);
        assert_eq!(flash.code(), 5);
        assert!(flash.priority() > Lane::Class(Precedence::Immediate).priority());
        let order = Lane::URGENT_FIRST.map(Lane::priority);
        assert!(
            order.is_sorted_by(|a, b| a > b) && order[6] > 0,
            "{order:?}"
        );
    }

    #[tokio::test]
    async fn small_frames_share_a_piece_and_large_ones_are_not_copied() {
        let large = Bytes::from(vec![9; COPIED + 1]);
        let batch = queued(&[
            Bytes::from_static(b"ab"),
            Bytes::new(),
            large.clone(),
            Bytes::from_static(b"c"),
        ])
        .await;
        let chunks = together(&batch);
        assert_eq!(
            chunks[0],
            Bytes::from_static(&[0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0, 0, 0, 0x20, 1])
        );
        assert_eq!(chunks[1].as_ptr(), large.as_ptr());
        assert_eq!(chunks[2], Bytes::from_static(&[0, 0, 0, 1, b'c']));
        assert_eq!(chunks.len(), 3);
    }

    #[tokio::test]
    async fn a_queue_is_bounded_in_bytes_and_in_number() {
        let (queue, mut taken) = queue();
        let large = Bytes::from(vec![0; limits::MAX_FRAME]);
        for _ in 0..ROOM / limits::MAX_FRAME {
            assert!(queue.try_put(large.clone()).is_ok());
        }
        assert!(matches!(
            queue.try_put(Bytes::from_static(b"x")),
            Err(NotTaken::Full)
        ));
        drop(taken.recv().await);
        assert!(queue.try_put(large).is_ok(), "its room came back");
        while taken.try_recv().is_ok() {}
        for _ in 0..FRAMES {
            assert!(queue.try_put(Bytes::new()).is_ok());
        }
        assert!(matches!(queue.try_put(Bytes::new()), Err(NotTaken::Full)));
        drop(taken);
        assert!(matches!(queue.try_put(Bytes::new()), Err(NotTaken::Ended)));
        assert!(matches!(
            queue.put(Bytes::new()).await,
            Err(NotTaken::Ended)
        ));
    }
}
