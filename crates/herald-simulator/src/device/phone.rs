//! The machine: a push arrives at the provider, is stored or reaches the device, and there is shown, handed to the app,
//! held or thrown away.

use super::budget::{Bucket, DAY_MS, Spent};
use super::rules::FORGOTTEN_AFTER_DAYS;
use super::screen::{Screen, Seen};
use super::storage::{Kept, Storage, Why};
use super::tally::Books;
use super::{
    Acknowledge, Change, Condition, Form, Habits, Item, Life, Metrics, NotificationTally, PhoneRules, Platform, Push,
    Step, Tally,
};
use crate::random;

/// How many copies of delivered pushes may be on their way to one phone; further ones are not made.
const COPIES_LIMIT: usize = 1_000;

/// How a push comes to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From the sender.
    Fresh,
    /// From the provider's storage, since something has changed.
    Stored,
    /// From there, since the phone takes what waits at this moment, though it saves power.
    Burst,
}

/// The phone.
#[derive(Debug)]
pub(crate) struct Phone {
    platform: Platform,
    condition: Condition,
    habits: Habits,
    rules: PhoneRules,
    random: u64,
    /// Since when it has not been connected, in milliseconds since 1970.
    offline_since_ms: Option<u64>,
    /// Since when FCM has not known its token any more.
    forgotten_since_ms: Option<u64>,
    storage: Storage,
    /// FCM threw messages away, and the app is to hear of it.
    owes_deleted_call: bool,
    bucket: Bucket,
    /// iOS: a silent push that the system has and doesn't hand to the app yet.
    held: Option<Item>,
    spent: Spent,
    /// Copies of delivered pushes, and when they come.
    copies: Vec<(u64, Item)>,
    /// Android: HIGH messages in a row that led to nothing visible.
    invisible: u32,
    screen: Screen,
    seen: Seen,
    books: Books,
    receipts: Vec<Acknowledge>,
}

impl Phone {
    pub(crate) fn new(platform: Platform, condition: Condition, habits: Habits, seed: u64, now_ms: u64) -> Self {
        Self {
            platform,
            condition,
            habits,
            rules: PhoneRules::default(),
            random: seed,
            offline_since_ms: (condition == Condition::Offline).then_some(now_ms),
            forgotten_since_ms: None,
            storage: Storage::default(),
            owes_deleted_call: false,
            bucket: Bucket::default(),
            held: None,
            spent: Spent::default(),
            copies: Vec::new(),
            invisible: 0,
            screen: Screen::default(),
            seen: Seen::default(),
            books: Books::default(),
            receipts: Vec::new(),
        }
    }

    pub(crate) fn condition(&self) -> Condition {
        self.condition
    }

    pub(crate) fn habits(&self) -> Habits {
        self.habits
    }

    /// The rules it begins with; later ones come with a [`Change`].
    pub(crate) fn set_rules(&mut self, rules: PhoneRules) {
        self.rules = rules;
    }

    pub(crate) fn rules(&self) -> &PhoneRules {
        &self.rules
    }

    pub(crate) fn tally(&self) -> Tally {
        self.books.tally
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.books.metrics
    }

    /// How many notifications the person would see now.
    pub(crate) fn on_screen(&self) -> usize {
        self.screen.len()
    }

    /// How many pushes the provider holds for this phone.
    pub(crate) fn stored(&self) -> usize {
        self.storage.len()
    }

    /// How many silent pushes the system holds back from the app: one at most.
    pub(crate) fn held(&self) -> usize {
        usize::from(self.held.is_some())
    }

    pub(crate) fn notifications(&self) -> impl Iterator<Item = (&String, &NotificationTally)> {
        self.books.notifications()
    }

    #[cfg(test)]
    pub(super) fn screen(&self) -> &Screen {
        &self.screen
    }

    /// How many collapse keys the provider holds for this phone.
    #[cfg(test)]
    pub(super) fn keys_stored(&self) -> usize {
        self.storage.keys()
    }

    /// Since when FCM has not known the token any more, in milliseconds since 1970.
    pub(crate) fn forgotten_since_ms(&self, now_ms: u64) -> Option<u64> {
        let since = || {
            self.rules.stale_after_days?;
            let since = self.offline_since_ms? + u64::from(FORGOTTEN_AFTER_DAYS) * DAY_MS;
            (since <= now_ms).then_some(since)
        };
        self.forgotten_since_ms.or_else(since)
    }

    /// The app has another token: whatever FCM forgot, it knows this one.
    pub(crate) fn registered_anew(&mut self) {
        self.forgotten_since_ms = None;
    }

