//! What the daemon does at its desk: seal and keep what goes out, verify and keep what comes in, open for readers.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ordonnans_identity::{FileSigner, Signer, Trust};
use ordonnans_label::{Kind, Name};
use ordonnans_message::{
    AttachmentKey, AttachmentRef, Content, ContentRef, Digest, Envelope, Header, MessageId,
    Precedence, Receipt, ReceiptKind, Recipient, Role, SUITE_X_WING, Sealing, SignedKeyPackage,
    SignedReceipt, Timestamp, limits, sha256,
};
use ordonnans_seal::{
    Entropy, NodeSecret, SealError, SystemEntropy, Verified, open, open_attachment, seal,
    seal_attachment, sign_key_package, sign_receipt, verify_envelope, verify_key_package,
    verify_receipt,
};
use ordonnans_store::AttachmentStore;

use crate::address::{Address, name};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::local::Submission;
use crate::spool::{Arrived, Sent, Spool, Verdict};

/// How long a published encryption key is offered, in milliseconds: renewed at every start and connection well before.
const KEY_LIFETIME_MS: u64 = 90 * 24 * 60 * 60 * 1000;

/// The time by the system's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_millis(since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
}

/// A message that waits for the broker's verdict.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) precedence: Precedence,
    pub(crate) attachments: Vec<AttachmentRef>,
}

/// What becomes of a message that was delivered.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// It is not what it claims to be, or not for us: nothing is said.
    Ignored(String),
    /// These attachments are not here yet.
    Missing(Vec<AttachmentRef>),
    /// It is kept, or was before, or cannot be used; the receipt is durable.
    Receipted(SignedReceipt),
}

/// The desk of one node.
pub(crate) struct Desk {
    pub(crate) config: Config,
    pub(crate) name: Name,
    pub(crate) spool: Spool,
    pub(crate) attachments: AttachmentStore,
    signer: FileSigner,
    secrets: Vec<NodeSecret>,
    trust: RwLock<Arc<Trust>>,
    outbox: Mutex<BTreeMap<MessageId, Waiting>>,
}

fn usage(what: impl Into<String>, hint: &str) -> Failure {
    Failure::new(Exit::Usage, what, hint)
}

fn internal(e: impl std::fmt::Display) -> Failure {
    Failure::internal(e.to_string())
}

impl Desk {
    /// Opens everything the node keeps; makes its encryption key at the first start.
    pub(crate) fn open(config: Config) -> Result<Self, Failure> {
        let signer = FileSigner::load(&config.certificate, &config.key).map_err(|e| {
            usage(
                format!("certificate and key cannot be used: {e}"),
                "the workshop issues both; the key file has mode 0600",
            )
        })?;
        let name = signer.certificate().name().clone();
        if name.kind() != Kind::Node {
            return Err(usage(
                format!("{name} is no node, so it has no daemon"),
                "give the daemon the node's own certificate",
            ));
        }
        let trust = Trust::load_dir(&config.trust).map_err(|e| {
            usage(
                e.to_string(),
                "copy the four files of the workshop's folder `trust`",
            )
        })?;
        std::fs::create_dir_all(&config.data).map_err(internal)?;
        let spool = Spool::open(&config.data.join("spool.redb"))?;
        let path = config.data.join("node.x-wing");
        let secret = if path.exists() {
            NodeSecret::load(&path).map_err(internal)?
        } else {
            NodeSecret::create(&path, &mut SystemEntropy).map_err(internal)?
        };
        let attachments =
            AttachmentStore::open(&config.data.join("attachments")).map_err(internal)?;
        let outbox = spool.outbox()?;
        let outbox = outbox.iter().map(|e| (e.header().id, waiting(e.header())));
        Ok(Self {
            name,
            outbox: Mutex::new(outbox.collect()),
            spool,
            attachments,
            signer,
            secrets: vec![secret],
            trust: RwLock::new(Arc::new(trust)),
            config,
        })
    }

