//! When a copy must be there, opened and answered; who is reminded, and who is told when that did not help.
//!
//! The times are the delivery objectives of the military precedences, and the reply-by of the message. A copy for information must be there; one for action
//! must be opened, and answered where an answer is asked. At its time the node is reminded (*chased*); half as long later the originator and the contacts of
//! the configuration are told (*escalated*). Both are records, both outlive a restart, and neither happens twice.

use std::collections::{BTreeMap, BTreeSet};

use ordonnans_audit::{Detail, Verb};
use ordonnans_label::Name;
use ordonnans_message::{
    Header, MessageId, News, Precedence, Receipt, ReceiptKind, Recipient, Role, Timestamp,
};
use ordonnans_policy::{Question, RuleId, decide};

use crate::engine::Engine;
use crate::few::Few;
use crate::rows::{Chase, Copied, Seen, State};

/// Copies that one tick chases or escalates: bounds the commit.
const PER_TICK: usize = 256;

/// The copies of a message as it was accepted.
pub(crate) fn copies<'h>(reached: impl IntoIterator<Item = &'h Recipient>) -> Few<Name, Copied> {
    let mut all = BTreeMap::<Name, Copied>::new();
    for r in reached {
        let copied = all.entry(r.node.clone()).or_insert(Copied {
            precedence: r.precedence,
            action: false,
            opened: false,
            chase: Chase::InTime,
        });
        copied.precedence = copied.precedence.max(r.precedence);
        copied.action |= r.role == Role::Action;
    }
    all.into_iter().collect()
}

/// When something is to be done about a copy.
fn when(seen: &Seen, c: &Copied) -> Option<Timestamp> {
    let reply_by = seen.reply_by.filter(|_| c.action);
    let by = seen.at.after(c.precedence.due_within_ms());
    let due = match reply_by {
        Some(reply_by) if c.opened => reply_by,
        Some(reply_by) => by.min(reply_by.max(seen.at)),
        None => by,
    };
    match c.chase {
        Chase::InTime => Some(due),
        Chase::Chased => Some(due.after(c.precedence.due_within_ms() / 2)),
        Chase::Escalated | Chase::Settled => None,
    }
}

/// Copies by the time at which something is to be done about them.
#[derive(Debug, Default)]
pub(crate) struct Due(BTreeSet<(Timestamp, MessageId, Name)>);

impl Due {
    pub(crate) fn take_up(&mut self, id: MessageId, seen: &Seen) {
        for (node, c) in seen.copies.iter() {
            let at = when(seen, c);
            self.0.extend(at.map(|t| (t, id, node.clone())));
        }
    }

    pub(crate) fn let_go(&mut self, id: MessageId, seen: &Seen) {
        for (node, c) in seen.copies.iter() {
            if let Some(at) = when(seen, c) {
                self.0.remove(&(at, id, node.clone()));
            }
        }
    }
}

impl Engine {
    /// Changes what is remembered of a copy, and keeps that.
    fn change(&mut self, id: MessageId, node: &Name, change: impl FnOnce(&mut Copied)) {
        if self.change_here(id, node, change)
            && let Some(seen) = self.seen.get(&id)
        {
            self.ledger.write(seen.put(id));
        }
    }

    /// Changes what is remembered of a copy, and when it is looked at next. Gives whether there is anything to keep.
    fn change_here(
        &mut self,
        id: MessageId,
        node: &Name,
        change: impl FnOnce(&mut Copied),
    ) -> bool {
        let Some(seen) = self.seen.get_mut(&id) else {
            return false;
        };
        let Some(before) = seen.copies.get(node).copied() else {
            return false;
        };
        let mut after = before;
        change(&mut after);
        if after == before {
            return false;
        }
        if let Some(at) = when(seen, &before) {
            self.due.0.remove(&(at, id, node.clone()));
        }
        seen.copies.insert(node.clone(), after);
        if let Some(at) = when(seen, &after) {
            self.due.0.insert((at, id, node.clone()));
        }
        true
    }

    /// Nothing more is due of a copy: it is done with, or was given up.
    pub(crate) fn settle(&mut self, id: MessageId, node: &Name) {
        self.change(id, node, |c| c.chase = Chase::Settled);
    }

    /// A receipt came through a node; whoever calls keeps the row.
    pub(crate) fn settle_by(&mut self, node: &Name, r: &Receipt) {
        let asked = self.seen.get(&r.message).and_then(|s| s.reply_by).is_some();
        self.change_here(r.message, node, |c| match r.kind {
            ReceiptKind::Delivered if c.action => {}
            ReceiptKind::Delivered
            | ReceiptKind::Refused
            | ReceiptKind::Recalled
            | ReceiptKind::Destroyed => c.chase = Chase::Settled,
            ReceiptKind::Opened | ReceiptKind::Exported | ReceiptKind::Printed => {
                if c.chase != Chase::Settled && !c.opened {
                    c.opened = true;
                    c.chase = if asked && c.action {
                        Chase::InTime
                    } else {
                        Chase::Settled
                    };
                }
            }
        });
    }

