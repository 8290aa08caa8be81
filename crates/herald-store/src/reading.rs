//! Reading and state: a user's notifications as a client lists, follows and changes them.
//!
//! Beside the way. Lists and deltas read; a change is one transaction that writes how the notification stands, withdraws what
//! is still to be pushed of it, and makes the state pushes that tell the user's other devices. What a change comes to is decided
//! by [`herald_core::reading`]. Who may see and change what is decided before: here everything is of one user of one app.
//!
//! # Deltas
//! A [`Mark`] is a place in the order of changes. What is handed out with a page is a mark from before the page was read, and the
//! next delta brings all that was written at or after it: a change may come twice, and none is missed, whatever was being
//! committed meanwhile. On PostgreSQL a mark is the oldest transaction that was running (its `changed` column holds the
//! transaction that wrote a row); on a file, where one thread writes, the number of the next change.
//!
//! A notification that is scheduled for later is in no list or delta before its time.

use std::collections::HashSet;
use std::sync::Arc;

use herald_core::ids::{AppId, DeliveryId, NotificationId, Unsid, UserId};
use herald_core::lane::{Hint, Lane};
use herald_core::notification::Notification;
use herald_core::push::Form;
use herald_core::reading::{Change, Condition, Standing, UserAction};
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;
use uuid::Uuid;

use crate::deliveries::{Budget, Made};
use crate::history::COUNT_LIMIT;
use crate::{Closed, Inner, NewDelivery, Result, Store};

/// Subscriptions that a state push tells at most; a user has some. Bounds a transaction.
pub(crate) const TOLD_LIMIT: usize = 1_000;
/// State pushes of a notification to a device, at most: who changes it over and over must not fill the store, nor use up what the
/// phones' systems allow an app in the background. Later changes are found by the next fetch.
pub(crate) const STATE_PUSHES_LIMIT: i64 = 32;

/// A notification as its user finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it says; of a deleted one nothing is left but its names.
    pub notification: Notification,
    /// When its request came in.
    pub received_at: Timestamp,
    /// How it stands with its user.
    pub standing: Standing,
    /// When its user changed it last.
    pub modified_at: Option<Timestamp>,
}

/// Which notifications of a user are meant. The default: those that are not deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EntryFilter {
    /// Tombstones, instead of what is there.
    pub deleted: bool,
    /// Read or not.
    pub read: Option<bool>,
    /// What was done with them.
    pub action: Option<UserAction>,
    /// Of which group.
    pub group: Option<String>,
}

/// What a statement looks for.
#[derive(Default)]
pub(crate) struct Wanted {
    pub(crate) deleted: Option<bool>,
    pub(crate) read: Option<bool>,
    pub(crate) action: Option<i16>,
    /// As [`group_in_content`] gives it.
    pub(crate) group: Option<String>,
    /// Written at or after this place.
    pub(crate) since: Option<i64>,
    pub(crate) before: Option<NotificationId>,
}

impl Wanted {
    fn of(filter: &EntryFilter, before: Option<NotificationId>) -> Self {
        Self {
            deleted: Some(filter.deleted),
            read: filter.read,
            action: filter.action.map(UserAction::number),
            group: filter.group.as_deref().map(group_in_content),
            since: None,
            before,
        }
    }

    /// Ids are below this.
    pub(crate) fn before(&self) -> Uuid {
        self.before.map_or(Uuid::max(), |id| id.0)
    }
}

/// How a group's name stands in the column `content`, which is only ever written by serde. What of the rest looks like it is
/// text within quotes, where every quote is escaped, so it can't be found there; and a column of its own would be written
/// with every notification.
fn group_in_content(group: &str) -> String {
    format!(r#""group_name":{},"priority":"#, serde_json::Value::from(group))
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    /// Newest first.
    pub entries: Vec<Entry>,
    /// There are more, after the last one.
    pub more: bool,
}

impl Entries {
    /// After which the next page begins.
    pub fn last(&self) -> Option<NotificationId> {
        self.entries.last().map(|entry| entry.notification.id)
    }

    /// Of what was read with a limit one higher.
    fn of(mut entries: Vec<Entry>, limit: usize) -> Self {
        let more = entries.len() > limit;
        entries.truncate(limit);
        Self { entries, more }
    }
}

/// A place in the order of changes of one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Which store.
    pub epoch: Uuid,
    /// Which change; the next one.
    pub at: i64,
}

