//! The apps: each with what is needed to push for it, and apart from the others (G8).
//!
//! Part of the third step. What is in key files is looked at in [`super::credentials`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use herald_core::event::{Tell, TellSet};
use herald_core::fallback::Mode;
use herald_core::ids::AppId;
use herald_core::receipt::MAX_KEY_ID_LEN;
use herald_core::subscription::Environment;
use herald_gateway::Rate;
use herald_worker::settings::Fallback;

use super::check::{existing, within};
use super::gateway;
use super::problem::{Problems, did_you_mean};
use super::raw::{RawApns, RawApp, RawFallback, RawFcm, RawSecret};
use super::secret::Secret;
use super::table::Given;
use super::{ApnsConfig, AppConfig, FcmConfig, KeyConfig, KeySource, Needs, Place};

/// `fallback.min_delay_secs` and `max_delay_secs`: what Graph allows for `fallbackDelayInSeconds`.
const FALLBACK_DELAY_SECS: (u32, u32) = (60, 600);
/// The widest range an operator may allow: a day; a toast later than that tells nobody anything.
const WIDEST_DELAY_SECS: (u32, u32) = (1, 86_400);
/// `request_burst`: this many seconds' worth of `requests_per_second`.
const BURST_TIMES: u32 = 2;
/// `subscriptions_per_user`: more than anybody's phones and tablets, and few enough that a loop in an app fills nothing.
const SUBSCRIPTIONS_PER_USER: u32 = 20;
/// The longest app id: it is part of routing keys (255 bytes at most) behind the event's name.
const MAX_APP_ID_LEN: usize = 200;

/// The name that stands for every event but `accepted`.
const USUAL_EVENTS: &str = "usual";

type Env = BTreeMap<String, String>;

pub(super) fn check(
    raw: Vec<RawApp>,
    env: &Env,
    (needs, place): (Needs, &Place),
    problems: &mut Problems,
) -> Vec<AppConfig> {
    let several = raw.len() > 1;
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut clients = Vec::new();
    let mut apps = Vec::new();
    for mut app in raw {
        let client_ids = gateway::client_ids(app.client_ids.take(), &mut clients, problems);
        let own_clients = gateway::clients(std::mem::take(&mut app.clients), &mut clients, env, needs, problems);
        let id = id(&app.id, problems);
        if let Some(first) = seen.insert(id.as_str().to_owned(), app.id.value.clone()) {
            let what = format!("is the same app as {first:?}: ids are read in lower case");
            problems.add(&app.id.at, what, "keep one of the two");
        }
        if several && *place == Place::Servers && app.amqp_users.as_ref().is_none_or(|users| users.value.is_empty()) {
            let what = "is missing: with more than one app, any producer could publish for this one";
            problems.add(&app.amqp_users_at, what, "give the AMQP logins of its producers: [\"mail-service\"]");
        }
        apps.extend(one(id, app, env, needs, problems).map(|app| AppConfig {
            client_ids,
            clients: own_clients,
            ..app
        }));
    }
    if apps.is_empty() && needs.serves() && seen.is_empty() {
        let fix = "describe one as [apps.\"mail.contoso.com\"]; see herald.example.toml";
        problems.add(super::source::DEFAULT_FILE, "no app is configured, so nothing can be pushed", fix);
    }
    apps
}

