//! Any label there and back; bounds of the writer.

use ordonnans_label::{CategoryType, Duration, Kind, Name, Policies, Policy, State};
use proptest::collection::btree_set;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn value() -> impl Strategy<Value = String> {
    "[A-Z0-9Éßλ][A-Z0-9 ._()-]{0,20}"
        .prop_filter("a value", |v| v.parse::<ordonnans_label::Value>().is_ok())
}

/// A label that may or may not be valid under its policy.
fn any_label() -> impl Strategy<Value = Label> {
    let policies: Vec<&'static Policy> = Policies::built_in().iter().collect();
    let sets = proptest::collection::vec(option::of(btree_set(value(), 0..4)), 5);
    let act = (
        option::of(prop_oneof![
            (-719_162_i64..2_932_897).prop_map(|d| {
                Duration::Until(ordonnans_label::Date::from_days(d).expect("in range"))
            }),
            "[a-zA-Z<>&' \u{e9}\u{1f600}]{1,60}"
                .prop_filter_map("an event", |e| Duration::event(e.trim()).ok()),
        ]),
        option::of("[a-z]{1,8}"),
    );
    (proptest::sample::select(policies), 0..5_usize, sets, act).prop_map(
        |(policy, rank, sets, (duration, by))| {
            let mut c = Confidentiality::under(
                policy.id().clone(),
                policy.levels()[rank].classification.clone(),
            );
            for (set, values) in policy.sets().iter().zip(sets) {
                let Some(values) = values else { continue };
                if set.kind == CategoryType::Permissive {
                    c = c.for_nobody_of(&set.name).expect("few sets");
                }
                for v in values {
                    c = c.with_value(set.kind, &set.name, &v).expect("a value");
                }
            }
            let state = by.map_or(State::Proposed, |by| State::Established {
                by: Name::new(&by, Kind::Person, "crisis.example").expect("a name"),
            });
            Label {
                confidentiality: c,
                duration,
                state,
            }
        },
    )
}

proptest! {
    #[test]
    fn a_valid_label_there_and_back(label in any_label(), ms in 0..=Timestamp::MAX.as_millis()) {
        let created = Timestamp::from_millis(ms);
        let policies = Policies::built_in();
        let by: Name = "ncc.node.crisis.example".parse().expect("a name");
        match write(&label, created, Some(&by), policies) {
            Err(WriteError::NotValid(e)) => prop_assert_eq!(policies.check(&label.confidentiality), Err(e)),
            Err(e) => prop_assert!(false, "{}", e),
            Ok(xml) => {
                let back = read(xml.as_bytes(), policies).expect("what is written is read");
                prop_assert_eq!(&back.label, &label);
                prop_assert_eq!(back.created, created);
                prop_assert_eq!(back.originator.map(|o| o.id), Some(by.as_str().to_owned()));
                prop_assert_eq!(write(&back.label, created, Some(&by), policies), Ok(xml));
                let beside = write_alternative(&label, created, None, policies).expect("an equal level");
                let beside = beside.map(|x| read(x.as_bytes(), policies).expect("read").label);
                prop_assert_eq!(beside.as_ref().map(|l| &l.duration), beside.as_ref().map(|_| &label.duration));
                prop_assert_eq!(beside.map(|l| l.confidentiality), label.confidentiality.alternative());
            }
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,300}") {
        let _ = read(text.as_bytes(), Policies::built_in());
    }
}

#[test]
fn the_text_of_a_label() {
    let label: Label = "NATO SECRET // ONLY NLD // TOT 2036-01-01"
        .parse()
        .expect("a label");
    let created = "2026-11-24T03:00:00Z".parse().expect("a time");
    assert_eq!(
        write(&label, created, None, Policies::built_in()).as_deref(),
        Ok(
            "<slab:originatorConfidentialityLabel xmlns:slab=\"urn:nato:stanag:4774:confidentialitymetadatalabel:1:0\" \
             ReviewDateTime=\"2036-01-01T00:00:00Z\"><slab:ConfidentialityInformation>\
             <slab:PolicyIdentifier URI=\"urn:oid:1.3.26.1.3.1\">NATO</slab:PolicyIdentifier>\
             <slab:Classification>SECRET</slab:Classification>\
             <slab:Category TagName=\"Only\" Type=\"PERMISSIVE\" URI=\"urn:oid:1.3.26.1.4.5\"><slab:GenericValue>NLD</slab:GenericValue></slab:Category>\
             </slab:ConfidentialityInformation><slab:CreationDateTime>2026-11-24T03:00:00.000Z</slab:CreationDateTime>\
             <ord:Act xmlns:ord=\"urn:ordonnans:stanag:1\" State=\"PROPOSED\"/></slab:originatorConfidentialityLabel>"
        )
    );
}

#[test]
fn what_is_not_written() {
    let created = Timestamp::default();
    let write = |l: &Label| write(l, created, None, Policies::built_in());
    let label: Label = "NATO SECRET // ADMINISTRATIVE STAFF"
        .parse()
        .expect("a label");
    assert!(matches!(write(&label), Err(WriteError::NotValid(_))));
    let mut label: Label = "Dep.V".parse().expect("a label");
    label.duration = Some(Duration::Event("a\u{fffe}b".into()));
    assert!(matches!(write(&label), Err(WriteError::Character(_))));
}
