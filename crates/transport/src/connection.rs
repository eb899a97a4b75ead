//! One connection: who is at the other end, frames both ways, and how it ends.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use bytes::Bytes;
use ordonnans_identity::Certificate;
use ordonnans_message::limits;
use quinn::crypto::rustls::HandshakeData;
use quinn::{ConnectionError, RecvStream, SendStream, VarInt};
use rustls::NamedGroup;
use rustls_pki_types::CertificateDer;
use tokio::sync::{Mutex, Semaphore, mpsc};

use crate::bulk::{self, BulkRecv};
use crate::lanes::{self, Ends, Lane, NotTaken, Queue, Queued, Queues};
use crate::tls::BULK_STREAMS;

/// Why one end closed a connection, as the other is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// Nothing is left to do.
    Done = 0,
    /// The peer broke the protocol.
    Violation = 1,
    /// The peer's certificate or accreditation is no longer believed.
    NotBelieved = 2,
    /// The same node has opened another connection.
    Replaced = 3,
    /// This end stops.
    Stopping = 4,
    /// Too many connections.
    Full = 5,
}

impl CloseCode {
    fn from_code(code: u64) -> Option<Self> {
        use CloseCode::{Done, Full, NotBelieved, Replaced, Stopping, Violation};
        [Done, Violation, NotBelieved, Replaced, Stopping, Full]
            .into_iter()
            .find(|c| *c as u64 == code)
    }

    pub(crate) fn on_the_wire(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }
}

/// The connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed: {reason}")]
pub struct Closed {
    /// What the end that closed it said, where it is one of ours. `None` where the line broke, TLS ended it, or this end heard of it too
    /// late and was told by a reset (RFC 9000 section 10.3).
    pub code: Option<CloseCode>,
    /// Whether the other end closed it.
    pub by_peer: bool,
    /// In words.
    pub reason: String,
}

impl From<&ConnectionError> for Closed {
    fn from(e: &ConnectionError) -> Self {
        let (code, by_peer) = match e {
            ConnectionError::ApplicationClosed(c) => {
                (CloseCode::from_code(c.error_code.into_inner()), true)
            }
            ConnectionError::ConnectionClosed(_) | ConnectionError::Reset => (None, true),
            _ => (None, false),
        };
        Self {
            code,
            by_peer,
            reason: e.to_string(),
        }
    }
}

/// A frame was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrySend {
    /// The lane's queue is full: the peer reads too slowly.
    #[error("the peer reads too slowly")]
    Full,
    /// The connection.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// The QUIC connection, and why this end closed it.
pub(crate) struct Line {
    pub(crate) quinn: quinn::Connection,
    ended: OnceLock<Closed>,
}

impl Line {
    /// Closes it. Who closes first is who is believed: quinn would forget what the peer said.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        if self.quinn.close_reason().is_some() {
            return;
        }
        // Two ends of this process may close at the same time; both name a reason that holds.
        let _ = self.ended.set(Closed {
            code: Some(code),
            by_peer: false,
            reason: reason.into(),
        });
        self.quinn.close(code.on_the_wire(), reason.as_bytes());
    }

    fn why(&self, e: &ConnectionError) -> Closed {
        match (e, self.ended.get()) {
            (ConnectionError::LocallyClosed, Some(ours)) => ours.clone(),
            _ => e.into(),
        }
    }

    pub(crate) async fn closed(&self) -> Closed {
        self.why(&self.quinn.closed().await)
    }

    /// Why it is closed, if it is.
    pub(crate) fn end(&self) -> Option<Closed> {
        self.quinn.close_reason().map(|e| self.why(&e))
    }
}

pub(crate) struct Inner {
    pub(crate) line: Arc<Line>,
    /// As the handshake brought it,
    shown: Certificate,
    /// and as it was believed then.
    believed: OnceLock<Certificate>,
    key_exchange: &'static str,
    id: u64,
    pub(crate) outgoing: Vec<Queue>,
    pub(crate) incoming: Mutex<Vec<mpsc::Receiver<Queued>>>,
    pub(crate) bulk: Mutex<mpsc::Receiver<(Bytes, BulkRecv)>>,
    /// Places for attachments going out.
    pub(crate) places: Arc<Semaphore>,
    /// A client's own endpoint lives as long as its connection.
    endpoint: Option<quinn::Endpoint>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.line.close(CloseCode::Done, "done");
    }
}

