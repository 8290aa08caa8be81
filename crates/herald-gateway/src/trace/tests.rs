//! What is told of lives that deliveries have.

use herald_core::delivery::{Delivery, State};
use herald_core::ids::PushToken;
use herald_core::lane::{DispatchQueue, Lane};
use herald_core::notification::{Content, FallbackPolicy, Notification, Payload, Visual};
use herald_core::push::Form;
use herald_core::subscription::{Environment, Platform, PlatformSet, Provider, Subscription, TokenKind};
use uuid::Uuid;

use super::*;

const SECRET: &str = "s3cret";
const DELAY: std::time::Duration = std::time::Duration::from_secs(60);

/// So many milliseconds after the request came in.
fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + ms)
}

fn unsid() -> Unsid {
    Unsid(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_00ab))
}

fn delivery(state: State, attempts: Vec<Attempt>) -> TracedDelivery {
    TracedDelivery {
        delivery: Delivery {
            id: DeliveryId(Uuid::from_u128(2)),
            version: 1,
            state,
            form: Form::Raw,
            lane: Lane::High,
            fallback_delay: Some(DELAY),
            deadline_at: Some(at(60_300)),
            expires_at: at(1_000_000),
            takes: 0,
            attempts: u16::try_from(attempts.len()).unwrap(),
        },
        unsid: unsid(),
        provider: Provider::Apns,
        queue: DispatchQueue::High,
        next_at: None,
        received_at: None,
        failure: None,
        closed_at: None,
        attempts,
    }
}

fn attempt(form: Form, ms: i64, outcome: &'static str, answer: Option<(u16, &'static str)>) -> Attempt {
    Attempt {
        form,
        at: at(ms),
        took_ms: 10,
        outcome: outcome.into(),
        status: answer.map(|(status, _)| status),
        reason: answer.map(|(_, reason)| reason.into()),
        detail: None,
        provider_id: answer.is_none().then(|| "A-1".to_owned()),
    }
}

fn trace(deliveries: Vec<TracedDelivery>) -> Trace {
    let visual = Visual { title: SECRET.to_owned(), body: Some(SECRET.to_owned()) };
    let content = Content {
        app_notification_id: Some("order-1042".to_owned()),
        group_name: None,
        priority: Priority::High,
        payload: Payload { raw: Some(SECRET.to_owned()), visual: None },
        display_ttl: None,
        target_policy: PlatformSet::ALL,
        fallback: Some(FallbackPolicy { platforms: PlatformSet::EMPTY.with(Platform::Ios), delay: DELAY, visual }),
        traceparent: None,
        tracestate: None,
    };
    Trace {
        notification: Notification {
            id: NotificationId(Uuid::from_u128(1)),
            app: AppId::new("mail.contoso.com"),
            user: UserId::new("anna"),
            content,
            expires_at: at(1_000_000),
        },
        key: "k".to_owned(),
        received_at: at(0),
        next_at: None,
        deliveries,
    }
}

fn known() -> KnownSubscription {
    KnownSubscription {
        subscription: Subscription {
            id: unsid(),
            app: AppId::new("mail.contoso.com"),
            user: UserId::new("anna"),
            platform: Platform::Ios,
            token_kind: TokenKind::Token,
            token: PushToken::new(SECRET),
            environment: Environment::Production,
            confirmed_at: at(0),
            expires_at: at(0),
        },
        active: true,
        device: DeviceState { low_power_mode: Some(true), alerts_allowed: Some(false), ..DeviceState::default() },
        reported_at: Some(Timestamp::from_secs(1_699_999_999)),
    }
}

/// The story but for its first two lines, which say what is stored and to whom it goes.
fn story(trace: &Trace) -> Vec<String> {
    told(trace, &[known()], at(30_000)).story.split_off(2)
}

#[track_caller]
fn check(delivery: TracedDelivery, expected: &[&str]) {
    assert_eq!(story(&trace(vec![delivery])), expected);
}

