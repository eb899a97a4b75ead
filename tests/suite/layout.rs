//! The architecture as a test: which crate may stand on which, and which crate alone may name a library.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// Floors of `ARCHITECTURE.md`. A crate may depend only on crates of a lower floor.
const FLOORS: &[(&str, u8)] = &[
    ("ordonnans-label", 1),
    ("ordonnans-message", 2),
    ("ordonnans-identity", 3),
    ("ordonnans-stanag", 3),
    ("ordonnans-policy", 4),
    ("ordonnans-audit", 4),
    ("ordonnans-seal", 4),
    ("ordonnans-transport", 4),
    ("ordonnans-engine", 5),
    ("ordonnans-store", 6),
    ("ordonnans-broker", 7),
    ("ordonnans-client", 7),
    ("ordonnans-certs", 7),
    ("ordonnans-exercise", 8),
    ("ordonnans-tests", 8),
];

/// Libraries that exactly one crate may name.
const HOSTS: &[(&str, &str)] = &[
    ("sled", "ordonnans-store"),
    ("redb", "ordonnans-store"),
    ("seccompiler", "ordonnans-store"),
    ("quinn", "ordonnans-transport"),
    ("rustls", "ordonnans-transport"),
    ("tokio-rustls", "ordonnans-transport"),
    ("libcrux-ml-kem", "ordonnans-transport"),
    ("pkcs8", "ordonnans-identity"),
    ("cryptoki", "ordonnans-identity"),
    ("rcgen", "ordonnans-certs"),
    ("hpke", "ordonnans-seal"),
    ("minicbor", "ordonnans-message"),
    ("sha2", "ordonnans-message"),
    ("roxmltree", "ordonnans-stanag"),
];

/// The rules that are stricter than the floors: what must not know what.
const NEVER: &[(&str, &str)] = &[
    ("ordonnans-client", "ordonnans-engine"),
    ("ordonnans-client", "ordonnans-policy"),
    ("ordonnans-engine", "ordonnans-store"),
    ("ordonnans-engine", "ordonnans-transport"),
];

/// Package name to the names of its normal dependencies, from the workspace's own manifests.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let out = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let metadata: Value = serde_json::from_slice(&out.stdout).expect("cargo metadata is JSON");
    let names = |p: &Value| {
        p["dependencies"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|d| d["kind"].is_null())
            .filter_map(|d| d["name"].as_str().map(str::to_owned))
            .collect()
    };
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|p| (p["name"].as_str().expect("named").to_owned(), names(p)))
        .collect()
}

#[test]
fn every_crate_stands_on_lower_floors_only() {
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    for (package, needs) in dependencies() {
        let own = floors
            .get(package.as_str())
            .unwrap_or_else(|| panic!("{package} has no floor"));
        for need in &needs {
            if let Some(floor) = floors.get(need.as_str()) {
                // The exercise and the tests stand on the same floor; the tests may drive the exercise.
                let allowed =
                    floor < own || (package == "ordonnans-tests" && need == "ordonnans-exercise");
                assert!(
                    allowed,
                    "{package} (floor {own}) depends on {need} (floor {floor})"
                );
            }
        }
    }
}

#[test]
fn each_library_has_one_host() {
    let all = dependencies();
    for (library, host) in HOSTS {
        for (package, needs) in &all {
            let names_it = needs.iter().any(|n| n == library);
            assert_eq!(
                names_it,
                package == host,
                "{library} belongs to {host} alone; look at {package}"
            );
        }
    }
}

#[test]
fn what_must_not_know_what() {
    let all = dependencies();
    for (package, stranger) in NEVER {
        let needs = all
            .get(*package)
            .unwrap_or_else(|| panic!("{package} exists"));
        assert!(
            !needs.iter().any(|n| n == stranger),
            "{package} must not know {stranger}"
        );
    }
}
