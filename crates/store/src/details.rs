//! The keys that details are sealed under: one for each day, destroyed when the retention of that day is over, and one for each incident,
//! under which its details are kept on.
//!
//! Neither sled nor redb forgets when a row is overwritten, and a disk does not either; a key of 32 bytes in a file of its own can be
//! destroyed. What a file system or a disk keeps of that file for itself is beyond us: `docs/operate.md` says so.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ordonnans_identity::KeyFileError;
use ordonnans_message::Timestamp;
use ordonnans_seal::{InvalidSecret, RetentionKey, SystemEntropy};

use crate::journal::sync_dir;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const GONE: &str = "dropped";

/// A day, counted from 1970, by the broker's clock.
#[must_use]
pub(crate) fn day(at: Timestamp) -> u64 {
    at.as_millis() / DAY_MS
}

/// Why details cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum DetailsError {
    /// The folder.
    #[error("{path} cannot be used: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A key cannot be read.
    #[error(transparent)]
    Key(#[from] InvalidSecret),
    /// A key cannot be made.
    #[error(transparent)]
    Make(#[from] KeyFileError),
    /// A key is not there, and nothing says that it was destroyed.
    #[error(
        "the key {0} of audit details is missing: restore it, or the details it opens are lost"
    )]
    Missing(PathBuf),
}

/// What there is of a key; `None` where it was destroyed.
type Kept = Option<Arc<RetentionKey>>;

/// The keys of one data directory.
#[derive(Clone, Debug)]
pub(crate) struct Details {
    dir: PathBuf,
    /// Those of days that were asked for: every record asks.
    days: Arc<Mutex<BTreeMap<u64, Kept>>>,
}

impl Details {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        if let Some(parent) = dir.parent() {
            sync_dir(parent)?;
        }
        Ok(Self {
            dir: dir.into(),
            days: Arc::default(),
        })
    }

    fn path(&self, name: &str, ending: &str) -> PathBuf {
        self.dir.join(format!("{name}.{ending}"))
    }

    fn find(&self, name: &str, make: bool) -> Result<Kept, DetailsError> {
        let path = self.path(name, "key");
        if self.path(name, GONE).exists() {
            return Ok(None);
        }
        if path.exists() {
            return Ok(Some(Arc::new(RetentionKey::load(&path)?)));
        }
        if !make {
            return Err(DetailsError::Missing(path));
        }
        let key = RetentionKey::create(&path, &mut SystemEntropy)?;
        sync_dir(&self.dir).map_err(|source| DetailsError::Io {
            path: self.dir.clone(),
            source,
        })?;
        Ok(Some(Arc::new(key)))
    }

    fn day(&self, day: u64, make: bool) -> Result<Kept, DetailsError> {
        let mut days = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = days.get(&day) {
            return Ok(kept.clone());
        }
        let kept = self.find(&format!("day-{day}"), make)?;
        days.insert(day, kept.clone());
        Ok(kept)
    }

    /// The key of a day, to seal under.
    pub(crate) fn of_day(&self, day: u64) -> Result<Kept, DetailsError> {
        self.day(day, true)
    }

    /// The key of a day, to open with.
    pub(crate) fn for_day(&self, day: u64) -> Result<Kept, DetailsError> {
        self.day(day, false)
    }

    /// The key of an incident.
    pub(crate) fn of_incident(&self, incident: &str, make: bool) -> Result<Kept, DetailsError> {
        self.find(&format!("incident-{incident}"), make)
    }

    /// The days that still have a key, up to and with `through`.
    pub(crate) fn days_through(&self, through: u64) -> io::Result<Vec<u64>> {
        let mut days = vec![];
        for item in fs::read_dir(&self.dir)? {
            let name = item?.file_name();
            let day = name
                .to_str()
                .and_then(|n| n.strip_prefix("day-")?.strip_suffix(".key")?.parse().ok());
            days.extend(day.filter(|d: &u64| *d <= through));
        }
        days.sort_unstable();
        Ok(days)
    }

    pub(crate) fn drop_day(&self, day: u64) -> io::Result<()> {
        self.destroy(&format!("day-{day}"))?;
        let mut days = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        days.insert(day, None);
        Ok(())
    }

    pub(crate) fn drop_incident(&self, incident: &str) -> io::Result<()> {
        self.destroy(&format!("incident-{incident}"))
    }

    /// Destroys a key: overwritten, synced, gone; what stays says that it was destroyed and not lost.
    fn destroy(&self, name: &str) -> io::Result<()> {
        let path = self.path(name, "key");
        File::create(self.path(name, GONE))?.sync_all()?;
        sync_dir(&self.dir)?;
        match OpenOptions::new().write(true).open(&path) {
            Ok(mut file) => {
                file.write_all(&[0; 32])?;
                file.sync_all()?;
                fs::remove_file(&path)?;
                sync_dir(&self.dir)?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }
}
