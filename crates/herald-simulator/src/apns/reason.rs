//! APNs' reasons and push types: the words of the wire.
//!
//! Source: Apple, "Handling notification responses from APNs" and "Sending notification requests to APNs".

use http::StatusCode;

/// All reasons of the wire with the status that each comes with. `BadEnvironmentKeyInToken` is what was seen,
/// `…KeyIdInToken` what is documented.
const TABLE: [(&str, StatusCode); 43] = [
    ("BadCollapseId", StatusCode::BAD_REQUEST),
    ("BadDeviceToken", StatusCode::BAD_REQUEST),
    ("BadExpirationDate", StatusCode::BAD_REQUEST),
    ("BadMessageId", StatusCode::BAD_REQUEST),
    ("BadPriority", StatusCode::BAD_REQUEST),
    ("BadTopic", StatusCode::BAD_REQUEST),
    ("DeviceTokenNotForTopic", StatusCode::BAD_REQUEST),
    ("DuplicateHeaders", StatusCode::BAD_REQUEST),
    ("IdleTimeout", StatusCode::BAD_REQUEST),
    ("InvalidPushType", StatusCode::BAD_REQUEST),
    ("MissingDeviceToken", StatusCode::BAD_REQUEST),
    ("MissingTopic", StatusCode::BAD_REQUEST),
    ("PayloadEmpty", StatusCode::BAD_REQUEST),
    ("TopicDisallowed", StatusCode::BAD_REQUEST),
    ("BadCertificate", StatusCode::FORBIDDEN),
    ("BadCertificateEnvironment", StatusCode::FORBIDDEN),
    ("BadEnvironmentKeyIdInToken", StatusCode::FORBIDDEN),
    ("BadEnvironmentKeyInToken", StatusCode::FORBIDDEN),
    ("ExpiredProviderToken", StatusCode::FORBIDDEN),
    ("Forbidden", StatusCode::FORBIDDEN),
    ("InvalidProviderToken", StatusCode::FORBIDDEN),
    ("MissingProviderToken", StatusCode::FORBIDDEN),
    ("UnrelatedKeyIdInToken", StatusCode::FORBIDDEN),
    ("BadPath", StatusCode::NOT_FOUND),
    ("MethodNotAllowed", StatusCode::METHOD_NOT_ALLOWED),
    ("ExpiredToken", StatusCode::GONE),
    ("Unregistered", StatusCode::GONE),
    ("PayloadTooLarge", StatusCode::PAYLOAD_TOO_LARGE),
    ("TooManyProviderTokenUpdates", StatusCode::TOO_MANY_REQUESTS),
    ("TooManyRequests", StatusCode::TOO_MANY_REQUESTS),
    ("InternalServerError", StatusCode::INTERNAL_SERVER_ERROR),
    ("ServiceUnavailable", StatusCode::SERVICE_UNAVAILABLE),
    ("Shutdown", StatusCode::SERVICE_UNAVAILABLE),
    // Broadcast, which is not simulated: for scripts.
    ("FeatureNotEnabled", StatusCode::BAD_REQUEST),
    ("MissingChannelId", StatusCode::BAD_REQUEST),
    ("BadChannelId", StatusCode::BAD_REQUEST),
    ("ChannelNotRegistered", StatusCode::BAD_REQUEST),
    ("BadRequestParams", StatusCode::BAD_REQUEST),
    ("BadRequestPayload", StatusCode::BAD_REQUEST),
    ("MissingPushType", StatusCode::BAD_REQUEST),
    ("CannotCreateChannelConfig", StatusCode::BAD_REQUEST),
    ("TopicMismatch", StatusCode::FORBIDDEN),
    ("Service Unavailable", StatusCode::SERVICE_UNAVAILABLE),
];

/// The status that a reason comes with; `None` if APNs has no such reason.
pub(crate) fn status_of(word: &str) -> Option<StatusCode> {
    TABLE.iter().find(|(reason, _)| *reason == word).map(|(_, status)| *status)
}

/// Why the simulator refuses of its own accord. Scripts know the other reasons too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    BadCollapseId,
    BadDeviceToken,
    BadEnvironmentKeyIdInToken,
    BadEnvironmentKeyInToken,
    BadExpirationDate,
    BadMessageId,
    BadPath,
    BadPriority,
    BadTopic,
    DeviceTokenNotForTopic,
    DuplicateHeaders,
    ExpiredProviderToken,
    Forbidden,
    InvalidProviderToken,
    InvalidPushType,
    MethodNotAllowed,
    MissingDeviceToken,
    MissingProviderToken,
    MissingTopic,
    PayloadEmpty,
    PayloadTooLarge,
    TooManyProviderTokenUpdates,
    TooManyRequests,
    TopicDisallowed,
    Unregistered,
    UnrelatedKeyIdInToken,
}

impl Reason {
    /// The HTTP status that it comes with.
    pub(crate) fn status(self) -> StatusCode {
        status_of(self.word()).expect("the table has every reason")
    }

    /// Its word on the wire.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::BadCollapseId => "BadCollapseId",
            Self::BadDeviceToken => "BadDeviceToken",
            Self::BadEnvironmentKeyIdInToken => "BadEnvironmentKeyIdInToken",
            Self::BadEnvironmentKeyInToken => "BadEnvironmentKeyInToken",
            Self::BadExpirationDate => "BadExpirationDate",
            Self::BadMessageId => "BadMessageId",
            Self::BadPath => "BadPath",
            Self::BadPriority => "BadPriority",
            Self::BadTopic => "BadTopic",
            Self::DeviceTokenNotForTopic => "DeviceTokenNotForTopic",
            Self::DuplicateHeaders => "DuplicateHeaders",
            Self::ExpiredProviderToken => "ExpiredProviderToken",
            Self::Forbidden => "Forbidden",
            Self::InvalidProviderToken => "InvalidProviderToken",
            Self::InvalidPushType => "InvalidPushType",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::MissingDeviceToken => "MissingDeviceToken",
            Self::MissingProviderToken => "MissingProviderToken",
            Self::MissingTopic => "MissingTopic",
            Self::PayloadEmpty => "PayloadEmpty",
            Self::PayloadTooLarge => "PayloadTooLarge",
            Self::TooManyProviderTokenUpdates => "TooManyProviderTokenUpdates",
            Self::TooManyRequests => "TooManyRequests",
            Self::TopicDisallowed => "TopicDisallowed",
            Self::Unregistered => "Unregistered",
            Self::UnrelatedKeyIdInToken => "UnrelatedKeyIdInToken",
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
    fn a_reason_has_the_status_of_apple_s_table() {
        assert_eq!(status_of("ExpiredToken"), Some(StatusCode::GONE));
        assert_eq!(status_of("BadCertificateEnvironment"), Some(StatusCode::FORBIDDEN));
        assert_eq!(status_of("Service Unavailable"), Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(status_of("badTopic"), None);
        assert_eq!(Reason::UnrelatedKeyIdInToken.status(), StatusCode::FORBIDDEN);
    }

    #[test]
    fn a_topic_names_its_bundle_id() {
        assert_eq!(bundle_id("com.a"), "com.a");
        assert_eq!(bundle_id("com.a.voip"), "com.a");
        assert_eq!(bundle_id("com.a.voip-ptt"), "com.a");
    }
}
