//! The audit log over several databases: searching against reading, and details whose time is over.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use ordonnans_audit::merkle::{Frontier, leaf_hash, verify_consistency, verify_inclusion};
use ordonnans_audit::{ClockQuality, Detail, Entry, Record, TreeHead, Verb, answers};
use ordonnans_engine::{Commit, Seq};
use ordonnans_label::{Level, Name};
use ordonnans_message::{AuditQuery, MessageId, Timestamp};
use ordonnans_store::{Options, Store};

const DAY: u64 = 24 * 60 * 60 * 1000;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn id(n: u64) -> MessageId {
    MessageId::new(Timestamp::from_millis(n), [7; 10])
}

/// Record `n` of a log in which much repeats and some is rare; a day has 2,000 records.
fn record(n: u64) -> Record {
    let nodes = ["ncc", "locc", "vr"];
    let node = |i: u64| name(&format!("{}.node.crisis.example", nodes[i as usize % 3]));
    let detail = Detail {
        who: Some(node(n)),
        to: n.is_multiple_of(2).then(|| node(n / 2)),
        person: (n % 500 == 3).then(|| name("vermeer.person.crisis.example")),
        message: (n % 4 != 3).then(|| id(n / 10)),
        rule: (n % 1_000 == 7).then_some(7),
        ..Detail::default()
    };
    Record::new(
        n,
        Timestamp::from_millis(n * DAY / 2_000),
        ClockQuality::Unknown,
        Verb::ALL[(n % 7) as usize],
        Level::ALL[(n % 5) as usize],
        detail,
        *ordonnans_message::sha256(&[&n.to_be_bytes()]).as_bytes(),
    )
}

fn options(shard_records: u64) -> Options {
    Options {
        shard_records,
        segment_bytes: 64 << 10,
        spare_segments: 0,
        ..Options::default()
    }
}

/// A store with so many records, in commits of several, and the heads of its log.
fn filled(dir: &Path, shard_records: u64, size: u64) -> (Store, Vec<TreeHead>) {
    let (mut store, recovered, _) = Store::open(dir, options(shard_records)).expect("opens");
    let mut tree = recovered.frontier.clone();
    let mut heads = vec![tree.head()];
    let mut seq = recovered.seq.0;
    let mut n = tree.head().size;
    while n < size {
        let mut group = vec![];
        while group.len() < 16 && n < size {
            let many = (n % 13 + 1).min(size - n);
            let records: Vec<Record> = (n..n + many).map(record).collect();
            for r in &records {
                tree.append(r.public.leaf());
                heads.push(tree.head());
            }
            n += many;
            seq += 1;
            group.push(Commit {
                seq: Seq(seq),
                at: records[0].public.time,
                records,
                head: tree.head(),
                writes: vec![],
            });
        }
        store.commit(group).expect("commits");
    }
    store.settle().expect("settles");
    (store, heads)
}

fn all(store: &Store, query: &AuditQuery, level: Level) -> Vec<Entry> {
    let (mut found, mut from) = (vec![], query.from);
    loop {
        let query = AuditQuery {
            from,
            limit: 100,
            ..query.clone()
        };
        let page = store.reader().search(&query, level).expect("reads");
        found.extend(page.entries);
        from = page.next;
        if !page.more {
            return found;
        }
    }
}

fn questions() -> Vec<AuditQuery> {
    let any = AuditQuery::default;
    vec![
        any(),
        AuditQuery {
            message: Some(id(411)),
            ..any()
        },
        AuditQuery {
            message: Some(id(99_999)),
            ..any()
        },
        AuditQuery {
            person: Some(name("vermeer.person.crisis.example")),
            ..any()
        },
        AuditQuery {
            node: Some(name("vr.node.crisis.example")),
            verb: Some(3),
            ..any()
        },
        AuditQuery {
            rule: Some(7),
            level: Some(Level::StgG),
            ..any()
        },
        AuditQuery {
            verb: Some(5),
            since: Some(Timestamp::from_millis(DAY)),
            until: Some(Timestamp::from_millis(2 * DAY)),
            ..any()
        },
        AuditQuery {
            from: 4_095,
            level: Some(Level::DepV),
            ..any()
        },
        AuditQuery {
            since: Some(Timestamp::from_millis(1_000 * DAY)),
            ..any()
        },
    ]
}

