//! Intake: five statements for a batch, whatever its size.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use herald_core::request::Target;
use herald_core::subscription::Subscription;
use herald_core::time::Timestamp;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Postgres;
use super::deliveries::NewRows;
use super::error::{during, unreadable};
use super::outbox::insert_events;
use super::rows::{Columns, lane_number, stored};
use crate::deliveries::{Budget, Made};
use crate::intake::too_wide;
use crate::{FANOUT_LIMIT, Intaken, NewNotification, Resolved, Result};

const OPERATION: &str = "intake";

type ByUser = HashMap<(AppId, UserId), Vec<Subscription>>;

impl Postgres {
    pub(crate) async fn intake<F>(
        &self,
        batch: Vec<NewNotification>,
        budget: usize,
        lease: Duration,
        mut resolve: F,
    ) -> Result<Vec<Intaken>>
    where
        F: FnMut(&NewNotification, &UserId, &[Subscription], Timestamp) -> Resolved + Send,
    {
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        let users = name_users(&mut tx, &batch).await?;
        let active = active_subscriptions(&mut tx, &batch, &users).await?;
        let inserted = insert_notifications(&mut tx, &batch, &users, &active).await?;

        let mut budget = Budget { left: budget, lease };
        let mut rows = NewRows::default();
        let mut events = Vec::new();
        let mut results = Vec::with_capacity(batch.len());
        for (new, user) in batch.into_iter().zip(users) {
            let Some(user) = user else {
                results.push(Intaken::UnknownTarget);
                continue;
            };
            let Some(&Inserted { at, deferred }) = inserted.get(&new.id) else {
                results.push(Intaken::Duplicate);
                continue;
            };
            let mut resolved = Resolved::default();
            let subscriptions = active.get(&(new.request.app.clone(), user.clone())).map_or(&[][..], Vec::as_slice);
            if !deferred {
                resolved = resolve(&new, &user, subscriptions, at);
            }
            events.append(&mut resolved.events);
            let (lane, received_at) = (new.request.lane, new.received_at);
            let notification = Arc::new(new.notification(user));
            let Made { rows: new_rows, taken, due } =
                budget.make(&notification, lane, received_at, at, &resolved.deliveries, subscriptions);
            rows.add(&notification, &new_rows);
            results.push(Intaken::Stored { notification, taken, due, deferred_fanout: deferred });
        }

        rows.insert(&mut tx).await.map_err(during(OPERATION))?;
        insert_events(&mut tx, &events).await.map_err(during(OPERATION))?;
        // Dying before this: nothing is stored, the messages are unacked. After it: keys make the redelivery a duplicate,
        // and what was taken here becomes due when its lease ends.
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(results)
    }
}

/// The user of each request; none if it names a subscription that its app never had.
async fn name_users(connection: &mut PgConnection, batch: &[NewNotification]) -> Result<Vec<Option<UserId>>> {
    let unsids: HashSet<Uuid> = batch
        .iter()
        .filter_map(|new| match &new.request.target {
            Target::Unsid(unsid) => Some(unsid.0),
            Target::User(_) => None,
        })
        .collect();
    let owners = if unsids.is_empty() {
        HashMap::new()
    } else {
        owners(connection, &unsids.into_iter().collect::<Vec<_>>()).await?
    };
    let user = |new: &NewNotification| match &new.request.target {
        Target::User(user) => Some(user.clone()),
        Target::Unsid(unsid) => {
            owners.get(unsid).filter(|(app, _)| *app == new.request.app).map(|(_, user)| user.clone())
        }
    };
    Ok(batch.iter().map(user).collect())
}

/// App and user of subscriptions, ended ones too: an ended one still names its user.
///
/// Index: primary key.
async fn owners(connection: &mut PgConnection, unsids: &[Uuid]) -> Result<HashMap<Unsid, (AppId, UserId)>> {
    let rows = sqlx::query("SELECT id, app_id, user_id FROM subscriptions WHERE id = ANY ($1)")
        .bind(unsids)
        .fetch_all(connection)
        .await
        .map_err(during(OPERATION))?;
    let owner = |row| {
        let columns = Columns::new(row, OPERATION);
        Ok((Unsid(columns.get("id")?), (columns.app()?, columns.user()?)))
    };
    rows.iter().map(owner).collect()
}

