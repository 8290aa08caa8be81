//! FCM's refusals: the bodies as they were captured, the words that were seen, and what scripts make of them.

use herald_simulator::{Condition, Fault, FcmRules, InvalidTokenWording, Provider, Script, SettingsChange};

use super::fcm::*;
use super::*;

const FCM_ERROR: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";

fn fcm_error(code: &str) -> Value {
    json!({ "@type": FCM_ERROR, "errorCode": code })
}

fn violation(field: &str, description: &str) -> Value {
    json!({ "@type": BAD_REQUEST, "fieldViolations": [{ "field": field, "description": description }] })
}

fn error(code: u16, status: &str, message: &str, details: &[Value]) -> Value {
    let mut error = json!({ "code": code, "message": message, "status": status });
    if !details.is_empty() {
        error["details"] = details.into();
    }
    json!({ "error": error })
}

/// A phone, a client with an access token, and what FCM answers to a body.
struct Sender {
    simulator: Simulator,
    client: Client,
    access: String,
    token: String,
}

impl Sender {
    async fn start() -> Self {
        let simulator = start().await;
        let token = android(&simulator, "bert");
        let client = client(&simulator);
        let access = access_token(&simulator, &client, MAIL).await;
        Self { simulator, client, access, token }
    }

    fn request(&self, body: String) -> reqwest::RequestBuilder {
        send(&self.simulator, &self.client, &self.access, &Value::Null).body(body)
    }

    async fn answer(&self, message: &Value) -> (u16, Value) {
        let response = self.request(json!({ "message": message }).to_string()).send().await.unwrap();
        (response.status().as_u16(), json_of(response).await)
    }

    fn script(&self, script: Value) {
        let script = Script { provider: Some(Provider::Fcm), ..serde_json::from_value(script).unwrap() };
        self.simulator.script(vec![script]).unwrap();
    }

    fn rules(&self, fcm: FcmRules) {
        self.simulator.set(&SettingsChange { fcm: Some(fcm), ..SettingsChange::default() });
    }

    fn received(&self) -> u64 {
        self.simulator.phone("bert").unwrap().tally.received
    }
}

#[tokio::test]
async fn the_captured_refusals_are_answered_to_the_letter() {
    let sender = Sender::start().await;
    let foreign = PhoneSpec::new(CHAT, Platform::Android);
    let foreign = sender.simulator.add_phone("other app", &foreign).unwrap().token;
    let gone = PhoneSpec { condition: Condition::Uninstalled, ..PhoneSpec::new(MAIL, Platform::Android) };
    let gone = sender.simulator.add_phone("gone", &gone).unwrap().token;
    let general = "Request contains an invalid argument.";
    let nobody = "Recipient of the message is not set.";
    let not_found = error(404, "NOT_FOUND", "Requested entity was not found.", &[fcm_error("UNREGISTERED")]);
    let mismatch = error(403, "PERMISSION_DENIED", "SenderId mismatch", &[fcm_error("SENDER_ID_MISMATCH")]);
    let invalid = fcm_error("INVALID_ARGUMENT");
    for (message, refusal) in [
        (json!({ "token": gone }), not_found.clone()),
        (json!({ "token": "never-was-one" }), not_found),
        (json!({ "token": foreign }), mismatch),
        (
            json!({ "token": "no token" }),
            error(
                400,
                "INVALID_ARGUMENT",
                general,
                &[invalid.clone(), violation("message.token", "Invalid registration token")],
            ),
        ),
        (json!({}), error(400, "INVALID_ARGUMENT", nobody, &[violation("message", nobody), invalid.clone()])),
        (
            json!({ "token": sender.token, "data": { "k": "x".repeat(4096) } }),
            error(400, "INVALID_ARGUMENT", general, &[]),
        ),
    ] {
        let (status, body) = sender.answer(&message).await;
        assert_eq!((&body, u64::from(status)), (&refusal, refusal["error"]["code"].as_u64().unwrap()));
        // A dry run is refused in the same words.
        let dry_run = json!({ "validate_only": true, "message": message }).to_string();
        assert_eq!(json_of(sender.request(dry_run).send().await.unwrap()).await, refusal);
    }
}

