//! One connection: who is at the other end, frames both ways, and how it ends.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use ordonnans_identity::Certificate;
use ordonnans_message::limits;
use quinn::crypto::rustls::HandshakeData;
use rustls::NamedGroup;
use rustls_pki_types::CertificateDer;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::bulk::BulkRecv;
use crate::closed::{CloseCode, Closed, TrySend};
use crate::lanes::{Lane, NotTaken, Queue, Queued, Queues};
use crate::line::{Carrier, Line};
use crate::quic::Quic;
use crate::tcp::{First, Parts, Tcp, Tls};
use crate::tls::{self, BULK_STREAMS, Limits};

/// Whom a handshake showed, and what it agreed upon.
pub(crate) struct Shown {
    certificate: Certificate,
    key_exchange: &'static str,
}

impl Shown {
    fn new(chain: &[CertificateDer<'_>], group: NamedGroup) -> Option<Self> {
        Some(Self {
            certificate: Certificate::parse_der(chain.first()?).ok()?,
            key_exchange: tls::group(group)?,
        })
    }

    fn of_quic(quinn: &quinn::Connection) -> Option<Self> {
        let chain = quinn.peer_identity()?;
        let chain = chain.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        let handshake = quinn.handshake_data()?.downcast::<HandshakeData>().ok()?;
        Self::new(&chain, handshake.negotiated_key_exchange_group)
    }

    pub(crate) fn of_tcp(tls: &Tls) -> Option<Self> {
        let (_, session) = tls.get_ref();
        let group = session.negotiated_key_exchange_group()?.name();
        Self::new(session.peer_certificates()?, group)
    }

    pub(crate) fn der(&self) -> &[u8] {
        self.certificate.der()
    }
}

pub(crate) struct Inner {
    pub(crate) line: Line,
    /// As the handshake brought it,
    shown: Shown,
    /// and as it was believed then.
    believed: OnceLock<Certificate>,
    id: u64,
    pub(crate) outgoing: Vec<Queue>,
    pub(crate) incoming: Mutex<Vec<mpsc::Receiver<Queued>>>,
    /// Lanes that are not read, by their index, and until when.
    held: std::sync::Mutex<BTreeMap<usize, Instant>>,
    pub(crate) bulk: Mutex<mpsc::Receiver<(Bytes, BulkRecv)>>,
    /// Places for attachments going out.
    pub(crate) places: Arc<Semaphore>,
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

/// What a connection is made of before there is a line, and what the line needs of it.
struct Made {
    outgoing: Vec<Queue>,
    incoming: Vec<mpsc::Receiver<Queued>>,
    bulk: mpsc::Receiver<(Bytes, BulkRecv)>,
    parts: Parts,
}

impl Made {
    fn new() -> Self {
        let queues = Queues::new();
        let (heads, bulk) = mpsc::channel(BULK_STREAMS as usize);
        let ends = queues.ends;
        Self {
            outgoing: queues.outgoing,
            incoming: queues.incoming,
            bulk,
            parts: Parts { ends, heads },
        }
    }
}

impl Connection {
    fn new(
        line: Line,
        shown: Shown,
        outgoing: Vec<Queue>,
        incoming: Vec<mpsc::Receiver<Queued>>,
        bulk: mpsc::Receiver<(Bytes, BulkRecv)>,
    ) -> Self {
        Self(Arc::new(Inner {
            line,
            shown,
            believed: OnceLock::new(),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            outgoing,
            incoming: incoming.into(),
            held: std::sync::Mutex::default(),
            bulk: bulk.into(),
            places: Arc::new(Semaphore::new(BULK_STREAMS as usize)),
        }))
    }

    /// The serving end over QUIC: the peer opens the lanes.
    pub(crate) fn serve(quinn: quinn::Connection) -> Option<Self> {
        let shown = Shown::of_quic(&quinn)?;
        let (made, quic) = (Made::new(), Quic::new(quinn, None));
        tokio::spawn(Arc::clone(&quic).take_bulk(made.parts.heads));
        tokio::spawn(Arc::clone(&quic).take_lanes(made.parts.ends));
        let line = Line::Quic(quic);
        Some(Self::new(
            line,
            shown,
            made.outgoing,
            made.incoming,
            made.bulk,
        ))
    }

    /// The end that opens the lanes, over QUIC.
    pub(crate) async fn open(
        quinn: quinn::Connection,
        endpoint: quinn::Endpoint,
    ) -> Result<Self, Closed> {
        let shown = Shown::of_quic(&quinn).ok_or_else(nobody)?;
        let (made, quic) = (Made::new(), Quic::new(quinn, Some(endpoint)));
        tokio::spawn(Arc::clone(&quic).take_bulk(made.parts.heads));
        quic.open_lanes(made.parts.ends).await?;
        let line = Line::Quic(quic);
        Ok(Self::new(
            line,
            shown,
            made.outgoing,
            made.incoming,
            made.bulk,
        ))
    }

