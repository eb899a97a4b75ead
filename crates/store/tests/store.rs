//! The store against restarts, torn writes, damage, roll-back and disks that say no.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use ordonnans_audit::merkle::{Frontier, verify_inclusion};
use ordonnans_audit::{ClockQuality, Detail, Record, Verb, VerifierKey};
use ordonnans_engine::{Commit, Recovered, Seq, Table, Write};
use ordonnans_label::Level;
use ordonnans_message::{AuditQuery, MessageId, Timestamp};
use ordonnans_store::{Fault, OpenError, Options, Recovery, Store};

struct Writer {
    frontier: Frontier,
    seq: u64,
}

impl Writer {
    fn new() -> Self {
        Self {
            frontier: Frontier::default(),
            seq: 0,
        }
    }

    fn after(r: &Recovered) -> Self {
        Self {
            frontier: r.frontier.clone(),
            seq: r.seq.0,
        }
    }

    /// A commit with one record and one new message; every third also deletes the message before it.
    fn next(&mut self) -> Commit {
        self.seq += 1;
        let at = Timestamp::from_millis(self.seq);
        let detail = Detail {
            message: Some(id(self.seq)),
            ..Detail::default()
        };
        let record = Record::new(
            self.frontier.head().size,
            at,
            ClockQuality::Unknown,
            Verb::Accepted,
            Level::StgC,
            detail,
            [self.seq as u8; 32],
        );
        self.frontier.append(record.public.leaf());
        let table = Table::Messages;
        let mut writes = vec![Write::Put {
            table,
            key: key(self.seq),
            value: vec![self.seq as u8; 300].into(),
        }];
        if self.seq.is_multiple_of(3) {
            writes.push(Write::Delete {
                table,
                key: key(self.seq - 1),
            });
        }
        Commit {
            seq: Seq(self.seq),
            at,
            records: vec![record],
            head: self.frontier.head(),
            writes,
        }
    }

    fn group(&mut self, n: usize) -> Vec<Commit> {
        (0..n).map(|_| self.next()).collect()
    }
}

fn id(n: u64) -> MessageId {
    MessageId::new(Timestamp::from_millis(n), [7; 10])
}

fn key(n: u64) -> Bytes {
    Bytes::copy_from_slice(id(n).as_bytes())
}

fn small() -> Options {
    Options {
        segment_bytes: 4096,
        spare_segments: 0,
        ..Options::default()
    }
}

fn open(dir: &Path, options: Options) -> (Store, Recovered, Recovery) {
    Store::open(dir, options).expect("opens")
}

/// The directory as a crash at this moment leaves it.
fn image(dir: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("makes");
    for item in std::fs::read_dir(dir).expect("reads") {
        let item = item.expect("reads");
        let target = to.join(item.file_name());
        if item.file_type().expect("knows").is_dir() {
            image(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).expect("copies");
        }
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(dir.join("journal"))
        .expect("reads")
        .map(|e| e.expect("reads").path())
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .collect();
    all.sort();
    all
}

/// Commits and settles until the journal has so many segments, or has let its first go where none is spare. How soon a segment is ready for it, the
/// disk decides.
fn go_on(store: &mut Store, w: &mut Writer, dir: &Path, enough: usize) {
    let first = segments(dir).first().cloned();
    for _ in 0..10_000 {
        store.commit(w.group(2)).expect("commits");
        store.settle().expect("settles");
        let now = segments(dir);
        if now.len() >= enough || now.first() != first.as_ref() {
            return;
        }
    }
    panic!("the journal stays in one segment");
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut store, recovered, _) = open(dir.path(), Options::default());
    let mut w = Writer::after(&recovered);
    assert_eq!(store.commit(w.group(5)), Ok(Seq(5)));
    assert_eq!(store.commit(w.group(1)), Ok(Seq(6)));
    let reader = store.reader();
    assert_eq!(
        reader.message(id(6)).expect("reads"),
        Some(vec![6; 300].into()),
        "at once"
    );
    assert!(matches!(
        Store::open(dir.path(), Options::default()),
        Err(OpenError::InUse(_))
    ));
    store.settle().expect("settles");
    assert_eq!(reader.message(id(5)).expect("reads"), None, "deleted");
    assert_eq!(reader.head(), w.frontier.head());
    let find = |query| reader.search(&query, Level::StgZg).expect("reads");
    let two = AuditQuery {
        from: 1,
        limit: 2,
        ..AuditQuery::default()
    };
    let two = find(two);
    assert_eq!((two.entries.len(), two.next, two.more), (2, 3, true));
    let of_4 = AuditQuery {
        limit: 9,
        message: Some(id(4)),
        ..AuditQuery::default()
    };
    let of_4 = find(of_4);
    assert_eq!((of_4.entries.len(), of_4.next, of_4.more), (1, 6, false));
    let leaf = ordonnans_audit::merkle::leaf_hash(&of_4.entries[0].public);
    let proof = reader.inclusion(3, 6).expect("there");
    assert_eq!(verify_inclusion(&reader.head(), 3, &leaf, &proof), Ok(()));
    drop((store, reader));
    let (store, recovered, recovery) = open(dir.path(), Options::default());
    assert_eq!((recovered.seq, recovered.frontier), (Seq(6), w.frontier));
    assert_eq!(recovered.rows.count(), 4, "six, and two deleted");
    assert_eq!(recovery, Recovery::default());
    drop(store);
}

