//! The officer's act at the end: looks at the period and signs it off, takes the log away, and has it checked without the broker; and tries
//! whether a tampered copy passes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use ordonnans_audit::{Account, Entry, Quorum, Verb};
use ordonnans_client::config::Config;
use ordonnans_client::exports::{TileExport, verify};
use ordonnans_client::failure::Failure;
use ordonnans_client::officer::Officer;
use ordonnans_label::Level;
use ordonnans_message::{AuditQuery, Digest, MessageId, OrderKind, sha256};

use crate::judge::{Seen, naive_root};
use crate::play::Play;
use crate::structure::Trouble;

/// The verifier in another language, in the sources.
const PYTHON: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/python/check_export.py"
);
/// Records that a review rests on at most.
const REVIEWED: u64 = 100_000;

/// What the officer took away.
pub(crate) struct Proof {
    pub(crate) records: u64,
    pub(crate) root: Digest,
    /// The export holds, by our verifier, by a naive computation, and by the one in another language where it is there.
    pub(crate) verified: bool,
    /// How many verifiers looked.
    pub(crate) verifiers: usize,
    /// Records that the officer looked at and signed off.
    pub(crate) reviewed: u64,
    /// Nodes that had, or could have had, one message: by the log.
    pub(crate) exposed: usize,
    /// Why a copy with one changed byte was refused; `None` where it passed.
    pub(crate) tampered: Option<String>,
    /// How each scene went, by the log.
    pub(crate) scenes: Vec<Seen>,
}

async fn review(officer: &mut Officer) -> Result<u64, Failure> {
    let query = AuditQuery {
        level: Some(Level::StgC),
        ..AuditQuery::default()
    };
    let entries = officer.search(&query, REVIEWED).await?;
    let sequence = |e: &Entry| e.read().map(|(p, _)| p.sequence);
    let from = entries.first().and_then(sequence).unwrap_or(0);
    let until = entries.last().and_then(sequence).map_or(from, |n| n + 1);
    let looked: Vec<&[u8]> = entries.iter().map(|e| e.public.as_slice()).collect();
    let what = OrderKind::Review {
        level: Level::StgC,
        from,
        until,
        page: sha256(&looked),
    };
    officer.order(what).await?;
    Ok(entries.len() as u64)
}

async fn account(officer: &mut Officer, id: MessageId) -> Result<Account, Failure> {
    let query = AuditQuery {
        message: Some(id),
        ..AuditQuery::default()
    };
    let entries = officer.search(&query, REVIEWED).await?;
    Ok(Account::of(id, &entries))
}

/// Whether the verifier in another language agrees; `None` where it is not here.
fn python(dir: &Path, key: &str) -> Option<Result<(), String>> {
    if !Path::new(PYTHON).exists() {
        return None;
    }
    let out = Command::new("python3")
        .arg("-B")
        .arg(PYTHON)
        .arg(dir)
        .arg(key)
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    Some(if out.status.success() {
        Ok(())
    } else {
        Err(said)
    })
}

/// The folder again, with one byte of a record changed.
fn tampered(dir: &Path, to: &Path) -> Result<(), Trouble> {
    let said = |e: std::io::Error| e.to_string();
    for item in walk(dir).map_err(said)? {
        let inside = item.strip_prefix(dir).map_err(|e| e.to_string())?;
        let place = to.join(inside);
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent).map_err(said)?;
        }
        let mut bytes = std::fs::read(&item).map_err(said)?;
        if inside.starts_with("tile/entries") {
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
        }
        std::fs::write(place, bytes).map_err(said)?;
    }
    Ok(())
}

fn walk(dir: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    let mut all = vec![];
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        if path.is_dir() {
            all.extend(walk(&path)?);
        } else {
            all.push(path);
        }
    }
    Ok(all)
}

