//! The records of a small log.

use ordonnans_audit::{ClockQuality, Detail, InForce, Record, Verb};
use ordonnans_label::Level;
use ordonnans_message::{MessageId, Timestamp, sha256};

/// Name of the log.
pub(crate) const ORIGIN: &str = "b1.broker.crisis.example";

/// Record `i` of the log; every third has a full detail.
pub(crate) fn record(i: u64) -> Record {
    let full = i.is_multiple_of(3);
    let detail = Detail {
        who: "ncc.node.crisis.example".parse().ok(),
        person: full.then(|| "vermeer.person.crisis.example".parse().expect("a name")),
        to: full.then(|| "locc.node.crisis.example".parse().expect("a name")),
        message: full.then(|| MessageId::new(Timestamp::from_millis(i), [2; 10])),
        digest: full.then(|| sha256(&[b"envelope"])),
        rule: Some(7),
        register: full.then(|| InForce {
            version: 3,
            digest: sha256(&[b"register"]),
        }),
        policy: full.then(|| sha256(&[b"policy"])),
        copy: full.then_some(3),
        note: Some(format!("é \"{i}\"\u{7}\u{1f5fa}")),
    };
    let salt = *sha256(&[b"salt", &i.to_be_bytes()]).as_bytes();
    Record::new(
        i,
        Timestamp::from_millis(1_790_000_000_000 + i),
        ClockQuality::Synchronised,
        Verb::ALL[i as usize % Verb::ALL.len()],
        Level::ALL[i as usize % Level::ALL.len()],
        detail,
        salt,
    )
}
