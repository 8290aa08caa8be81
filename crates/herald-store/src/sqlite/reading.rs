//! Reading, and changes by users.

use std::collections::HashSet;
use std::sync::Arc;

use herald_core::delivery::State;
use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use herald_core::reading::{Change, Decision, Standing, UserAction, decide};
use herald_core::time::Timestamp;
use herald_sqlite::Fault;
use herald_sqlite::rusqlite::params;
use uuid::Uuid;

use super::close::{close_deliveries, open_pushes_of, tell};
use super::deliveries::insert_deliveries;
use super::rows::{Columns, counted, first, stored};
use super::subscriptions::active_subscriptions;
use super::take::notification;
use super::{JobResult, Sqlite, Tx};
use crate::reading::{Place, STATE_PUSHES_LIMIT, TOLD_LIMIT, Wanted, state_pushes};
use crate::{Changed, Changing, Entry, Mark, Result, Teller};

impl Sqlite {
    pub(crate) async fn entries(&self, app: &AppId, user: &UserId, wanted: Wanted, limit: usize) -> Result<Vec<Entry>> {
        let (app, user) = (app.clone(), user.clone());
        self.read("entries", move |tx| read_entries(tx, &app, &user, &wanted, limit)).await
    }

    pub(crate) async fn count_entries(&self, app: &AppId, user: &UserId, wanted: Wanted, limit: i64) -> Result<u64> {
        let (app, user) = (app.clone(), user.clone());
        self.read("count_entries", move |tx| count_entries(tx, &app, &user, &wanted, limit)).await
    }

    pub(crate) async fn entry(&self, app: &AppId, user: &UserId, id: NotificationId) -> Result<Option<Entry>> {
        let (app, user) = (app.clone(), user.clone());
        self.read("entry", move |tx| read_entry(tx, &app, &user, id)).await
    }

    pub(crate) async fn place(&self) -> Result<Place> {
        self.read("mark", |tx| {
            let mut read = tx.connection.prepare_cached("SELECT epoch, changes FROM reading")?;
            let (epoch, changes): (Uuid, i64) = read.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(Place { now: Mark { epoch, at: changes + 1 }, latest: changes + 1 })
        })
        .await
    }

    pub(crate) async fn change(&self, changing: Changing, teller: Option<Arc<Teller>>) -> Result<Changed> {
        self.write("change", move |tx| change(tx, &changing, teller.as_deref())).await
    }

    pub(crate) async fn unacknowledged(&self, unsid: Unsid, ids: &[NotificationId]) -> Result<Vec<NotificationId>> {
        let ids = ids.to_vec();
        self.read("unacknowledged", move |tx| {
            let mut open = Vec::new();
            for id in ids {
                if is_unacknowledged(tx, unsid, id)? {
                    open.push(id);
                }
            }
            Ok(open)
        })
        .await
    }
}

/// Numbers a change of what clients see. To be called once for each row that is written.
pub(crate) fn next_change(tx: &Tx<'_>) -> JobResult<i64> {
    let mut next = tx.connection.prepare_cached("UPDATE reading SET changes = changes + 1 RETURNING changes")?;
    Ok(next.query_row([], |row| row.get(0))?)
}

fn change(tx: &Tx<'_>, changing: &Changing, teller: Option<&Teller>) -> JobResult<Changed> {
    let Changing { app, user, notification: id, change, condition, by } = changing;
    let Some(now) = read_entry(tx, app, user, *id)? else { return Ok(Changed::Unknown) };
    let (standing, withdraws) = match decide(now.standing, *change, condition) {
        Decision::Unknown => return Ok(Changed::Unknown),
        Decision::Mismatch => return Ok(Changed::Mismatch),
        Decision::Unchanged => return Ok(Changed::unchanged(now)),
        Decision::Changed { standing, withdraws } => (standing, withdraws),
    };
    let at = tx.now();
    let mut entry = Entry { standing, modified_at: Some(at), ..now };
    if *change == Change::Delete {
        entry.notification.content = entry.notification.content.wiped();
    }
    write(tx, &entry, at, withdraws)?;
    let mut withdrawn = Vec::new();
    if withdraws {
        let open = open_pushes_of(tx, *id)?;
        withdrawn = close_deliveries(tx, &open, State::Withdrawn)?;
        tell(tx, &withdrawn, teller)?;
    }
    let active = active_subscriptions(tx, app, user, None, TOLD_LIMIT)?;
    let made = state_pushes(&entry, &active, *by, &waiting(tx, *id)?, at);
    insert_deliveries(tx, &entry.notification, &made.rows)?;
    Ok(Changed::Done { entry: Box::new(entry), withdrawn, due: made.due })
}

