//! Orders of security officers: incidents that freeze and keep, and reviews that are signed off.

use std::collections::BTreeSet;

use bytes::Bytes;
use ordonnans_audit::{Detail, Verb};
use ordonnans_label::{Kind, Level};
use ordonnans_message::cbor::{DecodeError, Reader, Writer, exactly};
use ordonnans_message::{
    Digest, Frame, MessageId, OrderKind, ReplyCode, SignedOrder, Timestamp, limits, sha256,
};

use crate::Session;
use crate::engine::Engine;
use crate::{Table, Write};

/// Incidents, open or kept: about 1 KiB each. Beyond it an order to open another gets `Busy`.
const MAX_INCIDENTS: usize = 4096;
/// Messages of one incident.
const MAX_MESSAGES: usize = 4096;
/// Orders about one incident.
const MAX_ORDERS: usize = 256;
/// How far the officer's clock may be from ours, in milliseconds: an order is given now, not found later.
const FRESH_MS: u64 = 10 * 60 * 1000;

/// An incident, as officers ordered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incident {
    pub(crate) messages: BTreeSet<MessageId>,
    /// The highest level of its messages.
    pub(crate) level: Level,
    /// When it was closed.
    pub(crate) closed: Option<Timestamp>,
    /// The signed orders, in the order in which they came.
    pub(crate) orders: Vec<Bytes>,
}

impl Incident {
    pub(crate) fn put(&self, name: &str) -> Write {
        let mut w = Writer::default();
        self.write(&mut w);
        Write::Put {
            table: Table::Incidents,
            key: Bytes::copy_from_slice(name.as_bytes()),
            value: w.into_bytes().into(),
        }
    }

    fn write(&self, w: &mut Writer) {
        w.array(4).array(self.messages.len());
        for id in &self.messages {
            w.bytes(id.as_bytes());
        }
        w.uint(self.level.code().into());
        w.option(self.closed, |w, t| {
            w.uint(t.as_millis());
        });
        w.array(self.orders.len());
        for o in &self.orders {
            w.bytes(o);
        }
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let read = |r: &mut Reader<'_>| {
            r.tuple("incident row", 4)?;
            let n = r.array("messages", MAX_MESSAGES)?;
            let message = |r: &mut Reader<'_>| {
                let bytes = r.bytes("message id", 16)?;
                MessageId::try_from(bytes).map_err(|_| DecodeError::Form("message id"))
            };
            let messages = (0..n).map(|_| message(r)).collect::<Result<_, _>>()?;
            let level = u8::try_from(r.uint("level", 4)?).ok();
            let level = level
                .and_then(Level::from_code)
                .ok_or(DecodeError::Unknown("level"))?;
            let time = |r: &mut Reader<'_>| r.uint("time", Timestamp::MAX.as_millis());
            let closed = r.option(time)?.map(Timestamp::from_millis);
            let n = r.array("orders", MAX_ORDERS)?;
            let order = |r: &mut Reader<'_>| {
                let bytes = r.bytes("order", limits::MAX_STATEMENT)?;
                Ok(Bytes::copy_from_slice(bytes))
            };
            let orders = (0..n).map(|_| order(r));
            Ok(Self {
                messages,
                level,
                closed,
                orders: orders.collect::<Result<_, _>>()?,
            })
        };
        exactly(value, read, Self::write)
    }
}

impl Engine {
    /// The open incident that a message belongs to, or what it passes on as it is: nothing of it goes out.
    pub(crate) fn frozen(&self, id: MessageId) -> Option<&str> {
        let open = self.incidents.iter().filter(|(_, i)| i.closed.is_none());
        let parent = self.seen.get(&id).and_then(|s| s.parent);
        let has = |i: &Incident| {
            i.messages.contains(&id) || parent.is_some_and(|p| i.messages.contains(&p))
        };
        let mut of = open.filter(|(_, i)| has(i));
        of.next().map(|(name, _)| name.as_str())
    }