#[test]
fn what_is_searched_for_is_what_reading_finds_in_any_number_of_databases() {
    const SIZE: u64 = 9_500;
    let expected: Vec<Entry> = (0..SIZE).map(|n| Entry::from(&record(n))).collect();
    for shard_records in [1_000, 4_096, 1 << 20] {
        let dir = tempfile::tempdir().expect("a folder");
        // In two runs, so that the block that is not full comes from the disk once.
        drop(filled(dir.path(), shard_records, 6_000));
        let (store, _) = filled(dir.path(), shard_records, SIZE);
        for query in questions() {
            for level in [Level::StgZg, Level::DepV] {
                let found = all(&store, &query, level);
                let wanted: Vec<Entry> = expected
                    .iter()
                    .map(|e| e.clone().up_to(level))
                    .filter(|e| {
                        let (public, detail) = e.read().expect("a record");
                        answers(&query, &public, detail.as_ref())
                    })
                    .collect();
                assert!(
                    found == wanted,
                    "{query:?} up to {level} in shards of {shard_records}"
                );
            }
        }
        assert!(store.reader().verify_older(&AtomicBool::new(false)).is_ok());
    }
}

/// Where to go on must not say where somebody's records above the asker's level are.
#[test]
fn a_question_about_details_says_nothing_of_records_above_the_askers_level() {
    let rows = |query: &AuditQuery, secret: bool| {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut store, mut tree) = (
            Store::open(dir.path(), options(5_000)).expect("opens").0,
            Frontier::default(),
        );
        for seq in 1..=60u64 {
            // Ten records a commit: some of the person at Stg.ZG, one at Dep.V. in two hundred; the others of nobody.
            let records = (seq * 100 - 100..seq * 100).map(|n| {
                let person = name("vermeer.person.crisis.example");
                let (level, asked) = match n % 200 {
                    7 => (Level::DepV, true),
                    8..20 => (Level::StgZg, secret),
                    _ => (Level::StgZg, false),
                };
                let detail = Detail {
                    person: asked.then_some(person),
                    message: asked.then(|| id(1)),
                    who: asked.then(|| name("ncc.node.crisis.example")),
                    rule: asked.then_some(7),
                    ..Detail::default()
                };
                let (at, clock) = (Timestamp::from_millis(n), ClockQuality::Unknown);
                Record::new(n, at, clock, Verb::Accepted, level, detail, [n as u8; 32])
            });
            let records: Vec<Record> = records.collect();
            records
                .iter()
                .for_each(|r| drop(tree.append(r.public.leaf())));
            let commit = Commit {
                seq: Seq(seq),
                at: records[0].public.time,
                records,
                head: tree.head(),
                writes: vec![],
            };
            store.commit(vec![commit]).expect("commits");
        }
        store.settle().expect("settles");
        // What one page after the other says of where to go on.
        let (mut said, mut from) = (vec![], 0);
        loop {
            let query = AuditQuery {
                from,
                limit: 1,
                ..query.clone()
            };
            let page = store.reader().search(&query, Level::DepV).expect("reads");
            let found = page
                .entries
                .iter()
                .map(|e| e.read().expect("a record").0.sequence);
            said.push((found.collect::<Vec<u64>>(), page.next, page.more));
            from = page.next;
            if !page.more {
                return said;
            }
        }
    };
    let any = AuditQuery::default;
    let person = Some(name("vermeer.person.crisis.example"));
    let node = Some(name("ncc.node.crisis.example"));
    let about = [
        AuditQuery { person, ..any() },
        AuditQuery { node, ..any() },
        AuditQuery {
            message: Some(id(1)),
            ..any()
        },
        AuditQuery {
            rule: Some(7),
            verb: Some(Verb::Accepted.code()),
            ..any()
        },
    ];
    for query in about {
        let said = rows(&query, true);
        assert_eq!(
            said.len(),
            30,
            "one page for each of the records that may be seen"
        );
        assert_eq!(said, rows(&query, false), "{query:?}");
    }
}

#[test]
fn every_proof_holds_across_databases_and_restarts() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, heads) = filled(dir.path(), 64, 700);
    drop(store);
    let (store, recovered, recovery) = Store::open(dir.path(), options(64)).expect("opens");
    assert_eq!((recovery.replayed, recovery.rebuilt.len()), (0, 0));
    assert_eq!(recovered.frontier.head(), heads[700]);
    let reader = store.reader();
    for size in [1u64, 63, 64, 65, 128, 511, 512, 699, 700] {
        let head = heads[size as usize];
        assert_eq!(reader.root(size), Some(head.root), "root of {size}");
        let proof = reader.consistency(size, 700).expect("there");
        assert_eq!(verify_consistency(&head, &heads[700], &proof), Ok(()));
        for n in [0, size / 2, size - 1] {
            let leaf = leaf_hash(&record(n).public.encode());
            let proof = reader.inclusion(n, size).expect("there");
            assert_eq!(
                verify_inclusion(&head, n, &leaf, &proof),
                Ok(()),
                "{n} of {size}"
            );
        }
    }
    assert_eq!(reader.root(701), None);
    assert!(reader.verify_older(&AtomicBool::new(false)).expect("right") > 600);
}

