//! The fallback: whether a toast is owed when the raw push is deferred. The answer to "why did this phone get a toast?".
//!
//! Stands in resolve, beside the selection of devices. The ten rules (docs/protocol.md), and where each is held:
//!
//! 1. Owed if: priority High, raw form, platform iOS, `targetPolicy` includes iOS, a policy with iOS: [`owed`].
//! 2. The deadline is the first attempt + the delay, moved once, to the acceptance + the delay:
//!    the store's take, [`crate::delivery::step`]; the allowed range: [`crate::request::Limits`].
//! 3. `next_at` is the earlier of retry and deadline; from the deadline on the push is the toast:
//!    [`crate::delivery::step`], [`crate::delivery::form_at`].
//! 4. A raw push refused as throttled for this device → toast after [`AFTER_REFUSAL`]: [`crate::delivery::step`].
//! 5. Cancelled by a receipt, read, dismiss, delete, expiry or the subscription's end: one conditional update of the store.
//! 6. The raw push is never stored by the provider beyond its deadline: [`crate::push::Context::not_after`]; raw and toast
//!    share the collapse id: [`crate::push::apns`].
//! 7. Per device: a delivery has its own deadline; nothing here reads another's.
//! 8. [`Mode::Observe`] counts what would be sent and sends nothing: [`owed`].
//! 9. The push carries a receipt capability: [`crate::receipt`].
//! 10. A notification that expires before its deadline can't have a fallback: [`NotOwed::ExpiresFirst`], told by an event.

use std::time::Duration;

use crate::notification::{Content, Priority};
use crate::push::Form;
use crate::subscription::Platform;
use crate::time::Timestamp;

/// How long after a refusal for this device the toast is due (rule 4): at once would meet the same throttle.
pub const AFTER_REFUSAL: Duration = Duration::from_secs(10);

/// What the operator does about deferred raw pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Send the toast.
    #[default]
    Send,
    /// Count what would be sent, and send nothing.
    Observe,
}

/// Why a fallback policy leads to no toast. Bounded: a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotOwed {
    /// The priority is not High.
    NotHigh,
    /// It is visible from the start.
    Visible,
    /// The device is not on iOS.
    NotIos,
    /// The notification expires before the toast would be due.
    ExpiresFirst,
    /// The operator only observes.
    Observed,
}

impl NotOwed {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::NotHigh, Self::Visible, Self::NotIos, Self::ExpiresFirst, Self::Observed];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotHigh => "not_high",
            Self::Visible => "visible",
            Self::NotIos => "not_ios",
            Self::ExpiresFirst => "expires_first",
            Self::Observed => "observed",
        }
    }
}

/// Whether a toast is owed to one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// If no receipt comes within the delay.
    Owed(Duration),
    /// A policy was given, but not for this case.
    NotOwed(NotOwed),
    /// No policy was given.
    NotAsked,
}

/// The form of the first push: visible content makes it an alert, at once; raw content alone is raw.
pub fn first_form(content: &Content) -> Form {
    if content.payload.visual.is_some() { Form::Alert } else { Form::Raw }
}

/// Is a toast owed to a device on this platform, if the raw push is deferred? `now` is the moment of intake.
pub fn owed(content: &Content, platform: Platform, mode: Mode, expires_at: Timestamp, now: Timestamp) -> Fallback {
    let Some(policy) = &content.fallback else { return Fallback::NotAsked };
    if content.priority != Priority::High {
        Fallback::NotOwed(NotOwed::NotHigh)
    } else if first_form(content) != Form::Raw {
        Fallback::NotOwed(NotOwed::Visible)
    } else if platform != Platform::Ios
        || !policy.platforms.contains(Platform::Ios)
        || !content.target_policy.contains(Platform::Ios)
    {
        Fallback::NotOwed(NotOwed::NotIos)
    } else if now.plus(policy.delay) >= expires_at {
        Fallback::NotOwed(NotOwed::ExpiresFirst)
    } else {
        match mode {
            Mode::Observe => Fallback::NotOwed(NotOwed::Observed),
            Mode::Send => Fallback::Owed(policy.delay),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notification::{FallbackPolicy, Payload, Visual};
    use crate::subscription::PlatformSet;

    fn visual() -> Visual {
        Visual { title: "Order shipped".to_owned(), body: None }
    }

    fn asked() -> Content {
        Content {
            app_notification_id: None,
            group_name: None,
            priority: Priority::High,
            payload: Payload { raw: Some("{}".to_owned()), visual: None },
            display_ttl: None,
            target_policy: PlatformSet::ALL,
            fallback: Some(FallbackPolicy {
                platforms: PlatformSet::EMPTY.with(Platform::Ios),
                delay: Duration::from_secs(60),
                visual: visual(),
            }),
            traceparent: None,
            tracestate: None,
        }
    }

    fn check(content: &Content, platform: Platform, mode: Mode, life_secs: i64, want: Fallback) {
        let now = Timestamp::from_secs(1_000);
        assert_eq!(owed(content, platform, mode, Timestamp::from_secs(1_000 + life_secs), now), want);
    }

    #[test]
    fn a_toast_is_owed_only_for_a_high_raw_push_to_ios_that_lives_longer_than_the_delay() {
        let day = 86_400;
        let full = asked();
        check(&full, Platform::Ios, Mode::Send, day, Fallback::Owed(Duration::from_secs(60)));
        check(&full, Platform::Ios, Mode::Send, 61, Fallback::Owed(Duration::from_secs(60)));
        check(&full, Platform::Ios, Mode::Send, 60, Fallback::NotOwed(NotOwed::ExpiresFirst));
        check(&full, Platform::Ios, Mode::Observe, day, Fallback::NotOwed(NotOwed::Observed));
        check(&full, Platform::Android, Mode::Send, day, Fallback::NotOwed(NotOwed::NotIos));

        for priority in [Priority::None, Priority::Low] {
            check(
                &Content { priority, ..asked() },
                Platform::Ios,
                Mode::Send,
                day,
                Fallback::NotOwed(NotOwed::NotHigh),
            );
        }
        let shown = Content { payload: Payload { raw: Some("{}".to_owned()), visual: Some(visual()) }, ..asked() };
        check(&shown, Platform::Ios, Mode::Send, day, Fallback::NotOwed(NotOwed::Visible));
        let android_only = Content { target_policy: PlatformSet::EMPTY.with(Platform::Android), ..asked() };
        check(&android_only, Platform::Ios, Mode::Send, day, Fallback::NotOwed(NotOwed::NotIos));
        check(&Content { fallback: None, ..asked() }, Platform::Ios, Mode::Send, day, Fallback::NotAsked);
    }

    #[test]
    fn visible_content_is_an_alert_at_once_even_with_raw_content() {
        assert_eq!(first_form(&asked()), Form::Raw);
        let shown = Content { payload: Payload { raw: None, visual: Some(visual()) }, ..asked() };
        assert_eq!(first_form(&shown), Form::Alert);
    }
}
