//! XML-SPIF.

use ordonnans_label::{Policies, Policy};
use ordonnans_stanag::spif::read;

use crate::{Read, Source, facts, with};

const HARBOUR: &str = include_str!("../spif/harbour.xml");

fn read_spif(xml: &[u8]) -> Read {
    let imported = read(xml, Policies::built_in()).map_err(|e| e.name())?;
    let policy = Policy::parse(&imported.toml).expect("what is written is a policy");
    let levels: Vec<String> = policy
        .levels()
        .iter()
        .map(|l| {
            let c = &l.classification;
            format!("{} {} = {}", l.code, c.name(), c.level())
        })
        .collect();
    let sets: Vec<String> = policy
        .sets()
        .iter()
        .map(|s| format!("{} ({})", s.name, s.values.len()))
        .collect();
    Ok(facts([
        ("policy", policy.id().to_string()),
        ("oid", policy.oid().to_owned()),
        ("levels", levels.join(", ")),
        ("sets", sets.join(", ")),
        ("rules", policy.combinations().len().to_string()),
        ("notes", imported.notes.join("\n")),
    ]))
}

pub(crate) fn source() -> Source {
    let h = |old: &str, new: &str| with(HARBOUR, old, new);
    let bad = vec![
        ("cut", HARBOUR[..HARBOUR.len() - 12].to_owned()),
        ("an entity", h("<spif:SPIF", "<!DOCTYPE s [<!ENTITY a \"b\">]><spif:SPIF")),
        ("no namespace", h("http://www.xmlspif.org/spif", "urn:example")),
        ("another root", HARBOUR.replace("spif:SPIF", "spif:Policy")),
        ("version 3.0", h("schemaVersion=\"2.1\"", "schemaVersion=\"3.0\"")),
        ("no version of the schema", h(" schemaVersion=\"2.1\"", "")),
        ("a version that is no number", h("version=\"7\"", "version=\"7.1\"")),
        ("an element that may be a rule", h("<spif:excludedClass>OPEN</spif:excludedClass>", "<spif:forbiddenClass>OPEN</spif:forbiddenClass>")),
        ("a marking that the schema does not have", h("<spif:tagCategory name=\"N1\"", "<spif:markingCode phrase=\"x\"/><spif:tagCategory name=\"N1\"")),
        ("no policy", h("<spif:securityPolicyId name=\"HARBOUR\" id=\"2.25.77001\"/>", "")),
        ("two policies", h("<spif:securityPolicyId name=\"HARBOUR\" id=\"2.25.77001\"/>", &"<spif:securityPolicyId name=\"HARBOUR\" id=\"2.25.77001\"/>".repeat(2))),
        ("a policy without an identifier", h(" id=\"2.25.77001\"", "")),
        ("an identifier that is none", h("\"2.25.77001\"", "\"harbour\"")),
        ("a name that labels cannot have", h("\"HARBOUR\"", "\"HARBOUR//NL\"")),
        ("a level that labels cannot have", HARBOUR.replace("VAULT", "VAULT, INNER")),
        ("a number above 255", h("lacv=\"40\"", "lacv=\"400\"")),
        ("two levels in one place", h("hierarchy=\"9\"", "hierarchy=\"3\"")),
        ("two levels with one number", h("lacv=\"5\"", "lacv=\"10\"")),
        ("two levels with one name", h("name=\"VAULT\"", "name=\"open\"")),
        ("an equal that the other policy does not have", h("policyRef=\"Dutch\" lacv=\"3\"", "policyRef=\"Dutch\" lacv=\"9\"")),
        ("an excluded level that is none", h(">OPEN<", ">SHUT<")),
        ("a required level that is none", h("requiredClass=\"QUAY\"", "requiredClass=\"SHUT\"")),
        ("a reference to a value that is none", h("tagType=\"restrictive\" lacv=\"1\"/>", "tagType=\"restrictive\" lacv=\"8\"/>")),
        ("a reference to a set that is none", h("tagSetRef=\"Cargo\" tagType=\"restrictive\" lacv=\"1\"/>", "tagSetRef=\"Crew\" tagType=\"restrictive\" lacv=\"1\"/>")),
        ("a type that is none", h("tagType=\"tagType7\"", "tagType=\"tagType6\"")),
        ("an enumeration without its type", h("tagType=\"enumerated\" enumType=\"permissive\" maxSelection", "tagType=\"enumerated\" maxSelection")),
        ("an operation that is none", h("operation=\"onlyOne\"", "operation=\"two\"")),
        ("a requirement of nothing", h("<spif:categoryGroup tagSetRef=\"Gates\" tagType=\"permissive\"/>", "")),
        ("a truth value that is none", h("singleSelection=\"true\"", "singleSelection=\"yes\"")),
        ("a number of values that is none", h("maxSelection=\"2\"", "maxSelection=\"few\"")),
        ("no value at all may stand", h("maxSelection=\"2\"", "maxSelection=\"0\"")),
        ("a value's number twice", h("name=\"GRAIN\" lacv=\"0\"", "name=\"GRAIN\" lacv=\"1\"")),
        ("a set with values that labels cannot have alone", h("name=\"N1\"", "name=\"N/1\"")),
        (
            "17 sets",
            h("</spif:securityCategoryTagSets>", &format!(
                "{}</spif:securityCategoryTagSets>",
                (0..17).map(|i| format!("<spif:securityCategoryTagSet name=\"S{i}\" id=\"1.2.{i}\"><spif:securityCategoryTag tagType=\"restrictive\"/></spif:securityCategoryTagSet>")).collect::<String>()
            )),
        ),
    ];
    Source {
        what: "spif",
        read: read_spif,
        good: vec![
            ("a harbour".into(), HARBOUR.into()),
            (
                "two lights".into(),
                include_str!("../spif/plain.xml").into(),
            ),
        ],
        bad,
        errors: &[
            "document-type",
            "malformed",
            "root",
            "version",
            "element",
            "missing",
            "value",
            "same",
            "reference",
            "too-many",
            "policy",
        ],
    }
}
