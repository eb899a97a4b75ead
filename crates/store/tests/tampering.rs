//! Tampering, tried: what somebody with the disk can do to the files of a stopped broker, what notices it, and what cannot be noticed. The table
//! in `docs/audit.md` is made here; `ORDONNANS_WRITE_VECTORS=1 cargo test -p ordonnans-store --test tampering` writes it anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ordonnans_audit::merkle::Frontier;
use ordonnans_audit::{
    Checkpoint, ClockQuality, Detail, Entry, Fork, Quorum, Record, Verb, Verdict, VerifierKey,
    tiles,
};
use ordonnans_engine::{Commit, Seq};
use ordonnans_identity::ed25519::SigningKey;
use ordonnans_label::Level;
use ordonnans_message::{AuditQuery, MessageId, Timestamp};
use ordonnans_store::{OpenError, Options, Store};

const ORIGIN: &str = "b1.broker.crisis.example";
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/audit.md");
const BEGIN: &str = "<!-- tampering -->\n";
const END: &str = "<!-- end of tampering -->";
/// Records of one database, and of the whole log.
const SHARD: u64 = 400;
const SIZE: u64 = 1_000;

fn key() -> SigningKey {
    SigningKey::from_seed(&[1; 32]).expect("a seed")
}

fn verifier() -> VerifierKey {
    VerifierKey::new(ORIGIN, key().public()).expect("a name")
}

fn options() -> Options {
    Options {
        shard_records: SHARD,
        segment_bytes: 16 << 10,
        spare_segments: 0,
        verifier: Some(verifier()),
        fault: None,
    }
}

/// A record; another history has another note.
fn record(n: u64, history: &str) -> Record {
    let detail = Detail {
        message: Some(MessageId::new(Timestamp::from_millis(n), [7; 10])),
        note: Some(history.into()),
        ..Detail::default()
    };
    let salt = *ordonnans_message::sha256(&[&n.to_be_bytes(), history.as_bytes()]).as_bytes();
    let (clock, verb) = (ClockQuality::Unknown, Verb::Accepted);
    Record::new(
        n,
        Timestamp::from_millis(n),
        clock,
        verb,
        Level::StgC,
        detail,
        salt,
    )
}

fn sign(store: &Store) -> String {
    let head = store.reader().head();
    let origin = ORIGIN.into();
    let text = Checkpoint { origin, head }.sign(&key()).expect("signs");
    store.reader().put_checkpoint(head, &text).expect("keeps");
    text
}

/// Goes on with a log to a size, and signs it.
fn go_on(dir: &Path, size: u64, history: &str) -> String {
    let (mut store, recovered, _) = Store::open(dir, options()).expect("opens");
    let mut tree: Frontier = recovered.frontier.clone();
    let mut seq = recovered.seq.0;
    while tree.head().size < size {
        let r = record(tree.head().size, history);
        tree.append(r.public.leaf());
        seq += 1;
        let commit = Commit {
            seq: Seq(seq),
            at: r.public.time,
            records: vec![r],
            head: tree.head(),
            writes: vec![],
        };
        store.commit(vec![commit]).expect("commits");
        if seq.is_multiple_of(50) {
            // So that the journal is trimmed, and nothing can be built again from it.
            store.settle().expect("settles");
        }
    }
    store.settle().expect("settles");
    sign(&store)
}

fn image(dir: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("makes");
    for item in std::fs::read_dir(dir).expect("reads") {
        let item = item.expect("reads");
        let target = to.join(item.file_name());
        if item.file_type().expect("knows").is_dir() {
            image(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), &target).expect("copies");
        }
    }
}

/// The database with a record.
fn database(dir: &Path, n: u64) -> sled::Db {
    let shard = n / SHARD * SHARD;
    sled::open(dir.join("audit").join(format!("{shard:020}"))).expect("opens")
}

fn row(prefix: u8, n: u64) -> Vec<u8> {
    [&[prefix][..], &n.to_be_bytes()].concat()
}

