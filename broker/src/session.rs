//! One peer: reads, verifies, hands over to the engine; writes what the engine answers.

use std::io::SeekFrom;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use ordonnans_audit::Public;
use ordonnans_engine::{Input, Session};
use ordonnans_identity::Trust;
use ordonnans_label::{Level, Name};
use ordonnans_message::{
    AuditQuery, BulkHead, DecodeError, Digest, Envelope, Frame, MessageId, PROTOCOL_VERSION,
    ReplyCode, SignedAct, SignedDeclaration, SignedKeyPackage, SignedReceipt, limits,
};
use ordonnans_seal::{verify_envelope, verify_statement};
use ordonnans_store::{AttachmentStore, Reader};
use ordonnans_transport::{CloseCode, Connection, Lane};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::core::{Out, Sessions, now};
use crate::uploads::{Uploads, uploads};

/// A peer says who it is within this time, or goes.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// What waits to be sent to one peer: its window of deliveries and as many answers.
const OUT: usize = 1024;
/// What a node waits when the engine's door is full, in milliseconds.
const RETRY_MS: u32 = 500;

/// What every session shares.
pub(crate) struct Shared {
    pub(crate) name: Name,
    pub(crate) trust: RwLock<Arc<Trust>>,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) reader: Reader,
    pub(crate) attachments: AttachmentStore,
    pub(crate) uploading: Uploads,
    /// Says that the store cannot be read, and ends the broker.
    pub(crate) fatal: mpsc::Sender<String>,
}

impl Shared {
    pub(crate) fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trust.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands an input to the engine. It is gone only when the broker is.
    pub(crate) async fn tell(&self, input: Input) {
        drop(self.inputs.send(input).await);
    }
}

/// Serves a connection to its end.
pub(crate) async fn run(shared: Arc<Shared>, connection: Connection) {
    let session = Session(connection.id());
    if let Err(note) = hello(&connection).await {
        connection.close(CloseCode::Violation, note);
        return;
    }
    let (out, outgoing) = mpsc::channel(OUT);
    shared.sessions.insert(session, out, connection.clone());
    let peer = connection.peer().clone();
    tracing::info!(peer = %peer.name(), key_exchange = connection.key_exchange(), "session opened");
    shared.tell(Input::Opened { session, peer }).await;
    let bulk = uploads(Arc::clone(&shared), connection.clone(), session);
    let bulk = tokio::spawn(bulk);
    let note = tokio::select! {
        note = read(&shared, &connection, session) => note,
        () = write(&shared, &connection, outgoing) => "the broker closed it",
    };
    // Closed already, in whatever words; this ends what still waits for the peer.
    connection.close(CloseCode::Done, "the session has ended");
    shared.sessions.remove(session);
    tracing::info!(peer = %connection.peer().name(), note, "session closed");
    shared.tell(Input::Closed { session, note }).await;
    // A panic there has been reported.
    drop(bulk.await);
}

async fn hello(connection: &Connection) -> Result<(), &'static str> {
    let first = tokio::time::timeout(HELLO_WITHIN, connection.recv());
    let (_, bytes) = first
        .await
        .map_err(|_| "no greeting in time")?
        .map_err(|_| "closed before the greeting")?;
    match Frame::decode(&bytes) {
        Ok(Frame::Hello { version, .. }) if version == PROTOCOL_VERSION => Ok(()),
        Ok(Frame::Hello { .. }) => Err("this broker speaks version 1 of the protocol only"),
        _ => Err("the first frame is a greeting"),
    }
}

/// Reads until the end, and says why it ended.
async fn read(shared: &Shared, connection: &Connection, session: Session) -> &'static str {
    loop {
        let frame = match connection.recv().await {
            Ok((_, bytes)) => Frame::decode(&bytes),
            Err(closed) => {
                return match closed.code {
                    Some(CloseCode::Done) => "the peer closed it",
                    Some(CloseCode::Violation) => "the peer broke the protocol",
                    Some(CloseCode::NotBelieved) => "certificate no longer believed",
                    Some(CloseCode::Stopping) => "the broker stopped",
                    _ => "the connection was lost",
                };
            }
        };
        let handled = match frame {
            Ok(frame) => take(shared, connection, session, frame).await,
            Err(_) => Err("a frame of another form"),
        };
        if let Err(violation) = handled {
            let code = ReplyCode::Malformed;
            let id = None;
            shared.tell(Input::Rejected { session, id, code }).await;
            connection.close(CloseCode::Violation, violation);
            return violation;
        }
    }
}

