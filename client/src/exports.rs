//! What an officer takes away of the log, and what is checked of it without the broker.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, BufWriter, IsTerminal, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ordonnans_audit::export::{self, PROOFS, RECORDS};
use ordonnans_audit::merkle::{Frontier, leaf_hash};
use ordonnans_audit::{Entry, Fork, Quorum, TreeHead, Verdict, proof, tiles};
use ordonnans_message::AuditQuery;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure};
use crate::witness::log_key;

fn unusable(path: &Path, e: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Exit::Usage,
        format!("{} cannot be used: {e}", path.display()),
        "name a folder that does not exist yet, or what was exported",
    )
}

fn broken() -> Failure {
    Failure::new(
        Exit::Proof,
        "the broker's records do not fit together",
        "keep what it gave: it is evidence",
    )
}

/// A folder that is filled with an export. It is removed again where that fails.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    whole: bool,
}

impl Folder {
    /// Makes the folder, of mode 0700.
    ///
    /// # Errors
    /// [`Exit::Usage`]: it exists, or cannot be made.
    pub fn make(path: &Path) -> Result<Self, Failure> {
        let made = DirBuilder::new().mode(0o700).create(path);
        made.map_err(|e| unusable(path, &e))?;
        Ok(Self {
            path: path.into(),
            whole: false,
        })
    }

