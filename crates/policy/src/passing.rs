//! What a message passes on: the rules about it, its parent and who signed for it.
//!
//! What is passed on *as it is* keeps the label in force and needs no new act: nothing of the law changes but who has a copy. An *extract* is a new
//! message below its parent; that the parent's information may leave its level so is for its vaststeller to say (VIRBI 2025 article 5(3)), and
//! from Stg.C up a second person says so, too.

use std::ops::ControlFlow;

use ordonnans_label::{Confidentiality, Label, Level, Name, State};
use ordonnans_message::{Digest, How, Second, SignedAct, Timestamp};

use crate::decide::{Asker, may_establish};
use crate::{Grounds, Question, RuleId};

/// That a message passes another on, and what is known here of that.
#[derive(Clone, Copy, Debug)]
pub struct Passed<'a> {
    /// How.
    pub how: How,
    /// The parent; `None` where it is not known here or was taken back, or the sender neither sent it nor has a copy.
    pub parent: Option<Parent<'a>>,
    /// The act that the message carries.
    pub act: Option<&'a SignedAct>,
    /// The second person's word. That its signature is right is settled where messages are read.
    pub second: Option<&'a Second>,
}

/// A message that is passed on.
#[derive(Clone, Copy, Debug)]
pub struct Parent<'a> {
    /// Its act in force, where a person established its label.
    pub in_force: Option<InForce<'a>>,
    /// Whether the message that passes it on carries its label in force, and the act that put it in force.
    pub unchanged: bool,
}

/// A label that a person established.
#[derive(Clone, Copy, Debug)]
pub struct InForce<'a> {
    /// The label.
    pub label: &'a Label,
    /// Whose information it is.
    pub node: &'a Name,
    /// SHA-256 of the act that put it in force.
    pub act: Digest,
}

impl InForce<'_> {
    fn vaststeller(&self) -> Option<&Name> {
        match &self.label.state {
            State::Established { by } => Some(by),
            State::Proposed => None,
        }
    }
}

/// The rules about what is passed on, in the order of asking.
pub(crate) fn passing(
    a: &mut impl Asker,
    g: &Grounds<'_>,
    q: &Question<'_>,
    p: &Passed<'_>,
    now: Timestamp,
) -> ControlFlow<RuleId> {
    let level = q.label.confidentiality.level();
    let Some(parent) = &p.parent else {
        a.hear(RuleId::PARENT, false, || {
            "the parent is not known here, was taken back, or is not the sender's to have".into()
        })?;
        return ControlFlow::Break(RuleId::PARENT);
    };
    a.hear(RuleId::PARENT, true, || {
        "known here, and the sender has it".into()
    })?;
    if p.how == How::AsItIs {
        a.hear(RuleId::UNCHANGED, parent.unchanged, || {
            match parent.in_force {
                _ if parent.unchanged => "the label in force, by the act in force".into(),
                Some(f) => format!("{} is in force", f.label.confidentiality),
                None => "its label is another".into(),
            }
        })?;
        return a.hear(RuleId::REPRODUCTION, level < Level::StgG, || {
            format!("it is {level}")
        });
    }
    extract(a, g, q, p, parent, now)
}

fn extract(
    a: &mut impl Asker,
    g: &Grounds<'_>,
    q: &Question<'_>,
    p: &Passed<'_>,
    parent: &Parent<'_>,
    now: Timestamp,
) -> ControlFlow<RuleId> {
    let level = q.label.confidentiality.level();
    let Some((in_force, act)) = parent.in_force.zip(p.act) else {
        a.hear(RuleId::EXTRACT, false, || {
            "nobody established the label of the parent here: it is its originator's".into()
        })?;
        return ControlFlow::Break(RuleId::EXTRACT);
    };
    let (from, said) = (&in_force.label.confidentiality, act.said());
    let names = said.follows.is_some_and(|f| f.act == in_force.act) && said.node == *in_force.node;
    a.hear(RuleId::EXTRACT, names && level <= from.level(), || {
        if names {
            format!("{level}, of {}", from.level())
        } else {
            "the act names another than is in force on the parent".into()
        }
    })?;
    let stands = in_force
        .vaststeller()
        .is_some_and(|v| g.register.stands_for(&said.by, v));
    let levels = [level, from.level()];
    let may = stands && may_establish(g.register, &said.by, in_force.node, levels, now);
    a.hear(RuleId::EXTRACT_BY, may, || {
        let v = in_force.vaststeller().map_or("nobody", Name::local);
        format!("signed by {}; the parent is {v}'s", said.by.local())
    })?;
    if from.level() < Level::StgC {
        return ControlFlow::Continue(());
    }
    let over = p.second.filter(|s| s.act == act.digest());
    a.hear(RuleId::SECOND_SIGNED, over.is_some(), || match p.second {
        None => "no second signature".into(),
        Some(s) if over.is_none() => format!("{} signed another act", s.by.local()),
        Some(s) => format!("{} signed this act", s.by.local()),
    })?;
    let Some(second) = over else {
        return ControlFlow::Break(RuleId::SECOND_SIGNED);
    };
    a.hear(RuleId::SECOND_OTHER, second.by != said.by, || {
        format!("{} and {}", said.by.local(), second.by.local())
    })?;
    a.hear(
        RuleId::SECOND_CLEARED,
        cleared(g, &second.by, from, now),
        || {
            let entry = g.register.person(&second.by);
            let held = entry.and_then(|e| e.clearances.under(from.policy()));
            held.map_or_else(
                || format!("{} has no clearance here", second.by),
                |h| format!("{} holds {h}", second.by.local()),
            )
        },
    )
}

/// Whether a person of the register may read what has this label, now.
fn cleared(g: &Grounds<'_>, person: &Name, c: &Confidentiality, now: Timestamp) -> bool {
    let Some(entry) = g.register.person(person) else {
        return false;
    };
    let held = entry.clearances.under(c.policy());
    let member = |v| {
        let span = entry.memberships.get(v);
        span.is_some_and(|s| s.contains(now))
    };
    held.is_some_and(|h| h.covers(c)) && c.circles().is_none_or(|all| all.iter().any(member))
}
