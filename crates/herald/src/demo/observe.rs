//! Looks at the store and at the simulator, and writes down what is there: a [`Snapshot`].
//!
//! It looks from outside, as a person would: the store's traces, the providers' journal, the phones. Which notifications
//! there are it learns from the journal, so that those that somebody else sends are seen as well. It changes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use herald_metrics::Metrics;
use herald_simulator::{Counts, JournalEntry, PhoneView, Simulator};
use herald_store::{Store, Trace, TracedDelivery};
use serde_json::Value;

use super::cast::APP;
use super::snapshot::{Delivery, Phone, Snapshot};

/// How many notifications are followed at once; of more, the newest.
const FOLLOWED: usize = 200;
/// How long one is followed after its end: a receipt may come late.
const LINGER: Duration = Duration::from_secs(10);
/// What becomes of requests.
const REQUESTS: &str = "herald_requests_total{";

/// The eyes of the demo.
pub(super) struct Observer<'a> {
    simulator: &'a Simulator,
    store: Store,
    metrics: Metrics,
    app: AppId,
    phones: HashMap<Unsid, String>,
    /// Users and keys whose notification is not in the store yet.
    awaited: Vec<(UserId, String)>,
    known: HashMap<String, NotificationId>,
    /// When each was seen closed.
    followed: BTreeMap<NotificationId, Option<Instant>>,
    /// Every id in the journal: what has been followed is not followed again.
    seen: HashSet<NotificationId>,
    counts: Counts,
    raws: HashMap<(NotificationId, String), u64>,
    /// Requests are counted too.
    counting: bool,
}

impl<'a> Observer<'a> {
    /// `phones`: which phone a subscription is of.
    pub(super) fn new(
        simulator: &'a Simulator,
        store: Store,
        metrics: Metrics,
        phones: HashMap<Unsid, String>,
    ) -> Self {
        Self {
            simulator,
            store,
            metrics,
            app: AppId::new(APP),
            phones,
            awaited: Vec::new(),
            known: HashMap::new(),
            followed: BTreeMap::new(),
            seen: HashSet::new(),
            counts: Counts::default(),
            raws: HashMap::new(),
            counting: false,
        }
    }

    /// Follows the notification of this user with this key as soon as it is stored, pushed or not.
    pub(super) fn expect(&mut self, user: &str, key: String) {
        self.awaited.push((UserId::new(user), key));
    }

    /// The notification of a key that was expected, if it is stored.
    pub(super) fn notification(&self, key: &str) -> Option<NotificationId> {
        self.known.get(key).copied()
    }

    /// From now on, what becomes of requests is looked at too.
    pub(super) fn count_requests(&mut self) {
        self.counting = true;
    }

    /// Looks.
    ///
    /// # Errors
    /// As any call of the store; the next look may succeed.
    pub(super) async fn look(&mut self) -> herald_store::Result<Snapshot> {
        self.find().await?;
        self.read_journal();
        let views = self.simulator.phones();
        let mut snapshot = Snapshot::default();
        let ids: Vec<NotificationId> = self.followed.keys().copied().collect();
        for id in ids {
            let Some(trace) = self.store.trace(&self.app, id).await? else { continue };
            self.mark_closed(&trace);
            for traced in &trace.deliveries {
                snapshot.deliveries.insert(traced.delivery.id, self.delivery(&trace, traced, &views));
            }
        }
        let phone = |view: &PhoneView| Phone { condition: view.condition, receipts: view.receipts_sent };
        snapshot.phones = views.iter().map(|view| (view.name.clone(), phone(view))).collect();
        if self.counting {
            snapshot.requests = requests(&self.metrics.render());
        }
        snapshot.at = Some(self.store.clock().now());
        Ok(snapshot)
    }

    async fn find(&mut self) -> herald_store::Result<()> {
        for (user, key) in std::mem::take(&mut self.awaited) {
            match self.store.notification_by_key(&self.app, &user, &key).await? {
                Some(id) => {
                    self.known.insert(key, id);
                    self.followed.insert(id, None);
                }
                None => self.awaited.push((user, key)),
            }
        }
        Ok(())
    }

