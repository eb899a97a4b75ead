//! The policies in `docs/policies`, and what a policy file must not say.

use ordonnans_label::{
    CategoryType, Classification, Confidentiality, Duration, Kind, Language, Level, MAX_POLICIES,
    MAX_SETS, Name, Policies, Policy, TagSet,
};
use proptest::prelude::*;

const BE: &str = include_str!("../../../docs/policies/be.toml");
const DE: &str = include_str!("../../../docs/policies/de.toml");
const DK: &str = include_str!("../../../docs/policies/dk.toml");
const EE: &str = include_str!("../../../docs/policies/ee.toml");

fn all() -> Policies {
    let mut all = Policies::built_in().clone();
    for text in [BE, DE, DK, EE] {
        let policy = Policy::parse(text).expect("a policy");
        all.add(policy).expect("it fits beside the others");
    }
    all
}

#[test]
fn each_level_equals_what_the_table_of_the_council_says() {
    let all = all();
    for (label, level, unconfirmed) in [
        ("BE CONFIDENTIEL", Level::StgC, false),
        ("BE SECRET", Level::StgG, false),
        ("BE TRES SECRET", Level::StgZg, false),
        ("BE RESTREINT", Level::DepV, true),
        ("DE VS-NUR FÜR DEN DIENSTGEBRAUCH", Level::DepV, false),
        ("DE VS-VERTRAULICH", Level::StgC, false),
        ("DE GEHEIM", Level::StgG, false),
        ("DE STRENG GEHEIM", Level::StgZg, false),
        ("DK TIL TJENESTEBRUG", Level::DepV, false),
        ("DK FORTROLIGT", Level::StgC, false),
        ("DK HEMMELIGT", Level::StgG, false),
        ("DK YDERST HEMMELIGT", Level::StgZg, false),
        ("EE PIIRATUD", Level::DepV, false),
        ("EE KONFIDENTSIAALNE", Level::StgC, false),
        ("EE SALAJANE", Level::StgG, false),
        ("EE TÄIESTI SALAJANE", Level::StgZg, false),
    ] {
        let c = all.read(label).expect(label).confidentiality;
        assert_eq!(c.level(), level, "{label}");
        all.check(&c).expect(label);
        let policy = all.get(c.policy()).expect("its policy");
        let row = policy.level(c.classification().name()).expect("its level");
        assert_eq!(row.unconfirmed, unconfirmed, "{label}");
        // What is shown to people leads back to the same level.
        let shown = all.marking(&c, Language::Nl);
        assert_eq!(
            all.read(&shown).expect(&shown).confidentiality,
            c,
            "{label}"
        );
    }
}

#[test]
fn a_word_says_nothing_without_its_policy() {
    let all = all();
    // Vertrouwelijk is Stg.C in Belgium; in the Netherlands the level below has the word.
    let belgian = all
        .read("CONFIDENTIEL - VERTROUWELIJK (BE)")
        .expect("a label");
    assert_eq!(belgian.confidentiality.level(), Level::StgC);
    let dutch = all.read("Departementaal Vertrouwelijk").expect("a label");
    assert_eq!(dutch.confidentiality.level(), Level::DepV);
    for word in ["GEHEIM", "VERTROUWELIJK", "SECRET", "CONFIDENTIEL"] {
        assert!(
            all.read(word).is_err(),
            "{word} alone is a word of several policies"
        );
    }
}

