//! One record with all that proves it, in one file: C2SP tlog-proof. The record's public part stands in the line `extra`.

use std::fmt::Write as _;

use data_encoding::BASE64;
use ordonnans_message::{Digest, limits};

use crate::merkle::{InvalidProof, leaf_hash, verify_inclusion};
use crate::{InvalidCheckpoint, Public, Quorum, TreeHead, Witnessed};

const FIRST: &str = "c2sp.org/tlog-proof@v1";

/// Why a file proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProofFile {
    /// Not the form of such a file.
    #[error("it has not the form of a proof")]
    Form,
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] InvalidCheckpoint),
    /// Too few witnesses.
    #[error("too few witnesses countersigned its checkpoint")]
    Witnesses,
    /// The hashes.
    #[error(transparent)]
    Proof(#[from] InvalidProof),
}

/// What a file proves: that this record is in the log of this head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The record.
    pub public: Public,
    /// The log.
    pub head: TreeHead,
    /// Who countersigned.
    pub witnessed: Witnessed,
}

/// Writes the file for a record, its inclusion proof and a checkpoint.
#[must_use]
pub fn write(public: &[u8], sequence: u64, hashes: &[Digest], checkpoint: &str) -> String {
    let mut text = format!(
        "{FIRST}\nextra {}\nindex {sequence}\n",
        BASE64.encode(public)
    );
    for h in hashes {
        let _ = writeln!(text, "{}", BASE64.encode(h.as_bytes()));
    }
    text + "\n" + checkpoint
}

/// Checks such a file.
///
/// # Errors
/// [`InvalidProofFile`]: nothing is proven.
pub fn verify(text: &str, quorum: &Quorum) -> Result<Proven, InvalidProofFile> {
    let form = InvalidProofFile::Form;
    if text.len() > limits::MAX_CHECKPOINT + limits::MAX_PROOF * 64 + 4096 {
        return Err(form);
    }
    let (proof, checkpoint) = text.split_once("\n\n").ok_or(form.clone())?;
    let mut lines = proof.lines();
    if lines.next() != Some(FIRST) {
        return Err(form);
    }
    let extra = lines.next().and_then(|l| l.strip_prefix("extra "));
    let index = lines.next().and_then(|l| l.strip_prefix("index "));
    let bytes = extra.and_then(|e| BASE64.decode(e.as_bytes()).ok());
    let bytes = bytes.ok_or(form.clone())?;
    let public = Public::decode(&bytes).map_err(|_| form.clone())?;
    if index != Some(public.sequence.to_string().as_str()) {
        return Err(form);
    }
    let hash = |l: &str| Digest::try_from(BASE64.decode(l.as_bytes()).ok()?.as_slice()).ok();
    let hashes: Option<Vec<Digest>> = lines.map(hash).collect();
    let hashes = hashes.ok_or(form)?;
    let (checkpoint, witnessed) = quorum.verify(checkpoint)?;
    if !witnessed.enough {
        return Err(InvalidProofFile::Witnesses);
    }
    verify_inclusion(
        &checkpoint.head,
        public.sequence,
        &leaf_hash(&bytes),
        &hashes,
    )?;
    Ok(Proven {
        public,
        head: checkpoint.head,
        witnessed,
    })
}
