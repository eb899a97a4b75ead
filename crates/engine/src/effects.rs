//! What the engine hears and what it wants done.

use bytes::Bytes;
use ordonnans_audit::{ClockQuality, TreeHead};
use ordonnans_identity::Certificate;
use ordonnans_label::{Label, Level, Name};
use ordonnans_message::{
    Addressee, AuditQuery, Digest, Envelope, Frame, Group, MessageId, Precedence, ProofOf,
    ReceiptKind, ReplyCode, SignedAct, SignedDeclaration, SignedKeyPackage, SignedOrder,
    SignedReceipt, Supposed, Timestamp,
};
use ordonnans_policy::{Approved, Book};
use ordonnans_seal::Verified;

use crate::Commit;
use crate::sessions::Session;

/// Says of a certificate whether it is believed, and gives it as it is believed: with no more than its authorities may give. The runner's trust,
/// at the runner's time.
pub struct Believed(Box<Ask>);

type Ask = dyn Fn(&Certificate) -> Result<Certificate, &'static str> + Send;

impl Believed {
    /// Asks this. A no says why, in a few words for the record.
    #[must_use]
    pub fn new(
        ask: impl Fn(&Certificate) -> Result<Certificate, &'static str> + Send + 'static,
    ) -> Self {
        Self(Box::new(ask))
    }

    pub(crate) fn now(&self, known: &Certificate) -> Result<Certificate, &'static str> {
        (self.0)(known)
    }
}

impl std::fmt::Debug for Believed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Believed")
    }
}

