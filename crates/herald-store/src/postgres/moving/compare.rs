//! What of a page is in the database. Reads only.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{OPERATION, column};
use crate::Result;
use crate::moving::ById;
use crate::moving::rows::{KeyRow, PauseRow};
use crate::postgres::Postgres;
use crate::postgres::error::during;

/// What a delivery is like here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here {
    pub(crate) version: i64,
    pub(crate) open: bool,
}

impl Postgres {
    /// Which of these ids are there. Index: primary key.
    pub(crate) async fn have(&self, by_id: ById, ids: Vec<Uuid>) -> Result<HashSet<Uuid>> {
        let sql = match by_id {
            ById::Subscriptions => "SELECT id FROM subscriptions WHERE id = ANY ($1)",
            ById::Notifications => "SELECT id FROM notifications WHERE id = ANY ($1)",
            ById::Events => "SELECT id FROM outbox WHERE id = ANY ($1)",
            ById::DeadLetters => "SELECT id FROM dead_letters WHERE id = ANY ($1)",
        };
        let there: Vec<Uuid> =
            sqlx::query_scalar(sql).bind(ids).fetch_all(&self.pool).await.map_err(during(OPERATION))?;
        Ok(there.into_iter().collect())
    }

    /// Index: primary key.
    pub(crate) async fn have_deliveries(&self, ids: Vec<Uuid>) -> Result<HashMap<Uuid, Here>> {
        let there: Vec<(Uuid, i64, bool)> =
            sqlx::query_as("SELECT id, version, state < 10 FROM deliveries WHERE id = ANY ($1)")
                .bind(ids)
                .fetch_all(&self.pool)
                .await
                .map_err(during(OPERATION))?;
        Ok(there.into_iter().map(|(id, version, open)| (id, Here { version, open })).collect())
    }

    /// Which of these notifications have a key that another notification has here. Index: the unique one by app, user and
    /// key.
    pub(crate) async fn have_keys(&self, rows: &[KeyRow]) -> Result<HashSet<Uuid>> {
        let taken: Vec<Uuid> = sqlx::query_scalar(
            "
            SELECT asked.id
              FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS asked (id, app_id, user_id, key)
              JOIN notifications n
                ON n.app_id = asked.app_id AND n.user_id = asked.user_id AND n.key = asked.key AND n.id <> asked.id",
        )
        .bind(column!(rows, id))
        .bind(column!(rows, text app_id))
        .bind(column!(rows, text user_id))
        .bind(column!(rows, text key))
        .fetch_all(&self.pool)
        .await
        .map_err(during(OPERATION))?;
        Ok(taken.into_iter().collect())
    }

    /// Which of these notifications have a delivery to these subscriptions. Index: `deliveries_of_notification`.
    pub(crate) async fn have_pairs(&self, pairs: Vec<(Uuid, Uuid)>) -> Result<HashSet<(Uuid, Uuid)>> {
        let (notifications, unsids): (Vec<Uuid>, Vec<Uuid>) = pairs.into_iter().unzip();
        let there: Vec<(Uuid, Uuid)> = sqlx::query_as(
            "
            SELECT d.notification_id, d.unsid
              FROM unnest($1::uuid[], $2::uuid[]) AS asked (notification_id, unsid)
              JOIN deliveries d ON d.notification_id = asked.notification_id AND d.unsid = asked.unsid
             WHERE d.form <> 3",
        )
        .bind(notifications)
        .bind(unsids)
        .fetch_all(&self.pool)
        .await
        .map_err(during(OPERATION))?;
        Ok(there.into_iter().collect())
    }

    /// Whether each of these providers has a pause, in their order. Index: primary key.
    pub(crate) async fn have_pauses(&self, rows: &[PauseRow]) -> Result<Vec<bool>> {
        let there: Vec<(String, i16)> = sqlx::query_as("SELECT app_id, provider FROM pauses")
            .fetch_all(&self.pool)
            .await
            .map_err(during(OPERATION))?;
        let has = |row: &PauseRow| there.iter().any(|(app, provider)| *app == row.app_id && *provider == row.provider);
        Ok(rows.iter().map(has).collect())
    }
}
