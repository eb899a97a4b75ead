//! The local API: a Unix socket of mode 0600 on which commands ask the daemon.
//!
//! One JSON object a line each way, then the connection is closed. Only the owner of the socket can connect; content passes over it and
//! nowhere else.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use ordonnans_label::Name;
use ordonnans_message::{Content, Header, MessageId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use crate::daemon::Daemon;
use crate::failure::{Exit, Failure};
use crate::spool::Verdict;

/// Bytes of one request or answer: content at its bound, in base64, with room for a listing of a full inbox.
const MAX_LINE: u64 = 64 << 20;
/// How long `send` waits for a key the directory may have by now.
const KEY_WITHIN: Duration = Duration::from_secs(5);

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
    /// Action addressees: `node` or `person@node`, short or in full.
    pub to: Vec<String>,
    /// Information addressees.
    pub info: Vec<String>,
    /// Precedence, by name or prosign.
    pub precedence: String,
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

impl std::fmt::Debug for Submission {
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
    /// List the inbox.
    Inbox,
    /// What a person signs before a message is opened for them: the answer is the receipt to sign, base64.
    Prepare {
        /// The message.
        id: MessageId,
        /// The person.
        by: Name,
    },
    /// Open a message.
    Read {
        /// The message.
        id: MessageId,
        /// The person's signed receipt, base64; without it the node itself opens.
        receipt: Option<String>,
        /// Write this attachment, counted from 1, to this new file in place of answering with the body.
        attachment: Option<(usize, PathBuf)>,
    },
    /// List what we sent, or the receipts for one message.
    Receipts {
        /// The message.
        id: Option<MessageId>,
    },
    /// List the directory.
    Directory,
    /// What the daemon is doing.
    Status,
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

/// Asks the daemon.
///
/// # Errors
/// [`Failure`]: no daemon answers, or it answers with one.
pub fn ask(socket: &Path, request: &Request) -> Result<Value, Failure> {
    let unreachable = |e: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Unreachable,
            format!("no daemon answers on {}: {e}", socket.display()),
            "start it with `ordonnans daemon`",
        )
    };
    let mut stream = UnixStream::connect(socket).map_err(|e| unreachable(&e))?;
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

    /// Answers commands until dropped.
    pub(crate) async fn serve(self, daemon: Arc<Daemon>) {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                continue;
            };
            let daemon = Arc::clone(&daemon);
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
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
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Failure::internal(e.to_string()))?
}

async fn answer(daemon: &Arc<Daemon>, request: Request) -> Result<Value, Failure> {
    match request {
        Request::Send { message, wait } => send(daemon, *message, wait).await,
        other => {
            let daemon = Arc::clone(daemon);
            blocking(move || listing(&daemon, other)).await
        }
    }
}

async fn send(daemon: &Arc<Daemon>, message: Submission, wait: bool) -> Result<Value, Failure> {
    let desk = Arc::clone(&daemon.desk);
    let mut changed = daemon.changed();
    // A node may have published its key a moment ago.
    if !desk.keys(&message)?.1.is_empty() {
        daemon.want_directory();
        let known = async {
            while changed.changed().await.is_ok()
                && desk.keys(&message).is_ok_and(|k| !k.1.is_empty())
            {}
        };
        // If it is still not known, submitting says so.
        drop(tokio::time::timeout(KEY_WITHIN, known).await);
    }
    let id = blocking(move || desk.submit(&message)).await?;
    daemon.work();
    if wait {
        loop {
            let sent = daemon.desk.spool.sent(id)?;
            match sent.and_then(|s| s.verdict) {
                Some(verdict) => return Ok(json!({ "id": id, "verdict": verdict })),
                None => changed
                    .changed()
                    .await
                    .map_err(|_| Failure::internal("the daemon stops"))?,
            }
        }
    }
    Ok(json!({ "id": id }))
}

