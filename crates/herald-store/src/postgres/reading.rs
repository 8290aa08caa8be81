//! Reading, and changes by users.

use std::collections::HashSet;

use herald_core::delivery::State;
use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use herald_core::reading::{Change, Decision, Standing, UserAction, decide};
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Postgres;
use super::close::{close_deliveries, open_pushes_of, tell};
use super::deliveries::NewRows;
use super::error::{during, unreadable};
use super::fanout::page_of_subscriptions;
use super::rows::{Columns, stored};
use super::take::notification;
use crate::reading::{Place, STATE_PUSHES_LIMIT, TOLD_LIMIT, Wanted, state_pushes};
use crate::{Changed, Changing, Entry, Mark, Result, Teller};

const OPERATION: &str = "change";

impl Postgres {
    pub(crate) async fn entries(
        &self,
        app: &AppId,
        user: &UserId,
        wanted: &Wanted,
        limit: usize,
    ) -> Result<Vec<Entry>> {
        const OPERATION: &str = "entries";
        let rows = sqlx::query(ENTRIES)
            .bind(app.as_str())
            .bind(user.as_str())
            .bind(wanted.before())
            .bind(wanted.deleted)
            .bind(wanted.read)
            .bind(wanted.action)
            .bind(wanted.group.as_deref())
            .bind(wanted.since)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await
            .map_err(during(OPERATION))?;
        rows.iter().map(|row| entry(row, OPERATION)).collect()
    }

