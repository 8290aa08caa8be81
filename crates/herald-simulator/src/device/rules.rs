//! What a phone does of its own accord besides its condition: settings of the person, moods of the system, habits of the
//! app. All of it is off until a test asks for it.
//!
//! Data and its checks only; [`super::Phone`] acts on it.

use serde::{Deserialize, Serialize};

use super::Platform;
use crate::latency::Delay;

/// The longest time between two bursts, in seconds: a week.
const BURST_LIMIT_SECS: u64 = 7 * 24 * 3600;
/// The largest budget, and the largest burst: what the books of one phone may hold.
pub(super) const COUNT_LIMIT: u32 = 1_000;
/// When FCM forgets a token, in days without a connection ("Best practices for registration token management").
pub(super) const FORGOTTEN_AFTER_DAYS: u32 = 270;

/// What a phone does of its own accord. What is absent is off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PhoneRules {
    /// Notifications are switched off in the system's settings: nothing is shown, silent pushes arrive as ever. (Apple,
    /// `registerForRemoteNotifications`: without authorization the system delivers all notifications silently.)
    pub alerts_off: bool,
    /// iOS: Background App Refresh is switched off: silent pushes are held until the person launches the app. (Apple,
    /// `backgroundRefreshStatus`: only while it is available is an app launched for remote notifications.)
    pub background_refresh_off: bool,
    /// In power saving, what waits is handed over at each multiple of so many seconds, counted from 1970; visible pushes
    /// that aren't urgent wait too. Absent: what waits does so until the phone is awake, and all visible pushes are shown.
    pub burst_every_secs: Option<u64>,
    /// What a burst or a reconnect hands over comes in any order; of two pushes, APNs may store the older one.
    pub reorder: bool,
    /// iOS: how many silent pushes the system hands to the app in the background; the others are held.
    pub background_budget: Option<BackgroundBudget>,
    /// So many of a hundred delivered pushes are delivered once more.
    pub duplicate_percent: u8,
    /// How much later that is; absent: at once.
    pub duplicate_after: Option<Delay>,
    /// From handling a push to sending its receipt, besides `ackDelayMs`.
    pub ack_delay: Option<Delay>,
    /// The app shows a notification of its own when it handles a raw push.
    pub app_alerts: bool,
    /// The app shows nothing of its own for a notification that it knows already, and its service extension makes a
    /// visible one silent: by `appNotificationId`, else by `notificationId`.
    pub dedupe: bool,
    /// Android: after so many HIGH messages in a row that led to nothing visible, HIGH is treated as NORMAL until
    /// something is shown.
    pub deprioritise_after: Option<u32>,
    /// Android: how many collapsible messages get through at a time; the others are delayed.
    pub collapsible_burst: Option<CollapsibleBurst>,
    /// Android: a phone that was not connected for so many days gets nothing stored, and after 270 days its token is
    /// unregistered. Google says 30.
    pub stale_after_days: Option<u32>,
}

/// How many silent pushes an iPhone hands to one app in the background. Apple: "don't try to send more than two or three
/// per hour", and the power budget is renewed once a day ("Pushing background updates to your App").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct BackgroundBudget {
    /// Within any hour.
    pub per_hour: u32,
    /// Within any 24 hours; absent: as many as the hours allow.
    pub per_day: Option<u32>,
}

impl Default for BackgroundBudget {
    fn default() -> Self {
        Self { per_hour: 3, per_day: None }
    }
}

/// FCM's token bucket for collapsible messages to one app on one device ("Throttling and quotas").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CollapsibleBurst {
    /// How many get through at once.
    pub size: u32,
    /// How long until another one may, in seconds.
    pub refill_secs: u64,
}

impl Default for CollapsibleBurst {
    fn default() -> Self {
        Self { size: 20, refill_secs: 180 }
    }
}

impl PhoneRules {
    /// What is wrong with them for a phone of this platform.
    pub(crate) fn problem(&self, platform: Platform) -> Option<String> {
        let delay = |name: &str, delay: &Option<Delay>| {
            delay.as_ref().and_then(Delay::problem).map(|problem| format!("{name}: {problem}"))
        };
        let say = |wrong: bool, problem: &str| wrong.then(|| problem.to_owned());
        let ios = self.background_refresh_off || self.background_budget.is_some();
        let android =
            self.deprioritise_after.is_some() || self.collapsible_burst.is_some() || self.stale_after_days.is_some();
        let budget = self.background_budget.unwrap_or_default();
        let burst = self.collapsible_burst.unwrap_or_default();
        say(ios && platform != Platform::Ios, "backgroundRefreshOff and backgroundBudget are for iPhones")
            .or_else(|| {
                let problem = "deprioritiseAfter, collapsibleBurst and staleAfterDays are for Android phones";
                say(android && platform != Platform::Android, problem)
            })
            .or_else(|| {
                let wrong = self.burst_every_secs.is_some_and(|secs| !(1..=BURST_LIMIT_SECS).contains(&secs));
                say(wrong, "burstEverySecs must be from 1 to 604800")
            })
            .or_else(|| {
                let most = budget.per_hour.max(budget.per_day.unwrap_or(0));
                say(most > COUNT_LIMIT, "backgroundBudget: perHour and perDay must be 1000 at most")
            })
            .or_else(|| say(self.duplicate_percent > 100, "duplicatePercent must be 100 at most"))
            .or_else(|| delay("duplicateAfter", &self.duplicate_after))
            .or_else(|| delay("ackDelay", &self.ack_delay))
            .or_else(|| say(self.deprioritise_after == Some(0), "deprioritiseAfter must be 1 at least"))
            .or_else(|| {
                let wrong = !(1..=COUNT_LIMIT).contains(&burst.size) || !(1..=86_400).contains(&burst.refill_secs);
                say(wrong, "collapsibleBurst: size must be from 1 to 1000, refillSecs from 1 to 86400")
            })
            .or_else(|| {
                let wrong = self.stale_after_days.is_some_and(|days| !(1..=FORGOTTEN_AFTER_DAYS).contains(&days));
                say(wrong, "staleAfterDays must be from 1 to 270")
            })
    }
}
