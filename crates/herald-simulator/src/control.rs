//! The control interface: phones, scripts, journal, counters and settings over HTTP/1.1 and JSON.
//!
//! For tests in other processes and for people with `curl`. Only translates to the calls of [`crate::Simulator`].

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::apns::{KeyError, NewKey};
use crate::content::Content;
use crate::counters::Provider;
use crate::exchange::Response;
use crate::faults::Script;
use crate::listener::read_body;
use crate::phones::{PhoneChange, PhoneError, PhoneSpec, PhoneView};
use crate::world::{SettingsChange, World};

/// How many journal entries are given if the request doesn't say.
const JOURNAL_DEFAULT: usize = 1_000;

/// What went wrong, with its status.
type Refused = (StatusCode, String);

/// Answers one request.
pub(crate) async fn answer(world: &World, request: Request<Incoming>) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = read_body(body).await else {
        return respond(StatusCode::BAD_REQUEST, &json!({ "error": "the body is too long, or broke off" }));
    };
    let path = parts.uri.path().trim_end_matches('/');
    match call(world, &parts.method, path, parts.uri.query().unwrap_or_default(), &body) {
        Ok(value) => respond(StatusCode::OK, &value),
        Err((status, error)) => respond(status, &json!({ "error": error })),
    }
}

fn respond(status: StatusCode, value: &Value) -> Response {
    let mut response = http::Response::new(Content::new(value.to_string().into(), None));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn call(world: &World, method: &Method, path: &str, query: &str, body: &[u8]) -> Result<Value, Refused> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match (method.as_str(), segments.as_slice()) {
        ("GET", ["healthz"]) => Ok(json!({ "status": "ok" })),
        ("GET", ["phones"]) => shown(&world.phones.all().iter().map(|phone| phone.view()).collect::<Vec<_>>()),
        ("GET", ["phones", name]) => match world.phones.named(name) {
            Some(phone) => shown(&phone.view()),
            None => Err(refused(&PhoneError::NoSuchPhone((*name).to_owned()))),
        },
        ("PUT", ["phones", name]) => {
            put_phone(world, name, &parse(body)?).map_err(|e| refused(&e)).and_then(|v| shown(&v))
        }
        ("PATCH", ["phones", name]) => {
            change_phone(world, name, &parse(body)?).map_err(|e| refused(&e)).and_then(|v| shown(&v))
        }
        ("DELETE", ["phones", name]) => {
            let existed = world.phones.remove(name);
            world.changed();
            Ok(json!({ "removed": existed }))
        }
        ("GET", ["script"]) => shown(&world.faults.waiting()),
        ("POST", ["script"]) => {
            world.faults.add(scripts(body)?).map_err(bad)?;
            Ok(json!({ "waiting": world.faults.waiting().len() }))
        }
        ("DELETE", ["script"]) => {
            world.faults.clear();
            Ok(json!({ "waiting": 0 }))
        }
        ("DELETE", ["access-tokens"]) => {
            world.access_tokens.revoke();
            Ok(json!({}))
        }
        ("GET", ["journal"]) => {
            let limit = parameter(query, "limit").and_then(|limit| limit.parse().ok()).unwrap_or(JOURNAL_DEFAULT);
            shown(&world.journal.newest(limit, parameter(query, "phone")))
        }
        ("GET", ["counters"]) => shown(&world.counts()),
        ("GET", ["settings"]) => shown(&world.settings()),
        ("PUT", ["settings"]) => {
            world.set(&parse::<SettingsChange>(body)?).map_err(bad)?;
            shown(&world.settings())
        }
        ("POST", ["reset"]) => {
            world.reset();
            Ok(json!({}))
        }
        _ => operate(world, method, path, query, body),
    }
}

