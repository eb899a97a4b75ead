use super::*;
use ordonnans_label::{Clearance, Level};
use proptest::prelude::*;

fn known() -> &'static Policies {
    Policies::built_in()
}

fn nl(c: Clearance) -> Vec<u8> {
    extension_value(&c.into(), known()).expect("written")
}

fn several(texts: &[&str]) -> Clearances {
    let read = |t: &&str| known().read_clearance(t).expect("a clearance");
    texts.iter().map(read).collect()
}

fn back(der: &[u8]) -> Clearances {
    from_extension(der).expect("read").clearances(known())
}

fn full(level: Level) -> Clearance {
    Clearance::new(level)
        .with_circle("ICCB")
        .and_then(|c| c.with_circle("NAFIN"))
        .and_then(|c| c.with_compartment("CYBER"))
        .expect("valid")
}

#[test]
fn there_and_back() {
    for level in Level::ALL {
        for c in [Clearance::new(level), full(level)] {
            assert_eq!(back(&nl(c.clone())), c.into());
        }
    }
    let all = several(&[
        "Stg.G // KRING ICCB // COMPARTIMENT CYBER",
        "NATO SECRET // CONTEXT NATO // ADDITIONAL SENSITIVITY ATOMAL",
        "EU RESTRICTED",
    ]);
    assert_eq!(all.iter().count(), 3);
    let der = extension_value(&all, known()).expect("written");
    assert_eq!(back(&der), all);
    let der = constraints_value(&all, known()).expect("written");
    assert_eq!(
        from_constraints(&der).map(|c| c.clearances(known())),
        Ok(all)
    );
}

#[test]
fn the_bytes_of_a_dutch_clearance_stay() {
    let policy = "061469 83ebbad8fcfe95f2c1d986fdbfc5f2bdce8362";
    for (level, bits) in Level::ALL
        .into_iter()
        .zip(["03020640", "03020560", "03020470", "03020378", "0302027c"])
    {
        let hex = format!("30253023 0603550437 311c 301a {policy} {bits}").replace(' ', "");
        assert_eq!(
            data_encoding::HEXLOWER.encode(&nl(Clearance::new(level))),
            hex
        );
    }
    let category = |last: &str, values: &str, lengths: [&str; 3]| {
        let [whole, value, list] = lengths;
        format!(
            "30{whole} 8015 6983ebbad8fcfe95f2c1d986fdbfc5f2bdce8362{last} a1{value} 30{list} {values}"
        )
    };
    let circles = category("01", "0c0449434342 0c054e4146494e", ["28", "0f", "0d"]);
    let compartment = category("02", "0c054359424552", ["22", "09", "07"]);
    let hex =
        format!("3075 3073 0603550437 316c 306a {policy} 03020378 314e {compartment} {circles}")
            .replace(' ', "");
    assert_eq!(data_encoding::HEXLOWER.encode(&nl(full(Level::StgG))), hex);
}

#[test]
fn a_gap_in_the_class_list_ends_it() {
    let der = nl(Clearance::new(Level::StgG));
    let list = |bits: u8| {
        let mut der = der.clone();
        let last = der.len() - 1;
        der[last] = bits;
        back(&der).nl().map(Clearance::level)
    };
    assert_eq!(list(0x78), Some(Level::StgG));
    assert_eq!(list(0xf8), Some(Level::StgG), "unmarked is no level");
    assert_eq!(list(0x68), Some(Level::DepV));
    assert_eq!(list(0x38), None, "not even unclassified");
}

#[test]
fn another_policy_says_nothing_here_and_is_kept() {
    let mut der = nl(full(Level::StgZg));
    let policy = der.iter().position(|b| *b == 0x69).expect("2.25");
    der[policy + 3] ^= 1;
    let says = from_extension(&der).expect("read");
    assert!(says.clearances(known()).iter().next().is_none());
    assert_eq!(says.statements().count(), 1);
    assert_eq!(
        from_extension(&tlv(SEQUENCE, &[])),
        Ok(Certified::default())
    );
}

