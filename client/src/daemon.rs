//! The daemon: keeps a line to the broker and answers commands.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ordonnans_seal::{Entropy, SystemEntropy};
use ordonnans_transport::{
    Carrier, ClientOptions, Clock, Connection, Identity, Limits, Server, connect,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::desk::{Desk, internal};
use crate::failure::Failure;
use crate::forgetting::Forgetting;
use crate::line::{End, speak};
use crate::local::Socket;

/// How often the line is tried where nothing is said: a broker that was restarted is noticed within this time.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// How often the trust folder is read again: a revocation reaches a daemon whose line holds within this time.
const TRUST_EVERY: Duration = Duration::from_secs(60);
/// How long a connection must have lasted for the backoff to start over.
const STEADY: Duration = Duration::from_secs(30);

struct LineStatus {
    /// What there is to say of the connection.
    connected: Option<Value>,
    why: String,
}

/// A node's daemon.
pub struct Daemon {
    pub(crate) desk: Arc<Desk>,
    pub(crate) stop: CancellationToken,
    line: Mutex<LineStatus>,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Daemon({})", self.desk.name)
    }
}

impl Daemon {
    /// Opens the spool, answers commands and keeps the line until `stop`. Commands that are being answered then are answered first.
    ///
    /// # Errors
    /// [`Failure`]: the configuration, the keys or the disk. A broker that is out of reach is no failure: it is tried again.
    pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Failure> {
        let opened = tokio::task::spawn_blocking(move || Desk::open(config)).await;
        let desk = Arc::new(opened.map_err(internal)??);
        let socket = Socket::bind(&desk.config.socket)?;
        let daemon = Arc::new(Self {
            desk,
            stop,
            line: Mutex::new(LineStatus {
                connected: None,
                why: "not yet connected".into(),
            }),
        });
        tracing::info!(node = %daemon.desk.name, "daemon started");
        let answers = async {
            socket.serve(&daemon).await;
            Ok(())
        };
        let trust = async {
            let mut tick = tokio::time::interval(TRUST_EVERY);
            loop {
                tokio::select! {
                    () = daemon.stop.cancelled() => return Ok(()),
                    _ = tick.tick() => drop(daemon.desk.reload()),
                }
            }
        };
        let forgets = async {
            let every = Forgetting::every(daemon.desk.config.remember);
            let (mut tick, mut forgetting) = (tokio::time::interval(every), Forgetting::default());
            loop {
                tokio::select! {
                    () = daemon.stop.cancelled() => return Ok(()),
                    _ = tick.tick() => {}
                }
                let desk = Arc::clone(&daemon.desk);
                let sweep = move || {
                    let swept = forgetting.sweep(&desk, Instant::now());
                    (forgetting, swept)
                };
                let (again, swept) = tokio::task::spawn_blocking(sweep).await.map_err(internal)?;
                forgetting = again;
                match swept {
                    Ok(0) => {}
                    Ok(messages) => tracing::info!(messages, "what is long over is forgotten"),
                    Err(failure) => tracing::warn!(%failure, "nothing could be forgotten"),
                }
            }
        };
        let kept = async {
            tokio::select! {
                () = daemon.stop.cancelled() => Ok(None),
                failure = daemon.desk.spool.failed() => {
                    tracing::error!(%failure, "the daemon stops");
                    // In good order: whoever waits for an answer is told.
                    daemon.stop.cancel();
                    Ok(Some(failure))
                }
            }
        };
        let (_, _, _, failed, _) =
            tokio::try_join!(answers, trust, forgets, kept, daemon.keep_line())?;
        if let Some(failure) = failed {
            return Err(failure);
        }
        tracing::info!("daemon stopped; what waits stays in the outbox");
        Ok(())
    }

    async fn keep_line(self: &Arc<Self>) -> Result<(), Failure> {
        let mut backoff = Backoff::new(Box::new(|| {
            let mut random = [0; 8];
            SystemEntropy.fill(&mut random);
            u64::from_be_bytes(random)
        }));
        loop {
            let began = Instant::now();
            let why = match self.once().await {
                End::Fatal(failure) => return Err(failure),
                End::Stopped => return Ok(()),
                End::Lost(why) => why,
            };
            tracing::info!(why, "no line to the broker");
            self.lost(why);
            if began.elapsed() >= STEADY {
                backoff.reset();
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(backoff.next_wait()) => {}
            }
            // A new list of revoked certificates may be why, or may be due.
            drop(self.desk.reload());
        }
    }

