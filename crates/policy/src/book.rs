//! The policies in force, with the digests by which audit records cite them.

use std::collections::BTreeMap;

use ordonnans_label::{Policies, PolicyId};
use ordonnans_message::{Digest, sha256};

/// The policies in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    policies: Policies,
    digests: BTreeMap<PolicyId, Digest>,
    digest: Digest,
}

impl Book {
    /// These policies.
    #[must_use]
    pub fn new(policies: Policies) -> Self {
        let digests: BTreeMap<PolicyId, Digest> = policies
            .iter()
            .map(|p| (p.id().clone(), sha256(&[p.text().as_bytes()])))
            .collect();
        let all: Vec<&[u8]> = digests.values().map(|d| &d.as_bytes()[..]).collect();
        let digest = sha256(&all);
        Self {
            policies,
            digests,
            digest,
        }
    }

    /// The built-in policies alone.
    #[must_use]
    pub fn built_in() -> Self {
        Self::new(Policies::built_in().clone())
    }

    /// The policies.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// SHA-256 of the text of a policy, or `None` for one that is not in force.
    #[must_use]
    pub fn digest_of(&self, id: &PolicyId) -> Option<Digest> {
        self.digests.get(id).copied()
    }

    /// SHA-256 over the digests of all, by id: what a change of any policy changes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}
