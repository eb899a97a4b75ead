//! A line to a log collector: TLS over TCP, as RFC 5425 asks for syslog. Nothing of the protocol itself travels here.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::tls::provider_for_others;

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
        let config = ClientConfig::builder_with_provider(provider_for_others())
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

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64;
    use ordonnans_certs::memory::Authority;
    use ordonnans_certs::{Issued, Validity};
    use ordonnans_label::{Clearance, Level};
    use rustls::{ServerConfig, ServerConnection};
    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use std::net::TcpListener;

    const NAME: &str = "b1.broker.crisis.example";

    fn authority() -> (Authority, Issued) {
        let now = std::time::SystemTime::now();
        let validity = Validity {
            from: (now - Duration::from_secs(60)).into(),
            until: (now + Duration::from_secs(3600)).into(),
        };
        let mut authority = Authority::new("crisis.example", validity).expect("an authority");
        let name = NAME.parse().expect("a name");
        let issued = authority.issue(&name, &Clearance::new(Level::DepV));
        (authority, issued.expect("issues"))
    }

    fn pem(der: &[u8]) -> String {
        let body = BASE64.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    /// A collector that takes one connection and so many bytes, and then closes.
    fn collects(
        authority: &Authority,
        issued: &Issued,
        bytes: usize,
    ) -> (String, std::thread::JoinHandle<Vec<u8>>) {
        let trust = authority.trust().expect("trust");
        let mut chain = vec![CertificateDer::from(issued.certificate.to_vec())];
        let between = trust.intermediates().iter();
        chain.extend(between.map(|c| CertificateDer::from(c.to_vec())));
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(issued.key_pkcs8().to_vec()));
        let config = ServerConfig::builder_with_provider(provider_for_others())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a key");
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("an address").to_string();
        let thread = std::thread::spawn(move || {
            let (tcp, _) = listener.accept().expect("a line");
            let tls = ServerConnection::new(Arc::new(config)).expect("begins");
            let mut stream = StreamOwned::new(tls, tcp);
            let mut got = vec![0; bytes];
            // Who is not believed hangs up.
            if stream.read_exact(&mut got).is_err() {
                return vec![];
            }
            stream.conn.send_close_notify();
            drop(stream.flush());
            got
        });
        (address, thread)
    }

    #[test]
    fn messages_are_framed_and_a_collector_that_hangs_up_is_noticed() {
        let (authority, issued) = authority();
        let trust = authority.trust().expect("trust");
        let ca = pem(trust.roots()[0].as_ref());
        let (address, thread) = collects(&authority, &issued, 9);
        let mut line = Collector::connect(&address, NAME, ca.as_bytes()).expect("connects");
        line.send("\u{e9}\u{e9}").expect("sends");
        line.send("abc").expect("sends");
        line.flush().expect("hands over");
        assert_eq!(
            thread.join().expect("ends"),
            "4 \u{e9}\u{e9}3 a".as_bytes()[..9].to_vec()
        );
        // It has closed: the next look sees that.
        let noticed = (0..1_000).any(|_| line.flush().is_err());
        assert!(noticed, "nobody notices");
    }

    #[test]
    fn another_name_or_authority_is_not_believed() {
        let (authority, issued) = self::authority();
        let (other, _) = self::authority();
        let root = |a: &Authority| pem(a.trust().expect("trust").roots()[0].as_ref());
        for (name, ca) in [
            ("b2.broker.crisis.example", root(&authority)),
            (NAME, root(&other)),
        ] {
            let (address, thread) = collects(&authority, &issued, 1);
            let connected = Collector::connect(&address, name, ca.as_bytes());
            let sent = connected.and_then(|mut c| c.send("a").and_then(|()| c.flush()));
            assert!(sent.is_err(), "{name}");
            assert!(thread.join().expect("ends").is_empty());
        }
        assert!(Collector::connect("127.0.0.1:1", NAME, b"no certificate").is_err());
    }
}