    /// The serving end over TCP, and its session.
    pub(crate) fn serve_tcp(
        shown: Shown,
        remote: SocketAddr,
        limits: Limits,
    ) -> (Self, Arc<Tcp>, mpsc::Receiver<()>) {
        let made = Made::new();
        let certificate = shown.der().to_vec();
        let (tcp, questions) = Tcp::served(certificate, remote, limits, made.parts);
        let line = Line::Tcp(Arc::clone(&tcp));
        let connection = Self::new(line, shown, made.outgoing, made.incoming, made.bulk);
        (connection, tcp, questions)
    }

    /// The end that opens the connections, over TCP.
    pub(crate) async fn open_tcp(first: First, limits: Limits) -> Result<Self, Closed> {
        let shown = Shown::of_tcp(&first.tls).ok_or_else(nobody)?;
        let made = Made::new();
        let opened = first.open_lanes(limits, made.parts).await;
        let tcp = opened.map_err(|e| Closed::lost(e.to_string(), false))?;
        let line = Line::Tcp(tcp);
        Ok(Self::new(
            line,
            shown,
            made.outgoing,
            made.incoming,
            made.bulk,
        ))
    }

    /// Who is on the line, as believed when the handshake ended: its clearances are cut to what its authorities may give.
    #[must_use]
    pub fn peer(&self) -> &Certificate {
        self.0.believed.get().unwrap_or(&self.0.shown.certificate)
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
        self.0.shown.key_exchange
    }

    /// The cipher suite of this connection, by its name in RFC 8446 appendix B.4.
    #[must_use]
    pub fn cipher_suite(&self) -> &'static str {
        tls::SUITE_NAME
    }

    /// What carries it.
    #[must_use]
    pub fn carrier(&self) -> Carrier {
        self.0.line.carrier()
    }

    /// Carrier, key exchange and cipher suite in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let (carrier, group) = (self.carrier(), self.key_exchange());
        format!("{carrier} {group} {}", self.cipher_suite())
    }

    /// Where the peer is now; over QUIC it may move.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.0.line.remote()
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

    /// The next frame, of the first of [`Lane::URGENT_FIRST`] that has one and is not held. Frames of one lane come in their order. Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`], after every frame that was read before the end.
    pub async fn recv(&self) -> Result<(Lane, Bytes), Closed> {
        let mut incoming = self.0.incoming.lock().await;
        let mut again: Option<Pin<Box<Sleep>>> = None;
        let next = poll_fn(|cx| {
            loop {
                let held = self.held();
                let mut ended = held.is_empty();
                for lane in Lane::URGENT_FIRST {
                    if held.contains_key(&lane.index()) {
                        continue;
                    }
                    match incoming[lane.index()].poll_recv(cx) {
                        Poll::Ready(Some(queued)) => {
                            return Poll::Ready(Some((lane, queued.frame)));
                        }
                        Poll::Ready(None) => {}
                        Poll::Pending => ended = false,
                    }
                }
                if ended {
                    return Poll::Ready(None);
                }
                let Some(until) = held.values().min().copied() else {
                    return Poll::Pending;
                };
                let sleep = again.get_or_insert_with(|| Box::pin(sleep_until(until)));
                sleep.as_mut().reset(until);
                ready!(sleep.as_mut().poll(cx));
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

    /// Reads nothing from a lane for so long. Its queue fills, and then the peer cannot send: who says more than it may is held up itself, and nobody
    /// else. Held again, the later end counts.
    pub fn hold(&self, lane: Lane, for_so_long: Duration) {
        let until = Instant::now() + for_so_long;
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        let end = held.entry(lane.index()).or_insert(until);
        *end = until.max(*end);
    }

    /// The lanes that are not read, by their index, and until when; mostly none.
    fn held(&self) -> BTreeMap<usize, Instant> {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.is_empty() {
            let now = Instant::now();
            held.retain(|_, until| *until > now);
        }
        held.clone()
    }

    /// Closes the connection. The peer is told code and reason; frames under way are lost.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.0.line.close(code, reason);
    }

    /// Closes the connection and waits until the peer has been told. For programs that end right after.
    pub async fn finish(self, code: CloseCode, reason: &str) {
        self.close(code, reason);
        self.0.line.told().await;
    }

    /// Waits for the end.
    pub async fn closed(&self) -> Closed {
        self.0.line.closed().await
    }

    pub(crate) fn why_closed(&self) -> Closed {
        let end = self.0.line.end();
        end.unwrap_or_else(|| Closed::lost("the connection ends", false))
    }
}

fn nobody() -> Closed {
    Closed::lost("the handshake left no certificate", false)
}
