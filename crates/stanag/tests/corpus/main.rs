//! What is malformed on purpose: the files of this folder, documents too large to store, and good documents with bytes changed. Each goes to
//! every reader; none may panic, and the large ones are refused in bounded time.

use std::path::Path;
use std::time::{Duration, Instant};

use ordonnans_label::{Label, Policies};
use ordonnans_message::sha256;
use ordonnans_stanag::{binding, label, spif};
use proptest::prelude::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
const LABEL: &str = "urn:nato:stanag:4774:confidentialitymetadatalabel:1:0";

/// What each reader says: the name of the error, or that it is good.
fn all(bytes: &[u8]) -> [&'static str; 3] {
    let policies = Policies::built_in();
    [
        label::read(bytes, policies).map_or_else(|e| e.name(), |_| "good"),
        binding::read(bytes, policies).map_or_else(|e| e.name(), |_| "good"),
        spif::read(bytes, policies).map_or_else(|e| e.name(), |_| "good"),
    ]
}

/// A file is called `ERROR-what.xml`: the error of the reader it is meant for.
#[test]
fn the_files_of_this_folder_are_refused() {
    let mut seen = 0;
    for file in std::fs::read_dir(FOLDER).expect("the folder") {
        let path = file.expect("a file").path();
        if path.extension().is_none_or(|e| e != "xml") {
            continue;
        }
        let bytes = std::fs::read(&path).expect("readable");
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let said = all(&bytes);
        assert!(!said.contains(&"good"), "{name}: {said:?}");
        assert!(
            said.iter().any(|e| name.starts_with(&format!("{e}_"))),
            "{name}: {said:?}"
        );
        seen += 1;
    }
    assert!(seen >= 20, "{seen}");
}

/// Documents that would cost time or memory, made here: what the reader of labels says.
fn large() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let root = format!("<l:originatorConfidentialityLabel xmlns:l=\"{LABEL}\"");
    let end = "</l:originatorConfidentialityLabel>";
    let mib = 1 << 20;
    let mut bomb = String::from("<!DOCTYPE l [<!ENTITY a0 \"lol\">");
    for i in 1..20 {
        let before = format!("&a{};", i - 1).repeat(10);
        bomb.push_str(&format!("<!ENTITY a{i} \"{before}\">"));
    }
    bomb.push_str(&format!("]>{root}>&a19;{end}"));
    vec![
        (
            "100 000 deep",
            "too-long",
            ["<a>".repeat(100_000), "</a>".repeat(100_000)]
                .concat()
                .into(),
        ),
        (
            "9 000 deep",
            "too-deep",
            ["<a>".repeat(9_000), "</a>".repeat(9_000)].concat().into(),
        ),
        (
            "9 000 deep and open",
            "too-deep",
            "<a>".repeat(9_000).into(),
        ),
        (
            "an attribute of a mebibyte",
            "too-long",
            format!("{root} Id=\"{}\">{end}", "a".repeat(mib)).into(),
        ),
        (
            "an attribute of 60 000 bytes",
            "attribute-too-long",
            format!("{root} Id=\"{}\">{end}", "a".repeat(60_000)).into(),
        ),
        (
            "an attribute that does not end",
            "attribute-too-long",
            format!("{root} Id=\"{}", "a".repeat(60_000)).into(),
        ),
        (
            "8 000 attributes",
            "too-many-attributes",
            format!(
                "<a{}/>",
                (0..6_000).map(|i| format!(" b{i}=''")).collect::<String>()
            )
            .into(),
        ),
        (
            "text of 60 000 bytes",
            "text-too-long",
            format!("{root}>{}{end}", "a".repeat(60_000)).into(),
        ),
        (
            "8 000 elements",
            "too-many-tags",
            format!("{root}>{}{end}", "<a/>".repeat(8_000)).into(),
        ),
        (
            "8 000 pieces of text",
            "too-many-tags",
            format!("{root}>{}{end}", "<![CDATA[]]>".repeat(4_000)).into(),
        ),
        ("entities of entities", "document-type", bomb.into()),
        ("65 537 bytes", "too-long", " ".repeat(65_537).into()),
        (
            "nothing but signs",
            "too-many-equals",
            format!(
                "<a>{}</a>",
                "=".repeat(4_000) + "<b/>" + &"=".repeat(4_000) + "<b/>" + &"=".repeat(4_000)
            )
            .into(),
        ),
        (
            "60 000 opened tags",
            "too-many-tags",
            "<".repeat(60_000).into(),
        ),
        (
            "no UTF-8",
            "encoding",
            format!("{root}>\u{e9}{end}")
                .bytes()
                .map(|b| if b == 0xc3 { 0xff } else { b })
                .collect(),
        ),
        (
            "UTF-16",
            "encoding",
            root.encode_utf16()
                .flat_map(u16::to_be_bytes)
                .chain([0xd8, 0])
                .collect(),
        ),
    ]
}

