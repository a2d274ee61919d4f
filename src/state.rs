//! What survives a restart: checkpoints, named blobs, history.
//!
//! SQLite in WAL mode, on a thread of its own behind a bounded queue, so that a slow disk delays whoever waits for the
//! disk and nobody else. Blobs are opaque here: the rooms that write them read them.
//!
//! With `synchronous=NORMAL` what was answered survives the end of the process in any way; `sync_full` survives the loss
//! of power as well.

mod database;
mod error;
mod folder;
mod history;

pub use error::StateError;

use crate::model::Timestamp;
use database::Database;
use folder::FolderLock;
use std::path::Path;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for the disk.
const QUEUE_REQUESTS: usize = 64;

/// A stored checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Grows by one with each checkpoint; never used twice, whatever is compacted away.
    pub seq: u64,
    /// Whether it holds everything, or only what changed since the one before.
    pub full: bool,
    /// When it was taken.
    pub created: Timestamp,
    /// The engine's envelope.
    pub blob: Vec<u8>,
}

/// One line of the journal: a change of an alert, a notification, a reload.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct HistoryEntry {
    /// When it happened.
    pub at: Timestamp,
    /// What kind of thing (`alert`, `notification`, ...).
    pub kind: String,
    /// What it is about: an alert's name, a receiver.
    pub key: String,
    /// The rest, as JSON.
    pub body: String,
}

/// Which lines of the journal, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Not before this.
    pub from: Timestamp,
    /// Not after this.
    pub to: Timestamp,
    /// Only this kind.
    pub kind: Option<String>,
    /// Only this key.
    pub key: Option<String>,
    /// Only what is about this rule: by its key, or among the `rules` of the body of a notification.
    pub rule: Option<String>,
    /// At most so many.
    pub limit: usize,
}

impl Default for HistoryQuery {
    fn default() -> Self {
        let ends = (Timestamp::from_micros(i64::MIN), Timestamp::from_micros(i64::MAX));
        Self { from: ends.0, to: ends.1, kind: None, key: None, rule: None, limit: 100 }
    }
}

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Older lines are forgotten (7 days).
    pub age_ms: i64,
    /// The oldest beyond so many are forgotten (500,000, some 150 MB).
    pub rows: u64,
}

impl Retention {
    /// What a run without `state:` keeps in memory: some 4 MB.
    pub const IN_MEMORY: Self = Self { age_ms: 7 * 86_400_000, rows: 10_000 };
}

impl Default for Retention {
    fn default() -> Self {
        Self { age_ms: 7 * 86_400_000, rows: 500_000 }
    }
}

/// The state folder, open. Clones share it; it closes when the last clone is gone or [`StateStore::close`] is called.
#[derive(Clone, Debug)]
pub struct StateStore {
    requests: mpsc::Sender<Request>,
    persistent: bool,
}

type Answer<T> = oneshot::Sender<Result<T, StateError>>;

enum Request {
    Checkpoint { full: bool, created: Timestamp, blob: Vec<u8>, history: Vec<HistoryEntry>, answer: Answer<u64> },
    Load(Answer<Vec<Checkpoint>>),
    Write(Vec<(String, Option<Vec<u8>>)>, Vec<HistoryEntry>, Answer<()>),
    Get(String, Answer<Option<Vec<u8>>>),
    Names(String, Answer<Vec<String>>),
    AppendHistory(Vec<HistoryEntry>, Answer<()>),
    History(HistoryQuery, Answer<Vec<HistoryEntry>>),
    Close(Answer<()>),
}

impl StateStore {
    /// Opens the folder, creating it where needed, and locks it. Blocks for some milliseconds: to be called at start.
    ///
    /// # Errors
    /// [`StateError`], each with what to do about it: the folder is in use, cannot be created or written, was written by
    /// a newer version, is damaged.
    pub fn open(dir: &Path, sync_full: bool) -> Result<Self, StateError> {
        Self::open_with(dir, sync_full, Retention::default())
    }

    /// [`StateStore::open`] with other limits on the history.
    ///
    /// # Errors
    /// As [`StateStore::open`].
    pub fn open_with(dir: &Path, sync_full: bool, retention: Retention) -> Result<Self, StateError> {
        let lock = FolderLock::take(dir)?;
        let database = Database::open(dir, sync_full, retention)?;
        Self::start(database, Some(lock))
    }

    /// A store that forgets everything at its end, for runs without `state:`.
    ///
    /// # Errors
    /// [`StateError`] when SQLite cannot start.
    pub fn in_memory() -> Result<Self, StateError> {
        Self::start(Database::in_memory(Retention::IN_MEMORY)?, None)
    }

    fn start(database: Database, lock: Option<FolderLock>) -> Result<Self, StateError> {
        let persistent = lock.is_some();
        let (requests, receiver) = mpsc::channel(QUEUE_REQUESTS);
        std::thread::Builder::new()
            .name("state".into())
            .spawn(move || serve(database, lock, receiver))
            .map_err(|error| StateError::Thread(error.to_string()))?;
        Ok(Self { requests, persistent })
    }

