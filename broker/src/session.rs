//! One peer: reads, verifies, hands over to the engine; writes what the engine answers.

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use ordonnans_audit::{TreeHead, VerifierKey};
use ordonnans_engine::{Input, Inspect, Session};
use ordonnans_identity::{Certificate, Trust};
use ordonnans_label::{Kind, Level, Name, Policies};
use ordonnans_message::{
    AuditQuery, BulkHead, DecodeError, Digest, Envelope, Frame, MessageId, PROTOCOL_VERSION,
    Precedence, ProofOf, ReplyCode, SignedAct, SignedDeclaration, SignedKeyPackage, SignedOrder,
    SignedReceipt, limits,
};
use ordonnans_seal::{verify_envelope, verify_statement};
use ordonnans_store::{AttachmentStore, Found, Reader};
use ordonnans_transport::{CloseCode, Connection, Lane};
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::checkpoints::{NotKept, Notary};
use crate::core::{Out, Sessions, now};
use crate::renewals;
use crate::undecided::{HOLD, Undecided};
use crate::uploads::{Uploads, uploads};
use crate::urgent::{BYTES, Urgent};

/// A peer says who it is within this time, or goes.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// What waits to be sent to one peer: its window of deliveries and as many answers.
const OUT: usize = 1024;
/// Messages of one class that are read from the mailbox at once.
const READ_TOGETHER: usize = 8;
/// Bytes of an attachment that are read at once.
const PIECE: usize = 256 << 10;
/// What a node waits when the engine's door is full, in milliseconds.
const RETRY_MS: u32 = 500;

/// What every session shares.
pub(crate) struct Shared {
    pub(crate) name: Name,
    pub(crate) trust: RwLock<Arc<Trust>>,
    /// What certificates are read under, for `status`.
    pub(crate) policies: RwLock<Policies>,
    pub(crate) inputs: mpsc::Sender<Input>,
    /// Takes messages that can wait.
    pub(crate) offers: mpsc::Sender<Input>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) reader: Reader,
    pub(crate) attachments: AttachmentStore,
    pub(crate) uploading: Uploads,
    pub(crate) notary: Arc<Notary>,
    /// While these come, what can wait goes at a pace.
    pub(crate) urgent: Urgent,
    /// Whether there is a folder for what nodes ask of whoever signs their certificates.
    pub(crate) renews: bool,
    /// Says that the store cannot be read, and ends the broker.
    pub(crate) fatal: mpsc::Sender<String>,
}

impl Shared {
    pub(crate) fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trust.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a certificate says its subject may hold, under the policies that are known here.
    pub(crate) fn clearance(&self, peer: &Certificate) -> Vec<String> {
        let policies = self.policies.read();
        let policies = policies.unwrap_or_else(PoisonError::into_inner);
        let all = peer.certified().clearances(&policies);
        all.iter().map(ToString::to_string).collect()
    }

    /// Hands an input to the engine. It is gone only when the broker is.
    pub(crate) async fn tell(&self, input: Input) {
        drop(self.inputs.send(input).await);
    }
}

/// Serves a connection to its end.
pub(crate) async fn run(shared: Arc<Shared>, connection: Connection) {
    let session = Session(connection.id());
    let kept = match hello(&connection).await {
        Ok(kept) => kept,
        Err(note) => {
            connection.close(CloseCode::Violation, note);
            return;
        }
    };
    let (out, outgoing) = mpsc::channel(OUT);
    shared.sessions.insert(session, out, connection.clone());
    let peer = connection.peer().clone();
    let line = connection.line();
    tracing::info!(peer = %peer.name(), line, "session opened");
    let opened = Input::Opened {
        session,
        peer,
        line,
    };
    shared.tell(opened).await;
    let kept = remembered(&shared, &connection, kept).await;
    let bulk = uploads(Arc::clone(&shared), connection.clone(), session);
    let bulk = tokio::spawn(bulk);
    let undecided = Undecided::default();
    let note = tokio::select! {
        note = read(&shared, &connection, session, &undecided) => note,
        () = write(&shared, &connection, outgoing, kept, &undecided) => "the broker closed it",
    };
    // Closed already, in whatever words; this ends what still waits for the peer.
    connection.close(CloseCode::Done, "the session has ended");
    shared.sessions.remove(session);
    tracing::info!(peer = %connection.peer().name(), note, "session closed");
    shared.tell(Input::Closed { session, note }).await;
    // A panic there has been reported.
    drop(bulk.await);
}