#[test]
fn a_story_begins_with_what_is_stored_and_with_what_is_known_of_each_device() {
    let one = trace(vec![TracedDelivery { next_at: Some(at(0)), ..delivery(State::Due, vec![]) }]);
    let lines = told(&one, &[known()], at(30_000)).story;
    assert_eq!(
        lines[..2],
        [
            "+0.00 s  stored: a raw push of priority High, with a fallback after 60 s; it lives until \
             2023-11-14T22:30:00Z",
            "+0.00 s  raw push to iPhone …000000ab (production); it said on 2023-11-14T22:13:19Z: alerts are not allowed, \
             low power mode is on",
        ]
    );
    let lines = told(&one, &[], at(30_000)).story;
    assert_eq!(lines[1], "+0.00 s  raw push to iPhone …000000ab, whose subscription is not known any more");
    let nobody = told(&trace(vec![]), &[], at(30_000)).story;
    assert_eq!(nobody[1], "+0.00 s  no device to push to: its user had none here that its target policy includes");
    let scheduled = Trace { next_at: Some(at(3_630_000)), ..trace(vec![]) };
    let line = told(&scheduled, &[], at(30_000)).story.pop().unwrap();
    assert_eq!(line, "+60 min 30 s  its devices are chosen, in 60 min 00 s from now");
}

#[test]
fn a_receipt_in_time_cancels_the_toast_and_a_late_one_does_not() {
    let raw = || attempt(Form::Raw, 300, "accepted", None);
    let received = TracedDelivery {
        received_at: Some(at(800)),
        closed_at: Some(at(900)),
        ..delivery(State::Received, vec![raw()])
    };
    let accepted = "+0.31 s  raw push to iPhone …000000ab accepted by APNs (apns-id A-1)";
    check(
        received,
        &[accepted, "+0.90 s  receipt of iPhone …000000ab: its app has it since +0.80 s: no toast is sent"],
    );
    let watching = TracedDelivery { next_at: Some(at(60_300)), ..delivery(State::Watching, vec![raw()]) };
    check(
        watching,
        &[accepted, "+60.30 s  the toast to iPhone …000000ab is due unless a receipt comes, in 30.30 s from now"],
    );
    let toasted = vec![raw(), attempt(Form::Toast, 60_400, "accepted", None)];
    let late = TracedDelivery {
        received_at: Some(at(70_000)),
        closed_at: Some(at(60_420)),
        ..delivery(State::Toasted, toasted)
    };
    check(
        late,
        &[
            accepted,
            "+60.40 s  no receipt of iPhone …000000ab by its deadline at +60.30 s: the toast is due",
            "+60.41 s  toast push to iPhone …000000ab accepted by APNs (apns-id A-1)",
            "+60.42 s  done: the person was told by the toast (iPhone …000000ab)",
            "+70.00 s  late receipt of iPhone …000000ab: its app has it",
        ],
    );
}

#[test]
fn what_was_not_waited_for_is_not_late_and_what_was_not_pushed_is_not_waited_for() {
    let raw = attempt(Form::Raw, 300, "accepted", None);
    let mut android =
        TracedDelivery { received_at: Some(at(800)), closed_at: Some(at(310)), ..delivery(State::Accepted, vec![raw]) };
    android.delivery.fallback_delay = None;
    let lines = story(&trace(vec![android]));
    assert_eq!(lines.last().unwrap(), "+0.80 s  receipt of iPhone …000000ab: its app has it");
    let paused = vec![attempt(Form::Toast, 60_400, "accepted", None)];
    check(
        TracedDelivery { closed_at: Some(at(60_420)), ..delivery(State::Toasted, paused) },
        &[
            "+60.40 s  no raw push is known to have been accepted for iPhone …000000ab by its deadline at +60.30 s: the toast is due",
            "+60.41 s  toast push to iPhone …000000ab accepted by APNs (apns-id A-1)",
            "+60.42 s  done: the person was told by the toast (iPhone …000000ab)",
        ],
    );
}

#[test]
fn a_state_push_begins_when_its_user_made_the_change() {
    let mut state = delivery(State::Due, vec![]);
    let changed = at(25_000);
    state.delivery.id = DeliveryId(Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        u64::try_from(changed.secs()).unwrap(),
        0,
    )));
    state.delivery.form = Form::State;
    state.delivery.fallback_delay = None;
    let lines = told(&trace(vec![state]), &[known()], at(30_000)).story;
    assert!(lines[1].starts_with("+25.00 s  state push to iPhone …000000ab"), "{lines:?}");
}

