//! A message goes out: judged again, most urgent first, until the receipt is here.

use ordonnans_audit::{Detail, Verb};
use ordonnans_label::{Level, Name};
use ordonnans_message::{Digest, MessageId, News, ReplyCode, Timestamp};
use ordonnans_policy::{Permit, Question, Refusal, RuleId, admit, decide};

use crate::Session;
use crate::effects::Effect;
use crate::engine::Engine;
use crate::mailbox::Held;
use crate::rows::{Place, Seen, State};

/// Copies handed to one node whose receipts are due. More wait, so that something urgent is never behind more than these.
const WINDOW: usize = 32;
/// The same for what is IMMEDIATE or above, counting all: it does not wait for a free place among the others, and it has a bound of its own, for
/// what a runner keeps for one peer is bounded too.
const URGENT_WINDOW: usize = 256;
/// A copy without a receipt for so long is handed over again, in milliseconds.
const REPEAT_MS: u64 = 30_000;
/// Copies that expire, or messages that are forgotten, at one tick: bounds the commit.
const PER_TICK: usize = 512;

impl Engine {
    /// A permit for this node: its sender may still send it, and one of the message's recipients there may have it now. Times and labels
    /// were settled when it was accepted.
    fn permit(&self, held: &Held, node: &Name, now: Timestamp) -> Result<Permit, Refusal> {
        let (grounds, question) = (self.grounds(), Question::of(&held.header));
        let sender = [
            RuleId::LABEL_VALID,
            RuleId::SENDER_KNOWN,
            RuleId::SENDER_STANDING,
            RuleId::SENDER_CLEARED,
            RuleId::LINK_STG_ZG,
        ];
        if let Err(refusal) = admit(&grounds, &question, now)
            && sender.contains(&refusal.rule())
        {
            return Err(refusal);
        }
        let mut verdict = None;
        // Where a label was revised since, both must allow it: the one the message came with is not edited.
        let revised = self.label_of(held.header.id).map(|l| &l.label);
        let revised = revised.filter(|l| **l != held.header.label);
        let in_force = revised.map(|label| Question { label, ..question });
        let both = |to| {
            if let Some(q) = &in_force {
                decide(&grounds, held.header.id, q, to, now)?;
            }
            decide(&grounds, held.header.id, &question, to, now)
        };
        for to in held.header.recipients.iter().filter(|r| r.node == *node) {
            match both(to) {
                Ok(permit) => return Ok(permit),
                Err(refusal) => verdict = verdict.or(Some(refusal)),
            }
        }
        // A node is due a copy only where it is a recipient.
        Err(verdict.unwrap_or_else(|| unreachable!("a copy for a node that is no recipient")))
    }

    /// Hands over what waits for a node that is on the line, as far as its window allows.
    pub(crate) fn pump(&mut self, now: Timestamp, node: &Name) {
        let Some(session) = self.on_line.get(node).copied() else {
            return;
        };
        if self.stopping {
            return;
        }
        while let Some((place, id, state)) = self.next_for(node) {
            if let Some(queue) = self.mailbox.queue_mut(node) {
                queue.ready.remove(&place);
            }
            let Some(held) = self.mailbox.message(id) else {
                continue;
            };
            if held.header.expires <= now && !self.clock_in_doubt() {
                self.expire(now, id);
                continue;
            }
            if let Some(incident) = self.frozen(id) {
                let note = Some(format!("frozen: {incident}"));
                self.withhold(now, node, place, id, state, (None, note));
                continue;
            }
            match self.permit(held, node, now) {
                Ok(permit) => self.hand_over(now, session, node, place, state, &permit),
                Err(refusal) => {
                    let rule = Some(refusal.rule().number());
                    self.withhold(now, node, place, id, state, (rule, None));
                }
            }
        }
    }

    fn next_for(&self, node: &Name) -> Option<(Place, MessageId, State)> {
        let queue = self.mailbox.queue(node)?;
        let place = *queue.ready.first()?;
        let window = if place.0.0.is_urgent() {
            URGENT_WINDOW
        } else {
            WINDOW
        };
        if queue.flying.len() >= window {
            return None;
        }
        queue
            .items
            .get(&place)
            .map(|item| (place, item.id, item.state))
    }

    fn hand_over(
        &mut self,
        now: Timestamp,
        session: Session,
        node: &Name,
        place: Place,
        state: State,
        permit: &Permit,
    ) {
        let id = permit.message();
        if state != State::Sent {
            let Some(held) = self.mailbox.message(id) else {
                return;
            };
            let detail = Detail {
                who: Some(held.header.originator.clone()),
                to: Some(permit.recipient().clone()),
                message: Some(id),
                digest: Some(held.digest),
                register: Some(self.in_force()),
                policy: permit.policy(),
                copy: self.copy(id, node),
                ..Detail::default()
            };
            self.ledger
                .record(now, Verb::Delivered, held.level(), detail);
            if let Some(write) = self.mailbox.set(node, place, State::Sent) {
                self.ledger.write(write);
            }
        }
        if let Some(queue) = self.mailbox.queue_mut(node) {
            queue.flying.insert(place);
            if let Some(item) = queue.items.get_mut(&place) {
                item.flown = Some(now);
            }
        }
        self.out.push(Effect::Deliver {
            session,
            id,
            precedence: place.0.0,
        });
    }

