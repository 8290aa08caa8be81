//! Receipts from upstream services that hold a channel to the device: `herald.receipts`.
//!
//! Stands beside the way: a receipt closes a delivery in place and so cancels its fallback. The message is acked after the
//! commit, so an acked receipt was counted (G3). Receipts over HTTP come by `herald-gateway`.

use std::sync::Arc;

use herald_core::ids::{AppId, NotificationId, Unsid};
use herald_core::time::Timestamp;
use herald_metrics::BatchStep;
use herald_queue::{ParkReason, Source};
use herald_store::{By, Receipt};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::apps::AppRuntime;
use crate::batch::{GaveUp, until_answered};
use crate::settings::Producers;
use crate::way::Way;
use crate::{parked, tell};

const PREFETCH: u16 = 100;
/// Messages in one statement.
const MAX_BATCH: usize = 50;
/// Receipts in one message, and in one statement.
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
        let mut good = Vec::with_capacity(batch.len());
        let mut bad = Vec::new();
        for message in batch {
            let items = apps_of(&way, message.props.user_id.as_deref())
                .and_then(|apps| parked::unpanicked(|| read(message.body(), apps.as_ref()), Err));
            match items {
                Ok(items) => {
                    receipts.extend(items);
                    good.push(message);
                }
                Err(reason) => bad.push((message, reason)),
            }
        }
        parked::park_aside(&way, bad, &stop);
        match apply(&way, &receipts, &stop).await {
            Ok(()) => {
                way.queue.ack(good).await;
            }
            Err(GaveUp::Stopped) => {
                way.queue.give_back(good).await;
            }
            Err(GaveUp::Refused(refused)) => {
                // Ids and times only; a redelivery would fare the same, and the toast is the safe side.
                error!(error = %refused, "the store refuses receipts; they are dropped");
                way.queue.ack(good).await;
            }
        }
    }
    consumer.stop().await;
}

/// In statements of bounded size, whatever the messages hold.
async fn apply(way: &Way, receipts: &[Receipt], stop: &CancellationToken) -> Result<(), GaveUp> {
    for part in receipts.chunks(MAX_RECEIPTS) {
        way.metrics.batch(BatchStep::Receipt, part.len());
        let results = until_answered("receipts", stop, || way.store.receipts(part)).await?;
        results.iter().for_each(|result| tell::count_receipt(&way.metrics, result));
    }
    Ok(())
}

/// The apps that a login may acknowledge for: as for requests, those that list it, as soon as there is more than one app or
/// any login is listed (G8). `None`: every app.
fn apps_of(way: &Way, login: Option<&str>) -> Result<Option<Arc<[AppId]>>, ParkReason> {
    let trusted = way.settings.producers == Producers::OfThisMachine;
    if trusted || way.apps.len() <= 1 && way.apps.iter().all(|app| app.settings.amqp_users.is_empty()) {
        return Ok(None);
    }
    let lists = |app: &&Arc<AppRuntime>| app.settings.amqp_users.iter().any(|user| Some(user.as_str()) == login);
    let apps: Arc<[AppId]> = way.apps.iter().filter(lists).map(|app| app.settings.id.clone()).collect();
    if apps.is_empty() {
        return Err(ParkReason {
            code: "invalid_receipts".to_owned(),
            field: "user_id".to_owned(),
            problem: if login.is_some() { "this login may not acknowledge for any app" } else { "missing" }.to_owned(),
            fix: "set the property user_id to the login that publishes, and list it in amqp_users of the app"
                .to_owned(),
        });
    }
    Ok(Some(apps))
}

fn read(body: &[u8], apps: Option<&Arc<[AppId]>>) -> Result<Vec<Receipt>, ParkReason> {
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
        by: By::Pair {
            notification: item.notification_id,
            unsid: item.user_notification_subscription_id,
            apps: apps.cloned(),
            user: None,
        },
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
        assert_eq!(read(ok.as_bytes(), None).unwrap().len(), 1);
        for bad in ["", "[]", "{}", r#"{"receipts":[{}]}"#, r#"{"receipts":[{"notificationId":"x"}]}"#] {
            assert_eq!(read(bad.as_bytes(), None).unwrap_err().field, "receipts", "{bad}");
        }
    }
}
