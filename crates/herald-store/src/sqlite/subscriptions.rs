//! Subscriptions: one active one per push token, app and environment.

use std::sync::Arc;

use herald_core::delivery::State;
use herald_core::device::DeviceState;
use herald_core::ids::{AppId, Unsid, UserId};
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;
use herald_sqlite::rusqlite::params;
use uuid::Uuid;

use super::close::{close_deliveries, open_deliveries_to, tell};
use super::outbox::insert_events;
use super::prune::end_subscriptions;
use super::rows::{Columns, first, stored};
use super::{JobResult, Sqlite, Tx};
use crate::subscriptions::plan;
use crate::{KnownSubscription, NewSubscription, Registered, Registration, Result, Teller};

/// Registrations that share one job: some milliseconds.
const STEP: usize = 200;

/// Subscriptions that one listing shows at most.
const LIST_LIMIT: usize = 1_000;

impl Sqlite {
    pub(crate) async fn register(
        &self,
        registration: Registration,
        teller: Option<Arc<Teller>>,
    ) -> Result<Option<Registered>> {
        self.write("register", move |tx| register(tx, &registration, teller.as_deref())).await
    }

    /// In steps, so that those that push have their turn in between.
    pub(crate) async fn subscribe_many(
        &self,
        new: &[NewSubscription],
        teller: Option<Arc<Teller>>,
    ) -> Result<Vec<Subscription>> {
        let mut all = Vec::with_capacity(new.len());
        for step in new.chunks(STEP) {
            let registration = |new: &NewSubscription| NewSubscription { unsid: None, ..new.clone() }.into();
            let step: Vec<Registration> = step.iter().map(registration).collect();
            let teller = teller.clone();
            let job = move |tx: &Tx<'_>| step.iter().map(|new| register(tx, new, teller.as_deref())).collect();
            let made: Vec<Option<Registered>> = self.write("subscribe_many", job).await?;
            all.extend(made.into_iter().flatten().map(|registered| registered.known.subscription));
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

    pub(crate) async fn known(&self, unsids: &[Unsid]) -> Result<Vec<KnownSubscription>> {
        let unsids = unsids.to_vec();
        self.read("known", move |tx| {
            let known: JobResult<Vec<_>> = unsids.into_iter().map(|unsid| read_known(tx, unsid)).collect();
            Ok(known?.into_iter().flatten().collect())
        })
        .await
    }

    pub(crate) async fn devices(&self, app: &AppId, user: &UserId) -> Result<Vec<KnownSubscription>> {
        let (app, user) = (app.clone(), user.clone());
        self.read("devices", move |tx| {
            let mut devices = open_of_user(tx, &app, &user)?;
            devices.retain(|known| known.active);
            devices.truncate(LIST_LIMIT);
            Ok(devices)
        })
        .await
    }

    pub(crate) async fn report(&self, unsid: Unsid, said: DeviceState) -> Result<Option<KnownSubscription>> {
        self.write("report", move |tx| {
            let Some(mut known) = read_known(tx, unsid)?.filter(|known| known.active) else { return Ok(None) };
            known.said(said, tx.now());
            renew(tx, &known)?;
            Ok(Some(known))
        })
        .await
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
fn register(tx: &Tx<'_>, registration: &Registration, teller: Option<&Teller>) -> JobResult<Option<Registered>> {
    let new = &registration.new;
    let mut candidates = match registration.limit {
        Some(_) => open_of_user(tx, &new.app, &new.user)?,
        None => Vec::new(),
    };
    let more =
        read_by_token(tx, new)?.into_iter().chain(new.unsid.map(|named| read_open(tx, named)).transpose()?.flatten());
    for known in more {
        if candidates.iter().all(|there| there.subscription.id != known.subscription.id) {
            candidates.push(known);
        }
    }
    let Some(plan) = plan(registration, &candidates) else { return Ok(None) };
    for (former, reason) in
        plan.replaced.iter().map(|s| (s, "replaced")).chain(plan.surplus.iter().map(|s| (s, "surplus")))
    {
        end(tx, former, reason, teller)?;
    }
    let (unsid, at) = (plan.keep.unwrap_or_else(|| Unsid(Uuid::now_v7())), tx.now());
    let kept = candidates.iter().find(|known| Some(known.subscription.id) == plan.keep);
    let mut known = KnownSubscription {
        subscription: new.registered(unsid, at, Timestamp::from_micros(stored(new.expires_at))),
        active: true,
        device: kept.map(|known| known.device).unwrap_or_default(),
        reported_at: kept.and_then(|known| known.reported_at),
    };
    known.said(registration.device, at);
    if plan.keep.is_some() {
        renew(tx, &known)?;
    } else {
        insert(tx, &known, None)?;
    }
    insert_events(tx, &Teller::surplus(teller, &plan.surplus, at))?;
    Ok(Some(Registered { known, made: plan.keep.is_none() }))
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
    let mut read = tx
        .connection
        .prepare_cached("SELECT *, ended_at IS NULL AND expires_at > ?2 AS active FROM subscriptions WHERE id = ?1")?;
    first(&mut read, params![unsid.0, stored(tx.now())], |columns| columns.known())
}

/// Not ended, but perhaps expired. Index: primary key.
fn read_open(tx: &Tx<'_>, unsid: Unsid) -> JobResult<Option<KnownSubscription>> {
    let mut read = tx
        .connection
        .prepare_cached("SELECT *, expires_at > ?2 AS active FROM subscriptions WHERE id = ?1 AND ended_at IS NULL")?;
    first(&mut read, params![unsid.0, stored(tx.now())], |columns| columns.known())
}

/// Not ended, but perhaps expired. Index: `subscriptions_of_user`.
fn open_of_user(tx: &Tx<'_>, app: &AppId, user: &UserId) -> JobResult<Vec<KnownSubscription>> {
    let mut read = tx.connection.prepare_cached(
        "
        SELECT *, expires_at > ?3 AS active
          FROM subscriptions
         WHERE app_id = ?1 AND user_id = ?2 AND ended_at IS NULL
         ORDER BY id",
    )?;
    let of_user = params![app.as_str(), user.as_str(), stored(tx.now())];
    read.query_and_then(of_user, |row| Columns(row).known())?.collect()
}

/// The SQL of the subscription that has a token and has not ended: (app, environment, token, now).
///
/// Index: `subscriptions_by_token`.
const BY_TOKEN: &str = "
    SELECT *, expires_at > ?4 AS active
      FROM subscriptions
     WHERE app_id = ?1 AND environment = ?2 AND token = ?3 AND ended_at IS NULL";

pub(crate) fn read_by_token(tx: &Tx<'_>, new: &NewSubscription) -> JobResult<Vec<KnownSubscription>> {
    let mut read = tx.connection.prepare_cached(BY_TOKEN)?;
    let token = params![new.app.as_str(), new.environment.as_str(), new.token.expose(), stored(tx.now())];
    read.query_and_then(token, |row| Columns(row).known())?.collect()
}

/// Unique index: `subscriptions_by_token`.
pub(crate) fn insert(
    tx: &Tx<'_>,
    known: &KnownSubscription,
    ended: Option<(Timestamp, &'static str)>,
) -> JobResult<()> {
    let new = &known.subscription;
    let mut insert = tx.connection.prepare_cached(
        "
        INSERT INTO subscriptions (id, app_id, user_id, platform, token_kind, token, environment, created_at,
                                   confirmed_at, expires_at, alerts_allowed, low_power_mode, background_refresh,
                                   reported_at, ended_at, end_reason)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
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
        known.device.alerts_allowed,
        known.device.low_power_mode,
        known.device.background_refresh,
        known.reported_at.map(stored),
        ended.map(|(at, _)| stored(at)),
        ended.map(|(_, reason)| reason),
    ])?;
    Ok(())
}

/// Index: primary key.
fn renew(tx: &Tx<'_>, known: &KnownSubscription) -> JobResult<()> {
    let new = &known.subscription;
    let mut renew = tx.connection.prepare_cached(
        "
        UPDATE subscriptions
           SET platform = ?2, token_kind = ?3, token = ?4, environment = ?5, confirmed_at = ?6, expires_at = ?7,
               alerts_allowed = ?8, low_power_mode = ?9, background_refresh = ?10, reported_at = ?11
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
        known.device.alerts_allowed,
        known.device.low_power_mode,
        known.device.background_refresh,
        known.reported_at.map(stored),
    ])?;
    Ok(())
}
