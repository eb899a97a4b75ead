//! Clearances on the wire: the attribute of a subject (RFC 5755 section 4.4.6, carried in subjectDirectoryAttributes, RFC 5280 section 4.2.1.8)
//! and the constraint of an authority (RFC 5913).
//!
//! Bit n of the class list is the level whose policy gives it the code n. For NL, under an object identifier of ours in the arc for
//! UUIDs (2.25) because none is public, unclassified is ongerubriceerd, restricted Dep.V, confidential Stg.C, secret Stg.G, topSecret
//! Stg.ZG. Values are security categories, each a sequence of UTF8String. Neither extension may be critical: the verifier in use
//! refuses critical extensions it does not know.
//!
//! The attribute of RFC 3281 (2.5.1.5.55), whose tags differ, is refused: a reader could take one field for another.

use std::collections::{BTreeMap, BTreeSet};

use ordonnans_label::{Clearances, MAX_VALUES, Policies};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::der::{BIT_STRING, OID, SEQUENCE, SET, UTF8, is_one, next, only, tlv};
use crate::{CategoryValue, Certified, Statement, Unwritable, oid};

/// subjectDirectoryAttributes, 2.5.29.9, as arcs.
pub const EXTENSION: &[u64] = &[2, 5, 29, 9];
/// id-pe-clearanceConstraints, as arcs.
pub const CONSTRAINTS: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 21];
/// id-at-clearance, 2.5.4.55, DER contents.
const ATTRIBUTE: &[u8] = &[0x55, 0x04, 0x37];
/// That of RFC 3281, 2.5.1.5.55, DER contents.
const OLD_ATTRIBUTE: &[u8] = &[0x55, 0x01, 0x05, 0x37];

/// `[0] IMPLICIT`, primitive, and `[1] EXPLICIT`.
pub(crate) const TYPE: u8 = 0x80;
pub(crate) const VALUE: u8 = 0xa1;
/// Where there is no class list: only unclassified, bit 1.
const DEFAULT_CLASSES: u64 = 1 << 1;

/// A clearance attribute or constraint that is not of this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the clearance has not the form of RFC 5755")]
pub struct InvalidClearance;

/// The value of the subjectDirectoryAttributes extension for these clearances, DER.
///
/// # Errors
/// [`Unwritable`]; the certificate is made without the extension, or not at all.
pub fn extension_value(all: &Clearances, policies: &Policies) -> Result<Vec<u8>, Unwritable> {
    let mut values = written(all, policies)?;
    // A SET OF is sorted in DER.
    values.sort();
    let attribute = [tlv(OID, ATTRIBUTE), tlv(SET, &values.concat())].concat();
    Ok(tlv(SEQUENCE, &tlv(SEQUENCE, &attribute)))
}

/// The value of the clearanceConstraints extension of an authority below which nobody holds more than this, DER.
///
/// # Errors
/// [`Unwritable`], as [`extension_value`].
pub fn constraints_value(all: &Clearances, policies: &Policies) -> Result<Vec<u8>, Unwritable> {
    Ok(tlv(SEQUENCE, &written(all, policies)?.concat()))
}

fn written(all: &Clearances, policies: &Policies) -> Result<Vec<Vec<u8>>, Unwritable> {
    let these = Certified::of(all, policies)?;
    if these.is_empty() {
        return Err(Unwritable::Nothing);
    }
    these.statements().map(to_der).collect()
}

/// A `Clearance`, DER.
fn to_der(s: &Statement) -> Result<Vec<u8>, Unwritable> {
    let id = |dotted: &str| oid::to_der(dotted).ok_or_else(|| Unwritable::Oid(dotted.into()));
    // The class list is always written, also where it is the default: certificates of ours have one form.
    let mut body = [tlv(OID, &id(&s.policy)?), tlv(BIT_STRING, &bits(s.classes))].concat();
    let mut categories = vec![];
    for (kind, values) in s.categories() {
        let kind = tlv(TYPE, &id(kind)?);
        let mut category = |value: &[u8]| {
            categories.push(tlv(SEQUENCE, &[&kind[..], &tlv(VALUE, value)].concat()));
        };
        let mut texts = vec![];
        for v in values {
            match v {
                CategoryValue::Text(t) => texts.extend(tlv(UTF8, t.as_bytes())),
                CategoryValue::Other(der) => category(der),
            }
        }
        if !texts.is_empty() {
            category(&tlv(SEQUENCE, &texts));
        }
    }
    if !categories.is_empty() {
        categories.sort();
        body.extend(tlv(SET, &categories.concat()));
    }
    Ok(tlv(SEQUENCE, &body))
}

/// The content of a named bit list: trailing zero bits are not written (ITU-T X.690 section 11.2.2). Bits count from the most significant.
fn bits(classes: u64) -> Vec<u8> {
    let last = classes.reverse_bits();
    let used = 64 - last.trailing_zeros();
    let mut out = vec![(used.next_multiple_of(8) - used) as u8];
    out.extend(last.to_be_bytes().iter().take(used.div_ceil(8) as usize));
    out
}