/// What only an operator of a provider could do: outages, connections, keys and topics.
fn operate(world: &World, method: &Method, path: &str, query: &str, body: &[u8]) -> Result<Value, Refused> {
    let provider = || match parameter(query, "provider") {
        None => Ok(None),
        Some(word) => parse::<Provider>(json!(word).to_string().as_bytes()).map(Some),
    };
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match (method.as_str(), segments.as_slice()) {
        ("GET", ["outages"]) => shown(&world.faults.outages.running()),
        ("POST", ["outages"]) => {
            world.begin_outage(parse(body)?).map_err(bad)?;
            shown(&world.faults.outages.running())
        }
        ("DELETE", ["outages"]) => {
            world.faults.outages.end(provider()?);
            shown(&world.faults.outages.running())
        }
        ("DELETE", ["connections"]) => {
            world.end_connections(provider()?, parameter(query, "how") == Some("goaway"));
            Ok(json!({}))
        }
        ("GET", ["keys"]) => shown(&world.keys.views(&world.apps)),
        ("POST", ["keys"]) => {
            let NewKey { view, pem } =
                world.keys.add(&world.apps, &parse(body)?, world.seed).map_err(|e| no_key(&e))?;
            let mut shown = shown(&view)?;
            shown["privateKey"] = pem.into();
            Ok(shown)
        }
        ("PATCH", ["keys", key_id]) => {
            world.keys.change(&world.apps, key_id, &parse(body)?).map_err(|e| no_key(&e)).and_then(|view| shown(&view))
        }
        ("GET", ["service-accounts"]) => shown(&world.accounts.views(&world.apps)),
        ("PATCH", ["service-accounts", app]) => {
            let changed = world.accounts.change(&world.apps, app, parse(body)?);
            changed.map_err(|e| no_key(&e)).and_then(|view| shown(&view))
        }
        ("PUT", ["apps", app, "topics", topic]) => {
            world.keys.add_topic(&world.apps, app, topic).map_err(|e| no_key(&e))?;
            Ok(json!({}))
        }
        _ => Err((StatusCode::NOT_FOUND, format!("no {method} {path} here; see crates/herald-simulator/README.md"))),
    }
}

fn bad(problem: &'static str) -> Refused {
    (StatusCode::BAD_REQUEST, problem.to_owned())
}

fn no_key(error: &KeyError) -> Refused {
    let status = match error {
        KeyError::NoSuchKey(_) => StatusCode::NOT_FOUND,
        KeyError::NoSuchApp(_) | KeyError::Topic(_) | KeyError::TooMany | KeyError::Made(_) => StatusCode::BAD_REQUEST,
    };
    (status, error.to_string())
}

/// Makes a phone, or replaces it.
pub(crate) fn put_phone(world: &World, name: &str, spec: &PhoneSpec) -> Result<PhoneView, PhoneError> {
    let app = world.apps.named(&spec.app).ok_or_else(|| PhoneError::NoSuchApp(spec.app.clone()))?;
    let view = world.phones.put(name, app, spec, world.seed, world.clock.millis())?;
    world.changed();
    Ok(view)
}

/// Changes a phone, and lets its app send what it can send now.
pub(crate) fn change_phone(world: &World, name: &str, change: &PhoneChange) -> Result<PhoneView, PhoneError> {
    let (handset, receipts) = world.phones.change(name, change, world.seed, world.clock.millis())?;
    for receipt in receipts {
        world.acknowledge(&handset, receipt);
    }
    world.changed();
    Ok(handset.view())
}

fn refused(error: &PhoneError) -> Refused {
    let status = match error {
        PhoneError::NoSuchPhone(_) => StatusCode::NOT_FOUND,
        PhoneError::NoSuchApp(_) | PhoneError::Token(_) | PhoneError::Rules(_) | PhoneError::TooMany => {
            StatusCode::BAD_REQUEST
        }
    };
    (status, error.to_string())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

/// One script, or a list of them.
fn scripts(body: &[u8]) -> Result<Vec<Script>, Refused> {
    if body.trim_ascii_start().starts_with(b"[") { parse(body) } else { parse(body).map(|script| vec![script]) }
}

fn shown<T: Serialize>(value: &T) -> Result<Value, Refused> {
    serde_json::to_value(value).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}
