//! What the log says of one message: its copies, and everyone who had it or could have had it.

use std::collections::{BTreeMap, BTreeSet};

use ordonnans_label::{Level, Name};
use ordonnans_message::{MessageId, Timestamp};
use serde::Serialize;

use crate::{Entry, Verb};

/// What became of one copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Copy {
    /// Its number.
    pub number: u32,
    /// How many its originator sealed, those included that reached nobody because their holder had left a group.
    pub of: u32,
    /// Who made it: the originator.
    pub maker: Option<Name>,
    /// For which node.
    pub holder: Name,
    /// For which person there, where one was named. From Stg.G up it is sealed to this person's key.
    pub person: Option<Name>,
    /// When it was made.
    pub made: Timestamp,
    /// When it was first handed over.
    pub delivered: Option<Timestamp>,
    /// When the receipt came.
    pub receipt: Option<Timestamp>,
    /// Who opened it, and when first.
    pub opened: BTreeMap<Name, Timestamp>,
    /// Who printed it, and when first.
    pub printed: BTreeMap<Name, Timestamp>,
    /// Who took it out of the system, and when first.
    pub exported: BTreeMap<Name, Timestamp>,
    /// When it was held back last, and not handed over since.
    pub withheld: Option<Timestamp>,
    /// When it expired.
    pub expired: Option<Timestamp>,
    /// When its originator took it back: where it was not delivered it was dropped then, else asked back.
    pub recalled: Option<Timestamp>,
    /// When its holder destroyed it.
    pub destroyed: Option<Timestamp>,
}

/// Reads `copy 2 of 5`, with or without more behind it.
fn of_how_many(note: &str) -> Option<u32> {
    let (_, rest) = note.strip_prefix("copy ")?.split_once(" of ")?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// What the log says of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// The highest level it had.
    pub level: Option<Level>,
    /// Who sent it.
    pub originator: Option<Name>,
    /// When it was accepted.
    pub accepted: Option<Timestamp>,
    /// Its copies, by number.
    pub copies: Vec<Copy>,
    /// What holders sent that refers to it, each with who sent it: what they held may have been passed on.
    pub referred: Vec<(Name, String, Timestamp)>,
    /// Records about it whose detail is closed or was dropped: what they say is not in here.
    pub closed: u64,
}

impl Account {
    /// Reads the records about a message, in order.
    #[must_use]
    pub fn of(message: MessageId, entries: &[Entry]) -> Self {
        let mut account = Self::default();
        let mut copies: BTreeMap<u32, Copy> = BTreeMap::new();
        for entry in entries {
            let Some((public, detail)) = entry.read() else {
                continue;
            };
            let Some(d) = detail else {
                account.closed += 1;
                continue;
            };
            if d.message != Some(message) {
                continue;
            }
            account.level = account.level.max(Some(public.level));
            let (at, who) = (public.time, d.who.clone());
            match public.verb {
                Verb::Accepted => (account.originator, account.accepted) = (who, Some(at)),
                Verb::CopyMade => {
                    if let (Some(holder), Some(number)) = (d.to, d.copy) {
                        let of = d.note.as_deref().and_then(of_how_many);
                        let copy = Copy {
                            number,
                            of: of.unwrap_or(0),
                            maker: who,
                            holder,
                            person: d.person,
                            made: at,
                            delivered: None,
                            receipt: None,
                            opened: BTreeMap::new(),
                            printed: BTreeMap::new(),
                            exported: BTreeMap::new(),
                            withheld: None,
                            expired: None,
                            recalled: None,
                            destroyed: None,
                        };
                        copies.insert(number, copy);
                    }
                }
                Verb::Delivered | Verb::Withheld | Verb::Expired | Verb::Recalled => {
                    // A node is handed all its copies at once.
                    let of = |c: &&mut Copy| Some(&c.holder) == d.to.as_ref();
                    for copy in copies.values_mut().filter(of) {
                        match public.verb {
                            Verb::Delivered => {
                                copy.delivered = copy.delivered.or(Some(at));
                                copy.withheld = None;
                            }
                            Verb::Withheld => copy.withheld = Some(at),
                            Verb::Recalled => copy.recalled = Some(at),
                            _ => copy.expired = Some(at),
                        }
                    }
                }
                Verb::Receipt | Verb::Opened | Verb::Printed | Verb::Exported | Verb::Destroyed => {
                    let Some(by) = d.person.or_else(|| d.who.clone()) else {
                        continue;
                    };
                    // What a node has received, it has for every copy there; what a person did, that person did with one.
                    let received = public.verb == Verb::Receipt;
                    let of = |c: &&mut Copy| {
                        Some(&c.holder) == d.who.as_ref()
                            && (received || d.copy.is_none_or(|n| n == c.number))
                    };
                    for copy in copies.values_mut().filter(of) {
                        match public.verb {
                            Verb::Receipt => copy.receipt = copy.receipt.or(Some(at)),
                            Verb::Opened => drop(copy.opened.entry(by.clone()).or_insert(at)),
                            Verb::Printed => drop(copy.printed.entry(by.clone()).or_insert(at)),
                            Verb::Exported => drop(copy.exported.entry(by.clone()).or_insert(at)),
                            _ => copy.destroyed = Some(at),
                        }
                    }
                }
                Verb::Forwarded | Verb::Extracted => {
                    let id = d.note.as_deref().and_then(|n| n.rsplit(' ').next());
                    if let (Some(who), Some(id)) = (who, id) {
                        account.referred.push((who, id.to_owned(), at));
                    }
                }
                _ => {}
            }
        }
        account.copies = copies.into_values().collect();
        account.copies.sort_by_key(|c| c.number);
        account
    }

    /// The nodes that had it at or after a time: handed over, and not destroyed before.
    #[must_use]
    pub fn had(&self, since: Timestamp) -> Vec<&Copy> {
        let still = |c: &&Copy| c.delivered.is_some() && c.destroyed.is_none_or(|t| t >= since);
        self.copies.iter().filter(still).collect()
    }

    /// The copies that could yet have been read at or after a time: sealed for a node, not handed over, and neither expired nor
    /// recalled before.
    #[must_use]
    pub fn could(&self, since: Timestamp) -> Vec<&Copy> {
        let waits = |c: &&Copy| {
            let ended = c.expired.or(c.recalled);
            c.delivered.is_none() && ended.is_none_or(|t| t >= since)
        };
        self.copies.iter().filter(waits).collect()
    }

    /// Every node that comes into it.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<Name> {
        let holders = self.copies.iter().map(|c| c.holder.clone());
        holders.chain(self.originator.clone()).collect()
    }
}
