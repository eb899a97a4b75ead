//! What a connection is carried by: QUIC, or TLS over TCP where UDP is blocked. Whoever holds a connection need not know which.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::bulk::Sending;
use crate::closed::{CloseCode, Closed};
use crate::quic::Quic;
use crate::tcp::Tcp;

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// QUIC over UDP (RFC 9000): a stream for each lane.
    Quic,
    /// TLS 1.3 over TCP: a connection for each lane.
    Tcp,
}

impl Carrier {
    /// `quic` or `tcp`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The way to the other end.
#[derive(Clone)]
pub(crate) enum Line {
    Quic(Arc<Quic>),
    Tcp(Arc<Tcp>),
}

impl Line {
    pub(crate) fn carrier(&self) -> Carrier {
        match self {
            Self::Quic(_) => Carrier::Quic,
            Self::Tcp(_) => Carrier::Tcp,
        }
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        match self {
            Self::Quic(q) => q.quinn.remote_address(),
            Self::Tcp(t) => t.remote(),
        }
    }

    /// Closes it; what was said first counts.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        match self {
            Self::Quic(q) => q.close(code, reason),
            Self::Tcp(t) => t.close(Closed::ours(code, reason)),
        }
    }

    /// Waits for the end.
    pub(crate) async fn closed(&self) -> Closed {
        match self {
            Self::Quic(q) => q.closed().await,
            Self::Tcp(t) => t.closed().await,
        }
    }

    /// Why it is closed, if it is.
    pub(crate) fn end(&self) -> Option<Closed> {
        match self {
            Self::Quic(q) => q.end(),
            Self::Tcp(t) => t.end(),
        }
    }

    /// Waits until the peer has been told of the end, for as long as that may take.
    pub(crate) async fn told(&self) {
        match self {
            Self::Quic(q) => q.told().await,
            Self::Tcp(t) => t.told().await,
        }
    }

    /// A way for an attachment, with its head written. `Err` where the connection ends.
    pub(crate) async fn open_bulk(&self, head: &[u8]) -> Result<Sending, ()> {
        match self {
            Self::Quic(q) => q.open_bulk(head).await.map(Sending::Quic),
            Self::Tcp(t) => t.open_bulk(head).await.map(|s| Sending::Tcp(Box::new(s))),
        }
    }
}
