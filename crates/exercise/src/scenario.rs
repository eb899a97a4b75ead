//! The scenario file: who takes part, and what happens, in order.
//!
//! TOML; a key this page does not name is refused. Names are local (`ncc`); the structure supplies the rest. The facts
//! here (clearance, circles) are all the judge uses: it never asks the product's own policy.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// A whole exercise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What the exercise is about, one line.
    pub title: String,
    /// DNS name of the structure, for instance `crisis.example`.
    pub structure: String,
    /// Example policies of `docs/policies` in force beside the built-in ones: `be`.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Originators' prior consent that their information goes on.
    #[serde(default)]
    pub consent: Vec<Consent>,
    /// Events that labels may last until.
    #[serde(default)]
    pub event: Vec<Event>,
    /// The circles by name, with a title each.
    #[serde(default)]
    pub circle: Vec<Circle>,
    /// The nodes.
    pub node: Vec<Node>,
    /// The persons who may be named as readers or establish labels.
    #[serde(default)]
    pub person: Vec<Person>,
    /// What happens, in order.
    pub step: Vec<Step>,
}

/// A group of nodes that a label may be limited to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Circle {
    /// Name as it stands in a label.
    pub name: String,
    /// What it is.
    pub title: String,
}

/// That information under a policy may go to these.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// The policy.
    pub policy: String,
    /// Up to which level, as that policy calls it.
    pub up_to: String,
    /// The same as a Dutch level, for the judge.
    pub level: String,
    /// To which nodes.
    pub to: Vec<String>,
}

/// An event.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Its name, as labels write it.
    pub name: String,
    /// Who may declare it.
    pub declared_by: Vec<String>,
}

/// A clearance under another policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Also {
    /// The policy.
    pub policy: String,
    /// The Dutch level its highest equals, for the judge.
    pub level: String,
    /// As it is typed.
    pub typed: String,
}

/// One organisation's endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Local name, for instance `ncc`.
    pub name: String,
    /// The organisation.
    pub title: String,
    /// Highest level it may hold, for instance `Stg.G`.
    pub clearance: String,
    /// Circles it belongs to.
    #[serde(default)]
    pub circles: Vec<String>,
    /// Compartments it holds.
    #[serde(default)]
    pub compartments: Vec<String>,
    /// Whether it belongs to the Rijksdienst.
    #[serde(default)]
    pub rijksdienst: bool,
    /// Outside it: up to which level a decision says that it protects what it gets; its own clearance where nothing stands here.
    pub assured: Option<String>,
    /// Clearances under other policies.
    #[serde(default)]
    pub also: Vec<Also>,
    /// Policies whose originators it speaks for.
    #[serde(default)]
    pub speaks_for: Vec<String>,
    /// Whether the exercise itself speaks for this node, so that no daemon runs for it.
    #[serde(default)]
    pub control: bool,
    /// Whether its network lets no UDP through, so that it comes over TCP.
    #[serde(default)]
    pub udp_blocked: bool,
}

/// A person with an own certificate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Local name.
    pub name: String,
    /// The node the person works at.
    pub node: String,
    /// Highest level the person may hold.
    pub clearance: String,
    /// Circles the person belongs to.
    #[serde(default)]
    pub circles: Vec<String>,
    /// Compartments the person holds.
    #[serde(default)]
    pub compartments: Vec<String>,
    /// Highest level the person may establish (vaststeller), if any.
    pub establishes: Option<String>,
}