    fn withhold(
        &mut self,
        now: Timestamp,
        node: &Name,
        place: Place,
        id: MessageId,
        state: State,
        (rule, note): (Option<u16>, Option<String>),
    ) {
        if state == State::Withheld {
            return;
        }
        let Some(held) = self.mailbox.message(id) else {
            return;
        };
        let detail = Detail {
            who: Some(held.header.originator.clone()),
            to: Some(node.clone()),
            message: Some(id),
            digest: Some(held.digest),
            rule,
            note,
            copy: self.copy(id, node),
            register: Some(self.in_force()),
            policy: self.policy_of(&held.header),
            ..Detail::default()
        };
        let originator = held.header.originator.clone();
        self.ledger
            .record(now, Verb::Withheld, held.level(), detail);
        // Not why: it may rest on what the originator is not to know.
        let news = News::Withheld { node: node.clone() };
        self.tell(now, &originator, id, news);
        if let Some(write) = self.mailbox.set(node, place, State::Withheld) {
            self.ledger.write(write);
        }
    }

    /// The copy for this node is done with: rows and attachments go.
    pub(crate) fn done(&mut self, now: Timestamp, id: MessageId, node: &Name) {
        let Some(removed) = self.mailbox.remove(id, node) else {
            return;
        };
        for write in removed.writes {
            self.ledger.write(write);
        }
        for digest in removed.attachments {
            let seen = self.seen.get(&id);
            let detail = Detail {
                who: Some(self.settings.broker.clone()),
                message: Some(id),
                digest: Some(digest),
                ..Detail::default()
            };
            let level = seen.map_or(Level::Ongerubriceerd, |s| s.level);
            self.ledger
                .record(now, Verb::AttachmentRemoved, level, detail);
            self.attachments.remove(&digest);
            self.out.push(Effect::RemoveAttachment { digest });
        }
    }

    pub(crate) fn tick(&mut self, now: Timestamp) {
        if self.stopping {
            return;
        }
        if !self.clock_in_doubt() {
            self.end_lifetimes(now);
            self.end_unclaimed(now);
        }
        self.review_days(now);
        self.chase(now);
        self.keep_for_a_time(now);
        let names: Vec<Name> = self.on_line.keys().cloned().collect();
        for name in names {
            let Some(queue) = self.mailbox.queue_mut(&name) else {
                continue;
            };
            // A clock that was set back must not hold a repeat up for longer than one interval.
            let late = |t: Timestamp| now.since(t) >= REPEAT_MS || t > now;
            let items = &queue.items;
            let overdue: Vec<Place> = queue
                .flying
                .iter()
                .filter(|p| items.get(p).and_then(|i| i.flown).is_some_and(late))
                .copied()
                .collect();
            for place in overdue {
                queue.flying.remove(&place);
                queue.ready.insert(place);
            }
            self.pump(now, &name);
        }
    }

    /// Ends what has had its time, and forgets what nobody may speak of any more. Not while the clock is in doubt: what is gone does not come back
    /// when somebody sets it right.
    fn end_lifetimes(&mut self, now: Timestamp) {
        let mut copies = 0;
        while let Some((at, id)) = self.mailbox.next_expiry() {
            if at > now || copies >= PER_TICK {
                break;
            }
            copies += self.expire(now, id);
        }
        for _ in 0..PER_TICK {
            let Some((until, id)) = self.forget.first().copied() else {
                break;
            };
            if until > now {
                break;
            }
            self.forget.remove(&(until, id));
            if let Some(seen) = self.seen.remove(&id) {
                self.due.let_go(id, &seen);
                self.passings.let_go(id, seen.parent);
            }
            self.ledger.write(Seen::delete(id));
            self.forget_ended(id);
        }
    }

    /// Ends a message for everyone who has no receipt given; the number of copies.
    fn expire(&mut self, now: Timestamp, id: MessageId) -> usize {
        let Some(held) = self.mailbox.message(id) else {
            return 0;
        };
        let (level, digest) = (held.level(), held.digest);
        let originator = held.header.originator.clone();
        let nodes: Vec<Name> = held.due.iter().map(|(node, _)| node.clone()).collect();
        for node in &nodes {
            let detail = Detail {
                who: Some(originator.clone()),
                to: Some(node.clone()),
                message: Some(id),
                digest: Some(digest),
                copy: self.copy(id, node),
                ..Detail::default()
            };
            self.ledger.record(now, Verb::Expired, level, detail);
            self.done(now, id, node);
            self.settle(id, node);
            let news = News::Expired { node: node.clone() };
            self.tell(now, &originator, id, news);
        }
        nodes.len()
    }

    pub(crate) fn attachment_get(
        &mut self,
        now: Timestamp,
        session: Session,
        digest: Digest,
        offset: u64,
    ) {
        let Some(node) = self.sessions.get(&session).map(|p| p.name().clone()) else {
            return;
        };
        let owed = self.mailbox.owed_with(&node, &digest);
        let may = owed.into_iter().any(|id| {
            let held = self.mailbox.message(id);
            let may = held.is_some_and(|held| self.permit(held, &node, now).is_ok());
            may && self.frozen(id).is_none()
        });
        if may {
            self.out.push(Effect::SendAttachment {
                session,
                digest,
                offset,
            });
        } else {
            self.rejected(now, session, None, ReplyCode::NotPermitted);
        }
    }
}
