//! The power cut test: a store on a file system that is shut down without writing what it holds.
//!
//! ext4 on a loop device; a child commits groups and says after each how far it is; at a random moment the file system is shut down with
//! `EXT4_IOC_SHUTDOWN` (no log flush), so that what was not synced is gone, as after a power cut. Then it is mounted again, the store is opened,
//! and everything that was said must be there. The same with a broker and daemons in place of the store: every message whose id was printed
//! must arrive once, with all its records. What was handed to the block layer is kept: the disk's own cache is taken as safe.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use bytes::Bytes;
use ordonnans_audit::merkle::Frontier;
use ordonnans_audit::{ClockQuality, Detail, Record, Verb};
use ordonnans_engine::{Commit, Recovered, Seq, Table, Write};
use ordonnans_label::Level;
use ordonnans_message::{MessageId, Timestamp};
use ordonnans_store::{Options, Store};

use crate::sim::Dice;
use crate::whole::{Tally, Whole};

/// As first argument of a test program: become the writer.
pub const ROLE: &str = "--in-the-role-of-the-writer";
/// Bytes of the file system; what is not written takes no place.
const SIZE: u64 = 1 << 30;

/// Commits that follow from their number alone, so that whoever knows how far a store is knows what it must hold.
pub struct Series {
    frontier: Frontier,
    seq: u64,
}

/// The message of a commit.
fn id(n: u64) -> MessageId {
    MessageId::new(Timestamp::from_millis(n), [7; 10])
}

fn key(n: u64) -> Bytes {
    Bytes::copy_from_slice(id(n).as_bytes())
}

fn value(n: u64) -> Bytes {
    // From 100 bytes to 40 KiB: rows beyond a page too.
    let length = 100 + (n * 7919 % 40_000) as usize / (1 + (n % 5) as usize * 20);
    vec![n as u8; length].into()
}

/// How many messages are kept at one time.
const KEPT: u64 = 200;

impl Series {
    /// Goes on after what was recovered.
    #[must_use]
    pub fn after(r: &Recovered) -> Self {
        Self {
            frontier: r.frontier.clone(),
            seq: r.seq.0,
        }
    }

    /// The next commit with a message of the usual size, for measurements.
    pub fn next_small(&mut self) -> Commit {
        let mut commit = self.next_commit();
        if let Some(Write::Put { value, .. }) = commit.writes.first_mut() {
            *value = vec![1; 1024].into();
        }
        commit
    }

