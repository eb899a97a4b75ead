//! A node's side: library, daemon and the program `ordonnans`.
//!
//! The daemon keeps the line to the broker, an outbox and an inbox; commands ask it over a Unix socket of mode 0600. A message handed in is
//! sealed, signed and synced in the outbox before its id is printed: from then on it is published until the broker has decided.
//! What arrives is verified and synced before its receipt leaves; content stays sealed on the disk.
//!
//! Holds always: an inbox has one copy of a message; a signed receipt is repeated until the broker has it.

mod acts;
pub mod address;
mod addressing;
mod answers;
mod audit;
mod backoff;
mod belief;
mod board;
mod cli;
mod commands;
pub mod config;
#[cfg(test)]
mod conversation;
mod daemon;
mod desk;
pub mod drafts;
mod epochs;
#[cfg(test)]
mod establishing;
pub mod exports;
pub mod failure;
mod forgetting;
#[cfg(test)]
mod handing_on;
#[cfg(test)]
mod house;
mod incoming;
#[cfg(test)]
mod keeping;
mod keys;
mod labels;
mod line;
pub mod local;
mod machine;
pub mod officer;
pub mod opening;
mod outgoing;
mod partners;
mod passing;
mod queues;
mod renewal;
mod renewing;
pub mod signing;
mod spool;
mod table;
mod transfer;
mod witness;

pub use cli::Cli;
pub use commands::run;
pub use daemon::Daemon;
