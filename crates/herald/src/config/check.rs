//! From the configuration as written to one that can't be wrong: defaults, ranges, and values against each other.
//!
//! Third step of three. Defaults are here, each beside what it means, and nowhere else. Apps are in [`super::apps`],
//! `[gateway]` is in [`super::gateway`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::problem::Problems;
use super::raw::{RawConfig, RawParty, RawWorker};
use super::secret::Secret;
use super::table::Given;
use super::{Broker, Config, Database, Needs, Place, WorkerSettings, apps, gateway};

/// `broker.heartbeat_secs`: a lost connection is noticed after twice this. RabbitMQ calls 5 to 20 s sane.
const HEARTBEAT_SECS: u32 = 10;
/// `store.max_connections`, of each process. PostgreSQL allows 100 in all unless told otherwise.
const MAX_CONNECTIONS: u32 = 16;
/// `embedded.dir`: where the files are if there is neither broker nor store; beside `herald.toml`.
const DIR: &str = "herald-data";
/// `http.listen`: metrics and health. Only this machine, until the operator says more.
pub(crate) const LISTEN: &str = "127.0.0.1:9464";
/// `worker.budget`: pushes in flight at once. Bounds memory, and what a crash can repeat.
const BUDGET: u32 = 1000;
/// `worker.lease_secs`: how long a take may hold a delivery; after a crash its work waits that long.
const LEASE_SECS: u32 = 60;
/// `worker.attempt_timeout_secs`: the longest that one attempt may take.
const ATTEMPT_TIMEOUT_SECS: u32 = 20;
/// `worker.clock_interval_ms`: how often the clock looks for due work when it found none; what a toast may be late.
const CLOCK_INTERVAL_MS: u32 = 200;
/// `worker.drain_secs`: how long a stop may take. Kubernetes kills after 30 s unless told otherwise.
const DRAIN_SECS: u32 = 30;

/// `worker.max_pause_secs`: after so long at most a probe looks whether a fault of ours is mended. Each refused probe counts
/// against the app at its provider, so not much less than this for long.
const MAX_PAUSE_SECS: u32 = 900;

/// How the broker is given.
pub(crate) const BROKER_EXAMPLE: &str = "HERALD_AMQP_URL=amqp://user:password@host:5672/vhost";
/// How the store is given.
pub(crate) const STORE_EXAMPLE: &str = "HERALD_DATABASE_URL=postgres://user:password@host/database";

/// Checks everything that doesn't need the content of a file.
pub(super) fn check(raw: RawConfig, input: &super::Input, needs: Needs, problems: &mut Problems) -> Option<Config> {
    let broker = party(&raw.broker, &["amqp://", "amqps://"], problems);
    let heartbeat = within(raw.broker.number.as_ref(), HEARTBEAT_SECS, (1, 60), problems);
    let store = party(&raw.store, &["postgres://", "postgresql://"], problems);
    if let Some(given) = raw.store.url.as_ref().filter(|_| store.urls.len() > 1) {
        problems.add(&given.at, "is more than one URL", "give the one of the primary");
    }
    let max_connections = within(raw.store.number.as_ref(), MAX_CONNECTIONS, (2, 1000), problems);
    let listen = listen(raw.listen.as_ref(), problems);
    let worker = worker(&raw.worker, problems);
    let place = if needs.takes_files() && broker.urls.is_empty() && store.urls.is_empty() {
        Place::Files(raw.embedded_dir.map_or_else(|| beside(input, DIR), |given| given.value))
    } else {
        Place::Servers
    };
    let apps = apps::check(raw.apps, &input.env, (needs, &place), problems);
    let gateway = gateway::check(raw.gateway, &apps, needs, problems);
    if needs.connects() && place == Place::Servers {
        let or = if needs.takes_files() {
            ", or neither this nor the other to work on files"
        } else {
            " (`herald up` needs none: it works on files)"
        };
        if broker.urls.is_empty() {
            problems.add("broker.url", "no broker is configured", format!("set {BROKER_EXAMPLE}{or}"));
        }
        if store.urls.is_empty() {
            problems.add("store.url", "no store is configured", format!("set {STORE_EXAMPLE}{or}"));
        }
    }
    Some(Config {
        file: input.path(),
        broker: Broker {
            urls: broker.urls,
            ca_file: broker.ca_file,
            heartbeat: Duration::from_secs(u64::from(heartbeat?)),
        },
        store: Database {
            url: store.urls.into_iter().next(),
            ca_file: store.ca_file,
            max_connections: max_connections?,
        },
        place,
        listen: listen?,
        gateway,
        worker: worker?,
        apps,
    })
}

