//! Labels that persons established: what follows on them, who is told, and when they are to be weighed again.
//!
//! A message keeps the label it came with. An act that revises or ends it stands beside it, in one line of acts; holders of copies are told, and copies that
//! still wait must be allowed by both. At the day or event of a label nothing changes but that its vaststeller is told.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ordonnans_audit::{Detail, Verb};
use ordonnans_label::{Date, Duration, Label, Level, Name, State};
use ordonnans_message::cbor::{DecodeError, Reader, Writer, exactly};
use ordonnans_message::{
    Act, ActKind, Digest, Frame, MessageId, Precedence, Recipient, ReplyCode, Role, SignedAct,
    SignedDeclaration, Timestamp, decode_label, encode_label,
};
use ordonnans_policy::{Question, RuleId, decide, may_establish};

use crate::engine::Engine;
use crate::{Session, Table, Write};

/// Reviews that come due in one input: bounds the commit.
const PER_TICK: usize = 512;
/// Nodes that have a message or what passes it on as it is: every node of a large structure.
const MAX_HOLDERS: usize = 512;

/// The label in force of a message that came with an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Labelled {
    /// Whose information it is.
    pub(crate) originator: Name,
    /// The nodes that have a copy or are due one.
    pub(crate) holders: BTreeSet<Name>,
    /// The content, by its salted digest.
    pub(crate) subject: Digest,
    /// The label in force.
    pub(crate) label: Label,
    /// SHA-256 of the last act.
    pub(crate) last: Digest,
    /// Whether the vaststeller was told that its day or event has come.
    pub(crate) due: bool,
}

impl Labelled {
    /// Who established the label in force.
    fn by(&self) -> Option<&Name> {
        match &self.label.state {
            State::Established { by } => Some(by),
            State::Proposed => None,
        }
    }

    pub(crate) fn level(&self) -> Level {
        self.label.confidentiality.level()
    }

    /// Who is told of an act that came through this node: every holder, and whose information it is.
    fn told(&self, peer: &Name) -> impl Iterator<Item = &Name> {
        let originator = Some(&self.originator).filter(|o| !self.holders.contains(*o));
        self.holders
            .iter()
            .chain(originator)
            .filter(move |n| *n != peer)
    }

    fn put(&self, id: MessageId) -> Write {
        let mut w = Writer::default();
        self.write(&mut w);
        Write::Put {
            table: Table::Labels,
            key: Bytes::copy_from_slice(id.as_bytes()),
            value: w.into_bytes().into(),
        }
    }

    fn write(&self, w: &mut Writer) {
        w.array(6)
            .text(self.originator.as_str())
            .array(self.holders.len());
        for n in &self.holders {
            w.text(n.as_str());
        }
        w.bytes(self.subject.as_bytes());
        encode_label(&self.label, w);
        w.bytes(self.last.as_bytes()).bool(self.due);
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let read = |r: &mut Reader<'_>| {
            r.tuple("label row", 6)?;
            let originator = r.parsed("originator", Name::MAX_BYTES)?;
            let n = r.array("holders", MAX_HOLDERS)?;
            Ok(Self {
                originator,
                holders: (0..n)
                    .map(|_| r.parsed("holder", Name::MAX_BYTES))
                    .collect::<Result<_, _>>()?,
                subject: Digest::from(r.fixed::<32>("subject")?),
                label: decode_label(r)?,
                last: Digest::from(r.fixed::<32>("act")?),
                due: r.bool("due")?,
            })
        };
        exactly(value, read, Self::write)
    }
}

/// Established labels, and what they last until. Keeps: an id stands under its day or event exactly as long as its review is not due.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    all: BTreeMap<MessageId, Labelled>,
    days: BTreeMap<Date, BTreeSet<MessageId>>,
    events: BTreeMap<Box<str>, BTreeSet<MessageId>>,
    /// The contents of all, by their salted digests.
    subjects: BTreeSet<Digest>,
    /// Events that have happened.
    pub(crate) declared: BTreeSet<Box<str>>,
}

impl Labels {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn get(&self, id: MessageId) -> Option<&Labelled> {
        self.all.get(&id)
    }

