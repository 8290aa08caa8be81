//! Receipts and withdrawals.

use std::sync::Arc;

use herald_core::delivery::State;
use herald_core::ids::{AppId, NotificationId, Unsid, UserId};
use herald_core::time::Timestamp;
use herald_sqlite::rusqlite::params;
use uuid::Uuid;

use super::close::{Closing, close_deliveries, closing, open_pushes_of, tell};
use super::rows::{first, stored};
use super::{JobResult, Sqlite, Tx};
use crate::{By, Closed, Receipt, ReceiptResult, Result, Teller};

impl Sqlite {
    pub(crate) async fn receipts(&self, batch: &[Receipt], teller: Option<Arc<Teller>>) -> Result<Vec<ReceiptResult>> {
        let batch = batch.to_vec();
        self.write("receipts", move |tx| {
            let mut results = Vec::with_capacity(batch.len());
            // In turn: of two receipts for one delivery the second finds that of the first.
            for receipt in &batch {
                let result = match delivery(tx, &receipt.by)? {
                    Some(delivery) => receive(tx, delivery, receipt.received_at)?,
                    None => ReceiptResult::Unknown,
                };
                if let ReceiptResult::Closed(closed) | ReceiptResult::Late(closed) = &result {
                    tell(tx, std::slice::from_ref(closed), teller.as_deref())?;
                }
                results.push(result);
            }
            Ok(results)
        })
        .await
    }

    pub(crate) async fn withdraw(
        &self,
        app: &AppId,
        notification: NotificationId,
        teller: Option<Arc<Teller>>,
    ) -> Result<Vec<Closed>> {
        let app = app.clone();
        self.write("withdraw", move |tx| {
            if !stop_fanout(tx, &app, notification)? {
                return Ok(Vec::new());
            }
            let open = open_pushes_of(tx, notification)?;
            let closed = close_deliveries(tx, &open, State::Withdrawn)?;
            tell(tx, &closed, teller.as_deref())?;
            Ok(closed)
        })
        .await
    }
}

/// Which delivery is meant; none if it is not of one of the apps.
fn delivery(tx: &Tx<'_>, by: &By) -> JobResult<Option<Uuid>> {
    match by {
        By::Delivery(delivery) => Ok(Some(delivery.0)),
        By::Pair { notification, unsid, apps, user } => {
            let paired = find_pair(tx, *notification, *unsid)?;
            let ours = paired.filter(|(_, of, whose)| {
                apps.as_ref().is_none_or(|apps| apps.contains(of)) && user.as_ref().is_none_or(|user| user == whose)
            });
            Ok(ours.map(|(delivery, ..)| delivery))
        }
    }
}

/// The delivery of a pair, its app and its user.
///
/// Indexes: `deliveries_of_notification`, primary key. State pushes (form 3) of the same notification are not meant.
fn find_pair(tx: &Tx<'_>, notification: NotificationId, unsid: Unsid) -> JobResult<Option<(Uuid, AppId, UserId)>> {
    let mut pair = tx.connection.prepare_cached(
        "
        SELECT d.id, d.app_id, n.user_id
          FROM deliveries d
          JOIN notifications n ON n.id = d.notification_id
         WHERE d.notification_id = ?1 AND d.unsid = ?2 AND d.form <> 3",
    )?;
    first(&mut pair, [notification.0, unsid.0], |columns| Ok((columns.get("id")?, columns.app()?, columns.user()?)))
}

/// An open delivery is closed, a closed one without a receipt keeps it as a fact, any other stays as it is.
///
/// Index: primary key.
fn receive(tx: &Tx<'_>, delivery: Uuid, received_at: Option<Timestamp>) -> JobResult<ReceiptResult> {
    let at = tx.now();
    let Some(Closing { closed, received }) = closing(tx, delivery, State::Received, at)? else {
        return Ok(ReceiptResult::Unknown);
    };
    if received {
        return Ok(ReceiptResult::Duplicate);
    }
    let open = closed.had.is_open();
    let mut receive = tx.connection.prepare_cached(
        "
        UPDATE deliveries
           SET state = ?2, next_at = NULL, version = version + ?3, received_at = ?4, closed_at = coalesce(closed_at, ?5)
         WHERE id = ?1",
    )?;
    receive.execute(params![
        delivery,
        closed.state.number(),
        open,
        stored(received_at.map_or(at, |said| said.min(at))),
        stored(at),
    ])?;
    Ok(if open { ReceiptResult::Closed(closed) } else { ReceiptResult::Late(closed) })
}

/// Makes no page of a fan-out be made later. False if this app has no such notification.
///
/// Index: primary key.
fn stop_fanout(tx: &Tx<'_>, app: &AppId, notification: NotificationId) -> JobResult<bool> {
    let mut stop =
        tx.connection.prepare_cached("UPDATE notifications SET next_at = NULL WHERE id = ?1 AND app_id = ?2")?;
    Ok(stop.execute(params![notification.0, app.as_str()])? > 0)
}
