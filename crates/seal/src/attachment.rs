//! Attachments: sealed in chunks at flat memory, each with its own key.
//!
//! Chunks of 64 KiB under AES-256-GCM; the nonce is seven zero bytes, the number of the chunk (four bytes, big-endian) and one byte that
//! is 1 for the last (the STREAM construction). So chunks can be neither swapped nor left out at the end. The key stands in the
//! sealed content of the message.

use std::io::{self, Read, Write};

use ordonnans_message::{AttachmentRef, Sha256Stream, limits};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::Entropy;

/// Plain bytes of a chunk.
pub const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;

/// Why an attachment was not sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum AttachmentError {
    /// Reading or writing.
    #[error("the attachment could not be read or written: {0}")]
    Io(#[from] io::Error),
    /// More than [`limits::MAX_ATTACHMENT`].
    #[error("the attachment is above 1 GiB; split it")]
    TooLarge,
    /// A chunk was changed, left out or moved; or the key is another's.
    #[error("the attachment does not open: it was damaged or cut off")]
    Damaged,
}

/// What the header and the content say of a sealed attachment.
pub struct SealedAttachment {
    /// Digest and length of the sealed bytes.
    pub reference: AttachmentRef,
    /// The key.
    pub key: [u8; 32],
    /// Plain bytes.
    pub length: u64,
}

impl std::fmt::Debug for SealedAttachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedAttachment({} bytes)", self.length)
    }
}

/// Bytes an attachment has once sealed.
#[must_use]
pub fn sealed_length(plain: u64) -> u64 {
    plain + plain.div_ceil(CHUNK as u64).max(1) * TAG as u64
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    let Ok(key) = UnboundKey::new(&AES_256_GCM, key) else {
        unreachable!("32 bytes are a key");
    };
    LessSafeKey::new(key)
}

fn nonce(chunk: u32, last: bool) -> Nonce {
    let mut n = [0; 12];
    n[7..11].copy_from_slice(&chunk.to_be_bytes());
    n[11] = u8::from(last);
    Nonce::assume_unique_for_key(n)
}

/// Reads until the buffer is full or the input ends.
fn read_full(from: &mut impl Read, buffer: &mut Vec<u8>, most: usize) -> io::Result<()> {
    from.by_ref().take(most as u64).read_to_end(buffer)?;
    Ok(())
}

/// Seals everything `from` gives into `to`.
///
/// # Errors
/// [`AttachmentError`]; what was written is of no use.
pub fn seal_attachment(
    from: &mut impl Read,
    to: &mut impl Write,
    entropy: &mut dyn Entropy,
) -> Result<SealedAttachment, AttachmentError> {
    let mut key = [0; 32];
    entropy.fill(&mut key);
    let cipher = cipher(&key);
    let (mut digest, mut sealed, mut plain) = (Sha256Stream::default(), 0u64, 0u64);
    let mut next = Zeroizing::new(Vec::with_capacity(CHUNK + TAG));
    read_full(from, &mut next, CHUNK)?;
    for number in 0u32.. {
        let mut chunk =
            std::mem::replace(&mut next, Zeroizing::new(Vec::with_capacity(CHUNK + TAG)));
        if chunk.len() == CHUNK {
            read_full(from, &mut next, CHUNK)?;
        }
        let last = next.is_empty();
        plain += chunk.len() as u64;
        if sealed_length(plain) > limits::MAX_ATTACHMENT {
            return Err(AttachmentError::TooLarge);
        }
        cipher
            .seal_in_place_append_tag(nonce(number, last), Aad::empty(), &mut *chunk)
            .map_err(|_| AttachmentError::TooLarge)?;
        to.write_all(&chunk)?;
        digest.update(&chunk);
        sealed += chunk.len() as u64;
        if last {
            break;
        }
    }
    let reference = AttachmentRef {
        digest: digest.finish(),
        length: sealed,
    };
    Ok(SealedAttachment {
        reference,
        key,
        length: plain,
    })
}

/// Opens the sealed bytes of `from` into `to` and gives the number of plain bytes.
///
/// # Errors
/// [`AttachmentError`]: the caller throws away what was written.
pub fn open_attachment(
    from: &mut impl Read,
    to: &mut impl Write,
    key: &[u8; 32],
) -> Result<u64, AttachmentError> {
    let cipher = cipher(key);
    let mut plain = 0;
    let mut next = Vec::with_capacity(CHUNK + TAG);
    read_full(from, &mut next, CHUNK + TAG)?;
    for number in 0u32.. {
        let mut chunk = Zeroizing::new(std::mem::replace(
            &mut next,
            Vec::with_capacity(CHUNK + TAG),
        ));
        if chunk.len() == CHUNK + TAG {
            read_full(from, &mut next, CHUNK + TAG)?;
        }
        let last = next.is_empty();
        let open = cipher
            .open_in_place(nonce(number, last), Aad::empty(), &mut chunk)
            .map_err(|_| AttachmentError::Damaged)?;
        to.write_all(open)?;
        plain += open.len() as u64;
        if last {
            break;
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    fn sealed(plain: &[u8]) -> (Vec<u8>, SealedAttachment) {
        let mut out = vec![];
        let s = seal_attachment(&mut &plain[..], &mut out, &mut SeededEntropy::new(1));
        (out, s.expect("seals"))
    }

    fn opened(bytes: &[u8], key: &[u8; 32]) -> Option<Vec<u8>> {
        let mut out = vec![];
        open_attachment(&mut &bytes[..], &mut out, key).ok()?;
        Some(out)
    }

    #[test]
    fn there_and_back_at_every_edge() {
        for n in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let plain: Vec<u8> = (0..n).map(|i| i as u8).collect();
            let (bytes, s) = sealed(&plain);
            assert_eq!(
                (s.length, s.reference.length),
                (n as u64, bytes.len() as u64)
            );
            assert_eq!(sealed_length(n as u64), bytes.len() as u64);
            assert_eq!(opened(&bytes, &s.key).as_deref(), Some(plain.as_slice()));
            assert_eq!(opened(&bytes, &[0; 32]), None, "another key");
        }
    }

    #[test]
    fn nothing_is_cut_swapped_or_added_unseen() {
        let (bytes, s) = sealed(&[7; 3 * CHUNK]);
        let unit = CHUNK + TAG;
        for cut in [0, 1, TAG, unit, 2 * unit, bytes.len() - 1] {
            assert_eq!(opened(&bytes[..cut], &s.key), None, "cut at {cut}");
        }
        let swapped = [&bytes[unit..2 * unit], &bytes[..unit], &bytes[2 * unit..]].concat();
        assert_eq!(opened(&swapped, &s.key), None);
        let longer = [&bytes[..], &bytes[..unit]].concat();
        assert_eq!(opened(&longer, &s.key), None);
        for at in [0, unit, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(opened(&other, &s.key), None, "byte {at}");
        }
    }
}
