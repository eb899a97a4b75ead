//! A message comes in: yes or no, once.

use std::collections::BTreeSet;

use ordonnans_audit::{Detail, Verb};
use ordonnans_label::{Kind, Level, Name};
use ordonnans_message::{
    Digest, Envelope, Frame, Header, MessageId, ReplyCode, SignedAct, Timestamp, limits, sha256,
};
use ordonnans_policy::{Question, Refusal, RuleId, admit, decide};
use ordonnans_seal::Verified;

use crate::Session;
use crate::engine::Engine;
use crate::rows::Seen;

/// What a node waits before it tries again, in milliseconds.
const RETRY_MS: u32 = 2_000;

impl Engine {
    pub(crate) fn publish(
        &mut self,
        now: Timestamp,
        session: Session,
        envelope: &Verified<Envelope>,
    ) {
        let header = envelope.get().header();
        let id = header.id;
        let Some(from) = self.sessions.get(&session).map(|p| p.name().clone()) else {
            return;
        };
        if self.stopping {
            return self.refuse(session, Some(id), ReplyCode::Stopping);
        }
        let bytes = envelope.get().encode();
        let digest = sha256(&[&bytes]);
        if let Some(seen) = self.seen.get(&id) {
            // Only the originator learns that the id is taken; to anyone else it is a conflict all the same.
            if seen.digest == digest && seen.originator == from {
                let (at, sequence) = (seen.at, seen.sequence);
                return self.send(session, Frame::Accepted { id, at, sequence });
            }
            return self.rejected(now, session, Some(id), ReplyCode::Conflict);
        }
        if header.originator != from || from.kind() != Kind::Node {
            return self.rejected(now, session, Some(id), ReplyCode::NotAuthentic);
        }
        if let Err(refusal) = self.judge(header, now) {
            let level = header.label.confidentiality.level();
            let detail = Detail {
                who: Some(from),
                to: refusal.recipient().cloned(),
                message: Some(id),
                digest: Some(digest),
                rule: Some(refusal.rule().number()),
                register: Some(self.in_force()),
                policy: self.policy_of(header),
                ..Detail::default()
            };
            let (sender, person) = (detail.who.clone(), header.author.clone());
            let detail = Detail { person, ..detail };
            self.ledger.record(now, Verb::Refused, level, detail);
            if let Some(sender) = sender {
                self.count(now, &sender, Verb::Refused);
            }
            return self.send(session, refused(id, &refusal, header, now));
        }
        let act = header.act.as_ref().map(SignedAct::said);
        if act.is_some_and(|a| self.labels.knows(&a.subject)) {
            return self.rejected(now, session, Some(id), ReplyCode::Conflict);
        }
        let here = |d| self.attachments.get(d).copied();
        if header
            .attachments
            .iter()
            .any(|a| here(&a.digest) != Some(a.length))
        {
            return self.refuse(session, Some(id), ReplyCode::AttachmentMissing);
        }
        let full = |n: &&Name| {
            self.mailbox
                .queue(n)
                .is_some_and(|q| q.items.len() >= self.settings.queue)
        };
        let labelled = header.act.is_some() && self.labels.len() >= self.settings.labelled;
        if self.seen.len() >= self.settings.remembered
            || labelled
            || header.nodes().iter().any(full)
        {
            return self.refuse(session, Some(id), ReplyCode::Busy);
        }
        self.accept(now, session, header.clone(), bytes, digest);
    }

    /// All rules of the sender and of every recipient. One no is a no to the whole message: a message that reached some of its
    /// addressees only would say to each that the others have it.
    fn judge(&self, header: &Header, now: Timestamp) -> Result<(), Refusal> {
        let (grounds, question) = (self.grounds(), Question::of(header));
        admit(&grounds, &question, now)?;
        for to in &header.recipients {
            decide(&grounds, header.id, &question, to, now)?;
        }
        Ok(())
    }

    /// The digest of the policy a message is labelled under; `None` where that is not in force.
    pub(crate) fn policy_of(&self, header: &Header) -> Option<Digest> {
        self.book.digest_of(header.label.confidentiality.policy())
    }

    fn accept(
        &mut self,
        now: Timestamp,
        session: Session,
        header: Header,
        bytes: bytes::Bytes,
        digest: Digest,
    ) {
        let (id, level) = (header.id, header.label.confidentiality.level());
        let nodes: BTreeSet<Name> = header.nodes().into_iter().cloned().collect();
        let detail = Detail {
            who: Some(header.originator.clone()),
            person: header.author.clone(),
            message: Some(id),
            digest: Some(digest),
            register: Some(self.in_force()),
            policy: self.policy_of(&header),
            note: header.act.as_ref().map(established),
            ..Detail::default()
        };
        let sequence = self.ledger.record(now, Verb::Accepted, level, detail);
        self.copies_made(now, &header, digest, &nodes);
        self.passed_on(now, &header, digest);
        let seen = Seen {
            digest,
            at: now,
            sequence,
            // As long again as a message may live: receipts come late, and a daemon may have slept.
            until: header.expires.after(limits::MAX_LIFETIME_MS),
            level,
            originator: header.originator.clone(),
            nodes: nodes.clone(),
            receipts: BTreeSet::new(),
        };
        self.ledger.write(seen.put(id));
        self.forget.insert((seen.until, id));
        self.seen.insert(id, seen);
        if let Some(act) = &header.act {
            self.labelled(now, id, act, nodes.clone());
        }
        for write in self.mailbox.accept(header, digest, bytes, sequence) {
            self.ledger.write(write);
        }
        let at = now;
        self.send(session, Frame::Accepted { id, at, sequence });
        for node in &nodes {
            self.pump(now, node);
        }
    }

