//! The local API: a Unix socket of mode 0600 on which commands ask the daemon.
//!
//! The daemon says with an empty line that it has taken the command; then one JSON object a line each way, and the connection is closed. Only the owner
//! of the socket can connect; content passes over it and nowhere else.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ordonnans_label::Name;
use ordonnans_message::{MessageId, ReceiptKind, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio_util::task::TaskTracker;

use crate::answers::answer;
use crate::daemon::Daemon;
use crate::drafts::DraftId;
use crate::failure::{Exit, Failure};

/// Bytes of one request or answer: content at its bound, in base64, with room for a listing of a full inbox.
const MAX_LINE: u64 = 64 << 20;
/// What a daemon says before anything else. The system connects a command to a daemon that has no file descriptor left to take it with, and to one that
/// hangs; neither would ever answer.
const TAKEN: u8 = b'\n';
/// How long a command waits to be taken; what the daemon does with it may last longer.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// How long a daemon that stops still answers.
const ANSWER_STILL: Duration = Duration::from_secs(5);
/// Where the system gives no connection, it is asked again after this time.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

mod base64 {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        BASE64
            .decode(text.as_bytes())
            .map_err(|_| D::Error::custom("not base64"))
    }
}

/// A message as a command hands it in. Prints as nothing of it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Submission {
    /// Action addressees: `node` or `person@node`, short or in full; `role:NAME`, `circle:NAME` or `list:NAME`.
    pub to: Vec<String>,
    /// Information addressees.
    pub info: Vec<String>,
    /// Precedence, by name or prosign.
    pub precedence: String,
    /// The precedence of information addressees, where it is another.
    #[serde(default)]
    pub info_precedence: Option<String>,
    /// The label.
    pub label: String,
    /// Whether it is an exercise message.
    pub exercise: bool,
    /// Subject line.
    pub subject: String,
    /// Media type of the body.
    pub media_type: String,
    /// File name of the body.
    pub name: Option<String>,
    /// The body.
    #[serde(with = "base64")]
    pub body: Vec<u8>,
    /// Files to send along; the daemon reads them.
    pub attachments: Vec<PathBuf>,
    /// Who wrote it.
    pub author: Option<String>,
    /// Until when to deliver.
    pub expires: Timestamp,
    /// By when an answer is asked for.
    pub reply_by: Option<Timestamp>,
    /// Messages this one refers to.
    pub references: Vec<MessageId>,
    /// The message this one takes the place of.
    pub supersedes: Option<MessageId>,
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Submission({} bytes)", self.body.len())
    }
}

