//! Signing with the key of a certificate, and checking such signatures.

use std::path::Path;

use ordonnans_message::cose::Algorithm;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, UnparsedPublicKey,
    VerificationAlgorithm,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::pkcs11::TokenError;
use crate::{Certificate, InvalidCertificate, KeyError, KeyFileError, KeyPlace, SecretKey};

/// Signs in the name of a certificate's subject. Implementations keep the key where it belongs: a file, or hardware.
pub trait Signer: Send + Sync {
    /// The certificate whose key signs.
    fn certificate(&self) -> &Certificate;

    /// The algorithm of the signatures.
    fn algorithm(&self) -> Algorithm;

    /// Signs; for ECDSA the signature is r and s at full length.
    ///
    /// # Errors
    /// [`SignError`]: the key is out of reach. Nothing was signed.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The key failed.
    #[error("the key could not sign")]
    Key,
    /// The statement has a form that no reader would take.
    #[error("the statement has no form that would be read back")]
    Form,
    /// The token failed. Where its session was lost the next use opens another.
    #[error("the key could not sign: {0}")]
    Token(TokenError),
}

/// A signature that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not fit")]
pub struct BadSignature;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSigner {
    /// The key file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The key.
    #[error(transparent)]
    Secret(#[from] KeyError),
    /// The certificate file.
    #[error("the certificate file {0} cannot be read as PEM")]
    CertificateFile(std::path::PathBuf),
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] InvalidCertificate),
    /// Not a key of the expected kind.
    #[error("the key is not PKCS#8 of the expected kind")]
    Key,
    /// The key belongs to another certificate.
    #[error("the key does not belong to the certificate")]
    Mismatch,
}

/// A certificate and its P-256 key, which is in a file or in a token.
pub struct FileSigner {
    certificate: Certificate,
    key: SecretKey,
}

impl FileSigner {
    /// Reads the first certificate of a PEM file and opens its key.
    ///
    /// # Errors
    /// [`InvalidSigner`] names the file.
    pub fn load(certificate: &Path, key: impl Into<KeyPlace>) -> Result<Self, InvalidSigner> {
        let der = CertificateDer::from_pem_file(certificate)
            .map_err(|_| InvalidSigner::CertificateFile(certificate.into()))?;
        Self::new(&der, SecretKey::open(&key.into())?)
    }

    /// A certificate and its key, both DER.
    ///
    /// # Errors
    /// [`InvalidSigner`].
    pub fn from_der(certificate: &[u8], pkcs8: &[u8]) -> Result<Self, InvalidSigner> {
        let key = SecretKey::from_pkcs8(pkcs8).ok_or(InvalidSigner::Key)?;
        Self::new(certificate, key)
    }

    /// A certificate, DER, and its key.
    ///
    /// # Errors
    /// [`InvalidSigner`].
    pub fn new(certificate: &[u8], key: SecretKey) -> Result<Self, InvalidSigner> {
        let certificate = Certificate::parse_der(certificate)?;
        if key.public_key() != certificate.public_key() {
            return Err(InvalidSigner::Mismatch);
        }
        Ok(Self { certificate, key })
    }
}

impl Signer for FileSigner {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::Es256
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.key.sign(message)
    }
}

impl std::fmt::Debug for FileSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileSigner({})", self.certificate.name())
    }
}

/// Checks a signature against the key of a certificate.
///
/// # Errors
/// [`BadSignature`], also where the certificate's key is of another kind than the algorithm.
pub fn verify_signature(
    certificate: &Certificate,
    algorithm: Algorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<(), BadSignature> {
    verify_with_key(certificate.public_key(), algorithm, message, signature)
}

/// Checks a signature against a public key: an uncompressed point, or the 32 bytes of Ed25519.
///
/// # Errors
/// [`BadSignature`], also where the key is none of the algorithm.
pub fn verify_with_key(
    public_key: &[u8],
    algorithm: Algorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<(), BadSignature> {
    let how: &dyn VerificationAlgorithm = match algorithm {
        Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDsa => &ED25519,
    };
    UnparsedPublicKey::new(how, public_key)
        .verify(message, signature)
        .map_err(|_| BadSignature)
}