const SET: &str = "[[set]]";

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let rule = |when: &str, of: &str| {
        format!("[[rule]]\nwhen = {{ {when} }}\nneeds = \"all\"\nof = [{of}]\n[[set]]")
    };
    let no_level = rule("level = \"NONE\"", "{ set = \"Releasable To\" }");
    let no_set = rule("set = \"Nothing\"", "{ level = \"SECRET\" }");
    let no_terms = rule("set = \"Releasable To\"", "");
    let both = rule(
        "level = \"SECRET\", value = \"X\"",
        "{ level = \"SECRET\" }",
    );
    let twice = "[[set]]\nname = \"Releasable To\"\ntype = \"permissive\"\narc = 2\nopen = true\nmarking = { nl = \"a\", en = \"a\" }\n[[set]]";
    for (from, to, says) in [
        ("id = \"BE\"", "id = \"\"", "''"),
        ("id = \"BE\"", "", "missing field `id`"),
        ("version = 1", "versie = 1", "versie"),
        (
            "oid = \"2.25.",
            "oid = \"9.25.",
            "oid: not an object identifier",
        ),
        (
            "title = { nl = \"België\"",
            "title = { nl = \"\"",
            "title: a text that is shown",
        ),
        (
            "name = \"SECRET\"",
            "name = \"CONFIDENTIEL\"",
            "level 'CONFIDENTIEL': its name or code stands twice",
        ),
        (
            "code = 4",
            "code = 3",
            "level 'SECRET': its name or code stands twice",
        ),
        (
            "equals = \"Stg.G\"",
            "equals = \"Dep.V\"",
            "level 'SECRET': equals less than the level below",
        ),
        ("equals = \"Stg.G\"", "equals = \"GEHEIM\"", "not valid"),
        (
            "colour = \"#c0392b\"",
            "colour = \"red\"",
            "level 'SECRET': a colour is written #rrggbb",
        ),
        ("name = \"SECRET\"", "name = \"SE//CRET\"", "'SE//CRET'"),
        (
            "open = true",
            "open = false",
            "set 'Releasable To': it is neither open nor lists values",
        ),
        ("arc = 1\n", "arc = 1\nmin = 3\nmax = 2\n", "0 ≤ min ≤ max"),
        (
            "arc = 1\n",
            "arc = 1\noid = \"x\"\n",
            "set 'Releasable To': its oid is not",
        ),
        ("type = \"permissive\"", "type = \"strict\"", "strict"),
        (
            SET,
            twice,
            "set 'Releasable To': its name and type, or its arc, stand twice",
        ),
        (
            SET,
            &no_level,
            "rule: level 'NONE': the policy has none such",
        ),
        (SET, &no_set, "rule: set 'Nothing'"),
        (SET, &no_terms, "`of` lists 1 to 1024 terms"),
        (SET, &both, "a term is"),
    ] {
        assert!(BE.contains(from), "{from}");
        let e = Policy::parse(&BE.replacen(from, to, 1))
            .expect_err(to)
            .to_string();
        assert!(e.contains(says), "{to}: {e}");
    }
    assert!(Policy::parse(&" ".repeat(2 << 20)).is_err(), "2 MiB");
}

#[test]
fn policies_do_not_stand_in_each_others_place() {
    let mut all = all();
    for (from, to, says) in [
        (
            "version = 1",
            "version = 1",
            "known already with this or a higher version",
        ),
        ("id = \"BE\"", "id = \"BX\"", "another policy has its oid"),
    ] {
        let policy = Policy::parse(&BE.replacen(from, to, 1)).expect("a policy");
        let e = all.add(policy).expect_err(says).to_string();
        assert!(e.contains(says), "{e}");
    }
    let other = BE
        .replace("id = \"BE\"", "id = \"BX\"")
        .replace("2.25.", "2.25.1");
    let e = all
        .add(Policy::parse(&other).expect("a policy"))
        .expect_err("one marking");
    assert!(
        e.to_string().contains("a reader could not tell them apart"),
        "{e}"
    );
    let newer = BE.replacen("version = 1", "version = 2", 1);
    all.add(Policy::parse(&newer).expect("a policy"))
        .expect("a higher version");
}

#[test]
fn what_a_combination_asks_for() {
    let set = |name: &str, arc: u8| {
        format!(
            "[[set]]\nname = \"{name}\"\ntype = \"restrictive\"\narc = {arc}\nopen = true\nmarking = {{ nl = \"{name}\", en = \"{name}\" }}\n"
        )
    };
    for (needs, none, one, both) in [
        ("one", false, true, false),
        ("some", false, true, true),
        ("all", false, false, true),
        ("none", true, false, false),
    ] {
        let rule = format!(
            "[[rule]]\nwhen = {{ level = \"SECRET\" }}\nneeds = \"{needs}\"\nof = [{{ set = \"A\" }}, {{ set = \"B\", value = \"X\" }}]\n"
        );
        let text = format!("{BE}\n{}{}{rule}", set("A", 7), set("B", 8));
        let mut all = Policies::built_in().clone();
        all.add(Policy::parse(&text).expect(needs))
            .expect("it fits");
        for (label, good) in [
            ("BE SECRET", none),
            ("BE SECRET // A Q", one),
            ("BE SECRET // B X", one),
            ("BE SECRET // B Y", none),
            ("BE SECRET // A Q // B X", both),
            ("BE CONFIDENTIEL", true),
        ] {
            let c = all.read(label).expect(label).confidentiality;
            assert_eq!(all.check(&c).is_ok(), good, "{needs}: {label}");
        }
    }
}

