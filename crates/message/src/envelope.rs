//! The envelope: a signed header, the seals of the content key, and the sealed content.

use std::fmt;

use bytes::Bytes;
use ordonnans_label::Name;

use crate::cbor::{DecodeError, Reader, Writer, exactly};
use crate::cose::{Purpose, Sign1};
use crate::header::{SUITE_EPOCH, digest, name};
use crate::{Digest, Header, limits, sha256};

/// A content key, wrapped for who holds the copy.
#[derive(Clone, PartialEq, Eq)]
pub struct Seal {
    /// The node or, from Stg.G up, the person that can unwrap it.
    pub to: Name,
    /// Which of the holder's keys: the first 8 bytes of SHA-256 over the public key.
    pub kid: [u8; 8],
    /// Number of this copy (exemplaarnummer), where copies are numbered.
    pub copy: Option<u32>,
    /// The encapsulation.
    pub enc: Vec<u8>,
    /// The wrapped content key.
    pub wrapped: Vec<u8>,
}

/// Names the key of an epoch among those of its originator: random bytes, which say nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochId([u8; 16]);

impl EpochId {
    /// The id of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpochId({})", data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// Which copy of how many (exemplaar n van m): m is the number that its originator sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CopyNumber {
    /// From 1.
    pub number: u32,
    /// How many there are, at most [`limits::MAX_RECIPIENTS`].
    pub of: u32,
}

impl fmt::Display for CopyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exemplaar {} van {}", self.number, self.of)
    }
}

/// One copy in the content section of a numbered message: sealed under a key of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedCopy {
    /// Commitment to the copy's key: it opens to one text.
    pub commitment: Digest,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
}

impl SealedCopy {
    /// The content section of a numbered message, its copies in the order of their numbers.
    #[must_use]
    pub fn encode_all(copies: &[Self]) -> Vec<u8> {
        let mut w = Writer::default();
        write_copies(copies, &mut w);
        w.into_bytes()
    }

    /// What the header of a numbered message commits to: SHA-256 over the commitments of all copies.
    #[must_use]
    pub fn commitment_of_all(copies: &[Self]) -> Digest {
        let mut all = vec![&b"ordonnans/1 commitments"[..]];
        all.extend(copies.iter().map(|c| &c.commitment.as_bytes()[..]));
        sha256(&all)
    }
}

impl fmt::Debug for SealedCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedCopy({} bytes)", self.sealed.len())
    }
}

fn write_copies(copies: &[SealedCopy], w: &mut Writer) {
    w.array(copies.len());
    for c in copies {
        w.array(2).bytes(c.commitment.as_bytes()).bytes(&c.sealed);
    }
}

fn read_copies(r: &mut Reader<'_>) -> Result<Vec<SealedCopy>, DecodeError> {
    let n = r.array("copies", limits::MAX_RECIPIENTS)?;
    let one = |r: &mut Reader<'_>| {
        r.tuple("copy", 2)?;
        Ok(SealedCopy {
            commitment: digest(r, "copy commitment")?,
            sealed: r.bytes("copy", limits::MAX_CONTENT)?.to_vec(),
        })
    };
    (0..n).map(|_| one(r)).collect()
}

impl Seal {
    /// The seals section of an envelope.
    #[must_use]
    pub fn encode_all(seals: &[Self]) -> Bytes {
        let mut w = Writer::default();
        write_seals(seals, &mut w);
        w.into_bytes().into()
    }

    /// The seals section of an envelope of an epoch: only who has not its key yet has a seal.
    #[must_use]
    pub fn encode_of_epoch(epoch: EpochId, seals: &[Self]) -> Bytes {
        let mut w = Writer::default();
        write_section(&(Some(epoch), seals.to_vec()), &mut w);
        w.into_bytes().into()
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal(to {})", self.to)
    }
}

fn write_seals(seals: &[Seal], w: &mut Writer) {
    w.array(seals.len());
    for s in seals {
        w.array(5).text(s.to.as_str()).bytes(&s.kid);
        w.option(s.copy, |w, n| {
            w.uint(n.into());
        });
        w.bytes(&s.enc).bytes(&s.wrapped);
    }
}

/// The seals section: the epoch, where it is of one, and the seals.
type Section = (Option<EpochId>, Vec<Seal>);

