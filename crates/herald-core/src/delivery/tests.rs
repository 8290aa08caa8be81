//! The transition table, line by line.

use super::*;

const LIFE: i64 = 3_600;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

/// A raw push to iOS, just taken for the first time at 0 s, owed a toast after 60 s.
fn owed() -> Delivery {
    Delivery {
        id: DeliveryId(uuid::Uuid::from_u128(1)),
        version: 1,
        state: State::Sending,
        form: Form::Raw,
        lane: Lane::High,
        fallback_delay: Some(Duration::from_secs(60)),
        deadline_at: Some(at(60)),
        expires_at: at(LIFE),
        takes: 1,
        attempts: 0,
    }
}

fn unowed(form: Form) -> Delivery {
    Delivery { form, fallback_delay: None, deadline_at: None, ..owed() }
}

fn came_to(form: Form, outcome: Outcome) -> Event {
    Event::Attempted { form, outcome, verdict: None, jitter: 0.5, open_until: None }
}

fn gone(verdict: Verdict) -> Event {
    let outcome = Outcome::Gone { since: None, guarded: true };
    Event::Attempted { form: Form::Raw, outcome, verdict: Some(verdict), jitter: 0.5, open_until: None }
}

/// State, form of the next push, seconds of `next_at`, seconds of the deadline.
type Want = (State, Form, Option<i64>, Option<i64>);

#[track_caller]
fn check(delivery: &Delivery, event: Event, now: i64, want: Want) -> Step {
    let step = step(delivery, event, at(now)).unwrap();
    let secs = |t: Option<Timestamp>| t.map(Timestamp::secs);
    assert_eq!((step.state, step.form, secs(step.next_at), secs(step.deadline_at)), want, "{event:?}");
    step
}

const THROTTLED: Outcome = Outcome::Throttled { scope: Scope::Device, after: None };
const UNAVAILABLE: Outcome = Outcome::Unavailable { after: None, least: Duration::ZERO };

#[test]
fn an_accepted_raw_that_is_owed_a_toast_is_watched_until_acceptance_plus_delay() {
    let step =
        check(&owed(), came_to(Form::Raw, Outcome::Accepted), 5, (State::Watching, Form::Toast, Some(65), Some(65)));
    assert_eq!(step.queue(Lane::High), DispatchQueue::Fallback);
    // Moved beyond the notification's life the toast would never be sent: the first deadline stays.
    let short = Delivery { expires_at: at(64), ..owed() };
    check(&short, came_to(Form::Raw, Outcome::Accepted), 5, (State::Watching, Form::Toast, Some(60), Some(60)));
}

#[test]
fn what_is_accepted_and_awaits_nothing_is_closed() {
    for form in [Form::Raw, Form::Alert, Form::State] {
        check(&unowed(form), came_to(form, Outcome::Accepted), 5, (State::Accepted, form, None, None));
    }
    let step = check(&owed(), came_to(Form::Toast, Outcome::Accepted), 61, (State::Toasted, Form::Raw, None, Some(60)));
    assert_eq!(step.tell, [Tell::Deferred, Tell::Toasted]);
}

#[test]
fn a_refused_raw_is_due_at_the_earlier_of_retry_and_deadline() {
    check(&owed(), came_to(Form::Raw, UNAVAILABLE), 5, (State::Due, Form::Raw, Some(7), Some(60)));
    check(&owed(), came_to(Form::Raw, UNAVAILABLE), 59, (State::Due, Form::Toast, Some(60), Some(60)));
    check(&owed(), came_to(Form::Raw, UNAVAILABLE), 70, (State::Due, Form::Toast, Some(70), Some(60)));
    check(&owed(), came_to(Form::Raw, Outcome::Unauthorized), 5, (State::Due, Form::Toast, Some(60), Some(60)));
    check(&unowed(Form::Raw), came_to(Form::Raw, Outcome::Unauthorized), 5, (State::Due, Form::Raw, Some(65), None));
    check(&unowed(Form::Alert), came_to(Form::Alert, Outcome::Unknown), 5, (State::Due, Form::Alert, Some(15), None));
    check(&owed(), came_to(Form::Raw, Outcome::NotSent), 5, (State::Due, Form::Raw, Some(6), Some(60)));
    let toast = Delivery { form: Form::Toast, ..owed() };
    check(&toast, came_to(Form::Toast, UNAVAILABLE), 61, (State::Due, Form::Toast, Some(63), Some(60)));
    // A retry beyond its life is due at its end, where the take closes it.
    let short = Delivery { expires_at: at(30), ..unowed(Form::Raw) };
    check(&short, came_to(Form::Raw, Outcome::Misconfigured), 5, (State::Due, Form::Raw, Some(30), None));
}

#[test]
fn a_raw_throttled_for_the_device_becomes_a_toast_after_ten_seconds() {
    let step = check(&owed(), came_to(Form::Raw, THROTTLED), 5, (State::Due, Form::Toast, Some(15), Some(15)));
    assert_eq!(step.tell, [Tell::Deferred]);
    check(&owed(), came_to(Form::Raw, THROTTLED), 58, (State::Due, Form::Toast, Some(60), Some(60)));
    check(&unowed(Form::Raw), came_to(Form::Raw, THROTTLED), 5, (State::Due, Form::Raw, Some(15), None));
}

