//! The phone's conditions and rules, one by one.

use super::storage::{ANDROID_LIMIT, KEYS_LIMIT};
use super::*;
use crate::latency::Delay;

const HABITS: Habits = Habits { ack_delay_ms: 5, ack_alerts: false, ack_loss_percent: 0 };
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

fn phone(platform: Platform, condition: Condition) -> Phone {
    Phone::new(platform, condition, HABITS, 1, 0)
}

fn with(platform: Platform, condition: Condition, rules: PhoneRules) -> Phone {
    assert_eq!(rules.problem(platform), None);
    let mut phone = phone(platform, condition);
    phone.set_rules(rules);
    phone
}

fn raw(capability: &str) -> Push {
    Push {
        form: Form::Raw,
        visible: false,
        urgent: false,
        notification_id: Some("n".to_owned()),
        app_notification_id: None,
        receipt: Some(capability.to_owned()),
        collapse_id: Some("c".to_owned()),
        collapse_key: None,
        life: Life::Until(30 * DAY),
        mutable: false,
    }
}

fn toast(capability: &str) -> Push {
    Push { form: Form::Toast, visible: true, urgent: true, mutable: true, ..raw(capability) }
}

fn keyed(capability: &str, key: &str) -> Push {
    Push { collapse_key: Some(key.to_owned()), ..raw(capability) }
}

/// The capabilities that were acknowledged.
fn acks(step: Step) -> Vec<String> {
    step.receipts.into_iter().map(|receipt| receipt.capability).collect()
}

/// Nothing is acknowledged; when the phone wants to be woken.
fn quiet(step: Step) -> Option<u64> {
    let Step { receipts, wake_at_ms } = step;
    assert_eq!(receipts, []);
    wake_at_ms
}

fn to(phone: &mut Phone, condition: Condition, now_ms: u64) -> Vec<String> {
    acks(phone.change(Change { condition: Some(condition), ..Change::default() }, now_ms))
}

fn launch(phone: &mut Phone, now_ms: u64) -> Vec<String> {
    acks(phone.change(Change { launch: true, ..Change::default() }, now_ms))
}

#[test]
fn an_awake_phone_acknowledges_a_raw() {
    let mut phone = phone(Platform::Ios, Condition::Awake);
    let receipts = vec![Acknowledge { capability: "r".to_owned(), after_ms: 5 }];
    assert_eq!(phone.receive(raw("r"), 0), Step { receipts, wake_at_ms: None });
    assert_eq!((phone.tally().raws_delivered, phone.metrics().delivered), (1, 1));
    assert_eq!(phone.on_screen(), 0);
}

#[test]
fn a_power_saving_iphone_keeps_only_the_newest_raw_until_it_is_awake() {
    let mut phone = phone(Platform::Ios, Condition::PowerSaving);
    for push in [raw("old"), raw("new"), toast("t")] {
        assert_eq!(quiet(phone.receive(push, 0)), None);
    }
    assert_eq!((phone.tally().toasts_shown, phone.stored(), phone.tally().raws_delivered), (1, 1, 0));
    assert_eq!(to(&mut phone, Condition::Awake, 999), ["new"]);
    assert_eq!(to(&mut phone, Condition::Awake, 999), [""; 0]);
    let metrics = Metrics { delivered: 1, delivered_from_storage: 1, stored_power: 2, ..Metrics::default() };
    assert_eq!(phone.metrics(), metrics);
}

#[test]
fn a_stored_raw_whose_life_ended_is_never_handled() {
    let mut phone = phone(Platform::Ios, Condition::PowerSaving);
    assert_eq!(quiet(phone.receive(Push { life: Life::Until(1_000), ..raw("r") }, 0)), None);
    assert_eq!(to(&mut phone, Condition::Awake, 1_000), [""; 0]);
    assert_eq!((phone.tally().expired, phone.metrics().discarded_expired), (1, 1));
    assert_eq!(to(&mut phone, Condition::Offline, 1_000), [""; 0]);
    assert_eq!(quiet(phone.receive(Push { life: Life::Now, ..raw("r") }, 0)), None);
    assert_eq!((phone.stored(), phone.tally().expired), (0, 2));
}

