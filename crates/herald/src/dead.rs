//! `herald dead`: dead letters, work that could not be done, and why.
//!
//! Shows reasons, never bodies: they hold content.

use herald_store::DeadLetter;
use serde_json::{Value, json};

use crate::cli::DeadCommand;
use crate::config::Config;
use crate::connect::Role;
use crate::{connect, out};

/// Lists.
///
/// # Errors
/// [`crate::failure::Failure::Usage`] without a store URL; as any call of the store.
pub(crate) async fn run(config: &Config, command: DeadCommand) -> anyhow::Result<()> {
    let DeadCommand::List { limit, json } = command;
    let store = connect::ready_store(config, Role::Other).await?;
    let count = store.dead_count().await.map_err(connect::store_failure)?;
    let latest = store.dead_list(i64::from(limit), None).await.map_err(connect::store_failure)?;
    if json {
        let latest: Vec<Value> = latest.iter().map(value).collect();
        return Ok(out::json(&json!({"count": count, "latest": latest}))?);
    }
    out::line(match count {
        0 => "no dead letters".to_owned(),
        count => format!("dead letters: {count}; the latest {}:", latest.len()),
    })?;
    for letter in &latest {
        out::line(line(letter))?;
    }
    Ok(())
}

fn line(letter: &DeadLetter) -> String {
    let app = letter.app.as_ref().map_or("-", |app| app.as_str());
    let field = if letter.field.is_empty() { String::new() } else { format!(" {}", letter.field) };
    let (at, code, queue) = (letter.parked_at, &letter.reason_code, &letter.source_queue);
    format!("{at}  {app}  {queue}  {code}:{field} {}; {}", letter.problem, letter.fix)
}

fn value(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "parkedAt": letter.parked_at,
        "app": letter.app,
        "queue": letter.source_queue,
        "messageId": letter.message_id,
        "reason": letter.reason_code,
        "field": letter.field,
        "problem": letter.problem,
        "fix": letter.fix,
        "bytes": letter.body.len(),
    })
}

#[cfg(test)]
mod tests {
    use herald_core::ids::AppId;
    use herald_core::time::Timestamp;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_dead_letter_shows_its_reason_and_never_its_body() {
        let letter = DeadLetter {
            id: Uuid::nil(),
            source_queue: "herald.requests.high".to_owned(),
            reason_code: "invalidRequest".to_owned(),
            field: "target".to_owned(),
            problem: "is missing".to_owned(),
            fix: "set it".to_owned(),
            app: Some(AppId::new("mail.contoso.com")),
            message_id: None,
            headers: "{}".to_owned(),
            body: b"secret content".to_vec(),
            parked_at: Timestamp::from_secs(0),
        };
        let text = line(&letter);
        assert_eq!(
            text,
            "1970-01-01T00:00:00Z  mail.contoso.com  herald.requests.high  invalidRequest: target is missing; set it"
        );
        assert!(!value(&letter).to_string().contains("secret"));
        assert_eq!(value(&letter)["bytes"], 14);
    }
}
