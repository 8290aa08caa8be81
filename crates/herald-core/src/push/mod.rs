//! What is sent: a notification, a form and a subscription become one request to a provider.
//!
//! Stands between take and the clients. Builders only; nothing here sends. There is no function that takes "a payload and
//! a priority": the [`Form`] decides push type, priority and expiry.

pub mod apns;
pub mod fcm;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{DeliveryId, PushToken};
use crate::notification::Notification;
use crate::subscription::{Environment, Subscription};
use crate::time::Timestamp;

/// The most that APNs and FCM take in one push, in bytes (APNs: whole body; FCM: keys and values of `data`).
pub const MAX_PAYLOAD_BYTES: usize = 4096;

/// What a push is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Silent, data for the app.
    Raw,
    /// The fallback's visible alert. Carries all that its raw carried.
    Toast,
    /// Visible from the start; carries the raw content too, if there is any.
    Alert,
    /// Silent: something was read, dismissed or deleted.
    State,
}

impl Form {
    /// All forms.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Toast, Self::Alert, Self::State];

    /// The label in payloads, metrics and columns.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Toast => "toast",
            Self::Alert => "alert",
            Self::State => "state",
        }
    }

    /// Is it shown to the person?
    pub const fn is_visible(self) -> bool {
        match self {
            Self::Toast | Self::Alert => true,
            Self::Raw | Self::State => false,
        }
    }

    /// The number stored in the `form` column.
    pub const fn number(self) -> i16 {
        match self {
            Self::Raw => 0,
            Self::Toast => 1,
            Self::Alert => 2,
            Self::State => 3,
        }
    }

    /// The form with that number.
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.number() == number)
    }
}

/// Everything a builder reads.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// What to tell.
    pub notification: &'a Notification,
    /// Whom and where.
    pub subscription: &'a Subscription,
    /// The delivery this push belongs to.
    pub delivery: DeliveryId,
    /// What the push is.
    pub form: Form,
    /// A raw push must not be stored by the provider beyond this moment (rule 6 of the fallback).
    pub not_after: Option<Timestamp>,
    /// The receipt capability to carry ([`crate::receipt`]).
    pub receipt: &'a str,
    /// Store time.
    pub now: Timestamp,
}

/// One push for APNs: the request of `POST /3/device/<token>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApnsPush {
    /// The device.
    pub token: PushToken,
    /// Which of Apple's two hosts.
    pub environment: Environment,
    /// The bundle id.
    pub topic: Arc<str>,
    /// `apns-push-type`.
    pub push_type: PushType,
    /// `apns-priority`: 5 or 10.
    pub priority: u8,
    /// `apns-expiration`: seconds since the epoch; 0 = one attempt, never stored.
    pub expiration: i64,
    /// `apns-collapse-id`: at most 64 bytes.
    pub collapse_id: String,
    /// `apns-id`: the same for every resend of the same form of the same delivery.
    pub id: Uuid,
    /// JSON, at most [`MAX_PAYLOAD_BYTES`].
    pub body: Vec<u8>,
}

/// `apns-push-type`, as far as Herald sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PushType {
    /// Visible.
    Alert,
    /// Silent: `content-available: 1` and nothing else in `aps`.
    Background,
}

impl PushType {
    /// The header's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Background => "background",
        }
    }
}

/// One push for FCM HTTP v1: the body of `POST /v1/projects/<id>/messages:send`. The token is inside, so `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct FcmPush {
    /// `{"message": …}`.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for FcmPush {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FcmPush({} bytes)", self.body.len())
    }
}

/// The id of a push: a function of delivery and form, so that a resend carries the same `apns-id` (G4).
pub fn push_id(delivery: DeliveryId, form: Form) -> Uuid {
    Uuid::new_v5(&delivery.0, form.as_str().as_bytes())
}
