//! The folder: created where needed, and one process at a time.

use super::StateError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

const LOCK_FILE: &str = "sidewatch.lock";

/// An advisory lock that the kernel releases with the process, so that a kill leaves no stale one behind.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: File,
}

/// How often a lock that another holds is tried again.
const LOCK_TRIES: u32 = 20;
/// Between two tries.
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

impl FolderLock {
    /// Creates the folder and locks it for this process.
    pub(super) fn take(dir: &Path) -> Result<Self, StateError> {
        let failed = |error: std::io::Error| StateError::Folder { dir: dir.to_path_buf(), message: error.to_string() };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let path = dir.join(LOCK_FILE);
        // Not truncated on opening: it may hold the number of the process that has it.
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        // A process that is ending, or a child of it that is just being started, lets go within moments.
        let mut tries = 0;
        let locked = loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => tries += 1,
                other => break other,
            }
            std::thread::park_timeout(LOCK_PAUSE);
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(StateError::InUse { dir: dir.to_path_buf(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // The number only helps whoever meets the lock; a disk too full for it is told by the database.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}
