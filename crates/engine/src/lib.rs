//! What happens next: the state machine of the broker.
//!
//! [`Engine::handle`] takes an input and a time; what must happen comes out as [`Effect`]s. The engine does no I/O, reads no clock and draws
//! its random bytes from what it was given, so a run repeats from its seed. Each input makes at most one [`Commit`]: rows, audit records
//! and the new tree head together.
//!
//! Holds always:
//! - no effect leaves before the commit that records it is durable ([`Engine::durable_through`]);
//! - nothing is delivered without a permit of [`ordonnans_policy::decide`] given in the same breath;
//! - every yes and no is an audit record;
//! - every queue and table has a bound in [`Settings`] or below.

mod alarms;
mod asking;
mod commit;
mod delivery;
mod directory;
mod due;
mod effects;
mod engine;
mod few;
mod groups;
mod incidents;
mod inspecting;
mod labels;
mod ledger;
mod mailbox;
mod notices;
mod passing;
mod publish;
mod quotas;
mod receipts;
mod renewals;
mod retention;
mod rows;
mod sessions;
mod unclaimed;

pub use alarms::AlarmLimits;
pub use commit::{Commit, Seq, Table, Write};
pub use effects::{Believed, Effect, Input, Inspect, Why};
pub use engine::{Engine, Recovered, Row, Rows, Settings};
pub use quotas::Quotas;
pub use retention::Retention;
pub use rows::CorruptRow;
pub use sessions::Session;
