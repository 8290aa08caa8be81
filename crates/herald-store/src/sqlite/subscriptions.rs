//! Subscriptions: one active one per push token, app and environment.

use std::sync::Arc;

use herald_core::delivery::State;
use herald_core::ids::{AppId, Unsid, UserId};
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;
use herald_sqlite::rusqlite::params;
use uuid::Uuid;

use super::close::{close_deliveries, open_deliveries_to, tell};
use super::prune::end_subscriptions;
use super::rows::{Columns, first, stored};
use super::{JobResult, Sqlite, Tx};
use crate::subscriptions::plan;
use crate::{KnownSubscription, NewSubscription, Result, Teller};

/// Registrations that share one job: some milliseconds.
const STEP: usize = 200;

/// Subscriptions that one listing shows at most.
const LIST_LIMIT: usize = 1_000;

impl Sqlite {
    pub(crate) async fn subscribe(&self, new: &NewSubscription, teller: Option<Arc<Teller>>) -> Result<Subscription> {
        let new = new.clone();
        self.write("subscribe", move |tx| register(tx, &new, teller.as_deref())).await
    }

    /// In steps, so that those that push have their turn in between.
    pub(crate) async fn subscribe_many(
        &self,
        new: &[NewSubscription],
        teller: Option<Arc<Teller>>,
    ) -> Result<Vec<Subscription>> {
        let mut all = Vec::with_capacity(new.len());
        for step in new.chunks(STEP) {
            let step: Vec<_> = step.iter().map(|new| NewSubscription { unsid: None, ..new.clone() }).collect();
            let teller = teller.clone();
            let job = move |tx: &Tx<'_>| step.iter().map(|new| register(tx, new, teller.as_deref())).collect();
            let made: Vec<_> = self.write("subscribe_many", job).await?;
            all.extend(made);
        }
        Ok(all)
    }

    pub(crate) async fn list(&self, app: &AppId, user: &UserId) -> Result<Vec<Subscription>> {
        let (app, user) = (app.clone(), user.clone());
        self.read("list", move |tx| active_subscriptions(tx, &app, &user, None, LIST_LIMIT)).await
    }

    pub(crate) async fn subscription(&self, unsid: Unsid) -> Result<Option<KnownSubscription>> {
        self.read("subscription", move |tx| read_known(tx, unsid)).await
    }

    pub(crate) async fn end(&self, unsid: Unsid, teller: Option<Arc<Teller>>) -> Result<bool> {
        self.write("end", move |tx| {
            let Some(former) = read_open(tx, unsid)? else { return Ok(false) };
            end(tx, &former.subscription, "ended", teller.as_deref())?;
            Ok(former.active)
        })
        .await
    }
}

/// Registers or renews.
fn register(tx: &Tx<'_>, new: &NewSubscription, teller: Option<&Teller>) -> JobResult<Subscription> {
    let mut candidates = read_by_token(tx, new)?;
    if let Some(named) = new.unsid.filter(|named| candidates.iter().all(|s| s.id != *named)) {
        candidates.extend(read_open(tx, named)?.map(|known| known.subscription));
    }
    let plan = plan(new, &candidates);
    for former in plan.replaced {
        end(tx, former, "replaced", teller)?;
    }
    let unsid = plan.keep.unwrap_or_else(|| Unsid(Uuid::now_v7()));
    let subscription = new.registered(unsid, tx.now(), Timestamp::from_micros(stored(new.expires_at)));
    if plan.keep.is_some() {
        renew(tx, &subscription)?;
    } else {
        insert(tx, &subscription)?;
    }
    Ok(subscription)
}

/// Ends a subscription and withdraws the open deliveries to it.
fn end(tx: &Tx<'_>, former: &Subscription, reason: &'static str, teller: Option<&Teller>) -> JobResult<()> {
    end_subscriptions(tx, &[former.id.0], reason)?;
    let open = open_deliveries_to(tx, &[(former.id, former.app.clone(), former.user.clone())])?;
    let closed = close_deliveries(tx, &open, State::Withdrawn)?;
    tell(tx, &closed, teller)
}

