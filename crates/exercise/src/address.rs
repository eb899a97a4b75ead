//! Addresses for brokers that are started more than once.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// The first port that is tried.
const FIRST: u16 = 16_384;
/// Where the system begins to give ports out by itself, unless it says otherwise.
const USUAL: u16 = 32_768;

/// An address of this machine that nobody listens on, of a port that the system gives to nobody by itself. So it is still free when the broker that had
/// it comes back: each socket of a client takes some port, and one of those that the system gives out may be gone by then. Where the system gives out
/// nearly all there are, it is one of those.
///
/// # Errors
/// Every port is taken.
pub fn own_address() -> io::Result<SocketAddr> {
    let given = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let low = given.and_then(|text| text.split_whitespace().next()?.parse().ok());
    match free_below(low.unwrap_or(USUAL)) {
        Some(address) => Ok(address),
        None => UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr(),
    }
}

/// One that is free below this port, another each time.
fn free_below(low: u16) -> Option<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let span = u32::from(low.saturating_sub(FIRST));
    // Programs beside this one begin elsewhere.
    let begin = std::process::id().wrapping_mul(61);
    (0..span).find_map(|_| {
        let n = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + u16::try_from(n % span).ok()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // A node comes by TCP where UDP is blocked.
        let free = UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok();
        free.then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_another_and_none_is_one_that_is_taken() {
        let first = free_below(USUAL).expect("a port");
        let _held = UdpSocket::bind(first).expect("it is free");
        let others: Vec<_> = (0..20)
            .map(|_| free_below(USUAL).expect("a port"))
            .collect();
        assert!(!others.contains(&first));
        assert!(others.iter().all(|a| a.port() < USUAL));
        // Where the system gives out all of them there is still one.
        assert_eq!(free_below(1024), None);
        assert!(own_address().is_ok());
    }
}