/// What a command asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// Send a message; with `wait`, answer when the broker has decided.
    Send {
        /// The message.
        message: Box<Submission>,
        /// Whether to wait.
        wait: bool,
    },
    /// Each copy: who has it, who opened it, who is late.
    Board {
        /// What is done with, too.
        all: bool,
    },
    /// List the inbox.
    Inbox,
    /// What a person signs before a message is opened for them: the answer has `message`, `envelope` and `at` of the receipt, and `kid`, the
    /// person's key that it is sealed to, where it is.
    Prepare {
        /// The message.
        id: MessageId,
        /// The person.
        by: Name,
        /// Which receipt: *opened* or *exported*.
        kind: ReceiptKind,
    },
    /// Open a message: to read it, or to take it out of the system. What is sealed to a person comes as `sealed`.
    Read {
        /// The message.
        id: MessageId,
        /// Which receipt says so: *opened* or *exported*.
        kind: ReceiptKind,
        /// The person's signed receipt, base64; without it the node itself opens.
        receipt: Option<String>,
        /// Write this attachment, counted from 1, to this new file in place of answering with the body.
        attachment: Option<(usize, PathBuf)>,
    },
    /// Keep a person's signed encryption key and offer it to the broker.
    Publish {
        /// The key package, base64.
        package: String,
    },
    /// Take a message of ours back.
    Recall {
        /// The message.
        id: MessageId,
    },
    /// Destroy a copy.
    Destroy {
        /// The message.
        id: MessageId,
        /// The person's signed receipt, base64; without it the node itself destroys.
        receipt: Option<String>,
    },
    /// List what we sent, or the receipts for one message.
    Receipts {
        /// The message.
        id: Option<MessageId>,
    },
    /// Keep a message until its label is established.
    Propose {
        /// The message.
        message: Box<Submission>,
        /// Who can open it meanwhile: needed from Stg.G up.
        #[serde(default)]
        openers: Vec<Opener>,
    },
    /// Pass a message on as it is; with `wait`, answer when the broker has decided.
    Forward {
        /// The message.
        id: MessageId,
        /// The person's signed receipt *opened*, base64; without it the node itself opens.
        receipt: Option<String>,
        /// To whom and how; label and content are those of the message.
        message: Box<Submission>,
        /// Whether to wait.
        wait: bool,
    },
    /// Keep an extract of a message as a draft, until it is signed.
    Extract {
        /// The message it is made from.
        of: MessageId,
        /// The extract.
        message: Box<Submission>,
        /// Who can open it meanwhile: needed where the parent is Stg.G or higher.
        #[serde(default)]
        openers: Vec<Opener>,
    },
    /// Send an extract with the word of a second person; with `wait`, answer when the broker has decided.
    Second {
        /// Which draft.
        draft: DraftId,
        /// The signed word, base64.
        second: String,
        /// The content, where persons hold the draft: whoever signs has opened it.
        #[serde(default)]
        content: Option<Handed>,
        /// Whether to wait.
        wait: bool,
    },
    /// List the drafts.
    Drafts,
    /// A draft with its content, for whoever is to establish it: the answer has `label`, `node`, and `content`, the encoded content in base64, or
    /// `sealed`, where persons hold it.
    Draft {
        /// Which.
        draft: DraftId,
    },
    /// Send a draft with the statement of its vaststeller; with `wait`, answer when the broker has decided.
    Establish {
        /// Which.
        draft: DraftId,
        /// The signed act, base64.
        act: String,
        /// The content, where persons hold the draft: whoever signs has opened it.
        #[serde(default)]
        content: Option<Handed>,
        /// Whether to wait.
        wait: bool,
    },
    /// Drop a draft.
    Discard {
        /// Which.
        draft: DraftId,
    },
    /// The acts on a message.
    History {
        /// The message.
        id: MessageId,
    },
    /// Hand an act or a declaration to the broker; answer when it has decided.
    State {
        /// The frame that carries it, base64.
        frame: String,
        /// Whether to wait.
        wait: bool,
    },
    /// List the labels that are due for review.
    Due,
    /// Which labels may be used to these.
    Catalog {
        /// Addressees, as for a message.
        to: Vec<String>,
    },
    /// List the directory.
    Directory,
    /// What the daemon knows as a witness of the broker's log.
    Witness,
    /// Forget what it remembered of that log.
    ForgetLog,
    /// Read certificate, trust and policies again now.
    Reload,
    /// What the daemon is doing.
    Status,
}

/// Encoded content in base64, as whoever opened it hands it over. Its `Debug` is its length.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Handed(pub String);

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handed({} bytes)", self.0.len())
    }
}

/// A person who can open a draft of Stg.G or higher while it waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opener {
    /// By the key that the directory has: the name, short or whole.
    Named(String),
    /// By a key of the person who signs in the same step: the signed key package, base64.
    Key(String),
    /// By a key that ends with that step: the signed key package, base64. What is refused then is no draft again.
    Once(String),
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Done(Value),
    Failed {
        exit: u8,
        what: String,
        hint: String,
    },
}

/// An answer without the documented form, whatever is missing.
pub(crate) fn undocumented<E>(_: E) -> Failure {
    Failure::internal("the daemon's answer has not the documented form")
}

/// Asks the daemon.
///
/// # Errors
/// [`Failure`]: no daemon answers, or it does not take the command within half a minute, or it answers with a failure.
pub fn ask(socket: &Path, request: &Request) -> Result<Value, Failure> {
    ask_within(socket, request, TAKEN_WITHIN)
}

fn ask_within(socket: &Path, request: &Request, within: Duration) -> Result<Value, Failure> {
    let unreachable = |e: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Unreachable,
            format!("no daemon answers on {}: {e}", socket.display()),
            "start it with `ordonnans daemon`",
        )
    };
    let mut stream = UnixStream::connect(socket).map_err(|e| unreachable(&e))?;
    stream
        .set_read_timeout(Some(within))
        .map_err(|e| unreachable(&e))?;
    stream.read_exact(&mut [0]).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => Failure::new(
            Exit::Unreachable,
            format!("the daemon on {} does not take the command", socket.display()),
            "it hangs, or has no file descriptor left: see its log, and `LimitNOFILE` of its service; nothing was handed in",
        ),
        _ => unreachable(&e),
    })?;
    stream.set_read_timeout(None).map_err(|e| unreachable(&e))?;
    let mut line = serde_json::to_vec(request).map_err(|e| Failure::internal(e.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(|e| unreachable(&e))?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_LINE))
        .read_line(&mut answer)
        .map_err(|e| unreachable(&e))?;
    match serde_json::from_str(&answer) {
        Ok(Answer::Done(value)) => Ok(value),
        Ok(Answer::Failed { exit, what, hint }) => {
            Err(Failure::new(Exit::from_code(exit), what, hint))
        }
        Err(_) => Err(unreachable(&"the answer broke off")),
    }
}