/// A connection with a believed peer. Clones are the same connection; it is closed when the last is dropped.
#[derive(Clone)]
pub struct Connection(pub(crate) Arc<Inner>);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({}, {})", self.0.id, self.peer().name())
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Connection {
    fn new(
        quinn: quinn::Connection,
        endpoint: Option<quinn::Endpoint>,
    ) -> Option<(Self, Vec<Option<Ends>>)> {
        let chain = quinn
            .peer_identity()?
            .downcast::<Vec<CertificateDer<'static>>>()
            .ok()?;
        let shown = Certificate::parse_der(chain.first()?).ok()?;
        let handshake = quinn.handshake_data()?.downcast::<HandshakeData>().ok()?;
        let key_exchange = match handshake.negotiated_key_exchange_group {
            NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
            NamedGroup::X25519 => "X25519",
            _ => return None,
        };
        let line = Arc::new(Line {
            quinn,
            ended: OnceLock::new(),
        });
        let queues = Queues::new();
        let (heads, bulk) = mpsc::channel(BULK_STREAMS as usize);
        tokio::spawn(bulk::accept(Arc::clone(&line), heads));
        let inner = Inner {
            line,
            shown,
            believed: OnceLock::new(),
            key_exchange,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            outgoing: queues.outgoing,
            incoming: queues.incoming.into(),
            bulk: bulk.into(),
            places: Arc::new(Semaphore::new(BULK_STREAMS as usize)),
            endpoint,
        };
        Some((Self(Arc::new(inner)), queues.ends))
    }

    /// The serving end: the peer opens the lanes.
    pub(crate) fn serve(quinn: quinn::Connection) -> Option<Self> {
        let (connection, ends) = Self::new(quinn, None)?;
        tokio::spawn(take_lanes(Arc::clone(&connection.0.line), ends));
        Some(connection)
    }

    /// The end that opens the lanes.
    pub(crate) async fn open(
        quinn: quinn::Connection,
        endpoint: quinn::Endpoint,
    ) -> Result<Self, Closed> {
        let why = |e: ConnectionError| Closed::from(&e);
        let Some((connection, mut ends)) = Self::new(quinn.clone(), Some(endpoint)) else {
            return Err(Closed {
                code: None,
                by_peer: false,
                reason: "the handshake left no certificate".into(),
            });
        };
        for lane in Lane::URGENT_FIRST {
            let (mut send, recv) = quinn.open_bi().await.map_err(why)?;
            if send.write_all(&[lane.code()]).await.is_err() {
                return Err(why(quinn.closed().await));
            }
            if let Some(ends) = ends.get_mut(lane.index()).and_then(Option::take) {
                lanes::run(&connection.0.line, lane, send, recv, ends);
            }
        }
        Ok(connection)
    }

    /// Who is on the line, as believed when the handshake ended: its clearances are cut to what its authorities may give.
    #[must_use]
    pub fn peer(&self) -> &Certificate {
        self.0.believed.get().unwrap_or(&self.0.shown)
    }

    /// Whom trust takes the peer for. Before a connection is handed out this is said once.
    pub(crate) fn believe(&self, peer: Certificate) {
        // Said twice, the first counts: who looks at the peer never sees it change.
        let _ = self.0.believed.set(peer);
    }

    /// Whether trust takes the peer for another than it did, or has not been asked yet.
    pub(crate) fn is_still(&self, peer: &Certificate) -> bool {
        self.0.believed.get().is_none_or(|b| b == peer)
    }

    /// The key exchange of this connection, as TLS reports it: `X25519MLKEM768` or `X25519`.
    #[must_use]
    pub fn key_exchange(&self) -> &'static str {
        self.0.key_exchange
    }

    /// Where the peer is now; it may move.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.0.line.quinn.remote_address()
    }

    /// A number no other connection of this process has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Sends a frame; waits where the lane's queue is full (256 frames or 1 MiB). When it returns the frame is on its way, not there:
    /// what the peer has not read when either end closes is lost. Dropped while it waits, nothing was sent.
    ///
    /// # Errors
    /// [`Closed`]. A frame above [`limits::MAX_FRAME`] is a fault of this end: it closes the connection, as the peer would.
    pub async fn send(&self, lane: Lane, frame: Bytes) -> Result<(), Closed> {
        self.sendable(&frame)?;
        self.queue(lane)
            .put(frame)
            .await
            .map_err(|_| self.why_closed())
    }

    /// Sends a frame, or says at once that it cannot.
    ///
    /// # Errors
    /// [`TrySend::Full`]: nothing was sent; [`TrySend::Closed`] as [`Self::send`].
    pub fn try_send(&self, lane: Lane, frame: Bytes) -> Result<(), TrySend> {
        self.sendable(&frame)?;
        self.queue(lane).try_put(frame).map_err(|e| match e {
            NotTaken::Full => TrySend::Full,
            NotTaken::Ended => self.why_closed().into(),
        })
    }

    fn queue(&self, lane: Lane) -> &Queue {
        &self.0.outgoing[lane.index()]
    }

    fn sendable(&self, frame: &Bytes) -> Result<(), Closed> {
        if frame.len() > limits::MAX_FRAME {
            self.close(CloseCode::Violation, "a frame above its limit");
        }
        self.0.line.end().map_or(Ok(()), Err)
    }

    /// The next frame, of the first of [`Lane::URGENT_FIRST`] that has one. Frames of one lane come in their order. Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`], after every frame that was read before the end.
    pub async fn recv(&self) -> Result<(Lane, Bytes), Closed> {
        let mut incoming = self.0.incoming.lock().await;
        let next = poll_fn(|cx| {
            let mut ended = true;
            for lane in Lane::URGENT_FIRST {
                match incoming[lane.index()].poll_recv(cx) {
                    Poll::Ready(Some(queued)) => return Poll::Ready(Some((lane, queued.frame))),
                    Poll::Ready(None) => {}
                    Poll::Pending => ended = false,
                }
            }
            if ended {
                Poll::Ready(None)
            } else {
                Poll::Pending
            }
        });
        tokio::select! {
            biased;
            frame = next => match frame {
                Some(frame) => Ok(frame),
                None => Err(self.closed().await),
            },
            closed = self.closed() => Err(closed),
        }
    }

    /// Closes the connection. The peer is told code and reason; frames under way are lost.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.0.line.close(code, reason);
    }

    /// Closes the connection and waits until the peer has been told. For programs that end right after.
    pub async fn finish(self, code: CloseCode, reason: &str) {
        self.close(code, reason);
        if let Some(endpoint) = &self.0.endpoint {
            endpoint.wait_idle().await;
        }
    }

    /// Waits for the end.
    pub async fn closed(&self) -> Closed {
        self.0.line.closed().await
    }

    pub(crate) fn why_closed(&self) -> Closed {
        self.0.line.end().unwrap_or_else(|| Closed {
            code: None,
            by_peer: false,
            reason: "the connection ends".into(),
        })
    }
}

/// Takes the lanes that the peer opens, each once.
async fn take_lanes(line: Arc<Line>, mut ends: Vec<Option<Ends>>) {
    while let Ok((send, recv)) = line.quinn.accept_bi().await {
        if let Err(what) = take_lane(&line, &mut ends, send, recv).await {
            return line.close(CloseCode::Violation, what);
        }
    }
}

async fn take_lane(
    line: &Arc<Line>,
    ends: &mut [Option<Ends>],
    send: SendStream,
    mut recv: RecvStream,
) -> Result<(), &'static str> {
    let mut code = [0];
    recv.read_exact(&mut code)
        .await
        .map_err(|_| "a stream without a lane")?;
    let lane = Lane::from_code(code[0]).ok_or("a lane that is none")?;
    let ends = ends.get_mut(lane.index()).and_then(Option::take);
    lanes::run(line, lane, send, recv, ends.ok_or("a lane a second time")?);
    Ok(())
}