    /// The copy register: one record for each copy, with its number and for whom it is (VIRBI 2013 annex 1, rows 6K and 6L).
    fn copies_made(
        &mut self,
        now: Timestamp,
        header: &Header,
        digest: Digest,
        nodes: &BTreeSet<Name>,
    ) {
        let level = header.label.confidentiality.level();
        for (copy, node) in (1u32..).zip(nodes) {
            let there = header.recipients.iter().filter(|r| r.node == *node);
            let persons: Vec<Name> = there.filter_map(|r| r.person.clone()).collect();
            let others = persons.iter().skip(1).map(Name::local);
            let others: Vec<&str> = others.collect();
            let mut note = format!("copy {copy} of {}", nodes.len());
            if !others.is_empty() {
                note.push_str(&format!(", also for {}", others.join(" ")));
            }
            let detail = Detail {
                who: Some(header.originator.clone()),
                person: persons.first().cloned(),
                to: Some(node.clone()),
                message: Some(header.id),
                digest: Some(digest),
                register: Some(self.in_force()),
                policy: self.policy_of(header),
                copy: Some(copy),
                note: Some(note),
                ..Detail::default()
            };
            self.ledger.record(now, Verb::CopyMade, level, detail);
        }
    }

    /// A message that refers to another which its sender holds may pass on what that said, or, at a lower level, an extract of it: so the log of
    /// the other has it.
    fn passed_on(&mut self, now: Timestamp, header: &Header, digest: Digest) {
        let referred = header.references.iter().chain(&header.supersedes);
        let parents: BTreeSet<MessageId> = referred.copied().collect();
        for parent in parents {
            let Some(seen) = self.seen.get(&parent) else {
                continue;
            };
            if !seen.nodes.contains(&header.originator) {
                continue;
            }
            let own = header.label.confidentiality.level();
            let verb = if own < seen.level {
                Verb::Extracted
            } else {
                Verb::Forwarded
            };
            let level = seen.level.max(own);
            let detail = Detail {
                who: Some(header.originator.clone()),
                person: header.author.clone(),
                message: Some(parent),
                digest: Some(digest),
                copy: seen.copy(&header.originator),
                note: Some(format!("referred to by {}", header.id)),
                ..Detail::default()
            };
            self.ledger.record(now, verb, level, detail);
        }
    }

    /// The number of a node's copy of a message.
    pub(crate) fn copy(&self, id: MessageId, node: &Name) -> Option<u32> {
        self.seen.get(&id)?.copy(node)
    }

    /// A no that rests on nothing secret and changes nothing: it makes no record.
    fn refuse(&mut self, session: Session, id: Option<MessageId>, code: ReplyCode) {
        let again = matches!(code, ReplyCode::Busy | ReplyCode::Stopping);
        let frame = Frame::Refused {
            id,
            code,
            rule: None,
            recipient: None,
            retry_after_ms: again.then_some(RETRY_MS),
        };
        self.send(session, frame);
    }

    /// A no to something that is not what it claims to be.
    pub(crate) fn rejected(
        &mut self,
        now: Timestamp,
        session: Session,
        id: Option<MessageId>,
        code: ReplyCode,
    ) {
        let Some(peer) = self.sessions.get(&session) else {
            return;
        };
        let who = peer.name().clone();
        let detail = Detail {
            who: Some(who.clone()),
            message: id,
            register: Some(self.in_force()),
            note: Some(format!("{code:?}")),
            ..Detail::default()
        };
        self.ledger
            .record(now, Verb::Refused, Level::Ongerubriceerd, detail);
        self.count(now, &who, Verb::Refused);
        self.refuse(session, id, code);
    }
}

fn established(act: &SignedAct) -> String {
    format!("established by {}", act.said().by)
}

/// What the sender is told. About a recipient only that it may not have the message, so that nobody learns what another holds by
/// asking; the rule stands in the audit log.
fn refused(id: MessageId, refusal: &Refusal, header: &Header, now: Timestamp) -> Frame {
    let (rule, recipient) = (refusal.rule(), refusal.recipient().cloned());
    let code = if rule == RuleId::RECIPIENT_KNOWN {
        ReplyCode::UnknownRecipient
    } else if rule == RuleId::LIFETIME && header.expires <= now {
        ReplyCode::Expired
    } else {
        ReplyCode::NotPermitted
    };
    Frame::Refused {
        id: Some(id),
        code,
        rule: recipient.is_none().then(|| rule.number()),
        recipient,
        retry_after_ms: None,
    }
}
