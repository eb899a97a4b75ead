//! One connection: lanes of frames.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::{Bytes, BytesMut};
use ordonnans_identity::{Certificate, Trust};
use ordonnans_label::Name;
use ordonnans_message::{Precedence, limits};
use quinn::crypto::rustls::HandshakeData;
use quinn::{ConnectionError, RecvStream, SendStream, VarInt};
use rustls::NamedGroup;
use rustls_pki_types::CertificateDer;
use tokio::sync::{Semaphore, mpsc};

use crate::tls::{self, BULK_STREAMS, Clock, Identity, InvalidIdentity, LANES, Limits};

/// Frames that wait for a lane before a sender waits for it.
const OUTGOING: usize = 256;
/// Frames that were read and wait to be taken. Then reading stops, and with it the peer.
const INCOMING: usize = 16;
/// Frames written at once.
const TOGETHER: usize = 64;

/// A stream of frames. What is urgent has its own, so it never waits behind what is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Everything but messages.
    Control,
    /// Messages of one class.
    Class(Precedence),
}

impl Lane {
    fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Control).chain(Precedence::ALL.into_iter().map(Self::Class))
    }

    /// The first byte of its stream.
    fn code(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Class(p) => 1 + p.code(),
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::all().find(|l| l.code() == code)
    }

    fn index(self) -> usize {
        usize::from(self.code())
    }

    /// Control is small and goes first.
    fn priority(self) -> i32 {
        match self {
            Self::Control => 10,
            Self::Class(p) => i32::from(p.code()),
        }
    }
}

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
}

/// The connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed: {reason}")]
pub struct Closed {
    /// What the end that closed it said, where it is one of ours.
    pub code: Option<CloseCode>,
    /// Whether the other end closed it.
    pub by_peer: bool,
    /// In words.
    pub reason: String,
}

impl Closed {
    pub(crate) fn of(e: &ConnectionError) -> Self {
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
pub enum Busy {
    /// The lane's queue is full: the peer reads too slowly.
    #[error("the peer reads too slowly")]
    Full,
    /// The connection.
    #[error(transparent)]
    Closed(#[from] Closed),
}

pub(crate) struct Inner {
    quinn: quinn::Connection,
    peer: Certificate,
    key_exchange: &'static str,
    id: u64,
    outgoing: Vec<mpsc::Sender<Bytes>>,
    incoming: tokio::sync::Mutex<mpsc::Receiver<(Lane, Bytes)>>,
    bulk: Arc<Semaphore>,
    /// A client's own endpoint lives as long as its connection.
    endpoint: Option<quinn::Endpoint>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.quinn
            .close(VarInt::from_u32(CloseCode::Done as u32), b"done");
    }
}

/// A connection with a believed peer. Clones are the same connection; it is closed when the last is dropped.
#[derive(Clone)]
pub struct Connection(pub(crate) Arc<Inner>);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({}, {})", self.0.id, self.0.peer.name())
    }
}

/// The ends of the lanes' queues that the tasks hold.
struct Queues {
    outgoing: Vec<Option<mpsc::Receiver<Bytes>>>,
    incoming: mpsc::Sender<(Lane, Bytes)>,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Connection {
    fn new(quinn: quinn::Connection, endpoint: Option<quinn::Endpoint>) -> Option<(Self, Queues)> {
        let chain = quinn
            .peer_identity()?
            .downcast::<Vec<CertificateDer<'static>>>()
            .ok()?;
        let peer = Certificate::parse_der(chain.first()?).ok()?;
        let handshake = quinn.handshake_data()?.downcast::<HandshakeData>().ok()?;
        let key_exchange = match handshake.negotiated_key_exchange_group {
            NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
            NamedGroup::X25519 => "X25519",
            _ => "other",
        };
        let (outgoing, taken): (Vec<_>, Vec<_>) = (0..LANES)
            .map(|_| mpsc::channel(OUTGOING))
            .map(|(tx, rx)| (tx, Some(rx)))
            .unzip();
        let (read, incoming) = mpsc::channel(INCOMING);
        let inner = Inner {
            quinn,
            peer,
            key_exchange,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            outgoing,
            incoming: incoming.into(),
            bulk: Arc::new(Semaphore::new(BULK_STREAMS as usize)),
            endpoint,
        };
        let queues = Queues {
            outgoing: taken,
            incoming: read,
        };
        Some((Self(Arc::new(inner)), queues))
    }

    /// The serving end: the peer opens the lanes.
    pub(crate) fn serve(quinn: quinn::Connection) -> Option<Self> {
        let (connection, mut queues) = Self::new(quinn.clone(), None)?;
        tokio::spawn(async move {
            while let Ok((send, mut recv)) = quinn.accept_bi().await {
                let mut code = [0];
                if recv.read_exact(&mut code).await.is_err() {
                    continue;
                }
                let lane = Lane::from_code(code[0])
                    .and_then(|l| Some((l, queues.outgoing.get_mut(l.index())?.take()?)));
                let Some((lane, out)) = lane else {
                    violation(&quinn, "a lane that is none, or a second time");
                    return;
                };
                run(&quinn, lane, send, recv, out, queues.incoming.clone());
            }
        });
        Some(connection)
    }

    /// Who is on the line, as of the handshake.
    #[must_use]
    pub fn peer(&self) -> &Certificate {
        &self.0.peer
    }

    /// The key exchange of this connection: `X25519MLKEM768` or `X25519`.
    #[must_use]
    pub fn key_exchange(&self) -> &'static str {
        self.0.key_exchange
    }

