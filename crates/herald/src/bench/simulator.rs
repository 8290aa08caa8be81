//! The simulated providers of a bench: `herald simulate` as a child process, without delay, and what it has counted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use herald_core::subscription::Provider;
use serde::Deserialize;

use super::children::{Child, free_address};
use super::get::get;
use crate::config::{AppConfig, Config, Input, Needs};

/// The app that the bench sends for.
pub(super) const APP: &str = "bench.herald.example";

/// Where the simulator answers how much it has counted.
const COUNTERS: &str = "/counters";
/// What it writes when its configuration is there.
const READY: &str = "ready";

/// A running simulator, and the configuration of the one app it serves.
pub(super) struct Simulator {
    pub(super) child: Child,
    pub(super) app: AppConfig,
}

/// What it has counted since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Counts {
    accepted: BTreeMap<String, BTreeMap<String, u64>>,
    refused: BTreeMap<String, BTreeMap<String, u64>>,
    connections: BTreeMap<String, u64>,
}

impl Counts {
    /// Pushes that these providers accepted.
    pub(super) fn accepted(&self, providers: &[Provider]) -> u64 {
        total(&self.accepted, providers)
    }

    /// Requests that these providers refused.
    pub(super) fn refused(&self, providers: &[Provider]) -> u64 {
        total(&self.refused, providers)
    }

    /// Connections that this provider accepted.
    pub(super) fn connections(&self, provider: Provider) -> u64 {
        self.connections.get(provider.as_str()).copied().unwrap_or(0)
    }
}

fn total(counts: &BTreeMap<String, BTreeMap<String, u64>>, providers: &[Provider]) -> u64 {
    let of = |provider: &Provider| counts.get(provider.as_str()).map_or(0, |kinds| kinds.values().sum());
    providers.iter().map(of).sum::<u64>()
}

impl Simulator {
    /// Starts it in `folder`, where it leaves credentials and a `herald.toml` that workers can start with beside `urls`, the
    /// variables that name broker and store.
    ///
    /// # Errors
    /// When it can't be started, or is not ready within a minute.
    pub(super) async fn start(folder: &Path, urls: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let (apns, fcm, control) = (free_address()?, free_address()?, free_address()?);
        let mut args: Vec<OsString> =
            vec!["simulate".into(), "--dir".into(), folder.into(), "--app".into(), APP.into()];
        for (flag, address) in [("--apns-port", apns), ("--fcm-port", fcm), ("--control-port", control)] {
            args.extend([flag.into(), address.port().to_string().into()]);
        }
        args.push("--accept-unknown-tokens".into());
        // It lets the login in the broker's URL publish for the app.
        let mut env = urls.clone();
        env.insert("HERALD_LOG".to_owned(), "warn".to_owned());
        let mut child = Child::start("simulator", folder, control, &args, &env)?;
        child.ready(COUNTERS, READY).await?;
        let input = Input { file: Some(config_file(folder)), env: urls.clone() };
        let config = Config::load(&input, Needs::Up)?;
        let app = config.apps.into_iter().find(|app| app.id.as_str() == APP);
        Ok(Self { child, app: app.context("the simulator's herald.toml does not have the bench's app")? })
    }

    /// What it has counted so far.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn counts(&self) -> anyhow::Result<Counts> {
        Ok(serde_json::from_slice(&get(self.child.address, COUNTERS).await?)?)
    }
}

/// The configuration that a simulator leaves in its folder.
pub(super) fn config_file(folder: &Path) -> PathBuf {
    folder.join("herald.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_over_the_providers_that_are_measured() {
        let json = r#"{"accepted":{"apns":{"background":3,"alert":1},"fcm":{"data":5}},"refused":{"oauth":{"x":1}},
                       "connections":{"apns":2},"mints":1}"#;
        let counts: Counts = serde_json::from_str(json).unwrap();
        assert_eq!(counts.accepted(&[Provider::Apns]), 4);
        assert_eq!(counts.accepted(&Provider::ALL), 9);
        assert_eq!(counts.refused(&Provider::ALL), 0);
        assert_eq!((counts.connections(Provider::Apns), counts.connections(Provider::Fcm)), (2, 0));
    }
}
