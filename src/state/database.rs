//! The SQLite file. Synchronous: the thread of `state` calls it.

use super::{Checkpoint, HistoryEntry, HistoryQuery, Retention, StateError, history};
use crate::model::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name of the file in the folder.
pub(super) const FILE: &str = "sidewatch.db";

/// Raised by one with every change of [`SCHEMA`]; an older database is carried over step by step, a newer one refused.
const SCHEMA_VERSION: i64 = 1;

/// "SWst": tells our database from any other SQLite file.
const APPLICATION_ID: i64 = 0x5357_7374;

const SCHEMA: &str = "
    CREATE TABLE checkpoint (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        is_full INTEGER NOT NULL,
        created_us INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        blob BLOB NOT NULL
    ) STRICT;
    CREATE TABLE named (name TEXT PRIMARY KEY, checksum INTEGER NOT NULL, blob BLOB NOT NULL) STRICT;
    CREATE TABLE history (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at_us INTEGER NOT NULL,
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX history_at ON history (at_us);
";

/// The log's file is cut back to this once its content is in the database.
const WAL_BYTES: i64 = 16 << 20;

pub(super) struct Database {
    connection: Connection,
    file: PathBuf,
    retention: Retention,
}

type Result<T> = std::result::Result<T, StateError>;

impl Database {
    pub(super) fn open(dir: &Path, sync_full: bool, retention: Retention) -> Result<Self> {
        let file = dir.join(FILE);
        let connection = Connection::open(&file).map_err(|error| StateError::from_sqlite(&file, &error))?;
        Self::prepare(connection, file, sync_full, retention)
    }

    pub(super) fn in_memory(retention: Retention) -> Result<Self> {
        let file = PathBuf::from(":memory:");
        let connection = Connection::open_in_memory().map_err(|error| StateError::from_sqlite(&file, &error))?;
        Self::prepare(connection, file, false, retention)
    }

    fn prepare(connection: Connection, file: PathBuf, sync_full: bool, retention: Retention) -> Result<Self> {
        let mut database = Self { connection, file, retention };
        database.run(|connection| {
            // The folder's lock keeps other sidewatches out; a person with the sqlite3 shell may still hold it for a moment.
            connection.busy_timeout(Duration::from_secs(5))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", if sync_full { "FULL" } else { "NORMAL" })?;
            connection.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
            connection.pragma_update(None, "cache_size", -512)?; // KiB
            connection.set_prepared_statement_cache_capacity(16);
            Ok(())
        })?;
        database.carry_over()?;
        Ok(database)
    }

    /// Creates the schema in an empty file, and finds out at once whether the file can be written.
    fn carry_over(&mut self) -> Result<()> {
        let (application, version, tables) = self.run(|connection| {
            let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            Ok((pragma("application_id")?, pragma("user_version")?, tables))
        })?;
        if tables > 0 && application != APPLICATION_ID {
            let message = "it is some other program's SQLite database".to_owned();
            return Err(StateError::Corrupt { file: self.file.clone(), message });
        }
        if version > SCHEMA_VERSION {
            return Err(StateError::Newer { file: self.file.clone(), found: version, known: SCHEMA_VERSION });
        }
        self.run(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if version == 0 {
                transaction.execute_batch(SCHEMA)?;
            }
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            transaction.commit()
        })
    }

    #[cfg(test)]
    pub(super) fn append_checkpoint(&mut self, full: bool, created: Timestamp, blob: &[u8]) -> Result<u64> {
        self.checkpoint(full, created, blob, &[])
    }

    pub(super) fn checkpoint(
        &mut self,
        full: bool,
        created: Timestamp,
        blob: &[u8],
        history: &[HistoryEntry],
    ) -> Result<u64> {
        let retention = self.retention;
        self.run(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction
                .prepare_cached("INSERT INTO checkpoint (is_full, created_us, checksum, blob) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![full, created.micros(), checksum(blob), blob])?;
            let seq = transaction.last_insert_rowid();
            if full {
                transaction.prepare_cached("DELETE FROM checkpoint WHERE seq < ?1")?.execute([seq])?;
            }
            history::append(&transaction, history, retention)?;
            transaction.commit()?;
            Ok(seq.unsigned_abs())
        })
    }

    pub(super) fn load(&mut self) -> Result<Vec<Checkpoint>> {
        let rows = self.run(|connection| {
            connection
                .prepare("SELECT seq, is_full, created_us, blob, checksum FROM checkpoint ORDER BY seq")?
                .query_map([], |row| {
                    let checkpoint = Checkpoint {
                        seq: row.get::<_, i64>(0)?.unsigned_abs(),
                        full: row.get(1)?,
                        created: Timestamp::from_micros(row.get(2)?),
                        blob: row.get(3)?,
                    };
                    Ok((checkpoint, row.get::<_, i64>(4)?))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.into_iter()
            .map(|(checkpoint, sum)| {
                self.intact(&format!("checkpoint {}", checkpoint.seq), &checkpoint.blob, sum).map(|()| checkpoint)
            })
            .collect()
    }

    pub(super) fn write(&mut self, blobs: &[(String, Option<Vec<u8>>)], lines: &[HistoryEntry]) -> Result<()> {
        let retention = self.retention;
        self.run(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (name, blob) in blobs {
                match blob {
                    Some(blob) => transaction
                        .prepare_cached("INSERT OR REPLACE INTO named (name, checksum, blob) VALUES (?1, ?2, ?3)")?
                        .execute(params![name, checksum(blob), blob])?,
                    None => transaction.prepare_cached("DELETE FROM named WHERE name = ?1")?.execute([name])?,
                };
            }
            history::append(&transaction, lines, retention)?;
            transaction.commit()
        })
    }

    pub(super) fn get(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let found = self.run(|connection| {
            connection
                .prepare_cached("SELECT blob, checksum FROM named WHERE name = ?1")?
                .query_row([name], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?)))
                .optional()
        })?;
        found.map(|(blob, sum)| self.intact(name, &blob, sum).map(|()| blob)).transpose()
    }

    pub(super) fn names(&mut self, prefix: &str) -> Result<Vec<String>> {
        self.run(|connection| {
            connection
                .prepare_cached("SELECT name FROM named WHERE substr(name, 1, length(?1)) = ?1 ORDER BY name")?
                .query_map([prefix], |row| row.get(0))?
                .collect()
        })
    }

    pub(super) fn append_history(&mut self, entries: &[HistoryEntry]) -> Result<()> {
        let retention = self.retention;
        self.run(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            history::append(&transaction, entries, retention)?;
            transaction.commit()
        })
    }

    pub(super) fn history(&mut self, query: &HistoryQuery) -> Result<Vec<HistoryEntry>> {
        self.run(|connection| history::find(connection, query))
    }

    /// Folds the log into the file and closes it.
    pub(super) fn close(self) -> Result<()> {
        let Self { connection, file, .. } = self;
        connection.close().map_err(|(_, error)| StateError::from_sqlite(&file, &error))
    }

    /// A blob that is not what was written must not become wrong counters.
    fn intact(&self, what: &str, blob: &[u8], sum: i64) -> Result<()> {
        if checksum(blob) == sum {
            return Ok(());
        }
        let message = format!("{what} has changed since it was written");
        Err(StateError::Corrupt { file: self.file.clone(), message })
    }

    fn run<T>(&mut self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&mut self.connection).map_err(|error| StateError::from_sqlite(&self.file, &error))
    }

    /// Makes the file full at so many pages of 4 KiB.
    #[cfg(test)]
    pub(super) fn limit_pages(&mut self, pages: i64) {
        self.connection.pragma_update(None, "max_page_count", pages).unwrap();
    }
}

/// FNV-1a over words of eight bytes rather than bytes: blobs are megabytes, and this is to find damage, not attackers.
/// Stored, so that it must never change.
fn checksum(bytes: &[u8]) -> i64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64 ^ bytes.len() as u64;
    let mut feed = |word: u64| sum = (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        feed(u64::from_le_bytes(*word));
    }
    for byte in rest {
        feed(u64::from(*byte));
    }
    sum.cast_signed()
}
