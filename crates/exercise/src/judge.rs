//! The judge: who got what, who should not have, and what is missing.
//!
//! It knows the rule from the scenario's facts alone, in its own few lines. It shares no code with the product's policy, so
//! that a mistake there cannot hide itself here.

use std::collections::{BTreeMap, BTreeSet};

use ordonnans_message::{Digest, sha256};

use crate::scenario::{LEVELS, Message, Scenario};

/// How a message passes on another.
#[derive(Clone, Debug, Default)]
pub struct Passing {
    /// The other, by its `name`.
    pub of: String,
    /// Who signed for it: nobody where it goes on as it is, the vaststeller and perhaps a second person of an extract.
    pub signed: Vec<String>,
}

/// What became of one message of the scenario.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The message as the scenario gives it.
    pub message: Message,
    /// Its id, where the sender's daemon took it.
    pub id: Option<String>,
    /// Whether the broker accepted it.
    pub accepted: bool,
    /// The rule a refusal named.
    pub rule: Option<String>,
    /// SHA-256 of the body.
    pub body: Digest,
    /// Its draft, while it waits to be established.
    pub draft: Option<String>,
    /// What its label was revised to: the text, and its level.
    pub revised: Option<(String, String)>,
    /// Nodes that had no copy when the label was revised to a level that they may not hold.
    pub held_back: BTreeSet<String>,
    /// What it passes on.
    pub passing: Option<Passing>,
}

impl Sent {
    /// A message that nobody has decided on.
    #[must_use]
    pub fn new(message: Message) -> Self {
        Self {
            body: sha256(&[message.body.as_bytes()]),
            message,
            id: None,
            accepted: false,
            rule: None,
            draft: None,
            revised: None,
            held_back: BTreeSet::new(),
            passing: None,
        }
    }
}

/// What one node holds at the end.
#[derive(Clone, Debug, Default)]
pub struct Holding {
    /// Digest of each body it could read, by message id.
    pub bodies: BTreeMap<String, Option<Digest>>,
    /// The label in force that is shown beside the one it came with, by message id.
    pub labels: BTreeMap<String, String>,
}

/// What is seen of a scene in the end: how it went, or what is wrong.
pub type Seen = Result<String, String>;

/// The verdict.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Copies that arrived.
    pub delivered: usize,
    /// Copies that were owed and withheld or expired, as the scenario says they must.
    pub withheld: usize,
    /// Copies at a node for which the rule says no. Must be empty.
    pub leaks: Vec<String>,
    /// Copies that were owed and did not arrive, or arrived altered. Must be empty.
    pub lost: Vec<String>,
    /// Answers that differ from what the scenario expects. Must be empty.
    pub surprises: Vec<String>,
    /// How each scene went, by the log. None may be wrong.
    pub scenes: Vec<Seen>,
    /// Copies by sender and receiver.
    pub matrix: BTreeMap<(String, String), usize>,
}

fn rank(level: &str) -> usize {
    LEVELS
        .iter()
        .position(|l| *l == level)
        .unwrap_or(usize::MAX)
}

/// Whether the holder of these facts may hold what is labelled so.
fn may_hold(m: &Message, clearance: &str, circles: &[String], compartments: &[String]) -> bool {
    rank(m.level.as_str()) <= rank(clearance)
        && rank(clearance) < LEVELS.len()
        && m.compartments.iter().all(|c| compartments.contains(c))
        && (m.circles.is_empty() || m.circles.iter().any(|c| circles.contains(c)))
}

/// Splits `person@node`.
fn address(to: &str) -> (Option<&str>, &str) {
    to.split_once('@')
        .map_or((None, to), |(person, node)| (Some(person), node))
}

