//! Sealed for its recipients, signed by its originator.
//!
//! Below Stg.C content is sealed under a fresh key per message, from Stg.C up under one per copy; that key is wrapped for the holder of the copy, a
//! node or from Stg.G up a named person, with HPKE (RFC 9180, base mode, X-Wing,
//! HKDF-SHA256, AES-256-GCM). What is sealed is bound to the header: a changed label, recipient or time opens nothing. A
//! commitment to the key stands in the signed header, so that one message cannot open to two texts.
//!
//! Holds always: a [`Verified`] value has a right signature by a certificate of this structure, and the certificate names who the value
//! says made it. Keys and content never print.
//!
//! Limits: X-Wing follows a draft and its implementation has not been audited; a stolen key opens every message still sealed to it.

mod attachment;
mod entropy;
mod envelope;
mod epoch;
mod retained;
mod secret;
mod signed;

pub use attachment::{
    AttachmentError, AttachmentOpener, AttachmentSealer, CHUNK, SealedAttachment, open_attachment,
    seal_attachment, sealed_length,
};
pub use entropy::{Entropy, SeededEntropy, SystemEntropy};
pub use envelope::{OpenError, Opened, SealError, open, open_with, seal, seal_in_epoch};
pub use epoch::{EpochKey, Grant};
pub use retained::RetentionKey;
pub use secret::{InvalidSecret, SealSecret};
pub use signed::{NotAuthentic, Verified, sign_statement, verify_envelope, verify_statement};
