//! Ed25519 (RFC 8032): the key that signs checkpoints. It is never a TLS key.

use std::path::Path;

use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::{BadSignature, InvalidSigner, read_secret_file, write_secret_file};

/// A signing key.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new key in a new file of mode 0600 (PKCS#8, DER).
    ///
    /// # Errors
    /// [`InvalidSigner`] where the file exists or cannot be written.
    pub fn generate(path: &Path) -> Result<Self, InvalidSigner> {
        let pkcs8 =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| InvalidSigner::Key)?;
        write_secret_file(path, pkcs8.as_ref())?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`InvalidSigner`] where the file is open to others or holds no such key.
    pub fn load(path: &Path) -> Result<Self, InvalidSigner> {
        let pkcs8 = read_secret_file(path)?;
        Self::from_pkcs8(&pkcs8)
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`InvalidSigner::Key`].
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, InvalidSigner> {
        Ed25519KeyPair::from_pkcs8(pkcs8)
            .map(Self)
            .map_err(|_| InvalidSigner::Key)
    }

    /// A key from its seed: for tests and simulations, where everything follows from a number.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self).ok()
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.public_key().as_ref());
        out
    }

    /// Signs.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut out = [0; 64];
        out.copy_from_slice(self.0.sign(message).as_ref());
        out
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

/// Checks a signature.
///
/// # Errors
/// [`BadSignature`].
pub fn verify(public: &[u8; 32], message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    UnparsedPublicKey::new(&ED25519, public)
        .verify(message, signature)
        .map_err(|_| BadSignature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_and_checks() {
        let key = SigningKey::from_seed(&[7; 32]).expect("a seed");
        let s = key.sign(b"text");
        assert_eq!(verify(&key.public(), b"text", &s), Ok(()));
        assert_eq!(verify(&key.public(), b"texT", &s), Err(BadSignature));
        assert_eq!(format!("{key:?}"), "SigningKey");
    }

    #[test]
    fn a_key_file_is_made_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("audit.key");
        let made = SigningKey::generate(&path).expect("made");
        assert_eq!(
            SigningKey::load(&path).expect("read").public(),
            made.public()
        );
        assert!(SigningKey::generate(&path).is_err(), "never overwritten");
    }
}