    pub(crate) async fn count_entries(&self, app: &AppId, user: &UserId, wanted: &Wanted, limit: i64) -> Result<u64> {
        let count: i64 = sqlx::query_scalar(COUNT_ENTRIES)
            .bind(app.as_str())
            .bind(user.as_str())
            .bind(wanted.deleted)
            .bind(wanted.read)
            .bind(wanted.action)
            .bind(wanted.group.as_deref())
            .bind(limit)
            .fetch_one(&self.pool)
            .await
            .map_err(during("count_entries"))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Index: primary key.
    pub(crate) async fn entry(&self, app: &AppId, user: &UserId, id: NotificationId) -> Result<Option<Entry>> {
        const OPERATION: &str = "entry";
        let row = sqlx::query(
            "
            SELECT id, app_id, user_id, content, expires_at, received_at, read, user_action, modified_at, revision,
                   deleted_at IS NOT NULL AS deleted
              FROM notifications
             WHERE id = $1 AND app_id = $2 AND user_id = $3 AND expires_at > clock_timestamp()",
        )
        .bind(id.0)
        .bind(app.as_str())
        .bind(user.as_str())
        .fetch_optional(&self.pool)
        .await
        .map_err(during(OPERATION))?;
        row.map(|row| entry(&row, OPERATION)).transpose()
    }

    /// `xmin`: every transaction before it has ended, and what it wrote is seen by whoever looks from now on. `xmax`: none at
    /// or after it has begun.
    pub(crate) async fn place(&self) -> Result<Place> {
        let (epoch, xmin, xmax): (Uuid, i64, i64) = sqlx::query_as(
            "
            SELECT epoch, pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
                   pg_snapshot_xmax(pg_current_snapshot())::text::bigint
              FROM reading",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(during("mark"))?;
        Ok(Place { now: Mark { epoch, at: xmin }, latest: xmax })
    }

    pub(crate) async fn change(&self, changing: &Changing, teller: Option<&Teller>) -> Result<Changed> {
        let Changing { app, user, notification: id, change, condition, by } = changing;
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        let Some(row) = lock(&mut tx, *id, app, user).await.map_err(during(OPERATION))? else {
            return Ok(Changed::Unknown);
        };
        let now = entry(&row, OPERATION)?;
        let (standing, withdraws) = match decide(now.standing, *change, condition) {
            Decision::Changed { standing, withdraws } => (standing, withdraws),
            nothing @ (Decision::Unknown | Decision::Mismatch | Decision::Unchanged) => {
                // Dropped, it would hold its lock for a moment longer than this call lasts, and a page of a fan-out that comes
                // then would take the notification for somebody else's.
                tx.rollback().await.map_err(during(OPERATION))?;
                return Ok(match nothing {
                    Decision::Mismatch => Changed::Mismatch,
                    Decision::Unchanged => Changed::unchanged(now),
                    Decision::Unknown | Decision::Changed { .. } => Changed::Unknown,
                });
            }
        };
        let at = Columns::new(&row, OPERATION).time("now")?;
        let mut entry = Entry { standing, modified_at: Some(at), ..now };
        if *change == Change::Delete {
            entry.notification.content = entry.notification.content.wiped();
        }
        write(&mut tx, &entry, at, withdraws).await?;
        let mut withdrawn = Vec::new();
        if withdraws {
            let open = open_pushes_of(&mut tx, *id).await.map_err(during(OPERATION))?;
            withdrawn = close_deliveries(&mut tx, &open, State::Withdrawn, OPERATION).await?;
            tell(&mut tx, &withdrawn, teller, OPERATION).await?;
        }
        let active: Vec<Subscription> = page_of_subscriptions(&mut tx, app, user, None, TOLD_LIMIT).await?;
        let waiting = waiting(&mut tx, *id).await.map_err(during(OPERATION))?;
        let made = state_pushes(&entry, &active, *by, &waiting, at);
        let mut rows = NewRows::default();
        rows.add(&entry.notification, &made.rows);
        rows.insert(&mut tx).await.map_err(during(OPERATION))?;
        // Dying before this: nothing has changed. After it: the state pushes are due, and any worker's clock finds them.
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(Changed::Done { entry: Box::new(entry), withdrawn, due: made.due })
    }

    /// Index: `deliveries_of_notification`.
    pub(crate) async fn unacknowledged(&self, unsid: Unsid, ids: &[NotificationId]) -> Result<Vec<NotificationId>> {
        let open: Vec<Uuid> = sqlx::query_scalar(
            "
            SELECT notification_id
              FROM deliveries
             WHERE notification_id = ANY ($1) AND unsid = $2 AND form <> 3 AND received_at IS NULL",
        )
        .bind(ids.iter().map(|id| id.0).collect::<Vec<_>>())
        .bind(unsid.0)
        .fetch_all(&self.pool)
        .await
        .map_err(during("unacknowledged"))?;
        Ok(open.into_iter().map(NotificationId).collect())
    }
}

/// A user's notifications, newest first; one that is scheduled is left out until it was resolved. Index:
/// `notifications_of_user`, backwards.
pub(crate) const ENTRIES: &str = "
    SELECT id, app_id, user_id, content, expires_at, received_at, read, user_action, modified_at, revision,
           deleted_at IS NOT NULL AS deleted
      FROM notifications
     WHERE app_id = $1 AND user_id = $2 AND id < $3 AND expires_at > clock_timestamp()
       AND (deliver_at IS NULL OR next_at IS NULL OR cursor IS NOT NULL)
       AND ($4::boolean IS NULL OR (deleted_at IS NOT NULL) = $4)
       AND ($5::boolean IS NULL OR read = $5)
       AND ($6::smallint IS NULL OR user_action = $6)
       AND ($7::text IS NULL OR position($7 IN content) > 0)
       AND ($8::bigint IS NULL OR changed >= $8)
     ORDER BY id DESC
     LIMIT $9";

/// As [`ENTRIES`]. Index: `notifications_of_user`.
const COUNT_ENTRIES: &str = "
    SELECT count(*)
      FROM (SELECT
              FROM notifications
             WHERE app_id = $1 AND user_id = $2 AND expires_at > clock_timestamp()
               AND (deliver_at IS NULL OR next_at IS NULL OR cursor IS NOT NULL)
               AND ($3::boolean IS NULL OR (deleted_at IS NOT NULL) = $3)
               AND ($4::boolean IS NULL OR read = $4)
               AND ($5::smallint IS NULL OR user_action = $5)
               AND ($6::text IS NULL OR position($6 IN content) > 0)
             LIMIT $7) AS wanted";

fn entry(row: &PgRow, operation: &'static str) -> Result<Entry> {
    let columns = Columns::new(row, operation);
    Ok(Entry {
        notification: notification(&columns)?,
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

/// Locked, so that no page of a fan-out is made meanwhile. Index: primary key.
async fn lock(
    connection: &mut PgConnection,
    id: NotificationId,
    app: &AppId,
    user: &UserId,
) -> sqlx::Result<Option<PgRow>> {
    sqlx::query(
        "
        SELECT id, app_id, user_id, content, expires_at, received_at, read, user_action, modified_at, revision,
               deleted_at IS NOT NULL AS deleted, clock_timestamp() AS now
          FROM notifications
         WHERE id = $1 AND app_id = $2 AND user_id = $3 AND expires_at > clock_timestamp()
           FOR UPDATE",
    )
    .bind(id.0)
    .bind(app.as_str())
    .bind(user.as_str())
    .fetch_optional(connection)
    .await
}

/// How it stands, and that no page of a fan-out is made any more, if all is withdrawn. Index: primary key.
async fn write(connection: &mut PgConnection, entry: &Entry, at: Timestamp, withdraws: bool) -> Result<()> {
    let Entry { notification, standing, .. } = entry;
    let content = serde_json::to_string(&notification.content).map_err(|_| unreadable(OPERATION, "content"))?;
    let deleted_at: Option<OffsetDateTime> = standing.deleted.then(|| stored(at));
    sqlx::query(
        "
        UPDATE notifications
           SET read = $2, user_action = $3, revision = $4, modified_at = $5, deleted_at = $6, content = $7,
               next_at = CASE WHEN $8 THEN NULL ELSE next_at END,
               changed = pg_current_xact_id()::text::bigint
         WHERE id = $1",
    )
    .bind(notification.id.0)
    .bind(standing.read)
    .bind(standing.action.number())
    .bind(standing.revision)
    .bind(stored(at))
    .bind(deleted_at)
    .bind(content)
    .bind(withdraws)
    .execute(connection)
    .await
    .map_err(during(OPERATION))?;
    Ok(())
}

/// The subscriptions that need no further state push of this notification: one waits for them, or they had enough. Locked, so that none of them is taken before this
/// change can be fetched; one that is being taken now does not count.
///
/// Index: `deliveries_of_notification`.
async fn waiting(connection: &mut PgConnection, id: NotificationId) -> sqlx::Result<HashSet<Unsid>> {
    let waiting: Vec<Uuid> = sqlx::query_scalar(
        "
        SELECT unsid
          FROM deliveries
         WHERE notification_id = $1 AND form = 3 AND state = $2
         ORDER BY id
           FOR UPDATE SKIP LOCKED",
    )
    .bind(id.0)
    .bind(State::Due.number())
    .fetch_all(&mut *connection)
    .await?;
    let enough: Vec<Uuid> = sqlx::query_scalar(
        "SELECT unsid FROM deliveries WHERE notification_id = $1 AND form = 3 GROUP BY unsid HAVING count(*) >= $2",
    )
    .bind(id.0)
    .bind(STATE_PUSHES_LIMIT)
    .fetch_all(connection)
    .await?;
    Ok(waiting.into_iter().chain(enough).map(Unsid).collect())
}
