//! Subscriptions: one active one per push token, app and environment.

use herald_core::delivery::State;
use herald_core::device::DeviceState;
use herald_core::ids::{AppId, Unsid, UserId};
use herald_core::subscription::Subscription;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Postgres;
use super::close::{close_deliveries, open_deliveries_to, tell};
use super::error::{during, is_unique_violation};
use super::outbox::insert_events;
use super::prune::end_subscriptions;
use super::rows::{Columns, stored};
use crate::subscriptions::plan;
use crate::{KnownSubscription, NewSubscription, Registered, Registration, Result, Teller};

/// A registration by [`Postgres::subscribe_many`] takes no turn; one that meets it tries again.
const TRIES: usize = 4;

impl Postgres {
    pub(crate) async fn register(
        &self,
        registration: &Registration,
        teller: Option<&Teller>,
    ) -> Result<Option<Registered>> {
        for _ in 0..TRIES {
            if let Tried::Done(registered) = self.try_register(registration, teller).await? {
                return Ok(registered.map(|registered| *registered));
            }
        }
        let cause = "the token is being registered elsewhere".to_owned();
        Err(crate::StoreError::Unavailable { operation: "register", cause })
    }

    async fn try_register(&self, registration: &Registration, teller: Option<&Teller>) -> Result<Tried> {
        const OPERATION: &str = "register";
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        take_turn(&mut tx, registration).await.map_err(during(OPERATION))?;
        let rows = lock_candidates(&mut tx, registration).await.map_err(during(OPERATION))?;
        let candidates: Vec<KnownSubscription> =
            rows.iter().map(|row| Columns::new(row, OPERATION).known()).collect::<Result<_>>()?;
        let Some(plan) = plan(registration, &candidates) else { return Ok(Tried::Done(None)) };
        for (ended, reason) in [(&plan.replaced, "replaced"), (&plan.surplus, "surplus")] {
            let ids = ended.iter().map(|former| former.id.0).collect();
            end_subscriptions(&mut tx, ids, reason).await.map_err(during(OPERATION))?;
        }
        // Of all of them at once, so that their deliveries are locked in the one order that takes, records and receipts have.
        let ended: Vec<&Subscription> = plan.replaced.iter().chain(&plan.surplus).copied().collect();
        withdraw_to(&mut tx, &ended, teller, OPERATION).await?;
        let written = match plan.keep {
            Some(unsid) => renew(&mut tx, unsid, registration).await,
            None => insert(&mut tx, Unsid(Uuid::now_v7()), registration).await,
        };
        let row = match written {
            Err(error) if is_unique_violation(&error) => return Ok(Tried::Again),
            other => other.map_err(during(OPERATION))?,
        };
        let known = Columns::new(&row, OPERATION).known()?;
        let events = Teller::surplus(teller, &plan.surplus, known.subscription.confirmed_at);
        insert_events(&mut tx, &events).await.map_err(during(OPERATION))?;
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(Tried::Done(Some(Box::new(Registered { known, made: plan.keep.is_none() }))))
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
                None => self.renewed(new, teller).await?,
            });
        }
        Ok(all)
    }

    async fn renewed(&self, new: &NewSubscription, teller: Option<&Teller>) -> Result<Subscription> {
        let registration = NewSubscription { unsid: None, ..new.clone() }.into();
        let registered = self.register(&registration, teller).await?;
        let cause = "a subscription without conditions was not made".to_owned();
        let missing = crate::StoreError::Unavailable { operation: "subscribe_many", cause };
        registered.map(|registered| registered.known.subscription).ok_or(missing)
    }

    /// Index: primary key.
    pub(crate) async fn report(&self, unsid: Unsid, said: DeviceState) -> Result<Option<KnownSubscription>> {
        let row = sqlx::query(
            "
            UPDATE subscriptions
               SET alerts_allowed = coalesce($2, alerts_allowed), low_power_mode = coalesce($3, low_power_mode),
                   background_refresh = coalesce($4, background_refresh),
                   reported_at = CASE WHEN coalesce($2, $3, $4) IS NULL THEN reported_at ELSE clock_timestamp() END
             WHERE id = $1 AND ended_at IS NULL AND expires_at > clock_timestamp()
            RETURNING *, true AS active",
        )
        .bind(unsid.0)
        .bind(said.alerts_allowed)
        .bind(said.low_power_mode)
        .bind(said.background_refresh)
        .fetch_optional(&self.pool)
        .await
        .map_err(during("report"))?;
        row.map(|row| Columns::new(&row, "report").known()).transpose()
    }

    /// Index: primary key.
    pub(crate) async fn known(&self, unsids: &[Unsid]) -> Result<Vec<KnownSubscription>> {
        let rows = sqlx::query(
            "
            SELECT *, ended_at IS NULL AND expires_at > clock_timestamp() AS active
              FROM subscriptions
             WHERE id = ANY ($1)",
        )
        .bind(unsids.iter().map(|unsid| unsid.0).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await
        .map_err(during("known"))?;
        rows.iter().map(|row| Columns::new(row, "known").known()).collect()
    }

    /// Index: `subscriptions_of_user`.
    pub(crate) async fn devices(&self, app: &AppId, user: &UserId) -> Result<Vec<KnownSubscription>> {
        let rows = sqlx::query(
            "
            SELECT *, true AS active
              FROM subscriptions
             WHERE app_id = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > clock_timestamp()
             ORDER BY id
             LIMIT 1000",
        )
        .bind(app.as_str())
        .bind(user.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(during("devices"))?;
        rows.iter().map(|row| Columns::new(row, "devices").known()).collect()
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

    pub(crate) async fn subscription(&self, unsid: Unsid) -> Result<Option<KnownSubscription>> {
        Ok(self.known(&[unsid]).await?.pop())
    }

    pub(crate) async fn end(&self, unsid: Unsid, teller: Option<&Teller>) -> Result<bool> {
        const OPERATION: &str = "end";
        let mut tx = self.pool.begin().await.map_err(during(OPERATION))?;
        let row = lock_open(&mut tx, unsid).await.map_err(during(OPERATION))?;
        let Some(row) = row else { return Ok(false) };
        let columns = Columns::new(&row, OPERATION);
        let (former, active) = (columns.subscription()?, columns.get("active")?);
        end_subscriptions(&mut tx, vec![unsid.0], "ended").await.map_err(during(OPERATION))?;
        withdraw_to(&mut tx, &[&former], teller, OPERATION).await?;
        tx.commit().await.map_err(during(OPERATION))?;
        Ok(active)
    }
}

/// What a try to register came to.
enum Tried {
    /// It is done, unless only a known subscription would have done.
    Done(Option<Box<Registered>>),
    /// Another transaction made the token's active subscription meanwhile.
    Again,
}

/// Registrations of one token come one after another, also while it has no row that could be locked; those of one user too, so
/// that they are counted. Until the transaction's end, and in one order, so that two never wait for each other.
async fn take_turn(connection: &mut PgConnection, Registration { new, .. }: &Registration) -> sqlx::Result<()> {
    sqlx::query(
        "
        SELECT pg_advisory_xact_lock(key)
          FROM unnest(ARRAY[hashtextextended(concat_ws(E'\\n', $1::text, $2::text, $3::text), 0),
                            hashtextextended(concat_ws(E'\\n', $1::text, $4::text), 1)]) AS turn (key)
         ORDER BY key",
    )
    .bind(new.app.as_str())
    .bind(new.environment.as_str())
    .bind(new.token.expose())
    .bind(new.user.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Those that have the token, and the one named; with a limit all of the user. Indexes: `subscriptions_by_token`, primary key,
/// `subscriptions_of_user`.
async fn lock_candidates(connection: &mut PgConnection, registration: &Registration) -> sqlx::Result<Vec<PgRow>> {
    let Registration { new, limit, .. } = registration;
    sqlx::query(
        "
        SELECT *, expires_at > clock_timestamp() AS active
          FROM subscriptions
         WHERE ended_at IS NULL
           AND ((app_id = $1 AND environment = $2 AND token = $3) OR id = $4 OR (app_id = $1 AND user_id = $5))
         ORDER BY id
           FOR UPDATE",
    )
    .bind(new.app.as_str())
    .bind(new.environment.as_str())
    .bind(new.token.expose())
    .bind(new.unsid.map(|unsid| unsid.0))
    .bind(limit.map(|_| new.user.as_str()))
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

async fn insert(connection: &mut PgConnection, unsid: Unsid, registration: &Registration) -> sqlx::Result<PgRow> {
    let Registration { new, device, .. } = registration;
    sqlx::query(
        "
        INSERT INTO subscriptions (id, app_id, user_id, platform, token_kind, token, environment, created_at,
                                   confirmed_at, expires_at, alerts_allowed, low_power_mode, background_refresh,
                                   reported_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp(), clock_timestamp(), $8, $9, $10, $11,
                CASE WHEN coalesce($9, $10, $11) IS NOT NULL THEN clock_timestamp() END)
        RETURNING *, true AS active",
    )
    .bind(unsid.0)
    .bind(new.app.as_str())
    .bind(new.user.as_str())
    .bind(new.platform.number())
    .bind(new.token_kind.as_str())
    .bind(new.token.expose())
    .bind(new.environment.as_str())
    .bind(stored(new.expires_at))
    .bind(device.alerts_allowed)
    .bind(device.low_power_mode)
    .bind(device.background_refresh)
    .fetch_one(connection)
    .await
}

/// Index: primary key.
async fn renew(connection: &mut PgConnection, unsid: Unsid, registration: &Registration) -> sqlx::Result<PgRow> {
    let Registration { new, device, .. } = registration;
    sqlx::query(
        "
        UPDATE subscriptions
           SET platform = $2, token_kind = $3, token = $4, environment = $5, confirmed_at = clock_timestamp(),
               expires_at = $6, alerts_allowed = coalesce($7, alerts_allowed),
               low_power_mode = coalesce($8, low_power_mode), background_refresh = coalesce($9, background_refresh),
               reported_at = CASE WHEN coalesce($7, $8, $9) IS NULL THEN reported_at ELSE clock_timestamp() END
         WHERE id = $1
        RETURNING *, true AS active",
    )
    .bind(unsid.0)
    .bind(new.platform.number())
    .bind(new.token_kind.as_str())
    .bind(new.token.expose())
    .bind(new.environment.as_str())
    .bind(stored(new.expires_at))
    .bind(device.alerts_allowed)
    .bind(device.low_power_mode)
    .bind(device.background_refresh)
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

/// Withdraws the open deliveries to subscriptions that ended.
async fn withdraw_to(
    connection: &mut PgConnection,
    ended: &[&Subscription],
    teller: Option<&Teller>,
    operation: &'static str,
) -> Result<()> {
    let ended: Vec<_> = ended.iter().map(|former| (former.id, former.app.clone(), former.user.clone())).collect();
    let open = open_deliveries_to(connection, &ended).await.map_err(during(operation))?;
    let closed = close_deliveries(connection, &open, State::Withdrawn, operation).await?;
    tell(connection, &closed, teller, operation).await
}

fn subscription(new: &NewSubscription, id: Uuid, confirmed_at: OffsetDateTime) -> Subscription {
    new.registered(Unsid(id), confirmed_at.into(), stored(new.expires_at).into())
}