    /// A message answers those it refers to.
    pub(crate) fn settle_answered(&mut self, header: &Header) {
        for id in &header.references {
            let asked = self.seen.get(id).is_some_and(|s| s.reply_by.is_some());
            if asked {
                self.settle(*id, &header.originator);
            }
        }
    }

    /// Reminds and tells about what is late.
    pub(crate) fn chase(&mut self, now: Timestamp) {
        for _ in 0..PER_TICK {
            let Some((at, id, node)) = self.due.0.first().cloned() else {
                return;
            };
            if at > now {
                return;
            }
            let Some(seen) = self.seen.get(&id) else {
                self.due.0.remove(&(at, id, node));
                continue;
            };
            let Some(copied) = seen.copies.get(&node).copied() else {
                self.due.0.remove(&(at, id, node));
                continue;
            };
            if copied.chase == Chase::InTime {
                self.remind(now, id, &node, &copied);
            } else {
                self.escalate(now, id, &node, &copied);
            }
        }
    }

    fn late(&self, id: MessageId, node: &Name, copied: &Copied) -> (Detail, Option<State>) {
        let state = self.mailbox.state(id, node);
        let lacks = match state {
            Some(_) => "no receipt in time",
            None if copied.opened => "not answered in time",
            None => "not opened in time",
        };
        let detail = Detail {
            to: Some(node.clone()),
            message: Some(id),
            copy: self.copy(id, node),
            note: Some(format!("{lacks}, {}", copied.precedence)),
            ..Detail::default()
        };
        (detail, state)
    }

    fn remind(&mut self, now: Timestamp, id: MessageId, node: &Name, copied: &Copied) {
        self.change(id, node, |c| c.chase = Chase::Chased);
        let Some(level) = self.seen.get(&id).map(|s| s.level) else {
            return;
        };
        let (detail, state) = self.late(id, node, copied);
        self.ledger.record(now, Verb::Chased, level, detail.clone());
        // A node without its copy must not hear of it, and could do nothing: an officer should look.
        if state.is_some() {
            self.ledger.record(now, Verb::Alarm, level, detail);
        } else {
            let precedence = copied.precedence;
            self.tell(now, node, id, News::Due { precedence });
        }
    }

    fn escalate(&mut self, now: Timestamp, id: MessageId, node: &Name, copied: &Copied) {
        self.change(id, node, |c| c.chase = Chase::Escalated);
        let Some(seen) = self.seen.get(&id) else {
            return;
        };
        let (level, originator) = (seen.level, seen.originator.clone());
        let contacts: BTreeSet<Name> = self
            .settings
            .contacts
            .iter()
            .filter(|c| *c != node && self.may_know(id, c, now))
            .cloned()
            .collect();
        let (detail, _) = self.late(id, node, copied);
        let told = Name::locals(&contacts);
        let told = if told.is_empty() { "nobody" } else { &told };
        let note = detail.note.map(|n| format!("{n}; told: {told}"));
        let detail = Detail { note, ..detail };
        self.ledger.record(now, Verb::Escalated, level, detail);
        let news = News::Late {
            node: node.clone(),
            precedence: copied.precedence,
        };
        for to in contacts.iter().filter(|c| **c != originator) {
            self.tell(now, to, id, news.clone());
        }
        self.tell(now, &originator, id, news);
    }

    /// Whether a node might have the message itself: only then may it hear that there is one.
    fn may_know(&self, id: MessageId, node: &Name, now: Timestamp) -> bool {
        let to = Recipient {
            node: node.clone(),
            person: None,
            role: Role::Info,
            precedence: Precedence::Routine,
        };
        if let Some(held) = self.mailbox.message(id) {
            let question = Question::of(&held.header);
            return decide(&self.grounds(), id, &question, &to, now)
                .map_or_else(|e| e.rule() == RuleId::NAMED_PERSON, |_| true);
        }
        // Its label is gone with its last copy; what is left is the level.
        let Some(seen) = self.seen.get(&id) else {
            return false;
        };
        let registered = self.register.node(node).and_then(|n| n.clearances.nl());
        let certified = self.holds.get(node).and_then(|c| c.nl());
        let both = registered.zip(certified);
        both.is_some_and(|(r, c)| r.level().min(c.level()) >= seen.level)
    }
}
