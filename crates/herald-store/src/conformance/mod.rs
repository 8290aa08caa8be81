//! What every kind of store must do, as tests that are generic over a fresh store.
//!
//! `tests/conformance.rs` runs them with [`crate::conformance_tests`]. They use the public methods only, wait for
//! conditions and never sleep for time.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, missing_docs, reason = "these are tests")]

pub mod dead;
pub mod due;
pub mod erase;
pub mod fanout;
pub mod import;
pub mod intake;
pub mod pauses;
pub mod prune;
pub mod reading;
pub mod receipts;
pub mod record;
pub mod rest;
pub mod subscriptions;
pub mod sweep;
pub mod take;

use std::collections::BTreeMap;
use std::time::Duration;

use herald_core::delivery::{State, Step};
use herald_core::event::OutboxEvent;
use herald_core::ids::{AppId, DeliveryId, NotificationId, PushToken, UserId};
use herald_core::lane::{DispatchQueue, Hint, Lane};
use herald_core::notification::{Content, Payload, Priority};
use herald_core::push::Form;
use herald_core::request::{Request, Target};
use herald_core::subscription::{Environment, Platform, PlatformSet, Subscription, TokenKind};
use herald_core::time::Timestamp;
use uuid::Uuid;

use crate::{
    Attempt, Intaken, NewDelivery, NewNotification, NewSubscription, Record, Recorded, Resolved, Store, Taken,
};
use crate::{DeadFilter, DeadLetter, DeadPage, Trace, TracedDelivery};

/// A lease or hold that outlasts any test.
pub const LONG: Duration = Duration::from_secs(600);
/// One that is over at once.
pub const OVER: Duration = Duration::ZERO;
/// A fallback's delay that outlasts any test.
pub const DELAY: Duration = Duration::from_secs(60);

