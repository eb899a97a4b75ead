//! Peers that hold a good certificate and do not keep to the protocol.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ordonnans_certs::Validity;
use ordonnans_certs::memory::Authority;
use ordonnans_label::{Clearance, Level, Name};
use ordonnans_message::{Timestamp, limits};

use crate::{Clock, CloseCode, Identity, Lane, Limits, Listener, tls};

struct Line {
    listener: Listener,
    raw: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

fn identity(authority: &mut Authority, name: &str) -> Identity {
    let name: Name = name.parse().expect("a name");
    let issued = authority
        .issue(&name, &Clearance::new(Level::DepV))
        .expect("issues");
    Identity::from_der(vec![issued.certificate.to_vec()], issued.key_pkcs8()).expect("fits")
}

async fn line() -> Line {
    let now = std::time::SystemTime::now();
    let validity = Validity {
        from: (now - Duration::from_secs(60)).into(),
        until: (now + Duration::from_secs(3600)).into(),
    };
    let clock: Clock = Arc::new(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp::from_millis(now.map_or(0, |d| d.as_millis() as u64))
    });
    let mut authority = Authority::new("crisis.example", validity).expect("an authority");
    let broker = identity(&mut authority, "b1.broker.crisis.example");
    let node = identity(&mut authority, "a.node.crisis.example");
    let (trust, limits) = (authority.trust().expect("trust"), Limits::default());
    let address = "127.0.0.1:0".parse().expect("an address");
    let listener =
        Listener::bind(address, &broker, &trust, limits, Arc::clone(&clock)).expect("listens");
    let name = broker.certificate().name().clone();
    let config = tls::client(&node, &trust, &clock, &limits, &name, false).expect("fits");
    let endpoint = quinn::Endpoint::client(address).expect("a socket");
    let raw = endpoint
        .connect_with(config, listener.local_addr(), name.as_str())
        .expect("begins")
        .await
        .expect("connects");
    Line {
        listener,
        raw,
        _endpoint: endpoint,
    }
}

async fn ended_as(raw: &quinn::Connection) -> Option<u64> {
    match raw.closed().await {
        quinn::ConnectionError::ApplicationClosed(c) => Some(c.error_code.into_inner()),
        _ => None,
    }
}

const VIOLATION: Option<u64> = Some(CloseCode::Violation as u64);

#[tokio::test]
async fn a_lane_that_is_none_ends_the_connection() {
    let line = line().await;
    let _served = line.listener.accept().await.expect("comes in");
    let (mut send, _recv) = line.raw.open_bi().await.expect("opens");
    send.write_all(&[99]).await.expect("writes");
    assert_eq!(ended_as(&line.raw).await, VIOLATION);
}

#[tokio::test]
async fn a_lane_twice_ends_the_connection() {
    let line = line().await;
    let _served = line.listener.accept().await.expect("comes in");
    let mut open = vec![];
    for _ in 0..2 {
        let (mut send, recv) = line.raw.open_bi().await.expect("opens");
        send.write_all(&[0]).await.expect("writes");
        open.push((send, recv));
    }
    assert_eq!(ended_as(&line.raw).await, VIOLATION);
}

#[tokio::test]
async fn a_frame_above_its_limit_ends_the_connection() {
    let line = line().await;
    let _served = line.listener.accept().await.expect("comes in");
    let (mut send, _recv) = line.raw.open_bi().await.expect("opens");
    let length = (limits::MAX_FRAME as u32 + 1).to_be_bytes();
    send.write_all(&[&[0][..], &length].concat())
        .await
        .expect("writes");
    assert_eq!(ended_as(&line.raw).await, VIOLATION);
}

#[tokio::test]
async fn half_a_frame_holds_up_no_other_lane() {
    let line = line().await;
    let served = line.listener.accept().await.expect("comes in");
    let (mut stalled, _r1) = line.raw.open_bi().await.expect("opens");
    stalled
        .write_all(&[0, 0, 0, 0, 200, 1, 2, 3])
        .await
        .expect("writes");
    let (mut good, _r2) = line.raw.open_bi().await.expect("opens");
    good.write_all(&[5, 0, 0, 0, 2, b'o', b'k'])
        .await
        .expect("writes");
    let (lane, frame) = served.recv().await.expect("arrives");
    assert_eq!(lane, Lane::Class(ordonnans_message::Precedence::Flash));
    assert_eq!(frame, Bytes::from_static(b"ok"));
}
