//! A connection over TLS 1.3 on TCP, for where UDP is blocked: a TCP connection for each lane and each attachment, so that what is urgent
//! waits behind nothing else.
//!
//! They belong together by a token (`docs/wire.md`, *Over TCP*): the broker makes it for a session it let in and gives it on the first
//! connection; each further one shows it, and the very same certificate. A frame is what it is over QUIC. What QUIC does by itself is said
//! here in signals: a length that no frame has, a kind, and what belongs to it.

mod dial;
mod lanes;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::bulk::{self, BulkRecv, Receiving};
use crate::closed::{CloseCode, Closed};
use crate::lanes::{Ends, Lane};
use crate::line::Line;
use crate::tied::Tied;
use crate::tls::{BULK_STREAMS, Limits, PROTOCOL};
use dial::Dial;
pub(crate) use dial::First;
pub(crate) use lanes::drain;

pub(crate) type Tls = TlsStream<TcpStream>;

/// Bytes of a session's token: nobody guesses 256 bits.
pub(crate) const TOKEN: usize = 32;
pub(crate) type Token = [u8; TOKEN];

/// What a connection is for, in its first byte: a lane's code, or one of these.
const UP: u8 = Lane::COUNT as u8;
const DOWN: u8 = UP + 1;

/// How a broker gets them.
struct Served {
    /// What the first connection showed.
    certificate: Vec<u8>,
    /// Asks the client for a connection; one question at a time.
    asks: mpsc::Sender<()>,
    asked: AtomicBool,
    granted: mpsc::Sender<Tls>,
    taken: tokio::sync::Mutex<mpsc::Receiver<Tls>>,
}

enum Side {
    Client(Box<Dial>),
    Broker(Served),
}

/// A session: connections that belong together.
pub(crate) struct Tcp {
    side: Side,
    remote: SocketAddr,
    limits: Limits,
    over: CancellationToken,
    ended: OnceLock<Closed>,
    /// The peer has been told of the end,
    said: CancellationToken,
    /// and has heard it, or does not listen.
    heard: CancellationToken,
    /// Of the lanes that are not there yet.
    ends: Mutex<Vec<Option<Ends>>>,
    heads: mpsc::Sender<(Bytes, BulkRecv)>,
    /// Places for attachments coming in.
    places: Arc<Semaphore>,
}

/// A token that nobody guesses.
fn token() -> Option<Token> {
    let mut token = [0; TOKEN];
    SystemRandom::new().fill(&mut token).ok()?;
    Some(token)
}

/// The same protocol at both ends: unlike QUIC, TLS over TCP does not insist.
pub(crate) fn speaks(tls: &Tls) -> io::Result<()> {
    let (_, session) = tls.get_ref();
    if session.alpn_protocol() == Some(PROTOCOL) {
        return Ok(());
    }
    Err(io::Error::other("the other end speaks another protocol"))
}

/// What a session is made of beside its lanes: queues' ends, and where attachments' heads go.
pub(crate) struct Parts {
    pub(crate) ends: Vec<Option<Ends>>,
    pub(crate) heads: mpsc::Sender<(Bytes, BulkRecv)>,
}