    /// Whether a content has a label already. An act on it cannot carry a second message: a label that was revised since would come back.
    pub(crate) fn knows(&self, subject: &Digest) -> bool {
        self.subjects.contains(subject)
    }

    /// Whether so many more may be too many to tell of an act.
    pub(crate) fn held_by_many(&self, id: MessageId, more: usize) -> bool {
        let row = self.all.get(&id);
        row.is_some_and(|l| l.holders.len() + more > MAX_HOLDERS)
    }

    /// Puts a label in the place of the one before.
    pub(crate) fn take_up(&mut self, id: MessageId, row: Labelled) {
        self.let_go(id);
        if !row.due {
            match &row.label.duration {
                None => {}
                Some(Duration::Until(day)) => {
                    self.days.entry(*day).or_default().insert(id);
                }
                Some(Duration::Event(event)) => {
                    self.events.entry(event.clone()).or_default().insert(id);
                }
            }
        }
        self.subjects.insert(row.subject);
        self.all.insert(id, row);
    }

    fn let_go(&mut self, id: MessageId) -> Option<Labelled> {
        let row = self.all.remove(&id)?;
        self.subjects.remove(&row.subject);
        match &row.label.duration {
            None => {}
            Some(Duration::Until(day)) => drop_from(&mut self.days, day, id),
            Some(Duration::Event(event)) => drop_from(&mut self.events, event, id),
        }
        Some(row)
    }

    /// Some of those whose day has passed or whose event was declared, and the event.
    fn due(&self, today: Date) -> Vec<(MessageId, Option<Box<str>>)> {
        let days = self.days.range(..today).flat_map(|(_, ids)| ids);
        let events = self
            .declared
            .iter()
            .filter_map(|e| Some((e, self.events.get(e)?)));
        let events = events.flat_map(|(e, ids)| ids.iter().map(|id| (*id, Some(e.clone()))));
        days.map(|id| (*id, None))
            .chain(events)
            .take(PER_TICK)
            .collect()
    }
}

fn drop_from<K: Ord + Clone>(of: &mut BTreeMap<K, BTreeSet<MessageId>>, key: &K, id: MessageId) {
    if let Some(ids) = of.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            of.remove(key);
        }
    }
}

impl Engine {
    /// A message was accepted with an act.
    pub(crate) fn labelled(
        &mut self,
        now: Timestamp,
        id: MessageId,
        act: &SignedAct,
        holders: BTreeSet<Name>,
    ) {
        let row = Labelled {
            originator: act.said().node.clone(),
            holders,
            subject: act.said().subject,
            label: act.said().label.clone(),
            last: act.digest(),
            due: false,
        };
        self.ledger.write(row.put(id));
        self.labels.take_up(id, row);
        self.review_days(now);
    }

    /// More nodes are due a message, for it was passed on as it is.
    pub(crate) fn more_holders(&mut self, id: MessageId, nodes: &BTreeSet<Name>) {
        let Some(mut row) = self.labels.get(id).cloned() else {
            return;
        };
        row.holders.extend(nodes.iter().cloned());
        self.ledger.write(row.put(id));
        self.labels.take_up(id, row);
    }

    /// What waits of a message, or passes it on as it is, is judged again.
    pub(crate) fn anew(&mut self, now: Timestamp, id: MessageId) {
        for id in self.all_of(id) {
            for node in self.take_back_of(id) {
                self.pump(now, &node);
            }
        }
    }

    /// A vaststeller revises or ends a label.
    pub(crate) fn act(&mut self, now: Timestamp, session: Session, signed: &SignedAct) {
        let Some(peer) = self.sessions.get(&session).map(|p| p.name().clone()) else {
            return;
        };
        let frame = Frame::Act {
            act: signed.encode(),
        };
        let of = frame.digest();
        let a = signed.said();
        let id = a.follows.map(|f| f.message);
        match self.weigh(now, &peer, signed) {
            Ok(None) => self.send(session, Frame::Kept { of }),
            Ok(Some(id)) => {
                // The answer first; like all else it waits for the commit.
                self.send(session, Frame::Kept { of });
                self.regrade(now, &peer, id, signed, &frame);
                self.anew(now, id);
            }
            Err(why) => self.not_kept(now, session, of, id, why),
        }
    }

