//! Real files: each is routed as content or attachment, and must arrive bit by bit, at exactly those who may have it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::BASE64;
use ordonnans_client::local::{Request, Submission};
use ordonnans_message::{Digest, Sha256Stream, limits, sha256};
use serde_json::{Value, json};

use crate::inspection::Proof;
use crate::judge::may_reach;
use crate::play::{Play, addressed, now, read, read_with};
use crate::scenario::Message;
use crate::structure::{Trouble, until};

/// A file up to this size goes as content, a larger one as attachment.
const INLINE: u64 = 60 * 1024;
/// A folder of a gigabyte may take this long.
const ARRIVE_WITHIN: Duration = Duration::from_secs(600);
/// The levels the files take in turn.
const LEVELS: [&str; 4] = ["Ongerubriceerd", "Dep.V", "Stg.C", "Stg.G"];

/// What became of the files.
#[derive(Debug, Default)]
pub(crate) struct Routed {
    files: usize,
    bytes: u64,
    delivered: usize,
    refused: usize,
    leaks: Vec<String>,
    lost: Vec<String>,
}

/// A file on its way.
struct Routing {
    path: PathBuf,
    digest: Digest,
    inline: bool,
    id: String,
    message: Message,
}

impl Routed {
    /// Prints what became of the files. Gives whether all is well.
    pub(crate) fn print(&self, json: bool, proof: &Proof) -> bool {
        let wrong = proof.scenes.iter().filter_map(|s| s.as_ref().err());
        let wrong: Vec<&String> = wrong.collect();
        for line in self
            .leaks
            .iter()
            .chain(&self.lost)
            .chain(wrong.iter().copied())
        {
            eprintln!("{line}");
        }
        let text = format!(
            "\nfiles {}  bytes {}  copies delivered {}  refused {}\nrecords {}  root {}\nleaks {}\nlost {}\nverified {}\n",
            self.files,
            self.bytes,
            self.delivered,
            self.refused,
            proof.records,
            proof.root,
            self.leaks.len(),
            self.lost.len(),
            proof.verified
        );
        if json {
            eprint!("{text}");
            println!(
                "{}",
                json!({
                    "sent": self.files + self.refused, "accepted": self.files, "refused": self.refused,
                    "delivered": self.delivered, "opened": self.delivered, "withheld": 0,
                    "records": proof.records, "tree_size": proof.records, "root": proof.root,
                    "verified": proof.verified, "leaks": self.leaks.len(), "lost": self.lost.len(),
                    "files": self.files, "bytes": self.bytes,
                })
            );
        } else {
            print!("{text}");
        }
        self.leaks.is_empty() && self.lost.is_empty() && wrong.is_empty() && proof.verified
    }
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut items: Vec<_> = fs::read_dir(dir)?.collect::<Result<_, _>>()?;
    items.sort_by_key(std::fs::DirEntry::file_name);
    for item in items {
        let kind = item.file_type()?;
        if kind.is_dir() {
            walk(&item.path(), found)?;
        } else if kind.is_file() {
            found.push(item.path());
        }
    }
    Ok(())
}

fn digest(path: &Path) -> std::io::Result<Digest> {
    let (mut file, mut stream) = (File::open(path)?, Sha256Stream::default());
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(stream.finish());
        }
        stream.update(&buffer[..n]);
    }
}

/// Routes every file below a folder and checks what arrived where.
pub(crate) fn route(play: &mut Play<'_>, from: &Path) -> Result<Routed, Trouble> {
    let mut paths = vec![];
    walk(from, &mut paths).map_err(|e| format!("{}: {e}", from.display()))?;
    if paths.is_empty() {
        return Err(format!("{} holds no file", from.display()));
    }
    let sender = "ncc";
    let mut routed = Routed::default();
    let mut files = vec![];
    for (i, path) in paths.into_iter().enumerate() {
        let said = |e: std::io::Error| format!("{}: {e}", path.display());
        let length = fs::metadata(&path).map_err(said)?.len();
        let message = message(play, sender, LEVELS[i % LEVELS.len()])?;
        if i < LEVELS.len() {
            refused_elsewhere(play, &message, &mut routed)?;
        }
        // From Stg.C up each addressee has a copy of its own, which all must fit.
        let room = if message.level.starts_with("Stg.") {
            let copies = u64::try_from(message.to.len().max(1)).unwrap_or(u64::MAX);
            INLINE.min(limits::MAX_COPIES as u64 / copies - 1024)
        } else {
            INLINE
        };
        let inline = length <= room;
        let id = send(play, &message, &path, inline)?;
        let id = id.map_err(|why| format!("{}: {why}", path.display()))?;
        routed.files += 1;
        routed.bytes += length;
        play.progress.say(&format!(
            "{:14} {:>11} bytes to {} nodes: {}",
            message.level,
            length,
            message.to.len(),
            path.file_name().unwrap_or_default().to_string_lossy()
        ));
        files.push(Routing {
            digest: digest(&path).map_err(said)?,
            path,
            inline,
            id,
            message,
        });
    }
    let nodes: Vec<String> = play
        .scenario
        .node
        .iter()
        .filter(|n| !n.control)
        .map(|n| n.name.clone())
        .collect();
    let owed: usize = files.iter().map(|f| addressed(&f.message).len()).sum();
    let there = |play: &Play<'_>| -> usize { nodes.iter().map(|n| inbox(play, n).len()).sum() };
    until(ARRIVE_WITHIN, || there(play) >= owed);
    check(play, &nodes, &files, &mut routed)?;
    Ok(routed)
}

