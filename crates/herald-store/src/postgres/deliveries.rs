//! New rows of `deliveries`, gathered for one statement.

use herald_core::ids::AppId;
use herald_core::notification::Notification;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::{lane_number, millis, provider_number, stored};
use crate::deliveries::{FIRST_VERSION, NewRow};

/// Columns of the rows to be inserted.
#[derive(Default)]
pub(crate) struct NewRows {
    id: Vec<Uuid>,
    notification: Vec<Uuid>,
    unsid: Vec<Uuid>,
    app: Vec<AppId>,
    provider: Vec<i16>,
    state: Vec<i16>,
    form: Vec<i16>,
    lane: Vec<i16>,
    queue: Vec<i16>,
    takes: Vec<i16>,
    next_at: Vec<OffsetDateTime>,
    deadline_at: Vec<Option<OffsetDateTime>>,
    fallback_delay_ms: Vec<Option<i64>>,
}

impl NewRows {
    /// Adds rows of a notification.
    pub(crate) fn add(&mut self, notification: &Notification, rows: &[NewRow]) {
        for row in rows {
            let delivery = &row.delivery;
            self.id.push(delivery.id.0);
            self.notification.push(notification.id.0);
            self.unsid.push(row.unsid.0);
            self.app.push(notification.app.clone());
            self.provider.push(provider_number(row.provider));
            self.state.push(delivery.state.number());
            self.form.push(delivery.form.number());
            self.lane.push(lane_number(delivery.lane));
            self.queue.push(row.queue().number());
            self.takes.push(i16::from(delivery.takes > 0));
            self.next_at.push(stored(row.next_at));
            self.deadline_at.push(delivery.deadline_at.map(stored));
            self.fallback_delay_ms.push(delivery.fallback_delay.map(millis));
        }
    }

    /// Inserts all rows, at version 1.
    pub(crate) async fn insert(self, connection: &mut PgConnection) -> sqlx::Result<()> {
        if self.id.is_empty() {
            return Ok(());
        }
        sqlx::query(INSERT_DELIVERIES)
            .bind(self.id)
            .bind(self.notification)
            .bind(self.unsid)
            .bind(self.app.iter().map(AppId::as_str).collect::<Vec<_>>())
            .bind(self.provider)
            .bind(self.state)
            .bind(self.form)
            .bind(self.lane)
            .bind(self.queue)
            .bind(self.takes)
            .bind(self.next_at)
            .bind(self.deadline_at)
            .bind(self.fallback_delay_ms)
            .bind(FIRST_VERSION)
            .execute(connection)
            .await?;
        Ok(())
    }
}

const INSERT_DELIVERIES: &str = "
    INSERT INTO deliveries (id, notification_id, unsid, app_id, provider, state, form, lane, queue, takes, next_at,
                            deadline_at, fallback_delay_ms, version)
    SELECT id, notification_id, unsid, app_id, provider, state, form, lane, queue, takes, next_at,
           deadline_at, fallback_delay_ms, $14
      FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::smallint[], $6::smallint[], $7::smallint[],
                  $8::smallint[], $9::smallint[], $10::smallint[], $11::timestamptz[], $12::timestamptz[],
                  $13::bigint[])
           AS new (id, notification_id, unsid, app_id, provider, state, form, lane, queue, takes, next_at,
                   deadline_at, fallback_delay_ms)";
