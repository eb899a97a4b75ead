//! What the node keeps on disk. Every write is durable when the call returns; content stands here only sealed.
//!
//! | table | key | value |
//! |---|---|---|
//! | `outbox` | message id | envelope, until the broker has decided |
//! | `sent` | message id | [`Sent`] |
//! | `inbox` | message id | envelope |
//! | `arrived` | message id | [`Arrived`] |
//! | `beliefs` | digest | [`Belief`] that messages came in under |
//! | `grants` | originator, a zero byte, epoch | when it came, and the [`ordonnans_seal::Grant`] that messages of the epoch open with |
//! | `granted` | message id | the [`ordonnans_seal::Grant`] that this message opens with, which leaves this node out |
//! | `owed` | message id, kind, name | signed receipt the broker has not confirmed |
//! | `receipts` | message id, kind, name | signed receipt for a message of ours |
//! | `directory` | name | [`Listed`] |
//! | `drafts` | draft id | [`Draft`] |
//! | `acts` | message id, digest | signed act on a message that is here |
//! | `statements` | digest of the frame | [`Statement`] of ours |
//! | `reviews` | message id | [`Review`] that is due |
//! | `told` | message id, digest of the frame | [`Told`] by the broker |
//! | `state` | `checkpoint`, `log-key` | what is remembered of the broker's log: text of a checkpoint, its key |
//! | `state` | `doubt`, `fork` | why the log is in doubt, and the evidence |
//! | `state` | `package` | the key package we offer |
//! | `state` | `clock` | the newest time that was believed |
//! | `packages` | name | a person's key package that we offer |

mod forget;
mod grants;

use std::path::Path;

use bytes::Bytes;
use data_encoding::BASE64;
use ordonnans_audit::Fork;
use ordonnans_label::Name;
use ordonnans_message::{
    Digest, DirectoryEntry, Envelope, MessageId, Precedence, Receipt, ReceiptKind, SignedAct,
    SignedKeyPackage, SignedReceipt, Timestamp, sha256,
};
use ordonnans_store as store;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use crate::acts::{Review, Statement};
use crate::belief::Belief;
use crate::board::{SentTo, Told};
use crate::drafts::{Draft, DraftId};
use crate::failure::{Exit, Failure};
use grants::GRANTED;
pub(crate) use grants::Granted;

/// What is kept of a message of ours.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) envelope: Digest,
    pub(crate) precedence: Precedence,
    pub(crate) created: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) label: String,
    pub(crate) recipients: Vec<String>,
    /// The recipients, with what the board shows of them.
    #[serde(default)]
    pub(crate) to: Vec<SentTo>,
    #[serde(default)]
    pub(crate) reply_by: Option<Timestamp>,
    /// The signed act it went out with, in base64.
    #[serde(default)]
    pub(crate) act: Option<String>,
    /// The message that it passes on as it is.
    #[serde(default)]
    pub(crate) passed: Option<MessageId>,
    /// Whether it belongs to an exercise.
    #[serde(default)]
    pub(crate) exercise: bool,
    /// The draft it comes from.
    #[serde(default)]
    pub(crate) draft: Option<DraftId>,
    pub(crate) verdict: Option<Verdict>,
}

/// What the broker decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub(crate) enum Verdict {
    /// It is durable and will be delivered.
    Accepted {
        /// When, by the broker's clock.
        at: Timestamp,
        /// Number of its record in the audit log.
        sequence: u64,
    },
    /// It is not.
    Refused {
        /// Why, in a word.
        code: String,
        /// The policy rule, where the sender may know it.
        rule: Option<u16>,
        /// The recipient it failed for.
        recipient: Option<Name>,
    },
}

