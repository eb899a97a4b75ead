//! Harness of Ordonnans: suite, simulation, crash, power cut, fuzz, bench.

pub mod house;
pub mod sim;
