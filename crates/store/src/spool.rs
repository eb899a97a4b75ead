//! Tables of a client: its outbox and inbox. Each write is durable when the call returns; each value has its checksum.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, TableDefinition, TableError};

use crate::checked;

/// Memory for the cache, in bytes.
const CACHE: usize = 8 << 20;

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file.
    #[error("the spool {path} cannot be used: {why}")]
    Database {
        /// Its path.
        path: PathBuf,
        /// What the database says.
        why: String,
    },
    /// A row was changed on the disk.
    #[error("a row of '{0}' in the spool was changed on the disk")]
    Changed(&'static str),
}

struct Change {
    table: &'static str,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// Changes that become durable together.
#[derive(Default)]
pub struct SpoolBatch(Vec<Change>);

/// A key and its value.
pub type SpoolRow = (Vec<u8>, Vec<u8>);

type Rows = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

impl SpoolBatch {
    /// No change yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The row has this value now.
    pub fn put(&mut self, table: &'static str, key: &[u8], value: &[u8]) {
        self.0.push(Change {
            table,
            key: key.to_vec(),
            value: Some(checked::close(key, value)),
        });
    }

    /// The row is gone.
    pub fn remove(&mut self, table: &'static str, key: &[u8]) {
        self.0.push(Change {
            table,
            key: key.to_vec(),
            value: None,
        });
    }
}

impl std::fmt::Debug for SpoolBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SpoolBatch({} changes)", self.0.len())
    }
}

/// The tables, in one file. One process at a time.
#[derive(Debug)]
pub struct Spool {
    db: Database,
    path: PathBuf,
}

fn table(name: &'static str) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

impl Spool {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// [`SpoolError::Database`]: it is in use by another process, damaged, or cannot be written.
    pub fn open(path: &Path) -> Result<Self, SpoolError> {
        let broken = |why: String| SpoolError::Database {
            path: path.into(),
            why,
        };
        let open = || Database::builder().set_cache_size(CACHE).create(path);
        let db = catch_unwind(AssertUnwindSafe(open))
            .map_err(|_| broken("it is damaged".into()))?
            .map_err(|e| broken(e.to_string()))?;
        Ok(Self {
            db,
            path: path.into(),
        })
    }

    fn broken(&self, e: &dyn std::fmt::Display) -> SpoolError {
        SpoolError::Database {
            path: self.path.clone(),
            why: e.to_string(),
        }
    }

    /// Applies the changes, all or none, durably.
    ///
    /// # Errors
    /// [`SpoolError::Database`]: nothing was changed.
    pub fn apply(&self, batch: SpoolBatch) -> Result<(), SpoolError> {
        let write = || {
            let txn = self.db.begin_write()?;
            for change in &batch.0 {
                let (mut rows, key) = (txn.open_table(table(change.table))?, change.key.as_slice());
                match &change.value {
                    Some(value) => drop(rows.insert(key, value.as_slice())?),
                    None => drop(rows.remove(key)?),
                }
            }
            txn.commit()?;
            Ok::<_, redb::Error>(())
        };
        write().map_err(|e| self.broken(&e))
    }

    /// One row.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn get(&self, name: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, SpoolError> {
        let Some(rows) = self.read(name)? else {
            return Ok(None);
        };
        let value = rows.get(key).map_err(|e| self.broken(&e))?;
        value
            .map(|v| {
                checked::open(key, v.value())
                    .map(<[u8]>::to_vec)
                    .ok_or(SpoolError::Changed(name))
            })
            .transpose()
    }

    /// Every row whose key starts with `prefix`, by key.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn range(&self, name: &'static str, prefix: &[u8]) -> Result<Vec<SpoolRow>, SpoolError> {
        let Some(rows) = self.read(name)? else {
            return Ok(vec![]);
        };
        let mut found = vec![];
        for row in rows.range(prefix..).map_err(|e| self.broken(&e))? {
            let (k, v) = row.map_err(|e| self.broken(&e))?;
            let key = k.value();
            if !key.starts_with(prefix) {
                break;
            }
            let value = checked::open(key, v.value()).ok_or(SpoolError::Changed(name))?;
            found.push((key.to_vec(), value.to_vec()));
        }
        Ok(found)
    }

    fn read(&self, name: &'static str) -> Result<Option<Rows>, SpoolError> {
        let txn = self.db.begin_read().map_err(|e| self.broken(&e))?;
        match txn.open_table(table(name)) {
            Ok(rows) => Ok(Some(rows)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(e) => Err(self.broken(&e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_and_damage_is_seen() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("spool.redb");
        let spool = Spool::open(&path).expect("opens");
        assert_eq!(spool.get("a", b"k").expect("reads"), None);
        let mut batch = SpoolBatch::new();
        batch.put("a", b"k1", b"v1");
        batch.put("a", b"k2", b"v2");
        batch.put("a", b"l", b"v3");
        batch.remove("a", b"k2");
        spool.apply(batch).expect("applies");
        assert!(Spool::open(&path).is_err(), "one process at a time");
        drop(spool);
        let spool = Spool::open(&path).expect("opens");
        assert_eq!(spool.get("a", b"k1").expect("reads"), Some(b"v1".to_vec()));
        assert_eq!(
            spool.range("a", b"k").expect("reads"),
            vec![(b"k1".to_vec(), b"v1".to_vec())]
        );
        drop(spool);
        let mut bytes = std::fs::read(&path).expect("reads");
        let at = bytes.windows(2).position(|w| w == b"v1").expect("there");
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).expect("writes");
        let seen = Spool::open(&path).and_then(|s| s.get("a", b"k1"));
        assert!(seen.is_err(), "a flipped bit does not read as a value");
    }
}