#[test]
fn damage_in_an_older_database_is_found_and_named() {
    for row in [b'e', b'h', b'i'] {
        let dir = tempfile::tempdir().expect("a folder");
        let (store, _) = filled(dir.path(), 5_000, 11_000);
        drop(store);
        let shard = dir.path().join("audit").join(format!("{:020}", 0));
        let db = sled::open(shard).expect("opens");
        let (key, value) = db
            .range([row]..[row + 1])
            .nth(if row == b'e' { 123 } else { 1 })
            .expect("a row")
            .expect("reads");
        let mut value = value.to_vec();
        if row == b'i' {
            // The index says that the thing is nowhere in the block.
            value.clear();
        } else {
            let last = value.len() - 1;
            value[last] ^= 1;
        }
        db.insert(key, value).expect("writes");
        drop(db);
        let (store, _, _) =
            Store::open(dir.path(), options(5_000)).expect("opens: it is not the newest");
        let e = store
            .reader()
            .verify_older(&AtomicBool::new(false))
            .expect_err("changed")
            .to_string();
        let says = match row {
            b'e' => "record 123 of the audit log was changed",
            b'h' => "of the audit log was changed",
            _ => "the index of block",
        };
        assert!(e.contains(says), "{e}");
    }
}

#[test]
fn details_go_at_the_end_of_their_time_but_for_what_an_incident_keeps() {
    let dir = tempfile::tempdir().expect("a folder");
    // Five days of 2,000 records each.
    let (store, heads) = filled(dir.path(), 3_000, 10_000);
    let keep: BTreeMap<MessageId, String> = [(id(150), "uitval".to_owned())].into();
    assert_eq!(store.reader().drop_details(2, &keep).expect("drops"), 3);
    assert_eq!(store.reader().drop_details(2, &keep).expect("again"), 0);
    drop(store);
    let check = |store: &Store, kept: bool| {
        let everything = all(store, &AuditQuery::default(), Level::StgZg);
        assert_eq!(everything.len(), 10_000, "no record is gone");
        let mut tree = Frontier::default();
        for e in &everything {
            tree.append(leaf_hash(&e.public));
            let (public, detail) = e.read().expect("a record");
            let of_incident = (1_500..1_510).contains(&public.sequence) && public.sequence % 4 != 3;
            let there = public.sequence >= 6_000 || of_incident && kept;
            assert_eq!(detail.is_some(), there, "{}", public.sequence);
        }
        assert_eq!(tree.head(), heads[10_000], "the log still verifies");
        let of = AuditQuery {
            message: Some(id(150)),
            ..AuditQuery::default()
        };
        assert_eq!(all(store, &of, Level::StgZg).is_empty(), !kept);
    };
    let (store, _, _) = Store::open(dir.path(), options(3_000)).expect("opens");
    check(&store, true);
    store
        .reader()
        .verify_older(&AtomicBool::new(false))
        .expect("right");
    store.reader().drop_incident("uitval").expect("drops");
    check(&store, false);
    drop(store);
    let (store, _, _) = Store::open(dir.path(), options(3_000)).expect("opens");
    check(&store, false);
    // Neither the key nor the detail is in any file.
    let needle = record(5).detail.encode();
    for file in files(dir.path()) {
        let bytes = std::fs::read(&file).expect("reads");
        let found = bytes.windows(needle.len()).any(|w| w == needle);
        assert!(
            !found || file.starts_with(dir.path().join("journal")),
            "{}",
            file.display()
        );
    }
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut all = vec![];
    for item in std::fs::read_dir(dir).expect("reads") {
        let path = item.expect("reads").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}

#[test]
fn a_key_of_details_that_is_lost_stops_the_store() {
    let dir = tempfile::tempdir().expect("a folder");
    // More than the journal keeps: the log cannot be built again.
    for size in [1_500, 1_600] {
        drop(filled(dir.path(), 1 << 20, size));
    }
    std::fs::remove_file(dir.path().join("details").join("day-0.key")).expect("removes");
    let e = Store::open(dir.path(), options(1 << 20))
        .map(drop)
        .expect_err("missing");
    assert!(e.to_string().contains("is missing"), "{e}");
}
