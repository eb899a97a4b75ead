//! The local status socket: what `ordonnans-broker status` asks.
//!
//! A Unix socket of mode 0600. A connection gets one JSON object and is closed; nothing is read from it, so nothing can be
//! asked for through it. It carries names and numbers, never content.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// Where the system gives no connection, it is asked again after this time.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What the broker is doing. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the broker, from its certificate.
    pub broker: String,
    /// Address it listens on.
    pub listen: String,
    /// The same for TCP, where it does.
    #[serde(default)]
    pub listen_tcp: Option<String>,
    /// Size of the audit log, in records.
    pub records: u64,
    /// Root of the audit log, hex.
    pub root: String,
    /// Commits that are durable.
    pub durable: u64,
    /// Messages that wait for a recipient, counted per recipient.
    pub queued: u64,
    /// Register version in force.
    pub register: u64,
    /// Until when the broker's own certificate is valid (RFC 3339).
    #[serde(default)]
    pub certificate_until: String,
    /// The lists of revoked certificates in force.
    #[serde(default)]
    pub lists: Vec<ListStatus>,
    /// What somebody should look at: late lists, a certificate that is to be renewed.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Live sessions.
    pub sessions: Vec<SessionStatus>,
}

/// One list of revoked certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListStatus {
    /// Whose it is.
    pub authority: String,
    /// Its number.
    pub number: String,
    /// When the next one is due (RFC 3339).
    pub until: String,
}

/// One live session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Who is on the line.
    pub peer: String,
    /// What carries the connection: `quic` or `tcp`.
    #[serde(default)]
    pub carrier: String,
    /// Key exchange group of the connection.
    pub key_exchange: String,
    /// Cipher suite of the connection.
    #[serde(default)]
    pub cipher_suite: String,
    /// What its certificate says it may hold, under the policies that are known here.
    #[serde(default)]
    pub clearance: Vec<String>,
    /// Until when its certificate is valid (RFC 3339).
    pub certificate_until: String,
}

/// The socket; its file is removed when this is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Binds the socket. A file that no broker answers on is a leftover of a killed one and is replaced.
    ///
    /// # Errors
    /// Another broker answers on the socket, or the folder cannot be written.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if path.exists() {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another broker answers on this socket",
                ));
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self {
            listener,
            path: path.into(),
        })
    }

    /// Answers until dropped. Cancel-safe: a connection is answered whole or not at all.
    pub async fn run(self, status: watch::Receiver<Status>) {
        loop {
            let Ok((mut stream, _)) = self.listener.accept().await else {
                // No file descriptor is left: one may be free in a while.
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            };
            let Ok(mut line) = serde_json::to_vec(&*status.borrow()) else {
                continue;
            };
            line.push(b'\n');
            // A reader that went away is its own affair.
            let _ = stream.write_all(&line).await;
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// How long a broker that took the connection is waited for: the system takes it for one that hangs, too.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Asks a running broker for its status.
///
/// # Errors
/// The socket does not exist or nobody answers (the broker is down, hangs, or has no file descriptor left), or the answer is not a [`Status`] (another
/// program).
pub async fn ask(path: &Path) -> io::Result<Status> {
    ask_within(path, ANSWER_WITHIN).await
}

async fn ask_within(path: &Path, within: Duration) -> io::Result<Status> {
    let answer = async {
        let stream = UnixStream::connect(path).await?;
        let mut answer = Vec::new();
        // A status of the largest allowed structure is well below this.
        stream.take(16 << 20).read_to_end(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(within, answer).await??;
    serde_json::from_slice(&answer).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_answers_and_is_private() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("admin.sock");
        let socket = AdminSocket::bind(&path).expect("binds");
        assert_eq!(
            std::fs::metadata(&path)
                .expect("exists")
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        let (_keep, seen) = watch::channel(Status {
            records: 7,
            ..Status::default()
        });
        let server = tokio::spawn(socket.run(seen));
        assert_eq!(ask(&path).await.expect("answers").records, 7);
        assert!(
            AdminSocket::bind(&path).is_err(),
            "a live socket is not taken over"
        );
        server.abort();
    }

    #[tokio::test]
    async fn a_broker_that_hangs_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("admin.sock");
        let _hangs = std::os::unix::net::UnixListener::bind(&path).expect("binds");
        let failure = ask_within(&path, Duration::ZERO).await;
        let failure = failure.expect_err("no answer");
        assert_eq!(failure.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_leftover_is_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
        assert!(path.exists());
        AdminSocket::bind(&path).expect("replaced");
    }
}