#[test]
fn an_iphone_stores_one_push_visible_or_not_and_the_newest_wins() {
    for (first, second, seen) in [(raw("r"), toast("t"), (0, 1)), (toast("t"), raw("r"), (1, 0))] {
        let mut phone = phone(Platform::Ios, Condition::Offline);
        assert_eq!(quiet(phone.receive(first, 0)), None);
        assert_eq!(quiet(phone.receive(second, 0)), None);
        assert_eq!((phone.stored(), phone.tally().replaced, phone.metrics().stored_offline), (1, 1, 2));
        to(&mut phone, Condition::Awake, 1);
        assert_eq!((phone.tally().raws_delivered, phone.tally().toasts_shown), seen);
    }
}

#[test]
fn apns_may_keep_the_older_push_if_the_rules_let_it() {
    let kept: Vec<String> = (0..20)
        .flat_map(|seed| {
            let mut phone = Phone::new(Platform::Ios, Condition::Offline, HABITS, seed, 0);
            phone.set_rules(PhoneRules { reorder: true, ..PhoneRules::default() });
            for capability in ["old", "new"] {
                assert_eq!(quiet(phone.receive(raw(capability), 0)), None);
            }
            assert_eq!((phone.stored(), phone.tally().replaced), (1, 1));
            to(&mut phone, Condition::Awake, 0)
        })
        .collect();
    assert!(kept.contains(&"old".to_owned()) && kept.contains(&"new".to_owned()), "{kept:?}");
}

#[test]
fn a_force_quit_iphone_discards_raws_and_shows_toasts() {
    let mut phone = phone(Platform::Ios, Condition::ForceQuit);
    assert_eq!(quiet(phone.receive(raw("r"), 0)), None);
    assert_eq!(quiet(phone.receive(toast("t"), 0)), None);
    assert_eq!((phone.tally().discarded, phone.on_screen()), (1, 1));
    // Apple doesn't know what the system does with a push.
    assert_eq!(phone.metrics().delivered, 2);
    assert_eq!(launch(&mut phone, 0), [""; 0]);
    assert_eq!(phone.condition(), Condition::Awake);
}

#[test]
fn a_force_stopped_android_app_gets_nothing_at_all_until_it_is_launched() {
    let mut phone = phone(Platform::Android, Condition::ForceQuit);
    for push in [raw("r"), Push { urgent: true, ..raw("r") }, Push { mutable: false, ..toast("t") }] {
        assert_eq!(quiet(phone.receive(push, 0)), None);
    }
    assert_eq!((phone.tally().discarded, phone.on_screen(), phone.metrics().dropped_app_force_stopped), (3, 0, 3));
    assert_eq!(launch(&mut phone, 0), [""; 0]);
    assert_eq!(acks(phone.receive(raw("r"), 0)), ["r"]);
}

#[test]
fn the_same_collapse_id_replaces_on_the_screen_and_alerts_again() {
    let mut phone = phone(Platform::Ios, Condition::Awake);
    for push in [toast("a"), toast("b")] {
        assert_eq!(quiet(phone.receive(push, 0)), None);
    }
    for capability in ["c", "d"] {
        assert_eq!(quiet(phone.receive(Push { collapse_id: None, ..toast(capability) }, 0)), None);
    }
    assert_eq!((phone.tally().toasts_shown, phone.tally().alerts_seen, phone.on_screen()), (4, 4, 3));
}

#[test]
fn a_service_extension_acknowledges_only_when_it_runs_and_is_told_to() {
    let eager = Habits { ack_alerts: true, ..HABITS };
    for (condition, mutable, expected) in [
        (Condition::Awake, true, &["t"][..]),
        (Condition::PowerSaving, true, &["t"]),
        (Condition::ForceQuit, true, &[]),
        (Condition::Awake, false, &[]),
    ] {
        let mut phone = Phone::new(Platform::Ios, condition, eager, 1, 0);
        assert_eq!(acks(phone.receive(Push { mutable, ..toast("t") }, 0)), expected, "{condition:?} {mutable}");
    }
}

