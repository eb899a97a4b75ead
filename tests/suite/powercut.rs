//! Two power cuts, where this machine can; `cargo run --release -p ordonnans-tests --bin powercut` makes twenty-five.

use std::path::Path;

use ordonnans_tests::power::{Both, Outcome, both, run};

#[test]
fn nothing_acknowledged_is_lost_when_the_power_goes() {
    match run(Path::new(env!("CARGO_BIN_EXE_powercut")), 2, 5) {
        Outcome::Held(commits) => assert!(commits > 10, "{commits} commits"),
        Outcome::Skipped(why) => eprintln!("skipped: {why}"),
        Outcome::Lost(what) => panic!("{what}"),
    }
}

#[test]
fn nothing_is_lost_when_the_power_of_broker_and_daemons_goes() {
    match both(Path::new(env!("CARGO_BIN_EXE_powercut")), 2, 6) {
        Both::Held(t) => assert!(t.delivered > 10, "{t:?}"),
        Both::Skipped(why) => eprintln!("skipped: {why}"),
        Both::Lost(what) => panic!("{what}"),
    }
}
