use super::*;
use crate::{Clearance, Label, Policies};
use proptest::prelude::*;

fn known() -> &'static Policies {
    Policies::built_in()
}

fn label(s: &str) -> Confidentiality {
    s.parse::<Label>().expect(s).confidentiality
}

#[test]
fn the_built_in_policies_are_policies() {
    let ids: Vec<&str> = known().iter().map(|p| p.id().as_str()).collect();
    assert_eq!(ids, ["EU", "NATO", "NL"]);
    for p in known().iter() {
        // Each Dutch level has an equal in each, and back.
        for level in Level::ALL {
            let equal = p.equivalent(level).expect("an equal");
            assert_eq!(equal.classification.level(), level, "{} {level}", p.id());
            assert_eq!(
                p.level_of_code(equal.code).map(|l| &l.classification),
                Some(&equal.classification)
            );
        }
        assert_eq!(known().of_oid(p.oid()), Some(p));
    }
    // The Dutch classification made without a policy is the one of the policy.
    for level in Level::ALL {
        assert_eq!(known().check(&Confidentiality::new(level)), Ok(()));
    }
}

#[test]
fn a_level_is_found_by_policy_and_name_or_by_its_marking() {
    for (text, policy, level, says) in [
        ("NATO SECRET", "NATO", Level::StgG, "NATO SECRET"),
        ("nato secret", "NATO", Level::StgG, "NATO SECRET"),
        ("COSMIC TOP SECRET", "NATO", Level::StgZg, "NATO TOP SECRET"),
        (
            "RESTREINT UE/EU RESTRICTED",
            "EU",
            Level::DepV,
            "EU RESTRICTED",
        ),
        ("EU Confidential", "EU", Level::StgC, "EU CONFIDENTIAL"),
        ("NL Stg.G", "NL", Level::StgG, "Stg.G"),
    ] {
        let c = label(text);
        assert_eq!(
            (c.policy().as_str(), c.level(), c.to_string().as_str()),
            (policy, level, says)
        );
        assert_eq!(label(&c.to_string()), c);
    }
    // A word alone is no level of anyone.
    for word in ["SECRET", "TOP SECRET", "CONFIDENTIAL", "Geheim"] {
        assert!(word.parse::<Label>().is_err(), "{word}");
    }
}

#[test]
fn what_is_beside_the_originators_label() {
    let c = label("NATO SECRET");
    assert_eq!(c.alternative(), Some(Confidentiality::new(Level::StgG)));
    assert_eq!(label("Stg.G").alternative(), None);
    assert_eq!(
        (c.policy().as_str(), c.classification().name()),
        ("NATO", "SECRET")
    );
}

/// A policy without a level equal to Stg.C, as the British one is since 2014.
const GAP: &str = r##"
    id = "XX"
    oid = "2.25.7"
    version = 1
    title = { nl = "Voorbeeld", en = "Example" }
    [[level]]
    name = "OFFICIAL"
    code = 1
    equals = "Dep.V"
    marking = { nl = "XX OFFICIAL", en = "XX OFFICIAL" }
    colour = "#00ff00"
    [[level]]
    name = "SECRET"
    code = 9
    equals = "Stg.G"
    marking = { nl = "XX SECRET", en = "XX SECRET" }
    colour = "#ff0000"
    [[set]]
    name = "Need"
    type = "restrictive"
    arc = 1
    min = 1
    max = 2
    marking = { nl = "Nodig", en = "Need" }
    value = [
      { name = "A", marking = { nl = "Aa", en = "Ay" } },
      { name = "B", marking = { nl = "Bee", en = "Bee" } },
    ]
    [[set]]
    name = "Need"
    type = "informative"
    arc = 2
    marking = { nl = "Nodig", en = "Need" }
    value = [{ name = "C", marking = { nl = "Cee", en = "Sea" } }]
    [[rule]]
    when = { set = "Need", type = "restrictive", value = "B" }
    needs = "none"
    of = [{ level = "OFFICIAL" }]
    [[rule]]
    when = { set = "Need", type = "informative" }
    needs = "one"
    of = [{ level = "SECRET" }, { set = "Need", type = "restrictive", value = "A" }]
"##;

#[test]
fn without_an_equal_level_the_higher_one() {
    let p = Policy::parse(GAP).expect("a policy");
    let of = |l| p.equivalent(l).map(|l| l.classification.name());
    assert_eq!(of(Level::StgC), Some("SECRET"));
    assert_eq!(of(Level::Ongerubriceerd), Some("OFFICIAL"));
    assert_eq!(of(Level::StgZg), None, "nothing protects it enough");
}

