//! The policies in `docs/policies`, and what a policy file must not say.

use ordonnans_label::{Language, Level, Policies, Policy};
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