/// A user's active subscriptions, by their ids: at most `limit` after `after`.
///
/// Index: `subscriptions_of_user`.
pub(crate) fn active_subscriptions(
    tx: &Tx<'_>,
    app: &AppId,
    user: &UserId,
    after: Option<Unsid>,
    limit: usize,
) -> JobResult<Vec<Subscription>> {
    let mut active = tx.connection.prepare_cached(
        "
        SELECT id, app_id, user_id, platform, token_kind, token, environment, confirmed_at, expires_at
          FROM subscriptions
         WHERE app_id = ?1 AND user_id = ?2 AND ended_at IS NULL AND id > ?3 AND expires_at > ?4
         ORDER BY id
         LIMIT ?5",
    )?;
    let after = after.map_or(Uuid::nil(), |unsid| unsid.0);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let of_user = params![app.as_str(), user.as_str(), after, stored(tx.now()), limit];
    active.query_and_then(of_user, |row| Columns(row).subscription())?.collect()
}

/// Ended or not. Index: primary key.
pub(crate) fn read_known(tx: &Tx<'_>, unsid: Unsid) -> JobResult<Option<KnownSubscription>> {
    let mut read = tx.connection.prepare_cached(
        "
        SELECT id, app_id, user_id, platform, token_kind, token, environment, confirmed_at, expires_at,
               ended_at IS NULL AND expires_at > ?2 AS active
          FROM subscriptions
         WHERE id = ?1",
    )?;
    first(&mut read, params![unsid.0, stored(tx.now())], known)
}

/// Not ended, but perhaps expired. Index: primary key.
fn read_open(tx: &Tx<'_>, unsid: Unsid) -> JobResult<Option<KnownSubscription>> {
    let mut read = tx.connection.prepare_cached(
        "
        SELECT id, app_id, user_id, platform, token_kind, token, environment, confirmed_at, expires_at,
               expires_at > ?2 AS active
          FROM subscriptions
         WHERE id = ?1 AND ended_at IS NULL",
    )?;
    first(&mut read, params![unsid.0, stored(tx.now())], known)
}

fn known(columns: &Columns<'_>) -> JobResult<KnownSubscription> {
    Ok(KnownSubscription { subscription: columns.subscription()?, active: columns.get("active")? })
}

/// The SQL of the subscription that has a token and has not ended: (app, environment, token).
///
/// Index: `subscriptions_by_token`.
const BY_TOKEN: &str = "
    SELECT id, app_id, user_id, platform, token_kind, token, environment, confirmed_at, expires_at
      FROM subscriptions
     WHERE app_id = ?1 AND environment = ?2 AND token = ?3 AND ended_at IS NULL";

fn read_by_token(tx: &Tx<'_>, new: &NewSubscription) -> JobResult<Vec<Subscription>> {
    let mut read = tx.connection.prepare_cached(BY_TOKEN)?;
    let token = params![new.app.as_str(), new.environment.as_str(), new.token.expose()];
    read.query_and_then(token, |row| Columns(row).subscription())?.collect()
}

/// Unique index: `subscriptions_by_token`.
fn insert(tx: &Tx<'_>, new: &Subscription) -> JobResult<()> {
    let mut insert = tx.connection.prepare_cached(
        "
        INSERT INTO subscriptions (id, app_id, user_id, platform, token_kind, token, environment, created_at,
                                   confirmed_at, expires_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9)",
    )?;
    insert.execute(params![
        new.id.0,
        new.app.as_str(),
        new.user.as_str(),
        new.platform.number(),
        new.token_kind.as_str(),
        new.token.expose(),
        new.environment.as_str(),
        stored(new.confirmed_at),
        stored(new.expires_at),
    ])?;
    Ok(())
}

/// Index: primary key.
fn renew(tx: &Tx<'_>, new: &Subscription) -> JobResult<()> {
    let mut renew = tx.connection.prepare_cached(
        "
        UPDATE subscriptions
           SET platform = ?2, token_kind = ?3, token = ?4, environment = ?5, confirmed_at = ?6, expires_at = ?7
         WHERE id = ?1",
    )?;
    renew.execute(params![
        new.id.0,
        new.platform.number(),
        new.token_kind.as_str(),
        new.token.expose(),
        new.environment.as_str(),
        stored(new.confirmed_at),
        stored(new.expires_at),
    ])?;
    Ok(())
}
