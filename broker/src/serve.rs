//! Puts the broker together, reloads it, takes it apart.

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use ordonnans_audit::ClockQuality;
use ordonnans_engine::{Believed, CorruptRow, Engine, Input, Seq, Settings};
use ordonnans_identity::{
    InvalidSigner, InvalidTrust, ListNumbers, NumbersError, PolicyFileError, Trust, Usage,
    read_policies,
};
use ordonnans_label::{Kind, Name};
use ordonnans_message::Digest;
use ordonnans_policy::{Approved, Book, InvalidRegister, Register, Unapproved};
use ordonnans_seal::SystemEntropy;
use ordonnans_store::{Fatal, OpenError, Options, Store, TrailError};
use ordonnans_transport::{BindError, Identity, InvalidIdentity, Limits, Listen, Listener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::admin::{AdminSocket, SessionStatus, Status};
use crate::approvals::{self, ApprovalError};
use crate::checkpoints::{self, NotKept, Notary};
use crate::config::Config;
use crate::core::{Core, Dropped, Figures, Sessions, now, write};
use crate::freshness::{Freshness, lists};
use crate::renewals::{self, Keep};
use crate::session::{self, Shared};
use crate::sinks::Sinking;
use crate::uploads::Uploads;
use crate::urgent::Urgent;

/// Established labels that are kept, about 0.5 KiB each, until they are ended.
const LABELLED: usize = 2_000_000;
/// How often strangers are summed up, and live certificates looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// How often the older records of the log are read from end to end.
const READ_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);
/// An upload that broke off is kept so long for its node to go on with it.
const BROKEN_OFF: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Certificate or key.
    #[error(transparent)]
    Identity(#[from] InvalidIdentity),
    /// The certificate is not a broker's, or is not believed by the broker's own trust.
    #[error("{0}")]
    Certificate(String),
    /// The trust folder.
    #[error(transparent)]
    Trust(#[from] InvalidTrust),
    /// A list is beyond its grace, so that not even the broker's own certificate is believed.
    #[error("{0}")]
    StaleList(String),
    /// A list is older than one that was in force, or the record of their numbers cannot be used.
    #[error(transparent)]
    Numbers(#[from] NumbersError),
    /// A policy file.
    #[error(transparent)]
    Policies(#[from] PolicyFileError),
    /// The register cannot be read.
    #[error("the register {path} cannot be read: {source}")]
    RegisterFile {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The register.
    #[error("the register {path}: {why}")]
    Register {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        why: InvalidRegister,
    },
    /// The signatures beside the register.
    #[error(transparent)]
    Approvals(#[from] ApprovalError),
    /// The register may not take force.
    #[error("the register {path} does not take force: {why}")]
    Unapproved {
        /// Its path.
        path: PathBuf,
        /// What is missing.
        why: Unapproved,
    },
    /// The register that was in force cannot be read under the policies that are there now.
    #[error(
        "the register that was in force cannot be compared with {path}: {why}; put the policies back that it was read under"
    )]
    InForce {
        /// The new one.
        path: PathBuf,
        /// What is wrong.
        why: InvalidRegister,
    },
    /// The data directory.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// Rows of the mailbox.
    #[error(transparent)]
    Mailbox(#[from] CorruptRow),
    /// The key of the audit log.
    #[error("the key of the audit log: {0}")]
    AuditKey(#[from] InvalidSigner),
    /// The listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A file or socket in the data directory.
    #[error("{path} cannot be used: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
#[error("nothing was reloaded: {0}")]
pub struct ReloadError(String);

/// What the files say, read and checked together.
pub(crate) struct Files {
    pub(crate) identity: Identity,
    pub(crate) trust: Trust,
    pub(crate) register: Register,
    pub(crate) book: Book,
}

/// The policies of a folder beside the built-in ones.
pub(crate) fn book(folder: Option<&Path>) -> Result<Book, PolicyFileError> {
    Ok(match folder {
        None => Book::built_in(),
        Some(folder) => Book::new(read_policies(folder)?),
    })
}

/// Reads a register under these policies.
pub(crate) fn read_register(path: &Path, book: &Book) -> Result<Register, StartError> {
    let text = std::fs::read_to_string(path).map_err(|source| StartError::RegisterFile {
        path: path.into(),
        source,
    })?;
    Register::parse_under(&text, book.policies()).map_err(|why| StartError::Register {
        path: path.into(),
        why,
    })
}

impl Files {
    /// Reads certificate, trust and register, and checks that they fit.
    pub(crate) fn load(config: &Config) -> Result<Self, StartError> {
        let identity = Identity::load(&config.certificate, &config.key)?;
        let trust = Trust::load_dir(&config.trust)?.with_grace(config.crl_grace);
        let book = book(config.policies.as_deref())?;
        let register = read_register(&config.register, &book)?;
        let certificate = identity.certificate();
        if certificate.name().kind() != Kind::Broker {
            return Err(StartError::Certificate(format!(
                "{} is no broker's certificate",
                certificate.name()
            )));
        }
        if certificate.name().structure() != register.structure() {
            return Err(StartError::Certificate(format!(
                "the certificate is of {}, the register of {}",
                certificate.name().structure(),
                register.structure()
            )));
        }
        let at = now();
        if let Err(e) = trust.verify(certificate.der(), Usage::Server, at) {
            let mut over = trust.late(at).filter(|l| l.refused && e.is_stale_list());
            let over = over.next().map(|l| l.to_string());
            let own = || StartError::Certificate(format!("the broker's own certificate: {e}"));
            return Err(over.map_or_else(own, StartError::StaleList));
        }
        Ok(Self {
            identity,
            trust,
            register,
            book,
        })
    }
}

/// The highest numbers of lists seen so far.
pub(crate) fn numbers(config: &Config) -> Result<ListNumbers, NumbersError> {
    ListNumbers::open(&config.data.join("crl.numbers"))
}

/// The register of the files, approved against the text of the one in force.
fn approve(config: &Config, files: &Files, in_force: Option<&str>) -> Result<Approved, StartError> {
    let path = || config.register.clone();
    let in_force = in_force
        .map(|text| Register::parse_under(text, files.book.policies()))
        .transpose()
        .map_err(|why| StartError::InForce { path: path(), why })?;
    let signers = approvals::signers(&files.register, &config.register, &files.trust, now())?;
    let register = files.register.clone();
    if register.registrars().is_empty() {
        tracing::warn!(
            "the register names no registrars: whoever can write its file decides who may read"
        );
    }
    register
        .approve(in_force.as_ref(), &signers)
        .map_err(|why| StartError::Unapproved { path: path(), why })
}

/// A running broker.
pub struct Broker {
    config: Config,
    name: Name,
    shared: Arc<Shared>,
    listener: Arc<Listener>,
    notary: Arc<Notary>,
    core: JoinHandle<Result<(), Fatal>>,
    writer: Option<std::thread::JoinHandle<Result<(), Fatal>>>,
    tasks: Vec<JoinHandle<()>>,
    sessions: TaskTracker,
    failed: mpsc::Receiver<String>,
    /// The text of the register in force.
    in_force: Mutex<Arc<str>>,
    sinks: Vec<Sinking>,
    numbers: Mutex<ListNumbers>,
    freshness: Arc<Freshness>,
    /// Ends what reads the whole log.
    stopping: Arc<AtomicBool>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Broker({}, {})", self.name, self.listener.local_addr())
    }
}

/// The engine's task and the store's thread, running, and what they tell the rest.
struct Heart {
    core: JoinHandle<Result<(), Fatal>>,
    writer: std::thread::JoinHandle<Result<(), Fatal>>,
    /// Attachments no message refers to any more.
    removed: mpsc::UnboundedReceiver<Digest>,
    /// Details whose time is over.
    dropped: mpsc::UnboundedReceiver<Dropped>,
    /// Requests of nodes for their next certificates.
    renewals: mpsc::UnboundedReceiver<Keep>,
    figured: watch::Receiver<Figures>,
}

impl Heart {
    fn start(
        engine: Engine,
        recovered: Seq,
        store: Store,
        (inputs, offers): (mpsc::Receiver<Input>, mpsc::Receiver<Input>),
        sessions: &Arc<Sessions>,
    ) -> std::io::Result<Self> {
        let (commits, to_write) = mpsc::unbounded_channel();
        let (written, durable) = mpsc::unbounded_channel();
        let (remove_attachment, removed) = mpsc::unbounded_channel();
        let (drop_details, dropped) = mpsc::unbounded_channel();
        let (keep_renewal, renewals) = mpsc::unbounded_channel();
        let (figures, figured) = watch::channel(Figures {
            records: engine.records(),
            queued: engine.queued(),
            register: engine.register().version(),
            durable: recovered.0,
        });
        let thread = std::thread::Builder::new().name("journal".into());
        let writer = thread.spawn(move || write(store, to_write, &written))?;
        let core = Core {
            engine,
            recovered,
            sessions: Arc::clone(sessions),
            inputs,
            offers,
            commits,
            durable,
            remove_attachment,
            dropped: drop_details,
            renewals: keep_renewal,
            figures,
        };
        Ok(Self {
            core: tokio::spawn(core.run()),
            writer,
            removed,
            dropped,
            renewals,
            figured,
        })
    }
}

impl Broker {
    /// Recovers the store, verifies it, and only then listens.
    ///
    /// # Errors
    /// [`StartError`] says what is wrong; nothing listens.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let files = Files::load(&config)?;
        let name = files.identity.certificate().name().clone();
        let data = config.data.clone();
        let io = |path: PathBuf| move |source| StartError::Io { path, source };
        // Whoever writes to whom is nobody else's business.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&data)
            .map_err(io(data.clone()))?;
        if let Some(folder) = &config.renewals {
            renewals::make(folder).map_err(io(folder.clone()))?;
        }
        let mut numbers = numbers(&config)?;
        numbers.check(&files.trust)?;
        let notary = Arc::new(Notary::open(&data, &name)?);
        let published = data.join("audit.pub");
        std::fs::write(&published, format!("{}\n", notary.verifier())).map_err(io(published))?;
        let options = Options {
            verifier: Some(notary.verifier()),
            ..Options::default()
        };
        let (store, recovered, recovery) =
            tokio::task::spawn_blocking(move || Store::open(&data, options))
                .await
                .map_err(std::io::Error::other)
                .map_err(io(config.data.clone()))??;
        tracing::info!(
            commits = recovered.seq.0,
            records = recovered.frontier.head().size,
            replayed = recovery.replayed,
            cut_bytes = recovery.cut,
            "the store is verified"
        );
        for why in &recovery.rebuilt {
            tracing::error!(why, "a view was built again from the journal");
        }
        let settings = Settings {
            broker: name.clone(),
            queue: config.limits.queue,
            remembered: config.limits.remembered,
            remember_ms: config.limits.remember.as_millis() as u64,
            labelled: LABELLED,
            clock: ClockQuality::Unknown,
            configuration: config.digest,
            alarms: config.alarms,
            quotas: config.quotas,
            contacts: config.contacts.clone(),
            retention: config.retention,
        };
        let before = recovered.seq;
        let (reader, attachments) = (store.reader(), store.attachments().clone());
        let whole = attachments
            .list()
            .map_err(io(config.data.join("attachments")))?;
        let register = approve(&config, &files, recovered.register.as_deref())?;
        let in_force = Mutex::new(register.register().text().into());
        let policies = files.book.policies().clone();
        let mut engine = Engine::new(
            settings,
            register,
            files.book,
            recovered,
            whole,
            Box::new(SystemEntropy),
            now(),
        )?;
        let trust = Arc::new(files.trust);
        let believed = believed(Arc::clone(&trust));
        // What a certificate gives rests on its authorities, too, and those are read at each start.
        if !engine.agrees_with(&believed) {
            engine.handle(now(), Input::TrustChanged { believed });
        }
        if !numbers.was_found() && before.0 > 0 {
            let note =
                "the record of list numbers is gone; it begins anew with the lists that are here";
            tracing::error!(note);
            let note = note.into();
            engine.handle(now(), Input::Alarm { who: None, note });
        }
        numbers.accept(&trust)?;
        let (inputs, taken) = mpsc::channel(config.limits.inputs);
        let (offers, offered) = mpsc::channel(config.limits.inputs);
        let (fatal, failed) = mpsc::channel(1);
        let limits = Limits {
            connections: config.limits.connections,
            connections_per_address: config.limits.connections_per_address,
            ..Limits::default()
        };
        let listen = Listen {
            quic: config.listen,
            tcp: config.listen_tcp,
            hybrid_only: config.hybrid_only,
        };
        let listener = Listener::bind_all(listen, &files.identity, &trust, limits, Arc::new(now))?;
        let shared = Arc::new(Shared {
            name: name.clone(),
            trust: RwLock::new(trust),
            policies: RwLock::new(policies),
            inputs,
            offers,
            sessions: Arc::new(Sessions::default()),
            reader: reader.clone(),
            attachments,
            uploading: Uploads::default(),
            notary: Arc::clone(&notary),
            urgent: Urgent::default(),
            renews: config.renewals.is_some(),
            fatal,
        });
        let admin =
            AdminSocket::bind(&config.admin_socket).map_err(io(config.admin_socket.clone()))?;
        let heart = Heart::start(engine, before, store, (taken, offered), &shared.sessions)
            .map_err(io(config.data.clone()))?;
        let mut broker = Self {
            config,
            name,
            listener: Arc::new(listener),
            notary,
            core: heart.core,
            writer: Some(heart.writer),
            tasks: vec![],
            sessions: TaskTracker::new(),
            failed,
            in_force,
            sinks: vec![],
            numbers: numbers.into(),
            freshness: Arc::new(Freshness::new(files.identity.certificate().clone())),
            stopping: Arc::default(),
            shared,
        };
        broker.keep(heart.dropped);
        if let Some(folder) = broker.config.renewals.clone() {
            let shared = Arc::clone(&broker.shared);
            let run = renewals::run(shared, folder, heart.renewals);
            broker.tasks.push(tokio::spawn(run));
        }
        broker.spawn(heart.removed, heart.figured, admin);
        for sink in broker.config.sinks.clone() {
            let (data, reader) = (broker.config.data.clone(), reader.clone());
            let begun = Sinking::begin(sink, &data, reader, broker.name.clone());
            broker.sinks.push(begun.map_err(io(data))?);
        }
        Ok(broker)
    }

    /// Starts what looks after the log: what is old is read again, and what is over is destroyed.
    fn keep(&mut self, mut dropped: mpsc::UnboundedReceiver<Dropped>) {
        let (reader, fatal) = (self.shared.reader.clone(), self.shared.fatal.clone());
        let stopping = Arc::clone(&self.stopping);
        self.tasks.push(tokio::spawn(async move {
            let mut every = tokio::time::interval(READ_AGAIN);
            loop {
                every.tick().await;
                let (reader, stopping) = (reader.clone(), Arc::clone(&stopping));
                match tokio::task::spawn_blocking(move || reader.verify_older(&stopping)).await {
                    Ok(Ok(records)) => tracing::info!(records, "the older records are verified"),
                    Ok(Err(TrailError::Stopped)) => return,
                    Ok(Err(why)) => return drop(fatal.send(why.to_string()).await),
                    Err(_) => return,
                }
            }
        }));
        let attachments = self.shared.attachments.clone();
        self.tasks.push(tokio::spawn(async move {
            let mut every = tokio::time::interval(READ_AGAIN);
            loop {
                every.tick().await;
                let attachments = attachments.clone();
                let forget = move || attachments.forget_broken_off(BROKEN_OFF);
                if let Ok(Err(why)) = tokio::task::spawn_blocking(forget).await {
                    tracing::warn!(%why, "uploads that broke off could not be removed");
                }
            }
        }));
        let (reader, fatal) = (self.shared.reader.clone(), self.shared.fatal.clone());
        self.tasks.push(tokio::spawn(async move {
            while let Some(what) = dropped.recv().await {
                let reader = reader.clone();
                let done = tokio::task::spawn_blocking(move || match what {
                    Dropped::Days(through, keep) => reader.drop_details(through, &keep).map(drop),
                    Dropped::Incident(name) => reader.drop_incident(&name),
                });
                if let Ok(Err(why)) = done.await {
                    return drop(fatal.send(why.to_string()).await);
                }
            }
        }));
    }

    /// Starts what runs beside the engine.
    fn spawn(
        &mut self,
        mut removed: mpsc::UnboundedReceiver<Digest>,
        figured: watch::Receiver<Figures>,
        admin: AdminSocket,
    ) {
        let attachments = self.shared.attachments.clone();
        self.tasks.push(tokio::spawn(async move {
            while let Some(digest) = removed.recv().await {
                if let Err(why) = attachments.remove(&digest) {
                    tracing::warn!(%digest, %why, "an attachment could not be removed");
                }
            }
        }));
        let (listener, shared, tracker) = (
            Arc::clone(&self.listener),
            Arc::clone(&self.shared),
            self.sessions.clone(),
        );
        self.tasks.push(tokio::spawn(async move {
            while let Some(connection) = listener.accept().await {
                tracker.spawn(session::run(Arc::clone(&shared), connection));
            }
        }));
        let (listener, shared) = (Arc::clone(&self.listener), Arc::clone(&self.shared));
        let reader = shared.reader.clone();
        let freshness = Arc::clone(&self.freshness);
        let name = self.name.to_string();
        let (status, shown) = watch::channel(Status::default());
        self.tasks.push(tokio::spawn(async move {
            let mut every = tokio::time::interval(SWEEP);
            loop {
                every.tick().await;
                if !listener.recheck().is_empty() {
                    let believed = believed(shared.trust());
                    shared.tell(Input::TrustChanged { believed }).await;
                }
                let (count, why) = listener.refusals();
                if count > 0 {
                    tracing::info!(count, why, "refused before they were known");
                    shared.tell(Input::Strangers { count, why }).await;
                }
                let trust = shared.trust();
                let fresh = freshness.look(&trust, now());
                for note in fresh.alarms {
                    tracing::warn!(note, "a list of revoked certificates is late");
                    shared.tell(Input::Alarm { who: None, note }).await;
                }
                let figures = figured.borrow().clone();
                let sessions = shared.sessions.connections();
                status.send_replace(Status {
                    broker: name.clone(),
                    listen: listener.local_addr().to_string(),
                    listen_tcp: listener.tcp_addr().map(|a| a.to_string()),
                    records: figures.records,
                    root: reader.head().root.to_string(),
                    durable: figures.durable,
                    queued: figures.queued,
                    register: figures.register,
                    certificate_until: freshness.certificate_until().to_string(),
                    lists: lists(&trust),
                    warnings: fresh.warnings,
                    sessions: sessions
                        .iter()
                        .map(|c| SessionStatus {
                            peer: c.peer().name().to_string(),
                            carrier: c.carrier().as_str().into(),
                            key_exchange: c.key_exchange().into(),
                            cipher_suite: c.cipher_suite().into(),
                            clearance: shared.clearance(c.peer()),
                            certificate_until: c.peer().not_after().to_string(),
                        })
                        .collect(),
                });
            }
        }));
        self.tasks.push(tokio::spawn(admin.run(shown)));
        let (notary, shared) = (Arc::clone(&self.notary), Arc::clone(&self.shared));
        let due = self.config.checkpoints;
        self.tasks.push(tokio::spawn(async move {
            let (reader, inputs) = (shared.reader.clone(), shared.inputs.clone());
            let why = checkpoints::run(notary, reader, due, inputs).await;
            drop(shared.fatal.send(why).await);
        }));
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Where it listens for TCP, if it does.
    #[must_use]
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.listener.tcp_addr()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Reads certificate, trust, policies and register again and puts them in force together; peers no longer believed are cut off.
    ///
    /// # Errors
    /// [`ReloadError`]: everything stays as it was.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        let files = match self.read_again() {
            Ok(files) => files,
            Err(e) => {
                // Somebody brought lists that are forged, foreign or old: not a matter of a log line alone.
                if matches!(
                    e,
                    StartError::Trust(_) | StartError::Numbers(_) | StartError::StaleList(_)
                ) {
                    let note = format!("new trust is not taken: {e}");
                    self.shared.tell(Input::Alarm { who: None, note }).await;
                }
                return Err(ReloadError(e.to_string()));
            }
        };
        let in_force = || self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Arc::clone(&in_force());
        let register =
            approve(&self.config, &files, Some(&before)).map_err(|e| ReloadError(e.to_string()))?;
        self.numbers()
            .accept(&files.trust)
            .map_err(|e| ReloadError(e.to_string()))?;
        let trust = Arc::new(files.trust);
        *self
            .shared
            .trust
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::clone(&trust);
        // The engine first: what comes behind this is judged by the new trust.
        let believed = believed(Arc::clone(&trust));
        self.shared.tell(Input::TrustChanged { believed }).await;
        let cut_off = self
            .listener
            .reload(&files.identity, &trust)
            .map_err(|e| ReloadError(e.to_string()))?;
        self.freshness.renewed(files.identity.certificate().clone());
        tracing::info!(
            cut_off = cut_off.len(),
            register = files.register.version(),
            "reloaded"
        );
        *in_force() = register.register().text().into();
        *self
            .shared
            .policies
            .write()
            .unwrap_or_else(PoisonError::into_inner) = files.book.policies().clone();
        let law = Input::LawChanged {
            register: Box::new(register),
            book: Box::new(files.book),
        };
        self.shared.tell(law).await;
        Ok(())
    }

    fn numbers(&self) -> MutexGuard<'_, ListNumbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_again(&self) -> Result<Files, StartError> {
        let files = Files::load(&self.config)?;
        self.numbers().check(&files.trust)?;
        Ok(files)
    }

    /// Waits until something fails for good; the caller then stops.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            why = self.failed.recv() => why.unwrap_or_else(|| "the broker ended".into()),
            ended = &mut self.core => match ended {
                Ok(Err(fatal)) => fatal.to_string(),
                _ => "the engine ended".into(),
            },
        }
    }

    /// Stops: peers are told, everything accepted is durable, the views are settled and the log is signed.
    ///
    /// # Errors
    /// [`Fatal`] where the store failed; what was acknowledged is in the journal all the same.
    pub async fn stop(mut self) -> Result<(), Fatal> {
        self.stopping.store(true, Ordering::Relaxed);
        if !self.core.is_finished() {
            self.shared.tell(Input::Stopping).await;
            if let Ok(ended) = (&mut self.core).await {
                ended?;
            }
        }
        self.listener.close().await;
        self.tasks.iter().for_each(JoinHandle::abort);
        for task in self.tasks.drain(..) {
            drop(task.await);
        }
        self.sessions.close();
        self.sessions.wait().await;
        if let Some(writer) = self.writer.take() {
            let joined = tokio::task::spawn_blocking(move || writer.join()).await;
            if let Ok(Ok(result)) = joined {
                result?;
            }
        }
        // They end with the page at hand; waiting for that must not hold a thread of the runtime.
        let sinks = std::mem::take(&mut self.sinks);
        drop(tokio::task::spawn_blocking(move || drop(sinks)).await);
        if let Err(NotKept::ForNow(why) | NotKept::ForGood(why)) =
            self.notary.sign(&self.shared.reader)
        {
            tracing::warn!(why, "the last checkpoint was not signed");
        }
        Ok(())
    }
}

/// What this trust says of certificates now. One that has merely ended says what it said: its node comes back with another, and what it
/// sent before waits for nobody. One that is revoked, or of another authority, says nothing.
fn believed(trust: Arc<Trust>) -> Believed {
    Believed::new(move |c| {
        let at = now().min(c.not_after());
        trust
            .verify(c.der(), Usage::Client, at)
            .map_err(|e| e.reason())
    })
}