impl Tcp {
    fn new(side: Side, remote: SocketAddr, limits: Limits, parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            side,
            remote,
            limits,
            over: CancellationToken::new(),
            ended: OnceLock::new(),
            said: CancellationToken::new(),
            heard: CancellationToken::new(),
            ends: Mutex::new(parts.ends),
            heads: parts.heads,
            places: Arc::new(Semaphore::new(BULK_STREAMS as usize)),
        })
    }

    /// A session of a peer that showed this certificate on `tls`. [`Self::welcome`] begins it.
    pub(crate) fn served(
        certificate: Vec<u8>,
        remote: SocketAddr,
        limits: Limits,
        parts: Parts,
    ) -> (Arc<Self>, mpsc::Receiver<()>) {
        let (asks, questions) = mpsc::channel(1);
        let (granted, taken) = mpsc::channel(1);
        let side = Side::Broker(Served {
            certificate,
            asks,
            asked: AtomicBool::new(false),
            granted,
            taken: taken.into(),
        });
        (Self::new(side, remote, limits, parts), questions)
    }

    /// Tells the peer the token of its session, after `keep` has noted it, and runs the first lane.
    pub(crate) async fn welcome(
        self: &Arc<Self>,
        mut tls: Tls,
        questions: mpsc::Receiver<()>,
        keep: impl FnOnce(&Token),
    ) -> io::Result<()> {
        let token = token().ok_or_else(|| io::Error::other("no randomness"))?;
        keep(&token);
        let told = async {
            tls.write_all(&token).await?;
            tls.flush().await
        };
        tokio::time::timeout(self.limits.handshake_timeout, told)
            .await
            .unwrap_or_else(|e| Err(e.into()))?;
        self.run_first(tls, Some(questions));
        Ok(())
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Ends the session; what was said first counts.
    pub(crate) fn close(&self, why: Closed) {
        if self.ended.set(why).is_ok() {
            self.over.cancel();
        }
    }

    pub(crate) fn end(&self) -> Option<Closed> {
        self.ended.get().cloned()
    }

    pub(crate) async fn closed(&self) -> Closed {
        self.over.cancelled().await;
        // Set before the token is cancelled.
        let end = self.end();
        end.unwrap_or_else(|| Closed::lost("the connection ends", false))
    }

    pub(crate) async fn told(&self) {
        self.said.cancelled().await;
        self.heard.cancelled().await;
    }

    /// Whether a lane is not there yet.
    pub(crate) fn lacks_lanes(&self) -> bool {
        self.ends().iter().any(Option::is_some)
    }

    fn ends(&self) -> std::sync::MutexGuard<'_, Vec<Option<Ends>>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_ends(&self, lane: Lane) -> Option<Ends> {
        self.ends().get_mut(lane.index()).and_then(Option::take)
    }

    fn run_first(self: &Arc<Self>, tls: Tls, questions: Option<mpsc::Receiver<()>>) {
        if let Some(ends) = self.take_ends(Lane::Control) {
            self.run(Lane::Control, tls, ends, questions);
        }
    }

    async fn open_lane(self: &Arc<Self>, lane: Lane) -> io::Result<()> {
        if let (Side::Client(dial), Some(ends)) = (&self.side, self.take_ends(lane)) {
            let tls = dial.further(lane.code()).await?;
            self.run(lane, tls, ends, None);
        }
        Ok(())
    }

    /// Takes a further connection. An error is a breach of the protocol by whoever holds the token; the session ends.
    pub(crate) fn join(
        self: &Arc<Self>,
        what: u8,
        certificate: &[u8],
        tls: Tls,
    ) -> Result<(), &'static str> {
        let joined = self.joined(what, certificate, tls);
        if let Err(violation) = joined {
            self.close(Closed::ours(CloseCode::Violation, violation));
        }
        joined
    }

    fn joined(
        self: &Arc<Self>,
        what: u8,
        certificate: &[u8],
        tls: Tls,
    ) -> Result<(), &'static str> {
        let Side::Broker(served) = &self.side else {
            return Err("a client is not called");
        };
        if served.certificate != certificate {
            return Err("another's token");
        }
        match what {
            UP => {
                let place = Arc::clone(&self.places).try_acquire_owned();
                let place = place.map_err(|_| "too many attachments at one time")?;
                self.receive(place, tls);
                Ok(())
            }
            DOWN if served.asked.swap(false, Ordering::SeqCst) => {
                let unwanted = "a connection that nobody asked for";
                served.granted.try_send(tls).map_err(|_| unwanted)
            }
            DOWN => Err("a connection that nobody asked for"),
            code => {
                let lane = Lane::from_code(code).ok_or("a lane that is none")?;
                let ends = self.take_ends(lane).ok_or("a lane a second time")?;
                self.run(lane, tls, ends, None);
                Ok(())
            }
        }
    }

    fn tie<S>(&self, stream: S) -> Tied<S> {
        Tied::new(stream, &self.over, self.limits.idle_timeout)
    }

    fn receive(self: &Arc<Self>, place: OwnedSemaphorePermit, tls: Tls) {
        let line = Line::Tcp(Arc::clone(self));
        let bulk = BulkRecv(Receiving::Tcp {
            _place: place,
            stream: Box::new(self.tie(tls)),
        });
        tokio::spawn(bulk::head(line, bulk, self.heads.clone()));
    }

    pub(crate) async fn open_bulk(&self, head: &[u8]) -> Result<Tied<Tls>, ()> {
        let tls = match &self.side {
            Side::Client(dial) => tokio::select! {
                () = self.over.cancelled() => return Err(()),
                dialled = dial.further(UP) => dialled
                    .map_err(|e| self.close(Closed::lost(e.to_string(), false)))?,
            },
            Side::Broker(served) => tokio::select! {
                () = self.over.cancelled() => return Err(()),
                granted = served.granted() => granted.ok_or(())?,
            },
        };
        let mut tied = self.tie(tls);
        tied.write_all(head).await.map_err(drop)?;
        Ok(tied)
    }

    /// The broker wants a connection for an attachment.
    async fn fetch(self: Arc<Self>) {
        let Side::Client(dial) = &self.side else {
            return;
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let why = "too many attachments at one time";
            return self.close(Closed::ours(CloseCode::Violation, why));
        };
        let dialled = tokio::select! {
            () = self.over.cancelled() => return,
            dialled = dial.further(DOWN) => dialled,
        };
        match dialled {
            Ok(tls) => self.receive(place, tls),
            // The broker waits for it: without it no attachment would come any more.
            Err(e) => self.close(Closed::lost(e.to_string(), false)),
        }
    }
}

impl Served {
    /// A connection that the client opens at our request.
    async fn granted(&self) -> Option<Tls> {
        // One at a time; who gave up waiting leaves its answer to the next.
        let mut taken = self.taken.lock().await;
        if let Ok(tls) = taken.try_recv() {
            return Some(tls);
        }
        if !self.asked.swap(true, Ordering::SeqCst) {
            self.asks.send(()).await.ok()?;
        }
        taken.recv().await
    }
}
