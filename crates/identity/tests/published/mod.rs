//! Published vectors (Wycheproof, CCTV), read in one place for the tests of every crate that has a primitive to hold against them.

use std::path::Path;

use data_encoding::HEXLOWER;
use serde_json::Value;

/// A file of published vectors: below `../shared/vectors` beside the checkout, or where `ORDONNANS_VECTORS` says. One that is not there is skipped, and
/// said so.
pub(crate) fn vectors(file: &str) -> Option<Value> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let folder = std::env::var_os("ORDONNANS_VECTORS").unwrap_or_else(|| beside.into());
    let path = Path::new(&folder).join(file);
    if !path.exists() {
        eprintln!("skipped: no vectors at {}", path.display());
        return None;
    }
    let text = std::fs::read_to_string(path).expect("reads");
    Some(serde_json::from_str(&text).expect("JSON"))
}

/// Every case of a Wycheproof file, with its group.
pub(crate) fn cases(name: &str, mut check: impl FnMut(&Value, &Value)) {
    let file = format!("wycheproof/testvectors_v1/{name}_test.json");
    let Some(all) = vectors(&file) else {
        return;
    };
    let mut count = 0;
    for group in all["testGroups"].as_array().expect("groups") {
        for case in group["tests"].as_array().expect("tests") {
            check(group, case);
            count += 1;
        }
    }
    assert_eq!(
        Some(count),
        all["numberOfTests"].as_u64(),
        "every case was run"
    );
    println!("{name}: {count} cases");
}

pub(crate) fn bytes(value: &Value, key: &str) -> Vec<u8> {
    let text = value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} in {value}"));
    HEXLOWER.decode(text.as_bytes()).expect("hexadecimal")
}