/// Something happened.
#[derive(Debug)]
pub enum Input {
    /// A peer with this certificate is on the line. The handshake has checked it.
    Opened {
        /// The connection, by a number never used before in this run.
        session: Session,
        /// The peer's certificate.
        peer: Certificate,
        /// What carries it, the key exchange and the cipher suite, for the record.
        line: String,
    },
    /// A connection ended.
    Closed {
        /// The connection.
        session: Session,
        /// Why, in a few words of our own.
        note: &'static str,
    },
    /// Connections were refused before anyone was known.
    Strangers {
        /// How many since the last time.
        count: u64,
        /// Why, in a few words of our own, with how many of each. May be empty.
        why: String,
    },
    /// A node brings a message.
    Publish {
        /// The connection.
        session: Session,
        /// The message.
        envelope: Box<Verified<Envelope>>,
    },
    /// A node brought something that is no message, receipt or key package to be believed.
    Rejected {
        /// The connection.
        session: Session,
        /// The message, where it could be read.
        id: Option<MessageId>,
        /// What is wrong.
        code: ReplyCode,
    },
    /// A node brings a receipt.
    Receipt {
        /// The connection.
        session: Session,
        /// The receipt.
        receipt: Box<Verified<SignedReceipt>>,
    },
    /// A node has kept a receipt we passed on to it.
    ReceiptStored {
        /// The connection.
        session: Session,
        /// The message.
        id: MessageId,
        /// What the receipt says.
        kind: ReceiptKind,
        /// Who gave it.
        by: Name,
    },
    /// A node publishes the key to seal to.
    KeyPackage {
        /// The connection.
        session: Session,
        /// The package.
        package: Box<Verified<SignedKeyPackage>>,
    },
    /// A peer asks for the directory.
    DirectoryGet {
        /// The connection.
        session: Session,
    },
    /// All bytes of an attachment are durable.
    AttachmentStored {
        /// Who brought the last of them.
        by: Name,
        /// BLAKE3 of the sealed bytes.
        digest: Digest,
        /// How many.
        length: u64,
    },
    /// A node asks for an attachment.
    AttachmentGet {
        /// The connection.
        session: Session,
        /// SHA-256 of the sealed bytes.
        digest: Digest,
        /// First byte wanted.
        offset: u64,
    },
    /// An officer asks for records.
    AuditGet {
        /// The connection.
        session: Session,
        /// The number the answer carries.
        request: u32,
        /// Which records.
        query: Box<AuditQuery>,
    },
    /// An officer asks for records as they are made.
    WatchGet {
        /// The connection.
        session: Session,
        /// The number the answers carry.
        request: u32,
        /// Which records.
        query: Box<AuditQuery>,
    },
    /// A peer asks for a proof.
    ProofGet {
        /// The connection.
        session: Session,
        /// The number the answer carries.
        request: u32,
        /// Which.
        of: ProofOf,
    },
    /// An officer asks for a checkpoint of the log as it is now.
    CheckpointGet {
        /// The connection.
        session: Session,
        /// The number the answer carries.
        request: u32,
    },
    /// An officer asks who could read something.
    ReadersGet {
        /// The connection.
        session: Session,
        /// The number the answer carries.
        request: u32,
        /// At which nodes.
        nodes: Vec<Name>,
        /// Of which level.
        level: Level,
    },
    /// An officer orders something.
    Order {
        /// The connection.
        session: Session,
        /// The order.
        order: Box<Verified<SignedOrder>>,
    },
    /// A checkpoint was signed.
    Signed {
        /// What it covers.
        head: TreeHead,
    },
    /// Something outside the engine that an officer should look at.
    Alarm {
        /// About whom.
        who: Option<Name>,
        /// What, in a few words without anything that is classified.
        note: String,
    },
    /// Another register or other policies come into force. The register was read under these policies.
    LawChanged {
        /// The register.
        register: Box<Approved>,
        /// The policies.
        book: Box<Book>,
    },
    /// A vaststeller revises or ends a label.
    Act {
        /// The connection.
        session: Session,
        /// The act.
        act: Box<Verified<SignedAct>>,
    },
    /// Somebody declares an event.
    Declare {
        /// The connection.
        session: Session,
        /// The declaration.
        declaration: Box<Verified<SignedDeclaration>>,
    },
    /// An act, a declaration or an order that is not what it claims to be.
    NotKept {
        /// The connection.
        session: Session,
        /// SHA-256 of its frame.
        of: Digest,
        /// What is wrong.
        code: ReplyCode,
    },
    /// A node keeps what it was told of a label.
    Kept {
        /// The connection.
        session: Session,
        /// SHA-256 of the frame it was told in.
        of: Digest,
    },
    /// A node asks which labels it may use.
    CatalogGet {
        /// The connection.
        session: Session,
        /// The number the answer carries.
        request: u32,
        /// To whom.
        to: Vec<Addressee>,
    },
    /// An officer asks why, or why not.
    ExplainGet {
        /// The connection.
        session: Session,
        /// The number the answer carries.
        request: u32,
        /// The message that is thought of.
        about: Box<Supposed>,
    },
    /// A node asks who of some groups may have a message of a label.
    ExpandGet {
        /// The connection.
        session: Session,
        /// The number the answer carries.
        request: u32,
        /// The groups.
        groups: Vec<Group>,
        /// The label.
        label: Box<Label>,
    },
    /// A node asks for its next certificate, and the key of the one it shows has signed the request.
    RenewalAsked {
        /// The connection.
        session: Session,
        /// SHA-256 of its frame.
        of: Digest,
        /// SHA-256 of the request.
        request: Digest,
        /// The request as it is kept for whoever signs. Nothing in it is looked at here.
        text: Bytes,
    },
    /// The certificate that a node asked for was signed, and has been checked.
    RenewalSigned {
        /// Whose.
        node: Name,
        /// The certificate, DER.
        certificate: Bytes,
    },
    /// A node shows the certificate that it asked for.
    Renewed {
        /// Whose.
        node: Name,
        /// SHA-256 of the certificate.
        certificate: Digest,
        /// Until when it is valid.
        until: Timestamp,
    },
    /// Other lists of revoked certificates came into force, or certificates ended: every known certificate is asked after again, on the line or
    /// off it.
    TrustChanged {
        /// Whether a certificate is still believed, and what it gives.
        believed: Believed,
    },
    /// The clock was set, or its quality is another.
    Clock {
        /// The quality from now on.
        quality: ClockQuality,
        /// By how many milliseconds it jumped, either way; 0 where it did not.
        step_ms: u64,
    },
    /// Time passed. Give one about every second.
    Tick,
    /// The broker is to stop.
    Stopping,
}

