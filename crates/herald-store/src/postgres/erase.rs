//! Erasure of one user in one app, step by step. Locks are taken as everywhere: notifications before deliveries, each by
//! ascending id.

use herald_core::ids::{AppId, Unsid, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Postgres;
use super::dead::letter;
use super::error::during;
use super::prune::lock_deliveries;
use super::rows::stored;
use crate::dead::Stretch;
use crate::{DeadFilter, DeadKey, DeadLetter, DeadPage, OfApp, OutboxRow, Result};

const OPERATION: &str = "erase";

impl Postgres {
    /// Indexes: `subscriptions_of_user`, `subscriptions_ended_of_user`.
    pub(crate) async fn unsids_of(&self, app: &AppId, user: &UserId) -> Result<Vec<Unsid>> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "
            SELECT id FROM subscriptions WHERE app_id = $1 AND user_id = $2 AND ended_at IS NULL
             UNION ALL
            SELECT id FROM subscriptions WHERE app_id = $1 AND user_id = $2 AND ended_at IS NOT NULL",
        )
        .bind(app.as_str())
        .bind(user.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(during(OPERATION))?;
        Ok(ids.into_iter().map(Unsid).collect())
    }

    /// Deletes deliveries of the user's notifications; those still to be resolved make no more from here on.
    pub(crate) async fn erase_deliveries(&self, app: &AppId, user: &UserId, limit: i64) -> Result<u64> {
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        stop_fanouts(&mut tx, app, user).await.map_err(during(OPERATION))?;
        let ids = deliveries_of_user(&mut tx, app, user, limit).await.map_err(during(OPERATION))?;
        let deleted = delete_deliveries(&mut tx, &ids).await.map_err(during(OPERATION))?;
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(deleted)
    }

    /// Deletes notifications, with the deliveries that were made of them since; how many of each.
    pub(crate) async fn erase_notifications(&self, app: &AppId, user: &UserId, limit: i64) -> Result<(u64, u64)> {
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        let ids = lock_notifications(&mut tx, app, user, limit).await.map_err(during(OPERATION))?;
        let made = deliveries_of(&mut tx, &ids).await.map_err(during(OPERATION))?;
        let deliveries = delete_deliveries(&mut tx, &made).await.map_err(during(OPERATION))?;
        let notifications = sqlx::query("DELETE FROM notifications WHERE id = ANY ($1)")
            .bind(&ids)
            .execute(&mut *tx)
            .await
            .map_err(during(OPERATION))?;
        tx.commit().await.map_err(during(OPERATION))?;
        Ok((notifications.rows_affected(), deliveries))
    }

    /// Deletes subscriptions, ended ones too; which.
    pub(crate) async fn erase_subscriptions(&self, app: &AppId, user: &UserId, limit: i64) -> Result<Vec<Unsid>> {
        let mut ids: Vec<Uuid> = self.unsids_of(app, user).await?.into_iter().map(|unsid| unsid.0).collect();
        ids.sort_unstable();
        ids.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let gone: Vec<Uuid> = sqlx::query_scalar(
            "
            WITH gone AS MATERIALIZED (
                SELECT id FROM subscriptions WHERE id = ANY ($1) ORDER BY id FOR UPDATE
            )
            DELETE FROM subscriptions s USING gone WHERE s.id = gone.id RETURNING s.id",
        )
        .bind(ids)
        .fetch_all(&self.pool)
        .await
        .map_err(during(OPERATION))?;
        Ok(gone.into_iter().map(Unsid).collect())
    }

    /// Index: primary key.
    pub(crate) async fn outbox_page(&self, after: Uuid, limit: i64) -> Result<Vec<OutboxRow>> {
        let page: Vec<(Uuid, String, String)> =
            sqlx::query_as("SELECT id, routing_key, body FROM outbox WHERE id > $1 ORDER BY id LIMIT $2")
                .bind(after)
                .bind(limit)
                .fetch_all(&self.pool)
                .await
                .map_err(during(OPERATION))?;
        Ok(page.into_iter().map(|(id, routing_key, body)| OutboxRow { id, routing_key, body }).collect())
    }

    /// Index: `dead_letters_newest`, read backwards.
    pub(crate) async fn letters_after(
        &self,
        app: &AppId,
        after: Option<DeadKey>,
        limit: i64,
    ) -> Result<Vec<DeadLetter>> {
        let filter = DeadFilter { app: OfApp::Named(app.clone()), ..DeadFilter::default() };
        let chosen = Stretch::of(&filter, DeadPage::OldestAfter(after));
        let rows = sqlx::query(
            "
            SELECT *
              FROM dead_letters
             WHERE (parked_at, id) > ($1, $2) AND app_id = $3
             ORDER BY parked_at, id
             LIMIT $4",
        )
        .bind(stored(chosen.after.parked_at))
        .bind(chosen.after.id)
        .bind(app.as_str())
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(during(OPERATION))?;
        rows.iter().map(letter).collect()
    }
}

/// Index: `notifications_app_id_user_id_key_key`, by its first two columns.
async fn stop_fanouts(connection: &mut PgConnection, app: &AppId, user: &UserId) -> sqlx::Result<()> {
    sqlx::query(
        "
        WITH due AS MATERIALIZED (
            SELECT id
              FROM notifications
             WHERE app_id = $1 AND user_id = $2 AND next_at IS NOT NULL
             ORDER BY id
               FOR UPDATE
        )
        UPDATE notifications n SET next_at = NULL FROM due WHERE n.id = due.id",
    )
    .bind(app.as_str())
    .bind(user.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Indexes: `notifications_app_id_user_id_key_key`, `deliveries_of_notification`.
async fn deliveries_of_user(
    connection: &mut PgConnection,
    app: &AppId,
    user: &UserId,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "
        SELECT d.id
          FROM notifications n
          JOIN deliveries d ON d.notification_id = n.id
         WHERE n.app_id = $1 AND n.user_id = $2
         LIMIT $3",
    )
    .bind(app.as_str())
    .bind(user.as_str())
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Index: `deliveries_of_notification`.
async fn deliveries_of(connection: &mut PgConnection, notifications: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar("SELECT id FROM deliveries WHERE notification_id = ANY ($1)")
        .bind(notifications)
        .fetch_all(connection)
        .await
}

/// Index: primary key.
async fn delete_deliveries(connection: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<u64> {
    if ids.is_empty() {
        return Ok(0);
    }
    lock_deliveries(connection, ids).await?;
    let deleted = sqlx::query("DELETE FROM deliveries WHERE id = ANY ($1)").bind(ids).execute(connection).await?;
    Ok(deleted.rows_affected())
}

/// Index: `notifications_app_id_user_id_key_key`, by its first two columns.
async fn lock_notifications(
    connection: &mut PgConnection,
    app: &AppId,
    user: &UserId,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "
        SELECT id
          FROM notifications
         WHERE app_id = $1 AND user_id = $2
         ORDER BY id
         LIMIT $3
           FOR UPDATE",
    )
    .bind(app.as_str())
    .bind(user.as_str())
    .bind(limit)
    .fetch_all(connection)
    .await
}