    pub(crate) fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trust.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the trust folder again; where it cannot be used, the old one stays.
    pub(crate) fn reload_trust(&self) {
        match Trust::load_dir(&self.config.trust) {
            Ok(trust) => {
                *self.trust.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(trust);
            }
            Err(why) => {
                tracing::warn!(%why, "the trust folder cannot be used; the old trust stays")
            }
        }
    }

    pub(crate) fn outbox(&self) -> MutexGuard<'_, BTreeMap<MessageId, Waiting>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key that others seal to, signed.
    pub(crate) fn package(&self) -> Result<SignedKeyPackage, Failure> {
        let secret = self.secrets.first().ok_or_else(|| internal("no key"))?;
        let package = secret.package(&self.name, now().after(KEY_LIFETIME_MS));
        sign_key_package(&package, &self.signer).map_err(internal)
    }

    fn recipients(&self, s: &Submission) -> Result<Vec<Recipient>, Failure> {
        let precedence: Precedence = s
            .precedence
            .parse()
            .map_err(|e| usage(format!("{e}"), "for example -p IMMEDIATE, or O"))?;
        let all = s.to.iter().map(|t| (t, Role::Action));
        all.chain(s.info.iter().map(|t| (t, Role::Info)))
            .map(|(text, role)| {
                let a = Address::parse(text, self.name.structure())
                    .map_err(|e| usage(e.to_string(), "`ordonnans directory` lists the nodes"))?;
                Ok(Recipient {
                    node: a.node,
                    person: a.person,
                    role,
                    precedence,
                })
            })
            .collect()
    }

    /// The keys of every recipient node; the names whose key is not known.
    pub(crate) fn keys(
        &self,
        s: &Submission,
    ) -> Result<(Vec<Verified<SignedKeyPackage>>, Vec<Name>), Failure> {
        let (trust, now) = (self.trust(), now());
        let (mut keys, mut missing) = (vec![], vec![]);
        for r in self.recipients(s)? {
            let listed = self.spool.listed(&r.node)?;
            let package = listed.and_then(|l| l.package());
            match package.and_then(|p| verify_key_package(p, &trust, now).ok()) {
                Some(key) => keys.push(key),
                None => missing.push(r.node),
            }
        }
        Ok((keys, missing))
    }

    /// Seals, signs and keeps a message. When this returns it is never lost.
    pub(crate) fn submit(&self, s: &Submission) -> Result<MessageId, Failure> {
        let at = now();
        let (keys, missing) = self.keys(s)?;
        if let Some(node) = missing.first() {
            return Err(Failure::new(
                Exit::Refused,
                format!("{node} is not in the directory with a key to seal to"),
                "check the name with `ordonnans directory`; the node's daemon must have connected once",
            ));
        }
        let label = s.label.parse().map_err(|e| {
            usage(
                format!("the label: {e}"),
                "for example -l \"Dep.V // TOT 2036-01-01 // VASTGESTELD vermeer.person.crisis.example\"",
            )
        })?;
        let structure = self.name.structure();
        let author = s.author.as_ref().map(|a| name(a, Kind::Person, structure));
        let author = author
            .transpose()
            .map_err(|e| usage(e.to_string(), "name a person of the register"))?;
        let mut random = [0; 10];
        SystemEntropy.fill(&mut random);
        let none = sha256(&[]);
        let (attachments, sealed) = self.seal_files(&s.attachments)?;
        let header = Header {
            id: MessageId::new(at, random),
            originator: self.name.clone(),
            author,
            label,
            recipients: self.recipients(s)?,
            exercise: s.exercise,
            created: at,
            expires: s.expires,
            reply_by: s.reply_by,
            references: s.references.clone(),
            supersedes: s.supersedes,
            content: ContentRef {
                digest: none,
                length: 0,
            },
            attachments: sealed,
            sealing: Sealing {
                suite: SUITE_X_WING,
                commitment: none,
                seals: none,
            },
        };
        let content = Content {
            subject: s.subject.clone(),
            media_type: s.media_type.clone(),
            name: s.name.clone(),
            body: s.body.clone(),
            attachments,
        };
        let envelope = seal(header, &content, &keys, &self.signer, &mut SystemEntropy)
            .map_err(|e| refused(&e))?;
        let header = envelope.header();
        let sent = Sent {
            envelope: envelope.digest(),
            precedence: header.precedence(),
            created: at,
            label: header.label.to_string(),
            recipients: header
                .recipients
                .iter()
                .map(|r| r.node.to_string())
                .collect(),
            verdict: None,
        };
        self.spool.submit(&envelope, &sent)?;
        self.outbox().insert(header.id, waiting(header));
        Ok(header.id)
    }

