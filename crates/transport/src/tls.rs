//! The one readable place for what TLS may do here.

use std::sync::Arc;
use std::time::Duration;

use ordonnans_identity::{Certificate, Trust, Untrusted, Usage};
use ordonnans_label::Name;
use ordonnans_message::{Timestamp, limits};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{AckFrequencyConfig, IdleTimeout, TransportConfig, VarInt};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::ring::kx_group::X25519;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, verify_tls13_signature};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, NamedGroup,
    PeerIncompatible, SignatureScheme, SupportedCipherSuite, Tls13CipherSuite,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::group::Hybrid;
use crate::identity::{Identity, InvalidIdentity};
use crate::lanes::Lane;

/// ALPN of the protocol.
pub(crate) const PROTOCOL: &[u8] = b"ordonnans/1";
/// What a peer may have on its way to us on one stream, in bytes.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
/// What one end may have on its way altogether, in bytes. All streams at their window stay below half of it, so that a stream with
/// something urgent always finds room: quinn admits writers that wait for this window in no useful order, whatever their priority.
const SEND_WINDOW: u64 = 8 * 1024 * 1024;
/// Streams for attachments at one time, each way.
pub(crate) const BULK_STREAMS: u32 = 8;

/// Packets after which the peer acknowledges at once (draft-ietf-quic-ack-frequency, which quinn speaks): each acknowledgement is a datagram to make, to
/// send and to read, and by RFC 9000 there is one for every second packet. Fewer than ten are acknowledged by the clock, and what is out of order at once.
const ACKNOWLEDGED: VarInt = VarInt::from_u32(10);

const _: () =
    assert!((Lane::COUNT + BULK_STREAMS) as u64 * (STREAM_WINDOW as u64) < SEND_WINDOW / 2);

/// Certificates that a peer may send beside its own: an issuing authority, a root, and as many more while they are replaced.
const MAX_CHAIN: usize = 4;

/// Gives the time; every check of a certificate asks it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Bounds on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live connections in total.
    pub connections: usize,
    /// Live connections from one address.
    pub connections_per_address: usize,
    /// Half-open handshakes above which an address must prove itself first (RFC 9000 section 8.1.2).
    pub handshakes: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Silence after which a connection is dead.
    pub idle_timeout: Duration,
    /// How often a client shows that it is there.
    pub keep_alive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            connections_per_address: 64,
            handshakes: 64,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(10),
        }
    }
}

static HYBRID: Hybrid = Hybrid;

/// Which key exchanges an end offers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyExchange {
    /// Hybrid, and X25519 with who cannot.
    HybridFirst,
    /// Nothing else.
    HybridOnly,
    /// An end that does not know the hybrid one.
    Classical,
}

impl KeyExchange {
    /// What a configuration says.
    pub(crate) fn of(hybrid_only: bool) -> Self {
        if hybrid_only {
            Self::HybridOnly
        } else {
            Self::HybridFirst
        }
    }
}

/// The cipher suite of every connection with a peer. One: both ends are ours, and what is agreed upon needs no telling.
static SUITE: SupportedCipherSuite = TLS13_AES_256_GCM_SHA384;

/// Its name (RFC 8446 appendix B.4).
pub(crate) const SUITE_NAME: &str = "TLS13_AES_256_GCM_SHA384";

/// What is offered to peers, and taken from them.
pub(crate) fn provider(groups: KeyExchange) -> Arc<CryptoProvider> {
    with_suites(groups, vec![SUITE])
}

/// What is offered to a collector that is not ours: it need know the last one only (RFC 8446 section 9.1).
pub(crate) fn provider_for_others() -> Arc<CryptoProvider> {
    let suites = vec![
        SUITE,
        TLS13_CHACHA20_POLY1305_SHA256,
        TLS13_AES_128_GCM_SHA256,
    ];
    with_suites(KeyExchange::HybridFirst, suites)
}

/// The suite of QUIC's first packets, which hides nothing (RFC 9001 section 5.2).
fn initial() -> Result<rustls::quic::Suite, InvalidIdentity> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13();
    suite
        .and_then(Tls13CipherSuite::quic_suite)
        .ok_or(InvalidIdentity::Key)
}

/// The name of the group of a connection, where it is one of ours.
pub(crate) fn group(name: NamedGroup) -> Option<&'static str> {
    match name {
        NamedGroup::X25519MLKEM768 => Some("X25519MLKEM768"),
        NamedGroup::X25519 => Some("X25519"),
        _ => None,
    }
}

fn with_suites(
    groups: KeyExchange,
    cipher_suites: Vec<SupportedCipherSuite>,
) -> Arc<CryptoProvider> {
    let kx_groups: Vec<&'static dyn SupportedKxGroup> = match groups {
        KeyExchange::HybridFirst => vec![&HYBRID, X25519],
        KeyExchange::HybridOnly => vec![&HYBRID],
        KeyExchange::Classical => vec![X25519],
    };
    Arc::new(CryptoProvider {
        kx_groups,
        cipher_suites,
        ..rustls::crypto::ring::default_provider()
    })
}

/// Asks our own trust about the peer, and nobody else.
struct Peers {
    trust: Trust,
    clock: Clock,
    /// The broker a client wants to reach.
    server: Option<Name>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peers({:?})", self.trust)
    }
}

