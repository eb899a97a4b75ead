//! Policies from XML-SPIFs: those of this folder, and published ones where they are at hand.

use std::path::{Path, PathBuf};

use ordonnans_label::{Label, Language, Level, Policies, Policy};
use ordonnans_stanag::spif::{Imported, InvalidSpif, MAX_NOTES, read};
use ordonnans_stanag::{label, spif};

const HARBOUR: &str = include_str!("harbour.xml");

fn import(xml: &str) -> (Imported, Policy) {
    let imported = read(xml.as_bytes(), Policies::built_in()).expect("a policy");
    let policy = Policy::parse(&imported.toml).expect("its text");
    (imported, policy)
}

fn with(policy: Policy) -> Policies {
    let mut all = Policies::built_in().clone();
    all.add(policy).expect("another policy");
    all
}

#[test]
fn levels_in_the_order_of_the_file_and_at_the_stricter_of_what_they_equal() {
    let (imported, policy) = import(HARBOUR);
    assert_eq!(
        (policy.id().as_str(), policy.oid(), policy.version()),
        ("HARBOUR", "2.25.77001", 7)
    );
    let levels: Vec<_> = policy
        .levels()
        .iter()
        .map(|l| {
            (
                l.classification.name(),
                l.code,
                l.classification.level(),
                l.marking.nl.as_str(),
                l.marking.en.as_str(),
                l.colour.as_str(),
            )
        })
        .collect();
    assert_eq!(
        levels,
        [
            (
                "OPEN",
                10,
                Level::DepV,
                "* HARBOUR OPEN",
                "* HARBOUR OPEN",
                "#00ff7f"
            ),
            (
                "PIER",
                20,
                Level::DepV,
                "* HARBOUR PIER",
                "* HARBOUR PIER",
                "#0000ff"
            ),
            (
                "QUAY",
                40,
                Level::StgC,
                "* HARBOUR ALLEEN KADE",
                "* HARBOUR QUAY ONLY",
                "#ff0000"
            ),
            (
                "VAULT",
                5,
                Level::StgZg,
                "* HARBOUR VAULT",
                "* HARBOUR VAULT",
                "#808080"
            ),
        ]
    );
    assert!(policy.levels().iter().all(|l| l.unconfirmed));
    for note in [
        "'OPEN': no known policy is said to equal it; it is held at Dep.V",
        "'VAULT': no known policy is said to equal it; it is held at Stg.ZG",
        "equivalences to ELSEWHERE",
        "PIER' is obsolete",
        "'Rust/7': it has characters",
        "'OIL': it needs a value that could not be carried over",
        "several permissive tags",
        "several tags of one type are one set",
        "'free text': people type it",
        "notAfter is not carried over",
        "notApplicable",
        "defaultSecurityPolicyId",
        "privacyMarks",
        "extensions",
        "equivalent values of other policies",
    ] {
        assert!(
            imported.notes.iter().any(|n| n.contains(note)),
            "{note}: {:#?}",
            imported.notes
        );
    }
}