/// Whether a copy may be at this node: someone was addressed there who may hold it, and so may the node.
#[must_use]
pub fn may_reach(s: &Scenario, m: &Message, node: &str) -> bool {
    let Some(n) = s.node.iter().find(|n| n.name == node) else {
        return false;
    };
    let graded = rank(&m.level) > 0;
    // Who is outside the Rijksdienst is assured for it, or gets nothing that has a level.
    let assured = n.assured.as_deref().unwrap_or(&n.clearance);
    if graded && !n.rijksdienst && rank(assured) < rank(&m.level) {
        return false;
    }
    if let Some(policy) = m.policy.as_deref() {
        // A clearance under one policy says nothing under another; and what is another's goes on with its consent alone.
        let held = n.also.iter().find(|a| a.policy == policy);
        let speaks = s
            .node
            .iter()
            .any(|x| x.name == m.from && x.speaks_for.iter().any(|p| p == policy));
        let consent = s.consent.iter().any(|c| {
            c.policy == policy && rank(&m.level) <= rank(&c.level) && c.to.iter().any(|t| t == node)
        });
        return held.is_some_and(|a| rank(&m.level) <= rank(&a.level))
            && rank(&m.level) <= rank(&n.clearance)
            && (!graded || speaks || consent)
            && m.to.iter().chain(&m.info).any(|t| t == node);
    }
    if !may_hold(m, &n.clearance, &n.circles, &n.compartments) {
        return false;
    }
    m.to.iter()
        .chain(&m.info)
        .map(|t| address(t))
        .filter(|(_, at)| *at == node)
        .any(|(person, _)| match person {
            None => rank(&m.level) < rank("Stg.G"),
            Some(p) => s.person.iter().any(|x| {
                x.name == p
                    && x.node == node
                    && may_hold(m, &x.clearance, &x.circles, &x.compartments)
            }),
        })
}

/// What is wrong with a message that was accepted and passes on another, by the scenario's facts: as it is, it must say what that says, at its
/// level; as an extract of Stg.C or higher it must have two signers, the first its vaststeller, the second cleared for the other.
fn wrongly_passed(s: &Scenario, sent: &[Sent], x: &Sent) -> Option<&'static str> {
    let passing = x.passing.as_ref()?;
    let of = |y: &&Sent| y.message.name.as_ref() == Some(&passing.of);
    let Some(parent) = sent.iter().find(of) else {
        return Some("passes on what nobody sent");
    };
    let level = rank(&parent.message.level);
    let ends = |by: &String| {
        let named = format!("VASTGESTELD {by}.");
        parent.message.label.contains(&named)
    };
    match passing.signed.as_slice() {
        [] if level >= rank("Stg.G") => Some("was passed on from Stg.G up"),
        [] if level != rank(&x.message.level) || parent.body != x.body => {
            Some("was passed on as another")
        }
        [] => None,
        [first, ..] if !ends(first) => Some("is an extract by somebody else than its vaststeller"),
        _ if rank(&x.message.level) > level => Some("is an extract above its parent"),
        _ if level < rank("Stg.C") => None,
        [first, second] if first != second => {
            let m = &parent.message;
            let person = s.person.iter().find(|p| p.name == *second);
            let cleared =
                person.is_some_and(|p| may_hold(m, &p.clearance, &p.circles, &p.compartments));
            (!cleared).then_some("is an extract whose second person may not read the parent")
        }
        _ => Some("is an extract of a state secret by one person alone"),
    }
}

