//! The lattice: level and categories of a label, without the legal act around them.
//!
//! Categories are those of ADatP-4774.1: *restrictive* values narrow (the reader needs all of them), *permissive* values list who
//! is included (the reader needs one of each set), *informative* values decide nothing. So one part of the lattice runs the
//! other way: a join unites restrictive values and intersects permissive ones. An emptied permissive set stays, and is nobody:
//! dropping it would widen release.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::{Classification, Level};

/// Values that one tag set of a label may hold. A handful is usual; the bound keeps a decision cheap.
pub const MAX_VALUES: usize = 32;
/// Characters of a value, a tag set or a policy id.
pub const MAX_VALUE_CHARS: usize = 64;

/// Why a value, a tag set or a policy id was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// Empty, longer than 64 characters, surrounded by spaces, or with a character that separates parts of a label.
    #[error(
        "a category value has 1 to 64 letters, digits, spaces, hyphens, dots, slashes or underscores, and no space at its ends"
    )]
    Form,
    /// More than 32 values in one set.
    #[error("a label has at most 32 values of one category")]
    TooMany,
}

fn checked(s: &str, upper: bool) -> Result<Box<str>, InvalidValue> {
    let fits = (1..=MAX_VALUE_CHARS).contains(&s.chars().count());
    let inner = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '.' | '_' | '(' | ')');
    if !fits || !s.chars().all(inner) || s.trim() != s || s.contains("  ") {
        return Err(InvalidValue::Form);
    }
    if !upper {
        return Ok(s.into());
    }
    // Some letters grow when they are put in upper case.
    let s = s.to_uppercase();
    if s.chars().count() > MAX_VALUE_CHARS {
        Err(InvalidValue::Form)
    } else {
        Ok(s.into())
    }
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $upper:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(s: &str) -> Result<Self, InvalidValue> {
                checked(s, $upper).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type!(
    /// The value of a category, in upper case: comparing values ignores case.
    Value,
    true
);
text_type!(
    /// The name of a set of categories, for instance `Kring`.
    TagSet,
    false
);
text_type!(
    /// The security policy a label is written under. Levels of two policies are never compared by their words.
    PolicyId,
    false
);

impl PolicyId {
    /// The Dutch policy (VIRBI 2025).
    #[must_use]
    pub fn nl() -> Self {
        Self("NL".into())
    }
}

impl TagSet {
    /// The permissive set of the Dutch policy: circles of entitled subjects.
    #[must_use]
    pub fn kring() -> Self {
        Self("Kring".into())
    }

    /// The restrictive set of the Dutch policy: compartments.
    #[must_use]
    pub fn compartiment() -> Self {
        Self("Compartiment".into())
    }

    /// The informative set of the Dutch policy: markings.
    #[must_use]
    pub fn merking() -> Self {
        Self("Merking".into())
    }
}

/// What the values of a tag set do (ADatP-4774.1 section 3).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum CategoryType {
    /// The reader needs every value.
    Restrictive = 0,
    /// The reader needs one value of the set.
    Permissive = 1,
    /// Shown, and decides nothing.
    Informative = 2,
}

impl CategoryType {
    /// All types, by number.
    pub const ALL: [Self; 3] = [Self::Restrictive, Self::Permissive, Self::Informative];

    /// The number in encodings.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The type of a number, or `None` above 2.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// Tag sets that one label may have values of. The richest known policy has five.
pub const MAX_SETS: usize = 16;

/// Categories by set.
pub(crate) type Categories = BTreeMap<TagSet, BTreeSet<Value>>;

/// Two labels of different policies: neither join nor meet nor comparison is defined between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the labels stand under different policies; map one of them first")]
pub struct DifferentPolicies;

/// Level and categories under one policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Confidentiality {
    policy: PolicyId,
    classification: Classification,
    restrictive: Categories,
    permissive: Categories,
    informative: Categories,
}

