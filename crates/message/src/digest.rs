//! The hashes of the product: SHA-256 (FIPS 180-4) of everything but the sealed bytes of attachments, which have BLAKE3.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// A digest of 32 bytes: SHA-256, or BLAKE3 where it names an attachment. Prints as 64 lower-case hexadecimal digits.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

/// A text that is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a digest; it has 64 hexadecimal digits in lower case")]
pub struct InvalidDigest;

impl Digest {
    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = InvalidDigest;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidDigest> {
        bytes.try_into().map(Self).map_err(|_| InvalidDigest)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(s: &str) -> Result<Self, InvalidDigest> {
        let bytes = HEXLOWER.decode(s.as_bytes()).map_err(|_| InvalidDigest)?;
        bytes.as_slice().try_into()
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(s: String) -> Result<Self, InvalidDigest> {
        s.parse()
    }
}

impl From<Digest> for String {
    fn from(d: Digest) -> Self {
        d.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SHA-256 over the parts, one after the other. The parts leave no mark: where the border matters, hash the lengths too.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> Digest {
    let mut stream = Sha256Stream::default();
    parts.iter().for_each(|p| stream.update(p));
    stream.finish()
}

/// SHA-256 over bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Sha256Stream(Sha256);

impl Sha256Stream {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Debug for Sha256Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256Stream")
    }
}

/// BLAKE3 (its paper of 2020, the plain hash with 32 bytes) over the sealed bytes of an attachment, which come in pieces.
#[derive(Clone, Default)]
pub struct Blake3Stream(blake3::Hasher);

impl Blake3Stream {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Takes the next bytes on all threads of the pool of rayon that this runs in. It pays from some hundred KiB on.
    pub fn update_on_all_cores(&mut self, bytes: &[u8]) {
        self.0.update_rayon(bytes);
    }

    /// The digest of all bytes taken.
    #[must_use]
    pub fn finish(&self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// BLAKE3 over the sealed bytes of an attachment.
#[must_use]
pub fn blake3(bytes: &[u8]) -> Digest {
    let mut stream = Blake3Stream::default();
    stream.update(bytes);
    stream.finish()
}

impl fmt::Debug for Blake3Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blake3Stream")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_s_own_examples() {
        assert_eq!(
            sha256(&[]).to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            sha256(&[b"a", b"bc"]).to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        // From the test vectors that its designers publish: no byte, and 0, 1, … 250, 0, … of three chunks and one byte.
        assert_eq!(
            blake3(b"").to_string(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
        let bytes: Vec<u8> = (0..3073).map(|i| (i % 251) as u8).collect();
        assert_eq!(
            blake3(&bytes).to_string(),
            "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3"
        );
        let mut pieces = Blake3Stream::default();
        pieces.update(&bytes[..1000]);
        pieces.update_on_all_cores(&bytes[1000..]);
        assert_eq!(pieces.finish(), blake3(&bytes));
        let d = sha256(&[b"x"]);
        assert_eq!(d.to_string().parse(), Ok(d));
        assert_eq!("AB".parse::<Digest>(), Err(InvalidDigest));
        assert_eq!(
            d.to_string().to_uppercase().parse::<Digest>(),
            Err(InvalidDigest)
        );
    }
}
