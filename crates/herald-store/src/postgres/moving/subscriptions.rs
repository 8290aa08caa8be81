//! Subscriptions of a move: one active one per push token, app and environment, here as everywhere.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{OPERATION, Put, at, begin, column, others};
use crate::moving::rows::SubscriptionRow;
use crate::postgres::Postgres;
use crate::postgres::error::{during, is_unique_violation};
use crate::{Result, StoreError};

impl Postgres {
    /// Those that have ended: inserted, or ended here as well unless they were registered again here.
    pub(crate) async fn put_ended(&self, rows: &[SubscriptionRow]) -> Result<Put> {
        let mut tx = begin(self).await?;
        let new = insert(&mut tx, rows).await.map_err(during(OPERATION))?;
        let known = others(rows, &new, |row| row.id);
        let updated = end(&mut tx, &known).await.map_err(during(OPERATION))?;
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(Put { new: new.len() as u64, updated, ..Put::default() })
    }

    /// Those that are active: inserted, or renewed. One whose token another active subscription has here waits, or in the
    /// last pass is inserted as, or becomes, ended.
    pub(crate) async fn put_active(&self, rows: &[SubscriptionRow], last: bool) -> Result<Put> {
        let mut tx = begin(self).await?;
        let new = insert(&mut tx, rows).await.map_err(during(OPERATION))?;
        let known = others(rows, &new, |row| row.id);
        let renewed = renew(&mut tx, &known).await.map_err(|error| {
            if is_unique_violation(&error) {
                let cause = "a token is being registered there; the same page again may do".to_owned();
                return StoreError::Unavailable { operation: OPERATION, cause };
            }
            during(OPERATION)(error)
        })?;
        let waiting = waiting(&mut tx, &known).await.map_err(during(OPERATION))?;
        let mut put = Put { new: new.len() as u64, updated: renewed, ..Put::default() };
        if last {
            put.new += insert_replaced(&mut tx, &known, &waiting).await.map_err(during(OPERATION))?;
            put.replaced = waiting.len() as u64;
            end_replaced(&mut tx, &waiting).await.map_err(during(OPERATION))?;
        } else {
            put.waiting = waiting.len() as u64;
        }
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(put)
    }
}

/// Those that are not there and whose token nobody has. Indexes: primary key, `subscriptions_by_token`.
async fn insert(connection: &mut PgConnection, rows: &[SubscriptionRow]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "
        INSERT INTO subscriptions (id, app_id, user_id, platform, token_kind, token, environment, created_at,
                                   confirmed_at, expires_at, ended_at, end_reason, alerts_allowed, low_power_mode,
                                   background_refresh, reported_at)
        SELECT *
          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[], $5::text[], $6::text[], $7::text[],
                      $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::boolean[],
                      $14::boolean[], $15::boolean[], $16::timestamptz[])
               AS new (id, app_id, user_id, platform, token_kind, token, environment, created_at, confirmed_at,
                       expires_at, ended_at, end_reason, alerts_allowed, low_power_mode, background_refresh, reported_at)
         ORDER BY id
            ON CONFLICT DO NOTHING
        RETURNING id",
    )
    .bind(column!(rows, id))
    .bind(column!(rows, text app_id))
    .bind(column!(rows, text user_id))
    .bind(column!(rows, platform))
    .bind(column!(rows, text token_kind))
    .bind(column!(rows, text token))
    .bind(column!(rows, text environment))
    .bind(column!(rows, at created_at))
    .bind(column!(rows, at confirmed_at))
    .bind(column!(rows, at expires_at))
    .bind(column!(rows, at? ended_at))
    .bind(column!(rows, text? end_reason))
    .bind(column!(rows, alerts_allowed))
    .bind(column!(rows, low_power_mode))
    .bind(column!(rows, background_refresh))
    .bind(column!(rows, at? reported_at))
    .fetch_all(connection)
    .await
}

/// Index: primary key.
async fn end(connection: &mut PgConnection, rows: &[&SubscriptionRow]) -> sqlx::Result<u64> {
    let ended = sqlx::query(
        "
        WITH known AS MATERIALIZED (
            SELECT new.*
              FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::text[])
                   AS new (id, confirmed_at, ended_at, end_reason)
              JOIN subscriptions s ON s.id = new.id
             WHERE s.ended_at IS NULL AND s.confirmed_at <= new.confirmed_at
             ORDER BY s.id
               FOR UPDATE OF s
        )
        UPDATE subscriptions s
           SET ended_at = known.ended_at, end_reason = known.end_reason
          FROM known
         WHERE s.id = known.id",
    )
    .bind(column!(rows, id))
    .bind(column!(rows, at confirmed_at))
    .bind(column!(rows, at? ended_at))
    .bind(column!(rows, text? end_reason))
    .execute(connection)
    .await?;
    Ok(ended.rows_affected())
}

