//! Values of core to columns and back. The only place that knows how a type is stored.

use std::time::Duration;

use herald_core::delivery::{Delivery, State};
use herald_core::device::DeviceState;
use herald_core::ids::{AppId, DeliveryId, PushToken, Unsid, UserId};
use herald_core::lane::{DispatchQueue, Lane};
use herald_core::push::Form;
use herald_core::subscription::{Environment, Platform, Provider, Subscription, TokenKind};
use herald_core::time::Timestamp;
use sqlx::Row;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use super::error::{during, unreadable};
use crate::{Attempt, KnownSubscription, Result};

/// Last moment that a `timestamptz` of ours holds: the end of the year 9999. Later ones are stored as this.
const LATEST_MICROS: i64 = 253_402_300_799_000_000;

/// As a `timestamptz`.
pub(crate) fn stored(time: Timestamp) -> OffsetDateTime {
    let micros = time.micros().clamp(0, LATEST_MICROS);
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)
        .expect("times between 1970 and 9999 are in range")
}

/// As whole microseconds, for `$n * interval '1 microsecond'`.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(LATEST_MICROS).min(LATEST_MICROS)
}

/// As whole milliseconds, for `fallback_delay_ms`.
pub(crate) fn millis(duration: Duration) -> i64 {
    micros(duration) / 1_000
}

pub(crate) const fn provider_number(provider: Provider) -> i16 {
    match provider {
        Provider::Apns => 0,
        Provider::Fcm => 1,
    }
}

/// A lane is stored as the number of its dispatch queue.
pub(crate) fn lane_number(lane: Lane) -> i16 {
    DispatchQueue::from(lane).number()
}

/// A row, read by one operation: says which column can't be read.
pub(crate) struct Columns<'r> {
    row: &'r PgRow,
    operation: &'static str,
}

impl<'r> Columns<'r> {
    pub(crate) fn new(row: &'r PgRow, operation: &'static str) -> Self {
        Self { row, operation }
    }

    pub(crate) fn get<T>(&self, column: &'static str) -> Result<T>
    where
        T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        self.row.try_get(column).map_err(during(self.operation))
    }

    /// A value that was stored as something else, and back through `parse`.
    pub(crate) fn parsed<T, U>(&self, column: &'static str, parse: impl FnOnce(T) -> Option<U>) -> Result<U>
    where
        T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        parse(self.get(column)?).ok_or_else(|| unreadable(self.operation, column))
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, column: &'static str) -> Result<T> {
        self.parsed(column, |text: &str| serde_json::from_str(text).ok())
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp> {
        Ok(Timestamp::from(self.get::<OffsetDateTime>(column)?))
    }

    pub(crate) fn time_or_none(&self, column: &'static str) -> Result<Option<Timestamp>> {
        Ok(self.get::<Option<OffsetDateTime>>(column)?.map(Timestamp::from))
    }

    pub(crate) fn app(&self) -> Result<AppId> {
        Ok(AppId::new(self.get::<&str>("app_id")?))
    }

    pub(crate) fn user(&self) -> Result<UserId> {
        Ok(UserId::new(self.get::<&str>("user_id")?))
    }

    pub(crate) fn state(&self, column: &'static str) -> Result<State> {
        self.parsed(column, State::from_number)
    }

    pub(crate) fn form(&self) -> Result<Form> {
        self.parsed("form", Form::from_number)
    }

    pub(crate) fn lane(&self) -> Result<Lane> {
        self.parsed("lane", |number: i16| Lane::ALL.into_iter().find(|l| lane_number(*l) == number))
    }

    pub(crate) fn provider(&self) -> Result<Provider> {
        self.parsed("provider", |number: i16| Provider::ALL.into_iter().find(|p| provider_number(*p) == number))
    }

    /// Columns of `deliveries`. `expires_at` is the notification's.
    pub(crate) fn delivery(&self, expires_at: Timestamp) -> Result<Delivery> {
        Ok(Delivery {
            id: DeliveryId(self.get::<Uuid>("id")?),
            version: self.get("version")?,
            state: self.state("state")?,
            form: self.form()?,
            lane: self.lane()?,
            fallback_delay: self.get::<Option<i64>>("fallback_delay_ms")?.map(duration_of_millis),
            deadline_at: self.time_or_none("deadline_at")?,
            expires_at,
            takes: self.count("takes")?,
            attempts: self.count("attempt_count")?,
        })
    }

    fn count(&self, column: &'static str) -> Result<u16> {
        self.parsed(column, |number: i16| u16::try_from(number).ok())
    }

    /// The last of `attempts`, if there was one.
    pub(crate) fn last_attempt(&self) -> Result<Option<Attempt>> {
        let Some(text) = self.get::<Option<&str>>("last_attempt")? else { return Ok(None) };
        serde_json::from_str(text).map(Some).map_err(|_| unreadable(self.operation, "last_attempt"))
    }

    /// All columns of `subscriptions`.
    pub(crate) fn subscription(&self) -> Result<Subscription> {
        Ok(Subscription {
            id: Unsid(self.get::<Uuid>("id")?),
            app: self.app()?,
            user: self.user()?,
            platform: self.parsed("platform", Platform::from_number)?,
            token_kind: self.parsed("token_kind", TokenKind::parse)?,
            token: PushToken::new(self.get::<&str>("token")?),
            environment: self.parsed("environment", Environment::parse)?,
            confirmed_at: self.time("confirmed_at")?,
            expires_at: self.time("expires_at")?,
        })
    }

    /// All columns of `subscriptions` that a person may ask for, and whether it is `active`.
    pub(crate) fn known(&self) -> Result<KnownSubscription> {
        let device = DeviceState {
            alerts_allowed: self.get("alerts_allowed")?,
            low_power_mode: self.get("low_power_mode")?,
            background_refresh: self.get("background_refresh")?,
        };
        let reported_at = self.time_or_none("reported_at")?;
        Ok(KnownSubscription { subscription: self.subscription()?, active: self.get("active")?, device, reported_at })
    }
}

fn duration_of_millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_beyond_what_is_stored_is_stored_as_the_last_moment() {
        assert_eq!(stored(Timestamp::from_micros(i64::MAX)).year(), 9999);
        assert_eq!(
            Timestamp::from(stored(Timestamp::from_micros(1_700_000_000_123_456))).micros(),
            1_700_000_000_123_456
        );
    }

    #[test]
    fn lanes_and_providers_have_numbers_of_their_own() {
        assert_eq!(Lane::ALL.map(lane_number), [1, 2, 3]);
        assert_eq!(Provider::ALL.map(provider_number), [0, 1]);
    }
}