/// What the value of a subjectDirectoryAttributes extension says; nothing where it holds no clearance attribute.
///
/// # Errors
/// [`InvalidClearance`]: the attribute is there and is not of the form above, stands twice, has two values under one policy, or is that of
/// RFC 3281. The subject may then hold nothing.
pub fn from_extension(value: &[u8]) -> Result<Certified, InvalidClearance> {
    let mut found = None;
    let mut attributes = only(value, SEQUENCE).ok_or(InvalidClearance)?;
    while !attributes.is_empty() {
        let mut attribute = next(&mut attributes, SEQUENCE).ok_or(InvalidClearance)?;
        let kind = next(&mut attribute, OID).ok_or(InvalidClearance)?;
        let values = only(attribute, SET).ok_or(InvalidClearance)?;
        if kind == OLD_ATTRIBUTE {
            return Err(InvalidClearance);
        }
        // Two attributes in one certificate might contradict each other.
        if kind == ATTRIBUTE && found.replace(all(values)?).is_some() {
            return Err(InvalidClearance);
        }
    }
    Ok(found.unwrap_or_default())
}

/// What the value of a clearanceConstraints extension says.
///
/// # Errors
/// [`InvalidClearance`]: it is not of the form above, is empty, or has two values under one policy. Nobody below the authority is believed.
pub fn from_constraints(value: &[u8]) -> Result<Certified, InvalidClearance> {
    all(only(value, SEQUENCE).ok_or(InvalidClearance)?)
}

/// The constraint in an authority's certificate, DER; `None` where it has none.
///
/// # Errors
/// [`InvalidClearance`]: it cannot be read, stands twice, or this is no certificate. Nobody below the authority is believed.
pub fn constraint_of(certificate: &[u8]) -> Result<Option<Certified>, InvalidClearance> {
    let (_, x) = X509Certificate::from_der(certificate).map_err(|_| InvalidClearance)?;
    constraint_in(&x)
}

pub(crate) fn constraint_in(
    x: &X509Certificate<'_>,
) -> Result<Option<Certified>, InvalidClearance> {
    extension(x, CONSTRAINTS)?.map(from_constraints).transpose()
}

/// The value of the one extension of this kind that a certificate may have.
pub(crate) fn extension<'a>(
    x: &'a X509Certificate<'_>,
    arcs: &[u64],
) -> Result<Option<&'a [u8]>, InvalidClearance> {
    let mut these = x.extensions().iter().filter(|e| {
        let mut own = e.oid.iter();
        own.as_mut().is_some_and(|own| own.eq(arcs.iter().copied()))
    });
    match (these.next(), these.next()) {
        (_, Some(_)) => Err(InvalidClearance),
        (one, None) => Ok(one.map(|e| e.value)),
    }
}

/// One or more `Clearance`, at most one a policy.
fn all(mut values: &[u8]) -> Result<Certified, InvalidClearance> {
    let mut these = Certified::default();
    while !values.is_empty() {
        let one = next(&mut values, SEQUENCE).and_then(from_der);
        if !these.insert(one.ok_or(InvalidClearance)?) {
            return Err(InvalidClearance);
        }
    }
    if these.is_empty() {
        Err(InvalidClearance)
    } else {
        Ok(these)
    }
}

/// The content of one `Clearance`.
fn from_der(mut body: &[u8]) -> Option<Statement> {
    let policy = oid::to_dotted(next(&mut body, OID)?)?;
    let classes = if body.first() == Some(&BIT_STRING) {
        classes(next(&mut body, BIT_STRING)?)?
    } else {
        DEFAULT_CLASSES
    };
    let mut categories = BTreeMap::<String, BTreeSet<CategoryValue>>::new();
    let mut list = if body.is_empty() {
        body
    } else {
        only(body, SET)?
    };
    while !list.is_empty() {
        let mut category = next(&mut list, SEQUENCE)?;
        let kind = oid::to_dotted(next(&mut category, TYPE)?)?;
        let values = values(only(category, VALUE)?)?;
        let known = categories.entry(kind).or_default();
        known.extend(values);
        // As many as a label has. More is refused, not cut: an intersection could bring back what was cut off.
        if known.len() > MAX_VALUES {
            return None;
        }
    }
    categories.retain(|_, values| !values.is_empty());
    Some(Statement {
        policy,
        classes,
        categories,
    })
}

/// The bits of a class list, of which there are at most 64. RFC 3114 has policies with bits above topSecret.
fn classes(content: &[u8]) -> Option<u64> {
    let (unused, octets) = content.split_first()?;
    if *unused > 7 || octets.len() > 8 || (octets.is_empty() && *unused != 0) {
        return None;
    }
    let mut whole = [0; 8];
    whole[..octets.len()].copy_from_slice(octets);
    let spare = octets.last().is_some_and(|o| o & ((1 << unused) - 1) != 0);
    (!spare).then(|| u64::from_be_bytes(whole).reverse_bits())
}

/// The values of a category: the texts of a sequence of UTF8String, or the one value it is.
fn values(der: &[u8]) -> Option<BTreeSet<CategoryValue>> {
    texts(der).or_else(|| is_one(der).then(|| [CategoryValue::Other(der.into())].into()))
}

pub(crate) fn texts(der: &[u8]) -> Option<BTreeSet<CategoryValue>> {
    let mut list = only(der, SEQUENCE)?;
    let mut found = BTreeSet::new();
    while !list.is_empty() {
        let text = std::str::from_utf8(next(&mut list, UTF8)?).ok()?;
        found.insert(CategoryValue::Text(text.into()));
    }
    Some(found)
}

#[cfg(test)]
mod tests;
