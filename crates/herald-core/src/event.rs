//! Who is told: what a step means to the producer.
//!
//! Stands after the decision: an opt-in app gets one CloudEvent per [`Tell`], by an outbox row written in the same
//! transaction as the state change (protocol step 8). It never carries content or tokens.

use serde::Serialize;
use uuid::Uuid;

use crate::ids::{AppId, DeliveryId, NotificationId, Unsid, UserId};
use crate::time::Timestamp;

/// What producers can be told. The routing key on `herald.events` is `<event>.<app>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tell {
    /// A provider took a push. Off unless asked for.
    Accepted,
    /// The app proved that it has the notification.
    Received,
    /// The raw push was not proven to have arrived in time, or refused for now.
    Deferred,
    /// The fallback's toast was accepted.
    Toasted,
    /// The device's token is dead.
    Gone,
    /// It can't be delivered; the reason says why.
    Failed,
    /// Its life ended first.
    Expired,
    /// It was read, dismissed or deleted first, or the subscription ended.
    Withdrawn,
    /// The user has no device that it could go to.
    NoDevices,
    /// The request was parked as a dead letter.
    Parked,
    /// A fallback was asked for, but the notification expires before the toast would be due.
    FallbackNotPossible,
    /// A subscription ended because its token is dead, or its user has too many.
    SubscriptionEnded,
}

impl Tell {
    /// All events.
    pub const ALL: [Self; 12] = [
        Self::Accepted,
        Self::Received,
        Self::Deferred,
        Self::Toasted,
        Self::Gone,
        Self::Failed,
        Self::Expired,
        Self::Withdrawn,
        Self::NoDevices,
        Self::Parked,
        Self::FallbackNotPossible,
        Self::SubscriptionEnded,
    ];

    /// The name in routing keys, CloudEvents types and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Received => "received",
            Self::Deferred => "deferred",
            Self::Toasted => "toasted",
            Self::Gone => "gone",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::NoDevices => "noDevices",
            Self::Parked => "parked",
            Self::FallbackNotPossible => "fallbackNotPossible",
            Self::SubscriptionEnded => "subscriptionEnded",
        }
    }

    /// Reads its name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == text)
    }
}

/// Which events an app asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TellSet(u16);

impl TellSet {
    /// None: events are opt-in.
    pub const EMPTY: Self = Self(0);

    /// Everything but `accepted`, which is off unless asked for by name.
    pub fn usual() -> Self {
        Tell::ALL.into_iter().filter(|t| *t != Tell::Accepted).fold(Self::EMPTY, Self::with)
    }

    /// With this one too.
    #[must_use]
    pub const fn with(self, tell: Tell) -> Self {
        Self(self.0 | (1 << tell as u16))
    }

    /// Was it asked for?
    pub const fn contains(self, tell: Tell) -> bool {
        self.0 & (1 << tell as u16) != 0
    }
}

/// What an event is about. Absent parts are not known (a parked request has no notification yet).
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject<'a> {
    /// The notification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_id: Option<NotificationId>,
    /// The app server's own id of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_notification_id: Option<&'a str>,
    /// The delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_id: Option<DeliveryId>,
    /// The subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_notification_subscription_id: Option<Unsid>,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<&'a UserId>,
    /// Form of the push it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<&'static str>,
    /// Outcome, provider's reason, or why it was parked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// For a parked message: the dead letter's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_id: Option<Uuid>,
    /// For a parked message: its own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<&'a str>,
    /// For a parked request: the field that breaks the contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'a str>,
    /// For a parked request: what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<&'a str>,
}

/// One event, ready for the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEvent {
    /// Stable id: consumers dedupe by it.
    pub id: Uuid,
    /// `<event>.<app>`.
    pub routing_key: String,
    /// CloudEvents 1.0 JSON, structured mode.
    pub body: String,
}

/// Builds the CloudEvent. `id` is stable for (delivery, notification, dead letter or subscription, event), so a repeated step repeats it.
pub fn cloud_event(
    tell: Tell,
    app: &AppId,
    subject: &Subject<'_>,
    at: Timestamp,
    trace: (Option<&str>, Option<&str>),
) -> OutboxEvent {
    #[derive(Serialize)]
    struct Cloud<'a> {
        specversion: &'static str,
        id: Uuid,
        source: String,
        r#type: String,
        time: Timestamp,
        datacontenttype: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        traceparent: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tracestate: Option<&'a str>,
        data: &'a Subject<'a>,
    }
    let of_delivery = subject.delivery_id.map(|id| id.0);
    let of_notification = subject.notification_id.map(|id| id.0);
    let of_subscription = subject.user_notification_subscription_id.map(|id| id.0);
    let base = of_delivery.or(of_notification).or(subject.dead_letter_id).or(of_subscription).unwrap_or(Uuid::nil());
    let id = Uuid::new_v5(&base, tell.as_str().as_bytes());
    let cloud = Cloud {
        specversion: "1.0",
        id,
        source: format!("/herald/{app}"),
        r#type: format!("herald.notification.{}.v1", tell.as_str()),
        time: at,
        datacontenttype: "application/json",
        traceparent: trace.0,
        tracestate: trace.1,
        data: subject,
    };
    let body = serde_json::to_string(&cloud).expect("a CloudEvent of strings and ids always serializes");
    OutboxEvent { id, routing_key: format!("{}.{app}", tell.as_str()), body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_the_usual_set_leaves_accepted_out() {
        for tell in Tell::ALL {
            assert_eq!(Tell::parse(tell.as_str()), Some(tell));
            assert_eq!(TellSet::usual().contains(tell), tell != Tell::Accepted);
            assert!(!TellSet::EMPTY.contains(tell));
        }
    }

    #[test]
    fn the_same_step_has_the_same_event_id_and_no_absent_fields() {
        let app = AppId::new("mail.contoso.com");
        let delivery = DeliveryId(Uuid::from_u128(7));
        let subject = Subject { delivery_id: Some(delivery), ..Subject::default() };
        let event = |at| cloud_event(Tell::Toasted, &app, &subject, Timestamp::from_secs(at), (None, None));
        assert_eq!(event(1).id, event(2).id);
        assert_eq!(event(1).routing_key, "toasted.mail.contoso.com");
        let json: serde_json::Value = serde_json::from_str(&event(1).body).unwrap();
        assert_eq!(json["type"], "herald.notification.toasted.v1");
        assert_eq!(json["data"].as_object().unwrap().len(), 1);
    }
}