/// What the peer remembers of the log. Where this log never was like that, it was put back or changed, or the peer remembers another: an alarm
/// either way.
async fn remembered(
    shared: &Shared,
    connection: &Connection,
    kept: Option<String>,
) -> Option<TreeHead> {
    let text = kept?;
    let (note, head) = match shared.notary.read(&text) {
        None => (
            "remembers a checkpoint that the key of this log did not sign".to_owned(),
            None,
        ),
        Some(head) => {
            let size = head.size;
            let root = reading(&shared.reader, move |reader| reader.root(size)).await;
            let root = match root {
                Ok(root) => root,
                // The task was cancelled: the broker stops.
                Err(_) => return None,
            };
            if root == Some(head.root) || head.size == 0 {
                return Some(head);
            }
            let size = shared.reader.head().size;
            let note = format!(
                "remembers this log with {} records; with {size} it does not continue that: it was put back or changed",
                head.size
            );
            (note, Some(head))
        }
    };
    tracing::error!(peer = %connection.peer().name(), note, "a witness remembers another log");
    let who = Some(connection.peer().name().clone());
    shared.tell(Input::Alarm { who, note }).await;
    head
}

/// The greeting; gives the checkpoint that the peer keeps.
async fn hello(connection: &Connection) -> Result<Option<String>, &'static str> {
    let first = tokio::time::timeout(HELLO_WITHIN, connection.recv());
    let (_, bytes) = first
        .await
        .map_err(|_| "no greeting in time")?
        .map_err(|_| "closed before the greeting")?;
    match Frame::decode(&bytes) {
        Ok(Frame::Hello {
            version: PROTOCOL_VERSION,
            checkpoint,
        }) => Ok(checkpoint),
        Ok(Frame::Hello { .. }) => Err("this broker speaks version 1 of the protocol only"),
        _ => Err("the first frame is a greeting"),
    }
}

/// Reads until the end, and says why it ended.
async fn read(
    shared: &Shared,
    connection: &Connection,
    session: Session,
    undecided: &Undecided,
) -> &'static str {
    loop {
        let (lane, frame) = match connection.recv().await {
            Ok((lane, bytes)) => (lane, Frame::decode(&bytes)),
            Err(closed) => {
                return match closed.code {
                    Some(CloseCode::Done) => "the peer closed it",
                    Some(CloseCode::Violation) => "the peer broke the protocol",
                    Some(CloseCode::NotBelieved) if connection.peer().not_after() <= now() => {
                        "certificate no longer believed: it has ended"
                    }
                    Some(CloseCode::NotBelieved) => "certificate no longer believed",
                    Some(CloseCode::Stopping) => "the broker stopped",
                    _ => "the connection was lost",
                };
            }
        };
        let handled = match frame {
            Ok(Frame::Publish { envelope }) => {
                if !publish(shared, connection, session, undecided, (lane, &envelope)).await {
                    connection.hold(lane, HOLD);
                }
                Ok(())
            }
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
        // A frame costs some tenths of a millisecond. What is to be said to this peer, and the other sessions, come in between.
        tokio::task::yield_now().await;
    }
}

fn code(e: DecodeError) -> ReplyCode {
    match e {
        DecodeError::Limit(_) => ReplyCode::TooLarge,
        DecodeError::Unknown(_) | DecodeError::Unsupported(_) => ReplyCode::Unsupported,
        _ => ReplyCode::Malformed,
    }
}

/// A message from the peer. Gives whether it is in the engine's hands; where it is not, the peer was told why.
async fn publish(
    shared: &Shared,
    connection: &Connection,
    session: Session,
    undecided: &Undecided,
    (lane, envelope): (Lane, &[u8]),
) -> bool {
    let rejected = |id, code| shared.tell(Input::Rejected { session, id, code });
    let envelope = match Envelope::decode(envelope) {
        Ok(envelope) => envelope,
        Err(e) => {
            rejected(None, code(e)).await;
            return false;
        }
    };
    let id = envelope.header().id;
    if !undecided.enter(id, lane) {
        busy(connection, id).await;
        return false;
    }
    let Ok(envelope) = verify_envelope(envelope, &shared.trust(), now()) else {
        undecided.leave(id);
        rejected(Some(id), ReplyCode::NotAuthentic).await;
        return false;
    };
    let header = envelope.get().header();
    let urgent = header.precedence().is_urgent();
    let own = header.originator == *connection.peer().name();
    let door = match urgent {
        true => &shared.inputs,
        false => &shared.offers,
    };
    let envelope = Box::new(envelope);
    // The permit at the door: none left, nothing stored.
    let taken = door.try_send(Input::Publish { session, envelope }).is_ok();
    if !taken {
        undecided.leave(id);
        busy(connection, id).await;
    } else if urgent && own {
        // Nobody has room made for what another wrote.
        shared.urgent.came();
    }
    taken
}

