//! Frames: what the two ends of a connection say to each other. `docs/wire.md` lists them as numbered tables.
//!
//! A frame is a CBOR array `[kind, …]`; on a stream its length stands before it, four bytes big-endian.

use std::fmt;

use bytes::Bytes;
use ordonnans_label::{Label, Level, MAX_EVENT_CHARS, Name};

use crate::asking::{read_addressees, write_addressees};
use crate::cbor::{DecodeError, Reader, Writer, exactly};
use crate::group::{Group, Members};
use crate::header::{digest, message_id, name, time};
use crate::inspecting::{AuditQuery, ProofOf, Readers, level};
use crate::label::{decode_label, encode_label};
use crate::notice::News;
use crate::receipt::ReceiptKind;
use crate::{Addressee, Digest, ExplainedRule, MessageId, Supposed, Timestamp, limits, sha256};

/// Version of the protocol both ends state first.
pub const PROTOCOL_VERSION: u16 = 1;

/// Why something was not done. The numbers stand in `docs/wire.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ReplyCode {
    /// The bytes have not the documented form.
    Malformed = 1,
    /// A signature, certificate or digest is not right.
    NotAuthentic = 2,
    /// Policy forbids it; the rule says why.
    NotPermitted = 3,
    /// A recipient is not in the register.
    UnknownRecipient = 4,
    /// Something is above its limit.
    TooLarge = 5,
    /// The message has expired.
    Expired = 6,
    /// Full for the moment; nothing was stored. Try again after the stated time.
    Busy = 7,
    /// Another message has this id.
    Conflict = 8,
    /// This version does not know it.
    Unsupported = 9,
    /// The broker is stopping. Try again later.
    Stopping = 10,
    /// An attachment of the message is not here; send it first.
    AttachmentMissing = 11,
}

impl ReplyCode {
    /// The number in encodings.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The code of a number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        use ReplyCode::{
            AttachmentMissing, Busy, Conflict, Expired, Malformed, NotAuthentic, NotPermitted,
            Stopping, TooLarge, UnknownRecipient, Unsupported,
        };
        [
            Malformed,
            NotAuthentic,
            NotPermitted,
            UnknownRecipient,
            TooLarge,
            Expired,
            Busy,
            Conflict,
            Unsupported,
            Stopping,
            AttachmentMissing,
        ]
        .into_iter()
        .find(|c| c.code() == code)
    }
}

/// One line of the directory that nodes get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Who.
    pub name: Name,
    /// The organisation, for people.
    pub title: String,
    /// The signed key package, once the node has published one.
    pub package: Option<Bytes>,
}

/// The head of a stream of attachment bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkHead {
    /// Which attachment: BLAKE3 of its sealed bytes.
    pub digest: Digest,
    /// The first byte that follows.
    pub offset: u64,
}

impl BulkHead {
    /// The one byte form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::default();
        self.write(&mut w);
        w.into_bytes().into()
    }

    /// Reads a head.
    ///
    /// # Errors
    /// [`DecodeError`]; the stream is of no use.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let read = |r: &mut Reader<'_>| {
            r.tuple("bulk head", 2)?;
            Ok(Self {
                digest: digest(r, "attachment")?,
                offset: r.uint("offset", limits::MAX_ATTACHMENT)?,
            })
        };
        exactly(bytes, read, Self::write)
    }

    fn write(&self, w: &mut Writer) {
        w.array(2).bytes(self.digest.as_bytes()).uint(self.offset);
    }
}

