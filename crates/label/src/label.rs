//! The label: confidentiality, and the legal act around it.

use std::fmt;
use std::str::FromStr;

use crate::{
    CategoryType, Clearance, Confidentiality, Date, InvalidDate, InvalidLevel, InvalidName,
    InvalidValue, Kind, Name, Policies, Policy,
};

/// Characters of the event a duration names.
pub const MAX_EVENT_CHARS: usize = 200;
/// Bytes of a label as text. A label with every bound used is below it.
pub const MAX_LABEL_BYTES: usize = 16 * 1024;

/// Until when the rubricering stands. At the day or event the vaststeller weighs it again (VIRBI 2025 article 5(1)): nothing is
/// ever declassified by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Duration {
    /// Until a day.
    Until(Date),
    /// Until an event, in words: 1 to 200 characters without quotation marks or control characters.
    Event(Box<str>),
}

impl Duration {
    /// A duration that ends with an event.
    ///
    /// # Errors
    /// [`InvalidLabel::Event`]: empty, too long, or with a character that may not stand there.
    pub fn event(text: &str) -> Result<Self, InvalidLabel> {
        let fits = (1..=MAX_EVENT_CHARS).contains(&text.chars().count());
        let plain = text.chars().all(|c| !c.is_control() && c != '"') && !text.contains("//");
        if fits && plain && text.trim() == text {
            Ok(Self::Event(text.into()))
        } else {
            Err(InvalidLabel::Event)
        }
    }
}

/// How far the legal act has come (VIRBI 2025 articles 1 and 4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The opsteller put the label on the information; nobody entitled has established it yet.
    Proposed,
    /// The vaststeller established it.
    Established {
        /// The vaststeller: a person.
        by: Name,
    },
}

/// A confidentiality label. There is no order on labels: two may be incomparable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    /// Level and categories.
    pub confidentiality: Confidentiality,
    /// Until when; required by policy from Dep.V.
    pub duration: Option<Duration>,
    /// Proposed or established.
    pub state: State,
}

/// Why a text is no label. Each names the part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabel {
    /// Longer than [`MAX_LABEL_BYTES`].
    #[error("the label is too long")]
    TooLong,
    /// The first part is no level.
    #[error(
        "the label begins with '{0}': {InvalidLevel}, or a level of a known policy such as NATO SECRET"
    )]
    Level(String),
    /// A category value.
    #[error("'{part}': {why}")]
    Category {
        /// The value as typed, shortened.
        part: String,
        /// What is wrong with it.
        why: InvalidValue,
    },
    /// The event of a duration.
    #[error("the event of a label has 1 to 200 characters, none of them a quotation mark or //")]
    Event,
    /// The day of a duration.
    #[error("'{0}' after TOT: {InvalidDate}, or GEBEURTENIS \"…\"")]
    Date(String),
    /// The vaststeller.
    #[error("'{part}' after VASTGESTELD: {why}")]
    Name {
        /// The name as typed, shortened.
        part: String,
        /// What is wrong with it.
        why: InvalidName,
    },
    /// The vaststeller is a node, officer or broker.
    #[error("'{0}' after VASTGESTELD is not a person; only a person establishes a label")]
    NotAPerson(Name),
    /// A part with an unknown first word.
    #[error(
        "'{part}' is no part of a label; after the level come {known}, TOT, VASTGESTELD or VOORGESTELD, each after //"
    )]
    Part {
        /// The part as typed, shortened.
        part: String,
        /// The tag sets of the label's policy.
        known: String,
    },
    /// A part that may stand once stands twice.
    #[error("{0} stands twice in the label")]
    Twice(String),
    /// Something that says nothing of a clearance.
    #[error("'{0}' does not belong in a clearance: it has a level and values of tag sets")]
    NotOfAClearance(String),
}

/// At most 40 characters of what was typed: enough to find it, too little to flood a terminal.
fn short(s: &str) -> String {
    s.chars().filter(|c| !c.is_control()).take(40).collect()
}

impl FromStr for Label {
    type Err = InvalidLabel;

