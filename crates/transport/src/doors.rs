//! The doors of a listener: what is decided over a stranger before work is done for it, and the handshakes that follow.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ordonnans_identity::{Untrusted, Usage};
use quinn::Incoming;
use ring::digest::{SHA256, digest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::closed::{CloseCode, Closed};
use crate::connection::{Connection, Shown};
use crate::lanes::Lane;
use crate::listener::State;
use crate::refusals;
use crate::tcp::{self, TOKEN, Tcp, Tls, Token};

/// Where the system gives no connection, it is asked again after this time.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Handshakes over TCP from one address at one time, for each connection it may have: they come a session's lanes at once.
const AT_ONCE: usize = Lane::COUNT as usize;
/// What a refused peer still sends is read so long and so far, for it not to be reset before it has read why it was refused.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;

#[derive(Default)]
struct Counts {
    all: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// Handshakes under way, in total and by address.
#[derive(Default)]
pub(crate) struct HalfOpen(Mutex<Counts>);

/// One of them, until it is dropped.
pub(crate) struct Place {
    of: Arc<HalfOpen>,
    address: Option<IpAddr>,
}

impl HalfOpen {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().all
    }

    /// Takes a place, unless there are `most` in total or `of_one` of this address. An address that may be forged is not given: it would
    /// keep another's owner out.
    pub(crate) fn admit(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        most: usize,
        of_one: usize,
    ) -> Option<Place> {
        let mut counts = self.lock();
        if counts.all >= most {
            return None;
        }
        if let Some(address) = address {
            let of_it = counts.by_address.entry(address).or_default();
            if *of_it >= of_one {
                return None;
            }
            *of_it += 1;
        }
        counts.all += 1;
        let of = Arc::clone(self);
        Some(Place { of, address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.of.lock();
        counts.all -= 1;
        if let Some(address) = self.address
            && let Some(of_it) = counts.by_address.get_mut(&address)
        {
            *of_it -= 1;
            if *of_it == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

/// Sessions over TCP by the hash of their token, so that how long a look takes tells nothing of a token.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<BTreeMap<[u8; 32], Weak<Tcp>>>);

fn hashed(token: &Token) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token).as_ref());
    hash
}

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<[u8; 32], Weak<Tcp>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn session(&self, token: &Token) -> Option<Arc<Tcp>> {
        self.lock().get(&hashed(token))?.upgrade()
    }
}

/// Decides over each first packet before any work is done for it.
pub(crate) async fn quic(state: Arc<State>, hand: mpsc::Sender<Connection>) {
    let limits = state.limits;
    while let Some(incoming) = state.endpoint.accept().await {
        let busy = state.half_open.count() >= limits.handshakes;
        // An address that is not validated may be forged; then the answer goes to somebody else and comes back no more.
        let incoming = if busy && !incoming.remote_address_validated() {
            match incoming.retry() {
                Ok(()) => continue,
                Err(e) => e.into_incoming(),
            }
        } else {
            incoming
        };
        let address = incoming.remote_address().ip();
        let proven = incoming.remote_address_validated().then_some(address);
        // However many hold out half-open from addresses of their own, there are no more of them than of live connections.
        let most = limits.handshakes + limits.connections;
        let of_one = limits.connections_per_address;
        let place = state.half_open.admit(proven, most, of_one);
        let Some(place) = place.filter(|_| state.live.has_room(address, &limits)) else {
            state.refuse(refusals::FULL);
            incoming.refuse();
            continue;
        };
        tokio::spawn(quic_handshake(
            Arc::clone(&state),
            incoming,
            place,
            hand.clone(),
        ));
    }
}

async fn quic_handshake(
    state: Arc<State>,
    incoming: Incoming,
    place: Place,
    hand: mpsc::Sender<Connection>,
) {
    let quinn = tokio::time::timeout(state.limits.handshake_timeout, incoming).await;
    drop(place);
    let quinn = match quinn {
        Ok(Ok(quinn)) => quinn,
        Ok(Err(e)) => return state.refuse(refusals::of(&e)),
        Err(_) => return state.refuse(refusals::SILENT),
    };
    let Some(connection) = Connection::serve(quinn) else {
        return state.refuse(refusals::FORM);
    };
    if admit(&state, &connection) {
        let (id, line) = (connection.id(), connection.0.line.clone());
        if hand.send(connection).await.is_ok() {
            line.closed().await;
        }
        state.live.remove(id);
    }
}

/// Takes a connection in whose handshake is done; says why not to the peer.
fn admit(state: &State, connection: &Connection) -> bool {
    // Many handshakes may have begun while there was room for one.
    if !state.live.admit(connection, &state.limits) {
        state.refuse(refusals::FULL);
        connection.close(CloseCode::Full, "too many connections");
        return false;
    }
    if let Err(e) = believe(state, connection) {
        tracing::warn!(peer = %connection.peer().name(), why = %e, "refused after its handshake");
        state.refuse(e.reason());
        connection.close(CloseCode::NotBelieved, &e.to_string());
        state.live.remove(connection.id());
        return false;
    }
    true
}

/// What the handshake believed may have been taken back while it was under way. Under the lock, for a new trust looks at everyone only once: either
/// this is the new one, or that look comes after.
fn believe(state: &State, connection: &Connection) -> Result<(), Untrusted> {
    let trust = state.trust();
    let peer = trust.verify(connection.peer().der(), Usage::Client, (state.clock)())?;
    connection.believe(peer);
    Ok(())
}

/// Decides over each TCP connection; its address is proven.
pub(crate) async fn tcp(state: Arc<State>, listener: TcpListener, hand: mpsc::Sender<Connection>) {
    let limits = state.limits;
    loop {
        let accepted = tokio::select! {
            () = state.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((tcp, address)) = accepted else {
            // No file descriptor is left: one may be free in a while.
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let most = limits.handshakes + limits.connections;
        let of_one = limits.connections_per_address.saturating_mul(AT_ONCE);
        let Some(place) = state.half_open.admit(Some(address.ip()), most, of_one) else {
            state.refuse(refusals::FULL);
            continue;
        };
        tokio::spawn(tcp_handshake(
            Arc::clone(&state),
            tcp,
            address,
            place,
            hand.clone(),
        ));
    }
}

/// What a connection is for.
enum Begun {
    Session(Tls),
    Further(u8, Token, Tls),
    Refused(&'static str),
}

async fn tcp_handshake(
    state: Arc<State>,
    tcp: TcpStream,
    address: SocketAddr,
    place: Place,
    hand: mpsc::Sender<Connection>,
) {
    let begun = tokio::time::timeout(state.limits.handshake_timeout, begin(&state, tcp, place));
    match begun.await.unwrap_or(Begun::Refused(refusals::SILENT)) {
        Begun::Session(tls) => serve(&state, tls, address, hand).await,
        Begun::Further(what, token, tls) => {
            if !join(&state, what, &token, tls) {
                state.refuse(refusals::TOKEN);
            }
        }
        Begun::Refused(why) => state.refuse(why),
    }
}

/// The handshake, and the first bytes after it.
async fn begin(state: &State, tcp: TcpStream, place: Place) -> Begun {
    // Frames are written whole; what does not take this works all the same.
    let _ = tcp.set_nodelay(true);
    let accept = TlsAcceptor::from(state.tls()).accept(tcp).into_fallible();
    match accept.await {
        Ok(tls) => purpose(tls.into())
            .await
            .unwrap_or(Begun::Refused(refusals::LEFT)),
        Err((e, tcp)) => {
            tokio::spawn(part(tcp, place));
            Begun::Refused(refusals::of_tcp(&e))
        }
    }
}

/// Ends a connection whose peer was refused: the alert is written. Until then it has its place.
async fn part(mut tcp: TcpStream, _place: Place) {
    drop(tcp.shutdown().await);
    let mut rest = tcp.take(LINGER_BYTES);
    drop(tokio::time::timeout(LINGER, tcp::drain(&mut rest)).await);
}

async fn purpose(mut tls: Tls) -> std::io::Result<Begun> {
    tcp::speaks(&tls)?;
    let mut what = [0];
    tls.read_exact(&mut what).await?;
    if what[0] == Lane::Control.code() {
        return Ok(Begun::Session(tls));
    }
    let mut token = [0; TOKEN];
    tls.read_exact(&mut token).await?;
    Ok(Begun::Further(what[0], token, tls))
}

/// Serves a session to its end.
async fn serve(state: &State, tls: Tls, address: SocketAddr, hand: mpsc::Sender<Connection>) {
    let Some(shown) = Shown::of_tcp(&tls) else {
        return state.refuse(refusals::FORM);
    };
    let (connection, session, questions) = Connection::serve_tcp(shown, address, state.limits);
    if !admit(state, &connection) {
        // Before the token the client waits for it: that it ends is all it can be told.
        return;
    }
    let mut kept = None;
    let welcomed = session.welcome(tls, questions, |token| {
        let hash = hashed(token);
        state.tokens.lock().insert(hash, Arc::downgrade(&session));
        kept = Some(hash);
    });
    let welcomed = welcomed.await;
    let (id, limit) = (connection.id(), state.limits.handshake_timeout);
    if welcomed.is_ok() && hand.send(connection).await.is_ok() {
        if tokio::time::timeout(limit, session.closed()).await.is_err() && session.lacks_lanes() {
            let late = "a lane did not come in time";
            session.close(Closed::ours(CloseCode::Violation, late));
        }
        session.closed().await;
    } else {
        state.refuse(refusals::LEFT);
    }
    state.live.remove(id);
    if let Some(hash) = kept {
        state.tokens.lock().remove(&hash);
    }
}

/// A further connection of a session: whoever shows its token and its certificate.
fn join(state: &State, what: u8, token: &Token, tls: Tls) -> bool {
    let Some(session) = state.tokens.session(token) else {
        return false;
    };
    let Some(shown) = Shown::of_tcp(&tls) else {
        return false;
    };
    session.join(what, shown.der(), tls).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_open_handshakes_are_counted_in_total_and_by_address() {
        let half_open = Arc::new(HalfOpen::default());
        let of = |n: u8| Some(IpAddr::from([10, 0, 0, n]));
        let first = half_open.admit(of(1), 3, 1).expect("a place");
        assert!(half_open.admit(of(1), 3, 1).is_none(), "one address");
        let forged: Vec<_> = (0..2).filter_map(|_| half_open.admit(None, 3, 1)).collect();
        assert_eq!(forged.len(), 2, "who may be anyone counts for no one");
        assert!(half_open.admit(of(2), 3, 1).is_none(), "in total");
        drop((first, forged));
        assert_eq!(half_open.count(), 0);
        assert!(half_open.lock().by_address.is_empty(), "nothing is kept");
        assert!(half_open.admit(of(1), 3, 1).is_some());
    }
}