    /// The next commit: a record, a message, and the end of an old one.
    pub fn next_commit(&mut self) -> Commit {
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
            value: value(self.seq),
        }];
        if self.seq > KEPT {
            writes.push(Write::Delete {
                table,
                key: key(self.seq - KEPT),
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
}

/// Becomes the writer where the arguments say so; the test program asks first.
#[must_use]
pub fn in_the_role(args: &[String]) -> Option<ExitCode> {
    let at = args.iter().position(|a| a == ROLE)?;
    let dir = PathBuf::from(args.get(at + 1)?);
    let seed = args.get(at + 2)?.parse().ok()?;
    let done = Store::open(&dir, Options::default()).map_err(|e| e.to_string());
    let written = done.and_then(|(mut store, recovered, _)| {
        let (mut series, mut dice) = (Series::after(&recovered), Dice::new(seed));
        let mut out = std::io::stdout();
        loop {
            let group = (0..=dice.below(24)).map(|_| series.next_commit()).collect();
            let seq = store.commit(group).map_err(|e| e.to_string())?;
            writeln!(out, "{}", seq.0)
                .and_then(|()| out.flush())
                .map_err(|e| e.to_string())?;
        }
        #[expect(unreachable_code, reason = "the writer writes until the power goes")]
        Ok::<(), String>(())
    });
    // The power went: every write fails from then on.
    drop(written);
    Some(ExitCode::from(3))
}

/// Why there was no test.
#[derive(Debug)]
pub enum Outcome {
    /// All cuts lost nothing; how many commits were acknowledged.
    Held(u64),
    /// This machine cannot do it.
    Skipped(String),
    /// What was lost.
    Lost(String),
}

fn sh(program: &str, args: &[&str]) -> Result<String, String> {
    let out = Command::new(program)
        .args(args)
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    if out.status.success() {
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    } else {
        let why = String::from_utf8_lossy(&out.stderr);
        Err(format!("{program}: {}", why.trim()))
    }
}

/// A file system of its own, on a loop device, that goes wrong when it is told to.
pub struct Disk {
    device: String,
    mount: PathBuf,
}

impl Disk {
    /// Makes one in a folder and mounts it.
    ///
    /// # Errors
    /// This machine cannot do it: it takes root and a loop device.
    pub fn new(dir: &Path) -> Result<Self, String> {
        let image = dir.join("disk.img");
        let file = std::fs::File::create(&image).map_err(|e| e.to_string())?;
        file.set_len(SIZE).map_err(|e| e.to_string())?;
        let text = image.to_string_lossy().into_owned();
        sh("mkfs.ext4", &["-q", "-F", &text])?;
        let device = sh("losetup", &["-f", "--show", &text])?;
        let mount = dir.join("mnt");
        std::fs::create_dir(&mount).map_err(|e| e.to_string())?;
        let disk = Self { device, mount };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount
    }

    fn mount(&self) -> Result<(), String> {
        let options = ["-o", "errors=remount-ro"];
        let at = self.mount.to_string_lossy();
        sh("mount", &[options[0], options[1], &self.device, &at]).map(drop)
    }

    /// Takes all room there is with one file; gives it, to be removed.
    ///
    /// # Errors
    /// What the system says, but that the disk is full.
    pub fn fill(&self) -> Result<PathBuf, String> {
        let ballast = self.mount.join("ballast");
        let mut file = std::fs::File::create(&ballast).map_err(|e| e.to_string())?;
        // In ever smaller pieces, to the last block.
        for piece in [1 << 20, 4096] {
            while file.write_all(&vec![1; piece]).is_ok() {}
        }
        match file.write_all(&[1; 4096]) {
            Err(e) if e.kind() == std::io::ErrorKind::StorageFull => Ok(ballast),
            other => Err(format!("the disk is not full: {other:?}")),
        }
    }

    /// The file system finds an error in itself: from then on it can only be read.
    ///
    /// # Errors
    /// This machine cannot do it.
    pub fn breaks(&self) -> Result<(), String> {
        let name = self.device.trim_start_matches("/dev/");
        let trigger = format!("/sys/fs/ext4/{name}/trigger_fs_error");
        std::fs::write(&trigger, "a test").map_err(|e| format!("{trigger}: {e}"))?;
        let probe = std::fs::write(self.mount.join("probe"), "x");
        match probe {
            Err(e) if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem => Ok(()),
            other => Err(format!("it can be written: {other:?}")),
        }
    }

    /// Repairs it and mounts it again. Nobody may have it open.
    ///
    /// # Errors
    /// What the system says.
    pub fn mend(&self) -> Result<(), String> {
        self.unmount()?;
        // It says by its exit code that it corrected something.
        drop(sh("e2fsck", &["-f", "-y", &self.device]));
        self.mount()
    }

    fn unmount(&self) -> Result<(), String> {
        sh("umount", &[&self.mount.to_string_lossy()]).map(drop)
    }

    /// The power goes.
    fn cut(&self) -> Result<(), String> {
        let script = "import fcntl,os,struct,sys\nfcntl.ioctl(os.open(sys.argv[1],os.O_RDONLY),0x8004587D,struct.pack('I',2))";
        sh("python3", &["-c", script, &self.mount.to_string_lossy()]).map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.unmount());
        drop(sh("losetup", &["-d", &self.device]));
    }
}

/// Cuts the power again and again; `program` starts the writer.
#[must_use]
pub fn run(program: &Path, cuts: usize, seed: u64) -> Outcome {
    let dir = match tempfile::tempdir() {
        Ok(dir) => dir,
        Err(e) => return Outcome::Skipped(e.to_string()),
    };
    let disk = match Disk::new(dir.path()) {
        Ok(disk) => disk,
        Err(e) => return Outcome::Skipped(format!("it needs root and a loop device ({e})")),
    };
    let (mut dice, mut said) = (Dice::new(seed), 0);
    for cut in 0..cuts {
        match once(program, &disk, &mut dice, said) {
            Ok(seq) => said = seq,
            Err(e) => return Outcome::Lost(format!("cut {}: {e}", cut + 1)),
        }
    }
    Outcome::Held(said)
}

/// Why there was no test of broker and daemons, or what they did.
#[derive(Debug)]
pub enum Both {
    /// All cuts lost nothing.
    Held(Tally),
    /// This machine cannot do it.
    Skipped(String),
    /// What was lost, came twice, or is missing in the log.
    Lost(String),
}

/// Cuts the power of a broker and three daemons again and again; `program` becomes each of them.
#[must_use]
pub fn both(program: &Path, cuts: usize, seed: u64) -> Both {
    let dir = match tempfile::tempdir() {
        Ok(dir) => dir,
        Err(e) => return Both::Skipped(e.to_string()),
    };
    let disk = match Disk::new(dir.path()) {
        Ok(disk) => disk,
        Err(e) => return Both::Skipped(format!("it needs root and a loop device ({e})")),
    };
    let played = || -> Result<Tally, String> {
        let mut all = Whole::begin(program, &disk.mount)?;
        // Certificates and configurations were written long ago.
        sh("sync", &[])?;
        let mut dice = Dice::new(seed);
        for cut in 1..=cuts {
            all.start()?;
            let life = Duration::from_millis(100 + dice.below(900) as u64);
            all.write(&mut dice, life);
            disk.cut()?;
            all.kill_all()?;
            disk.unmount()?;
            disk.mount().map_err(|e| format!("cut {cut}: {e}"))?;
        }
        let tally = all.judge();
        all.kill_all()?;
        tally
    };
    match played() {
        Ok(tally) => Both::Held(tally),
        Err(e) => Both::Lost(e),
    }
}

fn writer(program: &Path, data: &Path, seed: usize) -> Result<Child, String> {
    Command::new(program)
        .arg(ROLE)
        .arg(data)
        .arg(seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())
}

/// One cut; gives how far the store is after it.
fn once(program: &Path, disk: &Disk, dice: &mut Dice, before: u64) -> Result<u64, String> {
    let data = disk.mount.join("data");
    let mut child = writer(program, &data, dice.below(1_000_000))?;
    let out = child.stdout.take().ok_or("the writer has no voice")?;
    let heard = std::thread::spawn(move || {
        let lines = BufReader::new(out).lines();
        lines
            .map_while(Result::ok)
            .filter_map(|l| l.parse().ok())
            .last()
    });
    std::thread::sleep(Duration::from_millis(100 + dice.below(1_900) as u64));
    disk.cut()?;
    child.kill().map_err(|e| e.to_string())?;
    child.wait().map_err(|e| e.to_string())?;
    let said = heard
        .join()
        .map_err(|_| "the listener ended")?
        .unwrap_or(before);
    disk.unmount()?;
    disk.mount()?;
    let (store, recovered, _) =
        Store::open(&data, Options::default()).map_err(|e| format!("it does not open: {e}"))?;
    let seq = recovered.seq.0;
    if seq < said || seq < before {
        return Err(format!("{said} was acknowledged, {seq} is there"));
    }
    // What it holds follows from how far it is.
    let mut all = Series {
        frontier: Frontier::default(),
        seq: 0,
    };
    for _ in 0..seq {
        all.next_commit();
    }
    if all.frontier != recovered.frontier {
        return Err("the records are others".into());
    }
    let first = seq.saturating_sub(KEPT) + 1;
    let mut rows = recovered.rows;
    for n in first..=seq {
        let row = rows.next().ok_or("a message is missing")?;
        let (_, k, v) = row.map_err(|e| e.to_string())?;
        if k != key(n) || v != value(n) {
            return Err(format!("message {n} is another"));
        }
    }
    if rows.next().is_some() {
        return Err("a message that was deleted is there".into());
    }
    drop(store);
    Ok(seq)
}
