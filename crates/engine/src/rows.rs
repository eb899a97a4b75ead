//! The rows of the mailbox, and their byte form.

use std::cmp::Reverse;

use bytes::Bytes;
use ordonnans_label::{Level, Name};
use ordonnans_message::cbor::{DecodeError, Reader, Writer, exactly};
use ordonnans_message::{Digest, MessageId, Precedence, ReceiptKind, Timestamp, limits};

use crate::few::Few;
use crate::{Table, Write};

/// A row that is not what this version writes. The broker does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row of the table {table:?} cannot be read: {why}")]
pub struct CorruptRow {
    /// The table.
    pub table: Table,
    /// What is wrong.
    pub why: DecodeError,
}

/// Where something stands in a node's queue: precedence first, then acceptance.
pub(crate) type Place = (Reverse<Precedence>, u64);

/// How far a copy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not yet judged for delivery.
    Waiting = 0,
    /// Handed over, with a record; the receipt is due.
    Sent = 1,
    /// Held back, with a record.
    Withheld = 2,
}

/// One copy that waits for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueRow {
    pub(crate) node: Name,
    pub(crate) place: Place,
    pub(crate) id: MessageId,
    pub(crate) state: State,
}

impl QueueRow {
    fn key(&self) -> Bytes {
        [
            &self.place.1.to_be_bytes()[..],
            self.node.as_str().as_bytes(),
        ]
        .concat()
        .into()
    }

    pub(crate) fn put(&self) -> Write {
        let mut w = Writer::default();
        self.write(&mut w);
        Write::Put {
            table: Table::Queue,
            key: self.key(),
            value: w.into_bytes().into(),
        }
    }

    pub(crate) fn delete(&self) -> Write {
        Write::Delete {
            table: Table::Queue,
            key: self.key(),
        }
    }

    fn write(&self, w: &mut Writer) {
        w.array(5)
            .text(self.node.as_str())
            .uint(self.place.0.0.code().into())
            .uint(self.place.1)
            .bytes(self.id.as_bytes())
            .uint(self.state as u64);
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let read = |r: &mut Reader<'_>| {
            r.tuple("queue row", 5)?;
            let node = r.parsed("node", Name::MAX_BYTES)?;
            let precedence = precedence(r)?;
            Ok(Self {
                node,
                place: (Reverse(precedence), r.uint("place", u64::MAX)?),
                id: message_id(r)?,
                state: match r.uint("state", 2)? {
                    0 => State::Waiting,
                    1 => State::Sent,
                    _ => State::Withheld,
                },
            })
        };
        exactly(value, read, Self::write)
    }
}

/// What is remembered of an accepted message for as long as anyone may repeat it or speak of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) digest: Digest,
    pub(crate) at: Timestamp,
    pub(crate) sequence: u64,
    pub(crate) until: Timestamp,
    pub(crate) level: Level,
    /// SHA-256 of the label it came with.
    pub(crate) label: Digest,
    /// The message that it passes on as it is.
    pub(crate) parent: Option<MessageId>,
    pub(crate) originator: Name,
    /// When an answer is due.
    pub(crate) reply_by: Option<Timestamp>,
    /// By node.
    pub(crate) copies: Few<Name, Copied>,
    /// The numbers of the copies that were made, as they were sealed: by the person each is sealed to, else by node; a node with several has its
    /// first here.
    pub(crate) numbers: Few<Name, u32>,
    pub(crate) receipts: Few<(ReceiptKind, Name), ()>,
}

/// How far chasing a copy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chase {
    /// It has time yet.
    InTime = 0,
    /// Its node was reminded.
    Chased = 1,
    /// Others were told.
    Escalated = 2,
    /// Nothing more is due.
    Settled = 3,
}

/// What is remembered of one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) precedence: Precedence,
    /// Whether somebody there must act.
    pub(crate) action: bool,
    pub(crate) opened: bool,
    pub(crate) chase: Chase,
}

