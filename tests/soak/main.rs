//! `cargo run --release -p ordonnans-tests --bin soak [-- --minutes N --seed S --plot FILE]`: mixed load with restarts every minute.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ordonnans_tests::{crash, soak, whole};

#[derive(Parser)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// Decides what is sent.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write a plot (SVG) here, and the samples beside it (CSV).
    #[arg(long)]
    plot: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let Some(code) = crash::in_the_role(&args).or_else(|| whole::in_the_role(&args)) {
        return code;
    }
    let a = Arguments::parse();
    let Ok(own) = std::env::current_exe() else {
        return ExitCode::from(5);
    };
    let (found, samples) = match soak::run(&own, Duration::from_secs(60 * a.minutes), a.seed) {
        Ok(played) => played,
        Err(why) => {
            println!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let mut ten = samples.iter().filter(|s| s.at >= 600.0);
    for (when, s) in [
        ("after ten minutes", ten.next()),
        ("at the end", samples.last()),
    ] {
        if let Some(s) = s {
            println!("{when}: {s}");
        }
    }
    let written = a.plot.map(|path| {
        std::fs::write(path.with_extension("csv"), soak::csv(&samples))?;
        std::fs::write(path, soak::svg(&samples))
    });
    if let Some(Err(e)) = written {
        eprintln!("the plot cannot be written: {e}");
        return ExitCode::from(2);
    }
    match found {
        Ok(t) => {
            println!(
                "{} minutes, {} processes killed: {} messages submitted, {} accepted, {} refused as they had to be, {} delivered, 0 twice, 0 lost, {} records",
                a.minutes, t.kills, t.submitted, t.accepted, t.refused, t.delivered, t.records
            );
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}
