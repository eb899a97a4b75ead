//! The desk of a node: its keys, its spool and what it remembers of both. What goes out is in `outgoing`, what comes in in `incoming`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use bytes::Bytes;
use ordonnans_audit::Fork;
use ordonnans_identity::ed25519::SigningKey;
use ordonnans_identity::{Certificate, FileSigner, ListNumbers, Signer, Trust, read_policies};
use ordonnans_label::{Kind, Label, Name, Policies};
use ordonnans_message::{
    Addressee, AttachmentRef, Digest, DirectoryEntry, Envelope, Frame, Group, Header, Members,
    MessageId, Precedence, SignedKeyPackage, SignedReceipt, Timestamp,
};
use ordonnans_seal::{
    Grant, OpenError, Opened, Verified, open_with, sign_statement, verify_statement,
};
use ordonnans_store::AttachmentStore;
use ordonnans_transport::Clock;
use tokio::sync::{Notify, oneshot, watch};

use crate::config::Config;
use crate::epochs::Epochs;
use crate::failure::{Exit, Failure};
use crate::keys::Ring;
use crate::renewing::{self, Renewing};
use crate::spool::{ReceiptKey, Spool, receipt_key};
use crate::witness;

/// The time by the system's clock.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

/// What waits for the broker's verdict: the most urgent first, then in the order of the ids, which is that of time.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) order: BTreeSet<(Reverse<Precedence>, MessageId)>,
    messages: BTreeMap<MessageId, (Precedence, Vec<AttachmentRef>)>,
}

impl Outbox {
    pub(crate) fn insert(&mut self, h: &Header) {
        self.order.insert((Reverse(h.precedence()), h.id));
        self.messages
            .insert(h.id, (h.precedence(), h.attachments.clone()));
    }

    /// Takes a message out; gives the attachments that no other message in here has.
    pub(crate) fn remove(&mut self, id: MessageId) -> Vec<AttachmentRef> {
        let Some((precedence, mut gone)) = self.messages.remove(&id) else {
            return vec![];
        };
        self.order.remove(&(Reverse(precedence), id));
        gone.retain(|a| self.length(&a.digest).is_none());
        gone
    }

    /// The attachments of a message in here.
    pub(crate) fn attachments(&self, id: &MessageId) -> Option<&[AttachmentRef]> {
        self.messages.get(id).map(|(_, a)| a.as_slice())
    }

    /// The length of an attachment that a message in here has.
    pub(crate) fn length(&self, digest: &Digest) -> Option<u64> {
        let mut all = self.messages.values().flat_map(|(_, a)| a);
        all.find(|a| a.digest == *digest).map(|a| a.length)
    }
}

/// What is asked of the broker for a command that waits.
pub(crate) enum Asked {
    /// Which labels may be used to these?
    Catalog {
        to: Vec<Addressee>,
        answer: oneshot::Sender<Vec<Label>>,
    },
    /// Who of these groups may have a message of this label?
    Members {
        groups: Vec<Group>,
        label: Box<Label>,
        answer: oneshot::Sender<Vec<Option<Members>>>,
    },
}

impl Asked {
    /// Whether nobody waits any more.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Catalog { answer, .. } => answer.is_closed(),
            Self::Members { answer, .. } => answer.is_closed(),
        }
    }

    /// The question, under a number.
    pub(crate) fn frame(&self, request: u32) -> Frame {
        match self {
            Self::Catalog { to, .. } => Frame::CatalogGet {
                request,
                to: to.clone(),
            },
            Self::Members { groups, label, .. } => Frame::ExpandGet {
                request,
                groups: groups.clone(),
                label: label.clone(),
            },
        }
    }
}

/// The policies of the configuration.
pub(crate) fn policies(folder: Option<&Path>) -> Result<Policies, Failure> {
    let Some(folder) = folder else {
        return Ok(Policies::built_in().clone());
    };
    read_policies(folder).map_err(|e| {
        usage(
            e.to_string(),
            "correct the policy file; docs/policies.md describes it",
        )
    })
}

