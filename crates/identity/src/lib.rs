//! Who a certificate names, and the keys behind it.
//!
//! A subject is named by exactly one DNS SAN (RFC 5280 section 4.2.1.6) of the form `<name>.<kind>.<structure>`; a certificate with none,
//! two, or another kind of name is refused. What it may hold stands in an RFC 5755 clearance attribute. Chains are checked with
//! revocation for every issuer, and an empty set of CRLs is refused: the verifier below would skip the check.
//!
//! Holds always: a [`Certificate`] that came from [`Trust::verify`] has one name, an extended key usage, a chain to our root and no
//! revocation. Secret keys never print.

mod certificate;
pub mod clearance;
pub mod ed25519;
mod secret;
mod signer;
mod trust;

pub use certificate::{Certificate, InvalidCertificate};
pub use secret::{KeyFileError, read_secret_file, write_secret_file};
pub use signer::{BadSignature, FileSigner, InvalidSigner, SignError, Signer, verify_signature};
pub use trust::{InvalidTrust, Trust, Untrusted, Usage};
