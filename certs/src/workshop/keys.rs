//! Where the keys of the authorities are.

use std::fs;
use std::path::Path;

use ordonnans_identity::{KeyPlace, PassphraseSource};

use super::WorkshopError;
use crate::state::io_at;

/// Where the key of an authority is: in the folder, or in the token that a file in it names.
pub(super) fn key_place(
    folder: &Path,
    name: &str,
    keys: &AuthorityKeys,
) -> Result<KeyPlace, WorkshopError> {
    let named = folder.join(format!("{name}.key.uri"));
    if !named.exists() {
        let file = folder.join(format!("{name}.key.pem"));
        return Ok(KeyPlace::new(&file, keys.passphrase.again()));
    }
    let uri = fs::read_to_string(&named).map_err(io_at(&named))?;
    Ok(KeyPlace::new(
        Path::new(uri.trim()),
        keys.passphrase.again(),
    ))
}

/// How the keys of the authorities are kept.
#[derive(Clone, Debug)]
pub struct AuthorityKeys {
    /// Where the passphrase of a key file, or the PIN of a token, comes from. At a terminal it is asked for each of the two keys.
    pub passphrase: PassphraseSource,
    /// Whether new key files are encrypted.
    pub encrypt: bool,
    /// The URI of the root's key in a token.
    pub root: Option<String>,
    /// The URI of the issuing authority's key in a token.
    pub issuing: Option<String>,
}

impl AuthorityKeys {
    /// Plain files, or whatever is there.
    #[must_use]
    pub fn new(passphrase: PassphraseSource) -> Self {
        Self {
            passphrase,
            encrypt: false,
            root: None,
            issuing: None,
        }
    }
}
