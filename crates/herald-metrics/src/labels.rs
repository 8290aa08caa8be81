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
