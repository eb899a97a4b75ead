//! Object identifiers: dotted arcs, and the content octets of DER (ITU-T X.690 section 8.19).
//!
//! An arc has up to 128 bits, for those under 2.25 are UUIDs (ITU-T X.667). One that is larger is none of ours, and no identifier here.

/// The content octets of dotted arcs; `None` where the text is no object identifier.
pub(crate) fn to_der(dotted: &str) -> Option<Vec<u8>> {
    let arcs: Vec<u128> = dotted.split('.').map(arc).collect::<Option<_>>()?;
    let [first, second, rest @ ..] = arcs.as_slice() else {
        return None;
    };
    // The first two share a number (section 8.19.4).
    if *first > 2 || (*first < 2 && *second >= 40) {
        return None;
    }
    let mut out = vec![];
    put(&mut out, second.checked_add(first * 40)?);
    for n in rest {
        put(&mut out, *n);
    }
    Some(out)
}

/// A number as dotted arcs have it: digits without a sign or leading zeros.
fn arc(text: &str) -> Option<u128> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0')))
        .then(|| text.parse().ok())
        .flatten()
}

fn put(out: &mut Vec<u8>, n: u128) {
    let groups = (128 - n.leading_zeros()).div_ceil(7).max(1);
    for i in (0..groups).rev() {
        let more = if i == 0 { 0 } else { 0x80 };
        // Seven bits.
        out.push(more | ((n >> (7 * i)) & 0x7f) as u8);
    }
}

/// The dotted arcs of content octets; `None` where they are no object identifier, or an arc has more than 128 bits.
pub(crate) fn to_dotted(der: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut n = None::<u128>;
    for byte in der {
        let low = u128::from(byte & 0x7f);
        let so_far = match n {
            // Padding is not the shortest form.
            None if *byte == 0x80 => return None,
            None => low,
            Some(high) if high > u128::MAX >> 7 => return None,
            Some(high) => high << 7 | low,
        };
        if byte & 0x80 != 0 {
            n = Some(so_far);
            continue;
        }
        n = None;
        if text.is_empty() {
            let first = (so_far / 40).min(2);
            text = format!("{first}.{}", so_far - first * 40);
        } else {
            text.push_str(&format!(".{so_far}"));
        }
    }
    (n.is_none() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_identifiers() {
        for (dotted, der) in [
            ("2.5.4.55", &[0x55, 4, 0x37][..]),
            ("1.3.6.1.5.5.7.1.21", &[0x2b, 6, 1, 5, 5, 7, 1, 21]),
            (
                "1.2.840.113549.1.9.16.7.3",
                &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 7, 3],
            ),
            ("0.0", &[0]),
            ("2.40", &[120]),
            ("2.999.1", &[0x88, 0x37, 1]),
            // The one of ITU-T X.667 for f81d4fae-7dec-11d0-a765-00a0c91e6bf6, and the largest.
            (
                "2.25.329800735698586629295641978511506172918",
                &[
                    0x69, 0x83, 0xf0, 0x9d, 0xa7, 0xeb, 0xcf, 0xde, 0xe0, 0xc7, 0xa1, 0xa7, 0xb2,
                    0xc0, 0x94, 0x8c, 0xc8, 0xf9, 0xd7, 0x76,
                ],
            ),
            (
                "2.25.340282366920938463463374607431768211455",
                &[
                    0x69, 0x83, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
                ],
            ),
        ] {
            assert_eq!(to_der(dotted).as_deref(), Some(der), "{dotted}");
            assert_eq!(to_dotted(der).as_deref(), Some(dotted));
        }
    }

    #[test]
    fn what_is_none() {
        for dotted in [
            "",
            "1",
            "3.1",
            "1.40",
            "1..2",
            "1.02",
            "1.+2",
            "1.2 ",
            "2.25.340282366920938463463374607431768211456",
            "2.340282366920938463463374607431768211455",
        ] {
            assert_eq!(to_der(dotted), None, "{dotted}");
        }
        let mut large = vec![0x69, 0x84];
        large.extend([0x80; 17]);
        large.push(0);
        for der in [&[][..], &[0x80, 1], &[0x55, 0x80, 1], &[0x55, 0x81], &large] {
            assert_eq!(to_dotted(der), None, "{der:?}");
        }
    }

    proptest! {
        #[test]
        fn one_form_each_way(arcs in proptest::collection::vec(any::<u128>(), 0..5), second in 0u128..40, first in 0u8..3) {
            let mut dotted = format!("{first}.{second}");
            for a in arcs {
                dotted.push_str(&format!(".{a}"));
            }
            let der = to_der(&dotted).expect("an identifier");
            prop_assert_eq!(to_dotted(&der), Some(dotted));
        }

        #[test]
        fn no_bytes_panic(der in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(dotted) = to_dotted(&der) {
                prop_assert_eq!(to_der(&dotted), Some(der));
            }
        }
    }
}
