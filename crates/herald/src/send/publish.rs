//! Publishes drafts with confirms: as fast as the broker confirms, or at a rate.
//!
//! Each is published again a few times if it was not confirmed; its key makes that safe. It never gives up silently: what
//! was not confirmed in the end is the command's failure.

use std::time::{Duration, Instant};

use bytes::Bytes;
use herald_queue::topology::lane_key;
use herald_queue::{Exchange, Outgoing, PublishError, Publisher};

use super::Draft;
use crate::failure::Failure;

/// `type` of a request.
pub(super) const KIND: &str = "herald.notification.v1";

/// How many await their confirm together. Keeps the broker busy, and little in doubt.
const BATCH: usize = 500;

/// With a rate, a batch holds what is sent in this time: short, so that the flow is even.
const SLICE: Duration = Duration::from_millis(50);

/// How often an unconfirmed one is published in all.
const TRIES: u32 = 3;

/// What was done.
pub(super) struct Sent {
    pub(super) count: u64,
    pub(super) took: Duration,
}

impl Sent {
    /// Confirmed per second.
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(super) fn rate(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// Publishes all, in order.
///
/// # Errors
/// [`Failure::Unavailable`] with the number that was confirmed before.
pub(super) async fn all(
    publisher: &Publisher,
    drafts: impl Iterator<Item = Draft>,
    rate: Option<u32>,
    user: Option<String>,
) -> Result<Sent, Failure> {
    let started = Instant::now();
    let mut drafts = drafts.map(|draft| outgoing(draft, user.as_deref()));
    let mut count: u64 = 0;
    loop {
        let batch: Vec<Outgoing> = drafts.by_ref().take(batch_size(rate)).collect();
        if batch.is_empty() {
            return Ok(Sent { count, took: started.elapsed() });
        }
        if let Some(rate) = rate {
            // From the start, not from the last batch: a slow confirm is made up for.
            let sent = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            tokio::time::sleep_until((started + Duration::from_secs_f64(sent / f64::from(rate))).into()).await;
        }
        let sent = batch.len();
        batch_confirmed(publisher, batch).await.map_err(|error| {
            let what = format!(
                "broker: {count} sent, the next ones not all confirmed (sending them again with --key is safe)"
            );
            match error {
                PublishError::Invalid { .. } => Failure::Usage(error.to_string()),
                error => Failure::Unavailable(anyhow::Error::from(error).context(what)),
            }
        })?;
        count += sent as u64;
    }
}

fn batch_size(rate: Option<u32>) -> usize {
    let in_slice = |rate: u32| (f64::from(rate) * SLICE.as_secs_f64()).ceil();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and capped")]
    rate.map_or(BATCH, |rate| (in_slice(rate) as usize).clamp(1, BATCH))
}

async fn batch_confirmed(publisher: &Publisher, mut batch: Vec<Outgoing>) -> Result<(), PublishError> {
    for attempt in 1.. {
        let results = publisher.publish_all(batch.clone()).await;
        let failed: Vec<(Outgoing, PublishError)> =
            batch.into_iter().zip(results).filter_map(|(one, result)| Some((one, result.err()?))).collect();
        let Some((_, error)) = failed.first() else { return Ok(()) };
        let hopeless = failed
            .iter()
            .find(|(_, error)| matches!(error, PublishError::Invalid { .. } | PublishError::Missing { .. }));
        if let Some((_, error)) = hopeless {
            return Err(error.clone());
        }
        if attempt == TRIES {
            return Err(error.clone());
        }
        batch = failed.into_iter().map(|(one, _)| one).collect();
    }
    Ok(())
}

fn outgoing(draft: Draft, user: Option<&str>) -> Outgoing {
    Outgoing {
        message_id: Some(draft.key),
        kind: Some(KIND.to_owned()),
        user_id: user.map(str::to_owned),
        ..Outgoing::json(Exchange::Requests, lane_key(draft.lane), Bytes::from(draft.body.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_makes_small_batches_and_none_is_empty() {
        let check = |rate, size| assert_eq!(batch_size(rate), size, "{rate:?}");
        check(None, BATCH);
        check(Some(1), 1);
        check(Some(100), 5);
        check(Some(1_000_000), BATCH);
    }
}
