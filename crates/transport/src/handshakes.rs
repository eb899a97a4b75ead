//! Handshakes by peers that are not quite ours: other key exchanges, flawed certificates, tickets, floods, a restart.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ordonnans_certs::Flaw;
use ordonnans_label::{Clearance, Level};
use ordonnans_message::limits;
use rustls::NamedGroup;
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::server::ServerSessionMemoryCache;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::UdpSocket;

use crate::connection::Connection;
use crate::house::{House, endpoint, identity, soon, told, until};
use crate::tls::{self, KeyExchange};
use crate::{CloseCode, ConnectError, Identity, Lane, Listener, connect};

type Chain = Vec<CertificateDer<'static>>;

#[tokio::test]
async fn a_client_without_the_hybrid_group_is_served_where_that_is_allowed() {
    let house = House::new();
    let listener = house.listen_to(false);
    let config = house.client(&house.node, KeyExchange::Classical);
    let _raw = house.raw_with(&listener, config).await;
    let served = listener.accept().await.expect("comes in");
    assert_eq!(served.key_exchange(), "X25519");
}

#[tokio::test]
async fn a_client_without_the_hybrid_group_is_refused_by_default() {
    let house = House::new();
    let listener = house.listen();
    let config = house.client(&house.node, KeyExchange::Classical);
    let own = endpoint();
    let connecting = own
        .connect_with(config, listener.local_addr(), house.broker_name().as_str())
        .expect("begins");
    let refused = soon(connecting).await.expect_err("nothing in common");
    assert!(refused.to_string().contains("handshake"), "{refused}");
    until(|| listener.refused() == 1).await;
}

#[tokio::test]
async fn hybrid_only_refuses_a_broker_without_it() {
    let house = House::new();
    let (trust, name) = (house.trust(), house.broker_name());
    let config = tls::server(
        &house.broker,
        &trust,
        &house.clock,
        &house.limits,
        KeyExchange::Classical,
    )
    .expect("fits");
    let address = "127.0.0.1:0".parse().expect("an address");
    let old = quinn::Endpoint::server(config, address).expect("listens");
    let server = old.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let mut served = vec![];
        while let Some(incoming) = old.accept().await {
            served.extend(incoming.await.ok());
        }
    });
    let with = |hybrid_only| {
        connect(
            server,
            &name,
            &house.node,
            &trust,
            house.options(hybrid_only),
        )
    };
    let either = with(false).await.expect("connects");
    assert_eq!(either.key_exchange(), "X25519");
    let refused = with(true).await.expect_err("nothing in common");
    assert!(matches!(refused, ConnectError::Unreachable { .. }));
    serving.abort();
}

#[tokio::test]
async fn flawed_certificates_do_not_come_in() {
    let mut house = House::new();
    let listener = house.listen();
    let flaws = [
        Flaw::NoUsage,
        Flaw::TwoNames,
        Flaw::NoName,
        Flaw::Uri,
        Flaw::CriticalClearance,
        Flaw::OtherKind,
    ];
    for (n, flaw) in flaws.into_iter().enumerate() {
        let shown = house.flawed(flaw);
        let config = house.client(&shown, KeyExchange::HybridFirst);
        // TLS 1.3: the client is done before the server looks at its certificate.
        let raw = house.raw_with(&listener, config).await;
        let end = soon(raw.quinn.closed()).await.to_string();
        let heard = end.contains("certificate") || end == "reset by peer";
        assert!(heard, "{flaw:?}: {end}");
        until(|| listener.refused() == n as u64 + 1).await;
    }
    let (count, why) = listener.refusals();
    assert_eq!(count, 6);
    assert_eq!(
        why,
        "1 certificate not believed, 5 certificate of another form"
    );
    assert_eq!(listener.refusals(), (0, String::new()), "counted once");
}

