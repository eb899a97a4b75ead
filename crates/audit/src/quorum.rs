//! Whom a checkpoint must be signed by: a policy in the form of C2SP tlog-policy.
//!
//! A text of lines: `log VKEY`, `witness NAME VKEY`, `group NAME K|any|all NAME…`, `quorum NAME|none`; `#` begins a comment. Nothing can be
//! named before its own line.

use std::collections::BTreeMap;

use crate::{Checkpoint, InvalidCheckpoint, VerifierKey};

/// Lines of a policy.
const MAX_LINES: usize = 1024;

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    logs: Vec<VerifierKey>,
    named: BTreeMap<String, Member>,
    quorum: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Member {
    Witness(VerifierKey),
    Group(usize, Vec<String>),
}

/// A text that is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the policy: {why}")]
pub struct InvalidQuorum {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong.
    pub why: &'static str,
}

/// What the signatures below a checkpoint amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// Who countersigned, and when in seconds since 1970.
    pub by: Vec<(String, u64)>,
    /// Whether that is enough.
    pub enough: bool,
}

impl Quorum {
    /// A policy that asks for the log's own signature alone.
    #[must_use]
    pub fn of_log(log: VerifierKey) -> Self {
        Self {
            logs: vec![log],
            named: BTreeMap::new(),
            quorum: None,
        }
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// [`InvalidQuorum`] names the line.
    pub fn parse(text: &str) -> Result<Self, InvalidQuorum> {
        let (mut logs, mut named, mut quorum) = (vec![], BTreeMap::new(), None);
        for (i, line) in text.lines().enumerate() {
            let wrong = |why| InvalidQuorum { line: i + 1, why };
            if i >= MAX_LINES {
                return Err(wrong("there are more than 1,024 lines"));
            }
            let mut words = line
                .split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace();
            let Some(kind) = words.next() else {
                continue;
            };
            let words: Vec<&str> = words.collect();
            let key = |text: &str| {
                let key: VerifierKey = text.parse().map_err(|_| wrong("not a verifier key"))?;
                Ok::<_, InvalidQuorum>(key)
            };
            match (kind, words.as_slice()) {
                ("log", [vkey, ..]) => {
                    let key = key(vkey)?;
                    if key.is_witness() {
                        return Err(wrong("the key of a witness where a log's belongs"));
                    }
                    logs.push(key);
                }
                ("witness", [name, vkey, ..]) => {
                    let key = key(vkey)?;
                    if !key.is_witness() {
                        return Err(wrong("the key of a log where a witness's belongs"));
                    }
                    if *name == "none"
                        || named
                            .insert((*name).to_owned(), Member::Witness(key))
                            .is_some()
                    {
                        return Err(wrong("the name is taken"));
                    }
                }
                ("group", [name, least, members @ ..]) => {
                    let known = members.iter().all(|m| named.contains_key(*m));
                    let mut once = members.to_vec();
                    once.sort_unstable();
                    once.dedup();
                    if !known || once.len() != members.len() {
                        return Err(wrong("a member that is not named above, or named twice"));
                    }
                    let least = match *least {
                        "any" => 1,
                        "all" => members.len(),
                        n => n
                            .parse()
                            .map_err(|_| wrong("not a number, `any` or `all`"))?,
                    };
                    if least == 0 || least > members.len() {
                        return Err(wrong("it asks for nobody, or for more than there are"));
                    }
                    let group = Member::Group(least, members.iter().map(|m| (*m).into()).collect());
                    if *name == "none" || named.insert((*name).to_owned(), group).is_some() {
                        return Err(wrong("the name is taken"));
                    }
                }
                ("quorum", [name]) if quorum.is_none() => {
                    if *name != "none" && !named.contains_key(*name) {
                        return Err(wrong("a quorum that is not named above"));
                    }
                    quorum = Some((*name).to_owned());
                }
                _ => return Err(wrong("not `log`, `witness`, `group` or the one `quorum`")),
            }
        }
        let end = InvalidQuorum {
            line: text.lines().count(),
            why: "there is no `log`, or no `quorum`",
        };
        if logs.is_empty() || quorum.is_none() {
            return Err(end);
        }
        Ok(Self {
            logs,
            named,
            quorum: quorum.filter(|n| n != "none"),
        })
    }

    /// The logs it is about.
    #[must_use]
    pub fn logs(&self) -> &[VerifierKey] {
        &self.logs
    }

    /// Reads a checkpoint, checks the log's signature and counts the witnesses'.
    ///
    /// # Errors
    /// [`InvalidCheckpoint`]: no log of the policy signed it, or a signature by a key of the policy does not fit. That there are too few witnesses
    /// is no error here: [`Witnessed::enough`].
    pub fn verify(&self, text: &str) -> Result<(Checkpoint, Witnessed), InvalidCheckpoint> {
        let mut verified = Err(InvalidCheckpoint::Unsigned);
        for log in &self.logs {
            verified = Checkpoint::verify(text, log);
            if !matches!(
                verified,
                Err(InvalidCheckpoint::Origin | InvalidCheckpoint::Unsigned)
            ) {
                break;
            }
        }
        let checkpoint = verified?;
        let mut by = vec![];
        for (name, member) in &self.named {
            if let Member::Witness(key) = member
                && let Some(at) = Checkpoint::witnessed(text, key)?
            {
                by.push((name.clone(), at));
            }
        }
        let enough = self.quorum.as_ref().is_none_or(|q| self.holds(q, &by));
        Ok((checkpoint, Witnessed { by, enough }))
    }

    fn holds(&self, name: &str, by: &[(String, u64)]) -> bool {
        match self.named.get(name) {
            None => false,
            Some(Member::Witness(_)) => by.iter().any(|(n, _)| n == name),
            // A group names only what stands above it, so this ends.
            Some(Member::Group(least, members)) => {
                members.iter().filter(|m| self.holds(m, by)).count() >= *least
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TreeHead;
    use ordonnans_identity::ed25519::SigningKey;
    use ordonnans_message::sha256;

    #[test]
    fn a_quorum_of_groups_is_counted() {
        let seed = |n: u8| SigningKey::from_seed(&[n; 32]).expect("a seed");
        let log = VerifierKey::new("b1.broker.crisis.example", seed(1).public()).expect("a name");
        let witness = |n: u8| {
            let name = format!("w{n}.node.crisis.example");
            let key = VerifierKey::witness(&name, seed(n).public()).expect("a name");
            (name, key)
        };
        let mut text = format!("log {log}\n");
        for n in 2..=5 {
            text.push_str(&format!("witness w{n} {} # a node\n", witness(n).1));
        }
        text.push_str("group zone any w2 w3\ngroup all-of-them 2 zone w4 w5\nquorum all-of-them\n");
        let policy = Quorum::parse(&text).expect("a policy");
        let head = TreeHead {
            size: 9,
            root: sha256(&[b"root"]),
        };
        let origin = "b1.broker.crisis.example".into();
        let signed = Checkpoint { origin, head }.sign(&seed(1)).expect("signs");
        let with = |all: &[u8]| {
            all.iter().fold(signed.clone(), |text, n| {
                let line = Checkpoint::cosign(&text, &witness(*n).0, &seed(*n), 7).expect("signs");
                Checkpoint::with_line(&text, &line).expect("room")
            })
        };
        for (by, enough) in [
            (&[][..], false),
            (&[2, 3], false),
            (&[4], false),
            (&[3, 4], true),
            (&[4, 5], true),
        ] {
            let (checkpoint, witnessed) = policy.verify(&with(by)).expect("signed");
            assert_eq!(
                (checkpoint.head, witnessed.enough, witnessed.by.len()),
                (head, enough, by.len())
            );
        }
        let none = text.replace("quorum all-of-them", "quorum none");
        assert!(
            Quorum::parse(&none)
                .expect("a policy")
                .verify(&signed)
                .expect("signed")
                .1
                .enough
        );
        for (bad, line) in [
            ("log nonsense\n".to_owned(), 1),
            (format!("witness w {log}\n"), 1),
            (format!("log {}\n", witness(2).1), 1),
            (format!("log {log}\ngroup g any x\n"), 2),
            (format!("log {log}\nquorum g\n"), 2),
            (format!("log {log}\n"), 1),
            (text.replace("all-of-them 2", "all-of-them 4"), 7),
            (text.replace("zone any w2 w3", "zone any w2 w2"), 6),
            (text.replace("witness w3", "witness w2"), 3),
        ] {
            assert_eq!(Quorum::parse(&bad).expect_err(&bad).line, line, "{bad}");
        }
    }
}
