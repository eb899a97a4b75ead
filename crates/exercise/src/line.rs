//! A slow line between the broker and one node, so that what is large is long on its way, on any machine.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How often it is looked whether the line is still wanted.
const LOOK: Duration = Duration::from_millis(100);
/// The largest datagram there is.
const DATAGRAM: usize = 65_536;

/// Passes datagrams on; those to the node wait for a slow wire. What the socket's buffer does not hold meanwhile is lost, as on a real one. It ends
/// when this is dropped.
pub(crate) struct SlowLine {
    address: SocketAddr,
    over: Arc<AtomicBool>,
}

impl SlowLine {
    /// A line to the broker that lets so many bytes a second through to the node.
    pub(crate) fn to(broker: SocketAddr, rate: u32) -> io::Result<Self> {
        let front = Arc::new(socket()?);
        let back = Arc::new(socket()?);
        back.connect(broker)?;
        let address = front.local_addr()?;
        let over = Arc::new(AtomicBool::new(false));
        let node = Arc::new(Mutex::new(None));
        let known = Arc::clone(&node);
        let (from, to) = (Arc::clone(&front), Arc::clone(&back));
        carry(Arc::clone(&over), move |bytes| {
            let (n, peer) = from.recv_from(bytes)?;
            *known.lock().unwrap_or_else(PoisonError::into_inner) = Some(peer);
            to.send(&bytes[..n]).map(drop)
        });
        carry(Arc::clone(&over), move |bytes| {
            let n = back.recv(bytes)?;
            thread::sleep(Duration::from_secs(n as u64) / rate.max(1));
            let peer = *node.lock().unwrap_or_else(PoisonError::into_inner);
            peer.map_or(Ok(0), |p| front.send_to(&bytes[..n], p))
                .map(drop)
        });
        Ok(Self { address, over })
    }

    /// Where the node finds the broker.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for SlowLine {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn socket() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(LOOK))?;
    Ok(socket)
}

/// One direction, datagram by datagram. Who is not there at the moment does not end it.
fn carry(over: Arc<AtomicBool>, pass: impl Fn(&mut [u8]) -> io::Result<()> + Send + 'static) {
    thread::spawn(move || {
        let mut bytes = vec![0; DATAGRAM];
        while !over.load(Ordering::Relaxed) {
            drop(pass(&mut bytes));
        }
    });
}