    fn seal_files(
        &self,
        paths: &[PathBuf],
    ) -> Result<(Vec<AttachmentKey>, Vec<AttachmentRef>), Failure> {
        if paths.len() > limits::MAX_ATTACHMENTS {
            return Err(usage(
                format!(
                    "a message has at most {} attachments",
                    limits::MAX_ATTACHMENTS
                ),
                "send several messages, or pack the files",
            ));
        }
        let (mut keys, mut refs) = (vec![], vec![]);
        for path in paths {
            let unreadable = |e: &dyn std::fmt::Display| {
                usage(
                    format!("the attachment {} cannot be sealed: {e}", path.display()),
                    "check the file; an attachment has at most 1 GiB",
                )
            };
            let mut from = File::open(path).map_err(|e| unreadable(&e))?;
            let mut to = tempfile_in(&self.config.data).map_err(internal)?;
            let sealed = seal_attachment(&mut from, &mut to.file, &mut SystemEntropy)
                .map_err(|e| unreadable(&e))?;
            to.file.sync_all().map_err(internal)?;
            to.keep(&self.attachments, &sealed.reference)?;
            let file_name = path.file_name().map(|n| n.to_string_lossy().into_owned());
            keys.push(AttachmentKey {
                digest: sealed.reference.digest,
                key: sealed.key,
                name: file_name
                    .unwrap_or_default()
                    .chars()
                    .take(limits::MAX_TEXT)
                    .collect(),
                media_type: "application/octet-stream".into(),
                length: sealed.length,
            });
            refs.push(sealed.reference);
        }
        Ok((keys, refs))
    }

    /// Notes what the broker decided on a message of ours; its sealed attachments are no longer needed here.
    pub(crate) fn decided(&self, id: MessageId, verdict: Verdict) -> Result<(), Failure> {
        self.spool.decided(id, verdict)?;
        let gone = self.outbox().remove(&id);
        for a in gone.into_iter().flat_map(|w| w.attachments) {
            let still = self.outbox().values().any(|w| w.attachments.contains(&a));
            if !still {
                self.attachments.remove(&a.digest).map_err(internal)?;
            }
        }
        Ok(())
    }

    fn sign(&self, envelope: &Envelope, kind: ReceiptKind) -> Result<SignedReceipt, Failure> {
        let receipt = Receipt {
            message: envelope.header().id,
            envelope: envelope.digest(),
            kind,
            by: self.name.clone(),
            at: now(),
        };
        sign_receipt(&receipt, &self.signer).map_err(internal)
    }

    /// Takes a delivered message: verified, complete and openable, it is kept once, together with its receipt.
    pub(crate) fn arrive(&self, bytes: &[u8]) -> Result<Arrival, Failure> {
        let envelope = match Envelope::decode(bytes) {
            Ok(e) => e,
            Err(e) => return Ok(Arrival::Ignored(e.to_string())),
        };
        if !envelope.header().nodes().contains(&self.name) {
            return Ok(Arrival::Ignored("it is not addressed to this node".into()));
        }
        let id = envelope.header().id;
        if let Some(arrived) = self.spool.arrived(id)? {
            if arrived.envelope != envelope.digest() {
                return Ok(Arrival::Ignored("another message has this id".into()));
            }
            let receipt = self.sign(&envelope, ReceiptKind::Delivered)?;
            self.spool.owe(&receipt)?;
            return Ok(Arrival::Receipted(receipt));
        }
        let verified = match verify_envelope(envelope, &self.trust(), now()) {
            Ok(v) => v,
            Err(e) => return Ok(Arrival::Ignored(e.to_string())),
        };
        let envelope = verified.get();
        let here = |a: &&AttachmentRef| self.attachments.have(&a.digest) == (a.length, true);
        let all = &envelope.header().attachments;
        if open(&verified, &self.secrets, &self.name).is_err() {
            // It will never open: say so, rather than have it sent again and again.
            let receipt = self.sign(envelope, ReceiptKind::Refused)?;
            self.spool.owe(&receipt)?;
            return Ok(Arrival::Receipted(receipt));
        }
        let missing: Vec<AttachmentRef> = all.iter().filter(|a| !here(a)).copied().collect();
        if !missing.is_empty() {
            return Ok(Arrival::Missing(missing));
        }
        let receipt = self.sign(envelope, ReceiptKind::Delivered)?;
        let arrived = Arrived {
            received: now(),
            envelope: envelope.digest(),
            opened: false,
        };
        self.spool.arrive(envelope, &arrived, &receipt)?;
        Ok(Arrival::Receipted(receipt))
    }

