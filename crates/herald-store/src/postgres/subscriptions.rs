//! Subscriptions: one active one per push token, app and environment.

use herald_core::delivery::State;
use herald_core::ids::{AppId, Unsid, UserId};
use herald_core::subscription::Subscription;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Postgres;
use super::close::{close_deliveries, open_deliveries_to, tell};
use super::error::{during, is_unique_violation};
use super::prune::end_subscriptions;
use super::rows::{Columns, stored};
use crate::subscriptions::plan;
use crate::{KnownSubscription, NewSubscription, Result, Teller};

/// A registration by [`Postgres::subscribe_many`] takes no turn; one that meets it tries again.
const TRIES: usize = 4;

impl Postgres {
    pub(crate) async fn subscribe(&self, new: &NewSubscription, teller: Option<&Teller>) -> Result<Subscription> {
        for _ in 1..TRIES {
            if let Some(subscription) = self.try_subscribe(new, teller).await? {
                return Ok(subscription);
            }
        }
        let cause = "the token is being registered elsewhere".to_owned();
        let last = self.try_subscribe(new, teller).await?;
        last.ok_or(crate::StoreError::Unavailable { operation: "subscribe", cause })
    }

    /// None if another transaction made the token's active subscription meanwhile.
    async fn try_subscribe(&self, new: &NewSubscription, teller: Option<&Teller>) -> Result<Option<Subscription>> {
        const OPERATION: &str = "subscribe";
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        take_turn(&mut tx, new).await.map_err(during(OPERATION))?;
        let rows = lock_candidates(&mut tx, new).await.map_err(during(OPERATION))?;
        let candidates: Vec<Subscription> =
            rows.iter().map(|row| Columns::new(row, OPERATION).subscription()).collect::<Result<_>>()?;
        let plan = plan(new, &candidates);
        for former in plan.replaced {
            end_subscriptions(&mut tx, vec![former.id.0], "replaced").await.map_err(during(OPERATION))?;
            withdraw_to(&mut tx, former, teller, OPERATION).await?;
        }
        let written = match plan.keep {
            Some(unsid) => renew(&mut tx, unsid, new).await,
            None => insert(&mut tx, Unsid(Uuid::now_v7()), new).await,
        };
        let (unsid, confirmed_at) = match written {
            Err(error) if is_unique_violation(&error) => return Ok(None),
            other => other.map_err(during(OPERATION))?,
        };
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(Some(subscription(new, unsid, confirmed_at)))
    }

    pub(crate) async fn subscribe_many(
        &self,
        new: &[NewSubscription],
        teller: Option<&Teller>,
    ) -> Result<Vec<Subscription>> {
        let ids: Vec<Uuid> = new.iter().map(|_| Uuid::now_v7()).collect();
        let made = insert_many(self, new, &ids).await.map_err(during("subscribe_many"))?;
        let made: std::collections::HashMap<Uuid, OffsetDateTime> = made.into_iter().collect();
        let mut all = Vec::with_capacity(new.len());
        for (new, id) in new.iter().zip(ids) {
            all.push(match made.get(&id) {
                Some(confirmed_at) => subscription(new, id, *confirmed_at),
                // Its token has an active subscription: renewed or replaced like any other.
                None => self.subscribe(&NewSubscription { unsid: None, ..new.clone() }, teller).await?,
            });
        }
        Ok(all)
    }

    /// Index: `subscriptions_of_user`.
    pub(crate) async fn list(&self, app: &AppId, user: &UserId) -> Result<Vec<Subscription>> {
        let rows = sqlx::query(
            "
            SELECT id, app_id, user_id, platform, token_kind, token, environment, confirmed_at, expires_at
              FROM subscriptions
             WHERE app_id = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > clock_timestamp()
             ORDER BY id
             LIMIT 1000",
        )
        .bind(app.as_str())
        .bind(user.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(during("list"))?;
        rows.iter().map(|row| Columns::new(row, "list").subscription()).collect()
    }

    /// Index: primary key.
    pub(crate) async fn subscription(&self, unsid: Unsid) -> Result<Option<KnownSubscription>> {
        let row = sqlx::query(
            "
            SELECT id, app_id, user_id, platform, token_kind, token, environment, confirmed_at, expires_at,
                   ended_at IS NULL AND expires_at > clock_timestamp() AS active
              FROM subscriptions
             WHERE id = $1",
        )
        .bind(unsid.0)
        .fetch_optional(&self.pool)
        .await
        .map_err(during("subscription"))?;
        let known = |row: PgRow| {
            let columns = Columns::new(&row, "subscription");
            Ok(KnownSubscription { subscription: columns.subscription()?, active: columns.get("active")? })
        };
        row.map(known).transpose()
    }

    pub(crate) async fn end(&self, unsid: Unsid, teller: Option<&Teller>) -> Result<bool> {
        const OPERATION: &str = "end";
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        let row = lock_open(&mut tx, unsid).await.map_err(during(OPERATION))?;
        let Some(row) = row else { return Ok(false) };
        let columns = Columns::new(&row, OPERATION);
        let (former, active) = (columns.subscription()?, columns.get("active")?);
        end_subscriptions(&mut tx, vec![unsid.0], "ended").await.map_err(during(OPERATION))?;
        withdraw_to(&mut tx, &former, teller, OPERATION).await?;
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(active)
    }
}

/// Registrations of one token come one after another, also while it has no row that could be locked. Until the
/// transaction's end.
async fn take_turn(connection: &mut PgConnection, new: &NewSubscription) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended(concat_ws(E'\\n', $1::text, $2::text, $3::text), 0))")
        .bind(new.app.as_str())
        .bind(new.environment.as_str())
        .bind(new.token.expose())
        .execute(connection)
        .await?;
    Ok(())
}