/// Makes a test of every case. `$fresh` is an async function that returns a guard and a migrated, empty [`Store`].
#[macro_export]
macro_rules! conformance_tests {
    ($fresh:ident) => {
        $crate::conformance_tests! { @cases $fresh;
            intake {
                a_request_becomes_taken_and_due_deliveries_by_the_budget
                a_key_is_stored_once_across_batches_and_within_one
                the_same_key_of_another_user_or_app_is_another_notification
                concurrent_intakes_of_the_same_keys_store_each_once_and_never_deadlock
                an_ended_subscription_still_names_its_user
                a_subscription_never_seen_or_of_another_app_is_an_unknown_target
                only_active_subscriptions_of_the_user_are_resolved
                a_user_with_no_device_is_stored_with_its_event
                an_empty_batch_is_nothing
            }
            due {
                due_rows_are_claimed_oldest_first_and_held
                a_held_row_comes_up_again_at_the_same_version
                undue_makes_a_claim_due_at_once_unless_it_was_taken
                queues_are_served_apart
                concurrent_claims_never_share_a_row
            }
            take {
                a_take_returns_all_that_a_push_needs
                a_take_says_when_the_last_push_found_the_token_dead
                a_stale_hint_takes_nothing
                of_concurrent_takes_one_wins
                a_lapsed_lease_makes_the_row_due_again_and_counts_the_take
                the_deadline_is_set_by_the_first_take_and_kept_by_the_next
                a_take_shows_a_subscription_that_ended_or_has_another_token
                a_watching_row_is_taken_at_its_deadline
                deliveries_of_one_notification_share_it
            }
            record {
                a_record_writes_the_step_and_the_attempt
                an_old_version_changes_nothing_but_the_attempt_is_kept
                events_are_written_only_with_an_applied_step
                a_retry_is_due_at_its_time_in_its_queue
                two_records_of_one_delivery_in_a_batch_count_once
                a_failure_is_kept_with_its_reason
                of_very_many_attempts_the_first_and_the_last_are_kept
                a_record_of_nothing_known_is_not_applied
            }
            prune {
                a_dead_token_ends_its_subscription_and_withdraws_its_other_deliveries
                another_token_by_now_makes_the_delivery_due_at_once
                the_same_token_presented_again_is_not_pruned
                a_subscription_that_ended_already_leaves_the_delivery_gone
                an_old_version_still_prunes
                a_toast_to_a_changed_token_stays_a_toast
            }
            receipts {
                a_receipt_closes_an_open_delivery_and_cancels_its_fallback
                a_receipt_during_a_push_refuses_the_record
                a_late_receipt_is_kept_on_the_closed_row
                a_receipt_twice_is_a_duplicate_also_in_one_batch
                a_pair_names_a_delivery_of_its_app_only
                one_phones_receipt_says_nothing_about_another
                a_receipt_and_a_take_at_once_end_received
                the_apps_own_time_is_kept_but_never_the_future
                withdrawing_closes_all_open_deliveries_once
                receipts_and_withdrawals_are_told_in_the_same_transaction
            }
            reading {
                a_list_is_of_one_user_newest_first_and_comes_in_pages
                filters_choose_by_state_action_group_and_tombstone
                a_change_withdraws_what_is_still_to_be_pushed_and_tells_the_other_devices
                what_changes_nothing_or_does_not_match_or_is_anothers_does_nothing
                of_a_deleted_notification_nothing_is_left_but_its_names_until_it_expires
                a_state_push_that_waits_says_it_all_and_one_that_is_under_way_does_not
                who_changes_a_notification_over_and_over_makes_no_push_of_each
                state_pushes_are_neither_withdrawn_nor_paired_but_expire_and_end_with_their_subscription
                a_change_stops_a_fanout_and_taking_it_back_does_not
                a_delta_begins_with_all_and_goes_on_with_what_was_written
                a_mark_of_another_store_or_of_the_future_is_unknown
                a_delta_misses_nothing_of_what_is_committed_meanwhile
                a_scheduled_notification_is_there_once_it_was_resolved
                what_a_device_has_acknowledged_is_known_and_a_pair_may_be_limited_to_a_user
            }
            subscriptions {
                the_same_user_and_token_keep_their_id
                a_token_of_another_user_ends_the_former_and_withdraws
                a_named_subscription_gets_another_token
                an_ended_or_foreign_name_makes_a_new_subscription
                the_same_token_in_another_app_or_environment_is_another_subscription
                concurrent_registrations_of_one_token_leave_one_active
                many_are_registered_at_once_and_known_tokens_are_renewed
                ending_is_told_once
                a_new_device_beyond_the_limit_ends_the_one_confirmed_longest_ago
                concurrent_registrations_of_one_user_keep_to_the_limit
                what_a_device_says_of_itself_is_kept_until_it_says_otherwise
                a_known_subscription_alone_is_renewed_if_so_asked
            }
            pauses {
                a_pause_is_seen_by_all_until_resumed
                what_a_pause_left_behind_comes_back_but_not_while_a_newer_one_runs
                a_shorter_pause_does_not_replace_a_longer_one
                an_operators_pause_is_not_replaced_by_an_automatic_one
                due_rows_of_a_paused_provider_move_untaken_and_come_back
                a_watching_row_does_not_come_back_before_its_deadline
                guard_counts_add_up_over_replicas
            }
            fanout {
                a_wide_fanout_is_made_by_pages_and_survives_a_crash_between_them
                a_scheduled_send_is_resolved_at_its_time
                a_withdrawn_fanout_makes_no_more_deliveries
                an_expired_fanout_makes_none
                two_replicas_never_make_the_same_page
                claims_are_counted_until_a_page_is_made
                a_fanout_that_is_given_up_is_a_dead_letter_and_what_was_made_of_it_goes_on
            }
            sweep {
                open_deliveries_of_expired_notifications_are_closed_then_deleted
                sweeping_is_done_in_steps
                unrenewed_subscriptions_end_when_they_expire
            }
            import {
                what_is_exported_is_imported_elsewhere_under_its_id
                an_import_takes_nothing_from_what_is_here
                of_rows_with_one_token_the_first_has_it
                two_imports_of_the_same_rows_at_once_add_each_once
            }
            erase {
                all_of_a_user_goes_and_nothing_of_another
                a_push_under_way_records_nothing_of_a_user_who_was_erased
                a_fanout_under_way_is_stopped_and_much_goes_in_steps
                erasing_beside_workers_ends_without_a_fault
            }
            dead {
                dead_letters_are_chosen_by_reason_app_queue_and_time
                pages_meet_each_dead_letter_once_in_either_order
                what_is_parked_again_takes_the_place_of_the_former_and_is_not_removed_with_it
            }
            rest {
                events_come_out_until_they_are_done
                dead_letters_are_stored_once_listed_and_removed
                the_clock_tells_the_stores_time
                stats_say_what_waits
                a_trace_belongs_to_its_app
                notifications_are_found_by_their_producers_name
                the_schema_is_checked_and_migrating_again_is_harmless
            }
        }
    };
    (@cases $fresh:ident; $($module:ident { $($case:ident)* })*) => {
        $(mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (_guard, store) = super::$fresh().await;
                $crate::conformance::$module::$case(store).await;
            })*
        })*
    };
}