/// A question about the audit log that was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inspect {
    /// A page of it.
    Page {
        /// Which records.
        query: Box<AuditQuery>,
        /// Up to which level this officer sees details.
        level: Level,
    },
    /// What comes, until the connection ends. Another one takes the place of this.
    Watch {
        /// Which records.
        query: Box<AuditQuery>,
        /// Up to which level this officer sees details.
        level: Level,
    },
    /// A proof.
    Proof(ProofOf),
    /// A checkpoint of now.
    Checkpoint,
}

/// Why the engine wants a connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The peer is not, or no longer, in the register in good standing, or not believed.
    NotBelieved,
    /// The same node has opened another connection.
    Replaced,
    /// The broker stops.
    Stopping,
}

/// What must happen now.
#[derive(Debug)]
pub enum Effect {
    /// Make this durable, then call [`crate::Engine::durable_through`]. Commits come in order.
    Commit(Commit),
    /// Greet the peer.
    Admit {
        /// The connection.
        session: Session,
    },
    /// Send a frame.
    Send {
        /// The connection.
        session: Session,
        /// The frame.
        frame: Frame,
    },
    /// Send the stored envelope of this message.
    Deliver {
        /// The connection.
        session: Session,
        /// The message.
        id: MessageId,
        /// The class it travels in.
        precedence: Precedence,
    },
    /// Answer a question about the audit log.
    Inspect {
        /// The connection.
        session: Session,
        /// The number the answer carries.
        request: u32,
        /// Records of the log when it was asked: the answer is of a log that has them, whatever lags behind.
        size: u64,
        /// What was asked.
        what: Inspect,
    },
    /// Destroy the details of these days, but for those of messages that an incident keeps.
    DropDetails {
        /// The last of them, counted from 1970.
        through: u64,
        /// Messages whose details are kept, and for which incident.
        keep: Vec<(MessageId, String)>,
    },
    /// Destroy the details that were kept for an incident.
    DropIncident {
        /// Its name.
        incident: String,
    },
    /// Send the stored bytes of an attachment.
    SendAttachment {
        /// The connection.
        session: Session,
        /// SHA-256 of the sealed bytes.
        digest: Digest,
        /// First byte wanted.
        offset: u64,
    },
    /// Remove an attachment that no message refers to any more.
    RemoveAttachment {
        /// SHA-256 of the sealed bytes.
        digest: Digest,
    },
    /// Keep a request for whoever signs, in the place of the one this node had, and say on the connection whether it is kept.
    KeepRenewal {
        /// The connection.
        session: Session,
        /// Whose.
        node: Name,
        /// SHA-256 of its frame.
        of: Digest,
        /// The request.
        text: Bytes,
    },
    /// Close a connection.
    Close {
        /// The connection.
        session: Session,
        /// Why.
        why: Why,
    },
}

impl Effect {
    /// The connection it is for.
    pub(crate) fn session(&self) -> Option<Session> {
        match self {
            Self::Admit { session }
            | Self::Send { session, .. }
            | Self::Deliver { session, .. }
            | Self::Inspect { session, .. }
            | Self::SendAttachment { session, .. }
            | Self::KeepRenewal { session, .. }
            | Self::Close { session, .. } => Some(*session),
            Self::Commit(_)
            | Self::RemoveAttachment { .. }
            | Self::DropDetails { .. }
            | Self::DropIncident { .. } => None,
        }
    }
}
