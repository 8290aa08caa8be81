//! Each rule of a phone once, by real pushes: what the person sees and what the provider would say of it.

use herald_simulator::{
    BackgroundBudget, CollapsibleBurst, Condition, Delay, PhoneChange, PhoneError, PhoneRules, PhoneSpec, Platform,
    SettingsChange, Simulator, TokenKind,
};

use super::fcm::{account, assertion, claims, mint, raw_message, send};
use super::*;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

fn phone(simulator: &Simulator, platform: Platform, condition: Condition, rules: PhoneRules) -> String {
    let spec = PhoneSpec { condition, rules, ..PhoneSpec::new(MAIL, platform) };
    simulator.add_phone("anna", &spec).unwrap().token
}

fn put_clock(simulator: &Simulator, ahead_secs: i64) {
    simulator.set(&SettingsChange { clock_offset_secs: Some(ahead_secs), ..SettingsChange::default() });
}

fn change(simulator: &Simulator, change: &PhoneChange) -> PhoneView {
    simulator.change_phone("anna", change).unwrap()
}

fn to(simulator: &Simulator, condition: Condition) -> PhoneView {
    change(simulator, &PhoneChange { condition: Some(condition), ..PhoneChange::default() })
}

fn launch(simulator: &Simulator) -> PhoneView {
    change(simulator, &PhoneChange { launch: true, ..PhoneChange::default() })
}

async fn anna(simulator: &Simulator, wanted: impl Fn(&PhoneView) -> bool) -> PhoneView {
    let seen = simulator.wait_for_phone("anna", LIMIT, wanted).await;
    seen.unwrap_or_else(|| panic!("it didn't come to that: {:?}", simulator.phone("anna")))
}

async fn accepted(request: reqwest::RequestBuilder) {
    assert_eq!(request.send().await.unwrap().status(), 200);
}

/// FCM, with what it takes to send to it.
struct Fcm {
    simulator: Simulator,
    client: Client,
    access: String,
}

impl Fcm {
    async fn start() -> Self {
        let simulator = start().await;
        let client = client(&simulator);
        // Longer than a phone may be away.
        let secs = SettingsChange { access_token_secs: Some(400 * DAY.unsigned_abs()), ..SettingsChange::default() };
        simulator.set(&secs);
        let account = account(&simulator, MAIL);
        let granted = mint(&client, &account, &assertion(&account, &claims(&account))).send().await.unwrap();
        let access = json_of(granted).await["access_token"].as_str().unwrap().to_owned();
        Self { simulator, client, access }
    }

    async fn send(&self, message: &Value) -> (u16, Value) {
        let response = send(&self.simulator, &self.client, &self.access, message).send().await.unwrap();
        (response.status().as_u16(), json_of(response).await)
    }

    async fn accepts(&self, message: &Value) {
        let (status, body) = self.send(message).await;
        assert_eq!(status, 200, "{body}");
    }
}

/// Data that may be collapsed.
fn sync_message(token: &str, id: &str, key: &str) -> Value {
    json!({ "token": token, "data": { "herald": herald("raw", id).to_string() }, "android": { "collapse_key": key } })
}

#[tokio::test]
async fn a_raw_that_comes_after_its_toast_alerts_once_with_dedupe_and_twice_without() {
    let simulator = start().await;
    let client = client(&simulator);
    for (dedupe, alerts) in [(true, 1), (false, 2)] {
        let rules = PhoneRules { app_alerts: true, dedupe, ..PhoneRules::default() };
        let token = phone(&simulator, Platform::Ios, Condition::PowerSaving, rules);
        accepted(raw_push(&simulator, &client, &token, "n")).await;
        accepted(toast_push(&simulator, &client, &token, "n")).await;
        assert_eq!(simulator.phone("anna").unwrap().notifications["n"].alerts_seen, 1);
        let view = to(&simulator, Condition::Awake);
        assert_eq!((view.notifications["n"].raws_delivered, view.notifications["n"].alerts_seen), (1, alerts));
        assert_eq!((view.tally.app_alerts_shown, view.on_screen), (alerts - 1, 1));
    }
}

