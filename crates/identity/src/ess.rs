//! The security label of Enhanced Security Services (RFC 2634 section 3.2), DER: what XEP-0258 calls an ESS label.
//!
//! It has numbers where STANAG 4774 has names: the object identifier of the policy, the code of the level, and security categories, whose
//! types and values are those of clearances ([`crate::clearance`]). So the same set and value have one number, in a label and in a certificate. It has
//! no place for a duration or the legal act: a label from elsewhere is read without.
//!
//! A category that the policy does not have is refused, for it may be what keeps somebody out.

use std::collections::BTreeSet;

use ordonnans_label::{CategoryType, Confidentiality, Policies, Value};

use crate::certified::{Unwritable, takes, type_of};
use crate::clearance::{TYPE, VALUE, texts};
use crate::der::{INTEGER, OID, PRINTABLE, SEQUENCE, SET, UTF8, next, only, tlv};
use crate::oid;

/// Bytes of a label: categories at the bounds of a policy.
pub const MAX_DER_BYTES: usize = 64 * 1024;

/// Why bytes are no security label that is understood here. Nothing was taken from them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecurityLabel {
    /// Not a DER `ESSSecurityLabel`, or longer than [`MAX_DER_BYTES`].
    #[error("the label has not the form of RFC 2634 section 3.2")]
    Form,
    /// The policy is not known here, or none is named.
    #[error("no policy with the object identifier '{0}' is known here; add its file")]
    Policy(String),
    /// No classification, or one that the policy does not have.
    #[error("the policy has no level with the number {0}")]
    Level(u64),
    /// A category that the policy does not have.
    #[error("the policy has no set '{0}', and it may be what keeps somebody out")]
    Category(String),
    /// A value that cannot stand there.
    #[error("the set '{0}' does not take what stands there")]
    Value(String),
}

/// A label, DER. What it says is not checked: ask `Policies::check` first.
///
/// # Errors
/// [`Unwritable`] names what the policies do not have, or what has no number.
pub fn to_der(c: &Confidentiality, policies: &Policies) -> Result<Vec<u8>, Unwritable> {
    let policy = policies
        .get(c.policy())
        .ok_or_else(|| Unwritable::Policy(c.policy().clone()))?;
    let id = |dotted: &str| oid::to_der(dotted).ok_or_else(|| Unwritable::Oid(dotted.into()));
    let level = policy
        .level(c.classification().name())
        .filter(|l| l.classification == *c.classification())
        .ok_or_else(|| Unwritable::Level {
            policy: c.policy().clone(),
            name: c.classification().name().into(),
        })?;
    // A code above 127 takes a second octet, for an INTEGER has a sign.
    let number = match level.code {
        n @ 0..=0x7f => vec![n],
        n => vec![0, n],
    };
    // The parts of a SET stand in the order of their tags (ITU-T X.690 section 10.3).
    let mut body = [tlv(INTEGER, &number), tlv(OID, &id(policy.oid())?)].concat();
    let mut categories = vec![];
    for kind in CategoryType::ALL {
        for (name, values) in c.categories(kind) {
            let mut sets = policy.sets().iter();
            let set = sets.find(|s| s.kind == kind && s.name == *name);
            let bad = values.iter().find(|v| !set.is_some_and(|s| takes(s, v)));
            let (Some(set), None) = (set, bad) else {
                let value = bad.or(values.first()).cloned();
                return Err(
                    value.map_or(Unwritable::Nothing, |value| Unwritable::Value {
                        policy: c.policy().clone(),
                        set: name.clone(),
                        value,
                    }),
                );
            };
            // An emptied permissive set is nobody, and must be said.
            if values.is_empty() && kind != CategoryType::Permissive {
                continue;
            }
            let texts: Vec<u8> = values
                .iter()
                .flat_map(|v| tlv(UTF8, v.as_str().as_bytes()))
                .collect();
            let kind = tlv(TYPE, &id(&type_of(policy, set))?);
            let value = tlv(VALUE, &tlv(SEQUENCE, &texts));
            categories.push(tlv(SEQUENCE, &[kind, value].concat()));
        }
    }
    if !categories.is_empty() {
        categories.sort();
        body.extend(tlv(SET, &categories.concat()));
    }
    Ok(tlv(SET, &body))
}

