//! What this node sends to many, again and again: the key is wrapped for each of them until they have answered, and not every time.
//!
//! An epoch is for one label and one set of holders with the keys and certificates that they have now: when any of it changes, another one begins, and so it
//! does after [`LIFE_MS`] or [`MESSAGES`]. Its key is in memory alone; a start begins anew.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ordonnans_identity::Signer;
use ordonnans_label::Name;
use ordonnans_message::{
    Content, Digest, Envelope, Header, MessageId, Receipt, ReceiptKind, SignedKeyPackage,
    Timestamp, sha256,
};
use ordonnans_seal::{Entropy, EpochKey, SealError, Verified, seal, seal_in_epoch};

/// Fewer holders than this are sealed for one by one: a message then stands by itself.
pub(crate) const LEAST: usize = 6;
/// How long an epoch lasts, in milliseconds: a day.
const LIFE_MS: u64 = 24 * 60 * 60 * 1000;
/// Messages of an epoch.
const MESSAGES: usize = 256;
/// Epochs at one time; where there are more, the one that began first ends.
const LIVE: usize = 16;

/// An epoch of ours.
struct Live {
    key: EpochKey,
    began: Timestamp,
    /// In the order of the copies; at most 64, so that a set of them is the bits of a number.
    holders: Vec<Name>,
    /// Its messages, and for whom each had the key.
    sent: BTreeMap<MessageId, u64>,
    /// Who has the key: they have answered.
    has: u64,
}

/// The epochs that have begun and not ended, by what each is for.
#[derive(Default)]
pub(crate) struct Epochs(BTreeMap<Digest, Live>);

/// What an epoch is for: the label, and each holder with its key and the certificate that has signed it.
fn purpose(header: &Header, keys: &[Verified<SignedKeyPackage>]) -> Digest {
    let mut parts = vec![header.label.confidentiality.to_string().into_bytes()];
    let mut all: Vec<_> = keys
        .iter()
        .map(|k| {
            let p = k.get().said();
            let by = k.signer().fingerprint();
            [p.name.as_str().as_bytes(), &[0], &p.kid(), by.as_bytes()].concat()
        })
        .collect();
    all.sort();
    all.dedup();
    parts.extend(all);
    let parts: Vec<_> = parts.iter().map(|p| sha256(&[p])).collect();
    let parts: Vec<&[u8]> = parts.iter().map(|d| &d.as_bytes()[..]).collect();
    sha256(&parts)
}

impl Live {
    fn is_over(&self, now: Timestamp) -> bool {
        // A clock that was put back is none to count by.
        let past = now < self.began || now.since(self.began) >= LIFE_MS;
        past || self.sent.len() >= MESSAGES
    }

    fn bit(&self, of: &Name) -> u64 {
        let place = self.holders.iter().position(|h| h == of);
        place.map_or(0, |p| 1u64.checked_shl(p as u32).unwrap_or(0))
    }
}

impl Epochs {
    /// Seals a message: in an epoch where it is for many and below Stg.C, else by itself.
    ///
    /// # Errors
    /// [`SealError`].
    pub(crate) fn seal(
        &mut self,
        header: Header,
        content: &Content,
        keys: &[Verified<SignedKeyPackage>],
        signer: &dyn Signer,
        entropy: &mut dyn Entropy,
    ) -> Result<Envelope, SealError> {
        let holders: Vec<Name> = header.copies().iter().map(|h| h.owner().clone()).collect();
        if header.numbered() || holders.len() < LEAST {
            return seal(header, content, keys, signer, entropy);
        }
        let (purpose, now) = (purpose(&header, keys), header.created);
        self.0.retain(|_, live| !live.is_over(now));
        if !self.0.contains_key(&purpose) && self.0.len() >= LIVE {
            let first = self.0.iter().min_by_key(|(_, live)| live.began);
            if let Some(first) = first.map(|(of, _)| *of) {
                self.0.remove(&first);
            }
        }
        let live = self.0.entry(purpose).or_insert_with(|| Live {
            key: EpochKey::generate(entropy),
            began: now,
            holders,
            sent: BTreeMap::new(),
            has: 0,
        });
        let without = |n: &Name| live.has & live.bit(n) != 0;
        let sealed = seal_in_epoch(&live.key, &without, header, content, keys, signer, entropy)?;
        live.sent.insert(sealed.header().id, !live.has);
        Ok(sealed)
    }

    /// A recipient has answered: it has the key if the message had it for that recipient, and has it no more where it could not use the message.
    pub(crate) fn answered(&mut self, r: &Receipt) {
        for live in self.0.values_mut() {
            let Some(with) = live.sent.get(&r.message).copied() else {
                continue;
            };
            let bit = live.bit(&r.by);
            match r.kind {
                ReceiptKind::Delivered => live.has |= with & bit,
                ReceiptKind::Refused => live.has &= !bit,
                _ => {}
            }
        }
    }
}
