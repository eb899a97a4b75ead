//! What a certificate says its subject may hold, as it says it: by numbers, under policies that are known here or not.

use std::collections::{BTreeMap, BTreeSet};

use ordonnans_label::{
    CategoryType, Clearance, Clearances, MAX_VALUES, Policies, Policy, PolicyId, PolicySet, TagSet,
    Value,
};

use crate::oid;

/// A value of a category.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CategoryValue {
    /// Of a list of texts, one.
    Text(String),
    /// Anything else, DER. It is compared, and never understood.
    Other(Vec<u8>),
}

/// What a certificate says under one policy (RFC 5755 section 4.4.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub(crate) policy: String,
    /// Bit n is class n.
    pub(crate) classes: u64,
    pub(crate) categories: BTreeMap<String, BTreeSet<CategoryValue>>,
}

/// Why a clearance cannot be written into a certificate. The caller asks for another, or adds the policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// There is none: the standard has no form for that.
    #[error("there is no clearance to write")]
    Nothing,
    /// No policy of this id is known here.
    #[error("no policy '{0}' is known here")]
    Policy(PolicyId),
    /// The policy has no such level, or one whose code is above 63.
    #[error("the policy {policy} has no level '{name}' with a code from 0 to 63")]
    Level {
        /// The policy.
        policy: PolicyId,
        /// The level.
        name: String,
    },
    /// The policy has no such set, or the set no such value.
    #[error("the policy {policy} has no value '{value}' of a set '{set}'")]
    Value {
        /// The policy.
        policy: PolicyId,
        /// The set.
        set: TagSet,
        /// The value.
        value: Value,
    },
    /// What the policy gives as object identifier has no encoding.
    #[error("'{0}' cannot be encoded as an object identifier")]
    Oid(String),
}

impl Statement {
    /// The policy's object identifier, in dotted arcs.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Whether a class is on the list. Above 63 none is.
    #[must_use]
    pub fn has_class(&self, n: u8) -> bool {
        1u64.checked_shl(n.into())
            .is_some_and(|bit| self.classes & bit != 0)
    }

    /// The classes on the list, lowest first.
    pub fn classes(&self) -> impl Iterator<Item = u8> {
        (0..64).filter(|n| self.has_class(*n))
    }

    /// The values of each category, by its type's object identifier in dotted arcs.
    pub fn categories(&self) -> impl Iterator<Item = (&str, &BTreeSet<CategoryValue>)> {
        self.categories.iter().map(|(kind, v)| (kind.as_str(), v))
    }

    /// The clearance that this is under its policy; none where the policy's lowest level is not on the list.
    fn under(&self, policy: &Policy) -> Option<Clearance> {
        let levels = policy.levels().iter();
        let highest = levels.take_while(|l| self.has_class(l.code)).last()?;
        let mut held = BTreeMap::<&TagSet, BTreeSet<Value>>::new();
        for set in sets(policy) {
            let values = self.categories.get(&type_of(policy, set)).into_iter();
            let values = values.flatten().filter_map(|v| match v {
                CategoryValue::Text(t) => t.parse().ok(),
                CategoryValue::Other(_) => None,
            });
            held.entry(&set.name)
                .or_default()
                .extend(values.filter(|v| takes(set, v)));
        }
        let mut c = Clearance::under(policy.id().clone(), highest.classification.clone());
        for (set, values) in held {
            for v in values.iter().take(MAX_VALUES) {
                c = c.with_value(set, v.as_str()).ok()?;
            }
        }
        Some(c)
    }

