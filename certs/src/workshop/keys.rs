//! Where the keys of the authorities are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ordonnans_identity::{KeyError, KeyPlace, PassphraseSource, SecretKey, pem, read_secret_file};

use super::WorkshopError;
use crate::mint::Authority;
use crate::state::{State, io_at, replace};

/// Where the key of an authority is: in the folder, or in the token that a file in it names.
fn key_place(folder: &Path, name: &str, keys: &AuthorityKeys) -> Result<KeyPlace, WorkshopError> {
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

/// Makes the key of a new authority: in its folder, or in the token of this URI, which is written into the folder.
pub(crate) fn make_key(
    folder: &Path,
    name: &str,
    uri: Option<&String>,
    encrypt: bool,
    keys: &AuthorityKeys,
) -> Result<SecretKey, WorkshopError> {
    if let Some(uri) = uri {
        replace(&folder.join(format!("{name}.key.uri")), &format!("{uri}\n"))?;
    }
    Ok(SecretKey::generate(
        &key_place(folder, name, keys)?,
        encrypt,
    )?)
}

/// Whether the key of an authority is in an encrypted file (RFC 7468 section 11).
pub(crate) fn is_encrypted(dir: &Path, name: &str) -> bool {
    let file = dir.join(name).join(format!("{name}.key.pem"));
    let label = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
    read_secret_file(&file).is_ok_and(|text| text.windows(label.len()).any(|w| w == label))
}

/// Opens the keys that are here of authorities in trust, and lets those of others go. One that is open already is not opened again, so that nobody is
/// asked twice.
pub(crate) fn load_keys(
    dir: &Path,
    state: &State,
    keys: &AuthorityKeys,
    open: &mut BTreeMap<String, Authority>,
) -> Result<(), WorkshopError> {
    open.retain(|name, _| state.live().any(|a| a.name == *name));
    for a in state.live() {
        let folder = dir.join(&a.name);
        let here = |form: &str| folder.join(format!("{}.key.{form}", a.name)).exists();
        if open.contains_key(&a.name) || !(here("pem") || here("uri")) {
            continue;
        }
        let key = match SecretKey::open(&key_place(&folder, &a.name, keys)?) {
            Err(KeyError::Form(_) | KeyError::Kind(_)) => {
                return Err(WorkshopError::Authority(folder));
            }
            key => key?,
        };
        let authority = Authority::load(&pem("CERTIFICATE", &a.certificate()), key);
        let authority = authority.map_err(|_| WorkshopError::Authority(folder))?;
        open.insert(a.name.clone(), authority);
    }
    Ok(())
}

/// How the keys of the authorities are kept.
#[derive(Clone, Debug)]
pub struct AuthorityKeys {
    /// Where the passphrase of a key file, or the PIN of a token, comes from. At a terminal it is asked for each key.
    pub passphrase: PassphraseSource,
    /// Whether new key files are encrypted. Those of a rollover are, too, where the key of the authority that issues is.
    pub encrypt: bool,
    /// The URI of a new root's key in a token.
    pub root: Option<String>,
    /// The URI of a new issuing authority's key in a token.
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
