//! A broker on the disk, and peers that speak its protocol over loopback.

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ordonnans_audit::{Detail, Entry, Public, Verb};
use ordonnans_certs::Issued;
use ordonnans_client::config::Config as ClientConfig;
use ordonnans_client::failure::Failure;
use ordonnans_client::officer::Officer;
use ordonnans_exercise::own_address;
use ordonnans_identity::Trust;
use ordonnans_label::{Clearance, Kind, Level, Name};
use ordonnans_message::{Frame, PROTOCOL_VERSION, ReplyCode, Timestamp};
use ordonnans_transport::{ClientOptions, CloseCode, Connection, Identity, Lane, Limits, connect};

use crate::house::{House, STRUCTURE, register_of};

/// An answer must come within this time; nothing here is slow.
pub const WITHIN: Duration = Duration::from_secs(20);

/// The time by the system's clock.
#[must_use]
pub fn now() -> Timestamp {
    SystemTime::now().into()
}

/// The files of a broker in a folder, and where it listens.
#[derive(Clone)]
pub struct Site {
    /// The folder.
    pub dir: PathBuf,
    /// Where the broker listens.
    pub address: SocketAddr,
}

fn pem(kind: &str, der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    let mut text = format!("-----BEGIN {kind}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text + &format!("-----END {kind}-----\n")
}

fn put(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// Writes a certificate and its key, and gives the lines of a configuration that name them.
pub fn write_credentials(dir: &Path, local: &str, issued: &Issued) -> String {
    let (cert, key) = (format!("{local}.cert.pem"), format!("{local}.key.pem"));
    put(&dir.join(&cert), &pem("CERTIFICATE", &issued.certificate));
    let secret = pem("PRIVATE KEY", &issued.key_pkcs8());
    ordonnans_identity::write_secret_file(&dir.join(&key), secret.as_bytes())
        .unwrap_or_else(|e| panic!("{e}"));
    format!("[identity]\ncertificate = \"{cert}\"\nkey = \"{key}\"\n")
}

/// Writes what everyone gets: both certificates and both lists, in place of what was there.
pub fn write_trust(dir: &Path, t: &Trust) {
    let trust = dir.join("trust");
    fs::create_dir_all(&trust).unwrap_or_else(|e| panic!("{e}"));
    let all = |kind: &str, ders: Vec<&[u8]>| -> String {
        ders.into_iter().map(|d| pem(kind, d)).collect()
    };
    put(
        &trust.join("root.pem"),
        &all("CERTIFICATE", t.roots().iter().map(AsRef::as_ref).collect()),
    );
    put(
        &trust.join("issuing.pem"),
        &all(
            "CERTIFICATE",
            t.intermediates().iter().map(AsRef::as_ref).collect(),
        ),
    );
    // Two lists, by two authorities; the files may hold either.
    let lists: Vec<&[u8]> = t.lists().iter().map(AsRef::as_ref).collect();
    put(
        &trust.join("root.crl.pem"),
        &all("X509 CRL", lists[..1].to_vec()),
    );
    put(
        &trust.join("issuing.crl.pem"),
        &all("X509 CRL", lists[1..].to_vec()),
    );
}

impl Site {
    /// Writes everything a broker and an officer need.
    #[must_use]
    pub fn new(dir: &Path, house: &mut House) -> Self {
        let address = own_address().unwrap_or_else(|e| panic!("{e}"));
        write_trust(dir, &house.trust);
        put(
            &dir.join("register.toml"),
            &register_of(&house.members, 1, None),
        );
        let mut issue = |kind, local: &str, level| {
            let name = Name::new(local, kind, STRUCTURE).unwrap_or_else(|e| panic!("{e}"));
            let issued = house.authority.issue(&name, &Clearance::new(level));
            issued.unwrap_or_else(|e| panic!("{e}"))
        };
        let broker =
            write_credentials(dir, "b1", &issue(Kind::Broker, "b1", Level::Ongerubriceerd));
        put(
            &dir.join("broker.toml"),
            &format!(
                "listen = \"{address}\"\ndata = \"data\"\ntrust = \"trust\"\nregister = \"register.toml\"\n{broker}\n[quotas]\nmessages = 1000000000\nurgent = 1000000000\ncopies = 1000000000\n[limits]\nqueue = 1000000\nconnections = 4096\nconnections_per_address = 4096\n"
            ),
        );
        let officer = write_credentials(dir, "bva", &issue(Kind::Officer, "bva", Level::StgZg));
        put(
            &dir.join("officer.toml"),
            &format!(
                "broker = \"{address}\"\nbroker_name = \"b1.broker.{STRUCTURE}\"\ntrust = \"trust\"\ndata = \"officer\"\n{officer}"
            ),
        );
        Self {
            dir: dir.into(),
            address,
        }
    }

    /// The broker's configuration file.
    #[must_use]
    pub fn broker_toml(&self) -> PathBuf {
        self.dir.join("broker.toml")
    }

    /// The broker's configuration.
    #[must_use]
    pub fn config(&self) -> ordonnans_broker::config::Config {
        ordonnans_broker::config::Config::load(&self.broker_toml())
            .unwrap_or_else(|e| panic!("{e}"))
    }

    /// The officer's configuration.
    #[must_use]
    pub fn officer(&self) -> ClientConfig {
        ClientConfig::load(&self.dir.join("officer.toml")).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Connects as a node and greets. `None` where nobody answers, or the broker does not let it in.
    pub async fn peer(&self, house: &House, node: usize) -> Option<Peer> {
        let issued = &house.nodes[node].issued;
        let identity =
            Identity::from_der(vec![issued.certificate.to_vec()], issued.key_pkcs8()).ok()?;
        let options = ClientOptions {
            hybrid_only: false,
            limits: Limits {
                handshake_timeout: Duration::from_secs(2),
                ..Limits::default()
            },
            clock: Arc::new(now),
        };
        let broker = house.broker();
        let connection = connect(self.address, &broker, &identity, &house.trust, &options)
            .await
            .ok()?;
        let peer = Peer {
            connection,
            early: Arc::default(),
        };
        let hello = Frame::Hello {
            version: PROTOCOL_VERSION,
            checkpoint: None,
        };
        peer.say(Lane::Control, &hello).await?;
        // Lanes are not ordered among each other: a message may overtake the welcome.
        let mut early = VecDeque::new();
        loop {
            match tokio::time::timeout(WITHIN, peer.hear()).await.ok()?? {
                Frame::Welcome { .. } => break,
                frame => early.push_back(frame),
            }
        }
        *peer.early.lock().unwrap_or_else(PoisonError::into_inner) = early;
        Some(peer)
    }

    /// The same, again and again until it is let in.
    ///
    /// # Panics
    /// Where nobody answers for long.
    pub async fn peer_soon(&self, house: &House, node: usize) -> Peer {
        let began = std::time::Instant::now();
        loop {
            if let Some(peer) = self.peer(house, node).await {
                return peer;
            }
            if began.elapsed() >= WITHIN {
                // Written where the broker is a process of its own.
                let said = fs::read_to_string(self.dir.join("broker.log")).unwrap_or_default();
                let last = said.lines().count().saturating_sub(20);
                let last: Vec<_> = said.lines().skip(last).collect();
                panic!("nobody answers; the broker said last: {}", last.join("\n"));
            }
        }
    }

    /// What the log says, by verb, once it is there.
    ///
    /// # Panics
    /// It is not there for long.
    pub async fn told(&self, verb: Verb, times: usize) -> Vec<Detail> {
        let began = std::time::Instant::now();
        loop {
            let officer = Officer::connect(&self.officer()).await;
            let mut officer = officer.unwrap_or_else(|e| panic!("{e}"));
            let entries = whole(&mut officer).await.map(|p| p.0).unwrap_or_default();
            officer.finish().await;
            let of = entries.into_iter().filter_map(|e| {
                let public = Public::decode(&e.public).ok()?;
                let detail = Detail::decode(&e.opened?.1).ok()?;
                (public.verb == verb).then_some(detail)
            });
            let all: Vec<Detail> = of.collect();
            if all.len() >= times {
                return all;
            }
            assert!(began.elapsed() < WITHIN, "{verb:?} is not in the log");
        }
    }
}

/// A node that speaks the protocol by hand.
#[derive(Clone)]
pub struct Peer {
    /// The connection.
    pub connection: Connection,
    early: Arc<Mutex<VecDeque<Frame>>>,
}

impl Peer {
    /// Says something. `None` where the connection is closed.
    pub async fn say(&self, lane: Lane, frame: &Frame) -> Option<()> {
        self.connection.send(lane, frame.encode()).await.ok()
    }

    /// Ends the connection in good order.
    pub async fn leave(self) {
        self.connection.finish(CloseCode::Done, "done").await;
    }

    /// The next thing the broker says. `None` where the connection is closed.
    pub async fn hear(&self) -> Option<Frame> {
        let early = self
            .early
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
        if early.is_some() {
            return early;
        }
        let (_, bytes) = self.connection.recv().await.ok()?;
        Frame::decode(&bytes).ok()
    }

    /// Offers an envelope.
    pub async fn publish(&self, envelope: Bytes) -> Option<()> {
        let lane = Lane::Class(ordonnans_message::Precedence::Routine);
        self.say(lane, &Frame::Publish { envelope }).await
    }

    /// The next frame that is wanted; others are passed over.
    ///
    /// # Panics
    /// None comes for long, or the connection ends.
    pub async fn next<T>(&self, wanted: impl Fn(Frame) -> Option<T>) -> T {
        let heard = async {
            loop {
                let frame = self.hear().await.unwrap_or_else(|| panic!("it is closed"));
                if let Some(it) = wanted(frame) {
                    return it;
                }
            }
        };
        tokio::time::timeout(WITHIN, heard)
            .await
            .unwrap_or_else(|_| panic!("nothing that is wanted"))
    }

    /// States something and gives what the broker says: kept, or why not.
    ///
    /// # Errors
    /// The code, and the rule where it names one.
    ///
    /// # Panics
    /// It says nothing for long.
    pub async fn state(&self, frame: &Frame) -> Result<(), (ReplyCode, Option<u16>)> {
        let said = self.say(Lane::Control, frame).await;
        said.unwrap_or_else(|| panic!("it is closed"));
        let digest = frame.digest();
        self.next(|f| match f {
            Frame::Kept { of } if of == digest => Some(Ok(())),
            Frame::NotKept { of, code, rule } if of == digest => Some(Err((code, rule))),
            _ => None,
        })
        .await
    }

    /// The broker's next decision on a message.
    ///
    /// # Panics
    /// Where none comes for long.
    pub async fn decision(&self) -> Option<Frame> {
        let decided = async {
            loop {
                let frame = self.hear().await?;
                if matches!(frame, Frame::Accepted { .. } | Frame::Refused { .. }) {
                    return Some(frame);
                }
            }
        };
        tokio::time::timeout(WITHIN, decided)
            .await
            .unwrap_or_else(|_| panic!("the broker decides nothing"))
    }
}

/// Every record that an officer sees, and the checkpoint that covers them.
///
/// # Errors
/// As [`Officer::whole`].
pub async fn whole(officer: &mut Officer) -> Result<(Vec<Entry>, String), Failure> {
    let mut entries = vec![];
    let checkpoint = officer
        .whole(|e| {
            entries.push(e.clone());
            Ok(())
        })
        .await?;
    Ok((entries, checkpoint))
}