#[test]
fn bounds_hold_on_both_sides() {
    // Policies together.
    let mut all = Policies::built_in().clone();
    let numbered = |i: usize| {
        let text = BE.replace("id = \"BE\"", &format!("id = \"X{i}\""));
        let text = text.replace("2.25.", &format!("2.25.{}", i + 10));
        Policy::parse(&text.replace("(BE)", &format!("({i})"))).expect("a policy")
    };
    let room = MAX_POLICIES - all.iter().count();
    for i in 0..room {
        all.add(numbered(i)).expect("room");
    }
    let e = all
        .add(numbered(room))
        .expect_err("one too many")
        .to_string();
    assert!(e.contains("at most 64"), "{e}");
    let newer = BE
        .replace("id = \"BE\"", "id = \"X0\"")
        .replace("2.25.", "2.25.10");
    let newer = newer
        .replace("(BE)", "(0)")
        .replacen("version = 1", "version = 2", 1);
    all.add(Policy::parse(&newer).expect("a policy"))
        .expect("in the place of another");
    // Sets of a policy, and of a label over all its types.
    let sets = |n: usize| -> String {
        (0..n)
            .map(|i| format!("[[set]]\nname = \"S{i}\"\ntype = \"restrictive\"\narc = {}\nopen = true\nmarking = {{ nl = \"s\", en = \"s\" }}\n", i + 2))
            .collect()
    };
    assert!(Policy::parse(&format!("{BE}\n{}", sets(15))).is_ok());
    assert!(Policy::parse(&format!("{BE}\n{}", sets(16))).is_err());
    let kinds = [
        CategoryType::Restrictive,
        CategoryType::Permissive,
        CategoryType::Informative,
    ];
    let mut c: Confidentiality = Confidentiality::new(Level::DepV);
    for i in 0..MAX_SETS {
        let set: TagSet = format!("S{i}").parse().expect("a set");
        c = c.with_value(kinds[i % 3], &set, "X").expect("room");
        c = c
            .with_value(kinds[i % 3], &set, "Y")
            .expect("another value of it");
    }
    let one_more: TagSet = "ONE MORE".parse().expect("a set");
    for kind in kinds {
        assert!(c.clone().with_value(kind, &one_more, "X").is_err());
        assert_eq!(CategoryType::from_code(kind.code()), Some(kind));
    }
    assert_eq!(CategoryType::from_code(3), None);
    // Values of a set and terms of a rule.
    let values = |n: usize| -> String {
        let all = (0..n).map(|i| {
            format!("[[set.value]]\nname = \"V{i}\"\nmarking = {{ nl = \"v\", en = \"v\" }}\n")
        });
        all.collect()
    };
    assert!(Policy::parse(&format!("{BE}\n{}", values(1024))).is_ok());
    assert!(Policy::parse(&format!("{BE}\n{}", values(1025))).is_err());
    let rule = |n: usize| {
        let of = vec!["{ level = \"SECRET\" }"; n].join(", ");
        format!("[[rule]]\nwhen = {{ level = \"SECRET\" }}\nneeds = \"all\"\nof = [{of}]\n")
    };
    assert!(Policy::parse(&format!("{BE}\n{}", rule(1024))).is_ok());
    assert!(Policy::parse(&format!("{BE}\n{}", rule(1025))).is_err());
    assert!(Policy::parse(&format!("{BE}\n{}", rule(1).repeat(1024))).is_ok());
    assert!(Policy::parse(&format!("{BE}\n{}", rule(1).repeat(1025))).is_err());
}

#[test]
fn a_level_reaches_by_rank_and_by_its_equal() {
    let of = |rank, level| Classification::new(rank, "X", level).expect("a level");
    assert_eq!(of(3, Level::StgC).rank(), 3);
    let held = of(2, Level::StgC);
    for (rank, level, reaches) in [
        (2, Level::StgC, true),
        (1, Level::DepV, true),
        (3, Level::StgC, false),
        (2, Level::StgG, false),
    ] {
        assert_eq!(held.reaches(&of(rank, level)), reaches, "{rank} {level}");
    }
}

#[test]
fn names_events_and_states_are_what_they_say() {
    for (text, kind) in [
        ("b1.broker.crisis.example", Kind::Broker),
        ("bva.officer.crisis.example", Kind::Officer),
        ("ncc.node.crisis.example", Kind::Node),
        ("vermeer.person.crisis.example", Kind::Person),
    ] {
        let name: Name = text.parse().expect(text);
        assert_eq!((name.kind(), name.as_str()), (kind, text));
        assert_eq!(String::from(name.clone()), text);
        assert!(format!("{name:?}").contains(name.local()));
    }
    assert!("node.crisis.example".parse::<Name>().is_err());
    assert!("a.b".parse::<Name>().is_err());
    assert_eq!(String::from(Level::StgC), "Stg.C");
    for bad in ["", " x", "x ", "a\"b", "a//b", "a\nb", "a\u{7}b"] {
        assert!(Duration::event(bad).is_err(), "{bad:?}");
    }
    assert!(Duration::event("einde van de oefening").is_ok());
    let all = all();
    assert!(all.read("Dep.V // VOORGESTELD").is_ok());
    assert!(all.read("Dep.V // VOORGESTELD door mij").is_err());
}

proptest! {
    /// A file that was changed somewhere is a policy or is refused, and nothing else happens.
    #[test]
    fn a_changed_file_is_read_or_refused(at in 0..BE.len(), by in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = BE.as_bytes().to_vec();
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= by;
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(policy) = Policy::parse(&text) {
            // What was read can be used.
            let mut all = Policies::built_in().clone();
            if all.add(policy.clone()).is_ok() {
                for level in policy.levels() {
                    let text = format!("{} {}", policy.id(), level.classification.name());
                    prop_assert!(all.read(&text).is_ok(), "{text}");
                }
            }
        }
    }
}
