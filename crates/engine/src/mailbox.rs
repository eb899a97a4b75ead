//! Accepted messages and who still waits for them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ordonnans_label::{Level, Name};
use ordonnans_message::{Digest, Header, MessageId, Precedence, Timestamp};

use crate::few::Few;
use crate::rows::{Place, QueueRow, State};
use crate::{Table, Write};

/// An accepted message of which a copy is still due. The envelope itself is in the store.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) header: Header,
    pub(crate) digest: Digest,
    /// Nodes that have no copy yet, and where it stands in their queue.
    pub(crate) due: Few<Name, Place>,
}

impl Held {
    pub(crate) fn level(&self) -> Level {
        self.header.label.confidentiality.level()
    }
}

/// One copy in a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub(crate) id: MessageId,
    pub(crate) state: State,
    /// When it was last handed over in the present session.
    pub(crate) flown: Option<Timestamp>,
}

/// What waits for one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    pub(crate) items: BTreeMap<Place, Item>,
    /// To be judged and handed over, in this order.
    pub(crate) ready: BTreeSet<Place>,
    /// Handed over in the present session; the receipt is due.
    pub(crate) flying: BTreeSet<Place>,
}

impl Queue {
    /// Everything is to be judged anew: the session is another, or what decisions rest on.
    pub(crate) fn rewind(&mut self) {
        self.flying.clear();
        self.ready = self.items.keys().copied().collect();
        self.items.values_mut().for_each(|i| i.flown = None);
    }
}

/// All messages and queues. Keeps: an item stands in its queue exactly as long as its message is due to that node; a message is held
/// exactly as long as it is due to anyone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mailbox {
    messages: BTreeMap<MessageId, Held>,
    queues: BTreeMap<Name, Queue>,
    expiry: BTreeSet<(Timestamp, MessageId)>,
    attachments: BTreeMap<Digest, u64>,
    outstanding: BTreeMap<Name, Outstanding>,
}

/// What a node has sent that is not done with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outstanding {
    /// Copies that are due.
    pub(crate) copies: u64,
    /// Sealed bytes that wait for them.
    pub(crate) bytes: u64,
}

/// What went away with a copy.
pub(crate) struct Removed {
    pub(crate) writes: Vec<Write>,
    /// Attachments that no message refers to any more.
    pub(crate) attachments: Vec<Digest>,
}

impl Mailbox {
    pub(crate) fn message(&self, id: MessageId) -> Option<&Held> {
        self.messages.get(&id)
    }

    pub(crate) fn queue(&self, node: &Name) -> Option<&Queue> {
        self.queues.get(node)
    }

    pub(crate) fn queue_mut(&mut self, node: &Name) -> Option<&mut Queue> {
        self.queues.get_mut(node)
    }

    pub(crate) fn queues_mut(&mut self) -> impl Iterator<Item = &mut Queue> {
        self.queues.values_mut()
    }

    /// What a node has sent that is not done with.
    pub(crate) fn outstanding(&self, originator: &Name) -> Outstanding {
        self.outstanding
            .get(originator)
            .copied()
            .unwrap_or_default()
    }

    /// Copies that are due, over all nodes.
    pub(crate) fn waiting(&self) -> u64 {
        self.queues.values().map(|q| q.items.len() as u64).sum()
    }

    /// Whether a copy of a message with this attachment is due to this node.
    pub(crate) fn owed_with(&self, node: &Name, attachment: &Digest) -> Vec<MessageId> {
        let Some(queue) = self.queues.get(node) else {
            return vec![];
        };
        let has = |id: &MessageId| {
            self.messages
                .get(id)
                .is_some_and(|m| m.header.attachments.iter().any(|a| a.digest == *attachment))
        };
        queue.items.values().map(|i| i.id).filter(has).collect()
    }

    /// Keeps an accepted message and queues a copy for each of its nodes.
    pub(crate) fn accept(
        &mut self,
        header: Header,
        digest: Digest,
        envelope: Bytes,
        sequence: u64,
        nodes: impl IntoIterator<Item = Name>,
    ) -> Vec<Write> {
        let id = header.id;
        let mut writes = vec![Write::Put {
            table: Table::Messages,
            key: Bytes::copy_from_slice(id.as_bytes()),
            value: envelope,
        }];
        let rows: Vec<QueueRow> = nodes
            .into_iter()
            .map(|node| QueueRow {
                place: (std::cmp::Reverse(precedence(&header, &node)), sequence),
                node,
                id,
                state: State::Waiting,
            })
            .collect();
        writes.extend(rows.iter().map(QueueRow::put));
        self.hold(header, digest);
        for row in &rows {
            self.enqueue(row);
        }
        writes
    }