/// The active subscriptions of all users of a batch; of one user one more than [`FANOUT_LIMIT`] at most.
///
/// Index: `subscriptions_of_user`.
async fn active_subscriptions(
    connection: &mut PgConnection,
    batch: &[NewNotification],
    users: &[Option<UserId>],
) -> Result<ByUser> {
    let pairs: HashSet<(&str, &str)> = batch
        .iter()
        .zip(users)
        .filter_map(|(new, user)| Some((new.request.app.as_str(), user.as_ref()?.as_str())))
        .collect();
    let (apps, users): (Vec<&str>, Vec<&str>) = pairs.into_iter().unzip();
    let rows = sqlx::query(
        "
        SELECT s.*
          FROM unnest($1::text[], $2::text[]) AS u (app_id, user_id)
         CROSS JOIN LATERAL (
               SELECT id, app_id, user_id, platform, token_kind, token, environment, confirmed_at, expires_at
                 FROM subscriptions
                WHERE app_id = u.app_id AND user_id = u.user_id AND ended_at IS NULL
                  AND expires_at > clock_timestamp()
                ORDER BY id
                LIMIT $3
               ) s",
    )
    .bind(apps)
    .bind(users)
    .bind(i64::try_from(FANOUT_LIMIT + 1).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await
    .map_err(during(OPERATION))?;
    let mut active = ByUser::new();
    for row in &rows {
        let subscription = Columns::new(row, OPERATION).subscription()?;
        active.entry((subscription.app.clone(), subscription.user.clone())).or_default().push(subscription);
    }
    Ok(active)
}

/// A notification whose key was new.
struct Inserted {
    /// Store time of the insert.
    at: Timestamp,
    /// It is due itself: its deliveries are made later.
    deferred: bool,
}

/// Inserts the notifications whose key is new, and says which those were.
///
/// Sorted by key, so that two batches with the same keys wait for each other in one order and never deadlock.
async fn insert_notifications(
    connection: &mut PgConnection,
    batch: &[NewNotification],
    users: &[Option<UserId>],
    active: &ByUser,
) -> Result<HashMap<NotificationId, Inserted>> {
    let mut named: Vec<(&NewNotification, &UserId)> =
        batch.iter().zip(users).filter_map(|(new, user)| Some((new, user.as_ref()?))).collect();
    named.sort_unstable_by_key(|(new, user)| (&new.request.app, *user, &new.request.key, new.id));
    let content = |new: &NewNotification| {
        serde_json::to_string(&new.request.content).map_err(|_| unreadable(OPERATION, "content"))
    };
    let mut made = 0;
    let wide: Vec<bool> = named
        .iter()
        .map(|(new, user)| {
            let devices = active.get(&(new.request.app.clone(), (*user).clone())).map_or(0, Vec::len);
            let wide = too_wide(devices, made);
            made += if wide { 0 } else { devices };
            wide
        })
        .collect();
    let rows: Vec<(Uuid, bool, OffsetDateTime)> = sqlx::query_as(INSERT_NOTIFICATIONS)
        .bind(named.iter().map(|(new, _)| new.id.0).collect::<Vec<_>>())
        .bind(named.iter().map(|(new, _)| new.request.app.as_str()).collect::<Vec<_>>())
        .bind(named.iter().map(|(_, user)| user.as_str()).collect::<Vec<_>>())
        .bind(named.iter().map(|(new, _)| new.request.key.as_str()).collect::<Vec<_>>())
        .bind(named.iter().map(|(new, _)| lane_number(new.request.lane)).collect::<Vec<_>>())
        .bind(named.iter().map(|(new, _)| content(new)).collect::<Result<Vec<_>>>()?)
        .bind(named.iter().map(|(new, _)| stored(new.received_at)).collect::<Vec<_>>())
        .bind(named.iter().map(|(new, _)| stored(new.request.expires_at)).collect::<Vec<_>>())
        .bind(named.iter().map(|(new, _)| new.request.deliver_at.map(stored)).collect::<Vec<_>>())
        .bind(wide)
        .bind(named.iter().map(|(new, _)| new.request.content.app_notification_id.as_deref()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await
        .map_err(during(OPERATION))?;
    let inserted = |(id, deferred, at): (Uuid, bool, OffsetDateTime)| {
        (NotificationId(id), Inserted { at: Timestamp::from(at), deferred })
    };
    Ok(rows.into_iter().map(inserted).collect())
}

/// Unique index: `notifications_app_id_user_id_key_key`. In the order given, so that of two with one key the first counts.
const INSERT_NOTIFICATIONS: &str = "
    INSERT INTO notifications (id, app_id, user_id, key, lane, content, received_at, expires_at, deliver_at, next_at,
                               app_notification_id)
    SELECT id, app_id, user_id, key, lane, content, received_at, expires_at, deliver_at,
           CASE WHEN deliver_at > clock_timestamp() THEN deliver_at WHEN wide THEN clock_timestamp() END,
           app_notification_id
      FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::text[], $7::timestamptz[],
                  $8::timestamptz[], $9::timestamptz[], $10::boolean[], $11::text[])
           AS new (id, app_id, user_id, key, lane, content, received_at, expires_at, deliver_at, wide,
                   app_notification_id)
        ON CONFLICT (app_id, user_id, key) DO NOTHING
    RETURNING id, next_at IS NOT NULL, clock_timestamp()";