/// The desk of one node.
pub(crate) struct Desk {
    pub(crate) config: Config,
    pub(crate) name: Name,
    pub(crate) spool: Spool,
    /// Sealed attachments that came in.
    pub(crate) attachments: AttachmentStore,
    /// Sealed attachments of the outbox.
    pub(crate) sealed: AttachmentStore,
    pub(crate) signer: RwLock<Arc<FileSigner>>,
    /// Told where another certificate is in use.
    pub(crate) renewals: watch::Sender<u64>,
    pub(crate) numbers: Mutex<ListNumbers>,
    /// How far the next certificate is.
    pub(crate) renewing: Mutex<Renewing>,
    /// Warnings that are in the log already.
    pub(crate) warned: Mutex<Vec<String>>,
    /// The keys that content is sealed to.
    ring: Mutex<Ring>,
    /// What is sent to many.
    pub(crate) epochs: Mutex<Epochs>,
    /// Keys of persons here that the broker has not been told of in this session.
    unsaid: Mutex<Vec<Bytes>>,
    /// What it countersigns the broker's log with.
    pub(crate) witness: SigningKey,
    /// A checkpoint that the broker was asked about.
    questioned: Mutex<Option<Fork>>,
    clock: Clock,
    pub(crate) trust: RwLock<Arc<Trust>>,
    pub(crate) policies: RwLock<Arc<Policies>>,
    asked: Mutex<Vec<Asked>>,
    outbox: Mutex<Outbox>,
    owed: Mutex<BTreeMap<ReceiptKey, Bytes>>,
    /// Acts and declarations that the broker has not answered.
    statements: Mutex<BTreeMap<Digest, Bytes>>,
    work: Notify,
    directory: AtomicBool,
    directories: AtomicU64,
    changed: watch::Sender<u64>,
}

pub(crate) fn usage(what: impl Into<String>, hint: &str) -> Failure {
    Failure::new(Exit::Usage, what, hint)
}

