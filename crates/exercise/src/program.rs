//! The program `exercise`: what it takes, and what it says at the end.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::documents;
use crate::judge::judge;
use crate::play::{Play, Progress, start};
use crate::report::{Summary, readable};
use crate::scenario::Scenario;
use crate::structure::Structure;

/// As first argument: become the broker or a node's daemon.
pub(crate) const ROLE: &str = "--in-the-role-of";

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const INTERNAL: u8 = 5;

#[derive(Parser)]
#[command(
    name = "exercise",
    version,
    about = "Runs a whole crisis structure on this machine, prints who got what, and verifies the log"
)]
#[command(
    after_help = "Exit codes: 0 passed, 1 something leaked, was lost or is not proven, 2 usage, 5 internal."
)]
struct Arguments {
    /// A scenario file; without it the built-in one.
    scenario: Option<PathBuf>,
    /// Route every file of this folder and check that it arrives bit by bit, in place of the scenario's steps.
    #[arg(long, value_name = "DIR")]
    documents: Option<PathBuf>,
    /// Use this new folder and leave everything running in it.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Progress on stderr; the last line of stdout is one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the program with its arguments, the first of which is its name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|a| a == ROLE) {
        let rest = args.iter().skip(3).cloned();
        return match args.get(2).and_then(|r| r.to_str()) {
            Some("broker") => {
                ordonnans_broker::run(std::iter::once("ordonnans-broker".into()).chain(rest))
            }
            Some("node") => ordonnans_client::run(std::iter::once("ordonnans".into()).chain(rest)),
            _ => USAGE.into(),
        };
    }
    let arguments = match Arguments::try_parse_from(args) {
        Ok(a) => a,
        Err(e) => {
            let code = if e.use_stderr() { USAGE } else { 0 };
            // Help goes to stdout, errors to stderr; neither can be helped if closed.
            drop(e.print());
            return code.into();
        }
    };
    match exercise(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => FAILED.into(),
        Err((code, what, hint)) => {
            eprintln!("{what}\nHint: {hint}");
            code.into()
        }
    }
}