/// A message of this level to everyone who may have it.
fn message(play: &Play<'_>, sender: &str, level: &str) -> Result<Message, Trouble> {
    let label = if level == "Ongerubriceerd" {
        level.to_owned()
    } else {
        let by = play.scenario.person.iter().find(|p| p.node == sender);
        let by = by.ok_or_else(|| format!("nobody at {sender} establishes a label"))?;
        format!(
            "{level} // TOT 2036-01-01 // VASTGESTELD {}.person.{}",
            by.name, play.scenario.structure
        )
    };
    let mut m = Message {
        label,
        level: level.into(),
        ..Message::routine(sender, vec![], "")
    };
    for n in play.scenario.node.iter().filter(|n| !n.control) {
        let persons = play.scenario.person.iter().filter(|p| p.node == n.name);
        let addresses = std::iter::once(n.name.clone())
            .chain(persons.map(|p| format!("{}@{}", p.name, n.name)));
        for to in addresses {
            let one = Message {
                to: vec![to.clone()],
                ..m.clone()
            };
            if may_reach(play.scenario, &one, &n.name) {
                m.to.push(to);
                break;
            }
        }
    }
    Ok(m)
}

/// One addressee who may not have it, where there is one: the whole must be refused.
fn refused_elsewhere(play: &Play<'_>, m: &Message, routed: &mut Routed) -> Result<(), Trouble> {
    let able = addressed(m);
    let unable = play
        .scenario
        .node
        .iter()
        .find(|n| !n.control && !able.contains(n.name.as_str()));
    let Some(unable) = unable else {
        return Ok(());
    };
    let mut wider = m.clone();
    wider.to.push(unable.name.clone());
    match send(play, &wider, Path::new("/dev/null"), true)? {
        Ok(_) => routed.leaks.push(format!(
            "{} was accepted for {}, who may not have it",
            m.level, unable.name
        )),
        Err(_) => routed.refused += 1,
    }
    Ok(())
}

/// Sends a file and waits for the verdict: its id, or why not.
fn send(
    play: &Play<'_>,
    m: &Message,
    path: &Path,
    inline: bool,
) -> Result<Result<String, String>, Trouble> {
    let body = if inline {
        fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?
    } else {
        vec![]
    };
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    let absolute = std::path::absolute(path).map_err(|e| e.to_string())?;
    let message = Submission {
        to: m.to.clone(),
        info: vec![],
        precedence: m.precedence.clone(),
        info_precedence: None,
        label: m.label.clone(),
        exercise: true,
        subject: name.clone().unwrap_or_default().chars().take(200).collect(),
        media_type: "application/octet-stream".into(),
        name,
        body,
        attachments: if inline { vec![] } else { vec![absolute] },
        author: None,
        expires: now().after(24 * 60 * 60 * 1000),
        reply_by: None,
        references: vec![],
        supersedes: None,
    };
    let answer = match play.structure.hand_in(&m.from, message, true)? {
        Ok(v) => v,
        Err(f) => return Ok(Err(f.to_string())),
    };
    if answer["verdict"]["state"] != "accepted" {
        let code = answer["verdict"]["code"].as_str().unwrap_or("refused");
        return Ok(Err(code.into()));
    }
    let id = answer["id"].as_str().ok_or("an answer without an id")?;
    Ok(Ok(id.to_owned()))
}

fn inbox(play: &Play<'_>, node: &str) -> Vec<Value> {
    let rows = play.structure.ask(node, &Request::Inbox);
    rows.ok()
        .and_then(|v| v.as_array().cloned())
        .unwrap_or_default()
}

fn check(
    play: &Play<'_>,
    nodes: &[String],
    files: &[Routing],
    routed: &mut Routed,
) -> Result<(), Trouble> {
    for node in nodes {
        let rows = inbox(play, node);
        for row in &rows {
            let Some(f) = files.iter().find(|f| row["id"] == f.id.as_str()) else {
                routed
                    .leaks
                    .push(format!("{node} holds something nobody sent"));
                continue;
            };
            if !may_reach(play.scenario, &f.message, node) {
                let what = f.path.display();
                routed
                    .leaks
                    .push(format!("{node} holds {what} and may not"));
            }
            let got = received(play, node, row, f.inline)?;
            if got == f.digest {
                routed.delivered += 1;
            } else {
                routed
                    .lost
                    .push(format!("{node} holds {} altered", f.path.display()));
            }
        }
        for f in files {
            let has = rows.iter().any(|r| r["id"] == f.id.as_str());
            if addressed(&f.message).contains(node.as_str()) && !has {
                routed
                    .lost
                    .push(format!("{} did not reach {node}", f.path.display()));
            }
        }
    }
    Ok(())
}

/// Opens a message and gives the digest of what it carries.
fn received(play: &Play<'_>, node: &str, row: &Value, inline: bool) -> Result<Digest, Trouble> {
    if inline {
        let content = read(play.structure, node, row)?;
        let body = content["body"].as_str().unwrap_or_default();
        let body = BASE64.decode(body.as_bytes()).map_err(|e| e.to_string())?;
        return Ok(sha256(&[&body]));
    }
    let path = play.structure.dir.join("opened");
    read_with(play.structure, node, row, Some((1, path.clone())))?;
    let digest = digest(&path).map_err(|e| e.to_string());
    fs::remove_file(&path).map_err(|e| e.to_string())?;
    digest
}