    /// Reading the journal is work, so it is read only when a provider has answered since.
    fn read_journal(&mut self) {
        let counts = self.simulator.counters();
        if counts == self.counts {
            return;
        }
        self.counts = counts;
        self.raws.clear();
        let mut ids = HashSet::new();
        for entry in self.simulator.journal() {
            let Some((id, form)) = push(&entry) else { continue };
            ids.insert(id);
            if let (Some(phone), Some(200), "raw") = (entry.phone, entry.status, form.as_str()) {
                *self.raws.entry((id, phone)).or_default() += 1;
            }
        }
        // The newest, if there are too many: ids sort by time.
        let mut new: Vec<NotificationId> = ids.difference(&self.seen).copied().collect();
        new.sort_unstable_by(|a, b| b.cmp(a));
        for id in new.into_iter().take(FOLLOWED) {
            if self.followed.len() < FOLLOWED || self.forget_one() {
                self.followed.entry(id).or_insert(None);
            }
        }
        self.seen = ids;
    }

    /// Makes room: forgets the one that ended first. Says whether there was one.
    fn forget_one(&mut self) -> bool {
        let ended = self.followed.iter().filter_map(|(id, closed)| Some((closed.as_ref()?, *id))).min();
        let Some((_, id)) = ended else { return false };
        self.followed.remove(&id).is_some()
    }

    /// Notes the end of a notification, and forgets one that ended long ago.
    fn mark_closed(&mut self, trace: &Trace) {
        let id = trace.notification.id;
        let open = trace.next_at.is_some() || trace.deliveries.iter().any(|traced| traced.delivery.state.is_open());
        // Those of the script are judged in the end.
        if open || self.known.values().any(|known| *known == id) {
            return;
        }
        let closed = self.followed.entry(id).or_default().get_or_insert_with(Instant::now);
        if closed.elapsed() > LINGER {
            self.followed.remove(&id);
        }
    }

    fn delivery(&self, trace: &Trace, traced: &TracedDelivery, views: &[PhoneView]) -> Delivery {
        let notification = trace.notification.id;
        let content = &trace.notification.content;
        let person =
            self.phones.get(&traced.unsid).cloned().unwrap_or_else(|| trace.notification.user.as_str().to_owned());
        let view = views.iter().find(|view| view.name == person);
        let tally = view.and_then(|view| view.notifications.get(&notification.to_string()));
        let visual = content.payload.visual.as_ref().or(content.fallback.as_ref().map(|fallback| &fallback.visual));
        Delivery {
            notification,
            provider: traced.provider,
            state: traced.delivery.state,
            fallback_delay: traced.delivery.fallback_delay,
            deadline_at: traced.delivery.deadline_at,
            received_at: traced.received_at,
            closed_at: traced.closed_at,
            failure: traced.failure.clone(),
            attempts: traced.attempts.clone(),
            title: visual.map(|visual| visual.title.clone()),
            toasts_shown: tally.map_or(0, |tally| tally.toasts_shown),
            alerts_shown: tally.map_or(0, |tally| tally.alerts_shown),
            raws_at_provider: self.raws.get(&(notification, person.clone())).copied().unwrap_or_default(),
            person,
        }
    }
}

/// The notification and the form of a push in the journal, as the app reads them (docs/protocol.md).
fn push(entry: &JournalEntry) -> Option<(NotificationId, String)> {
    let herald = match &entry.body["herald"] {
        Value::Null => serde_json::from_str(entry.body["message"]["data"]["herald"].as_str()?).ok()?,
        herald => herald.clone(),
    };
    Some((NotificationId(herald["notificationId"].as_str()?.parse().ok()?), herald["form"].as_str()?.to_owned()))
}

/// Requests by result, over all lanes, from Prometheus' text.
fn requests(metrics: &str) -> BTreeMap<String, u64> {
    let mut by_result = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with(REQUESTS)) {
        let result = line.split_once("result=\"").and_then(|(_, rest)| rest.split('"').next());
        let count = line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
        if let (Some(result), Some(count)) = (result, count) {
            *by_result.entry(result.to_owned()).or_default() += count;
        }
    }
    by_result
}

#[cfg(test)]
mod tests {
    use herald_core::lane::Lane;
    use herald_metrics::RequestResult;

    use super::*;

    #[test]
    fn requests_are_counted_by_result_over_all_lanes() {
        let metrics = Metrics::new();
        metrics.request(Lane::High, RequestResult::Stored);
        metrics.request(Lane::Low, RequestResult::Stored);
        metrics.request(Lane::Low, RequestResult::Parked);
        let counted = requests(&metrics.render());
        assert_eq!((counted["stored"], counted["parked"], counted["duplicate"]), (2, 1, 0));
    }
}
