//! The access token's life: fetched when first needed, shared by all pushes, replaced before it ends, by one request.
//!
//! Stands beside the connections: each push carries the token that is valid when it is written. From five minutes before
//! its end a token is refreshed in the background, and the old one is served meanwhile; if a refresh fails, the old one
//! goes on being served as long as it is valid. A clock that is set costs one refresh: forwards, the token looks older than
//! it is; backwards, its end is not known any more. Never has two requests to the token endpoint under way.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use herald_core::time::Timestamp;
use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::config::{Clock, ServiceAccount};
use crate::grant::{GrantError, grant};

/// A token is refreshed when so much of its life is left, or half of it if it lives shorter than twice this.
const REFRESH_BEFORE: Duration = Duration::from_secs(5 * 60);
/// A token is not used in its last seconds: the push has to arrive as well.
const UNUSED: Duration = Duration::from_secs(10);
/// A clock that goes back by less changes nothing.
const WENT_BACK: Duration = Duration::from_secs(60);
/// After a failed fetch the next one begins no sooner, so that a thousand waiting pushes do not become a thousand fetches.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause doubles with each failure in a row, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An access token. `Debug` hides it.
pub(crate) struct AccessToken {
    /// `Bearer …`, marked sensitive.
    pub(crate) bearer: HeaderValue,
    pub(crate) expires: Timestamp,
    pub(crate) lives: Duration,
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl AccessToken {
    fn is_usable(&self, now: Timestamp) -> bool {
        self.expires.since(now) > UNUSED.min(self.lives / 2)
    }

    fn wants_refresh(&self, now: Timestamp) -> bool {
        let left = self.expires.since(now);
        // With more time left than its whole life, the clock went back since it was granted: nobody knows its end.
        left <= REFRESH_BEFORE.min(self.lives / 2) || left > self.lives + WENT_BACK
    }
}

/// See the module.
pub(crate) struct Tokens {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop: DropGuard,
}

const UNUSABLE: &str = "the token endpoint granted a token that has expired already, or is about to; is a clock wrong?";

struct Shared {
    http: reqwest::Client,
    account: ServiceAccount,
    now: Clock,
    state: Mutex<State>,
    /// Told whenever a fetch ends.
    fetched: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Arc<AccessToken>>,
    fetching: bool,
    /// How the last fetch failed, and when the next may begin.
    failed: Option<(GrantError, Instant)>,
    failures: u32,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("account", &self.shared.account).finish_non_exhaustive()
    }
}

impl Tokens {
    pub(crate) fn new(http: reqwest::Client, account: ServiceAccount, now: Clock) -> Self {
        let shared = Shared { http, account, now, state: Mutex::default(), fetched: watch::Sender::new(()) };
        let stop = CancellationToken::new();
        Self { shared: Arc::new(shared), tasks: TaskTracker::new(), _stop: stop.clone().drop_guard(), stop }
    }

    /// The token to send now; waits for a fetch if there is none that can be used. The caller limits the wait; the fetch goes
    /// on for the others.
    pub(crate) async fn current(&self) -> Result<Arc<AccessToken>, GrantError> {
        let mut fetched = self.shared.fetched.subscribe();
        loop {
            if let Some(result) = self.look() {
                return result;
            }
            if fetched.changed().await.is_err() {
                return Err(GrantError::Unavailable("the client is closed".to_owned()));
            }
        }
    }

    /// The token was refused: the next push fetches another, unless somebody has already.
    pub(crate) fn refused(&self, used: &Arc<AccessToken>) {
        let mut state = self.shared.lock();
        if state.token.as_ref().is_some_and(|token| Arc::ptr_eq(token, used)) {
            state.token = None;
        }
    }

    /// None: wait for the fetch that is under way.
    fn look(&self) -> Option<Result<Arc<AccessToken>, GrantError>> {
        let now = (self.shared.now)();
        let mut state = self.shared.lock();
        let usable = state.token.clone().filter(|token| token.is_usable(now));
        let paused = state.failed.clone().filter(|(_, until)| Instant::now() < *until);
        let wanted = usable.as_ref().is_none_or(|token| token.wants_refresh(now));
        if wanted && !state.fetching && paused.is_none() {
            self.fetch(&mut state);
        }
        match (usable, paused) {
            (Some(token), _) => Some(Ok(token)),
            (None, Some((error, _))) if !state.fetching => Some(Err(error)),
            (None, _) => None,
        }
    }

    /// In a task of its own, so that a push that gives up does not take the others' token with it.
    fn fetch(&self, state: &mut State) {
        if self.stop.is_cancelled() {
            state.failed =
                Some((GrantError::Unavailable("the client is closed".to_owned()), Instant::now() + LONGEST_PAUSE));
            self.shared.fetched.send_replace(());
            return;
        }
        state.fetching = true;
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        self.tasks.spawn(async move {
            let result = tokio::select! {
                result = grant(&shared.http, &shared.account, &shared.now) => result,
                () = stop.cancelled() => Err(GrantError::Unavailable("the client is closed".to_owned())),
            };
            shared.fetched(result);
        });
    }

    /// Ends a fetch that is under way and waits for it.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Shared {
    fn fetched(&self, result: Result<AccessToken, GrantError>) {
        let mut state = self.lock();
        state.fetching = false;
        // One that can't be used even now would be fetched again at once, and again: it counts as a failure.
        let result = result.and_then(|token| {
            if token.is_usable((self.now)()) { Ok(token) } else { Err(GrantError::Unavailable(UNUSABLE.to_owned())) }
        });
        match result {
            Ok(token) => {
                tracing::debug!(expires = %token.expires, "fetched an FCM access token");
                state.token = Some(Arc::new(token));
                state.failed = None;
                state.failures = 0;
            }
            Err(error) => {
                let pause =
                    PAUSE.saturating_mul(1u32.checked_shl(state.failures).unwrap_or(u32::MAX)).min(LONGEST_PAUSE);
                state.failures = state.failures.saturating_add(1);
                tracing::warn!(account = %self.account.email, %error, pause_ms = pause.as_millis(), "no FCM access token");
                state.failed = Some((error, Instant::now() + pause));
            }
        }
        drop(state);
        self.fetched.send_replace(());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