    /// Reads a label under the built-in policies, as [`Policies::read`].
    fn from_str(s: &str) -> Result<Self, InvalidLabel> {
        Policies::built_in().read(s)
    }
}

/// The parts of a label's text after the level.
struct Parts<'a> {
    policy: &'a Policy,
    confidentiality: Confidentiality,
    rest: Vec<&'a str>,
}

impl Policies {
    /// Reads a label as people type it, under these policies. Parts are separated by `//`, `;` or a line; the first names the level; each
    /// other begins with its word or the name of a tag set, in any case, followed by a space, `:` or `=`; values are separated by commas.
    /// Without VASTGESTELD the label is proposed. Whether it is valid under its policy, [`Self::check`] says.
    ///
    /// # Errors
    /// [`InvalidLabel`] names the part.
    pub fn read(&self, s: &str) -> Result<Label, InvalidLabel> {
        let spaced = bounded(s)?;
        let Parts {
            policy,
            confidentiality,
            rest,
        } = self.parts(&spaced)?;
        let (mut duration, mut state) = (None, None);
        for part in rest {
            let (word, rest) = split(part, part.find([' ', ':', '=']).unwrap_or(part.len()));
            match word.to_uppercase().as_str() {
                "TOT" if duration.is_some() => return Err(InvalidLabel::Twice("TOT".into())),
                "TOT" => duration = Some(until(rest)?),
                "VASTGESTELD" | "VOORGESTELD" if state.is_some() => {
                    return Err(InvalidLabel::Twice("the state".into()));
                }
                "VASTGESTELD" => {
                    let text = rest.strip_prefix("door ").unwrap_or(rest);
                    let by: Name = text.parse().map_err(|why| InvalidLabel::Name {
                        part: short(text),
                        why,
                    })?;
                    if by.kind() != Kind::Person {
                        return Err(InvalidLabel::NotAPerson(by));
                    }
                    state = Some(State::Established { by });
                }
                "VOORGESTELD" if rest.is_empty() => state = Some(State::Proposed),
                _ => {
                    let known: Vec<String> = policy
                        .sets()
                        .iter()
                        .map(|s| s.name.as_str().to_uppercase())
                        .collect();
                    return Err(InvalidLabel::Part {
                        part: short(part),
                        known: known.join(", "),
                    });
                }
            }
        }
        Ok(Label {
            confidentiality,
            duration,
            state: state.unwrap_or(State::Proposed),
        })
    }

    /// Reads a clearance in the same form: the highest level, and the values held of each tag set.
    ///
    /// # Errors
    /// [`InvalidLabel`] names the part.
    pub fn read_clearance(&self, s: &str) -> Result<Clearance, InvalidLabel> {
        let spaced = bounded(s)?;
        let Parts {
            confidentiality: c,
            rest,
            ..
        } = self.parts(&spaced)?;
        if let Some(part) = rest.first() {
            return Err(InvalidLabel::NotOfAClearance(short(part)));
        }
        let mut clearance = Clearance::under(c.policy().clone(), c.classification().clone());
        for kind in [CategoryType::Restrictive, CategoryType::Permissive] {
            for (set, values) in c.categories(kind) {
                for v in values {
                    clearance = clearance.with_value(set, v.as_str()).map_err(|why| {
                        InvalidLabel::Category {
                            part: short(v.as_str()),
                            why,
                        }
                    })?;
                }
            }
        }
        Ok(clearance)
    }

