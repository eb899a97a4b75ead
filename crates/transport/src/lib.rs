//! Who is on the line: QUIC (RFC 9000) with mutual TLS 1.3, and the same over TCP where UDP is blocked.
//!
//! Both ends show a certificate of the structure; [`ordonnans_identity::Trust`] decides, so a peer has exactly one name, a fitting key usage
//! and no revocation. No tickets and no 0-RTT: every connection is a full handshake, and nobody comes back past a revocation. The key
//! exchange is X25519MLKEM768 first.
//!
//! A connection has one stream for control and one for each precedence class, each in both directions, opened by the client and kept; a
//! frame is its length in four bytes, big-endian, and its bytes. What waits for a stream is written together. Attachments travel on
//! streams of their own that together never fill the connection's send window. Over TCP each lane and each attachment has a TCP connection,
//! and they are one session by a token (`docs/wire.md`, *Over TCP*); whoever holds a [`Connection`] need not know which it is.
//!
//! Holds always: [`Connection::peer`] was believed when the handshake ended, and [`Listener::reload`] closes whoever no longer is.
//!
//! Limits: rustls and QUIC are not nationally approved cryptography for classified information.

mod bulk;
mod client;
mod closed;
mod collector;
mod connection;
mod doors;
mod group;
#[cfg(test)]
mod handshakes;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hostile_tcp;
#[cfg(test)]
mod house;
mod identity;
mod lanes;
mod line;
mod listener;
mod quic;
mod refusals;
mod tcp;
mod tied;
mod tls;

pub use bulk::{BulkRecv, BulkSend};
pub use client::{ClientOptions, ConnectError, Server, connect, connect_classical};
pub use closed::{CloseCode, Closed, TrySend};
pub use collector::Collector;
pub use connection::Connection;
pub use identity::{Identity, InvalidIdentity};
pub use lanes::Lane;
pub use line::Carrier;
pub use listener::{BindError, Listen, Listener};
pub use tls::{Clock, Limits};