/// A frame.
#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    /// 1, to the broker, first: version, and the last checkpoint this end keeps.
    Hello {
        /// Protocol version.
        version: u16,
        /// Text of the checkpoint.
        checkpoint: Option<String>,
    },
    /// 2, from the broker, first: who it is, its newest checkpoint, and the proof that this continues the one of the greeting.
    Welcome {
        /// The broker.
        broker: Name,
        /// Text of the checkpoint.
        checkpoint: Option<String>,
        /// The key it is verified by, as C2SP signed-note writes it.
        key: String,
        /// Consistency proof (RFC 9162 section 2.1.4) from the greeting's size; empty where there is none to give.
        proof: Vec<Digest>,
    },
    /// 3, to the broker: a message.
    Publish {
        /// The encoded envelope.
        envelope: Bytes,
    },
    /// 4, from the broker: the message is durable and will be delivered.
    Accepted {
        /// The message.
        id: MessageId,
        /// When, by the broker's clock.
        at: Timestamp,
        /// Sequence number of the audit record.
        sequence: u64,
    },
    /// 5, from the broker: it will not be.
    Refused {
        /// The message, where it could be read.
        id: Option<MessageId>,
        /// Why.
        code: ReplyCode,
        /// The policy rule.
        rule: Option<u16>,
        /// The recipient it failed for.
        recipient: Option<Name>,
        /// When to try again, in milliseconds.
        retry_after_ms: Option<u32>,
    },
    /// 6, from the broker: a message for this node.
    Deliver {
        /// The encoded envelope.
        envelope: Bytes,
    },
    /// 7, both ways: a signed receipt, from a recipient to the broker and from there to the originator.
    Receipt {
        /// The encoded receipt.
        receipt: Bytes,
    },
    /// 8, both ways: the receipt is durable; it need not be sent again.
    ReceiptStored {
        /// The message.
        id: MessageId,
        /// What the receipt said.
        kind: ReceiptKind,
        /// Who said so.
        by: Name,
    },
    /// 9, to the broker: the key this node wants content sealed to.
    KeyPackage {
        /// The encoded key package.
        package: Bytes,
    },
    /// 10, from the broker: the key package is durable.
    KeyPackageStored,
    /// 11, to the broker: the directory, please.
    DirectoryGet,
    /// 12, from the broker: the directory, or a part of it.
    Directory {
        /// Version of the register.
        version: u64,
        /// The entries.
        entries: Vec<DirectoryEntry>,
        /// Whether the next part follows in a frame of its own.
        more: bool,
    },
    /// 13, to the broker: an attachment will come.
    AttachmentOffer {
        /// SHA-256 of the sealed bytes.
        digest: Digest,
        /// Number of sealed bytes.
        length: u64,
    },
    /// 14, from the broker: so much of it is there; all of it means it is durable.
    AttachmentState {
        /// SHA-256 of the sealed bytes.
        digest: Digest,
        /// Bytes held.
        have: u64,
    },
    /// 15, to the broker: send the attachment from this byte on.
    AttachmentGet {
        /// SHA-256 of the sealed bytes.
        digest: Digest,
        /// First byte wanted.
        offset: u64,
    },
    /// 16, to the broker, from officers: records of the audit log.
    AuditGet {
        /// Number the answer will carry.
        request: u32,
        /// Which.
        query: Box<AuditQuery>,
    },
    /// 17, from the broker: public parts, and the details this officer may see (salt and detail), in the same order.
    AuditPage {
        /// The number of the request.
        request: u32,
        /// Encoded public parts.
        records: Vec<Bytes>,
        /// Salt and encoded detail, where the officer's clearance covers it.
        details: Vec<Option<Bytes>>,
        /// Newest checkpoint, text.
        checkpoint: Option<String>,
        /// Where to go on: everything before it that was asked for is here. `None` at the end of the log.
        next: Option<u64>,
    },
    /// 18, to the broker: which labels may this node use to these?
    CatalogGet {
        /// Number the answer will carry.
        request: u32,
        /// To whom, 1 to [`limits::MAX_RECIPIENTS`].
        to: Vec<Addressee>,
    },
    /// 19, from the broker: level and categories this node may use, at most [`limits::MAX_CATALOG`].
    Catalog {
        /// The number of the request.
        request: u32,
        /// Each proposed and without a duration.
        labels: Vec<Label>,
    },
    /// 20, to the broker, from officers: every rule for a message that is only thought of.
    ExplainGet {
        /// Number the answer will carry.
        request: u32,
        /// The message.
        about: Box<Supposed>,
    },
    /// 21, from the broker: the rules in the order of asking, at most [`limits::MAX_STEPS`].
    Explanation {
        /// The number of the request.
        request: u32,
        /// The rules.
        rules: Vec<ExplainedRule>,
    },
    /// 22, either way: a vaststeller's act that revises or ends a label, to the broker, and from there to every holder of a copy.
    Act {
        /// The signed act.
        act: Bytes,
    },
    /// 23, to the broker: an event has happened.
    Declare {
        /// The signed declaration.
        declaration: Bytes,
    },
    /// 24, from the broker, to the vaststeller's node: the label of a message is due for review. Its level stays in force.
    ReviewDue {
        /// The message.
        id: MessageId,
        /// The vaststeller.
        by: Name,
        /// The event that happened; `None` where its day has passed.
        event: Option<Box<str>>,
    },
    /// 25, either way: a frame of 22 to 24, 33, 36 or 39 is kept and need not be said again.
    Kept {
        /// SHA-256 of that frame: [`Frame::digest`].
        of: Digest,
    },
    /// 26, from the broker: a frame of 22, 23 or 39 changed nothing.
    NotKept {
        /// SHA-256 of that frame.
        of: Digest,
        /// Why.
        code: ReplyCode,
        /// The rule, where one forbids it.
        rule: Option<u16>,
    },
    /// 27, to the broker, from officers: records as they are made, in frames of 17, until the connection ends.
    WatchGet {
        /// Number the answers will carry.
        request: u32,
        /// Which; `limit` says nothing here.
        query: Box<AuditQuery>,
    },
    /// 28, to the broker: a proof. Nodes get those of consistency, officers both.
    ProofGet {
        /// Number the answer will carry.
        request: u32,
        /// Which.
        of: ProofOf,
    },
    /// 29, from the broker: the proof.
    Proof {
        /// The number of the request.
        request: u32,
        /// Its hashes, leaf to root; `None` where there is none, because the log is not so long.
        hashes: Option<Vec<Digest>>,
    },
    /// 30, to the broker, from officers: sign the log as it is now.
    CheckpointGet {
        /// Number the answer will carry.
        request: u32,
    },
    /// 31, from the broker: a checkpoint; to nodes each new one, unasked, so that they keep and countersign it.
    Checkpoint {
        /// The number of the request, where there was one.
        request: Option<u32>,
        /// Its text.
        checkpoint: String,
        /// Consistency proof from the checkpoint sent on this connection before.
        proof: Vec<Digest>,
    },
    /// 32, to the broker, from nodes: a countersignature (C2SP tlog-cosignature).
    Cosign {
        /// The witness's key, as C2SP signed-note writes it.
        key: String,
        /// Size of the checkpoint.
        size: u64,
        /// The signature line, without its end.
        line: String,
    },
    /// 33, to the broker: a signed order of an officer; answered by 25 or 26.
    Order {
        /// The signed order.
        order: Bytes,
    },
    /// 34, to the broker, from officers: who at these nodes could read something of a level.
    ReadersGet {
        /// Number the answer will carry.
        request: u32,
        /// The nodes, at most [`limits::MAX_RECIPIENTS`].
        nodes: Vec<Name>,
        /// The level.
        level: Level,
    },
    /// 35, from the broker: a row for each node that the register knows.
    Readers {
        /// The number of the request.
        request: u32,
        /// The rows.
        rows: Vec<Readers>,
    },
    /// 36, from the broker: something about a message that this node sent, has, or looks after; answered by 25.
    Notice {
        /// The message.
        id: MessageId,
        /// Who sent it.
        originator: Name,
        /// When, by the broker's clock.
        at: Timestamp,
        /// What.
        news: News,
    },
    /// 37, to the broker: who of these groups may have a message of this label?
    ExpandGet {
        /// Number the answer will carry.
        request: u32,
        /// The groups, 1 to [`limits::MAX_GROUPS`].
        groups: Vec<Group>,
        /// The label.
        label: Box<Label>,
    },
    /// 38, from the broker: for each group its members; `None` where the register has no such group.
    Expanded {
        /// The number of the request.
        request: u32,
        /// In the order of the question.
        groups: Vec<Option<Members>>,
    },
    /// 39, to the broker, from nodes: a request for this node's next certificate; answered by 25 or 26.
    RenewalAsk {
        /// The request (PKCS#10, DER), at most [`limits::MAX_REQUEST`] bytes.
        request: Bytes,
        /// What the key of the certificate that the node shows on this connection has signed of it: r and s.
        signature: Bytes,
    },
    /// 40, from the broker: the certificate that this node has asked for. It is said again until the node shows it.
    Renewed {
        /// The certificate, DER.
        certificate: Bytes,
    },
}

