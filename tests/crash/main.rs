//! `cargo run --release -p ordonnans-tests --bin crash [-- --rounds N --seed S --both]`: rounds of the crash test.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use ordonnans_tests::{crash, whole};

#[derive(Parser)]
struct Arguments {
    /// How many times the broker is killed.
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// Kill daemons, too, which are processes of their own then.
    #[arg(long)]
    both: bool,
    /// Messages to publish, at most.
    #[arg(long, default_value_t = 60_000)]
    messages: usize,
    /// Decides when it is killed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let Some(code) = crash::in_the_role(&args).or_else(|| whole::in_the_role(&args)) {
        return code;
    }
    let a = Arguments::parse();
    let began = Instant::now();
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::from(5);
        }
    };
    if a.both {
        return match whole::crash(&own, a.rounds, a.seed) {
            Ok(t) => {
                println!(
                    "{} rounds in {:.0} s, {} processes killed: {} messages submitted, {} accepted, {} refused as they had to be, {} delivered, 0 twice, 0 lost, 0 without a permit, 0 records missing of {}",
                    a.rounds,
                    began.elapsed().as_secs_f32(),
                    t.kills,
                    t.submitted,
                    t.accepted,
                    t.refused,
                    t.delivered,
                    t.records
                );
                ExitCode::SUCCESS
            }
            Err(e) => {
                println!("failed after {:.0} s: {e}", began.elapsed().as_secs_f32());
                ExitCode::FAILURE
            }
        };
    }
    match crash::run(&own, a.rounds, a.messages, a.seed) {
        Ok(t) => {
            println!(
                "{} kills in {:.0} s: {} messages acknowledged, {} received, {} records; nothing lost",
                t.kills,
                began.elapsed().as_secs_f32(),
                t.accepted,
                t.received,
                t.records
            );
            ExitCode::SUCCESS
        }
        Err(e) => {
            println!("failed after {:.0} s: {e}", began.elapsed().as_secs_f32());
            ExitCode::FAILURE
        }
    }
}
