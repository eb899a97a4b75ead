//! What is kept for a stated time only: sealed under a key that is destroyed when the time is over.
//!
//! Databases and disks keep old bytes for longer than anybody asked, so what must be gone one day is never written in the clear. AES-256-GCM;
//! the nonce is the beginning of a commitment to what is sealed, so another plain text never meets the same nonce, also after a directory
//! was rolled back.

use std::path::Path;

use ordonnans_identity::{KeyFileError, read_secret_file, write_secret_file};
use ordonnans_message::Digest;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::{Entropy, InvalidSecret};

/// A key with an end.
pub struct RetentionKey(LessSafeKey);

impl RetentionKey {
    fn new(bytes: &[u8; 32]) -> Self {
        let Ok(key) = UnboundKey::new(&AES_256_GCM, bytes) else {
            unreachable!("32 bytes are a key");
        };
        Self(LessSafeKey::new(key))
    }

    /// Reads a key file, mode 0600.
    ///
    /// # Errors
    /// [`InvalidSecret`] names the file or what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, InvalidSecret> {
        let bytes = read_secret_file(path)?;
        let key = bytes.as_slice().try_into();
        key.map(Self::new).map_err(|_| InvalidSecret::Form)
    }

    /// Makes a new key and keeps it in a new file of mode 0600, before anything is sealed under it.
    ///
    /// # Errors
    /// [`KeyFileError`]; also where the file exists.
    pub fn create(path: &Path, entropy: &mut dyn Entropy) -> Result<Self, KeyFileError> {
        let mut key = Zeroizing::new([0; 32]);
        entropy.fill(&mut *key);
        write_secret_file(path, &*key)?;
        Ok(Self::new(&key))
    }

    fn nonce(commitment: &Digest) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&commitment.as_bytes()[..NONCE_LEN]);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals `plain`, to which `commitment` commits, bound to `beside`.
    #[must_use]
    pub fn seal(&self, commitment: &Digest, beside: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        bytes.extend_from_slice(plain);
        let sealed =
            self.0
                .seal_in_place_append_tag(Self::nonce(commitment), Aad::from(beside), &mut bytes);
        let Ok(()) = sealed else {
            unreachable!("far below the most one nonce can seal");
        };
        bytes
    }

    /// Opens it. `None` where a byte of it, of `beside` or of the commitment is another, or the key.
    #[must_use]
    pub fn open(&self, commitment: &Digest, beside: &[u8], mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let opened = self
            .0
            .open_in_place(Self::nonce(commitment), Aad::from(beside), &mut sealed);
        let length = opened.ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

impl std::fmt::Debug for RetentionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RetentionKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;
    use ordonnans_message::sha256;

    #[test]
    fn there_and_back_and_no_byte_can_change() {
        let folder =
            std::env::temp_dir().join(format!("ordonnans-retained-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("key");
        let key = RetentionKey::create(&path, &mut SeededEntropy::new(1)).expect("made");
        assert!(RetentionKey::create(&path, &mut SeededEntropy::new(2)).is_err());
        let again = RetentionKey::load(&path).expect("read");
        std::fs::remove_dir_all(&folder).expect("gone");
        let (commitment, beside, plain) = (sha256(&[b"c"]), b"beside", b"plain");
        let sealed = key.seal(&commitment, beside, plain);
        assert_eq!(
            again.open(&commitment, beside, sealed.clone()).as_deref(),
            Some(&plain[..])
        );
        assert_eq!(key.open(&sha256(&[b"d"]), beside, sealed.clone()), None);
        assert_eq!(key.open(&commitment, b"other", sealed.clone()), None);
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert_eq!(key.open(&commitment, beside, other), None, "byte {at}");
        }
    }
}
