//! The connecting end.

use std::borrow::Borrow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ordonnans_identity::{Trust, Usage};
use ordonnans_label::Name;

use crate::connection::Connection;
use crate::identity::{Identity, InvalidIdentity};
use crate::tls::{self, Clock, KeyExchange, Limits};

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
    /// The other end did not answer in time, or refused, or is not who it should be.
    #[error("no connection with {server}: {why}")]
    Unreachable {
        /// The address.
        server: SocketAddr,
        /// What the handshake says.
        why: String,
    },
}

/// Connects to a broker of this name. The options may be given or lent.
///
/// The broker checks our certificate **after** this returns (TLS 1.3): only its first frame shows that it accepted us. Until then
/// a refusal comes as [`crate::Closed`] from [`Connection::recv`], with the alert's text as reason.
///
/// # Errors
/// [`ConnectError`]; trying again later is up to the caller.
pub async fn connect(
    server: SocketAddr,
    name: &Name,
    identity: &Identity,
    trust: &Trust,
    options: impl Borrow<ClientOptions>,
) -> Result<Connection, ConnectError> {
    let ClientOptions {
        hybrid_only,
        limits,
        clock,
    } = options.borrow().clone();
    let groups = if hybrid_only {
        KeyExchange::HybridOnly
    } else {
        KeyExchange::HybridFirst
    };
    let config = tls::client(identity, trust, &clock, &limits, name, groups)?;
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
    let connection = Connection::open(quinn, endpoint)
        .await
        .map_err(|closed| unreachable(closed.reason))?;
    let peer = trust
        .verify(connection.peer().der(), Usage::Server, clock())
        .map_err(|e| unreachable(e.to_string()))?;
    connection.believe(peer);
    Ok(connection)
}
