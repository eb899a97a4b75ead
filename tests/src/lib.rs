//! Harness of Ordonnans: suite, simulation, crash, power cut, fuzz, bench.

pub mod crash;
pub mod house;
pub mod link;
pub mod netns;
pub mod pair;
pub mod power;
pub mod sim;
pub mod site;
pub mod soak;
pub mod whole;
