//! Private keys: where they are, and the one kind there is.
//!
//! A key is ECDSA on P-256 with SHA-256 (FIPS 186-5): what the workshop certifies, what every token has, and what is verified fastest. It is in a file
//! (PKCS#8 in PEM, mode 0600, encrypted or not) or in a token that is named by an RFC 7512 URI.

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::encrypted::{self, DecryptError};
use crate::passphrase::{InvalidSource, PassphraseError, PassphraseSource};
use crate::pkcs11::TokenError;
#[cfg(feature = "pkcs11")]
use crate::pkcs11::TokenKey;
use crate::{
    KeyFileError, SignError, der, read_secret_file, replace_secret_file, write_secret_file,
};

/// Bytes of a public key: an uncompressed point (SEC 1 section 2.3.3).
pub const POINT: usize = 65;

/// Where a key is, and where the passphrase or PIN that opens it comes from.
#[derive(Clone, Debug)]
pub struct KeyPlace {
    at: At,
    passphrase: Result<PassphraseSource, InvalidSource>,
}

#[derive(Clone, Debug)]
enum At {
    File(PathBuf),
    /// The URI as it was written, and the module that was configured beside it.
    Token(String, Option<PathBuf>),
}

/// The scheme of RFC 7512.
const SCHEME: &str = "pkcs11:";

impl KeyPlace {
    /// A file, or a token where the text starts with `pkcs11:`; a passphrase comes from this source.
    #[must_use]
    pub fn new(place: &Path, passphrase: PassphraseSource) -> Self {
        Self {
            passphrase: Ok(passphrase),
            ..place.into()
        }
    }

    /// What a configuration says: a relative path is taken from its folder, a URI is not one. Without a source the usual one is meant
    /// ([`PassphraseSource::usual`]). `module` is the PKCS#11 module of a URI that names none.
    ///
    /// # Errors
    /// [`InvalidSource`].
    pub fn configured(
        folder: &Path,
        place: &Path,
        passphrase: Option<&str>,
        module: Option<&Path>,
    ) -> Result<Self, InvalidSource> {
        let mut key = Self::from(place);
        match &mut key.at {
            At::File(path) => *path = folder.join(&*path),
            At::Token(_, named) => *named = module.map(Path::to_owned),
        }
        if let Some(source) = passphrase {
            key.passphrase = Ok(source.parse()?);
        }
        Ok(key)
    }

    /// The file, where it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.at {
            At::File(path) => Some(path),
            At::Token(..) => None,
        }
    }

    /// Another file, whose passphrase comes from the same source.
    #[must_use]
    pub fn at_file(&self, path: &Path) -> Self {
        Self {
            at: At::File(path.into()),
            passphrase: self.passphrase.clone(),
        }
    }

    /// The source of its passphrase or PIN.
    ///
    /// # Errors
    /// [`KeyError::Source`].
    pub fn passphrase(&self) -> Result<&PassphraseSource, KeyError> {
        self.passphrase
            .as_ref()
            .map_err(|e| KeyError::Source(e.clone()))
    }
}

impl From<&Path> for KeyPlace {
    fn from(place: &Path) -> Self {
        let at = match place.to_str() {
            Some(text) if text.starts_with(SCHEME) => At::Token(text.into(), None),
            _ => At::File(place.into()),
        };
        let passphrase = PassphraseSource::usual();
        Self { at, passphrase }
    }
}

impl From<&PathBuf> for KeyPlace {
    fn from(place: &PathBuf) -> Self {
        place.as_path().into()
    }
}

