//! Prune: a subscription ends only if it still has the token that the provider called dead.
//!
//! Part of record. The same for every database; reads and writes nothing.

use std::collections::{HashMap, HashSet};

use herald_core::ids::{AppId, Unsid, UserId};
use herald_core::time::Timestamp;

use crate::{Closed, Record, Recorded};

/// A subscription as it is now, and stays until the records are written.
pub(crate) struct Known {
    pub(crate) app: AppId,
    pub(crate) user: UserId,
    pub(crate) token: String,
    pub(crate) confirmed_at: Timestamp,
    /// Not ended.
    pub(crate) open: bool,
    /// Neither ended nor expired.
    pub(crate) active: bool,
    pub(crate) now: Timestamp,
}

/// What pruning does to a batch of records.
#[derive(Default)]
pub(crate) struct Pruned {
    /// Subscriptions that end.
    pub(crate) ended: Vec<(Unsid, AppId, UserId)>,
    /// Indexes of the records that end them.
    pub(crate) by: HashSet<usize>,
    /// Indexes of the records whose subscription is active with another token (or the same, presented again since), and
    /// the store's time: their deliveries are due at once.
    pub(crate) renewed: HashMap<usize, Timestamp>,
}

impl Pruned {
    /// Those end whose token and confirmation are still those that were sent to. `known`: the subscriptions of all records
    /// with a token to prune.
    pub(crate) fn by(batch: &[Record], known: &HashMap<Unsid, Known>) -> Self {
        let mut pruned = Self::default();
        let mut ended = HashSet::new();
        for (index, record) in batch.iter().enumerate() {
            let (Some(sent), Some(now)) = (&record.prune_token, known.get(&record.unsid)) else { continue };
            if now.open && now.token == sent.token.expose() && now.confirmed_at == sent.confirmed_at {
                if ended.insert(record.unsid) {
                    pruned.by.insert(index);
                    pruned.ended.push((record.unsid, now.app.clone(), now.user.clone()));
                }
            } else if now.active {
                pruned.renewed.insert(index, now.now);
            }
        }
        pruned
    }

    /// What was withdrawn goes with the record that ended its subscription.
    pub(crate) fn hand_out(&self, batch: &[Record], withdrawn: Vec<Closed>, results: &mut [Recorded]) {
        let by: HashMap<Unsid, usize> = self.by.iter().map(|index| (batch[*index].unsid, *index)).collect();
        for closed in withdrawn {
            if let Some(index) = by.get(&closed.unsid) {
                results[*index].withdrawn.push(closed);
            }
        }
    }
}
