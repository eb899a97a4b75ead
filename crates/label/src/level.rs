//! The levels of the Dutch policy, in the spellings of VIRBI 2025 article 4(2).

use std::fmt;
use std::str::FromStr;

/// How much harm disclosure would do. The order is the legal order.
///
/// `Ongerubriceerd` is not a rubricering; the three Staatsgeheim levels are state secrets, Dep.V is not.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(into = "String", try_from = "String")]
#[repr(u8)]
pub enum Level {
    /// No rubricering; a merking may still apply.
    Ongerubriceerd = 0,
    /// Departementaal VERTROUWELIJK.
    DepV = 1,
    /// Staatsgeheim CONFIDENTIEEL.
    StgC = 2,
    /// Staatsgeheim GEHEIM.
    StgG = 3,
    /// Staatsgeheim ZEER GEHEIM.
    StgZg = 4,
}

/// A word that names no level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a level; write Ongerubriceerd, Dep.V, Stg.C, Stg.G or Stg.ZG, or the full name")]
pub struct InvalidLevel;

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Self; 5] = [
        Self::Ongerubriceerd,
        Self::DepV,
        Self::StgC,
        Self::StgG,
        Self::StgZg,
    ];

    /// The number that stands in encodings: 0 to 4 in legal order.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The level of a number, or `None` for a number above 4.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The full official name.
    #[must_use]
    pub fn full_name(self) -> &'static str {
        match self {
            Self::Ongerubriceerd => "Ongerubriceerd",
            Self::DepV => "Departementaal VERTROUWELIJK",
            Self::StgC => "Staatsgeheim CONFIDENTIEEL",
            Self::StgG => "Staatsgeheim GEHEIM",
            Self::StgZg => "Staatsgeheim ZEER GEHEIM",
        }
    }

    /// The short official form, which is also how a level prints.
    #[must_use]
    pub fn abbreviation(self) -> &'static str {
        match self {
            Self::Ongerubriceerd => "Ongerubriceerd",
            Self::DepV => "Dep.V",
            Self::StgC => "Stg.C",
            Self::StgG => "Stg.G",
            Self::StgZg => "Stg.ZG",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.abbreviation())
    }
}

impl FromStr for Level {
    type Err = InvalidLevel;

    /// Liberal: case, dots, spaces, hyphens and underscores do not matter, and both official forms, the full name and the 2013
    /// spelling with a final dot are known.
    fn from_str(s: &str) -> Result<Self, InvalidLevel> {
        if s.len() > 64 {
            return Err(InvalidLevel);
        }
        let squeezed: String = s
            .chars()
            .filter(|c| !matches!(c, '.' | ' ' | '-' | '_' | '\u{a0}'))
            .flat_map(char::to_lowercase)
            .collect();
        match squeezed.as_str() {
            "ongerubriceerd" | "ong" => Ok(Self::Ongerubriceerd),
            "depv" | "depvertrouwelijk" | "departementaalvertrouwelijk" => Ok(Self::DepV),
            "stgc" | "stgconfidentieel" | "staatsgeheimconfidentieel" => Ok(Self::StgC),
            "stgg" | "stggeheim" | "staatsgeheimgeheim" => Ok(Self::StgG),
            "stgzg" | "stgzeergeheim" | "staatsgeheimzeergeheim" => Ok(Self::StgZg),
            _ => Err(InvalidLevel),
        }
    }
}

impl TryFrom<String> for Level {
    type Error = InvalidLevel;

    fn try_from(s: String) -> Result<Self, InvalidLevel> {
        s.parse()
    }
}

impl From<Level> for String {
    fn from(l: Level) -> Self {
        l.abbreviation().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_finds_its_level() {
        for (level, spellings) in [
            (
                Level::Ongerubriceerd,
                &["ongerubriceerd", "ONGERUBRICEERD"][..],
            ),
            (
                Level::DepV,
                &[
                    "Dep.V",
                    "Dep.V.",
                    "Dep. VERTROUWELIJK",
                    "Departementaal Vertrouwelijk",
                    "dep v",
                ],
            ),
            (
                Level::StgC,
                &["Stg.C", "Stg. CONFIDENTIEEL", "staatsgeheim confidentieel"],
            ),
            (
                Level::StgG,
                &["Stg.G", "Stg. Geheim", "STG GEHEIM", "Staatsgeheim GEHEIM"],
            ),
            (
                Level::StgZg,
                &["Stg.ZG", "Stg. ZEER GEHEIM", "Staatsgeheim ZEER GEHEIM"],
            ),
        ] {
            for s in spellings {
                assert_eq!(s.parse(), Ok(level), "{s}");
            }
            assert_eq!(level.full_name().parse(), Ok(level));
            assert_eq!(level.to_string().parse(), Ok(level));
            assert_eq!(Level::from_code(level.code()), Some(level));
        }
    }

    #[test]
    fn a_word_of_another_policy_is_not_a_level() {
        for s in [
            "",
            "Geheim",
            "Vertrouwelijk",
            "SECRET",
            "NATO SECRET",
            "Stg.",
            "Stg.X",
        ] {
            assert_eq!(s.parse::<Level>(), Err(InvalidLevel), "{s}");
        }
        assert_eq!(Level::from_code(5), None);
    }
}