#[test]
fn a_dozing_android_phone_wakes_for_high_priority_only() {
    let mut phone = phone(Platform::Android, Condition::PowerSaving);
    assert_eq!(quiet(phone.receive(raw("normal"), 0)), None);
    assert_eq!(acks(phone.receive(Push { urgent: true, ..raw("high") }, 0)), ["high"]);
    assert_eq!(to(&mut phone, Condition::Awake, 0), ["normal"]);
}

#[test]
fn fcm_drops_all_stored_messages_when_the_hundred_and_first_comes_and_the_app_is_told() {
    let mut phone = phone(Platform::Android, Condition::Offline);
    for n in 0..=ANDROID_LIMIT {
        assert_eq!(quiet(phone.receive(raw(&n.to_string()), 0)), None);
    }
    assert_eq!(phone.tally().deleted_messages_calls, 0);
    assert_eq!(to(&mut phone, Condition::Awake, 0), ["100"]);
    assert_eq!((phone.tally().discarded, phone.metrics().dropped_too_many_pending_messages), (100, 100));
    assert_eq!(phone.tally().deleted_messages_calls, 1);
    to(&mut phone, Condition::Awake, 0);
    assert_eq!(phone.tally().deleted_messages_calls, 1);
}

#[test]
fn fcm_stores_the_newest_message_of_a_collapse_key_and_four_keys() {
    let mut phone = phone(Platform::Android, Condition::Offline);
    for (capability, key) in [("a1", "a"), ("b", "b"), ("a2", "a"), ("c", "c"), ("d", "d")] {
        assert_eq!(quiet(phone.receive(keyed(capability, key), 0)), None);
    }
    assert_eq!(quiet(phone.receive(raw("plain"), 0)), None);
    assert_eq!((phone.stored(), phone.tally().replaced), (KEYS_LIMIT + 1, 1));
    assert_eq!(quiet(phone.receive(keyed("e", "e"), 0)), None);
    assert_eq!((phone.stored(), phone.tally().replaced), (KEYS_LIMIT + 1, 2));
    let handed = to(&mut phone, Condition::Awake, 0);
    assert!(handed.contains(&"e".to_owned()) && handed.contains(&"plain".to_owned()), "{handed:?}");
    assert!(!handed.contains(&"a1".to_owned()), "{handed:?}");
}

#[test]
fn losses_follow_the_percentage_and_the_seed() {
    let lossy = Habits { ack_loss_percent: 50, ..HABITS };
    let lost = |seed| {
        let mut phone = Phone::new(Platform::Ios, Condition::Awake, lossy, seed, 0);
        let sent = (0..1000).filter(|_| !acks(phone.receive(raw("r"), 0)).is_empty()).count();
        assert_eq!(phone.tally().receipts_lost, 1000 - sent as u64);
        sent
    };
    assert_eq!(lost(7), lost(7));
    assert!((400..600).contains(&lost(7)));
}

#[test]
fn receipts_take_as_long_as_their_distribution_says_besides_the_usual_delay() {
    let rules = PhoneRules { ack_delay: Some(Delay::UniformMs([10, 20])), ..PhoneRules::default() };
    let mut phone = with(Platform::Ios, Condition::Awake, rules);
    let delays: Vec<u64> = (0..200).map(|now| phone.receive(raw("r"), now).receipts[0].after_ms).collect();
    assert!(delays.iter().all(|ms| (15..=25).contains(ms)) && [15, 25].iter().all(|ms| delays.contains(ms)));
}

#[test]
fn who_switched_notifications_off_sees_nothing_and_the_app_still_gets_its_raws() {
    for platform in [Platform::Ios, Platform::Android] {
        let rules = PhoneRules { alerts_off: true, app_alerts: true, ..PhoneRules::default() };
        let mut phone = with(platform, Condition::Awake, rules);
        assert_eq!(quiet(phone.receive(toast("t"), 0)), None);
        assert_eq!(acks(phone.receive(raw("r"), 0)), ["r"]);
        assert_eq!((phone.on_screen(), phone.tally().alerts_seen, phone.metrics().discarded_disabled), (0, 0, 1));
    }
}

