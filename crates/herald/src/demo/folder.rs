//! Where the demo's files are: in a temporary folder that is gone with it, or in one that was asked for and stays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::failure::Failure;

/// How often a temporary folder is tried to be removed, with a pause: a file may still be on its way out.
const REMOVALS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(50);

/// A folder of our own.
#[derive(Debug)]
pub(super) enum Folder {
    /// Removed at the end, also by an error or a panic.
    Temporary(TempDir),
    /// Stays.
    Kept(PathBuf),
}

impl Folder {
    /// Makes it.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the folder to keep is not empty; that it can't be made.
    pub(super) fn make(keep: Option<&Path>) -> anyhow::Result<Self> {
        let Some(dir) = keep else {
            let made = tempfile::Builder::new().prefix("herald-demo-").tempdir();
            return Ok(Self::Temporary(made.context("a temporary folder can't be made; give one with --keep DIR")?));
        };
        let named = || format!("--keep {}", dir.display());
        std::fs::create_dir_all(dir).with_context(named)?;
        if std::fs::read_dir(dir).with_context(named)?.next().is_some() {
            return Err(Failure::Usage(format!("{}: is not empty; give a new or an empty folder", named())).into());
        }
        // Printed for use in a terminal that may be elsewhere.
        Ok(Self::Kept(dir.canonicalize().with_context(named)?))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(path) => path,
        }
    }

    /// Removes it, unless it is to stay.
    ///
    /// # Errors
    /// If it can't be removed; says which.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        let Self::Temporary(dir) = self else { return Ok(()) };
        let path = dir.path();
        let mut removed = std::fs::remove_dir_all(path);
        for _ in 1..REMOVALS {
            if removed.is_ok() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            removed = std::fs::remove_dir_all(path);
        }
        removed.with_context(|| format!("{}: can't be removed", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_temporary_folder_is_gone_at_the_end_and_when_it_is_dropped() {
        let folder = Folder::make(None).unwrap();
        let path = folder.path().to_owned();
        std::fs::write(path.join("store.db"), "x").unwrap();
        folder.close().await.unwrap();
        assert!(!path.exists());
        let dropped = Folder::make(None).unwrap();
        let path = dropped.path().to_owned();
        drop(dropped);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_folder_to_keep_is_made_and_stays_and_must_be_empty() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("new/one");
        let folder = Folder::make(Some(&dir)).unwrap();
        std::fs::write(folder.path().join("store.db"), "x").unwrap();
        folder.close().await.unwrap();
        assert!(dir.join("store.db").exists());
        let again = Folder::make(Some(&dir)).unwrap_err();
        assert!(matches!(again.downcast_ref::<Failure>(), Some(Failure::Usage(_))), "{again:?}");
    }
}
