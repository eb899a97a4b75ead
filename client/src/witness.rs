//! The node as a witness: it remembers the log, asks for the proof that what it is shown continues what it remembers, countersigns that, and
//! keeps the evidence where it does not. A broker that rewrites its past contradicts its neighbours.

use std::path::{Path, PathBuf};

use ordonnans_audit::merkle::verify_consistency;
use ordonnans_audit::{Checkpoint, Fork, Verdict, VerifierKey};
use ordonnans_identity::ed25519::SigningKey;
use ordonnans_message::{Digest, Frame, ProofOf};
use serde_json::{Value, json};

use crate::desk::{Desk, internal, usage};
use crate::failure::Failure;

/// Number of the question whether the log goes on.
const GOES_ON: u32 = 1;
/// Number of the question what root the log has for the size that is kept.
const ROOT: u32 = 2;

/// The key of a node as a witness, made at the first start.
pub(crate) fn key(data: &Path) -> Result<SigningKey, Failure> {
    let path = data.join("witness.key");
    if path.exists() {
        SigningKey::load(&path).map_err(internal)
    } else {
        SigningKey::generate(&path).map_err(internal)
    }
}

/// The key of a log, from the file that the broker publishes.
pub(crate) fn log_key(path: &Path) -> Result<VerifierKey, Failure> {
    let unreadable = |e: &dyn std::fmt::Display| {
        usage(
            format!("{} cannot be read: {e}", path.display()),
            "name the file `audit.pub` of the broker",
        )
    };
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(&e))?;
    text.trim().parse().map_err(|e| unreadable(&e))
}

impl Desk {
    /// The key that the log's checkpoints are verified by: that of the configuration, or the one that was shown first. `None` where another is
    /// shown now, which is an alarm.
    fn log_key(&self, shown: Option<&str>) -> Result<Option<VerifierKey>, Failure> {
        let known = match &self.config.log_key {
            Some(path) => Some(log_key(path)?),
            None => self.spool.log_key()?.and_then(|t| t.parse().ok()),
        };
        let shown = match shown {
            None => return Ok(known),
            Some(text) => text.parse::<VerifierKey>().ok(),
        };
        match (known, shown) {
            (Some(known), Some(shown)) if known == shown => Ok(Some(known)),
            (None, Some(shown)) if shown.name() == self.config.broker_name.as_str() => {
                self.spool.put_log_key(&shown.to_string())?;
                Ok(Some(shown))
            }
            _ => {
                self.doubt("the broker shows another key of its log than before")?;
                Ok(None)
            }
        }
    }

    /// Says that something is wrong, once.
    fn doubt(&self, what: &str) -> Result<(), Failure> {
        if self.spool.doubt()?.as_deref() == Some(what) {
            return Ok(());
        }
        tracing::error!(what, "the broker's log is in doubt");
        self.spool.put_doubt(what)
    }

    /// Takes a checkpoint over that continues the one kept, and countersigns it; one that does not is evidence, and the broker is asked what it has
    /// in the place of the one kept. Gives what is to be said.
    pub(crate) fn see(
        &self,
        shown: &str,
        key: Option<&str>,
        proof: &[Digest],
    ) -> Result<Option<Frame>, Failure> {
        let Some(key) = self.log_key(key)? else {
            return Ok(None);
        };
        let Ok(head) = Checkpoint::verify(shown, &key).map(|c| c.head) else {
            self.doubt("the broker shows a checkpoint that the key of its log did not sign")?;
            return Ok(None);
        };
        let kept = self.spool.checkpoint()?;
        // What is kept was verified when it was taken over.
        let before = kept
            .as_deref()
            .and_then(|t| Checkpoint::verify(t, &key).ok());
        if let (Some(kept), Some(before)) = (&kept, before.map(|c| c.head)) {
            if before == head {
                return Ok(None);
            }
            if verify_consistency(&before, &head, proof).is_err() {
                let fork = Fork {
                    form: Fork::FORM.into(),
                    kept: kept.clone(),
                    shown: shown.into(),
                    root: None,
                    proof: vec![],
                    by: self.name.to_string(),
                    at: self.now(),
                };
                if before.size > head.size {
                    self.doubt("the broker's log is shorter than it was")?;
                    return self.evidence(&fork).map(|()| None);
                }
                // The proof may be from another size: ask for the one from what is kept.
                if self.questioned().replace(fork).is_some() {
                    self.doubt("the broker gives no proof that its log continues")?;
                }
                return Ok(Some(Frame::ProofGet {
                    request: GOES_ON,
                    of: ProofOf::Consistency {
                        first: before.size,
                        size: head.size,
                    },
                }));
            }
        }
        self.take_over(shown, head.size).map(Some)
    }

