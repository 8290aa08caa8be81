//! Closing open deliveries other than by a record: receipts, withdrawals, expiry. One conditional update each, all
//! returning what the rows were like before, and telling those who asked in the same transaction.

use herald_core::delivery::State;
use herald_core::event::OutboxEvent;
use herald_core::ids::{AppId, DeliveryId, NotificationId, Unsid, UserId};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::error::during;
use super::outbox::insert_events;
use super::rows::Columns;
use super::take::read_notifications;
use crate::{Closed, Result, Teller};

/// Closes those of these deliveries that are open.
///
/// Index: primary key.
pub(crate) async fn close_deliveries(
    connection: &mut PgConnection,
    deliveries: &[Uuid],
    as_state: State,
    operation: &'static str,
) -> Result<Vec<Closed>> {
    if deliveries.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "
        WITH open AS MATERIALIZED (
            SELECT id, state
              FROM deliveries
             WHERE id = ANY ($1) AND state < 10
             ORDER BY id
               FOR UPDATE
        ), closing AS MATERIALIZED (
            SELECT clock_timestamp() AS at
        )
        UPDATE deliveries d
           SET state = $2, next_at = NULL, version = d.version + 1, closed_at = closing.at
          FROM open, closing
         WHERE d.id = open.id
        RETURNING d.id, d.notification_id, d.unsid, d.app_id, d.provider, d.lane, d.form, d.state, d.deadline_at,
                  d.fallback_delay_ms, d.attempts->0->>'at' AS first_attempt_at, open.state AS had, closing.at",
    )
    .bind(deliveries)
    .bind(as_state.number())
    .fetch_all(connection)
    .await
    .map_err(during(operation))?;
    rows.iter().map(|row| closed(row, operation)).collect()
}

/// The open deliveries of these notifications.
///
/// Index: `deliveries_of_notification`.
pub(crate) async fn open_deliveries_of(
    connection: &mut PgConnection,
    notifications: &[Uuid],
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar("SELECT id FROM deliveries WHERE notification_id = ANY ($1) AND state < 10")
        .bind(notifications)
        .fetch_all(connection)
        .await
}

/// The open deliveries of a notification that push its content. State pushes (form 3) tell of what its user did with it, and
/// are not withdrawn by that.
///
/// Index: `deliveries_of_notification`.
pub(crate) async fn open_pushes_of(
    connection: &mut PgConnection,
    notification: NotificationId,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar("SELECT id FROM deliveries WHERE notification_id = $1 AND state < 10 AND form <> 3")
        .bind(notification.0)
        .fetch_all(connection)
        .await
}

/// The open deliveries to these subscriptions.
///
/// Indexes: `notifications_app_id_user_id_key_key` by its first two columns, then `deliveries_of_notification`. Ending is
/// rare and a user's notifications are few; an index of open deliveries by subscription would be paid for by every one.
pub(crate) async fn open_deliveries_to(
    connection: &mut PgConnection,
    subscriptions: &[(Unsid, AppId, UserId)],
) -> sqlx::Result<Vec<Uuid>> {
    if subscriptions.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(
        "
        SELECT d.id
          FROM unnest($1::uuid[], $2::text[], $3::text[]) AS ended (unsid, app_id, user_id)
          JOIN notifications n ON n.app_id = ended.app_id AND n.user_id = ended.user_id
          JOIN deliveries d ON d.notification_id = n.id AND d.unsid = ended.unsid
         WHERE d.state < 10",
    )
    .bind(subscriptions.iter().map(|(unsid, _, _)| unsid.0).collect::<Vec<_>>())
    .bind(subscriptions.iter().map(|(_, app, _)| app.as_str()).collect::<Vec<_>>())
    .bind(subscriptions.iter().map(|(_, _, user)| user.as_str()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
}

/// A row returned by an update that closes.
pub(crate) fn closed(row: &PgRow, operation: &'static str) -> Result<Closed> {
    let columns = Columns::new(row, operation);
    let had = columns.state("had")?;
    Ok(Closed {
        delivery: DeliveryId(columns.get("id")?),
        notification: NotificationId(columns.get("notification_id")?),
        unsid: Unsid(columns.get("unsid")?),
        app: columns.app()?,
        provider: columns.provider()?,
        lane: columns.lane()?,
        form: columns.form()?,
        had,
        state: columns.state("state")?,
        deadline_at: columns.time_or_none("deadline_at")?,
        fallback_pending: had.is_open() && columns.get::<Option<i64>>("fallback_delay_ms")?.is_some(),
        first_attempt_at: columns
            .get::<Option<&str>>("first_attempt_at")?
            .and_then(herald_core::time::Timestamp::parse_rfc3339),
        at: columns.time("at")?,
    })
}

/// Writes the events of closed deliveries, for the apps that asked.
pub(crate) async fn tell(
    connection: &mut PgConnection,
    closed: &[Closed],
    teller: Option<&Teller>,
    operation: &'static str,
) -> Result<()> {
    let Some(teller) = teller else { return Ok(()) };
    let wanted: Vec<&Closed> = closed.iter().filter(|c| (teller.wanted)(&c.app)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = wanted.iter().map(|c| c.notification.0).collect();
    let notifications = read_notifications(connection, &ids, operation).await?;
    let events: Vec<OutboxEvent> = wanted
        .into_iter()
        .filter_map(|c| notifications.get(&c.notification).map(|(notification, _)| (teller.tell)(c, notification)))
        .flatten()
        .collect();
    insert_events(connection, &events).await.map_err(during(operation))
}