#[tokio::test]
async fn an_invalid_token_is_refused_in_both_wordings_and_the_details_come_in_both_orders() {
    let sender = Sender::start().await;
    let bad = json!({ "token": "no token" });
    let code = fcm_error("INVALID_ARGUMENT");
    let field = violation("message.token", "Invalid registration token");
    let general = "Request contains an invalid argument.";
    let sentence = "The registration token is not a valid FCM registration token";
    let rules = |invalid_token_wording, details_reversed| FcmRules {
        invalid_token_wording,
        details_reversed,
        ..FcmRules::default()
    };
    for (rules, message, details) in [
        (rules(InvalidTokenWording::Violation, false), general, vec![code.clone(), field.clone()]),
        (rules(InvalidTokenWording::Violation, true), general, vec![field.clone(), code.clone()]),
        (rules(InvalidTokenWording::Sentence, false), sentence, vec![code.clone()]),
        (rules(InvalidTokenWording::Sentence, true), sentence, vec![code.clone()]),
    ] {
        sender.rules(rules);
        assert_eq!(sender.answer(&bad).await, (400, error(400, "INVALID_ARGUMENT", message, &details)));
    }
    // The rules are replaced as a whole.
    sender.rules(FcmRules { details_reversed: true, ..FcmRules::default() });
    assert_eq!(sender.answer(&bad).await.1["error"]["message"], general);
    let (_, body) = sender.answer(&json!({})).await;
    assert_eq!(body["error"]["details"][0], code, "the other way round than captured");
}

#[tokio::test]
async fn each_field_of_a_message_is_checked_and_a_fault_is_named_by_its_place() {
    let sender = Sender::start().await;
    let with = |field: &str, value: Value| json!({ "message": { "token": sender.token, field: value } });
    let android = |field: &str, value: Value| with("android", json!({ field: value }));
    let data = |key: &str| with("data", json!({ key: "x" }));
    let dry = |flag: Value| json!({ "message": { "token": sender.token }, "validate_only": flag });
    // What is no matter of schema has an FcmError and no place.
    let (taken, fcm_error) = (Some("taken"), None);
    for (body, place) in [
        (data("collapse_key"), taken),
        (data(""), fcm_error),
        (data("from"), fcm_error),
        (data("message_type"), fcm_error),
        (data("google"), fcm_error),
        (data("google.sent_time"), fcm_error),
        (data("gcm"), fcm_error),
        (data("gcm.notification.title"), fcm_error),
        (android("data", json!({ "from": "x" })), fcm_error),
        (with("data", json!({ "a": "b", "n": 1 })), Some("message.data[1].value")),
        (with("data", json!({ "b": true })), Some("message.data[0].value")),
        (with("data", json!({ "o": {} })), Some("message.data[0].value")),
        (android("ttl", json!("0s")), taken),
        (android("ttl", json!("3.5s")), taken),
        (android("ttl", json!("2419200s")), taken),
        (android("ttl", json!("2419201s")), Some("message.android.ttl")),
        (android("ttl", json!("-1s")), Some("message.android.ttl")),
        (android("ttl", json!("60")), Some("message.android.ttl")),
        (android("ttl", json!("1m")), Some("message.android.ttl")),
        (android("ttl", json!(60)), Some("message.android.ttl")),
        (android("priority", json!("HIGH")), taken),
        (android("priority", json!("normal")), taken),
        (android("priority", json!("urgent")), Some("message.android.priority")),
        (android("collapse_key", json!("a")), taken),
        (android("collapseKey", json!("a")), taken),
        (android("collapsekey", json!("a")), Some("message.android")),
        (with("topic", json!("t")), Some("message.topic")),
        (with("apns", json!({ "headers": { "apns-priority": "5" } })), taken),
        (dry(json!(true)), taken),
        (dry(json!("true")), Some("validate_only")),
        (json!({ "message": { "token": sender.token }, "validateOnly": true }), taken),
        (json!({ "messages": {} }), Some("")),
    ] {
        let response = sender.request(body.to_string()).send().await.unwrap();
        let status = response.status().as_u16();
        let answer = json_of(response).await;
        assert_eq!(status, if place == taken { 200 } else { 400 }, "{body}: {answer}");
        if place == fcm_error {
            assert_eq!(error_code(&answer), Some("INVALID_ARGUMENT"), "{body}: {answer}");
        } else if place != taken {
            let detail = &answer["error"]["details"][0];
            assert_eq!(
                (detail["fieldViolations"][0]["field"].as_str(), error_code(&answer)),
                (place, None),
                "{answer}"
            );
        }
    }
    let response = sender.request("{\"message\":".to_owned()).send().await.unwrap();
    assert_eq!(response.status(), 400);
}

