//! The label: confidentiality, and the legal act around it.

use std::fmt;
use std::str::FromStr;

use crate::{
    Confidentiality, Date, InvalidDate, InvalidLevel, InvalidName, InvalidValue, Kind, Name,
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
    #[error("the label begins with '{0}': {InvalidLevel}")]
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
        "'{0}' is no part of a label; after the level come KRING, COMPARTIMENT, MERKING, TOT, VASTGESTELD or VOORGESTELD, each after //"
    )]
    Part(String),
    /// A part that may stand once stands twice.
    #[error("{0} stands twice in the label")]
    Twice(&'static str),
}

/// At most 40 characters of what was typed: enough to find it, too little to flood a terminal.
fn short(s: &str) -> String {
    s.chars().filter(|c| !c.is_control()).take(40).collect()
}

impl FromStr for Label {
    type Err = InvalidLabel;

    /// Reads a label as people type it. Parts are separated by `//`, `;` or a line; a part begins with its word in any case,
    /// followed by a space, `:` or `=`; values are separated by commas. Without VASTGESTELD the label is proposed.
    fn from_str(s: &str) -> Result<Self, InvalidLabel> {
        if s.len() > MAX_LABEL_BYTES {
            return Err(InvalidLabel::TooLong);
        }
        let spaced = s.replace([';', '\n'], "//");
        let mut parts = spaced.split("//").map(str::trim);
        let first = parts.next().unwrap_or_default();
        let level = first.strip_prefix("NL ").unwrap_or(first);
        let level = level
            .parse()
            .map_err(|InvalidLevel| InvalidLabel::Level(short(first)))?;
        let mut confidentiality = Confidentiality::new(level);
        let (mut duration, mut state) = (None, None);
        let mut seen = [false; 3];
        for part in parts.filter(|p| !p.is_empty()) {
            let end = part.find([' ', ':', '=']).unwrap_or(part.len());
            let (word, rest) = part.split_at(end);
            let rest = rest.trim_start_matches([' ', ':', '=']).trim_end();
            match word.to_uppercase().as_str() {
                "KRING" => {
                    once(&mut seen[0], "KRING")?;
                    confidentiality = if rest.eq_ignore_ascii_case("niemand") {
                        confidentiality.for_nobody()
                    } else {
                        values(confidentiality, rest, Confidentiality::with_circle)?
                    };
                }
                "COMPARTIMENT" => {
                    once(&mut seen[1], "COMPARTIMENT")?;
                    confidentiality =
                        values(confidentiality, rest, Confidentiality::with_compartment)?;
                }
                "MERKING" => {
                    once(&mut seen[2], "MERKING")?;
                    confidentiality = values(confidentiality, rest, Confidentiality::with_marking)?;
                }
                "TOT" => {
                    if duration.is_some() {
                        return Err(InvalidLabel::Twice("TOT"));
                    }
                    duration = Some(until(rest)?);
                }
                "VASTGESTELD" | "VOORGESTELD" if state.is_some() => {
                    return Err(InvalidLabel::Twice("the state"));
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
                _ => return Err(InvalidLabel::Part(short(part))),
            }
        }
        Ok(Self {
            confidentiality,
            duration,
            state: state.unwrap_or(State::Proposed),
        })
    }
}

fn once(seen: &mut bool, what: &'static str) -> Result<(), InvalidLabel> {
    if std::mem::replace(seen, true) {
        Err(InvalidLabel::Twice(what))
    } else {
        Ok(())
    }
}

fn values(
    c: Confidentiality,
    list: &str,
    with: fn(Confidentiality, &str) -> Result<Confidentiality, InvalidValue>,
) -> Result<Confidentiality, InvalidLabel> {
    list.split(',').map(str::trim).try_fold(c, |c, v| {
        let v = if v == "-" { "" } else { v };
        with(c, v).map_err(|why| InvalidLabel::Category {
            part: short(v),
            why,
        })
    })
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
        let c = &self.confidentiality;
        write!(f, "{}", c.level())?;
        match c.circles() {
            None => {}
            Some(none) if none.is_empty() => f.write_str(" // KRING NIEMAND")?,
            Some(some) => list(f, "KRING", some.iter())?,
        }
        list(f, "COMPARTIMENT", c.compartments())?;
        list(f, "MERKING", c.markings())?;
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

fn list<'a, T: fmt::Display + 'a>(
    f: &mut fmt::Formatter<'_>,
    word: &str,
    values: impl Iterator<Item = &'a T>,
) -> fmt::Result {
    for (i, v) in values.enumerate() {
        if i == 0 {
            write!(f, " // {word} {v}")?;
        } else {
            write!(f, ", {v}")?;
        }
    }
    Ok(())
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
            ("NATO SECRET", "begins with 'NATO SECRET'"),
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
