//! A PostgreSQL server of one's own: started from the installed binaries, killed and started again at will.
//!
//! It runs with `fsync=off`: tests kill processes, not machines, and what a killed server has written is still in the
//! page cache. Access is by `trust` on 127.0.0.1, the data is in a temporary folder that goes away with the server.

use crate::nest::{Launch, Nest, Reach, Signal};
use crate::{ports, wait};
use anyhow::{Context, Result, anyhow, bail};
use sqlx::{ConnectOptions, Connection};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SERVER: &str = "postgres";
/// The superuser of private servers.
const USER: &str = "herald";
/// Starting, recovery after a kill included, takes a second or two; a loaded machine gets a minute.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A private PostgreSQL server; gone when dropped.
pub struct PrivatePostgres {
    nest: Nest,
    binaries: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
}

impl PrivatePostgres {
    /// Make a new, empty cluster on a free port and wait until it answers.
    ///
    /// # Errors
    /// If PostgreSQL isn't installed (it says what to install) or doesn't start.
    pub async fn start() -> Result<Self> {
        let binaries = binaries()?;
        let user = unprivileged()?;
        let mut nest = Nest::new("postgres", user, Signal::Quit)?;
        let data = nest.path().join("data");
        let init = Launch {
            program: binaries.join("initdb"),
            args: ["--username", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"]
                .map(Into::into)
                .into_iter()
                .chain([data.into_os_string()])
                .collect(),
            env: Vec::new(),
            without: &["PG"],
            user,
        };
        nest.run("initdb", &init, START_LIMIT).await?;
        let mut this = Self { nest, binaries, user, port: ports::free()? };
        for attempt in 1.. {
            match this.start_again().await {
                // Another process may have taken the port meanwhile.
                Err(error) if attempt < 3 && this.nest.last_words(SERVER).contains("could not bind") => {
                    tracing::debug!(%error, "another port is tried");
                    this.port = ports::free()?;
                }
                result => return result.map(|()| this),
            }
        }
        bail!("unreachable: the loop above ends by itself")
    }

    /// The URL of a database on this server; it isn't created. `postgres` always exists.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port it listens on; the same through kills and restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kill it as a crash would: SIGKILL, no clean-up.
    ///
    /// # Errors
    /// If it doesn't end.
    pub async fn kill9(&mut self) -> Result<()> {
        self.nest.signal(SERVER, Signal::Kill, Reach::Group)?;
        self.nest.ended(SERVER, STOP_LIMIT).await.map(drop)
    }

    /// Stop it in order; open connections are ended.
    ///
    /// # Errors
    /// If it doesn't end within half a minute.
    pub async fn stop(&mut self) -> Result<()> {
        self.nest.signal(SERVER, Signal::Interrupt, Reach::Process)?;
        self.nest.ended(SERVER, STOP_LIMIT).await.map(drop)
    }

    /// Stop in order, and start.
    ///
    /// # Errors
    /// As of [`Self::stop`] and [`Self::start_again`].
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    /// Start it with the same data on the same port, after [`Self::kill9`] or [`Self::stop`], and wait until it
    /// answers.
    ///
    /// # Errors
    /// If it doesn't start; with the end of its log.
    pub async fn start_again(&mut self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        loop {
            self.launch()?;
            match self.answers().await {
                Ok(()) => return Ok(()),
                // The children of a killed server notice its death a moment later; until then its memory is in use.
                Err(_) if self.still_in_use() && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(wait::POLL).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn launch(&mut self) -> Result<()> {
        let port = format!("port={}", self.port);
        let settings = [
            "listen_addresses=127.0.0.1",
            &port,
            "unix_socket_directories=",
            "fsync=off",
            "max_connections=200",
            "shared_buffers=64MB",
            "timezone=UTC",
            "log_line_prefix=%m [%p] %q%d ",
        ];
        let data = self.nest.path().join("data");
        let mut args = vec!["-D".into(), data.into_os_string()];
        args.extend(settings.iter().flat_map(|setting| ["-c".into(), (*setting).into()]));
        let launch = Launch {
            program: self.binaries.join("postgres"),
            args,
            env: Vec::new(),
            without: &["PG"],
            user: self.user,
        };
        self.nest.start(SERVER, &launch)
    }

    async fn answers(&mut self) -> Result<()> {
        let url = self.url("postgres");
        let options: sqlx::postgres::PgConnectOptions = url.parse()?;
        let options = options.disable_statement_logging();
        let nest = &mut self.nest;
        let outcome = wait::until(START_LIMIT, "PostgreSQL to answer", async || {
            if matches!(nest.status(SERVER), Ok(None)) {
                let connection = sqlx::PgConnection::connect_with(&options).await.ok()?;
                connection.close().await.ok().map(Ok)
            } else {
                Some(Err(anyhow!("PostgreSQL ended while it started")))
            }
        });
        outcome.await.flatten().map_err(|error| anyhow!("{error}: {}", self.nest.last_words(SERVER)))
    }

    fn still_in_use(&self) -> bool {
        let words = self.nest.last_words(SERVER);
        words.contains("shared memory block") || words.contains("could not bind")
    }
}

/// PostgreSQL's programs: Debian's newest, else the first `initdb` of the path.
fn binaries() -> Result<PathBuf> {
    let version = |path: &Path| path.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = debian
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| bin.join("initdb").is_file() && bin.join("postgres").is_file())
        .max_by_key(|bin| version(bin));
    let path = std::env::var_os("PATH").unwrap_or_default();
    newest
        .or_else(|| std::env::split_paths(&path).find(|bin| bin.join("initdb").is_file()))
        .context("PostgreSQL isn't installed: run ./test --install-servers as root, or install the package postgresql, or set HERALD_TEST_DATABASE_URL")
}

/// The user to become when this process is root, as which PostgreSQL refuses to run: the package's own, else nobody.
fn unprivileged() -> Result<Option<(u32, u32)>> {
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !root {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").context("/etc/passwd: can't be read")?;
    let ids = |name: &str| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then_some(())?;
            Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
        })
    };
    ids("postgres")
        .or_else(|| ids("nobody"))
        .map(Some)
        .context("PostgreSQL can't run as root, and there is neither a user postgres nor a user nobody to run it as")
}
