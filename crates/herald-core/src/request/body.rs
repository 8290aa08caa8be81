//! Writing a request again, as a producer might have written it: for a dead letter of what only the store still has.
//!
//! Off the way. [`super::parse`] reads what it writes as the same request, but for what came in the envelope.

use serde_json::{Map, Value, json};

use super::{Request, Target};
use crate::notification::Visual;

/// The body of a request. The key and the trace context belong into its envelope.
pub fn body_of(request: &Request) -> Vec<u8> {
    let content = &request.content;
    let mut body = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    set("target", Some(target(&request.target)));
    set("targetHostName", Some(request.app.as_str().into()));
    set("appNotificationId", content.app_notification_id.as_deref().map(Value::from));
    set("groupName", content.group_name.as_deref().map(Value::from));
    set("priority", Some(json!(content.priority)));
    set("expirationDateTime", Some(request.expires_at.to_rfc3339().into()));
    set("deliverAt", request.deliver_at.map(|at| at.to_rfc3339().into()));
    set("displayTimeToLive", content.display_ttl.map(Value::from));
    let mut payload = Map::new();
    if let Some(raw) = &content.payload.raw {
        payload.insert("rawContent".to_owned(), raw.as_str().into());
    }
    if let Some(shown) = &content.payload.visual {
        payload.insert("visualContent".to_owned(), visual(shown));
    }
    set("payload", Some(payload.into()));
    set("targetPolicy", Some(json!({ "platformTypes": content.target_policy })));
    let fallback = content.fallback.as_ref().map(|policy| {
        json!({ "endpointFallback": {
            "platformTypes": policy.platforms,
            "fallbackDelayInSeconds": policy.delay.as_secs(),
            "visualContent": visual(&policy.visual),
        } })
    });
    set("fallbackPolicy", fallback);
    Value::Object(body).to_string().into_bytes()
}

fn target(target: &Target) -> Value {
    match target {
        Target::Unsid(unsid) => json!({ "userNotificationSubscriptionId": unsid.0 }),
        Target::User(user) => json!({ "userId": user.as_str() }),
    }
}

fn visual(visual: &Visual) -> Value {
    match &visual.body {
        Some(body) => json!({ "title": visual.title, "body": body }),
        None => json!({ "title": visual.title }),
    }
}
