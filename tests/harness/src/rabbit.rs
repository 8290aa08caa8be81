//! A RabbitMQ node of one's own: started from the installed package, killed and started again at will.
//!
//! Nothing of it is shared with a node that may run on the machine: it has its own node name, ports, folder, Erlang
//! cookie and its own epmd. All of its ports are on 127.0.0.1. The management plugin is on, without its statistics,
//! because making a vhost through its HTTP API takes milliseconds and through `rabbitmqctl` a second or two.

use crate::nest::{Launch, Nest, Reach, Signal};
use crate::rabbit_api::{Permissions, RabbitApi};
use crate::{ports, wait};
use anyhow::{Context, Result, anyhow, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpStream;

const SERVER: &str = "rabbitmq";
const EPMD: &str = "epmd";
/// The administrator of private nodes.
const USER: &str = "herald";
/// A node starts in five to ten seconds here; a loaded machine gets two minutes.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
struct Ports {
    amqp: u16,
    api: u16,
    distribution: u16,
    epmd: u16,
}

impl Ports {
    fn free() -> Result<Self> {
        Ok(Self { amqp: ports::free()?, api: ports::free()?, distribution: ports::free()?, epmd: ports::free()? })
    }
}

/// A private RabbitMQ node; gone when dropped.
pub struct PrivateRabbit {
    nest: Nest,
    scripts: PathBuf,
    ports: Ports,
    password: String,
    api: RabbitApi,
}

impl PrivateRabbit {
    /// Start an empty node on free ports and wait until it takes connections.
    ///
    /// # Errors
    /// If RabbitMQ isn't installed (it says what to install) or doesn't start.
    pub async fn start() -> Result<Self> {
        let scripts = scripts()?;
        let mut tries = 0;
        loop {
            let mut this = Self::prepare(scripts.clone())?;
            match this.start_again().await {
                Ok(()) => return Ok(this),
                // Another process may have taken one of the ports meanwhile: a new node on other ports.
                Err(error) if tries < 2 && this.nest.last_words(SERVER).contains("eaddrinuse") => {
                    tracing::debug!(%error, "other ports are tried");
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn prepare(scripts: PathBuf) -> Result<Self> {
        let nest = Nest::new("rabbitmq", None, Signal::Kill)?;
        let ports = Ports::free()?;
        let password = uuid::Uuid::now_v7().simple().to_string();
        let folder = nest.path();
        for name in ["home", "mnesia", "log"] {
            std::fs::create_dir(folder.join(name))?;
        }
        std::fs::write(folder.join("enabled_plugins"), "[rabbitmq_management].\n")?;
        std::fs::write(folder.join("rabbitmq-env.conf"), "")?;
        std::fs::write(folder.join("rabbitmq.conf"), configuration(ports, &password))?;
        let api = RabbitApi::new(&format!("http://{USER}:{password}@127.0.0.1:{}", ports.api))?;
        Ok(Self { nest, scripts, ports, password, api })
    }

    /// The URL of a vhost, with the administrator's name and password; it isn't created. `/` always exists.
    #[must_use]
    pub fn url(&self, vhost: &str) -> String {
        self.url_for(vhost, USER, &self.password)
    }

    /// The URL of a vhost for another user, as made by [`Self::add_user`].
    #[must_use]
    pub fn url_for(&self, vhost: &str, user: &str, password: &str) -> String {
        format!("amqp://{user}:{password}@127.0.0.1:{}/{}", self.ports.amqp, vhost.replace('/', "%2f"))
    }

    /// The URL of the management API, with the administrator's name and password.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://{USER}:{}@127.0.0.1:{}", self.password, self.ports.api)
    }

    /// The AMQP port; the same through kills and restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// Make a vhost in which the administrator may do everything.
    ///
    /// # Errors
    /// If the node refuses.
    pub async fn add_vhost(&self, vhost: &str) -> Result<()> {
        self.api.add_vhost(vhost).await
    }

    /// Make a user, or change its password, with these permissions in a vhost.
    ///
    /// # Errors
    /// If the node refuses.
    pub async fn add_user(&self, name: &str, password: &str, vhost: &str, permissions: &Permissions) -> Result<()> {
        self.api.add_user(name, password, vhost, permissions).await
    }

    /// Write down which quorum queues exist. Call it once after declaring queues and before [`Self::kill9`]: RabbitMQ
    /// keeps the names of their Raft members in Erlang's `dets` tables, which reach the disk up to three seconds
    /// later; a node killed before that comes back with a queue that never elects a leader (seen with 3.10.8).
    /// Messages need no settling: a confirmed one is on the disk.
    ///
    /// # Errors
    /// If `rabbitmqctl` fails.
    pub async fn settle(&mut self) -> Result<()> {
        self.rabbitmqctl(&["eval", "[dets:sync(Table) || Table <- dets:all()]."]).await
    }

    /// Kill it as a crash would: SIGKILL to the Erlang machine, no clean-up. See [`Self::settle`].
    ///
    /// # Errors
    /// If it doesn't end.
    pub async fn kill9(&mut self) -> Result<()> {
        self.nest.signal(SERVER, Signal::Kill, Reach::Group)?;
        self.nest.ended(SERVER, STOP_LIMIT).await.map(drop)
    }

    /// Stop it in order; clients are told.
    ///
    /// # Errors
    /// If it doesn't end within a minute.
    pub async fn stop(&mut self) -> Result<()> {
        self.nest.signal(SERVER, Signal::Terminate, Reach::Process)?;
        self.nest.ended(SERVER, STOP_LIMIT).await.map(drop)
    }

    /// Start it with the same data on the same ports, after [`Self::kill9`] or [`Self::stop`], and wait until it
    /// takes connections.
    ///
    /// # Errors
    /// If it doesn't start; with the end of its log.
    pub async fn start_again(&mut self) -> Result<()> {
        if self.nest.pid(EPMD).is_none() {
            self.nest.start(EPMD, &self.launch("epmd".into(), self.epmd_args()))?;
        }
        let server = self.launch(self.scripts.join("rabbitmq-server"), Vec::new());
        self.nest.start(SERVER, &server)?;
        let (nest, api, port) = (&mut self.nest, &self.api, self.ports.amqp);
        let outcome = wait::until(START_LIMIT, "RabbitMQ to take connections", async || {
            if !matches!(nest.status(SERVER), Ok(None)) {
                return Some(Err(anyhow!("RabbitMQ ended while it started")));
            }
            let listens = TcpStream::connect(("127.0.0.1", port)).await.is_ok();
            (listens && api.answers().await).then_some(Ok(()))
        });
        outcome.await.flatten().map_err(|error| anyhow!("{error}: {}", self.nest.last_words(SERVER)))
    }

    /// Run `rabbitmqctl` on this node, for what the HTTP API can't do; it takes a second or two.
    ///
    /// # Errors
    /// If the command fails; with what it wrote.
    pub async fn rabbitmqctl(&mut self, args: &[&str]) -> Result<()> {
        let args = args.iter().map(OsString::from).collect();
        let launch = self.launch(self.scripts.join("rabbitmqctl"), args);
        self.nest.run("rabbitmqctl", &launch, STOP_LIMIT).await
    }

    fn epmd_args(&self) -> Vec<OsString> {
        ["-port", &self.ports.epmd.to_string(), "-address", "127.0.0.1"].map(OsString::from).into()
    }

    /// A command with the environment that makes it act on this node alone.
    fn launch(&self, program: PathBuf, args: Vec<OsString>) -> Launch {
        let folder = self.nest.path();
        let file = |name: &str| folder.join(name).into_os_string();
        // `herald-rabbitmq-<pid>-<n>@localhost`: localhost resolves everywhere, the machine's name may not.
        let node = format!("herald-{}@localhost", self.nest.name());
        // One scheduler that doesn't spin is enough for tests and leaves the processors to them. The distribution
        // port would listen on every interface by default.
        let erlang = "+S 1:1 +sbwt none -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}";
        let env: [(&str, OsString); 16] = [
            ("HOME", file("home")),
            ("RABBITMQ_NODENAME", node.into()),
            ("RABBITMQ_DIST_PORT", self.ports.distribution.to_string().into()),
            ("ERL_EPMD_PORT", self.ports.epmd.to_string().into()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
            ("RABBITMQ_MNESIA_BASE", file("mnesia")),
            ("RABBITMQ_LOG_BASE", file("log")),
            ("RABBITMQ_LOGS", "-".into()),
            ("RABBITMQ_PID_FILE", file("rabbitmq.pid")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins")),
            ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", file("advanced.config")),
            ("RABBITMQ_CONF_ENV_FILE", file("rabbitmq-env.conf")),
            ("RABBITMQ_GENERATED_CONFIG_DIR", file("generated")),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", erlang.into()),
            ("LANG", "C.UTF-8".into()),
        ];
        Launch {
            program,
            args,
            env: env.into_iter().map(|(name, value)| (name.into(), value)).collect(),
            without: &["RABBITMQ_", "ERL_", "LC_"],
            user: None,
        }
    }
}

fn configuration(ports: Ports, password: &str) -> String {
    let Ports { amqp, api, .. } = ports;
    format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
         management.tcp.ip = 127.0.0.1\n\
         management.tcp.port = {api}\n\
         management_agent.disable_metrics_collector = true\n\
         default_user = {USER}\n\
         default_pass = {password}\n\
         log.console.level = info\n\
         raft.wal_max_size_bytes = 33554432\n"
    )
}

/// The folder of RabbitMQ's own scripts. The package's wrappers in `/usr/sbin` become the user `rabbitmq` and use the
/// system's folders, so they are passed over.
fn scripts() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/rabbitmq/lib").into_iter().flatten().flatten();
    let packaged = versions.map(|entry| entry.path().join("sbin")).filter(|path| is_scripts(path)).max();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = packaged.or_else(|| std::env::split_paths(&path).find(|path| is_scripts(path)));
    match found {
        Some(path) => path.canonicalize().context("RabbitMQ's folder can't be read"),
        None => bail!(
            "RabbitMQ isn't installed: run ./test --install-servers as root, or install the package rabbitmq-server, \
             or set HERALD_TEST_AMQP_URL"
        ),
    }
}

fn is_scripts(path: &Path) -> bool {
    path.join("rabbitmq-server").is_file() && path.join("rabbitmq-env").is_file()
}
