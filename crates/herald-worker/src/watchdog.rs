//! The watchdog: work that computes without end must not hold a thread of this process for ever.
//!
//! Stands beside the way, on a thread of its own. Every step's tasks and every push run in [`watched`], which notes on which
//! thread a poll has begun. Polls take milliseconds: whatever waits gives its thread back. One that has not ended after many
//! looks hangs, and nothing can end it but the end of the process; so the process is aborted. What it held comes back as
//! after any crash, the count of its deliveries or takes goes up, and soon it is done by a child process (G6), which has a
//! watchdog too.
//!
//! Counts looks, not time: a process that was stopped, or a machine that slept, has not looked meanwhile.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{error, warn};

/// A poll that is seen this often hangs.
const LOOKS: u32 = 20;
/// However short attempts are: a busy machine may well stop a thread for a second.
const LEAST: Duration = Duration::from_secs(5);

/// What a thread is polling now.
#[derive(Debug, Clone, Copy, Default)]
struct Poll {
    step: Option<&'static str>,
    /// Tells one poll from the next.
    serial: u64,
}

/// One for each thread that has ever polled watched work, as long as it lives. Of the process, as the threads are.
static THREADS: Mutex<Vec<Weak<Mutex<Poll>>>> = Mutex::new(Vec::new());

thread_local! {
    static POLL: Arc<Mutex<Poll>> = {
        let poll = Arc::default();
        let mut threads = lock(&THREADS);
        threads.retain(|thread| thread.strong_count() > 0);
        threads.push(Arc::downgrade(&poll));
        poll
    };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in it is whole after every assignment, whoever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a future whose every poll the watchdog sees. `step` is what its log says.
pub(crate) async fn watched<F: Future>(step: &'static str, future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        let _polling = Polling::begin(step);
        future.as_mut().poll(context)
    })
    .await
}

/// A poll that is under way.
struct Polling {
    /// Of a watched future inside a watched future.
    outer: Option<&'static str>,
}

impl Polling {
    fn begin(step: &'static str) -> Self {
        POLL.with(|poll| {
            let mut poll = lock(poll);
            let outer = poll.step.replace(step);
            poll.serial += 1;
            Self { outer }
        })
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        POLL.with(|poll| {
            let mut poll = lock(poll);
            poll.step = self.outer;
            poll.serial += 1;
        });
    }
}

/// The thread that looks; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Watchdog {
    /// Looks until it is dropped. A poll may take as long as an attempt, and five seconds at least.
    pub(crate) fn start(attempt_timeout: Duration) -> Self {
        let (end, ended) = channel::<()>();
        let pace = attempt_timeout.max(LEAST) / LOOKS;
        let look = move || {
            let mut seen = Seen::default();
            while ended.recv_timeout(pace) == Err(RecvTimeoutError::Timeout) {
                if let Some(step) = seen.look().first() {
                    error!(step, "a step hangs; the process ends, and what it held comes back");
                    // Who reads the log may have stopped, and every poll with a line to write waited for that, as this line
                    // did: they have until the next look to go on.
                    if ended.recv_timeout(pace) == Err(RecvTimeoutError::Timeout) && seen.look().contains(step) {
                        std::process::abort();
                    }
                    error!(step, "it goes on after all: the log could not be written for a while");
                }
            }
        };
        match std::thread::Builder::new().name("watchdog".to_owned()).spawn(look) {
            Ok(thread) => Self { running: Some((end, thread)) },
            Err(error) => {
                warn!(%error, "no thread for the watchdog; work that hangs will hold its thread for ever");
                Self { running: None }
            }
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let Some((end, thread)) = self.running.take() else { return };
        drop(end);
        if thread.join().is_err() {
            warn!("the watchdog panicked");
        }
    }
}

/// The polls of the last look, and how often each was seen.
#[derive(Debug, Default)]
struct Seen(HashMap<usize, (u64, u32)>);

impl Seen {
    /// Looks once; the steps that hang.
    fn look(&mut self) -> Vec<&'static str> {
        let mut now = HashMap::new();
        let mut hanging = Vec::new();
        for thread in lock(&THREADS).iter().filter_map(Weak::upgrade) {
            let Poll { step: Some(step), serial } = *lock(&thread) else { continue };
            let place = Arc::as_ptr(&thread).addr();
            let looks = self.0.get(&place).filter(|(known, _)| *known == serial).map_or(1, |(_, looks)| looks + 1);
            now.insert(place, (serial, looks));
            if looks > LOOKS {
                hanging.push(step);
            }
        }
        self.0 = now;
        hanging
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_that_is_seen_again_and_again_hangs_and_a_new_one_does_not() {
        let mut seen = Seen::default();
        let hangs = |seen: &mut Seen| seen.look().contains(&"a test's step");
        let first = Polling::begin("a test's step");
        let looks: Vec<bool> = (0..=LOOKS).map(|_| hangs(&mut seen)).collect();
        assert_eq!(looks.iter().filter(|hangs| **hangs).count(), 1, "only at the last look: {looks:?}");
        drop(first);
        assert!(!hangs(&mut seen));
        for _ in 0..3 * LOOKS {
            let _short = Polling::begin("a test's step");
            assert!(!hangs(&mut seen));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_waits_is_not_seen() {
        let mut seen = Seen::default();
        let work = watched("waiting", tokio::time::sleep(Duration::from_secs(3_600)));
        tokio::pin!(work);
        for _ in 0..3 * LOOKS {
            assert!(futures_util::poll!(&mut work).is_pending());
            assert!(!seen.look().contains(&"waiting"));
        }
    }
}