pub(crate) fn internal(e: impl std::fmt::Display) -> Failure {
    Failure::internal(e.to_string())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// Opens everything the node keeps.
    pub(crate) fn open(config: Config) -> Result<Self, Failure> {
        if let Err(why) = renewing::finish(&config) {
            tracing::warn!(%why, "a renewal of the node's certificate cannot be finished");
        }
        let signer = FileSigner::load(&config.certificate, &config.key).map_err(|e| {
            usage(
                format!("certificate and key cannot be used: {e}"),
                "the workshop issues both; the key file has mode 0600",
            )
        })?;
        let trust = Trust::load_dir(&config.trust).map_err(|e| {
            usage(
                e.to_string(),
                "copy the four files of the workshop's folder `trust`",
            )
        })?;
        Self::assemble(config, signer, trust, Arc::new(now))
    }

    /// Puts the desk together; makes the folder, of mode 0700, and the encryption key at the first start.
    pub(crate) fn assemble(
        config: Config,
        signer: FileSigner,
        trust: Trust,
        clock: Clock,
    ) -> Result<Self, Failure> {
        let name = signer.certificate().name().clone();
        if name.kind() != Kind::Node {
            return Err(usage(
                format!("{name} is no node, so it has no daemon"),
                "give the daemon the node's own certificate",
            ));
        }
        let policies = policies(config.policies.as_deref())?;
        let mut folder = std::fs::DirBuilder::new();
        folder.recursive(true).mode(0o700);
        folder.create(&config.data).map_err(internal)?;
        let mut numbers = ListNumbers::open(&config.data.join("crl.numbers")).map_err(|e| {
            let hint = "where the lists in `trust` are the newest (`ordonnans-ca show --authorities`), remove the file";
            usage(e.to_string(), hint)
        })?;
        let trust = trust.with_grace(config.crl_grace);
        numbers.accept(&trust).map_err(|e| {
            usage(
                e.to_string(),
                "copy the newest four files of the workshop's folder `trust`",
            )
        })?;
        let spool = Spool::open(&config.data.join("spool.redb"))?;
        let ring = Ring::open(&config.data.join("keys"), clock())?;
        spool.forget_grants(|kid| ring.opens_until(kid).is_some())?;
        let witness = witness::key(&config.data)?;
        let attachments = |name| AttachmentStore::open(&config.data.join(name)).map_err(internal);
        let (attachments, sealed) = (attachments("attachments")?, attachments("sealed")?);
        let mut outbox = Outbox::default();
        for envelope in spool.outbox()? {
            outbox.insert(envelope.header());
        }
        // A daemon that was killed may have left what no message has.
        let mut drafted = BTreeSet::new();
        for (_, draft) in spool.drafts()? {
            drafted.extend(draft.attachments()?.into_iter().map(|a| a.digest));
        }
        for (digest, _) in sealed.list().map_err(internal)? {
            if outbox.length(&digest).is_none() && !drafted.contains(&digest) {
                sealed.remove(&digest).map_err(internal)?;
            }
        }
        let owed = spool.owed()?.into_iter().collect();
        let statements = spool.unanswered()?.into_iter().collect();
        let desk = Self {
            name,
            spool,
            attachments,
            sealed,
            signer: RwLock::new(Arc::new(signer)),
            renewals: watch::channel(0).0,
            numbers: numbers.into(),
            renewing: Mutex::default(),
            warned: Mutex::default(),
            ring: Mutex::new(ring),
            epochs: Mutex::default(),
            unsaid: Mutex::default(),
            witness,
            questioned: Mutex::default(),
            clock,
            trust: RwLock::new(Arc::new(trust)),
            policies: RwLock::new(Arc::new(policies)),
            asked: Mutex::new(vec![]),
            outbox: Mutex::new(outbox),
            owed: Mutex::new(owed),
            statements: Mutex::new(statements),
            work: Notify::new(),
            directory: AtomicBool::new(true),
            directories: AtomicU64::new(0),
            changed: watch::channel(0).0,
            config,
        };
        desk.clear_drafts().map_err(internal)?;
        desk.drop_stranded()?;
        Ok(desk)
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(crate) fn clock(&self) -> Clock {
        Arc::clone(&self.clock)
    }

    pub(crate) fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trust.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What signs for the node now.
    pub(crate) fn signer(&self) -> Arc<FileSigner> {
        Arc::clone(&self.signer.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells when another certificate came into use.
    pub(crate) fn renewals(&self) -> watch::Receiver<u64> {
        self.renewals.subscribe()
    }

    /// What a certificate says its subject may hold, under the policies that are known here.
    pub(crate) fn clearance(&self, of: &Certificate) -> Vec<String> {
        let all = of.certified().clearances(&self.policies());
        all.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.policies.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the broker, as soon as there is a line, which labels may be used.
    pub(crate) fn ask(&self, to: Vec<Addressee>) -> oneshot::Receiver<Vec<Label>> {
        let (answer, heard) = oneshot::channel();
        self.put_asked(Asked::Catalog { to, answer });
        heard
    }

    /// Asks the broker, as soon as there is a line, who of these groups may have a message of this label.
    pub(crate) fn ask_members(
        &self,
        groups: Vec<Group>,
        label: Label,
    ) -> oneshot::Receiver<Vec<Option<Members>>> {
        let (answer, heard) = oneshot::channel();
        self.put_asked(Asked::Members {
            groups,
            label: Box::new(label),
            answer,
        });
        heard
    }

    fn put_asked(&self, question: Asked) {
        let mut asked = lock(&self.asked);
        // Who does not wait any more is not asked for.
        asked.retain(|a| !a.is_closed());
        asked.push(question);
        drop(asked);
        self.work();
    }

    /// What is to be asked of the broker.
    pub(crate) fn take_asked(&self) -> Vec<Asked> {
        let mut all = std::mem::take(&mut *lock(&self.asked));
        all.retain(|a| !a.is_closed());
        all
    }

    /// Whether the next encryption key is to be made and published.
    pub(crate) fn key_is_due(&self) -> bool {
        lock(&self.ring).is_due(self.now())
    }

    /// The key that others seal to, signed; the next one where it is time. The same statement as long as it holds, so that a broken line makes no
    /// records.
    pub(crate) fn package(&self) -> Result<Bytes, Failure> {
        let mut ring = lock(&self.ring);
        ring.turn(self.now())?;
        let package = ring.package(&self.name)?;
        drop(ring);
        let signer = self.signer();
        let certificate = signer.certificate().der();
        if let Some(kept) = self.spool.package()?
            && let Ok(old) = SignedKeyPackage::decode(&kept)
            && *old.said() == package
            && old.signed().certificate() == certificate
        {
            return Ok(kept);
        }
        let package = sign_statement(&package, &*signer).map_err(internal)?;
        self.spool.put_package(&package.encode())?;
        Ok(package.encode())
    }

    /// Opens what is sealed to this node, with what an earlier message of its epoch brought where it leaves this node out ([`Self::grant`]).
    pub(crate) fn open_own(
        &self,
        envelope: &Verified<Envelope>,
        grant: Option<&Grant>,
    ) -> Result<Opened, OpenError> {
        open_with(envelope, lock(&self.ring).secrets(), &self.name, grant)
    }

    /// What a message of an epoch opens with that leaves this node out, where that is here.
    pub(crate) fn grant(&self, envelope: &Envelope) -> Result<Option<Grant>, Failure> {
        let Ok(Some(epoch)) = envelope.epoch() else {
            return Ok(None);
        };
        let header = envelope.header();
        if let Some(kept) = self.spool.granted(header.id)? {
            return Ok(Some(kept));
        }
        self.spool.grant(&header.originator, epoch)
    }

    /// Until when something sealed to a key of this node can be opened.
    pub(crate) fn opens_until(&self, kid: [u8; 8]) -> Option<Timestamp> {
        lock(&self.ring).opens_until(kid)
    }

    /// Keeps a person's signed encryption key and tells the broker, now and at the start of every session.
    pub(crate) fn publish(&self, package: &[u8]) -> Result<SignedKeyPackage, Failure> {
        let wrong = |what: String| {
            Failure::new(
                Exit::Refused,
                what,
                "publish it with `ordonnans key publish --as CERT --key KEY --seal-key FILE`",
            )
        };
        let package = self.package_of_person(package).map_err(wrong)?.into_inner();
        self.spool.put_persons_package(&package)?;
        lock(&self.unsaid).push(package.encode());
        self.work();
        Ok(package)
    }

    /// A person's live encryption key, as that person has signed it; why it is none.
    pub(crate) fn package_of_person(
        &self,
        package: &[u8],
    ) -> Result<Verified<SignedKeyPackage>, String> {
        let package = SignedKeyPackage::decode(package).map_err(|e| format!("the key: {e}"))?;
        let package = verify_statement(package, &self.trust(), self.now())
            .map_err(|e| format!("the person's certificate: {e}"))?;
        let p = package.get().said();
        if p.name.kind() != Kind::Person || p.not_after <= self.now() {
            return Err(format!("it is no person's live key: {}", p.name));
        }
        Ok(package)
    }

    /// The keys of persons that a new session begins with; those that have ended are forgotten.
    pub(crate) fn persons_packages(&self) -> Result<Vec<Bytes>, Failure> {
        lock(&self.unsaid).clear();
        self.spool.persons_packages(self.now())
    }

    /// The keys of persons to tell the broker of.
    pub(crate) fn take_packages(&self) -> Vec<Bytes> {
        std::mem::take(&mut *lock(&self.unsaid))
    }

    pub(crate) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        lock(&self.outbox)
    }

    /// Acts and declarations of ours that the broker has not answered.
    pub(crate) fn statements(&self) -> MutexGuard<'_, BTreeMap<Digest, Bytes>> {
        lock(&self.statements)
    }

    /// Receipts of ours that the broker has not confirmed.
    pub(crate) fn owed(&self) -> MutexGuard<'_, BTreeMap<ReceiptKey, Bytes>> {
        lock(&self.owed)
    }

    pub(crate) fn questioned(&self) -> MutexGuard<'_, Option<Fork>> {
        lock(&self.questioned)
    }

    /// Keeps a receipt of ours until the broker has it.
    pub(crate) fn owe(&self, receipt: &SignedReceipt) -> Result<(), Failure> {
        self.spool.owe(receipt)?;
        self.owes(receipt);
        Ok(())
    }

    /// A receipt that is durable is now to be said.
    pub(crate) fn owes(&self, receipt: &SignedReceipt) {
        self.owed()
            .insert(receipt_key(receipt.said()), receipt.encode());
        self.work();
        self.tell();
    }

    /// The broker has a receipt, or will never take it.
    pub(crate) fn paid(&self, key: &ReceiptKey) -> Result<(), Failure> {
        self.spool.paid(key)?;
        self.owed().remove(key);
        Ok(())
    }

    /// Something is to be said to the broker.
    pub(crate) fn work(&self) {
        self.work.notify_one();
    }

    pub(crate) async fn woken(&self) {
        self.work.notified().await;
    }

    /// Asks for the directory, as soon as there is a line.
    pub(crate) fn want_directory(&self) {
        self.directory.store(true, Ordering::Relaxed);
        self.work();
    }

    pub(crate) fn take_directory_wanted(&self) -> bool {
        self.directory.swap(false, Ordering::Relaxed)
    }

    /// Takes over the broker's directory.
    pub(crate) fn list(&self, entries: &[DirectoryEntry]) -> Result<(), Failure> {
        self.spool.list(entries)?;
        self.directories.fetch_add(1, Ordering::Relaxed);
        self.tell();
        Ok(())
    }

    /// How many directories came in since the start.
    pub(crate) fn directories(&self) -> u64 {
        self.directories.load(Ordering::Relaxed)
    }

    /// Something that a command may wait for has changed.
    pub(crate) fn tell(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
