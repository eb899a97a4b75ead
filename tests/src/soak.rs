//! The soak: mixed load for long, the broker restarted every minute, and whether memory, files and disk stay flat.
//!
//! What is kept for a time and what is kept up to a number are then as much after ten minutes as after an hour, and what still grows is lost: messages
//! live for four minutes and are remembered for one, and the first four minutes bring many. The audit log only grows.

use std::fmt::{self, Display, Formatter, Write as _};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ordonnans_message::Precedence;

use crate::sim::Dice;
use crate::whole::{NODES, Tally, Whole};

/// How long many messages come: they are forgotten before ten minutes are over.
const FILL: Duration = Duration::from_secs(4 * 60);
/// Between two of them then, as far as the daemons take them: enough for sled's newest database to fill its cache.
const FILLING: Duration = Duration::from_millis(14);
/// Between two messages after that.
const APART: Duration = Duration::from_millis(100);
/// What a restart held up is made up for so far.
const OWED: Duration = Duration::from_secs(1);
/// Messages that each inbox keeps.
const KEPT: usize = 50;
/// Bytes of an attachment; one message in a hundred has one.
const ATTACHED: usize = 1 << 20;
/// How often everything is measured.
const SAMPLE: Duration = Duration::from_secs(5);
/// How long a message lives, in milliseconds: longer than anything here keeps one from its recipient.
const LIFE_MS: u64 = 4 * 60 * 1000;
/// How long it is remembered after that.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How often the broker is restarted.
const RESTART: Duration = Duration::from_secs(60);

/// What was measured at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Since the beginning, in seconds.
    pub at: f64,
    /// Resident memory of the broker, and of all daemons together, in MiB.
    pub broker_mib: f64,
    /// See above.
    pub nodes_mib: f64,
    /// Open files of the broker, and of all daemons.
    pub files: usize,
    /// The audit log on the disk, in MiB: it only grows.
    pub log_mib: f64,
    /// Everything else that the broker keeps: journal, mailbox, attachments.
    pub rest_mib: f64,
    /// What the daemons keep.
    pub spools_mib: f64,
    /// Messages handed in so far.
    pub submitted: usize,
}

impl Display for Sample {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "broker {:.0} MiB, daemons {:.0} MiB, {} open files, log {:.0} MiB, the rest of the broker {:.0} MiB, spools {:.0} MiB, {} messages handed in",
            self.broker_mib,
            self.nodes_mib,
            self.files,
            self.log_mib,
            self.rest_mib,
            self.spools_mib,
            self.submitted
        )
    }
}

fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

fn files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Bytes of a folder.
fn size(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return 0;
    };
    if !meta.is_dir() {
        use std::os::unix::fs::MetadataExt;
        return meta.blocks() * 512;
    }
    let items = fs::read_dir(path).into_iter().flatten().flatten();
    items.map(|i| size(&i.path())).sum()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn sample(all: &Whole, began: Instant, submitted: usize) -> Sample {
    let (data, nodes) = (all.dir().join("data"), all.nodes());
    let log = size(&data.join("audit")) + size(&data.join("details"));
    let spools = ["ncc", "def", "locc"].map(|n| size(&all.dir().join(n)));
    let broker = all.broker().unwrap_or(0);
    Sample {
        at: began.elapsed().as_secs_f64(),
        broker_mib: resident(broker),
        nodes_mib: nodes.iter().map(|p| resident(*p)).sum(),
        files: files(broker) + nodes.iter().map(|p| files(*p)).sum::<usize>(),
        log_mib: mib(log),
        rest_mib: mib(size(&data).saturating_sub(log)),
        spools_mib: mib(spools.iter().sum()),
        submitted,
    }
}