impl From<&Self> for KeyPlace {
    fn from(place: &Self) -> Self {
        place.clone()
    }
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::File(path) => path.display().fmt(f),
            At::Token(uri, _) => f.write_str(uri),
        }
    }
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// Something else is in the file.
    #[error("{0} holds no private key in PEM (PKCS#8)")]
    Form(PathBuf),
    /// The key inside is another kind.
    #[error("the key in {0} is none on P-256, which is the only kind in use")]
    Kind(String),
    /// It is encrypted, and was not opened.
    #[error("the key file {path}: {why}")]
    Encrypted {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: DecryptError,
    },
    /// It is encrypted, or is to be, and there is no passphrase.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// What names the source of the passphrase.
    #[error(transparent)]
    Source(#[from] InvalidSource),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Only a file can be encrypted, changed or decrypted.
    #[error("{0} is no file; a token guards its keys itself")]
    NoFile(String),
    /// The file is not encrypted, and was to be decrypted or changed.
    #[error("the key file {0} is not encrypted; nothing was changed")]
    Plain(PathBuf),
    /// The file is encrypted already.
    #[error("the key file {0} is encrypted already; nothing was changed")]
    Sealed(PathBuf),
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// A private key on P-256, wherever it is. It never prints, and is wiped when dropped as far as its library does that.
pub struct SecretKey {
    public: [u8; POINT],
    kept: Kept,
}

enum Kept {
    Memory {
        pair: Box<EcdsaKeyPair>,
        random: SystemRandom,
        /// What other secrets are derived from.
        seed: hmac::Key,
    },
    #[cfg(feature = "pkcs11")]
    Token(TokenKey),
}

impl SecretKey {
    /// Opens a key, with its passphrase or PIN where it needs one.
    ///
    /// # Errors
    /// [`KeyError`] names the file or the token, and what is wrong.
    pub fn open(place: &KeyPlace) -> Result<Self, KeyError> {
        match &place.at {
            At::File(path) => Self::from_pkcs8(&read(path, place.passphrase()?)?)
                .ok_or_else(|| KeyError::Kind(path.display().to_string())),
            #[cfg(feature = "pkcs11")]
            At::Token(uri, module) => {
                let key = TokenKey::open(uri, module.as_deref(), place.passphrase()?)?;
                Ok(key.into())
            }
            #[cfg(not(feature = "pkcs11"))]
            At::Token(..) => Err(TokenError::Absent.into()),
        }
    }

    /// Makes a key where none is: in a file of mode 0600, under a new passphrase where `encrypt` says so, or in a token, out of which it never comes.
    ///
    /// # Errors
    /// [`KeyError`]: nothing was made; also where a key is there already.
    pub fn generate(place: &KeyPlace, encrypt: bool) -> Result<Self, KeyError> {
        let path = match &place.at {
            At::File(path) => path,
            #[cfg(feature = "pkcs11")]
            At::Token(uri, module) => {
                let key = TokenKey::generate(uri, module.as_deref(), place.passphrase()?)?;
                return Ok(key.into());
            }
            #[cfg(not(feature = "pkcs11"))]
            At::Token(..) => return Err(TokenError::Absent.into()),
        };
        let pkcs8 = new_pkcs8().ok_or(KeyError::Random)?;
        let pem = if encrypt {
            let with = place.passphrase()?.ask_new(&path.display().to_string())?;
            encrypted::seal(&pkcs8, &with).ok_or(KeyError::Random)?
        } else {
            plain(&pkcs8)
        };
        write_secret_file(path, pem.as_bytes())?;
        Self::from_pkcs8(&pkcs8).ok_or_else(|| KeyError::Kind(path.display().to_string()))
    }

    /// Makes a key in a file where none is, kept as the one in another file is: under the same passphrase, or under none. Nobody is asked for a new
    /// passphrase.
    ///
    /// # Errors
    /// [`KeyError`]: nothing was made; [`KeyError::NoFile`]: one of them is in a token.
    pub fn generate_like(place: &KeyPlace, like: &KeyPlace) -> Result<Self, KeyError> {
        let file = |p: &KeyPlace| p.file().map(Path::to_owned);
        let no_file = |p: &KeyPlace| KeyError::NoFile(p.to_string());
        let path = file(place).ok_or_else(|| no_file(place))?;
        let other = file(like).ok_or_else(|| no_file(like))?;
        let pkcs8 = new_pkcs8().ok_or(KeyError::Random)?;
        let pem = match stored(&other)? {
            Stored::Plain(_) => plain(&pkcs8),
            Stored::Encrypted(sealed) => {
                let source = like.passphrase()?;
                // The one that opens the other opens this: a credential may have been replaced.
                opened(&other, &sealed, source)?;
                let with = source.ask(&other.display().to_string())?;
                encrypted::seal(&pkcs8, &with).ok_or(KeyError::Random)?
            }
        };
        write_secret_file(&path, pem.as_bytes())?;
        Self::from_pkcs8(&pkcs8).ok_or_else(|| KeyError::Kind(path.display().to_string()))
    }

    /// A key from PKCS#8 DER; `None` where it is none on P-256.
    #[must_use]
    pub fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let random = SystemRandom::new();
        let how = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(how, pkcs8, &random).ok()?;
        let public = *pair.public_key().as_ref().first_chunk()?;
        let seed = hmac::Key::new(hmac::HMAC_SHA256, pkcs8);
        let pair = Box::new(pair);
        let kept = Kept::Memory { pair, random, seed };
        Some(Self { public, kept })
    }

    /// A new key that is kept nowhere; `None` where the system gives no random numbers.
    #[must_use]
    pub fn in_memory() -> Option<Self> {
        Self::from_pkcs8(&new_pkcs8()?)
    }

    /// The public key: an uncompressed point.
    #[must_use]
    pub fn public_key(&self) -> &[u8; POINT] {
        &self.public
    }

    /// Signs; r and s at full length (IEEE P1363).
    ///
    /// # Errors
    /// [`SignError`]: the key is out of reach. Nothing was signed.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.kept {
            Kept::Memory { pair, random, .. } => pair
                .sign(random, message)
                .map(|s| s.as_ref().to_vec())
                .map_err(|_| SignError::Key),
            #[cfg(feature = "pkcs11")]
            Kept::Token(key) => key.sign(message).map_err(SignError::Token),
        }
    }

    /// Signs as TLS and certificates have it: `ECDSA-Sig-Value` in DER (RFC 3279 section 2.2.3).
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub fn sign_der(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let fixed = self.sign(message)?;
        let (r, s) = fixed.split_at(fixed.len() / 2);
        let both = [der::unsigned(r), der::unsigned(s)].concat();
        Ok(der::tlv(der::SEQUENCE, &both))
    }

    /// A secret of 32 bytes that follows from the key and a purpose, the same after every start; `None` for a key in a token, which nothing can be
    /// derived from.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Option<Zeroizing<[u8; 32]>> {
        match &self.kept {
            Kept::Memory { seed, .. } => {
                let tag = hmac::sign(seed, purpose.as_bytes());
                tag.as_ref().first_chunk().copied().map(Zeroizing::new)
            }
            #[cfg(feature = "pkcs11")]
            Kept::Token(_) => None,
        }
    }
}