/// Those that were registered again in the file since, and whose token nobody else has. Indexes: primary key,
/// `subscriptions_by_token`.
async fn renew(connection: &mut PgConnection, rows: &[&SubscriptionRow]) -> sqlx::Result<u64> {
    let renewed = sqlx::query(
        "
        WITH known AS MATERIALIZED (
            SELECT new.*
              FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::text[], $5::text[], $6::text[],
                          $7::timestamptz[], $8::timestamptz[], $9::boolean[], $10::boolean[], $11::boolean[],
                          $12::timestamptz[])
                   AS new (id, app_id, platform, token_kind, token, environment, confirmed_at, expires_at, alerts_allowed,
                           low_power_mode, background_refresh, reported_at)
              JOIN subscriptions s ON s.id = new.id
             WHERE s.ended_at IS NULL AND s.confirmed_at < new.confirmed_at
               AND NOT EXISTS (SELECT FROM subscriptions o
                                WHERE o.app_id = new.app_id AND o.environment = new.environment AND o.token = new.token
                                  AND o.ended_at IS NULL AND o.id <> new.id)
             ORDER BY s.id
               FOR UPDATE OF s
        )
        UPDATE subscriptions s
           SET platform = known.platform, token_kind = known.token_kind, token = known.token,
               environment = known.environment, confirmed_at = known.confirmed_at, expires_at = known.expires_at,
               alerts_allowed = known.alerts_allowed, low_power_mode = known.low_power_mode,
               background_refresh = known.background_refresh, reported_at = known.reported_at
          FROM known
         WHERE s.id = known.id",
    )
    .bind(column!(rows, id))
    .bind(column!(rows, text app_id))
    .bind(column!(rows, platform))
    .bind(column!(rows, text token_kind))
    .bind(column!(rows, text token))
    .bind(column!(rows, text environment))
    .bind(column!(rows, at confirmed_at))
    .bind(column!(rows, at expires_at))
    .bind(column!(rows, alerts_allowed))
    .bind(column!(rows, low_power_mode))
    .bind(column!(rows, background_refresh))
    .bind(column!(rows, at? reported_at))
    .execute(connection)
    .await?;
    Ok(renewed.rows_affected())
}

/// Those that are not there by now, or still as before. Index: primary key.
async fn waiting(connection: &mut PgConnection, rows: &[&SubscriptionRow]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "
        SELECT new.id
          FROM unnest($1::uuid[], $2::timestamptz[]) AS new (id, confirmed_at)
          LEFT JOIN subscriptions s ON s.id = new.id
         WHERE s.id IS NULL OR (s.ended_at IS NULL AND s.confirmed_at < new.confirmed_at)",
    )
    .bind(column!(rows, id))
    .bind(column!(rows, at confirmed_at))
    .fetch_all(connection)
    .await
}

/// As ended, so that their ids still name their users.
async fn insert_replaced(
    connection: &mut PgConnection,
    known: &[&SubscriptionRow],
    waiting: &[Uuid],
) -> sqlx::Result<u64> {
    let ended = |row: &SubscriptionRow| SubscriptionRow {
        id: row.id,
        app_id: row.app_id.clone(),
        user_id: row.user_id.clone(),
        platform: row.platform,
        token_kind: row.token_kind.clone(),
        token: row.token.clone(),
        environment: row.environment.clone(),
        created_at: row.created_at,
        confirmed_at: row.confirmed_at,
        expires_at: row.expires_at,
        ended_at: Some(row.confirmed_at),
        end_reason: Some("replaced".to_owned()),
        alerts_allowed: row.alerts_allowed,
        low_power_mode: row.low_power_mode,
        background_refresh: row.background_refresh,
        reported_at: row.reported_at,
    };
    let rows: Vec<SubscriptionRow> =
        known.iter().filter(|row| waiting.contains(&row.id)).map(|row| ended(row)).collect();
    Ok(insert(connection, &rows).await?.len() as u64)
}

/// From now on, those just inserted too. Index: primary key.
async fn end_replaced(connection: &mut PgConnection, waiting: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query(
        "
        WITH known AS MATERIALIZED (
            SELECT id FROM subscriptions WHERE id = ANY ($1) ORDER BY id FOR UPDATE
        )
        UPDATE subscriptions s
           SET ended_at = clock_timestamp(), end_reason = 'replaced'
          FROM known
         WHERE s.id = known.id",
    )
    .bind(waiting)
    .execute(connection)
    .await?;
    Ok(())
}
