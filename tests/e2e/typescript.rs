//! The client for phones in TypeScript (`clients/typescript`): built and tested with the Node.js that the clients of others need.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::clients::{installed, run};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../clients/typescript");
const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/app-side.schema.json");

/// Runs one of the package's scripts in a copy of it, whose `dist` is what it built.
pub(crate) async fn npm(script: &'static str) -> TempDir {
    let work = move || {
        let packages = installed(Path::new(SOURCE)).join("node_modules");
        let folder = TempDir::new().unwrap();
        for part in ["package.json", "tsconfig.json", "src", "test"] {
            copy(&Path::new(SOURCE).join(part), &folder.path().join(part));
        }
        std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).unwrap();
        let mut command = Command::new("npm");
        command.args(["run", "--silent", script]).current_dir(folder.path()).env("HERALD_SCHEMA", SCHEMA);
        // What fails is said on the standard output.
        let quiet = run(command, "`npm ci && npm test` in clients/typescript says more");
        assert!(quiet.stderr.is_empty(), "{}", String::from_utf8_lossy(&quiet.stderr));
        folder
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        std::fs::copy(from, to).unwrap();
        return;
    }
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

#[tokio::test]
async fn the_phones_client_compiles_strictly_and_passes_its_own_tests() {
    npm("test").await;
}