#[tokio::test]
async fn without_notifications_nothing_is_shown_and_raws_arrive() {
    let simulator = start().await;
    let client = client(&simulator);
    let rules = PhoneRules { alerts_off: true, ..PhoneRules::default() };
    let token = phone(&simulator, Platform::Ios, Condition::Awake, rules);
    accepted(raw_push(&simulator, &client, &token, "n")).await;
    accepted(toast_push(&simulator, &client, &token, "n")).await;
    let view = simulator.phone("anna").unwrap();
    assert_eq!((view.tally.raws_delivered, view.tally.alerts_seen, view.on_screen), (1, 0, 0));
    assert_eq!((view.metrics.discarded_disabled, view.metrics.delivered), (1, 1));
    assert_eq!(simulator.counters().phones, view.metrics);
}

#[tokio::test]
async fn without_background_refresh_a_raw_waits_for_the_launch_and_force_quit_takes_it_away() {
    let simulator = start().await;
    let client = client(&simulator);
    let rules = PhoneRules { background_refresh_off: true, ..PhoneRules::default() };
    let token = phone(&simulator, Platform::Ios, Condition::Awake, rules);
    accepted(raw_push(&simulator, &client, &token, "n")).await;
    assert_eq!((simulator.phone("anna").unwrap().held, launch(&simulator).tally.raws_delivered), (1, 1));
    accepted(raw_push(&simulator, &client, &token, "m")).await;
    assert_eq!(to(&simulator, Condition::ForceQuit).tally.discarded, 1);
    let view = launch(&simulator);
    assert_eq!((view.condition, view.held, view.tally.raws_delivered), (Condition::Awake, 0, 1));
}

#[tokio::test]
async fn a_raw_over_the_background_budget_is_held_for_an_hour_and_the_newest_replaces_it() {
    let simulator = start().await;
    let client = client(&simulator);
    let budget = BackgroundBudget { per_hour: 2, per_day: None };
    let rules = PhoneRules { background_budget: Some(budget), ..PhoneRules::default() };
    let token = phone(&simulator, Platform::Ios, Condition::Awake, rules);
    for id in ["1", "2", "3", "4"] {
        accepted(raw_push(&simulator, &client, &token, id)).await;
    }
    let view = simulator.phone("anna").unwrap();
    assert_eq!((view.tally.raws_delivered, view.held, view.tally.replaced), (2, 1, 1));
    // Apple has delivered all of them, as far as it knows.
    assert_eq!(view.metrics.delivered, 4);
    put_clock(&simulator, HOUR + 1);
    let view = anna(&simulator, |phone| phone.held == 0).await;
    assert_eq!((view.tally.raws_delivered, view.notifications["4"].raws_delivered), (3, 1));
}

/// Between bursts, in seconds: a week at most, and none of them comes while a test runs.
fn far_bursts() -> u64 {
    let every = |days: u64| days * 24 * 3600;
    let until_next = |every: u64| every - u64::try_from(now()).unwrap() % every;
    [every(7), every(6)].into_iter().find(|every| until_next(*every) > 600).unwrap_or_else(|| every(5))
}

#[tokio::test]
async fn a_power_saving_iphone_takes_what_apns_stored_in_bursts() {
    let simulator = start().await;
    let client = client(&simulator);
    let rules = PhoneRules { burst_every_secs: Some(far_bursts()), ..PhoneRules::default() };
    let token = phone(&simulator, Platform::Ios, Condition::PowerSaving, rules);
    let lazy = toast_push(&simulator, &client, &token, "lazy").build().unwrap();
    let body = lazy.body().and_then(reqwest::Body::as_bytes).unwrap().to_vec();
    accepted(push(&simulator, &client, &token, "alert", "5").body(body)).await;
    assert_eq!(simulator.phone("anna").unwrap().tally.toasts_shown, 0);
    accepted(raw_push(&simulator, &client, &token, "n")).await;
    accepted(toast_push(&simulator, &client, &token, "urgent")).await;
    let view = simulator.phone("anna").unwrap();
    assert_eq!((view.tally.toasts_shown, view.stored, view.tally.replaced), (1, 1, 1));
    put_clock(&simulator, 7 * DAY);
    let view = anna(&simulator, |phone| phone.stored == 0).await;
    assert_eq!((view.tally.raws_delivered, view.metrics.delivered_from_storage, view.metrics.stored_power), (1, 1, 2));
}