/// The listening end; its file is removed when this is dropped.
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Binds the socket. A file nobody answers on is a leftover of a killed daemon and is replaced.
    pub(crate) fn bind(path: &Path) -> Result<Self, Failure> {
        let failed = |e: std::io::Error| {
            Failure::new(
                Exit::Usage,
                format!("the socket {} cannot be made: {e}", path.display()),
                "set `socket` to a path in a folder of your own",
            )
        };
        if path.exists() {
            if UnixStream::connect(path).is_ok() {
                return Err(Failure::new(
                    Exit::Refused,
                    format!("another daemon answers on {}", path.display()),
                    "stop it, or give this one its own `data`",
                ));
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.into(),
        })
    }

    /// Answers commands until the daemon stops; then the ones that are there are answered still, for a while.
    pub(crate) async fn serve(self, daemon: &Arc<Daemon>) {
        let answers = TaskTracker::new();
        loop {
            let stream = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(e) => {
                        tracing::warn!(%e, "a command could not be taken");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                        continue;
                    }
                },
                () = daemon.stop.cancelled() => break,
            };
            let daemon = Arc::clone(daemon);
            answers.spawn(async move {
                let (read, mut write) = stream.into_split();
                if write.write_all(&[TAKEN]).await.is_err() {
                    return;
                }
                let mut line = String::new();
                let mut read = tokio::io::BufReader::new(read.take(MAX_LINE));
                // A command that went away is its own affair.
                if read.read_line(&mut line).await.is_err() {
                    return;
                }
                let answered = match serde_json::from_str(&line) {
                    Ok(request) => answer(&daemon, request).await,
                    Err(e) => Err(Failure::new(
                        Exit::Usage,
                        format!("the daemon does not know this request: {e}"),
                        "use the command line of the daemon's own version",
                    )),
                };
                let answer = match answered {
                    Ok(value) => Answer::Done(value),
                    Err(f) => Answer::Failed {
                        exit: f.exit() as u8,
                        what: f.to_string(),
                        hint: f.hint().into(),
                    },
                };
                if let Ok(mut line) = serde_json::to_vec(&answer) {
                    line.push(b'\n');
                    drop(write.write_all(&line).await);
                }
            });
        }
        drop(self);
        answers.close();
        drop(tokio::time::timeout(ANSWER_STILL, answers.wait()).await);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        let meta = std::fs::metadata(path).expect("a file");
        meta.permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_never_two_daemons() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("s");
        let socket = Socket::bind(&path).expect("bound");
        assert_eq!(mode(&path), 0o600);
        assert!(Socket::bind(&path).is_err());
        drop(socket);
        assert!(!path.exists());
        // What a killed daemon left answers nobody and is replaced.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists());
        Socket::bind(&path).expect("replaced");
    }

    #[test]
    fn without_a_daemon_a_command_says_how_to_start_one() {
        let failure = ask(Path::new("/nowhere/s"), &Request::Status).expect_err("nobody");
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert!(failure.hint().contains("ordonnans daemon"));
    }

    #[test]
    fn a_daemon_that_does_not_take_a_command_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("s");
        // The system takes the connection; nobody else does.
        let _hangs = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        let within = Duration::from_millis(1);
        let failure = ask_within(&path, &Request::Status, within).expect_err("not taken");
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert!(failure.to_string().contains("does not take the command"));
    }

    #[test]
    fn a_submission_prints_nothing_of_itself() {
        let mut message = crate::house::message(&["ncc"], b"secret");
        message.subject = "secret".into();
        assert_eq!(format!("{message:?}"), "Submission(6 bytes)");
        let request = Request::Send {
            message: Box::new(message),
            wait: false,
        };
        assert!(!format!("{request:?}").contains("secret"));
        let draft = "0011223344556677".parse().expect("a draft");
        let content = || Some(Handed("secret".into()));
        let establish = Request::Establish {
            draft,
            act: String::new(),
            content: content(),
            wait: false,
        };
        let second = Request::Second {
            draft,
            second: String::new(),
            content: content(),
            wait: false,
        };
        for request in [establish, second] {
            let shown = format!("{request:?}");
            assert!(shown.contains("Handed(6 bytes)") && !shown.contains("secret"));
        }
    }
}