/// What is kept beside a message that arrived.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Arrived {
    pub(crate) received: Timestamp,
    /// When its message expires.
    pub(crate) expires: Timestamp,
    pub(crate) envelope: Digest,
    /// The [`Belief`] it was verified by.
    pub(crate) belief: Digest,
    pub(crate) opened: bool,
    /// When its originator took it back.
    #[serde(default)]
    pub(crate) recalled: Option<Timestamp>,
    /// The persons here who destroyed their copies, while others here still have theirs.
    #[serde(default)]
    pub(crate) destroyed: Vec<Name>,
}

/// One directory entry as kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) title: String,
    /// The signed key package, base64.
    pub(crate) package: Option<String>,
}

pub(crate) type ReceiptKey = (MessageId, ReceiptKind, Name);

pub(crate) fn receipt_key(r: &Receipt) -> ReceiptKey {
    (r.message, r.kind, r.by.clone())
}

/// The node's spool.
pub(crate) struct Spool(store::Spool, CancellationToken);

const OUTBOX: &str = "outbox";
const SENT: &str = "sent";
const INBOX: &str = "inbox";
const ARRIVED: &str = "arrived";
const BELIEFS: &str = "beliefs";
const OWED: &str = "owed";
const RECEIPTS: &str = "receipts";
const DIRECTORY: &str = "directory";
const DRAFTS: &str = "drafts";
const ACTS: &str = "acts";
const STATEMENTS: &str = "statements";
const REVIEWS: &str = "reviews";
const TOLD: &str = "told";
const STATE: &str = "state";
const PACKAGES: &str = "packages";

fn broken(e: impl std::fmt::Display) -> Failure {
    Failure::internal(e.to_string())
}

fn unwritable(why: &str) -> Failure {
    Failure::new(
        Exit::Internal,
        format!("the daemon's spool cannot be written, so nothing of this was kept: {why}"),
        "make room or mend the disk and start the daemon again; every message whose id was printed is kept",
    )
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(broken)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|e| broken(format!("a row of the spool: {e}")))
}

fn key(of: &ReceiptKey) -> Vec<u8> {
    [
        &of.0.as_bytes()[..],
        &[of.1.code()],
        of.2.as_str().as_bytes(),
    ]
    .concat()
}

fn id(key: &[u8]) -> Result<MessageId, Failure> {
    MessageId::try_from(key).map_err(|_| broken("a row of the spool has no message id"))
}

