//! The control interface over HTTP.

use super::*;

async fn call(simulator: &Simulator, method: &str, path: &str, body: Value) -> (u16, Value) {
    let url = format!("{}{path}", simulator.control_url());
    let request = Client::new().request(method.parse().unwrap(), url).timeout(LIMIT);
    let request = if body.is_null() { request } else { request.json(&body) };
    let response = request.send().await.unwrap();
    (response.status().as_u16(), json_of(response).await)
}

#[tokio::test]
async fn phones_are_made_looked_at_changed_and_removed() {
    let simulator = start().await;
    let spec = json!({ "app": MAIL, "platform": "ios", "token": "ABCD", "ackDelayMs": 5, "condition": "powerSaving" });
    let (status, phone) = call(&simulator, "PUT", "/phones/anna", spec).await;
    assert_eq!((status, &phone["token"], &phone["condition"]), (200, &json!("abcd"), &json!("powerSaving")));
    let (_, phones) = call(&simulator, "GET", "/phones", Value::Null).await;
    assert_eq!(phones.as_array().unwrap().len(), 1);
    let (_, phone) = call(&simulator, "PATCH", "/phones/anna", json!({ "condition": "uninstalled" })).await;
    assert_eq!(phone["condition"], "uninstalled");
    let (_, phone) = call(&simulator, "GET", "/phones/anna", Value::Null).await;
    assert_eq!(
        (&phone["rawsDelivered"], &phone["onScreen"], &phone["receiptsSent"]),
        (&json!(0), &json!(0), &json!(0))
    );
    assert_eq!(call(&simulator, "DELETE", "/phones/anna", Value::Null).await.0, 200);
    assert_eq!(call(&simulator, "GET", "/phones/anna", Value::Null).await.0, 404);
}

#[tokio::test]
async fn mistakes_are_named() {
    let simulator = start().await;
    for (method, path, body, status, named) in [
        ("PUT", "/phones/anna", json!({ "app": "nobody", "platform": "ios" }), 400, "nobody"),
        ("PUT", "/phones/anna", json!({ "app": MAIL, "platform": "ios", "tokn": "x" }), 400, "tokn"),
        ("PUT", "/phones/anna", json!({ "app": MAIL, "platform": "ios", "token": "x" }), 400, "hexadecimal"),
        ("PATCH", "/phones/anna", json!({}), 404, "anna"),
        ("POST", "/script", json!({ "status": 9 }), 400, "status"),
        ("POST", "/script", json!([{ "fault": "shout" }]), 400, "shout"),
        ("GET", "/nothing", Value::Null, 404, "/nothing"),
    ] {
        let (answered, error) = call(&simulator, method, path, body).await;
        assert_eq!(answered, status, "{error}");
        assert!(error["error"].as_str().unwrap().contains(named), "{error}");
    }
}

#[tokio::test]
async fn scripts_journal_counters_settings_and_reset_work_from_outside() {
    let simulator = start().await;
    assert_eq!(call(&simulator, "GET", "/healthz", Value::Null).await.1, json!({ "status": "ok" }));
    let token = iphone(&simulator, "anna").token;
    let script = json!([{ "phone": "anna", "status": 503, "reason": "Shutdown", "delayMs": 1 }]);
    assert_eq!(call(&simulator, "POST", "/script", script).await.1, json!({ "waiting": 1 }));
    let client = client(&simulator);
    let request = raw_push(&simulator, &client, &token, "n");
    assert_eq!(request.send().await.unwrap().status(), 503);
    let request = raw_push(&simulator, &client, &token, "n");
    assert_eq!(request.send().await.unwrap().status(), 200);

    let (_, journal) = call(&simulator, "GET", "/journal?phone=anna", Value::Null).await;
    let entries = journal.as_array().unwrap();
    assert_eq!(entries.len(), 2);
    let (refused, taken) = (&entries[0], &entries[1]);
    assert_eq!(
        (&refused["status"], &refused["reason"], &refused["scripted"]),
        (&json!(503), &json!("Shutdown"), &json!(true))
    );
    assert_eq!((&taken["status"], &taken["phone"], &taken["provider"]), (&json!(200), &json!("anna"), &json!("apns")));
    assert_eq!(taken["body"]["herald"]["notificationId"], "n");
    assert_eq!(taken["headers"]["authorization"], "…");
    assert_eq!(taken["tokenTail"], token[token.len() - 6..]);
    assert!(!journal.to_string().contains(&token));
    let (_, newest) = call(&simulator, "GET", "/journal?limit=1", Value::Null).await;
    assert_eq!(newest.as_array().unwrap().len(), 1);

    let (_, counters) = call(&simulator, "GET", "/counters", Value::Null).await;
    assert_eq!(
        (&counters["accepted"]["apns"]["background"], &counters["refused"]["apns"]["Shutdown"]),
        (&json!(1), &json!(1))
    );
    let (_, settings) = call(&simulator, "PUT", "/settings", json!({ "delayMs": 3, "clockOffsetSecs": 9 })).await;
    assert_eq!(
        (&settings["delayMs"], &settings["clockOffsetSecs"], &settings["strict"]),
        (&json!(3), &json!(9), &json!(true))
    );

    assert_eq!(call(&simulator, "POST", "/reset", Value::Null).await.0, 200);
    assert!(simulator.phones().is_empty() && simulator.journal().is_empty());
    assert_eq!(simulator.counters().accepted.len(), 0);
    assert_eq!(call(&simulator, "GET", "/settings", Value::Null).await.1["delayMs"], 0);
}
