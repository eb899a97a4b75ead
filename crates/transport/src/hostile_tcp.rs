//! Peers over TCP that hold a good certificate and do not keep to the protocol, and those that would come into another's session.

use std::sync::Arc;

use bytes::Bytes;
use ordonnans_message::{Precedence, limits};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::connection::Connection;
use crate::house::{House, soon, told, until};
use crate::lanes::SIGNAL;
use crate::tcp::{TOKEN, Tls, Token};
use crate::tls::{self, BULK_STREAMS, KeyExchange};
use crate::{Carrier, CloseCode, Identity, Lane, Limits, Listener, Server, TrySend, connect};

const FLASH: Lane = Lane::Class(Precedence::Flash);
/// An attachment that the client sends, and one that it fetches.
const UP: u8 = 7;
const DOWN: u8 = 8;

fn config(house: &House, shown: &Identity) -> ClientConfig {
    let (trust, name) = (house.trust(), house.broker_name());
    let groups = KeyExchange::HybridOnly;
    tls::client_tls(shown, &trust, &house.clock, &name, groups).expect("fits")
}

/// A connection of ours by hand, with its first bytes written.
async fn raw(house: &House, to: &Listener, config: ClientConfig, first: &[u8]) -> Tls {
    let tcp = TcpStream::connect(to.tcp_addr().expect("listens"));
    let tcp = tcp.await.expect("connects");
    let name = ServerName::try_from(house.broker_name().as_str().to_owned()).expect("a name");
    let connector = TlsConnector::from(Arc::new(config));
    let tls = connector.connect(name, tcp).await.expect("a handshake");
    let mut tls = Tls::from(tls);
    tls.write_all(first).await.expect("writes");
    tls.flush().await.expect("writes");
    tls
}

/// A session by hand: its first connection, its token, and what the listener made of it.
async fn session(house: &House, to: &Listener) -> (Tls, Token, Connection) {
    let control = [Lane::Control.code()];
    let mut tls = raw(house, to, config(house, &house.node), &control).await;
    let mut token = [0; TOKEN];
    soon(tls.read_exact(&mut token)).await.expect("a token");
    let served = soon(to.accept()).await.expect("comes in");
    assert_eq!(served.carrier(), Carrier::Tcp);
    (tls, token, served)
}

async fn further(house: &House, to: &Listener, what: u8, token: &Token) -> Tls {
    let first = [&[what][..], token].concat();
    raw(house, to, config(house, &house.node), &first).await
}

async fn pair(house: &House, listener: &Listener) -> (Connection, Connection) {
    let (trust, name) = (house.trust(), house.broker_name());
    let server = Server::Tcp(listener.tcp_addr().expect("listens"));
    let client = connect(server, &name, &house.node, &trust, house.options(true));
    let (client, served) = soon(async { tokio::join!(client, listener.accept()) }).await;
    (client.expect("connects"), served.expect("comes in"))
}

/// This end says that the peer broke the protocol, and tells it so.
async fn violated(mut first: Tls, served: &Connection) {
    let closed = soon(served.closed()).await;
    assert_eq!(
        (closed.code, closed.by_peer),
        (Some(CloseCode::Violation), false),
        "{closed}"
    );
    let mut last = vec![];
    soon(first.read_to_end(&mut last)).await.expect("ends well");
    let close = [&SIGNAL.to_be_bytes()[..], &[2]].concat();
    assert_eq!(last[..5], close);
    assert_eq!(last[6], CloseCode::Violation as u8);
    assert_eq!(&last[7..], closed.reason.as_bytes());
}