    /// A push that the provider accepted for this phone, at `now_ms` since 1970.
    pub(crate) fn receive(&mut self, push: Push, now_ms: u64) -> Step {
        self.catch_up(now_ms);
        self.books.tally.received += 1;
        self.arrive(Item { push, copy: false }, Way::Fresh, now_ms);
        self.step(now_ms)
    }

    /// The time has come that the phone asked to be woken at.
    pub(crate) fn wake(&mut self, now_ms: u64) -> Step {
        self.catch_up(now_ms);
        self.step(now_ms)
    }

    /// Something about the phone changes; what waited and may be delivered now is delivered, oldest first.
    pub(crate) fn change(&mut self, change: Change, now_ms: u64) -> Step {
        self.catch_up(now_ms);
        self.habits = change.habits.unwrap_or(self.habits);
        if let Some(rules) = change.rules {
            self.rules = rules;
        }
        let condition = change.condition.unwrap_or(self.condition);
        let quit = matches!(condition, Condition::ForceQuit | Condition::Uninstalled);
        let opened = change.launch && condition != Condition::Uninstalled;
        self.enter(if opened && quit { Condition::Awake } else { condition }, now_ms);
        if opened && let Some(item) = self.held.take() {
            self.handle(item.push);
        }
        self.deliver_stored(now_ms);
        self.catch_up(now_ms);
        self.step(now_ms)
    }

    fn enter(&mut self, condition: Condition, now_ms: u64) {
        self.forgotten_since_ms = self.forgotten_since_ms(now_ms);
        self.condition = condition;
        self.offline_since_ms = match condition {
            Condition::Offline => self.offline_since_ms.or(Some(now_ms)),
            Condition::Awake | Condition::PowerSaving | Condition::ForceQuit | Condition::Uninstalled => None,
        };
        if condition == Condition::Uninstalled {
            self.screen.clear();
        }
        // Apple, "Pushing background updates to your App": force-quit discards what is held.
        if matches!(condition, Condition::ForceQuit | Condition::Uninstalled) && self.held.take().is_some() {
            self.books.tally.discarded += 1;
        }
    }

    fn deliver_stored(&mut self, now_ms: u64) {
        let mut waiting = self.storage.take();
        self.shuffle(&mut waiting);
        for kept in waiting {
            self.arrive(kept.item, Way::Stored, now_ms);
        }
        if self.condition == Condition::Awake {
            self.tell_of_deleted();
        }
    }

    /// Does all that was to be done by now.
    fn catch_up(&mut self, now_ms: u64) {
        let mut due = self.storage.take_due(now_ms);
        self.shuffle(&mut due);
        for Kept { item, why, .. } in due {
            let burst = why == Why::Power;
            self.arrive(item, if burst { Way::Burst } else { Way::Stored }, now_ms);
            if burst {
                self.tell_of_deleted();
            }
        }
        if self.release_at(now_ms).is_some_and(|at| at <= now_ms)
            && let Some(item) = self.held.take()
        {
            self.hand_over(item.push, now_ms);
        }
        if self.copies.iter().any(|(at, _)| *at <= now_ms) {
            let copies = std::mem::take(&mut self.copies);
            let (mut due, rest): (Vec<_>, _) = copies.into_iter().partition(|(at, _)| *at <= now_ms);
            self.copies = rest;
            due.sort_by_key(|(at, _)| *at);
            for (_, item) in due {
                self.books.tally.duplicates += 1;
                self.arrive(item, Way::Fresh, now_ms);
            }
        }
    }

    fn step(&mut self, now_ms: u64) -> Step {
        let copy = self.copies.iter().map(|(at, _)| *at).min();
        let waits = [self.storage.due_at(), self.release_at(now_ms), copy];
        Step { receipts: std::mem::take(&mut self.receipts), wake_at_ms: waits.into_iter().flatten().min() }
    }

    /// A push at the provider.
    fn arrive(&mut self, item: Item, way: Way, now_ms: u64) {
        let push = &item.push;
        let switched_off = push.visible && self.rules.alerts_off;
        let metrics = &mut self.books.metrics;
        if matches!(push.life, Life::Until(end) if end <= now_ms) {
            metrics.discarded_expired += 1;
            self.books.tally.expired += 1;
        } else if self.condition == Condition::Uninstalled {
            metrics.discarded_unregistered += 1;
            self.books.tally.discarded += 1;
        } else if switched_off && self.platform == Platform::Ios {
            // APNs asks whether the app may be pushed to before it asks where the device is.
            metrics.discarded_disabled += 1;
            self.books.tally.discarded += 1;
        } else if self.is_stale(now_ms) {
            self.books.metrics.dropped_device_inactive += 1;
            self.books.tally.discarded += 1;
            self.owes_deleted_call = true;
        } else if let Some((why, due_ms)) = self.obstacle(push, way, now_ms) {
            self.store(Kept { item, why, due_ms }, way);
        } else if self.platform == Platform::Android && self.condition == Condition::ForceQuit {
            // FCM Data API, `droppedAppForceStopped`.
            self.books.metrics.dropped_app_force_stopped += 1;
            self.books.tally.discarded += 1;
        } else {
            self.reach(item, way, now_ms);
        }
    }

