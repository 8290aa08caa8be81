//! Tables: two snapshots, and the lines that come of them.

use std::borrow::Cow;

use herald_core::ids::{DeliveryId, NotificationId};
use uuid::Uuid;

use super::*;
use crate::demo::snapshot::Phone;

const NOW: i64 = 9_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn attempt(form: Form, millis: i64, outcome: &'static str) -> Attempt {
    let (status, reason) = match outcome {
        ACCEPTED => (Some(200), None),
        "gone" => (Some(410), Some(Cow::Borrowed("Unregistered"))),
        "unavailable" => (Some(503), Some(Cow::Borrowed("other"))),
        _ => (None, None),
    };
    Attempt {
        form,
        at: at(millis),
        took_ms: 20,
        outcome: Cow::Borrowed(outcome),
        status,
        reason,
        detail: None,
        provider_id: None,
    }
}

/// Owed a toast, and nothing has happened yet.
fn delivery() -> Delivery {
    Delivery {
        notification: NotificationId(Uuid::from_u128(1)),
        person: "ben".to_owned(),
        provider: Provider::Apns,
        state: State::Sending,
        fallback_delay: Some(Duration::from_secs(3)),
        deadline_at: None,
        received_at: None,
        closed_at: None,
        failure: None,
        attempts: Vec::new(),
        title: Some("Order shipped".to_owned()),
        toasts_shown: 0,
        alerts_shown: 0,
        raws_at_provider: 0,
    }
}

fn watching() -> Delivery {
    Delivery {
        state: State::Watching,
        attempts: vec![attempt(Form::Raw, 0, ACCEPTED)],
        deadline_at: Some(at(3_020)),
        ..delivery()
    }
}

fn toasted() -> Delivery {
    let mut toasted = watching();
    toasted.attempts.push(attempt(Form::Toast, 3_100, ACCEPTED));
    Delivery { state: State::Toasted, closed_at: Some(at(3_125)), toasts_shown: 1, ..toasted }
}

fn seen(delivery: Option<Delivery>) -> Snapshot {
    let deliveries = delivery.map(|delivery| (DeliveryId(Uuid::from_u128(2)), delivery));
    Snapshot { at: Some(at(NOW)), deliveries: deliveries.into_iter().collect(), ..Snapshot::default() }
}

#[track_caller]
fn check(before: Option<Delivery>, after: Delivery, expected: &[(i64, Mark, &str)]) {
    let lines = lines(&seen(before), &seen(Some(after.clone())));
    let got: Vec<(i64, Mark, &str)> =
        lines.iter().map(|line| (line.at.micros() / 1_000, line.mark, line.text.as_str())).collect();
    assert_eq!(got, expected);
    assert!(lines.iter().all(|line| line.who == "ben"));
    // What has been said is not said again.
    assert_eq!(super::lines(&seen(Some(after.clone())), &seen(Some(after))), []);
}

const RAW: (i64, Mark, &str) = (20, Mark::Step, "raw push accepted by APNs; the app has 3 s to send a receipt");
const DEFERRED: (i64, Mark, &str) =
    (3_020, Mark::Deferred, "deferred: no receipt within 3 s; it goes out again as a toast");
const TOAST: (i64, Mark, &str) = (3_120, Mark::Step, "toast accepted by APNs");
const SEES: (i64, Mark, &str) = (NOW, Mark::Seen, "the person sees a toast: \"Order shipped\"");

#[test]
fn a_raw_push_is_told_with_the_time_that_a_receipt_has() {
    check(None, watching(), &[RAW]);
    check(Some(delivery()), watching(), &[RAW]);
    let android = Delivery { provider: Provider::Fcm, fallback_delay: None, state: State::Accepted, ..watching() };
    check(None, android, &[(20, Mark::Step, "raw push accepted by FCM; Android: no toast will follow")]);
    let not_owed = Delivery { fallback_delay: None, state: State::Accepted, ..watching() };
    check(None, not_owed, &[(20, Mark::Step, "raw push accepted by APNs; no toast will follow")]);
}

#[test]
fn a_receipt_is_told_with_what_it_means() {
    let received =
        Delivery { state: State::Received, received_at: Some(at(270)), closed_at: Some(at(270)), ..watching() };
    let told = (270, Mark::Good, "receipt: the app has it, so there will be no toast");
    check(Some(watching()), received.clone(), &[told]);
    check(None, received, &[RAW, told]);
    let late = Delivery { received_at: Some(at(5_000)), ..toasted() };
    let told = (5_000, Mark::Good, "receipt, after the toast: the app has it");
    check(Some(toasted()), late, &[told]);
    let accepted = Delivery { state: State::Accepted, fallback_delay: None, ..watching() };
    let known = Delivery { received_at: Some(at(270)), ..accepted.clone() };
    check(Some(accepted), known, &[(270, Mark::Good, "receipt: the app has it")]);
}