#[tokio::test]
async fn a_push_may_come_twice_and_the_app_acknowledges_twice() {
    let simulator = start().await;
    let mut sink = ReceiptSink::start(0).await;
    let rules = PhoneRules {
        duplicate_percent: 100,
        duplicate_after: Some(Delay::FixedMs(60_000)),
        ack_delay: Some(Delay::UniformMs([1, 3])),
        ..PhoneRules::default()
    };
    let token = phone(&simulator, Platform::Ios, Condition::Awake, rules);
    change(&simulator, &PhoneChange { receipts_url: Some(sink.url.clone()), ..PhoneChange::default() });
    accepted(raw_push(&simulator, &client(&simulator), &token, "n")).await;
    assert_eq!(sink.next().await["receipts"][0]["capability"], "receipt-n");
    put_clock(&simulator, 61);
    assert_eq!(sink.next().await["receipts"][0]["capability"], "receipt-n");
    let view = anna(&simulator, |phone| phone.receipts_sent == 2).await;
    assert_eq!((view.tally.received, view.tally.duplicates, view.tally.raws_delivered), (1, 1, 2));
}

#[tokio::test]
async fn whichever_phone_wants_to_be_woken_first_is_though_another_asked_before() {
    let simulator = start().await;
    let client = client(&simulator);
    let repeats = |after_ms| PhoneRules {
        duplicate_percent: 100,
        duplicate_after: Some(Delay::FixedMs(after_ms)),
        ..PhoneRules::default()
    };
    let late = PhoneSpec { rules: repeats(3_600_000), ..PhoneSpec::new(MAIL, Platform::Ios) };
    let late = simulator.add_phone("bert", &late).unwrap().token;
    accepted(raw_push(&simulator, &client, &late, "n")).await;
    let token = phone(&simulator, Platform::Ios, Condition::Awake, repeats(20));
    accepted(raw_push(&simulator, &client, &token, "n")).await;
    assert_eq!(anna(&simulator, |phone| phone.tally.duplicates == 1).await.tally.raws_delivered, 2);
    assert_eq!(simulator.phone("bert").unwrap().tally.duplicates, 0);
}

#[tokio::test]
async fn apns_keeps_a_push_for_thirty_days_however_long_its_sender_wants() {
    let simulator = start().await;
    let token = phone(&simulator, Platform::Ios, Condition::Offline, PhoneRules::default());
    let year = (now() + 365 * DAY).to_string();
    accepted(raw_push(&simulator, &client(&simulator), &token, "n").header("apns-expiration", year)).await;
    put_clock(&simulator, 30 * DAY + 1);
    let view = to(&simulator, Condition::Awake);
    assert_eq!((view.tally.raws_delivered, view.metrics.discarded_expired), (0, 1));
}

#[tokio::test]
async fn rules_are_replaced_as_a_whole_and_wrong_ones_named() {
    let simulator = start().await;
    let rules = PhoneRules { reorder: true, dedupe: true, ..PhoneRules::default() };
    phone(&simulator, Platform::Ios, Condition::Awake, rules.clone());
    let wrong = PhoneRules { stale_after_days: Some(30), ..PhoneRules::default() };
    let wrong = PhoneChange { rules: Some(wrong), ..PhoneChange::default() };
    let error = simulator.change_phone("anna", &wrong).unwrap_err();
    assert!(matches!(&error, PhoneError::Rules(problem) if problem.contains("staleAfterDays")), "{error}");
    assert_eq!(simulator.phone("anna").unwrap().rules, rules);
    let client = Client::new();
    let patch = async |body: Value| {
        let url = format!("{}/phones/anna", simulator.control_url());
        let answer = client.patch(url).body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), json_of(answer).await)
    };
    let (status, view) = patch(json!({ "rules": { "appAlerts": true } })).await;
    assert_eq!((status, &view["rules"]["appAlerts"], &view["rules"]["dedupe"]), (200, &json!(true), &json!(false)));
    let (status, error) = patch(json!({ "rules": { "duplicatePercent": 101 } })).await;
    assert_eq!((status, &error["error"]), (400, &json!("rules: duplicatePercent must be 100 at most")));
    assert_eq!(patch(json!({ "rules": { "alertOff": true } })).await.0, 400);
}