    /// Whether an act may follow: the message, or nothing where it is in force already.
    fn weigh(
        &self,
        now: Timestamp,
        peer: &Name,
        signed: &SignedAct,
    ) -> Result<Option<MessageId>, (ReplyCode, Option<RuleId>)> {
        let a: &Act = signed.said();
        let forbids = |rule| (ReplyCode::NotPermitted, Some(rule));
        let Some(follows) = a.follows.filter(|_| a.kind != ActKind::Extract) else {
            // What gives a first label comes with its message.
            return Err((ReplyCode::NotPermitted, None));
        };
        let known = self.labels.get(follows.message);
        let known = known.ok_or((ReplyCode::NotPermitted, None))?;
        // Through the own node, or that of the information.
        let person = self.register.person(&a.by);
        if person.is_none_or(|p| p.node != *peer && known.originator != *peer) {
            return Err((ReplyCode::NotPermitted, None));
        }
        if known.last == signed.digest() {
            return Ok(None);
        }
        if a.node != known.originator || a.subject != known.subject {
            return Err((ReplyCode::NotAuthentic, None));
        }
        if follows.act != known.last {
            return Err((ReplyCode::Conflict, None));
        }
        let stands = known
            .by()
            .is_some_and(|v| self.register.stands_for(&a.by, v));
        let c = &a.label.confidentiality;
        let levels = [known.level(), c.level()];
        if !stands || !may_establish(&self.register, &a.by, &a.node, levels, now) {
            return Err(forbids(RuleId::VASTSTELLER));
        }
        if self.book.policies().check(c).is_err() {
            return Err(forbids(RuleId::LABEL_VALID));
        }
        match &a.label.duration {
            None if c.level() > Level::Ongerubriceerd => Err(forbids(RuleId::DURATION)),
            Some(Duration::Event(e)) if self.register.event(e).is_none() => {
                Err(forbids(RuleId::EVENT))
            }
            _ if known.told(peer).any(|n| self.notices_full(n)) => Err((ReplyCode::Busy, None)),
            _ => Ok(Some(follows.message)),
        }
    }

    fn regrade(
        &mut self,
        now: Timestamp,
        peer: &Name,
        id: MessageId,
        signed: &SignedAct,
        frame: &Frame,
    ) {
        let a = signed.said();
        let Some(old) = self.labels.get(id).cloned() else {
            return;
        };
        let new = Labelled {
            label: a.label.clone(),
            last: signed.digest(),
            due: false,
            ..old.clone()
        };
        let level = old.level().max(new.level());
        let detail = Detail {
            who: Some(peer.clone()),
            person: Some(a.by.clone()),
            message: Some(id),
            digest: Some(new.last),
            register: Some(self.in_force()),
            policy: self.book.digest_of(a.label.confidentiality.policy()),
            note: Some(format!(
                "{}: {} to {}",
                a.kind.as_str(),
                old.level(),
                new.level()
            )),
            ..Detail::default()
        };
        self.ledger.record(now, Verb::Regraded, level, detail);
        self.note_holders(now, id, &new, level);
        self.ledger.write(new.put(id));
        let told: Vec<Name> = new.told(peer).cloned().collect();
        self.labels.take_up(id, new);
        for node in told {
            self.notify(node, frame);
        }
        self.review_days(now);
    }

    /// Holders that may not have it under the label in force: what they hold cannot be taken back, so officers must see it.
    fn note_holders(&mut self, now: Timestamp, id: MessageId, new: &Labelled, level: Level) {
        let question = Question::supposed(&new.originator, &new.label, now);
        let mut over = vec![];
        for node in &new.holders {
            let to = Recipient {
                node: node.clone(),
                person: None,
                role: Role::Info,
                precedence: Precedence::Routine,
            };
            if let Err(refusal) = decide(&self.grounds(), id, &question, &to, now)
                // To which person there it went, the record of the delivery says.
                && refusal.rule() != RuleId::NAMED_PERSON
            {
                over.push((node.clone(), refusal.rule().number()));
            }
        }
        for (node, rule) in over {
            let detail = Detail {
                to: Some(node),
                message: Some(id),
                rule: Some(rule),
                register: Some(self.in_force()),
                note: Some("holds or is due a copy that it may not have now".into()),
                ..Detail::default()
            };
            self.ledger.record(now, Verb::Regraded, level, detail);
        }
    }

