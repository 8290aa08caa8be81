//! Sweep: small jobs, so that those that push have their turn in between.

use std::sync::Arc;
use std::time::Duration;

use herald_core::delivery::State;
use herald_sqlite::rusqlite::params;
use uuid::Uuid;

use super::close::{close_deliveries, open_deliveries_of, tell};
use super::rows::stored;
use super::{JobResult, Sqlite, Tx};
use crate::sweep::KEEP_SUBSCRIPTIONS;
use crate::{Closed, Result, Swept, Teller};

const OPERATION: &str = "sweep";

/// A job ends once it has changed as many rows: some milliseconds. A notification is never parted from its deliveries.
const STEP: usize = 200;

/// The guard looks at the last five minutes.
const KEEP_COUNTS: Duration = Duration::from_secs(600);

impl Sqlite {
    pub(crate) async fn sweep(&self, limit: i64, keep: Duration, teller: Option<Arc<Teller>>) -> Result<Swept> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let (notifications_expired, expired) = self.expire_notifications(most, teller).await?;
        let swept = Swept {
            expired,
            notifications_expired,
            notifications_deleted: self.in_steps(most, move |tx, n| delete_notifications(tx, n, keep)).await?,
            subscriptions_expired: self.in_steps(most, expire_subscriptions).await?,
            subscriptions_deleted: self.in_steps(most, delete_subscriptions).await?,
            counts_deleted: self.write(OPERATION, delete_counts).await?,
            more: false,
        };
        Ok(swept.within(limit))
    }

    async fn expire_notifications(&self, most: usize, teller: Option<Arc<Teller>>) -> Result<(u64, Vec<Closed>)> {
        let (mut expired, mut all) = (0, Vec::new());
        while expired < most {
            let (teller, step) = (teller.clone(), STEP.min(most - expired));
            let job = move |tx: &Tx<'_>| expire_notifications(tx, step, teller.as_deref());
            let (now_expired, closed) = self.write(OPERATION, job).await?;
            if now_expired == 0 {
                break;
            }
            expired += now_expired;
            all.extend(closed);
        }
        Ok((expired as u64, all))
    }

    /// Repeats a job, which is told how many rows it may change, until it finds none or `most` are done.
    async fn in_steps(
        &self,
        most: usize,
        job: impl Fn(&Tx<'_>, usize) -> JobResult<usize> + Copy + Send + 'static,
    ) -> Result<u64> {
        let mut done = 0;
        while done < most {
            let step = STEP.min(most - done);
            let now_done = self.write(OPERATION, move |tx| job(tx, step)).await?;
            if now_done == 0 {
                break;
            }
            done += now_done;
        }
        Ok(done as u64)
    }
}

/// How many expired, and which of their deliveries were open.
fn expire_notifications(tx: &Tx<'_>, most: usize, teller: Option<&Teller>) -> JobResult<(usize, Vec<Closed>)> {
    let (mut expired, mut all) = (0, Vec::new());
    for notification in find(tx, TO_EXPIRE, stored(tx.now()), most)? {
        mark_expired(tx, notification)?;
        let open = open_deliveries_of(tx, &[notification])?;
        let closed = close_deliveries(tx, &open, State::Expired)?;
        tell(tx, &closed, teller)?;
        expired += 1;
        all.extend(closed);
        if all.len() >= STEP {
            break;
        }
    }
    Ok((expired, all))
}

fn delete_notifications(tx: &Tx<'_>, most: usize, keep: Duration) -> JobResult<usize> {
    let (mut deleted, mut rows) = (0, 0);
    for notification in find(tx, TO_DELETE, stored(tx.now().minus(keep)), most)? {
        rows += delete_notification(tx, notification)?;
        deleted += 1;
        if rows >= STEP {
            break;
        }
    }
    Ok(deleted)
}

