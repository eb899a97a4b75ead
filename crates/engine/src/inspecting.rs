//! What officers and witnesses ask about the log. Each reading is a record itself.

use ordonnans_audit::{Detail, Verb};
use ordonnans_label::{Clearance, Kind, Level, Name};
use ordonnans_message::{AuditQuery, Frame, ProofOf, Readers, ReplyCode, Timestamp, limits};

use crate::Session;
use crate::effects::{Effect, Inspect};
use crate::engine::Engine;

const OPEN: Level = Level::Ongerubriceerd;

impl Engine {
    /// The officer on this connection, and what the officer holds under the Dutch policy.
    pub(crate) fn officer(&self, session: Session) -> Option<(Name, Clearance)> {
        let peer = self.sessions.get(&session)?;
        let registered = &self.register.officer(peer.name())?.clearances;
        let certified = peer.certificate.certified();
        let certified = certified.clearances(self.book.policies());
        let holds = certified.nl()?.meet(registered.nl()?)?;
        Some((peer.name().clone(), holds))
    }

    /// Records a reading, and has the question answered; or says no.
    fn inspected(
        &mut self,
        now: Timestamp,
        session: Session,
        request: u32,
        detail: Detail,
        what: impl FnOnce(Level) -> Inspect,
    ) {
        let Some((officer, holds)) = self.officer(session) else {
            return self.rejected(now, session, None, ReplyCode::NotPermitted);
        };
        let detail = Detail {
            who: Some(officer),
            ..detail
        };
        // Whom or what somebody looks for may be told by records of the officer's level only, so the question is of that level, too.
        let about = detail.message.is_some() || detail.person.is_some() || detail.rule.is_some();
        let level = if about || detail.to.is_some() {
            holds.level()
        } else {
            OPEN
        };
        self.ledger.record(now, Verb::AuditRead, level, detail);
        let what = what(holds.level());
        self.out.push(Effect::Inspect {
            session,
            request,
            size: self.ledger.size(),
            what,
        });
    }

    pub(crate) fn audit_get(
        &mut self,
        now: Timestamp,
        session: Session,
        request: u32,
        query: Box<AuditQuery>,
    ) {
        let detail = asked(&query, &format!("at most {}", query.limit));
        let page = |level| Inspect::Page { query, level };
        self.inspected(now, session, request, detail, page);
    }

    pub(crate) fn watch_get(
        &mut self,
        now: Timestamp,
        session: Session,
        request: u32,
        query: Box<AuditQuery>,
    ) {
        let detail = asked(&query, "watched");
        let watching = (request, query.clone());
        let watch = |level| Inspect::Watch { query, level };
        self.inspected(now, session, request, detail, watch);
        if let Some(peer) = self.sessions.get_mut(&session) {
            peer.watching = Some(watching);
        }
    }

    /// What officers hold may be another now: whoever watches sees what is right from here on.
    pub(crate) fn watch_anew(&mut self) {
        let watching: Vec<(Session, u32, Box<AuditQuery>)> = self
            .sessions
            .iter()
            .filter_map(|(s, p)| {
                p.watching
                    .clone()
                    .map(|(request, query)| (*s, request, query))
            })
            .collect();
        for (session, request, query) in watching {
            let Some((_, holds)) = self.officer(session) else {
                continue;
            };
            let level = holds.level();
            let what = Inspect::Watch { query, level };
            self.out.push(Effect::Inspect {
                session,
                request,
                size: self.ledger.size(),
                what,
            });
        }
    }

    /// A proof. That one log continues another tells nothing of what is in it, so nodes may ask for that.
    pub(crate) fn proof_get(
        &mut self,
        now: Timestamp,
        session: Session,
        request: u32,
        of: ProofOf,
    ) {
        let node = |p: &crate::sessions::Peer| p.name().kind() == Kind::Node;
        let tells_nothing = !matches!(of, ProofOf::Inclusion { .. });
        if tells_nothing && self.sessions.get(&session).is_some_and(node) {
            let what = Inspect::Proof(of);
            return self.out.push(Effect::Inspect {
                session,
                request,
                // The sizes that it asks about are its own: nothing is waited for.
                size: 0,
                what,
            });
        }
        let note = match of {
            ProofOf::Inclusion { sequence, size } => {
                format!("proof of record {sequence} of {size}")
            }
            ProofOf::Consistency { first, size } => format!("proof from {first} to {size}"),
            ProofOf::Root { size } => format!("root of {size}"),
        };
        let detail = Detail {
            note: Some(note),
            ..Detail::default()
        };
        self.inspected(now, session, request, detail, |_| Inspect::Proof(of));
    }

    pub(crate) fn checkpoint_get(&mut self, now: Timestamp, session: Session, request: u32) {
        let detail = Detail {
            note: Some("a checkpoint".into()),
            ..Detail::default()
        };
        self.inspected(now, session, request, detail, |_| Inspect::Checkpoint);
    }

    /// Who at these nodes could have read something of this level. Circles are not looked at: what counts by law is that somebody could have,
    /// and a register of today does not say who was in which circle.
    pub(crate) fn readers_get(
        &mut self,
        now: Timestamp,
        session: Session,
        request: u32,
        nodes: &[Name],
        level: Level,
    ) {
        let officer = self.officer(session);
        let Some((officer, _)) = officer.filter(|(_, holds)| level <= holds.level()) else {
            return self.rejected(now, session, None, ReplyCode::NotPermitted);
        };
        let reaches = |p: &&ordonnans_policy::PersonEntry| {
            p.clearances.nl().is_some_and(|c| c.level() >= level)
        };
        let row = |name: &Name| {
            let node = self.register.node(name)?;
            let persons = self.register.persons().filter(|p| p.node == *name);
            Some(Readers {
                node: name.clone(),
                title: node.title.clone(),
                rijksdienst: node.rijksdienst,
                on_line: self.on_line.contains_key(name),
                bva: node.bva.clone(),
                persons: persons
                    .filter(reaches)
                    .map(|p| p.name.clone())
                    .take(limits::MAX_READERS)
                    .collect(),
            })
        };
        let rows = nodes.iter().filter_map(row).collect();
        let detail = Detail {
            who: Some(officer),
            register: Some(self.in_force()),
            note: Some(format!("who could read at {} nodes", nodes.len())),
            ..Detail::default()
        };
        self.ledger.record(now, Verb::AuditRead, OPEN, detail);
        self.send(session, Frame::Readers { request, rows });
    }
}

/// What a record of a reading says was asked.
fn asked(query: &AuditQuery, what: &str) -> Detail {
    let mut note = format!("from {}, {what}", query.from);
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            note.push_str(&format!(", {name} {value}"));
        }
    };
    add("since", query.since.map(|t| t.to_string()));
    add("until", query.until.map(|t| t.to_string()));
    add("level", query.level.map(|l| l.to_string()));
    let verb = query.verb.and_then(Verb::from_code);
    add("verb", verb.map(|v| v.as_str().into()));
    Detail {
        to: query.node.clone(),
        person: query.person.clone(),
        message: query.message,
        rule: query.rule,
        note: Some(note),
        ..Detail::default()
    }
}
