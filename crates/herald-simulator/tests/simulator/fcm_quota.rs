//! FCM's quotas, by the simulator's clock.

use herald_simulator::{FcmDeviceRate, FcmRules, ProjectQuota, RetryAfter, SettingsChange};

use super::fcm::*;
use super::*;

fn set(simulator: &Simulator, fcm: FcmRules) {
    simulator.set(&SettingsChange { fcm: Some(fcm), ..SettingsChange::default() });
}

fn pass(simulator: &Simulator, secs: i64) {
    let offset = simulator.settings().clock_offset_secs + secs;
    simulator.set(&SettingsChange { clock_offset_secs: Some(offset), ..SettingsChange::default() });
}

/// The status, the `retry-after` and the body.
async fn answer(request: reqwest::RequestBuilder) -> (u16, Option<String>, Value) {
    let response = request.send().await.unwrap();
    let after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), after, json_of(response).await)
}

/// Who is named by the QuotaFailure of a refusal.
fn subject(body: &Value) -> &str {
    assert_eq!((error_code(body), &body["error"]["status"]), (Some("QUOTA_EXCEEDED"), &json!("RESOURCE_EXHAUSTED")));
    let detail = &body["error"]["details"][1];
    assert_eq!(detail["@type"], "type.googleapis.com/google.rpc.QuotaFailure");
    detail["violations"][0]["subject"].as_str().unwrap()
}

#[tokio::test]
async fn a_project_that_sends_too_much_is_throttled_until_its_minute_ends() {
    let simulator = start().await;
    let token = android(&simulator, "bert");
    let client = client(&simulator);
    let access = access_token(&simulator, &client, MAIL).await;
    set(&simulator, FcmRules { project_quota: Some(ProjectQuota { per_minute: 3 }), ..FcmRules::default() });
    let push = |token: &str| send(&simulator, &client, &access, &raw_message(token, "n"));
    // Refusals count as well, but not those of credentials, which say nothing about whose they are.
    assert_eq!(answer(push("never-was-one")).await.0, 404);
    assert_eq!(answer(push("no token")).await.0, 400);
    assert_eq!(answer(send(&simulator, &client, "ya29.never", &raw_message(&token, "n"))).await.0, 401);
    assert_eq!(answer(push(&token)).await.0, 200);
    for _ in 0..5 {
        let (status, after, body) = answer(push(&token)).await;
        assert_eq!((status, subject(&body)), (429, "project:contoso-mail"));
        let after: u64 = after.unwrap().parse().unwrap();
        assert!((20..=60).contains(&after), "{after}");
    }
    // Another project has a minute of its own.
    let foreign = access_token(&simulator, &client, CHAT).await;
    let other = format!("{}/v1/projects/contoso-chat/messages:send", simulator.fcm_url());
    let dry_run = json!({ "validate_only": true, "message": { "topic": "news" } }).to_string();
    assert_eq!(answer(client.post(other).bearer_auth(foreign).body(dry_run)).await.0, 200);

    pass(&simulator, 60);
    for _ in 0..3 {
        assert_eq!(answer(push(&token)).await.0, 200);
    }
    assert_eq!(answer(push(&token)).await.0, 429);
    assert_eq!(simulator.phone("bert").unwrap().tally.received, 4);
    assert_eq!(simulator.counters().refused["fcm"]["QUOTA_EXCEEDED"], 6);
}