#[cfg(feature = "pkcs11")]
impl From<TokenKey> for SecretKey {
    fn from(key: TokenKey) -> Self {
        Self {
            public: *key.public_key(),
            kept: Kept::Token(key),
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

fn new_pkcs8() -> Option<Zeroizing<Vec<u8>>> {
    let how = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let made = EcdsaKeyPair::generate_pkcs8(how, &SystemRandom::new()).ok()?;
    Some(Zeroizing::new(made.as_ref().to_vec()))
}

/// PEM (RFC 7468 section 10).
fn plain(pkcs8: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(data_encoding::BASE64.encode(pkcs8));
    // The whole capacity at once, so that no smaller copy is left behind in memory.
    let mut text = Zeroizing::new(String::with_capacity(body.len() * 2 + 64));
    text.push_str("-----BEGIN PRIVATE KEY-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text
}

/// What stands in a key file.
enum Stored {
    Plain(Zeroizing<Vec<u8>>),
    Encrypted(Vec<u8>),
}

fn stored(path: &Path) -> Result<Stored, KeyError> {
    let text = read_secret_file(path)?;
    let none = || KeyError::Form(path.into());
    if let Ok(key) = PrivatePkcs8KeyDer::from_pem_slice(&text) {
        return Ok(Stored::Plain(key.secret_pkcs8_der().to_vec().into()));
    }
    sealed(&text).map(Stored::Encrypted).ok_or_else(none)
}

/// The first encrypted key of a PEM file.
fn sealed(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once(&format!("-----BEGIN {}-----", encrypted::LABEL))?;
    let (body, _) = rest.split_once(&format!("-----END {}-----", encrypted::LABEL))?;
    let body: String = body.split_ascii_whitespace().collect();
    data_encoding::BASE64.decode(body.as_bytes()).ok()
}

/// The key of a file, PKCS#8 DER, of any kind; opened where it is encrypted.
fn read(path: &Path, source: &PassphraseSource) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    match stored(path)? {
        Stored::Plain(key) => Ok(key),
        Stored::Encrypted(sealed) => opened(path, &sealed, source),
    }
}

fn opened(
    path: &Path,
    sealed: &[u8],
    source: &PassphraseSource,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let with = source.ask(&path.display().to_string())?;
    encrypted::open(sealed, &with).map_err(|why| {
        source.forget();
        let path = path.into();
        KeyError::Encrypted { path, why }
    })
}

/// What to do with the encryption of a key file.
#[derive(Clone, Debug)]
pub enum Rekey {
    /// Encrypt a plain one, under a new passphrase from this source.
    Encrypt(PassphraseSource),
    /// Put another passphrase, from this source, in the place of the one it has.
    Change(PassphraseSource),
    /// Take the encryption away.
    Decrypt,
}

/// Encrypts a key file, changes its passphrase, or decrypts it. The file is replaced whole; where the disk keeps old blocks, a plain key that was
/// there before may still be read from it.
///
/// # Errors
/// [`KeyError`]: the file is as it was.
pub fn rekey(place: &KeyPlace, how: &Rekey) -> Result<(), KeyError> {
    let path = place
        .file()
        .ok_or_else(|| KeyError::NoFile(place.to_string()))?;
    let shown = path.display().to_string();
    let text = match (stored(path)?, how) {
        (Stored::Plain(key), Rekey::Encrypt(new)) => encrypted::seal(&key, &new.ask_new(&shown)?),
        (Stored::Plain(_), _) => return Err(KeyError::Plain(path.into())),
        (Stored::Encrypted(_), Rekey::Encrypt(_)) => return Err(KeyError::Sealed(path.into())),
        (Stored::Encrypted(sealed), Rekey::Change(new)) => {
            let key = opened(path, &sealed, place.passphrase()?)?;
            encrypted::seal(&key, &new.ask_new(&shown)?)
        }
        (Stored::Encrypted(sealed), Rekey::Decrypt) => {
            Some(plain(&opened(path, &sealed, place.passphrase()?)?))
        }
    };
    let text = text.ok_or(KeyError::Random)?;
    Ok(replace_secret_file(path, text.as_bytes())?)
}
