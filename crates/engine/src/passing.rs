//! Messages that pass another on: what is known of the parent, and what is recorded of it.
//!
//! What is passed on as it is stands under the label of its parent for as long as that has one: an act on the parent is told to its holders too, and
//! counts for copies of it that wait. An extract has a label of its own.

use std::collections::{BTreeMap, BTreeSet};

use ordonnans_audit::{Detail, Verb};
use ordonnans_label::{Label, Level};
use ordonnans_message::cbor::Writer;
use ordonnans_message::{
    Digest, Header, How, MessageId, ReceiptKind, SignedAct, SignedSecond, Timestamp, encode_label,
    sha256,
};
use ordonnans_policy::{InForce, Parent, Passed};

use crate::engine::Engine;
use crate::labels::Labelled;

/// Which messages pass on which, as they are.
#[derive(Debug, Default)]
pub(crate) struct Passings(BTreeMap<MessageId, BTreeSet<MessageId>>);

impl Passings {
    pub(crate) fn take_up(&mut self, id: MessageId, parent: Option<MessageId>) {
        if let Some(parent) = parent {
            self.0.entry(parent).or_default().insert(id);
        }
    }

    pub(crate) fn let_go(&mut self, id: MessageId, parent: Option<MessageId>) {
        let Some(parent) = parent else { return };
        if let Some(all) = self.0.get_mut(&parent) {
            all.remove(&id);
            if all.is_empty() {
                self.0.remove(&parent);
            }
        }
    }
}

/// What is remembered of a label, so that another can be told from it.
pub(crate) fn label_digest(label: &Label) -> Digest {
    let mut w = Writer::default();
    encode_label(label, &mut w);
    sha256(&[&w.into_bytes()])
}

/// The message whose label and acts are those of this one, where it is passed on as it is.
pub(crate) fn parent_as_it_is(header: &Header) -> Option<MessageId> {
    let passed = header.passed.as_ref()?;
    (passed.how == How::AsItIs).then_some(passed.parent)
}

impl Engine {
    /// What is known of what a message passes on.
    pub(crate) fn passing<'a>(&'a self, header: &'a Header) -> Option<Passed<'a>> {
        let passed = header.passed.as_ref()?;
        let from = &header.originator;
        let (row, seen) = (
            self.labels.get(passed.parent),
            self.seen.get(&passed.parent),
        );
        let taken_back = seen.is_some_and(|s| {
            let mut kinds = s.receipts.iter().map(|((kind, _), ())| *kind);
            kinds.any(|k| k == ReceiptKind::Recalled)
        });
        let has = row.is_some_and(|l| l.originator == *from || l.holders.contains(from))
            || seen.is_some_and(|s| s.originator == *from || s.copies.contains(from));
        let act = header.act.as_ref();
        let unchanged = match (row, seen) {
            // The act in force gives the label in force: a header whose act gives another label is none.
            (Some(row), _) => act.is_some_and(|a| a.digest() == row.last),
            (None, Some(seen)) => act.is_none() && label_digest(&header.label) == seen.label,
            (None, None) => false,
        };
        Some(Passed {
            how: passed.how,
            parent: (has && !taken_back).then_some(Parent {
                in_force: row.map(|l| InForce {
                    label: &l.label,
                    node: &l.originator,
                    act: l.last,
                }),
                unchanged,
            }),
            act,
            second: passed.second.as_ref().map(SignedSecond::said),
        })
    }

    /// The label in force on a message: of one that is passed on as it is, that of its parent.
    pub(crate) fn label_of(&self, id: MessageId) -> Option<&Labelled> {
        let parent = self.seen.get(&id).and_then(|s| s.parent);
        self.labels.get(parent.unwrap_or(id))
    }

    /// A message and all that pass it on as it is.
    pub(crate) fn all_of(&self, id: MessageId) -> Vec<MessageId> {
        let passed = self.passings.0.get(&id).into_iter().flatten();
        std::iter::once(id).chain(passed.copied()).collect()
    }

    /// The log of what a message passes on, and of what else it refers to and its sender holds, has it: that may say what the other said.
    pub(crate) fn passed_on(&mut self, now: Timestamp, header: &Header, digest: Digest) {
        let passed = header.passed.as_ref();
        if let Some(p) = passed {
            let (verb, note) = match (p.how, &p.second) {
                (How::AsItIs, _) => (Verb::Forwarded, "passed on as it is, as".into()),
                (How::Extract, None) => (Verb::Extracted, "extract".to_owned()),
                (How::Extract, Some(s)) => {
                    let by = s.said().by.local();
                    (
                        Verb::Extracted,
                        format!("second signature of {by}; extract"),
                    )
                }
            };
            self.noted(now, header, digest, p.parent, verb, &note);
        }
        let referred = header.references.iter().chain(&header.supersedes);
        let mut others: BTreeSet<MessageId> = referred.copied().collect();
        if let Some(p) = passed {
            others.remove(&p.parent);
        }
        for other in others {
            let Some(seen) = self.seen.get(&other) else {
                continue;
            };
            if !seen.copies.contains(&header.originator) {
                continue;
            }
            let verb = if header.label.confidentiality.level() < seen.level {
                Verb::Extracted
            } else {
                Verb::Forwarded
            };
            self.noted(now, header, digest, other, verb, "referred to by");
        }
    }

    fn noted(
        &mut self,
        now: Timestamp,
        header: &Header,
        digest: Digest,
        parent: MessageId,
        verb: Verb,
        note: &str,
    ) {
        let (own, seen) = (header.label.confidentiality.level(), self.seen.get(&parent));
        let row = self.labels.get(parent);
        let known = seen.map(|s| s.level).max(row.map(Labelled::level));
        let by = header.act.as_ref().filter(|_| verb == Verb::Extracted);
        let by = by.map(|a: &SignedAct| a.said().by.clone());
        let detail = Detail {
            who: Some(header.originator.clone()),
            person: by.or_else(|| header.author.clone()),
            message: Some(parent),
            digest: Some(digest),
            register: Some(self.in_force()),
            copy: seen.and_then(|s| s.copy(&header.originator)),
            // Who asks about the parent finds the other by the last word.
            note: Some(format!("{note} {}", header.id)),
            ..Detail::default()
        };
        let level = known.unwrap_or(Level::Ongerubriceerd).max(own);
        self.ledger.record(now, verb, level, detail);
    }
}
