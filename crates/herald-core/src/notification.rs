//! What the producer asked to tell the user, once it is known to be right. Made by [`crate::request`], kept by the store.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{AppId, NotificationId, UserId};
use crate::subscription::PlatformSet;
use crate::time::Timestamp;

/// Graph's priority of a **raw** notification. Absent means [`Priority::None`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Priority {
    /// Not said.
    #[default]
    None,
    /// The person should be told soon: the only priority that can owe a fallback.
    High,
    /// No hurry.
    Low,
}

/// What the OS shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visual {
    /// The title, not empty.
    pub title: String,
    /// The text below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// Raw content for the app, visible content for the person, or both; neither only once it was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// Data for the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// Shown from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visual: Option<Visual>,
}

/// Graph's `fallbackPolicy.endpointFallback`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackPolicy {
    /// Only iOS can be in it.
    pub platforms: PlatformSet,
    /// How long after the first attempt (or the acceptance) the toast is due.
    pub delay: Duration,
    /// The toast.
    pub visual: Visual,
}

/// The part of a notification that the payload builders read and that never changes: stored as one JSON column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The app server's own id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_notification_id: Option<String>,
    /// Becomes `thread-id` on iOS and the tag group on Android.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    /// Decides forms and fallback (never the lane).
    #[serde(default)]
    pub priority: Priority,
    /// What to tell.
    pub payload: Payload,
    /// Seconds that the content stays in the notification viewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_ttl: Option<u32>,
    /// Which platforms are addressed.
    pub target_policy: PlatformSet,
    /// The toast to show if the raw push is deferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackPolicy>,
    /// W3C trace context of the producer, handed on with events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Its `tracestate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
}

impl Content {
    /// What stays of it when it is deleted: what names, groups and addresses it, so that the state push that tells of the
    /// deletion can be built; nothing that the user was told.
    #[must_use]
    pub fn wiped(self) -> Self {
        Self { payload: Payload { raw: None, visual: None }, fallback: None, ..self }
    }
}

/// A stored notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Its id.
    pub id: NotificationId,
    /// The tenant.
    pub app: AppId,
    /// Whom it tells.
    pub user: UserId,
    /// What it says.
    pub content: Content,
    /// When it is removed, pushed or not.
    pub expires_at: Timestamp,
}
