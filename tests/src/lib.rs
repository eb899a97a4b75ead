//! Harness of Ordonnans: suite, simulation, crash, power cut, fuzz, bench.
