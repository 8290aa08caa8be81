//! APNs' answers as scripts make them: every reason, and every way an answer can look or come.

use herald_simulator::{Delay, Script, SettingsChange};

use super::wire::{RAW, Wire, pushing, read};
use super::*;

fn script(simulator: &Simulator, script: Value) {
    simulator.script(vec![serde_json::from_value(script).unwrap()]).unwrap();
}

#[tokio::test]
async fn a_reason_alone_brings_its_status() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let wire = Wire::apns(&simulator).await;
    let table: [(u16, &[&str]); 9] = [
        (
            400,
            &[
                "BadCollapseId",
                "BadDeviceToken",
                "BadExpirationDate",
                "BadMessageId",
                "BadPriority",
                "BadTopic",
                "DeviceTokenNotForTopic",
                "DuplicateHeaders",
                "IdleTimeout",
                "InvalidPushType",
                "MissingDeviceToken",
                "MissingTopic",
                "PayloadEmpty",
                "TopicDisallowed",
                // Nobody's.
                "SomethingNew",
            ],
        ),
        (
            403,
            &[
                "BadCertificate",
                "BadCertificateEnvironment",
                "BadEnvironmentKeyIdInToken",
                "BadEnvironmentKeyInToken",
                "ExpiredProviderToken",
                "Forbidden",
                "InvalidProviderToken",
                "MissingProviderToken",
                "UnrelatedKeyIdInToken",
            ],
        ),
        (404, &["BadPath"]),
        (405, &["MethodNotAllowed"]),
        (410, &["ExpiredToken", "Unregistered"]),
        (413, &["PayloadTooLarge"]),
        (429, &["TooManyProviderTokenUpdates", "TooManyRequests"]),
        (500, &["InternalServerError"]),
        (503, &["ServiceUnavailable", "Shutdown"]),
    ];
    for (status, reasons) in table {
        for reason in reasons {
            script(&simulator, json!({ "reason": reason }));
            assert_eq!(wire.reason(pushing(&simulator, &token)).await, (status, (*reason).to_owned()));
            assert!(simulator.counters().refused["apns"].contains_key(*reason));
        }
    }
    // A status of its own wins.
    script(&simulator, json!({ "reason": "SomethingNew", "status": 418 }));
    assert_eq!(wire.reason(pushing(&simulator, &token)).await, (418, "SomethingNew".to_owned()));
    assert_eq!(simulator.phone("anna").unwrap().tally.received, 0);
}

#[tokio::test]
async fn answers_that_no_table_foresees_are_sent_as_they_are_scripted() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let wire = Wire::apns(&simulator).await;
    for (scripted, status, body, content_type) in [
        (json!({ "status": 502, "body": "<html>bad</html>" }), 502, "<html>bad</html>", None),
        (
            json!({ "status": 503, "body": "x", "headers": { "content-type": "text/html" } }),
            503,
            "x",
            Some("text/html"),
        ),
        (json!({ "status": 400, "body": "" }), 400, "", None),
        (json!({ "status": 400, "body": "{\"reason\":" }), 400, "{\"reason\":", None),
        (
            json!({ "status": 400, "body": { "reason": "BadTopic", "hint": 1 } }),
            400,
            r#"{"hint":1,"reason":"BadTopic"}"#,
            Some("application/json"),
        ),
        (
            json!({ "reason": "Unregistered", "timestamp": 17 }),
            410,
            r#"{"reason":"Unregistered","timestamp":17}"#,
            Some("application/json"),
        ),
        (json!({ "reason": "Unregistered" }), 410, r#"{"reason":"Unregistered"}"#, Some("application/json")),
        (
            json!({ "reason": "BadTopic", "omitHeaders": ["content-type", "apns-id"] }),
            400,
            r#"{"reason":"BadTopic"}"#,
            None,
        ),
    ] {
        let left_out = scripted["omitHeaders"].is_array();
        script(&simulator, scripted.clone());
        let response = wire.answer(pushing(&simulator, &token), RAW).await.unwrap();
        assert_eq!(response.status(), status, "{scripted}");
        let sent = response.headers().get("content-type").map(|value| value.to_str().unwrap());
        assert_eq!(sent, content_type, "{scripted}");
        assert_eq!(response.headers().contains_key("apns-id"), !left_out, "{scripted}");
        let (frames, _) = read(response.into_body()).await;
        assert_eq!(frames.concat(), body.as_bytes(), "{scripted}");
    }
}

#[tokio::test]
async fn a_200_ends_with_its_headers_frame_unless_a_script_wants_an_empty_data_frame() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let wire = Wire::apns(&simulator).await;
    let response = wire.answer(pushing(&simulator, &token), RAW).await.unwrap();
    assert!(response.headers().contains_key("apns-id"));
    assert!(response.body().is_end_stream());

    script(&simulator, json!({ "chunks": 1, "omitHeaders": ["apns-id"] }));
    let response = wire.answer(pushing(&simulator, &token), RAW).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().contains_key("apns-id")), (200, false));
    let ended_at_once = response.body().is_end_stream();
    let (frames, _) = read(response.into_body()).await;
    assert!(!ended_at_once && frames.concat().is_empty());
    assert_eq!(simulator.phone("anna").unwrap().tally.raws_delivered, 2);
}

