//! Attachments: sealed in chunks at flat memory, each with its own key, on all cores.
//!
//! Chunks of 64 KiB under AES-256-GCM; the nonce is seven zero bytes, the number of the chunk (four bytes, big-endian) and one byte that
//! is 1 for the last (the STREAM construction). So chunks can be neither swapped nor left out at the end. The key stands in the
//! sealed content of the message, and the signed header has the digest of the sealed bytes (BLAKE3, `docs/adr/0016`).

use std::io::{self, Read, Write};
use std::sync::OnceLock;

use ordonnans_message::{AttachmentRef, Blake3Stream, limits};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use zeroize::Zeroizing;

use crate::Entropy;

/// Plain bytes of a chunk.
pub const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;
const SEALED_CHUNK: usize = CHUNK + TAG;
/// Chunks that are read, worked on by all cores and written together: 1 MiB.
const WINDOW: usize = 16;
/// Chunks from which on more than one core is worth its waking.
const MANY: usize = 4;

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

/// Does work on so many bytes, and tells it whether it has all cores: their threads are made when work comes first that pays for their waking.
/// Where the system gives none, all is done on the caller's.
fn on_all_cores<T: Send>(bytes: usize, work: impl FnOnce(bool) -> T + Send) -> T {
    static CORES: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let named = |n| format!("seal-{n}");
    let pool = || ThreadPoolBuilder::new().thread_name(named).build().ok();
    let pays = bytes >= MANY * CHUNK;
    match pays.then(|| CORES.get_or_init(pool).as_ref()).flatten() {
        Some(cores) => cores.install(|| work(true)),
        None => work(false),
    }
}

/// The chunks of one attachment in their order: the key, and how many were worked on.
struct Chunks {
    cipher: LessSafeKey,
    done: u32,
}

impl Chunks {
    fn of(key: &[u8; 32]) -> Self {
        let Ok(key) = UnboundKey::new(&AES_256_GCM, key) else {
            unreachable!("32 bytes are a key");
        };
        let cipher = LessSafeKey::new(key);
        Self { cipher, done: 0 }
    }

    /// Seals the next chunks where they lie, each before the room for its tag.
    fn seal(&mut self, chunks: &mut [u8], ends: bool, cores: bool) -> Option<()> {
        let (first, last) = self.next(chunks.len().div_ceil(SEALED_CHUNK))?;
        let one = |(n, chunk): (usize, &mut [u8])| {
            let (text, tag) = chunk.split_last_chunk_mut::<TAG>()?;
            let nonce = nonce(first + n as u32, ends && n == last);
            let made = (self.cipher).seal_in_place_separate_tag(nonce, Aad::empty(), text);
            tag.copy_from_slice(made.ok()?.as_ref());
            Some(())
        };
        if cores {
            let all = chunks.par_chunks_mut(SEALED_CHUNK);
            return all.enumerate().map(one).collect();
        }
        let all = chunks.chunks_mut(SEALED_CHUNK);
        all.enumerate().map(one).collect()
    }

    /// Opens the next chunks into `plain`.
    fn open(&mut self, chunks: &[u8], plain: &mut [u8], ends: bool, cores: bool) -> Option<()> {
        let many = chunks.len().div_ceil(SEALED_CHUNK);
        let (first, last) = self.next(many)?;
        if plain.len().div_ceil(CHUNK).max(1) != many {
            return None;
        }
        let one = |(n, (chunk, plain)): (usize, (&[u8], &mut [u8]))| {
            let (text, tag) = chunk.split_last_chunk::<TAG>()?;
            plain.copy_from_slice(text);
            let (nonce, tag) = (nonce(first + n as u32, ends && n == last), Tag::from(*tag));
            let opened =
                (self.cipher).open_in_place_separate_tag(nonce, Aad::empty(), tag, plain, 0..);
            opened.ok().map(drop)
        };
        if many == 1 {
            // An empty attachment has one chunk, too.
            return one((0, (chunks, plain)));
        }
        if cores {
            let pairs = chunks.par_chunks(SEALED_CHUNK);
            let pairs = pairs.zip(plain.par_chunks_mut(CHUNK));
            return pairs.enumerate().map(one).collect();
        }
        let pairs = chunks.chunks(SEALED_CHUNK).zip(plain.chunks_mut(CHUNK));
        pairs.enumerate().map(one).collect()
    }

    /// The number of the first of so many chunks, and how many come after it. They count as worked on.
    fn next(&mut self, many: usize) -> Option<(u32, usize)> {
        let (first, last) = (self.done, many.checked_sub(1)?);
        self.done = u32::try_from(many).ok()?.checked_add(first)?;
        Some((first, last))
    }
}

fn nonce(chunk: u32, last: bool) -> Nonce {
    let mut n = [0; 12];
    n[7..11].copy_from_slice(&chunk.to_be_bytes());
    n[11] = u8::from(last);
    Nonce::assume_unique_for_key(n)
}

/// Seals an attachment that comes in pieces, each where it lies: no plain bytes stay behind.
pub struct AttachmentSealer {
    key: Zeroizing<[u8; 32]>,
    chunks: Chunks,
    digest: Blake3Stream,
    plain: u64,
}