/// The SQL that finds expired notifications: (now, limit). Index: `notifications_to_expire`.
const TO_EXPIRE: &str = "
    SELECT id
      FROM notifications
     WHERE swept_at IS NULL AND expires_at <= ?1
     ORDER BY expires_at
     LIMIT ?2";

/// The SQL that finds notifications that were swept long ago: (until, limit). Index: `notifications_to_delete`.
const TO_DELETE: &str = "
    SELECT id
      FROM notifications
     WHERE swept_at IS NOT NULL AND swept_at <= ?1
     ORDER BY swept_at
     LIMIT ?2";

/// Ids, by one of the above.
fn find(tx: &Tx<'_>, sql: &str, time: i64, limit: usize) -> JobResult<Vec<Uuid>> {
    let mut find = tx.connection.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let ids = find.query_map(params![time, limit], |row| row.get(0))?;
    Ok(ids.collect::<std::result::Result<_, _>>()?)
}

/// Index: primary key.
fn mark_expired(tx: &Tx<'_>, notification: Uuid) -> JobResult<()> {
    let mut mark =
        tx.connection.prepare_cached("UPDATE notifications SET swept_at = ?2, next_at = NULL WHERE id = ?1")?;
    mark.execute(params![notification, stored(tx.now())])?;
    Ok(())
}

/// Returns how many rows that were. The only function that deletes either.
///
/// Indexes: primary key, `deliveries_of_notification`.
fn delete_notification(tx: &Tx<'_>, notification: Uuid) -> JobResult<usize> {
    let mut deliveries = tx.connection.prepare_cached("DELETE FROM deliveries WHERE notification_id = ?1")?;
    let mut itself = tx.connection.prepare_cached("DELETE FROM notifications WHERE id = ?1")?;
    Ok(deliveries.execute([notification])? + itself.execute([notification])?)
}

/// The SQL that ends subscriptions that were not renewed in time, as of when they expired: (now, limit).
///
/// Indexes: `subscriptions_to_expire`, primary key.
const EXPIRE_SUBSCRIPTIONS: &str = "
    UPDATE subscriptions
       SET ended_at = expires_at, end_reason = 'expired'
     WHERE id IN (SELECT id
                    FROM subscriptions
                   WHERE ended_at IS NULL AND expires_at <= ?1
                   ORDER BY expires_at
                   LIMIT ?2)";

fn expire_subscriptions(tx: &Tx<'_>, most: usize) -> JobResult<usize> {
    let mut expire = tx.connection.prepare_cached(EXPIRE_SUBSCRIPTIONS)?;
    Ok(expire.execute(params![stored(tx.now()), i64::try_from(most).unwrap_or(i64::MAX)])?)
}

/// The SQL that deletes subscriptions that ended long ago: (until, limit).
///
/// Indexes: `subscriptions_to_delete`, primary key.
const DELETE_SUBSCRIPTIONS: &str = "
    DELETE FROM subscriptions
     WHERE id IN (SELECT id
                    FROM subscriptions
                   WHERE ended_at IS NOT NULL AND ended_at <= ?1
                   ORDER BY ended_at
                   LIMIT ?2)";

fn delete_subscriptions(tx: &Tx<'_>, most: usize) -> JobResult<usize> {
    let until = stored(tx.now().minus(KEEP_SUBSCRIPTIONS));
    let mut delete = tx.connection.prepare_cached(DELETE_SUBSCRIPTIONS)?;
    Ok(delete.execute(params![until, i64::try_from(most).unwrap_or(i64::MAX)])?)
}

/// Small tables: a row for each app and provider (and minute) at most.
fn delete_counts(tx: &Tx<'_>) -> JobResult<u64> {
    let until = stored(tx.now().minus(KEEP_COUNTS));
    let mut counts = tx.connection.prepare_cached("DELETE FROM guard_counts WHERE minute < ?1")?;
    let mut pauses = tx.connection.prepare_cached("DELETE FROM pauses WHERE coalesce(held_until, until) < ?1")?;
    Ok((counts.execute([until])? + pauses.execute([until])?) as u64)
}