/// Compares what was sent with what each node holds. `revoked` are nodes that owed copies need not reach.
#[must_use]
pub fn judge(
    s: &Scenario,
    sent: &[Sent],
    held: &BTreeMap<String, Holding>,
    revoked: &BTreeSet<String>,
) -> Verdict {
    let mut v = Verdict::default();
    let by_id: BTreeMap<&str, &Sent> = sent
        .iter()
        .filter_map(|x| Some((x.id.as_deref()?, x)))
        .collect();
    for (node, holding) in held {
        for (id, body) in &holding.bodies {
            let Some(x) = by_id.get(id.as_str()) else {
                v.leaks.push(format!(
                    "{node} holds {id}, which nobody in the scenario sent"
                ));
                continue;
            };
            if !may_reach(s, &x.message, node) || !x.accepted {
                v.leaks.push(format!(
                    "{node} holds {id} ({}) and may not",
                    x.message.level
                ));
            }
            if x.held_back.contains(node) {
                v.leaks.push(format!(
                    "{node} got {id} after its label was revised to what it may not hold"
                ));
            }
            let shown = holding.labels.get(id);
            if let Some((label, _)) = &x.revised
                && shown.is_none_or(|s| !s.starts_with(label.as_str()))
            {
                v.surprises
                    .push(format!("{node} does not show that {id} is {label} now"));
            }
            if body.is_some_and(|b| b != x.body) {
                v.lost.push(format!("{node} holds {id} altered"));
            }
            v.delivered += 1;
            *v.matrix
                .entry((x.message.from.clone(), node.clone()))
                .or_default() += 1;
        }
    }
    for (i, x) in sent.iter().enumerate() {
        let m = &x.message;
        let place = format!("message {} from {} ({})", i + 1, m.from, m.level);
        if x.accepted != (m.expect != "refused") {
            let got = if x.accepted { "accepted" } else { "refused" };
            v.surprises
                .push(format!("{place} was {got}, expected {}", m.expect));
        }
        if let (Some(rule), Some(named)) = (m.rule, &x.rule)
            && *named != format!("POL-{rule:02}")
        {
            v.surprises.push(format!(
                "{place} was refused by {named}, expected POL-{rule:02}"
            ));
        }
        if !x.accepted {
            continue;
        }
        if let Some(wrong) = wrongly_passed(s, sent, x) {
            v.leaks.push(format!("{place} {wrong}"));
        }
        let owed: BTreeSet<&str> = m.to.iter().chain(&m.info).map(|t| address(t).1).collect();
        for node in owed {
            let id = x.id.as_deref().unwrap_or_default();
            let has = held.get(node).is_some_and(|h| h.bodies.contains_key(id));
            let control = s.node.iter().any(|n| n.name == node && n.control);
            match (
                has,
                m.expect == "expired"
                    || revoked.contains(node)
                    || control
                    || x.held_back.contains(node),
            ) {
                (false, true) => v.withheld += 1,
                (false, false) => v.lost.push(format!("{place} did not reach {node}")),
                (true, _) => {}
            }
        }
    }
    v
}

