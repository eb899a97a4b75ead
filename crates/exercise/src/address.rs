//! Addresses for brokers that are started more than once.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// The first port that is tried.
const FIRST: u32 = 16_384;
/// Where the system begins to give ports out by itself, unless it says otherwise.
const USUAL: u32 = 32_768;

/// An address of this machine that nobody listens on, of a port that the system gives to nobody by itself. So it is still free when the broker that had
/// it comes back: each socket of a client takes some port, and one of those that the system gives out may be gone by then.
///
/// # Errors
/// Every such port is taken, or there is none because the system gives them all out.
pub fn own_address() -> io::Result<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let given = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let low = given
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok());
    let span = low.unwrap_or(USUAL).saturating_sub(FIRST);
    // Programs beside this one begin elsewhere.
    let begin = std::process::id().wrapping_mul(61);
    for _ in 0..span {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + begin.wrapping_add(n) % span;
        let port = u16::try_from(port).map_err(io::Error::other)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // A node comes by TCP where UDP is blocked.
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_another_and_none_is_one_that_is_taken() {
        let first = own_address().expect("a port");
        let _held = UdpSocket::bind(first).expect("it is free");
        let others: Vec<_> = (0..20).map(|_| own_address().expect("a port")).collect();
        assert!(!others.contains(&first));
        let any = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let given = any.local_addr().expect("bound").port();
        assert!(others.iter().all(|a| a.port() < given));
    }
}
