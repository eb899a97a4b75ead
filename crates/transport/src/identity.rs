//! What this end shows of itself.

use std::path::Path;
use std::sync::Arc;

use ordonnans_identity::{Certificate, InvalidCertificate, KeyError, KeyPlace, SecretKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::sign::{CertifiedKey, Signer, SigningKey, public_key_to_spki};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, alg_id};
use zeroize::Zeroizing;

/// Why a certificate and key cannot be shown to peers.
#[derive(Debug, thiserror::Error)]
pub enum InvalidIdentity {
    /// The certificate file.
    #[error("the certificate file {0} cannot be read as PEM")]
    CertificateFile(std::path::PathBuf),
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] InvalidCertificate),
    /// The key is not opened.
    #[error(transparent)]
    Secret(#[from] KeyError),
    /// The key is none, or another certificate's.
    #[error("the key is not PKCS#8 on P-256, or does not belong to the certificate")]
    Key,
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// The certificate chain and key that peers are shown.
pub struct Identity {
    pub(crate) shown: Arc<CertifiedKey>,
    pub(crate) certificate: Certificate,
    /// Derived from the key, so that it is the same after a restart: signs stateless resets (RFC 9000 section 10.3). Nothing can be derived from a key in
    /// a token; there it is random, and a peer of the time before a restart finds out by its idle time-out.
    pub(crate) resets: hmac::Key,
    /// Likewise: by this the connection identifiers of the time before a restart are known as ours.
    pub(crate) identifiers: u64,
}

impl Identity {
    /// Reads a PEM file with the chain, own certificate first, and opens the key.
    ///
    /// # Errors
    /// [`InvalidIdentity`] names the file.
    pub fn load(certificate: &Path, key: impl Into<KeyPlace>) -> Result<Self, InvalidIdentity> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|_| InvalidIdentity::CertificateFile(certificate.into()))?;
        if chain.is_empty() {
            return Err(InvalidIdentity::CertificateFile(certificate.into()));
        }
        Self::new(chain, SecretKey::open(&key.into())?)
    }

    /// The same from DER.
    ///
    /// # Errors
    /// [`InvalidIdentity`].
    pub fn from_der(chain: Vec<Vec<u8>>, pkcs8: Vec<u8>) -> Result<Self, InvalidIdentity> {
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let pkcs8 = Zeroizing::new(pkcs8);
        Self::new(
            chain,
            SecretKey::from_pkcs8(&pkcs8).ok_or(InvalidIdentity::Key)?,
        )
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: SecretKey) -> Result<Self, InvalidIdentity> {
        let first = chain.first().ok_or(InvalidIdentity::Key)?;
        let certificate = Certificate::parse_der(first)?;
        if key.public_key() != certificate.public_key() {
            return Err(InvalidIdentity::Key);
        }
        let resets = derived(&key, "ordonnans/1 stateless resets")?;
        let identifiers = derived(&key, "ordonnans/1 connection identifiers")?;
        let key = TlsKey(Arc::new(key));
        Ok(Self {
            shown: Arc::new(CertifiedKey::new(chain, Arc::new(key))),
            certificate,
            resets: hmac::Key::new(hmac::HMAC_SHA256, &*resets),
            identifiers: identifiers
                .first_chunk()
                .map_or(0, |b| u64::from_be_bytes(*b)),
        })
    }

    /// A certificate and key as they are, for an end that shows what it should not.
    #[cfg(test)]
    pub(crate) fn unread(issued: &ordonnans_certs::Issued) -> Arc<CertifiedKey> {
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(issued.key_pkcs8()).into();
        let signing = rustls::crypto::ring::sign::any_supported_type(&key).expect("a key");
        Arc::new(CertifiedKey::new(vec![issued.certificate.clone()], signing))
    }

    /// The own certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.certificate.name())
    }
}

/// A secret for a purpose: the same after every start where the key allows it, else new.
fn derived(key: &SecretKey, purpose: &str) -> Result<Zeroizing<[u8; 32]>, InvalidIdentity> {
    if let Some(secret) = key.derive(purpose) {
        return Ok(secret);
    }
    let mut secret = Zeroizing::new([0; 32]);
    SystemRandom::new()
        .fill(&mut *secret)
        .map_err(|_| InvalidIdentity::Random)?;
    Ok(secret)
}

/// A key as TLS signs with it, wherever it is. A token signs in the task of the handshake, which waits for it.
#[derive(Clone, Debug)]
struct TlsKey(Arc<SecretKey>);

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signs = offered.contains(&self.scheme());
        signs.then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        let point = self.0.public_key();
        Some(public_key_to_spki(&alg_id::ECDSA_P256, point))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        // Said here alone: a peer gets the alert `internal_error`.
        let signed = self.0.sign_der(message);
        signed.map_err(|e| rustls::Error::General(e.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use data_encoding::BASE64;
    use ordonnans_certs::Issued;
    use ordonnans_identity::{KeyFileError, write_secret_file};
    use ordonnans_label::{Clearance, Level};

    use super::*;
    use crate::house::House;

    fn issue(house: &mut House) -> Issued {
        let name = "a.node.crisis.example".parse().expect("a name");
        let holds = Clearance::new(Level::StgC);
        house.authority.issue(&name, &holds).expect("issues")
    }

    fn pem(kind: &str, der: &[u8]) -> String {
        let text = BASE64.encode(der);
        format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
    }

    #[test]
    fn a_key_file_is_private_and_fits_its_certificate() {
        let mut house = House::new();
        let (one, other) = (issue(&mut house), issue(&mut house));
        let dir = tempfile::tempdir().expect("a folder");
        let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
        fs::write(&chain, pem("CERTIFICATE", &one.certificate)).expect("writes");
        let secret = pem("PRIVATE KEY", &one.key_pkcs8());
        write_secret_file(&key, secret.as_bytes()).expect("writes");
        let loaded = Identity::load(&chain, &key).expect("fits");
        assert_eq!(loaded.certificate().name(), &one.name);
        assert_eq!(format!("{loaded:?}"), "Identity(a.node.crisis.example)");
        fs::set_permissions(&key, Permissions::from_mode(0o640)).expect("changes");
        let open = Identity::load(&chain, &key).expect_err("others may read it");
        assert!(matches!(
            open,
            InvalidIdentity::Secret(KeyError::File(KeyFileError::Mode { mode: 0o640, .. }))
        ));
        let empty = Identity::load(&key, &key).expect_err("no certificate");
        assert!(matches!(empty, InvalidIdentity::CertificateFile(_)));
        let mixed = Identity::from_der(vec![one.certificate.to_vec()], other.key_pkcs8());
        assert!(matches!(mixed, Err(InvalidIdentity::Key)));
        assert!(matches!(
            Identity::from_der(vec![], other.key_pkcs8()),
            Err(InvalidIdentity::Key)
        ));
        assert!(matches!(
            Identity::from_der(vec![one.certificate.to_vec()], vec![1, 2]),
            Err(InvalidIdentity::Key)
        ));
    }
}