/// One thing that happens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "do")]
pub enum Step {
    /// A duty officer sends a message.
    Send(Box<Message>),
    /// A node that has a message passes it on as it is.
    Forward {
        /// The message, by its `name`.
        of: String,
        /// To whom; label and body are those of the message.
        message: Box<Message>,
    },
    /// A node that sent or has a message makes an extract of it.
    Extract {
        /// The message, by its `name`.
        of: String,
        /// The vaststeller.
        by: String,
        /// The second person, who signs after the vaststeller.
        second: Option<String>,
        /// The extract.
        message: Box<Message>,
    },
    /// The daemon of a node stops, without warning.
    Offline {
        /// The node.
        node: String,
    },
    /// The daemon of a node starts again.
    Online {
        /// The node.
        node: String,
    },
    /// The certificate of a node is revoked and the broker learns of it.
    Revoke {
        /// The node.
        node: String,
    },
    /// A message with an attachment is on its way to a node over a slow line when that node's certificate is revoked.
    Cut {
        /// The node.
        node: String,
        /// Size of the attachment, 8 to 512.
        megabytes: u64,
        /// The message it goes with.
        message: Box<Message>,
    },
    /// Another issuing authority is made and certificates are renewed by it, one after the other, while these nodes write to each other in a ring.
    Rollover {
        /// Nodes that get a new certificate, the broker between them.
        renew: Vec<String>,
        /// A node that goes on with the one it has.
        keeps: String,
    },
    /// The broker is killed (SIGKILL) and started again.
    KillBroker,
    /// The same envelope is published twice.
    Duplicate,
    /// A peer sends garbage, and an accredited node sends a frame that cannot be read.
    Malformed,
    /// A message that waits as a draft is established and sent.
    Establish {
        /// The message, by its `name`.
        message: String,
        /// The vaststeller.
        by: String,
    },
    /// A label is revised.
    Revise {
        /// The message, by its `name`.
        message: String,
        /// The label from now on, as typed.
        label: String,
        /// Its level, for the judge.
        level: String,
        /// The vaststeller.
        by: String,
    },
    /// An event is declared.
    Declare {
        /// The event.
        event: String,
        /// Who declares it.
        by: String,
    },
    /// The labels that are due for review at a node are these and no others.
    Due {
        /// The node.
        node: String,
        /// The messages, by their `name`.
        messages: Vec<String>,
    },
    /// Nothing new happens until everything that can be delivered is.
    Settle,
    /// Every node reads what it has, and signs that it was opened.
    ReadAll,
}

/// One message as a duty officer types it, and what should come of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// What later steps call it.
    pub name: Option<String>,
    /// Whether it is only proposed: it is then refused, and waits as a draft until a step establishes it.
    #[serde(default)]
    pub propose: bool,
    /// The policy of its label, for the judge; Dutch where nothing stands here.
    pub policy: Option<String>,
    /// Sending node.
    pub from: String,
    /// Action recipients: `node` or `person@node`.
    pub to: Vec<String>,
    /// Information recipients.
    #[serde(default)]
    pub info: Vec<String>,
    /// The label as typed.
    pub label: String,
    /// Level of the label, for the judge: it does not parse labels.
    pub level: String,
    /// Circles of the label, for the judge.
    #[serde(default)]
    pub circles: Vec<String>,
    /// Compartments of the label, for the judge.
    #[serde(default)]
    pub compartments: Vec<String>,
    /// Precedence by name.
    pub precedence: String,
    /// Subject line.
    pub subject: String,
    /// What it says.
    pub body: String,
    /// `accepted`, `refused` or `expired` (accepted, but too late for an absent reader).
    pub expect: String,
    /// Number of the rule a refusal should name.
    pub rule: Option<u16>,
    /// Lifetime in seconds, where the message does not keep the usual one.
    pub expires_s: Option<u64>,
}

impl Message {
    /// A message without a level and of routine precedence, which is accepted.
    #[must_use]
    pub fn routine(from: &str, to: Vec<String>, body: &str) -> Self {
        Self {
            name: None,
            propose: false,
            policy: None,
            from: from.into(),
            to,
            info: vec![],
            label: LEVELS[0].into(),
            level: LEVELS[0].into(),
            circles: vec![],
            compartments: vec![],
            precedence: "routine".into(),
            subject: String::new(),
            body: body.into(),
            expect: "accepted".into(),
            rule: None,
            expires_s: None,
        }
    }
}