fn flip(db: &sled::Db, key: &[u8], at: impl Fn(usize) -> usize) {
    let mut value = db.get(key).expect("reads").expect("there").to_vec();
    let at = at(value.len());
    value[at] ^= 1;
    db.insert(key, value).expect("writes");
}

struct World {
    _dirs: tempfile::TempDir,
    /// The log as it is.
    now: PathBuf,
    /// The same, 100 records earlier.
    then: PathBuf,
    scratch: PathBuf,
    /// What a witness keeps.
    kept: String,
}

impl World {
    fn new() -> Self {
        let dirs = tempfile::tempdir().expect("a folder");
        let path = |n: &str| dirs.path().join(n);
        go_on(&path("now"), SIZE - 100, "one");
        image(&path("now"), &path("then"));
        let kept = go_on(&path("now"), SIZE, "one");
        Self {
            now: path("now"),
            then: path("then"),
            scratch: path("scratch"),
            kept,
            _dirs: dirs,
        }
    }

    /// A copy to tamper with.
    fn copy(&self) -> &Path {
        drop(std::fs::remove_dir_all(&self.scratch));
        image(&self.now, &self.scratch);
        &self.scratch
    }

    /// What a start says of the copy.
    fn start(&self) -> Option<OpenError> {
        Store::open(&self.scratch, options()).map(drop).err()
    }

    /// What a witness finds who comes back to the broker in this folder: its verdict, by the key alone.
    fn witness(&self, dir: &Path) -> Verdict {
        let (store, _, _) = Store::open(dir, options()).expect("opens");
        let shown = sign(&store);
        let reader = store.reader();
        let size = |text: &str| -> u64 {
            let line = text.lines().nth(1).expect("a size");
            line.parse().expect("a size")
        };
        let (first, second) = (size(&self.kept), size(&shown));
        let fork = Fork {
            form: Fork::FORM.into(),
            kept: self.kept.clone(),
            shown,
            root: reader.root(first),
            proof: reader.consistency(first, second).unwrap_or_default(),
            by: "ncc.node.crisis.example".into(),
            at: Timestamp::default(),
        };
        fork.judge(&verifier()).expect("signed by the log")
    }
}

struct Row {
    what: &'static str,
    by: &'static str,
    when: &'static str,
    evidence: String,
}

/// Changes of single rows, found when the broker starts.
fn at_a_start(w: &World, rows: &mut Vec<Row>) {
    let mut case = |what, tamper: &dyn Fn(&Path), says: &str| {
        tamper(w.copy());
        let why = w.start().expect(what).to_string();
        assert!(why.contains(says), "{what}: {why}");
        // The end of the sentence says what to do; the folder of a test is nobody's business, and where the journal begins is chance.
        let why = why.split(';').next().unwrap_or_default();
        let why = why.replace(&*w.scratch.to_string_lossy(), "data");
        let why = match why.split_once("goes from ") {
            Some((head, tail)) => {
                let tail = tail.split_once(' ').map_or("", |(_, t)| t);
                format!("{head}goes from … {tail}")
            }
            None => why,
        };
        rows.push(Row {
            what,
            by: "the broker",
            when: "at its start; it does not start",
            evidence: format!("`{why}`, and the files"),
        });
    };
    let last = SIZE - 10;
    case(
        "A record is changed",
        &|d| flip(&database(d, last), &row(b'e', last), |_| 10),
        "was changed",
    );
    case(
        "Its detail is changed",
        &|d| flip(&database(d, last), &row(b'e', last), |n| n - 1),
        "was changed",
    );
    case(
        "Two records are swapped",
        &|d| {
            let db = database(d, last);
            let (a, b) = (row(b'e', last), row(b'e', last + 1));
            let (x, y) = (db.get(&a).expect("reads"), db.get(&b).expect("reads"));
            db.insert(a, y.expect("there")).expect("writes");
            db.insert(b, x.expect("there")).expect("writes");
        },
        "was changed",
    );
    case(
        "Records in the middle are taken out",
        &|d| {
            let db = database(d, last);
            (last..last + 3).for_each(|n| drop(db.remove(row(b'e', n)).expect("removes")));
        },
        "is missing",
    );
    case(
        "The head is changed",
        &|d| flip(&database(d, last), b"m", |n| n - 1),
        "its own root",
    );
    case(
        "The checkpoint is changed",
        &|d| {
            let path = d.join("checkpoint");
            let text = std::fs::read_to_string(&path).expect("reads");
            std::fs::write(path, text.replacen("\n1000\n", "\n1001\n", 1)).expect("writes");
        },
        "signature",
    );
    case(
        "The key of a day's details is taken away",
        &|d| std::fs::remove_file(d.join("details").join("day-0.key")).expect("removes"),
        "is missing",
    );
    case(
        "The last 100 records are dropped: an older audit log is put back alone",
        &|d| {
            std::fs::remove_dir_all(d.join("audit")).expect("removes");
            image(&w.then.join("audit"), &d.join("audit"));
        },
        "one of them was replaced",
    );
    case(
        "The same with journal and mailbox, and the checkpoint is forgotten",
        &|d| {
            for part in ["audit", "journal"] {
                std::fs::remove_dir_all(d.join(part)).expect("removes");
                image(&w.then.join(part), &d.join(part));
            }
            std::fs::copy(w.then.join("mailbox.redb"), d.join("mailbox.redb")).expect("copies");
        },
        "changed or rolled back",
    );
}

