//! What a new register changes, and whether it widens anyone's access.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ordonnans_label::{Clearances, Date, Level, Name};

use super::{
    Consent, Grant, Link, Mandate, Memberships, NodeEntry, OfficerEntry, PersonEntry, Register,
    Span, Standing,
};

/// One change between two registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The entry: `node ncc`.
    pub entry: String,
    /// What changed about it.
    pub what: String,
    /// Whether somebody may get or do more by it than before. Where that is not plain, it is so.
    pub widens: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.widens { "widens " } else { "       " };
        write!(f, "{sign} {}: {}", self.entry, self.what)
    }
}

impl Register {
    /// What another register changes, entry by entry. Nothing where the two say the same in other words.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let mut c = Changes::default();
        if self.structure != new.structure {
            c.note("register", "another structure", true);
        }
        for name in new.registrars.difference(&self.registrars) {
            c.note("registrars", format!("{} added", name.local()), true);
        }
        // One fewer to object; with the last, anybody who can write the file decides.
        for name in self.registrars.difference(&new.registrars) {
            c.note("registrars", format!("{} removed", name.local()), true);
        }
        c.each("node", &self.nodes, &new.nodes, node);
        c.each("person", &self.persons, &new.persons, person);
        c.each("officer", &self.officers, &new.officers, officer);
        for circle in new
            .circles
            .keys()
            .filter(|k| !self.circles.contains_key(*k))
        {
            c.note(&format!("circle {circle}"), "added", false);
        }
        for circle in self
            .circles
            .keys()
            .filter(|k| !new.circles.contains_key(*k))
        {
            c.note(&format!("circle {circle}"), "removed", false);
        }
        for e in new
            .events
            .values()
            .filter(|e| self.events.get(&e.name) != Some(e))
        {
            let what = match self.events.get(&e.name) {
                None => "added",
                Some(old) if old.declared_by == e.declared_by => "another title",
                Some(_) => "declared by others",
            };
            // A declaration brings reviews about and changes nobody's access.
            c.note(&format!("event {}", e.name), what, false);
        }
        for name in self.events.keys().filter(|k| !new.events.contains_key(*k)) {
            c.note(&format!("event {name}"), "removed", false);
        }
        for r in new
            .roles
            .values()
            .filter(|r| self.roles.get(&r.name) != Some(r))
        {
            // What somebody may do by it is a change of what names the role, and is said there.
            c.note(
                &format!("role {}", r.name),
                format!("held by {}", Name::locals(&r.held_by)),
                false,
            );
        }
        for name in self.roles.keys().filter(|k| !new.roles.contains_key(*k)) {
            c.note(&format!("role {name}"), "removed", false);
        }
        for l in new
            .lists
            .values()
            .filter(|l| self.lists.get(&l.name) != Some(l))
        {
            let what = format!("{} members", l.members.len());
            c.note(&format!("list {}", l.name), what, false);
        }
        for name in self.lists.keys().filter(|k| !new.lists.contains_key(*k)) {
            c.note(&format!("list {name}"), "removed", false);
        }
        consents(&mut c, &self.consents, &new.consents);
        c.0
    }
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn note(&mut self, entry: &str, what: impl Into<String>, widens: bool) {
        self.0.push(Change {
            entry: entry.into(),
            what: what.into(),
            widens,
        });
    }

    /// A value of any form: said where it differs.
    fn plain<T: PartialEq>(&mut self, entry: &str, what: &str, old: &T, new: &T, widens: bool) {
        if old != new {
            self.note(entry, format!("another {what}"), widens);
        }
    }

    fn each<T>(
        &mut self,
        kind: &str,
        old: &BTreeMap<Name, T>,
        new: &BTreeMap<Name, T>,
        compare: fn(&mut Self, &str, &T, &T),
    ) {
        let names: BTreeSet<&Name> = old.keys().chain(new.keys()).collect();
        for name in names {
            let entry = format!("{kind} {}", name.local());
            match (old.get(name), new.get(name)) {
                (None, Some(_)) => self.note(&entry, "added", true),
                (Some(_), None) => self.note(&entry, "removed", false),
                (Some(o), Some(n)) => compare(self, &entry, o, n),
                (None, None) => {}
            }
        }
    }

    fn date(&mut self, entry: &str, what: &str, old: Date, new: Date) {
        if old != new {
            self.note(entry, format!("{what} until {new}, was {old}"), new > old);
        }
    }

    fn clearances(&mut self, entry: &str, old: &Clearances, new: &Clearances) {
        for n in new.iter() {
            match old.under(n.policy()) {
                None => self.note(entry, format!("clearance {n}, had none under it"), true),
                Some(o) if o != n => {
                    let narrower = n.meet(o).as_ref() == Some(n);
                    self.note(entry, format!("clearance {n}, was {o}"), !narrower);
                }
                Some(_) => {}
            }
        }
        for o in old.iter().filter(|o| new.under(o.policy()).is_none()) {
            self.note(entry, format!("clearance {o} withdrawn"), false);
        }
    }

    fn memberships(&mut self, entry: &str, old: &Memberships, new: &Memberships) {
        for (circle, n) in new {
            // A circle that is new to the entry is a change of its clearance and said there.
            if let Some(o) = old.get(circle)
                && o != n
            {
                self.note(
                    entry,
                    format!("other times in circle {circle}"),
                    wider(o, n),
                );
            }
        }
    }

    fn grant(&mut self, entry: &str, what: &str, old: Option<&Grant>, new: Option<&Grant>) {
        match (old, new) {
            (None, Some(n)) => self.note(
                entry,
                format!(
                    "{what} up to {} until {} by {}",
                    n.up_to, n.until, n.decision
                ),
                n.up_to > Level::Ongerubriceerd,
            ),
            (Some(_), None) => self.note(entry, format!("{what} withdrawn"), false),
            (Some(o), Some(n)) if o != n => {
                let widens = n.up_to > o.up_to || n.until > o.until;
                self.note(
                    entry,
                    format!(
                        "{what} up to {} until {} by {}, was up to {} until {} by {}",
                        n.up_to, n.until, n.decision, o.up_to, o.until, o.decision
                    ),
                    widens,
                );
            }
            _ => {}
        }
    }
}

