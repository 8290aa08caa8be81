//! Pauses of an app's provider, and the mass-failure guard's counts: shared by all replicas, kept over a restart.
//!
//! Beside the way: our own fault (credentials, configuration) keeps the work and never costs a token (G5).

use std::time::Duration;

use herald_core::ids::AppId;
use herald_core::subscription::Provider;
use herald_core::time::Timestamp;

use crate::{Inner, Result, Store};

/// An app's provider that nothing is pushed to for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Which app.
    pub app: AppId,
    /// Which provider.
    pub provider: Provider,
    /// Since when.
    pub since: Timestamp,
    /// Until when, unless it is renewed or resumed.
    pub until: Timestamp,
    /// Why: a bounded word.
    pub reason: String,
    /// Why: more of it, for the operator.
    pub detail: String,
    /// An operator said so; nothing automatic shortens it.
    pub by_operator: bool,
}

impl Store {
    /// Pauses an app's provider. A pause that is running is replaced by one that lasts longer, an operator's only by an
    /// operator.
    ///
    /// # Errors
    /// As any call; repeating is safe.
    pub async fn pause(
        &self,
        app: &AppId,
        provider: Provider,
        until: Timestamp,
        reason: &str,
        detail: &str,
        by_operator: bool,
    ) -> Result<()> {
        self.within("pause", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.pause(app, provider, until, reason, detail, by_operator).await,
                Inner::Sqlite(lite) => lite.pause(app, provider, until, reason, detail, by_operator).await,
            }
        })
        .await
    }

    /// The pauses that run now.
    ///
    /// # Errors
    /// As any call.
    pub async fn pauses(&self) -> Result<Vec<Pause>> {
        self.within("pauses", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.pauses().await,
                Inner::Sqlite(lite) => lite.pauses().await,
            }
        })
        .await
    }

    /// The pauses that were ended before their time, until it comes: for a worker that starts, because one that was stopped
    /// meanwhile may have held work until then.
    ///
    /// # Errors
    /// As any call.
    pub async fn pauses_cut_short(&self) -> Result<Vec<(AppId, Provider)>> {
        self.within("pauses_cut_short", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.pauses_cut_short().await,
                Inner::Sqlite(lite) => lite.pauses_cut_short().await,
            }
        })
        .await
    }

    /// Ends a pause and makes what it had moved due again, spread over `spread`. Returns whether there was one; what a
    /// pause that has ended left behind is made due all the same.
    ///
    /// # Errors
    /// As any call; repeating is safe, and what was not brought back comes up at the pause's end.
    pub async fn resume(&self, app: &AppId, provider: Provider, spread: Duration) -> Result<bool> {
        self.within("resume", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.resume(app, provider, spread).await,
                Inner::Sqlite(lite) => lite.resume(app, provider, spread).await,
            }
        })
        .await
    }

    /// Makes due, spread over `spread`, what a pause that has ended before its time left behind. Ends no pause: while one
    /// runs, it does nothing.
    ///
    /// # Errors
    /// As any call; repeating is safe.
    pub async fn bring_back(&self, app: &AppId, provider: Provider, spread: Duration) -> Result<()> {
        self.within("bring_back", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.bring_back(app, provider, spread).await,
                Inner::Sqlite(lite) => lite.bring_back(app, provider, spread).await,
            }
        })
        .await
    }

    /// Moves up to `limit` deliveries that are due now, but whose provider is paused, to the pause's end plus a random
    /// part of `jitter`. Nothing is taken, no version changes. Returns how many; call again while it is `limit`.
    ///
    /// # Errors
    /// As any call; repeating is safe.
    pub async fn move_paused(&self, app: &AppId, provider: Provider, jitter: Duration, limit: i64) -> Result<u64> {
        self.within("move_paused", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.move_paused(app, provider, jitter, limit).await,
                Inner::Sqlite(lite) => lite.move_paused(app, provider, jitter, limit).await,
            }
        })
        .await
    }

    /// Adds to the mass-failure guard's count of this minute; returns (accepted, suspect) of the last five minutes, over
    /// all replicas.
    ///
    /// # Errors
    /// As any call; a repeated call may count twice.
    pub async fn guard_count(
        &self,
        app: &AppId,
        provider: Provider,
        accepted: u64,
        suspect: u64,
    ) -> Result<(u64, u64)> {
        self.within("guard_count", async {
            match &self.inner {
                Inner::Postgres(pg) => pg.guard_count(app, provider, accepted, suspect).await,
                Inner::Sqlite(lite) => lite.guard_count(app, provider, accepted, suspect).await,
            }
        })
        .await
    }
}