#[test]
fn without_background_refresh_raws_are_held_until_the_app_is_launched() {
    let rules = PhoneRules { background_refresh_off: true, ..PhoneRules::default() };
    let mut phone = with(Platform::Ios, Condition::Awake, rules);
    for capability in ["old", "new"] {
        assert_eq!(quiet(phone.receive(raw(capability), 0)), None);
    }
    assert_eq!((phone.held(), phone.tally().replaced, phone.metrics().delivered), (1, 1, 2));
    assert_eq!(launch(&mut phone, 1), ["new"]);
    assert_eq!(quiet(phone.receive(raw("again"), 2)), None);
    let on = Change { rules: Some(PhoneRules::default()), ..Change::default() };
    assert_eq!(acks(phone.change(on, 3)), ["again"]);
}

#[test]
fn what_the_budget_holds_is_handed_over_when_there_is_room_and_discarded_by_force_quit() {
    let budget = BackgroundBudget { per_hour: 2, per_day: Some(3) };
    let rules = PhoneRules { background_budget: Some(budget), ..PhoneRules::default() };
    let mut phone = with(Platform::Ios, Condition::Awake, rules);
    assert_eq!(acks(phone.receive(raw("1"), 0)), ["1"]);
    assert_eq!(acks(phone.receive(raw("2"), 1)), ["2"]);
    assert_eq!(quiet(phone.receive(raw("3"), 2)), Some(HOUR));
    assert_eq!(quiet(phone.receive(raw("4"), 3)), Some(HOUR));
    assert_eq!(quiet(phone.wake(HOUR - 1)), Some(HOUR));
    assert_eq!(acks(phone.wake(HOUR)), ["4"]);
    // The day's budget is used up.
    assert_eq!(quiet(phone.receive(raw("5"), 2 * HOUR)), Some(DAY));
    // A visible push needs none.
    assert_eq!(quiet(phone.receive(toast("t"), 2 * HOUR)), Some(DAY));
    assert_eq!((phone.tally().toasts_shown, phone.held()), (1, 1));
    assert_eq!(to(&mut phone, Condition::ForceQuit, 2 * HOUR), [""; 0]);
    assert_eq!((phone.held(), phone.tally().discarded), (0, 1));
}

#[test]
fn a_power_saving_phone_takes_what_waits_in_bursts_and_visible_pushes_that_are_not_urgent_too() {
    for platform in [Platform::Ios, Platform::Android] {
        let rules = PhoneRules { burst_every_secs: Some(60), ..PhoneRules::default() };
        let mut phone = with(platform, Condition::PowerSaving, rules);
        let lazy = Push { urgent: false, ..toast("t") };
        assert_eq!(quiet(phone.receive(lazy, 61_000)), Some(120_000));
        assert_eq!(quiet(phone.receive(raw("r"), 62_000)), Some(120_000));
        assert_eq!(phone.tally().toasts_shown, 0);
        assert_eq!(quiet(phone.wake(119_999)), Some(120_000));
        let step = phone.wake(120_000);
        assert_eq!(step.wake_at_ms, None);
        assert_eq!(acks(step), ["r"]);
        // APNs had room for one of the two only.
        let shown = u64::from(platform == Platform::Android);
        assert_eq!((phone.tally().toasts_shown, phone.tally().replaced), (shown, 1 - shown));
        assert_eq!(quiet(phone.receive(toast("urgent"), 120_000)), None);
        assert_eq!(phone.tally().toasts_shown, shown + 1);
    }
}

#[test]
fn a_reconnect_may_bring_another_order_and_the_same_seed_brings_the_same() {
    let order = |reorder, seed| {
        let rules = PhoneRules { reorder, ..PhoneRules::default() };
        let mut phone = Phone::new(Platform::Android, Condition::Offline, HABITS, seed, 0);
        phone.set_rules(rules);
        for n in 0..10 {
            assert_eq!(quiet(phone.receive(raw(&n.to_string()), 0)), None);
        }
        to(&mut phone, Condition::Awake, 0)
    };
    let (usual, other) = (order(false, 1), order(true, 1));
    assert_ne!(usual, other);
    assert_eq!(order(true, 1), other);
    assert!(usual.is_sorted() && usual.iter().all(|capability| other.contains(capability)));
}