#[test]
fn a_deferral_is_told_once_at_its_deadline_with_the_toast_that_follows() {
    check(Some(watching()), toasted(), &[DEFERRED, TOAST, SEES]);
    check(None, toasted(), &[RAW, DEFERRED, TOAST, SEES]);
    let mut failing = watching();
    failing.attempts.push(attempt(Form::Toast, 3_100, "unavailable"));
    let refused = (3_120, Mark::Refused, "toast refused by APNs: 503");
    check(Some(watching()), failing.clone(), &[DEFERRED, refused]);
    let mut second = failing.clone();
    second.attempts.push(attempt(Form::Toast, 4_000, ACCEPTED));
    check(Some(failing), second, &[(4_020, Mark::Step, "toast accepted by APNs")]);
    let mut never = delivery();
    never.deadline_at = Some(at(3_000));
    never.attempts = vec![attempt(Form::Raw, 0, "not_sent"), attempt(Form::Toast, 3_050, ACCEPTED)];
    let expected = [
        (20, Mark::Refused, "raw push could not be sent to APNs"),
        (3_000, Mark::Deferred, "deferred: no raw push was accepted; it goes out again as a toast"),
        (3_070, Mark::Step, "toast accepted by APNs"),
    ];
    check(None, never, &expected);
}

#[test]
fn what_a_person_sees_is_told_after_the_push_that_brought_it() {
    let early = Delivery { toasts_shown: 1, ..watching() };
    check(Some(watching()), early.clone(), &[]);
    check(Some(early), toasted(), &[DEFERRED, TOAST, SEES]);
    let not_yet = Delivery { toasts_shown: 0, ..toasted() };
    check(Some(watching()), not_yet.clone(), &[DEFERRED, TOAST]);
    check(Some(not_yet), toasted(), &[SEES]);
    let alert = Delivery {
        state: State::Accepted,
        attempts: vec![attempt(Form::Alert, 0, ACCEPTED)],
        alerts_shown: 1,
        ..delivery()
    };
    let sees = (NOW, Mark::Seen, "the person sees a notification: \"Order shipped\"");
    check(None, alert, &[(20, Mark::Step, "visible push accepted by APNs"), sees]);
}

#[test]
fn an_end_that_nothing_else_tells_is_told() {
    let closed = |state, outcome| Delivery {
        state,
        closed_at: Some(at(30)),
        attempts: vec![attempt(Form::Raw, 0, outcome)],
        failure: Some("invalid".to_owned()),
        ..delivery()
    };
    let refused = (20, Mark::Refused, "raw push refused by APNs: 410 Unregistered");
    let pruned = (30, Mark::Refused, "token pruned: Herald will not push to this phone again");
    check(None, closed(State::Gone, "gone"), &[refused, pruned]);
    let no_answer = (20, Mark::Refused, "raw push: no answer from APNs");
    check(None, closed(State::Failed, "unknown"), &[no_answer, (30, Mark::Refused, "given up: invalid")]);
    let expired = Delivery { attempts: Vec::new(), ..closed(State::Expired, ACCEPTED) };
    check(Some(delivery()), expired, &[(30, Mark::Refused, "expired before it could be delivered")]);
    let withdrawn = Delivery { attempts: Vec::new(), ..closed(State::Withdrawn, ACCEPTED) };
    check(Some(delivery()), withdrawn, &[(30, Mark::Step, "withdrawn: nothing more is sent")]);
}

#[test]
fn a_phone_that_somebody_changed_is_told_and_a_new_one_is_not() {
    let with = |condition| {
        let mut snapshot = seen(None);
        snapshot.phones.insert("ben".to_owned(), Phone { condition, receipts: 0 });
        snapshot
    };
    let awake = with(Condition::Awake);
    let told = lines(&with(Condition::PowerSaving), &awake);
    assert_eq!(told.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["the phone was changed: it is awake"]);
    assert_eq!(lines(&seen(None), &awake), []);
}

#[test]
fn requests_are_told_as_soon_as_there_is_something_to_compare_with() {
    let with = |stored, parked| {
        let mut snapshot = seen(None);
        snapshot.requests = [("stored".to_owned(), stored), ("parked".to_owned(), parked)].into_iter().collect();
        snapshot
    };
    assert_eq!(lines(&seen(None), &with(5, 0)), []);
    let told = lines(&with(5, 0), &with(7, 1));
    let texts: Vec<&str> = told.iter().map(|line| line.text.as_str()).collect();
    assert!(told.iter().all(|line| line.who == "queue"));
    assert_eq!(
        texts,
        ["1 request parked; `herald dead list` says why", "2 requests stored; nothing follows for one without a phone"]
    );
}

#[test]
fn many_equal_lines_of_one_look_become_one() {
    let mut after = seen(None);
    for n in 10..14 {
        after.deliveries.insert(DeliveryId(Uuid::from_u128(n)), watching());
    }
    let other = Delivery { person: "anna".to_owned(), ..watching() };
    after.deliveries.insert(DeliveryId(Uuid::from_u128(20)), other);
    let told = lines(&seen(None), &after);
    let texts: Vec<(&str, &str)> = told.iter().map(|line| (line.who.as_str(), line.text.as_str())).collect();
    assert_eq!(texts, [("ben", format!("4 times: {}", RAW.2).as_str()), ("anna", RAW.2)]);
}