#[tokio::test]
async fn an_error_code_alone_brings_googles_status_and_words() {
    let sender = Sender::start().await;
    let message = raw_message(&sender.token, "n");
    for (code, status, name, words) in [
        ("INVALID_ARGUMENT", 400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
        ("THIRD_PARTY_AUTH_ERROR", 401, "UNAUTHENTICATED", "Auth error from APNS or Web Push Service"),
        ("SENDER_ID_MISMATCH", 403, "PERMISSION_DENIED", "SenderId mismatch"),
        ("UNREGISTERED", 404, "NOT_FOUND", "Requested entity was not found."),
        ("QUOTA_EXCEEDED", 429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
        ("INTERNAL", 500, "INTERNAL", "Internal error encountered."),
        ("UNAVAILABLE", 503, "UNAVAILABLE", "The service is currently unavailable."),
        // Nobody's.
        ("SOMETHING_NEW", 400, "INVALID_ARGUMENT", "scripted"),
    ] {
        sender.script(json!({ "errorCode": code }));
        assert_eq!(sender.answer(&message).await, (status, error(status, name, words, &[fcm_error(code)])));
        assert_eq!(sender.simulator.counters().refused["fcm"][code], 1);
    }
    // A status and words of its own win.
    sender.script(json!({ "errorCode": "UNREGISTERED", "status": 410, "reason": "Gone." }));
    assert_eq!(sender.answer(&message).await, (410, error(410, "UNKNOWN", "Gone.", &[fcm_error("UNREGISTERED")])));
    assert_eq!(sender.received(), 0);
}

#[tokio::test]
async fn troubles_of_the_server_are_answered_as_they_are_scripted() {
    let sender = Sender::start().await;
    let html = "<!DOCTYPE html>\n<title>Error 502 (Server Error)!!1</title>\nPlease try again in 30 seconds.\n";
    let truncated = r#"{"error":{"code":503,"message":"The serv"#;
    let date = "Fri, 13 Nov 2026 10:00:00 GMT";
    let unavailable =
        error(503, "UNAVAILABLE", "The service is currently unavailable.", &[fcm_error("UNAVAILABLE")]).to_string();
    let internal = error(500, "INTERNAL", "Internal error encountered.", &[fcm_error("INTERNAL")]).to_string();
    let page = json!({ "status": 502, "body": html, "headers": { "content-type": "text/html" } });
    for (script, status, retry_after, body) in [
        (json!({ "errorCode": "INTERNAL" }), 500, None, &*internal),
        (json!({ "errorCode": "UNAVAILABLE" }), 503, None, &*unavailable),
        (json!({ "errorCode": "UNAVAILABLE", "headers": { "retry-after": "30" } }), 503, Some("30"), &*unavailable),
        (json!({ "errorCode": "UNAVAILABLE", "headers": { "retry-after": date } }), 503, Some(date), &*unavailable),
        (page, 502, None, html),
        (json!({ "status": 503, "body": truncated }), 503, None, truncated),
        (json!({ "status": 500, "body": "" }), 500, None, ""),
        (json!({ "status": 200, "body": "{}" }), 200, None, "{}"),
    ] {
        sender.script(script.clone());
        let response =
            sender.request(json!({ "message": { "token": sender.token } }).to_string()).send().await.unwrap();
        assert_eq!(response.status(), status, "{script}");
        let asked = response.headers().get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!(asked, retry_after, "{script}");
        assert_eq!(response.text().await.unwrap(), body, "{script}");
    }
    assert_eq!(sender.received(), 0);
}

#[tokio::test]
async fn a_message_whose_answer_gets_lost_was_processed() {
    let sender = Sender::start().await;
    let body = |id: &str| json!({ "message": raw_message(&sender.token, id) }).to_string();
    for (script, id) in [
        (Script { fault: Some(Fault::Close), ..Script::default() }, "closed"),
        (Script { fault: Some(Fault::Reset), ..Script::default() }, "reset"),
        (Script { fault: Some(Fault::Hang), ..Script::default() }, "silent"),
        (Script { error_code: Some("INTERNAL".to_owned()), delay_ms: 600_000, ..Script::default() }, "late"),
    ] {
        let script = Script { provider: Some(Provider::Fcm), process: true, ..script };
        sender.simulator.script(vec![script]).unwrap();
        sender.request(body(id)).timeout(Duration::from_millis(200)).send().await.unwrap_err();
        assert_eq!(sender.simulator.phone("bert").unwrap().notifications[id].raws_delivered, 1, "{id}");
    }
    // What FCM refuses on its merits is refused, whatever becomes of answers.
    sender.script(json!({ "process": true, "fault": "close" }));
    assert_eq!(sender.answer(&json!({ "token": "never-was-one" })).await.0, 404);
}

#[tokio::test]
async fn the_legacy_api_is_gone_and_another_project_is_a_page_of_html() {
    let sender = Sender::start().await;
    let legacy = json!({ "to": sender.token, "data": { "k": "v" } }).to_string();
    let wrong_project = json!({ "message": { "token": sender.token } }).to_string();
    for (path, authorization, body) in [
        ("/fcm/send", "key=AAAA".to_owned(), legacy),
        ("/batch", format!("Bearer {}", sender.access), String::new()),
        ("/v1/projects/unknown/messages:send", format!("Bearer {}", sender.access), wrong_project.clone()),
        ("/v1/projects/contoso-mail/messages", format!("Bearer {}", sender.access), wrong_project),
    ] {
        let url = format!("{}{path}", sender.simulator.fcm_url());
        let response = sender.client.post(url).header("authorization", authorization).body(body).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"), "{path}");
        assert!(response.text().await.unwrap().contains("Error 404"), "{path}");
    }
    assert_eq!((sender.received(), sender.simulator.counters().refused["fcm"]["NO_SUCH_PAGE"]), (0, 4));
}
