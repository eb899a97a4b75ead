//! The test vectors in `docs/vectors/stanag.json`: good XML and what it means, bad XML and the name of what is wrong with it.
//!
//! Each run reads the file and holds it against the readers, and against what is made here. After a deliberate change,
//! `ORDONNANS_WRITE_VECTORS=1 cargo test -p ordonnans-stanag --test vectors` writes it anew.

mod bindings;
mod labels;
mod spifs;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::{Deserialize, Serialize};

const PYTHON: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/python/check_4774.py"
);
const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/vectors/stanag.json"
);

/// What follows from good XML and another reader can compare.
type Facts = BTreeMap<String, String>;
/// What a reader gives: the facts, or the name of the error.
type Read = Result<Facts, &'static str>;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Set {
    rule: String,
    note: String,
    good: Vec<Good>,
    bad: Vec<Bad>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Good {
    name: String,
    /// What the XML is: `label`, `binding` or `spif`.
    what: String,
    facts: Facts,
    xml: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Bad {
    name: String,
    what: String,
    /// The `name()` of the error.
    error: String,
    xml: String,
}

/// Examples of one kind of document.
struct Source {
    what: &'static str,
    read: fn(&[u8]) -> Read,
    good: Vec<(String, String)>,
    bad: Vec<(&'static str, String)>,
    /// Every name of an error of this kind that XML of a few kilobytes can have.
    errors: &'static [&'static str],
}

fn sources() -> Vec<Source> {
    vec![labels::source(), bindings::source(), spifs::source()]
}

fn facts<const N: usize>(all: [(&str, String); N]) -> Facts {
    all.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

/// A document with one thing changed.
fn with(document: &str, old: &str, new: &str) -> String {
    assert!(document.contains(old), "{old} is not in {document}");
    document.replacen(old, new, 1)
}

fn make() -> Set {
    let (mut good, mut bad) = (vec![], vec![]);
    for source in sources() {
        for (name, xml) in source.good {
            let facts = (source.read)(xml.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
            good.push(Good {
                name,
                what: source.what.into(),
                facts,
                xml,
            });
        }
        for (name, xml) in source.bad {
            let error = (source.read)(xml.as_bytes()).expect_err(name);
            bad.push(Bad {
                name: name.into(),
                what: source.what.into(),
                error: error.into(),
                xml,
            });
        }
    }
    Set {
        rule: "stanag".into(),
        note: "labels under the built-in policies; the first worked examples are those of ADatP-4774 as other readers publish them".into(),
        good,
        bad,
    }
}

#[test]
fn the_file_holds_and_is_what_this_version_makes() {
    let made = make();
    if std::env::var_os("ORDONNANS_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&made).expect("JSON");
        std::fs::write(FILE, text + "\n").expect("writes");
    }
    let text = std::fs::read_to_string(FILE).expect("the vectors are there");
    let set: Set = serde_json::from_str(&text).expect("vectors");
    let readers: BTreeMap<&str, _> = sources().into_iter().map(|s| (s.what, s.read)).collect();
    for good in &set.good {
        let facts = readers[good.what.as_str()](good.xml.as_bytes());
        assert_eq!(facts.as_ref(), Ok(&good.facts), "{}", good.name);
    }
    for bad in &set.bad {
        let error = readers[bad.what.as_str()](bad.xml.as_bytes());
        assert_eq!(error, Err(bad.error.as_str()), "{}", bad.name);
    }
    assert!(
        set == made,
        "docs/vectors/stanag.json is of another version; a deliberate change is written with ORDONNANS_WRITE_VECTORS=1"
    );
}

#[test]
fn every_error_has_a_vector() {
    for source in sources() {
        let seen: BTreeSet<&str> = source
            .bad
            .iter()
            .filter_map(|(_, xml)| (source.read)(xml.as_bytes()).err())
            .collect();
        for error in source.errors {
            assert!(seen.contains(error), "{}: {error}", source.what);
        }
        for error in seen {
            assert!(source.errors.contains(&error), "{error} is not listed");
        }
    }
}

/// `ORDONNANS_4774_XSD` names the schema as the standard prints it; it is not ours to hand on. Needs python3 with lxml.
#[test]
fn the_published_schema_agrees() {
    let Some(schema) = std::env::var_os("ORDONNANS_4774_XSD") else {
        println!("skipped: ORDONNANS_4774_XSD is not set");
        return;
    };
    let out = Command::new("python3")
        .arg("-B")
        .arg(PYTHON)
        .arg(schema)
        .arg(FILE)
        .output();
    let Ok(out) = out else {
        println!("skipped: python3 is not here");
        return;
    };
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // 3: lxml is not here.
    if out.status.code() == Some(3) {
        println!("skipped: {said}");
        return;
    }
    assert!(out.status.success(), "{said}");
    println!("{said}");
}