#[test]
fn what_goes_with_what() {
    let (_, policy) = import(HARBOUR);
    let all = with(policy);
    for (text, valid) in [
        ("HARBOUR OPEN", true),
        ("HARBOUR OPEN // CARGO GRAIN", true),
        ("HARBOUR QUAY", false),
        ("HARBOUR QUAY // SHIPS MARIA", true),
        ("HARBOUR QUAY // SHIPS MARIA, ANNA", true),
        ("HARBOUR OPEN // SHIPS MARIA", false),
        ("HARBOUR PIER // SHIPS BERTHA", false),
        ("HARBOUR QUAY // SHIPS MARIA // CARGO OIL", false),
        ("HARBOUR PIER // CARGO HEAVY", true),
        ("HARBOUR PIER // CARGO HEAVY, GRAIN", false),
        ("HARBOUR PIER // GATES N1", true),
        ("HARBOUR PIER // GATES S1", false),
        ("HARBOUR PIER // GATES - SOUTH S1", true),
        ("HARBOUR PIER // GATES N1 // GATES - SOUTH S1", false),
    ] {
        let label: Label = all.read(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(all.check(&label.confidentiality).is_ok(), valid, "{text}");
    }
}

#[test]
fn a_label_of_an_imported_policy_there_and_back() {
    let (_, policy) = import(HARBOUR);
    let all = with(policy);
    let label: Label = all
        .read("HARBOUR QUAY // SHIPS ANNA // CARGO GRAIN // TOT 2036-01-01")
        .expect("a label");
    let made = "2026-11-24T03:00:00Z".parse().expect("a time");
    let xml = label::write(&label, made, None, &all).expect("valid");
    assert!(
        xml.contains("TagName=\"Ships\" Type=\"PERMISSIVE\" URI=\"urn:oid:2.25.77001.1\""),
        "{xml}"
    );
    assert_eq!(
        label::read(xml.as_bytes(), &all).map(|l| l.label),
        Ok(label.clone())
    );
    assert_eq!(
        all.marking(&label.confidentiality, Language::En),
        "* HARBOUR QUAY ONLY - Ships ANNA (A) - Cargo GRAIN"
    );
}

#[test]
fn a_policy_without_sets() {
    let (imported, policy) = import(include_str!("plain.xml"));
    assert_eq!(imported.notes, [""; 0]);
    let markings: Vec<_> = policy
        .levels()
        .iter()
        .map(|l| l.marking.en.as_str())
        .collect();
    assert_eq!(markings, ["L:GREEN", "L:RED"]);
    assert!(policy.sets().is_empty() && policy.version() == 1);
}

#[test]
fn a_file_that_would_be_too_much() {
    let built = Policies::built_in();
    let head = HARBOUR
        .split("<spif:securityClassifications>")
        .next()
        .expect("there");
    let levels: String = (0..17)
        .map(|i| {
            format!("<spif:securityClassification name=\"L{i}\" lacv=\"{i}\" hierarchy=\"{i}\"/>")
        })
        .collect();
    let many = format!(
        "{head}<spif:securityClassifications>{levels}</spif:securityClassifications></spif:SPIF>"
    );
    assert!(matches!(
        read(many.as_bytes(), built),
        Err(InvalidSpif::TooMany(_))
    ));

    // Each of 1024 values excludes its set.
    let values: String = (0..1024)
        .map(|i| format!("<spif:tagCategory name=\"V{i}\" lacv=\"{i}\"><spif:excludedCategory tagSetRef=\"S\" tagType=\"permissive\"/></spif:tagCategory>"))
        .collect();
    let many = format!(
        "{head}<spif:securityClassifications><spif:securityClassification name=\"A\" lacv=\"1\" hierarchy=\"1\"/></spif:securityClassifications>\
         <spif:securityCategoryTagSets><spif:securityCategoryTagSet name=\"S\" id=\"1.2\"><spif:securityCategoryTag tagType=\"permissive\">{values}\
         </spif:securityCategoryTag></spif:securityCategoryTagSet></spif:securityCategoryTagSets></spif:SPIF>"
    );
    assert!(matches!(
        read(many.as_bytes(), built),
        Err(InvalidSpif::TooMany(_))
    ));

    let foreign: String = (0..2 * MAX_NOTES).map(|i| format!("<x:e{i}/>")).collect();
    let noted = HARBOUR.replace(
        "<spif:securityClassifications>",
        &format!("{foreign}<spif:securityClassifications>"),
    );
    let notes = read(noted.as_bytes(), built).expect("a policy").notes;
    assert_eq!(notes.len(), MAX_NOTES);
    let long = " ".repeat(spif::MAX_XML_BYTES + 1);
    assert_eq!(
        read(long.as_bytes(), built).map_err(|e| e.name()),
        Err("too-long")
    );
}

fn xml_files(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "xml"))
        .collect();
    all.sort();
    all
}

/// `ORDONNANS_SPIF_DIR` names a folder with published SPIFs.
#[test]
fn published_policies() {
    let Some(folder) = std::env::var_os("ORDONNANS_SPIF_DIR") else {
        println!("skipped: ORDONNANS_SPIF_DIR is not set");
        return;
    };
    let files = xml_files(Path::new(&folder));
    if files.is_empty() {
        println!("skipped: there is no file in {}", folder.display());
    }
    for file in files {
        let bytes = std::fs::read(&file).expect("readable");
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let got = read(&bytes, Policies::built_in());
        match &got {
            Ok(i) => {
                println!("{name}:\n{}{:#?}", i.toml, i.notes);
                Policy::parse(&i.toml).expect("a policy");
            }
            Err(e) => println!("{name}: {} ({e})", e.name()),
        }
        // What is published as broken, and what is no policy, is refused.
        let policy = name.starts_with("tlp.")
            || name.starts_with("tlp-plus.")
            || name.starts_with("uk-demo.");
        assert_eq!(got.is_ok(), policy, "{name}");
    }
}
