//! The serving end: who may come in, and who must go.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ordonnans_identity::{Trust, Usage};
use ordonnans_label::Name;
use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use quinn_proto::HashedConnectionIdGenerator;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::closed::CloseCode;
use crate::connection::{Connection, Inner};
use crate::doors::{self, HalfOpen, Tokens};
use crate::identity::{Identity, InvalidIdentity};
use crate::line::Carrier;
use crate::quic::{on_the_wire, socket};
use crate::refusals::Refusals;
use crate::tls::{self, Clock, KeyExchange, Limits};

/// Accepted connections that wait to be taken.
const ACCEPTED: usize = 64;

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address.
    #[error("cannot listen on {address}: {source}")]
    Address {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The own certificate or key.
    #[error(transparent)]
    Identity(#[from] InvalidIdentity),
}

/// Where to listen, and whom to let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address and UDP port for QUIC.
    pub quic: SocketAddr,
    /// The address and TCP port for those whose UDP is blocked; nobody comes over TCP without it.
    pub tcp: Option<SocketAddr>,
    /// Refuse a peer whose key exchange is not hybrid.
    pub hybrid_only: bool,
}

impl From<SocketAddr> for Listen {
    /// QUIC alone, hybrid alone.
    fn from(quic: SocketAddr) -> Self {
        Self {
            quic,
            tcp: None,
            hybrid_only: true,
        }
    }
}

pub(crate) struct State {
    pub(crate) endpoint: Endpoint,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) live: Live,
    pub(crate) half_open: Arc<HalfOpen>,
    /// Of sessions over TCP.
    pub(crate) tokens: Tokens,
    /// Nobody comes over TCP any more.
    pub(crate) stopping: CancellationToken,
    groups: KeyExchange,
    tls: Mutex<Arc<rustls::ServerConfig>>,
    refused: AtomicU64,
    refusals: Refusals,
    trust: Mutex<Trust>,
}

/// Listens for peers.
pub struct Listener {
    state: Arc<State>,
    accepted: tokio::sync::Mutex<mpsc::Receiver<Connection>>,
    address: SocketAddr,
    tcp_address: Option<SocketAddr>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listener({})", self.address)
    }
}

