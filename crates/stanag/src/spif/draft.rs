//! The draft of a policy, and its text.

use std::fmt::Write as _;

use ordonnans_label::{CategoryType, Level, Need};

/// A policy as it comes out of a SPIF.
pub(super) struct Draft {
    pub(super) id: String,
    pub(super) oid: String,
    pub(super) version: u64,
    /// Lowest first.
    pub(super) levels: Vec<DraftLevel>,
    pub(super) sets: Vec<DraftSet>,
    pub(super) rules: Vec<Rule>,
}

pub(super) struct DraftLevel {
    pub(super) name: String,
    pub(super) code: u8,
    pub(super) equals: Level,
    pub(super) marking: Shown,
    pub(super) colour: String,
}

pub(super) struct DraftSet {
    pub(super) name: String,
    pub(super) kind: CategoryType,
    pub(super) oid: String,
    pub(super) min: usize,
    pub(super) max: usize,
    pub(super) open: bool,
    /// Name in capitals, and how it is shown.
    pub(super) values: Vec<(String, Shown)>,
}

/// A text for people: Dutch and English.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) nl: String,
    pub(super) en: String,
}

impl Shown {
    pub(super) fn both(s: &str) -> Self {
        Self {
            nl: s.into(),
            en: s.into(),
        }
    }
}

/// Something a rule is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Level(String),
    /// A set, by its place in [`Draft::sets`].
    Set(usize),
    /// A value of a set.
    Value(usize, String),
}

pub(super) struct Rule {
    pub(super) when: Subject,
    pub(super) needs: Need,
    pub(super) of: Vec<Subject>,
}

impl Draft {
    /// The policy file. `comment` is one line for whoever opens it.
    pub(super) fn toml(&self, comment: &str) -> String {
        let mut x = format!(
            "# {comment}\nid = {}\noid = {}\nversion = {}\ntitle = {}\n",
            quoted(&self.id),
            quoted(&self.oid),
            self.version,
            words(&Shown::both(&self.id)),
        );
        for l in &self.levels {
            let _ = write!(
                x,
                "\n[[level]]\nname = {}\ncode = {}\nequals = {}\nmarking = {}\ncolour = {}\nunconfirmed = true\n",
                quoted(&l.name),
                l.code,
                quoted(l.equals.abbreviation()),
                words(&l.marking),
                quoted(&l.colour),
            );
        }
        for (i, s) in self.sets.iter().enumerate() {
            let _ = write!(
                x,
                "\n[[set]]\nname = {}\noid = {}\ntype = \"{}\"\narc = {}\nmin = {}\nmax = {}\nopen = {}\nmarking = {}\nunconfirmed = true\n",
                quoted(&s.name),
                quoted(&s.oid),
                kind(s.kind),
                i + 1,
                s.min,
                s.max,
                s.open,
                words(&Shown::both(&s.name)),
            );
            for (name, shown) in &s.values {
                let _ = write!(
                    x,
                    "\n[[set.value]]\nname = {}\nmarking = {}\n",
                    quoted(name),
                    words(shown)
                );
            }
        }
        for r in &self.rules {
            let of: Vec<String> = r.of.iter().map(|s| self.term(s)).collect();
            let needs = match r.needs {
                Need::One => "one",
                Need::Some => "some",
                Need::All => "all",
                Need::None => "none",
            };
            let _ = write!(
                x,
                "\n[[rule]]\nwhen = {}\nneeds = \"{needs}\"\nof = [{}]\n",
                self.term(&r.when),
                of.join(", ")
            );
        }
        x
    }

    fn term(&self, s: &Subject) -> String {
        let set = |i: &usize| {
            self.sets.get(*i).map_or(String::new(), |s| {
                format!("set = {}, type = \"{}\"", quoted(&s.name), kind(s.kind))
            })
        };
        match s {
            Subject::Level(name) => format!("{{ level = {} }}", quoted(name)),
            Subject::Set(i) => format!("{{ {} }}", set(i)),
            Subject::Value(i, value) => format!("{{ {}, value = {} }}", set(i), quoted(value)),
        }
    }
}

fn kind(k: CategoryType) -> &'static str {
    match k {
        CategoryType::Restrictive => "restrictive",
        CategoryType::Permissive => "permissive",
        CategoryType::Informative => "informative",
    }
}

fn words(w: &Shown) -> String {
    format!("{{ nl = {}, en = {} }}", quoted(&w.nl), quoted(&w.en))
}

/// A basic string of TOML 1.0.
fn quoted(s: &str) -> String {
    let mut x = String::with_capacity(s.len() + 2);
    x.push('"');
    for c in s.chars() {
        match c {
            '"' => x.push_str("\\\""),
            '\\' => x.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(x, "\\u{:04X}", u32::from(c));
            }
            c => x.push(c),
        }
    }
    x.push('"');
    x
}
