//! The engine's face: what comes in, what comes out, and the state in between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use ordonnans_audit::{ClockQuality, Detail, Verb, merkle::Frontier};
use ordonnans_identity::Certificate;
use ordonnans_label::{Clearance, Level, Name};
use ordonnans_message::{
    AuditQuery, Digest, Envelope, Frame, MessageId, Precedence, ReceiptKind, ReplyCode,
    SignedKeyPackage, SignedReceipt, Timestamp,
};
use ordonnans_policy::Register;
use ordonnans_seal::{Entropy, Verified};

use crate::ledger::Ledger;
use crate::mailbox::{Mailbox, Queue};
use crate::rows::{CorruptRow, QueueRow, ReceiptKey, Return, Seen};
use crate::sessions::{Peer, Session};
use crate::{Commit, Seq, Table};

/// What the engine is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The broker's own name.
    pub broker: Name,
    /// Copies that may wait for one node; a message beyond it gets `Busy`.
    pub queue: usize,
    /// Accepted messages remembered, so that a repeat gets its first answer; a message beyond it gets `Busy`. About 0.5 KiB each.
    pub remembered: usize,
    /// How good the clock is.
    pub clock: ClockQuality,
}

/// What the store gives back on start.
pub struct Recovered {
    /// The last commit.
    pub seq: Seq,
    /// Its time.
    pub at: Timestamp,
    /// The tree after it.
    pub frontier: Frontier,
    /// Every row of the mailbox, table by table in the order of [`Table::ALL`].
    pub rows: Vec<(Table, Bytes, Bytes)>,
}

impl Default for Recovered {
    /// A new broker.
    fn default() -> Self {
        Self {
            seq: Seq(0),
            at: Timestamp::default(),
            frontier: Frontier::default(),
            rows: vec![],
        }
    }
}

impl std::fmt::Debug for Recovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recovered({:?}, {} rows)", self.seq, self.rows.len())
    }
}

/// Says of a certificate whether it is believed: the runner's trust, at the runner's time.
pub struct Believed(Box<dyn Fn(&Certificate) -> bool + Send>);

impl Believed {
    /// Asks this.
    #[must_use]
    pub fn new(ask: impl Fn(&Certificate) -> bool + Send + 'static) -> Self {
        Self(Box::new(ask))
    }

