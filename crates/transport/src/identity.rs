//! What this end shows of itself.

use std::path::Path;
use std::sync::Arc;

use ordonnans_identity::{Certificate, InvalidCertificate, KeyFileError, read_secret_file};
use ring::hmac;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroize;

/// Why a certificate and key cannot be shown to peers.
#[derive(Debug, thiserror::Error)]
pub enum InvalidIdentity {
    /// The certificate file.
    #[error("the certificate file {0} cannot be read as PEM")]
    CertificateFile(std::path::PathBuf),
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] InvalidCertificate),
    /// The key file.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The key is none, or another certificate's.
    #[error("the key is not PKCS#8, or does not belong to the certificate")]
    Key,
}

/// The certificate chain and key that peers are shown.
pub struct Identity {
    pub(crate) shown: Arc<CertifiedKey>,
    pub(crate) certificate: Certificate,
    /// Derived from the key, so that it is the same after a restart: signs stateless resets (RFC 9000 section 10.3).
    pub(crate) resets: hmac::Key,
    /// Likewise: by this the connection identifiers of the time before a restart are known as ours.
    pub(crate) identifiers: u64,
}

impl Identity {
    /// Reads a PEM file with the chain, own certificate first, and the key (PKCS#8 PEM, mode 0600).
    ///
    /// # Errors
    /// [`InvalidIdentity`] names the file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, InvalidIdentity> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|_| InvalidIdentity::CertificateFile(certificate.into()))?;
        if chain.is_empty() {
            return Err(InvalidIdentity::CertificateFile(certificate.into()));
        }
        let pem = read_secret_file(key)?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| InvalidIdentity::Key)?;
        Self::new(chain, key)
    }

    /// The same from DER.
    ///
    /// # Errors
    /// [`InvalidIdentity`].
    pub fn from_der(chain: Vec<Vec<u8>>, pkcs8: Vec<u8>) -> Result<Self, InvalidIdentity> {
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        Self::new(chain, pkcs8.into())
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivatePkcs8KeyDer<'static>,
    ) -> Result<Self, InvalidIdentity> {
        let derived = hmac::Key::new(hmac::HMAC_SHA256, key.secret_pkcs8_der());
        let derive = |what: &[u8]| hmac::sign(&derived, what);
        let resets = derive(b"ordonnans/1 stateless resets");
        let identifiers = derive(b"ordonnans/1 connection identifiers");
        let mut key = PrivateKeyDer::from(key);
        let signing = any_supported_type(&key);
        key.zeroize();
        let first = chain.first().ok_or(InvalidIdentity::Key)?;
        let certificate = Certificate::parse_der(first)?;
        let shown = CertifiedKey::new(chain, signing.map_err(|_| InvalidIdentity::Key)?);
        shown.keys_match().map_err(|_| InvalidIdentity::Key)?;
        Ok(Self {
            shown: Arc::new(shown),
            certificate,
            resets: hmac::Key::new(hmac::HMAC_SHA256, resets.as_ref()),
            identifiers: identifiers
                .as_ref()
                .first_chunk()
                .map_or(0, |b| u64::from_be_bytes(*b)),
        })
    }

    /// A certificate and key as they are, for an end that shows what it should not.
    #[cfg(test)]
    pub(crate) fn unread(issued: &ordonnans_certs::Issued) -> Arc<CertifiedKey> {
        let key = PrivatePkcs8KeyDer::from(issued.key_pkcs8()).into();
        let signing = any_supported_type(&key).expect("a key");
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

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use data_encoding::BASE64;
    use ordonnans_certs::Issued;
    use ordonnans_identity::write_secret_file;
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
            InvalidIdentity::KeyFile(KeyFileError::Mode { mode: 0o640, .. })
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
