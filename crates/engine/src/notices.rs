//! What nodes are told unasked, each until it says that it keeps it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ordonnans_label::Name;
use ordonnans_message::cbor::{DecodeError, Reader, Writer, exactly};
use ordonnans_message::{Digest, Frame, MessageId, News, Timestamp, limits};

use crate::effects::Effect;
use crate::engine::Engine;
use crate::{Session, Table, Write};

/// Notices told to one node whose confirmation is due.
const WINDOW: usize = 64;
/// News kept for one node that does not confirm; more stands in the log alone.
const NEWS: usize = 10_000;

/// What a node is to be told, until it says that it keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) to: Name,
    frame: Bytes,
}

fn notice_key(to: &Name, of: &Digest) -> Bytes {
    [of.as_bytes(), to.as_str().as_bytes()].concat().into()
}

impl Notice {
    fn put(&self) -> Write {
        let mut w = Writer::default();
        self.write(&mut w);
        let of = ordonnans_message::sha256(&[&self.frame]);
        Write::Put {
            table: Table::Notices,
            key: notice_key(&self.to, &of),
            value: w.into_bytes().into(),
        }
    }

    fn write(&self, w: &mut Writer) {
        w.array(2).text(self.to.as_str()).bytes(&self.frame);
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let read = |r: &mut Reader<'_>| {
            r.tuple("notice row", 2)?;
            Ok(Self {
                to: r.parsed("node", Name::MAX_BYTES)?,
                frame: Bytes::copy_from_slice(r.bytes("notice", limits::MAX_FRAME)?),
            })
        };
        let notice = exactly(value, read, Self::write)?;
        Frame::decode(&notice.frame).map(|_| notice)
    }
}

/// What one node is to be told, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    waiting: BTreeMap<Digest, Bytes>,
    unsaid: VecDeque<Digest>,
}

impl Notices {
    pub(crate) fn add(&mut self, notice: Notice) {
        let of = ordonnans_message::sha256(&[&notice.frame]);
        if self.waiting.insert(of, notice.frame).is_none() {
            self.unsaid.push_back(of);
        }
    }

    /// The session is another: everything is to be told again.
    pub(crate) fn rewind(&mut self) {
        self.unsaid = self.waiting.keys().copied().collect();
    }
}

impl Engine {
    /// Whether no more is kept for a node that does not confirm.
    pub(crate) fn notices_full(&self, node: &Name) -> bool {
        let notices = self.notices.get(node);
        notices.is_some_and(|n| n.waiting.len() >= self.settings.queue)
    }

    /// Tells a node something about a message. A node that keeps nothing of what it is told, for days, is told no more of the kind: the log has it.
    pub(crate) fn tell(&mut self, now: Timestamp, to: &Name, id: MessageId, news: News) {
        let Some(originator) = self.seen.get(&id).map(|s| s.originator.clone()) else {
            return;
        };
        let waiting = self.notices.get(to).map_or(0, |n| n.waiting.len());
        if self.register.node(to).is_none() || waiting >= NEWS {
            return;
        }
        let frame = Frame::Notice {
            id,
            originator,
            at: now,
            news,
        };
        self.notify(to.clone(), &frame);
    }

    /// Has a node told something, until it says that it keeps it.
    pub(crate) fn notify(&mut self, to: Name, frame: &Frame) {
        let notice = Notice {
            to: to.clone(),
            frame: frame.encode(),
        };
        self.ledger.write(notice.put());
        self.notices.entry(to.clone()).or_default().add(notice);
        self.forward_notices(&to);
    }

    /// Tells a node that is on the line what it is to be told, as far as its window allows.
    pub(crate) fn forward_notices(&mut self, name: &Name) {
        let (Some(session), Some(notices)) =
            (self.on_line.get(name).copied(), self.notices.get_mut(name))
        else {
            return;
        };
        while notices.waiting.len() - notices.unsaid.len() < WINDOW {
            let Some(next) = notices.unsaid.pop_front() else {
                break;
            };
            let frame = notices.waiting.get(&next).map(|b| Frame::decode(b));
            if let Some(Ok(frame)) = frame {
                self.out.push(Effect::Send { session, frame });
            }
        }
    }

    /// A node keeps what it was told.
    pub(crate) fn noticed(&mut self, session: Session, of: Digest) {
        let Some(from) = self.sessions.get(&session).map(|p| p.name().clone()) else {
            return;
        };
        let Some(notices) = self.notices.get_mut(&from) else {
            return;
        };
        if notices.waiting.remove(&of).is_none() {
            return;
        }
        notices.unsaid.retain(|d| *d != of);
        if notices.waiting.is_empty() {
            self.notices.remove(&from);
        }
        self.ledger.write(Write::Delete {
            table: Table::Notices,
            key: notice_key(&from, &of),
        });
        self.forward_notices(&from);
    }
}
