//! What all parts of an embedded queue share: the file, news of what was published, and whether the file can be written.
//!
//! A fault of the file (a full disk, most of all) is logged when it begins and when it is over. While it lasts, one task tries
//! now and then whether there is room again, by writing as much as what failed; those that wait go on when it is over. It
//! decides nothing about a message.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use herald_sqlite::{Database, Fault, FileLock};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::table;
use crate::backoff::Backoff;
use crate::counters::{Counting, Health, add};
use crate::source::Source;

/// How often it is tried whether the file can be written again.
const TRY_EVERY: Duration = Duration::from_millis(250);

/// The least that must fit for the file to be called writable: a request of the greatest size, so that it is not called so for
/// a moment because something tiny fits.
const ROOM: usize = 64 * 1024;

pub(crate) struct Shared {
    pub(super) database: Database,
    pub(crate) counting: Arc<Counting>,
    pub(crate) closing: CancellationToken,
    /// The owner of the lock.
    pub(super) tasks: TaskTracker,
    /// All that writes by itself: the owner waits for it before it lets go of the lock.
    pub(super) working: TaskTracker,
    /// Whether this process is the one that consumes.
    pub(super) owned: watch::Sender<bool>,
    /// For each source: something was published.
    news: [watch::Sender<()>; Source::ALL.len()],
    /// Why nothing can be written now.
    trouble: watch::Sender<Option<Trouble>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct Trouble {
    why: String,
    /// How much has to fit for it to be over.
    bytes: usize,
}

/// What [`Shared::health`] tells besides.
struct State {
    /// Here rather than with the owner's task, so that a runtime that ends early doesn't free the lock while the file's thread
    /// still writes.
    lock: Option<FileLock>,
    wanted: bool,
    /// Consumers whose last claim failed.
    failing: usize,
    publishing_since: Instant,
    consuming: bool,
    consuming_since: Instant,
    last_loss: Option<String>,
}

impl State {
    /// To be called after each change.
    fn settle_consuming(&mut self) {
        let now = self.lock.is_some() && self.failing == 0;
        if std::mem::replace(&mut self.consuming, now) != now {
            self.consuming_since = Instant::now();
        }
    }
}

impl Shared {
    pub(super) fn new(database: Database, closing: CancellationToken) -> Self {
        let now = Instant::now();
        Self {
            database,
            counting: Arc::default(),
            closing,
            tasks: TaskTracker::new(),
            working: TaskTracker::new(),
            owned: watch::Sender::new(false),
            news: Source::ALL.map(|_| watch::Sender::new(())),
            trouble: watch::Sender::new(None),
            state: Mutex::new(State {
                lock: None,
                wanted: false,
                failing: 0,
                publishing_since: now,
                consuming: false,
                consuming_since: now,
                last_loss: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fault with its file, for a person.
    pub(super) fn say(&self, fault: &Fault) -> String {
        format!("{}: {fault}", self.database.path().display())
    }

    /// Whether somebody consumes for the first time: then there is no owner yet.
    pub(super) fn want(&self) -> bool {
        !std::mem::replace(&mut self.state().wanted, true)
    }

    /// This process is the one that consumes now, or no longer.
    pub(super) fn own(&self, lock: Option<FileLock>) {
        let owned = lock.is_some();
        let mut state = self.state();
        state.lock = lock;
        state.settle_consuming();
        drop(state);
        self.owned.send_replace(owned);
    }

    /// Why this process can't consume.
    pub(super) fn not_owned(&self, why: &str) {
        self.state().last_loss = Some(why.to_owned());
    }

    /// A consumer's claim failed, or works again.
    pub(super) fn failing(&self, now: bool) {
        let mut state = self.state();
        state.failing = if now { state.failing + 1 } else { state.failing - 1 };
        state.settle_consuming();
    }

    /// Something came into this queue.
    pub(super) fn news_of(&self, queue: &str) {
        let index = Source::ALL.iter().position(|source| source.queue() == queue);
        if let Some(news) = index.and_then(|index| self.news.get(index)) {
            news.send_replace(());
        }
    }

    /// Tells when something comes into the queue of this source.
    pub(super) fn listen(&self, source: Source) -> watch::Receiver<()> {
        let index = Source::ALL.iter().position(|known| *known == source).expect("ALL holds every source");
        self.news[index].subscribe()
    }

    /// The file could not be written, by something of this many bytes. Needs a tokio runtime.
    pub(super) fn failed(self: &Arc<Self>, fault: &Fault, bytes: usize) {
        // That is our own doing.
        if *fault == Fault::Closed {
            return;
        }
        let (why, bytes) = (self.say(fault), bytes.max(ROOM));
        let mut begins = false;
        self.trouble.send_modify(|trouble| match trouble {
            Some(trouble) => trouble.bytes = trouble.bytes.max(bytes),
            None => {
                begins = true;
                *trouble = Some(Trouble { why: why.clone(), bytes });
            }
        });
        let mut state = self.state();
        state.last_loss = Some(why.clone());
        if begins {
            state.publishing_since = Instant::now();
            drop(state);
            add(&self.counting.losses, 1);
            tracing::warn!(why, "the queue's file can't be used; trying again until it can");
            self.working.spawn(mend(Arc::clone(self)));
        }
    }

    /// Waits until the file can be written again, and a little longer each time; `false` once the queue closes.
    pub(super) async fn mended(&self, backoff: &mut Backoff) -> bool {
        let mut trouble = self.trouble.subscribe();
        tokio::select! {
            () = self.closing.cancelled() => false,
            // An error would be the end of self.
            () = async { trouble.wait_for(Option::is_none).await.ok(); sleep(backoff.next()).await } => true,
        }
    }

    pub(super) fn health(&self) -> Health {
        let blocked = self.trouble.borrow().as_ref().map(|trouble| trouble.why.clone());
        let state = self.state();
        Health {
            publishing: blocked.is_none(),
            publishing_for: state.publishing_since.elapsed(),
            consuming: state.consuming,
            consuming_for: state.consuming_since.elapsed(),
            blocked,
            last_loss: state.last_loss.clone(),
        }
    }
}

/// Tries whether the file can be written until it can.
async fn mend(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => return,
            () = sleep(TRY_EVERY) => {}
        }
        let Some(bytes) = shared.trouble.borrow().as_ref().map(|trouble| trouble.bytes) else {
            return;
        };
        if shared.database.write(move |connection| table::try_room(connection, bytes)).await.is_ok() {
            tracing::info!(file = %shared.database.path().display(), "the queue's file can be used again");
            shared.state().publishing_since = Instant::now();
            shared.trouble.send_replace(None);
            return;
        }
    }
}
