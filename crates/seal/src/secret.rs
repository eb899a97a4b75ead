//! The decryption key of a node or a person.

use std::path::Path;

use hpke::kem::XWing;
use hpke::{Deserializable, Kem, Serializable};
use ordonnans_identity::{KeyFileError, read_secret_file, write_secret_file};
use ordonnans_label::Name;
use ordonnans_message::{KeyPackage, SUITE_X_WING, Timestamp, key_id};
use zeroize::Zeroizing;

use crate::Entropy;

type Private = <XWing as Kem>::PrivateKey;

/// The X-Wing key that content is sealed to. It is not the TLS key: it is made where its holder is, never leaves there, and can be replaced
/// without a new certificate.
pub struct SealSecret {
    key: Private,
    public: Vec<u8>,
}

/// Why a key file was refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSecret {
    /// The file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// Not the 32 bytes of a key.
    #[error("not a decryption key: it has 32 bytes")]
    Form,
}

impl SealSecret {
    /// A new key.
    #[must_use]
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed);
        Self::from_seed(&seed)
    }

    fn from_seed(seed: &[u8; 32]) -> Self {
        let Ok(key) = Private::from_bytes(seed) else {
            unreachable!("any 32 bytes are a key");
        };
        let public = XWing::sk_to_pk(&key).to_bytes().to_vec();
        Self { key, public }
    }

    /// Reads a key file, mode 0600.
    ///
    /// # Errors
    /// [`InvalidSecret`] names the file or what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, InvalidSecret> {
        let bytes = read_secret_file(path)?;
        let seed: &[u8; 32] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| InvalidSecret::Form)?;
        Ok(Self::from_seed(seed))
    }

    /// Makes a new key and keeps it in a new file of mode 0600, before anyone can seal to it.
    ///
    /// # Errors
    /// [`KeyFileError`]; also where the file exists.
    pub fn create(path: &Path, entropy: &mut dyn Entropy) -> Result<Self, KeyFileError> {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed);
        write_secret_file(path, &*seed)?;
        Ok(Self::from_seed(&seed))
    }

    /// How a seal names this key.
    #[must_use]
    pub fn kid(&self) -> [u8; 8] {
        key_id(&self.public)
    }

    /// What others need to seal to this key; [`crate::sign_statement`] signs it.
    #[must_use]
    pub fn package(&self, name: &Name, not_after: Timestamp) -> KeyPackage {
        KeyPackage {
            name: name.clone(),
            suite: SUITE_X_WING,
            public: self.public.clone(),
            not_after,
        }
    }

    pub(crate) fn key(&self) -> &Private {
        &self.key
    }
}

impl std::fmt::Debug for SealSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealSecret")
    }
}