/// One frame from the peer that is no message. An error is a breach of the protocol.
async fn take(
    shared: &Shared,
    connection: &Connection,
    session: Session,
    frame: Frame,
) -> Result<(), &'static str> {
    let rejected = |id, code| Input::Rejected { session, id, code };
    let trust = shared.trust();
    let input = match frame {
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
        frame @ (Frame::Act { .. } | Frame::Declare { .. } | Frame::Order { .. }) => {
            statement(session, &frame, &trust)
        }
        ref frame @ Frame::RenewalAsk {
            ref request,
            ref signature,
        } => {
            let of = frame.digest();
            if !shared.renews {
                let not = Frame::NotKept {
                    of,
                    code: ReplyCode::Unsupported,
                    rule: None,
                };
                drop(connection.send(Lane::Control, not.encode()).await);
                return Ok(());
            }
            renewals::asked(session, of, connection.peer(), request, signature)
        }
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
                let state = shared.uploading.offered(
                    (session, connection.peer().name()),
                    digest,
                    length,
                    shared,
                );
                let state = state.await;
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
        Frame::WatchGet { request, query } => Input::WatchGet {
            session,
            request,
            query,
        },
        Frame::ProofGet { request, of } => Input::ProofGet {
            session,
            request,
            of,
        },
        Frame::CheckpointGet { request } => Input::CheckpointGet { session, request },
        Frame::ReadersGet {
            request,
            nodes,
            level,
        } => Input::ReadersGet {
            session,
            request,
            nodes,
            level,
        },
        Frame::Cosign { key, size, line } => {
            cosigned(shared, connection, &key, size, &line).await;
            return Ok(());
        }
        Frame::CatalogGet { request, to } => Input::CatalogGet {
            session,
            request,
            to,
        },
        Frame::ExpandGet {
            request,
            groups,
            label,
        } => Input::ExpandGet {
            session,
            request,
            groups,
            label,
        },
        Frame::ExplainGet { request, about } => Input::ExplainGet {
            session,
            request,
            about,
        },
        Frame::Hello { .. }
        | Frame::Publish { .. }
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
        | Frame::NotKept { .. }
        | Frame::Proof { .. }
        | Frame::Checkpoint { .. }
        | Frame::Notice { .. }
        | Frame::Expanded { .. }
        | Frame::Renewed { .. }
        | Frame::Readers { .. } => {
            return Err("a frame only the broker sends, or a second greeting");
        }
    };
    shared.tell(input).await;
    Ok(())
}

/// A witness's signature, by the key it shows: whose keys count, those decide who look at the checkpoint.
async fn cosigned(shared: &Shared, connection: &Connection, key: &str, size: u64, line: &str) {
    let key = key.parse::<VerifierKey>().ok();
    let own = |k: &VerifierKey| k.is_witness() && k.name() == connection.peer().name().as_str();
    let Some(key) = key.filter(own) else {
        tracing::warn!(peer = %connection.peer().name(), "a witness signs with a key of another name");
        return;
    };
    let (notary, reader) = (Arc::clone(&shared.notary), shared.reader.clone());
    let line = line.to_owned();
    let added =
        tokio::task::spawn_blocking(move || notary.countersigned(&reader, &key, size, &line));
    match added.await {
        Ok(Err(NotKept::ForNow(why))) => {
            tracing::warn!(%why, "a witness's signature could not be kept; it signs the next checkpoint again");
        }
        Ok(Err(NotKept::ForGood(why))) => drop(shared.fatal.send(why).await),
        Ok(Ok(_)) | Err(_) => {}
    }
}

/// An act, a declaration or an order, where it is what it claims to be.
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
        Frame::Order { order } => match SignedOrder::decode(order) {
            Err(e) => not(code(e)),
            Ok(o) => match verify_statement(o, trust, now()) {
                Err(_) => not(ReplyCode::NotAuthentic),
                Ok(o) => Input::Order {
                    session,
                    order: Box::new(o),
                },
            },
        },
        _ => not(ReplyCode::Unsupported),
    }
}

