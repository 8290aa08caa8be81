//! Opening: the file and its folder for this user alone, the settings of a connection, the tables.

use std::fs;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::{BUSY_LIMIT, Fault, Settings};

/// Statements kept prepared on each connection: more than all of a store's.
const STATEMENTS: usize = 128;

/// Opens the file for writing, and makes or updates its tables.
pub(crate) fn open_to_write(settings: &Settings) -> Result<Connection, Fault> {
    create(&settings.path)?;
    let mut connection = connect(&settings.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // What belongs to somebody else is looked at, and left as it was.
    check_owner(&connection, settings)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let why = "this kind of disk can't share memory between processes, as a network's often can't".to_owned();
        return Err(Fault::CantOpen { why });
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Without it, macOS hands a commit to the disk's own memory and calls it written.
    connection.pragma_update(None, "fullfsync", true)?;
    // The log goes into the file every 16 MiB, and gives back what a burst made it grow beyond four times that.
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    connection.pragma_update(None, "cache_size", -64 * 1024)?;
    migrate(&mut connection, settings)?;
    Ok(connection)
}

/// Opens the file for reading only.
pub(crate) fn open_to_read(settings: &Settings) -> Result<Connection, Fault> {
    // Read-write all the same: in WAL mode a reader may be the one that has to make the log's index.
    let connection = connect(&settings.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection, Fault> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_LIMIT)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// It holds tokens and content: only this user may read it. SQLite gives the files beside it the same rights.
fn create(path: &Path) -> Result<(), Fault> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cant_open)?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            warn_of_readers(path);
            Ok(())
        }
        Err(error) => Err(cant_open(error)),
    }
}

/// A file that was copied or restored may have got other rights; who gave them may have meant it.
fn warn_of_readers(path: &Path) {
    let mode = fs::metadata(path).map_or(0, |data| data.permissions().mode());
    if mode & 0o077 != 0 {
        let (file, mode) = (path.display(), format!("{:o}", mode & 0o777));
        tracing::warn!(%file, mode, "others than its user may use this file, which holds tokens and content; chmod 600 ends that");
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn cant_open(error: Error) -> Fault {
    match error.kind() {
        ErrorKind::StorageFull => Fault::Full,
        ErrorKind::ReadOnlyFilesystem => Fault::ReadOnly,
        _ => Fault::CantOpen { why: error.to_string() },
    }
}

fn check_owner(connection: &Connection, settings: &Settings) -> Result<(), Fault> {
    let id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if id == settings.application_id || (id == 0 && tables == 0) { Ok(()) } else { Err(Fault::Foreign) }
}

/// Runs the scripts that have not run. A newer Herald's are fine: they only add.
fn migrate(connection: &mut Connection, settings: &Settings) -> Result<(), Fault> {
    // Under the write lock, so that of two processes that start at once one makes the tables and the other finds them.
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    check_owner(&tx, settings)?;
    let applied: i32 = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for (version, script) in (1i32..).zip(settings.migrations) {
        if version > applied {
            tx.execute_batch(script)?;
            tx.pragma_update(None, "user_version", version)?;
        }
    }
    if applied == 0 {
        tx.pragma_update(None, "application_id", settings.application_id)?;
    }
    tx.commit()?;
    Ok(())
}
