//! The measured window: from the moment the warm-up is over to the last accepted push, by the simulator's own counters.

use std::time::Duration;

use anyhow::bail;
use herald_core::subscription::Provider;
use tokio::time::{Instant, sleep};

use super::children::Child;
use super::cpu::{self, Cpu};
use super::simulator::Simulator;

/// How often the counters are read. Moment and count are read together, so this bounds the error at the end only.
const INTERVAL: Duration = Duration::from_millis(10);
/// How long nothing may be accepted before the run counts as stuck.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// What is waited for, beyond what had been accepted before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goal {
    pub(super) providers: &'static [Provider],
    /// Accepted before the run.
    pub(super) before: u64,
    /// The window opens after this many.
    pub(super) warm_up: u64,
    /// The window closes at this many.
    pub(super) total: u64,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// Accepted within the window.
    pub(super) count: u64,
    pub(super) took: Duration,
    /// Used within the window, where the system tells it.
    pub(super) cpu: Option<Cpu>,
}

impl Measured {
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(super) fn per_second(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Milliseconds per thousand accepted, which is microseconds per one, of a number of seconds.
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(super) fn millis_per_thousand(&self, seconds: f64) -> f64 {
        seconds * 1e6 / (self.count as f64).max(1.0)
    }
}

struct Point {
    at: Instant,
    accepted: u64,
    cpu: Option<Cpu>,
}

/// Watches until the goal is reached. `senders` are the processes whose processor time counts as the senders'; `children`
/// must not end meanwhile.
///
/// # Errors
/// When a child ends, the simulator does not answer, or nothing was accepted for a minute.
pub(super) async fn watch(
    simulator: &mut Simulator,
    goal: Goal,
    senders: &[u32],
    children: &mut [Child],
) -> anyhow::Result<Measured> {
    let mut opened: Option<Point> = None;
    let mut progress = (Instant::now(), 0);
    loop {
        let accepted = simulator.counts().await?.accepted(goal.providers).saturating_sub(goal.before);
        let at = Instant::now();
        let point = || Point { at, accepted, cpu: cpu::now(senders, simulator.child.pid) };
        if accepted >= goal.total {
            let opened = opened.unwrap_or_else(point);
            return Ok(between(&opened, &point()));
        }
        if opened.is_none() && accepted >= goal.warm_up {
            opened = Some(point());
        }
        if accepted > progress.1 {
            progress = (at, accepted);
        }
        simulator.child.check()?;
        children.iter_mut().try_for_each(Child::check)?;
        if at - progress.0 > STALL_LIMIT {
            let words: Vec<String> = children.iter().map(Child::last_words).collect();
            let total = goal.total;
            bail!(
                "{accepted} of {total} accepted, and no more for {STALL_LIMIT:?}; the workers wrote:\n{}",
                words.join("\n")
            );
        }
        sleep(INTERVAL).await;
    }
}

fn between(opened: &Point, closed: &Point) -> Measured {
    Measured {
        count: closed.accepted - opened.accepted,
        took: closed.at - opened.at,
        cpu: closed.cpu.zip(opened.cpu).map(|(closed, opened)| closed - opened),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_what_was_accepted_between_the_two_moments() {
        let at = Instant::now();
        let cpu = |senders| Some(Cpu { senders, simulator: 1.0, machine: 8.0 });
        let opened = Point { at, accepted: 2_100, cpu: cpu(1.0) };
        let closed = Point { at: at + Duration::from_secs(4), accepted: 22_100, cpu: cpu(3.0) };
        let measured = between(&opened, &closed);
        assert_eq!(measured.per_second(), 5_000.0);
        assert_eq!(measured.millis_per_thousand(measured.cpu.unwrap().senders), 100.0);
    }
}
