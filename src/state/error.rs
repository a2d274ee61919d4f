//! What can go wrong with the state folder, and what to do about it.

use rusqlite::ErrorCode;
use std::path::{Path, PathBuf};

/// Why state cannot be read or written. The texts are for operators: what, where, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Another process has the folder.
    #[error(
        "the state folder {} is used by another sidewatch{}: give each its own `state.dir`, or stop the other one",
        dir.display(), pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// The other process, where it can be told.
        pid: Option<u32>,
    },
    /// The folder cannot be created or entered.
    #[error("cannot use the state folder {}: {message}; `state.dir` must be a folder that sidewatch may write", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        message: String,
    },
    /// The folder or the database may not be written.
    #[error("the state database {} is read-only: make the folder writable for the user that sidewatch runs as", file.display())]
    ReadOnly {
        /// The database.
        file: PathBuf,
    },
    /// No room left.
    #[error("no room left for the state database {}: free some space or move `state.dir`", file.display())]
    Full {
        /// The database.
        file: PathBuf,
    },
    /// A later version has written it.
    #[error(
        "the state database {} has schema {found}, this version reads up to {known}: run the newer sidewatch again, or move \
         the file away to start with empty state", file.display()
    )]
    Newer {
        /// The database.
        file: PathBuf,
        /// Its schema version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Not a database, or a damaged one.
    #[error(
        "the state database {} is damaged ({message}): move it away (with its -wal and -shm files) to start with empty state; \
         counters then begin again at 0", file.display()
    )]
    Corrupt {
        /// The database.
        file: PathBuf,
        /// What was found.
        message: String,
    },
    /// Anything else that SQLite or the disk says.
    #[error("the state database {}: {message}", file.display())]
    Database {
        /// The database.
        file: PathBuf,
        /// What was said.
        message: String,
    },
    /// The thread could not be started.
    #[error("cannot start the thread that writes state: {0}")]
    Thread(String),
    /// The store has been closed.
    #[error("the state store is closed")]
    Closed,
}

impl StateError {
    /// The `reason` of logs and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "in_use",
            Self::Folder { .. } => "folder",
            Self::ReadOnly { .. } => "read_only",
            Self::Full { .. } => "full",
            Self::Newer { .. } => "newer",
            Self::Corrupt { .. } => "corrupt",
            Self::Database { .. } => "database",
            Self::Thread(_) => "thread",
            Self::Closed => "closed",
        }
    }

    /// What SQLite's answer means for the operator.
    pub(super) fn from_sqlite(file: &Path, error: &rusqlite::Error) -> Self {
        let (file, message) = (file.to_path_buf(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly { file },
            Some(ErrorCode::DiskFull) => Self::Full { file },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { file, message },
            Some(ErrorCode::CannotOpen) => {
                Self::Folder { dir: file.parent().unwrap_or(Path::new(".")).to_path_buf(), message }
            }
            _ => Self::Database { file, message },
        }
    }
}
