//! Reading a policy file.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{
    Combination, MAX_LEVELS, MAX_LISTED, MAX_POLICY_BYTES, Need, Policy, PolicyLevel, PolicySet,
    Term, Words,
};
use crate::confidentiality::MAX_SETS;
use crate::{CategoryType, Classification, InvalidValue, Level, MAX_VALUES, TagSet, Value};

/// Why a policy file was refused. Each names the part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// Longer than [`MAX_POLICY_BYTES`].
    #[error("the policy has more than 1 MiB")]
    TooLong,
    /// Not TOML of the documented form; the text says where.
    #[error("the policy is not valid: {0}")]
    Malformed(String),
    /// A name or value that cannot be one.
    #[error("'{0}': {1}")]
    Word(String, InvalidValue),
    /// Something that does not fit with the rest.
    #[error("{what}: {why}")]
    Part {
        /// The part.
        what: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    oid: String,
    version: u64,
    title: Words,
    #[serde(default)]
    level: Vec<LevelFile>,
    #[serde(default)]
    set: Vec<SetFile>,
    #[serde(default)]
    rule: Vec<RuleFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelFile {
    name: String,
    code: u8,
    equals: Level,
    marking: Words,
    colour: String,
    #[serde(default)]
    unconfirmed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetFile {
    name: String,
    #[serde(rename = "type")]
    kind: CategoryType,
    oid: Option<String>,
    arc: u8,
    #[serde(default)]
    min: usize,
    #[serde(default = "most")]
    max: usize,
    #[serde(default)]
    open: bool,
    marking: Words,
    #[serde(default)]
    value: Vec<ValueFile>,
    #[serde(default)]
    unconfirmed: bool,
}

fn most() -> usize {
    MAX_VALUES
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ValueFile {
    name: String,
    marking: Words,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    when: TermFile,
    needs: Need,
    of: Vec<TermFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TermFile {
    level: Option<String>,
    set: Option<String>,
    #[serde(rename = "type")]
    kind: Option<CategoryType>,
    value: Option<String>,
}

pub(crate) fn part(what: impl Into<String>, why: &'static str) -> InvalidPolicy {
    InvalidPolicy::Part {
        what: what.into(),
        why,
    }
}

fn parsed<T: std::str::FromStr<Err = InvalidValue>>(s: &str) -> Result<T, InvalidPolicy> {
    s.parse()
        .map_err(|why| InvalidPolicy::Word(s.chars().take(40).collect(), why))
}

/// Dotted arcs: at least two, the first 0 to 2, each a number without leading zeros.
fn is_oid(s: &str) -> bool {
    let arc = |a: &str| {
        (1..=40).contains(&a.len())
            && a.bytes().all(|b| b.is_ascii_digit())
            && (a == "0" || !a.starts_with('0'))
    };
    let arcs: Vec<&str> = s.split('.').collect();
    s.len() <= 128
        && arcs.len() >= 2
        && arcs.iter().all(|a| arc(a))
        && matches!(arcs[0], "0" | "1" | "2")
}

fn shown(what: &str, w: &Words) -> Result<(), InvalidPolicy> {
    let fits = |s: &str| {
        (1..=120).contains(&s.chars().count())
            && s.trim() == s
            && !s.contains("//")
            && !s.chars().any(|c| c.is_control() || c == ';')
    };
    if w.each().into_iter().all(fits) {
        Ok(())
    } else {
        Err(part(
            what,
            "a text that is shown has 1 to 120 characters in each language, without control characters, ; or //",
        ))
    }
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`InvalidPolicy`] names the part and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, InvalidPolicy> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(InvalidPolicy::TooLong);
        }
        let file: File = toml::from_str(text)
            .map_err(|e| InvalidPolicy::Malformed(e.to_string().trim_end().to_owned()))?;
        if !is_oid(&file.oid) {
            return Err(part(
                "oid",
                "not an object identifier; write its arcs with dots, as in 2.25.1",
            ));
        }
        shown("title", &file.title)?;
        let levels = levels(file.level)?;
        let sets = sets(file.set)?;
        let mut policy = Self {
            id: parsed(&file.id)?,
            oid: file.oid,
            version: file.version,
            title: file.title,
            levels,
            sets,
            combinations: vec![],
            text: text.into(),
        };
        if file.rule.len() > MAX_LISTED {
            return Err(part("rule", "a policy lists at most 1024 combinations"));
        }
        for r in file.rule {
            let of =
                r.of.iter()
                    .map(|t| policy.term(t))
                    .collect::<Result<Vec<_>, _>>()?;
            if of.is_empty() || of.len() > MAX_LISTED {
                return Err(part("rule", "`of` lists 1 to 1024 terms"));
            }
            let combination = Combination {
                when: policy.term(&r.when)?,
                needs: r.needs,
                of,
            };
            policy.combinations.push(combination);
        }
        Ok(policy)
    }

    fn term(&self, t: &TermFile) -> Result<Term, InvalidPolicy> {
        match (&t.level, &t.set, &t.value) {
            (Some(level), None, None) if t.kind.is_none() => self
                .level(level)
                .map(|l| Term::Level(l.classification.name().into()))
                .ok_or_else(|| part(format!("rule: level '{level}'"), "the policy has none such")),
            (None, Some(set), value) => {
                let mut found = self
                    .sets
                    .iter()
                    .filter(|s| s.name.as_str() == set && t.kind.is_none_or(|k| k == s.kind));
                let (Some(one), None) = (found.next(), found.next()) else {
                    return Err(part(
                        format!("rule: set '{set}'"),
                        "the policy has none such, or has it in two types: name the type",
                    ));
                };
                let Some(value) = value else {
                    return Ok(Term::Set(one.kind, one.name.clone()));
                };
                let value: Value = parsed(value)?;
                if !one.open && !one.values.contains_key(&value) {
                    return Err(part(
                        format!("rule: value '{value}'"),
                        "the set has none such",
                    ));
                }
                Ok(Term::Value(one.kind, one.name.clone(), value))
            }
            _ => Err(part(
                "rule",
                "a term is { level = … } or { set = …, value = … }",
            )),
        }
    }
}

fn levels(files: Vec<LevelFile>) -> Result<Vec<PolicyLevel>, InvalidPolicy> {
    if !(1..=MAX_LEVELS).contains(&files.len()) {
        return Err(part("level", "a policy has 1 to 16 levels"));
    }
    let (mut names, mut codes) = (BTreeSet::new(), BTreeSet::new());
    let mut below = Level::Ongerubriceerd;
    let mut levels = vec![];
    for (rank, l) in files.into_iter().enumerate() {
        let what = format!("level '{}'", l.name.chars().take(40).collect::<String>());
        if !names.insert(l.name.to_uppercase()) || !codes.insert(l.code) {
            return Err(part(what, "its name or code stands twice"));
        }
        if l.equals < below {
            return Err(part(
                what,
                "equals less than the level below it; levels are listed lowest first",
            ));
        }
        below = l.equals;
        shown(&what, &l.marking)?;
        let hex = |s: &str| s.len() == 7 && s[1..].bytes().all(|b| b.is_ascii_hexdigit());
        if !l.colour.is_ascii() || !l.colour.starts_with('#') || !hex(&l.colour) {
            return Err(part(what, "a colour is written #rrggbb"));
        }
        let rank = u8::try_from(rank).unwrap_or(u8::MAX);
        let classification = Classification::new(rank, &l.name, l.equals)
            .map_err(|why| InvalidPolicy::Word(l.name.chars().take(40).collect(), why))?;
        levels.push(PolicyLevel {
            classification,
            code: l.code,
            marking: l.marking,
            colour: l.colour,
            unconfirmed: l.unconfirmed,
        });
    }
    Ok(levels)
}

fn sets(files: Vec<SetFile>) -> Result<Vec<PolicySet>, InvalidPolicy> {
    if files.len() > MAX_SETS {
        return Err(part("set", "a policy has at most 16 tag sets"));
    }
    let (mut names, mut arcs) = (BTreeSet::new(), BTreeSet::new());
    let mut sets = vec![];
    for s in files {
        let what = format!("set '{}'", s.name.chars().take(40).collect::<String>());
        let name: TagSet = parsed(&s.name)?;
        if !names.insert((s.kind, s.name.to_uppercase())) || !arcs.insert(s.arc) {
            return Err(part(what, "its name and type, or its arc, stand twice"));
        }
        if s.min > s.max || s.max > MAX_VALUES || s.max == 0 {
            return Err(part(what, "0 ≤ min ≤ max and 1 ≤ max ≤ 32 must hold"));
        }
        if s.oid.as_deref().is_some_and(|o| !is_oid(o)) {
            return Err(part(what, "its oid is not an object identifier"));
        }
        if s.value.len() > MAX_LISTED {
            return Err(part(what, "a set lists at most 1024 values"));
        }
        if !s.open && s.value.is_empty() {
            return Err(part(what, "it is neither open nor lists values"));
        }
        shown(&what, &s.marking)?;
        let mut values = BTreeMap::new();
        for v in s.value {
            shown(&what, &v.marking)?;
            if values
                .insert(parsed::<Value>(&v.name)?, v.marking)
                .is_some()
            {
                return Err(part(what, "a value stands twice"));
            }
        }
        sets.push(PolicySet {
            name,
            kind: s.kind,
            oid: s.oid,
            arc: s.arc,
            min: s.min,
            max: s.max,
            open: s.open,
            marking: s.marking,
            values,
            unconfirmed: s.unconfirmed,
        });
    }
    Ok(sets)
}
