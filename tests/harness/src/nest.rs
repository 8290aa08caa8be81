//! A temporary folder and the processes that live in it, gone together.
//!
//! Every server and every process under test is started here, so that nothing outlives its test:
//! - dropping a [`Nest`] ends its processes, waits for them, and removes the folder;
//! - if this process ends without dropping (a panic in another thread, a static, `kill -9`), a small shell, the
//!   *guard*, notices that the pipe to it has closed, ends the processes by the ids in the folder, and removes it.
//!
//! Each process starts in a process group of its own, so that Ctrl-C reaches the test and not its servers, and so
//! that a signal to the group reaches what it started. It never signals a process that it has already reaped.

use crate::wait;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Waits for the end of the parent (the end of its input), then ends the groups listed in `$1/pids` with signal `$2`,
/// or with KILL after five seconds, and removes the folder. It is in a group of its own and ignores hang-ups. A zombie,
/// which is what an orphan becomes where process 1 collects none (some containers), has ended.
const GUARD: &str = r#"
trap '' HUP INT TERM
alive() { kill -0 "$1" 2>/dev/null && ! grep -q ') Z ' "/proc/$1/stat" 2>/dev/null; }
while read -r _; do :; done
pids=$(cat "$1"/pids/* 2>/dev/null)
for pid in $pids; do kill -s "$2" -- "-$pid" 2>/dev/null; kill -s CONT -- "-$pid" 2>/dev/null; done
for turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do
  left=; for pid in $pids; do alive "$pid" && left=yes; done
  [ -z "$left" ] && break
  sleep 0.2
done
for pid in $pids; do kill -s KILL -- "-$pid" 2>/dev/null; done
rm -rf "$1"
"#;

/// Writes its own process id to the file `$0` and becomes the command: the id is on disk before the command runs.
const ENROL: &str = r#"echo $$ > "$0" && exec "$@""#;

/// How a nest ends its processes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signal {
    /// At once, without any clean-up by the process.
    Kill,
    /// SIGQUIT: PostgreSQL's immediate shutdown, which frees the shared memory that a KILL would leave behind.
    Quit,
    /// SIGINT: PostgreSQL's fast shutdown.
    Interrupt,
    /// SIGTERM: please end.
    Terminate,
    /// Let a stopped process go on, so that it can receive the others.
    Continue,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Quit => "QUIT",
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
            Self::Continue => "CONT",
        }
    }
}

/// To whom a signal goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reach {
    /// Only the process itself: what it started must notice for itself.
    Process,
    /// The process and all in its group.
    Group,
}

/// A command to start in a nest.
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Inherited variables whose names begin so are not passed on.
    pub(crate) without: &'static [&'static str],
    /// The user and group to become.
    pub(crate) user: Option<(u32, u32)>,
}

struct Resident {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    ended: Option<ExitStatus>,
}

/// The folder and its processes, by name.
pub(crate) struct Nest {
    folder: PathBuf,
    logs: PathBuf,
    name: String,
    farewell: Signal,
    guard: Child,
    residents: BTreeMap<&'static str, Resident>,
}

impl Nest {
    /// Make a folder, owned by `user` if one is given, and start its guard.
    pub(crate) fn new(kind: &str, user: Option<(u32, u32)>, farewell: Signal) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{kind}-{}-{number}", std::process::id());
        let folder =
            tempfile::Builder::new().prefix("herald-").tempdir().context("no temporary folder could be made")?.keep();
        std::fs::create_dir(folder.join("pids"))?;
        if let Some((uid, gid)) = user {
            for path in [folder.clone(), folder.join("pids")] {
                std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
            }
        }
        let logs = crate::settings::get(crate::settings::LOGS).map_or_else(|| folder.clone(), PathBuf::from);
        std::fs::create_dir_all(&logs).with_context(|| format!("{}: can't be made", logs.display()))?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "herald-guard"])
            .arg(&folder)
            .arg(farewell.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .context("sh can't be started")?;
        Ok(Self { folder, logs, name, farewell, guard, residents: BTreeMap::new() })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// This nest's name, unique among the processes of the machine.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Start a process under a name; its output is appended to files named after it.
    pub(crate) fn start(&mut self, who: &'static str, launch: &Launch) -> Result<()> {
        let stdout = self.logs.join(format!("{}-{who}.stdout.log", self.name));
        let stderr = self.logs.join(format!("{}-{who}.stderr.log", self.name));
        let mut command = Command::new("sh");
        command
            .args(["-c", ENROL])
            .arg(self.pid_file(who))
            .arg(&launch.program)
            .args(&launch.args)
            .stdin(Stdio::null())
            .stdout(append(&stdout)?)
            .stderr(append(&stderr)?)
            .current_dir(&self.folder)
            .process_group(0);
        for (name, _) in std::env::vars_os() {
            if launch.without.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.envs(launch.env.iter().map(|(name, value)| (name, value)));
        if let Some((uid, gid)) = launch.user {
            command.uid(uid).gid(gid);
        }
        let child = command.spawn().with_context(|| format!("{} can't be started", launch.program.display()))?;
        self.residents.insert(who, Resident { child, stdout, stderr, ended: None });
        Ok(())
    }

    /// Start a process and wait for its end; an error, with the end of its output, if it fails or takes too long.
    pub(crate) async fn run(&mut self, who: &'static str, launch: &Launch, limit: Duration) -> Result<()> {
        self.start(who, launch)?;
        let status = self.ended(who, limit).await?;
        if !status.success() {
            bail!("{} failed ({status}): {}", launch.program.display(), self.last_words(who));
        }
        Ok(())
    }

    /// The id of a process that was started and not yet reaped.
    pub(crate) fn pid(&self, who: &str) -> Option<u32> {
        self.residents.get(who).filter(|resident| resident.ended.is_none()).map(|resident| resident.child.id())
    }

    /// Send a signal; nothing happens if the process has ended.
    pub(crate) fn signal(&mut self, who: &'static str, signal: Signal, reach: Reach) -> Result<()> {
        if self.status(who)?.is_some() {
            return Ok(());
        }
        let Some(pid) = self.pid(who) else { return Ok(()) };
        send(pid, signal, reach)
    }

    /// How the process ended, if it has; reaps it.
    pub(crate) fn status(&mut self, who: &'static str) -> Result<Option<ExitStatus>> {
        let pid_file = self.pid_file(who);
        let resident = self.residents.get_mut(who).ok_or_else(|| anyhow!("{who} was never started"))?;
        if resident.ended.is_none() {
            resident.ended = resident.child.try_wait()?;
            if resident.ended.is_some() {
                forget(&pid_file);
            }
        }
        Ok(resident.ended)
    }

    /// Wait until the process has ended.
    pub(crate) async fn ended(&mut self, who: &'static str, limit: Duration) -> Result<ExitStatus> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            if let Some(status) = self.status(who)? {
                return Ok(status);
            }
            if tokio::time::Instant::now() >= deadline {
                bail!("{who} was still running after {limit:?}: {}", self.last_words(who));
            }
            tokio::time::sleep(wait::POLL).await;
        }
    }

    /// The files that hold a process' standard output and standard error.
    pub(crate) fn output(&self, who: &str) -> Option<(&Path, &Path)> {
        self.residents.get(who).map(|resident| (resident.stdout.as_path(), resident.stderr.as_path()))
    }

    /// The end of what a process has written, for error messages.
    pub(crate) fn last_words(&self, who: &str) -> String {
        let Some((stdout, stderr)) = self.output(who) else {
            return String::new();
        };
        [stderr, stdout]
            .iter()
            .map(|path| {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                format!("\n{}:\n{}", path.display(), lines[lines.len().saturating_sub(20)..].join("\n"))
            })
            .collect()
    }

    fn pid_file(&self, who: &str) -> PathBuf {
        self.folder.join("pids").join(who)
    }
}

impl Drop for Nest {
    /// End the processes, wait for them, and let the guard remove the folder. Bounded: a process that was sent KILL
    /// ends, and PostgreSQL's immediate shutdown kills its own children after five seconds.
    fn drop(&mut self) {
        let names: Vec<&'static str> = self.residents.keys().copied().collect();
        for who in names.iter().rev() {
            for signal in [self.farewell, Signal::Continue] {
                if let Err(error) = self.signal(who, signal, Reach::Group) {
                    tracing::warn!(%error, "{who} could not be ended");
                }
            }
        }
        for (who, resident) in &mut self.residents {
            if resident.ended.is_none() {
                resident.ended = resident.child.wait().ok();
                forget(&self.folder.join("pids").join(who));
            }
        }
        drop(self.guard.stdin.take());
        if let Err(error) = self.guard.wait() {
            tracing::warn!(%error, "the guard of {} could not be waited for", self.name);
        }
    }
}

/// A reaped process' id may be given to another; the guard must not find it.
fn forget(pid_file: &Path) {
    if let Err(error) = std::fs::remove_file(pid_file) {
        tracing::debug!(%error, "{} can't be removed", pid_file.display());
    }
}

/// `unsafe` is forbidden here, so signals go through the shell's own `kill`.
fn send(pid: u32, signal: Signal, reach: Reach) -> Result<()> {
    let target = match reach {
        Reach::Process => pid.to_string(),
        Reach::Group => format!("-{pid}"),
    };
    Command::new("sh")
        .args(["-c", r#"kill -s "$0" -- "$1""#, signal.name(), &target])
        .stderr(Stdio::null())
        .status()
        .context("sh can't be started")?;
    Ok(())
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("{}: can't be opened", path.display()))
}
