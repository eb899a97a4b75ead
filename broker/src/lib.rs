//! The broker of Ordonnans.
//!
//! What stands here so far: the configuration and the local status socket. What serves nodes is not here yet.

pub mod admin;
pub mod config;