/// Indexes: `subscriptions_by_token`, primary key.
async fn lock_candidates(connection: &mut PgConnection, new: &NewSubscription) -> sqlx::Result<Vec<PgRow>> {
    sqlx::query(
        "
        SELECT id, app_id, user_id, platform, token_kind, token, environment, confirmed_at, expires_at
          FROM subscriptions
         WHERE ended_at IS NULL
           AND ((app_id = $1 AND environment = $2 AND token = $3) OR id = $4)
         ORDER BY id
           FOR UPDATE",
    )
    .bind(new.app.as_str())
    .bind(new.environment.as_str())
    .bind(new.token.expose())
    .bind(new.unsid.map(|unsid| unsid.0))
    .fetch_all(connection)
    .await
}

/// Index: primary key.
async fn lock_open(connection: &mut PgConnection, unsid: Unsid) -> sqlx::Result<Option<PgRow>> {
    sqlx::query(
        "
        SELECT id, app_id, user_id, platform, token_kind, token, environment, confirmed_at, expires_at,
               expires_at > clock_timestamp() AS active
          FROM subscriptions
         WHERE id = $1 AND ended_at IS NULL
           FOR UPDATE",
    )
    .bind(unsid.0)
    .fetch_optional(connection)
    .await
}

async fn insert(
    connection: &mut PgConnection,
    unsid: Unsid,
    new: &NewSubscription,
) -> sqlx::Result<(Uuid, OffsetDateTime)> {
    sqlx::query_as(
        "
        INSERT INTO subscriptions (id, app_id, user_id, platform, token_kind, token, environment, created_at,
                                   confirmed_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp(), clock_timestamp(), $8)
        RETURNING id, confirmed_at",
    )
    .bind(unsid.0)
    .bind(new.app.as_str())
    .bind(new.user.as_str())
    .bind(new.platform.number())
    .bind(new.token_kind.as_str())
    .bind(new.token.expose())
    .bind(new.environment.as_str())
    .bind(stored(new.expires_at))
    .fetch_one(connection)
    .await
}

/// Index: primary key.
async fn renew(
    connection: &mut PgConnection,
    unsid: Unsid,
    new: &NewSubscription,
) -> sqlx::Result<(Uuid, OffsetDateTime)> {
    sqlx::query_as(
        "
        UPDATE subscriptions
           SET platform = $2, token_kind = $3, token = $4, environment = $5, confirmed_at = clock_timestamp(),
               expires_at = $6
         WHERE id = $1
        RETURNING id, confirmed_at",
    )
    .bind(unsid.0)
    .bind(new.platform.number())
    .bind(new.token_kind.as_str())
    .bind(new.token.expose())
    .bind(new.environment.as_str())
    .bind(stored(new.expires_at))
    .fetch_one(connection)
    .await
}

/// Inserts those whose token has no active subscription. Unique index: `subscriptions_by_token`.
async fn insert_many(
    postgres: &Postgres,
    new: &[NewSubscription],
    ids: &[Uuid],
) -> sqlx::Result<Vec<(Uuid, OffsetDateTime)>> {
    sqlx::query_as(
        "
        INSERT INTO subscriptions (id, app_id, user_id, platform, token_kind, token, environment, created_at,
                                   confirmed_at, expires_at)
        SELECT id, app_id, user_id, platform, token_kind, token, environment, clock_timestamp(), clock_timestamp(),
               expires_at
          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[], $5::text[], $6::text[], $7::text[],
                      $8::timestamptz[])
               AS new (id, app_id, user_id, platform, token_kind, token, environment, expires_at)
         ORDER BY app_id, environment, token
            ON CONFLICT (app_id, environment, token) WHERE ended_at IS NULL DO NOTHING
        RETURNING id, confirmed_at",
    )
    .bind(ids)
    .bind(new.iter().map(|n| n.app.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|n| n.user.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|n| n.platform.number()).collect::<Vec<_>>())
    .bind(new.iter().map(|n| n.token_kind.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|n| n.token.expose()).collect::<Vec<_>>())
    .bind(new.iter().map(|n| n.environment.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|n| stored(n.expires_at)).collect::<Vec<_>>())
    .fetch_all(&postgres.pool)
    .await
}

/// Withdraws the open deliveries to a subscription that ended.
async fn withdraw_to(
    connection: &mut PgConnection,
    former: &Subscription,
    teller: Option<&Teller>,
    operation: &'static str,
) -> Result<()> {
    let ended = [(former.id, former.app.clone(), former.user.clone())];
    let open = open_deliveries_to(connection, &ended).await.map_err(during(operation))?;
    let closed = close_deliveries(connection, &open, State::Withdrawn, operation).await?;
    tell(connection, &closed, teller, operation).await
}

fn subscription(new: &NewSubscription, id: Uuid, confirmed_at: OffsetDateTime) -> Subscription {
    new.registered(Unsid(id), confirmed_at.into(), stored(new.expires_at).into())
}
