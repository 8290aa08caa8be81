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
        ("POST", "/script", json!({ "percent": 101 }), 400, "percent"),
        ("POST", "/script", json!({ "delay": { "uniformMs": [2, 1] } }), 400, "uniformMs"),
        ("PUT", "/settings", json!({ "delay": { "percentiles": {} } }), 400, "percentiles"),
        ("PUT", "/settings", json!({ "apns": { "deviceRate": { "burst": 0, "refillSecs": 1 } } }), 400, "burst"),
        ("PUT", "/settings", json!({ "apns": { "bust": 0 } }), 400, "bust"),
        ("POST", "/outages", json!({ "provider": "apns", "mode": "close", "topic": "x" }), 400, "topic"),
        ("POST", "/outages", json!({ "provider": "apns", "mode": "sulk" }), 400, "sulk"),
        ("DELETE", "/outages?provider=wns", Value::Null, 400, "wns"),
        ("POST", "/keys", json!({ "app": "nobody" }), 400, "nobody"),
        ("PATCH", "/keys/NONE", json!({}), 404, "NONE"),
        ("PUT", "/apps/nobody/topics/com.x", Value::Null, 400, "nobody"),
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

#[tokio::test]
async fn an_operator_s_calls_work_from_outside() {
    let simulator = start().await;
    let outage = json!({ "provider": "apns", "mode": "unavailable", "retryAfterSecs": 3, "forMs": 600_000 });
    let (_, running) = call(&simulator, "POST", "/outages", outage).await;
    assert_eq!((&running[0]["mode"], &running[0]["retryAfterSecs"]), (&json!("unavailable"), &json!(3)));
    let token = iphone(&simulator, "anna").token;
    let client = client(&simulator);
    assert_eq!(raw_push(&simulator, &client, &token, "n").send().await.unwrap().status(), 503);
    assert_eq!(call(&simulator, "DELETE", "/outages?provider=apns", Value::Null).await.1, json!([]));
    assert_eq!(raw_push(&simulator, &client, &token, "n").send().await.unwrap().status(), 200);
    assert_eq!(call(&simulator, "DELETE", "/connections?provider=apns&how=goaway", Value::Null).await.0, 200);
    assert_eq!(raw_push(&simulator, &client, &token, "n").send().await.unwrap().status(), 200);
    assert_eq!(simulator.counters().connections["apns"], 2);

    let spec = json!({ "app": MAIL, "topics": [MAIL_TOPIC], "environments": ["production"] });
    let (_, key) = call(&simulator, "POST", "/keys", spec).await;
    assert!(key["privateKey"].as_str().unwrap().contains("PRIVATE KEY"));
    let path = format!("/keys/{}", key["keyId"].as_str().unwrap());
    assert_eq!(call(&simulator, "PATCH", &path, json!({ "revoked": true })).await.1["revoked"], true);
    let (_, keys) = call(&simulator, "GET", "/keys", Value::Null).await;
    assert_eq!(keys.as_array().unwrap().len(), 3);
    assert!(!keys.to_string().contains("PRIVATE"));
    assert_eq!(call(&simulator, "PUT", &format!("/apps/{MAIL}/topics/com.x"), Value::Null).await.0, 200);

    let apns = json!({ "mismatch": { "delayMs": 5 }, "storm": { "perMinute": 9, "refuseMs": 1 }, "idleCloseMs": 7 });
    let (_, settings) = call(&simulator, "PUT", "/settings", json!({ "apns": apns, "otherCa": true })).await;
    assert_eq!((&settings["apns"]["mismatch"]["delayMs"], &settings["otherCa"]), (&json!(5), &json!(true)));
    // The rules are replaced as a whole.
    let (_, settings) = call(&simulator, "PUT", "/settings", json!({ "apns": { "mismatch": "drop" } })).await;
    let apns = &settings["apns"];
    assert_eq!((&apns["mismatch"], &apns["storm"], &apns["idleCloseMs"]), (&json!("drop"), &Value::Null, &json!(0)));
    call(&simulator, "POST", "/reset", Value::Null).await;
    assert_eq!(call(&simulator, "GET", "/keys", Value::Null).await.1.as_array().unwrap().len(), 2);
    assert_eq!(call(&simulator, "GET", "/settings", Value::Null).await.1["otherCa"], false);
}
