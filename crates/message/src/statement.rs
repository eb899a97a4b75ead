//! Statements: what somebody signs beside messages. Each has a payload in one byte form, a purpose that keeps it from passing for another, and
//! a maker, who must be the signer.

use bytes::Bytes;
use ordonnans_label::Name;

use crate::cbor::{DecodeError, Reader, Writer, exactly};
use crate::cose::{Purpose, Sign1};
use crate::limits;

/// What can be signed.
pub trait Statement: Sized {
    /// What the signature is for.
    const PURPOSE: Purpose;

    /// Who says so.
    fn maker(&self) -> &Name;

    /// Writes the payload.
    fn write(&self, w: &mut Writer);

    /// Reads a payload.
    ///
    /// # Errors
    /// [`DecodeError`] names the part.
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// The payload to be signed.
    #[must_use]
    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        self.write(&mut w);
        w.into_bytes()
    }
}

/// A statement with its signature, unverified.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Signed<T> {
    signed: Sign1,
    said: T,
}

impl<T: Statement> Signed<T> {
    /// Reads the payload of a signed object.
    ///
    /// # Errors
    /// [`DecodeError`] names the part.
    pub fn new(signed: Sign1) -> Result<Self, DecodeError> {
        let said = exactly(signed.payload(), T::read, T::write)?;
        Ok(Self { signed, said })
    }

    /// Reads the signed object and its payload, of at most [`limits::MAX_STATEMENT`] bytes.
    ///
    /// # Errors
    /// [`DecodeError`] names the part.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::new(Sign1::decode(bytes, T::PURPOSE, limits::MAX_STATEMENT)?)
    }

    /// The one byte form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.signed.encode()
    }

    /// The signed object.
    #[must_use]
    pub fn signed(&self) -> &Sign1 {
        &self.signed
    }

    /// What it says. Nobody has looked at the signature yet.
    #[must_use]
    pub fn said(&self) -> &T {
        &self.said
    }
}
