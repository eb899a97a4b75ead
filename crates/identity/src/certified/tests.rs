use super::*;
use ordonnans_label::Level;
use proptest::collection::{btree_map, btree_set};
use proptest::prelude::*;

fn known() -> &'static Policies {
    Policies::built_in()
}

/// With levels whose codes run against their order, a set of one name in two types, and one identifier that has no encoding.
const OWN: &str = r##"
id = "XX"
oid = "2.25.7"
version = 1
title = { nl = "x", en = "x" }

[[level]]
name = "LOW"
code = 9
equals = "Ongerubriceerd"
marking = { nl = "XX LAAG", en = "XX LOW" }
colour = "#000000"

[[level]]
name = "HIGH"
code = 6
equals = "Stg.G"
marking = { nl = "XX HOOG", en = "XX HIGH" }
colour = "#000000"

[[level]]
name = "TOP"
code = 64
equals = "Stg.ZG"
marking = { nl = "XX TOP", en = "XX TOP" }
colour = "#000000"

[[set]]
name = "Need"
type = "restrictive"
arc = 1
marking = { nl = "x", en = "x" }
value = [{ name = "A", marking = { nl = "a", en = "a" } }, { name = "B", marking = { nl = "b", en = "b" } }]

[[set]]
name = "Need"
type = "permissive"
arc = 2
marking = { nl = "x", en = "x" }
value = [{ name = "C", marking = { nl = "c", en = "c" } }]

[[set]]
name = "Remark"
type = "informative"
arc = 3
open = true
marking = { nl = "x", en = "x" }

[[set]]
name = "Far"
type = "permissive"
arc = 4
oid = "1.40"
open = true
marking = { nl = "x", en = "x" }
"##;

fn with_own() -> Policies {
    let mut all = known().clone();
    all.add(Policy::parse(OWN).expect("a policy"))
        .expect("added");
    all
}

#[test]
fn codes_and_sets_are_the_policys_own() {
    let all = with_own();
    let set: TagSet = "Need".parse().expect("a set");
    let c = all.read_clearance("XX HIGH").expect("a clearance");
    let c = c
        .with_value(&set, "a")
        .and_then(|c| c.with_value(&set, "c"))
        .expect("valid");
    let says = Certified::of(&c.clone().into(), &all).expect("written");
    let s = says.statements().next().expect("one");
    assert_eq!(s.policy(), "2.25.7");
    assert_eq!(s.classes().collect::<Vec<_>>(), [6, 9]);
    let types: Vec<_> = s.categories().map(|(kind, v)| (kind, v.len())).collect();
    assert_eq!(types, [("2.25.7.1", 1), ("2.25.7.2", 1)]);
    assert_eq!(says.clearances(&all), c.into());
    assert_eq!(
        says.clearances(known()),
        Clearances::default(),
        "not known there"
    );

    // A value that its own set does not take, and a class list without the lowest level.
    let mut other = s.clone();
    let text = |t: &str| CategoryValue::Text(t.into());
    other
        .categories
        .insert("2.25.7.2".into(), [text("A"), text("//"), text("c")].into());
    let one = |s| Certified([("2.25.7".to_owned(), s)].into());
    let held = one(other.clone()).clearances(&all);
    let held = held.iter().next().expect("one").held(&set);
    assert_eq!(held.len(), 2, "{held:?}");
    other.classes = 1 << 6;
    assert_eq!(one(other).clearances(&all), Clearances::default());
}

#[test]
fn what_cannot_be_written_is_named() {
    let all = with_own();
    let of = |text: &str| {
        let c = all.read_clearance(text).expect(text);
        Certified::of(&c.into(), &all).map_err(|e| e.to_string())
    };
    assert!(
        of("XX HIGH // REMARK x").is_ok_and(|c| c.statements().all(|s| s.categories.is_empty()))
    );
    for (text, says) in [
        ("XX TOP", "no level 'TOP'"),
        ("XX HIGH // NEED D", "no value 'D' of a set 'Need'"),
        ("XX HIGH // FAR x", "'1.40' cannot be encoded"),
    ] {
        let e = of(text).expect_err(text);
        assert!(e.contains(says), "{text}: {e}");
    }
    let c = all.read_clearance("XX LOW").expect("a clearance");
    let e = Certified::of(&c.into(), known()).expect_err("not known there");
    assert_eq!(e.to_string(), "no policy 'XX' is known here");
    let unknown = Clearance::new(Level::DepV)
        .with_value(&"Ring".parse().expect("a set"), "x")
        .expect("valid");
    assert!(matches!(
        Certified::of(&unknown.into(), known()),
        Err(Unwritable::Value { .. })
    ));
}

fn says() -> impl Strategy<Value = Certified> {
    let word = prop_oneof!["A", "B", "C", "c"].prop_map(CategoryValue::Text);
    let value = prop_oneof![
        4 => word,
        1 => any::<u8>().prop_map(|b| CategoryValue::Other(vec![5, b & 1])),
    ];
    let policies = [
        ("2.25.326630235496635110297519768041663201762", [".1", ".2"]),
        ("1.3.26.1.3.1", ["1.3.26.1.4.1", "1.3.26.1.4.4"]),
        ("1.2.3", [".1", ".2"]),
    ];
    let statement = (
        0usize..3,
        any::<u8>(),
        btree_map(0usize..2, btree_set(value, 1..4), 0..3),
    );
    let statement = statement.prop_map(move |(n, classes, categories)| {
        let (policy, types) = policies[n];
        let kind = |n: usize| match types[n] {
            below if below.starts_with('.') => format!("{policy}{below}"),
            own => own.into(),
        };
        Statement {
            policy: policy.into(),
            // Mostly whole lists, so that something is held.
            classes: if classes & 1 == 0 {
                0x3f >> (classes >> 6)
            } else {
                classes.into()
            },
            categories: categories.into_iter().map(|(n, v)| (kind(n), v)).collect(),
        }
    });
    proptest::collection::vec(statement, 0..4).prop_map(|all| {
        let mut these = Certified::default();
        for s in all {
            these.insert(s);
        }
        these
    })
}

proptest! {
    #[test]
    fn a_constraint_only_narrows(subject in says(), root in says(), issuing in says()) {
        let cut = subject.meet(&root).meet(&issuing);
        prop_assert_eq!(&cut, &subject.meet(&issuing).meet(&root));
        prop_assert_eq!(subject.meet(&subject).clearances(known()), subject.clearances(known()));
        for wide in [&subject, &root, &issuing] {
            // By numbers,
            for s in cut.statements() {
                let w = wide.0.get(&s.policy).expect("under a policy that it speaks of");
                prop_assert!(s.classes != 0 && s.classes & !w.classes == 0);
                for (kind, values) in s.categories() {
                    prop_assert!(values.is_subset(&w.categories[kind]));
                }
            }
            // and under the policies in force.
            let (cut, wide) = (cut.clearances(known()), wide.clearances(known()));
            prop_assert_eq!(cut.meet(&wide), cut);
        }
    }
}
