//! Security policies as data: what a label of a policy may say, what it equals, and how it is shown.
//!
//! A policy is a TOML file (`docs/policies.md`). NL, NATO and EU are built in; others are files. Levels of two policies are compared by
//! what the file says they equal, never by their words.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::{CategoryType, Classification, Confidentiality, Level, PolicyId, TagSet, Value};

mod file;

pub use file::InvalidPolicy;
pub(crate) use file::part;

/// Bytes of a policy file. The largest known policy, with every country listed, is a tenth of it.
pub const MAX_POLICY_BYTES: usize = 1 << 20;
/// Levels of a policy.
pub const MAX_LEVELS: usize = 16;
/// Values that a policy lists for one tag set, and combinations it lists.
pub const MAX_LISTED: usize = 1024;
/// The two languages a marking is shown in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Dutch.
    Nl,
    /// English.
    En,
}

/// A text in both languages.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// In Dutch.
    pub nl: String,
    /// In English.
    pub en: String,
}

impl Words {
    /// The text in a language.
    #[must_use]
    pub fn in_language(&self, l: Language) -> &str {
        match l {
            Language::Nl => &self.nl,
            Language::En => &self.en,
        }
    }

    pub(crate) fn each(&self) -> [&str; 2] {
        [&self.nl, &self.en]
    }
}

/// A level of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLevel {
    /// As labels carry it.
    pub classification: Classification,
    /// Its number in binary labels and certificates (`lacv`), apart from its order.
    pub code: u8,
    /// How it is shown.
    pub marking: Words,
    /// The colour it is shown in, as `#rrggbb`.
    pub colour: String,
    /// Whether no official source was found for the row: never to be shown as law.
    pub unconfirmed: bool,
}

/// A tag set of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySet {
    /// Its name, as labels carry it.
    pub name: TagSet,
    /// What its values do.
    pub kind: CategoryType,
    /// Its object identifier, where it has one.
    pub oid: Option<String>,
    /// Its last arc below the policy's identifier, in certificates.
    pub arc: u8,
    /// The least number of values a label has of it.
    pub min: usize,
    /// The largest number.
    pub max: usize,
    /// Whether values that are not listed may stand.
    pub open: bool,
    /// How the set is shown.
    pub marking: Words,
    /// The listed values and how each is shown.
    pub values: BTreeMap<Value, Words>,
    /// Whether no official source was found for it.
    pub unconfirmed: bool,
}

/// Something a label may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// A level, by name.
    Level(Box<str>),
    /// Any value of a set.
    Set(CategoryType, TagSet),
    /// A value of a set.
    Value(CategoryType, TagSet, Value),
}

impl Term {
    fn holds(&self, c: &Confidentiality) -> bool {
        let of = |kind, set: &TagSet| {
            c.categories(kind)
                .find(|(s, _)| *s == set)
                .map(|(_, values)| values)
        };
        match self {
            Self::Level(name) => c.classification().name() == &**name,
            Self::Set(kind, set) => of(*kind, set).is_some_and(|v| !v.is_empty()),
            Self::Value(kind, set, value) => of(*kind, set).is_some_and(|v| v.contains(value)),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level(name) => f.write_str(name),
            Self::Set(_, set) => write!(f, "{set}"),
            Self::Value(_, set, value) => write!(f, "{set} {value}"),
        }
    }
}

/// How many of the terms of a combination must hold (XML-SPIF 2.1 `requiredCategory/@operation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// Exactly one.
    One,
    /// One or more.
    Some,
    /// All.
    All,
    /// None.
    None,
}

/// Where one term holds, others must or must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Combination {
    /// Where this holds,
    pub when: Term,
    /// so many
    pub needs: Need,
    /// of these must.
    pub of: Vec<Term>,
}

