//! The connecting end.

use std::borrow::Borrow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ordonnans_identity::{Trust, Usage};
use ordonnans_label::Name;
use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use rustls_pki_types::ServerName;

use crate::connection::Connection;
use crate::identity::{Identity, InvalidIdentity};
use crate::quic::socket;
use crate::tcp::First;
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

/// How long QUIC is tried before TCP is tried beside it. A handshake over QUIC takes one turn of the line where TCP takes three, so QUIC wins
/// where it comes through at all.
const HEAD_START: Duration = Duration::from_millis(300);

/// Where a broker listens, and over what it may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// QUIC alone.
    Quic(SocketAddr),
    /// TLS over TCP alone.
    Tcp(SocketAddr),
    /// QUIC first; TCP where QUIC does not come up.
    Either {
        /// UDP.
        quic: SocketAddr,
        /// TCP.
        tcp: SocketAddr,
    },
}

impl From<SocketAddr> for Server {
    fn from(quic: SocketAddr) -> Self {
        Self::Quic(quic)
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

/// Connects to a broker of this name. Options may be given or lent.
///
/// Over QUIC the broker checks our certificate **after** this returns (TLS 1.3): only its first frame shows that it accepted us. Until then
/// a refusal comes as [`crate::Closed`] from [`Connection::recv`], with the alert's text as reason. Over TCP it has accepted us by then.
///
/// # Errors
/// [`ConnectError`]; trying again later is up to the caller.
pub async fn connect(
    server: impl Into<Server>,
    name: &Name,
    identity: &Identity,
    trust: &Trust,
    options: impl Borrow<ClientOptions>,
) -> Result<Connection, ConnectError> {
    let way = Way {
        name,
        identity,
        trust,
        options: options.borrow(),
        groups: KeyExchange::of(options.borrow().hybrid_only),
    };
    match server.into() {
        Server::Quic(quic) => way.quic(quic).await,
        Server::Tcp(tcp) => way.tcp(tcp).await,
        Server::Either { quic, tcp } => way.either(quic, tcp).await,
    }
}

/// Connects over QUIC as an end that does not know the hybrid key exchange: to measure what that costs, beside one that does. A broker that is not told
/// otherwise refuses it ([`crate::Listen::hybrid_only`]). What the options say of the key exchange is not looked at.
///
/// # Errors
/// As [`connect`].
pub async fn connect_classical(
    quic: SocketAddr,
    name: &Name,
    identity: &Identity,
    trust: &Trust,
    options: &ClientOptions,
) -> Result<Connection, ConnectError> {
    let way = Way {
        name,
        identity,
        trust,
        options,
        groups: KeyExchange::Classical,
    };
    way.quic(quic).await
}

/// Whom to reach, and as whom.
struct Way<'a> {
    name: &'a Name,
    identity: &'a Identity,
    trust: &'a Trust,
    options: &'a ClientOptions,
    groups: KeyExchange,
}

impl Way<'_> {
    /// Whichever is there first; where neither is, both say why.
    async fn either(&self, quic: SocketAddr, tcp: SocketAddr) -> Result<Connection, ConnectError> {
        let (first, second) = (self.quic(quic), self.tcp(tcp));
        tokio::pin!(first, second);
        let early = tokio::time::timeout(HEAD_START, &mut first).await;
        let failed = match early {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(e)) => Some(e),
            Err(_) => None,
        };
        let (over_quic, over_tcp) = match failed {
            Some(e) => (e, second.await),
            None => tokio::select! {
                quic = &mut first => match quic {
                    Ok(connection) => return Ok(connection),
                    Err(e) => (e, second.await),
                },
                tcp = &mut second => match tcp {
                    Ok(connection) => return Ok(connection),
                    Err(e) => match first.await {
                        Ok(connection) => return Ok(connection),
                        Err(over_quic) => (over_quic, Err(e)),
                    },
                },
            },
        };
        over_tcp.map_err(|e| ConnectError::Unreachable {
            server: quic,
            why: format!("{over_quic}; and over TCP, {e}"),
        })
    }

    fn tls(&self) -> Result<rustls::ClientConfig, InvalidIdentity> {
        let clock = &self.options.clock;
        tls::client_tls(self.identity, self.trust, clock, self.name, self.groups)
    }

    /// Believes the broker, as the handshake did.
    fn believe(
        &self,
        server: SocketAddr,
        connection: Connection,
    ) -> Result<Connection, ConnectError> {
        let shown = connection.peer().der();
        let now = (self.options.clock)();
        let peer = self.trust.verify(shown, Usage::Server, now);
        connection.believe(peer.map_err(|e| unreachable(server, e))?);
        Ok(connection)
    }

    async fn quic(&self, server: SocketAddr) -> Result<Connection, ConnectError> {
        let limits = &self.options.limits;
        let config = tls::client_quic(self.tls()?, limits)?;
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            None,
            socket((any, 0).into())?,
            Arc::new(TokioRuntime),
        )?;
        let connecting = endpoint
            .connect_with(config, server, self.name.as_str())
            .map_err(|e| unreachable(server, e))?;
        let quinn = tokio::time::timeout(limits.handshake_timeout, connecting)
            .await
            .map_err(|_| unreachable(server, "no answer"))?
            .map_err(|e| unreachable(server, e))?;
        let opened = Connection::open(quinn, endpoint).await;
        let connection = opened.map_err(|closed| unreachable(server, closed.reason))?;
        self.believe(server, connection)
    }

    async fn tcp(&self, server: SocketAddr) -> Result<Connection, ConnectError> {
        let limits = self.options.limits;
        let name = ServerName::try_from(self.name.as_str().to_owned());
        let name = name.map_err(|e| unreachable(server, e))?;
        let first = First::dial(server, self.tls()?, name, &limits).await;
        let first = first.map_err(|e| unreachable(server, e))?;
        let opened = Connection::open_tcp(first, limits).await;
        let connection = opened.map_err(|closed| unreachable(server, closed.reason))?;
        self.believe(server, connection)
    }
}

fn unreachable(server: SocketAddr, why: impl ToString) -> ConnectError {
    let why = why.to_string();
    ConnectError::Unreachable { server, why }
}