/// The label that these bytes are under the policies in force.
///
/// # Errors
/// [`InvalidSecurityLabel`]; the label goes back to whoever made it.
pub fn from_der(
    bytes: &[u8],
    policies: &Policies,
) -> Result<Confidentiality, InvalidSecurityLabel> {
    let form = InvalidSecurityLabel::Form;
    if bytes.len() > MAX_DER_BYTES {
        return Err(form);
    }
    let mut body = only(bytes, SET).ok_or(form.clone())?;
    let number = match body.first() {
        Some(&INTEGER) => {
            Some(integer(next(&mut body, INTEGER).ok_or(form.clone())?).ok_or(form.clone())?)
        }
        _ => None,
    };
    let id = next(&mut body, OID).ok_or(form.clone())?;
    let id = oid::to_dotted(id).ok_or(form.clone())?;
    let policy = policies
        .of_oid(&id)
        .ok_or(InvalidSecurityLabel::Policy(id))?;
    let number = number.ok_or(InvalidSecurityLabel::Level(0))?;
    let mut levels = policy.levels().iter();
    let level = levels
        .find(|l| u64::from(l.code) == number)
        .ok_or(InvalidSecurityLabel::Level(number))?;
    let mut c = Confidentiality::under(policy.id().clone(), level.classification.clone());
    // A privacy mark is shown by who made it and decides nothing.
    if let Some(&tag) = body.first()
        && (tag == UTF8 || tag == PRINTABLE)
    {
        next(&mut body, tag).ok_or(form.clone())?;
    }
    let mut list = if body.is_empty() {
        body
    } else {
        only(body, SET).ok_or(form.clone())?
    };
    let mut seen = BTreeSet::new();
    while !list.is_empty() {
        let mut category = next(&mut list, SEQUENCE).ok_or(form.clone())?;
        let kind = next(&mut category, TYPE).ok_or(form.clone())?;
        let kind = oid::to_dotted(kind).ok_or(form.clone())?;
        let mut sets = policy.sets().iter();
        let set = sets
            .find(|s| type_of(policy, s) == kind)
            .ok_or_else(|| InvalidSecurityLabel::Category(kind.clone()))?;
        if !seen.insert(kind) {
            return Err(form);
        }
        let values = only(category, VALUE).and_then(texts).ok_or(form.clone())?;
        let wrong = || InvalidSecurityLabel::Value(set.name.to_string());
        if values.is_empty() && set.kind == CategoryType::Permissive {
            c = c.for_nobody_of(&set.name).map_err(|_| wrong())?;
        }
        for v in values {
            let text = match v {
                crate::CategoryValue::Text(t) => t,
                crate::CategoryValue::Other(_) => return Err(wrong()),
            };
            let value: Value = text.parse().map_err(|_| wrong())?;
            // Letter for letter: what is compared in capitals is written so.
            if value.as_str() != text || !takes(set, &value) {
                return Err(wrong());
            }
            c = c
                .with_value(set.kind, &set.name, &text)
                .map_err(|_| wrong())?;
        }
    }
    Ok(c)
}

