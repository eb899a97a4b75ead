//! One connection with the broker: carries what the machine says, and attachments beside it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ordonnans_identity::Usage;
use ordonnans_message::{BulkHead, Digest, Frame, PROTOCOL_VERSION};
use ordonnans_transport::{CloseCode, Closed, Connection, Lane, TrySend};
use tokio::task::JoinSet;

use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::transfer;

/// The greeting must be answered within this time.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// Messages that may overtake the welcome: more than the broker hands over at once.
const EARLY: usize = 256;
/// How often it is looked at what is due.
const TICK: Duration = Duration::from_secs(1);

/// Why a line ended.
pub(crate) enum End {
    /// The connection is gone; make another.
    Lost(String),
    /// The daemon stops.
    Stopped,
    /// The node cannot go on: its disk failed.
    Fatal(Failure),
}

impl From<Failure> for End {
    fn from(f: Failure) -> Self {
        Self::Fatal(f)
    }
}

impl From<Closed> for End {
    fn from(e: Closed) -> Self {
        Self::Lost(e.to_string())
    }
}

/// An attachment's stream has ended.
enum Ended {
    Up(Digest),
    Down(Digest, bool),
}

/// Greets and waits to be welcomed; gives the welcome first. Lanes are not ordered among each other, so a message may overtake it: what came
/// before follows.
async fn greet(daemon: &Daemon, connection: &Connection) -> Result<Vec<Frame>, End> {
    let hello = Frame::Hello {
        version: PROTOCOL_VERSION,
        checkpoint: daemon.desk.spool.checkpoint()?,
    };
    connection.send(Lane::Control, hello.encode()).await?;
    let welcomed = async {
        let mut early = vec![];
        loop {
            let (_, bytes) = connection.recv().await?;
            match Frame::decode(&bytes) {
                Ok(frame @ Frame::Welcome { .. }) => {
                    early.insert(0, frame);
                    return Ok(early);
                }
                Ok(frame @ Frame::Deliver { .. }) if early.len() < EARLY => early.push(frame),
                _ => return Err(End::Lost("the broker does not speak this protocol".into())),
            }
        }
    };
    tokio::time::timeout(WELCOME_WITHIN, welcomed)
        .await
        .map_err(|_| End::Lost("the broker does not greet".into()))?
}

/// Speaks with the broker until the connection or the daemon ends. Gives the connection over QUIC on which to go on, once there is one again.
pub(crate) async fn speak(daemon: &Arc<Daemon>, connection: Connection) -> Result<Connection, End> {
    let end = talk(daemon, &connection).await;
    match &end {
        Ok(_) => connection.close(CloseCode::Done, "QUIC is up again"),
        Err(End::Stopped) => connection.finish(CloseCode::Done, "the daemon stops").await,
        Err(_) => {}
    }
    end
}

async fn talk(daemon: &Arc<Daemon>, connection: &Connection) -> Result<Connection, End> {
    let early = greet(daemon, connection).await?;
    daemon.connected(connection);
    let desk = &daemon.desk;
    let mut machine = Machine::begin(Arc::clone(desk), Instant::now())?;
    for frame in early {
        machine.take(frame, Instant::now())?;
    }
    let mut streams = JoinSet::new();
    let mut tick = tokio::time::interval(TICK);
    let mut renewals = desk.renewals();
    let quic = daemon.back_to_quic(connection.carrier());
    tokio::pin!(quic);
    loop {
        for transfer in machine.uploads() {
            let (desk, connection) = (Arc::clone(desk), connection.clone());
            streams.spawn(async move {
                let digest = transfer.digest;
                if let Err(why) = transfer::upload(&desk, &connection, transfer).await {
                    tracing::debug!(%digest, %why, "an attachment was not sent to its end");
                }
                Ended::Up(digest)
            });
        }
        let blocked = flush(&mut machine, connection)?;
        let unblocked = async {
            match blocked {
                Some((lane, frame)) => connection.send(lane, frame).await.map(|()| lane),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            frame = connection.recv(), if machine.takes_more() => {
                let frame = Frame::decode(&frame?.1)
                    .map_err(|e| End::Lost(format!("the broker sent a frame of another form: {e}")))?;
                machine.take(frame, Instant::now())?;
            }
            lane = unblocked => machine.queues.said(lane?),
            stream = connection.accept_bulk() => {
                let (head, stream) = stream?;
                if let Some(transfer) = BulkHead::decode(&head)
                    .ok()
                    .and_then(|h| machine.downloading(h.digest, h.offset))
                {
                    let desk = Arc::clone(desk);
                    streams.spawn(async move {
                        let whole = transfer::download(&desk, transfer, stream).await;
                        Ended::Down(transfer.digest, whole)
                    });
                }
            }
            Some(ended) = streams.join_next() => match ended {
                Ok(Ended::Up(digest)) => machine.uploaded(&digest, Instant::now()),
                Ok(Ended::Down(digest, whole)) => {
                    machine.downloaded(digest, whole, Instant::now())?;
                }
                Err(e) => return Err(Failure::internal(e.to_string()).into()),
            },
            () = desk.woken() => machine.pump(Instant::now())?,
            _ = tick.tick() => {
                still_believed(daemon, connection)?;
                machine.pump(Instant::now())?;
            }
            // What was said and not answered is said again on the next line.
            Ok(()) = renewals.changed() => {
                let why = "the node's certificate was renewed";
                connection.clone().finish(CloseCode::Done, why).await;
                return Err(End::Lost(why.into()));
            }
            next = &mut quic => return Ok(next),
            () = daemon.stop.cancelled() => return Err(End::Stopped),
        }
    }
}

/// A broker that was believed at the handshake may be revoked since, or its certificate may have ended.
fn still_believed(daemon: &Daemon, connection: &Connection) -> Result<(), End> {
    let (desk, broker) = (&daemon.desk, connection.peer().der());
    match desk.trust().verify(broker, Usage::Server, desk.now()) {
        Ok(_) => Ok(()),
        Err(e) => {
            let why = format!("the broker is no longer believed: {e}");
            connection.close(CloseCode::NotBelieved, &why);
            Err(End::Lost(why))
        }
    }
}

/// Says what the lanes take, the most urgent first; gives the first frame of the most urgent lane that is full.
fn flush(
    machine: &mut Machine,
    connection: &Connection,
) -> Result<Option<(Lane, bytes::Bytes)>, Closed> {
    loop {
        let (mut moved, mut blocked) = (false, None);
        for (lane, frame) in machine.queues.heads() {
            match connection.try_send(lane, frame.clone()) {
                Ok(()) => {
                    machine.queues.said(lane);
                    moved = true;
                }
                Err(TrySend::Full) => blocked = blocked.or(Some((lane, frame))),
                Err(TrySend::Closed(closed)) => return Err(closed),
            }
        }
        if !moved {
            return Ok(blocked);
        }
    }
}
