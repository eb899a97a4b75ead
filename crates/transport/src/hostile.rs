//! Peers that hold a good certificate and do not keep to the protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use ordonnans_message::{Precedence, limits};
use quinn::{RecvStream, SendStream, VarInt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

use crate::connection::Connection;
use crate::house::{House, Raw, soon, told, until};
use crate::tls::{BULK_STREAMS, STREAM_WINDOW};
use crate::{CloseCode, Closed, Lane, TrySend};

const FLASH: Lane = Lane::Class(Precedence::Flash);
const ROUTINE: Lane = Lane::Class(Precedence::Routine);

async fn opened(raw: &Raw, first: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, recv) = raw.quinn.open_bi().await.expect("opens");
    send.write_all(first).await.expect("writes");
    (send, recv)
}

/// Both ends agree that the peer broke the protocol.
async fn violated(raw: &Raw, served: &Connection) {
    let heard = Closed::from(&soon(raw.quinn.closed()).await);
    told(&heard, CloseCode::Violation);
    let closed = served.recv().await.expect_err("closed");
    assert_eq!(
        (closed.code, closed.by_peer),
        (Some(CloseCode::Violation), false)
    );
    let frame = Bytes::from_static(b"late");
    assert!(served.send(FLASH, frame).await.is_err());
}

#[tokio::test]
async fn a_lane_that_is_none_ends_the_connection() {
    let house = House::new();
    let listener = house.listen();
    let raw = house.raw(&listener).await;
    let served = listener.accept().await.expect("comes in");
    for code in [7, 99, 255] {
        assert_eq!(Lane::from_code(code), None);
    }
    let _lane = opened(&raw, &[7]).await;
    violated(&raw, &served).await;
}

#[tokio::test]
async fn a_lane_twice_ends_the_connection() {
    let house = House::new();
    let listener = house.listen();
    let raw = house.raw(&listener).await;
    let served = listener.accept().await.expect("comes in");
    let _lanes = (opened(&raw, &[0]).await, opened(&raw, &[0]).await);
    violated(&raw, &served).await;
}

#[tokio::test]
async fn a_frame_above_its_limit_ends_the_connection() {
    let house = House::new();
    let listener = house.listen();
    let raw = house.raw(&listener).await;
    let served = listener.accept().await.expect("comes in");
    let length = (limits::MAX_FRAME as u32 + 1).to_be_bytes();
    let _lane = opened(&raw, &[&[0][..], &length].concat()).await;
    violated(&raw, &served).await;
}

#[tokio::test]
async fn a_lane_that_ends_or_is_stopped_ends_the_connection() {
    let house = House::new();
    let listener = house.listen();
    for how in [
        "finished",
        "finished within a frame",
        "reset",
        "stopped",
        "empty",
    ] {
        let raw = house.raw(&listener).await;
        let served = listener.accept().await.expect("comes in");
        let first: &[u8] = match how {
            "empty" => &[],
            "finished within a frame" => &[0, 0, 0, 0, 9, 1],
            _ => &[0],
        };
        let (mut send, mut recv) = opened(&raw, first).await;
        match how {
            "reset" => send.reset(VarInt::from_u32(0)).expect("open"),
            "stopped" => {
                recv.stop(VarInt::from_u32(0)).expect("open");
                // Found out when something is to be sent.
                let sent = async {
                    while served.send(Lane::Control, Bytes::new()).await.is_ok() {
                        tokio::task::yield_now().await;
                    }
                };
                sent.await;
            }
            _ => send.finish().expect("open"),
        }
        violated(&raw, &served).await;
    }
}

#[tokio::test]
async fn half_a_frame_holds_up_no_other_lane_and_no_other_connection() {
    let house = House::new();
    let listener = house.listen();
    let raw = house.raw(&listener).await;
    let served = listener.accept().await.expect("comes in");
    let _stalled = opened(&raw, &[0, 0, 0, 0, 200, 1, 2, 3]).await;
    // Nor does a stream that does not say which lane it is once the others are there.
    let _good = opened(&raw, &[5, 0, 0, 0, 2, b'o', b'k']).await;
    let _silent = raw.quinn.open_bi().await.expect("opens");
    let (lane, frame) = soon(served.recv()).await.expect("arrives");
    assert_eq!((lane, frame), (FLASH, Bytes::from_static(b"ok")));
    let (client, other) = house.pair(&listener).await;
    let frame = Bytes::from_static(b"elsewhere");
    client.send(ROUTINE, frame.clone()).await.expect("sends");
    assert_eq!(soon(other.recv()).await.expect("arrives"), (ROUTINE, frame));
}