impl Play<'_> {
    /// Review, copies, exposure of one message, export, offline verification by every verifier there is, and a tampered copy. Refusals get the
    /// rule that stands in the log.
    pub(crate) fn prove(&mut self, dir: &Path) -> Result<Proof, Trouble> {
        let config = Config::load(&self.structure.dir.join("officer.toml"));
        let config = config.map_err(|e| e.to_string())?;
        // The message that reached most: its copies and who could know of it.
        let most = self.sent.iter().filter(|x| x.accepted && x.id.is_some());
        let most = most.max_by_key(|x| x.message.to.len() + x.message.info.len());
        let most: Option<MessageId> = most.and_then(|x| x.id.as_deref()?.parse().ok());
        let mut entries = vec![];
        let took = self.structure.block_on(async {
            let mut officer = Officer::connect(&config).await?;
            let reviewed = review(&mut officer).await?;
            let account = match most {
                Some(id) => account(&mut officer, id).await?,
                None => Account::default(),
            };
            let mut export = TileExport::begin(dir)?;
            let checkpoint = officer
                .whole(|e| {
                    entries.push(e.clone());
                    export.push(e)
                })
                .await?;
            let head = export.finish(&checkpoint)?;
            officer.finish().await;
            Ok::<_, Failure>((reviewed, account, head))
        });
        let (reviewed, account, head) = took.map_err(|f| f.to_string())?;
        let holders: BTreeSet<&str> = account.copies.iter().map(|c| c.holder.local()).collect();
        self.progress.say(&format!(
            "the officer signed {reviewed} records of Stg.C off; one message has {} copies, at {}",
            account.copies.len(),
            holders.into_iter().collect::<Vec<_>>().join(" ")
        ));
        let key_file = self.structure.dir.join("broker").join("audit.pub");
        let key = std::fs::read_to_string(&key_file).map_err(|e| e.to_string())?;
        let key = key.trim().to_owned();
        let quorum = Quorum::of_log(key.parse().map_err(|_| "the broker's log key is none")?);
        let ours = verify(dir, &quorum, false);
        let other = python(dir, &key);
        let leaves: Vec<Digest> = entries.iter().map(|e| sha256(&[&[0], &e.public])).collect();
        let naive = naive_root(&leaves) == Some(head.root);
        for said in [
            ours.as_ref().err().map(ToString::to_string),
            other.clone().and_then(Result::err),
        ] {
            said.iter().for_each(|why| self.progress.say(why));
        }
        let changed = self.structure.dir.join("tampered");
        tampered(dir, &changed)?;
        let by_us = verify(&changed, &quorum, false)
            .err()
            .map(|f| f.to_string());
        let by_other = python(&changed, &key).is_none_or(|r| r.is_err());
        std::fs::remove_dir_all(&changed).map_err(|e| e.to_string())?;
        let verifiers = 2 + usize::from(other.is_some());
        self.rules(&entries);
        let verified = ours.is_ok_and(|v| v["root"] == head.root.to_string())
            && naive
            && other.is_none_or(|r| r.is_ok());
        self.progress.say(&format!(
            "the exported log of {} records was checked offline, {verifiers} ways; a copy with one changed byte was refused: {}",
            head.size,
            by_us.as_deref().unwrap_or("NO, IT PASSED"),
        ));
        Ok(Proof {
            records: head.size,
            root: head.root,
            verified,
            verifiers,
            reviewed,
            exposed: account.nodes().len(),
            tampered: by_us.filter(|_| by_other),
            scenes: self.seen(&entries),
        })
    }

    /// The rule of every refusal, as it stands in the log.
    fn rules(&mut self, entries: &[Entry]) {
        for entry in entries {
            let Some((public, Some(detail))) = entry.read() else {
                continue;
            };
            if public.verb != Verb::Refused {
                continue;
            }
            let of = detail.message.map(|id| id.to_string());
            for x in self
                .sent
                .iter_mut()
                .filter(|x| x.id.is_some() && x.id == of)
            {
                x.rule = detail.rule.map(|n| format!("POL-{n:02}"));
            }
        }
    }
}