impl Frame {
    /// The one byte form, without the length before it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::default();
        self.write(&mut w);
        w.into_bytes().into()
    }

    /// What names it in an answer: SHA-256 of its one byte form.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(&[&self.encode()])
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`DecodeError`] names the part; the connection should be closed.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > limits::MAX_FRAME {
            return Err(DecodeError::Limit("frame"));
        }
        exactly(bytes, Self::read, |f, w| f.write(w))
    }

    fn kind(&self) -> u64 {
        match self {
            Self::Hello { .. } => 1,
            Self::Welcome { .. } => 2,
            Self::Publish { .. } => 3,
            Self::Accepted { .. } => 4,
            Self::Refused { .. } => 5,
            Self::Deliver { .. } => 6,
            Self::Receipt { .. } => 7,
            Self::ReceiptStored { .. } => 8,
            Self::KeyPackage { .. } => 9,
            Self::KeyPackageStored => 10,
            Self::DirectoryGet => 11,
            Self::Directory { .. } => 12,
            Self::AttachmentOffer { .. } => 13,
            Self::AttachmentState { .. } => 14,
            Self::AttachmentGet { .. } => 15,
            Self::AuditGet { .. } => 16,
            Self::AuditPage { .. } => 17,
            Self::CatalogGet { .. } => 18,
            Self::Catalog { .. } => 19,
            Self::ExplainGet { .. } => 20,
            Self::Explanation { .. } => 21,
            Self::Act { .. } => 22,
            Self::Declare { .. } => 23,
            Self::ReviewDue { .. } => 24,
            Self::Kept { .. } => 25,
            Self::NotKept { .. } => 26,
            Self::WatchGet { .. } => 27,
            Self::ProofGet { .. } => 28,
            Self::Proof { .. } => 29,
            Self::CheckpointGet { .. } => 30,
            Self::Checkpoint { .. } => 31,
            Self::Cosign { .. } => 32,
            Self::Order { .. } => 33,
            Self::ReadersGet { .. } => 34,
            Self::Readers { .. } => 35,
            Self::Notice { .. } => 36,
            Self::ExpandGet { .. } => 37,
            Self::Expanded { .. } => 38,
            Self::RenewalAsk { .. } => 39,
            Self::Renewed { .. } => 40,
        }
    }

    fn write(&self, w: &mut Writer) {
        let head = |w: &mut Writer, n: usize| {
            w.array(n + 1).uint(self.kind());
        };
        let text = |w: &mut Writer, t: &Option<String>| {
            w.option(t.as_deref(), |w, t| {
                w.text(t);
            });
        };
        match self {
            Self::Hello {
                version,
                checkpoint,
            } => {
                head(w, 2);
                text(w.uint((*version).into()), checkpoint);
            }
            Self::Welcome {
                broker,
                checkpoint,
                key,
                proof,
            } => {
                head(w, 4);
                text(w.text(broker.as_str()), checkpoint);
                write_hashes(w.text(key), proof);
            }
            Self::Publish { envelope: b }
            | Self::Deliver { envelope: b }
            | Self::Receipt { receipt: b }
            | Self::KeyPackage { package: b } => {
                head(w, 1);
                w.bytes(b);
            }
            Self::Accepted { id, at, sequence } => {
                head(w, 3);
                w.bytes(id.as_bytes()).uint(at.as_millis()).uint(*sequence);
            }
            Self::Refused {
                id,
                code,
                rule,
                recipient,
                retry_after_ms,
            } => {
                head(w, 5);
                w.option(id.as_ref(), |w, id| {
                    w.bytes(id.as_bytes());
                })
                .uint(code.code().into());
                w.option(*rule, |w, n| {
                    w.uint(n.into());
                });
                w.option(recipient.as_ref(), |w, n| {
                    w.text(n.as_str());
                });
                w.option(*retry_after_ms, |w, n| {
                    w.uint(n.into());
                });
            }
            Self::ReceiptStored { id, kind, by } => {
                head(w, 3);
                w.bytes(id.as_bytes())
                    .uint(kind.code().into())
                    .text(by.as_str());
            }
            Self::KeyPackageStored | Self::DirectoryGet => head(w, 0),
            Self::Directory {
                version,
                entries,
                more,
            } => {
                head(w, 3);
                w.uint(*version).array(entries.len());
                for e in entries {
                    w.array(3).text(e.name.as_str()).text(&e.title);
                    w.option(e.package.as_ref(), |w, p| {
                        w.bytes(p);
                    });
                }
                w.bool(*more);
            }
            Self::AttachmentOffer { digest, length: n }
            | Self::AttachmentState { digest, have: n }
            | Self::AttachmentGet { digest, offset: n } => {
                head(w, 2);
                w.bytes(digest.as_bytes()).uint(*n);
            }
            Self::AuditGet { request, query } | Self::WatchGet { request, query } => {
                head(w, 2);
                query.write(w.uint((*request).into()));
            }
            Self::AuditPage {
                request,
                records,
                details,
                checkpoint,
                next,
            } => {
                head(w, 5);
                w.uint((*request).into()).array(records.len());
                for r in records {
                    w.bytes(r);
                }
                w.array(details.len());
                for d in details {
                    w.option(d.as_ref(), |w, d| {
                        w.bytes(d);
                    });
                }
                text(w, checkpoint);
                w.option(*next, |w, n| {
                    w.uint(n);
                });
            }
            Self::CatalogGet { request, to } => {
                head(w, 2);
                write_addressees(w.uint((*request).into()), to);
            }
            Self::Catalog { request, labels } => {
                head(w, 2);
                w.uint((*request).into()).array(labels.len());
                for l in labels {
                    encode_label(l, w);
                }
            }
            Self::ExplainGet { request, about } => {
                head(w, 5);
                about.write(w.uint((*request).into()));
            }
            Self::Explanation { request, rules } => {
                head(w, 2);
                w.uint((*request).into()).array(rules.len());
                for rule in rules {
                    rule.write(w);
                }
            }
            Self::Act { act: bytes }
            | Self::Declare { declaration: bytes }
            | Self::Order { order: bytes } => {
                head(w, 1);
                w.bytes(bytes);
            }
            Self::ReviewDue { id, by, event } => {
                head(w, 3);
                w.bytes(id.as_bytes()).text(by.as_str());
                w.option(event.as_deref(), |w, e| {
                    w.text(e);
                });
            }
            Self::Kept { of } => {
                head(w, 1);
                w.bytes(of.as_bytes());
            }
            Self::NotKept { of, code, rule } => {
                head(w, 3);
                w.bytes(of.as_bytes()).uint(code.code().into());
                w.option(*rule, |w, n| {
                    w.uint(n.into());
                });
            }
            Self::ProofGet { request, of } => {
                head(w, 2);
                of.write(w.uint((*request).into()));
            }
            Self::Proof { request, hashes } => {
                head(w, 2);
                w.uint((*request).into());
                w.option(hashes.as_deref(), write_hashes);
            }
            Self::CheckpointGet { request } => {
                head(w, 1);
                w.uint((*request).into());
            }
            Self::Checkpoint {
                request,
                checkpoint,
                proof,
            } => {
                head(w, 3);
                w.option(*request, |w, n| {
                    w.uint(n.into());
                });
                write_hashes(w.text(checkpoint), proof);
            }
            Self::Cosign { key, size, line } => {
                head(w, 3);
                w.text(key).uint(*size).text(line);
            }
            Self::ReadersGet {
                request,
                nodes,
                level,
            } => {
                head(w, 3);
                w.uint((*request).into()).array(nodes.len());
                for n in nodes {
                    w.text(n.as_str());
                }
                w.uint(level.code().into());
            }
            Self::Readers { request, rows } => {
                head(w, 2);
                w.uint((*request).into()).array(rows.len());
                for row in rows {
                    row.write(w);
                }
            }
            Self::Notice {
                id,
                originator,
                at,
                news,
            } => {
                head(w, 4);
                w.bytes(id.as_bytes()).text(originator.as_str());
                news.write(w.uint(at.as_millis()));
            }
            Self::ExpandGet {
                request,
                groups,
                label,
            } => {
                head(w, 3);
                w.uint((*request).into()).array(groups.len());
                groups.iter().for_each(|g| g.write(w));
                encode_label(label, w);
            }
            Self::Expanded { request, groups } => {
                head(w, 2);
                w.uint((*request).into()).array(groups.len());
                for members in groups {
                    w.option(members.as_ref(), |w, m| m.write(w));
                }
            }
            Self::RenewalAsk { request, signature } => {
                head(w, 2);
                w.bytes(request).bytes(signature);
            }
            Self::Renewed { certificate } => {
                head(w, 1);
                w.bytes(certificate);
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let n = r.array("frame", 6)?;
        let kind = r.uint("frame kind", u64::MAX)?;
        let fields = match kind {
            10 | 11 => 0,
            3 | 6 | 7 | 9 | 22 | 23 | 25 | 30 | 33 | 40 => 1,
            1 | 13 | 14 | 15 | 16 | 18 | 19 | 21 | 27 | 28 | 29 | 35 | 38 | 39 => 2,
            4 | 8 | 12 | 24 | 26 | 31 | 32 | 34 | 37 => 3,
            2 | 36 => 4,
            5 | 17 | 20 => 5,
            _ => return Err(DecodeError::Unknown("frame kind")),
        };
        if n != fields + 1 {
            return Err(DecodeError::Form("frame"));
        }
        let blob = |r: &mut Reader<'_>, max| r.bytes("frame", max).map(Bytes::copy_from_slice);
        let checkpoint = |r: &mut Reader<'_>| {
            r.option(|r| {
                r.text("checkpoint", limits::MAX_CHECKPOINT)
                    .map(str::to_owned)
            })
        };
        let small = |r: &mut Reader<'_>, what| {
            r.uint(what, u32::MAX.into())
                .map(|n| u32::try_from(n).unwrap_or(u32::MAX))
        };
        let short = |r: &mut Reader<'_>, what| {
            r.uint(what, u16::MAX.into())
                .map(|n| u16::try_from(n).unwrap_or(u16::MAX))
        };
        Ok(match kind {
            1 => Self::Hello {
                version: short(r, "version")?,
                checkpoint: checkpoint(r)?,
            },
            2 => Self::Welcome {
                broker: name(r, "broker")?,
                checkpoint: checkpoint(r)?,
                key: r.text("key", limits::MAX_VERIFIER)?.to_owned(),
                proof: read_hashes(r)?,
            },
            3 => Self::Publish {
                envelope: blob(r, limits::MAX_ENVELOPE)?,
            },
            4 => Self::Accepted {
                id: message_id(r)?,
                at: time(r, "time")?,
                sequence: r.uint("sequence", u64::MAX)?,
            },
            5 => Self::Refused {
                id: r.option(message_id)?,
                code: reply_code(r)?,
                rule: r.option(|r| short(r, "rule"))?,
                recipient: r.option(|r| name(r, "recipient"))?,
                retry_after_ms: r.option(|r| small(r, "retry time"))?,
            },
            6 => Self::Deliver {
                envelope: blob(r, limits::MAX_ENVELOPE)?,
            },
            7 => Self::Receipt {
                receipt: blob(r, limits::MAX_STATEMENT)?,
            },
            8 => Self::ReceiptStored {
                id: message_id(r)?,
                kind: u8::try_from(r.uint("receipt kind", u8::MAX.into())?)
                    .ok()
                    .and_then(ReceiptKind::from_code)
                    .ok_or(DecodeError::Unknown("receipt kind"))?,
                by: name(r, "signer")?,
            },
            9 => Self::KeyPackage {
                package: blob(r, limits::MAX_STATEMENT)?,
            },
            10 => Self::KeyPackageStored,
            11 => Self::DirectoryGet,
            12 => {
                let version = r.uint("version", u64::MAX)?;
                let n = r.array("directory", limits::MAX_DIRECTORY)?;
                let one = |r: &mut Reader<'_>| {
                    r.tuple("directory entry", 3)?;
                    let name = name(r, "directory entry")?;
                    let title = r.text("title", 4 * limits::MAX_TEXT)?.to_owned();
                    Ok(DirectoryEntry {
                        name,
                        title,
                        package: r.option(|r| blob(r, limits::MAX_STATEMENT))?,
                    })
                };
                Self::Directory {
                    version,
                    entries: (0..n).map(|_| one(r)).collect::<Result<_, _>>()?,
                    more: r.bool("more")?,
                }
            }
            13 => Self::AttachmentOffer {
                digest: digest(r, "attachment")?,
                length: r.uint("attachment", limits::MAX_ATTACHMENT)?,
            },
            14 => Self::AttachmentState {
                digest: digest(r, "attachment")?,
                have: r.uint("attachment", limits::MAX_ATTACHMENT)?,
            },
            15 => Self::AttachmentGet {
                digest: digest(r, "attachment")?,
                offset: r.uint("attachment", limits::MAX_ATTACHMENT)?,
            },
            16 => Self::AuditGet {
                request: small(r, "request")?,
                query: Box::new(AuditQuery::read(r)?),
            },
            17 => {
                let request = small(r, "request")?;
                let n = r.array("records", limits::MAX_PAGE)?;
                let records = (0..n)
                    .map(|_| blob(r, limits::MAX_RECORD))
                    .collect::<Result<_, _>>()?;
                r.tuple("details", n)?;
                let details = (0..n)
                    .map(|_| r.option(|r| blob(r, limits::MAX_RECORD)))
                    .collect::<Result<_, _>>()?;
                Self::AuditPage {
                    request,
                    records,
                    details,
                    checkpoint: checkpoint(r)?,
                    next: r.option(|r| r.uint("sequence", u64::MAX))?,
                }
            }
            18 => Self::CatalogGet {
                request: small(r, "request")?,
                to: read_addressees(r, 1, limits::MAX_RECIPIENTS)?,
            },
            19 => {
                let request = small(r, "request")?;
                let n = r.array("labels", limits::MAX_CATALOG)?;
                Self::Catalog {
                    request,
                    labels: (0..n).map(|_| decode_label(r)).collect::<Result<_, _>>()?,
                }
            }
            20 => Self::ExplainGet {
                request: small(r, "request")?,
                about: Box::new(Supposed::read(r)?),
            },
            22 => Self::Act {
                act: blob(r, limits::MAX_ACT)?,
            },
            23 => Self::Declare {
                declaration: blob(r, limits::MAX_STATEMENT)?,
            },
            24 => Self::ReviewDue {
                id: message_id(r)?,
                by: name(r, "vaststeller")?,
                event: r.option(|r| r.text("event", 4 * MAX_EVENT_CHARS).map(Into::into))?,
            },
            25 => Self::Kept {
                of: digest(r, "frame digest")?,
            },
            26 => Self::NotKept {
                of: digest(r, "frame digest")?,
                code: reply_code(r)?,
                rule: r.option(|r| short(r, "rule"))?,
            },
            27 => Self::WatchGet {
                request: small(r, "request")?,
                query: Box::new(AuditQuery::read(r)?),
            },
            28 => Self::ProofGet {
                request: small(r, "request")?,
                of: ProofOf::read(r)?,
            },
            29 => Self::Proof {
                request: small(r, "request")?,
                hashes: r.option(read_hashes)?,
            },
            30 => Self::CheckpointGet {
                request: small(r, "request")?,
            },
            31 => Self::Checkpoint {
                request: r.option(|r| small(r, "request"))?,
                checkpoint: r.text("checkpoint", limits::MAX_CHECKPOINT)?.to_owned(),
                proof: read_hashes(r)?,
            },
            32 => Self::Cosign {
                key: r.text("key", limits::MAX_VERIFIER)?.to_owned(),
                size: r.uint("size", u64::MAX)?,
                line: r.text("signature line", limits::MAX_VERIFIER)?.to_owned(),
            },
            33 => Self::Order {
                order: blob(r, limits::MAX_STATEMENT)?,
            },
            34 => {
                let request = small(r, "request")?;
                let n = r.array("nodes", limits::MAX_RECIPIENTS)?;
                Self::ReadersGet {
                    request,
                    nodes: (0..n).map(|_| name(r, "node")).collect::<Result<_, _>>()?,
                    level: level(r)?,
                }
            }
            35 => {
                let request = small(r, "request")?;
                let n = r.array("readers", limits::MAX_RECIPIENTS)?;
                Self::Readers {
                    request,
                    rows: (0..n).map(|_| Readers::read(r)).collect::<Result<_, _>>()?,
                }
            }
            36 => Self::Notice {
                id: message_id(r)?,
                originator: name(r, "originator")?,
                at: time(r, "time")?,
                news: News::read(r)?,
            },
            37 => {
                let request = small(r, "request")?;
                let n = r.array("groups", limits::MAX_GROUPS)?;
                if n == 0 {
                    return Err(DecodeError::Form("groups"));
                }
                Self::ExpandGet {
                    request,
                    groups: (0..n).map(|_| Group::read(r)).collect::<Result<_, _>>()?,
                    label: Box::new(decode_label(r)?),
                }
            }
            38 => {
                let request = small(r, "request")?;
                let n = r.array("groups", limits::MAX_GROUPS)?;
                Self::Expanded {
                    request,
                    groups: (0..n)
                        .map(|_| r.option(Members::read))
                        .collect::<Result<_, _>>()?,
                }
            }
            39 => Self::RenewalAsk {
                request: blob(r, limits::MAX_REQUEST)?,
                signature: blob(r, limits::MAX_SIGNATURE)?,
            },
            40 => Self::Renewed {
                certificate: blob(r, limits::MAX_CERTIFICATE)?,
            },
            _ => {
                let request = small(r, "request")?;
                let n = r.array("rules", limits::MAX_STEPS)?;
                Self::Explanation {
                    request,
                    rules: (0..n)
                        .map(|_| ExplainedRule::read(r))
                        .collect::<Result<_, _>>()?,
                }
            }
        })
    }
}