#[test]
fn a_delivered_push_may_come_once_more_and_not_a_third_time() {
    let rules =
        PhoneRules { duplicate_percent: 100, duplicate_after: Some(Delay::FixedMs(500)), ..PhoneRules::default() };
    let mut phone = with(Platform::Ios, Condition::Awake, rules);
    let step = phone.receive(raw("r"), 0);
    assert_eq!(step.wake_at_ms, Some(500));
    assert_eq!(acks(step), ["r"]);
    assert_eq!(acks(phone.wake(500)), ["r"]);
    assert_eq!(quiet(phone.wake(10_000)), None);
    assert_eq!((phone.tally().received, phone.tally().duplicates, phone.tally().raws_delivered), (1, 1, 2));
    // One attempt is one attempt.
    assert_eq!(phone.receive(Push { life: Life::Now, ..raw("r") }, 0).wake_at_ms, None);
}

#[test]
fn a_person_is_alerted_once_if_the_app_dedupes_and_twice_if_it_does_not() {
    for (dedupe, mutable, raw_first, expected) in [
        (true, true, false, 1),
        (false, true, false, 2),
        // No extension ran, so the app doesn't know what was shown.
        (true, false, false, 2),
        (true, true, true, 1),
        (false, true, true, 2),
    ] {
        let rules = PhoneRules { app_alerts: true, dedupe, ..PhoneRules::default() };
        let mut phone = with(Platform::Ios, Condition::Awake, rules);
        let order = |push| Push { app_notification_id: Some("order".to_owned()), ..push };
        let mut pushes =
            [order(Push { mutable, ..toast("t") }), order(Push { notification_id: Some("m".to_owned()), ..raw("r") })];
        if raw_first {
            pushes.reverse();
        }
        for push in pushes {
            acks(phone.receive(push, 0));
        }
        let seen: u64 = phone.notifications().map(|(_, tally)| tally.alerts_seen).sum();
        assert_eq!((seen, phone.tally().alerts_seen), (expected, expected), "{dedupe} {mutable} {raw_first}");
        // The app gives its own notification the same identifier, so one is on the screen in any case.
        assert_eq!(phone.on_screen(), 1);
    }
}

#[test]
fn android_treats_high_as_normal_after_too_many_that_showed_nothing() {
    let rules = PhoneRules { deprioritise_after: Some(2), ..PhoneRules::default() };
    let mut phone = with(Platform::Android, Condition::PowerSaving, rules.clone());
    let high = |capability| Push { urgent: true, ..raw(capability) };
    assert_eq!(acks(phone.receive(high("1"), 0)), ["1"]);
    assert_eq!(acks(phone.receive(high("2"), 0)), ["2"]);
    assert_eq!(quiet(phone.receive(high("3"), 0)), None);
    assert_eq!((phone.stored(), phone.metrics().priority_lowered), (1, 1));
    // Something is shown, and HIGH is HIGH again.
    assert_eq!(quiet(phone.receive(Push { collapse_key: None, mutable: false, ..toast("t") }, 0)), None);
    assert_eq!(acks(phone.receive(high("4"), 0)), ["4"]);
    let shows = PhoneRules { app_alerts: true, ..rules };
    let mut shows = with(Platform::Android, Condition::PowerSaving, shows);
    assert!((0..9).all(|_| !acks(shows.receive(high("r"), 0)).is_empty()));
}

