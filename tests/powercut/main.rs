//! `cargo run --release -p ordonnans-tests --bin powercut [-- --cuts N --seed S]`: cuts the power, as root.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use ordonnans_tests::power::{self, Outcome};

#[derive(Parser)]
struct Arguments {
    /// How many times the power goes.
    #[arg(long, default_value_t = 25)]
    cuts: usize,
    /// Decides when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let Some(code) = power::in_the_role(&args) {
        return code;
    }
    let (a, began) = (Arguments::parse(), Instant::now());
    let Ok(own) = std::env::current_exe() else {
        return ExitCode::from(5);
    };
    match power::run(&own, a.cuts, a.seed) {
        Outcome::Held(commits) => {
            let took = began.elapsed().as_secs_f32();
            println!(
                "{} power cuts in {took:.0} s, {commits} commits: nothing acknowledged was lost",
                a.cuts
            );
            ExitCode::SUCCESS
        }
        Outcome::Skipped(why) => {
            println!("skipped: {why}");
            ExitCode::SUCCESS
        }
        Outcome::Lost(what) => {
            println!("{what}");
            ExitCode::FAILURE
        }
    }
}
