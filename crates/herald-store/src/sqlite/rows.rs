//! Values of core to columns and back. The only place that knows how a type is stored.

use std::time::Duration;

use herald_core::delivery::{Delivery, State};
use herald_core::device::DeviceState;
use herald_core::ids::{AppId, DeliveryId, PushToken, Unsid, UserId};
use herald_core::lane::{DispatchQueue, Lane};
use herald_core::push::Form;
use herald_core::subscription::{Environment, Platform, Provider, Subscription, TokenKind};
use herald_core::time::Timestamp;
use herald_sqlite::Fault;
use herald_sqlite::rusqlite::types::FromSql;
use herald_sqlite::rusqlite::{Params, Row, Statement};

use crate::{Attempt, KnownSubscription};

type Result<T> = std::result::Result<T, Fault>;

/// Last moment that is stored: the end of the year 9999, as on PostgreSQL. Later ones are stored as this.
const LATEST_MICROS: i64 = 253_402_300_799_000_000;

/// As microseconds since 1970.
pub(crate) fn stored(time: Timestamp) -> i64 {
    time.micros().clamp(0, LATEST_MICROS)
}

/// As whole microseconds.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(LATEST_MICROS).min(LATEST_MICROS)
}

/// As whole milliseconds, for `fallback_delay_ms`.
pub(crate) fn millis(duration: Duration) -> i64 {
    micros(duration) / 1_000
}

/// What `count(*)` counted, or `sum` of such. Never below zero.
pub(crate) fn counted(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
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

/// The first row of a statement, if there is one.
pub(crate) fn first<T>(
    statement: &mut Statement<'_>,
    params: impl Params,
    read: impl FnOnce(&Columns<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let mut rows = statement.query(params)?;
    rows.next()?.map(|row| read(&Columns(row))).transpose()
}

/// A row: says which column can't be read.
pub(crate) struct Columns<'r>(pub(crate) &'r Row<'r>);

impl Columns<'_> {
    pub(crate) fn get<T: FromSql>(&self, column: &str) -> Result<T> {
        Ok(self.0.get(column)?)
    }

    /// A value that was stored as something else, and back through `parse`.
    pub(crate) fn parsed<T: FromSql, U>(&self, column: &str, parse: impl FnOnce(T) -> Option<U>) -> Result<U> {
        parse(self.get(column)?).ok_or_else(|| Fault::Defect(format!("column {column} can't be read")))
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T> {
        self.parsed(column, |text: String| serde_json::from_str(&text).ok())
    }

    pub(crate) fn time(&self, column: &str) -> Result<Timestamp> {
        Ok(Timestamp::from_micros(self.get(column)?))
    }

    pub(crate) fn time_or_none(&self, column: &str) -> Result<Option<Timestamp>> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp::from_micros))
    }

    pub(crate) fn app(&self) -> Result<AppId> {
        Ok(AppId::new(self.get::<String>("app_id")?))
    }

    pub(crate) fn user(&self) -> Result<UserId> {
        Ok(UserId::new(self.get::<String>("user_id")?))
    }

    pub(crate) fn state(&self, column: &str) -> Result<State> {
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
            id: DeliveryId(self.get("id")?),
            version: self.get("version")?,
            state: self.state("state")?,
            form: self.form()?,
            lane: self.lane()?,
            fallback_delay: self.get::<Option<i64>>("fallback_delay_ms")?.map(duration_of_millis),
            deadline_at: self.time_or_none("deadline_at")?,
            expires_at,
            takes: self.get("takes")?,
            attempts: self.get("attempt_count")?,
        })
    }

    /// The last of `attempts`, if there was one.
    pub(crate) fn last_attempt(&self) -> Result<Option<Attempt>> {
        let Some(text) = self.get::<Option<String>>("last_attempt")? else { return Ok(None) };
        let unreadable = |_| Fault::Defect("column last_attempt can't be read".to_owned());
        serde_json::from_str(&text).map(Some).map_err(unreadable)
    }

    /// All columns of `subscriptions`.
    pub(crate) fn subscription(&self) -> Result<Subscription> {
        Ok(Subscription {
            id: Unsid(self.get("id")?),
            app: self.app()?,
            user: self.user()?,
            platform: self.parsed("platform", Platform::from_number)?,
            token_kind: self.parsed("token_kind", |text: String| TokenKind::parse(&text))?,
            token: PushToken::new(self.get::<String>("token")?),
            environment: self.parsed("environment", |text: String| Environment::parse(&text))?,
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
