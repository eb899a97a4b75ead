//! Who is on the line, and what changes that: registers, revocation, the stop.

use std::collections::BTreeSet;

use ordonnans_audit::{Detail, Verb};
use ordonnans_identity::Certificate;
use ordonnans_label::{Kind, Level, Name};
use ordonnans_message::{AuditQuery, Digest, Timestamp};
use ordonnans_policy::{Approved, Book};

use crate::effects::{Believed, Effect, Why};
use crate::engine::Engine;
use crate::{Table, Write, rows};

/// One connection of one peer. Numbers are never used twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub u64);

/// A peer that was admitted.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) certificate: Certificate,
    /// What an officer watches, and the number of the request.
    pub(crate) watching: Option<(u32, Box<AuditQuery>)>,
}

impl Peer {
    pub(crate) fn name(&self) -> &Name {
        self.certificate.name()
    }
}

const OPEN: Level = Level::Ongerubriceerd;

impl Engine {
    fn welcome(&self, peer: &Certificate, now: Timestamp) -> bool {
        let name = peer.name();
        match name.kind() {
            Kind::Node => self
                .register
                .node(name)
                .is_some_and(|n| n.in_good_standing(now)),
            Kind::Officer => self.register.officer(name).is_some(),
            Kind::Person | Kind::Broker => false,
        }
    }

    pub(crate) fn opened(
        &mut self,
        now: Timestamp,
        session: Session,
        peer: Certificate,
        line: String,
    ) {
        let name = peer.name().clone();
        let detail = Detail {
            who: Some(name.clone()),
            digest: Some(peer.fingerprint()),
            register: Some(self.in_force()),
            note: Some(line),
            ..Detail::default()
        };
        if self.stopping || !self.welcome(&peer, now) {
            self.ledger.record(now, Verb::SessionRefused, OPEN, detail);
            let why = if self.stopping {
                Why::Stopping
            } else {
                Why::NotBelieved
            };
            self.out.push(Effect::Close { session, why });
            return;
        }
        if let Some(old) = self.on_line.get(&name).copied() {
            self.end(now, old, "replaced by a newer connection");
            self.out.push(Effect::Close {
                session: old,
                why: Why::Replaced,
            });
        }
        self.ledger.record(now, Verb::SessionOpened, OPEN, detail);
        if name.kind() == Kind::Node {
            self.certify(now, &name, &peer);
        }
        let peer = Peer {
            certificate: peer,
            watching: None,
        };
        self.sessions.insert(session, peer);
        // An officer may watch on one connection and ask on another.
        if name.kind() == Kind::Node {
            self.on_line.insert(name.clone(), session);
        }
        self.out.push(Effect::Admit { session });
        self.forward_returns(&name);
        self.forward_notices(&name);
        self.pump(now, &name);
    }

    /// Remembers the certificate of the node, for decisions while it is off the line.
    fn certify(&mut self, now: Timestamp, name: &Name, peer: &Certificate) {
        if self.certified.get(name) == Some(peer) {
            return;
        }
        let says = peer.certified().clearances(self.book.policies());
        self.holds.insert(name.clone(), says);
        self.certified.insert(name.clone(), peer.clone());
        self.ledger.write(Write::Put {
            table: Table::Certified,
            key: name.as_str().to_owned().into(),
            value: peer.der().to_vec().into(),
        });
        // What is addressed to this node, and what it sent, may go now.
        self.judge_anew(now);
    }

    /// What decisions rest on has changed: every copy that waits is judged again.
    fn judge_anew(&mut self, now: Timestamp) {
        self.take_back();
        let names: Vec<Name> = self.on_line.keys().cloned().collect();
        for name in names {
            self.pump(now, &name);
        }
    }

    pub(crate) fn closed(&mut self, now: Timestamp, session: Session, note: &'static str) {
        self.end(now, session, note);
    }

    fn end(&mut self, now: Timestamp, session: Session, note: &str) {
        let Some(peer) = self.sessions.remove(&session) else {
            return;
        };
        self.silence(session);
        let name = peer.name().clone();
        if self.on_line.get(&name) == Some(&session) {
            self.on_line.remove(&name);
            if let Some(queue) = self.mailbox.queue_mut(&name) {
                queue.rewind();
            }
            if let Some(returns) = self.returns.get_mut(&name) {
                returns.said.clear();
            }
            if let Some(notices) = self.notices.get_mut(&name) {
                notices.rewind();
            }
        }
        let detail = Detail {
            who: Some(name),
            note: Some(note.into()),
            ..Detail::default()
        };
        self.ledger.record(now, Verb::SessionClosed, OPEN, detail);
    }

