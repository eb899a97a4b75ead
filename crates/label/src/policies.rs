//! The policies in force together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use crate::policy::part;
use crate::{
    Confidentiality, InvalidPolicy, InvalidUnderPolicy, Language, Level, Policy, PolicyId,
    PolicyLevel,
};

/// Policies in force together.
pub const MAX_POLICIES: usize = 64;

/// The policies in force, by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policies(BTreeMap<PolicyId, Arc<Policy>>);

impl Policies {
    /// NL, NATO and EU.
    #[must_use]
    pub fn built_in() -> &'static Self {
        static BUILT_IN: LazyLock<Policies> = LazyLock::new(|| {
            let texts = [
                include_str!("../policies/nl.toml"),
                include_str!("../policies/nato.toml"),
                include_str!("../policies/eu.toml"),
            ];
            let read = |t| Policy::parse(t).expect("a test reads each built-in policy");
            Policies(
                texts
                    .map(read)
                    .map(|p| (p.id().clone(), Arc::new(p)))
                    .into_iter()
                    .collect(),
            )
        });
        &BUILT_IN
    }

    /// Adds a policy from a file. One with the id of a built-in policy takes its place where its version is higher.
    ///
    /// # Errors
    /// [`InvalidPolicy::Part`]: the id is there already and the version is not higher, the object identifier is another policy's, a marking is
    /// another policy's, or there are more than [`MAX_POLICIES`].
    pub fn add(&mut self, policy: Policy) -> Result<(), InvalidPolicy> {
        let what = format!("policy {}", policy.id());
        if self
            .0
            .get(policy.id())
            .is_some_and(|old| old.version() >= policy.version())
        {
            return Err(part(
                what,
                "it is known already with this or a higher version; raise `version`",
            ));
        }
        let others = || self.0.values().filter(|p| p.id() != policy.id());
        if others().any(|p| p.oid() == policy.oid()) {
            return Err(part(what, "another policy has its oid"));
        }
        let theirs: BTreeSet<String> = others()
            .flat_map(|p| p.levels())
            .flat_map(|l| l.marking.each().map(squeezed))
            .collect();
        let clash = policy
            .levels()
            .iter()
            .flat_map(|l| l.marking.each())
            .any(|m| theirs.contains(&squeezed(m)));
        if clash {
            return Err(part(
                what,
                "a marking of one of its levels is that of another policy: a reader could not tell them apart",
            ));
        }
        if self.0.len() >= MAX_POLICIES && !self.0.contains_key(policy.id()) {
            return Err(part(what, "at most 64 policies are in force together"));
        }
        self.0.insert(policy.id().clone(), Arc::new(policy));
        Ok(())
    }

    /// A policy by id.
    #[must_use]
    pub fn get(&self, id: &PolicyId) -> Option<&Policy> {
        self.0.get(id).map(|p| &**p)
    }

    /// A policy by object identifier.
    #[must_use]
    pub fn of_oid(&self, oid: &str) -> Option<&Policy> {
        self.iter().find(|p| p.oid() == oid)
    }

    /// Every policy, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.0.values().map(|p| &**p)
    }

    /// Whether a label is valid under its policy, as [`Policy::check`].
    ///
    /// # Errors
    /// [`InvalidUnderPolicy`].
    pub fn check(&self, c: &Confidentiality) -> Result<(), InvalidUnderPolicy> {
        self.get(c.policy())
            .ok_or_else(|| InvalidUnderPolicy::Policy(c.policy().clone()))?
            .check(c)
    }

    /// How a label is shown to people, by its policy.
    #[must_use]
    pub fn marking(&self, c: &Confidentiality, language: Language) -> String {
        self.get(c.policy()).map_or_else(
            || format!("{} {}", c.policy(), c.classification()),
            |p| p.marking(c, language),
        )
    }

    /// The policy and level that a text names: the Dutch spellings, `POLICY LEVEL`, or a marking of a level in either language. Case, dots
    /// and spaces do not matter.
    #[must_use]
    pub fn level(&self, text: &str) -> Option<(&Policy, &PolicyLevel)> {
        let bare = text.strip_prefix("NL ").unwrap_or(text);
        if let Ok(level) = bare.parse::<Level>()
            && let Some(nl) = self.get(&PolicyId::nl())
            && let Some(l) = nl.equivalent(level)
        {
            return Some((nl, l));
        }
        if text.len() > 256 {
            return None;
        }
        let wanted = squeezed(text);
        self.iter().find_map(|p| {
            let l = p.levels().iter().find(|l| {
                squeezed(&format!("{} {}", p.id(), l.classification)) == wanted
                    || l.marking.each().into_iter().any(|m| squeezed(m) == wanted)
            })?;
            Some((p, l))
        })
    }
}

/// For comparing what people type: capitals, without dots, spaces, hyphens and underscores.
fn squeezed(s: &str) -> String {
    s.chars()
        .filter(|c| !matches!(c, '.' | ' ' | '-' | '_' | '\u{a0}'))
        .flat_map(char::to_uppercase)
        .collect()
}