/// An attribute of these DER contents with these values.
fn attribute(kind: &[u8], values: &[Vec<u8>]) -> Vec<u8> {
    let body = [tlv(OID, kind), tlv(SET, &values.concat())].concat();
    tlv(SEQUENCE, &body)
}

fn value(policy: &str, rest: &[u8]) -> Vec<u8> {
    let id = tlv(OID, &oid::to_der(policy).expect("an identifier"));
    tlv(SEQUENCE, &[&id[..], rest].concat())
}

#[test]
fn a_contradiction_or_an_old_form_is_refused() {
    let (a, b) = (value("1.2.3", &[]), value("1.2.4", &[]));
    let read = |attributes: &[Vec<u8>]| from_extension(&tlv(SEQUENCE, &attributes.concat()));
    let one = attribute(ATTRIBUTE, std::slice::from_ref(&a));
    let foreign = attribute(&[0x55, 4, 3], &[tlv(UTF8, b"x")]);
    assert!(read(&[foreign, one.clone()]).is_ok(), "another attribute");
    assert!(read(&[attribute(ATTRIBUTE, &[a.clone(), b.clone()])]).is_ok());
    for bad in [
        vec![one.clone(), one.clone()],
        vec![attribute(ATTRIBUTE, &[a.clone(), a.clone()])],
        vec![attribute(ATTRIBUTE, &[])],
        // The attribute of RFC 3281, with its own tags or with those of RFC 5755; and its tags in the attribute of RFC 5755.
        vec![attribute(
            OLD_ATTRIBUTE,
            &[tlv(SEQUENCE, &tlv(0x80, &[0x2a, 3]))],
        )],
        vec![attribute(OLD_ATTRIBUTE, std::slice::from_ref(&a))],
        vec![one, attribute(OLD_ATTRIBUTE, &[b])],
        vec![attribute(
            ATTRIBUTE,
            &[tlv(SEQUENCE, &tlv(0x80, &[0x2a, 3]))],
        )],
        vec![attribute(
            ATTRIBUTE,
            &[value("1.2.3", &tlv(0x81, &[6, 0x40]))],
        )],
    ] {
        assert_eq!(read(&bad), Err(InvalidClearance), "{bad:?}");
    }
    assert_eq!(from_constraints(&tlv(SEQUENCE, &[])), Err(InvalidClearance));
    let twice = [a.clone(), a].concat();
    assert_eq!(
        from_constraints(&tlv(SEQUENCE, &twice)),
        Err(InvalidClearance)
    );
}