    /// Why the push can't reach the device now, and when it is tried again.
    fn obstacle(&mut self, push: &Push, way: Way, now_ms: u64) -> Option<(Why, Option<u64>)> {
        if self.condition == Condition::Offline {
            return Some((Why::Offline, None));
        }
        if self.condition == Condition::PowerSaving && way != Way::Burst && !self.passes_in_power_saving(push, way) {
            let every_ms = self.rules.burst_every_secs.map(|secs| secs * 1000);
            return Some((Why::Power, every_ms.map(|every_ms| (now_ms / every_ms + 1) * every_ms)));
        }
        // "FCM doesn't apply collapsible message throttling to messages with a time to live value of 0."
        let counts = push.collapse_key.is_some() && push.life != Life::Now;
        let burst = self.rules.collapsible_burst.filter(|_| counts)?;
        let due_ms = self.bucket.take(burst, now_ms).err()?;
        Some((Why::Throttled, Some(due_ms)))
    }

    fn passes_in_power_saving(&mut self, push: &Push, way: Way) -> bool {
        let lowered = self.rules.deprioritise_after.is_some_and(|limit| self.invisible >= limit);
        if push.urgent && lowered && way == Way::Fresh {
            self.books.metrics.priority_lowered += 1;
        }
        let urgent = push.urgent && !lowered;
        if push.visible {
            urgent || self.rules.burst_every_secs.is_none()
        } else {
            urgent && self.platform == Platform::Android
        }
    }

    fn is_stale(&self, now_ms: u64) -> bool {
        let since = self.offline_since_ms.zip(self.rules.stale_after_days);
        since.is_some_and(|(since, days)| since.saturating_add(u64::from(days) * DAY_MS) <= now_ms)
    }

    fn store(&mut self, kept: Kept, way: Way) {
        if kept.item.push.life == Life::Now {
            self.books.metrics.discarded_expired += 1;
            self.books.tally.expired += 1;
            return;
        }
        if way == Way::Fresh {
            match kept.why {
                Why::Offline => self.books.metrics.stored_offline += 1,
                Why::Power => self.books.metrics.stored_power += 1,
                Why::Throttled => self.books.metrics.delayed_message_throttled += 1,
            }
        }
        let by_chance = kept.item.push.collapse_key.is_some() || self.rules.reorder;
        let roll = if by_chance { self.roll() } else { 0 };
        let gone = self.storage.put(self.platform, kept, roll);
        self.books.tally.replaced += gone.replaced;
        self.books.tally.discarded += gone.dropped;
        self.books.metrics.dropped_too_many_pending_messages += gone.dropped;
        self.owes_deleted_call |= gone.dropped > 0;
    }

    fn tell_of_deleted(&mut self) {
        self.books.tally.deleted_messages_calls += u64::from(self.owes_deleted_call);
        self.owes_deleted_call = false;
    }

    /// A push at the device.
    fn reach(&mut self, item: Item, way: Way, now_ms: u64) {
        let switched_off = item.push.visible && self.rules.alerts_off;
        if switched_off {
            self.books.metrics.discarded_disabled += 1;
            self.books.tally.discarded += 1;
            return;
        }
        match way {
            Way::Fresh => self.books.metrics.delivered += 1,
            Way::Stored | Way::Burst => self.books.metrics.delivered_from_storage += 1,
        }
        self.repeat_later(&item, now_ms);
        if item.push.visible {
            self.show(item.push);
        } else if self.condition == Condition::ForceQuit {
            self.books.tally.discarded += 1;
        } else if self.platform == Platform::Ios {
            // Apple, "Pushing background updates to your App": a newer one replaces what is held.
            self.books.tally.replaced += u64::from(self.held.take().is_some());
            if self.hand_over_at(now_ms) == Some(now_ms) {
                self.hand_over(item.push, now_ms);
            } else {
                self.held = Some(item);
            }
        } else {
            self.handle(item.push);
        }
    }

    /// From when on the system would hand a silent push to the app in the background; `None`: not before something changes.
    fn hand_over_at(&self, now_ms: u64) -> Option<u64> {
        if self.rules.background_refresh_off {
            return None;
        }
        self.rules.background_budget.map_or(Some(now_ms), |budget| self.spent.free_at(budget, now_ms))
    }