pub fn app() -> AppId {
    AppId::new("mail.contoso.com")
}

pub fn user(name: &str) -> UserId {
    UserId::new(name)
}

/// An iPhone of this user.
pub fn phone(name: &str, token: &str) -> NewSubscription {
    NewSubscription {
        app: app(),
        user: user(name),
        platform: Platform::Ios,
        token_kind: TokenKind::Token,
        token: PushToken::new(token),
        environment: Environment::Production,
        expires_at: Timestamp::from_secs(4_000_000_000),
        unsid: None,
    }
}

/// A request of the high lane for a user, with this key.
pub fn request(name: &str, key: &str) -> NewNotification {
    let content = Content {
        app_notification_id: Some(key.to_owned()),
        group_name: None,
        priority: Priority::High,
        // PostgreSQL's JSON has no word for it.
        payload: Payload { raw: Some("{\u{0}}".to_owned()), visual: None },
        display_ttl: None,
        target_policy: PlatformSet::ALL,
        fallback: None,
        traceparent: None,
        tracestate: None,
    };
    NewNotification {
        id: NotificationId(Uuid::now_v7()),
        request: Request {
            app: app(),
            target: Target::User(user(name)),
            key: key.to_owned(),
            content,
            expires_at: Timestamp::from_secs(4_000_000_000),
            deliver_at: None,
            lane: Lane::High,
        },
        received_at: Timestamp::from_secs(1_700_000_000),
    }
}

/// A raw delivery to each subscription, with a fallback owed.
pub fn to_each(_: &NewNotification, _: &UserId, subscriptions: &[Subscription], _: Timestamp) -> Resolved {
    let delivery = |s: &Subscription| NewDelivery {
        id: DeliveryId(Uuid::now_v7()),
        unsid: s.id,
        form: Form::Raw,
        fallback_delay: Some(DELAY),
    };
    Resolved { deliveries: subscriptions.iter().map(delivery).collect(), events: Vec::new() }
}

pub fn event(name: &str) -> OutboxEvent {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
    OutboxEvent { id, routing_key: format!("{name}.mail.contoso.com"), body: "{}".to_owned() }
}

/// What is stored of one request: its notification, takes and hints.
pub struct Stored {
    pub id: NotificationId,
    pub taken: Vec<Taken>,
    pub due: Vec<Hint>,
    pub deferred: bool,
}

/// Intake of one request, which must be new.
pub async fn store_one(store: &Store, new: NewNotification, budget: usize, lease: Duration) -> Stored {
    let mut results = store.intake(vec![new], budget, lease, to_each).await.unwrap();
    match results.pop().unwrap() {
        Intaken::Stored { notification, taken, due, deferred_fanout } => {
            Stored { id: notification.id, taken, due, deferred: deferred_fanout }
        }
        other => panic!("expected it to be stored, not {other:?}"),
    }
}