#[test]
fn class_lists() {
    let read = |rest: &[u8]| {
        let these = from_constraints(&tlv(SEQUENCE, &value("1.2.3", rest)));
        these.map(|c| {
            c.statements()
                .flat_map(Statement::classes)
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(read(&[]), Ok(vec![1]), "the default is unclassified");
    let none: Vec<u8> = vec![];
    assert_eq!(read(&tlv(BIT_STRING, &[0])), Ok(none));
    assert_eq!(
        read(&tlv(BIT_STRING, &[6, 0x02, 0x40])),
        Ok(vec![6, 9]),
        "RFC 3114"
    );
    assert_eq!(
        read(&tlv(BIT_STRING, &[0, 0x80, 0, 0, 0, 0, 0, 0, 1])),
        Ok(vec![0, 63])
    );
    for bad in [
        &[][..],
        &[1],
        &[8, 0x40],
        &[6, 0x41],
        &[0, 0x80, 0, 0, 0, 0, 0, 0, 0, 1],
    ] {
        assert_eq!(
            read(&tlv(BIT_STRING, bad)),
            Err(InvalidClearance),
            "{bad:?}"
        );
    }
    for classes in [0, 1, 2, 0x3e, 1 << 63 | 1, u64::MAX] {
        assert_eq!(super::classes(&bits(classes)), Some(classes));
    }
}

#[test]
fn values_of_a_form_that_is_not_known_are_kept_and_not_held() {
    let kind = "1.3.26.1.4.4";
    let category = |value: &[u8]| {
        let kind = tlv(TYPE, &oid::to_der(kind).expect("an identifier"));
        tlv(SEQUENCE, &[kind, tlv(VALUE, value)].concat())
    };
    let secret = tlv(BIT_STRING, &[3, 0x78]);
    let read = |categories: &[Vec<u8>]| {
        let rest = [secret.clone(), tlv(SET, &categories.concat())].concat();
        from_constraints(&tlv(SEQUENCE, &value("1.3.26.1.3.1", &rest)))
    };
    let bitmap = tlv(BIT_STRING, &[0, 0xff]);
    let texts = tlv(SEQUENCE, &tlv(UTF8, b"nato"));
    let says = read(&[category(&bitmap), category(&texts)]).expect("read");
    let held: Vec<_> = says.statements().flat_map(Statement::categories).collect();
    let both = [
        CategoryValue::Text("nato".into()),
        CategoryValue::Other(bitmap.clone()),
    ];
    assert_eq!(held, [(kind, &both.into())]);
    assert_eq!(
        says.clearances(known()),
        several(&["NATO SECRET // CONTEXT NATO"])
    );
    // Written again it is the same.
    let again: Vec<_> = says
        .statements()
        .map(|s| to_der(s).expect("written"))
        .collect();
    assert_eq!(
        from_constraints(&tlv(SEQUENCE, &again.concat())),
        Ok(says.clone())
    );
    let only_bitmap = read(&[category(&bitmap)]).expect("read");
    assert_eq!(says.meet(&only_bitmap), only_bitmap);

    let many: Vec<u8> = (0..33)
        .flat_map(|n| tlv(UTF8, format!("V{n}").as_bytes()))
        .collect();
    for bad in [
        category(&tlv(SEQUENCE, &many)),
        category(&[]),
        category(&[bitmap.clone(), bitmap].concat()),
        category(&[0x30, 5, 1]),
    ] {
        assert_eq!(read(&[bad]), Err(InvalidClearance));
    }
}

/// The constraint of the certificate that examples of RFC 5913 use: three policies of RFC 3114.
fn published() -> Vec<u8> {
    let arc = "1.2.840.113549.1.9.16.7";
    let one = |last: u8, bits: [u8; 4]| value(&format!("{arc}.{last}"), &bits);
    let values = [
        one(3, [3, 2, 5, 0xe0]),
        one(2, [3, 2, 4, 0xf0]),
        one(1, [3, 2, 5, 0xe0]),
    ];
    tlv(SEQUENCE, &values.concat())
}

#[test]
fn the_published_constraint() {
    let limit = from_constraints(&published()).expect("read");
    let arc = "1.2.840.113549.1.9.16.7";
    let told: Vec<_> = limit
        .statements()
        .map(|s| (s.policy().to_owned(), s.classes().collect::<Vec<_>>()))
        .collect();
    let expected = [
        (1, vec![0, 1, 2]),
        (2, vec![0, 1, 2, 3]),
        (3, vec![0, 1, 2]),
    ];
    assert_eq!(
        told,
        expected.map(|(n, classes)| (format!("{arc}.{n}"), classes))
    );

    let list = |bits: &[u8]| tlv(BIT_STRING, bits);
    let subject = [
        value(&format!("{arc}.1"), &list(&[2, 0x3c])),
        value(&format!("{arc}.2"), &list(&[3, 0x08])),
        value("1.2.3", &list(&[3, 0x78])),
    ];
    let subject = from_constraints(&tlv(SEQUENCE, &subject.concat())).expect("read");
    let cut = subject.meet(&limit);
    let told: Vec<_> = cut
        .statements()
        .map(|s| (s.policy().to_owned(), s.classes().collect::<Vec<_>>()))
        .collect();
    assert_eq!(
        told,
        [(format!("{arc}.1"), vec![2])],
        "one bit is left; of the second policy none, and the third is not spoken of"
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), at: usize, to: u8) {
        let _ = (from_extension(&bytes), from_constraints(&bytes), constraint_of(&bytes));
        for mut good in [nl(full(Level::StgC)), published()] {
            let at = at % good.len();
            good[at] = to;
            for says in [from_extension(&good), from_constraints(&good)].into_iter().flatten() {
                let _ = says.clearances(known());
            }
        }
    }
}
