//! Evidence that a log has two histories: two checkpoints that its own key signed, of which one does not continue the other. A third party
//! who holds nothing but that key can check it.

use ordonnans_message::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::merkle::verify_consistency;
use crate::{Checkpoint, InvalidCheckpoint, TreeHead, VerifierKey};

/// Two checkpoints of one log, and what the log said when it was asked how they fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// What this file is: [`Fork::FORM`].
    pub form: String,
    /// The checkpoint that a witness had kept.
    pub kept: String,
    /// The checkpoint that it was shown later.
    pub shown: String,
    /// The root that the log now gives for the size of the kept one.
    pub root: Option<Digest>,
    /// The proof that the shown log continues one of that root.
    pub proof: Vec<Digest>,
    /// Who noticed.
    pub by: String,
    /// When, by that one's clock.
    pub at: Timestamp,
}

/// What a fork shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The key signed two histories. Nothing else can explain both checkpoints.
    Proven {
        /// The kept head.
        kept: TreeHead,
        /// The shown head.
        shown: TreeHead,
    },
    /// The log went back, or gives no proof. It may have been put back from a copy; whoever has an older checkpoint than the shown one can tell
    /// more, and so will the log itself once it has outgrown the kept one.
    Suspected {
        /// The kept head.
        kept: TreeHead,
        /// The shown head.
        shown: TreeHead,
    },
    /// The shown one continues the kept one: there is no fork here.
    None,
}

impl Fork {
    /// What the first field says.
    pub const FORM: &'static str = "ordonnans fork/1";

    /// Looks at the evidence with the key of the log alone.
    ///
    /// # Errors
    /// [`InvalidCheckpoint`]: one of the two was not signed by this key, so it is no evidence against it.
    pub fn judge(&self, key: &VerifierKey) -> Result<Verdict, InvalidCheckpoint> {
        let kept = Checkpoint::verify(&self.kept, key)?.head;
        let shown = Checkpoint::verify(&self.shown, key)?.head;
        if verify_consistency(&kept, &shown, &self.proof).is_ok() {
            return Ok(Verdict::None);
        }
        let other = self.root.filter(|root| *root != kept.root);
        let of_other = |root| {
            let size = kept.size;
            verify_consistency(&TreeHead { size, root }, &shown, &self.proof).is_ok()
        };
        Ok(if kept.size == shown.size || other.is_some_and(of_other) {
            Verdict::Proven { kept, shown }
        } else {
            Verdict::Suspected { kept, shown }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{Frontier, consistency, leaf_hash, root};
    use ordonnans_identity::ed25519::SigningKey;

    /// Heads and kept hashes of a log whose record `n` is `f(n)`.
    fn log(size: u64, f: impl Fn(u64) -> u64) -> (Vec<TreeHead>, Vec<Digest>) {
        let (mut tree, mut kept, mut heads) = (Frontier::default(), vec![], vec![]);
        heads.push(tree.head());
        for n in 0..size {
            kept.extend(tree.append(leaf_hash(&f(n).to_be_bytes())));
            heads.push(tree.head());
        }
        (heads, kept)
    }

    #[test]
    fn two_histories_are_proven_to_whoever_has_the_key() {
        let key = SigningKey::from_seed(&[3; 32]).expect("a seed");
        let origin = "b1.broker.crisis.example";
        let verifier = VerifierKey::new(origin, key.public()).expect("a name");
        let sign = |head| {
            let origin = origin.into();
            Checkpoint { origin, head }.sign(&key).expect("signs")
        };
        let (good, _) = log(20, |n| n);
        // Another history from record 5 on.
        let (other, hashes) = log(20, |n| if n < 5 { n } else { n + 100 });
        let hash = |at: u64| hashes.get(usize::try_from(at).ok()?).copied();
        for first in 1..=20u64 {
            for second in 1..=20u64 {
                let fork = Fork {
                    form: Fork::FORM.into(),
                    kept: sign(good[first as usize]),
                    shown: sign(other[second as usize]),
                    root: root(&hash, first).filter(|_| first <= second),
                    proof: consistency(&hash, first, second).unwrap_or_default(),
                    by: "ncc.node.crisis.example".into(),
                    at: Timestamp::default(),
                };
                let text = serde_json::to_string(&fork).expect("JSON");
                let fork: Fork = serde_json::from_str(&text).expect("JSON");
                let verdict = fork.judge(&verifier).expect("signed");
                match verdict {
                    Verdict::None => assert!(first <= second && first <= 5),
                    Verdict::Proven { .. } => assert!(first <= second && first > 5),
                    Verdict::Suspected { .. } => assert!(first > second),
                }
            }
        }
        let foreign = VerifierKey::new(origin, [9; 32]).expect("a name");
        let fork = Fork {
            form: Fork::FORM.into(),
            kept: sign(good[7]),
            shown: sign(other[7]),
            root: None,
            proof: vec![],
            by: String::new(),
            at: Timestamp::default(),
        };
        assert!(
            fork.judge(&foreign).is_err(),
            "no evidence against another key"
        );
    }
}
