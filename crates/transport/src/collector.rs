//! A line to a log collector: TLS over TCP, as RFC 5425 asks for syslog. Nothing of the protocol itself travels here.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::tls::{KeyExchange, provider};

/// Connecting, writing and the handshake each end within this time.
const WITHIN: Duration = Duration::from_secs(10);

/// An open line.
pub struct Collector(StreamOwned<ClientConnection, TcpStream>);

impl Collector {
    /// Connects to `address` (host and port), where a certificate for `name` must be shown by an authority of `ca` (PEM). Blocks.
    ///
    /// # Errors
    /// What the system or TLS says. Try again later.
    pub fn connect(address: &str, name: &str, ca: &[u8]) -> io::Result<Self> {
        let bad =
            |e: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, e.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca) {
            let certificate = certificate.map_err(|e| bad(&e))?;
            roots.add(certificate).map_err(|e| bad(&e))?;
        }
        let config = ClientConfig::builder_with_provider(provider(KeyExchange::HybridFirst))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| bad(&e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).map_err(|e| bad(&e))?;
        let tls = ClientConnection::new(Arc::new(config), name).map_err(|e| bad(&e))?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, WITHIN) {
                Ok(tcp) => {
                    tcp.set_write_timeout(Some(WITHIN))?;
                    tcp.set_read_timeout(Some(WITHIN))?;
                    let mut stream = StreamOwned::new(tls, tcp);
                    stream.flush()?;
                    stream.sock.set_nonblocking(false)?;
                    return Ok(Self(stream));
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// Sends a message in the frame of RFC 5425 section 4.3: its length in octets, a space, the message.
    ///
    /// # Errors
    /// What the system or TLS says: nobody knows whether it arrived.
    pub fn send(&mut self, message: &str) -> io::Result<()> {
        write!(self.0, "{} {message}", message.len())
    }

    /// Hands everything to the system, and looks whether the other end has closed the line.
    ///
    /// # Errors
    /// What the system or TLS says; `UnexpectedEof` where the line is closed.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        self.0.sock.set_nonblocking(true)?;
        let mut nothing = [0; 64];
        let looked = self.0.read(&mut nothing);
        self.0.sock.set_nonblocking(false)?;
        match looked {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(e) => Err(e),
        }
    }
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Collector")
    }
}