/// The root of RFC 9162 section 2.1.1 over leaf hashes, by the definition: recursive, no cache, nothing shared with the log's own
/// implementation. `None` for more than 2^20 leaves.
#[must_use]
pub fn naive_root(leaves: &[Digest]) -> Option<Digest> {
    match leaves {
        [] => Some(sha256(&[])),
        [one] => Some(*one),
        many if many.len() > 1 << 20 => None,
        many => {
            let mut k = 1;
            while k * 2 < many.len() {
                k *= 2;
            }
            let (left, right) = many.split_at(k);
            let (left, right) = (naive_root(left)?, naive_root(right)?);
            Some(sha256(&[&[1], left.as_bytes(), right.as_bytes()]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Step;

    fn scenario() -> Scenario {
        Scenario::parse(Scenario::built_in()).expect("valid")
    }

    fn message(to: &[&str], level: &str, circles: &[&str], compartments: &[&str]) -> Message {
        let s = scenario();
        let Some(Step::Send(m)) = s.step.into_iter().find(|x| matches!(x, Step::Send(_))) else {
            panic!("the scenario sends something")
        };
        let own = |v: &[&str]| v.iter().map(|x| (*x).to_owned()).collect();
        Message {
            to: own(to),
            info: vec![],
            level: level.into(),
            circles: own(circles),
            compartments: own(compartments),
            ..*m
        }
    }

    #[test]
    fn the_rule_in_its_own_words() {
        let s = scenario();
        assert!(may_reach(
            &s,
            &message(&["locc"], "Stg.C", &[], &[]),
            "locc"
        ));
        assert!(
            !may_reach(&s, &message(&["locc"], "Stg.G", &[], &[]), "locc"),
            "level"
        );
        assert!(
            !may_reach(&s, &message(&["ncc"], "Dep.V", &[], &[]), "locc"),
            "not addressed"
        );
        assert!(
            !may_reach(
                &s,
                &message(&["politie"], "Stg.C", &["ENERGIE"], &[]),
                "politie"
            ),
            "circle"
        );
        assert!(
            !may_reach(&s, &message(&["toc"], "Stg.C", &[], &["CYBER"]), "toc"),
            "compartment"
        );
        assert!(
            !may_reach(&s, &message(&["ncc"], "Stg.G", &[], &[]), "ncc"),
            "a node is not a person"
        );
        assert!(may_reach(
            &s,
            &message(&["vermeer@ncc"], "Stg.G", &[], &[]),
            "ncc"
        ));
        assert!(
            !may_reach(
                &s,
                &message(&["vermeer@dcc-def"], "Stg.G", &[], &[]),
                "dcc-def"
            ),
            "works elsewhere"
        );
    }

    #[test]
    fn a_leak_and_a_loss_are_seen() {
        let s = scenario();
        let m = message(&["locc"], "Stg.C", &[], &[]);
        let body = sha256(&[b"body"]);
        let sent = [Sent {
            id: Some("a".into()),
            accepted: true,
            body,
            ..Sent::new(m)
        }];
        let holds = |node: &str| {
            BTreeMap::from([(
                node.to_owned(),
                Holding {
                    bodies: BTreeMap::from([("a".to_owned(), Some(body))]),
                    ..Holding::default()
                },
            )])
        };
        let v = judge(&s, &sent, &holds("vr-zeeland"), &BTreeSet::new());
        assert_eq!((v.leaks.len(), v.lost.len()), (1, 1), "{v:?}");
        let v = judge(&s, &sent, &holds("locc"), &BTreeSet::new());
        assert_eq!(
            (v.leaks.len(), v.lost.len(), v.delivered),
            (0, 0, 1),
            "{v:?}"
        );
    }

    #[test]
    fn the_border_and_what_is_others() {
        let s = scenario();
        let graded = |to: &str, level: &str| message(&[to], level, &[], &[]);
        assert!(
            may_reach(&s, &graded("politie", "Stg.C"), "politie"),
            "assured"
        );
        assert!(
            !may_reach(&s, &graded("spoor", "Dep.V"), "spoor"),
            "not assured"
        );
        assert!(may_reach(&s, &graded("spoor", "Ongerubriceerd"), "spoor"));
        let nato = |from: &str, to: &str, level: &str| Message {
            from: from.into(),
            policy: Some("NATO".into()),
            ..graded(to, level)
        };
        assert!(may_reach(&s, &nato("shape", "dcc-def", "Stg.C"), "dcc-def"));
        assert!(
            !may_reach(&s, &nato("shape", "locc", "Stg.C"), "locc"),
            "no clearance under it"
        );
        assert!(
            may_reach(&s, &nato("dcc-def", "ncc", "Dep.V"), "ncc"),
            "with consent"
        );
        assert!(
            !may_reach(&s, &nato("dcc-def", "ncc", "Stg.C"), "ncc"),
            "above it"
        );
        assert!(
            !may_reach(&s, &nato("dcc-def", "toc", "Dep.V"), "toc"),
            "not for them"
        );
    }

    #[test]
    fn an_extract_has_two_persons_who_may_sign_it() {
        let s = scenario();
        let sent = |level: &str, label: &str, name: Option<&str>| Sent {
            accepted: true,
            ..Sent::new(Message {
                label: label.into(),
                name: name.map(Into::into),
                ..message(&["locc"], level, &[], &[])
            })
        };
        let parent = sent(
            "Stg.C",
            "Stg.C // VASTGESTELD bakker.person.crisis.example",
            Some("beeld"),
        );
        let wrong = |level: &str, signed: &[&str]| {
            let x = Sent {
                passing: Some(Passing {
                    of: "beeld".into(),
                    signed: signed.iter().map(|n| (*n).to_owned()).collect(),
                }),
                ..sent(level, "", None)
            };
            wrongly_passed(&s, std::slice::from_ref(&parent), &x).is_some()
        };
        assert!(!wrong("Stg.C", &[]) && wrong("Dep.V", &[]));
        assert!(!wrong("Dep.V", &["bakker", "mulder"]));
        assert!(wrong("Dep.V", &["bakker"]) && wrong("Dep.V", &["bakker", "bakker"]));
        assert!(wrong("Dep.V", &["vermeer", "bakker"]), "not hers");
        assert!(wrong("Dep.V", &["bakker", "vos"]), "not cleared");
        assert!(wrong("Stg.G", &["bakker", "mulder"]), "higher");
    }

    #[test]
    fn naive_root_of_three() {
        let l: Vec<Digest> = (0u8..3).map(|i| sha256(&[&[0, i]])).collect();
        let left = sha256(&[&[1], l[0].as_bytes(), l[1].as_bytes()]);
        assert_eq!(
            naive_root(&l),
            Some(sha256(&[&[1], left.as_bytes(), l[2].as_bytes()]))
        );
    }
}