impl Confidentiality {
    /// A level of the Dutch policy without categories.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self::under(PolicyId::nl(), level.into())
    }

    /// A classification of a policy without categories.
    #[must_use]
    pub fn under(policy: PolicyId, classification: Classification) -> Self {
        Self {
            policy,
            classification,
            restrictive: Categories::new(),
            permissive: Categories::new(),
            informative: Categories::new(),
        }
    }

    /// Adds a circle: who is in one of the circles is included.
    ///
    /// # Errors
    /// [`InvalidValue`] says what a value may look like, or that there are too many.
    pub fn with_circle(mut self, value: &str) -> Result<Self, InvalidValue> {
        add(
            self.permissive.entry(TagSet::kring()).or_default(),
            value.parse()?,
        )?;
        Ok(self)
    }

    /// Adds a compartment: the reader needs every one.
    ///
    /// # Errors
    /// As [`Self::with_circle`].
    pub fn with_compartment(mut self, value: &str) -> Result<Self, InvalidValue> {
        add(
            self.restrictive.entry(TagSet::compartiment()).or_default(),
            value.parse()?,
        )?;
        Ok(self)
    }

    /// Adds a marking: it is shown, and decides nothing.
    ///
    /// # Errors
    /// As [`Self::with_circle`].
    pub fn with_marking(mut self, value: &str) -> Result<Self, InvalidValue> {
        add(
            self.informative.entry(TagSet::merking()).or_default(),
            value.parse()?,
        )?;
        Ok(self)
    }

    /// Adds a value of a tag set of any policy.
    ///
    /// # Errors
    /// As [`Self::with_circle`]; [`InvalidValue::TooMany`] also for more than [`MAX_SETS`] sets.
    pub fn with_value(
        mut self,
        kind: CategoryType,
        set: &TagSet,
        value: &str,
    ) -> Result<Self, InvalidValue> {
        let value = value.parse()?;
        add(self.set(kind, set)?, value)?;
        Ok(self)
    }

    /// Limits the label to nobody: a permissive set without a value, as a join of two disjoint circles leaves it.
    #[must_use]
    pub fn for_nobody(mut self) -> Self {
        self.permissive.insert(TagSet::kring(), BTreeSet::new());
        self
    }

    /// As [`Self::for_nobody`], with a permissive set of any policy.
    ///
    /// # Errors
    /// [`InvalidValue::TooMany`]: more than [`MAX_SETS`] sets.
    pub fn for_nobody_of(mut self, set: &TagSet) -> Result<Self, InvalidValue> {
        self.set(CategoryType::Permissive, set)?.clear();
        Ok(self)
    }

    fn set(
        &mut self,
        kind: CategoryType,
        set: &TagSet,
    ) -> Result<&mut BTreeSet<Value>, InvalidValue> {
        let sets = self.restrictive.len() + self.permissive.len() + self.informative.len();
        let of = match kind {
            CategoryType::Restrictive => &mut self.restrictive,
            CategoryType::Permissive => &mut self.permissive,
            CategoryType::Informative => &mut self.informative,
        };
        if sets >= MAX_SETS && !of.contains_key(set) {
            return Err(InvalidValue::TooMany);
        }
        Ok(of.entry(set.clone()).or_default())
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &PolicyId {
        &self.policy
    }

    /// The classification, as the policy names it.
    #[must_use]
    pub fn classification(&self) -> &Classification {
        &self.classification
    }

    /// The Dutch level at which it is protected: its own under the Dutch policy, the equal one under another (VIRBI 2025
    /// article 2(3)).
    #[must_use]
    pub fn level(&self) -> Level {
        self.classification.level()
    }

    /// What is beside the originator's label for those who read Dutch labels only: the equal level of the Dutch policy, without
    /// categories (ADatP-4774.1 section 4.2, alternative label). `None` for a Dutch label.
    #[must_use]
    pub fn alternative(&self) -> Option<Self> {
        (self.policy != PolicyId::nl()).then(|| Self::new(self.level()))
    }

    /// The values of each set of a type.
    pub fn categories(
        &self,
        kind: CategoryType,
    ) -> impl Iterator<Item = (&TagSet, &BTreeSet<Value>)> {
        match kind {
            CategoryType::Restrictive => self.restrictive.iter(),
            CategoryType::Permissive => self.permissive.iter(),
            CategoryType::Informative => self.informative.iter(),
        }
    }

    /// The circles, or `None` where the label is not limited to circles. `Some` of nothing is nobody.
    #[must_use]
    pub fn circles(&self) -> Option<&BTreeSet<Value>> {
        self.permissive.get(&TagSet::kring())
    }

    /// The compartments; empty where there are none.
    pub fn compartments(&self) -> impl Iterator<Item = &Value> {
        self.restrictive
            .get(&TagSet::compartiment())
            .into_iter()
            .flatten()
    }

    /// The markings; empty where there are none.
    pub fn markings(&self) -> impl Iterator<Item = &Value> {
        self.informative
            .get(&TagSet::merking())
            .into_iter()
            .flatten()
    }

    /// The least label that protects what both protect (the join of Denning's lattice, 1976).
    ///
    /// # Errors
    /// [`DifferentPolicies`]: map one label to the other's policy first.
    pub fn join(&self, other: &Self) -> Result<Self, DifferentPolicies> {
        self.same_policy(other)?;
        let mut permissive = self.permissive.clone();
        for (set, values) in &other.permissive {
            permissive
                .entry(set.clone())
                .and_modify(|own| own.retain(|v| values.contains(v)))
                .or_insert(values.clone());
        }
        Ok(Self {
            policy: self.policy.clone(),
            classification: self
                .classification
                .clone()
                .max(other.classification.clone()),
            restrictive: united(&self.restrictive, &other.restrictive),
            permissive,
            informative: united(&self.informative, &other.informative),
        })
    }

    /// The greatest label that both flow to from below: what a holder of either may surely see.
    ///
    /// # Errors
    /// [`DifferentPolicies`].
    pub fn meet(&self, other: &Self) -> Result<Self, DifferentPolicies> {
        self.same_policy(other)?;
        let permissive = self
            .permissive
            .iter()
            .filter_map(|(set, own)| Some((set.clone(), own | other.permissive.get(set)?)))
            .collect();
        Ok(Self {
            policy: self.policy.clone(),
            classification: self
                .classification
                .clone()
                .min(other.classification.clone()),
            restrictive: common(&self.restrictive, &other.restrictive),
            permissive,
            informative: common(&self.informative, &other.informative),
        })
    }

    /// Whether what carries this label may hold a part that carries the other: under one policy, level, restrictive and permissive sets as
    /// [`Self::flows_to`] has them; informative values decide nothing. A part of another policy: no, somebody has to decide.
    #[must_use]
    pub fn protects(&self, part: &Self) -> bool {
        self.join(part).is_ok_and(|whole| {
            whole.classification == self.classification
                && whole.restrictive == self.restrictive
                && whole.permissive == self.permissive
        })
    }

    /// Whether what is labelled `self` may stand in a container labelled `other`. Two policies: no.
    #[must_use]
    pub fn flows_to(&self, other: &Self) -> bool {
        self.join(other).is_ok_and(|j| j == *other)
    }

    fn same_policy(&self, other: &Self) -> Result<(), DifferentPolicies> {
        if self.policy == other.policy {
            Ok(())
        } else {
            Err(DifferentPolicies)
        }
    }
}