#[tokio::test]
async fn a_body_comes_in_pieces_slowly_and_with_trailers() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let wire = Wire::apns(&simulator).await;
    let pieces = json!({ "reason": "BadTopic", "chunks": 5, "chunkDelayMs": 10, "trailers": { "x-last": "1" } });
    script(&simulator, pieces);
    let began = tokio::time::Instant::now();
    let response = wire.answer(pushing(&simulator, &token), RAW).await.unwrap();
    let (frames, trailers) = read(response.into_body()).await;
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert_eq!((frames.len(), frames.concat()), (5, br#"{"reason":"BadTopic"}"#.to_vec()));
    assert_eq!(trailers["x-last"], "1");
}

#[tokio::test]
async fn an_answer_may_stop_after_its_headers_while_the_connection_goes_on() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let wire = Wire::apns(&simulator).await;
    script(&simulator, json!({ "stallBody": true }));
    let response = wire.answer(pushing(&simulator, &token), RAW).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let next = wire.reason(pushing(&simulator, &token));
    tokio::select! {
        biased;
        data = body.data() => panic!("the body went on: {data:?}"),
        next = next => assert_eq!(next.0, 200),
    }
    assert_eq!(simulator.phone("anna").unwrap().tally.raws_delivered, 2);
}

#[tokio::test]
async fn a_shutdown_may_be_followed_by_goaway() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let mut wire = Wire::apns(&simulator).await;
    script(&simulator, json!({ "reason": "Shutdown", "goaway": true }));
    assert_eq!(wire.reason(pushing(&simulator, &token)).await, (503, "Shutdown".to_owned()));
    wire.ended_by_peer().await.unwrap();
    assert_eq!(Wire::apns(&simulator).await.reason(pushing(&simulator, &token)).await.0, 200);
}

#[tokio::test]
async fn an_answer_that_comes_after_the_client_gave_up_was_processed() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    script(&simulator, json!({ "process": true, "reason": "InternalServerError", "delayMs": 600_000 }));
    let client = client(&simulator);
    tokio::select! {
        answer = raw_push(&simulator, &client, &token, "n").send() => panic!("answered: {answer:?}"),
        // Dropped here: the client gives up.
        seen = simulator.wait_for_phone("anna", LIMIT, |phone| phone.tally.raws_delivered == 1) => assert!(seen.is_some()),
    }
}

#[tokio::test]
async fn the_same_seed_meets_the_same_requests() {
    let mut met = Vec::new();
    for seed in [1, 1, 2] {
        let simulator = start_with(Options { seed, ..options() }).await;
        let token = iphone(&simulator, "anna").token;
        script(&simulator, json!({ "times": 0, "percent": 50, "reason": "InternalServerError" }));
        let wire = Wire::apns(&simulator).await;
        let mut statuses = Vec::new();
        for _ in 0..32 {
            statuses.push(wire.reason(pushing(&simulator, &token)).await.0);
        }
        assert!(statuses.contains(&200) && statuses.contains(&500), "{statuses:?}");
        met.push(statuses);
    }
    assert_eq!(met[0], met[1]);
    assert_ne!(met[0], met[2]);
}

#[tokio::test]
async fn answers_take_as_long_as_the_settings_distribution_says() {
    let simulator = start().await;
    let token = iphone(&simulator, "anna").token;
    let wire = Wire::apns(&simulator).await;
    let delay = Some(Delay::UniformMs([40, 60]));
    simulator.set(&SettingsChange { delay: delay.clone(), ..SettingsChange::default() });
    assert_eq!(simulator.settings().delay, delay);
    let began = tokio::time::Instant::now();
    assert_eq!(wire.reason(pushing(&simulator, &token)).await.0, 200);
    assert!(began.elapsed() >= Duration::from_millis(40));
    // One that means nothing changes nothing.
    simulator.set(&SettingsChange { delay: Some(Delay::UniformMs([2, 1])), ..SettingsChange::default() });
    assert_eq!(simulator.settings().delay, delay);
    simulator.set(&SettingsChange { delay: Some(Delay::FixedMs(0)), ..SettingsChange::default() });
    assert_eq!(simulator.settings().delay, None);
}

#[tokio::test]
async fn a_script_without_a_status_gives_fcm_s_usual_one() {
    let simulator = start().await;
    let unregistered = Script { error_code: Some("UNREGISTERED".to_owned()), ..Script::default() };
    simulator.script(vec![unregistered]).unwrap();
    let url = format!("{}/v1/projects/contoso-mail/messages:send", simulator.fcm_url());
    let response = client(&simulator).post(url).body("{}").send().await.unwrap();
    assert_eq!(response.status(), 404);
    assert_eq!(json_of(response).await["error"]["details"][0]["errorCode"], "UNREGISTERED");
}