    /// Takes up a message; [`Self::enqueue`] follows for each copy.
    pub(crate) fn hold(&mut self, header: Header, digest: Digest) {
        self.expiry.insert((header.expires, header.id));
        for a in &header.attachments {
            *self.attachments.entry(a.digest).or_default() += 1;
        }
        let of = self.outstanding.entry(header.originator.clone());
        of.or_default().bytes += header.sealed_bytes();
        let held = Held {
            digest,
            due: Few::default(),
            header,
        };
        self.messages.insert(held.header.id, held);
    }

    /// Takes up a copy of a held message. Gives whether the message is held.
    pub(crate) fn enqueue(&mut self, row: &QueueRow) -> bool {
        let Some(held) = self.messages.get_mut(&row.id) else {
            return false;
        };
        held.due.insert(row.node.clone(), row.place);
        let of = self.outstanding.entry(held.header.originator.clone());
        of.or_default().copies += 1;
        let queue = self.queues.entry(row.node.clone()).or_default();
        let item = Item {
            id: row.id,
            state: row.state,
            flown: None,
        };
        queue.items.insert(row.place, item);
        queue.ready.insert(row.place);
        true
    }

    /// The messages held, with no copy due: there are none unless rows were lost.
    pub(crate) fn orphans(&self) -> usize {
        self.messages.values().filter(|m| m.due.is_empty()).count()
    }

    /// How far a copy that is due has come.
    pub(crate) fn state(&self, id: MessageId, node: &Name) -> Option<State> {
        let place = self.messages.get(&id)?.due.get(node)?;
        Some(self.queues.get(node)?.items.get(place)?.state)
    }

    /// Changes how far a copy has come and gives the row to write.
    pub(crate) fn set(&mut self, node: &Name, place: Place, state: State) -> Option<Write> {
        let item = self.queues.get_mut(node)?.items.get_mut(&place)?;
        item.state = state;
        let row = QueueRow {
            node: node.clone(),
            place,
            id: item.id,
            state,
        };
        Some(row.put())
    }

    /// The copy for this node is done with.
    pub(crate) fn remove(&mut self, id: MessageId, node: &Name) -> Option<Removed> {
        let held = self.messages.get_mut(&id)?;
        let place = held.due.remove(node)?;
        let done = held.due.is_empty();
        if let Some(of) = self.outstanding.get_mut(&held.header.originator) {
            of.copies -= 1;
            if done {
                of.bytes -= held.header.sealed_bytes();
            }
            if *of == Outstanding::default() {
                self.outstanding.remove(&held.header.originator);
            }
        }
        if let Some(queue) = self.queues.get_mut(node) {
            queue.items.remove(&place);
            queue.ready.remove(&place);
            queue.flying.remove(&place);
            if queue.items.is_empty() {
                self.queues.remove(node);
            }
        }
        let row = QueueRow {
            node: node.clone(),
            place,
            id,
            state: State::Sent,
        };
        let mut removed = Removed {
            writes: vec![row.delete()],
            attachments: vec![],
        };
        if done && let Some(held) = self.messages.remove(&id) {
            self.expiry.remove(&(held.header.expires, id));
            removed.writes.push(Write::Delete {
                table: Table::Messages,
                key: Bytes::copy_from_slice(id.as_bytes()),
            });
            for a in &held.header.attachments {
                if let Some(n) = self.attachments.get_mut(&a.digest) {
                    *n -= 1;
                    if *n == 0 {
                        self.attachments.remove(&a.digest);
                        removed.attachments.push(a.digest);
                    }
                }
            }
        }
        Some(removed)
    }

    /// The copies of a message are to be judged anew. Gives the nodes they are for.
    pub(crate) fn rewind_of(&mut self, id: MessageId) -> Vec<Name> {
        let due = self.messages.get(&id).map(|m| &m.due);
        for (node, place) in due.into_iter().flat_map(Few::iter) {
            if let Some(queue) = self.queues.get_mut(node) {
                queue.flying.remove(place);
                queue.ready.insert(*place);
                if let Some(item) = queue.items.get_mut(place) {
                    item.flown = None;
                }
            }
        }
        let nodes = due.into_iter().flat_map(Few::iter);
        nodes.map(|(node, _)| node.clone()).collect()
    }

    /// Whether a held message refers to this attachment.
    pub(crate) fn refers_to(&self, attachment: &Digest) -> bool {
        self.attachments.contains_key(attachment)
    }

    /// The message that expires first.
    pub(crate) fn next_expiry(&self) -> Option<(Timestamp, MessageId)> {
        self.expiry.first().copied()
    }
}

/// The precedence of a node's copy: the highest of its recipients there.
pub(crate) fn precedence(header: &Header, node: &Name) -> Precedence {
    header
        .recipients
        .iter()
        .filter(|r| r.node == *node)
        .map(|r| r.precedence)
        .max()
        .unwrap_or(Precedence::Deferred)
}