#[tokio::test]
async fn fcm_stores_the_newest_message_of_a_collapse_key_and_of_all_visible_ones() {
    let fcm = Fcm::start().await;
    let token = phone(&fcm.simulator, Platform::Android, Condition::Offline, PhoneRules::default());
    for (id, key) in [("old", "mail"), ("new", "mail"), ("other", "news")] {
        fcm.accepts(&sync_message(&token, id, key)).await;
    }
    for id in ["1", "2"] {
        let shown = json!({ "notification": { "title": "t" }, "collapse_key": id });
        let data = json!({ "herald": herald("alert", id).to_string() });
        fcm.accepts(&json!({ "token": token, "data": data, "android": shown })).await;
    }
    assert_eq!(fcm.simulator.phone("anna").unwrap().stored, 3);
    let view = to(&fcm.simulator, Condition::Awake);
    assert_eq!((view.tally.raws_delivered, view.tally.alerts_shown, view.tally.replaced), (2, 1, 2));
    assert!(view.notifications.contains_key("new") && view.notifications.contains_key("2"));
    // A fifth key costs one of the four.
    to(&fcm.simulator, Condition::Offline);
    for key in ["a", "b", "c", "d", "e"] {
        fcm.accepts(&sync_message(&token, key, key)).await;
    }
    let view = to(&fcm.simulator, Condition::Awake);
    assert_eq!((view.tally.raws_delivered, view.tally.replaced), (6, 3));
}

#[tokio::test]
async fn fcm_drops_more_than_a_hundred_stored_messages_and_tells_the_app() {
    let fcm = Fcm::start().await;
    let token = phone(&fcm.simulator, Platform::Android, Condition::Offline, PhoneRules::default());
    for n in 0..=100 {
        fcm.accepts(&raw_message(&token, &n.to_string())).await;
    }
    let view = to(&fcm.simulator, Condition::Awake);
    assert_eq!((view.tally.raws_delivered, view.tally.deleted_messages_calls), (1, 1));
    assert_eq!(view.metrics.dropped_too_many_pending_messages, 100);
}

#[tokio::test]
async fn a_dozing_phone_takes_normal_messages_in_its_maintenance_window_and_high_ones_until_they_show_nothing() {
    let fcm = Fcm::start().await;
    let rules = PhoneRules {
        burst_every_secs: Some(far_bursts()),
        deprioritise_after: Some(2),
        reorder: true,
        ..PhoneRules::default()
    };
    let token = phone(&fcm.simulator, Platform::Android, Condition::PowerSaving, rules);
    for (id, handled) in [("1", 1), ("2", 2), ("3", 2)] {
        fcm.accepts(&raw_message(&token, id)).await;
        assert_eq!(fcm.simulator.phone("anna").unwrap().tally.raws_delivered, handled);
    }
    fcm.accepts(&json!({ "token": token, "data": { "herald": herald("raw", "normal").to_string() } })).await;
    put_clock(&fcm.simulator, 7 * DAY);
    let view = anna(&fcm.simulator, |phone| phone.stored == 0).await;
    assert_eq!((view.tally.raws_delivered, view.metrics.priority_lowered, view.metrics.stored_power), (4, 1, 2));
}

