//! Whom a message is for: names as they are typed, and groups as the broker expands them.
//!
//! Content is sealed where it is written, so the daemon must know the members of a group before the broker does: it asks. The broker expands the group again
//! when it accepts the message; who is no member any more by then, or may not have it, is left out and counted.

use std::collections::BTreeMap;

use ordonnans_label::{Kind, Level, Name};
use ordonnans_message::{
    Addressed, Addressee, Group, Members, Precedence, Recipient, Role, SignedKeyPackage,
};
use ordonnans_seal::{Verified, verify_statement};

use crate::address::Address;
use crate::desk::{Desk, usage};
use crate::failure::{Exit, Failure};
use crate::local::Submission;

/// Keys to seal to, and who has none, with why.
pub(crate) type Keys = (Vec<Verified<SignedKeyPackage>>, Vec<(Name, String)>);

/// What the broker said of groups.
pub(crate) type Expanded = BTreeMap<Group, Members>;

/// Recipients and groups, as a header has them.
#[derive(Debug)]
pub(crate) struct To {
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) groups: Vec<Addressed>,
}

/// A line of the addresses.
enum One {
    Named(Address),
    Group(Group),
}

impl Submission {
    fn lines(&self) -> impl Iterator<Item = (&String, Role)> {
        let all = self.to.iter().map(|t| (t, Role::Action));
        all.chain(self.info.iter().map(|t| (t, Role::Info)))
    }

    /// The groups it is for, each once.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let mut all: Vec<Group> = self.lines().filter_map(|(t, _)| t.parse().ok()).collect();
        all.sort();
        all.dedup();
        all
    }
}

impl Desk {
    fn one(&self, text: &str) -> Result<One, Failure> {
        if text.contains(':') {
            let group = text.parse().map_err(|e| {
                usage(
                    format!("'{}' is {e}", text.chars().take(80).collect::<String>()),
                    "the register names roles, circles and lists",
                )
            });
            return group.map(One::Group);
        }
        let address = Address::parse(text, self.name.structure())
            .map_err(|e| usage(e.to_string(), "`ordonnans directory` lists the nodes"))?;
        Ok(One::Named(address))
    }

    /// Whom a message of a level is for. Members of groups whose key is not known are left out.
    pub(crate) fn addressed(
        &self,
        s: &Submission,
        level: Level,
        expanded: &Expanded,
    ) -> Result<To, Failure> {
        let precedence = |text: &str| -> Result<Precedence, Failure> {
            text.parse()
                .map_err(|e| usage(format!("{e}"), "for example -p IMMEDIATE, or O"))
        };
        let action = precedence(&s.precedence)?;
        let info = s.info_precedence.as_deref().map(precedence).transpose()?;
        let recipient = |node: Name, person: Option<Name>, role| Recipient {
            node,
            person,
            role,
            precedence: match role {
                Role::Action => action,
                Role::Info => info.unwrap_or(action),
            },
        };
        let (mut recipients, mut of_groups) = (vec![], vec![]);
        for (text, role) in s.lines() {
            match self.one(text)? {
                One::Named(a) => recipients.push(recipient(a.node, a.person, role)),
                One::Group(group) => of_groups.push((group, role)),
            }
        }
        let named = recipients.len();
        let mut groups = BTreeMap::<Group, Vec<u16>>::new();
        for (group, role) in of_groups {
            let Some(members) = expanded.get(&group) else {
                return Err(Failure::new(
                    Exit::Refused,
                    format!("the register has no {group} that this node may write to"),
                    "ask your security officer which groups there are; nodes and persons can be named",
                ));
            };
            for Addressee { node, person } in &members.may {
                let r = recipient(node.clone(), person.clone(), role);
                let same = |x: &Recipient| x.node == r.node && x.person == r.person;
                let place = match recipients.iter().position(same) {
                    // Who is named is named.
                    Some(place) if place < named => continue,
                    Some(place) => place,
                    None if !self.keys_of(std::slice::from_ref(&r), level)?.1.is_empty() => {
                        continue;
                    }
                    None => {
                        recipients.push(r);
                        recipients.len() - 1
                    }
                };
                let place = u16::try_from(place).unwrap_or(u16::MAX);
                let places = groups.entry(group.clone()).or_default();
                if !places.contains(&place) {
                    places.push(place);
                }
            }
            // A group without members that can be reached stands there all the same: the log has whom it was for.
            groups.entry(group).or_default();
        }
        if recipients.is_empty() {
            return Err(Failure::new(
                Exit::Refused,
                "no member of these groups may have this message and has a key to seal to",
                "check the label; name nodes or persons",
            ));
        }
        let groups = groups.into_iter().map(|(group, mut members)| {
            members.sort_unstable();
            Addressed { group, members }
        });
        Ok(To {
            recipients,
            groups: groups.collect(),
        })
    }

