//! Subscriptions and which of them a notification addresses.
//!
//! Stands between intake and push: the store hands over the active subscriptions of the user, [`select`] says which get
//! a delivery. It never looks at what is pushed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{AppId, PushToken, Unsid, UserId};
use crate::time::Timestamp;

/// A kind of endpoint, named as Graph names it (any case is read).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Platform {
    /// Through APNs.
    Ios,
    /// Through FCM.
    Android,
    /// Accepted and counted, not pushed yet.
    Windows,
    /// Accepted and counted, not pushed yet.
    WebPush,
}

impl Platform {
    /// All platforms, in the order of their bits.
    pub const ALL: [Self; 4] = [Self::Ios, Self::Android, Self::Windows, Self::WebPush];

    /// Graph's spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ios => "iOS",
            Self::Android => "Android",
            Self::Windows => "Windows",
            Self::WebPush => "WebPush",
        }
    }

    /// Reads Graph's spelling in any case.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str().eq_ignore_ascii_case(text))
    }

    /// The provider that reaches it, if Herald pushes to it.
    pub const fn provider(self) -> Option<Provider> {
        match self {
            Self::Ios => Some(Provider::Apns),
            Self::Android => Some(Provider::Fcm),
            Self::Windows | Self::WebPush => None,
        }
    }

    /// The number stored in the `platform` column.
    pub const fn number(self) -> i16 {
        match self {
            Self::Ios => 0,
            Self::Android => 1,
            Self::Windows => 2,
            Self::WebPush => 3,
        }
    }

    /// The platform with that number.
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.number() == number)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who carries a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Apple Push Notification service.
    Apns,
    /// Firebase Cloud Messaging, HTTP v1.
    Fcm,
}

impl Provider {
    /// Both providers.
    pub const ALL: [Self; 2] = [Self::Apns, Self::Fcm];

    /// The label in metrics, columns and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apns => "apns",
            Self::Fcm => "fcm",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of platforms, as Graph's `platformTypes`. Stored as a list of names.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlatformSet(u8);

impl PlatformSet {
    /// No platform.
    pub const EMPTY: Self = Self(0);
    /// Every platform: what an absent `targetPolicy` means.
    pub const ALL: Self = Self(0b1111);

    /// With this one too.
    #[must_use]
    pub const fn with(self, platform: Platform) -> Self {
        Self(self.0 | (1 << platform.number()))
    }

    /// Is it in the set?
    pub const fn contains(self, platform: Platform) -> bool {
        self.0 & (1 << platform.number()) != 0
    }

    /// Its platforms, in order.
    pub fn iter(self) -> impl Iterator<Item = Platform> {
        Platform::ALL.into_iter().filter(move |p| self.contains(*p))
    }

    /// Is nothing in it?
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for PlatformSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for PlatformSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Platform::as_str))
    }
}

impl<'de> Deserialize<'de> for PlatformSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        names.iter().try_fold(Self::EMPTY, |set, name| {
            Platform::parse(name).map(|p| set.with(p)).ok_or_else(|| serde::de::Error::custom("unknown platform"))
        })
    }
}

/// Which of Apple's two environments a token belongs to. FCM has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// `api.push.apple.com`, and everything of FCM.
    Production,
    /// `api.sandbox.push.apple.com`: builds signed for development.
    Sandbox,
}

impl Environment {
    /// The label in columns and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Sandbox => "sandbox",
        }
    }

    /// Reads its label.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Production, Self::Sandbox].into_iter().find(|e| e.as_str() == text)
    }
}

/// What kind of address a push token is. FCM is moving from registration tokens to Firebase Installation IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// An APNs device token (hex), or an FCM registration token.
    Token,
    /// A Firebase Installation ID.
    Fid,
}

impl TokenKind {
    /// The label in columns and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Fid => "fid",
        }
    }

    /// Reads its label.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Token, Self::Fid].into_iter().find(|k| k.as_str() == text)
    }
}

/// One app of one user on one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its id.
    pub id: Unsid,
    /// The tenant.
    pub app: AppId,
    /// Whose device it is.
    pub user: UserId,
    /// What kind of device.
    pub platform: Platform,
    /// What kind of address `token` is.
    pub token_kind: TokenKind,
    /// The address.
    pub token: PushToken,
    /// Where the token is valid.
    pub environment: Environment,
    /// When the app last presented the token: a 410 about an older moment is not about this token.
    pub confirmed_at: Timestamp,
    /// When it ends unless renewed.
    pub expires_at: Timestamp,
}

/// Which subscriptions get a delivery.
#[derive(Debug, PartialEq, Eq)]
pub struct Selection<'a> {
    /// These, in the order given.
    pub deliver: Vec<&'a Subscription>,
    /// Addressed, but on a platform that Herald does not push to yet.
    pub unsupported: usize,
    /// Left out by the target policy.
    pub excluded: usize,
}

/// Which of the user's active subscriptions the target policy addresses. The caller gives active ones only.
pub fn select<'a>(policy: PlatformSet, active: impl IntoIterator<Item = &'a Subscription>) -> Selection<'a> {
    let mut selection = Selection { deliver: Vec::new(), unsupported: 0, excluded: 0 };
    for subscription in active {
        if !policy.contains(subscription.platform) {
            selection.excluded += 1;
        } else if subscription.platform.provider().is_none() {
            selection.unsupported += 1;
        } else {
            selection.deliver.push(subscription);
        }
    }
    selection
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(platform: Platform) -> Subscription {
        Subscription {
            id: Unsid(uuid::Uuid::from_u128(platform.number() as u128 + 1)),
            app: AppId::new("mail.contoso.com"),
            user: UserId::new("u"),
            platform,
            token_kind: TokenKind::Token,
            token: PushToken::new("00ff"),
            environment: Environment::Production,
            confirmed_at: Timestamp::from_secs(0),
            expires_at: Timestamp::from_secs(1),
        }
    }

    #[test]
    fn the_policy_selects_and_unpushed_platforms_are_counted() {
        let all: Vec<_> = Platform::ALL.into_iter().map(on).collect();
        let check = |policy: PlatformSet, deliver: &[Platform], unsupported, excluded| {
            let s = select(policy, &all);
            assert_eq!(s.deliver.iter().map(|s| s.platform).collect::<Vec<_>>(), deliver);
            assert_eq!((s.unsupported, s.excluded), (unsupported, excluded));
        };
        check(PlatformSet::ALL, &[Platform::Ios, Platform::Android], 2, 0);
        check(PlatformSet::EMPTY.with(Platform::Ios), &[Platform::Ios], 0, 3);
        check(PlatformSet::EMPTY.with(Platform::Windows), &[], 1, 3);
        check(PlatformSet::EMPTY, &[], 0, 4);
    }

    #[test]
    fn platform_names_are_read_in_any_case_and_sets_round_trip() {
        assert_eq!(Platform::parse("ios"), Some(Platform::Ios));
        assert_eq!(Platform::parse("WEBPUSH"), Some(Platform::WebPush));
        assert_eq!(Platform::parse("symbian"), None);
        let set = PlatformSet::EMPTY.with(Platform::Ios).with(Platform::WebPush);
        let text = serde_json::to_string(&set).unwrap();
        assert_eq!(text, r#"["iOS","WebPush"]"#);
        assert_eq!(serde_json::from_str::<PlatformSet>(&text).unwrap(), set);
    }

    #[test]
    fn a_token_never_prints() {
        assert!(!format!("{:?}", on(Platform::Ios)).contains("00ff"));
    }
}
