//! The simulated providers and phones of one test: the process, and a client of its control interface.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use herald_harness::process::{Herald, herald};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);
/// More than any test makes.
const ENTRIES: usize = 10_000;

/// The running process; ended when dropped.
pub(crate) struct Simulator {
    process: Herald,
    folder: PathBuf,
    control: String,
    client: reqwest::Client,
}

/// A push as a provider got it.
#[derive(Debug, Clone)]
pub(crate) struct Push {
    /// When it was answered, in microseconds since 1970.
    pub(crate) time: u64,
    /// The phone that it was for.
    pub(crate) phone: String,
    /// `200`, a refusal, or none if no answer was given.
    pub(crate) status: Option<u64>,
    /// `raw`, `toast`, `alert` or `state`.
    pub(crate) form: String,
    /// The receipt capability that it carries.
    pub(crate) capability: String,
    /// All headers of the request.
    pub(crate) headers: Value,
    /// The whole body.
    pub(crate) body: Value,
}

impl Push {
    /// Did the provider take it?
    pub(crate) fn accepted(&self) -> bool {
        self.status == Some(200)
    }
}

impl Simulator {
    /// Starts one with these apps; its credentials are in `folder`.
    pub(crate) async fn start(folder: &Path, apps: &[String]) -> Result<Self> {
        let mut builder = herald(env!("CARGO_BIN_EXE_herald"))
            .args(["simulate", "--apns-port", "0", "--fcm-port", "0", "--control-port", "0"])
            .arg("--dir")
            .arg(folder);
        for app in apps {
            builder = builder.args(["--app", app]);
        }
        let process = builder.ready_when_writes("ready; ends on").start().await?;
        let described: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("simulator.json"))?)?;
        let control = described["controlUrl"].as_str().context("simulator.json names no controlUrl")?.to_owned();
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
        Ok(Self { process, folder: folder.to_owned(), control, client })
    }

    /// Its folder: CA, keys, `simulator.json`.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.process.stderr().unwrap_or_default()
    }

    /// Makes a phone; the answer is its view, token included.
    pub(crate) async fn phone(&self, name: &str, spec: Value) -> Value {
        self.call(reqwest::Method::PUT, &format!("/phones/{name}"), Some(spec)).await.unwrap()
    }

    /// Changes a phone.
    pub(crate) async fn change(&self, name: &str, change: Value) {
        self.call(reqwest::Method::PATCH, &format!("/phones/{name}"), Some(change)).await.unwrap();
    }

    /// What a phone has seen.
    pub(crate) async fn view(&self, name: &str) -> Value {
        self.get(&format!("/phones/{name}")).await.unwrap()
    }

    /// One count of a phone.
    pub(crate) async fn count(&self, name: &str, what: &str) -> u64 {
        let view = self.view(name).await;
        view[what].as_u64().unwrap_or_else(|| panic!("no {what} in {view}"))
    }

    /// Changes settings of the whole simulator.
    pub(crate) async fn set(&self, change: Value) {
        self.call(reqwest::Method::PUT, "/settings", Some(change)).await.unwrap();
    }

    /// Adds scripted answers.
    pub(crate) async fn script(&self, scripts: Value) {
        self.call(reqwest::Method::POST, "/script", Some(scripts)).await.unwrap();
    }

    /// Takes all scripted answers away.
    pub(crate) async fn no_script(&self) {
        self.call(reqwest::Method::DELETE, "/script", None).await.unwrap();
    }

    /// Changes the service account of an app's project.
    pub(crate) async fn change_service_account(&self, app: &str, change: Value) {
        self.call(reqwest::Method::PATCH, &format!("/service-accounts/{app}"), Some(change)).await.unwrap();
    }

    /// All access tokens that were granted so far are refused from now on.
    pub(crate) async fn revoke_access_tokens(&self) {
        self.call(reqwest::Method::DELETE, "/access-tokens", None).await.unwrap();
    }

    /// All requests that came, oldest first.
    pub(crate) async fn journal(&self) -> Vec<Value> {
        let journal = self.get(&format!("/journal?limit={ENTRIES}")).await.unwrap();
        journal.as_array().expect("a list of entries").clone()
    }

    /// All pushes that came, oldest first.
    pub(crate) async fn pushes(&self) -> Vec<Push> {
        self.journal().await.iter().filter_map(push).collect()
    }

    /// The pushes that came for one phone, oldest first.
    pub(crate) async fn pushes_to(&self, phone: &str) -> Vec<Push> {
        self.pushes().await.into_iter().filter(|push| push.phone == phone).collect()
    }

    /// How many pushes both providers took.
    pub(crate) async fn accepted(&self) -> u64 {
        let counters = self.get("/counters").await.unwrap();
        let kinds = counters["accepted"].as_object().into_iter().flat_map(serde_json::Map::values);
        kinds.filter_map(Value::as_object).flat_map(serde_json::Map::values).filter_map(Value::as_u64).sum()
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.call(reqwest::Method::GET, path, None).await
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Result<Value> {
        let what = format!("{method} {path}");
        let mut call = self.client.request(method, format!("{}{path}", self.control));
        if let Some(body) = body {
            call = call.json(&body);
        }
        let answer = call.send().await.with_context(|| what.clone())?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{what}: the simulator answered {status}: {text}");
        }
        Ok(serde_json::from_str(&text).unwrap_or(json!(null)))
    }
}

/// A journal entry that is a push of ours to a known phone.
fn push(entry: &Value) -> Option<Push> {
    let body = &entry["body"];
    let herald = match &body["herald"] {
        Value::Null => serde_json::from_str(body["message"]["data"]["herald"].as_str()?).ok()?,
        herald => herald.clone(),
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(Push {
        time: entry["time"].as_u64()?,
        phone: text(&entry["phone"]),
        status: entry["status"].as_u64(),
        form: text(&herald["form"]),
        capability: text(&herald["receipt"]),
        headers: entry["headers"].clone(),
        body: body.clone(),
    })
}