/// Where the store is in its changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) now: Mark,
    /// No mark that was ever handed out is beyond this.
    pub(crate) latest: i64,
}

impl Place {
    fn knows(&self, mark: Mark) -> bool {
        mark.epoch == self.now.epoch && (0..=self.latest).contains(&mark.at)
    }
}

/// Which page of which delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeltaFrom {
    /// What was written since; none for a first delta, which begins with all that is there.
    pub since: Option<Mark>,
    /// For a page that is not the first: the mark that the first one gave.
    pub until: Option<Mark>,
    /// For a page that is not the first: the last of the page before.
    pub after: Option<NotificationId>,
}

/// What a delta comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// What was written, tombstones included, and where the next delta begins once all pages were read.
    Page(Entries, Mark),
    /// One of the marks is none of this store's: the client begins anew.
    UnknownMark,
}

/// A change of a notification, and by whom.
#[derive(Debug, Clone)]
pub struct Changing {
    /// Of this app,
    pub app: AppId,
    /// of this user; another's is unknown.
    pub user: UserId,
    /// Which one.
    pub notification: NotificationId,
    /// What is asked for.
    pub change: Change,
    /// If what is so.
    pub condition: Condition,
    /// The device that makes the change, which need not be told of it.
    pub by: Option<Unsid>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// It is so now, or was so already: then nothing was withdrawn and nobody is told.
    Done {
        /// How it is.
        entry: Box<Entry>,
        /// Deliveries of it that will not be pushed any more.
        withdrawn: Vec<Closed>,
        /// State pushes, due now in the normal lane.
        due: Vec<Hint>,
    },
    /// The condition does not hold.
    Mismatch,
    /// There is no such notification, or not any more.
    Unknown,
}

impl Changed {
    pub(crate) fn unchanged(entry: Entry) -> Self {
        Self::Done { entry: Box::new(entry), withdrawn: Vec::new(), due: Vec::new() }
    }
}

/// The state pushes of a change, to be inserted.
pub(crate) fn state_pushes(
    entry: &Entry,
    active: &[Subscription],
    by: Option<Unsid>,
    waiting: &HashSet<Unsid>,
    at: Timestamp,
) -> Made {
    let told = herald_core::reading::tells(entry.notification.content.target_policy, active, by, waiting);
    let new: Vec<NewDelivery> = told
        .into_iter()
        .map(|subscription| NewDelivery {
            id: DeliveryId(Uuid::now_v7()),
            unsid: subscription.id,
            form: Form::State,
            fallback_delay: None,
        })
        .collect();
    // What the person did is no news to them: other devices learn of it without hurry, whatever lane the notification came by.
    Budget::none().make(&Arc::new(entry.notification.clone()), Lane::Normal, entry.received_at, at, &new, active)
}

impl Store {
    /// A page of a user's notifications, newest first: at most `limit` after (older than) `after`.
    ///
    /// # Errors
    /// As any call.
    pub async fn entries(
        &self,
        app: &AppId,
        user: &UserId,
        filter: &EntryFilter,
        after: Option<NotificationId>,
        limit: usize,
    ) -> Result<Entries> {
        let entries = self.read_entries("entries", app, user, Wanted::of(filter, after), limit + 1).await?;
        Ok(Entries::of(entries, limit))
    }

    async fn read_entries(
        &self,
        operation: &'static str,
        app: &AppId,
        user: &UserId,
        wanted: Wanted,
        limit: usize,
    ) -> Result<Vec<Entry>> {
        self.within(operation, async {
            match &self.inner {
                Inner::Postgres(pg) => pg.entries(app, user, &wanted, limit).await,
                Inner::Sqlite(lite) => lite.entries(app, user, wanted, limit).await,
            }
        })
        .await
    }