    /// The keys of every named recipient at a level; the names without one, each with why.
    pub(crate) fn keys(&self, s: &Submission, level: Level) -> Result<Keys, Failure> {
        let mut named = vec![];
        for (text, role) in s.lines() {
            if let One::Named(a) = self.one(text)? {
                named.push(Recipient {
                    node: a.node,
                    person: a.person,
                    role,
                    precedence: Precedence::Routine,
                });
            }
        }
        self.keys_of(&named, level)
    }

    /// From Stg.G up the keys are those of the persons who are named, below those of nodes. A key whose owner's certificate is revoked or has
    /// ended counts as none, and so does a stale one.
    pub(crate) fn keys_of(&self, recipients: &[Recipient], level: Level) -> Result<Keys, Failure> {
        let (trust, now) = (self.trust(), self.now());
        let (mut keys, mut missing) = (vec![], vec![]);
        for r in recipients {
            let person = r.person.as_ref().filter(|_| level >= Level::StgG);
            let owner = person.unwrap_or(&r.node);
            let mut no = |why: String| missing.push((owner.clone(), why));
            let listed = self.spool.listed(owner)?;
            let Some(package) = listed.and_then(|l| l.package()) else {
                no("has published no key to seal to".into());
                continue;
            };
            match verify_statement(package, &trust, now) {
                Err(e) => no(format!("has a key that cannot be believed: {e}")),
                Ok(p) if p.get().said().name != *owner => {
                    no("is listed with a key that is not its own".into());
                }
                Ok(p) if p.get().said().not_after <= now => no("has a key that is stale".into()),
                Ok(p) => keys.push(p),
            }
        }
        Ok((keys, missing))
    }

    /// The keys of all recipients.
    pub(crate) fn all_known(
        &self,
        recipients: &[Recipient],
        level: Level,
    ) -> Result<Vec<Verified<SignedKeyPackage>>, Failure> {
        let (keys, missing) = self.keys_of(recipients, level)?;
        match missing.first() {
            None => Ok(keys),
            Some((owner, why)) => Err(Failure::new(
                Exit::Refused,
                format!("{owner} {why}"),
                match owner.kind() {
                    Kind::Person => {
                        "that person publishes one with `ordonnans key publish`; `ordonnans directory` shows who has"
                    }
                    _ => {
                        "check the name with `ordonnans directory`; a node's daemon publishes a key when it connects"
                    }
                },
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::{House, message, name};

    #[test]
    fn groups_are_sealed_to_their_members_and_who_is_named_stays_named() {
        let mut house = House::new();
        let (a, _) = house.pair();
        let group: Group = "list:avond".parse().expect("a group");
        let role: Group = "role:piket".parse().expect("a group");
        let node = |local| Addressee {
            node: name(local, Kind::Node),
            person: None,
        };
        let at = |person, n| Addressee {
            person: Some(name(person, Kind::Person)),
            ..node(n)
        };
        let expanded: Expanded = [
            (
                group.clone(),
                Members {
                    // The second has no key, and is left out.
                    may: vec![node("locc"), node("vr"), at("bos", "locc")],
                    left_out: 1,
                },
            ),
            (
                role.clone(),
                Members {
                    may: vec![at("bos", "locc")],
                    left_out: 0,
                },
            ),
        ]
        .into();
        let mut m = message(&["locc", "list:avond"], b"x");
        m.info = vec!["role:piket".into()];
        m.info_precedence = Some("DEFERRED".into());
        m.precedence = "FLASH".into();
        assert_eq!(m.groups(), [role.clone(), group.clone()]);
        let to = a
            .addressed(&m, Level::Ongerubriceerd, &expanded)
            .expect("addressed");
        let who: Vec<_> = to
            .recipients
            .iter()
            .map(|r| (r.person.is_some(), r.role, r.precedence))
            .collect();
        assert_eq!(
            who,
            [
                (false, Role::Action, Precedence::Flash),
                (true, Role::Action, Precedence::Flash)
            ]
        );
        let places: Vec<_> = to
            .groups
            .iter()
            .map(|g| (&g.group, &g.members[..]))
            .collect();
        assert_eq!(places, [(&role, &[1][..]), (&group, &[1][..])]);
        let id = a.submit_to(&m, &expanded).expect("submitted");
        assert!(a.outbox().attachments(&id).is_some());
        for (to, says) in [
            ("list:ochtend", "has no list:ochtend"),
            ("node:locc", "is not a group"),
        ] {
            let e = a.addressed(&message(&[to], b"x"), Level::Ongerubriceerd, &expanded);
            assert!(e.expect_err(to).to_string().contains(says), "{to}");
        }
        let nobody = [(group, Members::default())].into();
        let e = a.addressed(
            &message(&["list:avond"], b"x"),
            Level::Ongerubriceerd,
            &nobody,
        );
        assert!(e.expect_err("nobody").to_string().contains("no member"));
    }
}
