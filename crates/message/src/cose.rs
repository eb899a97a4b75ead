//! COSE_Sign1 (RFC 9052 section 4.2) in the one form this product uses.
//!
//! Protected header: `1` algorithm (ES256, ES384 or EdDSA), `34` x5t (SHA-256 of the signer's certificate, RFC 9360), `-65537` kind of
//! signature. Unprotected: `33` x5chain, the signer's certificate. The external data names what is signed, so that a receipt never
//! passes as an envelope. Differs from a general COSE library: no other header, no other order, no detached payload.
//!
//! The kind of signature is 0, a signature over this object alone. Kind 1 is reserved for one signature over the root of a
//! batch (RFC 9162) with an inclusion path here; it is refused as unsupported until it exists.

use bytes::Bytes;

use crate::cbor::{DecodeError, Reader, Writer, exactly};
use crate::{Digest, limits, sha256};

/// What a signed object is: the external data of its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The header of an envelope.
    Envelope,
    /// A published encryption key.
    KeyPackage,
    /// A receipt.
    Receipt,
    /// A registrar's approval of a register.
    Approval,
    /// A vaststeller's act on a label.
    Act,
    /// That an event has happened.
    Declaration,
    /// An order of a security officer.
    Order,
    /// A second person's word on an extract.
    Second,
}

impl Purpose {
    fn external(self) -> &'static [u8] {
        match self {
            Self::Envelope => b"ordonnans/1 envelope",
            Self::KeyPackage => b"ordonnans/1 key-package",
            Self::Receipt => b"ordonnans/1 receipt",
            Self::Approval => b"ordonnans/1 approval",
            Self::Act => b"ordonnans/1 act",
            Self::Declaration => b"ordonnans/1 declaration",
            Self::Order => b"ordonnans/1 order",
            Self::Second => b"ordonnans/1 second",
        }
    }
}

/// Signature algorithms (IANA COSE algorithms).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256; the signature is r and s, 32 bytes each.
    Es256 = -7,
    /// Ed25519.
    EdDsa = -8,
    /// ECDSA on P-384 with SHA-384.
    Es384 = -35,
}

const KIND_SINGLE: u64 = 0;
const KIND_BATCH_ROOT: u64 = 1;
const LABEL_KIND: i64 = -65_537;
/// SHA-256 as a COSE algorithm, in x5t.
const COSE_SHA256: i64 = -16;

/// What will be signed: make it, sign [`Draft::to_be_signed`], then [`Draft::finish`].
#[derive(Clone, Debug)]
pub struct Draft {
    purpose: Purpose,
    algorithm: Algorithm,
    certificate: Vec<u8>,
    payload: Vec<u8>,
}

impl Draft {
    /// A payload and the DER certificate of who will sign it.
    #[must_use]
    pub fn new(
        purpose: Purpose,
        algorithm: Algorithm,
        certificate: &[u8],
        payload: Vec<u8>,
    ) -> Self {
        Self {
            purpose,
            algorithm,
            certificate: certificate.into(),
            payload,
        }
    }

    /// The bytes the signature covers (`Sig_structure`).
    #[must_use]
    pub fn to_be_signed(&self) -> Vec<u8> {
        sig_structure(
            self.purpose,
            &protected(self.algorithm, &sha256(&[&self.certificate])),
            &self.payload,
        )
    }

    /// The signed object.
    #[must_use]
    pub fn finish(self, signature: Vec<u8>) -> Sign1 {
        Sign1 {
            purpose: self.purpose,
            algorithm: self.algorithm,
            certificate: self.certificate,
            payload: self.payload,
            signature,
        }
    }
}

/// A signed object whose form is right. Whether its signature is, nobody has looked at yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sign1 {
    purpose: Purpose,
    algorithm: Algorithm,
    certificate: Vec<u8>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Sign1 {
    /// Reads a signed object.
    ///
    /// # Errors
    /// [`DecodeError::Unsupported`] for a batch signature; [`DecodeError::Form`] where x5t is not the digest of the certificate.
    pub fn decode(bytes: &[u8], purpose: Purpose, max_payload: usize) -> Result<Self, DecodeError> {
        exactly(
            bytes,
            |r| Self::read(r, purpose, max_payload),
            |s, w| {
                w.append(s);
            },
        )
    }

    /// The one byte form, tagged 18.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::default();
        w.append(self);
        w.into_bytes().into()
    }

    /// The payload as it was signed.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The signer's certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The algorithm of the signature.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The bytes the signature must cover.
    #[must_use]
    pub fn to_be_signed(&self) -> Vec<u8> {
        sig_structure(
            self.purpose,
            &protected(self.algorithm, &sha256(&[&self.certificate])),
            &self.payload,
        )
    }

    fn read(r: &mut Reader<'_>, purpose: Purpose, max_payload: usize) -> Result<Self, DecodeError> {
        r.tag("COSE_Sign1", 18)?;
        r.tuple("COSE_Sign1", 4)?;
        let header = r.bytes("protected header", 128)?;
        let (algorithm, thumbprint) = read_protected(header)?;
        let mut certificate = None;
        r.map("unprotected header", 1, |r, key| {
            if key != 33 {
                return Err(DecodeError::Unknown("unprotected header"));
            }
            certificate = Some(r.bytes("certificate", limits::MAX_CERTIFICATE)?.to_vec());
            Ok(())
        })?;
        let certificate = certificate.ok_or(DecodeError::Form("certificate"))?;
        if sha256(&[&certificate]) != thumbprint {
            return Err(DecodeError::Form("certificate"));
        }
        let payload = r.bytes("payload", max_payload)?.to_vec();
        let signature = r.bytes("signature", limits::MAX_SIGNATURE)?.to_vec();
        Ok(Self {
            purpose,
            algorithm,
            certificate,
            payload,
            signature,
        })
    }
}

