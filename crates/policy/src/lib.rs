//! May it go there: numbered rules over label, clearance and register.
//!
//! Pure: the same values give the same verdict, and nothing here reads a clock or a file. The rules are numbered `POL-nn` in
//! `docs/policy.md`; refusals, audit records and tests cite the number. What is unknown, missing or contradictory is refused.
//!
//! Holds always: a [`Permit`] is made by [`decide`] alone.

mod book;
mod catalog;
mod decide;
mod explain;
mod passing;
mod register;
mod rules;

pub use book::Book;
pub use catalog::{MAX_CATALOG, catalog};
pub use decide::{Grounds, Permit, Question, Refusal, Statements, admit, decide, may_establish};
pub use explain::{Step, Verdict, explain};
pub use passing::{InForce, Parent, Passed};
pub use register::{
    Approved, Change, Circle, Consent, Event, Grant, InvalidRegister, Link, List, MAX_REGISTER,
    Mandate, Memberships, NodeEntry, OfficerEntry, PersonEntry, Register, Role, Span, Standing,
    Unapproved,
};
pub use rules::{RULES, Rule, RuleId};