impl Peers {
    /// What is sent besides is not looked at: the chain is built of the authorities that trust has. So nothing is read before its size is known.
    fn believe(
        &self,
        leaf: &[u8],
        rest: &[CertificateDer<'_>],
        usage: Usage,
    ) -> Result<Certificate, Error> {
        if leaf.len() > limits::MAX_CERTIFICATE || rest.len() > MAX_CHAIN {
            return Err(CertificateError::BadEncoding.into());
        }
        self.trust
            .verify(leaf, usage, (self.clock)())
            .map_err(|e| Error::InvalidCertificate(why(&e)))
    }

    fn signed(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, known)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// What the peer is told: enough for its operator to act on.
fn why(e: &Untrusted) -> CertificateError {
    match e {
        Untrusted::Form(_) => CertificateError::BadEncoding,
        Untrusted::Chain(webpki::Error::CertRevoked) => CertificateError::Revoked,
        Untrusted::Chain(webpki::Error::UnknownIssuer) => CertificateError::UnknownIssuer,
        Untrusted::Chain(webpki::Error::UnknownRevocationStatus) => {
            CertificateError::UnknownRevocationStatus
        }
        Untrusted::Chain(webpki::Error::CertExpired { .. }) => CertificateError::Expired,
        Untrusted::Chain(webpki::Error::CertNotValidYet { .. }) => CertificateError::NotValidYet,
        Untrusted::Chain(webpki::Error::CrlExpired { .. }) => {
            CertificateError::ExpiredRevocationList
        }
        Untrusted::Chain(_) => CertificateError::ApplicationVerificationFailure,
    }
}

fn only_13() -> Error {
    Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic)
}

impl ClientCertVerifier for Peers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.believe(leaf, rest, Usage::Client)
            .map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ServerCertVerifier for Peers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = self.believe(leaf, rest, Usage::Server)?;
        if self.server.as_ref() == Some(certificate.name()) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::NotValidForName.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

struct Time(Clock);

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let now = (self.0)().as_millis();
        Some(UnixTime::since_unix_epoch(Duration::from_millis(now)))
    }
}

fn shown(identity: &Identity) -> Arc<SingleCertAndKey> {
    Arc::new(Arc::clone(&identity.shown).into())
}

#[cfg(test)]
pub(crate) fn server(
    identity: &Identity,
    trust: &Trust,
    clock: &Clock,
    limits: &Limits,
    groups: KeyExchange,
) -> Result<quinn::ServerConfig, InvalidIdentity> {
    server_quic(server_tls(identity, trust, clock, groups)?, limits)
}

pub(crate) fn server_tls(
    identity: &Identity,
    trust: &Trust,
    clock: &Clock,
    groups: KeyExchange,
) -> Result<rustls::ServerConfig, InvalidIdentity> {
    let provider = provider(groups);
    let peers = Peers {
        trust: trust.clone(),
        clock: Arc::clone(clock),
        server: None,
        provider: Arc::clone(&provider),
    };
    let time = Arc::new(Time(Arc::clone(clock)));
    let mut config = rustls::ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| InvalidIdentity::Key)?
        .with_client_cert_verifier(Arc::new(peers))
        .with_cert_resolver(shown(identity));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A ticket would bring a peer back past its revocation.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

pub(crate) fn server_quic(
    config: rustls::ServerConfig,
    limits: &Limits,
) -> Result<quinn::ServerConfig, InvalidIdentity> {
    let crypto = QuicServerConfig::with_initial(Arc::new(config), initial()?)
        .map_err(|_| InvalidIdentity::Key)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport(limits, None)))
        .max_incoming(1024)
        .incoming_buffer_size(64 * 1024)
        .incoming_buffer_size_total(16 * 1024 * 1024);
    Ok(config)
}

#[cfg(test)]
pub(crate) fn client(
    identity: &Identity,
    trust: &Trust,
    clock: &Clock,
    limits: &Limits,
    name: &Name,
    groups: KeyExchange,
) -> Result<quinn::ClientConfig, InvalidIdentity> {
    let config = client_tls(identity, trust, clock, name, groups)?;
    client_quic(config, limits)
}

pub(crate) fn client_tls(
    identity: &Identity,
    trust: &Trust,
    clock: &Clock,
    name: &Name,
    groups: KeyExchange,
) -> Result<rustls::ClientConfig, InvalidIdentity> {
    let provider = provider(groups);
    let peers = Peers {
        trust: trust.clone(),
        clock: Arc::clone(clock),
        server: Some(name.clone()),
        provider: Arc::clone(&provider),
    };
    let time = Arc::new(Time(Arc::clone(clock)));
    let mut config = rustls::ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| InvalidIdentity::Key)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(peers))
        .with_client_cert_resolver(shown(identity));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

pub(crate) fn client_quic(
    config: rustls::ClientConfig,
    limits: &Limits,
) -> Result<quinn::ClientConfig, InvalidIdentity> {
    let crypto = QuicClientConfig::with_initial(Arc::new(config), initial()?)
        .map_err(|_| InvalidIdentity::Key)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport(limits, Some(limits.keep_alive))));
    Ok(config)
}

fn transport(limits: &Limits, keep_alive: Option<Duration>) -> TransportConfig {
    let mut t = TransportConfig::default();
    let longest = IdleTimeout::from(VarInt::from_u32(u32::MAX));
    let idle = IdleTimeout::try_from(limits.idle_timeout).unwrap_or(longest);
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(ACKNOWLEDGED);
    t.max_idle_timeout(Some(idle))
        .keep_alive_interval(keep_alive)
        // Memory for what is allowed is set aside beforehand, so it is what is used and no more.
        .max_concurrent_bidi_streams(VarInt::from_u32(Lane::COUNT))
        .max_concurrent_uni_streams(VarInt::from_u32(BULK_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(SEND_WINDOW)
        .ack_frequency_config(Some(acknowledgements))
        .datagram_receive_buffer_size(None);
    t
}
