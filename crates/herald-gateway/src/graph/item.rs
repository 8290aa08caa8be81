//! A notification as clients read it: Graph's resource, with the members that its client libraries had.
//!
//! Pure. Times are as precise as clients read, in milliseconds; `displayTimeToLive` is what remains of it.

use herald_core::ids::{AppId, NotificationId};
use herald_core::notification::{Priority, Visual};
use herald_core::subscription::PlatformSet;
use herald_core::time::Timestamp;
use herald_store::Entry;
use serde::Serialize;
use utoipa::ToSchema;

/// A notification.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Notification)]
pub(super) struct Item<'a> {
    /// Where it is described; of a single one.
    #[serde(rename = "@odata.context", skip_serializing_if = "Option::is_none")]
    context: Option<String>,
    /// For `If-Match`.
    #[serde(rename = "@odata.etag")]
    etag: String,
    #[schema(value_type = String, format = "uuid")]
    id: NotificationId,
    /// The app.
    #[schema(value_type = String)]
    target_host_name: &'a AppId,
    /// The app server's own id of it.
    app_notification_id: Option<&'a str>,
    group_name: Option<&'a str>,
    #[schema(value_type = String, format = "date-time")]
    creation_date_time: Timestamp,
    /// Null until its user changes it.
    #[schema(value_type = Option<String>, format = "date-time")]
    last_modified_date_time: Option<Timestamp>,
    #[schema(value_type = String, format = "date-time")]
    expiration_date_time: Timestamp,
    /// `Active` or `Deleted`.
    status: &'static str,
    /// `None`, `High` or `Low`.
    priority: &'static str,
    /// Seconds that remain of it.
    display_time_to_live: Option<u64>,
    /// It was read.
    read_state: bool,
    /// `NoInteraction`, `Activated`, `Dismissed` or `Snoozed`.
    user_action_state: &'static str,
    target_policy: TargetPolicy,
    payload: Payload<'a>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TargetPolicy {
    #[schema(value_type = Vec<String>)]
    platform_types: PlatformSet,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NotificationPayload)]
struct Payload<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    visual_content: Option<&'a Visual>,
}

impl<'a> Item<'a> {
    pub(super) fn of(entry: &'a Entry, now: Timestamp) -> Self {
        let Entry { notification, received_at, standing, modified_at } = entry;
        let content = &notification.content;
        Self {
            context: None,
            etag: etag(standing.revision),
            id: notification.id,
            target_host_name: &notification.app,
            app_notification_id: content.app_notification_id.as_deref(),
            group_name: content.group_name.as_deref(),
            creation_date_time: to_millis(*received_at),
            last_modified_date_time: modified_at.map(to_millis),
            expiration_date_time: to_millis(notification.expires_at),
            status: if standing.deleted { "Deleted" } else { "Active" },
            priority: priority(content.priority),
            display_time_to_live: remaining(content.display_ttl, *received_at, now),
            read_state: standing.read,
            user_action_state: standing.action.as_str(),
            target_policy: TargetPolicy { platform_types: content.target_policy },
            payload: Payload {
                raw_content: content.payload.raw.as_deref(),
                visual_content: content.payload.visual.as_ref(),
            },
        }
    }

    /// Standing alone.
    pub(super) fn within(self, context: String) -> Self {
        Self { context: Some(context), ..self }
    }
}

/// The ETag of a revision. Weak: what remains of `displayTimeToLive` is not in it.
pub(super) fn etag(revision: i32) -> String {
    format!("W/\"{revision}\"")
}

/// The revision of an ETag, weak or, as some clients send it back, strong.
pub(super) fn revision(etag: &str) -> Option<i32> {
    etag.strip_prefix("W/").unwrap_or(etag).strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

pub(super) const fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::None => "None",
        Priority::High => "High",
        Priority::Low => "Low",
    }
}

/// What remains of `displayTimeToLive`, in seconds.
pub(super) fn remaining(display_ttl: Option<u32>, received_at: Timestamp, now: Timestamp) -> Option<u64> {
    let gone = u64::try_from(now.since(received_at).as_millis().div_ceil(1_000)).unwrap_or(u64::MAX);
    display_ttl.map(|secs| u64::from(secs).saturating_sub(gone))
}

pub(super) fn to_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.micros().div_euclid(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_read_back_and_nothing_else_is() {
        assert_eq!(revision(&etag(7)), Some(7));
        assert_eq!(revision("\"7\""), Some(7));
        for other in ["", "7", "W/7", "\"", "\"7", "W/\"x\"", "*", "\"99999999999\""] {
            assert_eq!(revision(other), None, "{other}");
        }
    }
}
