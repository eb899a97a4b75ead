//! As much DER (ITU-T X.690) as clearances and security labels need.

use x509_parser::asn1_rs::{Any, FromDer};

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OID: u8 = 0x06;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const UTF8: u8 = 0x0c;
pub(crate) const PRINTABLE: u8 = 0x13;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// An item with its tag octet and length.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(n @ 0..=0x7f) => out.push(n),
        _ => {
            let length = content.len().to_be_bytes();
            let unused = length.iter().take_while(|b| **b == 0).count();
            let length = &length[unused..];
            // At most the eight octets of a length in memory.
            out.push(0x80 | length.len() as u8);
            out.extend_from_slice(length);
        }
    }
    out.extend_from_slice(content);
    out
}

/// A non-negative INTEGER from its big-endian octets (ITU-T X.690 section 8.3): no superfluous zeros, and one where the sign would be read.
pub(crate) fn unsigned(octets: &[u8]) -> Vec<u8> {
    let zeros = octets.iter().take_while(|b| **b == 0).count();
    let significant = &octets[zeros.min(octets.len().saturating_sub(1))..];
    match significant.first() {
        Some(first) if *first < 0x80 => tlv(INTEGER, significant),
        _ => tlv(INTEGER, &[&[0], significant].concat()),
    }
}

/// The content of the next item, which must have this tag octet.
pub(crate) fn next<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    if input.first() != Some(&tag) {
        return None;
    }
    let (rest, any) = Any::from_der(input).ok()?;
    *input = rest;
    Some(any.data)
}

/// The content of the one item there is.
pub(crate) fn only(mut input: &[u8], tag: u8) -> Option<&[u8]> {
    let content = next(&mut input, tag)?;
    input.is_empty().then_some(content)
}

/// Whether this is one item, of any kind.
pub(crate) fn is_one(input: &[u8]) -> bool {
    Any::from_der(input).is_ok_and(|(rest, _)| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_as_short_as_they_can_be() {
        for (octets, der) in [
            (&[][..], &[2, 1, 0][..]),
            (&[0, 0], &[2, 1, 0]),
            (&[0, 0x7f], &[2, 1, 0x7f]),
            (&[0, 0x80], &[2, 2, 0, 0x80]),
            (&[0xff, 0], &[2, 3, 0, 0xff, 0]),
        ] {
            assert_eq!(unsigned(octets), der, "{octets:?}");
        }
    }
}