#[test]
fn fcm_delays_collapsible_messages_beyond_a_burst_but_not_those_that_are_never_stored() {
    let burst = CollapsibleBurst { size: 2, refill_secs: 180 };
    let rules = PhoneRules { collapsible_burst: Some(burst), ..PhoneRules::default() };
    let mut phone = with(Platform::Android, Condition::Awake, rules);
    for capability in ["1", "2"] {
        assert_eq!(acks(phone.receive(keyed(capability, "k"), 0)), [capability]);
    }
    assert_eq!(quiet(phone.receive(keyed("3", "k"), 0)), Some(180_000));
    assert_eq!(quiet(phone.receive(keyed("4", "k"), 0)), Some(180_000));
    assert_eq!(acks(phone.receive(raw("plain"), 0)), ["plain"]);
    assert_eq!(acks(phone.receive(Push { life: Life::Now, ..keyed("now", "k") }, 0)), ["now"]);
    assert_eq!((phone.tally().replaced, phone.metrics().delayed_message_throttled), (1, 2));
    assert_eq!(acks(phone.wake(180_000)), ["4"]);
    assert_eq!(quiet(phone.wake(900_000)), None);
}

#[test]
fn a_phone_that_is_away_for_a_month_gets_nothing_stored_and_is_forgotten_after_nine() {
    let rules = PhoneRules { stale_after_days: Some(30), ..PhoneRules::default() };
    let mut phone = with(Platform::Android, Condition::Offline, rules);
    assert_eq!(quiet(phone.receive(raw("early"), 30 * DAY - 1)), None);
    assert_eq!(phone.stored(), 1);
    assert_eq!(quiet(phone.receive(Push { life: Life::Until(99 * DAY), ..raw("late") }, 30 * DAY)), None);
    assert_eq!((phone.stored(), phone.metrics().dropped_device_inactive), (1, 1));
    assert_eq!(phone.forgotten_since_ms(270 * DAY - 1), None);
    assert_eq!(phone.forgotten_since_ms(271 * DAY), Some(270 * DAY));
    assert_eq!(to(&mut phone, Condition::Awake, 271 * DAY), [""; 0]);
    assert_eq!(phone.tally().deleted_messages_calls, 1);
    // It stays forgotten until the app has another token.
    assert_eq!(phone.forgotten_since_ms(272 * DAY), Some(270 * DAY));
    phone.registered_anew();
    assert_eq!(phone.forgotten_since_ms(272 * DAY), None);
}

#[test]
fn rules_that_mean_nothing_are_refused_with_their_name() {
    let json = |json: serde_json::Value| serde_json::from_value::<PhoneRules>(json).unwrap();
    let both = [Platform::Ios, Platform::Android];
    for (rules, platforms, field) in [
        (serde_json::json!({"backgroundRefreshOff": true}), &both[1..], "backgroundRefreshOff"),
        (serde_json::json!({"staleAfterDays": 30}), &both[..1], "staleAfterDays"),
        (serde_json::json!({"burstEverySecs": 0}), &both, "burstEverySecs"),
        (serde_json::json!({"backgroundBudget": {"perDay": 1001}}), &both[..1], "backgroundBudget"),
        (serde_json::json!({"duplicatePercent": 101}), &both, "duplicatePercent"),
        (serde_json::json!({"duplicateAfter": {"uniformMs": [9, 5]}}), &both, "duplicateAfter"),
        (serde_json::json!({"ackDelay": {"percentiles": {}}}), &both, "ackDelay"),
        (serde_json::json!({"deprioritiseAfter": 0}), &both[1..], "deprioritiseAfter"),
        (serde_json::json!({"collapsibleBurst": {"size": 0}}), &both[1..], "collapsibleBurst"),
        (serde_json::json!({"staleAfterDays": 271}), &both[1..], "staleAfterDays"),
    ] {
        for platform in platforms {
            let problem = json(rules.clone()).problem(*platform).unwrap_or_else(|| panic!("{rules} was taken"));
            assert!(problem.contains(field), "{problem}");
        }
    }
    let usual = serde_json::json!({"collapsibleBurst": {}, "backgroundBudget": {}});
    assert_eq!(json(usual.clone()).collapsible_burst, Some(CollapsibleBurst { size: 20, refill_secs: 180 }));
    assert_eq!(json(usual).background_budget, Some(BackgroundBudget { per_hour: 3, per_day: None }));
    assert!(serde_json::from_value::<PhoneRules>(serde_json::json!({"alertOff": true})).is_err());
}
