//! The trace of a notification, as it is answered over HTTP and printed by `herald trace`: the facts, and the same in plain
//! words.
//!
//! Beside the way, read by people who ask why a phone stayed silent, or why it did not. Pure: what the store knows comes in.
//! Never what the notification says, and never a push token.
//!
//! Reading order: this file (the facts) → `story` (the words).

mod story;
#[cfg(test)]
mod tests;

use herald_core::device::DeviceState;
use herald_core::ids::{AppId, DeliveryId, NotificationId, Unsid, UserId};
use herald_core::notification::Priority;
use herald_core::time::Timestamp;
use herald_store::{Attempt, KnownSubscription, Trace, TracedDelivery};
use serde::Serialize;
use utoipa::ToSchema;

/// All that is known of a notification but what it says.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Trace)]
pub struct Traced {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: NotificationId,
    /// Its app.
    #[schema(value_type = String)]
    pub target_host_name: AppId,
    /// Whom it tells.
    #[schema(value_type = String)]
    pub user_id: UserId,
    /// The producer's own id of it.
    pub app_notification_id: Option<String>,
    /// High, None or Low.
    pub priority: &'static str,
    /// The key under which a repetition of it is known.
    pub idempotency_key: String,
    /// When its request came in.
    #[schema(value_type = String, format = DateTime)]
    pub received_date_time: Timestamp,
    /// When its life ends.
    #[schema(value_type = String, format = DateTime)]
    pub expiration_date_time: Timestamp,
    /// When its devices are chosen, or the next of very many; none if they are.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub resolve_date_time: Option<Timestamp>,
    /// At most 1,000, oldest first.
    pub deliveries: Vec<Delivered>,
    /// What happened, in the order of time, one sentence each; the time after the request came in stands before it.
    pub story: Vec<String>,
}

/// One notification to one subscription.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TracedDelivery)]
pub struct Delivered {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: DeliveryId,
    /// To which subscription.
    #[schema(value_type = String, format = "uuid")]
    pub user_notification_subscription_id: Unsid,
    /// What is known of it; none if it was deleted since.
    pub subscription: Option<Device>,
    /// apns or fcm.
    pub provider: &'static str,
    /// due, sending, watching; closed: accepted, received, toasted, gone, failed, expired, withdrawn.
    pub state: &'static str,
    /// Form of its next push, or what it would have been: raw, toast, alert, state.
    pub form: &'static str,
    /// Its fallback is due this long after the first attempt or the acceptance; none if none is owed.
    pub fallback_delay_in_seconds: Option<f64>,
    /// When its fallback is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline_date_time: Option<Timestamp>,
    /// When there is something to do: a push, a lease's end, a deadline; none if it is closed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_date_time: Option<Timestamp>,
    /// When the app got it, by its own word.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub received_date_time: Option<Timestamp>,
    /// When it was closed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub closed_date_time: Option<Timestamp>,
    /// Why it failed.
    pub failure: Option<String>,
    /// Its pushes, oldest first; of very many, the first and the last 31.
    pub attempts: Vec<Tried>,
}

/// The device of a delivery.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TracedDevice)]
pub struct Device {
    /// `ios` or `android`, as it was registered.
    pub platform: String,
    /// production or sandbox.
    pub environment: &'static str,
    /// Neither ended nor expired now.
    pub active: bool,
    /// What it last said of itself.
    #[schema(value_type = Object)]
    pub device_state: DeviceState,
    /// When it said that.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub reported_date_time: Option<Timestamp>,
}

/// A push handed to a provider.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TracedAttempt)]
pub struct Tried {
    /// raw, toast, alert or state.
    pub form: &'static str,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub date_time: Timestamp,
    /// Milliseconds until its outcome.
    pub took_ms: u32,
    /// accepted, gone, invalid, misconfigured, unauthorized, throttled, unavailable, not_sent, unknown.
    pub outcome: String,
    /// The provider's HTTP status; none when no answer came.
    pub status: Option<u16>,
    /// The provider's reason.
    pub reason: Option<String>,
    /// The provider's id of the push: `apns-id`, or FCM's message name.
    pub provider_id: Option<String>,
}

/// What is known of a notification at `now`, with the subscriptions of its deliveries as far as they are known.
pub fn told(trace: &Trace, known: &[KnownSubscription], now: Timestamp) -> Traced {
    let notification = &trace.notification;
    let device = |delivery: &TracedDelivery| known.iter().find(|known| known.subscription.id == delivery.unsid);
    Traced {
        id: notification.id,
        target_host_name: notification.app.clone(),
        user_id: notification.user.clone(),
        app_notification_id: notification.content.app_notification_id.clone(),
        priority: priority(notification.content.priority),
        idempotency_key: trace.key.clone(),
        received_date_time: trace.received_at,
        expiration_date_time: notification.expires_at,
        resolve_date_time: trace.next_at,
        deliveries: trace.deliveries.iter().map(|delivery| delivered(delivery, device(delivery))).collect(),
        story: story::of(trace, known, now),
    }
}

const fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::High => "High",
        Priority::None => "None",
        Priority::Low => "Low",
    }
}

fn delivered(traced: &TracedDelivery, known: Option<&KnownSubscription>) -> Delivered {
    let delivery = &traced.delivery;
    Delivered {
        id: delivery.id,
        user_notification_subscription_id: traced.unsid,
        subscription: known.map(|known| Device {
            platform: known.subscription.platform.as_str().to_ascii_lowercase(),
            environment: known.subscription.environment.as_str(),
            active: known.active,
            device_state: known.device,
            reported_date_time: known.reported_at,
        }),
        provider: traced.provider.as_str(),
        state: delivery.state.as_str(),
        form: delivery.form.as_str(),
        fallback_delay_in_seconds: delivery.fallback_delay.map(|delay| delay.as_secs_f64()),
        deadline_date_time: delivery.deadline_at,
        next_date_time: traced.next_at,
        received_date_time: traced.received_at,
        closed_date_time: traced.closed_at,
        failure: traced.failure.clone(),
        attempts: traced.attempts.iter().map(tried).collect(),
    }
}

fn tried(attempt: &Attempt) -> Tried {
    let reason = attempt.detail.as_deref().or(attempt.reason.as_deref());
    Tried {
        form: attempt.form.as_str(),
        date_time: attempt.at,
        took_ms: attempt.took_ms,
        outcome: attempt.outcome.clone().into_owned(),
        status: attempt.status,
        reason: reason.map(str::to_owned),
        provider_id: attempt.provider_id.clone(),
    }
}
