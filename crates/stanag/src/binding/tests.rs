//! Files there and back.

use ordonnans_label::{Label, Policies};
use ordonnans_message::{Timestamp, sha256};
use proptest::prelude::*;

use super::*;

fn subject<'a>(label: &'a Label, file_name: &'a str) -> Subject<'a> {
    Subject {
        label,
        created: Timestamp::from_millis(1_780_000_000_000),
        originator: None,
        file_name,
        media_type: "application/pdf",
    }
}

fn secret() -> Label {
    "NATO SECRET // TOT 2036-01-01".parse().expect("a label")
}

proptest! {
    #[test]
    fn a_file_there_and_back(
        name in "[a-zA-Z0-9 .:%&<>\"'#?+\u{e9}\u{1f600}-]{1,40}",
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        prop_assume!(is_file_name(&name));
        let (label, policies) = (secret(), Policies::built_in());
        let s = subject(&label, &name);

        let x = detached(&s, &sha256(&[&bytes]), policies).expect("written");
        let read_back = read(x.as_bytes(), policies).expect("read");
        let (l, object) = read_back.one().expect("one");
        prop_assert_eq!(&l.label, &label);
        let Object::Reference { file_name, media_type, digest, .. } = object else {
            return Err(TestCaseError::fail("a reference"));
        };
        prop_assert_eq!(file_name.as_deref(), Some(name.as_str()));
        prop_assert_eq!(media_type.as_deref(), Some("application/pdf"));
        prop_assert_eq!(digest, &Some(sha256(&[&bytes])));

        let x = encapsulating(&s, &bytes, policies).expect("written");
        let read_back = read(x.as_bytes(), policies).expect("read");
        let (l, object) = read_back.one().expect("one");
        prop_assert_eq!(&l.label, &label);
        prop_assert_eq!(object, &Object::Octets {
            file_name: name.clone(),
            media_type: "application/pdf".into(),
            bytes,
        });
        prop_assert_eq!(read_back.bound.first().map(|b| b.labels.len()), Some(2));
    }
}

#[test]
fn the_largest_file_there_and_back_and_one_byte_more() {
    let (label, policies) = (secret(), Policies::built_in());
    let s = subject(&label, "a.bin");
    let mut bytes = vec![7; MAX_DATA_BYTES];
    let x = encapsulating(&s, &bytes, policies).expect("written");
    let read_back = read(x.as_bytes(), policies).expect("read");
    drop(x);
    let held = match read_back.one().expect("one").1 {
        Object::Octets { bytes, .. } => bytes,
        other => panic!("{other:?}"),
    };
    assert!(*held == bytes);
    bytes.push(7);
    assert_eq!(encapsulating(&s, &bytes, policies), Err(BindError::TooLong));
}

#[test]
fn what_is_not_bound() {
    let (label, policies) = (secret(), Policies::built_in());
    for name in ["", ".", "..", "a/b", "a\\b", "a\nb", &"a".repeat(256)] {
        let got = detached(&subject(&label, name), &sha256(&[]), policies);
        assert!(matches!(got, Err(BindError::FileName(_))), "{name}");
    }
    for media_type in ["", "pdf", "/", "a/b c", "text/plain\n", "a/é"] {
        let mut s = subject(&label, "a");
        s.media_type = media_type;
        let got = detached(&s, &sha256(&[]), policies);
        assert!(matches!(got, Err(BindError::MediaType(_))), "{media_type}");
    }
    let invalid = "NATO SECRET // ADMINISTRATIVE STAFF"
        .parse()
        .expect("a label");
    let got = encapsulating(&subject(&invalid, "a"), b"", policies);
    assert!(matches!(got, Err(BindError::Label(_))));
}

#[test]
fn the_bytes_of_a_file_are_not_printed() {
    let object = Object::Octets {
        file_name: "a".into(),
        media_type: "text/plain".into(),
        bytes: b"geheim".to_vec(),
    };
    assert_eq!(format!("{object:?}"), "Octets(\"a\", 6 bytes)");
}