fn numbered(r: &mut Reader<'_>) -> Result<(Name, u32), DecodeError> {
    r.tuple("copy number", 2)?;
    let holder = r.parsed("holder", Name::MAX_BYTES)?;
    let n = r.uint("copy number", limits::MAX_RECIPIENTS as u64)?;
    Ok((holder, u32::try_from(n).unwrap_or(u32::MAX)))
}

/// Receipts of one message: three from each recipient and one from each of its readers, within reason.
pub(crate) const MAX_RECEIPTS: usize = 8 * limits::MAX_RECIPIENTS;

impl Seen {
    /// The number of the copy of a node, of several the first, or of a person it is sealed to.
    pub(crate) fn copy(&self, holder: &Name) -> Option<u32> {
        self.numbers.get(holder).copied()
    }

    pub(crate) fn put(&self, id: MessageId) -> Write {
        let mut w = Writer::default();
        self.write(&mut w);
        Write::Put {
            table: Table::Seen,
            key: Bytes::copy_from_slice(id.as_bytes()),
            value: w.into_bytes().into(),
        }
    }

    pub(crate) fn delete(id: MessageId) -> Write {
        Write::Delete {
            table: Table::Seen,
            key: Bytes::copy_from_slice(id.as_bytes()),
        }
    }

    fn write(&self, w: &mut Writer) {
        w.array(12)
            .bytes(self.digest.as_bytes())
            .uint(self.at.as_millis())
            .uint(self.sequence)
            .uint(self.until.as_millis())
            .uint(self.level.code().into())
            .bytes(self.label.as_bytes());
        w.option(self.parent, |w, id| {
            w.bytes(id.as_bytes());
        });
        w.text(self.originator.as_str());
        w.option(self.reply_by, |w, t| {
            w.uint(t.as_millis());
        });
        w.array(self.copies.len());
        for (n, c) in self.copies.iter() {
            w.array(5).text(n.as_str()).uint(c.precedence.code().into());
            w.bool(c.action).bool(c.opened).uint(c.chase as u64);
        }
        w.array(self.numbers.len());
        for (holder, n) in self.numbers.iter() {
            w.array(2).text(holder.as_str()).uint((*n).into());
        }
        w.array(self.receipts.len());
        for ((kind, by), ()) in self.receipts.iter() {
            w.array(2).uint(kind.code().into()).text(by.as_str());
        }
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let read = |r: &mut Reader<'_>| {
            r.tuple("seen row", 12)?;
            let digest = Digest::from(r.fixed::<32>("digest")?);
            let (at, sequence, until) = (time(r)?, r.uint("sequence", u64::MAX)?, time(r)?);
            let level = u8::try_from(r.uint("level", 4)?)
                .ok()
                .and_then(Level::from_code)
                .ok_or(DecodeError::Unknown("level"))?;
            let label = Digest::from(r.fixed::<32>("label")?);
            let parent = r.option(message_id)?;
            let originator = r.parsed("originator", Name::MAX_BYTES)?;
            let reply_by = r.option(time)?;
            let n = r.array("copies", limits::MAX_RECIPIENTS)?;
            let copies = (0..n).map(|_| copied(r)).collect::<Result<_, _>>()?;
            let n = r.array("copy numbers", 2 * limits::MAX_RECIPIENTS)?;
            let numbers = (0..n).map(|_| numbered(r)).collect::<Result<_, _>>()?;
            let n = r.array("receipts", MAX_RECEIPTS)?;
            let receipt = |r: &mut Reader<'_>| {
                r.tuple("receipt", 2)?;
                let of = (receipt_kind(r)?, r.parsed("signer", Name::MAX_BYTES)?);
                Ok((of, ()))
            };
            let receipts = (0..n).map(|_| receipt(r)).collect::<Result<_, _>>()?;
            Ok(Self {
                digest,
                at,
                sequence,
                until,
                level,
                label,
                parent,
                originator,
                reply_by,
                copies,
                numbers,
                receipts,
            })
        };
        exactly(value, read, Self::write)
    }
}

/// Bytes of the register's text in one row.
const PART: usize = 128 * 1024;

