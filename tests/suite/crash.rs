//! A few rounds of the crash test; `cargo run --release -p ordonnans-tests --bin crash` plays two hundred.

use std::path::Path;

use ordonnans_tests::{crash, whole};

#[test]
fn nothing_acknowledged_is_lost_when_the_broker_is_killed() {
    let program = Path::new(env!("CARGO_BIN_EXE_crash"));
    let tally = crash::run(program, 6, 2_000, 3).unwrap_or_else(|e| panic!("{e}"));
    assert!(
        tally.accepted > 20 && tally.received >= tally.accepted,
        "{tally:?}"
    );
}

#[test]
fn a_broker_that_is_told_to_stop_stops_with_everything_kept() {
    let program = Path::new(env!("CARGO_BIN_EXE_crash"));
    crash::told_to_stop(program).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice_when_broker_and_daemons_are_killed() {
    let program = Path::new(env!("CARGO_BIN_EXE_crash"));
    let tally = whole::crash(program, 8, 4).unwrap_or_else(|e| panic!("{e}"));
    assert!(tally.delivered > 20 && tally.kills >= 8, "{tally:?}");
    assert!(tally.refused > 0, "{tally:?}");
}
