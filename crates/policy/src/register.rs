//! The register: which nodes, persons, officers and circles there are, and what each may hold.
//!
//! TOML; a key this page does not name is refused. Names are local (`ncc`); the structure supplies the rest. Whoever can write this
//! file decides who may read.

use std::collections::{BTreeMap, BTreeSet};

use ordonnans_label::{Clearance, Date, InvalidName, InvalidValue, Kind, Level, Name};
use ordonnans_message::{Digest, Timestamp, sha256};
use serde::Deserialize;

/// Whether a node takes part at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Takes part.
    Active,
    /// Is held back: nothing goes to it or comes from it until it is active again.
    Suspended,
}

/// A node of the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// Who.
    pub name: Name,
    /// The organisation, for people.
    pub title: String,
    /// What it may hold.
    pub clearance: Clearance,
    /// Whether it belongs to the Rijksdienst.
    pub rijksdienst: bool,
    /// The last day of its accreditation.
    pub accredited_until: Date,
    /// Whether it takes part.
    pub standing: Standing,
}

impl NodeEntry {
    /// Whether it takes part at this time: active, and the accreditation has not ended. The last day counts in full.
    #[must_use]
    pub fn in_good_standing(&self, now: Timestamp) -> bool {
        self.standing == Standing::Active && now.date() <= self.accredited_until
    }
}

/// A person of the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonEntry {
    /// Who.
    pub name: Name,
    /// The node the person works at.
    pub node: Name,
    /// What the person may hold.
    pub clearance: Clearance,
    /// The highest level the person may establish (vaststeller), if any.
    pub establishes: Option<Level>,
}

/// A security officer of the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfficerEntry {
    /// Who.
    pub name: Name,
    /// Up to where the officer may see details of the audit log.
    pub clearance: Clearance,
}

/// A circle of the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circle {
    /// Its name, as labels write it.
    pub name: String,
    /// What it is.
    pub title: String,
}

/// The register in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    version: u64,
    structure: String,
    digest: Digest,
    nodes: BTreeMap<Name, NodeEntry>,
    persons: BTreeMap<Name, PersonEntry>,
    officers: BTreeMap<Name, OfficerEntry>,
    circles: BTreeMap<String, Circle>,
}