#[tokio::test]
async fn a_device_that_gets_too_much_is_throttled_alone_by_the_minute_and_by_the_hour() {
    let simulator = start().await;
    let (bert, dora) = (android(&simulator, "bert"), android(&simulator, "dora"));
    let client = client(&simulator);
    let access = access_token(&simulator, &client, MAIL).await;
    let device_rate = Some(FcmDeviceRate { per_minute: 2, per_hour: 3 });
    set(&simulator, FcmRules { device_rate, ..FcmRules::default() });
    let push = |token: &str| send(&simulator, &client, &access, &raw_message(token, "n"));
    for _ in 0..2 {
        assert_eq!(answer(push(&bert)).await.0, 200);
    }
    let (status, after, body) = answer(push(&bert)).await;
    assert_eq!((status, subject(&body)), (429, format!("device:{}", &bert[bert.len() - 6..]).as_str()));
    assert!(after.unwrap().parse::<u64>().unwrap() <= 60);
    assert_eq!(answer(push(&dora)).await.0, 200);
    let dry_run = json!({ "validate_only": true, "message": { "token": bert } }).to_string();
    assert_eq!(answer(push(&bert).body(dry_run)).await.0, 200, "it reaches no device");

    pass(&simulator, 60);
    assert_eq!(answer(push(&bert)).await.0, 200);
    let (status, after, _) = answer(push(&bert)).await;
    assert_eq!(status, 429);
    assert!(after.unwrap().parse::<u64>().unwrap() > 3_000, "its hour is full");
    pass(&simulator, 3_600);
    assert_eq!(simulator.phone("bert").unwrap().tally.received, 3);
    let access = access_token_at(&simulator, &client).await;
    let push = |token: &str| send(&simulator, &client, &access, &raw_message(token, "n"));
    assert_eq!(answer(push(&bert)).await.0, 200);
}

/// An access token while the simulator's clock is ahead.
async fn access_token_at(simulator: &Simulator, client: &Client) -> String {
    let account = account(simulator, MAIL);
    let ahead = simulator.settings().clock_offset_secs;
    let mut claims = claims(&account);
    for time in ["iat", "exp"] {
        claims[time] = json!(claims[time].as_i64().unwrap() + ahead);
    }
    let response = mint(client, &account, &assertion(&account, &claims)).send().await.unwrap();
    json_of(response).await["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_throttle_says_when_to_come_again_in_seconds_by_date_or_not_at_all() {
    let simulator = start().await;
    let token = android(&simulator, "bert");
    let client = client(&simulator);
    let access = access_token(&simulator, &client, MAIL).await;
    for retry_after in [RetryAfter::Seconds, RetryAfter::Date, RetryAfter::Absent] {
        let project_quota = Some(ProjectQuota { per_minute: 1 });
        // Rules that are set anew count anew.
        set(&simulator, FcmRules { project_quota, retry_after, ..FcmRules::default() });
        let push = || send(&simulator, &client, &access, &raw_message(&token, "n"));
        assert_eq!(answer(push()).await.0, 200);
        let (status, after, _) = answer(push()).await;
        assert_eq!(status, 429);
        match (retry_after, after) {
            (RetryAfter::Seconds, Some(after)) => assert!(after.parse::<u64>().unwrap() <= 60),
            (RetryAfter::Date, Some(after)) => assert!(after.ends_with(" GMT") && after.len() == 29, "{after}"),
            (RetryAfter::Absent, None) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn quotas_are_off_until_they_are_set_and_have_googles_numbers() {
    let simulator = start().await;
    let url = format!("{}/settings", simulator.control_url());
    let put = async |fcm: Value| {
        let request = Client::new().put(&url).json(&json!({ "fcm": fcm })).timeout(LIMIT);
        json_of(request.send().await.unwrap()).await
    };
    let settings = json_of(Client::new().get(&url).timeout(LIMIT).send().await.unwrap()).await;
    let off = json!({ "invalidTokenWording": "violation", "detailsReversed": false, "projectQuota": null,
                      "deviceRate": null, "retryAfter": "seconds", "idleCloseMs": 0 });
    assert_eq!(settings["fcm"], off);
    let fcm = put(json!({ "projectQuota": {}, "deviceRate": {}, "retryAfter": "date" })).await["fcm"].clone();
    assert_eq!(fcm["projectQuota"], json!({ "perMinute": 600_000 }));
    assert_eq!(fcm["deviceRate"], json!({ "perMinute": 240, "perHour": 5_000 }));
    for (mistake, named) in [
        (json!({ "projectQuota": { "perMinute": 0 } }), "projectQuota"),
        (json!({ "deviceRate": { "perHour": 0 } }), "deviceRate"),
        (json!({ "invalidTokenWording": "verse" }), "verse"),
        (json!({ "qouta": {} }), "qouta"),
    ] {
        let error = put(mistake).await;
        assert!(error["error"].as_str().unwrap().contains(named), "{error}");
    }
    assert_eq!(serde_json::to_value(simulator.settings()).unwrap()["fcm"], fcm, "a mistake changes nothing");
    simulator.reset();
    assert_eq!(serde_json::to_value(simulator.settings()).unwrap()["fcm"], off);
}