    /// Says no to an act, a declaration or an order, and records it.
    pub(crate) fn not_kept(
        &mut self,
        now: Timestamp,
        session: Session,
        of: Digest,
        message: Option<MessageId>,
        (code, rule): (ReplyCode, Option<RuleId>),
    ) {
        let Some(peer) = self.sessions.get(&session).map(|p| p.name().clone()) else {
            return;
        };
        let rule = rule.map(RuleId::number);
        let detail = Detail {
            who: Some(peer),
            message,
            rule,
            register: Some(self.in_force()),
            note: Some(format!(
                "an act, a declaration, an order or a renewal: {code:?}"
            )),
            ..Detail::default()
        };
        self.ledger
            .record(now, Verb::Refused, Level::Ongerubriceerd, detail);
        self.send(session, Frame::NotKept { of, code, rule });
    }

    /// An event has happened, says somebody the register lets say so. Once is enough.
    pub(crate) fn declare(&mut self, now: Timestamp, session: Session, signed: &SignedDeclaration) {
        let Some(peer) = self.sessions.get(&session).map(|p| p.name().clone()) else {
            return;
        };
        let frame = Frame::Declare {
            declaration: signed.encode(),
        };
        let (of, d) = (frame.digest(), signed.said());
        let event = self.register.event(&d.event);
        let at_peer = self.register.person(&d.by).is_some_and(|p| p.node == peer);
        if !at_peer || event.is_none_or(|e| !e.declared_by.contains(&d.by)) {
            let why = (ReplyCode::NotPermitted, Some(RuleId::EVENT));
            return self.not_kept(now, session, of, None, why);
        }
        self.send(session, Frame::Kept { of });
        if self.labels.declared.insert(d.event.clone()) {
            let detail = Detail {
                who: Some(peer),
                person: Some(d.by.clone()),
                digest: Some(of),
                register: Some(self.in_force()),
                note: Some(d.event.to_string()),
                ..Detail::default()
            };
            self.ledger
                .record(now, Verb::EventDeclared, Level::Ongerubriceerd, detail);
            self.ledger.write(Write::Put {
                table: Table::Events,
                key: Bytes::copy_from_slice(d.event.as_bytes()),
                value: signed.encode(),
            });
            self.review_days(now);
        }
    }

    /// Tells the vaststellers of labels whose day has passed or whose event was declared. Nothing else changes: the level stays in force.
    pub(crate) fn review_days(&mut self, now: Timestamp) {
        for (id, event) in self.labels.due(now.date()) {
            let Some(mut row) = self.labels.let_go(id) else {
                continue;
            };
            row.due = true;
            let (by, level) = (row.by().cloned(), row.level());
            self.ledger.write(row.put(id));
            let originator = row.originator.clone();
            self.labels.take_up(id, row);
            let Some(by) = by else {
                continue;
            };
            let detail = Detail {
                who: Some(originator.clone()),
                person: Some(by.clone()),
                message: Some(id),
                note: event.as_deref().map(Into::into),
                ..Detail::default()
            };
            self.ledger.record(now, Verb::ReviewDue, level, detail);
            let person = self.register.person(&by);
            let node = person.map_or(originator, |p| p.node.clone());
            self.notify(node, &Frame::ReviewDue { id, by, event });
        }
    }

    /// A label that was ended is remembered as long as its message.
    pub(crate) fn forget_ended(&mut self, id: MessageId) {
        let ended = |l: &Labelled| l.level() == Level::Ongerubriceerd;
        if self.labels.get(id).is_some_and(ended) {
            self.labels.let_go(id);
            self.ledger.write(Write::Delete {
                table: Table::Labels,
                key: Bytes::copy_from_slice(id.as_bytes()),
            });
        }
    }
}
