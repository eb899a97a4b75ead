//! What a subject may hold.

use std::collections::BTreeSet;

use crate::confidentiality::add;
use crate::{Confidentiality, InvalidValue, Level, PolicyId, TagSet, Value};

/// A statement of what a subject may hold: everything up to a level, the compartments it is read into, the circles it is in.
///
/// Several statements about one subject (certificate, register, link) are combined with [`Self::meet`]: the minimum of all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Clearance {
    policy: PolicyId,
    level: Level,
    compartments: BTreeSet<Value>,
    circles: BTreeSet<Value>,
}

impl Clearance {
    /// Up to this level of the Dutch policy, in no compartment and no circle.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self::under(PolicyId::nl(), level)
    }

    /// Up to this level of a policy.
    #[must_use]
    pub fn under(policy: PolicyId, level: Level) -> Self {
        Self {
            policy,
            level,
            compartments: BTreeSet::new(),
            circles: BTreeSet::new(),
        }
    }

    /// Adds membership of a circle.
    ///
    /// # Errors
    /// [`InvalidValue`] says what a value may look like, or that there are too many.
    pub fn with_circle(mut self, value: &str) -> Result<Self, InvalidValue> {
        add(&mut self.circles, value.parse()?)?;
        Ok(self)
    }

    /// Adds a compartment.
    ///
    /// # Errors
    /// As [`Self::with_circle`].
    pub fn with_compartment(mut self, value: &str) -> Result<Self, InvalidValue> {
        add(&mut self.compartments, value.parse()?)?;
        Ok(self)
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &PolicyId {
        &self.policy
    }

    /// The highest level.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// The compartments.
    #[must_use]
    pub fn compartments(&self) -> &BTreeSet<Value> {
        &self.compartments
    }

    /// The circles.
    #[must_use]
    pub fn circles(&self) -> &BTreeSet<Value> {
        &self.circles
    }

    /// Whether the holder may have what is labelled so (the access rule of ADatP-4774.1 section 3.11.4): same policy, level
    /// not above, every restrictive value held, of each permissive set at least one value held. A tag set that is not
    /// known here is not held.
    #[must_use]
    pub fn covers(&self, label: &Confidentiality) -> bool {
        self.policy == *label.policy()
            && label.level() <= self.level
            && label.restrictive().iter().all(|(set, values)| {
                self.held(set).is_some_and(|h| values.is_subset(h)) || values.is_empty()
            })
            && label
                .permissive()
                .iter()
                .all(|(set, values)| self.held(set).is_some_and(|h| !values.is_disjoint(h)))
    }

    /// The minimum of two statements: never wider than either. `None` for statements under two policies: they have
    /// nothing in common, and the subject may hold nothing.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Option<Self> {
        (self.policy == other.policy).then(|| Self {
            policy: self.policy.clone(),
            level: self.level.min(other.level),
            compartments: &self.compartments & &other.compartments,
            circles: &self.circles & &other.circles,
        })
    }

    fn held(&self, set: &TagSet) -> Option<&BTreeSet<Value>> {
        match set.as_str() {
            "Kring" => Some(&self.circles),
            "Compartiment" => Some(&self.compartments),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confidentiality::tests::{confidentiality, level};
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    fn clearance() -> impl Strategy<Value = Clearance> {
        let word = || prop_oneof!["A", "B", "C"];
        (level(), btree_set(word(), 0..3), btree_set(word(), 0..3)).prop_map(
            |(level, compartments, circles)| {
                let c = compartments.iter().fold(Clearance::new(level), |c, v| {
                    c.with_compartment(v).expect("valid")
                });
                circles
                    .iter()
                    .fold(c, |c, v| c.with_circle(v).expect("valid"))
            },
        )
    }

    proptest! {
        #[test]
        fn who_may_hold_the_whole_may_hold_the_part(a in confidentiality(), b in confidentiality(), c in clearance()) {
            let part = a.meet(&b).expect("one policy");
            prop_assert!(!c.covers(&b) || c.covers(&part));
        }

        #[test]
        fn the_minimum_is_never_wider(x in clearance(), y in clearance(), l in confidentiality()) {
            let least = x.meet(&y).expect("one policy");
            prop_assert!(!least.covers(&l) || (x.covers(&l) && y.covers(&l)));
            prop_assert_eq!(Some(least), y.meet(&x));
            prop_assert_eq!(x.meet(&x), Some(x));
        }

        #[test]
        fn a_join_is_held_only_by_who_holds_both(a in confidentiality(), b in confidentiality(), c in clearance()) {
            let whole = a.join(&b).expect("one policy");
            prop_assert!(!c.covers(&whole) || (c.covers(&a) && c.covers(&b)));
        }
    }

    #[test]
    fn each_part_refuses_alone() {
        let label = Confidentiality::new(Level::StgC)
            .with_circle("ICCB")
            .and_then(|l| l.with_compartment("CYBER"))
            .expect("valid");
        let good = Clearance::new(Level::StgC)
            .with_circle("iccb")
            .and_then(|c| c.with_compartment("cyber"))
            .expect("valid");
        assert!(good.covers(&label));
        let low = Clearance {
            level: Level::DepV,
            ..good.clone()
        };
        let no_circle = Clearance {
            circles: BTreeSet::new(),
            ..good.clone()
        };
        let no_compartment = Clearance {
            compartments: BTreeSet::new(),
            ..good.clone()
        };
        let other = Clearance {
            policy: "NATO".parse().expect("valid"),
            ..good.clone()
        };
        assert_eq!(good.meet(&other), None);
        for c in [low, no_circle, no_compartment, other] {
            assert!(!c.covers(&label), "{c:?}");
        }
        assert!(
            !good.covers(&label.clone().for_nobody()),
            "nobody is nobody"
        );
    }
}