fn one(id: AppId, raw: RawApp, env: &Env, needs: Needs, problems: &mut Problems) -> Option<AppConfig> {
    if raw.apns.is_none() && raw.fcm.is_none() {
        let fix = "add its [….apns] or [….fcm] table, or both";
        problems.add(&raw.id.at, "has no provider, so nothing can be pushed for it", fix);
    }
    let has = (raw.apns.is_some(), raw.fcm.is_some());
    let apns = raw.apns.and_then(|raw| apns(raw, needs, problems));
    let fcm = raw.fcm.and_then(|raw| fcm(raw, needs, problems));
    let fallback = fallback(&raw.fallback, problems);
    let pushes_per_second = match &raw.pushes_per_second {
        None => None,
        given => Some(within(given.as_ref(), 0, (1, 1_000_000), problems)?),
    };
    let request_rate = request_rate(raw.requests_per_second.as_ref(), raw.request_burst.as_ref(), problems)?;
    let subscriptions_per_user =
        within(raw.subscriptions_per_user.as_ref(), SUBSCRIPTIONS_PER_USER, (1, 1_000), problems);
    let receipt_keys = receipt_keys(raw.receipt_keys, env, needs, problems);
    let events = events(raw.events.as_ref(), problems);
    // A provider with a problem must not look like one that is not there.
    (has == (apns.is_some(), fcm.is_some())).then_some(())?;
    let amqp_users = raw.amqp_users.map(|given| given.value).unwrap_or_default();
    let (client_ids, clients) = (Vec::new(), Vec::new());
    let fallback = fallback?;
    Some(AppConfig {
        id,
        amqp_users,
        clients,
        client_ids,
        pushes_per_second,
        request_rate,
        subscriptions_per_user: subscriptions_per_user?,
        events,
        apns,
        fcm,
        fallback,
        receipt_keys,
    })
}

/// None within: no limit.
#[allow(clippy::option_option, reason = "the two layers are wrong and absent")]
fn request_rate(
    rate: Option<&Given<i128>>,
    burst: Option<&Given<i128>>,
    problems: &mut Problems,
) -> Option<Option<Rate>> {
    const RANGE: (u32, u32) = (1, 1_000_000);
    let Some(rate) = rate else {
        if let Some(burst) = burst {
            problems.add(&burst.at, "means nothing without a rate", "give requests_per_second too, or leave it out");
        }
        return Some(None);
    };
    let per_second = within(Some(rate), 0, RANGE, problems)?;
    let burst = within(burst, per_second.saturating_mul(BURST_TIMES), RANGE, problems)?;
    Some(Some(Rate { per_second, burst }))
}

fn id(given: &Given<String>, problems: &mut Problems) -> AppId {
    let usable = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let label = |l: &str| (1..=63).contains(&l.len()) && l.chars().all(usable) && l.trim_matches('-') == l;
    let text = given.value.to_ascii_lowercase();
    if text.len() > MAX_APP_ID_LEN || !text.split('.').all(label) {
        let what = format!("{text:?} is not a host name");
        let fix = format!("give the app's targetHostName, like mail.contoso.com, at most {MAX_APP_ID_LEN} characters");
        problems.add(&given.at, what, fix);
    }
    AppId::new(text)
}

fn apns(raw: RawApns, needs: Needs, problems: &mut Problems) -> Option<ApnsConfig> {
    let key = required(raw.key_file, &raw.at, "key_file", "the .p8 from Apple's developer site", problems);
    let key_file = key.and_then(|given| file(&given, "the .p8 from Apple's developer site", needs, problems));
    let key_id = required(raw.key_id, &raw.at, "key_id", "the 10 characters Apple shows beside the key", problems)
        .and_then(|given| ten_characters(given, "the 10 characters Apple shows beside the key", problems));
    let team_id = required(raw.team_id, &raw.at, "team_id", "the 10 characters of your membership page", problems)
        .and_then(|given| ten_characters(given, "the 10 characters of your membership page", problems));
    let topic = required(raw.topic, &raw.at, "topic", "the app's bundle id, like com.contoso.mail", problems)
        .and_then(|given| topic(given, problems));
    let environments = environments(raw.environment.as_ref(), problems);
    let url = url(raw.url, problems);
    let ca_file = raw.ca_file.map(|given| file(&given, "the CA's certificate (PEM)", needs, problems));
    Some(ApnsConfig {
        at: raw.at,
        key_file: key_file?,
        key_id: key_id?,
        team_id: team_id?,
        topic: topic?,
        environments: environments?,
        url: url?,
        ca_file: lift(ca_file)?,
    })
}

