//! The real `herald` binary as a child process: start, wait until ready, signal, wait for its end, read what it wrote.
//!
//! The binary's path is an argument, because cargo tells it (`env!("CARGO_BIN_EXE_herald")`) only to the tests of the
//! binary's own package. A process ends with its [`Herald`], and with the test, however that ends.

use crate::nest::{Launch, Nest, Reach, Signal};
use crate::wait;
use anyhow::{Context, Result, anyhow};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

const HERALD: &str = "herald";
/// Long enough for a debug build on a busy machine to connect to its servers.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// By what a process shows that it is ready.
#[derive(Debug, Clone)]
enum Ready {
    /// As soon as it runs.
    AtOnce,
    /// A GET of this URL answers 2xx.
    Answers(String),
    /// This text is in its standard output or standard error.
    Writes(String),
}

/// How to start the binary. It inherits the environment without `HERALD_…`, so that nothing of the developer's or of
/// the test run's settings reaches it unasked.
#[derive(Debug, Clone)]
pub struct Builder {
    binary: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    ready: Ready,
    limit: Duration,
}

/// Start describing a process.
#[must_use]
pub fn herald(binary: impl Into<PathBuf>) -> Builder {
    Builder { binary: binary.into(), args: Vec::new(), env: Vec::new(), ready: Ready::AtOnce, limit: READY_LIMIT }
}

impl Builder {
    /// Add an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Add arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: Into<OsString>>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Set an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// It is ready when a GET of this URL (`http://…/readyz`) answers 2xx.
    #[must_use]
    pub fn ready_when_answers(mut self, url: impl Into<String>) -> Self {
        self.ready = Ready::Answers(url.into());
        self
    }

    /// It is ready when it has written this text.
    #[must_use]
    pub fn ready_when_writes(mut self, text: impl Into<String>) -> Self {
        self.ready = Ready::Writes(text.into());
        self
    }

    /// How long it may take to become ready; a minute by default.
    #[must_use]
    pub fn ready_within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Start it and wait until it is ready.
    ///
    /// # Errors
    /// If it can't be started, ends before it is ready, or isn't ready in time; with the end of what it wrote.
    pub async fn start(self) -> Result<Herald> {
        let nest = Nest::new(HERALD, None, Signal::Kill)?;
        let launch = Launch { program: self.binary, args: self.args, env: self.env, without: &["HERALD_"], user: None };
        let mut herald = Herald { nest };
        herald.nest.start(HERALD, &launch)?;
        herald.ready(&self.ready, self.limit).await?;
        Ok(herald)
    }
}

/// A running process; killed when dropped.
pub struct Herald {
    nest: Nest,
}