impl Listener {
    /// Listens on a UDP address. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(
        address: SocketAddr,
        identity: &Identity,
        trust: &Trust,
        limits: Limits,
        clock: Clock,
    ) -> Result<Self, BindError> {
        Self::bind_all(address.into(), identity, trust, limits, clock)
    }

    /// The same for everything that [`Listen`] says.
    ///
    /// # Errors
    /// [`BindError`]; nothing listens.
    pub fn bind_all(
        listen: Listen,
        identity: &Identity,
        trust: &Trust,
        limits: Limits,
        clock: Clock,
    ) -> Result<Self, BindError> {
        let groups = KeyExchange::of(listen.hybrid_only);
        let tls = tls::server_tls(identity, trust, &clock, groups)?;
        let config = tls::server_quic(tls.clone(), &limits)?;
        let failed = |address| move |source| BindError::Address { address, source };
        let endpoint = open(identity, config, listen.quic).map_err(failed(listen.quic))?;
        let address = endpoint.local_addr().map_err(failed(listen.quic))?;
        let tcp = match listen.tcp {
            Some(address) => Some(open_tcp(address).map_err(failed(address))?),
            None => None,
        };
        let state = Arc::new(State {
            endpoint,
            limits,
            clock,
            live: Live::default(),
            half_open: Arc::default(),
            tokens: Tokens::default(),
            stopping: CancellationToken::new(),
            groups,
            tls: Mutex::new(Arc::new(tls)),
            refused: AtomicU64::new(0),
            refusals: Refusals::default(),
            trust: Mutex::new(trust.clone()),
        });
        let (hand, accepted) = mpsc::channel(ACCEPTED);
        tokio::spawn(doors::quic(Arc::clone(&state), hand.clone()));
        let mut tcp_address = None;
        if let Some((listener, address)) = tcp {
            tcp_address = Some(address);
            tokio::spawn(doors::tcp(Arc::clone(&state), listener, hand));
        }
        Ok(Self {
            state,
            accepted: accepted.into(),
            address,
            tcp_address,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for TCP, if it does.
    #[must_use]
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp_address
    }

    /// The next peer whose handshake is done and whose certificate is believed. `None` once closed. Cancel-safe.
    pub async fn accept(&self) -> Option<Connection> {
        self.accepted.lock().await.recv().await
    }

    #[cfg(test)]
    pub(crate) fn half_open(&self) -> usize {
        self.state.half_open.count()
    }

    /// Sessions over TCP whose token opens something.
    #[cfg(test)]
    pub(crate) fn sessions(&self) -> usize {
        self.state.tokens.count()
    }

    /// Handshakes refused so far: strangers, revoked peers, floods.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// How many handshakes were refused since this was last asked, and why, with how many of each: a fixed few reasons, in words of our own.
    #[must_use]
    pub fn refusals(&self) -> (u64, String) {
        self.state.refusals.take()
    }

    /// From now on handshakes use this certificate and this trust; live peers that are no longer believed are closed. Gives their names.
    ///
    /// # Errors
    /// [`InvalidIdentity`]: everything stays as it was.
    pub fn reload(&self, identity: &Identity, trust: &Trust) -> Result<Vec<Name>, InvalidIdentity> {
        let s = &self.state;
        let tls = tls::server_tls(identity, trust, &s.clock, s.groups)?;
        let config = tls::server_quic(tls.clone(), &s.limits)?;
        s.endpoint.set_server_config(Some(config));
        *s.tls.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(tls);
        *s.trust() = trust.clone();
        Ok(self.recheck())
    }

    /// Closes live peers that the present trust and time no longer believe: certificates expire while connected. So it does with those whose
    /// authorities may now give more or less than at their handshake; they come back as what they are now. Gives their names.
    #[must_use]
    pub fn recheck(&self) -> Vec<Name> {
        let (trust, now) = (self.state.trust().clone(), (self.state.clock)());
        let mut gone = vec![];
        for connection in self.state.live.all() {
            let why = match trust.verify(connection.peer().der(), Usage::Client, now) {
                Ok(peer) if connection.is_still(&peer) => continue,
                Ok(_) => "what the certificate gives has changed".to_owned(),
                Err(e) => e.to_string(),
            };
            tracing::warn!(peer = %connection.peer().name(), why, "cut off");
            connection.close(CloseCode::NotBelieved, &why);
            gone.push(connection.peer().name().clone());
        }
        gone
    }

    /// Closes everything and waits until the peers have been told.
    pub async fn close(&self) {
        let over_tcp = self.state.live.all();
        self.state.stop();
        for connection in over_tcp.into_iter().filter(|c| c.carrier() == Carrier::Tcp) {
            connection.0.line.told().await;
        }
        self.state.endpoint.wait_idle().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.state.stop();
    }
}

/// Opens the socket. Peers of a broker that was killed learn from its successor's stateless resets that their connection is gone, not
/// from the idle time-out: both derive the same keys.
fn open(
    identity: &Identity,
    config: quinn::ServerConfig,
    address: SocketAddr,
) -> std::io::Result<Endpoint> {
    let mut endpoint = EndpointConfig::new(Arc::new(identity.resets.clone()));
    let identifiers = identity.identifiers;
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(identifiers)));
    Endpoint::new(
        endpoint,
        Some(config),
        socket(address)?,
        Arc::new(TokioRuntime),
    )
}

fn open_tcp(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let socket = std::net::TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok((TcpListener::from_std(socket)?, address))
}

impl State {
    pub(crate) fn trust(&self) -> MutexGuard<'_, Trust> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What handshakes over TCP use now.
    pub(crate) fn tls(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.tls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn stop(&self) {
        const WHY: &str = "the broker stops";
        self.stopping.cancel();
        for connection in self.live.all() {
            connection.close(CloseCode::Stopping, WHY);
        }
        let code = on_the_wire(CloseCode::Stopping);
        self.endpoint.close(code, WHY.as_bytes());
    }

    pub(crate) fn refuse(&self, why: &'static str) {
        self.refusals.add(why);
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// Live connections, to be found again when trust changes.
#[derive(Default)]
pub(crate) struct Live(Mutex<BTreeMap<u64, (IpAddr, Weak<Inner>)>>);

type Entries<'a> = MutexGuard<'a, BTreeMap<u64, (IpAddr, Weak<Inner>)>>;

impl Live {
    /// Takes a connection in, unless the total or its address is at its cap.
    pub(crate) fn admit(&self, connection: &Connection, limits: &Limits) -> bool {
        let address = connection.remote().ip();
        let mut live = self.lock();
        let room = has_room(&live, address, limits);
        if room {
            live.insert(connection.id(), (address, Arc::downgrade(&connection.0)));
        }
        room
    }

    pub(crate) fn has_room(&self, address: IpAddr, limits: &Limits) -> bool {
        has_room(&self.lock(), address, limits)
    }

    pub(crate) fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }

    fn all(&self) -> Vec<Connection> {
        let live = self.lock();
        live.values()
            .filter_map(|(_, c)| c.upgrade().map(Connection))
            .collect()
    }

    fn lock(&self) -> Entries<'_> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_room(live: &Entries<'_>, address: IpAddr, limits: &Limits) -> bool {
    live.len() < limits.connections
        && live.values().filter(|(a, _)| *a == address).count() < limits.connections_per_address
}