/// Why a scenario was refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidScenario {
    /// Not TOML of the documented form.
    #[error("the scenario is not valid: {0}")]
    Malformed(String),
    /// A step or a person names someone who does not take part.
    #[error("{place} names '{name}', who does not take part; add it as a node or a person")]
    Unknown {
        /// Where the name stands.
        place: String,
        /// The name.
        name: String,
    },
    /// Two entries have one name.
    #[error("'{0}' takes part twice; give one of them another name")]
    Twice(String),
    /// A word that is none of the documented ones.
    #[error("{place}: '{word}' is not one of {allowed}")]
    Word {
        /// Where the word stands.
        place: String,
        /// The word.
        word: String,
        /// What could stand there.
        allowed: &'static str,
    },
}

/// The levels as the judge orders them: position is rank.
pub const LEVELS: [&str; 5] = ["Ongerubriceerd", "Dep.V", "Stg.C", "Stg.G", "Stg.ZG"];

/// Sizes of an attachment that is cut off on its way: long enough on it, and made at once.
const CUT_MEGABYTES: std::ops::RangeInclusive<u64> = 8..=512;

impl Scenario {
    /// The built-in scenario: loss of the Defence fibre network during a large power failure.
    #[must_use]
    pub fn built_in() -> &'static str {
        include_str!("../scenarios/nafin.toml")
    }

    /// Reads a scenario and checks that everyone it names takes part.
    ///
    /// # Errors
    /// [`InvalidScenario`] names the entry and what to do.
    pub fn parse(text: &str) -> Result<Self, InvalidScenario> {
        let s: Self = toml::from_str(text)
            .map_err(|e| InvalidScenario::Malformed(e.to_string().trim_end().into()))?;
        s.check()?;
        Ok(s)
    }

    fn check(&self) -> Result<(), InvalidScenario> {
        let mut nodes = BTreeSet::new();
        for n in &self.node {
            if !nodes.insert(n.name.as_str()) {
                return Err(InvalidScenario::Twice(n.name.clone()));
            }
            level(&n.clearance, &format!("node {}", n.name))?;
        }
        let mut persons = BTreeMap::new();
        for p in &self.person {
            let place = format!("person {}", p.name);
            if persons.insert(p.name.as_str(), p.node.as_str()).is_some() {
                return Err(InvalidScenario::Twice(p.name.clone()));
            }
            known(&nodes, &p.node, &place)?;
            level(&p.clearance, &place)?;
        }
        let people: BTreeSet<&str> = persons.keys().copied().collect();
        let names = self.step.iter().filter_map(|s| match s {
            Step::Send(m) => m.name.as_deref(),
            _ => None,
        });
        let named: BTreeSet<&str> = names.collect();
        for (i, step) in self.step.iter().enumerate() {
            let place = format!("step {}", i + 1);
            match step {
                Step::Cut {
                    node,
                    megabytes,
                    message,
                } => {
                    known(&nodes, node, &place)?;
                    if !message.to.iter().chain(&message.info).any(|t| t == node) {
                        return Err(InvalidScenario::Word {
                            place,
                            word: node.clone(),
                            allowed: "the recipients of its message",
                        });
                    }
                    if !CUT_MEGABYTES.contains(megabytes) {
                        return Err(InvalidScenario::Word {
                            place,
                            word: format!("megabytes = {megabytes}"),
                            allowed: "megabytes = 8 to megabytes = 512",
                        });
                    }
                    known(&nodes, &message.from, &place)?;
                    level(&message.level, &place)?;
                }
                Step::Rollover { renew, keeps } => {
                    for node in renew.iter().chain([keeps]) {
                        known(&nodes, node, &place)?;
                    }
                }
                Step::Send(m) => whole(m, &nodes, &place)?,
                Step::Forward { of, message } => {
                    known(&named, of, &place)?;
                    whole(message, &nodes, &place)?;
                }
                Step::Extract {
                    of,
                    by,
                    second,
                    message,
                } => {
                    known(&named, of, &place)?;
                    whole(message, &nodes, &place)?;
                    for who in std::iter::once(by).chain(second) {
                        known(&people, who, &place)?;
                    }
                }
                Step::Offline { node } | Step::Online { node } | Step::Revoke { node } => {
                    known(&nodes, node, &place)?
                }
                Step::Due { node, messages } => {
                    known(&nodes, node, &place)?;
                    for m in messages {
                        known(&named, m, &place)?;
                    }
                }
                Step::Establish { message, by } => {
                    known(&named, message, &place)?;
                    known(&people, by, &place)?;
                }
                Step::Revise {
                    message,
                    by,
                    level: l,
                    ..
                } => {
                    known(&named, message, &place)?;
                    known(&people, by, &place)?;
                    level(l, &place)?;
                }
                Step::Declare { by, .. } => known(&people, by, &place)?,
                Step::KillBroker
                | Step::Duplicate
                | Step::Malformed
                | Step::Settle
                | Step::ReadAll => {}
            }
        }
        Ok(())
    }

    /// How many messages the steps send.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.step
            .iter()
            .filter(|s| {
                matches!(
                    s,
                    Step::Send(_) | Step::Forward { .. } | Step::Extract { .. }
                )
            })
            .count()
    }
}