    /// How many notifications of a user are meant; 100,000 at most.
    ///
    /// # Errors
    /// As any call.
    pub async fn count_entries(&self, app: &AppId, user: &UserId, filter: &EntryFilter) -> Result<u64> {
        let wanted = Wanted::of(filter, None);
        self.within("count_entries", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.count_entries(app, user, &wanted, COUNT_LIMIT).await,
                Inner::Sqlite(lite) => lite.count_entries(app, user, wanted, COUNT_LIMIT).await,
            }
        })
        .await
    }

    /// One notification of a user, its tombstone included; none once it has expired.
    ///
    /// # Errors
    /// As any call.
    pub async fn entry(&self, app: &AppId, user: &UserId, notification: NotificationId) -> Result<Option<Entry>> {
        self.within("entry", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.entry(app, user, notification).await,
                Inner::Sqlite(lite) => lite.entry(app, user, notification).await,
            }
        })
        .await
    }

    /// Where the store is in its changes: a delta since then brings what is written from now on.
    ///
    /// # Errors
    /// As any call.
    pub async fn mark(&self) -> Result<Mark> {
        Ok(self.place().await?.now)
    }

    async fn place(&self) -> Result<Place> {
        self.within("mark", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.place().await,
                Inner::Sqlite(lite) => lite.place().await,
            }
        })
        .await
    }

    /// A page of what was written of a user's notifications since a mark, tombstones included; of a first delta, of all that
    /// is there. Tombstones go when the notification expires, and what has expired is not told of: the client knows when.
    ///
    /// # Errors
    /// As any call.
    pub async fn delta(&self, app: &AppId, user: &UserId, from: DeltaFrom, limit: usize) -> Result<Delta> {
        // Before the page is read: what is committed in between is on this page and in the next delta.
        let place = self.place().await?;
        let DeltaFrom { since, until, after } = from;
        if since.into_iter().chain(until).any(|mark| !place.knows(mark)) {
            return Ok(Delta::UnknownMark);
        }
        let wanted = Wanted {
            deleted: if since.is_some() { None } else { Some(false) },
            since: since.map(|mark| mark.at),
            before: after,
            ..Wanted::default()
        };
        let entries = self.read_entries("delta", app, user, wanted, limit + 1).await?;
        Ok(Delta::Page(Entries::of(entries, limit), until.unwrap_or(place.now)))
    }

    /// Changes a notification, in one transaction with what follows: its open deliveries but state pushes are withdrawn, and
    /// a fan-out still to come, if the change says that the user knows of it; and each other device of the user that it
    /// addresses gets a state push, due now, unless one waits already. At most 1,000 are told.
    ///
    /// # Errors
    /// As any call; repeating is safe, but for a condition on the revision, which the first one may have moved.
    pub async fn change(&self, changing: Changing) -> Result<Changed> {
        self.within("change", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.change(&changing, self.teller()).await,
                Inner::Sqlite(lite) => lite.change(changing, self.teller.clone()).await,
            }
        })
        .await
    }

    /// Which of these notifications have a delivery to this subscription without a receipt: what a fetch by that device
    /// acknowledges. State pushes are not meant.
    ///
    /// # Errors
    /// As any call.
    pub async fn unacknowledged(&self, unsid: Unsid, notifications: &[NotificationId]) -> Result<Vec<NotificationId>> {
        if notifications.is_empty() {
            return Ok(Vec::new());
        }
        self.within("unacknowledged", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.unacknowledged(unsid, notifications).await,
                Inner::Sqlite(lite) => lite.unacknowledged(unsid, notifications).await,
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use herald_core::notification::{Content, Payload, Priority};
    use herald_core::subscription::PlatformSet;

    use super::*;

    fn content(group: Option<&str>, raw: &str) -> String {
        let content = Content {
            app_notification_id: Some(r#"","group_name":"b","priority":"#.to_owned()),
            group_name: group.map(str::to_owned),
            priority: Priority::Low,
            payload: Payload { raw: Some(raw.to_owned()), visual: None },
            display_ttl: None,
            target_policy: PlatformSet::ALL,
            fallback: None,
            traceparent: None,
            tracestate: None,
        };
        serde_json::to_string(&content).unwrap()
    }

    #[test]
    fn a_groups_name_is_found_as_it_is_stored_and_nowhere_else() {
        for name in ["a", "o'neil", r#"say "hi""#, r"back\slash", "grün", "🙂", "%_"] {
            assert!(content(Some(name), "x").contains(&group_in_content(name)), "{name}");
            assert!(!content(None, &content(Some(name), "x")).contains(&group_in_content(name)), "{name}");
            assert!(!content(Some("other"), name).contains(&group_in_content(name)), "{name}");
        }
        assert!(!content(Some("ab"), "").contains(&group_in_content("b")));
    }
}
