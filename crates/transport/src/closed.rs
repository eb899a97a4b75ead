//! How a connection ends, and what its ends are told.

use quinn::ConnectionError;

/// Why one end closed a connection, as the other is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
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
    pub(crate) fn from_code(code: u64) -> Option<Self> {
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
    /// What the end that closed it said, where it is one of ours. `None` where the line broke, TLS ended it, or this end heard of it too
    /// late and was told by a reset (RFC 9000 section 10.3).
    pub code: Option<CloseCode>,
    /// Whether the other end closed it.
    pub by_peer: bool,
    /// In words.
    pub reason: String,
}

impl Closed {
    /// This end closes it.
    pub(crate) fn ours(code: CloseCode, reason: &str) -> Self {
        Self {
            code: Some(code),
            by_peer: false,
            reason: reason.into(),
        }
    }

    /// Nobody said why.
    pub(crate) fn lost(reason: impl Into<String>, by_peer: bool) -> Self {
        Self {
            code: None,
            by_peer,
            reason: reason.into(),
        }
    }
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