/// Plays for so long; the broker is told to stop and killed by turns, and every third time a daemon is killed, too.
///
/// Gives what it did, or what was lost, came twice, or is missing in the log; and the samples.
///
/// # Errors
/// It cannot be played to its end.
pub fn run(
    program: &Path,
    play: Duration,
    seed: u64,
) -> Result<(Result<Tally, String>, Vec<Sample>), String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mut all = Whole::remembering(program, dir.path(), LIFE_MS, Some(REMEMBERED))?;
    let attached = dir.path().join("attached");
    fs::write(&attached, vec![7; ATTACHED]).map_err(|e| e.to_string())?;
    let (began, mut dice, mut samples) = (Instant::now(), Dice::new(seed), vec![]);
    let (mut submitted, mut measured, mut restarts) = (0, 0, 0u32);
    let mut due = Duration::ZERO;
    while began.elapsed() < play {
        let elapsed = began.elapsed();
        if due <= elapsed {
            let apart = if elapsed < FILL { FILLING } else { APART };
            due = due.max(elapsed.saturating_sub(OWED)) + apart;
            let (from, to) = (dice.below(NODES), dice.below(NODES));
            let file = dice.chance(1).then_some(attached.as_path());
            let precedence = Precedence::ALL[dice.below(6)];
            submitted += usize::from(all.submit(from, to, precedence, file));
        } else {
            std::thread::sleep(due - elapsed);
        }
        let periods = |every: Duration| began.elapsed().as_millis() / every.as_millis();
        if periods(SAMPLE) > measured {
            measured = periods(SAMPLE);
            (0..NODES).try_for_each(|n| all.tidy(n, KEPT))?;
            samples.push(sample(&all, began, submitted));
        }
        if periods(RESTART) > u128::from(restarts) {
            restarts += 1;
            if let Some(s) = samples.last() {
                eprintln!("{restarts} min: {s}");
            }
            if restarts.is_multiple_of(2) {
                all.kill_broker()?;
            } else {
                all.stop_broker()?;
            }
            if restarts.is_multiple_of(3) {
                all.kill_node(dice.below(NODES))?;
            }
            all.start()?;
        }
    }
    // What was measured is worth something, whatever is found now.
    Ok((all.judge(), samples))
}

/// The samples, one a line.
#[must_use]
pub fn csv(samples: &[Sample]) -> String {
    let mut text =
        "seconds,broker_mib,nodes_mib,files,log_mib,rest_mib,spools_mib,submitted\n".to_owned();
    for s in samples {
        let _ = writeln!(
            text,
            "{:.0},{:.1},{:.1},{},{:.1},{:.1},{:.1},{}",
            s.at,
            s.broker_mib,
            s.nodes_mib,
            s.files,
            s.log_mib,
            s.rest_mib,
            s.spools_mib,
            s.submitted
        );
    }
    text
}

const WIDTH: f64 = 860.0;
const PANEL: f64 = 150.0;
const LEFT: f64 = 60.0;

/// A plot of the samples.
#[must_use]
pub fn svg(samples: &[Sample]) -> String {
    type Line = (&'static str, &'static str, fn(&Sample) -> f64);
    let panels: [(&str, &[Line]); 4] = [
        (
            "resident memory, MiB",
            &[
                ("#1f5fa8", "broker", |s| s.broker_mib),
                ("#b3521d", "three daemons", |s| s.nodes_mib),
            ],
        ),
        (
            "open files",
            &[("#1f5fa8", "all processes", |s| s.files as f64)],
        ),
        (
            "disk, MiB",
            &[
                ("#1f5fa8", "journal, mailbox, attachments", |s| s.rest_mib),
                ("#b3521d", "spools of the daemons", |s| s.spools_mib),
                ("#5a8f29", "audit log", |s| s.log_mib),
            ],
        ),
        (
            "messages handed in",
            &[("#1f5fa8", "", |s| s.submitted as f64)],
        ),
    ];
    let last = samples.last().map_or(1.0, |s| s.at.max(1.0));
    let height = 20.0 + panels.len() as f64 * (PANEL + 40.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        WIDTH + LEFT + 20.0
    );
    for (i, (title, lines)) in panels.iter().enumerate() {
        let top = 30.0 + i as f64 * (PANEL + 40.0);
        let values = || lines.iter().flat_map(|(_, _, of)| samples.iter().map(of));
        let most = values().fold(1.0, f64::max) * 1.1;
        let x = |at: f64| LEFT + at / last * WIDTH;
        let y = |v: f64| top + PANEL - v / most * PANEL;
        let _ = writeln!(
            out,
            "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{title}</text>",
            top - 8.0
        );
        for step in 0..=4 {
            let v = most * f64::from(step) / 4.0;
            let _ = writeln!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{v:.0}</text>",
                LEFT + WIDTH,
                LEFT - 6.0,
                y(v) + 4.0,
                y = y(v)
            );
        }
        for (n, (colour, name, of)) in lines.iter().enumerate() {
            let points: Vec<String> = samples
                .iter()
                .map(|s| format!("{:.1},{:.1}", x(s.at), y(of(s))))
                .collect();
            let _ = writeln!(
                out,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\" points=\"{}\"/><text x=\"{}\" y=\"{}\" fill=\"{colour}\">{name}</text>",
                points.join(" "),
                LEFT + 200.0 + 190.0 * n as f64,
                top - 8.0
            );
        }
        let minutes = (last / 60.0).max(1.0);
        for tick in 0..=6 {
            let at = last * f64::from(tick) / 6.0;
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{:.0} min</text>",
                x(at),
                top + PANEL + 14.0,
                minutes * f64::from(tick) / 6.0
            );
        }
    }
    out.push_str("</svg>\n");
    out
}
