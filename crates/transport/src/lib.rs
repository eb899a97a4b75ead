//! Who is on the line: QUIC (RFC 9000) with mutual TLS 1.3.
//!
//! Both ends show a certificate of the structure; [`ordonnans_identity::Trust`] decides, so a peer has exactly one name, a fitting key usage
//! and no revocation. No tickets and no 0-RTT: every connection is a full handshake, and nobody comes back past a revocation. The key
//! exchange is X25519MLKEM768 first.
//!
//! A connection has one stream for control and one for each precedence class, each in both directions, opened by the client and kept; a
//! frame is its length in four bytes, big-endian, and its bytes. What waits for a stream is written together. Attachments travel on
//! streams of their own that together never fill the connection's send window.
//!
//! Holds always: [`Connection::peer`] was believed when the handshake ended, and [`Listener::reload`] closes whoever no longer is.
//!
//! Limits: rustls and QUIC are not nationally approved cryptography for classified information.

mod bulk;
mod client;
mod collector;
mod connection;
mod group;
#[cfg(test)]
mod handshakes;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod house;
mod identity;
mod lanes;
mod listener;
mod refusals;
mod tls;

pub use bulk::{BulkRecv, BulkSend};
pub use client::{ClientOptions, ConnectError, connect};
pub use collector::Collector;
pub use connection::{CloseCode, Closed, Connection, TrySend};
pub use identity::{Identity, InvalidIdentity};
pub use lanes::Lane;
pub use listener::{BindError, Listener};
pub use tls::{Clock, Limits};
