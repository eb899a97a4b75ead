//! Signing with the key of a certificate, and checking such signatures.

use std::path::Path;

use ordonnans_message::cose::Algorithm;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, ED25519,
    EcdsaKeyPair, KeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::{Certificate, InvalidCertificate, KeyFileError, read_secret_file};

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

/// The key could not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key could not sign")]
pub struct SignError;

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

/// A P-256 key from a file.
pub struct FileSigner {
    certificate: Certificate,
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl FileSigner {
    /// Reads the first certificate of a PEM file and its key (PKCS#8 PEM, mode 0600).
    ///
    /// # Errors
    /// [`InvalidSigner`] names the file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, InvalidSigner> {
        let der = CertificateDer::from_pem_file(certificate)
            .map_err(|_| InvalidSigner::CertificateFile(certificate.into()))?;
        let pem = read_secret_file(key)?;
        let pkcs8 = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| InvalidSigner::Key)?;
        Self::from_der(&der, pkcs8.secret_pkcs8_der())
    }

    /// A certificate and its key, both DER.
    ///
    /// # Errors
    /// [`InvalidSigner`].
    pub fn from_der(certificate: &[u8], pkcs8: &[u8]) -> Result<Self, InvalidSigner> {
        let certificate = Certificate::parse_der(certificate)?;
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|_| InvalidSigner::Key)?;
        if key.public_key().as_ref() != certificate.public_key() {
            return Err(InvalidSigner::Mismatch);
        }
        Ok(Self {
            certificate,
            key,
            random,
        })
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
        self.key
            .sign(&self.random, message)
            .map(|s| s.as_ref().to_vec())
            .map_err(|_| SignError)
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
    let how: &dyn VerificationAlgorithm = match algorithm {
        Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDsa => &ED25519,
    };
    UnparsedPublicKey::new(how, certificate.public_key())
        .verify(message, signature)
        .map_err(|_| BadSignature)
}