    /// Level and categories, and the parts that are neither.
    fn parts<'a>(&'a self, text: &'a str) -> Result<Parts<'a>, InvalidLabel> {
        let mut parts = text.split("//").map(str::trim);
        let first = parts.next().unwrap_or_default();
        let (policy, level) = self
            .level(first)
            .ok_or_else(|| InvalidLabel::Level(short(first)))?;
        let mut c = Confidentiality::under(policy.id().clone(), level.classification.clone());
        let mut seen = vec![];
        let mut rest = vec![];
        for part in parts.filter(|p| !p.is_empty()) {
            // The longest name of a set that the part begins with.
            let set = policy
                .sets()
                .iter()
                .filter(|s| begins(part, s.name.as_str()))
                .max_by_key(|s| s.name.as_str().len());
            let Some(set) = set else {
                rest.push(part);
                continue;
            };
            let name = set.name.as_str();
            let word = name.to_uppercase();
            if seen.contains(&word) {
                return Err(InvalidLabel::Twice(word));
            }
            seen.push(word);
            let (_, list) = split(part, name.len());
            if set.kind == CategoryType::Permissive && list.eq_ignore_ascii_case("niemand") {
                c = c
                    .for_nobody_of(&set.name)
                    .map_err(|why| InvalidLabel::Category {
                        part: short(list),
                        why,
                    })?;
                continue;
            }
            for v in list.split(',').map(str::trim) {
                let v = if v == "-" { "" } else { v };
                // Of a set that stands in two types, the one that lists the value.
                let kind = v.parse().ok().and_then(|v| {
                    let mut same = policy.sets().iter().filter(|s| s.name == set.name);
                    same.find(|s| s.values.contains_key(&v)).map(|s| s.kind)
                });
                c = c
                    .with_value(kind.unwrap_or(set.kind), &set.name, v)
                    .map_err(|why| InvalidLabel::Category {
                        part: short(v),
                        why,
                    })?;
            }
        }
        Ok(Parts {
            policy,
            confidentiality: c,
            rest,
        })
    }
}

fn bounded(s: &str) -> Result<String, InvalidLabel> {
    if s.len() > MAX_LABEL_BYTES {
        Err(InvalidLabel::TooLong)
    } else {
        Ok(s.replace([';', '\n'], "//"))
    }
}

/// Whether a part begins with this name, in any case, and the name ends there.
fn begins(part: &str, name: &str) -> bool {
    part.get(..name.len())
        .is_some_and(|p| p.eq_ignore_ascii_case(name))
        && matches!(
            part[name.len()..].chars().next(),
            None | Some(' ' | ':' | '=')
        )
}

fn split(part: &str, at: usize) -> (&str, &str) {
    let (word, rest) = part.split_at(at);
    (word, rest.trim_start_matches([' ', ':', '=']).trim_end())
}

fn until(text: &str) -> Result<Duration, InvalidLabel> {
    let event = text
        .get(..11)
        .filter(|w| w.eq_ignore_ascii_case("gebeurtenis"));
    if event.is_none() {
        return text
            .parse()
            .map(Duration::Until)
            .map_err(|InvalidDate| InvalidLabel::Date(short(text)));
    }
    let rest = text[11..].trim_start_matches([' ', ':', '=']);
    let bare = rest
        .strip_prefix('"')
        .and_then(|r| r.strip_suffix('"'))
        .unwrap_or(rest);
    Duration::event(bare)
}

impl fmt::Display for Label {
    /// The one rendering; [`FromStr`] reads it back to the same label.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.confidentiality)?;
        match &self.duration {
            None => {}
            Some(Duration::Until(day)) => write!(f, " // TOT {day}")?,
            Some(Duration::Event(event)) => write!(f, " // TOT GEBEURTENIS \"{event}\"")?,
        }
        match &self.state {
            State::Proposed => f.write_str(" // VOORGESTELD"),
            State::Established { by } => write!(f, " // VASTGESTELD {by}"),
        }
    }
}

