//! The clearance attribute of a certificate: RFC 5755 section 4.4.6, carried in subjectDirectoryAttributes (RFC 5280 section 4.2.1.8).
//!
//! No public object identifier for a VIRBI policy was found, so the policy has one of ours, under the arc for UUIDs (2.25). Bits of the class
//! list: unclassified is ongerubriceerd, restricted Dep.V, confidential Stg.C, secret Stg.G, topSecret Stg.ZG. Circles and
//! compartments are security categories of two own types below the policy, each a sequence of UTF8String. The extension
//! must not be critical: the verifier in use refuses critical extensions it does not know.

use ordonnans_label::{Clearance, Level};
use x509_parser::asn1_rs::{Any, FromDer};

/// subjectDirectoryAttributes, 2.5.29.9, as arcs.
pub const EXTENSION: &[u64] = &[2, 5, 29, 9];
/// id-at-clearance, 2.5.4.55, DER contents.
const ATTRIBUTE: &[u8] = &[0x55, 0x04, 0x37];
/// 2.25.326630235496635110297519768041663201762, DER contents.
const POLICY: &[u8] = &[
    0x69, 131, 235, 186, 216, 252, 254, 149, 242, 193, 217, 134, 253, 191, 197, 242, 189, 206, 131,
    98,
];
/// Last arc of the category types below the policy.
const CIRCLES: u8 = 1;
const COMPARTMENTS: u8 = 2;

