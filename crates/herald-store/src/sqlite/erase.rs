//! Erasure of one user in one app, step by step, each one job.

use herald_core::ids::{AppId, Unsid, UserId};
use herald_sqlite::rusqlite::params;
use uuid::Uuid;

use super::dead::letter;
use super::rows::{Columns, stored};
use super::{JobResult, Sqlite, Tx};
use crate::dead::Stretch;
use crate::{DeadFilter, DeadKey, DeadLetter, DeadPage, OfApp, OutboxRow, Result};

const OPERATION: &str = "erase";

impl Sqlite {
    pub(crate) async fn unsids_of(&self, app: &AppId, user: &UserId) -> Result<Vec<Unsid>> {
        let (app, user) = (app.clone(), user.clone());
        self.read(OPERATION, move |tx| unsids_of(tx, &app, &user)).await
    }

    /// Deletes deliveries of the user's notifications; those still to be resolved make no more from here on.
    pub(crate) async fn erase_deliveries(&self, app: &AppId, user: &UserId, limit: i64) -> Result<u64> {
        let (app, user) = (app.clone(), user.clone());
        self.write(OPERATION, move |tx| {
            stop_fanouts(tx, &app, &user)?;
            let ids = deliveries_of_user(tx, &app, &user, limit)?;
            let mut delete = tx.connection.prepare_cached("DELETE FROM deliveries WHERE id = ?1")?;
            for id in &ids {
                delete.execute([id])?;
            }
            Ok(ids.len() as u64)
        })
        .await
    }

    /// Deletes notifications, with the deliveries that were made of them since; how many of each.
    pub(crate) async fn erase_notifications(&self, app: &AppId, user: &UserId, limit: i64) -> Result<(u64, u64)> {
        let (app, user) = (app.clone(), user.clone());
        self.write(OPERATION, move |tx| {
            let ids = notifications_of(tx, &app, &user, limit)?;
            let mut made = tx.connection.prepare_cached("DELETE FROM deliveries WHERE notification_id = ?1")?;
            let mut delete = tx.connection.prepare_cached("DELETE FROM notifications WHERE id = ?1")?;
            let mut deliveries = 0;
            for id in &ids {
                deliveries += made.execute([id])? as u64;
                delete.execute([id])?;
            }
            Ok((ids.len() as u64, deliveries))
        })
        .await
    }

    /// Deletes subscriptions, ended ones too; which.
    pub(crate) async fn erase_subscriptions(&self, app: &AppId, user: &UserId, limit: i64) -> Result<Vec<Unsid>> {
        let (app, user) = (app.clone(), user.clone());
        self.write(OPERATION, move |tx| {
            let mut ids = unsids_of(tx, &app, &user)?;
            ids.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            let mut delete = tx.connection.prepare_cached("DELETE FROM subscriptions WHERE id = ?1")?;
            for unsid in &ids {
                delete.execute([unsid.0])?;
            }
            Ok(ids)
        })
        .await
    }

    pub(crate) async fn outbox_page(&self, after: Uuid, limit: i64) -> Result<Vec<OutboxRow>> {
        self.read(OPERATION, move |tx| outbox_after(tx, after, limit)).await
    }

    pub(crate) async fn letters_after(
        &self,
        app: &AppId,
        after: Option<DeadKey>,
        limit: i64,
    ) -> Result<Vec<DeadLetter>> {
        let app = app.clone();
        self.read(OPERATION, move |tx| letters_after(tx, &app, after, limit)).await
    }
}

/// Indexes: `subscriptions_of_user`, `subscriptions_ended_of_user`.
fn unsids_of(tx: &Tx<'_>, app: &AppId, user: &UserId) -> JobResult<Vec<Unsid>> {
    let mut read = tx.connection.prepare_cached(
        "
        SELECT id FROM subscriptions WHERE app_id = ?1 AND user_id = ?2 AND ended_at IS NULL
         UNION ALL
        SELECT id FROM subscriptions WHERE app_id = ?1 AND user_id = ?2 AND ended_at IS NOT NULL",
    )?;
    read.query_and_then([app.as_str(), user.as_str()], |row| Ok(Unsid(row.get(0)?)))?.collect()
}

/// Index: that of `UNIQUE (app_id, user_id, key)` by its first two columns.
fn stop_fanouts(tx: &Tx<'_>, app: &AppId, user: &UserId) -> JobResult<()> {
    let mut stop = tx.connection.prepare_cached(
        "UPDATE notifications SET next_at = NULL WHERE app_id = ?1 AND user_id = ?2 AND next_at IS NOT NULL",
    )?;
    stop.execute([app.as_str(), user.as_str()])?;
    Ok(())
}

/// Indexes: that of `UNIQUE (app_id, user_id, key)`, then `deliveries_of_notification`.
fn deliveries_of_user(tx: &Tx<'_>, app: &AppId, user: &UserId, limit: i64) -> JobResult<Vec<Uuid>> {
    // SQLite reads the tables of a CROSS JOIN in the order given.
    let mut read = tx.connection.prepare_cached(
        "
        SELECT d.id
          FROM notifications n
         CROSS JOIN deliveries d ON d.notification_id = n.id
         WHERE n.app_id = ?1 AND n.user_id = ?2
         LIMIT ?3",
    )?;
    read.query_and_then(params![app.as_str(), user.as_str(), limit], |row| Ok(row.get(0)?))?.collect()
}

/// Index: that of `UNIQUE (app_id, user_id, key)` by its first two columns.
fn notifications_of(tx: &Tx<'_>, app: &AppId, user: &UserId, limit: i64) -> JobResult<Vec<Uuid>> {
    let mut read =
        tx.connection.prepare_cached("SELECT id FROM notifications WHERE app_id = ?1 AND user_id = ?2 LIMIT ?3")?;
    read.query_and_then(params![app.as_str(), user.as_str(), limit], |row| Ok(row.get(0)?))?.collect()
}

/// Index: primary key.
fn outbox_after(tx: &Tx<'_>, after: Uuid, limit: i64) -> JobResult<Vec<OutboxRow>> {
    let mut read =
        tx.connection.prepare_cached("SELECT id, routing_key, body FROM outbox WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    let row = |columns: &Columns<'_>| {
        Ok(OutboxRow { id: columns.get("id")?, routing_key: columns.get("routing_key")?, body: columns.get("body")? })
    };
    read.query_and_then(params![after, limit], |found| row(&Columns(found)))?.collect()
}

/// Index: `dead_letters_newest`, read backwards.
fn letters_after(tx: &Tx<'_>, app: &AppId, after: Option<DeadKey>, limit: i64) -> JobResult<Vec<DeadLetter>> {
    let filter = DeadFilter { app: OfApp::Named(app.clone()), ..DeadFilter::default() };
    let Stretch { after, .. } = Stretch::of(&filter, DeadPage::OldestAfter(after));
    let mut read = tx.connection.prepare_cached(
        "
        SELECT *
          FROM dead_letters
         WHERE (parked_at, id) > (?1, ?2) AND app_id = ?3
         ORDER BY parked_at, id
         LIMIT ?4",
    )?;
    let values = params![stored(after.parked_at), after.id, app.as_str(), limit];
    read.query_and_then(values, |row| letter(&Columns(row)))?.collect()
}