fn write_section((epoch, seals): &Section, w: &mut Writer) {
    if let Some(epoch) = epoch {
        w.array(2).bytes(epoch.as_bytes());
    }
    write_seals(seals, w);
}

fn read_seals(r: &mut Reader<'_>) -> Result<Vec<Seal>, DecodeError> {
    let n = r.array("seals", limits::MAX_RECIPIENTS)?;
    let one = |r: &mut Reader<'_>| {
        r.tuple("seal", 5)?;
        Ok(Seal {
            to: name(r, "seal")?,
            kid: r.fixed("seal")?,
            copy: r
                .option(|r| r.uint("copy number", u32::MAX.into()))?
                .and_then(|n| u32::try_from(n).ok()),
            enc: r.bytes("seal", limits::MAX_SEAL / 2)?.to_vec(),
            wrapped: r.bytes("seal", limits::MAX_SEAL / 2)?.to_vec(),
        })
    };
    (0..n).map(|_| one(r)).collect()
}

/// An envelope whose form is right: the digests in the header fit what it carries. Whether the signature is right, nobody has
/// looked at yet; only verification makes it trustworthy.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    signed: Sign1,
    header: Header,
    seals: Bytes,
    content: Bytes,
}

impl Envelope {
    /// Puts an envelope together.
    ///
    /// # Errors
    /// [`DecodeError::Form`] where a digest in the header does not fit what is given.
    pub fn new(signed: Sign1, seals: Bytes, content: Bytes) -> Result<Self, DecodeError> {
        let header = Header::decode(signed.payload())?;
        if sha256(&[&seals]) != header.sealing.seals {
            return Err(DecodeError::Form("seals"));
        }
        if sha256(&[&content]) != header.content.digest
            || content.len() != header.content.length as usize
        {
            return Err(DecodeError::Form("content"));
        }
        Ok(Self {
            signed,
            header,
            seals,
            content,
        })
    }

