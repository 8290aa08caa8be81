//! Receipts and withdrawals.

use std::collections::HashMap;

use herald_core::delivery::State;
use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Postgres;
use super::close::{close_deliveries, closed, open_pushes_of, tell};
use super::error::during;
use super::rows::{Columns, stored};
use crate::{By, Closed, Receipt, ReceiptResult, Result, Teller};

const OPERATION: &str = "receipts";

impl Postgres {
    pub(crate) async fn receipts(&self, batch: &[Receipt], teller: Option<&Teller>) -> Result<Vec<ReceiptResult>> {
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        let paired = find_pairs(&mut tx, batch).await?;
        let deliveries: Vec<Option<Uuid>> = batch
            .iter()
            .map(|receipt| match &receipt.by {
                By::Delivery(delivery) => Some(delivery.0),
                By::Pair { notification, unsid, apps, user } => paired
                    .get(&(*notification, *unsid))
                    .filter(|paired| apps.as_ref().is_none_or(|apps| apps.contains(&paired.app)))
                    .filter(|paired| user.is_none() || *user == paired.user)
                    .map(|paired| paired.delivery),
            })
            .collect();
        // Of two receipts for one delivery in a batch the first counts.
        let mut wanted: HashMap<Uuid, Option<OffsetDateTime>> = HashMap::new();
        for (delivery, receipt) in deliveries.iter().zip(batch) {
            if let Some(delivery) = delivery {
                wanted.entry(*delivery).or_insert(receipt.received_at.map(stored));
            }
        }
        let rows = receive(&mut tx, wanted).await.map_err(during(OPERATION))?;
        let mut found: HashMap<Uuid, ReceiptResult> = HashMap::with_capacity(rows.len());
        for row in &rows {
            let result = received(row)?;
            found.insert(Columns::new(row, OPERATION).get("id")?, result);
        }
        let news: Vec<Closed> = found.values().filter_map(news).cloned().collect();
        tell(&mut tx, &news, teller, OPERATION).await?;
        tx.commit().await.map_err(during(OPERATION))?;
        let result = |delivery: Option<Uuid>| {
            let Some(result) = delivery.and_then(|delivery| found.get_mut(&delivery)) else {
                return ReceiptResult::Unknown;
            };
            std::mem::replace(result, ReceiptResult::Duplicate)
        };
        Ok(deliveries.into_iter().map(result).collect())
    }

    pub(crate) async fn withdraw(
        &self,
        app: &AppId,
        notification: NotificationId,
        teller: Option<&Teller>,
    ) -> Result<Vec<Closed>> {
        const OPERATION: &str = "withdraw";
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        if !stop_fanout(&mut tx, app, notification).await.map_err(during(OPERATION))? {
            return Ok(Vec::new());
        }
        let open = open_pushes_of(&mut tx, notification).await.map_err(during(OPERATION))?;
        let closed = close_deliveries(&mut tx, &open, State::Withdrawn, OPERATION).await?;
        tell(&mut tx, &closed, teller, OPERATION).await?;
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(closed)
    }
}

/// What is told of: a receipt that changed something.
fn news(result: &ReceiptResult) -> Option<&Closed> {
    match result {
        ReceiptResult::Closed(closed) | ReceiptResult::Late(closed) => Some(closed),
        ReceiptResult::Duplicate | ReceiptResult::Unknown => None,
    }
}

/// The delivery of a pair.
struct Paired {
    delivery: Uuid,
    app: AppId,
    /// If any receipt of the batch asks for a user.
    user: Option<UserId>,
}

