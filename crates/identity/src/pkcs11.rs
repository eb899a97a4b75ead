//! Keys in tokens and HSMs: PKCS#11 (OASIS, version 2.40 and later), named by RFC 7512 URIs.
//!
//! The module of the token is a shared library that is loaded when the first key in it is opened. It is whatever the token's maker has written, and runs in
//! the process: it is named by who configures the program, and by nobody else. Signatures are made by `CKM_ECDSA` over a SHA-256 that is computed here.
//!
//! One session a key, and one signature at a time in it. A session that is lost (the token was taken out, its daemon restarted) is an error for whoever
//! signs then; the next signature opens another, with the PIN of the same source.

#[cfg(all(test, feature = "pkcs11"))]
mod tests;
#[cfg(feature = "pkcs11")]
mod token;
#[cfg(feature = "pkcs11")]
mod uri;

#[cfg(feature = "pkcs11")]
pub(crate) use token::TokenKey;

/// Why a key in a token cannot be used. All but [`TokenError::Failed`] are for the operator to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// This build has no PKCS#11.
    #[error("this build has no PKCS#11; build it with the feature `pkcs11`")]
    Absent,
    /// The URI.
    #[error("the pkcs11 URI cannot be used: {why}")]
    Uri {
        /// What is wrong.
        why: String,
    },
    /// No module is named.
    #[error(
        "no PKCS#11 module is named; name it by identity.module, module-path in the URI, or PKCS11_MODULE"
    )]
    NoModule,
    /// The module.
    #[error("the PKCS#11 module {path} cannot be used: {why}")]
    Module {
        /// The shared library.
        path: std::path::PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No token fits, or more than one.
    #[error("{uri}: {count} tokens fit, and one must")]
    Tokens {
        /// What was looked for.
        uri: String,
        /// How many were found.
        count: usize,
    },
    /// No key fits, or more than one.
    #[error("{uri}: {count} private keys on an elliptic curve fit, and one must")]
    Keys {
        /// What was looked for.
        uri: String,
        /// How many were found.
        count: usize,
    },
    /// The public key is not beside the private one, so nobody can say which certificate it belongs to.
    #[error("{0}: the public key is not in the token beside the private one")]
    NoPublic(String),
    /// Another curve.
    #[error("{0}: the key is none on P-256, which is the only kind in use")]
    Kind(String),
    /// What the private key signs the public key does not verify.
    #[error("{0}: the private key and the public key beside it do not belong together")]
    Pair(String),
    /// A key is there already.
    #[error("{0}: a key of this name is there already; nothing was made")]
    Exists(String),
    /// No PIN.
    #[error("{0}")]
    NoPin(String),
    /// The PIN is wrong. Each such try counts: a token locks itself after some.
    #[error("{0}: the token refuses the PIN")]
    Pin(String),
    /// The token is locked.
    #[error("{0}: the token has locked its PIN; whoever administers it unlocks it")]
    Locked(String),
    /// The token failed. The next use tries again, in a new session.
    #[error("{uri}: the token failed: {why}")]
    Failed {
        /// Which key.
        uri: String,
        /// What its module says.
        why: String,
    },
}