    fn take_over(&self, shown: &str, size: u64) -> Result<Frame, Failure> {
        self.spool.put_checkpoint(shown)?;
        let seconds = self.now().as_millis() / 1000;
        let line = Checkpoint::cosign(shown, self.name.as_str(), &self.witness, seconds);
        let key = VerifierKey::witness(self.name.as_str(), self.witness.public());
        Ok(Frame::Cosign {
            key: key.map_err(internal)?.to_string(),
            size,
            line: line.map_err(internal)?,
        })
    }

    /// The broker answers a question of [`Self::see`]. Gives what is to be said.
    pub(crate) fn answered_with(
        &self,
        request: u32,
        hashes: Option<Vec<Digest>>,
    ) -> Result<Option<Frame>, Failure> {
        if request != GOES_ON {
            self.rooted(hashes.and_then(|h| h.first().copied()))?;
            return Ok(None);
        }
        let (Some(fork), Some(key)) = (self.questioned().take(), self.log_key(None)?) else {
            return Ok(None);
        };
        let proof = hashes.unwrap_or_default();
        let fork = Fork { proof, ..fork };
        match fork.judge(&key) {
            Ok(Verdict::None) => {
                let size = Checkpoint::verify(&fork.shown, &key)
                    .map_err(internal)?
                    .head
                    .size;
                self.take_over(&fork.shown, size).map(Some)
            }
            Ok(Verdict::Proven { kept, .. } | Verdict::Suspected { kept, .. }) => {
                self.doubt("the broker's log does not continue the one it showed before")?;
                self.evidence(&fork)?;
                let of = ProofOf::Root { size: kept.size };
                Ok(Some(Frame::ProofGet { request: ROOT, of }))
            }
            Err(_) => Ok(None),
        }
    }

    /// The broker says what root it has for the size of the checkpoint kept: with that the evidence is complete.
    fn rooted(&self, root: Option<Digest>) -> Result<(), Failure> {
        let Some(fork) = self.spool.fork()? else {
            return Ok(());
        };
        if fork.root.is_none() && root.is_some() {
            self.evidence(&Fork { root, ..fork })?;
        }
        Ok(())
    }

    /// Keeps evidence in a file, one for each checkpoint that the log no longer continues, until it is proof.
    fn evidence(&self, fork: &Fork) -> Result<(), Failure> {
        let mut fork = fork.clone();
        if let Some(before) = self.spool.fork()?.filter(|b| b.kept == fork.kept) {
            let key = self.log_key(None)?;
            let verdict = key.as_ref().and_then(|k| before.judge(k).ok());
            if matches!(verdict, Some(Verdict::Proven { .. })) {
                return Ok(());
            }
            fork.at = before.at;
        }
        let text = serde_json::to_string_pretty(&fork).map_err(internal)?;
        let path = self.evidence_file(&fork);
        std::fs::write(&path, text + "\n").map_err(internal)?;
        tracing::error!(path = %path.display(), "evidence against the broker's log is kept");
        self.spool.put_fork(&fork)
    }

    fn evidence_file(&self, fork: &Fork) -> PathBuf {
        let name = format!("fork-{}.json", fork.at.as_millis());
        self.config.data.join(name)
    }

    /// What this node knows as a witness.
    pub(crate) fn witnessing(&self) -> Result<Value, Failure> {
        let key = self.log_key(None)?;
        let own = VerifierKey::witness(self.name.as_str(), self.witness.public());
        let kept = self.spool.checkpoint()?;
        let head = kept.as_deref().zip(key.as_ref());
        let head = head.and_then(|(t, key)| Checkpoint::verify(t, key).ok());
        let fork = self.spool.fork()?;
        let verdict = fork
            .as_ref()
            .zip(key.as_ref())
            .and_then(|(f, k)| f.judge(k).ok());
        Ok(json!({
            "witness": own.map_err(internal)?.to_string(), "log": key.map(|k| k.to_string()),
            "log_key_given": self.config.log_key.is_some(),
            "records": head.as_ref().map(|c| c.head.size), "root": head.map(|c| c.head.root),
            "doubt": self.spool.doubt()?,
            "proven": verdict.map(|v| matches!(v, Verdict::Proven { .. })),
            "evidence": fork.map(|f| self.evidence_file(&f)),
        }))
    }

