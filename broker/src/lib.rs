//! The broker of Ordonnans: one process, one data directory.
//!
//! One task owns the engine, one thread owns the store, and each peer has a session that reads and verifies before the engine hears of it.
//! Commits go to the store in groups, one sync each; what waits for a commit leaves when the store says it is durable.
//!
//! Holds always: an error of the store stops the broker. Log lines carry names, ids, rules and numbers, never content.

pub mod admin;
mod approvals;
mod checkpoints;
mod cli;
pub mod config;
mod core;
mod freshness;
mod renewals;
mod serve;
mod session;
mod sinks;
mod undecided;
mod uploads;
mod urgent;

pub use cli::run;
pub use serve::{Broker, ReloadError, StartError};