    /// Everything is in it: it stays.
    pub fn done(mut self) {
        self.whole = true;
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        File::create_new(path)?.write_all(bytes)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.whole {
            // What cannot be removed is named by the failure that leads here.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

/// The whole log, as C2SP tlog-tiles with the details beside them.
#[derive(Debug)]
pub struct TileExport {
    folder: Folder,
    writer: tiles::Writer,
}

impl TileExport {
    /// Begins one in a new folder.
    ///
    /// # Errors
    /// As [`Folder::make`].
    pub fn begin(path: &Path) -> Result<Self, Failure> {
        Ok(Self {
            folder: Folder::make(path)?,
            writer: tiles::Writer::default(),
        })
    }

    /// Adds the next record.
    ///
    /// # Errors
    /// [`Exit::Usage`]: the disk says no.
    pub fn push(&mut self, entry: &Entry) -> Result<(), Failure> {
        let folder = &self.folder;
        let pushed = self
            .writer
            .push(entry, &mut |name, bytes| folder.put(name, bytes));
        pushed.map_err(|e| unusable(&self.folder.path, &e))
    }

    /// Ends it with a checkpoint.
    ///
    /// # Errors
    /// [`Exit::Usage`]: the disk says no. [`Exit::Proof`]: the records are not those of the checkpoint.
    pub fn finish(self, checkpoint: &str) -> Result<TreeHead, Failure> {
        let folder = self.folder;
        let said = |e: io::Error| unusable(&folder.path, &e);
        let put = |name: &str, bytes: &[u8]| folder.put(name, bytes);
        let head = self.writer.finish(&mut { put }).map_err(said)?;
        if !speaks_of(checkpoint, &head) {
            return Err(broken());
        }
        put(tiles::CHECKPOINT, checkpoint.as_bytes()).map_err(said)?;
        folder.done();
        Ok(head)
    }
}

/// Whether a checkpoint has this size; whether its root is right, whoever has its key checks.
fn speaks_of(checkpoint: &str, head: &TreeHead) -> bool {
    checkpoint.lines().nth(1) == Some(head.size.to_string().as_str())
}

/// The whole log as lines of JSON with a proof for each record, for people without our program.
///
/// # Errors
/// [`Failure`]: the folder exists or cannot be written; the records are not those of the checkpoint.
pub fn write_lines(path: &Path, entries: &[Entry], checkpoint: &str) -> Result<TreeHead, Failure> {
    let mut tree = Frontier::default();
    let leaves: Vec<_> = entries.iter().map(|e| leaf_hash(&e.public)).collect();
    leaves.iter().for_each(|l| drop(tree.append(*l)));
    let head = tree.head();
    let proofs = export::proofs(&leaves, &head).ok_or_else(broken)?;
    if !speaks_of(checkpoint, &head) {
        return Err(broken());
    }
    let lines: Option<Vec<String>> = entries.iter().map(export::record_line).collect();
    write_folder(path, &lines.ok_or_else(broken)?, &proofs, checkpoint)?;
    Ok(head)
}

/// Some records as lines of JSON, each with its proof.
///
/// # Errors
/// [`Failure`]: the folder exists or cannot be written.
pub fn write_excerpt(
    path: &Path,
    entries: &[Entry],
    proofs: &[String],
    checkpoint: &str,
) -> Result<(), Failure> {
    let lines: Option<Vec<String>> = entries.iter().map(export::record_line).collect();
    write_folder(path, &lines.ok_or_else(broken)?, proofs, checkpoint)
}

fn write_folder(
    path: &Path,
    records: &[String],
    proofs: &[String],
    checkpoint: &str,
) -> Result<(), Failure> {
    let folder = Folder::make(path)?;
    let write = || {
        for (name, lines) in [(RECORDS, records), (PROOFS, proofs)] {
            let mut file = BufWriter::new(File::create_new(path.join(name))?);
            for line in lines {
                writeln!(file, "{line}")?;
            }
            file.into_inner()
                .map_err(io::IntoInnerError::into_error)?
                .sync_all()?;
        }
        folder.put(export::CHECKPOINT, checkpoint.as_bytes())
    };
    write().map_err(|e| unusable(path, &e))?;
    folder.done();
    Ok(())
}

/// Whom an export must be signed by: the key of the log, and a policy where there is one.
///
/// # Errors
/// [`Exit::Usage`] names the file and what is wrong with it.
pub fn quorum(key: Option<&Path>, policy: Option<&Path>) -> Result<Quorum, Failure> {
    match (key, policy) {
        (Some(key), None) => Ok(Quorum::of_log(log_key(key)?)),
        (None, Some(policy)) => {
            let text = fs::read_to_string(policy).map_err(|e| unusable(policy, &e))?;
            Quorum::parse(&text).map_err(|e| unusable(policy, &e))
        }
        _ => Err(Failure::new(
            Exit::Usage,
            "it takes the key of the log or a policy",
            "give --key audit.pub, or --policy with a file of the form in docs/audit.md",
        )),
    }
}

fn does_not_hold(what: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Exit::Proof,
        format!("{what} does not hold: {why}"),
        "take it from the broker again; if it still does not hold, keep both: they are evidence",
    )
}

fn reader(dir: &Path) -> impl Fn(&str, u64) -> io::Result<Vec<u8>> + Sync + '_ {
    move |name, most| {
        let mut bytes = vec![];
        File::open(dir.join(name))?
            .take(most + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }
}

/// A bar on standard error, where that is a terminal.
fn progress() -> impl FnMut(u64, u64) {
    let (shown, mut last) = (io::stderr().is_terminal(), 101);
    move |done, of| {
        let percent = (done * 100).checked_div(of).unwrap_or(100);
        if shown && percent != last {
            last = percent;
            let full = usize::try_from(percent / 4).unwrap_or(0);
            let end = if done == of { "\n" } else { "" };
            eprint!(
                "\r[{:<25}] {percent:>3} % of {of} records{end}",
                "#".repeat(full)
            );
        }
    }
}

/// Checks what was exported: a folder of either form, a proof of one record, or evidence of a fork.
///
/// # Errors
/// [`Exit::Proof`] names the file, the record and what does not hold.
pub fn verify(path: &Path, quorum: &Quorum, excerpt: bool) -> Result<Value, Failure> {
    if path.is_file() {
        return verify_file(path, quorum);
    }
    let by = |w: &ordonnans_audit::Witnessed| {
        let name = |(n, at): &(String, u64)| json!({ "witness": n, "seconds": at });
        w.by.iter().map(name).collect::<Vec<_>>()
    };
    if path.join("tile").is_dir() {
        let read = reader(path);
        let report = tiles::verify(&read, quorum, &mut progress())
            .map_err(|e| does_not_hold("the export", &e))?;
        let span = span(&read, report.head.size)?;
        return Ok(json!({
            "verified": true, "records": report.head.size, "root": report.head.root, "opened": report.opened,
            "closed": report.head.size - report.opened, "first": span.0, "last": span.1, "witnessed": by(&report.witnessed),
        }));
    }
    let open = |name: &str| {
        let file = path.join(name);
        File::open(&file)
            .map(BufReader::new)
            .map_err(|e| unusable(&file, &e))
    };
    let file = path.join(export::CHECKPOINT);
    let checkpoint = fs::read(&file).map_err(|e| unusable(&file, &e))?;
    let text = String::from_utf8_lossy(&checkpoint);
    let (_, witnessed) = quorum
        .verify(&text)
        .map_err(|e| does_not_hold("the export", &e))?;
    if !witnessed.enough {
        let why = tiles::Why::Witnesses(witnessed.by.len());
        return Err(does_not_hold("the export", &why));
    }
    let check = if excerpt {
        export::verify_excerpt
    } else {
        export::verify
    };
    let mut last = None;
    for key in quorum.logs() {
        let report = check(&checkpoint, open(RECORDS)?, open(PROOFS)?, key);
        match report {
            Ok(r) => {
                return Ok(json!({
                    "verified": true, "records": r.records, "of": r.head.size, "root": r.head.root, "opened": r.opened,
                    "complete": !excerpt, "witnessed": by(&witnessed),
                }));
            }
            Err(e) => last = Some(e),
        }
    }
    Err(match last {
        Some(e) => does_not_hold("the export", &e),
        None => Failure::internal("a policy without a log"),
    })
}

/// The times of the first record and the last.
fn span(read: &tiles::Read<'_>, size: u64) -> Result<(Value, Value), Failure> {
    if size == 0 {
        return Ok((Value::Null, Value::Null));
    }
    let time = |n: u64| {
        let bundle = tiles::bundle(read, n / tiles::TILE, size)
            .map_err(|e| does_not_hold("the export", &e))?;
        let at = usize::try_from(n % tiles::TILE).unwrap_or(0);
        let public = bundle.get(at).and_then(Entry::read).map(|(p, _)| p.time);
        Ok::<_, Failure>(json!(public))
    };
    Ok((time(0)?, time(size - 1)?))
}

fn verify_file(path: &Path, quorum: &Quorum) -> Result<Value, Failure> {
    let bytes = fs::read(path).map_err(|e| unusable(path, &e))?;
    let text = String::from_utf8(bytes).map_err(|e| unusable(path, &e))?;
    if !text.starts_with('{') {
        let p = proof::verify(&text, quorum).map_err(|e| does_not_hold("the proof", &e))?;
        return Ok(json!({
            "verified": true, "sequence": p.public.sequence, "time": p.public.time, "verb": p.public.verb.as_str(),
            "level": p.public.level, "commitment": p.public.commitment, "of": p.head.size, "root": p.head.root,
        }));
    }
    let fork: Fork = serde_json::from_str(&text).map_err(|e| unusable(path, &e))?;
    let mut why = None;
    for key in quorum.logs() {
        match fork.judge(key) {
            Ok(Verdict::Proven { kept, shown }) => {
                return Ok(json!({
                    "fork": "proven", "kept": kept.size, "kept_root": kept.root, "shown": shown.size, "shown_root": shown.root,
                    "log": key.name(), "by": fork.by, "at": fork.at,
                }));
            }
            Ok(Verdict::Suspected { kept, shown }) => {
                return Ok(json!({
                    "fork": "suspected", "kept": kept.size, "shown": shown.size, "log": key.name(), "by": fork.by, "at": fork.at,
                }));
            }
            Ok(Verdict::None) => {
                return Err(does_not_hold(
                    "the evidence",
                    &"one continues the other: this is no fork",
                ));
            }
            Err(e) => why = Some(e),
        }
    }
    Err(match why {
        Some(e) => does_not_hold("the evidence", &e),
        None => Failure::internal("a policy without a log"),
    })
}

/// The records of an exported folder that answer a question, after a check of the whole folder.
///
/// # Errors
/// As [`verify`].
pub fn search(
    dir: &Path,
    quorum: &Quorum,
    query: &AuditQuery,
    limit: u64,
) -> Result<Vec<Entry>, Failure> {
    let mut found = vec![];
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut take = |entry: Entry| {
        let read = entry.read();
        let wanted = read.is_some_and(|(p, d)| ordonnans_audit::answers(query, &p, d.as_ref()));
        if wanted && found.len() < limit {
            found.push(entry);
        }
    };
    verify(dir, quorum, false)?;
    if dir.join("tile").is_dir() {
        let read = reader(dir);
        let said = |e| does_not_hold("the export", &e);
        let (head, _) = tiles::head(&read, quorum).map_err(said)?;
        for n in 0..head.size.div_ceil(tiles::TILE) {
            tiles::bundle(&read, n, head.size)
                .map_err(said)?
                .into_iter()
                .for_each(&mut take);
        }
    } else {
        let path = dir.join(RECORDS);
        let text = fs::read_to_string(&path).map_err(|e| unusable(&path, &e))?;
        text.lines()
            .filter_map(export::read_record)
            .for_each(&mut take);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_not_finished_is_gone() {
        let place = tempfile::tempdir().expect("a folder");
        for whole in [false, true] {
            let path = place.path().join(format!("{whole}"));
            let folder = Folder::make(&path).expect("made");
            folder.put("content", b"x").expect("written");
            assert!(Folder::make(&path).is_err(), "it exists");
            if whole {
                folder.done();
            } else {
                drop(folder);
            }
            assert_eq!(path.exists(), whole);
        }
    }
}
