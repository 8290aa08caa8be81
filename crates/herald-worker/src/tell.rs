//! What the producers of an app are told of deliveries that the store closes by itself: receipts, withdrawals, expiry.
//!
//! Stands beside record: the store asks inside its own transaction, so that event and state change are one (protocol step 8).
//! Also where such endings are counted.

use std::collections::HashMap;

use herald_core::delivery::State;
use herald_core::event::{OutboxEvent, Subject, Tell, TellSet, cloud_event};
use herald_core::ids::AppId;
use herald_core::notification::Notification;
use herald_core::push::Form;
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;
use herald_metrics::{CancelledBy, Metrics, ReceiptKind};
use herald_store::{Closed, ReceiptResult, Teller};

use crate::settings::App;

/// To be given to the store before anything closes a delivery: the worker's, and the gateway's.
pub fn teller(apps: &[App]) -> Teller {
    let wanted: HashMap<AppId, TellSet> = apps.iter().map(|app| (app.id.clone(), app.events)).collect();
    let (asked, surplus) = (wanted.clone(), wanted.clone());
    Teller::new(
        move |app| asked.get(app).is_some_and(|set| *set != TellSet::EMPTY),
        move |closed, notification| {
            let set = wanted.get(&closed.app).copied().unwrap_or_default();
            of_end(closed.form, closed.state)
                .filter(|tell| set.contains(*tell))
                .map(|tell| event(tell, closed, notification))
                .into_iter()
                .collect()
        },
    )
    .with_ended(move |subscription, at| {
        let wanted = surplus.get(&subscription.app).is_some_and(|set| set.contains(Tell::SubscriptionEnded));
        wanted.then(|| ended(subscription, at)).into_iter().collect()
    })
}

/// The user registered more devices than they may have.
fn ended(subscription: &Subscription, at: Timestamp) -> OutboxEvent {
    let subject = Subject {
        user_notification_subscription_id: Some(subscription.id),
        user_id: Some(&subscription.user),
        reason: Some("tooMany"),
        ..Subject::default()
    };
    cloud_event(Tell::SubscriptionEnded, &subscription.app, &subject, at, (None, None))
}

/// What the end of a delivery is called, if the store can end it so. Of a state push producers are told nothing.
fn of_end(form: Form, state: State) -> Option<Tell> {
    let tell = match state {
        State::Received => Tell::Received,
        State::Withdrawn => Tell::Withdrawn,
        State::Expired => Tell::Expired,
        State::Due
        | State::Sending
        | State::Watching
        | State::Accepted
        | State::Toasted
        | State::Gone
        | State::Failed => return None,
    };
    match form {
        Form::Raw | Form::Toast | Form::Alert => Some(tell),
        Form::State => None,
    }
}

fn event(tell: Tell, closed: &Closed, notification: &Notification) -> OutboxEvent {
    let content = &notification.content;
    let subject = Subject {
        notification_id: Some(closed.notification),
        app_notification_id: content.app_notification_id.as_deref(),
        delivery_id: Some(closed.delivery),
        user_notification_subscription_id: Some(closed.unsid),
        user_id: Some(&notification.user),
        ..Subject::default()
    };
    cloud_event(tell, &closed.app, &subject, closed.at, (content.traceparent.as_deref(), content.tracestate.as_deref()))
}

/// Counts what became of a receipt.
pub(crate) fn count_receipt(metrics: &Metrics, result: &ReceiptResult) {
    match result {
        ReceiptResult::Closed(closed) => {
            metrics.receipt(ReceiptKind::OnTime, closed.took());
            count_closed(metrics, closed, CancelledBy::Receipt);
        }
        ReceiptResult::Late(closed) => metrics.receipt(ReceiptKind::Late, closed.took()),
        ReceiptResult::Duplicate => metrics.receipt(ReceiptKind::Duplicate, None),
        ReceiptResult::Unknown => metrics.receipt(ReceiptKind::Unknown, None),
    }
}

/// Counts a delivery that the store closed, and the fallback that it cancelled.
pub(crate) fn count_closed(metrics: &Metrics, closed: &Closed, by: CancelledBy) {
    metrics.closed(closed.state);
    if closed.fallback_pending {
        metrics.fallback_cancelled(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_are_told_of_the_ends_of_what_they_sent_and_of_no_state_push() {
        for state in State::ALL {
            assert_eq!(of_end(Form::State, state), None);
            let told = matches!(state, State::Received | State::Withdrawn | State::Expired);
            for form in [Form::Raw, Form::Toast, Form::Alert] {
                assert_eq!(of_end(form, state).is_some(), told, "{form:?} {state:?}");
            }
        }
    }
}
