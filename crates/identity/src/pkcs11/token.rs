//! One key in one token.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::RawAuthPin;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use super::TokenError;
use super::uri::TokenUri;
use crate::key::POINT;
use crate::{PassphraseSource, der};

/// The curve P-256 as `CKA_EC_PARAMS` names it (RFC 5480 section 2.1.1.1).
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// Bytes of the identifier that a new pair is given: two of them are never the same.
const ID: usize = 16;

/// Modules that this process has initialised, which each allows once (PKCS#11 section 5.4).
static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());

/// A private key in a token.
pub(crate) struct TokenKey {
    name: String,
    uri: TokenUri,
    module: PathBuf,
    pin: PassphraseSource,
    public: [u8; POINT],
    /// Absent after a failure, until the next use.
    open: Mutex<Option<Open>>,
}

struct Open {
    session: Session,
    private: ObjectHandle,
}

impl TokenKey {
    /// Finds a key, and proves that it signs for the public key beside it.
    pub(crate) fn open(
        text: &str,
        module: Option<&Path>,
        pin: &PassphraseSource,
    ) -> Result<Self, TokenError> {
        let token = Token::find(text, module)?;
        let session = token.session(pin, false)?;
        token.key(session, pin)
    }

    /// Makes a pair in the token where there is none of this name. The private key is sensitive and cannot be taken out.
    pub(crate) fn generate(
        text: &str,
        module: Option<&Path>,
        pin: &PassphraseSource,
    ) -> Result<Self, TokenError> {
        let token = Token::find(text, module)?;
        let Some(object) = token.uri.object.clone() else {
            let why = "a new key needs a name: object=NAME".into();
            return Err(TokenError::Uri { why });
        };
        let session = token.session(pin, true)?;
        let failed = |e| token.failed(&e);
        let same = [Attribute::Label(object.clone().into())];
        if !session.find_objects(&same).map_err(failed)?.is_empty() {
            return Err(TokenError::Exists(token.name));
        }
        let mut id = [0; ID];
        SystemRandom::new()
            .fill(&mut id)
            .map_err(|_| TokenError::Failed {
                uri: token.name.clone(),
                why: "the system gives no random numbers".into(),
            })?;
        let id = token.uri.id.clone().unwrap_or_else(|| id.to_vec());
        let both = [
            Attribute::Token(true),
            Attribute::Label(object.into()),
            Attribute::Id(id),
        ];
        let public = [
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::EcParams(P256.to_vec()),
        ];
        let private = [
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ];
        let (public, private) = (
            [&both[..], &public].concat(),
            [&both[..], &private].concat(),
        );
        session
            .generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
            .map_err(failed)?;
        token.key(session, pin)
    }

    pub(crate) fn public_key(&self) -> &[u8; POINT] {
        &self.public
    }

    /// Signs; r and s at full length.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let used = match open.take() {
            Some(used) => used,
            None => {
                let token = Token::find_in(&self.name, self.uri.clone(), &self.module)?;
                let session = token.session(&self.pin, false)?;
                let private = token.private(&session)?;
                Open { session, private }
            }
        };
        // Put back only where it worked: whatever went wrong, a new session is the better start.
        let signature = signed(&used, message).map_err(|e| TokenError::Failed {
            uri: self.name.clone(),
            why: e.to_string(),
        })?;
        *open = Some(used);
        Ok(signature)
    }

    /// Ends what the session may do, as a token does that was taken out and put back.
    #[cfg(test)]
    pub(super) fn lose(&self) {
        let open = self.open.lock().expect("no panic");
        open.as_ref().expect("open").session.logout().expect("ends");
    }
}

fn signed(open: &Open, message: &[u8]) -> Result<Vec<u8>, Error> {
    let hash = digest(&SHA256, message);
    let signature = open
        .session
        .sign(&Mechanism::Ecdsa, open.private, hash.as_ref())?;
    if signature.len() == POINT - 1 {
        Ok(signature)
    } else {
        Err(Error::InvalidValue)
    }
}

/// The library of a module, initialised.
fn library(path: &Path) -> Result<Pkcs11, TokenError> {
    let wrong = |e: Error| TokenError::Module {
        path: path.into(),
        why: e.to_string(),
    };
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = modules.get(path) {
        return Ok(known.clone());
    }
    let library = Pkcs11::new(path).map_err(wrong)?;
    match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(e) => return Err(wrong(e)),
    }
    modules.insert(path.into(), library.clone());
    Ok(library)
}

/// The token that a URI names.
struct Token {
    name: String,
    uri: TokenUri,
    module: PathBuf,
    library: Pkcs11,
    slot: Slot,
}

impl Token {
    fn find(text: &str, module: Option<&Path>) -> Result<Self, TokenError> {
        let uri = TokenUri::parse(text)?;
        let named = uri.module.clone().or_else(|| module.map(Path::to_owned));
        let variable = || std::env::var_os("PKCS11_MODULE").map(PathBuf::from);
        let module = named.or_else(variable).ok_or(TokenError::NoModule)?;
        Self::find_in(text, uri, &module)
    }

