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

/// A file of `docs/vectors` with what is wrong with texts.
#[derive(serde::Serialize, serde::Deserialize)]
struct Vectors {
    rule: String,
    note: String,
    good: String,
    bad: Vec<Bad>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Bad {
    from: String,
    to: String,
    error: String,
}

/// Holds every case of a file against what is said of it; ORDONNANS_WRITE_VECTORS=1 writes what is said.
fn each_is_named(file: &str, ask: impl Fn(&Bad) -> Option<String>) {
    let path = format!(
        "{}/../../docs/vectors/{file}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).expect("the file");
    let mut all: Vectors = serde_json::from_str(&text).expect("vectors");
    let write = std::env::var_os("ORDONNANS_WRITE_VECTORS").is_some();
    for case in &mut all.bad {
        let Some(e) = ask(case) else {
            panic!("{file}: '{}' was taken", case.to);
        };
        if write {
            case.error = e;
        } else {
            assert_eq!(e, case.error, "{file}: {}", case.to);
        }
    }
    if write {
        let text = serde_json::to_string_pretty(&all).expect("JSON") + "\n";
        std::fs::write(path, text).expect("written");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    each_is_named("policy", |case| {
        assert!(BE.contains(&case.from), "{}", case.from);
        let changed = BE.replacen(&case.from, &case.to, 1);
        Policy::parse(&changed).err().map(|e| e.to_string())
    });
    assert!(Policy::parse(&" ".repeat(2 << 20)).is_err(), "2 MiB");
}

#[test]
fn what_is_wrong_with_what_is_typed_is_named() {
    let all = Policies::built_in();
    each_is_named("typed", |case| match case.from.as_str() {
        "label" => all.read(&case.to).err().map(|e| e.to_string()),
        _ => all.read_clearance(&case.to).err().map(|e| e.to_string()),
    });
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
fn a_set_that_must_be_there_may_be_there_for_nobody() {
    let text = BE.replacen("arc = 1\n", "arc = 1\nmin = 1\n", 1);
    let mut all = Policies::built_in().clone();
    all.add(Policy::parse(&text).expect("a policy"))
        .expect("it fits");
    let set: TagSet = "Releasable To".parse().expect("a set");
    let bare = all.read("BE SECRET").expect("a label").confidentiality;
    assert!(all.check(&bare).is_err(), "absent");
    let nobody = bare.for_nobody_of(&set).expect("nobody");
    assert_eq!(all.check(&nobody), Ok(()), "nobody is somebody's word");
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