/// A node that shows this chain.
fn showing(house: &mut House, chain: impl Fn(CertificateDer<'static>) -> Chain) -> Identity {
    let mut shown = house.issue("b");
    let CertifiedKey { cert, key, .. } = &*shown.shown;
    let chain = chain(cert[0].clone());
    shown.shown = Arc::new(CertifiedKey::new(chain, Arc::clone(key)));
    shown
}

#[tokio::test]
async fn a_chain_that_is_too_long_or_a_certificate_that_is_too_large_does_not_come_in() {
    let mut house = House::new();
    let listener = house.listen();
    let long = showing(&mut house, |own| vec![own; 6]);
    let large = vec![0; limits::MAX_CERTIFICATE + 1];
    let large = showing(&mut house, |_| vec![large.clone().into()]);
    for (n, shown) in [long, large].iter().enumerate() {
        let config = house.client(shown, KeyExchange::HybridOnly);
        let raw = house.raw_with(&listener, config).await;
        soon(raw.quinn.closed()).await;
        until(|| listener.refused() == n as u64 + 1).await;
    }
    // As many as may be sent are no reason to refuse.
    let most = showing(&mut house, |own| vec![own; 5]);
    let config = house.client(&most, KeyExchange::HybridOnly);
    let _raw = house.raw_with(&listener, config).await;
    assert!(soon(listener.accept()).await.is_some());
    assert_eq!(listener.refused(), 2);
}

/// Counts what a client keeps for later.
#[derive(Default)]
struct Tickets(AtomicUsize);

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

/// One connection of a client that would take tickets; how many it was given when the first bytes of a stream came.
async fn given(
    house: &House,
    server: SocketAddr,
    client: quinn::ClientConfig,
    tickets: &Tickets,
) -> usize {
    let own = endpoint();
    let connecting = own
        .connect_with(client, server, house.broker_name().as_str())
        .expect("begins");
    let Err(connecting) = connecting.into_0rtt() else {
        panic!("there was something to resume");
    };
    let quinn = soon(connecting).await.expect("connects");
    let (mut send, mut recv) = quinn.open_bi().await.expect("opens");
    send.write_all(&[0]).await.expect("writes");
    soon(recv.read_exact(&mut [0; 5])).await.expect("reads");
    tickets.0.load(Ordering::SeqCst)
}

#[tokio::test]
async fn who_would_take_a_ticket_gets_none() {
    let house = House::new();
    let tickets = Arc::new(Tickets::default());
    let (trust, name) = (house.trust(), house.broker_name());
    let groups = KeyExchange::HybridFirst;
    let mut config =
        tls::client_tls(&house.node, &trust, &house.clock, &name, groups).expect("fits");
    let store: Arc<dyn ClientSessionStore> = tickets.clone();
    config.resumption = Resumption::store(store);
    config.enable_early_data = true;
    let config = tls::client_quic(config, &house.limits).expect("fits");

    let listener = house.listen();
    let serving = async {
        let served = listener.accept().await.expect("comes in");
        let welcome = Bytes::from_static(b"x");
        served.send(Lane::Control, welcome).await.expect("sends");
        served.closed().await
    };
    let server = listener.local_addr();
    let (n, _) = tokio::join!(given(&house, server, config.clone(), &tickets), serving);
    assert_eq!(n, 0);

    // The same client against a server that gives tickets: the count above would have shown them.
    let mut giving = tls::server_tls(&house.broker, &trust, &house.clock, groups).expect("fits");
    giving.send_tls13_tickets = 2;
    giving.session_storage = ServerSessionMemoryCache::new(8);
    let giving = tls::server_quic(giving, &house.limits).expect("fits");
    let address = "127.0.0.1:0".parse().expect("an address");
    let giving = quinn::Endpoint::server(giving, address).expect("listens");
    let server = giving.local_addr().expect("an address");
    let serving = async {
        let incoming = giving.accept().await.expect("comes");
        let quinn = incoming.await.expect("comes in");
        let (mut send, _recv) = quinn.accept_bi().await.expect("a lane");
        send.write_all(b"12345").await.expect("writes");
        quinn.closed().await
    };
    let (n, _) = tokio::join!(given(&house, server, config, &tickets), serving);
    assert_eq!(n, 2);
}

#[tokio::test]
async fn who_was_revoked_does_not_come_back_by_what_it_kept() {
    let mut house = House::new();
    let name = "b.node.crisis.example".parse().expect("a name");
    let holds = Clearance::new(Level::DepV);
    let issued = house.authority.issue(&name, &holds).expect("issues");
    let node = identity(&issued);
    let (trust, broker) = (house.trust(), house.broker_name());
    let groups = KeyExchange::HybridFirst;
    let config = tls::client_tls(&node, &trust, &house.clock, &broker, groups);
    let mut config = config.expect("fits");
    config.resumption = Resumption::in_memory_sessions(8);
    let config = tls::client_quic(config, &house.limits).expect("fits");
    let listener = house.listen();
    let first = house.raw_with(&listener, config.clone()).await;
    let served = listener.accept().await.expect("comes in");
    served
        .send(Lane::Control, Bytes::from_static(b"welcome"))
        .await
        .expect("sends");
    // What came with it would have brought a ticket, too.
    let (mut send, mut lane) = first.quinn.open_bi().await.expect("opens");
    send.write_all(&[0]).await.expect("writes");
    soon(lane.read_exact(&mut [0; 5])).await.expect("reads");
    first.quinn.close(0u32.into(), b"");
    soon(served.closed()).await;
    house.authority.revoke(&issued);
    let cut = listener.reload(&house.broker, &house.trust());
    assert!(cut.expect("reloads").is_empty(), "nobody is on the line");
    let second = house.raw_with(&listener, config).await;
    let end = soon(second.quinn.closed()).await.to_string();
    let heard = end.contains("Revoked") || end == "reset by peer";
    assert!(heard, "{end}");
    until(|| listener.refused() == 1).await;
}

#[tokio::test]
async fn above_the_half_open_limit_an_address_proves_itself_and_comes_in() {
    let mut house = House::new();
    house.limits.handshakes = 0;
    let listener = house.listen();
    let (client, served) = house.pair(&listener).await;
    served
        .send(Lane::Control, Bytes::from_static(b"welcome"))
        .await
        .expect("sends");
    assert!(client.recv().await.is_ok());
    assert_eq!(listener.refused(), 0);
}

#[tokio::test]
async fn who_falls_silent_in_the_handshake_is_given_up() {
    let mut house = House::new();
    house.limits.handshake_timeout = Duration::from_millis(50);
    let listener = house.listen();
    // First packets come through, answers do not.
    let between = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = between.local_addr().expect("an address");
    let one_way = tokio::spawn({
        let server = listener.local_addr();
        async move {
            let ahead = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
            let mut packet = [0; 2048];
            while let Ok(n) = between.recv(&mut packet).await {
                ahead.send_to(&packet[..n], server).await.expect("sends");
            }
        }
    });
    let silent = endpoint();
    let config = house.client(&house.node, KeyExchange::HybridFirst);
    let connecting = silent
        .connect_with(config, address, house.broker_name().as_str())
        .expect("begins");
    until(|| listener.half_open() == 1).await;
    drop(connecting);
    one_way.abort();
    until(|| listener.refused() == 1 && listener.half_open() == 0).await;
}

#[tokio::test]
async fn a_cap_holds_for_handshakes_that_begin_together() {
    let mut house = House::new();
    house.limits.connections_per_address = 1;
    let listener = Arc::new(house.listen());
    let welcoming = tokio::spawn({
        let listener = Arc::clone(&listener);
        async move {
            let mut in_ = vec![];
            while let Some(served) = listener.accept().await {
                let welcome = Bytes::from_static(b"welcome");
                drop(served.send(Lane::Control, welcome).await);
                in_.push(served);
            }
        }
    });
    let (trust, name) = (house.trust(), house.broker_name());
    let try_ = || async {
        let to = listener.local_addr();
        let client = connect(to, &name, &house.node, &trust, house.options(false)).await;
        let client = client.map_err(|e| e.to_string())?;
        match client.recv().await {
            Ok(_) => Ok(client),
            Err(closed) => Err(closed.to_string()),
        }
    };
    let (a, b, c) = tokio::join!(try_(), try_(), try_());
    let in_ = [&a, &b, &c].into_iter().filter(|r| r.is_ok()).count();
    assert_eq!(in_, 1, "{a:?} {b:?} {c:?}");
    assert_eq!(listener.refused(), 2);
    welcoming.abort();
}

#[test]
fn after_a_kill_the_successor_tells_peers_that_their_connection_is_gone() {
    let house = House::new();
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime")
    };
    let (killed, rest) = (runtime(), runtime());
    let first = {
        let _inside = killed.enter();
        house.listen()
    };
    let address = first.local_addr();
    let (client, served): (Connection, Connection) = rest.block_on(house.pair(&first));
    killed.shutdown_timeout(Duration::from_secs(10));
    drop((first, served));
    rest.block_on(async {
        let clock = Arc::clone(&house.clock);
        let (trust, limits) = (house.trust(), house.limits);
        let _second = Listener::bind(address, &house.broker, &trust, limits, clock).expect("again");
        let lost = Bytes::from(vec![0; 500]);
        client.send(Lane::Control, lost).await.expect("on its way");
        let closed = soon(client.closed()).await;
        assert_eq!((closed.code, closed.by_peer), (None, true), "{closed}");
    });
}

#[tokio::test]
async fn a_listener_that_stops_says_so() {
    let house = House::new();
    let listener = house.listen();
    let (client, served) = house.pair(&listener).await;
    drop(listener);
    told(&soon(client.closed()).await, CloseCode::Stopping);
    let own = served.closed().await;
    assert_eq!((own.code, own.by_peer), (Some(CloseCode::Stopping), false));
}
