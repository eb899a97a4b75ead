//! `cargo run --release -p ordonnans-tests --bin sim [-- --seeds N --from S]`: many seeds of the simulation.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use ordonnans_tests::sim::{Stage, run};

#[derive(Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first.
    #[arg(long, default_value_t = 0)]
    from: u64,
}

fn main() -> ExitCode {
    let a = Arguments::parse();
    let (stage, began) = (Stage::default(), Instant::now());
    let (mut failed, mut accepted, mut delivered, mut revised, mut crashes, mut records) =
        (0, 0, 0, 0, 0, 0);
    let (mut recalled, mut told, mut jumps) = (0, 0, 0);
    for seed in a.from..a.from + a.seeds {
        match run(&stage, seed) {
            Ok(t) => {
                accepted += t.accepted;
                delivered += t.delivered;
                revised += t.revised;
                crashes += t.crashes;
                recalled += t.recalled;
                told += t.told;
                jumps += t.jumps;
                records += t.records;
            }
            Err(e) => {
                failed += 1;
                println!("seed {seed}: {e}");
            }
        }
    }
    println!(
        "{} seeds in {:.1} s: {failed} failed; {accepted} messages accepted, {delivered} copies delivered, {revised} labels revised, {recalled} messages recalled, {told} notices, {jumps} jumps of the clock, {crashes} crashes, {records} records",
        a.seeds,
        began.elapsed().as_secs_f32()
    );
    ExitCode::from(u8::from(failed > 0))
}