    async fn once(self: &Arc<Self>) -> End {
        let config = &self.desk.config;
        let lost = |e: &dyn std::fmt::Display| End::Lost(e.to_string());
        let identity = match Identity::load(&config.certificate, &config.key) {
            Ok(identity) => identity,
            Err(e) => return lost(&e),
        };
        let server = match server(config).await {
            Ok(server) => server,
            Err(e) => return lost(&e),
        };
        let options = options(config, self.desk.clock());
        let trust = self.desk.trust();
        let connected = connect(server, &config.broker_name, &identity, &trust, &options);
        let mut connection = tokio::select! {
            () = self.stop.cancelled() => return End::Stopped,
            connected = connected => match connected {
                Ok(connection) => connection,
                Err(e) => return lost(&e),
            },
        };
        loop {
            match speak(self, connection).await {
                Ok(next) => connection = next,
                Err(end) => return end,
            }
        }
    }

    /// Where the line is TCP, tries QUIC every now and then until it comes up. What was said over TCP and has no answer is said again.
    pub(crate) async fn back_to_quic(&self, carrier: Carrier) -> Connection {
        if carrier == Carrier::Quic {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(self.desk.config.quic_again).await;
            match self.over_quic().await {
                Ok(connection) => return connection,
                Err(why) => tracing::debug!(%why, "no QUIC yet"),
            }
        }
    }

    async fn over_quic(&self) -> Result<Connection, String> {
        let config = &self.desk.config;
        let identity = Identity::load(&config.certificate, &config.key);
        let identity = identity.map_err(|e| e.to_string())?;
        let quic = address(&config.broker).await.map_err(|e| e.to_string())?;
        let options = options(config, self.desk.clock());
        let trust = self.desk.trust();
        let connected = connect(quic, &config.broker_name, &identity, &trust, &options);
        connected.await.map_err(|e| e.to_string())
    }

    fn status(&self) -> MutexGuard<'_, LineStatus> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, why: String) {
        *self.status() = LineStatus {
            connected: None,
            why,
        };
        self.desk.tell();
    }

    pub(crate) fn connected(&self, connection: &Connection) {
        let line = connection.line();
        tracing::info!(node = %self.desk.name, line, "connected");
        let broker = connection.peer();
        self.status().connected = Some(json!({
            "connected": true, "broker": broker.name(), "address": connection.remote(),
            "carrier": connection.carrier().as_str(), "key_exchange": connection.key_exchange(),
            "cipher_suite": connection.cipher_suite(), "broker_certificate_until": broker.not_after(),
            "broker_clearance": self.desk.clearance(broker),
        }));
        self.desk.tell();
    }

    pub(crate) fn line_status(&self) -> Value {
        let (line, broker) = (self.status(), &self.desk.config.broker_name);
        match &line.connected {
            Some(connected) => connected.clone(),
            None => json!({ "connected": false, "broker": broker, "why": line.why }),
        }
    }
}

/// Where the broker is, by its names.
///
/// # Errors
/// A name has no address, or nobody tells it.
pub(crate) async fn server(config: &Config) -> io::Result<Server> {
    let quic = address(&config.broker).await?;
    Ok(match &config.broker_tcp {
        Some(tcp) => Server::Either {
            quic,
            tcp: address(tcp).await?,
        },
        None => Server::Quic(quic),
    })
}

async fn address(name: &str) -> io::Result<SocketAddr> {
    let none = || io::Error::other(format!("{name} has no address"));
    tokio::net::lookup_host(name).await?.next().ok_or_else(none)
}

pub(crate) fn options(config: &Config, clock: Clock) -> ClientOptions {
    ClientOptions {
        hybrid_only: config.hybrid_only,
        limits: Limits {
            keep_alive: KEEP_ALIVE,
            ..Limits::default()
        },
        clock,
    }
}