fn write_hashes(w: &mut Writer, hashes: &[Digest]) {
    w.array(hashes.len());
    for h in hashes {
        w.bytes(h.as_bytes());
    }
}

fn read_hashes(r: &mut Reader<'_>) -> Result<Vec<Digest>, DecodeError> {
    let n = r.array("proof", limits::MAX_PROOF)?;
    (0..n).map(|_| digest(r, "proof")).collect()
}

fn reply_code(r: &mut Reader<'_>) -> Result<ReplyCode, DecodeError> {
    u8::try_from(r.uint("reply code", u8::MAX.into())?)
        .ok()
        .and_then(ReplyCode::from_code)
        .ok_or(DecodeError::Unknown("reply code"))
}

impl fmt::Debug for Frame {
    /// The kind alone: frames carry sealed content and details.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({})", self.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn every_kind() -> Vec<Frame> {
        let id = MessageId::new(Timestamp::from_millis(1), [1; 10]);
        let name: Name = "ncc.node.crisis.example".parse().expect("a name");
        let digest = crate::sha256(&[b"d"]);
        let b = Bytes::from_static(b"bytes");
        vec![
            Frame::Hello {
                version: 1,
                checkpoint: None,
            },
            Frame::Welcome {
                broker: name.clone(),
                checkpoint: Some("text\n".into()),
                key: "key".into(),
                proof: vec![digest],
            },
            Frame::Publish {
                envelope: b.clone(),
            },
            Frame::Accepted {
                id,
                at: Timestamp::from_millis(9),
                sequence: u64::MAX,
            },
            Frame::Refused {
                id: Some(id),
                code: ReplyCode::NotPermitted,
                rule: Some(7),
                recipient: Some(name.clone()),
                retry_after_ms: None,
            },
            Frame::Deliver {
                envelope: b.clone(),
            },
            Frame::Receipt { receipt: b.clone() },
            Frame::ReceiptStored {
                id,
                kind: ReceiptKind::Delivered,
                by: name.clone(),
            },
            Frame::KeyPackage { package: b.clone() },
            Frame::KeyPackageStored,
            Frame::DirectoryGet,
            Frame::Directory {
                version: 3,
                entries: vec![DirectoryEntry {
                    name: name.clone(),
                    title: "NCC".into(),
                    package: Some(b.clone()),
                }],
                more: true,
            },
            Frame::AttachmentOffer {
                digest,
                length: 1 << 30,
            },
            Frame::AttachmentState { digest, have: 0 },
            Frame::AttachmentGet {
                digest,
                offset: 65_536,
            },
            Frame::AuditGet {
                request: 4,
                query: Box::new(AuditQuery {
                    from: 0,
                    limit: 256,
                    message: Some(id),
                    since: Some(Timestamp::from_millis(7)),
                    until: None,
                    level: Some(Level::StgC),
                    verb: Some(3),
                    rule: None,
                    node: Some(name.clone()),
                    person: None,
                }),
            },
            Frame::AuditPage {
                request: 4,
                records: vec![b.clone(), b.clone()],
                details: vec![None, Some(b)],
                checkpoint: None,
                next: Some(9),
            },
            Frame::CatalogGet {
                request: 5,
                to: vec![Addressee {
                    node: name.clone(),
                    person: None,
                }],
            },
            Frame::Catalog {
                request: 5,
                labels: vec!["Dep.V // KRING ICCB".parse().expect("a label")],
            },
            Frame::ExplainGet {
                request: 6,
                about: Box::new(Supposed {
                    from: name.clone(),
                    to: vec![Addressee {
                        node: name.clone(),
                        person: None,
                    }],
                    label: "NATO SECRET".parse().expect("a label"),
                    at: Some(Timestamp::from_millis(7)),
                }),
            },
            Frame::Explanation {
                request: 6,
                rules: vec![ExplainedRule {
                    rule: 8,
                    recipient: Some(name.clone()),
                    holds: false,
                    fact: "é".repeat(limits::MAX_FACT),
                }],
            },
            Frame::Act {
                act: Bytes::from_static(b"a"),
            },
            Frame::Declare {
                declaration: Bytes::from_static(b"d"),
            },
            Frame::ReviewDue {
                id: MessageId::new(Timestamp::from_millis(1), [1; 10]),
                by: name.clone(),
                event: Some("einde incident".into()),
            },
            Frame::Kept {
                of: Digest::from([3; 32]),
            },
            Frame::NotKept {
                of: Digest::from([3; 32]),
                code: ReplyCode::NotPermitted,
                rule: Some(7),
            },
            Frame::WatchGet {
                request: 7,
                query: Box::default(),
            },
            Frame::ProofGet {
                request: 8,
                of: ProofOf::Inclusion {
                    sequence: 3,
                    size: 9,
                },
            },
            Frame::Proof {
                request: 8,
                hashes: Some(vec![digest, digest]),
            },
            Frame::CheckpointGet { request: 9 },
            Frame::Checkpoint {
                request: Some(9),
                checkpoint: "text".into(),
                proof: vec![digest],
            },
            Frame::Cosign {
                key: "key".into(),
                size: 9,
                line: "line".into(),
            },
            Frame::Order {
                order: Bytes::from_static(b"o"),
            },
            Frame::ReadersGet {
                request: 10,
                nodes: vec![name.clone()],
                level: Level::StgG,
            },
            Frame::Readers {
                request: 10,
                rows: vec![Readers {
                    node: name.clone(),
                    title: "NCC".into(),
                    rijksdienst: true,
                    on_line: false,
                    bva: Some("bva@ncc.example".into()),
                    persons: vec![name.clone()],
                }],
            },
            Frame::Notice {
                id,
                originator: name.clone(),
                at: Timestamp::from_millis(9),
                news: News::Late {
                    node: name.clone(),
                    precedence: crate::Precedence::Flash,
                },
            },
            Frame::ExpandGet {
                request: 11,
                groups: vec!["role:piket".parse().expect("a group")],
                label: Box::new("Dep.V".parse().expect("a label")),
            },
            Frame::Expanded {
                request: 11,
                groups: vec![
                    None,
                    Some(Members {
                        may: vec![Addressee {
                            node: name,
                            person: None,
                        }],
                        left_out: 2,
                    }),
                ],
            },
            Frame::RenewalAsk {
                request: Bytes::from_static(b"r"),
                signature: Bytes::from_static(b"s"),
            },
            Frame::Renewed {
                certificate: Bytes::from_static(b"c"),
            },
        ]
    }

    #[test]
    fn the_head_of_a_bulk_stream() {
        let head = BulkHead {
            digest: crate::sha256(&[b"a"]),
            offset: 7,
        };
        assert_eq!(BulkHead::decode(&head.encode()), Ok(head));
        let beyond = BulkHead {
            offset: limits::MAX_ATTACHMENT + 1,
            ..head
        };
        assert_eq!(
            BulkHead::decode(&beyond.encode()),
            Err(DecodeError::Limit("offset"))
        );
        assert!(BulkHead::decode(b"").is_err());
    }

    #[test]
    fn every_kind_there_and_back() {
        for (i, f) in every_kind().into_iter().enumerate() {
            assert_eq!(f.kind(), i as u64 + 1);
            let bytes = f.encode();
            assert_eq!(Frame::decode(&bytes), Ok(f));
            for cut in 0..bytes.len() {
                assert!(Frame::decode(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn refused() {
        assert_eq!(
            Frame::decode(&[0x81, 0x18, 0x2a]),
            Err(DecodeError::Unknown("frame kind"))
        );
        assert_eq!(
            Frame::decode(&[0x82, 0x0b, 0x00]),
            Err(DecodeError::Form("frame"))
        );
        assert_eq!(
            Frame::decode(&vec![0; limits::MAX_FRAME + 1]),
            Err(DecodeError::Limit("frame"))
        );
        assert_eq!(
            Frame::decode(&[0x81, 0x0b, 0x00]),
            Err(DecodeError::Trailing)
        );
        let nested = [&[0x81u8][..]; 4000].concat();
        assert!(Frame::decode(&nested).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), which in 0usize..40, at: usize, to: u8) {
            if let Ok(f) = Frame::decode(&bytes) {
                prop_assert_eq!(f.encode(), bytes);
            }
            let mut good = every_kind()[which].encode().to_vec();
            let at = at % good.len();
            good[at] = to;
            if let Ok(f) = Frame::decode(&good) {
                prop_assert_eq!(f.encode(), good);
            }
        }
    }
}
