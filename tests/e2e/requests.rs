//! The bodies that tests publish, as a producer would write them.

use serde_json::{Value, json};

/// Silent data for all devices of a user; High, so that a fallback can be owed.
pub(crate) fn raw(app: &str, user: &str) -> Value {
    json!({
        "targetHostName": app,
        "target": { "userId": user },
        "priority": "High",
        "payload": { "rawContent": "{\"order\":1042}" },
    })
}

/// The same, with a toast after so many seconds without a receipt.
pub(crate) fn with_fallback(app: &str, user: &str, secs: u32) -> Value {
    let mut body = raw(app, user);
    body["fallbackPolicy"] = json!({ "endpointFallback": {
        "platformTypes": ["iOS"],
        "fallbackDelayInSeconds": secs,
        "visualContent": { "title": "Order shipped", "body": "Arrives Tuesday" },
    }});
    body
}
