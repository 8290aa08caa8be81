//! What the mass-failure guard is told: accepted and guarded answers, by app and provider.
//!
//! Stands in record. Counts are kept here and given to the store when a guarded answer asks for the sums, and once a minute
//! besides, so that a healthy provider costs one statement a minute and old success never outweighs a new fault.

use std::collections::HashMap;
use std::time::Duration;

use herald_core::ids::AppId;
use herald_core::outcome::Outcome;
use herald_core::prune::MassFailureGuard;
use herald_core::subscription::Provider;
use herald_core::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::batch::until_answered;
use crate::way::Way;

/// The store's buckets are minutes.
const FLUSH: Duration = Duration::from_secs(60);

/// A provider of an app.
pub(crate) type Gate = (AppId, Provider);

/// Answers that the store has not been told yet.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    seen: HashMap<Gate, Seen>,
    flushed_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Seen {
    accepted: u64,
    suspect: u64,
    /// Has there been a guarded answer since the sums were last asked for, whether it counts or not?
    is_asked: bool,
    /// Guarded answers since the last accepted push.
    run: u64,
    /// The longest run since the sums were last asked for.
    longest: u64,
}

impl Guard {
    /// Notes an answer. A dead token that `is_counted` already is not counted again, however often it is asked about.
    pub(crate) fn note(&mut self, gate: Gate, outcome: Outcome, is_counted: bool) {
        let seen = self.seen.entry(gate).or_default();
        match outcome {
            Outcome::Accepted => {
                seen.accepted += 1;
                seen.run = 0;
            }
            Outcome::Gone { guarded: true, .. } if is_counted => seen.is_asked = true,
            Outcome::Gone { guarded: true, .. } => {
                seen.is_asked = true;
                seen.suspect += 1;
                seen.run += 1;
                seen.longest = seen.longest.max(seen.run);
            }
            Outcome::Gone { guarded: false, .. }
            | Outcome::Invalid
            | Outcome::Misconfigured
            | Outcome::Unauthorized
            | Outcome::Throttled { .. }
            | Outcome::Unavailable { .. }
            | Outcome::NotSent
            | Outcome::Unknown => {}
        }
    }

    /// The sums over all replicas, for the providers that gave a guarded answer since they were last asked for. What is
    /// missing is not known: nothing is proven then, and nothing is pruned.
    pub(crate) async fn sums(
        &mut self,
        way: &Way,
        now: Timestamp,
        stop: &CancellationToken,
    ) -> HashMap<Gate, MassFailureGuard> {
        let flush = now.since(*self.flushed_at.get_or_insert(now)) >= FLUSH;
        if flush {
            self.flushed_at = Some(now);
        }
        let mut sums = HashMap::new();
        for (gate, seen) in &mut self.seen {
            let is_told = seen.is_asked || (flush && seen.accepted > 0);
            if !is_told {
                continue;
            }
            let (accepted, suspect) = (seen.accepted, seen.suspect);
            let sum = until_answered("guard_count", stop, || way.store.guard_count(&gate.0, gate.1, accepted, suspect));
            let Ok((accepted, suspect)) = sum.await else { continue };
            if seen.is_asked {
                sums.insert(gate.clone(), MassFailureGuard { accepted, suspect, run: seen.longest });
            }
            *seen = Seen { run: seen.run, longest: seen.run, ..Seen::default() };
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepted_push_ends_a_run_and_other_answers_do_not_and_a_token_counts_once() {
        let gate = (AppId::new("mail.contoso.com"), Provider::Apns);
        let suspect = Outcome::Gone { since: None, guarded: true };
        let mut guard = Guard::default();
        for outcome in [suspect, suspect, Outcome::Unknown, suspect, Outcome::Accepted, suspect] {
            guard.note(gate.clone(), outcome, false);
        }
        guard.note(gate.clone(), suspect, true);
        let seen = &guard.seen[&gate];
        assert_eq!((seen.accepted, seen.suspect, seen.run, seen.longest), (1, 4, 1, 3));
        assert!(seen.is_asked);
    }
}
