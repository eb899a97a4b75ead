//! The labels a sender may use to some recipients, so that a mistake is caught before sending (the idea of the catalogue of
//! XEP-0258).

use ordonnans_label::{
    CategoryType, Clearance, Confidentiality, Label, Name, PolicySet, State, TagSet, Value,
};
use ordonnans_message::{Recipient, Timestamp};

use crate::decide::{admit, decide};
use crate::{Grounds, Question, RuleId};

/// Labels of one catalogue: every level of a few policies, with each circle of a large structure. More are cut off.
pub const MAX_CATALOG: usize = 256;
/// Level and categories that this sender may use now to all of these recipients: each level of each policy bare, and with each one value that
/// the sender holds. Never a label that the sender is not cleared for itself. At most [`MAX_CATALOG`].
#[must_use]
pub fn catalog(
    g: &Grounds<'_>,
    from: &Name,
    to: &[Recipient],
    now: Timestamp,
) -> Vec<Confidentiality> {
    let mut all = vec![];
    let Some(holds) = g.register.node(from).map(|n| &n.clearances) else {
        return all;
    };
    for own in holds.iter() {
        let Some(policy) = g.book.policies().get(own.policy()) else {
            continue;
        };
        for level in policy.levels() {
            let bare = Confidentiality::under(policy.id().clone(), level.classification.clone());
            let with = values(policy.sets(), own).filter_map(|(kind, set, value)| {
                bare.clone().with_value(kind, set, value.as_str()).ok()
            });
            for c in std::iter::once(bare.clone()).chain(with) {
                if all.len() < MAX_CATALOG && usable(g, from, to, &c, now) {
                    all.push(c);
                }
            }
        }
    }
    all
}

/// What a holder may narrow a label by.
fn values<'a>(
    sets: &'a [PolicySet],
    own: &'a Clearance,
) -> impl Iterator<Item = (CategoryType, &'a TagSet, &'a Value)> {
    sets.iter()
        .filter(|s| s.kind != CategoryType::Informative)
        .flat_map(|s| own.held(&s.name).iter().map(move |v| (s.kind, &s.name, v)))
}

/// Everything but the legal act, which comes later.
fn usable(
    g: &Grounds<'_>,
    from: &Name,
    to: &[Recipient],
    c: &Confidentiality,
    now: Timestamp,
) -> bool {
    let label = Label {
        confidentiality: c.clone(),
        duration: None,
        state: State::Proposed,
    };
    let q = Question::supposed(from, &label, now);
    let act = [RuleId::DURATION, RuleId::ESTABLISHED, RuleId::VASTSTELLER];
    let id = ordonnans_message::MessageId::new(now, [0; 10]);
    admit(g, &q, now).map_or_else(|e| act.contains(&e.rule()), |()| true)
        && to.iter().all(|r| decide(g, id, &q, r, now).is_ok())
}
