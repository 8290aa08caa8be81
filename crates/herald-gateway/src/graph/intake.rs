//! Posts become stored notifications: the worker's intake, with nothing pushed from here.
//!
//! All deliveries are due at once. If the process dies before the commit, the client got no answer and posts again; after
//! it, the rows are due and any worker's clock finds them.

use std::sync::Arc;
use std::time::Duration;

use herald_core::lane::Lane;
use herald_metrics::{BatchStep, Metrics, RequestResult};
use herald_store::{Intaken, NewNotification, Store, StoreError};

use crate::api::Resolve;
use crate::commit::Work;

use super::hints::Hints;

/// Posts, as they are committed.
pub(crate) struct Posts {
    pub(super) store: Store,
    pub(super) metrics: Metrics,
    pub(super) resolve: Resolve,
    pub(super) hints: Hints,
}

impl Work for Posts {
    type Item = NewNotification;
    type Done = Intaken;
    /// As the worker's: enough to share a commit, few enough that it lasts milliseconds.
    const ENOUGH: usize = 250;
    const NAME: &'static str = "notifications";

    async fn apply(&self, posts: Vec<NewNotification>) -> Result<Vec<Intaken>, StoreError> {
        let resolve = Arc::clone(&self.resolve);
        let lanes: Vec<Lane> = posts.iter().map(|post| post.request.lane).collect();
        // No budget, so nothing is taken, and no lease begins.
        let intake =
            self.store.intake(posts, 0, Duration::ZERO, move |new, user, active, now| resolve(new, user, active, now));
        let intaken = intake.await?;
        self.metrics.batch(BatchStep::Intake, lanes.len());
        for (lane, intaken) in lanes.into_iter().zip(&intaken) {
            match intaken {
                Intaken::Stored { due, .. } => {
                    self.metrics.request(lane, RequestResult::Stored);
                    self.hints.give(lane.into(), due);
                }
                Intaken::Duplicate => self.metrics.request(lane, RequestResult::Duplicate),
                // Refused: nothing of it was taken in.
                Intaken::UnknownTarget => {}
            }
        }
        Ok(intaken)
    }
}