#[test]
fn what_is_large_is_refused_in_bounded_time() {
    for (name, error, bytes) in large() {
        let begin = Instant::now();
        let said = all(&bytes);
        let took = begin.elapsed();
        assert_eq!(said[0], error, "{name}: {said:?}");
        assert!(!said.contains(&"good"), "{name}: {said:?}");
        assert!(took < Duration::from_secs(2), "{name}: {took:?}");
    }
}

/// A binding may be 90 MB: what fills it without being one costs no more than to look at it.
#[test]
fn a_binding_as_large_as_may_be_and_none_is_refused_in_bounded_time() {
    let policies = Policies::built_in();
    for (fill, error) in [
        ("=", "too-many-equals"),
        ("<", "too-many-tags"),
        (" ", "malformed"),
        ("&#65;", "malformed"),
        ("<!---->", "too-many-tags"),
    ] {
        let mut bytes = b"<a>".to_vec();
        bytes.extend(
            fill.repeat((binding::MAX_XML_BYTES - 3) / fill.len())
                .bytes(),
        );
        let begin = Instant::now();
        let got = binding::read(&bytes, policies).map_err(|e| e.name());
        assert_eq!(got, Err(error), "{fill}");
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{fill}: {:?}",
            begin.elapsed()
        );
    }
}

/// Good documents of each kind.
fn good() -> Vec<Vec<u8>> {
    let policies = Policies::built_in();
    let created = "2026-11-24T03:00:00Z".parse().expect("a time");
    let label: Label =
        "NATO RESTRICTED // CONTEXT NATO, RELEASABLE // RELEASABLE TO CHE // TOT 2030-01-01"
            .parse()
            .expect("a label");
    let subject = binding::Subject {
        label: &label,
        created,
        originator: None,
        file_name: "a b.pdf",
        media_type: "application/pdf",
    };
    vec![
        label::write(&label, created, None, policies)
            .expect("valid")
            .into(),
        binding::detached(&subject, &sha256(&[b"a"]), policies)
            .expect("valid")
            .into(),
        binding::encapsulating(&subject, b"a file", policies)
            .expect("valid")
            .into(),
        include_bytes!("../spif/harbour.xml").to_vec(),
        include_bytes!("../spif/plain.xml").to_vec(),
    ]
}

/// One change of bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Cut(prop::sample::Index, usize),
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    let piece = prop::sample::select(vec![
        "<",
        ">",
        "\"",
        "'",
        "&",
        "/",
        "=",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?x",
        "?>",
        "&amp;",
        "&#x0;",
        "&#65;",
        "xmlns=\"\"",
        "urn:oid:",
        "é",
    ]);
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(i, b)| Change::Set(i, b)),
        (at(), piece).prop_map(|(i, p)| Change::Insert(i, p.into())),
        (at(), 1..40_usize).prop_map(|(i, n)| Change::Cut(i, n)),
        (at(), at(), 1..200_usize).prop_map(|(i, j, n)| Change::Copy(i, j, n)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for c in changes {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        match c {
            Change::Set(i, b) => bytes[i.index(len)] = *b,
            Change::Insert(i, p) => {
                let at = i.index(len);
                bytes.splice(at..at, p.iter().copied());
            }
            Change::Cut(i, n) => {
                let at = i.index(len);
                bytes.drain(at..(at + n).min(len));
            }
            Change::Copy(i, j, n) => {
                let (from, to) = (i.index(len), j.index(len));
                let piece = bytes[from..(from + n).min(len)].to_vec();
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, rng_seed: proptest::test_runner::RngSeed::Fixed(4774), ..ProptestConfig::default() })]

    #[test]
    fn changed_documents_never_panic(which in 0..5_usize, changes in proptest::collection::vec(change(), 1..6)) {
        let bytes = changed(good().swap_remove(which), &changes);
        let _ = all(&bytes);
        // What is still a label stands under its policy as it says, or is refused there; it is written back to the same where it is valid.
        if let Ok(l) = label::read(&bytes, Policies::built_in())
            && let Ok(xml) = label::write(&l.label, l.created, None, Policies::built_in())
        {
            let again = label::read(xml.as_bytes(), Policies::built_in()).expect("what is written is read");
            prop_assert_eq!(again.label, l.label);
        }
    }

    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(!all(&bytes).contains(&"good"));
    }
}

/// Every bad document of `docs/vectors/stanag.json` goes to the readers it is not for, too.
#[test]
fn the_vectors_go_to_every_reader() {
    let file = Path::new(FOLDER).join("../../../../docs/vectors/stanag.json");
    let text = std::fs::read_to_string(file).expect("the vectors");
    let set: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let bad = set["bad"].as_array().expect("a list");
    for b in bad {
        let said = all(b["xml"].as_str().expect("text").as_bytes());
        let index = ["label", "binding", "spif"]
            .iter()
            .position(|w| b["what"] == *w);
        assert_eq!(said[index.expect("a kind")], b["error"], "{}", b["name"]);
    }
    assert!(bad.len() > 100);
}