/// What a start alone does not see.
fn later(w: &World, rows: &mut Vec<Row>) {
    let dir = w.copy();
    flip(&database(dir, 7), &row(b'e', 7), |_| 10);
    let (store, _, _) = Store::open(dir, options()).expect("opens: it is not the newest database");
    let why = store
        .reader()
        .verify_older(&AtomicBool::new(false))
        .expect_err("changed")
        .to_string();
    assert!(why.contains("record 7"), "{why}");
    drop(store);
    rows.push(Row {
        what: "A record is changed in a database that is full",
        by: "the broker",
        when: "in the background after its start, and every day; it stops. At once where somebody reads that record's detail",
        evidence: format!("`{why}`, and the files"),
    });
    let dir = w.copy();
    let db = database(dir, 7);
    let index = db
        .range([b'i']..[b'j'])
        .next()
        .expect("a row")
        .expect("reads")
        .0;
    db.insert(index, &[][..]).expect("writes");
    drop(db);
    let (store, _, _) = Store::open(dir, options()).expect("opens");
    let why = store
        .reader()
        .verify_older(&AtomicBool::new(false))
        .expect_err("changed")
        .to_string();
    drop(store);
    rows.push(Row {
        what: "A record is hidden from searching: its row in the index is taken out",
        by: "the broker; whoever exports the whole log and searches there",
        when: "as above",
        evidence: format!("`{why}`"),
    });

    drop(std::fs::remove_dir_all(&w.scratch));
    image(&w.then, &w.scratch);
    let back = w.witness(&w.scratch);
    assert!(matches!(back, Verdict::Suspected { .. }), "{back:?}");
    rows.push(Row {
        what: "The whole directory is rolled back to an older copy",
        by: "the first node that comes back; the broker, whom that node shows what it remembers",
        when: "at the handshake",
        evidence: "the node's `fork-….json` with both checkpoints, and an `Alarm` in the log: suspected, for an old checkpoint by itself is no lie".into(),
    });
    go_on(&w.scratch, SIZE + 50, "two");
    let forked = w.witness(&w.scratch);
    assert!(matches!(forked, Verdict::Proven { .. }), "{forked:?}");
    rows.push(Row {
        what: "The same, once the log has outgrown what a node remembers",
        by: "that node; any third party with the log's public key",
        when: "at the handshake, or with the next checkpoint",
        evidence:
            "the same file, now with the root and the proof: two histories under one key, proven"
                .into(),
    });
    // Two brokers go on from one copy; each is right by itself.
    let other = w.now.with_file_name("other");
    image(&w.now, &other);
    let one = go_on(&w.now, SIZE + 30, "three");
    let two = go_on(&other, SIZE + 30, "four");
    let same_size = Fork {
        form: Fork::FORM.into(),
        kept: one,
        shown: two,
        root: None,
        proof: vec![],
        by: String::new(),
        at: Timestamp::default(),
    };
    assert!(matches!(
        same_size.judge(&verifier()),
        Ok(Verdict::Proven { .. })
    ));
    rows.push(Row {
        what: "Two brokers run from copies of one directory",
        by: "a node that meets both; anyone who lays two checkpoints of one size side by side",
        when: "at the handshake with the second",
        evidence: "a fork file, proven. Nodes that always meet the same one notice nothing: compare checkpoints between nodes".into(),
    });
}