#[test]
fn what_a_label_may_say() {
    let mut all = known().clone();
    all.add(Policy::parse(GAP).expect("a policy"))
        .expect("a new one");
    for (text, says) in [
        ("XX OFFICIAL // NEED A", ""),
        ("XX SECRET // NEED A, B", ""),
        ("XX OFFICIAL // NEED A, C", ""),
        ("XX OFFICIAL", "Need takes 1 to 2 values"),
        ("XX SECRET // NEED Z", "Need has no value 'Z'"),
        (
            "XX OFFICIAL // NEED B",
            "with Need B there must be none of: OFFICIAL",
        ),
        (
            "XX SECRET // NEED A, C",
            "with Need there must be exactly one of: SECRET, Need A",
        ),
        ("NATO SECRET // CONTEXT NATO", ""),
        (
            "NATO SECRET // CONTEXT NATO, RELEASABLE // RELEASABLE TO NATO, JPN",
            "",
        ),
        (
            "NATO SECRET // RELEASABLE TO NATO",
            "all of: Context RELEASABLE",
        ),
        (
            "NATO SECRET // ADMINISTRATIVE STAFF",
            "all of: UNCLASSIFIED",
        ),
        ("NATO SECRET // CONTEXT A, B, C", "Context takes 0 to 2"),
        ("NATO SECRET // ONLY NIEMAND", ""),
    ] {
        let verdict = all.check(&all.read(text).expect(text).confidentiality);
        let said = verdict.map_or_else(|e| e.to_string(), |()| String::new());
        assert!(
            said.contains(says) && (says.is_empty() == said.is_empty()),
            "{text}: {said}"
        );
    }
    // Crafted: a level that says it equals less than it does, an unknown policy, a set of another policy.
    let nato: PolicyId = "NATO".parse().expect("valid");
    let lie = Classification::new(3, "SECRET", Level::Ongerubriceerd).expect("valid");
    let lie = Confidentiality::under(nato.clone(), lie);
    assert!(matches!(
        all.check(&lie),
        Err(InvalidUnderPolicy::Level { .. })
    ));
    let stranger = Confidentiality::under("ZZ".parse().expect("valid"), Level::DepV.into());
    assert!(matches!(
        all.check(&stranger),
        Err(InvalidUnderPolicy::Policy(_))
    ));
    let foreign = label("NATO SECRET")
        .with_value(CategoryType::Permissive, &TagSet::kring(), "ICCB")
        .expect("valid");
    assert!(matches!(
        all.check(&foreign),
        Err(InvalidUnderPolicy::Set { .. })
    ));
    let other_type = Confidentiality::new(Level::DepV)
        .with_value(CategoryType::Informative, &TagSet::kring(), "ICCB")
        .expect("valid");
    assert!(all.check(&other_type).is_err());
}

#[test]
fn markings_in_two_languages() {
    let c = label("NATO RESTRICTED // CONTEXT NATO, RELEASABLE // RELEASABLE TO NATO, JPN");
    assert_eq!(
        known().marking(&c, Language::En),
        "NATO RESTRICTED - Context NATO, RELEASABLE - Releasable to JPN, NATO"
    );
    assert_eq!(
        known().marking(&label("Stg.G // KRING NIEMAND"), Language::Nl),
        "Stg. GEHEIM - Kring niemand"
    );
    let mut all = known().clone();
    all.add(Policy::parse(GAP).expect("a policy"))
        .expect("a new one");
    let c = all.read("XX SECRET // NEED A").expect("a label");
    assert_eq!(
        all.marking(&c.confidentiality, Language::En),
        "XX SECRET - Need Ay"
    );
}

#[test]
fn each_mistake_in_a_policy_is_named() {
    assert!(Policy::parse(GAP).is_ok());
    for (from, to, says) in [
        ("version = 1", "versie = 1", "versie"),
        ("2.25.7", "9.1", "object identifier"),
        ("2.25.7", "2.25.07", "object identifier"),
        ("id = \"XX\"", "id = \"X/X\"", "'X/X'"),
        ("name = \"SECRET\"", "name = \"official\"", "stands twice"),
        ("code = 9", "code = 1", "stands twice"),
        (
            "equals = \"Stg.G\"",
            "equals = \"Ongerubriceerd\"",
            "lowest first",
        ),
        ("equals = \"Stg.G\"", "equals = \"GEHEIM\"", "not a level"),
        ("#ff0000", "red", "#rrggbb"),
        ("#ff0000", "#ff00é", "#rrggbb"),
        ("en = \"XX SECRET\"", "en = \"\"", "1 to 120"),
        ("en = \"XX SECRET\"", "en = \"a // b\"", "1 to 120"),
        ("min = 1", "min = 3", "0 ≤ min ≤ max"),
        ("max = 2", "max = 33", "0 ≤ min ≤ max"),
        ("arc = 2", "arc = 1", "stand twice"),
        (
            "value = [{ name = \"C\", marking = { nl = \"Cee\", en = \"Sea\" } }]",
            "",
            "neither open",
        ),
        (
            "{ name = \"B\", mark",
            "{ name = \"A\", mark",
            "a value stands twice",
        ),
        (
            "type = \"restrictive\", value = \"B\"",
            "value = \"B\"",
            "name the type",
        ),
        (
            "value = \"B\" }\n    needs",
            "value = \"Q\" }\n    needs",
            "none such",
        ),
        (
            "{ level = \"OFFICIAL\" }",
            "{ level = \"NOTHING\" }",
            "none such",
        ),
        ("{ level = \"OFFICIAL\" }", "{ }", "a term is"),
        (
            "of = [{ level = \"OFFICIAL\" }]",
            "of = []",
            "1 to 1024 terms",
        ),
    ] {
        assert!(GAP.contains(from), "{from}");
        let e = Policy::parse(&GAP.replacen(from, to, 1))
            .expect_err(to)
            .to_string();
        assert!(e.contains(says), "{to}: {e}");
    }
    let none = GAP.split("[[level]]").next().expect("a head");
    assert!(Policy::parse(none).is_err(), "no levels");
    assert_eq!(
        Policy::parse(&" ".repeat(MAX_POLICY_BYTES + 1)),
        Err(InvalidPolicy::TooLong)
    );
}

