//! The daemon: keeps a line to the broker and answers commands.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ordonnans_seal::{Entropy, SystemEntropy};
use ordonnans_transport::{ClientOptions, Clock, Identity, Limits, connect};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::desk::{Desk, internal};
use crate::failure::Failure;
use crate::line::{End, speak};
use crate::local::Socket;

/// How often the line is tried where nothing is said: a broker that was restarted is noticed within this time.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// How often the trust folder is read again: a revocation reaches a daemon whose line holds within this time.
const TRUST_EVERY: Duration = Duration::from_secs(60);
/// How long a connection must have lasted for the backoff to start over.
const STEADY: Duration = Duration::from_secs(30);

struct LineStatus {
    connected: Option<(&'static str, SocketAddr)>,
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
        let (_, _, failed, _) = tokio::try_join!(answers, trust, kept, daemon.keep_line())?;
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
        let options = options(config, self.desk.clock());
        let trust = self.desk.trust();
        let connected = connect(address, &config.broker_name, &identity, &trust, &options);
        tokio::select! {
            () = self.stop.cancelled() => End::Stopped,
            connected = connected => match connected {
                Ok(connection) => speak(self, connection).await,
                Err(e) => lost(&e),
            },
        }
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

    pub(crate) fn connected(&self, key_exchange: &'static str, broker: SocketAddr) {
        tracing::info!(node = %self.desk.name, key_exchange, "connected");
        self.status().connected = Some((key_exchange, broker));
        self.desk.tell();
    }

    pub(crate) fn line_status(&self) -> Value {
        let (line, broker) = (self.status(), &self.desk.config.broker_name);
        match line.connected {
            Some((key_exchange, address)) => json!({
                "connected": true, "broker": broker, "address": address, "key_exchange": key_exchange,
            }),
            None => json!({ "connected": false, "broker": broker, "why": line.why }),
        }
    }
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
