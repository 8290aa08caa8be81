//! `herald dead list` and `show`: why work was parked. What it holds is shown only when asked for by name.

use herald_store::{DeadEntry, DeadLetter, DeadPage, Store};
use serde_json::{Value, json};
use uuid::Uuid;

use super::args::{ListArgs, ShowArgs};
use super::choose::{by_ids, filter};
use crate::config::Config;
use crate::connect::Role;
use crate::out::printable;
use crate::{connect, out};

/// Lists, newest first.
///
/// # Errors
/// A report that names unknown ids; as any call of the store.
pub(super) async fn list(config: &Config, args: &ListArgs) -> anyhow::Result<()> {
    let store = connect::ready_store(config, Role::Other).await?;
    let (count, latest) = if args.which.ids.is_empty() {
        let filter = filter(&args.which, store.clock().now());
        let after = match args.after {
            Some(id) => Some(find(&store, id).await?.entry().key),
            None => None,
        };
        let count = store.dead_matching(&filter).await.map_err(connect::store_failure)?;
        let page = DeadPage::NewestBefore(after);
        (count, store.dead_page(&filter, page, i64::from(args.limit)).await.map_err(connect::store_failure)?)
    } else {
        let named = by_ids(&store, &args.which).await?;
        (named.len() as u64, named)
    };
    if args.json {
        let latest: Vec<Value> = latest.iter().map(value).collect();
        return Ok(out::json(&json!({ "count": count, "latest": latest }))?);
    }
    out::line(match (count, args.after) {
        (0, _) => "no dead letters".to_owned(),
        (count, None) => format!("dead letters: {count}; the latest {}:", latest.len()),
        (count, Some(after)) => format!("dead letters: {count}; {} after {after}:", latest.len()),
    })?;
    for entry in &latest {
        out::line(line(entry))?;
    }
    match latest.last() {
        Some(last) if latest.len() as u64 == u64::from(args.limit) && count > latest.len() as u64 => {
            Ok(out::line(format!("the next ones: --after {}", last.key.id))?)
        }
        _ => Ok(()),
    }
}

/// Shows one.
///
/// # Errors
/// A report for an unknown id; as any call of the store.
pub(super) async fn show(config: &Config, args: &ShowArgs) -> anyhow::Result<()> {
    let store = connect::ready_store(config, Role::Other).await?;
    let letter = find(&store, args.id).await?;
    let mut shown = whole(&letter);
    if args.body {
        shown["body"] = String::from_utf8_lossy(&letter.body).into();
    }
    if args.json {
        return Ok(out::json(&shown)?);
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), printable);
    for name in ["id", "parkedAt", "app", "queue", "messageId", "reason", "field", "problem", "fix", "bytes"] {
        let value = if shown[name].is_null() { "-".to_owned() } else { text(&shown[name]) };
        out::line(format!("{name:<10} {value}").trim_end())?;
    }
    for (name, value) in shown["properties"].as_object().into_iter().flatten() {
        match value.as_object() {
            Some(headers) => {
                for (header, value) in headers {
                    out::line(format!("header     {}: {}", printable(header), text(value)))?;
                }
            }
            None => out::line(format!("property   {name}: {}", text(value)))?,
        }
    }
    if args.body {
        out::line("")?;
        out::line(shown["body"].as_str().unwrap_or_default())?;
    }
    Ok(())
}

async fn find(store: &Store, id: Uuid) -> anyhow::Result<DeadLetter> {
    let found = store.dead_letter(id).await.map_err(connect::store_failure)?;
    found.ok_or_else(|| anyhow::anyhow!("{id}: no dead letter has this id; `herald dead list` shows them"))
}

fn line(entry: &DeadEntry) -> String {
    let app = entry.app.as_ref().map_or("-", |app| app.as_str());
    let field = if entry.field.is_empty() { String::new() } else { format!(" {}", entry.field) };
    let (id, at, code, queue) = (entry.key.id, entry.key.parked_at, &entry.reason_code, &entry.source_queue);
    format!("{id}  {at}  {app}  {queue}  {code}:{field} {}; {}", entry.problem, entry.fix)
}

fn value(entry: &DeadEntry) -> Value {
    json!({
        "id": entry.key.id,
        "parkedAt": entry.key.parked_at,
        "app": entry.app,
        "queue": entry.source_queue,
        "messageId": entry.message_id,
        "reason": entry.reason_code,
        "field": entry.field,
        "problem": entry.problem,
        "fix": entry.fix,
        "bytes": entry.body_bytes,
    })
}

/// The same with properties and headers.
fn whole(letter: &DeadLetter) -> Value {
    let mut shown = value(&letter.entry());
    shown["properties"] = serde_json::from_str(&letter.headers).unwrap_or(Value::Null);
    shown
}

#[cfg(test)]
mod tests {
    use herald_core::ids::AppId;
    use herald_core::time::Timestamp;

    use super::*;

    #[test]
    fn a_dead_letter_shows_its_reason_and_never_its_body() {
        let letter = DeadLetter {
            id: Uuid::nil(),
            source_queue: "herald.requests.high".to_owned(),
            reason_code: "invalid_request".to_owned(),
            field: "target".to_owned(),
            problem: "is missing".to_owned(),
            fix: "set it".to_owned(),
            app: Some(AppId::new("mail.contoso.com")),
            message_id: None,
            headers: r#"{"type":"t"}"#.to_owned(),
            body: b"secret content".to_vec(),
            parked_at: Timestamp::from_secs(0),
        };
        assert_eq!(
            line(&letter.entry()),
            "00000000-0000-0000-0000-000000000000  1970-01-01T00:00:00Z  mail.contoso.com  herald.requests.high  \
             invalid_request: target is missing; set it"
        );
        let shown = whole(&letter);
        assert!(!shown.to_string().contains("secret"));
        assert_eq!((&shown["bytes"], &shown["properties"]["type"]), (&json!(14), &json!("t")));
    }
}