impl Herald {
    /// Its process id; `None` once its end was noticed.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.nest.pid(HERALD)
    }

    /// A temporary folder of its own, its working directory; gone with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.nest.path()
    }

    /// Everything it has written to standard output so far.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn stdout(&self) -> Result<String> {
        let (stdout, _) = self.nest.output(HERALD).context("it was never started")?;
        read(stdout)
    }

    /// Everything it has written to standard error so far.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn stderr(&self) -> Result<String> {
        let (_, stderr) = self.nest.output(HERALD).context("it was never started")?;
        read(stderr)
    }

    /// Ask it to end, as an orchestrator does.
    ///
    /// # Errors
    /// If no signal can be sent.
    pub fn sigterm(&mut self) -> Result<()> {
        self.nest.signal(HERALD, Signal::Terminate, Reach::Process)
    }

    /// Kill it as a crash would, without its children, and wait until it is gone.
    ///
    /// # Errors
    /// If no signal can be sent.
    pub async fn kill9(&mut self) -> Result<ExitStatus> {
        self.nest.signal(HERALD, Signal::Kill, Reach::Process)?;
        self.wait(Duration::from_secs(10)).await
    }

    /// Wait for its end.
    ///
    /// # Errors
    /// If it is still running after `limit`; with the end of what it wrote.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.nest.ended(HERALD, limit).await
    }

    /// Wait until it has written a text to standard output or standard error.
    ///
    /// # Errors
    /// If it ends first or takes longer than `limit`; with the end of what it wrote.
    pub async fn writes(&mut self, text: &str, limit: Duration) -> Result<()> {
        self.ready(&Ready::Writes(text.to_owned()), limit).await
    }

    async fn ready(&mut self, ready: &Ready, limit: Duration) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let what = match ready {
            Ready::AtOnce => return Ok(()),
            Ready::Answers(url) => format!("{url} to answer"),
            Ready::Writes(text) => format!("herald to write {text:?}"),
        };
        let outcome = wait::until(limit, &what, async || {
            // The end is looked for first: what it wrote before it ended must not be missed.
            let ended = self.nest.status(HERALD);
            let reached = match ready {
                Ready::AtOnce => true,
                Ready::Answers(url) => client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()),
                Ready::Writes(text) => [self.stdout(), self.stderr()].iter().flatten().any(|all| all.contains(text)),
            };
            match ended {
                _ if reached => Some(Ok(())),
                Ok(None) => None,
                Ok(Some(status)) => Some(Err(anyhow!("waited for {what}, but herald ended ({status})"))),
                Err(error) => Some(Err(error)),
            }
        });
        outcome.await.flatten().map_err(|error| anyhow!("{error}: {}", self.nest.last_words(HERALD)))
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("{}: can't be read", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Builder {
        herald("/bin/sh").args(["-c", script])
    }

    #[tokio::test]
    async fn a_process_is_ready_when_it_has_written_the_line() {
        let mut process = shell("echo up; read -r line < /dev/null; echo oops >&2; exit 3")
            .ready_when_writes("up")
            .start()
            .await
            .unwrap();
        assert_eq!(process.wait(LIMIT).await.unwrap().code(), Some(3));
        assert_eq!(process.stdout().unwrap(), "up\n");
        assert_eq!(process.stderr().unwrap(), "oops\n");
    }

    #[tokio::test]
    async fn a_process_that_ends_before_it_is_ready_is_an_error_with_its_last_words() {
        let outcome = shell("echo no key file >&2; exit 64").ready_when_writes("up").start().await;
        let error = outcome.err().expect("it was never ready").to_string();
        assert!(error.contains("no key file") && error.contains("64"), "{error}");
    }

    #[tokio::test]
    async fn a_process_can_be_asked_to_end_and_can_be_killed() {
        let script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done";
        let mut asked = shell(script).ready_when_writes("up").start().await.unwrap();
        asked.sigterm().unwrap();
        assert!(asked.wait(LIMIT).await.unwrap().success());
        assert_eq!(asked.stdout().unwrap(), "up\nbye\n");

        let mut killed = shell(script).ready_when_writes("up").start().await.unwrap();
        assert_eq!(killed.kill9().await.unwrap().code(), None);
        assert_eq!(killed.stdout().unwrap(), "up\n");
    }

    #[tokio::test]
    async fn a_process_and_its_children_end_when_it_is_dropped() {
        let process = shell("sleep 600 & echo child $!; wait").ready_when_writes("child").start().await.unwrap();
        let (pid, folder) = (process.pid().unwrap(), process.folder().to_owned());
        let child = process.stdout().unwrap().split_whitespace().nth(1).unwrap().to_owned();
        drop(process);
        assert!(!folder.exists(), "its folder is still there");
        // Nobody may have collected the orphaned child yet: a zombie has ended too.
        let gone =
            |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
        assert!(gone(&pid.to_string()), "it still runs");
        wait::until(LIMIT, "its child to end", async || gone(&child)).await.unwrap();
    }

    #[tokio::test]
    async fn settings_of_the_test_run_do_not_reach_the_process() {
        let mut process = shell("env").env("HERALD_GIVEN", "yes").start().await.unwrap();
        process.wait(LIMIT).await.unwrap();
        let env = process.stdout().unwrap();
        let names: Vec<_> = env.lines().filter(|line| line.starts_with("HERALD_")).collect();
        assert_eq!(names, ["HERALD_GIVEN=yes"]);
    }
}
