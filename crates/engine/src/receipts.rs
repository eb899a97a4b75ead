//! Receipts come from recipients and go to the originator; a recall goes the other way.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ordonnans_audit::{Detail, Verb};
use ordonnans_label::{Kind, Name};
use ordonnans_message::{Frame, Receipt, ReceiptKind, ReplyCode, SignedReceipt, Timestamp};
use ordonnans_seal::Verified;

use crate::Session;
use crate::effects::Effect;
use crate::engine::Engine;
use crate::rows::{MAX_RECEIPTS, ReceiptKey, Return, State};

/// Receipts passed on to one node whose confirmation is due.
const WINDOW: usize = 256;

impl Engine {
    pub(crate) fn receipt(
        &mut self,
        now: Timestamp,
        session: Session,
        receipt: &Verified<SignedReceipt>,
    ) {
        let Some(from) = self.sessions.get(&session).map(|p| p.name().clone()) else {
            return;
        };
        let r = receipt.get().said().clone();
        let id = r.message;
        let key: ReceiptKey = (id, r.kind, r.by.clone());
        let stored = Frame::ReceiptStored {
            id,
            kind: r.kind,
            by: r.by.clone(),
        };
        let Some(seen) = self.seen.get(&id) else {
            return self.rejected(now, session, Some(id), ReplyCode::NotPermitted);
        };
        let recalls = r.kind == ReceiptKind::Recalled;
        let may = if recalls {
            seen.originator == from && r.by == from
        } else {
            seen.copies.contains(&from) && self.may_sign(&r, &from)
        };
        if !may {
            return self.rejected(now, session, Some(id), ReplyCode::NotPermitted);
        }
        if seen.digest != r.envelope {
            return self.rejected(now, session, Some(id), ReplyCode::NotAuthentic);
        }
        if seen.receipts.contains(&(r.kind, r.by.clone())) {
            return self.send(session, stored);
        }
        if seen.receipts.len() >= MAX_RECEIPTS {
            return self.rejected(now, session, Some(id), ReplyCode::TooLarge);
        }
        if recalls {
            self.recall(now, &from, key, &receipt.get().encode());
            return self.send(session, stored);
        }
        self.settle_by(&from, &r);
        self.keep(now, &from, &r, key, receipt.get().encode());
        self.send(session, stored);
        if !r.kind.is_of_reader() {
            self.done(now, id, &from);
            self.pump(now, &from);
        }
    }

    /// A node speaks for itself; that something was opened, a person of that node may say too.
    fn may_sign(&self, r: &Receipt, from: &Name) -> bool {
        if r.by == *from {
            return from.kind() == Kind::Node;
        }
        let person = self.register.person(&r.by);
        r.kind.is_of_reader() && person.is_some_and(|p| p.node == *from)
    }

    fn keep(&mut self, now: Timestamp, from: &Name, r: &Receipt, of: ReceiptKey, bytes: Bytes) {
        let Some(seen) = self.seen.get_mut(&r.message) else {
            return;
        };
        seen.receipts.insert((r.kind, r.by.clone()), ());
        let (put, level, originator) = (seen.put(r.message), seen.level, seen.originator.clone());
        let copy = seen.copy(&r.by).or_else(|| seen.copy(from));
        let verb = match r.kind {
            ReceiptKind::Opened => Verb::Opened,
            ReceiptKind::Exported => Verb::Exported,
            ReceiptKind::Printed => Verb::Printed,
            ReceiptKind::Destroyed => Verb::Destroyed,
            ReceiptKind::Delivered | ReceiptKind::Refused | ReceiptKind::Recalled => Verb::Receipt,
        };
        let detail = Detail {
            who: Some(from.clone()),
            person: (r.by.kind() == Kind::Person).then(|| r.by.clone()),
            message: Some(r.message),
            digest: Some(r.envelope),
            register: Some(self.in_force()),
            copy,
            note: (r.kind == ReceiptKind::Refused).then(|| "cannot be used".into()),
            ..Detail::default()
        };
        let person = detail.person.clone();
        self.ledger.record(now, verb, level, detail);
        for who in person.iter().chain([from]) {
            self.count(now, who, verb, level);
        }
        self.ledger.write(put);
        let back = Return {
            to: originator,
            of,
            receipt: bytes,
        };
        self.pass_back(back);
    }

    fn pass_back(&mut self, back: Return) {
        self.ledger.write(back.put());
        let Return { to, of, receipt } = back;
        let returns = self.returns.entry(to.clone()).or_default();
        returns.waiting.insert(of, receipt);
        self.forward_returns(&to);
    }

    /// The originator takes a message back. Copies that wait are dropped; who may have one is told, until it answers.
    fn recall(&mut self, now: Timestamp, from: &Name, of: ReceiptKey, receipt: &Bytes) {
        let id = of.0;
        // What waits for its commit does not leave.
        self.take_back_of(id);
        let Some(seen) = self.seen.get_mut(&id) else {
            return;
        };
        seen.receipts.insert((of.1, of.2.clone()), ());
        let (put, seen) = (seen.put(id), seen.clone());
        self.ledger.write(put);
        for (node, _) in seen.copies.iter() {
            let never_left = self
                .mailbox
                .state(id, node)
                .is_some_and(|s| s != State::Sent);
            let what = if never_left { "stopped" } else { "asked back" };
            let detail = Detail {
                who: Some(from.clone()),
                to: Some(node.clone()),
                message: Some(id),
                digest: Some(seen.digest),
                copy: seen.copy(node),
                note: Some(what.into()),
                ..Detail::default()
            };
            self.ledger.record(now, Verb::Recalled, seen.level, detail);
            self.done(now, id, node);
            self.settle(id, node);
            if !never_left {
                let (to, of, receipt) = (node.clone(), of.clone(), receipt.clone());
                self.pass_back(Return { to, of, receipt });
            }
            self.pump(now, node);
        }
    }

    /// Passes on what waits for a node that is on the line, as far as its window allows.
    pub(crate) fn forward_returns(&mut self, name: &Name) {
        let Some(session) = self.on_line.get(name).copied() else {
            return;
        };
        let Some(returns) = self.returns.get_mut(name) else {
            return;
        };
        let free = WINDOW.saturating_sub(returns.said.len());
        let unsaid = returns
            .waiting
            .iter()
            .filter(|(of, _)| !returns.said.contains(of));
        let next: Vec<(ReceiptKey, Bytes)> = unsaid
            .take(free)
            .map(|(of, receipt)| (of.clone(), receipt.clone()))
            .collect();
        for (of, receipt) in next {
            returns.said.insert(of);
            self.out.push(Effect::Send {
                session,
                frame: Frame::Receipt { receipt },
            });
        }
    }

    /// The originator has kept a receipt.
    pub(crate) fn returned(&mut self, session: Session, of: &ReceiptKey) {
        let Some(from) = self.sessions.get(&session).map(|p| p.name().clone()) else {
            return;
        };
        let Some(returns) = self.returns.get_mut(&from) else {
            return;
        };
        if returns.waiting.remove(of).is_none() {
            return;
        }
        returns.said.remove(of);
        if returns.waiting.is_empty() {
            self.returns.remove(&from);
        }
        self.ledger.write(Return::delete(of, &from));
        self.forward_returns(&from);
    }
}

/// Receipts on their way to one originator.
#[derive(Clone, Debug, Default)]
pub(crate) struct Returns {
    /// Not confirmed yet.
    pub(crate) waiting: BTreeMap<ReceiptKey, Bytes>,
    /// Of these, passed on in the present session.
    pub(crate) said: BTreeSet<ReceiptKey>,
}