    /// Reads an envelope.
    ///
    /// # Errors
    /// [`DecodeError`] names the part.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > limits::MAX_ENVELOPE {
            return Err(DecodeError::Limit("envelope"));
        }
        let parts = |r: &mut Reader<'_>| {
            r.tuple("envelope", 3)?;
            let signed = r.bytes("signed header", limits::MAX_ENVELOPE)?;
            Ok((
                signed.to_vec(),
                r.bytes("seals", limits::MAX_SEALS)?.to_vec(),
                r.bytes("content", limits::MAX_COPIES)?.to_vec(),
            ))
        };
        let (signed, seals, content) = exactly(bytes, parts, |(a, b, c), w| {
            w.array(3).bytes(a).bytes(b).bytes(c);
        })?;
        Self::new(
            Sign1::decode(&signed, Purpose::Envelope, limits::MAX_HEADER)?,
            seals.into(),
            content.into(),
        )
    }

    /// The one byte form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::default();
        w.array(3)
            .bytes(&self.signed.encode())
            .bytes(&self.seals)
            .bytes(&self.content);
        w.into_bytes().into()
    }

    /// What the message says about itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The signed object the header came in.
    #[must_use]
    pub fn signed(&self) -> &Sign1 {
        &self.signed
    }

    /// The sealed content.
    #[must_use]
    pub fn content(&self) -> &Bytes {
        &self.content
    }

    /// SHA-256 of the whole encoding: what a receipt speaks of.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(&[&self.encode()])
    }

    /// The wrapped keys.
    ///
    /// # Errors
    /// [`DecodeError`] where the section has another form.
    pub fn seals(&self) -> Result<Vec<Seal>, DecodeError> {
        self.section().map(|(_, seals)| seals)
    }

    /// The epoch it is of, where it is of one.
    ///
    /// # Errors
    /// As [`Self::seals`].
    pub fn epoch(&self) -> Result<Option<EpochId>, DecodeError> {
        self.section().map(|(epoch, _)| epoch)
    }

    fn section(&self) -> Result<Section, DecodeError> {
        let of_epoch = self.header.sealing.suite == SUITE_EPOCH;
        let read = |r: &mut Reader<'_>| {
            if !of_epoch {
                return Ok((None, read_seals(r)?));
            }
            r.tuple("seals of an epoch", 2)?;
            let epoch = EpochId(r.fixed("epoch")?);
            Ok((Some(epoch), read_seals(r)?))
        };
        exactly(&self.seals, read, write_section)
    }

    /// The sealed copies of a numbered message, in the order of their numbers.
    ///
    /// # Errors
    /// [`DecodeError`] where the section has another form.
    pub fn copies(&self) -> Result<Vec<SealedCopy>, DecodeError> {
        exactly(&self.content, read_copies, |c, w| write_copies(c, w))
    }

    /// Whether it is sealed for whom its header says, and for nobody else: one seal for each of [`Header::copies`], in their order; from Stg.C
    /// up each with its number, a ciphertext of its own and a commitment of its own. Whether a seal opens, only its holder can tell. In an epoch whoever
    /// has its key has no seal; the key itself was sealed for these holders and no others, which whoever opens finds out.
    ///
    /// # Errors
    /// [`DecodeError::Form`] names what does not fit: `seals` (their number), `sealed for` (another holder), `copy number`, `copies`
    /// (the ciphertexts), `commitment`.
    pub fn check_seals(&self) -> Result<(), DecodeError> {
        let (holders, (epoch, seals)) = (self.header.copies(), self.section()?);
        if epoch.is_some() {
            let mut rest = holders.iter();
            for seal in &seals {
                // In the order of the holders, each once.
                if !rest.any(|h| seal.to == *h.owner()) {
                    return Err(DecodeError::Form("sealed for"));
                }
                if seal.copy.is_some() {
                    return Err(DecodeError::Form("copy number"));
                }
            }
            return Ok(());
        }
        if seals.len() != holders.len() {
            return Err(DecodeError::Form("seals"));
        }
        let numbered = self.header.numbered();
        for ((seal, holder), number) in seals.iter().zip(&holders).zip(1u32..) {
            if seal.to != *holder.owner() {
                return Err(DecodeError::Form("sealed for"));
            }
            if seal.copy != numbered.then_some(number) {
                return Err(DecodeError::Form("copy number"));
            }
        }
        if !numbered {
            return Ok(());
        }
        let copies = self.copies()?;
        if copies.len() != seals.len() {
            return Err(DecodeError::Form("copies"));
        }
        if SealedCopy::commitment_of_all(&copies) != self.header.sealing.commitment {
            return Err(DecodeError::Form("commitment"));
        }
        Ok(())
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Envelope({}, {} bytes sealed)",
            self.header.id,
            self.content.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cose::{Algorithm, Draft};
    use crate::header::tests::sample;
    use crate::{ContentRef, Sealing};

    fn envelope() -> Envelope {
        let to = "locc.node.crisis.example".parse().expect("a name");
        let seals = Seal::encode_all(&[Seal {
            to,
            kid: [1; 8],
            copy: Some(1),
            enc: vec![2; 1120],
            wrapped: vec![3; 48],
        }]);
        let content = Bytes::from_static(b"sealed");
        let h = sample(true);
        let h = Header {
            content: ContentRef {
                digest: sha256(&[&content]),
                length: 6,
            },
            sealing: Sealing {
                seals: sha256(&[&seals]),
                ..h.sealing
            },
            ..h
        };
        let signed = Draft::new(Purpose::Envelope, Algorithm::Es256, b"cert", h.encode())
            .finish(vec![0; 64]);
        Envelope::new(signed, seals, content).expect("fits")
    }

    #[test]
    fn there_and_back() {
        let e = envelope();
        let bytes = e.encode();
        let back = Envelope::decode(&bytes).expect("decodes");
        assert_eq!(back, e);
        assert_eq!(back.digest(), sha256(&[&bytes]));
        assert_eq!(back.seals().expect("seals")[0].copy, Some(1));
        assert!(
            !format!("{e:?}").contains("locc"),
            "prints neither recipients nor content"
        );
    }

    #[test]
    fn no_byte_can_change_unseen() {
        let bytes = envelope().encode();
        for at in 0..bytes.len() {
            let mut other = bytes.to_vec();
            other[at] ^= 1;
            // Either the form breaks, or the signed part (or the signature) is visibly another.
            if let Ok(e) = Envelope::decode(&other) {
                assert_ne!(e.signed(), envelope().signed(), "byte {at}");
            }
        }
    }
}