async fn busy(connection: &Connection, id: MessageId) {
    let frame = Frame::Refused {
        id: Some(id),
        code: ReplyCode::Busy,
        rule: None,
        recipient: None,
        retry_after_ms: Some(RETRY_MS),
    };
    drop(connection.send(Lane::Control, frame.encode()).await);
}

/// What an officer watches.
struct Watch {
    request: u32,
    query: Box<AuditQuery>,
    level: Level,
    next: u64,
}

/// Why writing ended.
enum Ended {
    /// The connection is closed, or to be closed.
    Closed,
    /// The store cannot be read.
    Fatal(String),
}

/// What is said to one peer.
struct Saying<'a> {
    shared: &'a Arc<Shared>,
    connection: &'a Connection,
    undecided: &'a Undecided,
    watch: Option<Watch>,
    /// The checkpoint that the peer has: it gets the proof of each new one from there on.
    has: Option<TreeHead>,
    /// Whether it is a node that was welcomed: a witness.
    witness: bool,
    copies: Copies,
}

/// Copies that are to go out, class by class: the queue of a class fills where the line is thin, and what is urgent must not wait for that. There are
/// never more than the engine lets a node have under way.
#[derive(Default)]
struct Copies {
    waiting: BTreeMap<Precedence, mpsc::UnboundedSender<MessageId>>,
    /// End with the session.
    sending: JoinSet<()>,
}

impl Copies {
    fn send(
        &mut self,
        shared: &Arc<Shared>,
        connection: &Connection,
        (id, precedence): (MessageId, Precedence),
    ) -> Result<(), Ended> {
        let class = self.waiting.entry(precedence).or_insert_with(|| {
            let (waiting, ids) = mpsc::unbounded_channel();
            let (shared, connection) = (Arc::clone(shared), connection.clone());
            self.sending
                .spawn(send_copies(shared, connection, precedence, ids));
            waiting
        });
        // Where that has ended so does the session, and the copy stays in the mailbox.
        class.send(id).map_err(|_| Ended::Closed)
    }
}

/// Sends the copies of one class, in their order.
async fn send_copies(
    shared: Arc<Shared>,
    connection: Connection,
    precedence: Precedence,
    mut waiting: mpsc::UnboundedReceiver<MessageId>,
) {
    let mut ids = vec![];
    while waiting.recv_many(&mut ids, READ_TOGETHER).await > 0 {
        let paced = !precedence.is_urgent() && shared.urgent.come();
        for few in ids.chunks(if paced { 1 } else { READ_TOGETHER }) {
            // What is done with while it waits for its turn is not there to be read then.
            if paced {
                shared.urgent.turn(precedence).await;
            }
            let copies = match envelopes(&shared.reader, few.to_vec()).await {
                Ok(copies) => copies,
                Err(Ended::Closed) => return,
                Err(Ended::Fatal(why)) => return drop(shared.fatal.send(why).await),
            };
            for envelope in copies {
                let frame = Frame::Deliver { envelope }.encode();
                let sent = connection.send(Lane::Class(precedence), frame).await;
                if sent.is_err() {
                    return;
                }
            }
        }
        ids.clear();
    }
}

/// The envelopes of messages, but for those that are done with since: a receipt or the end of their time came first. What came just now has not left
/// memory; all else is on the disk, and no task may wait for that.
async fn envelopes(reader: &Reader, ids: Vec<MessageId>) -> Result<Vec<Bytes>, Ended> {
    let here: Option<Vec<Bytes>> = ids.iter().map(|id| reader.waiting(*id)).collect();
    if let Some(here) = here {
        return Ok(here);
    }
    let read = move |reader: &Reader| {
        let all = ids.into_iter().map(|id| reader.message(id));
        all.filter_map(Result::transpose).collect::<Result<_, _>>()
    };
    let read = reading(reader, read).await?;
    read.map_err(|e| Ended::Fatal(e.to_string()))
}

/// Writes until the queue or the connection ends.
async fn write(
    shared: &Arc<Shared>,
    connection: &Connection,
    mut outgoing: mpsc::Receiver<Box<Out>>,
    has: Option<TreeHead>,
    undecided: &Undecided,
) {
    let (mut grows, mut signs) = (shared.reader.grows(), shared.reader.signs());
    let mut saying = Saying {
        shared,
        connection,
        undecided,
        watch: None,
        has,
        witness: false,
        copies: Copies::default(),
    };
    loop {
        let done = tokio::select! {
            out = outgoing.recv() => match out {
                None => return,
                Some(out) => saying.say(*out).await,
            },
            Ok(()) = grows.changed(), if saying.watch.is_some() => saying.watched().await,
            Ok(()) = signs.changed(), if saying.witness => saying.signed().await,
        };
        match done {
            Ok(()) => {}
            Err(Ended::Closed) => return,
            Err(Ended::Fatal(why)) => return drop(shared.fatal.send(why).await),
        }
    }
}