#[test]
fn a_refusal_says_what_it_means_and_what_the_provider_said() {
    let throttled = vec![
        attempt(Form::Raw, 300, "throttled", Some((429, "TooManyRequests"))),
        attempt(Form::Toast, 10_310, "accepted", None),
    ];
    check(
        TracedDelivery { closed_at: Some(at(10_330)), ..delivery(State::Toasted, throttled) },
        &[
            "+0.31 s  raw push to iPhone …000000ab refused by APNs for now: too many pushes (429 TooManyRequests)",
            "+10.31 s  the raw push to iPhone …000000ab could not be had in time: the toast is due before its deadline",
            "+10.32 s  toast push to iPhone …000000ab accepted by APNs (apns-id A-1)",
            "+10.33 s  done: the person was told by the toast (iPhone …000000ab)",
        ],
    );
    for (outcome, means) in [
        ("gone", "refused by APNs: the push token is dead"),
        ("invalid", "refused by APNs: the push itself is wrong"),
        ("misconfigured", "refused by APNs: the app's topic, project or environment here is wrong"),
        ("unauthorized", "refused by APNs: the app's credentials here are not accepted"),
        ("unavailable", "refused by APNs for now: it is in trouble"),
        ("not_sent", "not sent: APNs was not reached"),
        ("unknown", "without an answer of APNs that says what became of it"),
        ("of a later version", "without an answer of APNs that says what became of it"),
    ] {
        let tried = vec![attempt(Form::Raw, 300, outcome, Some((400, "Why")))];
        let due = TracedDelivery { next_at: Some(at(40_000)), ..delivery(State::Due, tried) };
        check(
            due,
            &[
                &format!("+0.31 s  raw push to iPhone …000000ab {means} (400 Why)"),
                "+40.00 s  the next raw push to iPhone …000000ab is due, in 10.00 s from now",
            ],
        );
    }
}

#[test]
fn every_end_is_told_and_says_if_no_toast_is_sent() {
    let ended = |state, failure: Option<&str>| TracedDelivery {
        closed_at: Some(at(5_000)),
        failure: failure.map(str::to_owned),
        ..delivery(state, vec![])
    };
    for (state, failure, text) in [
        (State::Accepted, None, "done: no receipt is waited for"),
        (State::Gone, None, "given up: the push token is dead, and the subscription ended"),
        (State::Failed, Some("invalid"), "given up: the provider refused it for good"),
        (State::Failed, Some("poison"), "given up: it ended the workers that took it"),
        (State::Expired, None, "its life was over: no toast is sent"),
        (
            State::Withdrawn,
            None,
            "withdrawn: it was read, dismissed or deleted, or the subscription ended: no toast is sent",
        ),
    ] {
        check(ended(state, failure), &[&format!("+5.00 s  {text} (iPhone …000000ab)")]);
    }
}

#[test]
fn why_no_fallback_was_owed_is_told() {
    let mut one = delivery(State::Accepted, vec![]);
    one.delivery.fallback_delay = None;
    let line = |trace: &Trace| story(trace).remove(0);
    let why = |text: &str| format!("+0.00 s  no fallback for iPhone …000000ab: {text}");
    let mut plain = trace(vec![one.clone()]);
    assert_eq!(line(&plain), why("the app only observes fallbacks"));
    plain.notification.content.priority = Priority::Low;
    assert_eq!(line(&plain), why("its priority is not High"));
    let mut short = trace(vec![one.clone()]);
    short.notification.expires_at = at(60_000);
    assert_eq!(line(&short), why("it expires before one would be due"));
    one.provider = Provider::Fcm;
    let android = story(&trace(vec![one])).remove(0);
    assert_eq!(android, "+0.00 s  no fallback for Android …000000ab: fallbacks are for iOS");
}

#[test]
fn nothing_of_what_it_says_and_no_token_is_told() {
    let tried = vec![attempt(Form::Raw, 300, "accepted", None)];
    let one = trace(vec![TracedDelivery { next_at: Some(at(60_300)), ..delivery(State::Watching, tried) }]);
    let value = serde_json::to_value(told(&one, &[known()], at(30_000))).unwrap();
    assert!(!value.to_string().contains(SECRET), "{value}");
    assert_eq!(value["deliveries"][0]["attempts"][0]["providerId"], "A-1");
    assert_eq!(value["deliveries"][0]["subscription"]["deviceState"]["lowPowerMode"], true);
    assert_eq!(
        (&value["appNotificationId"], &value["deliveries"][0]["state"]),
        (&"order-1042".into(), &"watching".into())
    );
}