#[test]
fn policies_that_could_be_confused_do_not_stand_together() {
    let mut all = known().clone();
    let add = |all: &mut Policies, from: &str, to: &str| {
        all.add(Policy::parse(&GAP.replace(from, to)).expect(to))
            .map_err(|e| e.to_string())
    };
    assert_eq!(add(&mut all, "", ""), Ok(()));
    let again = add(&mut all, "", "").expect_err("the same version");
    assert!(again.contains("raise `version`"), "{again}");
    assert_eq!(add(&mut all, "version = 1", "version = 2"), Ok(()));
    let oid = add(&mut all, "id = \"XX\"", "id = \"YY\"").expect_err("the same oid");
    assert!(oid.contains("has its oid"), "{oid}");
    let clash = GAP
        .replace("id = \"XX\"", "id = \"YY\"")
        .replace("2.25.7", "2.25.8")
        .replace("XX SECRET", "Nato Secret");
    let e = all
        .add(Policy::parse(&clash).expect("a policy"))
        .expect_err("a clash");
    assert!(e.to_string().contains("could not tell them apart"), "{e}");
}

#[test]
fn a_clearance_is_written_like_a_label() {
    let c = known()
        .read_clearance("NATO SECRET // CONTEXT NATO // ADDITIONAL SENSITIVITY ATOMAL")
        .expect("a clearance");
    assert!(c.covers(&label("NATO CONFIDENTIAL // CONTEXT NATO")));
    assert!(!c.covers(&label("NATO CONFIDENTIAL // CONTEXT KFOR")));
    assert!(!c.covers(&label("Stg.C")), "never under another policy");
    assert_eq!(known().read_clearance(&c.to_string()), Ok(c.clone()));
    for (text, says) in [
        ("SECRET", "begins with 'SECRET'"),
        (
            "NATO SECRET // TOT 2036-01-01",
            "does not belong in a clearance",
        ),
        ("Stg.G // KRING a//b", "'b' does not belong"),
    ] {
        let e = known().read_clearance(text).expect_err(text).to_string();
        assert!(e.contains(says), "{text}: {e}");
    }
    let both: crate::Clearances = [Clearance::new(Level::StgG), c.clone()]
        .into_iter()
        .collect();
    assert_eq!(both.iter().count(), 2);
    assert_eq!(
        both.under(&PolicyId::nl()),
        Some(&Clearance::new(Level::StgG))
    );
    let one: crate::Clearances = Clearance::new(Level::DepV).into();
    assert_eq!(one.nl(), Some(&Clearance::new(Level::DepV)));
    assert_eq!(both.meet(&c.clone().into()), c.into());
}

proptest! {
    #[test]
    fn no_text_panics(text: String, at in 0usize..2000, cut in 0usize..40) {
        let _ = known().read(&text);
        let _ = known().read_clearance(&text);
        let _ = Policy::parse(&text);
        let end = (at + cut).min(GAP.len());
        let from = at.min(end);
        let _ = Policy::parse(&format!("{}{text}{}", &GAP[..from], &GAP[end..]));
    }

    #[test]
    fn a_foreign_label_is_read_back(
        level in 0usize..5,
        a in proptest::collection::btree_set("[A-Z]{1,4}", 0..3),
        b in proptest::collection::btree_set("[A-Z]{1,4}", 0..3),
    ) {
        let nato = known().get(&"NATO".parse().expect("valid")).expect("built in");
        let mut c = Confidentiality::under(nato.id().clone(), nato.levels()[level].classification.clone());
        for v in &a {
            c = c.with_value(CategoryType::Permissive, &"Only".parse().expect("valid"), v).expect("valid");
        }
        for v in &b {
            c = c.with_value(CategoryType::Restrictive, &"Additional Sensitivity".parse().expect("valid"), v).expect("valid");
        }
        prop_assert_eq!(label(&c.to_string()), c);
    }
}
