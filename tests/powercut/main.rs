//! `cargo run --release -p ordonnans-tests --bin powercut [-- --cuts N --seed S --both]`: cuts the power, as root.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use ordonnans_tests::power::{self, Both, Outcome};
use ordonnans_tests::{crash, whole};

#[derive(Parser)]
struct Arguments {
    /// How many times the power goes.
    #[arg(long, default_value_t = 25)]
    cuts: usize,
    /// Cut the power of a broker and daemons, not of the store alone.
    #[arg(long)]
    both: bool,
    /// Decides when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let role = power::in_the_role(&args);
    let role = role.or_else(|| crash::in_the_role(&args));
    if let Some(code) = role.or_else(|| whole::in_the_role(&args)) {
        return code;
    }
    let (a, began) = (Arguments::parse(), Instant::now());
    let Ok(own) = std::env::current_exe() else {
        return ExitCode::from(5);
    };
    if a.both {
        return match power::both(&own, a.cuts, a.seed) {
            Both::Held(t) => {
                println!(
                    "{} power cuts in {:.0} s: {} messages submitted, {} accepted, {} refused as they had to be, {} delivered, 0 twice, 0 lost, 0 without a permit, 0 records missing of {}",
                    a.cuts,
                    began.elapsed().as_secs_f32(),
                    t.submitted,
                    t.accepted,
                    t.refused,
                    t.delivered,
                    t.records
                );
                ExitCode::SUCCESS
            }
            Both::Skipped(why) => {
                println!("skipped: {why}");
                ExitCode::SUCCESS
            }
            Both::Lost(what) => {
                println!("{what}");
                ExitCode::FAILURE
            }
        };
    }
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