impl AttachmentSealer {
    /// With a new key.
    pub fn new(entropy: &mut dyn Entropy) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        entropy.fill(&mut *key);
        let (chunks, digest) = (Chunks::of(&key), Blake3Stream::default());
        Self {
            key,
            chunks,
            digest,
            plain: 0,
        }
    }

    /// Seals the next chunks where they lie: of each [`CHUNK`] plain bytes and then room for 16 more. They are not the last.
    ///
    /// # Errors
    /// [`AttachmentError::TooLarge`]: the plain bytes lie there still.
    ///
    /// # Panics
    /// Where one is not whole, as what follows could not be opened.
    pub fn seal(&mut self, chunks: &mut [u8]) -> Result<(), AttachmentError> {
        assert!(chunks.len().is_multiple_of(SEALED_CHUNK), "whole chunks");
        match chunks {
            [] => Ok(()),
            _ => self.add(chunks, false),
        }
    }

    /// The same of the last chunks, of which the last may be shorter, and is empty but for its room where the attachment is: as long as
    /// [`sealed_length`] says of their plain bytes.
    ///
    /// # Errors
    /// [`AttachmentError::TooLarge`].
    ///
    /// # Panics
    /// Where the last has no room, or no plain bytes though others came before, as an attachment has one sealed form.
    pub fn finish(mut self, chunks: &mut [u8]) -> Result<SealedAttachment, AttachmentError> {
        let last = match chunks.len() % SEALED_CHUNK {
            0 => chunks.len().min(SEALED_CHUNK),
            some => some,
        };
        let alone = self.plain == 0 && chunks.len() == last;
        assert!(last > TAG || last == TAG && alone, "some last bytes");
        self.add(chunks, true)?;
        let reference = AttachmentRef {
            digest: self.digest.finish(),
            length: sealed_length(self.plain),
        };
        Ok(SealedAttachment {
            reference,
            key: *self.key,
            length: self.plain,
        })
    }

    fn add(&mut self, chunks: &mut [u8], ends: bool) -> Result<(), AttachmentError> {
        let (room, tags) = (chunks.len(), chunks.len().div_ceil(SEALED_CHUNK) * TAG);
        self.plain += (room - tags) as u64;
        if sealed_length(self.plain) > limits::MAX_ATTACHMENT {
            return Err(AttachmentError::TooLarge);
        }
        let whole = |cores: bool| {
            self.chunks.seal(chunks, ends, cores)?;
            match cores {
                true => self.digest.update_on_all_cores(chunks),
                false => self.digest.update(chunks),
            }
            Some(())
        };
        on_all_cores(room, whole).ok_or(AttachmentError::TooLarge)
    }
}

impl std::fmt::Debug for AttachmentSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AttachmentSealer({} bytes)", self.plain)
    }
}

/// Opens an attachment that comes in pieces.
pub struct AttachmentOpener(Chunks);

impl AttachmentOpener {
    /// With the key of the message's content.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Chunks::of(key))
    }

    /// Puts into the beginning of `to` what the next sealed bytes are once opened, and gives how many those are. The sealed bytes are not the
    /// last, and as many as some sealed chunks have, [`CHUNK`] and 16 each.
    ///
    /// # Errors
    /// [`AttachmentError::Damaged`]: what `to` has got is to be thrown away, and what came before.
    ///
    /// # Panics
    /// Where they are part of a chunk, or `to` is too short; it need not be longer than the sealed bytes.
    pub fn open(&mut self, sealed: &[u8], to: &mut [u8]) -> Result<usize, AttachmentError> {
        assert!(sealed.len().is_multiple_of(SEALED_CHUNK), "whole chunks");
        match sealed {
            [] => Ok(0),
            _ => self.add(sealed, to, false),
        }
    }

    /// Puts into the beginning of `to` the last bytes, opened, and gives how many those are.
    ///
    /// # Errors
    /// [`AttachmentError::Damaged`]: all that came out is to be thrown away.
    ///
    /// # Panics
    /// Where `to` is too short.
    pub fn finish(mut self, sealed: &[u8], to: &mut [u8]) -> Result<usize, AttachmentError> {
        if self.0.done > 0 && sealed.len() <= TAG {
            return Err(AttachmentError::Damaged);
        }
        self.add(sealed, to, true)
    }

    fn add(&mut self, sealed: &[u8], to: &mut [u8], ends: bool) -> Result<usize, AttachmentError> {
        let tags = sealed.len().div_ceil(SEALED_CHUNK).max(1) * TAG;
        let plain = sealed.len().checked_sub(tags);
        let plain = plain.ok_or(AttachmentError::Damaged)?;
        let to = &mut to[..plain];
        let opened = on_all_cores(sealed.len(), |cores| self.0.open(sealed, to, ends, cores));
        opened.map(|()| plain).ok_or(AttachmentError::Damaged)
    }
}

impl std::fmt::Debug for AttachmentOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AttachmentOpener")
    }
}