/// Why a register was refused. Each names the entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRegister {
    /// Not TOML of the documented form; the text says where.
    #[error("the register is not valid: {0}")]
    Malformed(String),
    /// A name that cannot be one.
    #[error("{entry}: {why}")]
    Name {
        /// The entry.
        entry: String,
        /// What is wrong with its name.
        why: InvalidName,
    },
    /// Two entries with one name.
    #[error("{0} stands twice in the register; remove one")]
    Twice(String),
    /// A circle, compartment or level that cannot be one.
    #[error("{entry}: '{word}' {why}")]
    Word {
        /// The entry.
        entry: String,
        /// The word.
        word: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something named that the register does not hold.
    #[error(
        "{entry} names {what} '{name}', which the register does not hold; add it or correct the name"
    )]
    Missing {
        /// The entry.
        entry: String,
        /// Node or circle.
        what: &'static str,
        /// The name.
        name: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u64,
    structure: String,
    #[serde(default)]
    circle: Vec<CircleFile>,
    #[serde(default)]
    node: Vec<NodeFile>,
    #[serde(default)]
    person: Vec<PersonFile>,
    #[serde(default)]
    officer: Vec<OfficerFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CircleFile {
    name: String,
    title: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    name: String,
    title: String,
    clearance: String,
    #[serde(default)]
    circles: Vec<String>,
    #[serde(default)]
    compartments: Vec<String>,
    rijksdienst: bool,
    accredited_until: String,
    standing: Standing,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PersonFile {
    name: String,
    node: String,
    clearance: String,
    #[serde(default)]
    circles: Vec<String>,
    #[serde(default)]
    compartments: Vec<String>,
    establishes: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfficerFile {
    name: String,
    clearance: String,
    #[serde(default)]
    circles: Vec<String>,
    #[serde(default)]
    compartments: Vec<String>,
}

impl Register {
    /// Reads a register and checks that everything it names is there.
    ///
    /// # Errors
    /// [`InvalidRegister`] names the entry and what to do.
    pub fn parse(text: &str) -> Result<Self, InvalidRegister> {
        let file: File = toml::from_str(text)
            .map_err(|e| InvalidRegister::Malformed(e.to_string().trim_end().to_owned()))?;
        let mut r = Self {
            version: file.version,
            structure: file.structure,
            digest: sha256(&[text.as_bytes()]),
            nodes: BTreeMap::new(),
            persons: BTreeMap::new(),
            officers: BTreeMap::new(),
            circles: BTreeMap::new(),
        };
        for c in file.circle {
            let entry = format!("circle {}", c.name);
            // A label compares circles in upper case, so the register writes them so.
            let upper: ordonnans_label::Value =
                c.name.parse().map_err(|why| word(&entry, &c.name, &why))?;
            if upper.as_str() != c.name {
                let why = format!("is written {upper} in labels; write it so here");
                return Err(InvalidRegister::Word {
                    entry,
                    word: c.name,
                    why,
                });
            }
            let circle = Circle {
                name: c.name.clone(),
                title: c.title,
            };
            if r.circles.insert(c.name, circle).is_some() {
                return Err(InvalidRegister::Twice(entry));
            }
        }
        for n in file.node {
            let entry = format!("node {}", n.name);
            let name = r.name(&entry, &n.name, Kind::Node)?;
            let clearance = r.clearance(&entry, &n.clearance, &n.circles, &n.compartments)?;
            let accredited_until =
                n.accredited_until
                    .parse()
                    .map_err(|why: ordonnans_label::InvalidDate| InvalidRegister::Word {
                        entry: entry.clone(),
                        word: n.accredited_until.clone(),
                        why: format!("is {why}"),
                    })?;
            let node = NodeEntry {
                name: name.clone(),
                title: n.title,
                clearance,
                rijksdienst: n.rijksdienst,
                accredited_until,
                standing: n.standing,
            };
            if r.nodes.insert(name, node).is_some() {
                return Err(InvalidRegister::Twice(entry));
            }
        }
        for p in file.person {
            let entry = format!("person {}", p.name);
            let name = r.name(&entry, &p.name, Kind::Person)?;
            let node = r.name(&entry, &p.node, Kind::Node)?;
            if !r.nodes.contains_key(&node) {
                return Err(InvalidRegister::Missing {
                    entry,
                    what: "node",
                    name: p.node,
                });
            }
            let clearance = r.clearance(&entry, &p.clearance, &p.circles, &p.compartments)?;
            let establishes = p.establishes.map(|l| level(&entry, &l)).transpose()?;
            if r.persons
                .insert(
                    name.clone(),
                    PersonEntry {
                        name,
                        node,
                        clearance,
                        establishes,
                    },
                )
                .is_some()
            {
                return Err(InvalidRegister::Twice(entry));
            }
        }
        for o in file.officer {
            let entry = format!("officer {}", o.name);
            let name = r.name(&entry, &o.name, Kind::Officer)?;
            let clearance = r.clearance(&entry, &o.clearance, &o.circles, &o.compartments)?;
            if r.officers
                .insert(name.clone(), OfficerEntry { name, clearance })
                .is_some()
            {
                return Err(InvalidRegister::Twice(entry));
            }
        }
        Ok(r)
    }

    /// The number its keeper gave it; a newer one is higher.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// SHA-256 of its text, as audit records cite it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The structure all its names end with.
    #[must_use]
    pub fn structure(&self) -> &str {
        &self.structure
    }

    /// A node by name.
    #[must_use]
    pub fn node(&self, name: &Name) -> Option<&NodeEntry> {
        self.nodes.get(name)
    }

    /// A person by name.
    #[must_use]
    pub fn person(&self, name: &Name) -> Option<&PersonEntry> {
        self.persons.get(name)
    }

    /// An officer by name.
    #[must_use]
    pub fn officer(&self, name: &Name) -> Option<&OfficerEntry> {
        self.officers.get(name)
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeEntry> {
        self.nodes.values()
    }

    /// All circles, by name.
    pub fn circles(&self) -> impl Iterator<Item = &Circle> {
        self.circles.values()
    }

    fn name(&self, entry: &str, local: &str, kind: Kind) -> Result<Name, InvalidRegister> {
        Name::new(local, kind, &self.structure).map_err(|why| InvalidRegister::Name {
            entry: entry.into(),
            why,
        })
    }

    fn clearance(
        &self,
        entry: &str,
        highest: &str,
        circles: &[String],
        compartments: &[String],
    ) -> Result<Clearance, InvalidRegister> {
        let mut c = Clearance::new(level(entry, highest)?);
        let known: BTreeSet<&str> = self.circles.keys().map(String::as_str).collect();
        for circle in circles {
            if !known.contains(circle.as_str()) {
                let (entry, name) = (entry.into(), circle.clone());
                return Err(InvalidRegister::Missing {
                    entry,
                    what: "circle",
                    name,
                });
            }
            c = c
                .with_circle(circle)
                .map_err(|why| word(entry, circle, &why))?;
        }
        compartments.iter().try_fold(c, |c, v| {
            c.with_compartment(v).map_err(|why| word(entry, v, &why))
        })
    }
}

fn level(entry: &str, text: &str) -> Result<Level, InvalidRegister> {
    text.parse()
        .map_err(|why: ordonnans_label::InvalidLevel| InvalidRegister::Word {
            entry: entry.into(),
            word: text.into(),
            why: format!("is {why}"),
        })
}

fn word(entry: &str, word: &str, why: &InvalidValue) -> InvalidRegister {
    InvalidRegister::Word {
        entry: entry.into(),
        word: word.into(),
        why: format!("cannot stand here: {why}"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const GOOD: &str = r#"
        version = 3
        structure = "crisis.example"
        circle = [{ name = "ICCB", title = "Commissie" }]
        officer = [{ name = "bva", clearance = "Stg.ZG" }]
        [[node]]
        name = "ncc"
        title = "Nationaal Crisiscentrum"
        clearance = "Stg.ZG"
        circles = ["ICCB"]
        compartments = ["CYBER"]
        rijksdienst = true
        accredited_until = "2030-12-31"
        standing = "active"
        [[node]]
        name = "locc"
        title = "LOCC"
        clearance = "Stg.G"
        rijksdienst = true
        accredited_until = "2030-12-31"
        standing = "active"
        [[person]]
        name = "vermeer"
        node = "ncc"
        clearance = "Stg.ZG"
        circles = ["ICCB"]
        compartments = ["CYBER"]
        establishes = "Stg.G"
        [[person]]
        name = "bos"
        node = "locc"
        clearance = "Stg.C"
    "#;

    #[test]
    fn the_document_s_example_is_a_register() {
        let page = include_str!("../../../docs/policy.md");
        let example = page
            .split("```toml")
            .nth(1)
            .and_then(|t| t.split("```").next());
        let r = Register::parse(example.expect("an example")).expect("valid");
        assert_eq!((r.version(), r.nodes().count()), (3, 1));
    }

    #[test]
    fn reads_what_it_says() {
        let r = Register::parse(GOOD).expect("valid");
        assert_eq!(
            (
                r.version(),
                r.structure(),
                r.nodes().count(),
                r.circles().count()
            ),
            (3, "crisis.example", 2, 1)
        );
        let person = r
            .person(&"vermeer.person.crisis.example".parse().expect("a name"))
            .expect("there");
        assert_eq!(person.establishes, Some(Level::StgG));
        assert!(
            r.officer(&"bva.officer.crisis.example".parse().expect("a name"))
                .is_some()
        );
    }

    #[test]
    fn the_last_day_of_an_accreditation_counts() {
        let r = Register::parse(GOOD).expect("valid");
        let n = r.nodes().next().expect("a node");
        let at = |t: &str| t.parse::<Timestamp>().expect("a time");
        assert!(n.in_good_standing(at("2030-12-31T23:59:59Z")));
        assert!(!n.in_good_standing(at("2031-01-01T00:00:00Z")));
    }

    #[test]
    fn each_inconsistency_is_named() {
        for (from, to, says) in [
            ("version = 3", "versie = 3", "versie"),
            ("name = \"locc\"", "name = \"ncc\"", "node ncc stands twice"),
            (
                "name = \"locc\"",
                "name = \"LOCC\"",
                "node LOCC: a name reads",
            ),
            (
                "name = \"bos\"",
                "name = \"vermeer\"",
                "person vermeer stands twice",
            ),
            (
                "node = \"locc\"",
                "node = \"atlantis\"",
                "person bos names node 'atlantis'",
            ),
            (
                "clearance = \"Stg.C\"",
                "clearance = \"GEHEIM\"",
                "person bos: 'GEHEIM' is not a level",
            ),
            (
                "circles = [\"ICCB\"]",
                "circles = [\"MCCB\"]",
                "node ncc names circle 'MCCB'",
            ),
            (
                "compartments = [\"CYBER\"]",
                "compartments = [\"\"]",
                "node ncc: '' cannot stand here",
            ),
            (
                "accredited_until = \"2030-12-31\"",
                "accredited_until = \"soon\"",
                "node ncc: 'soon' is not a date",
            ),
            ("standing = \"active\"", "standing = \"lost\"", "lost"),
            (
                "name = \"ICCB\"",
                "name = \"iccb\"",
                "circle iccb: 'iccb' is written ICCB",
            ),
        ] {
            let e = Register::parse(&GOOD.replacen(from, to, 1))
                .expect_err(to)
                .to_string();
            assert!(e.contains(says), "{to}: {e}");
        }
    }
}