    /// Whether it outlives the process.
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// Appends what changed since the last checkpoint; returns its number when it is stored.
    ///
    /// # Errors
    /// [`StateError`]; nothing was stored then.
    pub async fn append_checkpoint(&self, delta: Vec<u8>, created: Timestamp) -> Result<u64, StateError> {
        self.checkpoint(false, delta, created, Vec::new()).await
    }

    /// Stores a checkpoint, whole or what changed, together with the lines of the journal that say how its state came
    /// about: both are there after a crash, or neither. Lines that stand in the journal already are left out.
    ///
    /// # Errors
    /// [`StateError`]; nothing was stored then.
    pub async fn checkpoint(
        &self,
        full: bool,
        blob: Vec<u8>,
        created: Timestamp,
        history: Vec<HistoryEntry>,
    ) -> Result<u64, StateError> {
        self.ask(|answer| Request::Checkpoint { full, created, blob, history, answer }).await
    }

    /// Stores everything and forgets every checkpoint before it, both or neither.
    ///
    /// # Errors
    /// [`StateError`]; nothing was changed then.
    pub async fn compact(&self, full: Vec<u8>, created: Timestamp) -> Result<u64, StateError> {
        self.checkpoint(true, full, created, Vec::new()).await
    }

    /// The checkpoints in order: as a rule a full one and the deltas after it.
    ///
    /// # Errors
    /// [`StateError`]; a checkpoint whose blob is not what was written is [`StateError::Corrupt`].
    pub async fn load(&self) -> Result<Vec<Checkpoint>, StateError> {
        self.ask(Request::Load).await
    }

    /// Stores a blob under a name, in place of what was there.
    ///
    /// # Errors
    /// [`StateError`]; nothing was changed then.
    pub async fn put(&self, name: &str, blob: Vec<u8>) -> Result<(), StateError> {
        self.write(vec![(name.to_owned(), Some(blob))]).await
    }

    /// Stores (`Some`) or removes (`None`) several blobs, all or none.
    ///
    /// # Errors
    /// [`StateError`]; nothing was changed then.
    pub async fn write(&self, blobs: Vec<(String, Option<Vec<u8>>)>) -> Result<(), StateError> {
        self.write_with_history(blobs, Vec::new()).await
    }

    /// As [`StateStore::write`], with the lines of the journal that belong to it, all or none. Lines that stand in the
    /// journal already are left out.
    ///
    /// # Errors
    /// [`StateError`]; nothing was changed then.
    pub async fn write_with_history(
        &self,
        blobs: Vec<(String, Option<Vec<u8>>)>,
        history: Vec<HistoryEntry>,
    ) -> Result<(), StateError> {
        self.ask(|answer| Request::Write(blobs, history, answer)).await
    }

    /// The blob under a name.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.ask(|answer| Request::Get(name.to_owned(), answer)).await
    }

    /// The names that begin so, in order.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn names(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        self.ask(|answer| Request::Names(prefix.to_owned(), answer)).await
    }

    /// Appends lines to the journal and forgets what is past its retention.
    ///
    /// # Errors
    /// [`StateError`]; nothing was appended then.
    pub async fn append_history(&self, entries: Vec<HistoryEntry>) -> Result<(), StateError> {
        self.ask(|answer| Request::AppendHistory(entries, answer)).await
    }

    /// Lines of the journal, newest first.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn history(&self, query: HistoryQuery) -> Result<Vec<HistoryEntry>, StateError> {
        self.ask(|answer| Request::History(query, answer)).await
    }

    /// Finishes what waits, folds the log into the database and releases the folder. Later requests fail.
    ///
    /// # Errors
    /// [`StateError`] when the last write failed.
    pub async fn close(&self) -> Result<(), StateError> {
        self.ask(Request::Close).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, StateError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| StateError::Closed)?;
        answered.await.map_err(|_| StateError::Closed)?
    }
}

/// The thread's life: ends when every [`StateStore`] is gone, or at [`Request::Close`].
fn serve(mut database: Database, lock: Option<FolderLock>, mut requests: mpsc::Receiver<Request>) {
    // Whoever asked may have gone away; the work is done all the same, and there is nobody to tell.
    while let Some(request) = requests.blocking_recv() {
        match request {
            Request::Checkpoint { full, created, blob, history, answer } => {
                drop(answer.send(database.checkpoint(full, created, &blob, &history)));
            }
            Request::Load(answer) => drop(answer.send(database.load())),
            Request::Write(blobs, history, answer) => drop(answer.send(database.write(&blobs, &history))),
            Request::Get(name, answer) => drop(answer.send(database.get(&name))),
            Request::Names(prefix, answer) => drop(answer.send(database.names(&prefix))),
            Request::AppendHistory(entries, answer) => drop(answer.send(database.append_history(&entries))),
            Request::History(query, answer) => drop(answer.send(database.history(&query))),
            Request::Close(answer) => {
                let closed = database.close();
                // The folder is free before whoever waits is told so.
                drop(lock);
                drop(answer.send(closed));
                return;
            }
        }
    }
    // The database closes before another process may lock the folder.
    drop(database);
    drop(lock);
}

#[cfg(test)]
mod tests;