fn fcm(raw: RawFcm, needs: Needs, problems: &mut Problems) -> Option<FcmConfig> {
    let what = "the service account's JSON from the Firebase console";
    let account = required(raw.service_account_file, &raw.at, "service_account_file", what, problems);
    let service_account_file = account.and_then(|given| file(&given, what, needs, problems));
    let url = url(raw.url, problems);
    let ca_file = raw.ca_file.map(|given| file(&given, "the CA's certificate (PEM)", needs, problems));
    Some(FcmConfig { at: raw.at, service_account_file: service_account_file?, url: url?, ca_file: lift(ca_file)? })
}

/// Absent stays absent; given but wrong ends the table.
#[allow(clippy::option_option, reason = "the two layers are absent and wrong")]
fn lift<T>(given: Option<Option<T>>) -> Option<Option<T>> {
    given.map_or(Some(None), |right| right.map(Some))
}

fn required<T>(given: Option<Given<T>>, at: &str, name: &str, what: &str, problems: &mut Problems) -> Option<Given<T>> {
    if given.is_none() {
        problems.add(format!("{at}.{name}"), "is missing", format!("give {what}"));
    }
    given
}

fn file(given: &Given<PathBuf>, what: &str, needs: Needs, problems: &mut Problems) -> Option<PathBuf> {
    match needs {
        Needs::Worker | Needs::Up => existing(given, what, problems),
        // A machine that only publishes or manages need not hold the keys.
        Needs::Servers | Needs::Connections | Needs::Gateway | Needs::Tokens => Some(given.value.clone()),
    }
}

fn ten_characters(given: Given<String>, what: &str, problems: &mut Problems) -> Option<String> {
    let text = given.value;
    if text.len() == 10 && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()) {
        return Some(text);
    }
    problems.add(&given.at, format!("{text:?} is not 10 capitals and digits"), format!("give {what}"));
    None
}

/// A plain bundle id: the suffixes that Apple gives other push types (`.voip` …) would need that push type.
fn topic(given: Given<String>, problems: &mut Problems) -> Option<String> {
    const SUFFIXES: [&str; 6] =
        [".voip", ".complication", ".pushkit.fileprovider", ".location-query", ".push-type.liveactivity", ".voip-ptt"];
    let text = given.value;
    let part = |p: &str| !p.is_empty() && p.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if let Some(suffix) = SUFFIXES.iter().find(|suffix| text.ends_with(**suffix)) {
        let what = format!("{text:?} is the topic of another kind of push");
        problems.add(&given.at, what, format!("give the app's bundle id, without {suffix}"));
        return None;
    }
    if text.contains('.') && text.len() <= 155 && text.split('.').all(part) {
        return Some(text);
    }
    problems.add(&given.at, format!("{text:?} is not a bundle id"), "give the app's bundle id, like com.contoso.mail");
    None
}

fn environments(given: Option<&Given<String>>, problems: &mut Problems) -> Option<Vec<Environment>> {
    match given.map(|given| (given.value.as_str(), given)) {
        None | Some(("production", _)) => Some(vec![Environment::Production]),
        Some(("sandbox", _)) => Some(vec![Environment::Sandbox]),
        Some(("both", _)) => Some(vec![Environment::Production, Environment::Sandbox]),
        Some((text, given)) => {
            let fix = "give \"production\", \"sandbox\" (builds signed for development) or \"both\"";
            problems.add(&given.at, format!("{text:?} is none of Apple's environments"), fix);
            None
        }
    }
}

/// The provider's address instead of the real one: a simulator, or a proxy. TLS only, as the real ones.
#[allow(clippy::option_option, reason = "the two layers are absent and wrong")]
fn url(given: Option<Given<String>>, problems: &mut Problems) -> Option<Option<String>> {
    let Some(given) = given else { return Some(None) };
    let parsed = given.value.parse::<http::Uri>().ok();
    let good = |uri: &http::Uri| {
        uri.scheme_str() == Some("https") && uri.host().is_some_and(|h| !h.is_empty()) && uri.path() == "/"
    };
    if parsed.as_ref().is_some_and(good) && !given.value.contains(['@', '?']) {
        return Some(Some(given.value.trim_end_matches('/').to_owned()));
    }
    problems.add(&given.at, "is not an https address without a path", "give it like https://localhost:8443");
    None
}