/// In the folder of the configuration file; in the current one if there is none.
fn beside(input: &super::Input, name: &str) -> PathBuf {
    input.path().as_deref().and_then(Path::parent).unwrap_or(Path::new("")).join(name)
}

struct Party {
    urls: Vec<Secret>,
    ca_file: Option<PathBuf>,
}

/// URLs in one text are separated by commas; a comma within a password is written `%2C`.
fn party(raw: &RawParty, schemes: &[&str], problems: &mut Problems) -> Party {
    let mut urls = Vec::new();
    if let Some(given) = &raw.url {
        for url in given.value.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|u| !u.is_empty()) {
            let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
            if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
                let fix = format!("give {}user:password@host/name", schemes[0]);
                problems.add(&given.at, format!("is not a URL of {} with a host", schemes.join(" or ")), fix);
            }
            urls.push(Secret::new(url));
        }
    }
    let ca_file = raw.ca_file.as_ref().and_then(|given| existing(given, "the CA's certificate (PEM)", problems));
    Party { urls, ca_file }
}

fn listen(given: Option<&Given<String>>, problems: &mut Problems) -> Option<SocketAddr> {
    let text = given.map_or(LISTEN, |given| given.value.as_str());
    match (text.parse(), given) {
        (Ok(address), _) => Some(address),
        (Err(_), given) => {
            let at = given.map_or("http.listen", |given| given.at.as_str());
            problems.add(at, "is not an address with a port", format!("give {LISTEN}, or 0.0.0.0:9464 for all"));
            None
        }
    }
}

fn worker(raw: &RawWorker, problems: &mut Problems) -> Option<WorkerSettings> {
    let budget = within(raw.budget.as_ref(), BUDGET, (1, 100_000), problems);
    let lease = within(raw.lease_secs.as_ref(), LEASE_SECS, (2, 3600), problems);
    let attempt = within(raw.attempt_timeout_secs.as_ref(), ATTEMPT_TIMEOUT_SECS, (1, 300), problems);
    let interval = within(raw.clock_interval_ms.as_ref(), CLOCK_INTERVAL_MS, (10, 60_000), problems);
    let drain = within(raw.drain_secs.as_ref(), DRAIN_SECS, (1, 3600), problems);
    let max_pause = within(raw.max_pause_secs.as_ref(), MAX_PAUSE_SECS, (1, 3600), problems);
    let (lease, attempt, drain) = (lease?, attempt?, drain?);
    let at = |given: &Option<Given<i128>>, name: &str| {
        given.as_ref().map_or_else(|| format!("{}.{name}", raw.at), |given| given.at.clone())
    };
    if attempt >= lease {
        let what =
            format!("an attempt may take {attempt} s, longer than the lease of {lease} s, and would be repeated");
        let fix = format!("give at most {} (a third of the lease is sound)", lease - 1);
        problems.add(at(&raw.attempt_timeout_secs, "attempt_timeout_secs"), what, fix);
    }
    if drain < attempt {
        let what = format!("a drain of {drain} s cuts off attempts, which may take {attempt} s");
        problems.add(at(&raw.drain_secs, "drain_secs"), what, format!("give at least {attempt}"));
    }
    let secs = |number| Duration::from_secs(u64::from(number));
    Some(WorkerSettings {
        budget: budget? as usize,
        lease: secs(lease),
        attempt_timeout: secs(attempt),
        clock_interval: Duration::from_millis(u64::from(interval?)),
        drain: secs(drain),
        max_pause: secs(max_pause?),
    })
}

/// The number given or the default, if it is in the range (ends included).
pub(super) fn within(
    given: Option<&Given<i128>>,
    default: u32,
    (least, most): (u32, u32),
    problems: &mut Problems,
) -> Option<u32> {
    let Some(given) = given else { return Some(default) };
    let number = u32::try_from(given.value).ok().filter(|n| (least..=most).contains(n));
    if number.is_none() {
        problems.add(&given.at, format!("{} is out of range", given.value), format!("give {least} to {most}"));
    }
    number
}

/// The path, if it is that of a file that can be opened. `what` says what should be in it.
pub(super) fn existing(given: &Given<PathBuf>, what: &str, problems: &mut Problems) -> Option<PathBuf> {
    let path = &given.value;
    let opened = std::fs::File::open(path).and_then(|file| file.metadata()).map(|meta| meta.is_file());
    let trouble = match opened {
        Ok(true) => return Some(path.clone()),
        Ok(false) => "is not a file".to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "no such file".to_owned(),
        Err(error) => error.to_string(),
    };
    problems.add(&given.at, format!("{trouble}: {}", path.display()), format!("give the path of {what}"));
    None
}
