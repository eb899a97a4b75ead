//! The certificate workshop: a real local certificate authority for tests, exercises and small deployments.
//!
//! An offline root signs an issuing authority that can sign leaves and nothing else, and only for names of its own structure. Each has a
//! list of revoked certificates from the first day, because a chain without one is refused. The same code mints on disk and
//! in memory.

mod authorities;
mod cli;
mod enrolment;
mod holds;
mod mint;
mod publishing;
mod request;
mod rollover;
mod state;
mod workshop;

pub mod memory;

pub use cli::run;
pub use holds::Holds;
pub use mint::{Flaw, Issued, MintError, Validity};
pub use request::{Fingerprint, InvalidRequest, Request, renewing, request};
pub use state::{Entry, Held, Standing};
pub use workshop::{AuthorityKeys, NotRenewed, Renewed, Workshop, WorkshopError};
