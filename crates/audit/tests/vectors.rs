//! Published test vectors of RFC 6962 trees and of signed notes, where they lie beside the workspace.

use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use ordonnans_audit::merkle::{
    Frontier, consistency, inclusion, leaf_hash, root, verify_consistency, verify_inclusion,
};
use ordonnans_audit::{TreeHead, VerifierKey};
use ordonnans_message::{Digest, sha256};
use serde_json::Value;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");

/// A folder of the vectors; says that it skips where there is none.
fn folder(name: &str) -> Option<PathBuf> {
    let path = Path::new(VECTORS).join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no vectors at ../shared/vectors/{name}");
    None
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("reads");
    serde_json::from_str(&text).expect("JSON")
}

/// Every JSON file below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![];
    for entry in std::fs::read_dir(folder).expect("reads") {
        let path = entry.expect("reads").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "json") {
            all.push(path);
        }
    }
    all.sort();
    all
}

fn bytes(v: &Value) -> Vec<u8> {
    let text = v.as_str().expect("text");
    BASE64.decode(text.as_bytes()).expect("base64")
}

/// A hash of a proof; some bad cases have hashes of another length, which no proof of ours can hold.
fn digest(v: &Value) -> Option<Digest> {
    Digest::try_from(bytes(v).as_slice()).ok()
}

/// A root or leaf. Some cases write a word there; equal words become equal hashes, so that the case still says something.
fn stand_in(v: &Value) -> Digest {
    digest(v).unwrap_or_else(|| sha256(&[b"stand-in", &bytes(v)]))
}

fn proof(v: &Value) -> Option<Vec<Digest>> {
    // The vectors write an empty proof as [] or null.
    v.as_array()
        .map_or(Some(vec![]), |all| all.iter().map(digest).collect())
}

#[test]
fn inclusion_proofs() {
    let Some(folder) = folder("transparency-dev-merkle/inclusion") else {
        return;
    };
    let verify = |v: &Value| {
        let head = TreeHead {
            size: v["treeSize"].as_u64()?,
            root: stand_in(&v["root"]),
        };
        let (index, leaf) = (v["leafIdx"].as_u64()?, stand_in(&v["leafHash"]));
        verify_inclusion(&head, index, &leaf, &proof(&v["proof"])?).ok()
    };
    let (mut good, mut bad) = (0, 0);
    for path in files(&folder) {
        let v = json(&path);
        let refused = v["wantErr"].as_bool().expect("a verdict");
        assert_eq!(verify(&v).is_none(), refused, "{}", path.display());
        *(if refused { &mut bad } else { &mut good }) += 1;
    }
    println!("inclusion: {good} good, {bad} bad");
    assert!(good > 0 && bad > 0);
}

/// The one case we answer otherwise: RFC 9162 has no proof from an empty tree, and these vectors refuse to speak of one; C2SP tlog-witness
/// wants exactly this, an empty proof, and so do we. The empty tree must have the root of the empty tree.
const EVERYTHING_CONTINUES_NOTHING: &str = "size1-is-zero-and-size2-is-not-zero.json";

#[test]
fn consistency_proofs() {
    let Some(folder) = folder("transparency-dev-merkle/consistency") else {
        return;
    };
    let verify = |v: &Value| {
        let head = |size: &str, root: &str| {
            Some(TreeHead {
                size: v[size].as_u64()?,
                root: stand_in(&v[root]),
            })
        };
        let (first, second) = (head("size1", "root1")?, head("size2", "root2")?);
        verify_consistency(&first, &second, &proof(&v["proof"])?).ok()
    };
    let (mut good, mut bad) = (0, 0);
    for path in files(&folder) {
        let v = json(&path);
        let mut refused = v["wantErr"].as_bool().expect("a verdict");
        if path.ends_with(EVERYTHING_CONTINUES_NOTHING) {
            refused = false;
        }
        assert_eq!(verify(&v).is_none(), refused, "{}", path.display());
        *(if refused { &mut bad } else { &mut good }) += 1;
    }
    println!("consistency: {good} good, {bad} bad");
    assert!(good > 0 && bad > 0);
}

#[test]
fn the_reference_tree() {
    let Some(path) = folder("transparency-dev-merkle/rfc6962_reference_tree.json") else {
        return;
    };
    let v = json(&path);
    let hex = |v: &Value| {
        let text = v.as_str().expect("text");
        HEXLOWER.decode(text.as_bytes()).expect("hexadecimal")
    };
    let roots = v["roots_by_size"].as_array().expect("roots");
    let leaves: Vec<Digest> = v["leaf_inputs_hex"]
        .as_array()
        .expect("leaves")
        .iter()
        .map(|l| leaf_hash(&hex(l)))
        .collect();
    let (mut tree, mut kept) = (Frontier::default(), vec![]);
    assert_eq!(tree.head().root.as_bytes()[..], hex(&roots[0])[..]);
    for (i, leaf) in leaves.iter().enumerate() {
        assert_eq!(
            leaf.as_bytes()[..],
            hex(&v["node_hashes_by_level"][0][i])[..]
        );
        kept.extend(tree.append(*leaf));
        assert_eq!(tree.head().root.as_bytes()[..], hex(&roots[i + 1])[..]);
    }
    // Every proof that can be made between these trees is one that verifies.
    let hashes = |at: u64| kept.get(at as usize).copied();
    let head = |size| TreeHead {
        size,
        root: root(&hashes, size).expect("kept"),
    };
    for size in 1..=leaves.len() as u64 {
        for (index, leaf) in (0..size).zip(&leaves) {
            let proof = inclusion(&hashes, index, size).expect("kept");
            assert_eq!(verify_inclusion(&head(size), index, leaf, &proof), Ok(()));
        }
        for first in 0..=size {
            let proof = consistency(&hashes, first, size).expect("kept");
            assert_eq!(
                verify_consistency(&head(first), &head(size), &proof),
                Ok(())
            );
        }
    }
}

#[test]
fn verifier_keys_of_other_programs() {
    if let Some(path) = folder("golang-x-mod-sumdb/note_vectors.json") {
        let v = json(&path);
        let text = v["vkey"].as_str().expect("a key");
        let key: VerifierKey = text.parse().expect("reads");
        assert_eq!(
            (key.to_string().as_str(), key.name()),
            (text, "PeterNeumann")
        );
        for bad in v["bad_vkeys"].as_array().expect("keys") {
            let bad = bad.as_str().expect("text");
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
        }
    }
    if let Some(path) = folder("c2sp_examples.json") {
        let text = json(&path)["signed_note"]["vkey"].clone();
        let text = text.as_str().expect("a key");
        assert_eq!(
            text.parse::<VerifierKey>()
                .map(|k| k.to_string())
                .as_deref(),
            Ok(text)
        );
    }
}
