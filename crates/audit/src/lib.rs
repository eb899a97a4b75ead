//! The log that cannot be changed unseen.
//!
//! A record has a public part, which is a leaf of the tree, and a detail, which the public part only commits to. So a person cleared
//! for less can check that nothing is missing without reading what is above them, and a detail can be dropped at the end of its
//! retention while the tree stays provable.
//!
//! Hashing is RFC 9162 section 2.1.1; proofs are sections 2.1.3 and 2.1.4. Differs: a leaf is the public part of a record as
//! `docs/audit.md` writes it, not a certificate. Nothing here does I/O or reads a clock.
//!
//! Holds always: the size never falls, and one size has one root.

mod checkpoint;
pub mod export;
mod fork;
pub mod merkle;
pub mod proof;
mod quorum;
mod record;
pub mod siem;
pub mod tiles;
mod views;

pub use checkpoint::{Checkpoint, InvalidCheckpoint, InvalidVerifierKey, VerifierKey};
pub use fork::{Fork, Verdict};
pub use merkle::TreeHead;
pub use quorum::{InvalidQuorum, Quorum, Witnessed};
pub use record::{
    ClockQuality, Detail, Entry, InForce, MAX_NOTE_CHARS, Public, Record, Verb, answers,
};
pub use views::{Account, Copy};
