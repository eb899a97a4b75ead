//! `cargo run --release -p ordonnans-tests --bin crash [-- --rounds N --seed S]`: rounds of the crash test.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use ordonnans_tests::crash;

#[derive(Parser)]
struct Arguments {
    /// How many times the broker is killed.
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// Messages to publish, at most.
    #[arg(long, default_value_t = 60_000)]
    messages: usize,
    /// Decides when it is killed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let Some(code) = crash::in_the_role(&args) {
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