    /// Keeps a receipt for a message of ours, where it is one.
    pub(crate) fn receipted(&self, bytes: &[u8]) -> Result<Option<Receipt>, Failure> {
        let Ok(receipt) = SignedReceipt::decode(bytes) else {
            return Ok(None);
        };
        let Ok(receipt) = verify_receipt(receipt, &self.trust(), now()) else {
            return Ok(None);
        };
        let r = receipt.get().receipt().clone();
        let sent = self.spool.sent(r.message)?;
        if sent.is_none_or(|s| s.envelope != r.envelope) {
            return Ok(None);
        }
        self.spool.receipted(receipt.get())?;
        Ok(Some(r))
    }

    fn message(&self, id: MessageId) -> Result<Envelope, Failure> {
        self.spool.incoming(id)?.ok_or_else(|| {
            Failure::new(
                Exit::Refused,
                format!("{id} is not in the inbox"),
                "`ordonnans inbox` lists what is",
            )
        })
    }

    /// What a person signs before a message is opened for them.
    pub(crate) fn to_be_opened(&self, id: MessageId, by: Name) -> Result<Receipt, Failure> {
        let envelope = self.message(id)?;
        Ok(Receipt {
            message: id,
            envelope: envelope.digest(),
            kind: ReceiptKind::Opened,
            by,
            at: now(),
        })
    }

    /// Opens a message. First the receipt *opened* is kept: the person's, where one is given, else the node's.
    pub(crate) fn read(
        &self,
        id: MessageId,
        receipt: Option<&[u8]>,
    ) -> Result<(Header, Content), Failure> {
        let envelope = self.message(id)?;
        let named: Vec<&Name> = envelope
            .header()
            .recipients
            .iter()
            .filter(|r| r.node == self.name)
            .filter_map(|r| r.person.as_ref())
            .collect();
        let receipt = match receipt {
            Some(bytes) => self.persons(&envelope, &named, bytes)?,
            None if named.is_empty() => self.sign(&envelope, ReceiptKind::Opened)?,
            None => {
                return Err(Failure::new(
                    Exit::Refused,
                    "this message is for a named person",
                    "open it with --as CERT --key KEY of that person",
                ));
            }
        };
        // It was verified when it came; its certificate may have ended since.
        let at = envelope.header().created;
        let verified = verify_envelope(envelope.clone(), &self.trust(), now())
            .or_else(|_| verify_envelope(envelope, &self.trust(), at))
            .map_err(|e| {
                Failure::new(
                    Exit::Proof,
                    e.to_string(),
                    "the originator's certificate is no longer believed; ask your security officer",
                )
            })?;
        let content = open(&verified, &self.secrets, &self.name).map_err(|e| {
            Failure::new(
                Exit::Proof,
                e.to_string(),
                "ask the originator to send it again",
            )
        })?;
        self.spool.owe(&receipt)?;
        Ok((verified.get().header().clone(), content))
    }

