//! Take: the compare-and-set on the version, and what a push needs to know.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use herald_core::delivery::{Delivery, State};
use herald_core::ids::{NotificationId, Unsid};
use herald_core::lane::Hint;
use herald_core::notification::{Content, Notification};
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::Postgres;
use super::close::close_deliveries;
use super::due::arrays;
use super::error::during;
use super::rows::{Columns, micros};
use crate::{Result, Taken};

const OPERATION: &str = "take";

impl Postgres {
    pub(crate) async fn take(&self, hints: &[Hint], lease: Duration) -> Result<Vec<Taken>> {
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        let rows = take_at_version(&mut tx, hints, lease).await.map_err(during(OPERATION))?;
        let taken = if rows.is_empty() { Vec::new() } else { complete(&mut tx, &rows).await? };
        // Dying before this: nothing was taken, the hint is unacked. After it: the lease ends, the row is due again.
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(taken)
    }
}

/// Notification and subscription of each row, as they are now.
async fn complete(connection: &mut PgConnection, rows: &[PgRow]) -> Result<Vec<Taken>> {
    let mut wanted = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    for row in rows {
        let columns = Columns::new(row, OPERATION);
        wanted.0.push(columns.get::<Uuid>("notification_id")?);
        wanted.1.push(columns.get::<Uuid>("unsid")?);
    }
    let notifications = read_notifications(connection, &wanted.0, OPERATION).await?;
    let subscriptions = read_subscriptions(connection, &wanted.1).await?;
    let (mut taken, mut orphans) = (Vec::with_capacity(rows.len()), Vec::new());
    for (row, (notification, unsid)) in rows.iter().zip(wanted.0.into_iter().zip(wanted.1)) {
        let columns = Columns::new(row, OPERATION);
        let known = notifications.get(&NotificationId(notification)).zip(subscriptions.get(&Unsid(unsid)));
        let Some(((notification, received_at), (subscription, active))) = known else {
            orphans.push(columns.get("id")?);
            continue;
        };
        let delivery: Delivery = columns.delivery(notification.expires_at)?;
        taken.push(Taken {
            delivery,
            was: columns.state("was")?,
            notification: Arc::clone(notification),
            subscription: subscription.clone(),
            subscription_active: *active,
            gone_at: columns.last_attempt()?.and_then(|attempt| attempt.gone_at()),
            received_at: *received_at,
            taken_at: columns.time("taken_at")?,
        });
    }
    // The user was erased while this was being stored, or the sweep deleted what had ended long ago: nothing is left to push, and
    // without an end the row would be due again after each lease.
    close_deliveries(connection, &orphans, State::Withdrawn, OPERATION).await?;
    Ok(taken)
}

/// The SQL of a take. Index: primary key.
///
/// After waiting for a lock, PostgreSQL looks at the row's newest version again, so of two workers with the same hint one
/// finds another version and takes nothing.
pub(crate) const TAKE: &str = "
    WITH open AS MATERIALIZED (
        SELECT d.id, d.state
          FROM unnest($1::uuid[], $2::bigint[]) AS hint (id, version)
          JOIN deliveries d ON d.id = hint.id AND d.version = hint.version
         WHERE d.state < 10
         ORDER BY d.id
           FOR UPDATE OF d
    ), taking AS MATERIALIZED (
        SELECT clock_timestamp() AS at
    )
    UPDATE deliveries d
       SET version = d.version + 1,
           takes = least(d.takes + 1, 32767),
           state = $3,
           next_at = taking.at + $4 * interval '1 microsecond',
           deadline_at = coalesce(d.deadline_at, taking.at + d.fallback_delay_ms * interval '1 millisecond')
      FROM open, taking
     WHERE d.id = open.id
    RETURNING d.id, d.notification_id, d.unsid, d.version, d.state, d.form, d.lane, d.fallback_delay_ms, d.deadline_at,
              d.takes, d.attempt_count, (d.attempts->-1)::text AS last_attempt, open.state AS was, taking.at AS taken_at";

async fn take_at_version(connection: &mut PgConnection, hints: &[Hint], lease: Duration) -> sqlx::Result<Vec<PgRow>> {
    let (ids, versions) = arrays(hints);
    sqlx::query(TAKE)
        .bind(ids)
        .bind(versions)
        .bind(State::Sending.number())
        .bind(micros(lease))
        .fetch_all(connection)
        .await
}

/// Notifications by id, with the time their request came in; shared, so that a fan-out holds its content once.
///
/// Index: primary key.
pub(crate) async fn read_notifications(
    connection: &mut PgConnection,
    ids: &[Uuid],
    operation: &'static str,
) -> Result<HashMap<NotificationId, (Arc<Notification>, Timestamp)>> {
    let rows = sqlx::query(
        "
        SELECT id, app_id, user_id, content, expires_at, received_at
          FROM notifications
         WHERE id = ANY ($1)",
    )
    .bind(ids)
    .fetch_all(connection)
    .await
    .map_err(during(operation))?;
    let mut notifications = HashMap::with_capacity(rows.len());
    for row in &rows {
        let columns = Columns::new(row, operation);
        let notification = notification(&columns)?;
        let received_at = columns.time("received_at")?;
        notifications.insert(notification.id, (Arc::new(notification), received_at));
    }
    Ok(notifications)
}

/// Columns of `notifications`.
pub(crate) fn notification(columns: &Columns<'_>) -> Result<Notification> {
    Ok(Notification {
        id: NotificationId(columns.get("id")?),
        app: columns.app()?,
        user: columns.user()?,
        content: columns.json::<Content>("content")?,
        expires_at: columns.time("expires_at")?,
    })
}

/// Subscriptions by id, ended ones too, and whether they are active.
///
/// Index: primary key.
async fn read_subscriptions(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<HashMap<Unsid, (Subscription, bool)>> {
    let rows = sqlx::query(
        "
        SELECT id, app_id, user_id, platform, token_kind, token, environment, confirmed_at, expires_at,
               ended_at IS NULL AND expires_at > clock_timestamp() AS active
          FROM subscriptions
         WHERE id = ANY ($1)",
    )
    .bind(ids)
    .fetch_all(connection)
    .await
    .map_err(during(OPERATION))?;
    let mut subscriptions = HashMap::with_capacity(rows.len());
    for row in &rows {
        let columns = Columns::new(row, OPERATION);
        let subscription = columns.subscription()?;
        subscriptions.insert(subscription.id, (subscription, columns.get("active")?));
    }
    Ok(subscriptions)
}