/// A phone and a delivery to it that is taken for long.
pub async fn taken(store: &Store, name: &str, key: &str) -> Taken {
    store.subscribe(phone(name, &format!("token of {name}"))).await.unwrap();
    store_one(store, request(name, key), 1, LONG).await.taken.pop().unwrap()
}

/// A phone and a delivery to it that is due.
pub async fn due(store: &Store, name: &str, key: &str) -> (NotificationId, Hint) {
    store.subscribe(phone(name, &format!("token of {name}"))).await.unwrap();
    let mut stored = store_one(store, request(name, key), 0, LONG).await;
    (stored.id, stored.due.pop().unwrap())
}

pub fn step(state: State, form: Form, next_at: Option<Timestamp>) -> Step {
    Step { state, form, next_at, deadline_at: None, failure: None, prune: false, tell: Vec::new() }
}

pub fn attempt(form: Form, at: Timestamp) -> Attempt {
    Attempt {
        form,
        at,
        took_ms: 12,
        outcome: "accepted".into(),
        status: Some(200),
        reason: None,
        detail: None,
        provider_id: Some("id".to_owned()),
    }
}

/// The record of an accepted raw push that is watched until `deadline`.
pub fn watching(taken: &Taken, deadline: Timestamp) -> Record {
    let step = Step { deadline_at: Some(deadline), ..step(State::Watching, Form::Raw, Some(deadline)) };
    Record::new(taken, step, Some(attempt(Form::Raw, taken.taken_at)), Vec::new())
}

/// The record of a push that ends it.
pub fn ending(taken: &Taken, state: State) -> Record {
    let form = taken.delivery.form;
    Record::new(taken, step(state, form, None), Some(attempt(form, taken.taken_at)), Vec::new())
}

/// The record of a push to a dead token.
pub fn gone(taken: &Taken) -> Record {
    let form = taken.delivery.form;
    let step = Step { prune: true, ..step(State::Gone, form, None) };
    Record::new(taken, step, Some(attempt(form, taken.taken_at)), vec![event("gone")])
}

pub async fn record_one(store: &Store, record: Record) -> Recorded {
    store.record(&[record]).await.unwrap().pop().unwrap()
}

pub async fn trace(store: &Store, id: NotificationId) -> Trace {
    store.trace(&app(), id).await.unwrap().unwrap()
}

/// The only delivery of a notification.
pub async fn only(store: &Store, id: NotificationId) -> TracedDelivery {
    let mut deliveries = trace(store, id).await.deliveries;
    assert_eq!(deliveries.len(), 1);
    deliveries.pop().unwrap()
}

/// What is due in the high lane now, held for `hold`.
pub async fn claim(store: &Store, hold: Duration) -> Vec<Hint> {
    store.due(DispatchQueue::High, 10_000, hold).await.unwrap()
}

/// The only delivery that is due in a queue, taken for long.
pub async fn take_due(store: &Store, queue: DispatchQueue) -> Taken {
    let hints = store.due(queue, 10, LONG).await.unwrap();
    assert_eq!(hints.len(), 1, "{queue}");
    store.take(&hints, LONG).await.unwrap().pop().unwrap()
}

/// All dead letters, the newest first.
pub async fn letters(store: &Store) -> Vec<DeadLetter> {
    let mut letters = Vec::new();
    for entry in store.dead_page(&DeadFilter::default(), DeadPage::NewestBefore(None), i64::MAX).await.unwrap() {
        letters.extend(store.dead_letter(entry.key.id).await.unwrap());
    }
    letters
}

/// Routing keys of all events, each as often as it was written.
pub async fn told(store: &Store) -> Vec<String> {
    let mut keys: Vec<_> =
        store.outbox_claim(10_000, OVER).await.unwrap().into_iter().map(|row| row.routing_key).collect();
    keys.sort();
    keys
}

/// How many deliveries a notification has in each state.
pub async fn states(store: &Store, id: NotificationId) -> BTreeMap<&'static str, usize> {
    let mut states = BTreeMap::new();
    for delivery in trace(store, id).await.deliveries {
        *states.entry(delivery.delivery.state.as_str()).or_insert(0) += 1;
    }
    states
}