fn code(e: DecodeError) -> ReplyCode {
    match e {
        DecodeError::Limit(_) => ReplyCode::TooLarge,
        DecodeError::Unknown(_) | DecodeError::Unsupported(_) => ReplyCode::Unsupported,
        _ => ReplyCode::Malformed,
    }
}

/// One frame from the peer. An error is a breach of the protocol.
async fn take(
    shared: &Shared,
    connection: &Connection,
    session: Session,
    frame: Frame,
) -> Result<(), &'static str> {
    let rejected = |id, code| Input::Rejected { session, id, code };
    let trust = shared.trust();
    let input = match frame {
        Frame::Publish { envelope } => match Envelope::decode(&envelope) {
            Err(e) => rejected(None, code(e)),
            Ok(envelope) => {
                let id = Some(envelope.header().id);
                match verify_envelope(envelope, &trust, now()) {
                    Err(_) => rejected(id, ReplyCode::NotAuthentic),
                    Ok(envelope) => {
                        let envelope = Box::new(envelope);
                        let publish = Input::Publish { session, envelope };
                        // The permit at the door: none left, nothing stored.
                        if shared.inputs.try_send(publish).is_err() {
                            busy(connection, id).await;
                        }
                        return Ok(());
                    }
                }
            }
        },
        Frame::Receipt { receipt } => match SignedReceipt::decode(&receipt) {
            Err(e) => rejected(None, code(e)),
            Ok(receipt) => {
                let id = Some(receipt.said().message);
                match verify_statement(receipt, &trust, now()) {
                    Err(_) => rejected(id, ReplyCode::NotAuthentic),
                    Ok(receipt) => Input::Receipt {
                        session,
                        receipt: Box::new(receipt),
                    },
                }
            }
        },
        Frame::KeyPackage { package } => match SignedKeyPackage::decode(&package) {
            Err(e) => rejected(None, code(e)),
            Ok(package) => match verify_statement(package, &trust, now()) {
                Err(_) => rejected(None, ReplyCode::NotAuthentic),
                Ok(package) => Input::KeyPackage {
                    session,
                    package: Box::new(package),
                },
            },
        },
        frame @ (Frame::Act { .. } | Frame::Declare { .. }) => statement(session, &frame, &trust),
        Frame::Kept { of } => Input::Kept { session, of },
        Frame::ReceiptStored { id, kind, by } => Input::ReceiptStored {
            session,
            id,
            kind,
            by,
        },
        Frame::DirectoryGet => Input::DirectoryGet { session },
        Frame::AttachmentOffer { digest, length } => {
            if length > limits::MAX_ATTACHMENT {
                rejected(None, ReplyCode::TooLarge)
            } else {
                let have = shared.uploading.offered(session, digest, length, shared);
                let state = Frame::AttachmentState { digest, have };
                drop(connection.send(Lane::Control, state.encode()).await);
                return Ok(());
            }
        }
        Frame::AttachmentGet { digest, offset } => Input::AttachmentGet {
            session,
            digest,
            offset,
        },
        Frame::AuditGet { request, query } => Input::AuditGet {
            session,
            request,
            query,
        },
        Frame::CatalogGet { request, to } => Input::CatalogGet {
            session,
            request,
            to,
        },
        Frame::ExplainGet { request, about } => Input::ExplainGet {
            session,
            request,
            about,
        },
        Frame::Hello { .. }
        | Frame::Welcome { .. }
        | Frame::Accepted { .. }
        | Frame::Refused { .. }
        | Frame::Deliver { .. }
        | Frame::KeyPackageStored
        | Frame::Directory { .. }
        | Frame::AttachmentState { .. }
        | Frame::AuditPage { .. }
        | Frame::Catalog { .. }
        | Frame::Explanation { .. }
        | Frame::ReviewDue { .. }
        | Frame::NotKept { .. } => {
            return Err("a frame only the broker sends, or a second greeting");
        }
    };
    shared.tell(input).await;
    Ok(())
}

