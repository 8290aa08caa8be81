//! Wakes phones at the times that they want to be woken at: one task for all of them.
//!
//! Beside a notification's way. Times are of the simulator's clock, so that a test moves them with `clockOffsetSecs`.
//! Decides nothing: what a phone does when woken is the phone's matter.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::phones::Handset;
use crate::world::World;

/// The longest sleep while a phone waits: the system's clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// How many phones are woken before other tasks get their turn.
const AT_ONCE: usize = 256;

type Times = BTreeMap<(u64, u64), Weak<Handset>>;

/// When which phone wants to be woken: one entry a phone at most, by time and serial number.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    times: Mutex<Times>,
    changed: Notify,
}

impl Wakes {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().expect("nothing panics while the times are held")
    }

    /// The phone wants to be woken at `at_ms`, and no longer at `former_ms`. Under the phone's lock.
    pub(crate) fn book(&self, handset: &Arc<Handset>, former_ms: Option<u64>, at_ms: Option<u64>) {
        let mut times = self.times();
        if let Some(former_ms) = former_ms {
            times.remove(&(former_ms, handset.serial));
        }
        if let Some(at_ms) = at_ms {
            let earliest = times.first_key_value().is_none_or(|((first_ms, _), _)| at_ms < *first_ms);
            times.insert((at_ms, handset.serial), Arc::downgrade(handset));
            if earliest {
                self.changed.notify_one();
            }
        }
    }

    /// The clock was set.
    pub(crate) fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Takes some of those out whose time has come, earliest first; then the time of the next one.
    fn due(&self, now_ms: u64) -> (Vec<(u64, Arc<Handset>)>, Option<u64>) {
        let (mut times, mut due) = (self.times(), Vec::new());
        while due.len() < AT_ONCE
            && let Some(first) = times.first_entry().filter(|first| first.key().0 <= now_ms)
        {
            let ((at_ms, _), handset) = first.remove_entry();
            // One that was removed or replaced wants nothing any more.
            due.extend(handset.upgrade().map(|handset| (at_ms, handset)));
        }
        (due, times.first_key_value().map(|((at_ms, _), _)| *at_ms))
    }
}

/// Wakes phones until the simulator ends.
pub(crate) async fn keep(world: Arc<World>) {
    let wakes = &world.phones.wakes;
    loop {
        let now_ms = world.clock.millis();
        let (due, next_ms) = wakes.due(now_ms);
        for (at_ms, handset) in due {
            world.wake(&handset, at_ms, now_ms);
        }
        let sleep = async {
            match next_ms {
                Some(next_ms) => {
                    let left = Duration::from_millis(next_ms.saturating_sub(now_ms));
                    tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = world.stop.cancelled() => return,
            // Nothing is lost by dropping the others: a notice that comes while nobody waits is kept.
            () = wakes.changed.notified() => {}
            () = sleep => {}
        }
    }
}