impl Saying<'_> {
    async fn send(&self, lane: Lane, frame: Frame) -> Result<(), Ended> {
        let sent = self.connection.send(lane, frame.encode()).await;
        sent.map_err(|_| Ended::Closed)
    }

    async fn say(&mut self, out: Out) -> Result<(), Ended> {
        let (lane, frame) = match out {
            Out::Welcome => (Lane::Control, self.welcome().await?),
            Out::Frame(frame) => {
                if let Some(lane) = self.undecided.decided(&frame) {
                    self.connection.hold(lane, HOLD);
                }
                (Lane::Control, frame)
            }
            Out::Deliver(id, precedence) => {
                let copy = (id, precedence);
                return self.copies.send(self.shared, self.connection, copy);
            }
            Out::Inspect {
                request,
                size,
                what,
            } => {
                // What is read follows the journal a moment later; whoever asks has had answers, and must find their records.
                let mut grows = self.shared.reader.grows();
                let there = grows.wait_for(|head| head.size >= size).await;
                // Nobody applies anything any more: the broker stops.
                there.map_err(|_| Ended::Closed)?;
                return self.inspect(request, what).await;
            }
            Out::Attachment { digest, offset } => {
                tokio::spawn(send_attachment(
                    Arc::clone(self.shared),
                    self.connection.clone(),
                    digest,
                    offset,
                ));
                return Ok(());
            }
            Out::Close(code, reason) => {
                self.connection.close(code, reason);
                return Err(Ended::Closed);
            }
        };
        self.send(lane, frame).await
    }

    async fn welcome(&mut self) -> Result<Frame, Ended> {
        let reader = &self.shared.reader;
        let signed = reader.checkpoint();
        let proof = match &signed {
            Some((head, _)) => self.proof_to(*head).await?,
            None => vec![],
        };
        self.has = signed.as_ref().map(|(head, _)| *head).or(self.has);
        self.witness = self.connection.peer().name().kind() == Kind::Node;
        Ok(Frame::Welcome {
            broker: self.shared.name.clone(),
            checkpoint: signed.map(|(_, text)| text.to_string()),
            key: self.shared.notary.verifier().to_string(),
            proof,
        })
    }

    /// That this head continues what the peer has; empty where there is nothing to prove, or no way to.
    async fn proof_to(&self, head: TreeHead) -> Result<Vec<Digest>, Ended> {
        let Some(has) = self.has else {
            return Ok(vec![]);
        };
        let prove = move |reader: &Reader| reader.consistency(has.size, head.size);
        let proof = reading(&self.shared.reader, prove).await?;
        Ok(proof.unwrap_or_default())
    }

    /// There is a new checkpoint, or another signature below the one there is, which the peer need not see.
    async fn signed(&mut self) -> Result<(), Ended> {
        let newer = |head: &TreeHead| self.has.is_none_or(|has| head.size > has.size);
        let signed = self.shared.reader.checkpoint();
        let Some((head, checkpoint)) = signed.filter(|(head, _)| newer(head)) else {
            return Ok(());
        };
        let proof = self.proof_to(head).await?;
        self.has = Some(head);
        let frame = Frame::Checkpoint {
            request: None,
            checkpoint: checkpoint.to_string(),
            proof,
        };
        self.send(Lane::Control, frame).await
    }

    async fn inspect(&mut self, request: u32, what: Inspect) -> Result<(), Ended> {
        let reader = &self.shared.reader;
        let frame = match what {
            Inspect::Page { query, level } => {
                let found = search(reader, *query, level).await?;
                page(reader, request, found)
            }
            Inspect::Watch { query, level } => {
                let again = self.watch.take().filter(|w| w.request == request);
                let next = again.map_or(query.from.min(reader.head().size), |w| w.next);
                self.watch = Some(Watch {
                    request,
                    query,
                    level,
                    next,
                });
                return self.watched().await;
            }
            Inspect::Proof(of) => {
                let prove = move |reader: &Reader| match of {
                    ProofOf::Inclusion { sequence, size } => reader.inclusion(sequence, size),
                    ProofOf::Consistency { first, size } => reader.consistency(first, size),
                    ProofOf::Root { size } => reader.root(size).map(|root| vec![root]),
                };
                let hashes = reading(reader, prove).await?;
                Frame::Proof { request, hashes }
            }
            Inspect::Checkpoint => {
                let notary = Arc::clone(&self.shared.notary);
                let signed = reading(reader, move |reader| notary.sign(reader)).await?;
                match signed {
                    Ok(Some(head)) => self.shared.tell(Input::Signed { head }).await,
                    Ok(None) => {}
                    // The one before is the answer.
                    Err(NotKept::ForNow(why)) => {
                        tracing::warn!(%why, "no checkpoint can be kept; the last one is shown");
                    }
                    Err(NotKept::ForGood(why)) => return Err(Ended::Fatal(why)),
                }
                Frame::Checkpoint {
                    request: Some(request),
                    checkpoint: checkpoint_of(reader).unwrap_or_default(),
                    proof: vec![],
                }
            }
        };
        self.send(Lane::Control, frame).await
    }

    /// Sends what came since to whoever watches.
    async fn watched(&mut self) -> Result<(), Ended> {
        while let Some(watch) = &mut self.watch {
            let query = AuditQuery {
                from: watch.next,
                limit: u16::try_from(limits::MAX_PAGE).unwrap_or(u16::MAX),
                ..AuditQuery::clone(&watch.query)
            };
            let (request, level) = (watch.request, watch.level);
            let found = search(&self.shared.reader, query, level).await?;
            watch.next = found.next;
            let more = found.more;
            if !found.entries.is_empty() {
                let frame = page(&self.shared.reader, request, found);
                self.send(Lane::Control, frame).await?;
            }
            if !more {
                break;
            }
        }
        Ok(())
    }
}

