//! `exercise [SCENARIO]`: for now it reads a scenario and prints what it asks for.

use std::process::ExitCode;

use ordonnans_exercise::judge::may_reach;
use ordonnans_exercise::scenario::{Scenario, Step};

fn main() -> ExitCode {
    let path = std::env::args().nth(1);
    let text = match &path {
        None => Ok(Scenario::built_in().to_owned()),
        Some(path) => {
            std::fs::read_to_string(path).map_err(|e| format!("{path} cannot be read: {e}"))
        }
    };
    let scenario = match text.and_then(|t| Scenario::parse(&t).map_err(|e| e.to_string())) {
        Ok(scenario) => scenario,
        Err(e) => {
            eprintln!("{e}\nHint: correct the scenario, or give none to use the built-in one.");
            return ExitCode::from(2);
        }
    };
    println!("{}\n", scenario.title);
    for step in &scenario.step {
        let Step::Send(m) = step else { continue };
        let reach: Vec<&str> = scenario
            .node
            .iter()
            .filter(|n| may_reach(&scenario, m, &n.name))
            .map(|n| n.name.as_str())
            .collect();
        println!(
            "{:10} {:14} {:14} {:9} may reach {}",
            m.precedence,
            m.level,
            m.from,
            m.expect,
            reach.join(" ")
        );
    }
    println!(
        "\n{} nodes, {} messages",
        scenario.node.len(),
        scenario.messages()
    );
    eprintln!("This version checks and prints a scenario; it does not play it yet.");
    ExitCode::SUCCESS
}
