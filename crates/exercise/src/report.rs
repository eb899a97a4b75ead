//! What the exercise prints at the end: a summary for people, one JSON object for programs.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use crate::judge::{Sent, Verdict};

/// The figures of a finished exercise. The last line of `exercise --json` is this object; fields are only ever added.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Messages the scenario sent.
    pub sent: usize,
    /// Messages the broker accepted.
    pub accepted: usize,
    /// Messages the broker or the sender's daemon refused.
    pub refused: usize,
    /// Copies that arrived in an inbox.
    pub delivered: usize,
    /// Copies that a reader opened, with a signed receipt.
    pub opened: usize,
    /// Copies rightly kept back: expired, or their node revoked.
    pub withheld: usize,
    /// Records in the exported audit log.
    pub records: u64,
    /// Size of the tree of the signed checkpoint.
    pub tree_size: u64,
    /// Its root, hex.
    pub root: String,
    /// Whether the export verified offline and the naive computation found the same root.
    pub verified: bool,
    /// Copies at a node for which the independent rule says no. Must be 0.
    pub leaks: usize,
    /// Copies that were owed and are not there. Must be 0.
    pub lost: usize,
    /// Answers that differ from what the scenario expects. Must be 0.
    pub surprises: usize,
    /// Scenes that the log was asked about: a node cut off, another authority, a node without UDP.
    pub scenes: usize,
    /// Those of them that did not go as they must. Must be 0.
    pub scenes_wrong: usize,
    /// How many verifiers looked at the export: our own, a naive computation, and one in Python where that is there.
    pub verifiers: usize,
    /// Records that the security officer looked at and signed off.
    pub reviewed: u64,
    /// Nodes that had or could have had the message with the most addressees.
    pub exposed: usize,
    /// Messages that went on as they are, and extracts, that the broker accepted.
    pub passed_on: usize,
    /// Why an export with one changed byte was refused. Null where it passed, and then `verified` is false.
    pub tampered: Option<String>,
}

impl Summary {
    /// Whether the exercise passed: nothing leaked, nothing lost, the log proven, every answer as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.leaks == 0
            && self.lost == 0
            && self.surprises == 0
            && self.scenes_wrong == 0
            && self.verified
    }
}

/// What was not carried, one line each, and by which rule: as the audit log has it, or as the sender's daemon said.
fn refusals(sent: &[Sent]) -> String {
    let mut out = String::new();
    for x in sent.iter().filter(|x| !x.accepted) {
        let m = &x.message;
        let to: Vec<&str> = m.to.iter().chain(&m.info).map(String::as_str).collect();
        let why = match (&x.rule, &x.id) {
            (Some(rule), _) => rule.as_str(),
            (None, None) => "not taken by the sender's daemon",
            (None, Some(_)) => "no rule on record",
        };
        let (from, to) = (&m.from, to.join(", "));
        let _ = writeln!(out, "  {:14} {from} -> {to}: {why}", m.level);
    }
    out
}

/// How each scene went, one line each.
fn scenes(verdict: &Verdict) -> String {
    if verdict.scenes.is_empty() {
        return String::new();
    }
    let mut out = String::from("\nscenes, by the log (docs/audit.md)\n");
    for scene in &verdict.scenes {
        let _ = match scene {
            Ok(went) => writeln!(out, "  {went}"),
            Err(why) => writeln!(out, "  WRONG: {why}"),
        };
    }
    out
}

/// What went on as it is, and the extracts, with who signed for them.
fn passed_on(sent: &[Sent]) -> String {
    let mut out = String::new();
    for x in sent.iter().filter(|x| x.accepted) {
        let Some(p) = &x.passing else { continue };
        let (m, by) = (&x.message, p.signed.join(" and "));
        let to: Vec<&str> = m.to.iter().chain(&m.info).map(String::as_str).collect();
        let what = match p.signed.as_slice() {
            [] => format!("\"{}\", as it is", p.of),
            _ => format!("extract of \"{}\", signed by {by}", p.of),
        };
        let _ = writeln!(
            out,
            "  {:14} {} -> {}: {what}",
            m.level,
            m.from,
            to.join(", ")
        );
    }
    out
}

