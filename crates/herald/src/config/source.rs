//! Where the configuration is written: one file, and environment variables that stand above it.
//!
//! First step of three: sources → [`super::raw`] (as written) → [`super::check`] (types that can't be wrong).
//!
//! | variable | sets |
//! | --- | --- |
//! | `HERALD_AMQP_URL`, `_AMQP_CA_FILE`, `_AMQP_HEARTBEAT_SECS` | `broker.url`, `.ca_file`, `.heartbeat_secs` |
//! | `HERALD_DATABASE_URL`, `_DATABASE_CA_FILE`, `_DATABASE_MAX_CONNECTIONS` | `store.url`, `.ca_file`, `.max_connections` |
//! | `HERALD_DIR` | `embedded.dir` |
//! | `HERALD_LISTEN` | `http.listen` |
//! | `HERALD_GATEWAY_OPERATOR_TOKEN` | the operator's token, instead of `gateway.operator_token_file` |
//! | `HERALD_WORKER_BUDGET`, and so on for each name of `[worker]` in capitals | `worker.budget` … |
//!
//! A variable that is set but empty counts as absent, as compose files write it. Apps have no variables of their own: they
//! name files or variables for their secrets. Other variables that begin with `HERALD_` are left alone (Kubernetes makes
//! some for a service called herald), unless they look like a mistyped one of these.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::problem::{Problems, nearest};

/// The file that is read if none is named and it exists.
pub(crate) const DEFAULT_FILE: &str = "herald.toml";

/// What the operator's token comes from, if not from a file.
pub(super) const OPERATOR_TOKEN: &str = "HERALD_GATEWAY_OPERATOR_TOKEN";

/// Each variable and what it sets; see the table above.
pub(super) const VARIABLES: [(&str, &str); 15] = [
    ("HERALD_AMQP_URL", "broker.url"),
    ("HERALD_AMQP_CA_FILE", "broker.ca_file"),
    ("HERALD_AMQP_HEARTBEAT_SECS", "broker.heartbeat_secs"),
    ("HERALD_DATABASE_URL", "store.url"),
    ("HERALD_DATABASE_CA_FILE", "store.ca_file"),
    ("HERALD_DATABASE_MAX_CONNECTIONS", "store.max_connections"),
    ("HERALD_DIR", "embedded.dir"),
    ("HERALD_LISTEN", "http.listen"),
    (OPERATOR_TOKEN, "gateway.operator_token"),
    ("HERALD_WORKER_BUDGET", "worker.budget"),
    ("HERALD_WORKER_LEASE_SECS", "worker.lease_secs"),
    ("HERALD_WORKER_ATTEMPT_TIMEOUT_SECS", "worker.attempt_timeout_secs"),
    ("HERALD_WORKER_CLOCK_INTERVAL_MS", "worker.clock_interval_ms"),
    ("HERALD_WORKER_DRAIN_SECS", "worker.drain_secs"),
    ("HERALD_WORKER_MAX_PAUSE_SECS", "worker.max_pause_secs"),
];

/// Variables with a meaning elsewhere: never taken for mistyped ones.
const OTHER_VARIABLES: [&str; 3] = ["HERALD_CONFIG", "HERALD_LOG", "HERALD_LOG_FORMAT"];

/// Where to read from. The environment is a value, so that a test never touches the process's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Input {
    /// The file, if one was named.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: BTreeMap<String, String>,
}

impl Input {
    /// This process's environment. Variables that are not UTF-8 are left out: none of ours can be.
    pub(crate) fn of_process(file: Option<PathBuf>) -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            file: file.filter(|file| !file.as_os_str().is_empty()),
            env: std::env::vars_os().filter_map(utf8).collect(),
        }
    }

    /// The file to read: the named one, or the default one if it exists.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        self.file.clone().or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|p| p.is_file()))
    }
}

/// What was read, and how to say where each value came from.
pub(super) struct Sources {
    figment: Figment,
    file: String,
    folder: PathBuf,
}

impl Sources {
    /// Reads file and variables. Problems with them are noted, and what could be read is returned.
    pub(super) fn read(input: &Input, problems: &mut Problems) -> (Self, Dict) {
        let path = input.path();
        let file = path.as_deref().unwrap_or(Path::new(DEFAULT_FILE)).display().to_string();
        let folder = path.as_deref().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
        let text = path.map_or(Ok(String::new()), std::fs::read_to_string).unwrap_or_else(|error| {
            problems.add(&file, error.to_string(), "give a readable file with --config or HERALD_CONFIG");
            String::new()
        });
        let mut figment = Figment::from(Toml::string(&text));
        if let Err(error) = figment.data() {
            problems.add(&file, toml_error(&error.to_string()), "put it right; see herald.example.toml");
            figment = Figment::new();
        }
        check_names(&input.env, problems);
        for (name, path) in VARIABLES {
            if let Some(text) = input.env.get(name).map(|t| t.trim()).filter(|t| !t.is_empty()) {
                figment = figment.merge(Variable { name, path, text });
            }
        }
        let dict = figment.data().ok().and_then(|mut all| all.remove(&Profile::Default)).unwrap_or_default();
        (Self { figment, file, folder }, dict)
    }

    /// The place of the value at `path`: its variable, or the file and the path.
    pub(super) fn place(&self, path: &str, value: Option<&Value>) -> String {
        self.variable(value).map_or_else(|| format!("{}: {path}", self.file), str::to_owned)
    }

    /// The path that a setting means: what the file says is relative to the file, what a variable says to the process.
    pub(super) fn resolve(&self, given: &str, value: &Value) -> PathBuf {
        if self.variable(Some(value)).is_some() { PathBuf::from(given) } else { self.folder.join(given) }
    }

    fn variable(&self, value: Option<&Value>) -> Option<&'static str> {
        let name = &self.figment.get_metadata(value?.tag())?.name;
        VARIABLES.iter().map(|(variable, _)| *variable).find(|variable| variable == name)
    }
}

/// One environment variable as a source of its own, so that its name is known to each message about it.
struct Variable<'a> {
    name: &'static str,
    path: &'static str,
    text: &'a str,
}

impl Provider for Variable<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        // A number if it is one; the reader of a text takes both.
        let value = self.text.parse::<i64>().map_or_else(|_| Value::from(self.text), Value::from);
        let dict = figment::util::nest(self.path, value).into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}

/// A wrong letter or two: more is somebody else's variable, which we have no say in.
const MISTYPED: usize = 2;

fn check_names(env: &BTreeMap<String, String>, problems: &mut Problems) {
    let known: Vec<&str> = VARIABLES.iter().map(|(name, _)| *name).chain(OTHER_VARIABLES).collect();
    for name in env.keys().filter(|name| name.starts_with("HERALD_") && !known.contains(&name.as_str())) {
        if let Some(near) = nearest(name, &known, MISTYPED) {
            problems.add(name, "unknown variable", format!("did you mean {near}?"));
        }
    }
}

/// Line and cause of a TOML error, without the quoted line: it may hold a password.
fn toml_error(message: &str) -> String {
    let mut lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("not TOML").to_owned();
    let cause: Vec<&str> = lines.filter(|line| !line.contains('|')).collect();
    if cause.is_empty() { first } else { format!("{first}: {}", cause.join(", ")) }
}
