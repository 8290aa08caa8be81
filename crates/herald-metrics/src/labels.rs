//! The closed sets of label values that are nobody else's: what else labels a metric is an enum of `herald-core`.
//!
//! Stands beside [`crate::Metrics`], whose methods take these. A value that isn't listed can't become a label, so the
//! number of time series is known before the process starts.

/// A closed set of label values: its members, in order, and their spelling.
pub(crate) trait Label: Copy + PartialEq + 'static {
    /// All members.
    const ALL: &'static [Self];

    /// The spelling in the label.
    fn label(self) -> &'static str;

    /// All spellings, in order.
    fn labels() -> Vec<&'static str> {
        Self::ALL.iter().map(|value| value.label()).collect()
    }
}

macro_rules! labels {
    ($($(#[$doc:meta])* $set:ident { $($(#[$member_doc:meta])* $member:ident = $text:literal,)* })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $set { $($(#[$member_doc])* $member,)* }

        impl Label for $set {
            const ALL: &'static [Self] = &[$(Self::$member,)*];

            fn label(self) -> &'static str {
                match self { $(Self::$member => $text,)* }
            }
        }
    )* };
}

labels! {
    /// What became of a request.
    RequestResult {
        /// The notification and its deliveries are in the store.
        Stored = "stored",
        /// Its key was stored before.
        Duplicate = "duplicate",
        /// Its life had ended when it was read.
        Expired = "expired",
        /// It can't be done; it is a dead letter now.
        Parked = "parked",
    }

    /// What a receipt did.
    ReceiptKind {
        /// It closed an open delivery.
        OnTime = "on_time",
        /// Its delivery was closed already; kept as a fact.
        Late = "late",
        /// Its delivery had a receipt.
        Duplicate = "duplicate",
        /// No such delivery is stored.
        Unknown = "unknown",
        /// Its capability is not genuine, or has expired.
        Refused = "refused",
    }

    /// What cancelled an owed fallback.
    CancelledBy {
        /// The app proved that it has the notification.
        Receipt = "receipt",
        /// It was read, dismissed or deleted.
        Read = "read",
        /// The notification's life ended.
        Expiry = "expiry",
        /// The device's token is dead.
        Gone = "gone",
        /// The subscription ended.
        SubscriptionEnded = "subscription_ended",
    }

    /// A step that works on batches.
    BatchStep {
        /// Requests stored in one transaction.
        Intake = "intake",
        /// Deliveries taken in one statement.
        Take = "take",
        /// Outcomes recorded in one transaction.
        Record = "record",
        /// Receipts applied in one transaction.
        Receipt = "receipt",
        /// Hints published together.
        Hints = "hints",
    }

    /// What a request over HTTP asked for, by its path's template.
    HttpRoute {
        /// Notifications of a user: posted, listed, counted, followed.
        Notifications = "notifications",
        /// One notification: fetched, changed, deleted.
        Notification = "notification",
        /// Receipts.
        Receipts = "receipts",
        /// Subscriptions.
        Subscriptions = "subscriptions",
        /// What became of a notification.
        Trace = "trace",
        /// All of a user erased.
        Erasure = "erasure",
        /// The built-in issuer's tokens, and the documents about it.
        Issuer = "issuer",
        /// The description of the API.
        OpenApi = "openapi",
        /// Health and readiness.
        Health = "health",
        /// These metrics.
        Metrics = "metrics",
        /// No path that is served.
        Nowhere = "nowhere",
    }

    /// How an answer's status begins.
    StatusClass {
        /// It was done.
        Success = "2xx",
        /// Anything that is neither of the others.
        Other = "other",
        /// The request's fault.
        Refused = "4xx",
        /// The service's fault.
        Failed = "5xx",
    }
}

impl HttpRoute {
    /// Of a path's template, as the router has it; none: nothing is served there.
    pub fn of(template: Option<&str>) -> Self {
        let Some(template) = template else { return Self::Nowhere };
        let path = template.trim_end_matches('/');
        if path.starts_with("/beta/") || path.starts_with("/v1.0/") {
            let many = ["/notifications", "/notifications/$count", "/notifications/delta"];
            return if many.iter().any(|end| path.ends_with(end)) { Self::Notifications } else { Self::Notification };
        }
        match path {
            "/healthz" | "/readyz" => Self::Health,
            "/metrics" => Self::Metrics,
            "/v1/receipts" => Self::Receipts,
            "/v1/openapi.json" => Self::OpenApi,
            _ if path.starts_with("/v1/subscriptions") => Self::Subscriptions,
            _ if path.starts_with("/v1/notifications/") => Self::Trace,
            _ if path.starts_with("/v1/apps/") => Self::Erasure,
            _ => Self::Issuer,
        }
    }
}

impl StatusClass {
    /// Of an answer's status.
    pub const fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Success,
            400..=499 => Self::Refused,
            500..=599 => Self::Failed,
            _ => Self::Other,
        }
    }
}

/// The codes of park reasons, and `other` for one that isn't listed here.
pub(crate) const PARK_CODES: [&str; 8] = [
    "invalid_request",
    "unknown_target",
    "invalid_receipts",
    "bad_hint",
    "delivery_limit",
    "poison",
    "store_refused",
    "other",
];

/// Reasons of pauses: why a breaker opened, and the operator's own.
pub(crate) const OPERATOR: &str = "operator";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paths_template_says_what_is_asked_for() {
        for (template, route) in [
            (Some("/beta/me/notifications"), HttpRoute::Notifications),
            (Some("/v1.0/users/{user}/notifications/"), HttpRoute::Notifications),
            (Some("/beta/me/notifications/$count"), HttpRoute::Notifications),
            (Some("/beta/me/notifications/delta"), HttpRoute::Notifications),
            (Some("/beta/me/notifications/{id}"), HttpRoute::Notification),
            (Some("/v1/subscriptions/{unsid}"), HttpRoute::Subscriptions),
            (Some("/v1/notifications/{id}/trace"), HttpRoute::Trace),
            (Some("/v1/apps/{app}/users/{user}"), HttpRoute::Erasure),
            (Some("/{tenant}/oauth2/v2.0/token"), HttpRoute::Issuer),
            (Some("/readyz"), HttpRoute::Health),
            (None, HttpRoute::Nowhere),
        ] {
            assert_eq!(HttpRoute::of(template), route, "{template:?}");
        }
    }
}