    /// When what is held is handed over: only when the phone is awake.
    fn release_at(&self, now_ms: u64) -> Option<u64> {
        let waits = self.held.is_some() && self.condition == Condition::Awake;
        if waits { self.hand_over_at(now_ms) } else { None }
    }

    /// Hands a silent push to the app in the background, which the budget counts.
    fn hand_over(&mut self, push: Push, now_ms: u64) {
        if self.rules.background_budget.is_some() {
            self.spent.spend(now_ms);
        }
        self.handle(push);
    }

    /// The app handles a silent push.
    fn handle(&mut self, push: Push) {
        let (tally, notification) = self.books.of(push.notification_id.as_deref());
        let mut alerts = false;
        if push.form == Form::State {
            tally.states_delivered += 1;
            notification.states_delivered += 1;
        } else {
            tally.raws_delivered += 1;
            notification.raws_delivered += 1;
            let known = self.rules.dedupe && known(&mut self.seen, &push);
            alerts = self.rules.app_alerts && !known && !self.rules.alerts_off;
        }
        if alerts {
            tally.app_alerts_shown += 1;
            tally.alerts_seen += 1;
            notification.app_alerts_shown += 1;
            notification.alerts_seen += 1;
            self.screen.show(push.collapse_id.clone().or_else(|| id(&push).map(str::to_owned)));
        }
        if alerts {
            self.invisible = 0;
        } else if push.urgent {
            self.invisible = self.invisible.saturating_add(1);
        }
        self.acknowledge(push.receipt);
    }

    /// The system shows a visible push.
    fn show(&mut self, push: Push) {
        let extension_runs = matches!(self.condition, Condition::Awake | Condition::PowerSaving) && push.mutable;
        // An extension can't suppress what came, but it can take sound and banner away.
        let silent = extension_runs && self.rules.dedupe && known(&mut self.seen, &push);
        let (tally, notification) = self.books.of(push.notification_id.as_deref());
        if push.form == Form::Toast {
            tally.toasts_shown += 1;
            notification.toasts_shown += 1;
        } else {
            tally.alerts_shown += 1;
            notification.alerts_shown += 1;
        }
        tally.alerts_seen += u64::from(!silent);
        notification.alerts_seen += u64::from(!silent);
        self.invisible = 0;
        self.screen.show(push.collapse_id);
        if extension_runs && self.habits.ack_alerts {
            self.acknowledge(push.receipt);
        }
    }

    fn acknowledge(&mut self, receipt: Option<String>) {
        let Some(capability) = receipt else { return };
        if self.roll() % 100 < u64::from(self.habits.ack_loss_percent) {
            self.books.tally.receipts_lost += 1;
            return;
        }
        let besides_ms = self
            .rules
            .ack_delay
            .is_some()
            .then(|| self.roll())
            .map_or(0, |roll| self.rules.ack_delay.as_ref().map_or(0, |delay| delay.sample(roll)));
        let after_ms = self.habits.ack_delay_ms.saturating_add(besides_ms);
        self.receipts.push(Acknowledge { capability, after_ms });
    }

    /// "APNs … tries to deliver it at least once": whose acknowledgement is lost comes again. What isn't stored doesn't.
    fn repeat_later(&mut self, item: &Item, now_ms: u64) {
        let percent = u64::from(self.rules.duplicate_percent);
        let possible = percent > 0 && !item.copy && item.push.life != Life::Now && self.copies.len() < COPIES_LIMIT;
        if possible && self.roll() % 100 < percent {
            let roll = self.roll();
            let after_ms = self.rules.duplicate_after.as_ref().map_or(0, |delay| delay.sample(roll));
            self.copies.push((now_ms.saturating_add(after_ms), Item { copy: true, ..item.clone() }));
        }
    }

    fn roll(&mut self) -> u64 {
        self.random = random::mix(self.random);
        self.random
    }

    /// Another order (Fisher and Yates), if the rules want one.
    fn shuffle<T>(&mut self, list: &mut [T]) {
        if !self.rules.reorder {
            return;
        }
        for last in (1..list.len()).rev() {
            let other = usize::try_from(self.roll() % (last as u64 + 1)).unwrap_or(last);
            list.swap(last, other);
        }
    }
}

/// What the app recognises a notification by.
fn id(push: &Push) -> Option<&str> {
    push.app_notification_id.as_deref().or(push.notification_id.as_deref())
}

/// Whether the app or its extension knows the notification already; from now on they do.
fn known(seen: &mut Seen, push: &Push) -> bool {
    id(push).is_some_and(|id| !seen.add(id))
}