impl Writer {
    fn append(&mut self, s: &Sign1) {
        self.tag(18)
            .array(4)
            .bytes(&protected(s.algorithm, &sha256(&[&s.certificate])));
        self.map(1).uint(33).bytes(&s.certificate);
        self.bytes(&s.payload).bytes(&s.signature);
    }
}

fn protected(algorithm: Algorithm, thumbprint: &Digest) -> Vec<u8> {
    let mut w = Writer::default();
    w.map(3).uint(1).int(algorithm as i64);
    w.uint(34)
        .array(2)
        .int(COSE_SHA256)
        .bytes(thumbprint.as_bytes());
    w.int(LABEL_KIND).uint(KIND_SINGLE);
    w.into_bytes()
}

fn read_protected(bytes: &[u8]) -> Result<(Algorithm, Digest), DecodeError> {
    let (mut algorithm, mut thumbprint, mut kind) = (None, None, None);
    let mut r = Reader::new(bytes);
    r.map("protected header", 3, |r, key| {
        match key {
            1 => {
                algorithm = Some(match r.int("algorithm")? {
                    -7 => Algorithm::Es256,
                    -8 => Algorithm::EdDsa,
                    -35 => Algorithm::Es384,
                    _ => return Err(DecodeError::Unknown("algorithm")),
                });
            }
            34 => {
                r.tuple("x5t", 2)?;
                if r.int("x5t")? != COSE_SHA256 {
                    return Err(DecodeError::Unknown("x5t"));
                }
                thumbprint = Some(r.fixed::<32>("x5t")?.into());
            }
            LABEL_KIND => kind = Some(r.uint("signature kind", u64::MAX)?),
            _ => return Err(DecodeError::Unknown("protected header")),
        }
        Ok(())
    })?;
    r.finish()?;
    match kind {
        Some(KIND_SINGLE) => {}
        Some(KIND_BATCH_ROOT) => return Err(DecodeError::Unsupported("a batch signature")),
        Some(_) => return Err(DecodeError::Unknown("signature kind")),
        None => return Err(DecodeError::Form("signature kind")),
    }
    let missing = DecodeError::Form("protected header");
    Ok((algorithm.ok_or(missing)?, thumbprint.ok_or(missing)?))
}

fn sig_structure(purpose: Purpose, protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    w.array(4)
        .text("Signature1")
        .bytes(protected)
        .bytes(purpose.external())
        .bytes(payload);
    w.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coset::{CborSerializable, TaggedCborSerializable};

    fn signed() -> Sign1 {
        Draft::new(
            Purpose::Receipt,
            Algorithm::Es256,
            b"certificate",
            b"payload".to_vec(),
        )
        .finish(vec![7; 64])
    }

    #[test]
    fn another_implementation_reads_it_and_signs_the_same_bytes() {
        let ours = signed();
        let theirs = coset::CoseSign1::from_tagged_slice(&ours.encode()).expect("COSE");
        assert_eq!(theirs.payload.as_deref(), Some(ours.payload()));
        assert_eq!(theirs.signature, ours.signature());
        assert_eq!(theirs.tbs_data(b"ordonnans/1 receipt"), ours.to_be_signed());
        assert_eq!(
            theirs.protected.header.alg,
            Some(coset::Algorithm::Assigned(coset::iana::Algorithm::ES256))
        );
        assert!(theirs.to_vec().is_ok());
    }

    #[test]
    fn the_purpose_is_signed() {
        let draft = |p| Draft::new(p, Algorithm::Es256, b"c", b"p".to_vec()).to_be_signed();
        assert_ne!(draft(Purpose::Receipt), draft(Purpose::Envelope));
        assert_ne!(draft(Purpose::Receipt), draft(Purpose::KeyPackage));
    }

    #[test]
    fn refused() {
        let good = signed().encode();
        let decode = |b: &[u8]| Sign1::decode(b, Purpose::Receipt, 64).map_err(|e| e.name());
        assert_eq!(decode(&good), Ok(signed()));
        assert_eq!(
            Sign1::decode(&good, Purpose::Receipt, 6),
            Err(DecodeError::Limit("payload"))
        );
        for cut in 0..good.len() {
            assert!(decode(&good[..cut]).is_err(), "cut at {cut}");
        }
        // The certificate is bound to the protected header.
        let at = good
            .windows(11)
            .position(|w| w == b"certificate")
            .expect("there");
        let mut other = good.to_vec();
        other[at] ^= 1;
        assert_eq!(decode(&other), Err("Form"));
        // The kind is the last byte of the protected header: 3 pairs, the third is -65537: 0.
        let kind = good
            .windows(5)
            .position(|w| w == [0x3a, 0, 1, 0, 0])
            .expect("there")
            + 5;
        for (n, why) in [(1, "Unsupported"), (2, "Unknown")] {
            let mut other = good.to_vec();
            other[kind] = n;
            assert_eq!(decode(&other), Err(why));
        }
    }
}