fn whole(m: &Message, nodes: &BTreeSet<&str>, place: &str) -> Result<(), InvalidScenario> {
    known(nodes, &m.from, place)?;
    level(&m.level, place)?;
    if ["accepted", "refused", "expired"].contains(&m.expect.as_str()) {
        // A recipient may be unknown on purpose: the product must refuse it.
        return Ok(());
    }
    Err(InvalidScenario::Word {
        place: place.into(),
        word: m.expect.clone(),
        allowed: "accepted, refused, expired",
    })
}

fn known(nodes: &BTreeSet<&str>, name: &str, place: &str) -> Result<(), InvalidScenario> {
    if nodes.contains(name) {
        return Ok(());
    }
    Err(InvalidScenario::Unknown {
        place: place.into(),
        name: name.into(),
    })
}

fn level(word: &str, place: &str) -> Result<(), InvalidScenario> {
    if LEVELS.contains(&word) {
        return Ok(());
    }
    let allowed = "Ongerubriceerd, Dep.V, Stg.C, Stg.G, Stg.ZG";
    Err(InvalidScenario::Word {
        place: place.into(),
        word: word.into(),
        allowed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_scenario_is_as_large_as_promised() {
        let s = Scenario::parse(Scenario::built_in()).expect("valid");
        assert!(s.node.len() >= 14, "{} nodes", s.node.len());
        assert!(s.messages() >= 60, "{} messages", s.messages());
        for level in LEVELS {
            assert!(
                s.step
                    .iter()
                    .any(|x| matches!(x, Step::Send(m) if m.level == level)),
                "no message at {level}"
            );
        }
    }

    #[test]
    fn a_step_that_names_a_stranger_is_refused() {
        let text = format!(
            "{}\n[[step]]\ndo = \"offline\"\nnode = \"atlantis\"\n",
            Scenario::built_in()
        );
        let e = Scenario::parse(&text).expect_err("no such node");
        assert!(e.to_string().contains("atlantis"), "{e}");
    }

    #[test]
    fn a_cut_that_cannot_be_one_is_refused() {
        let text = Scenario::built_in().replace("megabytes = 24", "megabytes = 1");
        let e = Scenario::parse(&text).expect_err("too small");
        assert!(e.to_string().contains("megabytes = 8"), "{e}");
        let text = Scenario::built_in().replace(
            "node = \"drinkwater\"\nmegabytes",
            "node = \"ncc\"\nmegabytes",
        );
        let e = Scenario::parse(&text).expect_err("not for that node");
        assert!(e.to_string().contains("'ncc' is not one of"), "{e}");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let e = Scenario::parse("titel = \"x\"").expect_err("misspelt");
        assert!(e.to_string().contains("titel"), "{e}");
    }
}
