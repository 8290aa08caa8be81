//! A lock that lives as long as its process: for what only one process may do with a file at a time.
//!
//! By the system's advisory lock on a file beside it, so that a process that is killed leaves none behind. The file holds the
//! number of the process, for whoever is refused.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another process works on these files{}; stop it first, or give another folder", .process.as_ref().map_or_else(String::new, |p| format!(" (process {p})")))]
    Held {
        /// Its number, if it could be read.
        process: Option<String>,
    },
    /// The lock's file can't be used.
    #[error("the lock's file can't be used ({0}); give a folder that this user may write")]
    Io(std::io::Error),
}

/// Held until it is dropped or the process ends.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes the lock, without waiting. The file is made if it is not there, and stays.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process has it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                file.read_to_string(&mut process).ok();
                let process = Some(process.trim().to_owned()).filter(|p| !p.is_empty());
                return Err(LockError::Held { process });
            }
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        // The number is for people: a disk that is full must not be the reason why nobody starts.
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id())).ok();
        Ok(Self { _file: file })
    }
}
