//! Every rule with its verdict and the fact it rests on.

use std::ops::ControlFlow;

use ordonnans_label::Name;
use ordonnans_message::{Recipient, Timestamp};

use crate::decide::{Asker, recipient, sender};
use crate::{Grounds, Question, RULES, RuleId};

/// What came of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not: the message is refused.
    Fails,
}

/// One rule, asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The rule.
    pub rule: RuleId,
    /// The recipient it was asked for; `None` where it is about the sender or the message.
    pub recipient: Option<Name>,
    /// What came of it.
    pub verdict: Verdict,
    /// The fact the verdict rests on, in words. It tells what subjects hold: for security officers only.
    pub fact: String,
}

impl Step {
    /// What the rule says.
    #[must_use]
    pub fn text(&self) -> &'static str {
        RULES
            .iter()
            .find(|r| r.id == self.rule)
            .map_or("", |r| r.text)
    }
}

struct Listener<'a> {
    steps: &'a mut Vec<Step>,
    recipient: Option<&'a Name>,
}

impl Asker for Listener<'_> {
    fn hear(
        &mut self,
        rule: RuleId,
        holds: bool,
        fact: impl FnOnce() -> String,
    ) -> ControlFlow<RuleId> {
        self.steps.push(Step {
            rule,
            recipient: self.recipient.cloned(),
            verdict: if holds {
                Verdict::Holds
            } else {
                Verdict::Fails
            },
            fact: fact(),
        });
        ControlFlow::Continue(())
    }
}

/// Asks every rule, of the sender and of each recipient, by the same code that decides. A rule that rests on something that is not there (a node
/// nobody registered) is the last asked about it.
#[must_use]
pub fn explain(g: &Grounds<'_>, q: &Question<'_>, to: &[Recipient], now: Timestamp) -> Vec<Step> {
    let mut steps = vec![];
    // The verdicts are in the steps.
    let _ = sender(
        &mut Listener {
            steps: &mut steps,
            recipient: None,
        },
        g,
        q,
        now,
    );
    for r in to {
        let mut listener = Listener {
            steps: &mut steps,
            recipient: Some(&r.node),
        };
        let _ = recipient(&mut listener, g, q, r, now);
    }
    steps
}
