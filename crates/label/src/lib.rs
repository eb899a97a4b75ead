//! Who may read: names, confidentiality labels and clearances.
//!
//! The model follows STANAG 4774 (a policy, a classification, categories that are restrictive, permissive or informative)
//! filled with the Dutch policy of VIRBI 2025. A label carries two more things that Dutch law asks for and 4774 has no
//! field for: a duration that may be an *event*, and whether the label is *proposed* or *established*.
//!
//! Nothing here does I/O or reads a clock.
//!
//! Holds always: two labels have a join and a meet within one policy, and [`Confidentiality::flows_to`] is the order of that
//! lattice. An empty permissive set is nobody.

mod classification;
mod clearance;
mod confidentiality;
mod date;
mod label;
mod level;
mod name;
mod policies;
mod policy;
mod portion;

pub use classification::Classification;
pub use clearance::{Clearance, Clearances};
pub use confidentiality::{
    CategoryType, Confidentiality, DifferentPolicies, InvalidValue, MAX_SETS, MAX_VALUE_CHARS,
    MAX_VALUES, PolicyId, TagSet, Value,
};
pub use date::{Date, InvalidDate};
pub use label::{Duration, InvalidLabel, Label, MAX_EVENT_CHARS, MAX_LABEL_BYTES, State};
pub use level::{InvalidLevel, Level};
pub use name::{InvalidName, Kind, Name};
pub use policies::{MAX_POLICIES, Policies};
pub use policy::{
    Combination, InvalidPolicy, InvalidUnderPolicy, Language, MAX_LEVELS, MAX_LISTED,
    MAX_POLICY_BYTES, Need, Policy, PolicyLevel, PolicySet, Term, Words,
};
pub use portion::Portion;