/// Exports, by the program alone.
fn exported(w: &World, rows: &mut Vec<Row>) {
    let dir = w.copy();
    let (store, _, _) = Store::open(dir, options()).expect("opens");
    let mut files = std::collections::BTreeMap::<String, Vec<u8>>::new();
    let mut put = |name: &str, bytes: &[u8]| {
        files.insert(name.into(), bytes.into());
        Ok(())
    };
    let (mut writer, mut from) = (tiles::Writer::default(), Some(0));
    while let Some(at) = from {
        let query = AuditQuery {
            from: at,
            limit: 256,
            ..AuditQuery::default()
        };
        let found = store.reader().search(&query, Level::StgZg).expect("reads");
        let mut push = |e: &Entry| writer.push(e, &mut put).expect("puts");
        found.entries.iter().for_each(&mut push);
        from = found.more.then_some(found.next);
    }
    writer.finish(&mut put).expect("puts");
    files.insert("checkpoint".into(), sign(&store).into_bytes());
    drop(store);
    let verify = |files: &std::collections::BTreeMap<String, Vec<u8>>| {
        let read = |name: &str, _: u64| {
            let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
            files.get(name).cloned().ok_or_else(missing)
        };
        tiles::verify(&read, &Quorum::of_log(verifier()), &mut |_, _| ())
    };
    assert!(verify(&files).is_ok());
    let mut case = |what, name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut other = files.clone();
        change(other.get_mut(name).expect("a file"));
        let why = verify(&other).expect_err(what).to_string();
        rows.push(Row {
            what,
            by: "`audit verify`, and the verifier in Python",
            when: "when the export is checked",
            evidence: format!("`{why}`"),
        });
    };
    case(
        "A record in an export is changed",
        "tile/entries/001",
        &|b| b[100] ^= 1,
    );
    case("A detail in an export is changed", "details/001", &|b| {
        b[100] ^= 1
    });
    case("A hash in an export is changed", "tile/0/001", &|b| {
        b[100] ^= 1
    });
    case(
        "The last record of an export is dropped",
        "tile/entries/003.p/232",
        &|b| b.truncate(b.len() - 60),
    );
}

#[test]
fn the_table_says_what_is_noticed_and_what_is_not() {
    let w = World::new();
    let mut rows = vec![];
    at_a_start(&w, &mut rows);
    exported(&w, &mut rows);
    later(&w, &mut rows);
    let mut table =
        "| what was done | who notices | when | evidence |\n|---|---|---|---|\n".to_owned();
    for r in rows {
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} |",
            r.what, r.by, r.when, r.evidence
        );
    }
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let (before, rest) = page.split_once(BEGIN).expect("the place of the table");
    let (stands, after) = rest.split_once(END).expect("its end");
    if std::env::var_os("ORDONNANS_WRITE_VECTORS").is_some() {
        std::fs::write(PAGE, format!("{before}{BEGIN}{table}{END}{after}")).expect("writes");
    } else {
        assert_eq!(stands, table, "docs/audit.md is not what this suite finds");
    }
}