/// The rows that hold the text of the register in force, where `before` parts stood.
pub(crate) fn law(text: &str, before: usize) -> Vec<Write> {
    let key =
        |i: usize| Bytes::copy_from_slice(&u32::try_from(i).unwrap_or(u32::MAX).to_be_bytes());
    let parts = text.as_bytes().chunks(PART);
    let gone = (parts.len()..before).map(|i| Write::Delete {
        table: Table::Law,
        key: key(i),
    });
    parts
        .clone()
        .enumerate()
        .map(|(i, part)| Write::Put {
            table: Table::Law,
            key: key(i),
            value: Bytes::copy_from_slice(part),
        })
        .chain(gone)
        .collect()
}

/// In how many rows a text stands.
pub(crate) fn law_parts(text: &str) -> usize {
    text.len().div_ceil(PART)
}

/// What names a receipt.
pub(crate) type ReceiptKey = (MessageId, ReceiptKind, Name);

/// A receipt that its originator has not confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Return {
    pub(crate) to: Name,
    pub(crate) of: ReceiptKey,
    pub(crate) receipt: Bytes,
}

impl Return {
    pub(crate) fn put(&self) -> Write {
        let mut w = Writer::default();
        self.write(&mut w);
        Write::Put {
            table: Table::Returns,
            key: return_key(&self.of, &self.to),
            value: w.into_bytes().into(),
        }
    }

    pub(crate) fn delete(of: &ReceiptKey, to: &Name) -> Write {
        Write::Delete {
            table: Table::Returns,
            key: return_key(of, to),
        }
    }

    fn write(&self, w: &mut Writer) {
        w.array(5)
            .text(self.to.as_str())
            .bytes(self.of.0.as_bytes())
            .uint(self.of.1.code().into())
            .text(self.of.2.as_str())
            .bytes(&self.receipt);
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let read = |r: &mut Reader<'_>| {
            r.tuple("return row", 5)?;
            Ok(Self {
                to: r.parsed("originator", Name::MAX_BYTES)?,
                of: (
                    message_id(r)?,
                    receipt_kind(r)?,
                    r.parsed("signer", Name::MAX_BYTES)?,
                ),
                receipt: Bytes::copy_from_slice(r.bytes("receipt", limits::MAX_STATEMENT)?),
            })
        };
        exactly(value, read, Self::write)
    }
}

fn return_key(of: &ReceiptKey, to: &Name) -> Bytes {
    [
        &of.0.as_bytes()[..],
        &[of.1.code()],
        of.2.as_str().as_bytes(),
        b" ",
        to.as_str().as_bytes(),
    ]
    .concat()
    .into()
}

fn copied(r: &mut Reader<'_>) -> Result<(Name, Copied), DecodeError> {
    r.tuple("copy", 5)?;
    let node = r.parsed("node", Name::MAX_BYTES)?;
    let copied = Copied {
        precedence: precedence(r)?,
        action: r.bool("action")?,
        opened: r.bool("opened")?,
        chase: match r.uint("chase", 3)? {
            0 => Chase::InTime,
            1 => Chase::Chased,
            2 => Chase::Escalated,
            _ => Chase::Settled,
        },
    };
    Ok((node, copied))
}

fn precedence(r: &mut Reader<'_>) -> Result<Precedence, DecodeError> {
    let code = u8::try_from(r.uint("precedence", 5)?).ok();
    let known = code.and_then(Precedence::from_code);
    known.ok_or(DecodeError::Unknown("precedence"))
}

fn message_id(r: &mut Reader<'_>) -> Result<MessageId, DecodeError> {
    MessageId::try_from(r.bytes("message id", 16)?).map_err(|_| DecodeError::Form("message id"))
}

fn receipt_kind(r: &mut Reader<'_>) -> Result<ReceiptKind, DecodeError> {
    u8::try_from(r.uint("receipt kind", u8::MAX.into())?)
        .ok()
        .and_then(ReceiptKind::from_code)
        .ok_or(DecodeError::Unknown("receipt kind"))
}

fn time(r: &mut Reader<'_>) -> Result<Timestamp, DecodeError> {
    r.uint("time", Timestamp::MAX.as_millis())
        .map(Timestamp::from_millis)
}