/// The summary with the routing matrix (rows send, columns receive, a number is copies delivered) and what was refused, by which rule.
#[must_use]
pub fn readable(summary: &Summary, verdict: &Verdict, sent: &[Sent], title: &str) -> String {
    let mut out = String::new();
    let columns: BTreeSet<&str> = verdict.matrix.keys().map(|(_, to)| to.as_str()).collect();
    let rows: BTreeSet<&str> = verdict
        .matrix
        .keys()
        .map(|(from, _)| from.as_str())
        .collect();
    let _ = writeln!(out, "\n{title}\n");
    let width = rows.iter().map(|r| r.len()).max().unwrap_or(4).max(4);
    let _ = write!(out, "{:width$} ", "from");
    for (i, _) in columns.iter().enumerate() {
        let _ = write!(out, "{:>3}", (b'a' + (i % 26) as u8) as char);
    }
    out.push('\n');
    for row in &rows {
        let _ = write!(out, "{row:width$} ");
        for column in &columns {
            match verdict
                .matrix
                .get(&((*row).to_owned(), (*column).to_owned()))
            {
                Some(n) => drop(write!(out, "{n:>3}")),
                None => out.push_str("  ."),
            }
        }
        out.push('\n');
    }
    for (i, column) in columns.iter().enumerate() {
        let _ = write!(
            out,
            "{}{} = {column}",
            if i % 5 == 0 { "\n  " } else { ", " },
            (b'a' + (i % 26) as u8) as char
        );
    }
    out.push_str("\n\npassed on\n");
    out.push_str(&passed_on(sent));
    out.push_str("\nrefused, and why (docs/policy.md)\n");
    out.push_str(&refusals(sent));
    out.push_str(&scenes(verdict));
    out.push('\n');
    for (what, list) in [
        ("leak", &verdict.leaks),
        ("lost", &verdict.lost),
        ("unexpected", &verdict.surprises),
    ] {
        for line in list {
            let _ = writeln!(out, "{what}: {line}");
        }
    }
    let _ = writeln!(
        out,
        "sent {}  accepted {}  refused {}  delivered {}  opened {}  withheld {}",
        summary.sent,
        summary.accepted,
        summary.refused,
        summary.delivered,
        summary.opened,
        summary.withheld
    );
    let _ = writeln!(
        out,
        "records {}  tree size {}  root {}",
        summary.records, summary.tree_size, summary.root
    );
    let _ = writeln!(
        out,
        "leaks {}\nlost {}\nverified {}",
        summary.leaks, summary.lost, summary.verified
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            sent: 2,
            accepted: 1,
            refused: 1,
            delivered: 1,
            opened: 1,
            withheld: 0,
            records: 9,
            tree_size: 9,
            root: "00".into(),
            verified: true,
            verifiers: 3,
            reviewed: 4,
            exposed: 2,
            passed_on: 1,
            tampered: Some("why".into()),
            leaks: 0,
            lost: 0,
            surprises: 0,
            scenes: 3,
            scenes_wrong: 0,
        }
    }

    #[test]
    fn json_has_the_documented_fields() {
        let json = serde_json::to_value(summary()).expect("serialises");
        for field in [
            "sent",
            "accepted",
            "refused",
            "delivered",
            "opened",
            "withheld",
            "records",
            "tree_size",
            "root",
            "verified",
            "leaks",
            "lost",
        ] {
            assert!(json.get(field).is_some(), "{field}");
        }
    }

    #[test]
    fn any_fault_fails_the_exercise() {
        assert!(summary().passed());
        assert!(
            !Summary {
                leaks: 1,
                ..summary()
            }
            .passed()
        );
        assert!(
            !Summary {
                lost: 1,
                ..summary()
            }
            .passed()
        );
        assert!(
            !Summary {
                verified: false,
                ..summary()
            }
            .passed()
        );
        assert!(
            !Summary {
                surprises: 1,
                ..summary()
            }
            .passed()
        );
        assert!(
            !Summary {
                scenes_wrong: 1,
                ..summary()
            }
            .passed()
        );
    }
}
