//! The engine: the state between what comes in and what goes out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use ordonnans_audit::{ClockQuality, Detail, InForce, TreeHead, Verb, merkle::Frontier};
use ordonnans_identity::Certificate;
use ordonnans_label::{Clearances, Level, Name};
use ordonnans_message::{Digest, Envelope, Frame, MessageId, Timestamp};
use ordonnans_policy::{Approved, Book, Grounds, Register};
use ordonnans_seal::Entropy;

use crate::alarms::{AlarmLimits, Alarms};
use crate::due::Due;
use crate::effects::{Believed, Effect, Input};
use crate::incidents::Incident;
use crate::labels::{Labelled, Labels};
use crate::ledger::Ledger;
use crate::mailbox::{Mailbox, Queue};
use crate::notices::{Notice, Notices};
use crate::passing::Passings;
use crate::quotas::{Quotas, Spent};
use crate::receipts::Returns;
use crate::retention::{Dropped, Retention};
use crate::rows::{CorruptRow, QueueRow, Return, Seen};
use crate::sessions::{Peer, Session};
use crate::unclaimed::Unclaimed;
use crate::{Commit, Seq, Table, Write, renewals, retention, rows};

/// What the engine is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The broker's own name.
    pub broker: Name,
    /// Copies that may wait for one node; a message beyond it gets `Busy`.
    pub queue: usize,
    /// Accepted messages remembered, so that a repeat gets its first answer; a message beyond it gets `Busy`. About 0.5 KiB each.
    pub remembered: usize,
    /// How long an accepted message is remembered after it has expired, in milliseconds: so long repeats are known and receipts are taken.
    pub remember_ms: u64,
    /// Established labels kept, so that they can be revised; a message beyond it gets `Busy`. About 0.5 KiB each.
    pub labelled: usize,
    /// How good the clock is.
    pub clock: ClockQuality,
    /// SHA-256 of the configuration: another one than in the run before is a record.
    pub configuration: Digest,
    /// What somebody may do within an hour before it is an alarm.
    pub alarms: AlarmLimits,
    /// What one node may send.
    pub quotas: Quotas,
    /// The nodes that are told what is late after its recipient was reminded, where they may know of it.
    pub contacts: Vec<Name>,
    /// How long details of the log are kept.
    pub retention: Retention,
}

/// A row of the mailbox: table, key and value.
pub type Row = (Table, Bytes, Bytes);

/// Rows as they are read, so that a start never has all of them in memory.
pub type Rows = Box<dyn Iterator<Item = Result<Row, CorruptRow>> + Send>;

/// What the store gives back on start.
pub struct Recovered {
    /// The last commit.
    pub seq: Seq,
    /// Its time.
    pub at: Timestamp,
    /// The tree after it.
    pub frontier: Frontier,
    /// The text of the register that was in force ([`Self::register_of`]). A register that is to follow it is approved against this one
    /// ([`Register::approve`]).
    pub register: Option<String>,
    /// Every row of the mailbox, table by table in the order of [`Table::ALL`].
    pub rows: Rows,
}

impl Default for Recovered {
    /// A new broker.
    fn default() -> Self {
        Self {
            seq: Seq(0),
            at: Timestamp::default(),
            frontier: Frontier::default(),
            register: None,
            rows: Box::new(std::iter::empty()),
        }
    }
}

impl Recovered {
    /// The text that the values of [`Table::Law`], in the order of their keys, make up.
    #[must_use]
    pub fn register_of(parts: impl IntoIterator<Item = Bytes>) -> Option<String> {
        let bytes: Vec<u8> = parts.into_iter().flatten().collect();
        String::from_utf8(bytes)
            .ok()
            .filter(|text| !text.is_empty())
    }
}

impl std::fmt::Debug for Recovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recovered({:?})", self.seq)
    }
}