/// Reads until `room` is full or there is no more; gives how much there was.
fn fill(from: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < room.len() {
        match from.read(&mut room[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
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
    let mut sealer = AttachmentSealer::new(entropy);
    let mut window = Zeroizing::new(vec![0; WINDOW * SEALED_CHUNK]);
    // Only with the next byte it is known that a chunk is not the last.
    let mut next = Zeroizing::new([0]);
    let mut more = fill(from, &mut window[..1])?;
    loop {
        let mut length = 0;
        for chunk in window.chunks_mut(SEALED_CHUNK) {
            if length > 0 {
                chunk[..more].copy_from_slice(&next[..more]);
            }
            let plain = more + fill(from, &mut chunk[more..CHUNK])?;
            length += plain + TAG;
            more = match plain {
                CHUNK => fill(from, &mut *next)?,
                _ => 0,
            };
            if more == 0 {
                let sealed = &mut window[..length];
                let made = sealer.finish(sealed)?;
                to.write_all(sealed)?;
                return Ok(made);
            }
        }
        sealer.seal(&mut window)?;
        to.write_all(&window)?;
        window[..1].copy_from_slice(&*next);
    }
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
    const MOST: usize = WINDOW * SEALED_CHUNK;
    let mut opener = AttachmentOpener::new(key);
    // Only with the next byte it is known that a window is not the last.
    let mut sealed = vec![0; MOST + 1];
    let mut plain = Zeroizing::new(vec![0; WINDOW * CHUNK]);
    let (mut all, mut here) = (0, fill(from, &mut sealed)?);
    while here > MOST {
        let opened = opener.open(&sealed[..MOST], &mut plain)?;
        to.write_all(&plain[..opened])?;
        all += opened as u64;
        sealed[0] = sealed[MOST];
        here = 1 + fill(from, &mut sealed[1..])?;
    }
    let opened = opener.finish(&sealed[..here], &mut plain)?;
    to.write_all(&plain[..opened])?;
    Ok(all + opened as u64)
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
        let window = WINDOW * CHUNK;
        let some = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 5 * CHUNK + 7];
        for n in some.into_iter().chain([window - 1, window, window + 1]) {
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
        // A chunk of nothing but a tag has no plain bytes, and is looked at all the same.
        for chunks in [0, 1, 2, 3] {
            let short = [&bytes[..chunks * unit], &bytes[unit - TAG..unit]].concat();
            assert_eq!(opened(&short, &s.key), None, "{chunks} chunks and a tag");
        }
        for at in [0, unit, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(opened(&other, &s.key), None, "byte {at}");
        }
    }

    #[test]
    fn cut_or_changed_in_a_later_window() {
        let unit = CHUNK + TAG;
        let (bytes, s) = sealed(&vec![7; 2 * WINDOW * CHUNK]);
        for cut in [WINDOW * unit, WINDOW * unit + TAG, (WINDOW + 5) * unit] {
            assert_eq!(opened(&bytes[..cut], &s.key), None, "cut at {cut}");
        }
        let mut other = bytes.clone();
        other[(WINDOW + 3) * unit] ^= 1;
        assert_eq!(opened(&other, &s.key), None);
        let mut swapped = bytes.clone();
        swapped.rotate_left(WINDOW * unit);
        assert_eq!(opened(&swapped, &s.key), None, "windows swapped");
    }

    /// What the header says of an attachment can be checked with any tool for BLAKE3, and each chunk with any AES-256-GCM.
    #[test]
    fn in_pieces_or_at_once_it_is_the_same_and_each_chunk_is_plain_aes_gcm() {
        let plain: Vec<u8> = (0..9 * CHUNK + 5).map(|i| (i / 7) as u8).collect();
        let (whole, one) = sealed(&plain);
        // Plain bytes with the room for each tag.
        let rooms: Vec<u8> = plain
            .chunks(CHUNK)
            .flat_map(|c| [c, &[0; TAG]].concat())
            .collect();
        for pieces in [1, 3, 4, 9, 20] {
            let mut sealer = AttachmentSealer::new(&mut SeededEntropy::new(1));
            let mut out = rooms.clone();
            let mut rest = out.as_mut_slice();
            while rest.len() > pieces * SEALED_CHUNK {
                let (piece, after) = rest.split_at_mut(pieces * SEALED_CHUNK);
                sealer.seal(piece).expect("not too large");
                rest = after;
            }
            let made = sealer.finish(rest).expect("not too large");
            assert_eq!((&out, made.reference), (&whole, one.reference));
        }
        let mut digest = Blake3Stream::default();
        digest.update(&whole);
        assert_eq!(digest.finish(), one.reference.digest);
        let cipher = Chunks::of(&one.key).cipher;
        for (n, chunk) in whole.chunks(CHUNK + TAG).enumerate() {
            let mut chunk = chunk.to_vec();
            let opened = cipher.open_in_place(nonce(n as u32, n == 9), Aad::empty(), &mut chunk);
            let text = &plain[n * CHUNK..plain.len().min((n + 1) * CHUNK)];
            assert_eq!(opened.expect("opens"), text, "chunk {n}");
        }
    }
}
