//! The serving end: who may come in, and who must go.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ordonnans_identity::{Trust, Usage};
use ordonnans_label::Name;
use quinn::{Endpoint, Incoming, VarInt};
use tokio::sync::mpsc;

use crate::connection::{CloseCode, Connection, Live};
use crate::tls::{self, Clock, Identity, InvalidIdentity, Limits};

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
        let config = tls::server(identity, trust, &clock, &limits)?;
        let failed = |source| BindError::Address { address, source };
        let endpoint = Endpoint::server(config, address).map_err(failed)?;
        let address = endpoint.local_addr().map_err(failed)?;
        let state = Arc::new(State {
            endpoint,
            limits,
            clock,
            live: Live::default(),
            half_open: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
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

    /// Handshakes refused so far: strangers, revoked peers, floods.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// From now on handshakes use this certificate and this trust; live peers that are no longer believed are closed. Gives their names.
    ///
    /// # Errors
    /// [`InvalidIdentity`]: everything stays as it was.
    pub fn reload(&self, identity: &Identity, trust: &Trust) -> Result<Vec<Name>, InvalidIdentity> {
        let s = &self.state;
        let config = tls::server(identity, trust, &s.clock, &s.limits)?;
        s.endpoint.set_server_config(Some(config));
        *s.trust() = trust.clone();
        Ok(self.recheck())
    }

    /// Closes live peers that the present trust and time no longer believe: certificates expire while connected. Gives their names.
    #[must_use]
    pub fn recheck(&self) -> Vec<Name> {
        let (trust, now) = (self.state.trust().clone(), (self.state.clock)());
        let mut gone = vec![];
        for connection in self.state.live.all() {
            if let Err(e) = trust.verify(connection.peer().der(), Usage::Client, now) {
                connection.close(CloseCode::NotBelieved, &e.to_string());
                gone.push(connection.peer().name().clone());
            }
        }
        gone
    }

    /// Closes everything and waits until the peers have been told.
    pub async fn close(&self) {
        self.state.endpoint.close(
            VarInt::from_u32(CloseCode::Stopping as u32),
            b"the broker stops",
        );
        self.state.endpoint.wait_idle().await;
    }
}

impl State {
    fn trust(&self) -> std::sync::MutexGuard<'_, Trust> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full(&self, address: IpAddr) -> bool {
        let l = &self.limits;
        self.live.total() + self.half_open.load(Ordering::Relaxed) >= l.connections + l.handshakes
            || self.live.total() >= l.connections
            || self.live.from(address) >= l.connections_per_address
    }
}

/// Decides over each first packet before any work is done for it.
async fn door(state: Arc<State>, hand: mpsc::Sender<Connection>) {
    while let Some(incoming) = state.endpoint.accept().await {
        let half_open = state.half_open.load(Ordering::Relaxed);
        let refuse = |incoming: Incoming| {
            state.refused.fetch_add(1, Ordering::Relaxed);
            incoming.refuse();
        };
        if !incoming.remote_address_validated() && half_open >= state.limits.handshakes {
            if let Err(e) = incoming.retry() {
                refuse(e.into_incoming());
            }
            continue;
        }
        // Only a validated address can be counted; one that is not may be forged.
        if state.full(incoming.remote_address().ip()) {
            refuse(incoming);
            continue;
        }
        state.half_open.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(handshake(Arc::clone(&state), incoming, hand.clone()));
    }
}

async fn handshake(state: Arc<State>, incoming: Incoming, hand: mpsc::Sender<Connection>) {
    let done = async { incoming.await.ok() };
    let quinn = tokio::time::timeout(state.limits.handshake_timeout, done).await;
    state.half_open.fetch_sub(1, Ordering::Relaxed);
    let connection = quinn.ok().flatten().and_then(Connection::serve);
    let Some(connection) = connection else {
        state.refused.fetch_add(1, Ordering::Relaxed);
        return;
    };
    state.live.insert(&connection);
    let (id, quinn) = (connection.id(), connection.quinn().clone());
    // What the handshake believed may have been taken back while it was under way.
    let believed = {
        let trust = state.trust().clone();
        trust.verify(connection.peer().der(), Usage::Client, (state.clock)())
    };
    match believed {
        Ok(_) => {
            if hand.send(connection).await.is_ok() {
                quinn.closed().await;
            }
        }
        Err(e) => {
            state.refused.fetch_add(1, Ordering::Relaxed);
            connection.close(CloseCode::NotBelieved, &e.to_string());
        }
    }
    state.live.remove(id);
}
