//! The daemon: keeps a line to the broker and answers commands.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ordonnans_seal::{Entropy, SystemEntropy};
use ordonnans_transport::{ClientOptions, Identity, Limits, connect};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::desk::{Desk, now};
use crate::failure::Failure;
use crate::line::{End, speak};
use crate::local::Socket;

/// How long a connection must have lasted for the backoff to start over.
const STEADY: Duration = Duration::from_secs(30);

struct LineStatus {
    connected: Option<(&'static str, SocketAddr)>,
    why: String,
}

/// A node's daemon.
pub struct Daemon {
    pub(crate) desk: Arc<Desk>,
    work: Notify,
    directory: Notify,
    changed: watch::Sender<u64>,
    line: Mutex<LineStatus>,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Daemon({})", self.desk.name)
    }
}

impl Daemon {
    /// Opens the spool, answers commands and keeps the line until `stop`.
    ///
    /// # Errors
    /// [`Failure`]: the configuration, the keys or the disk. A broker that is out of reach is no failure: it is tried again.
    pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Failure> {
        let opened = tokio::task::spawn_blocking(move || Desk::open(config)).await;
        let desk = opened.map_err(|e| Failure::internal(e.to_string()))??;
        let socket = Socket::bind(&desk.config.socket)?;
        let daemon = Arc::new(Self {
            desk: Arc::new(desk),
            work: Notify::new(),
            directory: Notify::new(),
            changed: watch::channel(0).0,
            line: Mutex::new(LineStatus {
                connected: None,
                why: "not yet connected".into(),
            }),
        });
        tracing::info!(node = %daemon.desk.name, "daemon started");
        tokio::select! {
            () = stop.cancelled() => {
                tracing::info!("daemon stops; what waits stays in the outbox");
                Ok(())
            }
            () = socket.serve(Arc::clone(&daemon)) => Ok(()),
            failure = daemon.keep_line() => Err(failure),
        }
    }

    async fn keep_line(self: &Arc<Self>) -> Failure {
        let mut backoff = Backoff::new(Box::new(|| {
            let mut random = [0; 8];
            SystemEntropy.fill(&mut random);
            u64::from_be_bytes(random)
        }));
        loop {
            let began = Instant::now();
            let why = match self.once().await {
                End::Fatal(failure) => return failure,
                End::Lost(why) => why,
            };
            tracing::info!(why, "no line to the broker");
            self.lost(why);
            if began.elapsed() >= STEADY {
                backoff.reset();
            }
            tokio::time::sleep(backoff.next_wait()).await;
            // A new list of revoked certificates may be why, or may be due.
            self.desk.reload_trust();
        }
    }

    async fn once(self: &Arc<Self>) -> End {
        let config = &self.desk.config;
        let lost = |e: &dyn std::fmt::Display| End::Lost(e.to_string());
        let identity = match Identity::load(&config.certificate, &config.key) {
            Ok(identity) => identity,
            Err(e) => return lost(&e),
        };
        let broker = config.broker.clone();
        let resolved = tokio::task::spawn_blocking(move || broker.to_socket_addrs());
        let address = match resolved.await {
            Ok(Ok(mut all)) => all.next(),
            Ok(Err(e)) => return lost(&e),
            Err(e) => return lost(&e),
        };
        let Some(address) = address else {
            return End::Lost("the broker's name has no address".into());
        };
        let options = options(config);
        let trust = self.desk.trust();
        match connect(address, &config.broker_name, &identity, &trust, &options).await {
            Ok(connection) => speak(self, connection).await,
            Err(e) => lost(&e),
        }
    }

    fn lost(&self, why: String) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.connected = None;
        line.why = why;
        drop(line);
        self.tell();
    }

    pub(crate) fn set_line(&self, to: Option<(&'static str, SocketAddr)>) {
        self.line
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .connected = to;
        tracing::info!(node = %self.desk.name, "connected");
        self.tell();
    }

    pub(crate) fn line_status(&self) -> Value {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        match line.connected {
            Some((key_exchange, address)) => json!({
                "connected": true, "broker": self.desk.config.broker_name, "address": address, "key_exchange": key_exchange,
            }),
            None => {
                json!({ "connected": false, "broker": self.desk.config.broker_name, "why": line.why })
            }
        }
    }

    /// Something is to be said to the broker.
    pub(crate) fn work(&self) {
        self.work.notify_one();
    }

    pub(crate) async fn woken(&self) {
        self.work.notified().await;
    }

    pub(crate) fn want_directory(&self) {
        self.directory.notify_one();
    }

    pub(crate) async fn directory_wanted(&self) {
        self.directory.notified().await;
    }

    /// Something that a command may wait for has changed.
    pub(crate) fn tell(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

pub(crate) fn options(config: &Config) -> ClientOptions {
    ClientOptions {
        hybrid_only: config.hybrid_only,
        limits: Limits::default(),
        clock: Arc::new(now),
    }
}