    pub(crate) fn is(&self, certificate: &Certificate) -> bool {
        (self.0)(certificate)
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
        /// SHA-256 of the sealed bytes.
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
        query: AuditQuery,
    },
    /// Another register comes into force.
    RegisterChanged(Box<Register>),
    /// Other lists of revoked certificates came into force, or certificates ended: every known certificate is asked after again, on the line or
    /// off it.
    TrustChanged {
        /// Whether a certificate is still believed.
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
    /// Make this durable, then call [`Engine::durable_through`]. Commits come in order.
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
    /// Send a page of the audit log.
    Page {
        /// The connection.
        session: Session,
        /// The number the answer carries.
        request: u32,
        /// Which records.
        query: AuditQuery,
        /// Up to which level this officer sees details.
        level: Level,
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
    fn session(&self) -> Option<Session> {
        match self {
            Self::Admit { session }
            | Self::Send { session, .. }
            | Self::Deliver { session, .. }
            | Self::Page { session, .. }
            | Self::SendAttachment { session, .. }
            | Self::Close { session, .. } => Some(*session),
            Self::Commit(_) | Self::RemoveAttachment { .. } => None,
        }
    }
}

/// The state machine.
pub struct Engine {
    pub(crate) settings: Settings,
    pub(crate) register: Register,
    pub(crate) ledger: Ledger,
    pub(crate) mailbox: Mailbox,
    pub(crate) seen: BTreeMap<MessageId, Seen>,
    /// When a message may be forgotten.
    pub(crate) forget: BTreeSet<(Timestamp, MessageId)>,
    pub(crate) packages: BTreeMap<Name, Bytes>,
    pub(crate) returns: BTreeMap<Name, BTreeMap<ReceiptKey, Bytes>>,
    /// The certificate each node was last seen with.
    pub(crate) certified: BTreeMap<Name, Certificate>,
    pub(crate) sessions: BTreeMap<Session, Peer>,
    pub(crate) on_line: BTreeMap<Name, Session>,
    pub(crate) attachments: BTreeMap<Digest, u64>,
    pub(crate) stopping: bool,
    /// Effects of the input being handled.
    pub(crate) out: Vec<Effect>,
    commits: VecDeque<Commit>,
    waiting: VecDeque<(Seq, Effect)>,
    durable: Seq,
}

impl Engine {
    /// An engine that goes on where the store was. Its first effect is a commit with a record of the start.
    ///
    /// # Errors
    /// [`CorruptRow`]: the mailbox was written by another version, or rows are missing. The broker does not start.
    pub fn new(
        settings: Settings,
        register: Register,
        recovered: Recovered,
        attachments: Vec<(Digest, u64)>,
        entropy: Box<dyn Entropy>,
        now: Timestamp,
    ) -> Result<Self, CorruptRow> {
        let Recovered {
            seq,
            at,
            frontier,
            rows,
        } = recovered;
        let clock = settings.clock;
        let mut engine = Self {
            settings,
            register,
            ledger: Ledger::new(frontier, seq, at, clock, entropy),
            mailbox: Mailbox::default(),
            seen: BTreeMap::new(),
            forget: BTreeSet::new(),
            packages: BTreeMap::new(),
            returns: BTreeMap::new(),
            certified: BTreeMap::new(),
            sessions: BTreeMap::new(),
            on_line: BTreeMap::new(),
            attachments: attachments.into_iter().collect(),
            stopping: false,
            out: vec![],
            commits: VecDeque::new(),
            waiting: VecDeque::new(),
            durable: seq,
        };
        for (table, key, value) in rows {
            engine.take_up(table, &key, &value)?;
        }
        if engine.mailbox.orphans() > 0 {
            let why = ordonnans_message::DecodeError::Form("a message without a queue row");
            return Err(CorruptRow {
                table: Table::Queue,
                why,
            });
        }
        let detail = Detail {
            who: Some(engine.settings.broker.clone()),
            register: Some(engine.register.digest()),
            ..Detail::default()
        };
        engine
            .ledger
            .record(now, Verb::Started, Level::Ongerubriceerd, detail);
        engine.finish(now);
        Ok(engine)
    }

    fn take_up(&mut self, table: Table, key: &[u8], value: &Bytes) -> Result<(), CorruptRow> {
        let corrupt = |why| CorruptRow { table, why };
        let form = |what| corrupt(ordonnans_message::DecodeError::Form(what));
        let id = || MessageId::try_from(key).map_err(|_| form("message id"));
        let name = || {
            std::str::from_utf8(key)
                .ok()
                .and_then(|s| s.parse::<Name>().ok())
                .ok_or_else(|| form("name"))
        };
        match table {
            Table::Messages => {
                let envelope = Envelope::decode(value).map_err(corrupt)?;
                self.mailbox.hold(
                    envelope.header().clone(),
                    ordonnans_message::sha256(&[value]),
                );
            }
            Table::Queue => {
                let row = QueueRow::decode(value).map_err(corrupt)?;
                if !self.mailbox.enqueue(&row) {
                    return Err(form("a queue row without a message"));
                }
            }
            Table::Seen => {
                let seen = Seen::decode(value).map_err(corrupt)?;
                self.forget.insert((seen.until, id()?));
                self.seen.insert(id()?, seen);
            }
            Table::Packages => {
                self.packages.insert(name()?, value.clone());
            }
            Table::Returns => {
                let r = Return::decode(value).map_err(corrupt)?;
                self.returns
                    .entry(r.to)
                    .or_default()
                    .insert(r.of, r.receipt);
            }
            Table::Certified => {
                let seen = Certificate::parse_der(value).map_err(|_| form("certificate"))?;
                self.certified.insert(name()?, seen);
            }
        }
        Ok(())
    }

    /// Takes an input at a time. The time may run back; what rests on order does not look at it.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Opened { session, peer } => self.opened(now, session, peer),
            Input::Closed { session, note } => self.closed(now, session, note),
            Input::Strangers { count } => self.strangers(now, count),
            Input::Publish { session, envelope } => self.publish(now, session, &envelope),
            Input::Rejected { session, id, code } => self.rejected(now, session, id, code),
            Input::Receipt { session, receipt } => self.receipt(now, session, &receipt),
            Input::ReceiptStored {
                session,
                id,
                kind,
                by,
            } => self.returned(session, &(id, kind, by)),
            Input::KeyPackage { session, package } => self.key_package(now, session, &package),
            Input::DirectoryGet { session } => self.directory(now, session),
            Input::AttachmentStored { digest, length } => {
                self.attachments.insert(digest, length);
            }
            Input::AttachmentGet {
                session,
                digest,
                offset,
            } => self.attachment_get(now, session, digest, offset),
            Input::AuditGet {
                session,
                request,
                query,
            } => self.audit_get(now, session, request, query),
            Input::RegisterChanged(register) => self.register_changed(now, *register),
            Input::TrustChanged { believed } => self.trust_changed(now, &believed),
            Input::Clock { quality, step_ms } => self.clock(now, quality, step_ms),
            Input::Tick => self.tick(now),
            Input::Stopping => self.stop(now),
        }
        self.finish(now);
    }