impl fmt::Display for Confidentiality {
    /// Level and categories, as [`Label`] prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.alternative().is_some() {
            write!(f, "{} ", self.policy())?;
        }
        write!(f, "{}", self.classification())?;
        for kind in [
            CategoryType::Permissive,
            CategoryType::Restrictive,
            CategoryType::Informative,
        ] {
            for (set, values) in self.categories(kind) {
                if values.is_empty() && kind != CategoryType::Permissive {
                    continue;
                }
                write!(f, " // {}", set.as_str().to_uppercase())?;
                if values.is_empty() {
                    f.write_str(" NIEMAND")?;
                }
                for (i, v) in values.iter().enumerate() {
                    write!(f, "{} {v}", if i == 0 { "" } else { "," })?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Clearance {
    /// The highest level and what is held, as [`Policies::read_clearance`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self.policy() != crate::PolicyId::nl() {
            write!(f, "{} ", self.policy())?;
        }
        write!(f, "{}", self.highest())?;
        for (set, values) in self.categories().filter(|(_, v)| !v.is_empty()) {
            write!(f, " // {}", set.as_str().to_uppercase())?;
            for (i, v) in values.iter().enumerate() {
                write!(f, "{} {v}", if i == 0 { "" } else { "," })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;
    use crate::confidentiality::tests::confidentiality;
    use proptest::prelude::*;

    fn label() -> impl Strategy<Value = Label> {
        let duration = prop_oneof![
            Just(None),
            (-1000i64..40_000)
                .prop_map(|d| Some(Duration::Until(Date::from_days(d).expect("a day")))),
            "[a-zA-Z][a-z ,;:]{0,20}[a-z]".prop_filter_map("an event", |t| Duration::event(
                &t.replace(';', "")
            )
            .ok()
            .map(Some)),
        ];
        let by: Name = "jansen.person.crisis.example".parse().expect("a name");
        let state = prop_oneof![Just(State::Proposed), Just(State::Established { by })];
        (confidentiality(), duration, state).prop_map(|(confidentiality, duration, state)| Label {
            confidentiality,
            duration,
            state,
        })
    }

    proptest! {
        #[test]
        fn one_rendering_reads_back(l in label()) {
            prop_assert_eq!(l.to_string().parse(), Ok(l));
        }

        #[test]
        fn any_text_is_a_label_or_an_error(s in "\\PC{0,60}") {
            if let Ok(l) = s.parse::<Label>() {
                prop_assert_eq!(l.to_string().parse(), Ok(l));
            }
        }
    }

    #[test]
    fn as_people_type_it() {
        let l: Label = "Stg. Geheim; kring: ncc, dcc-def; compartiment=crypto; tot 2035-01-01"
            .parse()
            .expect("a label");
        assert_eq!(
            l.to_string(),
            "Stg.G // KRING DCC-DEF, NCC // COMPARTIMENT CRYPTO // TOT 2035-01-01 // VOORGESTELD"
        );
        let l: Label = "Dep.V. // merking Alleen NL // tot gebeurtenis \"einde crisis\" // vastgesteld jansen.person.crisis.example".parse().expect("a label");
        assert_eq!(
            l.to_string(),
            "Dep.V // MERKING ALLEEN NL // TOT GEBEURTENIS \"einde crisis\" // VASTGESTELD jansen.person.crisis.example"
        );
        assert_eq!(
            "ongerubriceerd"
                .parse::<Label>()
                .map(|l| l.confidentiality.level()),
            Ok(Level::Ongerubriceerd)
        );
    }

    #[test]
    fn an_error_names_the_part() {
        for (text, says) in [
            ("", "begins with ''"),
            ("ZZ SECRET", "begins with 'ZZ SECRET'"),
            ("Stg.G // ring A", "'ring A' is no part"),
            ("Stg.G // kring", "1 to 64"),
            ("Stg.G // kring A,,B", "1 to 64"),
            ("Stg.G // kring A // kring B", "KRING stands twice"),
            ("Stg.G // tot 2035-02-30", "'2035-02-30' after TOT"),
            (
                "Stg.G // tot 2035-01-01 // tot 2036-01-01",
                "TOT stands twice",
            ),
            ("Stg.G // tot gebeurtenis", "event of a label"),
            ("Stg.G // vastgesteld jansen", "after VASTGESTELD"),
            (
                "Stg.G // vastgesteld ncc.node.crisis.example",
                "not a person",
            ),
            (
                "Stg.G // voorgesteld // vastgesteld x.person.crisis.example",
                "the state stands twice",
            ),
        ] {
            let e = text.parse::<Label>().expect_err(text).to_string();
            assert!(e.contains(says), "{text}: {e}");
        }
        assert_eq!(
            "x".repeat(MAX_LABEL_BYTES + 1).parse::<Label>(),
            Err(InvalidLabel::TooLong)
        );
    }
}
