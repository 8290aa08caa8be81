//! What can go wrong with a file, by what a person can do about it.
//!
//! Never carries a value of a row: SQLite's messages name tables and columns only, and even those stay out of all but
//! [`Fault::Defect`].

use rusqlite::ErrorCode;

/// Why a job was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No space. Goes on by itself when there is some.
    #[error("the disk is full; free some space, and it goes on by itself")]
    Full,
    /// The file, or its folder, can't be written.
    #[error("the file is read-only; let this user write it and its folder")]
    ReadOnly,
    /// The file is no database, or a damaged one.
    #[error(
        "the file is damaged, or no database; stop Herald, then move it away with the two \
         beside it that end in -wal and -shm, and restore a backup or start anew"
    )]
    Corrupt,
    /// Another process was writing for too long.
    #[error("another process has been writing to the file for too long; see which one has it open")]
    Busy,
    /// The file can't be opened.
    #[error("the file can't be opened ({why}); give a folder that this user may write")]
    CantOpen {
        /// What the system says.
        why: String,
    },
    /// The disk fails.
    #[error("the disk fails (SQLite's code {code}); see the system's log")]
    Io {
        /// SQLite's extended result code.
        code: i32,
    },
    /// The file is another program's, or that of another part of Herald.
    #[error("the file is not Herald's; give another folder")]
    Foreign,
    /// It was closed by [`Database::close`](crate::Database::close).
    #[error("the file is closed")]
    Closed,
    /// A statement is wrong or a row can't be read: a defect of ours.
    #[error("{0}")]
    Defect(String),
}

impl Fault {
    /// May the same job succeed later, with the space, rights or disk mended?
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Full
            | Self::ReadOnly
            | Self::Corrupt
            | Self::Busy
            | Self::CantOpen { .. }
            | Self::Io { .. }
            | Self::Closed => true,
            Self::Foreign | Self::Defect(_) => false,
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        let rusqlite::Error::SqliteFailure(failure, message) = &error else {
            // Types and columns, never a value.
            return Self::Defect(error.to_string());
        };
        let code = failure.extended_code;
        match failure.code {
            ErrorCode::DiskFull => Self::Full,
            // The index of the log, some kilobytes beside it, could not be made: a disk that works gives no other reason.
            ErrorCode::SystemIoFailure if code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => Self::Full,
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Self::ReadOnly,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Corrupt,
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy,
            ErrorCode::CannotOpen => Self::CantOpen { why: message.clone().unwrap_or_else(|| format!("code {code}")) },
            ErrorCode::SystemIoFailure | ErrorCode::FileLockingProtocolFailed | ErrorCode::OutOfMemory => {
                Self::Io { code }
            }
            _ => Self::Defect(error.to_string()),
        }
    }
}