/// A user's notifications, newest first; one that is scheduled is left out until it was resolved. Index:
/// `notifications_of_user`, backwards.
fn read_entries(tx: &Tx<'_>, app: &AppId, user: &UserId, wanted: &Wanted, limit: usize) -> JobResult<Vec<Entry>> {
    let mut read = tx.connection.prepare_cached(
        "
        SELECT id, app_id, user_id, content, expires_at, received_at, read, user_action, modified_at, revision,
               deleted_at IS NOT NULL AS deleted
          FROM notifications
         WHERE app_id = ?1 AND user_id = ?2 AND id < ?3 AND expires_at > ?4
           AND (deliver_at IS NULL OR next_at IS NULL OR cursor IS NOT NULL)
           AND (?5 IS NULL OR (deleted_at IS NOT NULL) = ?5)
           AND (?6 IS NULL OR read = ?6)
           AND (?7 IS NULL OR user_action = ?7)
           AND (?8 IS NULL OR instr(content, ?8) > 0)
           AND (?9 IS NULL OR changed >= ?9)
         ORDER BY id DESC
         LIMIT ?10",
    )?;
    let params = params![
        app.as_str(),
        user.as_str(),
        wanted.before(),
        stored(tx.now()),
        wanted.deleted,
        wanted.read,
        wanted.action,
        wanted.group,
        wanted.since,
        i64::try_from(limit).unwrap_or(i64::MAX),
    ];
    read.query_and_then(params, |row| entry(&Columns(row)))?.collect()
}

/// As above. Index: `notifications_of_user`.
fn count_entries(tx: &Tx<'_>, app: &AppId, user: &UserId, wanted: &Wanted, limit: i64) -> JobResult<u64> {
    let mut count = tx.connection.prepare_cached(
        "
        SELECT count(*)
          FROM (SELECT 1
                  FROM notifications
                 WHERE app_id = ?1 AND user_id = ?2 AND expires_at > ?3
                   AND (deliver_at IS NULL OR next_at IS NULL OR cursor IS NOT NULL)
                   AND (?4 IS NULL OR (deleted_at IS NOT NULL) = ?4)
                   AND (?5 IS NULL OR read = ?5)
                   AND (?6 IS NULL OR user_action = ?6)
                   AND (?7 IS NULL OR instr(content, ?7) > 0)
                 LIMIT ?8)",
    )?;
    let params = params![
        app.as_str(),
        user.as_str(),
        stored(tx.now()),
        wanted.deleted,
        wanted.read,
        wanted.action,
        wanted.group,
        limit,
    ];
    Ok(counted(count.query_row(params, |row| row.get(0))?))
}

/// Index: primary key.
fn read_entry(tx: &Tx<'_>, app: &AppId, user: &UserId, id: NotificationId) -> JobResult<Option<Entry>> {
    let mut read = tx.connection.prepare_cached(
        "
        SELECT id, app_id, user_id, content, expires_at, received_at, read, user_action, modified_at, revision,
               deleted_at IS NOT NULL AS deleted
          FROM notifications
         WHERE id = ?1 AND app_id = ?2 AND user_id = ?3 AND expires_at > ?4",
    )?;
    first(&mut read, params![id.0, app.as_str(), user.as_str(), stored(tx.now())], entry)
}

fn entry(columns: &Columns<'_>) -> JobResult<Entry> {
    Ok(Entry {
        notification: notification(columns)?,
        received_at: columns.time("received_at")?,
        standing: Standing {
            read: columns.get("read")?,
            action: columns.parsed("user_action", UserAction::from_number)?,
            deleted: columns.get("deleted")?,
            revision: columns.get("revision")?,
        },
        modified_at: columns.time_or_none("modified_at")?,
    })
}

/// How it stands, and that no page of a fan-out is made any more, if all is withdrawn. Index: primary key.
fn write(tx: &Tx<'_>, entry: &Entry, at: Timestamp, withdraws: bool) -> JobResult<()> {
    let Entry { notification, standing, .. } = entry;
    let content = serde_json::to_string(&notification.content)
        .map_err(|_| Fault::Defect("a content can't be written".to_owned()))?;
    let changed = next_change(tx)?;
    let mut write = tx.connection.prepare_cached(
        "
        UPDATE notifications
           SET read = ?2, user_action = ?3, revision = ?4, modified_at = ?5, deleted_at = ?6, content = ?7,
               next_at = CASE WHEN ?8 THEN NULL ELSE next_at END,
               changed = ?9
         WHERE id = ?1",
    )?;
    write.execute(params![
        notification.id.0,
        standing.read,
        standing.action.number(),
        standing.revision,
        stored(at),
        standing.deleted.then(|| stored(at)),
        content,
        withdraws,
        changed,
    ])?;
    Ok(())
}

/// The subscriptions that need no further state push of this notification: one waits for them, or they had enough. Index: `deliveries_of_notification`.
fn waiting(tx: &Tx<'_>, id: NotificationId) -> JobResult<HashSet<Unsid>> {
    let mut waiting = tx.connection.prepare_cached(
        "
            SELECT unsid
              FROM deliveries
             WHERE notification_id = ?1 AND form = 3
             GROUP BY unsid
            HAVING max(state = ?2) OR count(*) >= ?3",
    )?;
    let params = params![id.0, State::Due.number(), STATE_PUSHES_LIMIT];
    waiting.query_and_then(params, |row| Ok(Unsid(row.get(0)?)))?.collect()
}

/// Index: `deliveries_of_notification`.
fn is_unacknowledged(tx: &Tx<'_>, unsid: Unsid, id: NotificationId) -> JobResult<bool> {
    let mut open = tx.connection.prepare_cached(
        "
        SELECT 1
          FROM deliveries
         WHERE notification_id = ?1 AND unsid = ?2 AND form <> 3 AND received_at IS NULL",
    )?;
    Ok(open.exists(params![id.0, unsid.0])?)
}