#[test]
fn a_crash_image_at_any_moment_has_everything() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut store, recovered, _) = open(dir.path(), small());
    let mut w = Writer::after(&recovered);
    for round in 0..12 {
        store.commit(w.group(1 + round % 5)).expect("commits");
        let crashed = tempfile::tempdir().expect("a folder");
        // The journal first: the views may run on while the copy is made, never the other way round.
        image(dir.path(), crashed.path());
        match Store::open(crashed.path(), small()) {
            Ok((_, recovered, _)) => assert_eq!(recovered.seq, Seq(w.seq)),
            // A copy that is not of one moment may be visibly torn; it never opens to less.
            Err(e) => assert!(
                !matches!(e, OpenError::History { .. } | OpenError::Journal(_)),
                "{e}"
            ),
        }
    }
}

#[test]
fn a_torn_tail_is_cut_and_a_hole_is_an_alarm() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut store, recovered, _) = open(dir.path(), Options::default());
    let mut w = Writer::after(&recovered);
    store.commit(w.group(3)).expect("commits");
    store.commit(w.group(2)).expect("commits");
    drop(store);
    // Views as of commit 3 are made by replaying a journal that ends there.
    let journal = segments(dir.path());
    let path = journal.last().expect("one");
    let whole = std::fs::read(path).expect("reads");
    let starts: Vec<usize> = (0..whole.len())
        .filter(|i| whole[*i..].starts_with(b"ORJ1"))
        .collect();
    assert_eq!(starts.len(), 5);
    let wipe = |at: usize| {
        let fresh = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(fresh.path().join("journal")).expect("makes");
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        let to = fresh
            .path()
            .join("journal")
            .join(path.file_name().expect("named"));
        std::fs::write(to, bytes).expect("writes");
        fresh
    };
    // In the last group, which may never have been synced: cut there.
    for (broken, left) in [(3, 3), (4, 4)] {
        let fresh = wipe(starts[broken] + 30);
        let (mut store, recovered, recovery) = open(fresh.path(), Options::default());
        assert_eq!(recovered.seq, Seq(left));
        assert!(recovery.cut > 0);
        // What is written over the cut is what is read.
        let mut again = Writer::after(&recovered);
        store.commit(again.group(4)).expect("commits");
        drop(store);
        let (_, recovered, recovery) = open(fresh.path(), Options::default());
        assert_eq!((recovered.seq, recovery.cut), (Seq(left + 4), 0));
    }
    // In a group that has a later one behind it: durable commits are damaged.
    for broken in &starts[..3] {
        let fresh = wipe(broken + 30);
        let e = Store::open(fresh.path(), Options::default()).expect_err("a hole");
        assert!(e.to_string().contains("durable commits are lost"), "{e}");
    }
}