const OID: u8 = 0x06;
const BIT_STRING: u8 = 0x03;
const UTF8: u8 = 0x0c;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0] IMPLICIT`, primitive, and `[1] EXPLICIT`.
const TYPE: u8 = 0x80;
const VALUE: u8 = 0xa1;

/// A clearance attribute that is not of this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the clearance attribute has not the form of RFC 5755 under the policy of this structure")]
pub struct InvalidClearance;

/// The value of the subjectDirectoryAttributes extension for this clearance, DER.
#[must_use]
pub fn extension_value(c: &Clearance) -> Vec<u8> {
    let attribute = [tlv(OID, ATTRIBUTE), tlv(SET, &to_der(c))].concat();
    tlv(SEQUENCE, &tlv(SEQUENCE, &attribute))
}

/// The `Clearance`, DER.
#[must_use]
pub fn to_der(c: &Clearance) -> Vec<u8> {
    // Bit 1 is unclassified; every level up to the highest is listed. Bits count from the most significant.
    let last = c.level().code() + 1;
    let bits = (1..=last).fold(0u8, |b, n| b | 0x80 >> n);
    let mut body = [tlv(OID, POLICY), tlv(BIT_STRING, &[7 - last, bits])].concat();
    let texts = |kind: u8, values: Vec<&str>| {
        (!values.is_empty()).then(|| {
            let list: Vec<u8> = values
                .iter()
                .flat_map(|v| tlv(UTF8, v.as_bytes()))
                .collect();
            let name = [POLICY, &[kind]].concat();
            tlv(
                SEQUENCE,
                &[tlv(TYPE, &name), tlv(VALUE, &tlv(SEQUENCE, &list))].concat(),
            )
        })
    };
    let mut categories: Vec<Vec<u8>> = [
        texts(CIRCLES, c.circles().iter().map(|v| v.as_str()).collect()),
        texts(
            COMPARTMENTS,
            c.compartments().iter().map(|v| v.as_str()).collect(),
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !categories.is_empty() {
        // A SET OF is sorted in DER.
        categories.sort();
        body.extend(tlv(SET, &categories.concat()));
    }
    tlv(SEQUENCE, &body)
}

/// The clearance in the value of a subjectDirectoryAttributes extension; `None` where it holds no clearance attribute.
///
/// # Errors
/// [`InvalidClearance`]: the attribute is there and is not of the form above. The subject may then hold nothing.
pub fn from_extension(value: &[u8]) -> Result<Option<Clearance>, InvalidClearance> {
    let mut found = None;
    let mut attributes = only(value, SEQUENCE)?;
    while !attributes.is_empty() {
        let mut attribute = next(&mut attributes, SEQUENCE)?;
        let kind = next(&mut attribute, OID)?;
        let values = only(attribute, SET)?;
        if kind == ATTRIBUTE {
            // Two statements in one certificate would contradict each other.
            if found.replace(from_der(values)?).is_some() {
                return Err(InvalidClearance);
            }
        }
    }
    Ok(found)
}

/// Reads one `Clearance`. Of the class list the highest level counts below which none is missing.
///
/// # Errors
/// [`InvalidClearance`] for another policy, form or category.
pub fn from_der(der: &[u8]) -> Result<Clearance, InvalidClearance> {
    let mut body = only(der, SEQUENCE)?;
    if next(&mut body, OID)? != POLICY {
        return Err(InvalidClearance);
    }
    let [_, bits, ..] = next(&mut body, BIT_STRING)? else {
        return Err(InvalidClearance);
    };
    let highest = (1..=5u8)
        .take_while(|n| bits & (0x80 >> n) != 0)
        .last()
        .ok_or(InvalidClearance)?;
    let mut c = Clearance::new(Level::from_code(highest - 1).ok_or(InvalidClearance)?);
    if body.is_empty() {
        return Ok(c);
    }
    let mut categories = only(body, SET)?;
    while !categories.is_empty() {
        let mut category = next(&mut categories, SEQUENCE)?;
        let kind = next(&mut category, TYPE)?
            .strip_prefix(POLICY)
            .ok_or(InvalidClearance)?;
        let mut list = only(only(category, VALUE)?, SEQUENCE)?;
        while !list.is_empty() {
            let text = std::str::from_utf8(next(&mut list, UTF8)?).map_err(|_| InvalidClearance)?;
            c = match kind {
                [CIRCLES] => c.with_circle(text),
                [COMPARTMENTS] => c.with_compartment(text),
                _ => return Err(InvalidClearance),
            }
            .map_err(|_| InvalidClearance)?;
        }
    }
    Ok(c)
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let n = content.len();
    let mut out = vec![tag];
    match n {
        0..=0x7f => out.push(n as u8),
        0x80..=0xff => out.extend([0x81, n as u8]),
        // A clearance at every bound is below 64 KiB.
        _ => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend_from_slice(content);
    out
}

/// The content of the next item, which must have this tag octet.
fn next<'a>(input: &mut &'a [u8], tag: u8) -> Result<&'a [u8], InvalidClearance> {
    if input.first() != Some(&tag) {
        return Err(InvalidClearance);
    }
    let (rest, any) = Any::from_der(input).map_err(|_| InvalidClearance)?;
    *input = rest;
    Ok(any.data)
}

/// The content of the one item there is.
fn only(mut input: &[u8], tag: u8) -> Result<&[u8], InvalidClearance> {
    let content = next(&mut input, tag)?;
    if input.is_empty() {
        Ok(content)
    } else {
        Err(InvalidClearance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn there_and_back() {
        for level in Level::ALL {
            let bare = Clearance::new(level);
            let full = bare
                .clone()
                .with_circle("ICCB")
                .and_then(|c| c.with_circle("NAFIN"));
            let full = full
                .and_then(|c| c.with_compartment("CYBER"))
                .expect("valid");
            for c in [bare, full] {
                assert_eq!(from_extension(&extension_value(&c)), Ok(Some(c)));
            }
        }
    }

    #[test]
    fn a_gap_in_the_class_list_ends_it() {
        let der = to_der(&Clearance::new(Level::StgG));
        let at = der
            .windows(4)
            .position(|w| w == [BIT_STRING, 2, 3, 0x78])
            .expect("unclassified to secret")
            + 3;
        let mut gap = der.clone();
        gap[at] = 0x68;
        assert_eq!(from_der(&gap).map(|c| c.level()), Ok(Level::DepV));
        gap[at] = 0x38;
        assert_eq!(
            from_der(&gap),
            Err(InvalidClearance),
            "not even unclassified"
        );
    }

    #[test]
    fn another_policy_is_no_clearance() {
        let mut der = to_der(&Clearance::new(Level::StgZg));
        der[6] ^= 1;
        assert_eq!(from_der(&der), Err(InvalidClearance));
        assert_eq!(from_extension(&tlv(SEQUENCE, &[])), Ok(None));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), at: usize, to: u8) {
            let _ = from_extension(&bytes);
            let mut good = extension_value(&Clearance::new(Level::StgC).with_circle("A").expect("valid"));
            let at = at % good.len();
            good[at] = to;
            let _ = from_extension(&good);
        }
    }
}