    fn persons(
        &self,
        envelope: &Envelope,
        named: &[&Name],
        bytes: &[u8],
    ) -> Result<SignedReceipt, Failure> {
        let wrong = |what: String| {
            Failure::new(
                Exit::Refused,
                what,
                "use the certificate and key of a person this message is for",
            )
        };
        let receipt =
            SignedReceipt::decode(bytes).map_err(|e| wrong(format!("the receipt: {e}")))?;
        let receipt = verify_receipt(receipt, &self.trust(), now())
            .map_err(|e| wrong(format!("the person's certificate: {e}")))?
            .into_inner();
        let r = receipt.receipt();
        let fits = r.kind == ReceiptKind::Opened && r.envelope == envelope.digest();
        if !fits || (!named.is_empty() && !named.contains(&&r.by)) {
            return Err(wrong(format!("this message is not for {}", r.by)));
        }
        Ok(receipt)
    }

    /// Opens an attachment of an opened message into a new file.
    pub(crate) fn save_attachment(&self, a: &AttachmentKey, to: &Path) -> Result<(), Failure> {
        let mut from = self.attachments.read(&a.digest).map_err(internal)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(to)
            .map_err(|e| {
                usage(
                    format!("{} cannot be made: {e}", to.display()),
                    "choose a new file in a folder the daemon can write",
                )
            })?;
        let opened = open_attachment(&mut from, &mut file, &a.key)
            .map_err(|e| e.to_string())
            .and_then(|n| {
                if n == a.length {
                    file.flush()
                        .and_then(|()| file.sync_all())
                        .map_err(|e| e.to_string())
                } else {
                    Err("it has another length than stated".into())
                }
            });
        opened.map_err(|why| {
            // Half a file is worse than none.
            drop(std::fs::remove_file(to));
            Failure::new(
                Exit::Proof,
                format!("the attachment was not opened: {why}"),
                "ask the originator to send it again",
            )
        })
    }

    /// The own certificate's end.
    pub(crate) fn certificate_until(&self) -> Timestamp {
        self.signer.certificate().not_after()
    }

    /// The envelope of a message that waits for the broker.
    pub(crate) fn outgoing(&self, id: MessageId) -> Result<Option<Bytes>, Failure> {
        self.spool.outgoing(id)
    }

    /// Whether an attachment is needed by a message in the outbox.
    pub(crate) fn to_upload(&self, digest: &Digest) -> Option<u64> {
        let outbox = self.outbox();
        let mut all = outbox.values().flat_map(|w| &w.attachments);
        all.find(|a| a.digest == *digest).map(|a| a.length)
    }
}

fn waiting(header: &Header) -> Waiting {
    Waiting {
        precedence: header.precedence(),
        attachments: header.attachments.clone(),
    }
}

fn refused(e: &SealError) -> Failure {
    let (exit, hint) = match e {
        SealError::NoKey(_) | SealError::KeyExpired(_) | SealError::KeyUnusable(_) => (
            Exit::Refused,
            "its daemon publishes a key when it connects; `ordonnans directory` shows who has one",
        ),
        SealError::TooLarge { .. } => (Exit::Usage, "give the file with --attach"),
        SealError::Header(_) => (
            Exit::Usage,
            "check recipients and times: a message has 1 to 64 recipients, each once, and lives at most 30 days",
        ),
        SealError::Sign(_) => (Exit::Internal, "check the node's key"),
    };
    Failure::new(exit, e.to_string(), hint)
}

/// A file that is sealed into before its digest is known.
struct SealedFile {
    file: File,
    path: PathBuf,
}

fn tempfile_in(dir: &Path) -> std::io::Result<SealedFile> {
    let mut random = [0; 8];
    SystemEntropy.fill(&mut random);
    let path = dir.join(format!("sealing-{:016x}", u64::from_be_bytes(random)));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)?;
    Ok(SealedFile { file, path })
}

impl SealedFile {
    /// Moves the sealed bytes to where attachments are kept.
    fn keep(self, store: &AttachmentStore, of: &AttachmentRef) -> Result<(), Failure> {
        store.adopt(&self.path, &of.digest).map_err(internal)
    }
}

impl Drop for SealedFile {
    fn drop(&mut self) {
        // Gone already where it was kept.
        drop(std::fs::remove_file(&self.path));
    }
}