fn fallback(raw: &RawFallback, problems: &mut Problems) -> Option<Fallback> {
    let mode = match raw.mode.as_ref().map(|given| (given.value.as_str(), given)) {
        None | Some(("send", _)) => Some(Mode::Send),
        Some(("observe", _)) => Some(Mode::Observe),
        Some((text, given)) => {
            let fix = "give \"send\", or \"observe\" to count toasts and send none";
            problems.add(&given.at, format!("{text:?} is not a mode"), fix);
            None
        }
    };
    let min = within(raw.min_delay_secs.as_ref(), FALLBACK_DELAY_SECS.0, WIDEST_DELAY_SECS, problems);
    let max = within(raw.max_delay_secs.as_ref(), FALLBACK_DELAY_SECS.1, WIDEST_DELAY_SECS, problems);
    let delay_secs = (min?, max?);
    if delay_secs.0 > delay_secs.1 {
        let what = format!("the shortest delay ({} s) is above the longest ({} s)", delay_secs.0, delay_secs.1);
        problems.add(&raw.at, what, "lower min_delay_secs or raise max_delay_secs");
    }
    Some(Fallback { mode: mode?, delay_secs })
}

fn events(given: Option<&Given<Vec<String>>>, problems: &mut Problems) -> TellSet {
    let mut known: Vec<&str> = Tell::ALL.into_iter().map(Tell::as_str).collect();
    known.push(USUAL_EVENTS);
    let mut set = TellSet::EMPTY;
    let Some(given) = given else { return set };
    for name in &given.value {
        match Tell::parse(name) {
            Some(tell) => set = set.with(tell),
            None if name == USUAL_EVENTS => {
                set = Tell::ALL.into_iter().filter(|tell| TellSet::usual().contains(*tell)).fold(set, TellSet::with);
            }
            None => problems.add(&given.at, format!("{name:?} is not an event"), did_you_mean(name, &known)),
        }
    }
    set
}

fn receipt_keys(raw: Vec<RawSecret>, env: &Env, needs: Needs, problems: &mut Problems) -> Vec<KeyConfig> {
    let mut keys: Vec<KeyConfig> = Vec::new();
    for raw in raw {
        let at = raw.at.clone();
        let Some(id) = required(raw.id.clone(), &at, "id", "a short name, like k1", problems) else { continue };
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if id.value.is_empty() || id.value.len() > MAX_KEY_ID_LEN || !id.value.chars().all(usable) {
            let fix = format!("give 1 to {MAX_KEY_ID_LEN} letters, digits, '-' or '_'");
            problems.add(&id.at, format!("{:?} can't be a key's id", id.value), fix);
        }
        if keys.iter().any(|key| key.id == id.value) {
            problems.add(&id.at, format!("{:?} is the id of another key too", id.value), "give each key its own id");
        }
        let source = key_source(raw, env, needs, problems);
        keys.extend(source.map(|source| KeyConfig { at, id: id.value, source }));
    }
    keys
}

pub(super) fn key_source(raw: RawSecret, env: &Env, needs: Needs, problems: &mut Problems) -> Option<KeySource> {
    let make = "give secret_file or secret_env; openssl rand -base64 32 makes a secret";
    match (raw.secret_file, raw.secret_env) {
        (Some(given), None) if needs.serves() => {
            existing(&given, "the file with the secret", problems).map(KeySource::File)
        }
        (Some(given), None) => Some(KeySource::File(given.value)),
        (None, Some(name)) => match env.get(&name.value) {
            Some(value) => Some(KeySource::Value(Secret::new(value.trim()))),
            None if !needs.serves() => None,
            None => {
                let what = format!("the environment variable {} is not set", name.value);
                problems.add(&name.at, what, "set it; openssl rand -base64 32 makes a secret");
                None
            }
        },
        (None, None) => {
            problems.add(&raw.at, "has no secret", make);
            None
        }
        (Some(_), Some(_)) => {
            problems.add(&raw.at, "has two secrets", "give either secret_file or secret_env");
            None
        }
    }
}