#[tokio::test]
async fn collapsible_messages_beyond_a_burst_are_delayed_and_the_newest_comes() {
    let fcm = Fcm::start().await;
    let burst = CollapsibleBurst { size: 2, ..CollapsibleBurst::default() };
    let rules = PhoneRules { collapsible_burst: Some(burst), ..PhoneRules::default() };
    let token = phone(&fcm.simulator, Platform::Android, Condition::Awake, rules);
    for id in ["1", "2", "3", "4"] {
        fcm.accepts(&sync_message(&token, id, "mail")).await;
    }
    let view = fcm.simulator.phone("anna").unwrap();
    assert_eq!((view.tally.raws_delivered, view.stored, view.metrics.delayed_message_throttled), (2, 1, 2));
    put_clock(&fcm.simulator, 181);
    let view = anna(&fcm.simulator, |phone| phone.stored == 0).await;
    assert_eq!((view.tally.raws_delivered, view.notifications["4"].raws_delivered), (3, 1));
}

#[tokio::test]
async fn a_force_stopped_android_app_is_neither_woken_nor_shown_until_the_person_opens_it() {
    let fcm = Fcm::start().await;
    let token = phone(&fcm.simulator, Platform::Android, Condition::ForceQuit, PhoneRules::default());
    fcm.accepts(&raw_message(&token, "n")).await;
    fcm.accepts(&json!({ "token": token, "notification": { "title": "t" } })).await;
    let view = launch(&fcm.simulator);
    assert_eq!((view.tally.discarded, view.on_screen, view.metrics.dropped_app_force_stopped), (2, 0, 2));
    fcm.accepts(&raw_message(&token, "m")).await;
    assert_eq!(fcm.simulator.phone("anna").unwrap().tally.raws_delivered, 1);
}

#[tokio::test]
async fn fcm_stores_nothing_for_a_phone_that_is_away_for_a_month_and_forgets_it_after_nine() {
    let fcm = Fcm::start().await;
    let rules = PhoneRules { stale_after_days: Some(30), ..PhoneRules::default() };
    let token = phone(&fcm.simulator, Platform::Android, Condition::Offline, rules);
    put_clock(&fcm.simulator, 31 * DAY);
    fcm.accepts(&raw_message(&token, "n")).await;
    let view = fcm.simulator.phone("anna").unwrap();
    assert_eq!((view.stored, view.metrics.dropped_device_inactive), (0, 1));
    put_clock(&fcm.simulator, 271 * DAY);
    let (status, body) = fcm.send(&raw_message(&token, "n")).await;
    assert_eq!((status, &body["error"]["details"][0]["errorCode"]), (404, &json!("UNREGISTERED")));
    assert_eq!(to(&fcm.simulator, Condition::Awake).tally.deleted_messages_calls, 1);
    assert_eq!(fcm.send(&raw_message(&token, "n")).await.0, 404);
    let fresh =
        change(&fcm.simulator, &PhoneChange { token: Some("fresh:token".to_owned()), ..PhoneChange::default() });
    fcm.accepts(&raw_message(&fresh.token, "n")).await;
}

#[tokio::test]
async fn an_app_that_changes_to_fids_is_unregistered_by_its_token_and_reached_by_its_fid() {
    let fcm = Fcm::start().await;
    let token = phone(&fcm.simulator, Platform::Android, Condition::Awake, PhoneRules::default());
    fcm.accepts(&raw_message(&token, "n")).await;
    let switch = PhoneChange { token_kind: Some(TokenKind::Fid), ..PhoneChange::default() };
    let fid = change(&fcm.simulator, &switch);
    assert_eq!((fid.token_kind, fid.token.len()), (TokenKind::Fid, 22));
    // Once more changes nothing.
    assert_eq!(change(&fcm.simulator, &switch).token, fid.token);
    let (status, body) = fcm.send(&raw_message(&token, "n")).await;
    assert_eq!((status, &body["error"]["details"][0]["errorCode"]), (404, &json!("UNREGISTERED")));
    let mut message = raw_message("", "n");
    message.as_object_mut().unwrap().remove("token");
    message["fid"] = fid.token.into();
    fcm.accepts(&message).await;
    assert_eq!(fcm.simulator.phone("anna").unwrap().tally.raws_delivered, 2);
}
