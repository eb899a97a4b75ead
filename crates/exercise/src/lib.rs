//! A whole crisis structure on one machine, driven by a scenario.
//!
//! What stands here so far: the scenario file and the built-in scenario, the judge with its own re-check of the rule and its
//! naive Merkle root, and the report. What plays a scenario against real processes is not here yet.

pub mod judge;
pub mod report;
pub mod scenario;