/// The state machine.
pub struct Engine {
    pub(crate) settings: Settings,
    pub(crate) register: Register,
    pub(crate) book: Book,
    pub(crate) ledger: Ledger,
    pub(crate) mailbox: Mailbox,
    pub(crate) seen: BTreeMap<MessageId, Seen>,
    pub(crate) passings: Passings,
    /// When a message may be forgotten.
    pub(crate) forget: BTreeSet<(Timestamp, MessageId)>,
    pub(crate) packages: BTreeMap<Name, Bytes>,
    pub(crate) returns: BTreeMap<Name, Returns>,
    /// Labels that persons established.
    pub(crate) labels: Labels,
    /// What nodes are to be told of labels.
    pub(crate) notices: BTreeMap<Name, Notices>,
    /// The certificate each node was last seen with.
    pub(crate) certified: BTreeMap<Name, Certificate>,
    /// What these certificates say under the policies in force.
    pub(crate) holds: BTreeMap<Name, Clearances>,
    pub(crate) sessions: BTreeMap<Session, Peer>,
    pub(crate) on_line: BTreeMap<Name, Session>,
    pub(crate) attachments: BTreeMap<Digest, u64>,
    pub(crate) unclaimed: Unclaimed,
    /// Incidents that officers opened, until what was kept for them is destroyed.
    pub(crate) incidents: BTreeMap<String, Incident>,
    pub(crate) alarms: Alarms,
    /// When copies are to be there, opened and answered.
    pub(crate) due: Due,
    pub(crate) spent: Spent,
    pub(crate) dropped: Dropped,
    /// Nodes that ask for their next certificate.
    pub(crate) asked_renewal: renewals::Asked,
    /// The configuration of the run before.
    configured: Option<Digest>,
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
        register: Approved,
        book: Book,
        recovered: Recovered,
        attachments: Vec<(Digest, u64)>,
        entropy: Box<dyn Entropy>,
        now: Timestamp,
    ) -> Result<Self, CorruptRow> {
        let (register, signed) = register.into_parts();
        let Recovered {
            seq,
            at,
            frontier,
            register: in_force,
            rows,
        } = recovered;
        let clock = settings.clock;
        let mut engine = Self {
            settings,
            register,
            book,
            ledger: Ledger::new(frontier, seq, at, clock, entropy),
            mailbox: Mailbox::default(),
            seen: BTreeMap::new(),
            passings: Passings::default(),
            forget: BTreeSet::new(),
            packages: BTreeMap::new(),
            returns: BTreeMap::new(),
            labels: Labels::default(),
            notices: BTreeMap::new(),
            certified: BTreeMap::new(),
            holds: BTreeMap::new(),
            sessions: BTreeMap::new(),
            on_line: BTreeMap::new(),
            attachments: BTreeMap::new(),
            unclaimed: Unclaimed::default(),
            incidents: BTreeMap::new(),
            alarms: Alarms::default(),
            due: Due::default(),
            spent: Spent::default(),
            dropped: Dropped::default(),
            asked_renewal: renewals::Asked::default(),
            configured: None,
            stopping: false,
            out: vec![],
            commits: VecDeque::new(),
            waiting: VecDeque::new(),
            durable: seq,
        };
        for row in rows {
            let (table, key, value) = row?;
            engine.take_up(table, &key, &value)?;
        }
        if engine.mailbox.orphans() > 0 {
            let why = ordonnans_message::DecodeError::Form("a message without a queue row");
            return Err(CorruptRow {
                table: Table::Queue,
                why,
            });
        }
        for (digest, length) in attachments {
            engine.attachment_stored(now, None, digest, length);
        }
        engine.resolve();
        let detail = Detail {
            who: Some(engine.settings.broker.clone()),
            register: Some(engine.in_force()),
            policy: Some(engine.book.digest()),
            ..Detail::default()
        };
        engine
            .ledger
            .record(now, Verb::Started, Level::Ongerubriceerd, detail);
        if in_force.as_deref() != Some(engine.register.text()) {
            let before = in_force.as_deref().map_or(0, rows::law_parts);
            engine.put_law(before);
            engine.note_register(now, "took force at the start", &signed);
        }
        engine.note_configuration(now);
        engine.begin_retention(now, at);
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
                self.due.take_up(id()?, &seen);
                self.passings.take_up(id()?, seen.parent);
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
                    .waiting
                    .insert(r.of, r.receipt);
            }
            Table::Certified => {
                let seen = Certificate::parse_der(value).map_err(|_| form("certificate"))?;
                self.certified.insert(name()?, seen);
            }
            // In `Recovered::register`, for it is approved before the engine is made.
            Table::Law => {}
            Table::Labels => {
                let row = Labelled::decode(value).map_err(corrupt)?;
                self.labels.take_up(id()?, row);
            }
            Table::Notices => {
                let notice = Notice::decode(value).map_err(corrupt)?;
                self.notices
                    .entry(notice.to.clone())
                    .or_default()
                    .add(notice);
            }
            Table::Events => {
                let event = std::str::from_utf8(key).map_err(|_| form("event"))?;
                self.labels.declared.insert(event.into());
            }
            Table::Incidents => {
                let name = std::str::from_utf8(key).map_err(|_| form("incident"))?;
                let incident = Incident::decode(value).map_err(corrupt)?;
                self.incidents.insert(name.into(), incident);
            }
            Table::Standing if key == retention::THROUGH => {
                self.take_up_retention(value).map_err(corrupt)?;
            }
            Table::Standing if key == retention::DOUBT => self.take_up_doubt(),
            Table::Standing => self.configured = Digest::try_from(&value[..]).ok(),
        }
        Ok(())
    }

    /// Whether every certificate this rests on is believed as it is known here. One from the store is known as it was shown: at a start, where this
    /// is false, give [`Input::TrustChanged`] first.
    #[must_use]
    pub fn agrees_with(&self, believed: &Believed) -> bool {
        let mut known = self.certified.values();
        known.all(|c| believed.now(c).as_ref() == Ok(c))
    }

    /// Takes an input at a time. The time may run back; what rests on order does not look at it.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Opened {
                session,
                peer,
                line,
            } => self.opened(now, session, peer, line),
            Input::Closed { session, note } => self.closed(now, session, note),
            Input::Strangers { count, why } => self.strangers(now, count, &why),
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
            Input::AttachmentStored { by, digest, length } => {
                self.attachment_stored(now, Some(by), digest, length);
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
            Input::WatchGet {
                session,
                request,
                query,
            } => self.watch_get(now, session, request, query),
            Input::ProofGet {
                session,
                request,
                of,
            } => self.proof_get(now, session, request, of),
            Input::CheckpointGet { session, request } => {
                self.checkpoint_get(now, session, request);
            }
            Input::ReadersGet {
                session,
                request,
                nodes,
                level,
            } => self.readers_get(now, session, request, &nodes, level),
            Input::Order { session, order } => self.order(now, session, order.get()),
            Input::Signed { head } => self.signed(now, head),
            Input::Alarm { who, note } => self.alarm_of(now, who, &note),
            Input::LawChanged { register, book } => self.law_changed(now, *register, *book),
            Input::Act { session, act } => self.act(now, session, act.get()),
            Input::Declare {
                session,
                declaration,
            } => self.declare(now, session, declaration.get()),
            Input::NotKept { session, of, code } => {
                self.not_kept(now, session, of, None, (code, None));
            }
            Input::Kept { session, of } => self.noticed(session, of),
            Input::CatalogGet {
                session,
                request,
                to,
            } => self.catalog_get(now, session, request, to),
            Input::ExplainGet {
                session,
                request,
                about,
            } => self.explain_get(now, session, request, &about),
            Input::ExpandGet {
                session,
                request,
                groups,
                label,
            } => self.expand_get(now, session, request, &groups, &label),
            Input::RenewalAsked {
                session,
                of,
                request,
                text,
            } => self.renewal_asked(now, session, of, request, text),
            Input::RenewalSigned { node, certificate } => self.renewal_signed(&node, certificate),
            Input::Renewed {
                node,
                certificate,
                until,
            } => self.renewed(now, node, certificate, until),
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

    /// The same for the copies of one message: its label is another. Gives the nodes they are for.
    pub(crate) fn take_back_of(&mut self, id: MessageId) -> Vec<Name> {
        let Some(held) = self.mailbox.message(id) else {
            return vec![];
        };
        let attached = |d: &Digest| held.header.attachments.iter().any(|a| a.digest == *d);
        let stays = |e: &Effect| match e {
            Effect::Deliver { id: of, .. } => *of != id,
            Effect::SendAttachment { digest, .. } => !attached(digest),
            _ => true,
        };
        self.waiting.retain(|(_, e)| stays(e));
        self.out.retain(stays);
        self.mailbox.rewind_of(id)
    }

    /// Works out what the known certificates say under the policies in force. To be called when either changes: a decision is too short for it.
    pub(crate) fn resolve(&mut self) {
        let policies = self.book.policies();
        self.holds = self
            .certified
            .iter()
            .map(|(name, c)| (name.clone(), c.certified().clearances(policies)))
            .collect();
    }

    /// What decisions rest on.
    pub(crate) fn grounds(&self) -> Grounds<'_> {
        Grounds {
            register: &self.register,
            book: &self.book,
            says: &self.holds,
        }
    }

    /// The register that a record rests on.
    pub(crate) fn in_force(&self) -> InForce {
        InForce {
            version: self.register.version(),
            digest: self.register.digest(),
        }
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
        self.clock_alarm(now, step_ms);
        self.pause_retention(step_ms);
    }

    fn note_configuration(&mut self, now: Timestamp) {
        let digest = self.settings.configuration;
        if self.configured == Some(digest) {
            return;
        }
        self.configured = Some(digest);
        self.ledger.write(Write::Put {
            table: Table::Standing,
            key: Bytes::from_static(b"configuration"),
            value: Bytes::copy_from_slice(digest.as_bytes()),
        });
        let detail = Detail {
            who: Some(self.settings.broker.clone()),
            digest: Some(digest),
            ..Detail::default()
        };
        self.ledger.record(
            now,
            Verb::ConfigurationChanged,
            Level::Ongerubriceerd,
            detail,
        );
    }

    fn signed(&mut self, now: Timestamp, head: TreeHead) {
        let detail = Detail {
            who: Some(self.settings.broker.clone()),
            digest: Some(head.root),
            note: Some(format!("of {} records", head.size)),
            ..Detail::default()
        };
        self.ledger
            .record(now, Verb::Checkpoint, Level::Ongerubriceerd, detail);
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({:?})", self.ledger.seq())
    }
}
