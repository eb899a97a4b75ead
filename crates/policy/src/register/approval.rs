//! Four eyes: which register may take force, and by whose signatures.

use std::collections::BTreeSet;

use ordonnans_label::Name;

use super::Register;

/// Signatures for a register that widens anybody's access, or is the first.
const TO_WIDEN: usize = 2;
/// Signatures for one that only takes away: at night one registrar can stop somebody.
const TO_NARROW: usize = 1;

/// A register that may take force. Only [`Register::approve`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    register: Register,
    by: BTreeSet<Name>,
}

impl Approved {
    /// The register.
    #[must_use]
    pub fn register(&self) -> &Register {
        &self.register
    }

    /// The registrars whose signatures counted.
    #[must_use]
    pub fn by(&self) -> &BTreeSet<Name> {
        &self.by
    }

    /// Both.
    #[must_use]
    pub fn into_parts(self) -> (Register, BTreeSet<Name>) {
        (self.register, self.by)
    }
}

/// Why a register does not take force. The one before stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unapproved {
    /// An older register, or another under the same number.
    #[error(
        "it has version {new}, and version {old} is in force; raise `version`, and sign it again"
    )]
    Version {
        /// Its version.
        new: u64,
        /// The version in force.
        old: u64,
    },
    /// Too few of those who may sign have.
    #[error(
        "it {why}, which takes the signatures of {needed} registrars, and has {had}; have one of {} sign it with `ordonnans-broker register sign`",
        Name::locals(.missing)
    )]
    Signatures {
        /// How many it takes.
        needed: usize,
        /// How many there are.
        had: usize,
        /// What takes them.
        why: String,
        /// Registrars who have not signed.
        missing: BTreeSet<Name>,
    },
}

impl Register {
    /// Whether this register may follow the one in force, given whose signatures over it are right. Who may sign, the register *in force* says; where
    /// that names no registrars, or there is none, the new one's own.
    ///
    /// # Errors
    /// [`Unapproved`]: the one in force stays; the text says what is missing.
    pub fn approve(
        self,
        in_force: Option<&Self>,
        signers: &BTreeSet<Name>,
    ) -> Result<Approved, Unapproved> {
        let said = in_force.filter(|r| r.digest == self.digest);
        let authority = in_force
            .map(Self::registrars)
            .filter(|r| !r.is_empty())
            .unwrap_or(&self.registrars);
        let by: BTreeSet<Name> = authority.intersection(signers).cloned().collect();
        if said.is_some() {
            return Ok(Approved { register: self, by });
        }
        if let Some(old) = in_force
            && self.version <= old.version
        {
            return Err(Unapproved::Version {
                new: self.version,
                old: old.version,
            });
        }
        let (needed, why) = match in_force {
            _ if authority.is_empty() => (0, String::new()),
            None => (TO_WIDEN, "is the first".to_owned()),
            Some(old) if old.registrars.is_empty() => {
                (TO_WIDEN, "is the first that names registrars".to_owned())
            }
            Some(old) => match old.changes(&self).into_iter().find(|c| c.widens) {
                Some(c) => (TO_WIDEN, format!("widens access ({}: {})", c.entry, c.what)),
                None => (TO_NARROW, "is another".to_owned()),
            },
        };
        if by.len() < needed {
            return Err(Unapproved::Signatures {
                needed,
                had: by.len(),
                why,
                missing: authority.difference(&by).cloned().collect(),
            });
        }
        Ok(Approved { register: self, by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(version: u64, level: &str, registrars: &str) -> Register {
        Register::parse(&format!(
            "version = {version}\nstructure = \"crisis.example\"\nregistrars = [{registrars}]\n\
             [[node]]\nname = \"ncc\"\ntitle = \"NCC\"\nclearance = \"{level}\"\nrijksdienst = true\naccredited_until = \"2036-01-01\"\nstanding = \"active\"\n\
             [[person]]\nname = \"a\"\nnode = \"ncc\"\nclearance = \"{level}\"\n\
             [[person]]\nname = \"b\"\nnode = \"ncc\"\nclearance = \"{level}\"\n\
             [[person]]\nname = \"c\"\nnode = \"ncc\"\nclearance = \"{level}\"\n"
        ))
        .expect("a register")
    }

    fn signed(locals: &[&str]) -> BTreeSet<Name> {
        let name = |l: &&str| {
            format!("{l}.person.crisis.example")
                .parse()
                .expect("a name")
        };
        locals.iter().map(name).collect()
    }

    const BOTH: &str = "\"a\", \"b\"";

    #[test]
    fn without_registrars_nobody_signs_but_the_version_rises() {
        let first = register(1, "Dep.V", "");
        let same = first.clone().approve(None, &signed(&[]));
        assert_eq!(same.expect("first").register(), &first);
        let again = first.clone().approve(Some(&first), &signed(&[]));
        assert_eq!(again.map(|a| a.by().len()), Ok(0), "the same again");
        let other = register(1, "Stg.C", "").approve(Some(&first), &signed(&[]));
        assert_eq!(other, Err(Unapproved::Version { new: 1, old: 1 }));
        assert!(
            register(2, "Stg.C", "")
                .approve(Some(&first), &signed(&[]))
                .is_ok()
        );
    }

    #[test]
    fn the_first_takes_two_of_its_own() {
        let first = register(1, "Dep.V", BOTH);
        let e = first
            .clone()
            .approve(None, &signed(&["a", "c"]))
            .expect_err("one of them");
        assert!(
            e.to_string()
                .contains("2 registrars, and has 1; have one of b sign"),
            "{e}"
        );
        let both = first
            .clone()
            .approve(None, &signed(&["a", "b", "c"]))
            .expect("both");
        assert_eq!(both.by(), &signed(&["a", "b"]));
        // Also after one that named none.
        let bare = register(1, "Dep.V", "");
        assert!(
            register(2, "Dep.V", BOTH)
                .approve(Some(&bare), &signed(&["a"]))
                .is_err_and(|e| e.to_string().contains("first that names registrars"))
        );
        assert!(
            register(2, "Dep.V", BOTH)
                .approve(Some(&bare), &signed(&["a", "b"]))
                .is_ok()
        );
    }

    #[test]
    fn two_to_widen_one_to_narrow() {
        let old = register(1, "Stg.C", BOTH);
        let narrower = || register(2, "Dep.V", BOTH);
        assert!(narrower().approve(Some(&old), &signed(&["a"])).is_ok());
        assert!(narrower().approve(Some(&old), &signed(&["c"])).is_err());
        let wider = || register(2, "Stg.G", BOTH);
        let e = wider()
            .approve(Some(&old), &signed(&["a"]))
            .expect_err("one");
        assert!(e.to_string().contains("widens access (node ncc"), "{e}");
        assert!(wider().approve(Some(&old), &signed(&["a", "b"])).is_ok());
    }

    #[test]
    fn who_may_sign_is_not_for_the_new_one_to_say() {
        let old = register(1, "Stg.C", BOTH);
        let own = || register(2, "Stg.C", "\"b\", \"c\"");
        assert!(own().approve(Some(&old), &signed(&["b", "c"])).is_err());
        assert!(own().approve(Some(&old), &signed(&["a", "b"])).is_ok());
        let none = register(2, "Stg.C", "").approve(Some(&old), &signed(&["a"]));
        assert!(none.is_err(), "to do without takes two, too");
    }
}