/// The listener ends a connection without a word.
async fn ends(mut tls: Tls) {
    let mut rest = vec![];
    // How it ends is the system's affair.
    drop(soon(tls.read_to_end(&mut rest)).await);
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_token_that_is_none_opens_nothing() {
    let house = House::new();
    let listener = house.listen();
    let (_first, token, served) = session(&house, &listener).await;
    let mut other = token;
    other[31] ^= 1;
    ends(further(&house, &listener, FLASH.code(), &other).await).await;
    until(|| listener.refused() == 1).await;
    assert_eq!(served.0.line.end(), None, "the session goes on");
    served.close(CloseCode::Done, "");
    // With its session the token ends.
    until(|| served.0.line.end().is_some()).await;
    drop(served);
    until(|| listener.sessions() == 0).await;
    ends(further(&house, &listener, FLASH.code(), &token).await).await;
    until(|| listener.refused() == 2).await;
}

#[tokio::test]
async fn a_token_in_another_hand_ends_its_session() {
    let mut house = House::new();
    let thief = house.issue("thief");
    let listener = house.listen();
    let (first, token, served) = session(&house, &listener).await;
    let shown = [&[FLASH.code()][..], &token].concat();
    let tls = raw(&house, &listener, config(&house, &thief), &shown).await;
    ends(tls).await;
    violated(first, &served).await;
    until(|| listener.refused() == 1).await;
}

#[tokio::test]
async fn what_a_session_may_not_do_ends_it() {
    let house = House::new();
    let listener = house.listen();
    let flash = FLASH.code();
    for (what, opened) in [
        ("a lane twice", vec![flash, flash]),
        ("a lane that is none", vec![9]),
        ("a connection that nobody asked for", vec![DOWN]),
        ("too many attachments", vec![UP; BULK_STREAMS as usize + 1]),
    ] {
        let (first, token, served) = session(&house, &listener).await;
        let mut kept = vec![];
        for code in opened {
            kept.push(further(&house, &listener, code, &token).await);
        }
        violated(first, &served).await;
        drop((kept, what));
    }
}

#[tokio::test]
async fn what_is_no_frame_and_no_signal_ends_the_session() {
    let house = House::new();
    let listener = house.listen();
    let signal = |rest: &[u8]| [&SIGNAL.to_be_bytes()[..], rest].concat();
    let too_long = (limits::MAX_FRAME as u32 + 1).to_be_bytes().to_vec();
    // A frame above its limit, a signal of no kind, one that only the broker gives, one that is too long, one without its code.
    for bytes in [
        too_long,
        signal(&[9, 0]),
        signal(&[1, 0]),
        signal(&[0, 1, 0]),
        signal(&[2, 0]),
    ] {
        let (mut first, _, served) = session(&house, &listener).await;
        first.write_all(&bytes).await.expect("writes");
        violated(first, &served).await;
    }
}

#[tokio::test]
async fn another_protocol_does_not_come_in() {
    let house = House::new();
    let listener = house.listen();
    let mut silent = config(&house, &house.node);
    silent.alpn_protocols.clear();
    ends(raw(&house, &listener, silent, &[0]).await).await;
    until(|| listener.refused() == 1 && listener.half_open() == 0).await;
}

#[tokio::test]
async fn a_session_whose_lanes_do_not_come_is_ended() {
    let mut house = House::new();
    house.limits.handshake_timeout = std::time::Duration::from_millis(500);
    let listener = house.listen();
    let (first, _, served) = session(&house, &listener).await;
    violated(first, &served).await;
}

#[tokio::test]
async fn who_says_nothing_over_tcp_is_given_up() {
    let mut house = House::new();
    house.limits.handshake_timeout = std::time::Duration::from_millis(50);
    let listener = house.listen();
    let address = listener.tcp_addr().expect("listens");
    let _silent = TcpStream::connect(address).await.expect("connects");
    until(|| listener.refused() == 1 && listener.half_open() == 0).await;
}

#[tokio::test]
async fn a_silent_peer_is_found_out_and_one_that_shows_itself_is_kept() {
    let mut house = House::new();
    house.limits.idle_timeout = std::time::Duration::from_millis(400);
    house.limits.keep_alive = std::time::Duration::from_millis(50);
    let listener = house.listen();
    let (client, served) = pair(&house, &listener).await;
    // By hand: says nothing after its token.
    let (_first, _, silent) = session(&house, &listener).await;
    let lost = soon(silent.closed()).await;
    assert_eq!(lost.code, None, "{lost}");
    let frame = Bytes::from_static(b"still here");
    client.send(FLASH, frame.clone()).await.expect("sends");
    assert_eq!(soon(served.recv()).await.expect("comes"), (FLASH, frame));
}

#[tokio::test]
async fn attachments_go_both_ways_one_after_the_other() {
    let house = House::new();
    let listener = house.listen();
    let (client, served) = pair(&house, &listener).await;
    for (from, to) in [(&client, &served), (&served, &client)] {
        // More than there are places.
        for n in 0..3 * BULK_STREAMS as u8 {
            let head = Bytes::copy_from_slice(&[n]);
            let mut bulk = soon(from.send_bulk(head.clone())).await.expect("a place");
            bulk.write_all(&[n; 70_000]).await.expect("writes");
            bulk.finish().expect("ends");
            let (got, mut bulk) = soon(to.accept_bulk()).await.expect("comes");
            let mut bytes = vec![];
            bulk.read_to_end(&mut bytes).await.expect("whole");
            assert_eq!((got, bytes), (head, vec![n; 70_000]));
        }
    }
    client.close(CloseCode::Done, "enough");
    told(&soon(served.closed()).await, CloseCode::Done);
}

#[tokio::test]
async fn the_end_is_told_over_tcp_though_nobody_reads() {
    let house = House::new();
    let listener = house.listen();
    let (client, served) = pair(&house, &listener).await;
    let large = Bytes::from(vec![1; limits::MAX_FRAME]);
    while !matches!(served.try_send(FLASH, large.clone()), Err(TrySend::Full)) {
        tokio::task::yield_now().await;
    }
    soon(listener.close()).await;
    told(&soon(client.closed()).await, CloseCode::Stopping);
    let own = served.closed().await;
    assert_eq!((own.code, own.by_peer), (Some(CloseCode::Stopping), false));
}

#[tokio::test]
async fn the_limits_are_one_for_both_carriers() {
    let mut house = House::new();
    house.limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let listener = house.listen();
    let (_client, _served) = pair(&house, &listener).await;
    let (trust, name) = (house.trust(), house.broker_name());
    for server in [
        Server::Tcp(listener.tcp_addr().expect("listens")),
        Server::Quic(listener.local_addr()),
    ] {
        let options = house.options(true);
        let more = soon(connect(server, &name, &house.node, &trust, options)).await;
        let refused = match more {
            Err(_) => true,
            Ok(more) => soon(more.recv()).await.is_err(),
        };
        assert!(refused, "{server:?}");
    }
    until(|| listener.refused() == 2).await;
}

#[tokio::test]
async fn the_carrier_that_comes_through_is_taken() {
    let mut house = House::new();
    house.limits.handshake_timeout = std::time::Duration::from_secs(1);
    let listener = house.listen();
    let (quic, tcp) = (listener.local_addr(), listener.tcp_addr().expect("listens"));
    // Swallows what comes, and refuses it.
    let swallows = tokio::net::UdpSocket::bind("127.0.0.1:0").await;
    let swallows = swallows.expect("a socket");
    let blocked = swallows.local_addr().expect("an address");
    let refuses = tokio::net::TcpSocket::new_v4().expect("a socket");
    refuses
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("an address");
    let closed = refuses.local_addr().expect("an address");
    let (trust, name) = (house.trust(), house.broker_name());
    let to = |quic, tcp| {
        let server = Server::Either { quic, tcp };
        connect(server, &name, &house.node, &trust, house.options(true))
    };
    let both = soon(to(quic, tcp)).await.expect("connects");
    assert_eq!(both.carrier(), Carrier::Quic);
    let no_udp = soon(to(blocked, tcp)).await.expect("connects");
    assert_eq!(no_udp.carrier(), Carrier::Tcp);
    let no_tcp = soon(to(quic, closed)).await.expect("connects");
    assert_eq!(no_tcp.carrier(), Carrier::Quic);
    let neither = soon(to(blocked, closed)).await.expect_err("nobody");
    let says = neither.to_string();
    assert!(
        says.contains("no answer") && says.contains("over TCP"),
        "{says}"
    );
}