fn wider(old: &Span, new: &Span) -> bool {
    let earlier = match (old.since, new.since) {
        (Some(o), Some(n)) => n < o,
        (Some(_), None) => true,
        (None, _) => false,
    };
    let later = match (old.until, new.until) {
        (Some(o), Some(n)) => n > o,
        (Some(_), None) => true,
        (None, _) => false,
    };
    earlier || later
}

fn node(c: &mut Changes, entry: &str, old: &NodeEntry, new: &NodeEntry) {
    c.plain(entry, "title", &old.title, &new.title, false);
    c.plain(entry, "BVA contact", &old.bva, &new.bva, false);
    c.plain(
        entry,
        "accreditation decision",
        &old.accreditation,
        &new.accreditation,
        false,
    );
    c.clearances(entry, &old.clearances, &new.clearances);
    c.memberships(entry, &old.memberships, &new.memberships);
    if old.rijksdienst != new.rijksdienst {
        let place = if new.rijksdienst { "inside" } else { "outside" };
        c.note(
            entry,
            format!("now {place} the Rijksdienst"),
            new.rijksdienst,
        );
    }
    c.grant(
        entry,
        "assurance",
        old.assurance.as_ref(),
        new.assurance.as_ref(),
    );
    let of = |l: &Option<Link>| l.as_ref().map(|l| l.grant.clone());
    c.grant(
        entry,
        "link approved",
        of(&old.link).as_ref(),
        of(&new.link).as_ref(),
    );
    let zg = |l: &Option<Link>| l.as_ref().and_then(|l| l.stg_zg.clone());
    if zg(&old.link) != zg(&new.link) {
        let named = zg(&new.link);
        c.note(
            entry,
            named.as_deref().map_or_else(
                || "link no longer accredited for Stg.ZG".to_owned(),
                |a| format!("link accredited for Stg.ZG by {a}"),
            ),
            named.is_some(),
        );
    }
    c.date(
        entry,
        "accredited",
        old.accredited_until,
        new.accredited_until,
    );
    if old.standing != new.standing {
        let active = new.standing == Standing::Active;
        c.note(entry, if active { "active" } else { "suspended" }, active);
    }
    for p in new.speaks_for.difference(&old.speaks_for) {
        c.note(entry, format!("speaks for {p}"), true);
    }
    for p in old.speaks_for.difference(&new.speaks_for) {
        c.note(entry, format!("no longer speaks for {p}"), false);
    }
}

fn person(c: &mut Changes, entry: &str, old: &PersonEntry, new: &PersonEntry) {
    if old.node != new.node {
        c.note(entry, format!("works at {}", new.node.local()), true);
    }
    c.clearances(entry, &old.clearances, &new.clearances);
    c.memberships(entry, &old.memberships, &new.memberships);
    let of = |m: &Option<Mandate>| m.as_ref().map(|m| m.grant.clone());
    c.grant(
        entry,
        "mandate",
        of(&old.mandate).as_ref(),
        of(&new.mandate).as_ref(),
    );
    for name in new.succeeds.difference(&old.succeeds) {
        c.note(entry, format!("succeeds {}", name.local()), true);
    }
    for name in old.succeeds.difference(&new.succeeds) {
        c.note(entry, format!("no longer succeeds {}", name.local()), false);
    }
    if let (Some(o), Some(n)) = (&old.mandate, &new.mandate) {
        for added in n.nodes.difference(&o.nodes) {
            c.note(entry, format!("mandate for {}", added.local()), true);
        }
        for gone in o.nodes.difference(&n.nodes) {
            c.note(
                entry,
                format!("mandate no longer for {}", gone.local()),
                false,
            );
        }
    }
}

fn officer(c: &mut Changes, entry: &str, old: &OfficerEntry, new: &OfficerEntry) {
    c.clearances(entry, &old.clearances, &new.clearances);
}

fn consents(c: &mut Changes, old: &[Consent], new: &[Consent]) {
    let text = |x: &Consent| {
        format!(
            "{} up to {} to {} until {} by {}",
            x.policy,
            x.grant.up_to,
            Name::locals(&x.to),
            x.grant.until,
            x.grant.decision
        )
    };
    for x in new.iter().filter(|x| !old.contains(x)) {
        c.note("consent", format!("added: {}", text(x)), true);
    }
    for x in old.iter().filter(|x| !new.contains(x)) {
        c.note("consent", format!("withdrawn: {}", text(x)), false);
    }
}
