//! Child processes of the bench: this same binary with other arguments, ended with the bench however that ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::{Child as Process, Command};
use tokio::time::{Instant, sleep};

use super::get::get;

/// How long a child may take until it answers: broker and store are connected in this time.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How often is looked.
const INTERVAL: Duration = Duration::from_millis(50);
/// How much of what a child wrote is repeated when it failed, in bytes.
const LAST_WORDS: usize = 2_000;

/// A running child. Killed when dropped.
pub(super) struct Child {
    name: String,
    pub(super) pid: u32,
    /// Where it answers plain HTTP.
    pub(super) address: SocketAddr,
    process: Process,
    log: PathBuf,
}

impl Child {
    /// Starts this binary again. What it writes goes to `<folder>/<name>.log`.
    ///
    /// # Errors
    /// When it can't be started.
    pub(super) fn start(
        name: &str,
        folder: &Path,
        address: SocketAddr,
        args: &[OsString],
        env: &BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the path of this binary is not known")?;
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        let mut command = Command::new(&program);
        command.args(args).envs(env).current_dir(folder).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let process = command.spawn().with_context(|| format!("{} can't be started", program.display()))?;
        let pid = process.id().context("a process just started has an id")?;
        Ok(Self { name: name.to_owned(), pid, address, process, log })
    }

    /// Waits until a GET of `path` is answered 200, and it has written `word`.
    ///
    /// # Errors
    /// If it ends before, or takes longer than a minute; with the end of what it wrote.
    pub(super) async fn ready(&mut self, path: &str, word: &str) -> anyhow::Result<()> {
        let give_up = Instant::now() + READY_LIMIT;
        loop {
            let problem = match get(self.address, path).await {
                Ok(_) if self.last_words().contains(word) => return Ok(()),
                Ok(_) => anyhow::anyhow!("it has not written {word:?}"),
                Err(problem) => problem,
            };
            self.check()?;
            if Instant::now() > give_up {
                bail!(
                    "{} is not ready after {READY_LIMIT:?} ({problem:#}); it wrote:\n{}",
                    self.name,
                    self.last_words()
                );
            }
            sleep(INTERVAL).await;
        }
    }

    /// Does it still run?
    ///
    /// # Errors
    /// If not; with the end of what it wrote.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}); it wrote:\n{}", self.name, self.last_words()),
        }
    }

    /// The end of what it wrote.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(LAST_WORDS)..]).into_owned()
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        self.process.kill().await.with_context(|| format!("{} can't be ended", self.name))
    }
}

/// An address that nobody listens on now. Somebody else may take it before the child does; then the child says so.
///
/// # Errors
/// When there is none.
pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