impl Combination {
    fn holds(&self, c: &Confidentiality) -> bool {
        if !self.when.holds(c) {
            return true;
        }
        let n = self.of.iter().filter(|t| t.holds(c)).count();
        match self.needs {
            Need::One => n == 1,
            Need::Some => n >= 1,
            Need::All => n == self.of.len(),
            Need::None => n == 0,
        }
    }
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = match self.needs {
            Need::One => "exactly one of",
            Need::Some => "one or more of",
            Need::All => "all of",
            Need::None => "none of",
        };
        write!(f, "with {} there must be {many}: ", self.when)?;
        for (i, t) in self.of.iter().enumerate() {
            write!(f, "{}{t}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// A security policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    id: PolicyId,
    oid: String,
    version: u64,
    title: Words,
    levels: Vec<PolicyLevel>,
    sets: Vec<PolicySet>,
    combinations: Vec<Combination>,
    text: Box<str>,
}

/// Why a label is not valid under its policy. The sender wrote it, so each may be told to the sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUnderPolicy {
    /// No policy of this id is known here.
    #[error("no policy '{0}' is known here")]
    Policy(PolicyId),
    /// No level of this name, or one with another place or equal than the policy says.
    #[error("the policy {policy} has no level '{name}' with this equal")]
    Level {
        /// The policy.
        policy: PolicyId,
        /// The level as the label has it.
        name: String,
    },
    /// No such tag set.
    #[error("the policy {policy} has no tag set '{set}' of this type")]
    Set {
        /// The policy.
        policy: PolicyId,
        /// The set.
        set: TagSet,
    },
    /// A value that is not listed.
    #[error("{set} has no value '{value}'")]
    Value {
        /// The set.
        set: TagSet,
        /// The value.
        value: Value,
    },
    /// Too few or too many values.
    #[error("{set} takes {min} to {max} values")]
    Count {
        /// The set.
        set: TagSet,
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// A combination of the policy does not hold.
    #[error("{0}")]
    Combination(String),
}

impl Policy {
    /// Its id, as labels carry it.
    #[must_use]
    pub fn id(&self) -> &PolicyId {
        &self.id
    }

    /// Its object identifier, in dotted arcs.
    #[must_use]
    pub fn oid(&self) -> &str {
        &self.oid
    }

    /// The number its keeper gave it; a newer one is higher.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What it is.
    #[must_use]
    pub fn title(&self) -> &Words {
        &self.title
    }

    /// The text it was read from. Its SHA-256 is what audit records cite.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its levels, lowest first.
    #[must_use]
    pub fn levels(&self) -> &[PolicyLevel] {
        &self.levels
    }

    /// Its tag sets.
    #[must_use]
    pub fn sets(&self) -> &[PolicySet] {
        &self.sets
    }

    /// What goes with what.
    #[must_use]
    pub fn combinations(&self) -> &[Combination] {
        &self.combinations
    }

    /// A level by its name; case does not matter.
    #[must_use]
    pub fn level(&self, name: &str) -> Option<&PolicyLevel> {
        self.levels
            .iter()
            .find(|l| l.classification.name().eq_ignore_ascii_case(name))
    }

    /// A level by its number in binary labels.
    #[must_use]
    pub fn level_of_code(&self, code: u8) -> Option<&PolicyLevel> {
        self.levels.iter().find(|l| l.code == code)
    }

    /// The level of this policy that protects what a Dutch level protects: the lowest that is not below it. A policy without an equal
    /// level gives the higher one; one without a higher level gives none.
    #[must_use]
    pub fn equivalent(&self, level: Level) -> Option<&PolicyLevel> {
        self.levels
            .iter()
            .find(|l| l.classification.level() >= level)
    }

    /// A tag set by name and type; case does not matter.
    #[must_use]
    pub fn set(&self, kind: CategoryType, name: &str) -> Option<&PolicySet> {
        self.sets
            .iter()
            .find(|s| s.kind == kind && s.name.as_str().eq_ignore_ascii_case(name))
    }

    /// Whether a label may say this under the policy. A label that is not valid is refused before anyone's access is looked at: a
    /// crafted one might pass otherwise.
    ///
    /// # Errors
    /// [`InvalidUnderPolicy`] names the part.
    pub fn check(&self, c: &Confidentiality) -> Result<(), InvalidUnderPolicy> {
        if *c.policy() != self.id {
            return Err(InvalidUnderPolicy::Policy(c.policy().clone()));
        }
        if !self
            .levels
            .iter()
            .any(|l| l.classification == *c.classification())
        {
            return Err(InvalidUnderPolicy::Level {
                policy: self.id.clone(),
                name: c.classification().name().into(),
            });
        }
        for kind in CategoryType::ALL {
            for (set, values) in c.categories(kind) {
                let known = self.sets.iter().find(|s| s.kind == kind && s.name == *set);
                let known = known.ok_or_else(|| InvalidUnderPolicy::Set {
                    policy: self.id.clone(),
                    set: set.clone(),
                })?;
                if let Some(value) = values
                    .iter()
                    .find(|v| !known.open && !known.values.contains_key(v))
                {
                    return Err(InvalidUnderPolicy::Value {
                        set: set.clone(),
                        value: value.clone(),
                    });
                }
            }
        }
        for set in &self.sets {
            let n = c
                .categories(set.kind)
                .find(|(name, _)| **name == set.name)
                .map(|(_, values)| values.len());
            // An emptied permissive set is nobody, and valid: it refuses everyone.
            let nobody = n == Some(0) && set.kind == CategoryType::Permissive;
            let n = n.unwrap_or(0);
            if !nobody && (n < set.min || n > set.max) {
                return Err(InvalidUnderPolicy::Count {
                    set: set.name.clone(),
                    min: set.min,
                    max: set.max,
                });
            }
        }
        match self.combinations.iter().find(|r| !r.holds(c)) {
            Some(broken) => Err(InvalidUnderPolicy::Combination(broken.to_string())),
            None => Ok(()),
        }
    }

    /// How a label of this policy is shown to people: the marking of its level, then each set with its values. Without legal state or
    /// duration.
    #[must_use]
    pub fn marking(&self, c: &Confidentiality, language: Language) -> String {
        let level = self
            .levels
            .iter()
            .find(|l| l.classification == *c.classification());
        let mut text = level.map_or_else(
            || format!("{} {}", c.policy(), c.classification()),
            |l| l.marking.in_language(language).to_owned(),
        );
        for kind in [
            CategoryType::Permissive,
            CategoryType::Restrictive,
            CategoryType::Informative,
        ] {
            for (set, values) in c.categories(kind) {
                let known = self.set(kind, set.as_str());
                let title = known.map_or(set.as_str(), |s| s.marking.in_language(language));
                let of = |v: &Value| {
                    known
                        .and_then(|s| s.values.get(v))
                        .map_or(v.as_str(), |w| w.in_language(language))
                        .to_owned()
                };
                let list: Vec<String> = values.iter().map(of).collect();
                let list = if list.is_empty() {
                    match language {
                        Language::Nl => "niemand".into(),
                        Language::En => "nobody".into(),
                    }
                } else {
                    list.join(", ")
                };
                text.push_str(&format!(" - {title} {list}"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests;
