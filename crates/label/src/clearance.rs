//! What a subject may hold.

use std::collections::{BTreeMap, BTreeSet};

use crate::confidentiality::{Categories, add};
use crate::{
    CategoryType, Classification, Confidentiality, InvalidValue, Level, PolicyId, TagSet, Value,
};

/// A statement of what a subject may hold: everything up to a level, the compartments it is read into, the circles it is in.
///
/// Several statements about one subject (certificate, register, link) are combined with [`Self::meet`]: the minimum of all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Clearance {
    policy: PolicyId,
    highest: Classification,
    held: Categories,
}

const NONE: &BTreeSet<Value> = &BTreeSet::new();

impl Clearance {
    /// Up to this level of the Dutch policy, in no compartment and no circle.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self::under(PolicyId::nl(), level.into())
    }

    /// Up to this classification of a policy.
    #[must_use]
    pub fn under(policy: PolicyId, highest: Classification) -> Self {
        Self {
            policy,
            highest,
            held: Categories::new(),
        }
    }

    /// Adds membership of a circle.
    ///
    /// # Errors
    /// [`InvalidValue`] says what a value may look like, or that there are too many.
    pub fn with_circle(self, value: &str) -> Result<Self, InvalidValue> {
        self.with_value(&TagSet::kring(), value)
    }

    /// Adds a compartment.
    ///
    /// # Errors
    /// As [`Self::with_circle`].
    pub fn with_compartment(self, value: &str) -> Result<Self, InvalidValue> {
        self.with_value(&TagSet::compartiment(), value)
    }

    /// Adds a value of a tag set of any policy.
    ///
    /// # Errors
    /// As [`Self::with_circle`].
    pub fn with_value(mut self, set: &TagSet, value: &str) -> Result<Self, InvalidValue> {
        add(self.held.entry(set.clone()).or_default(), value.parse()?)?;
        Ok(self)
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &PolicyId {
        &self.policy
    }

    /// The highest classification, as the policy names it.
    #[must_use]
    pub fn highest(&self) -> &Classification {
        &self.highest
    }

    /// The Dutch level equal to the highest classification.
    #[must_use]
    pub fn level(&self) -> Level {
        self.highest.level()
    }

    /// The compartments.
    #[must_use]
    pub fn compartments(&self) -> &BTreeSet<Value> {
        self.held(&TagSet::compartiment())
    }

    /// The circles.
    #[must_use]
    pub fn circles(&self) -> &BTreeSet<Value> {
        self.held(&TagSet::kring())
    }

    /// The values held of a set; of a set that is not known here, none.
    #[must_use]
    pub fn held(&self, set: &TagSet) -> &BTreeSet<Value> {
        self.held.get(set).unwrap_or(NONE)
    }

    /// Every set of which a value is held.
    pub fn categories(&self) -> impl Iterator<Item = (&TagSet, &BTreeSet<Value>)> {
        self.held.iter()
    }

    /// Whether the holder may have what is labelled so (the access rule of ADatP-4774.1 section 3.11.4): same policy, classification
    /// not above, every restrictive value held, of each permissive set at least one value held. A tag set that is not
    /// known here is not held.
    #[must_use]
    pub fn covers(&self, label: &Confidentiality) -> bool {
        self.policy == *label.policy()
            && self.highest.reaches(label.classification())
            && label
                .categories(CategoryType::Restrictive)
                .all(|(set, values)| values.is_subset(self.held(set)))
            && label
                .categories(CategoryType::Permissive)
                .all(|(set, values)| !values.is_disjoint(self.held(set)))
    }

    /// The minimum of two statements: never wider than either. `None` for statements under two policies: they have
    /// nothing in common, and the subject may hold nothing.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Option<Self> {
        (self.policy == other.policy).then(|| Self {
            policy: self.policy.clone(),
            highest: self.highest.clone().min(other.highest.clone()),
            held: self
                .held
                .iter()
                .filter_map(|(set, own)| {
                    let both: BTreeSet<Value> = own & other.held(set);
                    (!both.is_empty()).then(|| (set.clone(), both))
                })
                .collect(),
        })
    }
}

/// What a subject may hold under each policy: at most one statement a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Clearances(BTreeMap<PolicyId, Clearance>);

impl Clearances {
    /// Adds a statement. Gives the one it takes the place of.
    pub fn insert(&mut self, c: Clearance) -> Option<Clearance> {
        self.0.insert(c.policy.clone(), c)
    }

    /// The statement under a policy.
    #[must_use]
    pub fn under(&self, policy: &PolicyId) -> Option<&Clearance> {
        self.0.get(policy)
    }

    /// The statement under the Dutch policy.
    #[must_use]
    pub fn nl(&self) -> Option<&Clearance> {
        self.under(&PolicyId::nl())
    }

    /// Every statement, by policy.
    pub fn iter(&self) -> impl Iterator<Item = &Clearance> {
        self.0.values()
    }

    /// The minimum under each policy that both speak of.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        self.iter()
            .filter_map(|c| c.meet(other.under(c.policy())?))
            .collect()
    }
}

impl FromIterator<Clearance> for Clearances {
    /// Of two statements under one policy the last counts.
    fn from_iter<I: IntoIterator<Item = Clearance>>(all: I) -> Self {
        let mut these = Self::default();
        for c in all {
            these.insert(c);
        }
        these
    }
}

impl From<Clearance> for Clearances {
    fn from(c: Clearance) -> Self {
        std::iter::once(c).collect()
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
            highest: Level::DepV.into(),
            ..good.clone()
        };
        let without = |set: &TagSet| {
            let mut c = good.clone();
            c.held.remove(set);
            c
        };
        let no_circle = without(&TagSet::kring());
        let no_compartment = without(&TagSet::compartiment());
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
