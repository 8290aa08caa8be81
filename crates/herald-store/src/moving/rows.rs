//! Rows as both databases have them: one's values, on their way to the other. Times are microseconds since 1970, as in the
//! file; nothing here is looked into.

use uuid::Uuid;

/// A row of `subscriptions`.
pub(crate) struct SubscriptionRow {
    pub(crate) id: Uuid,
    pub(crate) app_id: String,
    pub(crate) user_id: String,
    pub(crate) platform: i16,
    pub(crate) token_kind: String,
    pub(crate) token: String,
    pub(crate) environment: String,
    pub(crate) created_at: i64,
    pub(crate) confirmed_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) ended_at: Option<i64>,
    pub(crate) end_reason: Option<String>,
    pub(crate) alerts_allowed: Option<bool>,
    pub(crate) low_power_mode: Option<bool>,
    pub(crate) background_refresh: Option<bool>,
    pub(crate) reported_at: Option<i64>,
}

/// A row of `pauses`.
pub(crate) struct PauseRow {
    pub(crate) app_id: String,
    pub(crate) provider: i16,
    pub(crate) since: i64,
    pub(crate) until: i64,
    pub(crate) reason: String,
    pub(crate) detail: String,
    pub(crate) by_operator: bool,
}

/// A row of `notifications`.
pub(crate) struct NotificationRow {
    pub(crate) id: Uuid,
    pub(crate) app_id: String,
    pub(crate) user_id: String,
    pub(crate) key: String,
    pub(crate) lane: i16,
    pub(crate) content: String,
    pub(crate) received_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) deliver_at: Option<i64>,
    pub(crate) next_at: Option<i64>,
    pub(crate) cursor: Option<Uuid>,
    pub(crate) swept_at: Option<i64>,
    pub(crate) read: bool,
    pub(crate) user_action: i16,
    pub(crate) modified_at: Option<i64>,
    pub(crate) deleted_at: Option<i64>,
    pub(crate) revision: i32,
}

/// A row of `deliveries`.
pub(crate) struct DeliveryRow {
    pub(crate) id: Uuid,
    pub(crate) notification_id: Uuid,
    pub(crate) unsid: Uuid,
    pub(crate) next_at: Option<i64>,
    pub(crate) deadline_at: Option<i64>,
    pub(crate) received_at: Option<i64>,
    pub(crate) closed_at: Option<i64>,
    pub(crate) version: i64,
    pub(crate) fallback_delay_ms: Option<i64>,
    pub(crate) provider: i16,
    pub(crate) state: i16,
    pub(crate) form: i16,
    pub(crate) lane: i16,
    pub(crate) queue: i16,
    pub(crate) takes: i16,
    pub(crate) attempt_count: i16,
    pub(crate) failure: Option<String>,
    pub(crate) app_id: String,
    pub(crate) attempts: String,
}

/// A row of `outbox`.
pub(crate) struct EventRow {
    pub(crate) id: Uuid,
    pub(crate) routing_key: String,
    pub(crate) body: String,
    pub(crate) next_at: i64,
}

/// A row of `dead_letters`.
pub(crate) struct DeadLetterRow {
    pub(crate) id: Uuid,
    pub(crate) source_queue: String,
    pub(crate) reason_code: String,
    pub(crate) field: String,
    pub(crate) problem: String,
    pub(crate) fix: String,
    pub(crate) app_id: Option<String>,
    pub(crate) message_id: Option<String>,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
    pub(crate) parked_at: i64,
}

/// What a delivery is compared by.
pub(crate) struct DeliveryMark {
    pub(crate) id: Uuid,
    pub(crate) notification_id: Uuid,
    pub(crate) unsid: Uuid,
    pub(crate) version: i64,
    pub(crate) open: bool,
}

/// What a notification is unique by.
pub(crate) struct KeyRow {
    pub(crate) id: Uuid,
    pub(crate) app_id: String,
    pub(crate) user_id: String,
    pub(crate) key: String,
}
