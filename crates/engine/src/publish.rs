//! A message comes in: yes or no, once.

use std::collections::{BTreeMap, BTreeSet};

use ordonnans_audit::{Detail, Verb};
use ordonnans_label::{Kind, Level, Name};
use ordonnans_message::{
    Digest, Envelope, Frame, Header, MessageId, News, Recipient, ReplyCode, SignedAct, Timestamp,
    sha256,
};
use ordonnans_policy::{Refusal, RuleId};
use ordonnans_seal::Verified;

use crate::engine::Engine;
use crate::few::Few;
use crate::groups::Reached;
use crate::passing::{label_digest, parent_as_it_is};
use crate::rows::{Seen, State};
use crate::{Session, due};

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
        let reached = match self.judge(header, now) {
            Ok(reached) => reached,
            Err(refusal) => {
                self.note_refused(now, header, digest, Some(&refusal));
                self.attachments_refused(header);
                return self.send(session, refused(id, &refusal, header, now));
            }
        };
        if reached.recipients.is_empty() {
            self.note_refused(now, header, digest, None);
            self.attachments_refused(header);
            return self.refuse(session, Some(id), ReplyCode::UnknownRecipient);
        }
        let act = header.act.as_ref().map(SignedAct::said);
        // What is passed on as it is carries the act in force here, which begins no line.
        let parent = parent_as_it_is(header);
        let begins = act.filter(|_| parent.is_none());
        if begins.is_some_and(|a| self.labels.knows(&a.subject)) {
            self.attachments_refused(header);
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
        let to = reached.recipients.len();
        if parent.is_some_and(|p| self.labels.held_by_many(p, to)) {
            self.attachments_refused(header);
            return self.refuse(session, Some(id), ReplyCode::TooLarge);
        }
        let full = |r: &Recipient| {
            let queue = self.mailbox.queue(&r.node);
            queue.is_some_and(|q| q.items.len() >= self.settings.queue)
        };
        let labelled = begins.is_some() && self.labels.len() >= self.settings.labelled;
        if self.seen.len() >= self.settings.remembered
            || labelled
            || reached.recipients.iter().any(full)
        {
            return self.refuse(session, Some(id), ReplyCode::Busy);
        }
        if let Err(wait_ms) = self.spend(now, header, reached.recipients.len()) {
            return self.busy(session, id, wait_ms);
        }
        self.accept(now, session, header.clone(), (bytes, digest), reached);
    }

    fn note_refused(
        &mut self,
        now: Timestamp,
        header: &Header,
        digest: Digest,
        refusal: Option<&Refusal>,
    ) {
        let level = header.label.confidentiality.level();
        let detail = Detail {
            who: Some(header.originator.clone()),
            person: header.author.clone(),
            to: refusal.and_then(Refusal::recipient).cloned(),
            message: Some(header.id),
            digest: Some(digest),
            rule: refusal.map(|r| r.rule().number()),
            register: Some(self.in_force()),
            policy: self.policy_of(header),
            note: refusal
                .is_none()
                .then(|| "its groups have no members".into()),
            ..Detail::default()
        };
        self.ledger.record(now, Verb::Refused, level, detail);
        self.count(now, &header.originator, Verb::Refused, level);
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
        (bytes, digest): (bytes::Bytes, Digest),
        reached: Reached,
    ) {
        let (id, level) = (header.id, header.label.confidentiality.level());
        let to = &reached.recipients;
        let nodes: BTreeSet<Name> = to.iter().map(|r| r.node.clone()).collect();
        let detail = Detail {
            who: Some(header.originator.clone()),
            person: header.author.clone(),
            message: Some(id),
            digest: Some(digest),
            register: Some(self.in_force()),
            policy: self.policy_of(&header),
            note: noted(&header, &reached),
            ..Detail::default()
        };
        let sequence = self.ledger.record(now, Verb::Accepted, level, detail);
        let numbers = self.copies_made(now, &header, digest, &reached);
        self.settle_answered(&header);
        if let Some(old) = header.supersedes {
            self.supersede(now, &header, old, &nodes);
        }
        self.passed_on(now, &header, digest);
        let seen = Seen {
            digest,
            at: now,
            sequence,
            // Receipts come late, and a daemon may have slept.
            until: header.expires.after(self.settings.remember_ms),
            level,
            label: label_digest(&header.label),
            parent: parent_as_it_is(&header),
            originator: header.originator.clone(),
            reply_by: header.reply_by,
            copies: due::copies(to),
            numbers: numbers.into_iter().collect(),
            receipts: Few::default(),
        };
        self.ledger.write(seen.put(id));
        self.forget.insert((seen.until, id));
        self.due.take_up(id, &seen);
        self.passings.take_up(id, seen.parent);
        let parent = seen.parent;
        self.seen.insert(id, seen);
        match (&header.act, parent) {
            (Some(_), Some(parent)) => self.more_holders(parent, &nodes),
            (Some(act), None) => {
                let mut holders = nodes.clone();
                // An extract of another node's information: who made it has it, too.
                if act.said().node != header.originator {
                    holders.insert(header.originator.clone());
                }
                self.labelled(now, id, act, holders);
            }
            (None, _) => {}
        }
        let originator = header.originator.clone();
        for a in &header.attachments {
            self.attachment_claimed(&a.digest);
        }
        let rows = self
            .mailbox
            .accept(header, digest, bytes, sequence, nodes.clone());
        rows.into_iter().for_each(|row| self.ledger.write(row));
        let at = now;
        self.send(session, Frame::Accepted { id, at, sequence });
        if reached.left_out > 0 {
            let count = reached.left_out;
            self.tell(now, &originator, id, News::LeftOut { count });
        }
        for node in &nodes {
            self.pump(now, node);
        }
    }

    /// The copy register: one record for each copy, with its number and for whom it is (VIRBI 2013 annex 1, rows 6K and 6L). The number is the one
    /// inside the copy, and `of` how many its originator sealed. The copies of members of a group that are left out keep their numbers and are
    /// handed to nobody, so a gap in the register is a copy that reached no one. Gives the numbers by holder.
    fn copies_made(
        &mut self,
        now: Timestamp,
        header: &Header,
        digest: Digest,
        reached: &Reached,
    ) -> BTreeMap<Name, u32> {
        let level = header.label.confidentiality.level();
        let all = &reached.recipients;
        let (sealed, mut numbers) = (header.copies(), BTreeMap::new());
        for (copy, holder) in (1u32..).zip(&sealed) {
            let node = holder.node;
            let there = all.iter().filter(|r| {
                r.node == *node && holder.person.is_none_or(|p| r.person.as_ref() == Some(p))
            });
            let there: Vec<&Recipient> = there.collect();
            if there.is_empty() {
                continue;
            }
            numbers.entry(node.clone()).or_insert(copy);
            numbers.insert(holder.owner().clone(), copy);
            let persons: Vec<Name> = there.iter().filter_map(|r| r.person.clone()).collect();
            let others = persons.iter().skip(1).map(Name::local);
            let others: Vec<&str> = others.collect();
            let mut note = format!("copy {copy} of {}", sealed.len());
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
        numbers
    }

    /// A message takes the place of an older one of the same originator: copies of that for the same nodes that never left are dropped, and the
    /// originator is told. Who has the older one sees from the newer that it is.
    fn supersede(&mut self, now: Timestamp, by: &Header, old: MessageId, nodes: &BTreeSet<Name>) {
        let Some(seen) = self.seen.get(&old) else {
            return;
        };
        if seen.originator != by.originator {
            return;
        }
        let (level, digest) = (seen.level, seen.digest);
        let waiting: Vec<Name> = nodes
            .iter()
            .filter(|n| {
                let state = self.mailbox.state(old, n);
                state.is_some_and(|s| s != State::Sent)
            })
            .cloned()
            .collect();
        for node in waiting {
            let detail = Detail {
                who: Some(by.originator.clone()),
                to: Some(node.clone()),
                message: Some(old),
                digest: Some(digest),
                copy: self.copy(old, &node),
                note: Some(format!("by {}", by.id)),
                ..Detail::default()
            };
            self.ledger.record(now, Verb::Superseded, level, detail);
            self.done(now, old, &node);
            self.settle(old, &node);
            self.tell(now, &by.originator, old, News::Superseded { node });
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

    /// Not now, for this node has had its share.
    fn busy(&mut self, session: Session, id: MessageId, wait_ms: u32) {
        let frame = Frame::Refused {
            id: Some(id),
            code: ReplyCode::Busy,
            rule: None,
            recipient: None,
            retry_after_ms: Some(wait_ms),
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
        self.count(now, &who, Verb::Refused, Level::Ongerubriceerd);
        self.refuse(session, id, code);
    }
}

/// What the record of the acceptance says beside who and which: whose act, and what the groups were taken to mean.
fn noted(header: &Header, reached: &Reached) -> Option<String> {
    let act = header.act.as_ref();
    let mut parts: Vec<String> = act
        .map(|a| format!("established by {}", a.said().by))
        .into_iter()
        .collect();
    let groups = reached.expanded.iter();
    parts.extend(groups.map(|(group, n)| format!("{group}: {n}")));
    if reached.left_out > 0 {
        parts.push(format!("left out: {}", reached.left_out));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
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
