//! May it go there: numbered rules over label, clearance and register.
//!
//! Pure: the same values give the same verdict, and nothing here reads a clock or a file. The rules are numbered `POL-nn` in
//! `docs/policy.md`; refusals, audit records and tests cite the number. What is unknown, missing or contradictory is refused.
//!
//! Holds always: a [`Permit`] is made by [`decide`] alone.

mod decide;
mod register;
mod rules;

pub use decide::{Permit, Refusal, Statements, admit, decide};
pub use register::{
    Circle, InvalidRegister, NodeEntry, OfficerEntry, PersonEntry, Register, Standing,
};
pub use rules::{RULES, Rule, RuleId};
