//! Sender keys by epoch: what many holders are sealed for again and again is wrapped for each of them once.
//!
//! An epoch is one key of one originator for one set of holders. Each message of it has a content key of its own, which follows from the epoch's key and
//! the message's binding. The first messages carry the epoch's key, wrapped for each holder; once a holder has said that it has one of them, the later
//! ones leave it out. A holder keeps the [`Grant`], which is the wrapped key as it came, and never the key: so it ends with the key it is wrapped to.
//!
//! Holds always: a grant opens nothing for another set of holders than it was wrapped for, for the set is part of what the wrapping binds.

#[cfg(test)]
mod tests;

use ordonnans_label::Name;
use ordonnans_message::cbor::{DecodeError, Reader, Writer, exactly};
use ordonnans_message::{Digest, Envelope, EpochId, Header, Seal, limits, sha256};
use zeroize::Zeroizing;

use crate::Entropy;
use crate::envelope::fresh;

/// The key of an epoch, where its messages are made. It is never written.
pub struct EpochKey {
    id: EpochId,
    key: Zeroizing<[u8; 32]>,
}

impl EpochKey {
    /// A new epoch.
    #[must_use]
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        let mut id = [0; 16];
        entropy.fill(&mut id);
        Self {
            id: EpochId::new(id),
            key: fresh(entropy),
        }
    }

    /// What names it.
    #[must_use]
    pub fn id(&self) -> EpochId {
        self.id
    }

    pub(crate) fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

impl std::fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EpochKey({:?})", self.id)
    }
}

/// The holders of a header, as the key of an epoch is bound to them.
pub(crate) fn holders(header: &Header) -> Digest {
    let mut w = Writer::default();
    let all = header.copies();
    w.array(all.len() + 1).text(header.originator.as_str());
    for holder in all {
        w.text(holder.owner().as_str());
    }
    sha256(&[b"ordonnans/1 epoch holders", &w.into_bytes()])
}

/// What the wrapping of an epoch's key is bound to: the epoch, its holders, and the message that brings it.
pub(crate) fn info(epoch: EpochId, holders: &Digest, binding: &Digest) -> Vec<u8> {
    [
        &b"ordonnans/1 epoch seal"[..],
        epoch.as_bytes(),
        holders.as_bytes(),
        binding.as_bytes(),
    ]
    .concat()
}

/// The wrapped key of an epoch, as one of its messages brought it for a holder. It is no secret: it opens with the holder's key alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The binding of the message that brought it.
    pub(crate) binding: Digest,
    pub(crate) seal: Seal,
}

impl Grant {
    /// What a message brings a holder; `None` where it is of no epoch, or leaves this holder out.
    ///
    /// # Errors
    /// [`DecodeError`]: the seals have another form.
    pub fn of(envelope: &Envelope, holder: &Name) -> Result<Option<(EpochId, Self)>, DecodeError> {
        let Some(epoch) = envelope.epoch()? else {
            return Ok(None);
        };
        let seal = envelope.seals()?.into_iter().find(|s| s.to == *holder);
        let binding = envelope.header().binding();
        Ok(seal.map(|seal| (epoch, Self { binding, seal })))
    }

    /// Which key of the holder opens it.
    #[must_use]
    pub fn kid(&self) -> [u8; 8] {
        self.seal.kid
    }

    /// The one byte form, for the holder's own disk.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        self.write(&mut w);
        w.into_bytes()
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`DecodeError`] names the part.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        exactly(bytes, Self::read, Self::write)
    }

    fn write(&self, w: &mut Writer) {
        let s = &self.seal;
        w.array(5)
            .bytes(self.binding.as_bytes())
            .text(s.to.as_str());
        w.bytes(&s.kid).bytes(&s.enc).bytes(&s.wrapped);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.tuple("grant", 5)?;
        Ok(Self {
            binding: r.fixed::<32>("binding")?.into(),
            seal: Seal {
                to: r.parsed("holder", Name::MAX_BYTES)?,
                kid: r.fixed("key")?,
                copy: None,
                enc: r.bytes("grant", limits::MAX_SEAL / 2)?.to_vec(),
                wrapped: r.bytes("grant", limits::MAX_SEAL / 2)?.to_vec(),
            },
        })
    }
}
