//! The register: which nodes, persons, officers and circles there are, what each may hold, and the decisions that rest on it.
//!
//! A TOML file (`docs/policy.md`). Whoever can change it decides who may read, so a change that widens anything is told apart from one
//! that does not ([`Register::changes`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ordonnans_label::{Clearances, Date, Level, Name, PolicyId, Value};
use ordonnans_message::{Addressee, Digest, Group, GroupKind, Timestamp};
use serde::Deserialize;

mod approval;
mod changes;
mod file;

pub use approval::{Approved, Unapproved};
pub use changes::Change;
pub use file::{InvalidRegister, MAX_REGISTER};

/// Whether a node takes part at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Takes part.
    Active,
    /// Is held back: nothing goes to it or comes from it until it is active again.
    Suspended,
}

/// A decision that somebody took and that ends: an accreditation of a link, an assurance, a mandate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Up to which level.
    pub up_to: Level,
    /// The decision it rests on, as the organisation names it.
    pub decision: String,
    /// Its last day.
    pub until: Date,
}

impl Grant {
    /// Whether it reaches a level at this time. The last day counts in full.
    #[must_use]
    pub fn reaches(&self, level: Level, now: Timestamp) -> bool {
        level <= self.up_to && now.date() <= self.until
    }
}

/// What the line of a node may carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The approval.
    pub grant: Grant,
    /// The accreditation that names Stg.ZG, where there is one: without it a link carries none, whatever it is approved for.
    pub stg_zg: Option<String>,
}

/// From when and until when somebody is in a circle. Both ends may be open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first moment.
    pub since: Option<Timestamp>,
    /// The moment it ends.
    pub until: Option<Timestamp>,
}

impl Span {
    /// Whether a moment lies in it.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|s| s <= at) && self.until.is_none_or(|u| at < u)
    }
}

/// Memberships of circles, with their times.
pub type Memberships = BTreeMap<Value, Span>;

/// A node of the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// Who.
    pub name: Name,
    /// The organisation, for people.
    pub title: String,
    /// What it may hold, by policy.
    pub clearances: Clearances,
    /// When it is in which circle.
    pub memberships: Memberships,
    /// Whether it belongs to the Rijksdienst.
    pub rijksdienst: bool,
    /// For a node outside it: the decision that it protects what it gets as the Rijksdienst does (VIRBI 2025 article 7).
    pub assurance: Option<Grant>,
    /// What its line may carry; without an approval nothing above Ongerubriceerd.
    pub link: Option<Link>,
    /// The last day of its accreditation.
    pub accredited_until: Date,
    /// The decision of the accreditation.
    pub accreditation: Option<String>,
    /// Whether it takes part.
    pub standing: Standing,
    /// The policies whose originators it speaks for: what it sends under them needs no further consent.
    pub speaks_for: BTreeSet<PolicyId>,
    /// How its security authority (BVA) is reached, for people.
    pub bva: Option<String>,
}

impl NodeEntry {
    /// Whether it takes part at this time: active, and the accreditation has not ended. The last day counts in full.
    #[must_use]
    pub fn in_good_standing(&self, now: Timestamp) -> bool {
        self.standing == Standing::Active && now.date() <= self.accredited_until
    }
}

/// The right of a person to establish labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mandate {
    /// Up to which level, by which decision, until when.
    pub grant: Grant,
    /// The nodes whose information it is for.
    pub nodes: BTreeSet<Name>,
}

/// A person of the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonEntry {
    /// Who.
    pub name: Name,
    /// The node the person works at.
    pub node: Name,
    /// What the person may hold, by policy.
    pub clearances: Clearances,
    /// When the person is in which circle.
    pub memberships: Memberships,
    /// What the person may establish (vaststeller), if anything.
    pub mandate: Option<Mandate>,
    /// Vaststellers whose labels the person may revise and end in their place: a successor (VIRBI 2025 article 4).
    pub succeeds: BTreeSet<Name>,
}

/// A security officer of the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfficerEntry {
    /// Who.
    pub name: Name,
    /// Up to where the officer may see details of the audit log.
    pub clearances: Clearances,
}

/// A circle of the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circle {
    /// Its name, as labels write it.
    pub name: String,
    /// What it is.
    pub title: String,
}

/// A role that persons hold by turns. Wherever the register lists persons who may do something, a role may stand for its holders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name, local like a person's; no person has it.
    pub name: String,
    /// What it is.
    pub title: String,
    /// Who holds it. Nobody, where it is vacant.
    pub held_by: BTreeSet<Name>,
}

