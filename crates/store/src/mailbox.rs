//! The mailbox in redb: rows that come and go.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ordonnans_engine::{Commit, CorruptRow, Rows, Seq, Table, Write};
use ordonnans_message::DecodeError;
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
};

use crate::checked;

/// Memory for redb's cache, in bytes.
const CACHE: usize = 64 << 20;
const POSITION: TableDefinition<'_, &str, u64> = TableDefinition::new("position");

/// Why the mailbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MailboxError {
    /// The database.
    #[error("the mailbox {path} cannot be used: {why}")]
    Database {
        /// Its file.
        path: PathBuf,
        /// What redb says.
        why: String,
    },
    /// A row was changed on the disk.
    #[error("a row of {0:?} in the mailbox was changed on the disk")]
    Changed(Table),
}

/// Bytes that the disk is given at once.
const STEP: u64 = 256 << 10;

/// The file, synced in steps: redb keeps what is not durable yet to itself and then writes all of it, some tens of MiB, and the sync of the journal
/// would stand behind that. The store's own lock keeps others out.
#[derive(Debug)]
struct Paced {
    file: File,
    unsynced: AtomicU64,
}

impl StorageBackend for Paced {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.unsynced.store(0, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)?;
        let more = data.len() as u64;
        if self.unsynced.fetch_add(more, Ordering::Relaxed) + more >= STEP {
            self.sync_data()?;
        }
        Ok(())
    }
}

/// The mailbox.
#[derive(Debug)]
pub(crate) struct Mailbox {
    db: Database,
    path: PathBuf,
}

fn table(t: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(match t {
        Table::Messages => "messages",
        Table::Queue => "queue",
        Table::Seen => "seen",
        Table::Packages => "packages",
        Table::Returns => "returns",
        Table::Certified => "certified",
        Table::Law => "law",
        Table::Labels => "labels",
        Table::Notices => "notices",
        Table::Events => "events",
        Table::Incidents => "incidents",
        Table::Standing => "standing",
    })
}

impl Mailbox {
    pub(crate) fn open(path: &Path) -> Result<Self, MailboxError> {
        let broken = |why: String| MailboxError::Database {
            path: path.into(),
            why,
        };
        let open = || {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            let (file, unsynced) = (options.open(path)?, AtomicU64::new(0));
            let db = Database::builder()
                .set_cache_size(CACHE)
                .create_with_backend(Paced { file, unsynced })?;
            let txn = db.begin_write()?;
            for t in Table::ALL {
                txn.open_table(table(t))?;
            }
            txn.open_table(POSITION)?;
            txn.commit()?;
            Ok::<_, redb::Error>(db)
        };
        let db = catch_unwind(AssertUnwindSafe(open))
            .map_err(|_| broken("it is damaged".into()))?
            .map_err(|e| broken(e.to_string()))?;
        Ok(Self {
            db,
            path: path.into(),
        })
    }

    fn broken(&self, e: &dyn std::fmt::Display) -> MailboxError {
        MailboxError::Database {
            path: self.path.clone(),
            why: e.to_string(),
        }
    }

    /// The last commit it holds.
    pub(crate) fn position(&self) -> Result<Seq, MailboxError> {
        let read = || {
            let t = self.db.begin_read()?.open_table(POSITION)?;
            Ok::<_, redb::Error>(t.get("seq")?.map_or(0, |v| v.value()))
        };
        read().map(Seq).map_err(|e| self.broken(&e))
    }

    /// Reads every row and checks its checksum.
    pub(crate) fn verify(&self) -> Result<(), MailboxError> {
        let read = || {
            let txn = self.db.begin_read()?;
            for t in Table::ALL {
                for row in txn.open_table(table(t))?.iter()? {
                    let (k, v) = row?;
                    if checked::open(k.value(), v.value()).is_none() {
                        return Ok(Err(MailboxError::Changed(t)));
                    }
                }
            }
            Ok::<_, redb::Error>(Ok(()))
        };
        catch_unwind(AssertUnwindSafe(read))
            .map_err(|_| self.broken(&"it is damaged"))?
            .map_err(|e| self.broken(&e))?
    }

    /// The rows of a table, as they are read.
    pub(crate) fn rows_of(&self, t: Table) -> Result<Rows, MailboxError> {
        let open = || {
            let rows = self.db.begin_read()?.open_table(table(t))?;
            Ok::<_, redb::Error>(rows.range::<&[u8]>(..)?)
        };
        let rows = open().map_err(|e| self.broken(&e))?;
        Ok(Box::new(rows.map(move |read| {
            let row = read.ok().and_then(|(k, v)| {
                let value = checked::open(k.value(), v.value())?;
                let key = Bytes::copy_from_slice(k.value());
                Some((t, key, Bytes::copy_from_slice(value)))
            });
            row.ok_or(CorruptRow {
                table: t,
                why: DecodeError::Form("row, as it is on the disk"),
            })
        })))
    }

    /// Every row, table by table.
    pub(crate) fn rows(&self) -> Result<Rows, MailboxError> {
        let tables: Vec<Rows> = Table::ALL
            .into_iter()
            .map(|t| self.rows_of(t))
            .collect::<Result<_, _>>()?;
        Ok(Box::new(tables.into_iter().flatten()))
    }

    /// Applies commits. Durable only where asked, or with a later call that asks.
    pub(crate) fn apply(&self, commits: &[Commit], durable: bool) -> Result<(), MailboxError> {
        let write = || {
            let mut txn = self.db.begin_write()?;
            txn.set_durability(if durable {
                Durability::Immediate
            } else {
                Durability::None
            })?;
            for t in Table::ALL {
                let mut open = None;
                for write in commits.iter().flat_map(|c| &c.writes) {
                    match write {
                        Write::Put {
                            table: of,
                            key,
                            value,
                        } if *of == t => {
                            let rows = match &mut open {
                                Some(rows) => rows,
                                None => open.insert(txn.open_table(table(t))?),
                            };
                            rows.insert(&key[..], checked::close(key, value).as_slice())?;
                        }
                        Write::Delete { table: of, key } if *of == t => {
                            let rows = match &mut open {
                                Some(rows) => rows,
                                None => open.insert(txn.open_table(table(t))?),
                            };
                            rows.remove(&key[..])?;
                        }
                        _ => {}
                    }
                }
            }
            if let Some(last) = commits.last() {
                txn.open_table(POSITION)?.insert("seq", last.seq.0)?;
            }
            txn.commit()?;
            Ok::<_, redb::Error>(())
        };
        write().map_err(|e| self.broken(&e))
    }

    /// One row, its checksum checked.
    pub(crate) fn get(&self, t: Table, key: &[u8]) -> Result<Option<Bytes>, MailboxError> {
        let read = || {
            let rows = self.db.begin_read()?.open_table(table(t))?;
            let value = rows.get(key)?;
            Ok::<_, redb::Error>(value.map(|v| {
                checked::open(key, v.value())
                    .map(Bytes::copy_from_slice)
                    .ok_or(MailboxError::Changed(t))
            }))
        };
        read().map_err(|e| self.broken(&e))?.transpose()
    }
}