impl Spool {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let opened = store::Spool::open(path);
        opened
            .map(|s| Self(s, CancellationToken::new()))
            .map_err(broken)
    }

    /// Keeps a message of ours: from here on it is never lost. Its draft waits for what the broker decides.
    pub(crate) fn submit(&self, envelope: &Envelope, sent: &Sent) -> Result<(), Failure> {
        let id = envelope.header().id;
        let mut batch = store::SpoolBatch::new();
        batch.put(OUTBOX, id.as_bytes(), &envelope.encode());
        batch.put(SENT, id.as_bytes(), &json(sent)?);
        if let Some(of) = sent.draft
            && let Some(mut draft) = self.draft(of)?
        {
            draft.sent = Some(id);
            batch.put(DRAFTS, of.as_bytes(), &json(&draft)?);
        }
        self.apply(batch)
    }

    pub(crate) fn propose(&self, id: DraftId, draft: &Draft) -> Result<(), Failure> {
        self.put(DRAFTS, id.as_bytes(), &json(draft)?)
    }

    pub(crate) fn draft(&self, id: DraftId) -> Result<Option<Draft>, Failure> {
        let row = self.0.get(DRAFTS, id.as_bytes()).map_err(broken)?;
        row.map(|r| parse(&r)).transpose()
    }

    pub(crate) fn drafts(&self) -> Result<Vec<(DraftId, Draft)>, Failure> {
        let rows = self.0.range(DRAFTS, &[]).map_err(broken)?;
        rows.iter()
            .map(|(k, v)| {
                let id = data_encoding::HEXLOWER.encode(k).parse().map_err(broken)?;
                Ok((id, parse(v)?))
            })
            .collect()
    }

    pub(crate) fn discard(&self, id: DraftId) -> Result<(), Failure> {
        let mut batch = store::SpoolBatch::new();
        batch.remove(DRAFTS, id.as_bytes());
        self.apply(batch)
    }

    /// Keeps an act beside its message; what was due of it is done.
    pub(crate) fn keep_act(&self, act: &SignedAct) -> Result<(), Failure> {
        let Some(follows) = act.said().follows else {
            return Ok(());
        };
        let id = follows.message;
        let mut batch = store::SpoolBatch::new();
        let key = [id.as_bytes(), &act.digest().as_bytes()[..]].concat();
        batch.put(ACTS, &key, &act.encode());
        batch.remove(REVIEWS, id.as_bytes());
        self.apply(batch)
    }

    /// The acts on a message that followed its first, in no order.
    pub(crate) fn acts(&self, of: MessageId) -> Result<Vec<SignedAct>, Failure> {
        let rows = self.0.range(ACTS, of.as_bytes()).map_err(broken)?;
        rows.iter()
            .map(|(_, v)| SignedAct::decode(v).map_err(broken))
            .collect()
    }

    pub(crate) fn put_statement(&self, of: &Digest, s: &Statement) -> Result<(), Failure> {
        self.put(STATEMENTS, of.as_bytes(), &json(s)?)
    }

    pub(crate) fn statement(&self, of: &Digest) -> Result<Option<Statement>, Failure> {
        let row = self.0.get(STATEMENTS, of.as_bytes()).map_err(broken)?;
        row.map(|r| parse(&r)).transpose()
    }

    /// Statements that the broker has not answered, by the digests of their frames.
    pub(crate) fn unanswered(&self) -> Result<Vec<(Digest, Bytes)>, Failure> {
        let rows = self.0.range(STATEMENTS, &[]).map_err(broken)?;
        let mut all = vec![];
        for (_, row) in rows {
            let statement: Statement = parse(&row)?;
            if statement.verdict.is_none() {
                let frame = statement.frame()?;
                all.push((sha256(&[&frame]), frame));
            }
        }
        Ok(all)
    }

    pub(crate) fn put_review(&self, id: MessageId, review: &Review) -> Result<(), Failure> {
        self.put(REVIEWS, id.as_bytes(), &json(review)?)
    }

    pub(crate) fn reviews(&self) -> Result<Vec<(MessageId, Review)>, Failure> {
        let rows = self.0.range(REVIEWS, &[]).map_err(broken)?;
        rows.iter().map(|(k, v)| Ok((id(k)?, parse(v)?))).collect()
    }

    pub(crate) fn put_told(&self, id: MessageId, of: &Digest, told: &Told) -> Result<(), Failure> {
        let key = [&id.as_bytes()[..], of.as_bytes()].concat();
        self.put(TOLD, &key, &json(told)?)
    }

    /// What the broker told us of a message, in the order of its clock.
    pub(crate) fn told_of(&self, id: MessageId) -> Result<Vec<Told>, Failure> {
        let rows = self.0.range(TOLD, id.as_bytes()).map_err(broken)?;
        let mut all: Vec<Told> = rows
            .iter()
            .map(|(_, v)| parse(v))
            .collect::<Result<_, _>>()?;
        all.sort_by_key(|t| t.at);
        Ok(all)
    }

    /// What the broker told us of any message.
    pub(crate) fn told(&self) -> Result<Vec<(MessageId, Told)>, Failure> {
        let rows = self.0.range(TOLD, &[]).map_err(broken)?;
        rows.iter()
            .map(|(k, v)| Ok((id(k.get(..16).unwrap_or_default())?, parse(v)?)))
            .collect()
    }

    /// Notes the broker's decision; the message leaves the outbox. A draft that was accepted is gone; one that was refused is a draft again.
    pub(crate) fn decided(&self, id: MessageId, verdict: Verdict) -> Result<(), Failure> {
        let Some(mut sent) = self.sent(id)? else {
            return Ok(());
        };
        let mut batch = store::SpoolBatch::new();
        if let Some(of) = sent.draft
            && let Some(mut draft) = self.draft(of)?
            && draft.sent == Some(id)
        {
            draft.sent = None;
            match verdict {
                Verdict::Accepted { .. } => batch.remove(DRAFTS, of.as_bytes()),
                Verdict::Refused { .. } if draft.once => {
                    // What nobody can open any more is no draft again.
                    batch.remove(DRAFTS, of.as_bytes());
                    sent.draft = None;
                }
                Verdict::Refused { .. } => batch.put(DRAFTS, of.as_bytes(), &json(&draft)?),
            }
        }
        sent.verdict = Some(verdict);
        batch.put(SENT, id.as_bytes(), &json(&sent)?);
        batch.remove(OUTBOX, id.as_bytes());
        self.apply(batch)
    }

    pub(crate) fn sent(&self, id: MessageId) -> Result<Option<Sent>, Failure> {
        let row = self.0.get(SENT, id.as_bytes()).map_err(broken)?;
        row.map(|r| parse(&r)).transpose()
    }

    pub(crate) fn all_sent(&self) -> Result<Vec<(MessageId, Sent)>, Failure> {
        let rows = self.0.range(SENT, &[]).map_err(broken)?;
        rows.iter().map(|(k, v)| Ok((id(k)?, parse(v)?))).collect()
    }

    pub(crate) fn outgoing(&self, id: MessageId) -> Result<Option<Bytes>, Failure> {
        let row = self.0.get(OUTBOX, id.as_bytes()).map_err(broken)?;
        Ok(row.map(Bytes::from))
    }

    /// What the outbox holds, read once at the start.
    pub(crate) fn outbox(&self) -> Result<Vec<Envelope>, Failure> {
        let rows = self.0.range(OUTBOX, &[]).map_err(broken)?;
        rows.iter()
            .map(|(_, v)| Envelope::decode(v).map_err(broken))
            .collect()
    }

    /// Keeps a message that arrived and the receipt it is owed, together.
    pub(crate) fn arrive(
        &self,
        envelope: &Envelope,
        arrived: &Arrived,
        belief: &Belief,
        receipt: &SignedReceipt,
        grant: &Granted,
    ) -> Result<(), Failure> {
        let id = envelope.header().id;
        let mut batch = store::SpoolBatch::new();
        self.keep_grant(envelope.header(), arrived.received, grant, &mut batch)?;
        let held = arrived.belief.as_bytes();
        if self.0.get(BELIEFS, held).map_err(broken)?.is_none() {
            batch.put(BELIEFS, held, &json(belief)?);
        }
        batch.put(INBOX, id.as_bytes(), &envelope.encode());
        batch.put(ARRIVED, id.as_bytes(), &json(arrived)?);
        batch.put(OWED, &key(&receipt_key(receipt.said())), &receipt.encode());
        self.apply(batch)
    }

    pub(crate) fn arrived(&self, id: MessageId) -> Result<Option<Arrived>, Failure> {
        let row = self.0.get(ARRIVED, id.as_bytes()).map_err(broken)?;
        row.map(|r| parse(&r)).transpose()
    }

    /// The originator took a message back.
    pub(crate) fn recalled(&self, id: MessageId, arrived: &Arrived) -> Result<(), Failure> {
        self.put(ARRIVED, id.as_bytes(), &json(arrived)?)
    }

    pub(crate) fn belief(&self, digest: &Digest) -> Result<Belief, Failure> {
        let row = self.0.get(BELIEFS, digest.as_bytes()).map_err(broken)?;
        parse(&row.ok_or_else(|| broken("what a message was believed by is not in the spool"))?)
    }

    pub(crate) fn incoming(&self, id: MessageId) -> Result<Option<Envelope>, Failure> {
        let row = self.0.get(INBOX, id.as_bytes()).map_err(broken)?;
        row.map(|r| Envelope::decode(&r).map_err(broken))
            .transpose()
    }

    pub(crate) fn inbox(&self) -> Result<Vec<(Envelope, Arrived)>, Failure> {
        let rows = self.0.range(INBOX, &[]).map_err(broken)?;
        rows.iter()
            .map(|(k, v)| {
                let arrived = self
                    .arrived(id(k)?)?
                    .ok_or_else(|| broken("a message of the inbox has no row of its arrival"))?;
                Ok((Envelope::decode(v).map_err(broken)?, arrived))
            })
            .collect()
    }

    /// Keeps a receipt of ours until the broker has it; an *opened* one also marks the message.
    pub(crate) fn owe(&self, receipt: &SignedReceipt) -> Result<(), Failure> {
        let r = receipt.said();
        let mut batch = store::SpoolBatch::new();
        if r.kind.is_of_reader()
            && let Some(mut arrived) = self.arrived(r.message)?
        {
            arrived.opened = true;
            batch.put(ARRIVED, r.message.as_bytes(), &json(&arrived)?);
        }
        batch.put(OWED, &key(&receipt_key(r)), &receipt.encode());
        self.apply(batch)
    }

    /// Removes a message and keeps the receipt that says so. That it arrived is remembered, so that it does not come in again.
    pub(crate) fn destroy(&self, id: MessageId, receipt: &SignedReceipt) -> Result<(), Failure> {
        let mut batch = store::SpoolBatch::new();
        batch.remove(INBOX, id.as_bytes());
        batch.remove(GRANTED, id.as_bytes());
        batch.put(OWED, &key(&receipt_key(receipt.said())), &receipt.encode());
        self.apply(batch)
    }

    pub(crate) fn owed(&self) -> Result<Vec<(ReceiptKey, Bytes)>, Failure> {
        let rows = self.0.range(OWED, &[]).map_err(broken)?;
        rows.into_iter()
            .map(|(_, v)| {
                let r = SignedReceipt::decode(&v).map_err(broken)?;
                Ok((receipt_key(r.said()), v.into()))
            })
            .collect()
    }

    pub(crate) fn paid(&self, of: &ReceiptKey) -> Result<(), Failure> {
        let mut batch = store::SpoolBatch::new();
        batch.remove(OWED, &key(of));
        self.apply(batch)
    }

    /// Keeps a receipt for a message of ours.
    pub(crate) fn receipted(&self, receipt: &SignedReceipt) -> Result<(), Failure> {
        let mut batch = store::SpoolBatch::new();
        batch.put(
            RECEIPTS,
            &key(&receipt_key(receipt.said())),
            &receipt.encode(),
        );
        self.apply(batch)
    }

    pub(crate) fn receipts(&self, of: MessageId) -> Result<Vec<Receipt>, Failure> {
        let rows = self.0.range(RECEIPTS, of.as_bytes()).map_err(broken)?;
        rows.iter()
            .map(|(_, v)| {
                SignedReceipt::decode(v)
                    .map(|r| r.said().clone())
                    .map_err(broken)
            })
            .collect()
    }

    /// Takes over the broker's directory.
    pub(crate) fn list(&self, entries: &[DirectoryEntry]) -> Result<(), Failure> {
        let mut batch = store::SpoolBatch::new();
        let now: Vec<&[u8]> = entries.iter().map(|e| e.name.as_str().as_bytes()).collect();
        for (k, _) in self.0.range(DIRECTORY, &[]).map_err(broken)? {
            if !now.contains(&k.as_slice()) {
                batch.remove(DIRECTORY, &k);
            }
        }
        for e in entries {
            let listed = Listed {
                title: e.title.clone(),
                package: e.package.as_ref().map(|p| BASE64.encode(p)),
            };
            batch.put(DIRECTORY, e.name.as_str().as_bytes(), &json(&listed)?);
        }
        self.apply(batch)
    }

    pub(crate) fn listed(&self, name: &Name) -> Result<Option<Listed>, Failure> {
        let row = self.0.get(DIRECTORY, name.as_str().as_bytes());
        row.map_err(broken)?.map(|r| parse(&r)).transpose()
    }

    pub(crate) fn directory(&self) -> Result<Vec<(String, Listed)>, Failure> {
        let rows = self.0.range(DIRECTORY, &[]).map_err(broken)?;
        rows.iter()
            .map(|(k, v)| Ok((String::from_utf8_lossy(k).into_owned(), parse(v)?)))
            .collect()
    }

    /// The newest checkpoint the broker gave.
    pub(crate) fn checkpoint(&self) -> Result<Option<String>, Failure> {
        let row = self.0.get(STATE, b"checkpoint").map_err(broken)?;
        Ok(row.and_then(|r| String::from_utf8(r).ok()))
    }

    pub(crate) fn put_checkpoint(&self, text: &str) -> Result<(), Failure> {
        self.put_state(b"checkpoint", text.as_bytes())
    }

    /// The key of the broker's log that was shown first.
    pub(crate) fn log_key(&self) -> Result<Option<String>, Failure> {
        let row = self.0.get(STATE, b"log-key").map_err(broken)?;
        Ok(row.and_then(|r| String::from_utf8(r).ok()))
    }

    pub(crate) fn put_log_key(&self, text: &str) -> Result<(), Failure> {
        self.put_state(b"log-key", text.as_bytes())
    }

    /// Why the broker's log is in doubt.
    pub(crate) fn doubt(&self) -> Result<Option<String>, Failure> {
        let row = self.0.get(STATE, b"doubt").map_err(broken)?;
        Ok(row.and_then(|r| String::from_utf8(r).ok()))
    }

    pub(crate) fn put_doubt(&self, what: &str) -> Result<(), Failure> {
        self.put_state(b"doubt", what.as_bytes())
    }

    /// The newest evidence against it.
    pub(crate) fn fork(&self) -> Result<Option<Fork>, Failure> {
        let row = self.0.get(STATE, b"fork").map_err(broken)?;
        row.map(|r| parse(&r)).transpose()
    }

    pub(crate) fn put_fork(&self, fork: &Fork) -> Result<(), Failure> {
        self.put_state(b"fork", &json(fork)?)
    }

    /// Forgets all that was remembered of the broker's log.
    pub(crate) fn forget_log(&self) -> Result<(), Failure> {
        let mut batch = store::SpoolBatch::new();
        for key in [&b"checkpoint"[..], b"log-key", b"doubt", b"fork"] {
            batch.remove(STATE, key);
        }
        self.apply(batch)
    }

    /// The key package we offer.
    pub(crate) fn package(&self) -> Result<Option<Bytes>, Failure> {
        let row = self.0.get(STATE, b"package").map_err(broken)?;
        Ok(row.map(Bytes::from))
    }

    pub(crate) fn put_package(&self, package: &[u8]) -> Result<(), Failure> {
        self.put_state(b"package", package)
    }

    /// Keeps the key package of a person here, in the place of an older one.
    pub(crate) fn put_persons_package(&self, package: &SignedKeyPackage) -> Result<(), Failure> {
        let name = package.said().name.as_str();
        self.put(PACKAGES, name.as_bytes(), &package.encode())
    }

    /// The key packages of persons here that live at a time; the others are removed.
    pub(crate) fn persons_packages(&self, now: Timestamp) -> Result<Vec<Bytes>, Failure> {
        let (mut live, mut over) = (vec![], store::SpoolBatch::new());
        let mut ended = false;
        for (name, row) in self.0.range(PACKAGES, &[]).map_err(broken)? {
            let package = SignedKeyPackage::decode(&row).map_err(broken)?;
            if package.said().not_after > now {
                live.push(row.into());
            } else {
                over.remove(PACKAGES, &name);
                ended = true;
            }
        }
        if ended {
            self.apply(over)?;
        }
        Ok(live)
    }

    /// A person destroyed a copy while others here still have theirs: the sealed message stays for them.
    pub(crate) fn destroyed_by(
        &self,
        id: MessageId,
        arrived: &Arrived,
        receipt: &SignedReceipt,
    ) -> Result<(), Failure> {
        let mut batch = store::SpoolBatch::new();
        batch.put(ARRIVED, id.as_bytes(), &json(arrived)?);
        batch.put(OWED, &key(&receipt_key(receipt.said())), &receipt.encode());
        self.apply(batch)
    }

    /// The newest time that was believed.
    pub(crate) fn clock(&self) -> Result<Option<Timestamp>, Failure> {
        let row = self.0.get(STATE, b"clock").map_err(broken)?;
        row.map(|r| parse(&r)).transpose()
    }

    pub(crate) fn put_clock(&self, now: Timestamp) -> Result<(), Failure> {
        self.put_state(b"clock", &json(&now)?)
    }

    fn put_state(&self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        self.put(STATE, key, value)
    }

    /// Writes, and ends the daemon where that fails: the database takes nothing more until it is opened again, and what was given out is in it.
    fn apply(&self, batch: store::SpoolBatch) -> Result<(), Failure> {
        self.0.apply(batch).map_err(|e| {
            self.1.cancel();
            unwritable(&e.to_string())
        })
    }

    /// Waits until a write has failed.
    pub(crate) async fn failed(&self) -> Failure {
        self.1.cancelled().await;
        unwritable("a write has failed")
    }

    fn put(&self, table: &'static str, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        let mut batch = store::SpoolBatch::new();
        batch.put(table, key, value);
        self.apply(batch)
    }
}

