//! The audit log when it is large: appending, opening, searching, proving, taking away. `ORDONNANS_LOG_RECORDS` says how large.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use ordonnans_audit::merkle::Frontier;
use ordonnans_audit::{
    Checkpoint, ClockQuality, Detail, InForce, Quorum, Record, Verb, VerifierKey, tiles,
};
use ordonnans_engine::{Commit, Seq};
use ordonnans_identity::ed25519::SigningKey;
use ordonnans_label::{Level, Name};
use ordonnans_message::{AuditQuery, Digest, MessageId, Timestamp, sha256};
use ordonnans_store::{Options, Store};

/// Records of one commit, and commits of one group: a busy broker.
const COMMIT: u64 = 8;
const GROUP: usize = 64;

struct Facts {
    nodes: Vec<Name>,
    persons: Vec<Name>,
    register: InForce,
    policy: Digest,
}

impl Facts {
    fn new() -> Self {
        let name = |kind: &str, n: usize| -> Name {
            let text = format!("{kind}-{n}.{kind}.crisis.example");
            text.parse().unwrap_or_else(|e| panic!("{e}"))
        };
        Self {
            nodes: (0..40).map(|n| name("node", n)).collect(),
            persons: (0..200).map(|n| name("person", n)).collect(),
            register: InForce {
                version: 7,
                digest: sha256(&[b"register"]),
            },
            policy: sha256(&[b"policy"]),
        }
    }

    /// Record `n`: eight of a message, a second between messages; one in a thousand is a refusal.
    fn record(&self, n: u64) -> Record {
        let (of, nth) = (n / COMMIT, n % COMMIT);
        let at =
            |k: u64, among: &[Name]| among[usize::try_from(k).unwrap_or(0) % among.len()].clone();
        let verbs = [
            Verb::Accepted,
            Verb::CopyMade,
            Verb::CopyMade,
            Verb::Delivered,
            Verb::Delivered,
            Verb::Receipt,
            Verb::Opened,
            Verb::SessionOpened,
        ];
        let refused = of % 125 == 7 && nth == 0;
        let verb = if refused {
            Verb::Refused
        } else {
            verbs[nth as usize]
        };
        let detail = Detail {
            who: Some(at(of, &self.nodes)),
            person: (nth == 6).then(|| at(of * 7, &self.persons)),
            to: (1..6).contains(&nth).then(|| at(of + nth, &self.nodes)),
            message: (nth < 7).then(|| MessageId::new(Timestamp::from_millis(of), [3; 10])),
            digest: Some(sha256(&[&of.to_be_bytes()])),
            rule: refused.then_some(10),
            register: Some(self.register),
            policy: (nth < 5).then_some(self.policy),
            copy: (1..7).contains(&nth).then_some(1),
            note: None,
        };
        let salt = *sha256(&[b"salt", &n.to_be_bytes()]).as_bytes();
        let time = Timestamp::from_millis(1_790_000_000_000 + of * 1_000);
        let level = Level::ALL[(of % 4) as usize];
        Record::new(
            n,
            time,
            ClockQuality::Synchronised,
            verb,
            level,
            detail,
            salt,
        )
    }
}

fn bytes_of(path: &Path) -> u64 {
    let Ok(all) = fs::read_dir(path) else {
        return 0;
    };
    all.flatten()
        .map(|i| match i.metadata() {
            Ok(m) if m.is_dir() => bytes_of(&i.path()),
            Ok(m) => m.len(),
            Err(_) => 0,
        })
        .sum()
}

