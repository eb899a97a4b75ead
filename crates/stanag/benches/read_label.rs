//! How long a label takes to read, beside a plain parse of the same XML: `cargo bench -p ordonnans-stanag`.

use std::hint::black_box;
use std::time::Instant;

use ordonnans_label::{Label, Policies};
use ordonnans_stanag::label::{read, write};

const ROUNDS: usize = 20_001;

/// The median of many rounds, in nanoseconds.
fn median(mut one: impl FnMut()) -> u128 {
    let mut all: Vec<u128> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            one();
            begin.elapsed().as_nanos()
        })
        .collect();
    all.sort_unstable();
    all.get(ROUNDS / 2).copied().unwrap_or_default()
}

fn main() {
    let policies = Policies::built_in();
    let created = "2026-11-24T03:00:00Z".parse().expect("a time");
    println!(
        "{:<72} {:>6} {:>9} {:>9} {:>6}",
        "label", "bytes", "read ns", "parse ns", "ratio"
    );
    for text in [
        "Ongerubriceerd",
        "Stg.G // KRING ICCB, NAFIN // COMPARTIMENT CRYPTO, CYBER // TOT 2036-01-01",
        "NATO RESTRICTED // CONTEXT NATO, RELEASABLE // RELEASABLE TO CHE, JPN, NATO, UKR // TOT 2030-01-01",
    ] {
        let label: Label = text.parse().expect("a label");
        let xml = write(&label, created, None, policies).expect("valid");
        let own = median(|| {
            black_box(read(black_box(xml.as_bytes()), policies).expect("a label"));
        });
        let plain = median(|| {
            black_box(roxmltree::Document::parse(black_box(&xml)).expect("XML"));
        });
        let short: String = text.chars().take(72).collect();
        println!(
            "{short:<72} {:>6} {own:>9} {plain:>9} {:>6.2}",
            xml.len(),
            own as f64 / plain.max(1) as f64
        );
    }
}
