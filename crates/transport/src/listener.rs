//! The serving end: who may come in, and who must go.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ordonnans_identity::{Trust, Untrusted, Usage};
use ordonnans_label::Name;
use quinn::{Endpoint, EndpointConfig, Incoming, TokioRuntime};
use quinn_proto::HashedConnectionIdGenerator;
use tokio::sync::mpsc;

use crate::connection::{CloseCode, Connection, Inner};
use crate::identity::{Identity, InvalidIdentity};
use crate::refusals::{self, Refusals};
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

struct State {
    endpoint: Endpoint,
    limits: Limits,
    clock: Clock,
    live: Live,
    half_open: AtomicUsize,
    refused: AtomicU64,
    refusals: Refusals,
    trust: Mutex<Trust>,
}

/// Listens for peers.
pub struct Listener {
    state: Arc<State>,
    accepted: tokio::sync::Mutex<mpsc::Receiver<Connection>>,
    address: SocketAddr,
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
        let config = tls::server(identity, trust, &clock, &limits, KeyExchange::HybridFirst)?;
        let failed = |source| BindError::Address { address, source };
        let endpoint = open(identity, config, address).map_err(failed)?;
        let address = endpoint.local_addr().map_err(failed)?;
        let state = Arc::new(State {
            endpoint,
            limits,
            clock,
            live: Live::default(),
            half_open: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            refusals: Refusals::default(),
            trust: Mutex::new(trust.clone()),
        });
        let (hand, accepted) = mpsc::channel(ACCEPTED);
        tokio::spawn(door(Arc::clone(&state), hand));
        Ok(Self {
            state,
            accepted: accepted.into(),
            address,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next peer whose handshake is done and whose certificate is believed. `None` once closed. Cancel-safe.
    pub async fn accept(&self) -> Option<Connection> {
        self.accepted.lock().await.recv().await
    }

    #[cfg(test)]
    pub(crate) fn half_open(&self) -> usize {
        self.state.half_open.load(Ordering::Relaxed)
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
        let groups = KeyExchange::HybridFirst;
        let config = tls::server(identity, trust, &s.clock, &s.limits, groups)?;
        s.endpoint.set_server_config(Some(config));
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
        self.state.stop();
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
    let socket = UdpSocket::bind(address)?;
    Endpoint::new(endpoint, Some(config), socket, Arc::new(TokioRuntime))
}

impl State {
    fn trust(&self) -> std::sync::MutexGuard<'_, Trust> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        const WHY: &str = "the broker stops";
        for connection in self.live.all() {
            connection.close(CloseCode::Stopping, WHY);
        }
        let code = CloseCode::Stopping.on_the_wire();
        self.endpoint.close(code, WHY.as_bytes());
    }

    fn refuse(&self, why: &'static str) {
        self.refusals.add(why);
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// Live connections, to be found again when trust changes.
#[derive(Default)]
struct Live(Mutex<BTreeMap<u64, (IpAddr, Weak<Inner>)>>);

type Entries<'a> = MutexGuard<'a, BTreeMap<u64, (IpAddr, Weak<Inner>)>>;

impl Live {
    /// Takes a connection in, unless the total or its address is at its cap.
    fn admit(&self, connection: &Connection, limits: &Limits) -> bool {
        let address = connection.remote().ip();
        let mut live = self.lock();
        let room = has_room(&live, address, limits);
        if room {
            live.insert(connection.id(), (address, Arc::downgrade(&connection.0)));
        }
        room
    }

    fn has_room(&self, address: IpAddr, limits: &Limits) -> bool {
        has_room(&self.lock(), address, limits)
    }

    fn remove(&self, id: u64) {
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

/// Decides over each first packet before any work is done for it.
async fn door(state: Arc<State>, hand: mpsc::Sender<Connection>) {
    while let Some(incoming) = state.endpoint.accept().await {
        let half_open = state.half_open.load(Ordering::Relaxed);
        let busy = half_open >= state.limits.handshakes;
        // An address that is not validated may be forged; then the answer goes to somebody else and comes back no more.
        let incoming = if busy && !incoming.remote_address_validated() {
            match incoming.retry() {
                Ok(()) => continue,
                Err(e) => e.into_incoming(),
            }
        } else {
            incoming
        };
        // However many hold out half-open from addresses of their own, there are no more of them than of live connections.
        let crowded = half_open >= state.limits.handshakes + state.limits.connections;
        let address = incoming.remote_address().ip();
        if crowded || !state.live.has_room(address, &state.limits) {
            state.refuse(refusals::FULL);
            incoming.refuse();
            continue;
        }
        state.half_open.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(handshake(Arc::clone(&state), incoming, hand.clone()));
    }
}

async fn handshake(state: Arc<State>, incoming: Incoming, hand: mpsc::Sender<Connection>) {
    let quinn = tokio::time::timeout(state.limits.handshake_timeout, incoming).await;
    state.half_open.fetch_sub(1, Ordering::Relaxed);
    let quinn = match quinn {
        Ok(Ok(quinn)) => quinn,
        Ok(Err(e)) => return state.refuse(refusals::of(&e)),
        Err(_) => return state.refuse(refusals::SILENT),
    };
    let Some(connection) = Connection::serve(quinn) else {
        return state.refuse(refusals::FORM);
    };
    // Many handshakes may have begun while there was room for one.
    if !state.live.admit(&connection, &state.limits) {
        state.refuse(refusals::FULL);
        return connection.close(CloseCode::Full, "too many connections");
    }
    let (id, line) = (connection.id(), Arc::clone(&connection.0.line));
    match believe(&state, &connection) {
        Ok(()) => {
            if hand.send(connection).await.is_ok() {
                line.closed().await;
            }
        }
        Err(e) => {
            tracing::warn!(peer = %connection.peer().name(), why = %e, "refused after its handshake");
            state.refuse(e.reason());
            connection.close(CloseCode::NotBelieved, &e.to_string());
        }
    }
    state.live.remove(id);
}

/// What the handshake believed may have been taken back while it was under way. Under the lock, for a new trust looks at everyone only once: either
/// this is the new one, or that look comes after.
fn believe(state: &State, connection: &Connection) -> Result<(), Untrusted> {
    let trust = state.trust();
    let peer = trust.verify(connection.peer().der(), Usage::Client, (state.clock)())?;
    connection.believe(peer);
    Ok(())
}