impl Listed {
    /// The key package, where it was published and has the right form. Its signature is checked at each use.
    pub(crate) fn package(&self) -> Option<SignedKeyPackage> {
        let bytes = BASE64.decode(self.package.as_ref()?.as_bytes()).ok()?;
        SignedKeyPackage::decode(&bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Sent {
        Sent {
            envelope: ordonnans_message::sha256(&[b"e"]),
            precedence: Precedence::Flash,
            created: Timestamp::from_millis(1),
            expires: Timestamp::from_millis(2),
            label: "Ongerubriceerd".into(),
            to: vec![],
            reply_by: None,
            recipients: vec![],
            act: None,
            passed: None,
            exercise: false,
            draft: None,
            verdict: None,
        }
    }

    #[test]
    fn what_was_kept_is_there_after_a_reopening() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("spool.redb");
        let id = MessageId::new(Timestamp::from_millis(1), [7; 10]);
        let spool = Spool::open(&path).expect("opens");
        let mut batch = store::SpoolBatch::new();
        batch.put(OUTBOX, id.as_bytes(), b"an envelope");
        batch.put(SENT, id.as_bytes(), &json(&sent()).expect("json"));
        spool.0.apply(batch).expect("applied");
        spool.put_checkpoint("text").expect("kept");
        assert!(Spool::open(&path).is_err(), "one process at a time");
        drop(spool);
        let spool = Spool::open(&path).expect("opens");
        assert_eq!(
            spool.outgoing(id).expect("read"),
            Some(Bytes::from_static(b"an envelope"))
        );
        assert_eq!(spool.checkpoint().expect("read"), Some("text".into()));
        let verdict = Verdict::Accepted {
            at: Timestamp::from_millis(2),
            sequence: 9,
        };
        spool.decided(id, verdict.clone()).expect("kept");
        drop(spool);
        let spool = Spool::open(&path).expect("opens");
        assert_eq!(spool.outgoing(id).expect("read"), None);
        let kept = spool.sent(id).expect("read").expect("there");
        assert_eq!(kept.verdict, Some(verdict));
    }
}