/// A distribution list: whom a message may be addressed to in one word. It gives nobody anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub title: String,
    /// Nodes, and persons at nodes, in the order of the file; 1 to 64.
    pub members: Vec<Addressee>,
}

/// An event that labels may last until.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name, as labels write it.
    pub name: Box<str>,
    /// What it is.
    pub title: String,
    /// Who may say that it has happened.
    pub declared_by: BTreeSet<Name>,
}

/// An originator's prior consent that its information goes on (VIRBI 2025 article 7(2)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Under which policy.
    pub policy: PolicyId,
    /// Up to which level (as the Dutch equal), by which decision, until when.
    pub grant: Grant,
    /// To which nodes.
    pub to: BTreeSet<Name>,
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
    roles: BTreeMap<String, Role>,
    lists: BTreeMap<String, List>,
    consents: Vec<Consent>,
    events: BTreeMap<Box<str>, Event>,
    registrars: BTreeSet<Name>,
    text: Arc<str>,
}

impl Register {
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

    /// Its text, as it was read.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The persons whose signatures put a register in force. None where the structure does without.
    #[must_use]
    pub fn registrars(&self) -> &BTreeSet<Name> {
        &self.registrars
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

    /// All persons, by name.
    pub fn persons(&self) -> impl Iterator<Item = &PersonEntry> {
        self.persons.values()
    }

    /// All officers, by name.
    pub fn officers(&self) -> impl Iterator<Item = &OfficerEntry> {
        self.officers.values()
    }

    /// All roles, by name.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values()
    }

    /// All distribution lists, by name.
    pub fn lists(&self) -> impl Iterator<Item = &List> {
        self.lists.values()
    }

    /// Who belongs to a group at a time, cleared or not; `None` where there is no such group. A role means the persons who hold it; a circle the
    /// nodes in it, and from Stg.G up, where a message names a person, the persons in it.
    #[must_use]
    pub fn members(&self, group: &Group, level: Level, now: Timestamp) -> Option<Vec<Addressee>> {
        let at_node = |p: &PersonEntry| Addressee {
            node: p.node.clone(),
            person: Some(p.name.clone()),
        };
        match group.kind() {
            GroupKind::Role => {
                let role = self.roles.get(group.name())?;
                let held_by = role.held_by.iter().filter_map(|p| self.person(p));
                Some(held_by.map(at_node).collect())
            }
            GroupKind::Circle => {
                let circle = self.circles.get(group.name())?;
                let is_in = |m: &Memberships| {
                    let mut of = m.iter().filter(|(v, _)| v.as_str() == circle.name);
                    of.any(|(_, span)| span.contains(now))
                };
                if level >= Level::StgG {
                    let persons = self.persons().filter(|p| is_in(&p.memberships));
                    return Some(persons.map(at_node).collect());
                }
                let nodes = self.nodes().filter(|n| is_in(&n.memberships));
                let whole = |n: &NodeEntry| Addressee {
                    node: n.name.clone(),
                    person: None,
                };
                Some(nodes.map(whole).collect())
            }
            GroupKind::List => Some(self.lists.get(group.name())?.members.clone()),
        }
    }

    /// All circles, by name.
    pub fn circles(&self) -> impl Iterator<Item = &Circle> {
        self.circles.values()
    }

    /// An event by name.
    #[must_use]
    pub fn event(&self, name: &str) -> Option<&Event> {
        self.events.get(name)
    }

    /// All events, by name.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.values()
    }

    /// Whether a person may act on labels that another established: the same, or a registered successor.
    #[must_use]
    pub fn stands_for(&self, person: &Name, vaststeller: &Name) -> bool {
        let succeeds = |p: &PersonEntry| p.succeeds.contains(vaststeller);
        person == vaststeller || self.person(person).is_some_and(succeeds)
    }

    /// All consents, in the order of the file.
    pub fn consents(&self) -> &[Consent] {
        &self.consents
    }

    /// The consent by which information under a policy may go to a node at this level and time.
    #[must_use]
    pub fn consent(
        &self,
        policy: &PolicyId,
        level: Level,
        to: &Name,
        now: Timestamp,
    ) -> Option<&Consent> {
        self.consents
            .iter()
            .find(|c| c.policy == *policy && c.to.contains(to) && c.grant.reaches(level, now))
    }
}

#[cfg(test)]
pub(crate) mod tests;