    /// Where the peer is now; it may move.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.0.quinn.remote_address()
    }

    /// A number no other connection of this process has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Sends a frame; waits where the lane's queue is full. When it returns the frame is on its way, not there.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn send(&self, lane: Lane, frame: Bytes) -> Result<(), Closed> {
        let sent = self.0.outgoing[lane.index()].send(frame).await;
        sent.map_err(|_| self.why_closed())
    }

    /// Sends a frame, or says at once that it cannot.
    ///
    /// # Errors
    /// [`Busy::Full`]: nothing was sent; [`Busy::Closed`].
    pub fn try_send(&self, lane: Lane, frame: Bytes) -> Result<(), Busy> {
        self.0.outgoing[lane.index()]
            .try_send(frame)
            .map_err(|e| match e {
                mpsc::error::TrySendError::Full(_) => Busy::Full,
                mpsc::error::TrySendError::Closed(_) => Busy::Closed(self.why_closed()),
            })
    }

    /// The next frame of any lane. Frames of one lane come in their order. Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn recv(&self) -> Result<(Lane, Bytes), Closed> {
        let mut incoming = self.0.incoming.lock().await;
        tokio::select! {
            biased;
            frame = incoming.recv() => match frame {
                Some(frame) => Ok(frame),
                None => Err(Closed::of(&self.0.quinn.closed().await)),
            },
            e = self.0.quinn.closed() => Err(Closed::of(&e)),
        }
    }

    /// Closes the connection. The peer is told code and reason.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.0
            .quinn
            .close(VarInt::from_u32(code as u32), reason.as_bytes());
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
        Closed::of(&self.0.quinn.closed().await)
    }

    pub(crate) fn quinn(&self) -> &quinn::Connection {
        &self.0.quinn
    }

    pub(crate) fn places(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.bulk)
    }

    pub(crate) fn why_closed(&self) -> Closed {
        match self.0.quinn.close_reason() {
            Some(e) => Closed::of(&e),
            None => Closed {
                code: None,
                by_peer: true,
                reason: "the peer closed a stream".into(),
            },
        }
    }
}

fn violation(quinn: &quinn::Connection, reason: &str) {
    quinn.close(
        VarInt::from_u32(CloseCode::Violation as u32),
        reason.as_bytes(),
    );
}

/// Runs both directions of a lane. They end with the connection.
fn run(
    quinn: &quinn::Connection,
    lane: Lane,
    send: SendStream,
    recv: RecvStream,
    out: mpsc::Receiver<Bytes>,
    incoming: mpsc::Sender<(Lane, Bytes)>,
) {
    // The stream may have been reset already; then writing ends at once.
    let _ = send.set_priority(lane.priority());
    tokio::spawn(write(send, out));
    tokio::spawn(read(quinn.clone(), lane, recv, incoming));
}

/// Writes what waits, all of it at once.
async fn write(mut send: SendStream, mut out: mpsc::Receiver<Bytes>) {
    let (mut frames, mut chunks) = (vec![], vec![]);
    while out.recv_many(&mut frames, TOGETHER).await > 0 {
        for frame in frames.drain(..) {
            let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            chunks.push(Bytes::copy_from_slice(&length.to_be_bytes()));
            chunks.push(frame);
        }
        if send.write_all_chunks(&mut chunks).await.is_err() {
            return;
        }
        chunks.clear();
    }
}