    fn find_in(name: &str, uri: TokenUri, module: &Path) -> Result<Self, TokenError> {
        let library = library(module)?;
        let failed = |e: Error| TokenError::Failed {
            uri: name.into(),
            why: e.to_string(),
        };
        let mut fit = vec![];
        for slot in library.get_slots_with_initialized_token().map_err(failed)? {
            let about = library.get_token_info(slot).map_err(failed)?;
            let is = |said: &Option<String>, there: &str| {
                said.as_deref().is_none_or(|said| said == there)
            };
            if is(&uri.token, about.label())
                && is(&uri.manufacturer, about.manufacturer_id())
                && is(&uri.model, about.model())
                && is(&uri.serial, about.serial_number())
                && uri.slot.is_none_or(|n| n == slot.id())
            {
                fit.push(slot);
            }
        }
        let [slot] = fit[..] else {
            return Err(TokenError::Tokens {
                uri: name.into(),
                count: fit.len(),
            });
        };
        Ok(Self {
            name: name.into(),
            uri,
            module: module.into(),
            library,
            slot,
        })
    }

    fn failed(&self, e: &Error) -> TokenError {
        TokenError::Failed {
            uri: self.name.clone(),
            why: e.to_string(),
        }
    }

    /// A session in which the user is logged in. Where another session of this process is, the PIN is not looked at again (PKCS#11 section 5.6).
    fn session(&self, pin: &PassphraseSource, change: bool) -> Result<Session, TokenError> {
        let failed = |e| self.failed(&e);
        let session = if change {
            self.library.open_rw_session(self.slot)
        } else {
            self.library.open_ro_session(self.slot)
        };
        let session = session.map_err(failed)?;
        let about = self.library.get_token_info(self.slot).map_err(failed)?;
        let login = if about.protected_authentication_path() {
            // The PIN is typed on the reader itself.
            session.login(UserType::User, None)
        } else {
            let what = format!("the token of {}", self.name);
            let given = pin
                .ask(&what)
                .map_err(|e| TokenError::NoPin(e.to_string()))?;
            let secret = RawAuthPin::new(Box::new(given.expose().to_vec()));
            session.login_with_raw(UserType::User, &secret)
        };
        match login {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinLenRange | RvError::PinInvalid,
                _,
            )) => {
                pin.forget();
                Err(TokenError::Pin(self.name.clone()))
            }
            Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(TokenError::Locked(self.name.clone())),
            Err(e) => Err(self.failed(&e)),
        }
    }

    fn objects(
        &self,
        session: &Session,
        class: ObjectClass,
    ) -> Result<Vec<ObjectHandle>, TokenError> {
        let mut like = vec![Attribute::Class(class), Attribute::KeyType(KeyType::EC)];
        like.extend(self.uri.object.clone().map(|o| Attribute::Label(o.into())));
        like.extend(self.uri.id.clone().map(Attribute::Id));
        session.find_objects(&like).map_err(|e| self.failed(&e))
    }

    fn private(&self, session: &Session) -> Result<ObjectHandle, TokenError> {
        let found = self.objects(session, ObjectClass::PRIVATE_KEY)?;
        match found[..] {
            [one] => Ok(one),
            _ => Err(TokenError::Keys {
                uri: self.name.clone(),
                count: found.len(),
            }),
        }
    }

    /// The key, in a session that may use it.
    fn key(self, session: Session, pin: &PassphraseSource) -> Result<TokenKey, TokenError> {
        let private = self.private(&session)?;
        let public = self.objects(&session, ObjectClass::PUBLIC_KEY)?;
        let [public] = public[..] else {
            return Err(TokenError::NoPublic(self.name));
        };
        let wanted = [AttributeType::EcParams, AttributeType::EcPoint];
        let attributes = session
            .get_attributes(public, &wanted)
            .map_err(|e| self.failed(&e))?;
        let [Attribute::EcParams(curve), Attribute::EcPoint(point)] = &attributes[..] else {
            return Err(TokenError::NoPublic(self.name));
        };
        // DER by the standard; some tokens give the point itself.
        let point = der::only(point, der::OCTET_STRING).unwrap_or(point);
        let point = <[u8; POINT]>::try_from(point).ok();
        let Some(public) = point.filter(|p| p[0] == 4 && curve == P256) else {
            return Err(TokenError::Kind(self.name));
        };
        let open = Open { session, private };
        let said = b"ordonnans/1 a key and its public half";
        let signature = signed(&open, said).map_err(|e| self.failed(&e))?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &public)
            .verify(said, &signature)
            .map_err(|_| TokenError::Pair(self.name.clone()))?;
        Ok(TokenKey {
            name: self.name,
            uri: self.uri,
            module: self.module,
            pin: pin.clone(),
            public,
            open: Mutex::new(Some(open)),
        })
    }
}