type Failure = (u8, String, &'static str);

fn load(path: Option<&Path>) -> Result<Scenario, Failure> {
    let text = match path {
        None => Scenario::built_in().to_owned(),
        Some(path) => std::fs::read_to_string(path).map_err(|e| {
            let what = format!("{} cannot be read: {e}", path.display());
            (
                USAGE,
                what,
                "name a scenario file, or none for the built-in one",
            )
        })?,
    };
    Scenario::parse(&text).map_err(|e| {
        let hint = "correct the scenario; scenarios/nafin.toml in the sources is one";
        (USAGE, e.to_string(), hint)
    })
}

fn exercise(a: &Arguments) -> Result<bool, Failure> {
    let scenario = load(a.scenario.as_deref())?;
    let progress = Progress::new(a.json);
    let broken = |what: String| {
        let hint = "the logs of broker and daemons are in the folder; --keep DIR leaves them there";
        (INTERNAL, what, hint)
    };
    let temporary = match &a.keep {
        Some(dir) => {
            std::fs::create_dir(dir).map_err(|e| {
                let what = format!("{} cannot be made: {e}", dir.display());
                (USAGE, what, "name a folder that does not exist yet")
            })?;
            None
        }
        None => Some(tempfile::tempdir().map_err(|e| broken(e.to_string()))?),
    };
    let dir = match (&a.keep, &temporary) {
        (Some(dir), _) => std::path::absolute(dir).map_err(|e| broken(e.to_string()))?,
        (None, Some(dir)) => dir.path().to_owned(),
        (None, None) => PathBuf::new(),
    };
    let mut structure = Structure::make(&dir, &scenario).map_err(broken)?;
    progress.say(&format!(
        "{}: certificates and register are made",
        scenario.structure
    ));
    start(&mut structure, &scenario, &progress).map_err(broken)?;
    let mut play = Play::new(&mut structure, &scenario, &progress);
    let passed = match &a.documents {
        Some(from) => {
            let routed = documents::route(&mut play, from).map_err(broken)?;
            let proof = play.prove(&dir.join("export")).map_err(broken)?;
            routed.print(a.json, &proof)
        }
        None => {
            play.steps().map_err(broken)?;
            let proof = play.prove(&dir.join("export")).map_err(broken)?;
            let mut verdict = judge(&scenario, &play.sent, &play.held, &play.revoked);
            verdict.scenes = proof.scenes;
            let accepted = play.sent.iter().filter(|x| x.accepted).count();
            let passed_on = play.sent.iter().filter(|x| x.accepted);
            let passed_on = passed_on.filter(|x| x.passing.is_some());
            let summary = Summary {
                sent: play.sent.len(),
                accepted,
                refused: play.sent.len() - accepted,
                delivered: verdict.delivered,
                opened: play.opened,
                withheld: verdict.withheld,
                records: proof.records,
                tree_size: proof.records,
                root: proof.root.to_string(),
                verified: proof.verified && proof.tampered.is_some(),
                verifiers: proof.verifiers,
                reviewed: proof.reviewed,
                exposed: proof.exposed,
                passed_on: passed_on.count(),
                tampered: proof.tampered.clone(),
                leaks: verdict.leaks.len(),
                lost: verdict.lost.len(),
                surprises: verdict.surprises.len(),
                scenes: verdict.scenes.len(),
                scenes_wrong: verdict.scenes.iter().filter(|s| s.is_err()).count(),
            };
            let text = readable(&summary, &verdict, &play.sent, &scenario.title);
            if a.json {
                eprint!("{text}");
                let line = serde_json::to_string(&summary).map_err(|e| broken(e.to_string()))?;
                println!("{line}");
            } else {
                print!("{text}");
            }
            summary.passed()
        }
    };
    // A reader that went away, like `head`, is no failure.
    drop(std::io::stdout().flush());
    if let Some(keep) = &a.keep {
        tell_what_to_try(keep, a.json);
        structure.let_go();
    }
    Ok(passed)
}

fn tell_what_to_try(dir: &Path, json: bool) {
    let d = dir.display();
    let text = format!(
        "\nEverything runs on in {d}. Try, from the checkout:\n\
         \x20 cargo run -q --release --bin ordonnans -- -c {d}/ncc.toml inbox\n\
         \x20 echo 'Hallo' | cargo run -q --release --bin ordonnans -- -c {d}/ncc.toml send --to locc -p FLASH -l Ongerubriceerd --wait\n\
         \x20 cargo run -q --release --bin ordonnans -- -c {d}/ncc.toml receipts\n\
         \x20 cargo run -q --release --bin ordonnans -- -c {d}/officer.toml audit list --last --limit 20\n\
         \x20 cargo run -q --release --bin ordonnans -- -c {d}/officer.toml audit review --level Stg.C --since 1d\n\
         \x20 cargo run -q --release --bin ordonnans -- audit verify {d}/export --key {d}/broker/audit.pub\n\
         \x20 cargo run -q --release --bin ordonnans-broker -- -c {d}/broker.toml status\n\
         Stop it with: pkill -f {role}\n",
        role = ROLE.trim_start_matches('-')
    );
    if json {
        eprint!("{text}");
    } else {
        print!("{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(args: &[&str]) -> String {
        let args = std::iter::once("exercise").chain(args.iter().copied());
        format!("{:?}", run(args.map(Into::into)))
    }

    #[test]
    fn what_cannot_be_played_is_said_before_anything_starts() {
        let usage = format!("{:?}", ExitCode::from(USAGE));
        let dir = tempfile::tempdir().expect("a folder");
        let bad = dir.path().join("bad.toml");
        std::fs::write(&bad, "titel = 1").expect("writes");
        assert_eq!(code(&["/nonexistent/scenario.toml"]), usage);
        assert_eq!(code(&[&bad.to_string_lossy()]), usage);
        assert_eq!(code(&["--keep", &dir.path().to_string_lossy()]), usage);
        assert_eq!(code(&["--nonsense"]), usage);
        assert_eq!(code(&[ROLE, "cook"]), usage);
    }
}