/// An act or a declaration, where it is what it claims to be.
fn statement(session: Session, frame: &Frame, trust: &Trust) -> Input {
    let not = |code| Input::NotKept {
        session,
        of: frame.digest(),
        code,
    };
    match frame {
        Frame::Act { act } => match SignedAct::decode(act) {
            Err(e) => not(code(e)),
            Ok(act) => match verify_statement(act, trust, now()) {
                Err(_) => not(ReplyCode::NotAuthentic),
                Ok(act) => Input::Act {
                    session,
                    act: Box::new(act),
                },
            },
        },
        Frame::Declare { declaration } => match SignedDeclaration::decode(declaration) {
            Err(e) => not(code(e)),
            Ok(d) => match verify_statement(d, trust, now()) {
                Err(_) => not(ReplyCode::NotAuthentic),
                Ok(d) => Input::Declare {
                    session,
                    declaration: Box::new(d),
                },
            },
        },
        _ => not(ReplyCode::Unsupported),
    }
}

async fn busy(connection: &Connection, id: Option<MessageId>) {
    let frame = Frame::Refused {
        id,
        code: ReplyCode::Busy,
        rule: None,
        recipient: None,
        retry_after_ms: Some(RETRY_MS),
    };
    drop(connection.send(Lane::Control, frame.encode()).await);
}

/// Writes until the queue or the connection ends.
async fn write(
    shared: &Arc<Shared>,
    connection: &Connection,
    mut outgoing: mpsc::Receiver<Box<Out>>,
) {
    while let Some(out) = outgoing.recv().await {
        let (lane, frame) = match *out {
            Out::Welcome => (
                Lane::Control,
                Frame::Welcome {
                    broker: shared.name.clone(),
                    checkpoint: shared.reader.checkpoint(),
                },
            ),
            Out::Frame(frame) => (Lane::Control, frame),
            Out::Deliver(id, precedence) => match shared.reader.message(id) {
                Ok(Some(envelope)) => (Lane::Class(precedence), Frame::Deliver { envelope }),
                // Done with since: a receipt or the end of its time came first.
                Ok(None) => continue,
                Err(e) => return drop(shared.fatal.send(e.to_string()).await),
            },
            Out::Page {
                request,
                query,
                level,
            } => match page(&shared.reader, request, &query, level) {
                Ok(frame) => (Lane::Control, frame),
                Err(why) => return drop(shared.fatal.send(why).await),
            },
            Out::Attachment { digest, offset } => {
                tokio::spawn(send_attachment(
                    shared.attachments.clone(),
                    connection.clone(),
                    digest,
                    offset,
                ));
                continue;
            }
            Out::Close(code, reason) => {
                connection.close(code, reason);
                return;
            }
        };
        if connection.send(lane, frame.encode()).await.is_err() {
            return;
        }
    }
}

fn page(reader: &Reader, request: u32, query: &AuditQuery, level: Level) -> Result<Frame, String> {
    let limit = usize::from(query.limit).min(limits::MAX_PAGE);
    let entries = reader
        .entries(query.from, limit, query.message.as_ref())
        .map_err(|e| e.to_string())?;
    let may = |public: &[u8]| Public::decode(public).is_ok_and(|p| p.level <= level);
    let (records, details) = entries
        .into_iter()
        .map(|e| {
            let opened = may(&e.public).then(|| Bytes::from([&e.salt[..], &e.detail].concat()));
            (Bytes::from(e.public), opened)
        })
        .unzip();
    Ok(Frame::AuditPage {
        request,
        records,
        details,
        checkpoint: reader.checkpoint(),
    })
}

/// Sends an attachment from an offset on. A stream that breaks off is asked for again by the node.
async fn send_attachment(
    store: AttachmentStore,
    connection: Connection,
    digest: Digest,
    offset: u64,
) {
    let send = async {
        let mut file = tokio::fs::File::from_std(store.read(&digest)?);
        file.seek(SeekFrom::Start(offset)).await?;
        let head = BulkHead { digest, offset }.encode();
        let mut bulk = connection
            .send_bulk(head)
            .await
            .map_err(std::io::Error::other)?;
        tokio::io::copy(&mut file, &mut bulk).await?;
        bulk.flush().await?;
        bulk.finish()
    };
    if let Err(why) = send.await {
        tracing::debug!(%digest, %why, "an attachment was not sent to its end");
    }
}