/// Reads the log. That reads the disk, so it does not hold the other sessions up.
async fn reading<T: Send + 'static>(
    reader: &Reader,
    read: impl FnOnce(&Reader) -> T + Send + 'static,
) -> Result<T, Ended> {
    let reader = reader.clone();
    let read = tokio::task::spawn_blocking(move || read(&reader)).await;
    read.map_err(|e| Ended::Fatal(e.to_string()))
}

async fn search(reader: &Reader, query: AuditQuery, level: Level) -> Result<Found, Ended> {
    let found = reading(reader, move |reader| reader.search(&query, level)).await?;
    found.map_err(|e| Ended::Fatal(e.to_string()))
}

/// The text of the newest checkpoint.
fn checkpoint_of(reader: &Reader) -> Option<String> {
    reader.checkpoint().map(|(_, text)| text.to_string())
}

fn page(reader: &Reader, request: u32, found: Found) -> Frame {
    let (records, details) = found
        .entries
        .into_iter()
        .map(|e| {
            let opened = e.opened.map(|(salt, detail)| [&salt[..], &detail].concat());
            (Bytes::from(e.public), opened.map(Bytes::from))
        })
        .unzip();
    Frame::AuditPage {
        request,
        records,
        details,
        checkpoint: checkpoint_of(reader),
        next: found.more.then_some(found.next),
    }
}

/// Sends an attachment from an offset on. A stream that breaks off is asked for again by the node.
async fn send_attachment(shared: Arc<Shared>, connection: Connection, digest: Digest, offset: u64) {
    let send = async {
        let mut file = tokio::fs::File::from_std(shared.attachments.read(&digest)?);
        file.seek(SeekFrom::Start(offset)).await?;
        let head = BulkHead { digest, offset }.encode();
        let mut bulk = connection
            .send_bulk(head)
            .await
            .map_err(std::io::Error::other)?;
        // In pieces that cost few turns on the disk's threads.
        let mut file = tokio::io::BufReader::with_capacity(PIECE, file);
        while let piece = file.fill_buf().await?
            && !piece.is_empty()
        {
            // A part at a time, so that no more goes out at once than has its turn.
            for part in piece.chunks(if shared.urgent.come() { BYTES } else { PIECE }) {
                shared.urgent.turn_of_piece(part.len()).await;
                bulk.write_all(part).await?;
            }
            let n = piece.len();
            file.consume(n);
        }
        bulk.flush().await?;
        bulk.finish()
    };
    if let Err(why) = send.await {
        tracing::debug!(%digest, %why, "an attachment was not sent to its end");
    }
}
