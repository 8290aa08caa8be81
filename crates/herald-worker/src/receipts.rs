//! Receipts from upstream services that hold a channel to the device: `herald.receipts`.
//!
//! Stands beside the way: a receipt closes a delivery in place and so cancels its fallback. The message is acked after the
//! commit, so an acked receipt was counted (G3). Receipts over HTTP come by `herald-gateway`.

use std::sync::Arc;

use herald_core::ids::{NotificationId, Unsid};
use herald_core::time::Timestamp;
use herald_queue::{ParkReason, Source};
use herald_store::{By, Receipt};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::batch::{GaveUp, until_answered};
use crate::way::Way;
use crate::{parked, tell};

const PREFETCH: u16 = 100;
/// Messages in one statement.
const MAX_BATCH: usize = 50;
/// Receipts in one message.
const MAX_RECEIPTS: usize = 1_000;

#[derive(Deserialize)]
struct Body {
    receipts: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    notification_id: NotificationId,
    user_notification_subscription_id: Unsid,
    #[serde(default)]
    received_at: Option<Timestamp>,
}

/// Takes in receipts until `stop`.
pub(crate) async fn run(way: Arc<Way>, stop: CancellationToken) {
    let mut consumer = way.queue.consume(Source::Receipts, PREFETCH);
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => break,
            batch = consumer.next(MAX_BATCH) => batch,
        };
        if batch.is_empty() {
            break;
        }
        let mut receipts = Vec::new();
        let mut settled = Vec::with_capacity(batch.len());
        for message in batch {
            match read(message.body()) {
                Ok(items) => receipts.extend(items),
                Err(reason) => {
                    if !parked::park(&way, &message, &reason, &stop).await {
                        continue;
                    }
                }
            }
            settled.push(message);
        }
        match apply(&way, &receipts, &stop).await {
            Ok(()) => {
                way.queue.ack(settled).await;
            }
            Err(GaveUp::Stopped) => {
                way.queue.give_back(settled).await;
            }
            Err(GaveUp::Refused(refused)) => {
                // Ids and times only; a redelivery would fare the same, and the toast is the safe side.
                error!(error = %refused, "the store refuses receipts; they are dropped");
                way.queue.ack(settled).await;
            }
        }
    }
    consumer.stop().await;
}

async fn apply(way: &Way, receipts: &[Receipt], stop: &CancellationToken) -> Result<(), GaveUp> {
    if receipts.is_empty() {
        return Ok(());
    }
    way.metrics.batch(herald_metrics::BatchStep::Receipt, receipts.len());
    let results = until_answered("receipts", stop, || way.store.receipts(receipts)).await?;
    results.iter().for_each(|result| tell::count_receipt(&way.metrics, result));
    Ok(())
}

fn read(body: &[u8]) -> Result<Vec<Receipt>, ParkReason> {
    let refuse = |problem: String, fix: &str| ParkReason {
        code: "invalid_receipts".to_owned(),
        field: "receipts".to_owned(),
        problem,
        fix: fix.to_owned(),
    };
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        let problem = format!("not a receipts message (line {}, column {})", error.line(), error.column());
        refuse(problem, r#"send {"receipts":[{"notificationId":…,"userNotificationSubscriptionId":…,"receivedAt":…}]}"#)
    })?;
    if body.receipts.len() > MAX_RECEIPTS {
        return Err(refuse(
            format!("{} receipts in one message", body.receipts.len()),
            "send at most 1,000 in one message",
        ));
    }
    let receipt = |item: Item| Receipt {
        by: By::Pair { notification: item.notification_id, unsid: item.user_notification_subscription_id, app: None },
        received_at: item.received_at,
    };
    Ok(body.receipts.into_iter().map(receipt).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipts_message_is_read_or_refused_with_the_field() {
        let ok = r#"{"receipts":[{"notificationId":"0192f0a0-0000-7000-8000-000000000001","userNotificationSubscriptionId":"0192f0a0-0000-7000-8000-000000000002","receivedAt":"2026-12-01T00:00:00Z"}]}"#;
        assert_eq!(read(ok.as_bytes()).unwrap().len(), 1);
        for bad in ["", "[]", "{}", r#"{"receipts":[{}]}"#, r#"{"receipts":[{"notificationId":"x"}]}"#] {
            assert_eq!(read(bad.as_bytes()).unwrap_err().field, "receipts", "{bad}");
        }
    }
}
