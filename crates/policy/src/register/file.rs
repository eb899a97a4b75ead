//! Reading a register file.

use std::collections::{BTreeMap, BTreeSet};

use ordonnans_label::{
    Clearance, Clearances, Date, Duration, InvalidLabel, InvalidName, InvalidValue, Kind, Level,
    Name, Policies, PolicyId, TagSet, Value,
};
use ordonnans_message::{Addressee, Group, GroupKind, Timestamp, limits, sha256};
use serde::Deserialize;

use super::{
    Circle, Consent, Event, Grant, Link, List, Mandate, Memberships, NodeEntry, OfficerEntry,
    PersonEntry, Register, Role, Span, Standing,
};

/// Bytes of a register: some 20,000 entries.
pub const MAX_REGISTER: usize = 8 << 20;

/// Why a register was refused. Each names the entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRegister {
    /// More bytes than [`MAX_REGISTER`].
    #[error("the register has {0} bytes; at most {MAX_REGISTER} are read")]
    TooLong(usize),
    /// Who signs is one person alone: four eyes are two.
    #[error("the register names one registrar; name two or more, or none")]
    OneRegistrar,
    /// An event that would never be declared.
    #[error("event {0} may be declared by nobody; name a person in `declared_by`")]
    NobodyDeclares(String),
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
    /// A circle, compartment, level or date that cannot be one.
    #[error("{entry}: '{word}' {why}")]
    Word {
        /// The entry.
        entry: String,
        /// The word.
        word: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something named that the register or the policies do not hold.
    #[error("{entry} names {what} '{name}', which is not there; add it or correct the name")]
    Missing {
        /// The entry.
        entry: String,
        /// Node, circle or policy.
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
    registrars: Vec<String>,
    #[serde(default)]
    circle: Vec<CircleFile>,
    #[serde(default)]
    node: Vec<NodeFile>,
    #[serde(default)]
    person: Vec<PersonFile>,
    #[serde(default)]
    officer: Vec<OfficerFile>,
    #[serde(default)]
    consent: Vec<ConsentFile>,
    #[serde(default)]
    role: Vec<RoleFile>,
    #[serde(default)]
    list: Vec<ListFile>,
    #[serde(default)]
    event: Vec<EventFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CircleFile {
    name: String,
    title: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleFile {
    name: String,
    title: String,
    held_by: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListFile {
    name: String,
    title: String,
    members: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventFile {
    name: String,
    title: String,
    declared_by: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum MemberFile {
    Always(String),
    For {
        name: String,
        since: Option<String>,
        until: Option<String>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantFile {
    up_to: String,
    decision: String,
    until: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkFile {
    up_to: String,
    decision: String,
    until: String,
    stg_zg: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MandateFile {
    up_to: String,
    decision: String,
    until: String,
    #[serde(default)]
    nodes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsentFile {
    policy: String,
    up_to: String,
    decision: String,
    until: String,
    to: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    name: String,
    title: String,
    clearance: String,
    #[serde(default)]
    also: Vec<String>,
    #[serde(default)]
    circles: Vec<MemberFile>,
    #[serde(default)]
    compartments: Vec<String>,
    rijksdienst: bool,
    assurance: Option<GrantFile>,
    link: Option<LinkFile>,
    accredited_until: String,
    accreditation: Option<String>,
    standing: Standing,
    #[serde(default)]
    speaks_for: Vec<String>,
    bva: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PersonFile {
    name: String,
    node: String,
    clearance: String,
    #[serde(default)]
    also: Vec<String>,
    #[serde(default)]
    circles: Vec<MemberFile>,
    #[serde(default)]
    compartments: Vec<String>,
    mandate: Option<MandateFile>,
    #[serde(default)]
    succeeds: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfficerFile {
    name: String,
    clearance: String,
    #[serde(default)]
    also: Vec<String>,
    #[serde(default)]
    circles: Vec<MemberFile>,
    #[serde(default)]
    compartments: Vec<String>,
}

/// The clearances of an entry, as the file writes them.
struct Held<'a> {
    clearance: &'a str,
    also: &'a [String],
    circles: &'a [MemberFile],
    compartments: &'a [String],
}

/// Reads one register; holds what names are checked against.
struct Reading<'a> {
    policies: &'a Policies,
    structure: String,
    circles: BTreeMap<String, Circle>,
    roles: BTreeMap<String, Role>,
}

impl Register {
    /// Reads a register under the built-in policies, as [`Self::parse_under`].
    ///
    /// # Errors
    /// [`InvalidRegister`] names the entry and what to do.
    pub fn parse(text: &str) -> Result<Self, InvalidRegister> {
        Self::parse_under(text, Policies::built_in())
    }

    /// Reads a register and checks that everything it names is there.
    ///
    /// # Errors
    /// [`InvalidRegister`] names the entry and what to do.
    pub fn parse_under(text: &str, policies: &Policies) -> Result<Self, InvalidRegister> {
        if text.len() > MAX_REGISTER {
            return Err(InvalidRegister::TooLong(text.len()));
        }
        let file: File = toml::from_str(text)
            .map_err(|e| InvalidRegister::Malformed(e.to_string().trim_end().to_owned()))?;
        let mut reading = Reading {
            policies,
            structure: file.structure,
            circles: BTreeMap::new(),
            roles: BTreeMap::new(),
        };
        for c in file.circle {
            reading.circle(c)?;
        }
        let mut nodes = BTreeMap::new();
        for n in file.node {
            let entry = format!("node {}", n.name);
            let node = reading.node(&entry, n)?;
            once(&mut nodes, node.name.clone(), node, entry)?;
        }
        let mut persons = BTreeMap::new();
        for p in file.person {
            let entry = format!("person {}", p.name);
            let person = reading.person(&entry, p, &nodes)?;
            once(&mut persons, person.name.clone(), person, entry)?;
        }
        let mut officers = BTreeMap::new();
        for o in file.officer {
            let entry = format!("officer {}", o.name);
            let name = reading.name(&entry, &o.name, Kind::Officer)?;
            let (clearances, _) = reading.clearances(
                &entry,
                &Held {
                    clearance: &o.clearance,
                    also: &o.also,
                    circles: &o.circles,
                    compartments: &o.compartments,
                },
            )?;
            let officer = OfficerEntry {
                name: name.clone(),
                clearances,
            };
            once(&mut officers, name, officer, entry)?;
        }
        for r in file.role {
            let entry = format!("role {}", r.name);
            reading.role(&entry, r, &persons)?;
        }
        let mut lists = BTreeMap::new();
        for l in file.list {
            let entry = format!("list {}", l.name);
            let list = reading.list(&entry, l, &nodes, &persons)?;
            if lists.insert(list.name.clone(), list).is_some() {
                return Err(InvalidRegister::Twice(entry));
            }
        }
        let mut events = BTreeMap::new();
        for e in file.event {
            let entry = format!("event {}", e.name);
            let event = reading.event(&entry, e, &persons)?;
            if events.insert(event.name.clone(), event).is_some() {
                return Err(InvalidRegister::Twice(entry));
            }
        }
        let registrars = reading.registrars(&file.registrars, &persons)?;
        let consents = file
            .consent
            .into_iter()
            .enumerate()
            .map(|(i, c)| reading.consent(&format!("consent {}", i + 1), c, &nodes))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            version: file.version,
            structure: reading.structure,
            digest: sha256(&[text.as_bytes()]),
            nodes,
            persons,
            officers,
            circles: reading.circles,
            roles: reading.roles,
            lists,
            consents,
            events,
            registrars,
            text: text.into(),
        })
    }
}

fn once<T>(
    all: &mut BTreeMap<Name, T>,
    name: Name,
    value: T,
    entry: String,
) -> Result<(), InvalidRegister> {
    match all.insert(name, value) {
        None => Ok(()),
        Some(_) => Err(InvalidRegister::Twice(entry)),
    }
}

impl Reading<'_> {
    fn circle(&mut self, c: CircleFile) -> Result<(), InvalidRegister> {
        let entry = format!("circle {}", c.name);
        // A label compares circles in upper case, so the register writes them so.
        let upper: Value = c.name.parse().map_err(|why| word(&entry, &c.name, &why))?;
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
        match self.circles.insert(c.name, circle) {
            None => Ok(()),
            Some(_) => Err(InvalidRegister::Twice(entry)),
        }
    }

    fn node(&self, entry: &str, n: NodeFile) -> Result<NodeEntry, InvalidRegister> {
        let name = self.name(entry, &n.name, Kind::Node)?;
        let (clearances, memberships) = self.clearances(
            entry,
            &Held {
                clearance: &n.clearance,
                also: &n.also,
                circles: &n.circles,
                compartments: &n.compartments,
            },
        )?;
        let link = n
            .link
            .map(|l| {
                grant(entry, &l.up_to, l.decision, &l.until).map(|grant| Link {
                    grant,
                    stg_zg: l.stg_zg,
                })
            })
            .transpose()?;
        let assurance = n
            .assurance
            .map(|a| grant(entry, &a.up_to, a.decision, &a.until))
            .transpose()?;
        Ok(NodeEntry {
            name,
            title: n.title,
            clearances,
            memberships,
            rijksdienst: n.rijksdienst,
            assurance,
            link,
            accredited_until: date(entry, &n.accredited_until)?,
            accreditation: n.accreditation,
            standing: n.standing,
            speaks_for: n
                .speaks_for
                .iter()
                .map(|p| self.policy(entry, p))
                .collect::<Result<_, _>>()?,
            bva: n.bva,
        })
    }

    fn person(
        &self,
        entry: &str,
        p: PersonFile,
        nodes: &BTreeMap<Name, NodeEntry>,
    ) -> Result<PersonEntry, InvalidRegister> {
        let name = self.name(entry, &p.name, Kind::Person)?;
        let node = self.known(entry, &p.node, nodes)?;
        let (clearances, memberships) = self.clearances(
            entry,
            &Held {
                clearance: &p.clearance,
                also: &p.also,
                circles: &p.circles,
                compartments: &p.compartments,
            },
        )?;
        let mandate = match p.mandate {
            None => None,
            Some(m) => {
                let mut of: BTreeSet<Name> = m
                    .nodes
                    .iter()
                    .map(|n| self.known(entry, n, nodes))
                    .collect::<Result<_, _>>()?;
                if of.is_empty() {
                    of.insert(node.clone());
                }
                Some(Mandate {
                    grant: grant(entry, &m.up_to, m.decision, &m.until)?,
                    nodes: of,
                })
            }
        };
        Ok(PersonEntry {
            name,
            node,
            clearances,
            memberships,
            mandate,
            // A vaststeller who has left need not stand in the register any more.
            succeeds: p
                .succeeds
                .iter()
                .map(|n| self.name(entry, n, Kind::Person))
                .collect::<Result<_, _>>()?,
        })
    }

    fn consent(
        &self,
        entry: &str,
        c: ConsentFile,
        nodes: &BTreeMap<Name, NodeEntry>,
    ) -> Result<Consent, InvalidRegister> {
        let policy = self.policy(entry, &c.policy)?;
        let named = self.policies.get(&policy).and_then(|p| p.level(&c.up_to));
        let up_to = named.ok_or_else(|| InvalidRegister::Missing {
            entry: entry.into(),
            what: "level",
            name: c.up_to.clone(),
        })?;
        let up_to = up_to.classification.level().abbreviation();
        Ok(Consent {
            policy,
            grant: grant(entry, up_to, c.decision, &c.until)?,
            to: c
                .to
                .iter()
                .map(|n| self.known(entry, n, nodes))
                .collect::<Result<_, _>>()?,
        })
    }

    fn role(
        &mut self,
        entry: &str,
        r: RoleFile,
        persons: &BTreeMap<Name, PersonEntry>,
    ) -> Result<(), InvalidRegister> {
        // A role is named as a person is, and no person has its name: then a list of both says who is meant.
        let name = self.name(entry, &r.name, Kind::Person)?;
        if persons.contains_key(&name) {
            return Err(InvalidRegister::Twice(entry.into()));
        }
        let role = Role {
            name: r.name.clone(),
            title: r.title,
            held_by: self.persons(entry, &r.held_by, persons)?,
        };
        match self.roles.insert(r.name, role) {
            None => Ok(()),
            Some(_) => Err(InvalidRegister::Twice(entry.into())),
        }
    }

    fn list(
        &self,
        entry: &str,
        l: ListFile,
        nodes: &BTreeMap<Name, NodeEntry>,
        persons: &BTreeMap<Name, PersonEntry>,
    ) -> Result<List, InvalidRegister> {
        let word = |word: &str, why: String| InvalidRegister::Word {
            entry: entry.into(),
            word: word.chars().take(80).collect(),
            why,
        };
        Group::new(GroupKind::List, &l.name).map_err(|e| word(&l.name, format!("is {e}")))?;
        let mut members = vec![];
        for text in &l.members {
            let (person, node) = match text.split_once('@') {
                None => (None, text.as_str()),
                Some((person, node)) => (Some(person), node),
            };
            let node = self.known(entry, node, nodes)?;
            let person = person
                .map(|p| self.name(entry, p, Kind::Person))
                .transpose()?;
            if let Some(p) = &person
                && persons.get(p).is_none_or(|e| e.node != node)
            {
                let why = "is no person of that node in the register".into();
                return Err(word(text, why));
            }
            let member = Addressee { node, person };
            if members.contains(&member) {
                return Err(InvalidRegister::Twice(format!("{text} of {entry}")));
            }
            members.push(member);
        }
        if members.is_empty() || members.len() > limits::MAX_RECIPIENTS {
            let why = format!(
                "has {} members; 1 to {}",
                members.len(),
                limits::MAX_RECIPIENTS
            );
            return Err(word(&l.name, why));
        }
        Ok(List {
            name: l.name,
            title: l.title,
            members,
        })
    }

    /// Persons of the register, each once, and whoever holds a role that is named.
    fn persons(
        &self,
        entry: &str,
        names: &[String],
        persons: &BTreeMap<Name, PersonEntry>,
    ) -> Result<BTreeSet<Name>, InvalidRegister> {
        let (mut all, mut held) = (BTreeSet::new(), BTreeSet::new());
        for local in names {
            if let Some(role) = self.roles.get(local) {
                held.extend(role.held_by.iter().cloned());
                continue;
            }
            let name = self.name(entry, local, Kind::Person)?;
            if !persons.contains_key(&name) {
                return Err(InvalidRegister::Missing {
                    entry: entry.into(),
                    what: "person",
                    name: local.clone(),
                });
            }
            if !all.insert(name) {
                return Err(InvalidRegister::Twice(format!("{local} of {entry}")));
            }
        }
        all.extend(held);
        Ok(all)
    }

    fn event(
        &self,
        entry: &str,
        e: EventFile,
        persons: &BTreeMap<Name, PersonEntry>,
    ) -> Result<Event, InvalidRegister> {
        let Ok(Duration::Event(name)) = Duration::event(&e.name) else {
            return Err(InvalidRegister::Word {
                entry: entry.into(),
                word: e.name.chars().take(40).collect(),
                why: format!("is {}", InvalidLabel::Event),
            });
        };
        let declared_by = self.persons(entry, &e.declared_by, persons)?;
        if declared_by.is_empty() {
            return Err(InvalidRegister::NobodyDeclares(e.name));
        }
        Ok(Event {
            name,
            title: e.title,
            declared_by,
        })
    }

    fn registrars(
        &self,
        names: &[String],
        persons: &BTreeMap<Name, PersonEntry>,
    ) -> Result<BTreeSet<Name>, InvalidRegister> {
        let all = self.persons("registrars", names, persons)?;
        match all.len() {
            1 => Err(InvalidRegister::OneRegistrar),
            _ => Ok(all),
        }
    }

    fn name(&self, entry: &str, local: &str, kind: Kind) -> Result<Name, InvalidRegister> {
        Name::new(local, kind, &self.structure).map_err(|why| InvalidRegister::Name {
            entry: entry.into(),
            why,
        })
    }

    fn known(
        &self,
        entry: &str,
        local: &str,
        nodes: &BTreeMap<Name, NodeEntry>,
    ) -> Result<Name, InvalidRegister> {
        let name = self.name(entry, local, Kind::Node)?;
        if nodes.contains_key(&name) {
            return Ok(name);
        }
        Err(InvalidRegister::Missing {
            entry: entry.into(),
            what: "node",
            name: local.into(),
        })
    }

    fn policy(&self, entry: &str, id: &str) -> Result<PolicyId, InvalidRegister> {
        let known = id
            .parse::<PolicyId>()
            .ok()
            .filter(|id| self.policies.get(id).is_some());
        known.ok_or_else(|| InvalidRegister::Missing {
            entry: entry.into(),
            what: "policy",
            name: id.into(),
        })
    }

    fn clearances(
        &self,
        entry: &str,
        held: &Held<'_>,
    ) -> Result<(Clearances, Memberships), InvalidRegister> {
        let mut own = self.clearance(entry, held.clearance)?;
        if *own.policy() != PolicyId::nl() {
            return Err(InvalidRegister::Word {
                entry: entry.into(),
                word: held.clearance.into(),
                why: "is no Dutch level; write it under `also`, and the Dutch one here".into(),
            });
        }
        let mut memberships: Memberships = own
            .circles()
            .iter()
            .map(|v| (v.clone(), Span::default()))
            .collect();
        for member in held.circles {
            let (name, since, until) = match member {
                MemberFile::Always(name) => (name, &None, &None),
                MemberFile::For { name, since, until } => (name, since, until),
            };
            let value: Value = name.parse().map_err(|why| word(entry, name, &why))?;
            let time = |t: &Option<String>| t.as_deref().map(|t| moment(entry, t)).transpose();
            let span = Span {
                since: time(since)?,
                until: time(until)?,
            };
            memberships.insert(value, span);
        }
        for circle in memberships.keys() {
            if !self.circles.contains_key(circle.as_str()) {
                return Err(InvalidRegister::Missing {
                    entry: entry.into(),
                    what: "circle",
                    name: circle.as_str().into(),
                });
            }
            own = own
                .with_circle(circle.as_str())
                .map_err(|why| word(entry, circle.as_str(), &why))?;
        }
        for v in held.compartments {
            own = own
                .with_value(&TagSet::compartiment(), v)
                .map_err(|why| word(entry, v, &why))?;
        }
        let mut all = Clearances::from(own);
        for text in held.also {
            let c = self.clearance(entry, text)?;
            if let Some(old) = all.insert(c) {
                return Err(InvalidRegister::Word {
                    entry: entry.into(),
                    word: text.clone(),
                    why: format!("is a second clearance under {}; write one", old.policy()),
                });
            }
        }
        Ok((all, memberships))
    }

    fn clearance(&self, entry: &str, text: &str) -> Result<Clearance, InvalidRegister> {
        self.policies
            .read_clearance(text)
            .map_err(|why| InvalidRegister::Word {
                entry: entry.into(),
                word: text.chars().take(40).collect(),
                why: match why {
                    InvalidLabel::Level(_) => format!(
                        "is {}, and no level of a known policy",
                        ordonnans_label::InvalidLevel
                    ),
                    why => format!("is no clearance: {why}"),
                },
            })
    }
}

fn grant(
    entry: &str,
    up_to: &str,
    decision: String,
    until: &str,
) -> Result<Grant, InvalidRegister> {
    if decision.trim().is_empty() {
        return Err(InvalidRegister::Word {
            entry: entry.into(),
            word: decision,
            why: "names no decision; write the one it rests on".into(),
        });
    }
    let level = up_to
        .parse::<Level>()
        .map_err(|why| InvalidRegister::Word {
            entry: entry.into(),
            word: up_to.into(),
            why: format!("is {why}"),
        })?;
    Ok(Grant {
        up_to: level,
        decision,
        until: date(entry, until)?,
    })
}

fn date(entry: &str, text: &str) -> Result<Date, InvalidRegister> {
    text.parse()
        .map_err(|why: ordonnans_label::InvalidDate| InvalidRegister::Word {
            entry: entry.into(),
            word: text.into(),
            why: format!("is {why}"),
        })
}

/// A moment, or the first of a day.
fn moment(entry: &str, text: &str) -> Result<Timestamp, InvalidRegister> {
    text.parse()
        .or_else(|_| format!("{text}T00:00:00Z").parse())
        .map_err(|_| InvalidRegister::Word {
            entry: entry.into(),
            word: text.into(),
            why: "is not a time; write 2026-11-24 or 2026-11-24T03:00:00Z".into(),
        })
}

fn word(entry: &str, word: &str, why: &InvalidValue) -> InvalidRegister {
    InvalidRegister::Word {
        entry: entry.into(),
        word: word.into(),
        why: format!("cannot stand here: {why}"),
    }
}