#[tokio::test]
async fn a_long_head_of_bulk_ends_the_connection_and_a_silent_one_holds_up_no_other() {
    let house = House::new();
    let listener = house.listen();
    let raw = house.raw(&listener).await;
    let served = listener.accept().await.expect("comes in");
    let mut silent = raw.quinn.open_uni().await.expect("opens");
    silent.write_all(&[0, 0]).await.expect("writes");
    let mut good = raw.quinn.open_uni().await.expect("opens");
    good.write_all(b"\0\0\0\x02hibytes").await.expect("writes");
    good.finish().expect("open");
    let (head, mut bulk) = soon(served.accept_bulk()).await.expect("comes");
    assert_eq!(head, Bytes::from_static(b"hi"));
    let mut bytes = vec![];
    bulk.read_to_end(&mut bytes).await.expect("reads");
    assert_eq!(bytes, b"bytes");
    silent.write_all(&[1, 1]).await.expect("writes");
    violated(&raw, &served).await;
    assert!(served.accept_bulk().await.is_err());
}

#[tokio::test]
async fn a_peer_that_does_not_read_fills_one_lane_and_what_is_urgent_passes_it() {
    let house = House::new();
    let listener = house.listen();
    let (client, served) = house.pair(&listener).await;
    let routine = Bytes::from(vec![1; 100_000]);
    let mut sent = 0;
    loop {
        match client.try_send(ROUTINE, routine.clone()) {
            Ok(()) => sent += 1,
            Err(TrySend::Full) => break,
            Err(TrySend::Closed(closed)) => panic!("{closed}"),
        }
        tokio::task::yield_now().await;
    }
    let urgent = Bytes::from_static(b"urgent");
    client.send(FLASH, urgent.clone()).await.expect("sends");
    // Both wait to be taken.
    until(|| {
        let incoming = served.0.incoming.try_lock().expect("nobody reads");
        [FLASH, ROUTINE]
            .iter()
            .all(|l| !incoming[l.index()].is_empty())
    })
    .await;
    assert_eq!(soon(served.recv()).await.expect("comes"), (FLASH, urgent));
    for _ in 0..sent {
        let (lane, frame) = soon(served.recv()).await.expect("comes");
        assert_eq!((lane, frame.len()), (ROUTINE, routine.len()));
    }
}

#[tokio::test]
async fn a_frame_of_our_own_above_the_limit_is_not_sent() {
    let house = House::new();
    let listener = house.listen();
    let (client, served) = house.pair(&listener).await;
    let frame = Bytes::from(vec![0; limits::MAX_FRAME + 1]);
    let closed = client.send(FLASH, frame).await.expect_err("too large");
    assert_eq!(
        (closed.code, closed.by_peer),
        (Some(CloseCode::Violation), false)
    );
    let heard = soon(served.recv()).await.expect_err("closed");
    told(&heard, CloseCode::Violation);
}

/// Stands between a client and a server; what the server says gets lost while `deaf`.
async fn between(server: SocketAddr, deaf: Arc<AtomicBool>) -> SocketAddr {
    let near = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let far = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    far.connect(server).await.expect("an address");
    let address = near.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut out, mut back) = ([0; 2048], [0; 2048]);
        let mut client = None;
        loop {
            tokio::select! {
                got = near.recv_from(&mut out) => {
                    let Ok((n, from)) = got else { return };
                    client = Some(from);
                    // A full buffer of the system loses packets, as lines do.
                    let _ = far.try_send(&out[..n]);
                }
                got = far.recv(&mut back) => {
                    let Ok(n) = got else { return };
                    if let Some(to) = client.filter(|_| !deaf.load(Ordering::SeqCst)) {
                        let _ = near.try_send_to(&back[..n], to);
                    }
                }
            }
        }
    });
    address
}

#[tokio::test]
async fn bulk_of_which_nothing_is_acknowledged_leaves_room_for_what_is_urgent() {
    let house = House::new();
    let listener = house.listen();
    let deaf = Arc::new(AtomicBool::new(false));
    let address = between(listener.local_addr(), Arc::clone(&deaf)).await;
    let (client, served) = house.pair_through(&listener, address).await;
    deaf.store(true, Ordering::SeqCst);
    // Every place writes until its stream's window is full. All of it stays in the send window.
    let written = Arc::new(AtomicUsize::new(0));
    let mut writing = vec![];
    for _ in 0..BULK_STREAMS {
        let mut bulk = soon(client.send_bulk(Bytes::new())).await.expect("a place");
        let written = Arc::clone(&written);
        writing.push(tokio::spawn(async move {
            let some = [0; 8 * 1024];
            while let Ok(n) = bulk.write(&some).await {
                written.fetch_add(n, Ordering::SeqCst);
            }
        }));
    }
    let all = BULK_STREAMS as usize * (STREAM_WINDOW as usize - 4);
    until(|| written.load(Ordering::SeqCst) == all).await;
    let urgent = Bytes::from(vec![5; 64 * 1024]);
    client.send(FLASH, urgent.clone()).await.expect("sends");
    until(|| client.0.outgoing[FLASH.index()].is_written()).await;
    deaf.store(false, Ordering::SeqCst);
    assert_eq!(soon(served.recv()).await.expect("comes"), (FLASH, urgent));
    assert_eq!(written.load(Ordering::SeqCst), all);
    client.close(CloseCode::Done, "");
    for task in writing {
        soon(task).await.expect("ends with the connection");
    }
}
