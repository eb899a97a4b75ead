//! The highest number seen of each authority's list, kept in a file: an older list that is put back brings revoked certificates back with it.
//!
//! The file is text: a first line, one line an authority (SHA-256 over its name and key, and the number), and a last line with the SHA-256 of what
//! stands before it. It is written beside its place, synced and renamed, so that a kill leaves the old one or the new one.
//!
//! A file that is missing begins anew with the lists that are there, for the first start has none. One that is damaged is an error: what it
//! said is not known, and a list that is older than it said would pass.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ordonnans_message::{Digest, sha256};

use crate::Trust;
use crate::lists::ListNumber;
use crate::secret::replace_file;

const FIRST: &str = "ordonnans list numbers 1";
/// Authorities that are remembered: a structure has a handful at a time. Beyond it those that are trusted no more are forgotten.
const MOST: usize = 1_024;
/// Bytes of a file that is read: the lines above, at their longest.
const MAX_FILE: u64 = (MOST as u64 + 3) * 160;

/// Why lists, or the record of their numbers, cannot be used. What was in force stays.
#[derive(Debug, thiserror::Error)]
pub enum NumbersError {
    /// A list is older than one that was seen before: put back, by mistake or on purpose. Bring the authority's newest list.
    #[error(
        "the revocation list by '{authority}' has number {number}, and number {seen} was in force before: an older list brings revoked certificates back"
    )]
    RolledBack {
        /// The authority.
        authority: String,
        /// The number of the list that is there.
        number: ListNumber,
        /// The highest number seen.
        seen: ListNumber,
    },
    /// The record is damaged. The operator compares the numbers of the lists with those of the authority, and then removes the file.
    #[error(
        "the record of list numbers {0} is damaged, so an older list could not be told from a new one"
    )]
    Damaged(PathBuf),
    /// The record cannot be read or written.
    #[error("the record of list numbers {path} cannot be used: {source}")]
    Io {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The highest number seen of each authority's list.
#[derive(Debug)]
pub struct ListNumbers {
    path: PathBuf,
    seen: BTreeMap<Digest, ListNumber>,
    found: bool,
}

impl ListNumbers {
    /// Reads the record, or begins one where there is none.
    ///
    /// # Errors
    /// [`NumbersError::Damaged`], [`NumbersError::Io`].
    pub fn open(path: &Path) -> Result<Self, NumbersError> {
        let damaged = || NumbersError::Damaged(path.into());
        let io = |source| NumbersError::Io {
            path: path.into(),
            source,
        };
        let (seen, found) = match fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => (BTreeMap::new(), false),
            Err(e) => return Err(io(e)),
            Ok(m) if m.len() > MAX_FILE => return Err(damaged()),
            Ok(_) => {
                let text = String::from_utf8(fs::read(path).map_err(io)?).map_err(|_| damaged())?;
                (decode(&text).ok_or_else(damaged)?, true)
            }
        };
        Ok(Self {
            path: path.into(),
            seen,
            found,
        })
    }

    /// Whether there was a record. Where there was none although there should be, lists are believed as they are.
    #[must_use]
    pub fn was_found(&self) -> bool {
        self.found
    }

    /// Whether no list of this trust is older than one seen before.
    ///
    /// # Errors
    /// [`NumbersError::RolledBack`] names the authority and both numbers.
    pub fn check(&self, trust: &Trust) -> Result<(), NumbersError> {
        for list in trust.list_details() {
            if let Some(seen) = self.seen.get(&list.by)
                && list.number < *seen
            {
                return Err(NumbersError::RolledBack {
                    authority: list.authority.clone(),
                    number: list.number.clone(),
                    seen: seen.clone(),
                });
            }
        }
        Ok(())
    }

    /// Checks a trust, and remembers the numbers of its lists durably. Only then may it come into force.
    ///
    /// # Errors
    /// [`NumbersError::RolledBack`]; [`NumbersError::Io`]: nothing was remembered.
    pub fn accept(&mut self, trust: &Trust) -> Result<(), NumbersError> {
        self.check(trust)?;
        let mut seen = self.seen.clone();
        for list in trust.list_details() {
            seen.insert(list.by, list.number.clone());
        }
        if seen.len() > MOST {
            seen.retain(|by, _| trust.list_details().iter().any(|l| l.by == *by));
        }
        if seen != self.seen || !self.found {
            let written = replace_file(&self.path, encode(&seen).as_bytes(), 0o666);
            written.map_err(|source| NumbersError::Io {
                path: self.path.clone(),
                source,
            })?;
            (self.seen, self.found) = (seen, true);
        }
        Ok(())
    }
}

fn encode(seen: &BTreeMap<Digest, ListNumber>) -> String {
    let mut text = format!("{FIRST}\n");
    for (by, number) in seen {
        text.push_str(&format!("{by} {number}\n"));
    }
    let sum = sha256(&[text.as_bytes()]);
    format!("{text}{sum}\n")
}

fn decode(text: &str) -> Option<BTreeMap<Digest, ListNumber>> {
    let whole = text.strip_suffix('\n')?;
    let (before, sum) = whole.split_at(whole.rfind('\n')? + 1);
    if sum != sha256(&[before.as_bytes()]).to_string() {
        return None;
    }
    let mut lines = before.lines();
    if lines.next() != Some(FIRST) {
        return None;
    }
    let entry = |line: &str| {
        let (by, number) = line.split_once(' ')?;
        Some((by.parse().ok()?, number.parse().ok()?))
    };
    lines.map(entry).collect()
}
