//! What can go wrong with a store, by what the caller can do about it.
//!
//! Never carries a value: no token, content, key or bound parameter, and no message of the database (it may quote one).

/// Why a store operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store can't be reached, is too slow, or undid the transaction (deadlock, serialization, shutdown). Nothing is
    /// known to be stored; the same call may be repeated.
    #[error("store: {operation}: unavailable: {cause}")]
    Unavailable {
        /// The method that failed.
        operation: &'static str,
        /// What it looked like from here.
        cause: String,
    },
    /// The tables are missing, older than this binary, or changed by hand. Repeating doesn't help.
    #[error("store: {problem}; run `herald topology` with the same configuration to create or update the tables")]
    Schema {
        /// What is wrong with them.
        problem: String,
    },
    /// The configuration can't be used. Repeating doesn't help.
    #[error("store: configuration: {problem}")]
    Config {
        /// What is wrong with it, without the URL.
        problem: &'static str,
    },
    /// Another worker works on the file. Repeating doesn't help while it does.
    #[error("store: {problem}")]
    InUse {
        /// Which file, by whom, and what to do.
        problem: String,
    },
    /// The file is not Herald's. Repeating doesn't help.
    #[error("store: {problem}")]
    File {
        /// Which file, and what to do.
        problem: String,
    },
    /// The store refused the statement, or a row can't be read: a defect of ours. Repeating doesn't help.
    #[error("store: {operation}: {problem}")]
    Defect {
        /// The method that failed.
        operation: &'static str,
        /// SQLSTATE, constraint or column.
        problem: String,
    },
}

impl StoreError {
    /// May the same call succeed later?
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Schema { .. }
            | Self::Config { .. }
            | Self::InUse { .. }
            | Self::File { .. }
            | Self::Defect { .. } => false,
        }
    }
}
