//! What only a file can show: a full disk, damage, other processes, its clock, old rows, and what its statements read.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod age;
mod clock;
mod damage;
mod full;
mod plans;
mod processes;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use herald_store::{SqliteConfig, Store, StoreError};
use tempfile::TempDir;

/// Tells a process that it is not the test, but the other process in it; and where the files are.
const CHILD: &str = "HERALD_STORE_TEST_CHILD";

fn file(folder: &Path) -> PathBuf {
    folder.join("store.db")
}

async fn connect(folder: &Path, leads: bool) -> Result<Store, StoreError> {
    Store::connect(SqliteConfig { path: file(folder), leads }).await
}

/// An empty store, and its folder.
async fn fresh() -> (TempDir, Store) {
    let folder = TempDir::new().unwrap();
    let store = connect(folder.path(), true).await.unwrap();
    (folder, store)
}

/// This test of this binary once more, as another process.
fn child(binary: &Path, test: &str, folder: &Path) -> Command {
    let mut command = Command::new(binary);
    command.args(["--exact", test, "--nocapture"]).env(CHILD, folder).stdout(Stdio::piped());
    command
}

/// The folder, if this is such a process.
fn as_child() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// The file as SQLite sees it.
fn look_into(folder: &Path) -> herald_sqlite::rusqlite::Connection {
    herald_sqlite::rusqlite::Connection::open(file(folder)).unwrap()
}

/// A person can do something with it: it says which file and what to do.
fn assert_says(error: &StoreError, folder: &Path, fix: &str) {
    let text = error.to_string();
    assert!(text.contains(&file(folder).display().to_string()) && text.contains(fix), "{text}");
}
