//! Bad days of one machine: no room, no writing, no file descriptors, no memory. What was acknowledged is there when the day is over, once.

use std::path::Path;
use std::time::{Duration, Instant};

use ordonnans_message::Precedence;
use ordonnans_store::{Options, Store};
use ordonnans_tests::power::{Disk, Series};
use ordonnans_tests::sim::Dice;
use ordonnans_tests::whole::{NODES, Whole};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// Nothing here takes so long.
const WITHIN: Duration = Duration::from_secs(120);
/// How long messages are handed in before and while something is wrong.
const WHILE: Duration = Duration::from_millis(400);

fn begin(dir: &Path) -> Whole {
    Whole::begin(Path::new(env!("CARGO_BIN_EXE_crash")), dir).expect("begins")
}

/// Hands messages in until the broker has ended; gives its exit code.
fn until_it_ends(all: &mut Whole, dice: &mut Dice) -> Option<i32> {
    let began = Instant::now();
    loop {
        all.write(dice, WHILE / 4);
        if let Some(code) = all.reap().expect("looks") {
            return code;
        }
        assert!(began.elapsed() < WITHIN, "the broker goes on");
    }
}

/// Everything arrives once, with its records.
fn over(mut all: Whole) {
    all.reap().expect("looks");
    let tally = all.judge().unwrap_or_else(|e| panic!("{e}"));
    assert!(tally.delivered > 10, "{tally:?}");
}

/// A disk of its own, or none on this machine.
fn disk(dir: &Path) -> Option<Disk> {
    Disk::new(dir)
        .map_err(|why| eprintln!("skipped: it needs root and a loop device ({why})"))
        .ok()
}

#[test]
fn a_full_disk_stops_what_must_write_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(disk) = disk(dir.path()) else { return };
    let (mut all, mut dice) = (begin(disk.path()), Dice::new(1));
    all.write(&mut dice, WHILE);
    let ballast = disk.fill().expect("full");
    assert_eq!(until_it_ends(&mut all, &mut dice), Some(5));
    // It does not start either: 5 where the journal has no room, 4 where a view has none to be opened in, for then nobody can say that it is whole.
    all.start().expect("starts");
    let code = until_it_ends(&mut all, &mut dice);
    assert!(matches!(code, Some(4 | 5)), "{code:?}");
    std::fs::remove_file(ballast).expect("removes");
    over(all);
}

#[test]
fn a_disk_that_can_only_be_read_stops_what_must_write_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(disk) = disk(dir.path()) else { return };
    let (mut all, mut dice) = (begin(disk.path()), Dice::new(2));
    // Certificates and configurations were written long ago.
    let synced = std::process::Command::new("sync").status().expect("syncs");
    assert!(synced.success());
    all.write(&mut dice, WHILE);
    if let Err(why) = disk.breaks() {
        eprintln!("skipped: {why}");
        return;
    }
    assert_eq!(until_it_ends(&mut all, &mut dice), Some(5));
    all.kill_all().expect("ends");
    disk.mend().expect("mended");
    over(all);
}

#[test]
fn a_log_on_a_disk_that_can_only_be_read_closes_without_a_panic() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(disk) = disk(dir.path()) else { return };
    let data = disk.path().join("data");
    let open = || Store::open(&data, Options::default()).expect("opens");
    let (mut store, recovered, _) = open();
    let mut series = Series::after(&recovered);
    store.commit(vec![series.next_commit()]).expect("commits");
    drop(store);
    // Nothing is to be written: that the disk broke is found as the files are closed.
    let (store, ..) = open();
    if let Err(why) = disk.breaks() {
        eprintln!("skipped: {why}");
        return;
    }
    let reader = store.reader();
    drop(store);
    drop(reader);
}

/// Lets a process have no more of something than it has now, or as much as before.
fn limit(pid: u32, what: Resource, most: Option<u64>) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.expect("a process");
    // Children have the limits of who started them, and those are this process's own.
    let maximum = getrlimit(what).maximum;
    let current = most.or(maximum);
    prlimit(Some(pid), what, Rlimit { current, maximum }).expect("limits");
}

fn open_files(pid: u32) -> u64 {
    let all = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a process");
    all.count() as u64
}

/// Hands messages in, by all nodes or by one, until something is so; the broker and the daemons go on meanwhile.
fn until(all: &mut Whole, dice: &mut Dice, from: Option<usize>, is_so: &dyn Fn(&Whole) -> bool) {
    let (began, nodes) = (Instant::now(), all.nodes());
    while !is_so(all) {
        match from {
            None => all.write(dice, WHILE / 4),
            Some(from) => {
                let to = dice.below(NODES);
                assert!(all.submit(from, to, Precedence::Routine, None));
            }
        }
        assert_eq!(all.reap().expect("looks"), None, "the broker goes on");
        assert_eq!(all.nodes(), nodes, "and so do the daemons");
        assert!(began.elapsed() < WITHIN, "it does not come so far");
    }
}

#[test]
fn without_file_descriptors_everything_waits_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut all, mut dice) = (begin(dir.path()), Dice::new(3));
    let attached = dir.path().join("attached");
    std::fs::write(&attached, vec![7; 300_000]).expect("writes");
    let broker = all.broker().expect("runs");
    limit(broker, Resource::Nofile, Some(open_files(broker)));
    // Messages need none; attachments do, and wait, and so do checkpoints.
    for to in 0..NODES {
        assert!(all.submit(0, to, Precedence::Flash, Some(&attached)));
    }
    let log = dir.path().join("broker.log");
    let says = |what: &str| std::fs::read_to_string(&log).is_ok_and(|log| log.contains(what));
    until(&mut all, &mut dice, None, &|_| {
        says("no checkpoint can be kept; it is tried again")
    });
    // The daemons without any, while messages and checkpoints come, which they keep otherwise. One goes on: a daemon needs a descriptor to take a command.
    limit(broker, Resource::Nofile, None);
    until(&mut all, &mut dice, None, &|_| {
        says("checkpoints are kept again")
    });
    for node in all.nodes().split_off(1) {
        limit(node, Resource::Nofile, Some(open_files(node)));
    }
    let kept = || {
        let file = std::fs::metadata(dir.path().join("data/checkpoint"));
        file.and_then(|f| f.modified()).expect("a checkpoint")
    };
    for _ in 0..2 {
        let before = kept();
        until(&mut all, &mut dice, Some(0), &|_| kept() != before);
    }
    for node in all.nodes() {
        limit(node, Resource::Nofile, None);
    }
    over(all);
}

#[test]
fn a_broker_without_memory_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut all, mut dice) = (begin(dir.path()), Dice::new(4));
    all.write(&mut dice, WHILE);
    let attached = dir.path().join("attached");
    std::fs::write(&attached, vec![7; 8 << 20]).expect("writes");
    let broker = all.broker().expect("runs");
    let status = std::fs::read_to_string(format!("/proc/{broker}/statm")).expect("a process");
    let pages: u64 = status
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    limit(broker, Resource::As, Some(pages * 4096 / 2));
    for to in 0..NODES {
        all.submit(0, to, Precedence::Routine, Some(&attached));
    }
    // It ends by a signal as soon as it asks for more than it has; how soon that is, the allocator knows. Where it has enough, the system's own
    // way out of want is tried.
    for _ in 0..8 {
        all.write(&mut dice, WHILE);
        if let Some(code) = all.reap().expect("looks") {
            assert_eq!(code, None, "by a signal");
            return over(all);
        }
    }
    all.kill_broker().expect("ends");
    over(all);
}
