//! Who a certificate names, and the keys behind it.
//!
//! A subject is named by exactly one DNS SAN (RFC 5280 section 4.2.1.6) of the form `<name>.<kind>.<structure>`; a certificate with none,
//! two, or another kind of name is refused. What it may hold stands in an RFC 5755 clearance attribute, under any number of policies, and is kept as the
//! certificate says it until it is asked for under the policies in force. Chains are checked with revocation for every issuer, and an empty set of CRLs
//! is refused: the verifier below would skip the check.
//!
//! Holds always: a [`Certificate`] that came from [`Trust::verify`] has one name, an extended key usage, a chain to our root, no
//! revocation, and no clearance beyond the constraints of its authorities (RFC 5913). Secret keys never print.

mod certificate;
mod certified;
pub mod clearance;
mod der;
pub mod ed25519;
mod encrypted;
pub mod ess;
mod key;
mod lists;
mod numbers;
mod oid;
mod passphrase;
mod pkcs11;
mod policies;
mod remembered;
mod renewal;
mod secret;
mod signer;
mod trust;

pub use certificate::{Certificate, InvalidCertificate};
pub use certified::{CategoryValue, Certified, Statement, Unwritable};
pub use encrypted::DecryptError;
pub use key::{KeyError, KeyPlace, POINT, Rekey, SecretKey, rekey};
pub use lists::{GRACE_HOURS, InvalidNumber, Late, List, ListNumber, MAX_GRACE_HOURS};
pub use numbers::{ListNumbers, NumbersError};
pub use passphrase::{
    InvalidSource, MAX_PASSPHRASE, MIN_NEW_PASSPHRASE, Passphrase, PassphraseError,
    PassphraseSource, SOURCE_VARIABLE, Unreadable,
};
pub use pkcs11::TokenError;
pub use policies::{PolicyFileError, read_policies};
pub use renewal::{InvalidRenewal, Renewal, certificate_request, pem};
pub use secret::{
    KeyFileError, read_secret_file, replace_file, replace_secret_file, sync_folder_of,
    write_secret_file,
};
pub use signer::{
    BadSignature, FileSigner, InvalidSigner, SignError, Signer, verify_signature, verify_with_key,
};
pub use trust::{InvalidTrust, MAX_LIST, MAX_TRUST_FILE, Trust, Untrusted, Usage};