/// The delivery of each pair.
///
/// Indexes: `deliveries_of_notification`, and the primary key of `notifications` if a user is asked for. State pushes (form 3)
/// of the same notification are not meant.
async fn find_pairs(
    connection: &mut PgConnection,
    batch: &[Receipt],
) -> Result<HashMap<(NotificationId, Unsid), Paired>> {
    let (notifications, unsids): (Vec<Uuid>, Vec<Uuid>) = batch
        .iter()
        .filter_map(|receipt| match &receipt.by {
            By::Delivery(_) => None,
            By::Pair { notification, unsid, .. } => Some((notification.0, unsid.0)),
        })
        .unzip();
    if notifications.is_empty() {
        return Ok(HashMap::new());
    }
    let by_user = batch.iter().any(|receipt| matches!(&receipt.by, By::Pair { user: Some(_), .. }));
    let rows = sqlx::query(
        "
        SELECT d.id, d.notification_id, d.unsid, d.app_id,
               CASE WHEN $3 THEN (SELECT user_id FROM notifications n WHERE n.id = d.notification_id) END AS user_id
          FROM unnest($1::uuid[], $2::uuid[]) AS pair (notification_id, unsid)
          JOIN deliveries d ON d.notification_id = pair.notification_id AND d.unsid = pair.unsid
         WHERE d.form <> 3",
    )
    .bind(notifications)
    .bind(unsids)
    .bind(by_user)
    .fetch_all(connection)
    .await
    .map_err(during(OPERATION))?;
    let pair = |row| {
        let columns = Columns::new(row, OPERATION);
        let pair = (NotificationId(columns.get("notification_id")?), Unsid(columns.get("unsid")?));
        let user = columns.get::<Option<&str>>("user_id")?.map(UserId::new);
        Ok((pair, Paired { delivery: columns.get("id")?, app: columns.app()?, user }))
    };
    rows.iter().map(pair).collect()
}

/// The SQL of receipts. Index: primary key.
///
/// Every delivery named is returned: open ones are closed, closed ones without a receipt keep it as a fact, and the others
/// are written as they are (which is rare: a receipt that comes twice).
pub(crate) const RECEIVE: &str = "
    WITH known AS MATERIALIZED (
        SELECT d.id, d.state, d.received_at IS NOT NULL AS repeated, receipt.received_at
          FROM unnest($1::uuid[], $2::timestamptz[]) AS receipt (id, received_at)
          JOIN deliveries d ON d.id = receipt.id
         ORDER BY d.id
           FOR UPDATE OF d
    ), closing AS MATERIALIZED (
        SELECT clock_timestamp() AS at
    )
    UPDATE deliveries d
       SET state = CASE WHEN known.state < 10 THEN $3 ELSE d.state END,
           next_at = NULL,
           version = CASE WHEN known.state < 10 THEN d.version + 1 ELSE d.version END,
           received_at = coalesce(d.received_at, least(known.received_at, closing.at)),
           closed_at = coalesce(d.closed_at, closing.at)
      FROM known, closing
     WHERE d.id = known.id
    RETURNING d.id, d.notification_id, d.unsid, d.app_id, d.provider, d.lane, d.form, d.state, d.deadline_at,
              d.fallback_delay_ms, d.attempts->0->>'at' AS first_attempt_at, known.state AS had, closing.at,
              known.repeated";

async fn receive(
    connection: &mut PgConnection,
    wanted: HashMap<Uuid, Option<OffsetDateTime>>,
) -> sqlx::Result<Vec<PgRow>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (ids, times): (Vec<Uuid>, Vec<Option<OffsetDateTime>>) = wanted.into_iter().unzip();
    sqlx::query(RECEIVE).bind(ids).bind(times).bind(State::Received.number()).fetch_all(connection).await
}

fn received(row: &PgRow) -> Result<ReceiptResult> {
    if Columns::new(row, OPERATION).get("repeated")? {
        return Ok(ReceiptResult::Duplicate);
    }
    let closed = closed(row, OPERATION)?;
    Ok(if closed.had.is_open() { ReceiptResult::Closed(closed) } else { ReceiptResult::Late(closed) })
}

/// Locks the notification, so that no page of a fan-out is made meanwhile, and makes none be made later. False if this
/// app has no such notification.
///
/// Index: primary key.
async fn stop_fanout(connection: &mut PgConnection, app: &AppId, notification: NotificationId) -> sqlx::Result<bool> {
    let stopped = sqlx::query("UPDATE notifications SET next_at = NULL WHERE id = $1 AND app_id = $2")
        .bind(notification.0)
        .bind(app.as_str())
        .execute(connection)
        .await?;
    Ok(stopped.rows_affected() > 0)
}