    /// Closes the commit of this input and lines its effects up behind it.
    fn finish(&mut self, now: Timestamp) {
        self.commits.extend(self.ledger.close(now));
        let after = self.ledger.seq();
        self.waiting
            .extend(self.out.drain(..).map(|effect| (after, effect)));
    }

    /// Everything up to this commit is durable: what waited for it may happen.
    pub fn durable_through(&mut self, seq: Seq) {
        self.durable = self.durable.max(seq);
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if let Some(commit) = self.commits.pop_front() {
            return Some(Effect::Commit(commit));
        }
        let due = self
            .waiting
            .front()
            .is_some_and(|(after, _)| *after <= self.durable);
        due.then(|| self.waiting.pop_front().map(|(_, effect)| effect))
            .flatten()
    }

    /// The last commit made.
    #[must_use]
    pub fn last_commit(&self) -> Seq {
        self.ledger.seq()
    }

    /// Records in the audit log, durable or about to be.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.ledger.size()
    }

    /// Copies that wait for a recipient.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.mailbox.waiting()
    }

    /// The register in force.
    #[must_use]
    pub fn register(&self) -> &Register {
        &self.register
    }

    /// Whether a held message refers to this attachment.
    #[must_use]
    pub fn refers_to(&self, attachment: &Digest) -> bool {
        self.mailbox.refers_to(attachment)
    }

    /// What a connection that ended still had to be sent is forgotten, so that nothing leaves after the end.
    pub(crate) fn silence(&mut self, session: Session) {
        self.waiting.retain(|(_, e)| e.session() != Some(session));
        self.out.retain(|e| e.session() != Some(session));
    }

    /// Deliveries that wait for their commit are taken back: what their decision rested on has changed. The queues are rewound, and each
    /// copy is judged again.
    pub(crate) fn take_back(&mut self) {
        let stays =
            |e: &Effect| !matches!(e, Effect::Deliver { .. } | Effect::SendAttachment { .. });
        self.waiting.retain(|(_, e)| stays(e));
        self.out.retain(stays);
        self.mailbox.queues_mut().for_each(Queue::rewind);
    }

    /// The clearance in the certificate a node was last seen with.
    pub(crate) fn says(&self, name: &Name) -> Option<Clearance> {
        self.certified.get(name)?.clearance().cloned()
    }

    pub(crate) fn send(&mut self, session: Session, frame: Frame) {
        self.out.push(Effect::Send { session, frame });
    }

    fn clock(&mut self, now: Timestamp, quality: ClockQuality, step_ms: u64) {
        if step_ms == 0 && quality == self.ledger.clock {
            return;
        }
        self.ledger.clock = quality;
        let detail = Detail {
            who: Some(self.settings.broker.clone()),
            note: Some(format!("stepped by {step_ms} ms")),
            ..Detail::default()
        };
        self.ledger
            .record(now, Verb::ClockStepped, Level::Ongerubriceerd, detail);
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({:?})", self.ledger.seq())
    }
}
