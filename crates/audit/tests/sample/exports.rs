//! The small log, exported. The key is a test's own.

use ordonnans_audit::Entry;
use ordonnans_audit::export;
use ordonnans_audit::merkle::Frontier;
use ordonnans_audit::{Checkpoint, VerifierKey};
use ordonnans_identity::ed25519::SigningKey;

use crate::sample::{ORIGIN, record};

/// An export as its three files, and the key it is checked with.
#[derive(Clone)]
pub(crate) struct Export {
    pub(crate) checkpoint: Vec<u8>,
    pub(crate) records: Vec<u8>,
    pub(crate) proofs: Vec<u8>,
    pub(crate) key: VerifierKey,
}

/// The lines of a file.
pub(crate) fn lines(all: impl IntoIterator<Item = String>) -> Vec<u8> {
    all.into_iter()
        .flat_map(|l| format!("{l}\n").into_bytes())
        .collect()
}

/// A whole log of `n` records; the detail of every third from 2 on is closed.
pub(crate) fn export(n: u64) -> Export {
    let (mut tree, mut leaves, mut entries) = (Frontier::default(), vec![], vec![]);
    for i in 0..n {
        let r = record(i);
        leaves.push(r.public.leaf());
        tree.append(r.public.leaf());
        entries.push(Entry {
            public: r.public.encode(),
            opened: (i % 3 != 2).then(|| (r.salt, r.detail.encode())),
        });
    }
    let key = SigningKey::from_seed(&[3; 32]).expect("a seed");
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        head: tree.head(),
    };
    Export {
        checkpoint: checkpoint.sign(&key).expect("signs").into_bytes(),
        records: lines(
            entries
                .iter()
                .map(|e| export::record_line(e).expect("a record")),
        ),
        proofs: lines(export::proofs(&leaves, &tree.head()).expect("fits")),
        key: VerifierKey::new(ORIGIN, key.public()).expect("a name"),
    }
}