/// A number from 0 to 256 and above, in its shortest form; never below 0.
fn integer(content: &[u8]) -> Option<u64> {
    match content {
        [] => None,
        [first, ..] if first & 0x80 != 0 => None,
        [0, second, ..] if second & 0x80 == 0 => None,
        long if long.len() > 8 => None,
        all => Some(all.iter().fold(0, |n, b| n << 8 | u64::from(*b))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ordonnans_label::Policy;
    use proptest::prelude::*;

    fn policies() -> Policies {
        let mut all = Policies::built_in().clone();
        // As the example of XEP-0258 has it: the policy 1.1, the level 4.
        let text = "id = \"X\"\noid = \"1.1\"\nversion = 1\ntitle = { nl = \"x\", en = \"x\" }\n\
            [[level]]\nname = \"A\"\ncode = 4\nequals = \"Stg.C\"\nmarking = { nl = \"X A\", en = \"X A\" }\ncolour = \"#000000\"\n\
            [[level]]\nname = \"B\"\ncode = 200\nequals = \"Stg.G\"\nmarking = { nl = \"X B\", en = \"X B\" }\ncolour = \"#000000\"\n";
        all.add(Policy::parse(text).expect("a policy"))
            .expect("it fits");
        all
    }

    fn label(text: &str) -> Confidentiality {
        policies().read(text).expect(text).confidentiality
    }

    #[test]
    fn the_example_of_xep_0258() {
        let bytes = [0x31, 6, 2, 1, 4, 6, 1, 0x29];
        assert_eq!(from_der(&bytes, &policies()), Ok(label("X A")));
        assert_eq!(to_der(&label("X A"), &policies()), Ok(bytes.to_vec()));
        let high = [0x31, 7, 2, 2, 0, 200, 6, 1, 0x29];
        assert_eq!(to_der(&label("X B"), &policies()), Ok(high.to_vec()));
        assert_eq!(from_der(&high, &policies()), Ok(label("X B")));
    }

    #[test]
    fn labels_there_and_back() {
        for text in [
            "Ongerubriceerd",
            "Stg.G // KRING ICCB, NAFIN // COMPARTIMENT CYBER // MERKING NL",
            "NATO SECRET // CONTEXT NATO // ADDITIONAL SENSITIVITY ATOMAL",
            "NATO UNCLASSIFIED // ADMINISTRATIVE STAFF",
            "EU TOP SECRET",
        ] {
            let c = label(text);
            let der = to_der(&c, &policies()).expect(text);
            assert_eq!(from_der(&der, &policies()), Ok(c), "{text}");
            for cut in 0..der.len() {
                assert!(
                    from_der(&der[..cut], &policies()).is_err(),
                    "{text} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn nobody_is_said() {
        let nobody = label("Stg.C")
            .for_nobody_of(&ordonnans_label::TagSet::kring())
            .expect("nobody");
        let der = to_der(&nobody, &policies()).expect("written");
        assert_eq!(from_der(&der, &policies()), Ok(nobody));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let good = to_der(&label("Stg.C // KRING ICCB"), &policies()).expect("written");
        let set = |parts: &[Vec<u8>]| tlv(SET, &parts.concat());
        let nl = tlv(
            OID,
            &oid::to_der(
                Policies::built_in()
                    .iter()
                    .find(|p| p.id().as_str() == "NL")
                    .expect("NL")
                    .oid(),
            )
            .expect("an oid"),
        );
        let category = |kind: &str, value: &[u8]| {
            let kind = tlv(TYPE, &oid::to_der(kind).expect("an oid"));
            tlv(SET, &tlv(SEQUENCE, &[kind, tlv(VALUE, value)].concat()))
        };
        let kring = || {
            let nl = policies();
            let nl = nl
                .iter()
                .find(|p| p.id().as_str() == "NL")
                .expect("NL")
                .oid()
                .to_owned();
            format!("{nl}.1")
        };
        let three = tlv(INTEGER, &[3]);
        let lower = tlv(SEQUENCE, &tlv(UTF8, b"iccb"));
        let form = InvalidSecurityLabel::Form;
        for (what, bytes, error) in [
            ("a byte over", [&good[..], &[0]].concat(), form.clone()),
            ("no policy", set(std::slice::from_ref(&three)), form.clone()),
            (
                "another policy",
                set(&[three.clone(), tlv(OID, &[0x2a])]),
                InvalidSecurityLabel::Policy("1.2".into()),
            ),
            (
                "no level",
                set(std::slice::from_ref(&nl)),
                InvalidSecurityLabel::Level(0),
            ),
            (
                "level 99",
                set(&[tlv(INTEGER, &[99]), nl.clone()]),
                InvalidSecurityLabel::Level(99),
            ),
            (
                "a level below 0",
                set(&[tlv(INTEGER, &[0x80]), nl.clone()]),
                form.clone(),
            ),
            (
                "a level with a leading zero",
                set(&[tlv(INTEGER, &[0, 3]), nl.clone()]),
                form.clone(),
            ),
            (
                "an unknown set",
                set(&[three.clone(), nl.clone(), category("1.2.3", &lower)]),
                InvalidSecurityLabel::Category("1.2.3".into()),
            ),
            (
                "a value in lower case",
                set(&[three.clone(), nl.clone(), category(&kring(), &lower)]),
                InvalidSecurityLabel::Value("Kring".into()),
            ),
            (
                "a value that is no list",
                set(&[three.clone(), nl.clone(), category(&kring(), &[5, 0])]),
                form.clone(),
            ),
            (
                "longer than any label",
                vec![0x31; MAX_DER_BYTES + 1],
                form.clone(),
            ),
        ] {
            assert_eq!(from_der(&bytes, &policies()), Err(error), "{what}");
        }
        let marked = set(&[three, nl, tlv(PRINTABLE, b"for your eyes")]);
        assert_eq!(
            from_der(&marked, &policies()),
            Ok(label("Stg.C")),
            "a privacy mark is passed over"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(c) = from_der(&bytes, &policies()) {
                prop_assert!(to_der(&c, &policies()).is_ok());
            }
        }
    }
}