fn mib(pid_file: &str) -> f64 {
    let status = fs::read_to_string(pid_file).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// Milliseconds of calls, least, median and most.
fn times(n: usize, mut call: impl FnMut(usize)) -> String {
    let mut all: Vec<f64> = (0..n)
        .map(|i| {
            let began = Instant::now();
            call(i);
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    all.sort_by(f64::total_cmp);
    format!("{:>9.3} {:>9.3} {:>9.3} ms", all[0], all[n / 2], all[n - 1])
}

pub(crate) fn run() {
    let records: u64 = std::env::var("ORDONNANS_LOG_RECORDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000_000);
    let Ok(dir) = tempfile::tempdir() else { return };
    let facts = Facts::new();
    let (mut tree, payload) = append(dir.path(), records, &facts);
    let audit = bytes_of(&dir.path().join("audit"));
    println!(
        "on disk {} bytes a record: audit log {}, journal {}, details' keys {}; what is kept has {payload}",
        bytes_of(dir.path()) / records,
        audit / records,
        bytes_of(&dir.path().join("journal")) / records,
        bytes_of(&dir.path().join("details")) / records,
    );
    let key = SigningKey::from_seed(&[3; 32]).unwrap_or_else(|| panic!("a seed"));
    let origin = "b1.broker.crisis.example";
    let verifier = VerifierKey::new(origin, key.public()).unwrap_or_else(|e| panic!("{e}"));
    let head = tree.head();
    let signed = Checkpoint {
        origin: origin.into(),
        head,
    };
    let checkpoint = signed.sign(&key).unwrap_or_else(|e| panic!("{e}"));
    for what in ["first", "again"] {
        let began = Instant::now();
        let opened = Store::open(dir.path(), Options::default()).unwrap_or_else(|e| panic!("{e}"));
        println!(
            "open, {what}: {:.2} s, {:.0} MiB resident",
            began.elapsed().as_secs_f64(),
            mib("/proc/self/status")
        );
        drop(opened);
    }
    let (store, _, _) =
        Store::open(dir.path(), Options::default()).unwrap_or_else(|e| panic!("{e}"));
    let began = Instant::now();
    let older = store
        .reader()
        .verify_older(&AtomicBool::new(false))
        .unwrap_or_else(|e| panic!("{e}"));
    let took = began.elapsed().as_secs_f64();
    println!(
        "everything before the newest database read again: {older} records in {took:.1} s, {:.0} a second on one core",
        older as f64 / took
    );
    println!(
        "{:.0} MiB resident with all of it open",
        mib("/proc/self/status")
    );
    questions(&store, records, &facts);
    let export = dir.path().join("export");
    take_away(&store, &export, &checkpoint);
    drop(store);
    println!(
        "{:.0} MiB resident before the check",
        mib("/proc/self/status")
    );
    let read = |name: &str, most: u64| {
        let mut bytes = vec![];
        fs::File::open(export.join(name))?
            .take(most)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let began = Instant::now();
    let mut most = 0.0f64;
    let report = tiles::verify(&read, &Quorum::of_log(verifier), &mut |_, _| {
        most = most.max(mib("/proc/self/status"));
    });
    let took = began.elapsed().as_secs_f64();
    let head = report.unwrap_or_else(|e| panic!("{e}")).head;
    tree.append(sha256(&[]));
    println!(
        "checked offline: {} records in {took:.1} s, {:.0} a second; {most:.0} MiB resident at most",
        head.size,
        head.size as f64 / took
    );
}

/// Fills a store, and says how fast, million by million. Gives the tree and the bytes of a record as they are kept.
fn append(dir: &Path, records: u64, facts: &Facts) -> (Frontier, u64) {
    let (mut store, _, _) = Store::open(dir, Options::default()).unwrap_or_else(|e| panic!("{e}"));
    let mut tree = Frontier::default();
    let (mut seq, mut payload) = (0, 0);
    let step = (records / 10).max(1);
    let (mut next, mut took, mut all) = (step, 0.0f64, vec![]);
    while tree.head().size < records {
        let mut group = vec![];
        while group.len() < GROUP && tree.head().size < records {
            let first = tree.head().size;
            let records: Vec<Record> = (first..first + COMMIT).map(|n| facts.record(n)).collect();
            for r in &records {
                tree.append(r.public.leaf());
                payload += (r.public.encode().len() + r.detail.encode().len() + 32 + 16) as u64;
            }
            seq += 1;
            group.push(Commit {
                seq: Seq(seq),
                at: records[0].public.time,
                records,
                head: tree.head(),
                writes: vec![],
            });
        }
        // What makes the records is not measured.
        let began = Instant::now();
        store.commit(group).unwrap_or_else(|e| panic!("{e}"));
        took += began.elapsed().as_secs_f64();
        if tree.head().size >= next {
            let began = Instant::now();
            store.settle().unwrap_or_else(|e| panic!("{e}"));
            took += began.elapsed().as_secs_f64();
            all.push(step as f64 / took);
            (next, took) = (next + step, 0.0);
        }
    }
    let rates: Vec<String> = all.iter().map(|r| format!("{:.0}", r / 1e3)).collect();
    println!(
        "appended, thousand records a second, tenth by tenth: {}",
        rates.join(" ")
    );
    let third = (all.len() / 3).max(1);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    println!(
        "the first third against the last: {:.2}",
        mean(&all[..third]) / mean(&all[all.len() - third..])
    );
    (tree, payload / records)
}

fn questions(store: &Store, records: u64, facts: &Facts) {
    let reader = store.reader();
    let any = AuditQuery::default;
    let message = |n: u64| MessageId::new(Timestamp::from_millis(n), [3; 10]);
    let asked: Vec<(&str, AuditQuery)> = vec![
        ("the first records", any()),
        (
            "from the middle",
            AuditQuery {
                from: records / 2,
                ..any()
            },
        ),
        (
            "one message",
            AuditQuery {
                message: Some(message(records / COMMIT / 2)),
                ..any()
            },
        ),
        (
            "one person",
            AuditQuery {
                person: Some(facts.persons[17].clone()),
                ..any()
            },
        ),
        (
            "refused by POL-10",
            AuditQuery {
                rule: Some(10),
                ..any()
            },
        ),
        (
            "opened at a node, Stg.C",
            AuditQuery {
                node: Some(facts.nodes[5].clone()),
                verb: Some(Verb::Opened.code()),
                level: Some(Level::StgC),
                ..any()
            },
        ),
        (
            "an hour in the middle",
            AuditQuery {
                since: Some(Timestamp::from_millis(
                    1_790_000_000_000 + records / COMMIT * 500,
                )),
                until: Some(Timestamp::from_millis(
                    1_790_000_000_000 + records / COMMIT * 500 + 3_600_000,
                )),
                ..any()
            },
        ),
        (
            "a message that is not there",
            AuditQuery {
                message: Some(message(u64::MAX >> 17)),
                ..any()
            },
        ),
    ];
    println!(
        "{:<30} {:>9} {:>9} {:>9}    found",
        "a page of 100", "first", "median", "most"
    );
    for (what, query) in asked {
        let query = AuditQuery {
            limit: 100,
            ..query
        };
        let mut found = 0;
        let mut page = || {
            let page = reader.search(&query, Level::StgZg);
            found = page.map_or(0, |p| p.entries.len());
        };
        let began = Instant::now();
        page();
        let first = began.elapsed().as_secs_f64() * 1e3;
        let rest = times(20, |_| page());
        let parts: Vec<&str> = rest.split_whitespace().collect();
        println!(
            "{what:<30} {first:>9.3} {:>9} {:>9} ms {found:>4}",
            parts[1], parts[2]
        );
    }
    let size = reader.head().size;
    let far = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) % size;
    println!(
        "inclusion proof, least median most: {}",
        times(2_000, |i| drop(reader.inclusion(far(i), size)))
    );
    println!(
        "consistency proof:                  {}",
        times(2_000, |i| drop(reader.consistency(far(i).max(1), size)))
    );
}

fn take_away(store: &Store, to: &Path, checkpoint: &str) {
    let began = Instant::now();
    let mut made = BTreeMap::new();
    let mut put = |name: &str, bytes: &[u8]| {
        let path = to.join(name);
        if let Some(parent) = path.parent()
            && made.insert(parent.to_owned(), ()).is_none()
        {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, bytes)
    };
    let (mut writer, mut from) = (tiles::Writer::default(), Some(0));
    while let Some(at) = from {
        let query = AuditQuery {
            from: at,
            limit: 256,
            ..AuditQuery::default()
        };
        let page = store.reader().search(&query, Level::StgZg);
        let page = page.unwrap_or_else(|e| panic!("{e}"));
        for e in &page.entries {
            writer.push(e, &mut put).unwrap_or_else(|e| panic!("{e}"));
        }
        from = page.more.then_some(page.next);
    }
    let head = writer.finish(&mut put).unwrap_or_else(|e| panic!("{e}"));
    put("checkpoint", checkpoint.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
    let took = began.elapsed().as_secs_f64();
    println!(
        "taken away as tiles: {} records in {took:.1} s, {} bytes a record",
        head.size,
        bytes_of(to) / head.size
    );
}
