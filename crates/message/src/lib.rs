//! What is said, and its one byte form.
//!
//! Everything here is CBOR in the deterministic form of RFC 8949 section 4.2, described in `docs/wire.cddl`; signed things are
//! COSE_Sign1 (RFC 9052). One value has one form: each decoder ends by encoding what it read and comparing, and refuses
//! anything else. Nothing here does I/O, reads a clock or knows a key.
//!
//! Holds always: a decoder allocates no more than the limit of what it reads, and leaves no byte over.

mod act;
mod asking;
pub mod cbor;
mod content;
pub mod cose;
mod digest;
mod envelope;
mod frame;
mod group;
mod header;
mod id;
mod inspecting;
mod label;
pub mod limits;
mod notice;
mod passing;
mod receipt;
mod statement;
mod time;

pub use act::{Act, ActKind, Declaration, Follows, SignedAct, SignedDeclaration};
pub use asking::{Addressee, ExplainedRule, Supposed};
pub use cbor::DecodeError;
pub use content::{AttachmentKey, Content};
pub use digest::{Blake3Stream, Digest, InvalidDigest, Sha256Stream, blake3, sha256};
pub use envelope::{CopyNumber, Envelope, EpochId, Seal, SealedCopy};
pub use frame::{BulkHead, DirectoryEntry, Frame, PROTOCOL_VERSION, ReplyCode};
pub use group::{Addressed, Group, GroupKind, InvalidGroup, Members};
pub use header::{
    AttachmentRef, ContentRef, Header, Holder, InvalidPrecedence, Precedence, Recipient, Role,
    SUITE_EPOCH, SUITE_X_WING, Sealing,
};
pub use id::{InvalidMessageId, MessageId};
pub use inspecting::{
    AuditQuery, MAX_INCIDENT_CHARS, Order, OrderKind, ProofOf, Readers, SignedOrder,
    is_incident_name,
};
pub use label::{decode_label, encode_label};
pub use notice::News;
pub use passing::{How, PassedOn, Second, SignedSecond};
pub use receipt::{
    Approval, KeyPackage, Receipt, ReceiptKind, SignedApproval, SignedKeyPackage, SignedReceipt,
    key_id,
};
pub use statement::{Signed, Statement};
pub use time::{InvalidTimestamp, Timestamp};