fn listing(daemon: &Daemon, request: Request) -> Result<Value, Failure> {
    let desk = &daemon.desk;
    match request {
        Request::Send { .. } => Err(Failure::internal("answered elsewhere")),
        Request::Inbox => {
            let mut all = desk.spool.inbox()?;
            // Most urgent first, then as they came.
            all.sort_by_key(|(e, a)| (std::cmp::Reverse(e.header().precedence()), a.received));
            let row = |(e, a): (ordonnans_message::Envelope, crate::spool::Arrived)| {
                let mut row = about(e.header());
                row["received"] = json!(a.received);
                row["opened"] = json!(a.opened);
                row
            };
            Ok(all.into_iter().map(row).collect())
        }
        Request::Prepare { id, by } => {
            let receipt = desk.to_be_opened(id, by)?;
            Ok(
                json!({ "message": receipt.message, "envelope": receipt.envelope, "at": receipt.at }),
            )
        }
        Request::Read {
            id,
            receipt,
            attachment,
        } => {
            let receipt = receipt.map(|r| BASE64.decode(r.as_bytes()));
            let receipt = receipt
                .transpose()
                .map_err(|_| Failure::internal("the receipt is not base64"))?;
            let (header, content) = desk.read(id, receipt.as_deref())?;
            daemon.work();
            read(daemon, &header, &content, attachment)
        }
        Request::Receipts { id: Some(id) } => {
            let rows = desk.spool.receipts(id)?;
            let row = |r: &ordonnans_message::Receipt| json!({ "message": r.message, "kind": r.kind, "by": r.by, "at": r.at });
            Ok(rows.iter().map(row).collect())
        }
        Request::Receipts { id: None } => {
            let mut rows = vec![];
            for (id, sent) in desk.spool.all_sent()? {
                let receipts = desk.spool.receipts(id)?;
                let of = |kind| receipts.iter().filter(|r| r.kind == kind).count();
                let mut row = json!({
                    "id": id, "created": sent.created, "label": sent.label, "precedence": sent.precedence.as_str(),
                    "recipients": sent.recipients, "state": "waiting",
                    "delivered": of(ordonnans_message::ReceiptKind::Delivered),
                    "opened": of(ordonnans_message::ReceiptKind::Opened),
                });
                match sent.verdict {
                    None => {}
                    Some(Verdict::Accepted { at, sequence }) => {
                        row["state"] = json!("accepted");
                        row["accepted_at"] = json!(at);
                        row["sequence"] = json!(sequence);
                    }
                    Some(Verdict::Refused {
                        code,
                        rule,
                        recipient,
                    }) => {
                        row["state"] = json!("refused");
                        row["code"] = json!(code);
                        row["rule"] = json!(rule);
                        row["recipient"] = json!(recipient);
                    }
                }
                rows.push(row);
            }
            Ok(rows.into())
        }
        Request::Directory => {
            let rows = desk.spool.directory()?;
            let row = |(name, l): &(String, crate::spool::Listed)| json!({ "name": name, "title": l.title, "key": l.package.is_some() });
            Ok(rows.iter().map(row).collect())
        }
        Request::Status => {
            let mut status = daemon.line_status();
            status["node"] = json!(desk.name);
            status["certificate_until"] = json!(desk.certificate_until());
            status["outbox"] = json!(desk.outbox().len());
            status["receipts_owed"] = json!(desk.spool.owed()?.len());
            status["directory"] = json!(desk.spool.directory()?.len());
            Ok(status)
        }
    }
}

fn about(h: &Header) -> Value {
    json!({
        "id": h.id, "originator": h.originator, "author": h.author, "label": h.label.to_string(),
        "precedence": h.precedence().as_str(), "exercise": h.exercise, "created": h.created, "expires": h.expires,
        "reply_by": h.reply_by, "attachments": h.attachments.len(),
        "persons": h.recipients.iter().filter_map(|r| r.person.as_ref()).collect::<Vec<_>>(),
    })
}

fn read(
    daemon: &Daemon,
    header: &Header,
    content: &Content,
    attachment: Option<(usize, PathBuf)>,
) -> Result<Value, Failure> {
    let mut value = about(header);
    value["subject"] = json!(content.subject);
    value["media_type"] = json!(content.media_type);
    value["name"] = json!(content.name);
    let names: Vec<Value> = content
        .attachments
        .iter()
        .map(|a| json!({ "name": a.name, "media_type": a.media_type, "length": a.length }))
        .collect();
    value["attachments"] = json!(names);
    match attachment {
        None => value["body"] = json!(BASE64.encode(&content.body)),
        Some((n, path)) => {
            let a = n.checked_sub(1).and_then(|n| content.attachments.get(n));
            let a = a.ok_or_else(|| {
                Failure::new(
                    Exit::Usage,
                    format!("the message has {} attachments", content.attachments.len()),
                    "count from 1",
                )
            })?;
            daemon.desk.save_attachment(a, &path)?;
            value["saved"] = json!(path);
        }
    }
    Ok(value)
}
