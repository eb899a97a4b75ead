//! A whole crisis structure on one machine: certificate authority, broker, nodes as processes of their own, driven by a scenario and judged
//! by a rule of its own.

mod address;
mod control;
mod documents;
mod inspection;
pub mod judge;
mod line;
mod passing;
mod play;
mod program;
pub mod report;
pub mod scenario;
mod scenes;
mod structure;

pub use address::own_address;
pub use program::run;