    fn of(c: &Clearance, policies: &Policies) -> Result<Self, Unwritable> {
        let policy = policies
            .get(c.policy())
            .ok_or_else(|| Unwritable::Policy(c.policy().clone()))?;
        let no_level = || Unwritable::Level {
            policy: c.policy().clone(),
            name: c.highest().name().into(),
        };
        let mut levels = policy.levels().iter();
        let top = levels
            .position(|l| l.classification == *c.highest())
            .ok_or_else(no_level)?;
        let mut classes = 0;
        for l in policy.levels().iter().take(top + 1) {
            classes |= 1u64.checked_shl(l.code.into()).ok_or_else(no_level)?;
        }
        let mut categories = BTreeMap::<String, BTreeSet<CategoryValue>>::new();
        for (name, values) in c.categories() {
            for value in values {
                let mut found = false;
                // Two types of set may have one name.
                for set in policy.sets().iter().filter(|s| s.name == *name) {
                    if !takes(set, value) {
                        continue;
                    }
                    found = true;
                    // An informative value decides nothing, and is not written.
                    if set.kind != CategoryType::Informative {
                        let values = categories.entry(type_of(policy, set)).or_default();
                        values.insert(CategoryValue::Text(value.as_str().into()));
                    }
                }
                if !found {
                    return Err(Unwritable::Value {
                        policy: c.policy().clone(),
                        set: name.clone(),
                        value: value.clone(),
                    });
                }
            }
        }
        if let Some(bad) = [policy.oid()]
            .into_iter()
            .chain(categories.keys().map(String::as_str))
            .find(|o| oid::to_der(o).is_none())
        {
            return Err(Unwritable::Oid(bad.into()));
        }
        Ok(Self {
            policy: policy.oid().into(),
            classes,
            categories,
        })
    }

    /// What both say. Where either has no values of a category, neither has the result.
    fn meet(&self, other: &Self) -> Self {
        let both = |(kind, values): (&String, &BTreeSet<_>)| {
            let both = values & other.categories.get(kind)?;
            (!both.is_empty()).then(|| (kind.clone(), both))
        };
        Self {
            policy: self.policy.clone(),
            classes: self.classes & other.classes,
            categories: self.categories.iter().filter_map(both).collect(),
        }
    }
}

/// The sets of which a subject may hold values.
fn sets(policy: &Policy) -> impl Iterator<Item = &PolicySet> {
    let decides = |s: &&PolicySet| s.kind != CategoryType::Informative;
    policy.sets().iter().filter(decides)
}

pub(crate) fn takes(set: &PolicySet, value: &Value) -> bool {
    set.open || set.values.contains_key(value)
}

/// The type of a set's categories: its own object identifier, or its arc below the policy's.
pub(crate) fn type_of(policy: &Policy, set: &PolicySet) -> String {
    set.oid
        .clone()
        .unwrap_or_else(|| format!("{}.{}", policy.oid(), set.arc))
}

/// Everything a certificate says, at most one statement a policy.
///
/// In an authority's certificate it is a constraint (RFC 5913): nobody below it holds more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certified(BTreeMap<String, Statement>);

impl Certified {
    /// What a certificate says that gives these clearances.
    ///
    /// # Errors
    /// [`Unwritable`] names what the policies do not have. Nothing at all is no error here.
    pub fn of(all: &Clearances, policies: &Policies) -> Result<Self, Unwritable> {
        let mut these = Self::default();
        for c in all.iter() {
            these.insert(Statement::of(c, policies)?);
        }
        Ok(these)
    }

    /// Adds a statement; false where there is one under its policy already, which stays.
    pub(crate) fn insert(&mut self, s: Statement) -> bool {
        let first = !self.0.contains_key(&s.policy);
        if first {
            self.0.insert(s.policy.clone(), s);
        }
        first
    }

    /// The statements, by their policies' object identifiers.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.0.values()
    }

    /// Whether there is no statement.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the subject may hold under the policies that are known here. A policy that is not known is left out, and so is a value its policy
    /// does not take. Of the classes the highest level counts below which none of that policy is missing.
    #[must_use]
    pub fn clearances(&self, policies: &Policies) -> Clearances {
        self.statements()
            .filter_map(|s| s.under(policies.of_oid(&s.policy)?))
            .collect()
    }

    /// What both say: under each policy that both speak of the classes and the values that both list (RFC 5913). A statement without
    /// a class is gone.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let both = |(policy, s): (&String, &Statement)| {
            let both = s.meet(other.0.get(policy)?);
            (both.classes != 0).then(|| (policy.clone(), both))
        };
        Self(self.0.iter().filter_map(both).collect())
    }
}

#[cfg(test)]
mod tests;