#[derive(Debug)]
struct FailAt(&'static str, AtomicUsize);

impl Fault for FailAt {
    fn strike(&self, step: &'static str) -> std::io::Result<()> {
        if step == self.0 && self.1.fetch_sub(1, Ordering::SeqCst) == 1 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

#[test]
fn a_disk_that_says_no_stops_the_store_and_loses_nothing() {
    for step in ["write", "sync"] {
        let dir = tempfile::tempdir().expect("a folder");
        let fault = Options {
            fault: Some(Arc::new(FailAt(step, AtomicUsize::new(2)))),
            ..Options::default()
        };
        let (mut store, recovered, _) = open(dir.path(), fault);
        let mut w = Writer::after(&recovered);
        store.commit(w.group(2)).expect("commits");
        assert!(store.commit(w.group(2)).is_err());
        let after = store.commit(w.group(1));
        assert!(after.is_err(), "it takes no more");
        drop(store);
        let (_, recovered, _) = open(dir.path(), Options::default());
        let seq = recovered.seq.0;
        assert!(seq == 2 || seq == 4, "acknowledged, or written too: {seq}");
    }
}

#[test]
fn a_changed_record_is_found_and_the_log_built_again_or_refused() {
    for spare in [true, false] {
        let options = || Options {
            spare_segments: if spare { 1000 } else { 0 },
            ..small()
        };
        let dir = tempfile::tempdir().expect("a folder");
        let (mut store, recovered, _) = open(dir.path(), options());
        let mut w = Writer::after(&recovered);
        // Past the record that is changed below.
        store.commit(w.group(8)).expect("commits");
        go_on(&mut store, &mut w, dir.path(), 3);
        let kept = segments(dir.path()).len();
        assert_eq!(kept <= 2, !spare, "{kept} segments");
        drop(store);
        let shard = dir.path().join("audit").join(format!("{:020}", 0));
        let db = sled::open(shard).expect("opens");
        let row = [&b"e"[..], &7u64.to_be_bytes()].concat();
        let mut value = db.get(&row).expect("reads").expect("there").to_vec();
        let at = value.len() - 1;
        value[at] ^= 1;
        db.insert(&row, value).expect("writes");
        drop(db);
        match (spare, Store::open(dir.path(), options())) {
            (true, Ok((_, recovered, recovery))) => {
                assert_eq!(recovered.frontier, w.frontier);
                assert!(recovery.rebuilt[0].contains("record 7"), "{recovery:?}");
            }
            (false, Err(e)) => assert!(e.to_string().contains("record 7"), "{e}"),
            (_, other) => panic!("{:?}", other.map(|_| ())),
        }
    }
}

#[test]
fn a_store_rolled_back_behind_its_checkpoint_does_not_open() {
    let key = ordonnans_identity::ed25519::SigningKey::from_seed(&[1; 32]).expect("a key");
    let origin = "b1.broker.crisis.example";
    let verifier = VerifierKey::new(origin, key.public()).expect("a name");
    let options = || Options {
        verifier: Some(verifier.clone()),
        ..Options::default()
    };
    let dir = tempfile::tempdir().expect("a folder");
    let old = tempfile::tempdir().expect("a folder");
    let (mut store, _, _) = open(dir.path(), options());
    let mut w = Writer::new();
    store.commit(w.group(4)).expect("commits");
    store.settle().expect("settles");
    let sign = |store: &Store| {
        let checkpoint = ordonnans_audit::Checkpoint {
            origin: origin.into(),
            head: store.reader().head(),
        };
        let text = checkpoint.sign(&key).expect("signs");
        store
            .reader()
            .put_checkpoint(checkpoint.head, &text)
            .expect("keeps");
    };
    sign(&store);
    drop(store);
    image(dir.path(), old.path());
    let (mut store, _, _) = open(dir.path(), options());
    store.commit(w.group(4)).expect("commits");
    store.settle().expect("settles");
    sign(&store);
    drop(store);
    drop(open(dir.path(), options()));
    // The data of then with the checkpoint of now.
    std::fs::copy(dir.path().join("checkpoint"), old.path().join("checkpoint")).expect("copies");
    assert!(matches!(
        Store::open(old.path(), options()),
        Err(OpenError::History { size: 4, signed: 8 })
    ));
    // A checkpoint that somebody edited.
    let text = std::fs::read_to_string(dir.path().join("checkpoint")).expect("reads");
    std::fs::write(
        dir.path().join("checkpoint"),
        text.replacen("\n8\n", "\n7\n", 1),
    )
    .expect("writes");
    assert!(matches!(
        Store::open(dir.path(), options()),
        Err(OpenError::Checkpoint(_))
    ));
}

#[test]
fn a_snapshot_a_kill_left_half_written_does_not_matter() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(open(dir.path(), Options::default()));
    let half = dir
        .path()
        .join("audit")
        .join(format!("{:020}", 0))
        .join("snap.0000000000000000.generating");
    std::fs::write(&half, b"half").expect("writes");
    drop(open(dir.path(), Options::default()));
    assert!(!half.exists());
}

#[test]
fn a_missing_segment_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = || Options {
        spare_segments: 1000,
        ..small()
    };
    let (mut store, recovered, _) = open(dir.path(), options());
    let mut w = Writer::after(&recovered);
    go_on(&mut store, &mut w, dir.path(), 3);
    drop(store);
    let all = segments(dir.path());
    std::fs::remove_file(&all[1]).expect("removes");
    let e = Store::open(dir.path(), options()).expect_err("a gap");
    assert!(e.to_string().contains("lacks the commits"), "{e}");
}

/// A segment that is made beforehand is nobody's until it has its number: one that a killed broker left half made is made anew.
#[test]
fn a_segment_made_beforehand_is_no_part_of_the_journal() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut store, recovered, _) = open(dir.path(), small());
    let mut w = Writer::after(&recovered);
    store.commit(w.group(3)).expect("commits");
    drop(store);
    let next = dir.path().join("journal").join("next");
    std::fs::write(&next, b"ORJ1 half of something").expect("writes");
    let (mut store, recovered, recovery) = open(dir.path(), small());
    assert_eq!((recovered.seq, recovery.cut), (Seq(3), 0));
    // Into the segment that was made in place of that one.
    go_on(&mut store, &mut w, dir.path(), 2);
    drop(store);
    let (_, recovered, recovery) = open(dir.path(), small());
    assert_eq!((recovered.seq, recovery.cut), (Seq(w.seq), 0));
    assert_eq!(recovered.frontier, w.frontier);
}
