//! New rows of `deliveries`.

use herald_core::notification::Notification;
use herald_sqlite::rusqlite::params;

use super::rows::{lane_number, millis, provider_number, stored};
use super::{JobResult, Tx};
use crate::deliveries::NewRow;

/// Inserts rows of a notification.
pub(crate) fn insert_deliveries(tx: &Tx<'_>, notification: &Notification, rows: &[NewRow]) -> JobResult<()> {
    let mut insert = tx.connection.prepare_cached(
        "
        INSERT INTO deliveries (id, notification_id, unsid, app_id, provider, version, state, form, lane, queue, takes,
                                next_at, deadline_at, fallback_delay_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    for row in rows {
        let delivery = &row.delivery;
        insert.execute(params![
            delivery.id.0,
            notification.id.0,
            row.unsid.0,
            notification.app.as_str(),
            provider_number(row.provider),
            delivery.version,
            delivery.state.number(),
            delivery.form.number(),
            lane_number(delivery.lane),
            row.queue().number(),
            delivery.takes,
            stored(row.next_at),
            delivery.deadline_at.map(stored),
            delivery.fallback_delay.map(millis),
        ])?;
    }
    Ok(())
}
