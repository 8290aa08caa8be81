//! Import and export of subscriptions: four statements for a batch, whatever its size.

use herald_core::ids::{AppId, Unsid};
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Postgres;
use super::error::during;
use super::rows::{Columns, stored};
use crate::import::{Imported, plan};
use crate::{KnownSubscription, NewSubscription, Result, StoreError};

const OPERATION: &str = "import";
/// What meets a registration of the same push token or id is looked at once more.
const TRIES: usize = 4;

impl Postgres {
    pub(crate) async fn import(&self, batch: &[NewSubscription]) -> Result<Vec<Imported>> {
        for _ in 0..TRIES {
            if let Some(results) = self.try_import(batch).await? {
                return Ok(results);
            }
        }
        let cause = "push tokens of this batch are being registered elsewhere".to_owned();
        Err(StoreError::Unavailable { operation: OPERATION, cause })
    }

    /// None if another transaction inserted one of them meanwhile: nothing is done then.
    async fn try_import(&self, batch: &[NewSubscription]) -> Result<Option<Vec<Imported>>> {
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        let there = lock_there(&mut tx, batch).await?;
        let plan = plan(batch, &there, Uuid::now_v7);
        let wanted = plan.add.len() + plan.add_ended.len();
        let added = insert(&mut tx, batch, &plan.add, false).await.map_err(during(OPERATION))?
            + insert(&mut tx, batch, &plan.add_ended, true).await.map_err(during(OPERATION))?;
        if added < wanted as u64 {
            return Ok(None);
        }
        extend(&mut tx, &plan.extend).await.map_err(during(OPERATION))?;
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(Some(plan.results))
    }

    /// Index: primary key.
    pub(crate) async fn export(
        &self,
        app: Option<&AppId>,
        after: Option<Unsid>,
        limit: i64,
    ) -> Result<Vec<Subscription>> {
        let rows = sqlx::query(
            "
            SELECT id, app_id, user_id, platform, token_kind, token, environment, confirmed_at, expires_at
              FROM subscriptions
             WHERE id > $1 AND ended_at IS NULL AND expires_at > clock_timestamp() AND ($2::text IS NULL OR app_id = $2)
             ORDER BY id
             LIMIT $3",
        )
        .bind(after.map_or(Uuid::nil(), |unsid| unsid.0))
        .bind(app.map(AppId::as_str))
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(during("export"))?;
        rows.iter().map(|row| Columns::new(row, "export").subscription()).collect()
    }
}

/// What has the batch's ids or push tokens, and whether it has not ended. Indexes: primary key, `subscriptions_by_token`.
///
/// As a plain join, so that a table without statistics is read once for a batch at worst: looked up row by row (LATERAL), it was
/// read by another index for each of 5,000 rows, until the statement's time was over.
async fn lock_there(
    connection: &mut PgConnection,
    batch: &[NewSubscription],
) -> Result<Vec<(KnownSubscription, bool)>> {
    let rows = sqlx::query(
        "
        WITH there AS MATERIALIZED (
            SELECT s.id
              FROM unnest($1::text[], $2::text[], $3::text[]) AS new (app_id, environment, token)
              JOIN subscriptions s
                ON s.app_id = new.app_id AND s.environment = new.environment AND s.token = new.token
               AND s.ended_at IS NULL
             UNION
            SELECT s.id FROM subscriptions s WHERE s.id = ANY ($4)
        )
        SELECT *, ended_at IS NULL AS open, ended_at IS NULL AND expires_at > clock_timestamp() AS active
          FROM subscriptions
         WHERE id = ANY (ARRAY(SELECT id FROM there))
         ORDER BY id
           FOR UPDATE",
    )
    .bind(batch.iter().map(|new| new.app.as_str()).collect::<Vec<_>>())
    .bind(batch.iter().map(|new| new.environment.as_str()).collect::<Vec<_>>())
    .bind(batch.iter().map(|new| new.token.expose()).collect::<Vec<_>>())
    .bind(batch.iter().filter_map(|new| new.unsid.map(|unsid| unsid.0)).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
    .map_err(during(OPERATION))?;
    let there = |row| {
        let columns = Columns::new(row, OPERATION);
        Ok((columns.known()?, columns.get("open")?))
    };
    rows.iter().map(there).collect()
}

/// How many were new. Sorted, so that two imports of the same rows wait for each other in one order.
async fn insert(
    connection: &mut PgConnection,
    batch: &[NewSubscription],
    chosen: &[(usize, Uuid)],
    ended: bool,
) -> sqlx::Result<u64> {
    if chosen.is_empty() {
        return Ok(0);
    }
    let new = || chosen.iter().map(|(index, _)| &batch[*index]);
    let inserted = sqlx::query(
        "
        INSERT INTO subscriptions (id, app_id, user_id, platform, token_kind, token, environment, created_at,
                                   confirmed_at, expires_at, ended_at, end_reason)
        SELECT id, app_id, user_id, platform, token_kind, token, environment, clock_timestamp(), clock_timestamp(),
               expires_at, CASE WHEN $9 THEN clock_timestamp() END, CASE WHEN $9 THEN 'replaced' END
          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[], $5::text[], $6::text[], $7::text[],
                      $8::timestamptz[])
               AS new (id, app_id, user_id, platform, token_kind, token, environment, expires_at)
         ORDER BY app_id, environment, token
            ON CONFLICT DO NOTHING",
    )
    .bind(chosen.iter().map(|(_, id)| *id).collect::<Vec<_>>())
    .bind(new().map(|n| n.app.as_str()).collect::<Vec<_>>())
    .bind(new().map(|n| n.user.as_str()).collect::<Vec<_>>())
    .bind(new().map(|n| n.platform.number()).collect::<Vec<_>>())
    .bind(new().map(|n| n.token_kind.as_str()).collect::<Vec<_>>())
    .bind(new().map(|n| n.token.expose()).collect::<Vec<_>>())
    .bind(new().map(|n| n.environment.as_str()).collect::<Vec<_>>())
    .bind(new().map(|n| stored(n.expires_at)).collect::<Vec<_>>())
    .bind(ended)
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected())
}

/// Index: primary key. They are locked, or were just inserted.
async fn extend(connection: &mut PgConnection, longer: &[(Uuid, Timestamp)]) -> sqlx::Result<()> {
    if longer.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "
        UPDATE subscriptions s
           SET expires_at = longer.expires_at
          FROM unnest($1::uuid[], $2::timestamptz[]) AS longer (id, expires_at)
         WHERE s.id = longer.id",
    )
    .bind(longer.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(longer.iter().map(|(_, at)| stored(*at)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