    /// An order. The peer is an officer of the register and gave it just now.
    pub(crate) fn order(&mut self, now: Timestamp, session: Session, signed: &SignedOrder) {
        let (bytes, said) = (signed.encode(), signed.said());
        let order = bytes.clone();
        let of = Frame::Order { order }.digest();
        let no = |code| (code, None);
        let is_officer =
            |p: &crate::sessions::Peer| *p.name() == said.by && p.name().kind() == Kind::Officer;
        if self.officer(session).is_none() || !self.sessions.get(&session).is_some_and(is_officer) {
            return self.not_kept(now, session, of, None, no(ReplyCode::NotPermitted));
        }
        if now.since(said.at).max(said.at.since(now)) > FRESH_MS {
            return self.not_kept(now, session, of, None, no(ReplyCode::Expired));
        }
        let digest = sha256(&[&bytes]);
        let done = match &said.what {
            OrderKind::Open { incident, messages } => {
                self.open_incident(now, incident, messages, (bytes, digest), said)
            }
            OrderKind::Close { incident } => {
                self.close_incident(now, incident, (bytes, digest), said)
            }
            OrderKind::Review {
                level,
                from,
                until,
                page,
            } => {
                let detail = Detail {
                    who: Some(said.by.clone()),
                    digest: Some(*page),
                    register: Some(self.in_force()),
                    note: Some(format!("{level}, records {from} to {until}")),
                    ..Detail::default()
                };
                self.ledger
                    .record(now, Verb::Reviewed, Level::Ongerubriceerd, detail);
                Ok(())
            }
        };
        match done {
            Ok(()) => self.send(session, Frame::Kept { of }),
            Err(code) => self.not_kept(now, session, of, None, no(code)),
        }
    }

    fn open_incident(
        &mut self,
        now: Timestamp,
        name: &str,
        messages: &[MessageId],
        (bytes, digest): (Bytes, Digest),
        said: &ordonnans_message::Order,
    ) -> Result<(), ReplyCode> {
        let mut incident = match self.incidents.get(name) {
            // What was closed stays closed: its details are counted from then. Open another.
            Some(i) if i.closed.is_some() => return Err(ReplyCode::Conflict),
            Some(i) => i.clone(),
            None if self.incidents.len() >= MAX_INCIDENTS => return Err(ReplyCode::Busy),
            None => Incident {
                messages: BTreeSet::new(),
                level: Level::Ongerubriceerd,
                closed: None,
                orders: vec![],
            },
        };
        if incident.orders.contains(&bytes) {
            return Ok(());
        }
        incident.messages.extend(messages);
        incident.orders.push(bytes);
        if incident.messages.len() > MAX_MESSAGES || incident.orders.len() > MAX_ORDERS {
            return Err(ReplyCode::TooLarge);
        }
        for id in messages {
            let level = self.seen.get(id).map_or(Level::Ongerubriceerd, |s| s.level);
            incident.level = incident.level.max(level);
            let detail = Detail {
                who: Some(said.by.clone()),
                message: Some(*id),
                digest: Some(digest),
                register: Some(self.in_force()),
                note: Some(name.to_owned()),
                ..Detail::default()
            };
            self.ledger.record(now, Verb::IncidentOpened, level, detail);
        }
        self.ledger.write(incident.put(name));
        self.incidents.insert(name.to_owned(), incident);
        for id in messages {
            self.anew(now, *id);
        }
        Ok(())
    }

    fn close_incident(
        &mut self,
        now: Timestamp,
        name: &str,
        (bytes, digest): (Bytes, Digest),
        said: &ordonnans_message::Order,
    ) -> Result<(), ReplyCode> {
        let Some(incident) = self.incidents.get_mut(name) else {
            return Err(ReplyCode::Conflict);
        };
        if incident.closed.is_some() {
            return Ok(());
        }
        incident.closed = Some(now);
        incident.orders.push(bytes);
        let (put, messages, level) = (
            incident.put(name),
            incident.messages.clone(),
            incident.level,
        );
        let detail = Detail {
            who: Some(said.by.clone()),
            digest: Some(digest),
            register: Some(self.in_force()),
            note: Some(name.to_owned()),
            ..Detail::default()
        };
        self.ledger.record(now, Verb::IncidentClosed, level, detail);
        self.ledger.write(put);
        for id in messages {
            self.anew(now, id);
        }
        Ok(())
    }
}
