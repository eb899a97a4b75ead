//! A first part of the simulation's seeds; `cargo run --release -p ordonnans-tests --bin sim` runs more.

use ordonnans_tests::sim::{Stage, Tally, run};

/// Seeds of the suite; each takes some milliseconds.
const SEEDS: u64 = 300;

#[test]
fn seeds_hold_every_invariant() {
    let stage = Stage::default();
    let mut all = Tally::default();
    for seed in 0..SEEDS {
        let tally = run(&stage, seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        all.accepted += tally.accepted;
        all.refused += tally.refused;
        all.delivered += tally.delivered;
        all.revised += tally.revised;
        all.passed_on += tally.passed_on;
        all.crashes += tally.crashes;
    }
    // A simulation in which nothing happens proves nothing.
    assert!(all.accepted > 500 && all.refused > 100, "{all:?}");
    assert!(all.delivered > 500 && all.crashes > 300, "{all:?}");
    assert!(all.revised > 20 && all.passed_on > 20, "{all:?}");
}

#[test]
fn a_seed_replays() {
    let stage = Stage::default();
    for seed in [1, 77, 4242] {
        let once = run(&stage, seed).expect("holds");
        assert_eq!(run(&stage, seed).expect("holds"), once);
        assert_ne!(run(&stage, seed + 1).expect("holds").trace, once.trace);
    }
}
