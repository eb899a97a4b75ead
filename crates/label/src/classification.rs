//! A classification of a policy, and the Dutch level equal to it.

use std::fmt;

use crate::{InvalidValue, Level, MAX_VALUE_CHARS};

/// A classification, as its policy names it, with the Dutch level at which it is protected.
///
/// Two are compared within one policy only. The order is that of the policy: first by rank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Classification {
    rank: u8,
    level: Level,
    name: Box<str>,
}

impl Classification {
    /// A classification: its place in the order of its policy from 0, its name without the policy's (ADatP-4774: `SECRET`, not
    /// `NATO SECRET`), and the Dutch level equal to it.
    ///
    /// # Errors
    /// [`InvalidValue::Form`]: the name is empty, longer than 64 characters, or has characters that separate parts of a label.
    pub fn new(rank: u8, name: &str, level: Level) -> Result<Self, InvalidValue> {
        let inner = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '.' | '(' | ')');
        let fits = (1..=MAX_VALUE_CHARS).contains(&name.chars().count());
        if !fits || !name.chars().all(inner) || name.trim() != name || name.contains("  ") {
            return Err(InvalidValue::Form);
        }
        Ok(Self {
            rank,
            level,
            name: name.into(),
        })
    }

    /// Its place in the order of its policy, the lowest 0.
    #[must_use]
    pub fn rank(&self) -> u8 {
        self.rank
    }

    /// Its name, without the policy's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Dutch level equal to it.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Whether a holder of this may have the other: neither rank nor level is below it. Both are asked, for one of the two may be a lie.
    #[must_use]
    pub fn reaches(&self, other: &Self) -> bool {
        self.rank >= other.rank && self.level >= other.level
    }
}

impl From<Level> for Classification {
    /// Of the Dutch policy.
    fn from(level: Level) -> Self {
        Self {
            rank: level.code(),
            level,
            name: level.abbreviation().into(),
        }
    }
}

impl fmt::Display for Classification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}
