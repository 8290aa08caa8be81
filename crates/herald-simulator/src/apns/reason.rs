//! APNs' reasons and push types: the words of the wire.
//!
//! Source: Apple, "Handling notification responses from APNs" and "Sending notification requests to APNs".

use http::StatusCode;

/// Why APNs refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    BadCollapseId,
    BadDeviceToken,
    BadExpirationDate,
    BadMessageId,
    BadPath,
    BadPriority,
    BadTopic,
    DeviceTokenNotForTopic,
    DuplicateHeaders,
    ExpiredProviderToken,
    InvalidProviderToken,
    InvalidPushType,
    MethodNotAllowed,
    MissingDeviceToken,
    MissingProviderToken,
    MissingTopic,
    PayloadEmpty,
    PayloadTooLarge,
    TooManyProviderTokenUpdates,
    TopicDisallowed,
    Unregistered,
}

impl Reason {
    /// The HTTP status that it comes with.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::ExpiredProviderToken | Self::InvalidProviderToken | Self::MissingProviderToken => {
                StatusCode::FORBIDDEN
            }
            Self::BadPath => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unregistered => StatusCode::GONE,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyProviderTokenUpdates => StatusCode::TOO_MANY_REQUESTS,
            Self::BadCollapseId
            | Self::BadDeviceToken
            | Self::BadExpirationDate
            | Self::BadMessageId
            | Self::BadPriority
            | Self::BadTopic
            | Self::DeviceTokenNotForTopic
            | Self::DuplicateHeaders
            | Self::InvalidPushType
            | Self::MissingDeviceToken
            | Self::MissingTopic
            | Self::PayloadEmpty
            | Self::TopicDisallowed => StatusCode::BAD_REQUEST,
        }
    }

    /// Its word on the wire.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::BadCollapseId => "BadCollapseId",
            Self::BadDeviceToken => "BadDeviceToken",
            Self::BadExpirationDate => "BadExpirationDate",
            Self::BadMessageId => "BadMessageId",
            Self::BadPath => "BadPath",
            Self::BadPriority => "BadPriority",
            Self::BadTopic => "BadTopic",
            Self::DeviceTokenNotForTopic => "DeviceTokenNotForTopic",
            Self::DuplicateHeaders => "DuplicateHeaders",
            Self::ExpiredProviderToken => "ExpiredProviderToken",
            Self::InvalidProviderToken => "InvalidProviderToken",
            Self::InvalidPushType => "InvalidPushType",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::MissingDeviceToken => "MissingDeviceToken",
            Self::MissingProviderToken => "MissingProviderToken",
            Self::MissingTopic => "MissingTopic",
            Self::PayloadEmpty => "PayloadEmpty",
            Self::PayloadTooLarge => "PayloadTooLarge",
            Self::TooManyProviderTokenUpdates => "TooManyProviderTokenUpdates",
            Self::TopicDisallowed => "TopicDisallowed",
            Self::Unregistered => "Unregistered",
        }
    }
}

/// What `apns-push-type` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushType {
    Alert,
    Background,
    /// One of the others, by its index in [`OTHERS`]: taken, counted, and shown to nobody.
    Other(usize),
}

/// Push types besides `alert` and `background`, with the suffix of their topic. The order is that of the counters.
const OTHERS: [(&str, &str); 9] = [
    ("voip", ".voip"),
    ("complication", ".complication"),
    ("controls", ".push-type.controls"),
    ("fileprovider", ".pushkit.fileprovider"),
    ("liveactivity", ".push-type.liveactivity"),
    ("location", ".location-query"),
    ("mdm", ""),
    ("pushtotalk", ".voip-ptt"),
    ("widgets", ".push-type.widgets"),
];

/// The counter of pushes without a push type.
pub(crate) const MISSING_KIND: usize = 11;

impl PushType {
    pub(crate) fn parse(word: &[u8]) -> Option<Self> {
        match word {
            b"alert" => Some(Self::Alert),
            b"background" => Some(Self::Background),
            other => OTHERS.iter().position(|(word, _)| word.as_bytes() == other).map(Self::Other),
        }
    }

    /// Its counter in [`crate::counters::KINDS`].
    pub(crate) fn kind(self) -> usize {
        match self {
            Self::Alert => 0,
            Self::Background => 1,
            Self::Other(index) => 2 + index,
        }
    }

    /// What its topic has after the bundle id.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Alert | Self::Background => "",
            Self::Other(index) => OTHERS[index].1,
        }
    }

    /// The largest payload, in bytes.
    pub(crate) fn payload_limit(self) -> usize {
        if self == Self::Other(0) { 5_120 } else { 4_096 }
    }
}

/// The bundle id in a topic, without the suffix that some push types need.
pub(crate) fn bundle_id(topic: &str) -> &str {
    let suffixes = OTHERS.iter().map(|(_, suffix)| *suffix).filter(|suffix| !suffix.is_empty());
    suffixes.filter_map(|suffix| topic.strip_suffix(suffix)).next().unwrap_or(topic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::KINDS;

    #[test]
    fn every_push_type_is_counted_under_its_own_word() {
        for word in &KINDS[..MISSING_KIND] {
            let push_type = PushType::parse(word.as_bytes()).unwrap();
            assert_eq!(KINDS[push_type.kind()], *word);
        }
        assert_eq!(KINDS[MISSING_KIND], "missing");
        assert_eq!(PushType::parse(b"Alert"), None);
    }

    #[test]
    fn a_topic_names_its_bundle_id() {
        assert_eq!(bundle_id("com.a"), "com.a");
        assert_eq!(bundle_id("com.a.voip"), "com.a");
        assert_eq!(bundle_id("com.a.voip-ptt"), "com.a");
    }
}