#[test]
fn an_invalid_raw_that_is_owed_a_toast_becomes_one_at_once_and_anything_else_fails() {
    check(&owed(), came_to(Form::Raw, Outcome::Invalid), 5, (State::Due, Form::Toast, Some(5), Some(5)));
    for (delivery, form) in [(owed(), Form::Toast), (unowed(Form::Raw), Form::Raw), (unowed(Form::Alert), Form::Alert)]
    {
        let step = step(&delivery, came_to(form, Outcome::Invalid), at(5)).unwrap();
        assert_eq!((step.state, step.failure), (State::Failed, Some(Failure::Invalid)));
    }
}

#[test]
fn only_a_proven_gone_ends_the_subscription() {
    let step = check(&owed(), gone(Verdict::Dead), 5, (State::Gone, Form::Raw, None, Some(60)));
    assert!(step.prune);
    for verdict in [Verdict::Stale, Verdict::Unproven] {
        let step = check(&unowed(Form::Raw), gone(verdict), 5, (State::Due, Form::Raw, Some(305), None));
        assert!(!step.prune);
        // The person is told meanwhile if a toast is owed.
        check(&owed(), gone(verdict), 5, (State::Due, Form::Toast, Some(60), Some(60)));
    }
    // Said once: it is asked about again in seconds.
    let first = gone(Verdict::Unconfirmed);
    let again = super::step(&unowed(Form::Raw), first, at(5)).unwrap();
    assert_eq!((again.state, again.form, again.prune), (State::Due, Form::Raw, false));
    assert_eq!(again.next_at, Some(at(5).plus(Duration::from_millis(12_500))));
}

#[test]
fn what_was_not_pushed_is_due_again() {
    check(&owed(), Event::LeaseOver, 20, (State::Due, Form::Raw, Some(20), Some(60)));
    check(&owed(), Event::LeaseOver, 65, (State::Due, Form::Toast, Some(65), Some(60)));
    check(&owed(), Event::Held(at(30)), 5, (State::Due, Form::Raw, Some(30), Some(60)));
    check(&owed(), Event::Held(at(90)), 5, (State::Due, Form::Raw, Some(90), Some(60)));
    check(&owed(), Event::Held(at(1)), 5, (State::Due, Form::Raw, Some(5), Some(60)));
}

#[test]
fn endings_close_any_open_state_and_nothing_closes_twice() {
    for state in State::ALL {
        let delivery = Delivery { state, ..owed() };
        for (event, want) in [
            (Event::Received, State::Received),
            (Event::Withdrawn, State::Withdrawn),
            (Event::SubscriptionEnded, State::Withdrawn),
            (Event::Expired, State::Expired),
        ] {
            match step(&delivery, event, at(5)) {
                Ok(step) => {
                    assert!(state.is_open());
                    assert_eq!((step.state, step.next_at), (want, None));
                }
                Err(impossible) => {
                    assert!(!state.is_open());
                    assert_eq!(impossible.state, state);
                }
            }
        }
        let pushed = step(&delivery, came_to(Form::Raw, Outcome::Accepted), at(5));
        assert_eq!(pushed.is_ok(), state == State::Sending, "only a taken delivery was pushed");
    }
    let step = check(&owed(), Event::Poisoned, 5, (State::Failed, Form::Raw, None, Some(60)));
    assert_eq!(step.failure, Some(Failure::Poison));
}

#[test]
fn a_take_pushes_the_toast_from_the_deadline_on_and_nothing_after_the_end() {
    assert_eq!(at_take(&owed(), true, at(59)), Take::Push(Form::Raw));
    assert_eq!(at_take(&owed(), true, at(60)), Take::Push(Form::Toast));
    assert_eq!(at_take(&unowed(Form::Raw), true, at(60)), Take::Push(Form::Raw));
    assert_eq!(at_take(&unowed(Form::Alert), true, at(60)), Take::Push(Form::Alert));
    assert_eq!(at_take(&owed(), false, at(1)), Take::Close(Event::SubscriptionEnded));
    assert_eq!(at_take(&owed(), true, at(LIFE)), Take::Close(Event::Expired));
}

#[test]
fn numbers_round_trip_and_open_states_are_below_ten() {
    for state in State::ALL {
        assert_eq!(State::from_number(state.number()), Some(state));
        assert_eq!(state.is_open(), state.number() < 10);
    }
}

#[test]
fn of_a_state_push_producers_are_told_only_that_a_subscription_ended() {
    let state = unowed(Form::State);
    let due = Delivery { state: State::Due, ..state };
    let tell = |delivery: &Delivery, event| step(delivery, event, at(5)).unwrap().tell;
    for event in [
        came_to(Form::State, Outcome::Accepted),
        came_to(Form::State, Outcome::Invalid),
        Event::Expired,
        Event::SubscriptionEnded,
        Event::Poisoned,
        Event::Received,
    ] {
        assert_eq!(tell(&state, event), [], "{event:?}");
    }
    assert_eq!(tell(&due, Event::Withdrawn), []);
    assert_eq!(tell(&state, gone(Verdict::Dead)), [Tell::SubscriptionEnded]);
    assert_eq!(
        step(&state, came_to(Form::State, Outcome::Accepted), at(5)).unwrap().queue(Lane::Normal),
        DispatchQueue::Normal
    );
}