/// Reads frames until the stream or the connection ends. Memory grows with what came, not with what was announced.
async fn read(
    quinn: quinn::Connection,
    lane: Lane,
    mut recv: RecvStream,
    incoming: mpsc::Sender<(Lane, Bytes)>,
) {
    loop {
        let mut length = [0; 4];
        if recv.read_exact(&mut length).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > limits::MAX_FRAME {
            violation(&quinn, "a frame above its limit");
            return;
        }
        let mut frame = BytesMut::new();
        while frame.len() < length {
            match recv.read_chunk(length - frame.len(), true).await {
                Ok(Some(chunk)) => frame.extend_from_slice(&chunk.bytes),
                _ => return,
            }
        }
        if incoming.send((lane, frame.freeze())).await.is_err() {
            return;
        }
    }
}

/// How a client connects.
#[derive(Clone)]
pub struct ClientOptions {
    /// Refuse a connection whose key exchange is not hybrid.
    pub hybrid_only: bool,
    /// Time-outs; the caps on numbers do not concern a client.
    pub limits: Limits,
    /// The time.
    pub clock: Clock,
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientOptions(hybrid only: {})", self.hybrid_only)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Our own certificate or key.
    #[error(transparent)]
    Identity(#[from] InvalidIdentity),
    /// No socket.
    #[error("no socket could be opened: {0}")]
    Socket(#[from] std::io::Error),
    /// The other end did not answer in time, or refused.
    #[error("no connection with {server}: {why}")]
    Unreachable {
        /// The address.
        server: SocketAddr,
        /// What the handshake says.
        why: String,
    },
}

/// Connects to a broker. The broker checks our certificate **after** this returns: only its first frame shows that it accepted us.
///
/// # Errors
/// [`ConnectError`]; trying again later is up to the caller.
pub async fn connect(
    server: SocketAddr,
    name: &Name,
    identity: &Identity,
    trust: &Trust,
    options: &ClientOptions,
) -> Result<Connection, ConnectError> {
    let limits = &options.limits;
    let config = tls::client(
        identity,
        trust,
        &options.clock,
        limits,
        name,
        options.hybrid_only,
    )?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let endpoint = quinn::Endpoint::client((any, 0).into())?;
    let unreachable = |why: String| ConnectError::Unreachable { server, why };
    let connecting = endpoint
        .connect_with(config, server, name.as_str())
        .map_err(|e| unreachable(e.to_string()))?;
    let quinn = tokio::time::timeout(limits.handshake_timeout, connecting)
        .await
        .map_err(|_| unreachable("no answer".into()))?
        .map_err(|e| unreachable(e.to_string()))?;
    let (connection, mut queues) = Connection::new(quinn.clone(), Some(endpoint))
        .ok_or_else(|| unreachable("the broker has no certificate".into()))?;
    for lane in Lane::all() {
        let (mut send, recv) = quinn
            .open_bi()
            .await
            .map_err(|e| unreachable(e.to_string()))?;
        send.write_all(&[lane.code()])
            .await
            .map_err(|e| unreachable(e.to_string()))?;
        let out = queues.outgoing.get_mut(lane.index()).and_then(Option::take);
        if let Some(out) = out {
            run(&quinn, lane, send, recv, out, queues.incoming.clone());
        }
    }
    Ok(connection)
}

type Entries = BTreeMap<u64, (IpAddr, Weak<Inner>)>;

/// Live connections of a listener, to be found again when trust changes.
#[derive(Default)]
pub(crate) struct Live(Mutex<Entries>);

impl Live {
    pub(crate) fn insert(&self, connection: &Connection) {
        let entry = (connection.remote().ip(), Arc::downgrade(&connection.0));
        self.lock().insert(connection.id(), entry);
    }

    pub(crate) fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }

    pub(crate) fn total(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn from(&self, address: IpAddr) -> usize {
        self.lock().values().filter(|(a, _)| *a == address).count()
    }

    pub(crate) fn all(&self) -> Vec<Connection> {
        let live = self.lock();
        live.values()
            .filter_map(|(_, c)| c.upgrade().map(Connection))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
