//! The node's encryption keys: a row of short-lived ones, of which the newest is published and the older open what is still on its way.
//!
//! A key is made at a time, which its file is named by; everything else follows from that time. It is published until
//! [`PUBLISHED_MS`] after it; a daemon makes the next one [`TURN_MS`] after it; and it is destroyed [`KEPT_MS`] after it, when no message that
//! was sealed to it can arrive any more. What lies in the inbox sealed to it ends with it: a stolen disk opens only what is recent.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ordonnans_label::Name;
use ordonnans_message::{KeyPackage, Timestamp, limits};
use ordonnans_seal::{SealSecret, SystemEntropy};

use crate::desk::internal;
use crate::failure::Failure;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// How long after it was made others may seal to a key, in milliseconds: a node or a person that was away for two months can still be written to.
pub(crate) const PUBLISHED_MS: u64 = 90 * DAY_MS;
/// How long after a key was made the daemon makes the next one, in milliseconds.
pub(crate) const TURN_MS: u64 = 30 * DAY_MS;
/// How long after it was made a key is kept, in milliseconds: the last message sealed to it has then expired.
pub(crate) const KEPT_MS: u64 = PUBLISHED_MS + limits::MAX_LIFETIME_MS;

const ENDING: &str = ".x-wing";
const HALF: &str = ".new";

/// The keys, newest first; there is always one.
pub(crate) struct Ring {
    folder: PathBuf,
    secrets: Vec<SealSecret>,
    made: Vec<Timestamp>,
}

fn file(folder: &Path, made: Timestamp) -> PathBuf {
    folder.join(format!("{:015}{ENDING}", made.as_millis()))
}

fn synced(folder: &Path) -> Result<(), Failure> {
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(internal)
}

impl Ring {
    /// Reads the keys of a folder, which is made of mode 0700, and turns them. A start that was killed half-way has left no half key.
    pub(crate) fn open(folder: &Path, now: Timestamp) -> Result<Self, Failure> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).map_err(internal)?;
        let mut found = vec![];
        for item in fs::read_dir(folder).map_err(internal)? {
            let path = item.map_err(internal)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(HALF) {
                fs::remove_file(&path).map_err(internal)?;
                continue;
            }
            let made = name.strip_suffix(ENDING).and_then(|t| t.parse().ok());
            let made = made.ok_or_else(|| internal(format!("{name} is no key of this node")))?;
            let secret = SealSecret::load(&path).map_err(internal)?;
            found.push((Timestamp::from_millis(made), secret));
        }
        found.sort_by_key(|(made, _)| std::cmp::Reverse(*made));
        let (made, secrets) = found.into_iter().unzip();
        let mut ring = Self {
            folder: folder.into(),
            secrets,
            made,
        };
        ring.turn(now)?;
        Ok(ring)
    }

    /// Whether a new key is to be made.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.made.first().is_none_or(|m| m.after(TURN_MS) <= now)
    }

    /// Makes the next key where it is time, and destroys those whose time is over.
    pub(crate) fn turn(&mut self, now: Timestamp) -> Result<(), Failure> {
        if self.is_due(now) {
            let path = file(&self.folder, now);
            let half = path.with_extension(&HALF[1..]);
            let secret = SealSecret::create(&half, &mut SystemEntropy).map_err(internal)?;
            fs::rename(&half, &path).map_err(internal)?;
            synced(&self.folder)?;
            self.secrets.insert(0, secret);
            self.made.insert(0, now);
        }
        let over = |m: &Timestamp| m.after(KEPT_MS) <= now;
        while self.made.len() > 1 && self.made.last().is_some_and(over) {
            if let (Some(made), Some(_)) = (self.made.pop(), self.secrets.pop()) {
                fs::remove_file(file(&self.folder, made)).map_err(internal)?;
                synced(&self.folder)?;
                tracing::info!("an encryption key has ended and was destroyed");
            }
        }
        Ok(())
    }

    /// The keys, newest first.
    pub(crate) fn secrets(&self) -> &[SealSecret] {
        &self.secrets
    }

    /// What others need to seal to the newest key.
    pub(crate) fn package(&self, of: &Name) -> Result<KeyPackage, Failure> {
        let newest = self.secrets.first().zip(self.made.first());
        let (secret, made) = newest.ok_or_else(|| internal("there is no encryption key"))?;
        Ok(secret.package(of, made.after(PUBLISHED_MS)))
    }

    /// Until when something sealed to a key can be opened; `None` where that key is not here.
    pub(crate) fn opens_until(&self, kid: [u8; 8]) -> Option<Timestamp> {
        let place = self.secrets.iter().position(|s| s.kid() == kid)?;
        self.made.get(place).map(|m| m.after(KEPT_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ordonnans_label::Kind;

    #[test]
    fn keys_turn_open_what_may_still_arrive_and_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("keys");
        let day = |n: u64| Timestamp::from_millis((20_000 + n) * DAY_MS);
        let name = Name::new("ncc", Kind::Node, "crisis.example").expect("a name");
        let ring = |at| Ring::open(&folder, at).expect("opens");
        let first = ring(day(0)).package(&name).expect("a package");
        assert_eq!(first.not_after, day(90));
        // A start that was killed half-way.
        fs::write(folder.join("000000000000001.new"), b"").expect("written");
        let mut keys = ring(day(29));
        assert_eq!(keys.package(&name).expect("a package"), first);
        assert!(!keys.is_due(day(29)) && keys.is_due(day(30)));
        keys.turn(day(30)).expect("turns");
        let second = keys.package(&name).expect("a package");
        assert_ne!(second.kid(), first.kid());
        assert_eq!(second.not_after, day(120));
        // A message of the last day on which the first is sealed to, at its longest, arrives on day 120.
        assert_eq!(keys.opens_until(first.kid()), Some(day(120)));
        let until = |at| ring(at).opens_until(first.kid());
        assert_eq!(
            until(Timestamp::from_millis(day(120).as_millis() - 1)),
            Some(day(120))
        );
        assert_eq!(until(day(120)), None, "it has ended");
        let left = || fs::read_dir(&folder).expect("read").count();
        // Made on day 30, on day 120 less a moment, and nothing of the first.
        assert_eq!(left(), 2);
        assert_eq!(ring(day(400)).secrets().len(), 1);
        assert_eq!(left(), 1, "all but a new one have ended");
    }

    #[test]
    fn a_key_file_that_is_none_stops_the_start() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("note.txt"), b"").expect("written");
        let refused = Ring::open(dir.path(), Timestamp::from_millis(1)).map(drop);
        assert!(
            refused
                .expect_err("no key")
                .to_string()
                .contains("note.txt")
        );
    }
}