pub(crate) fn add(set: &mut BTreeSet<Value>, value: Value) -> Result<(), InvalidValue> {
    if set.len() >= MAX_VALUES && !set.contains(&value) {
        return Err(InvalidValue::TooMany);
    }
    set.insert(value);
    Ok(())
}

fn united(a: &Categories, b: &Categories) -> Categories {
    let mut all = a.clone();
    for (set, values) in b {
        all.entry(set.clone())
            .or_default()
            .extend(values.iter().cloned());
    }
    all
}

fn common(a: &Categories, b: &Categories) -> Categories {
    a.iter()
        .filter_map(|(set, own)| {
            let both: BTreeSet<Value> = own & b.get(set)?;
            (!both.is_empty()).then(|| (set.clone(), both))
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::collection::btree_set;
    use proptest::option;
    use proptest::prelude::*;

    pub(crate) fn level() -> impl Strategy<Value = Level> {
        (0u8..5).prop_map(|c| Level::from_code(c).expect("in range"))
    }

    pub(crate) fn confidentiality() -> impl Strategy<Value = Confidentiality> {
        let word = || prop_oneof!["A", "B", "C"];
        (
            level(),
            btree_set(word(), 0..3),
            option::of(btree_set(word(), 0..3)),
            btree_set(word(), 0..2),
        )
            .prop_map(|(level, compartments, circles, markings)| {
                let mut c = Confidentiality::new(level);
                for v in compartments {
                    c = c.with_compartment(&v).expect("valid");
                }
                if let Some(circles) = circles {
                    c = c.for_nobody();
                    for v in circles {
                        c = c.with_circle(&v).expect("valid");
                    }
                }
                for v in markings {
                    c = c.with_marking(&v).expect("valid");
                }
                c
            })
    }

    proptest! {
        #[test]
        fn join_and_meet_make_a_lattice(a in confidentiality(), b in confidentiality(), c in confidentiality()) {
            let join = |x: &Confidentiality, y: &Confidentiality| x.join(y).expect("one policy");
            let meet = |x: &Confidentiality, y: &Confidentiality| x.meet(y).expect("one policy");
            prop_assert_eq!(join(&a, &a), a.clone());
            prop_assert_eq!(meet(&a, &a), a.clone());
            prop_assert_eq!(join(&a, &b), join(&b, &a));
            prop_assert_eq!(meet(&a, &b), meet(&b, &a));
            prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
            prop_assert_eq!(meet(&meet(&a, &b), &c), meet(&a, &meet(&b, &c)));
            prop_assert_eq!(join(&a, &meet(&a, &b)), a.clone());
            prop_assert_eq!(meet(&a, &join(&a, &b)), a.clone());
        }

        #[test]
        fn flows_to_is_the_order(a in confidentiality(), b in confidentiality(), c in confidentiality()) {
            prop_assert!(a.flows_to(&a));
            prop_assert!(a.flows_to(&a.join(&b).expect("one policy")));
            prop_assert!(a.meet(&b).expect("one policy").flows_to(&a));
            prop_assert!(!(a.flows_to(&b) && b.flows_to(&a)) || a == b);
            prop_assert!(!(a.flows_to(&b) && b.flows_to(&c)) || a.flows_to(&c));
            prop_assert_eq!(a.flows_to(&b), a.meet(&b).expect("one policy") == a);
        }
    }

    #[test]
    fn disjoint_circles_leave_nobody() {
        let of = |c| {
            Confidentiality::new(Level::DepV)
                .with_circle(c)
                .expect("valid")
        };
        let both = of("A").join(&of("B")).expect("one policy");
        assert_eq!(both.circles().map(BTreeSet::len), Some(0));
        assert!(of("A").flows_to(&both) && !both.flows_to(&of("A")));
    }

    #[test]
    fn what_a_whole_protects() {
        let of = |s: &str| s.parse::<crate::Label>().expect(s).confidentiality;
        let whole = of("Stg.C // KRING A // COMPARTIMENT X");
        for (part, protected) in [
            ("Stg.C", true),
            ("Dep.V // MERKING M", true),
            ("Dep.V // KRING A, B", true),
            ("Dep.V // KRING B", false),
            ("Stg.G", false),
            ("Dep.V // COMPARTIMENT Y", false),
            ("NATO UNCLASSIFIED", false),
        ] {
            assert_eq!(whole.protects(&of(part)), protected, "{part}");
        }
        assert!(
            !of("Stg.ZG").protects(&of("Dep.V // KRING A")),
            "wider release"
        );
    }

    #[test]
    fn two_policies_do_not_compare() {
        let nato = Confidentiality::under("NATO".parse().expect("valid"), Level::DepV.into());
        let nl = Confidentiality::new(Level::StgZg);
        assert_eq!(nato.join(&nl), Err(DifferentPolicies));
        assert!(!nato.flows_to(&nl));
    }

    #[test]
    fn bounds_of_values() {
        let c = Confidentiality::new(Level::DepV);
        assert!(c.clone().with_circle(&"a".repeat(64)).is_ok());
        for bad in [
            "",
            " a",
            "a ",
            "a,b",
            "a//b",
            "a;b",
            "a\nb",
            "\"",
            &"a".repeat(65),
        ] {
            assert_eq!(
                c.clone().with_circle(bad),
                Err(InvalidValue::Form),
                "{bad:?}"
            );
        }
        let full = (0..32)
            .try_fold(c, |c, i| c.with_circle(&format!("K{i}")))
            .expect("32 fit");
        assert_eq!(full.with_circle("K32"), Err(InvalidValue::TooMany));
    }
}
