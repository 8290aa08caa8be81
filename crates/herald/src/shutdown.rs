//! Signals: the first SIGTERM or SIGINT asks for a drain, the second ends it.
//!
//! Stands around every command that runs until it is told to stop. It never ends the process itself: it drops the work
//! and returns, so that `main` alone exits. Dropped work is safe: what was in flight is due again when its lease ends.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs `work` until it is done. The first signal cancels the token that `work` was given; a second one drops `work`.
///
/// # Errors
/// Those of `work`; that signals can't be listened for; that the drain was cut off by a second signal.
pub(crate) async fn until_signal<W, F, T>(work: W) -> anyhow::Result<T>
where
    W: FnOnce(CancellationToken) -> F,
    F: Future<Output = anyhow::Result<T>>,
{
    let mut signals = Signals::listen()?;
    let stop = CancellationToken::new();
    let mut work = std::pin::pin!(work(stop.clone()));
    // Dropping the other future is safe in both arms: waiting for a signal holds nothing, and a worker's work is dropped
    // only in the second select, where that is what was asked for.
    tokio::select! {
        done = &mut work => return done,
        name = signals.next() => {
            tracing::info!(signal = name, "stopping: finishing what was begun; a second signal ends the process at once");
            stop.cancel();
        }
    }
    tokio::select! {
        done = &mut work => done,
        name = signals.next() => {
            tracing::warn!(signal = name, "second signal: ending at once; what was in flight is due again after its lease");
            anyhow::bail!("stopped by a second {name} before the drain was done")
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next signal.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks this process to end, as a supervisor does.
    async fn sigterm() {
        let own = std::process::id().to_string();
        assert!(tokio::process::Command::new("kill").args(["-TERM", &own]).status().await.unwrap().success());
    }

    // One test: a signal goes to the whole process.
    #[tokio::test]
    async fn the_first_signal_asks_and_the_second_ends() {
        let done = until_signal(|stop| async move {
            sigterm().await;
            stop.cancelled().await;
            Ok("drained")
        });
        assert_eq!(done.await.unwrap(), "drained");
        let cut_off = until_signal(|stop| async move {
            sigterm().await;
            stop.cancelled().await;
            sigterm().await;
            std::future::pending::<anyhow::Result<()>>().await
        });
        assert!(cut_off.await.unwrap_err().to_string().contains("second SIGTERM"));
    }
}