    pub(crate) fn strangers(&mut self, now: Timestamp, count: u64, why: &str) {
        if count > 0 {
            let said = if why.is_empty() { "" } else { ": " };
            let note = format!("{count} refused before they were known{said}{why}");
            let detail = Detail {
                note: Some(note),
                ..Detail::default()
            };
            self.ledger.record(now, Verb::SessionRefused, OPEN, detail);
        }
    }

    pub(crate) fn law_changed(&mut self, now: Timestamp, register: Approved, book: Book) {
        let (register, signed) = register.into_parts();
        let broker = self.settings.broker.clone();
        let policies = book.policies().iter().filter(|p| {
            let old = self.book.digest_of(p.id());
            old != book.digest_of(p.id())
        });
        let mut notes: Vec<(Option<Digest>, String)> = policies
            .map(|p| {
                let note = format!("{} version {}", p.id(), p.version());
                (book.digest_of(p.id()), note)
            })
            .collect();
        let gone = self.book.policies().iter();
        let gone = gone.filter(|p| book.digest_of(p.id()).is_none());
        notes.extend(gone.map(|p| (None, format!("{} no longer in force", p.id()))));
        for (policy, note) in notes {
            let detail = Detail {
                who: Some(broker.clone()),
                policy,
                note: Some(note),
                ..Detail::default()
            };
            self.ledger.record(now, Verb::PolicyChanged, OPEN, detail);
        }
        let changes = self.register.changes(&register);
        let widening = changes.iter().filter(|c| c.widens).count();
        let before = rows::law_parts(self.register.text());
        let another = self.register.digest() != register.digest();
        self.book = book;
        self.register = register;
        self.resolve();
        if another {
            self.put_law(before);
            let what = format!("{} changes, {widening} of them widening", changes.len());
            self.note_register(now, &what, &signed);
        }
        let gone: Vec<Session> = self
            .sessions
            .iter()
            .filter(|(_, p)| !self.welcome(&p.certificate, now))
            .map(|(s, _)| *s)
            .collect();
        for session in gone {
            self.end(now, session, "no longer in good standing");
            self.out.push(Effect::Close {
                session,
                why: Why::NotBelieved,
            });
        }
        self.watch_anew();
        self.judge_anew(now);
    }

    /// The store keeps the text of the register in force, so that no other takes its place while the broker is down.
    pub(crate) fn put_law(&mut self, before: usize) {
        let rows = rows::law(self.register.text(), before);
        rows.into_iter().for_each(|row| self.ledger.write(row));
    }

    pub(crate) fn note_register(&mut self, now: Timestamp, what: &str, signed: &BTreeSet<Name>) {
        let signers = if signed.is_empty() {
            "nobody".to_owned()
        } else {
            Name::locals(signed)
        };
        let note = format!(
            "version {}: {what}; signed by {signers}",
            self.register.version()
        );
        let detail = Detail {
            who: Some(self.settings.broker.clone()),
            register: Some(self.in_force()),
            note: Some(note),
            ..Detail::default()
        };
        self.ledger.record(now, Verb::RegisterChanged, OPEN, detail);
    }

    pub(crate) fn trust_changed(&mut self, now: Timestamp, believed: &Believed) {
        let (mut gone, mut cut) = (vec![], vec![]);
        for (name, c) in &mut self.certified {
            match believed.now(c) {
                Ok(now) => *c = now,
                Err(_) => gone.push(name.clone()),
            }
        }
        for (session, p) in &mut self.sessions {
            match believed.now(&p.certificate) {
                Ok(now) => p.certificate = now,
                Err(why) => cut.push((*session, why)),
            }
        }
        let detail = Detail {
            who: Some(self.settings.broker.clone()),
            note: Some(format!(
                "{} nodes and {} connections no longer believed",
                gone.len(),
                cut.len()
            )),
            ..Detail::default()
        };
        self.ledger.record(now, Verb::CrlChanged, OPEN, detail);
        for name in gone {
            self.certified.remove(&name);
            self.ledger.write(Write::Delete {
                table: Table::Certified,
                key: name.as_str().to_owned().into(),
            });
        }
        self.resolve();
        for (session, why) in cut {
            let note = format!("certificate no longer believed: {why}");
            self.end(now, session, &note);
            self.out.push(Effect::Close {
                session,
                why: Why::NotBelieved,
            });
        }
        self.watch_anew();
        self.judge_anew(now);
    }

    pub(crate) fn stop(&mut self, now: Timestamp) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        let sessions: Vec<Session> = self.sessions.keys().copied().collect();
        for session in sessions {
            self.end(now, session, "the broker stopped");
            self.out.push(Effect::Close {
                session,
                why: Why::Stopping,
            });
        }
        let detail = Detail {
            who: Some(self.settings.broker.clone()),
            ..Detail::default()
        };
        self.ledger.record(now, Verb::Stopped, OPEN, detail);
    }
}