    /// Forgets what was remembered of the log, once people have settled what happened. The files with evidence stay.
    pub(crate) fn forget_log(&self) -> Result<(), Failure> {
        tracing::warn!("what this node remembered of the broker's log is forgotten");
        self.spool.forget_log()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::House;
    use ordonnans_audit::TreeHead;
    use ordonnans_audit::merkle::{Frontier, consistency, leaf_hash, root};

    const BROKER: &str = "b1.broker.crisis.example";

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
    fn a_log_that_goes_on_is_countersigned_and_one_that_does_not_is_evidence() {
        let mut house = House::new();
        let (a, _) = house.pair();
        let key = SigningKey::from_seed(&[3; 32]).expect("a seed");
        let verifier = VerifierKey::new(BROKER, key.public()).expect("a name");
        let vkey = verifier.to_string();
        let sign = |head| {
            let origin = BROKER.into();
            Checkpoint { origin, head }.sign(&key).expect("signs")
        };
        let (good, hashes) = log(12, |n| n);
        let hash = |at: u64| hashes.get(usize::try_from(at).ok()?).copied();
        let proof = |from, to| consistency(&hash, from, to).expect("there");
        let said = a.see(&sign(good[5]), Some(&vkey), &[]).expect("seen");
        let Some(Frame::Cosign {
            key: witness,
            size: 5,
            line,
        }) = said
        else {
            panic!("{said:?}");
        };
        let both = Checkpoint::with_line(&sign(good[5]), &line).expect("room");
        let witness: VerifierKey = witness.parse().expect("a key");
        assert!(matches!(
            Checkpoint::witnessed(&both, &witness),
            Ok(Some(_))
        ));
        assert_eq!(
            a.see(&sign(good[5]), Some(&vkey), &[]).expect("seen"),
            None,
            "known"
        );
        let on = a.see(&sign(good[9]), None, &proof(5, 9)).expect("seen");
        assert!(matches!(on, Some(Frame::Cosign { size: 9, .. })));
        assert_eq!(a.witnessing().expect("known")["doubt"], Value::Null);
        // A proof from elsewhere is no lie: it is asked for again.
        let ask = a.see(&sign(good[10]), None, &[]).expect("seen");
        let of = ProofOf::Consistency { first: 9, size: 10 };
        assert_eq!(ask, Some(Frame::ProofGet { request: 1, of }));
        let on = a.answered_with(1, Some(proof(9, 10))).expect("taken");
        assert!(matches!(on, Some(Frame::Cosign { size: 10, .. })));
        assert_eq!(a.witnessing().expect("known")["doubt"], Value::Null);
        // Back to an older copy: noticed, and not yet proven.
        assert_eq!(a.see(&sign(good[7]), None, &[]).expect("seen"), None);
        assert_eq!(a.witnessing().expect("known")["proven"], false);
        // It has outgrown what is remembered, otherwise.
        let (other, hashes) = log(12, |n| if n < 7 { n } else { n + 100 });
        let hash = |at: u64| hashes.get(usize::try_from(at).ok()?).copied();
        let proof = consistency(&hash, 10, 12).expect("there");
        assert!(a.see(&sign(other[12]), None, &[]).expect("seen").is_some());
        let ask = a.answered_with(1, Some(proof)).expect("taken");
        let of = ProofOf::Root { size: 10 };
        assert_eq!(ask, Some(Frame::ProofGet { request: 2, of }));
        let answer = root(&hash, 10).map(|r| vec![r]);
        assert_eq!(a.answered_with(2, answer).expect("kept"), None);
        let known = a.witnessing().expect("known");
        assert_eq!(known["proven"], true);
        assert_eq!(known["records"], 10, "it still remembers the first");
        let file = known["evidence"].as_str().expect("a file");
        let fork: Fork =
            serde_json::from_slice(&std::fs::read(file).expect("there")).expect("JSON");
        assert!(matches!(fork.judge(&verifier), Ok(Verdict::Proven { .. })));
        a.forget_log().expect("forgotten");
        assert_eq!(a.witnessing().expect("known")["records"], Value::Null);
        assert!(std::path::Path::new(file).exists());
    }

    #[test]
    fn another_key_of_the_log_is_not_believed() {
        let mut house = House::new();
        let (a, _) = house.pair();
        let sign = |seed: u8, name: &str| {
            let key = SigningKey::from_seed(&[seed; 32]).expect("a seed");
            let origin = name.to_owned();
            let head = TreeHead {
                size: 1,
                root: ordonnans_message::sha256(&[b"root"]),
            };
            let text = Checkpoint { origin, head }.sign(&key).expect("signs");
            (
                text,
                VerifierKey::new(name, key.public())
                    .expect("a name")
                    .to_string(),
            )
        };
        let (foreign, of_foreign) = sign(4, "b2.broker.crisis.example");
        assert_eq!(a.see(&foreign, Some(&of_foreign), &[]).expect("seen"), None);
        let (first, of_first) = sign(3, BROKER);
        assert!(a.see(&first, Some(&of_first), &[]).expect("seen").is_some());
        let (second, of_second) = sign(4, BROKER);
        assert_eq!(a.see(&second, Some(&of_second), &[]).expect("seen"), None);
        assert_eq!(a.see(&second, Some(&of_first), &[]).expect("seen"), None);
        assert_eq!(a.spool.checkpoint().expect("read"), Some(first));
    }
}
