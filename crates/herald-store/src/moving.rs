//! Moving a store on files to PostgreSQL, page by page.
//!
//! Beside the way: no worker works on the file meanwhile. Rows keep their ids, keys, versions, states and times. Nothing is
//! remembered of how far it came, and nothing need be: each page says what to do from what is there, so a move that was cut
//! off, or is done again after either side went on, inserts what is new, updates what is newer in the file and undoes
//! nothing that a worker on the database has done since:
//! - a delivery that is open in the database takes the file's version if that is higher; a receipt is a fact that closes it
//!   at any version; one that is closed stays so;
//! - a subscription takes a later registration or, unless it was registered again, its end; one that ended stays so;
//! - a fan-out goes on where the side that came further stopped;
//! - a notification stands with its user as after the higher revision, and one that was deleted stays so.
//!
//! Nothing is deleted, in the file either; [`Move::mark`] only keeps workers from it.

mod report;
pub(crate) mod rows;

use std::path::Path;

use herald_core::time::Timestamp;
use uuid::Uuid;

pub(crate) use report::ById;
pub use report::{Compared, Counts, Kind, Open, Skip};

use crate::clock::Clock;
use crate::postgres::Postgres;
use crate::postgres::moving::Put;
use crate::sqlite::Sqlite;
use crate::{FILE_LIMIT, Inner, Result, Store, StoreError, within};
use rows::{DeadLetterRow, DeliveryRow, EventRow, NotificationRow, SubscriptionRow};

impl Store {
    /// Opens a file to move it: as its one worker would, but also if it was moved before, and its clock is left as it is.
    ///
    /// # Errors
    /// As [`Store::connect`] on a file; [`StoreError::InUse`] names the process that works on it.
    pub async fn open_to_move(path: &Path) -> Result<Self> {
        let inner = Inner::Sqlite(Sqlite::open_to_move(path).await?);
        let (sent, store, answered) = within("connect", FILE_LIMIT, inner.measure()).await?;
        Ok(Self { inner, clock: Clock::new(sent, store, answered), teller: None, limit: FILE_LIMIT })
    }
}

/// The parts of a move, in their order: what names something comes after it, and pauses before what they hold back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// First, so that their tokens are free for others.
    EndedSubscriptions,
    ActiveSubscriptions,
    Pauses,
    Notifications,
    Deliveries,
    Events,
    DeadLetters,
}

impl Part {
    const fn next(self) -> Option<Self> {
        match self {
            Self::EndedSubscriptions => Some(Self::ActiveSubscriptions),
            Self::ActiveSubscriptions => Some(Self::Pauses),
            Self::Pauses => Some(Self::Notifications),
            Self::Notifications => Some(Self::Deliveries),
            Self::Deliveries => Some(Self::Events),
            Self::Events => Some(Self::DeadLetters),
            Self::DeadLetters => None,
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::EndedSubscriptions | Self::ActiveSubscriptions => Kind::Subscriptions,
            Self::Pauses => Kind::Pauses,
            Self::Notifications => Kind::Notifications,
            Self::Deliveries => Kind::Deliveries,
            Self::Events => Kind::Events,
            Self::DeadLetters => Kind::DeadLetters,
        }
    }
}

/// A move under way. Dropped at any point, another one takes up the rest.
#[derive(Debug)]
pub struct Move {
    from: Store,
    to: Store,
    file: Sqlite,
    database: Postgres,
    /// The database has Herald's tables.
    tables: bool,
    /// All that is older was moved once, and may have been dealt with there since.
    marked: Option<Timestamp>,
    part: Option<Part>,
    after: Uuid,
    /// This pass over the active subscriptions: those that have to wait for another's token, and those that were moved.
    pass: Pass,
    moved: [Put; Kind::ALL.len()],
}

/// A token can go from one subscription to another while the file is worked on after a first move. Whoever has it now may be
/// reached before whoever had it; so it waits for another pass, as long as each one brings something.
#[derive(Debug, Default, Clone, Copy)]
struct Pass {
    waiting: u64,
    moved: u64,
    /// Nothing is waited for any more: who has a token in the database keeps it.
    last: bool,
}

impl Move {
    /// Prepares to move a file to a PostgreSQL whose tables are there ([`Store::migrate`]). Without them it can only
    /// [`Move::compare`].
    ///
    /// # Errors
    /// [`StoreError::Config`] if `from` is no file or `to` no PostgreSQL; else as any call.
    pub async fn new(from: &Store, to: &Store) -> Result<Self> {
        let (Inner::Sqlite(file), Inner::Postgres(database)) = (&from.inner, &to.inner) else {
            return Err(StoreError::Config { problem: "a move goes from a file to a PostgreSQL" });
        };
        let tables = match to.check_schema().await {
            Ok(()) => true,
            Err(StoreError::Schema { .. }) => false,
            Err(error) => return Err(error),
        };
        Ok(Self {
            marked: from.within("move", file.moved_at()).await?,
            file: file.clone(),
            database: database.clone(),
            from: from.clone(),
            to: to.clone(),
            tables,
            part: Some(Part::EndedSubscriptions),
            after: Uuid::nil(),
            pass: Pass::default(),
            moved: [Put::default(); Kind::ALL.len()],
        })
    }

    /// Says in the file that the move has begun: no worker starts on it from then on, because what it did could be done twice,
    /// there and here. To be called before the first step.
    ///
    /// # Errors
    /// As any call.
    pub async fn begin(&self) -> Result<()> {
        self.from.within("move", self.file.mark_begun()).await
    }

    /// When the file was marked as moved before.
    pub fn marked(&self) -> Option<Timestamp> {
        self.marked
    }

    /// Moves the next page, in one transaction; what it was of, or `None` when all is done. After an error the same page is
    /// next.
    ///
    /// # Errors
    /// As any call; nothing of the page is moved then.
    pub async fn step(&mut self) -> Result<Option<Kind>> {
        while let Some(part) = self.part {
            let (last, put) = self.page(part).await?;
            let sum = &mut self.moved[part.kind() as usize];
            sum.new += put.new;
            sum.updated += put.updated;
            sum.replaced += put.replaced;
            self.pass.waiting += put.waiting;
            self.pass.moved += put.new + put.updated;
            if let Some(last) = last {
                self.after = last;
                return Ok(Some(part.kind()));
            }
            self.end(part);
        }
        Ok(None)
    }

    /// What follows a part that has no more pages.
    fn end(&mut self, part: Part) {
        let Pass { waiting, moved, .. } = std::mem::take(&mut self.pass);
        self.after = Uuid::nil();
        if part == Part::ActiveSubscriptions && waiting > 0 {
            self.pass.last = moved == 0;
        } else {
            self.part = part.next();
        }
    }

    /// The next page of a part: the id of its last row, none after the end, and what was done.
    async fn page(&self, part: Part) -> Result<(Option<Uuid>, Put)> {
        let (file, database, after) = (&self.file, &self.database, self.after);
        match part {
            Part::EndedSubscriptions => {
                let rows = self.read(file.page_of_ended(after)).await?;
                let put = self.put(database.put_ended(&rows)).await?;
                Ok((last(&rows, |row: &SubscriptionRow| row.id), put))
            }
            Part::ActiveSubscriptions => {
                let rows = self.read(file.page_of_active(after)).await?;
                let put = self.put(database.put_active(&rows, self.pass.last)).await?;
                Ok((last(&rows, |row: &SubscriptionRow| row.id), put))
            }
            Part::Pauses => {
                // A row for each app and provider at most: one page.
                let rows = self.read(file.running_pauses(self.marked)).await?;
                Ok((None, self.put(database.put_pauses(&rows)).await?))
            }
            Part::Notifications => {
                let rows = self.read(file.page_of_rows(after)).await?;
                let put = self.put(database.put_notifications(&rows)).await?;
                Ok((last(&rows, |row: &NotificationRow| row.id), put))
            }
            Part::Deliveries => {
                let rows = self.read(file.page_of_rows(after)).await?;
                let put = self.put(database.put_deliveries(&rows)).await?;
                Ok((last(&rows, |row: &DeliveryRow| row.id), put))
            }
            Part::Events => {
                let rows = self.read(file.page_of_rows(after)).await?;
                let put = self.put(database.put_events(&self.not_before(&rows, |row: &EventRow| row.next_at))).await?;
                Ok((last(&rows, |row: &EventRow| row.id), put))
            }
            Part::DeadLetters => {
                let rows = self.read(file.page_of_rows(after)).await?;
                let put = self
                    .put(database.put_dead_letters(&self.not_before(&rows, |row: &DeadLetterRow| row.parked_at)))
                    .await?;
                Ok((last(&rows, |row: &DeadLetterRow| row.id), put))
            }
        }
    }

    /// Those that were not there when all was moved once: what was, may be published or removed by now.
    fn not_before<'r, R>(&self, rows: &'r [R], at: impl Fn(&R) -> i64) -> Vec<&'r R> {
        rows.iter().filter(|row| self.marked.is_none_or(|marked| at(row) > marked.micros())).collect()
    }

    async fn read<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.from.within("move", call).await
    }

    async fn put<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.to.within("move", call).await
    }

    /// Counts both sides by the ids in the file. Reads only.
    ///
    /// # Errors
    /// As any call.
    pub async fn compare(&self) -> Result<Compared> {
        let mut compared = Compared::default();
        for kind in Kind::ALL {
            let counts = &mut compared.of[kind as usize];
            let Put { new, updated, replaced, .. } = self.moved[kind as usize];
            (counts.moved, counts.updated, counts.replaced) = (new, updated, replaced);
        }
        let running = self.read(self.file.running_pauses(None)).await?;
        let there = if self.tables { self.put(self.database.have_pauses(&running)).await? } else { Vec::new() };
        for (row, there) in running.iter().zip(there.into_iter().chain(std::iter::repeat(false))) {
            compared.of[Kind::Pauses as usize].count(there, self.before(row.since).then_some(Skip::DoneThere));
        }
        for by_id in [ById::Subscriptions, ById::Events, ById::DeadLetters] {
            self.compare_ids(by_id, &mut compared).await?;
        }
        self.compare_notifications(&mut compared).await?;
        self.compare_deliveries(&mut compared).await?;
        Ok(compared)
    }

    async fn compare_ids(&self, by_id: ById, compared: &mut Compared) -> Result<()> {
        let mut after = Uuid::nil();
        loop {
            let rows = self.read(self.file.page_of_ids(by_id, after)).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = *last;
            let there = self.there(by_id, rows.iter().map(|(id, _)| *id).collect()).await?;
            for (id, at) in rows {
                let done = by_id != ById::Subscriptions && self.before(at);
                compared.of[by_id.kind() as usize].count(there.contains(&id), done.then_some(Skip::DoneThere));
            }
        }
    }

    async fn compare_notifications(&self, compared: &mut Compared) -> Result<()> {
        let mut after = Uuid::nil();
        loop {
            let rows = self.read(self.file.page_of_ids(ById::Notifications, after)).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = *last;
            let there = self.there(ById::Notifications, rows.iter().map(|(id, _)| *id).collect()).await?;
            let absent = rows.iter().map(|(id, _)| *id).filter(|id| !there.contains(id)).collect();
            let taken = self.taken_keys(absent).await?;
            for (id, _) in rows {
                let skip = taken.contains(&id).then_some(Skip::KeyTaken);
                compared.of[Kind::Notifications as usize].count(there.contains(&id), skip);
            }
        }
    }

    async fn compare_deliveries(&self, compared: &mut Compared) -> Result<()> {
        let mut after = Uuid::nil();
        loop {
            let rows = self.read(self.file.page_of_deliveries(after)).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.id;
            let ids = rows.iter().map(|row| row.id).collect();
            let there =
                if self.tables { self.put(self.database.have_deliveries(ids)).await? } else { Default::default() };
            let absent: Vec<_> = rows.iter().filter(|row| !there.contains_key(&row.id)).collect();
            let taken = self.taken_keys(absent.iter().map(|row| row.notification_id).collect()).await?;
            let pairs = absent.iter().map(|row| (row.notification_id, row.unsid)).collect();
            let paired = if self.tables && !absent.is_empty() {
                self.put(self.database.have_pairs(pairs)).await?
            } else {
                Default::default()
            };
            for row in rows {
                let skip = if taken.contains(&row.notification_id) {
                    Some(Skip::KeyTaken)
                } else {
                    paired.contains(&(row.notification_id, row.unsid)).then_some(Skip::OwnDelivery)
                };
                let is = there.get(&row.id);
                compared.of[Kind::Deliveries as usize].count(is.is_some(), skip);
                if row.open {
                    compared.open.count(is.map(|is| (is.open, !is.open || is.version >= row.version)), skip.is_some());
                }
            }
        }
    }

    fn before(&self, at: i64) -> bool {
        self.marked.is_some_and(|marked| at <= marked.micros())
    }

    async fn there(&self, by_id: ById, ids: Vec<Uuid>) -> Result<std::collections::HashSet<Uuid>> {
        if !self.tables {
            return Ok(Default::default());
        }
        self.put(self.database.have(by_id, ids)).await
    }

    /// Which of these notifications, which are not in the database, have a key there that is another's.
    async fn taken_keys(&self, absent: Vec<Uuid>) -> Result<std::collections::HashSet<Uuid>> {
        if !self.tables || absent.is_empty() {
            return Ok(Default::default());
        }
        let keys = self.read(self.file.keys_of(absent)).await?;
        self.put(self.database.have_keys(&keys)).await
    }

    /// Marks the file: no worker works on it from now on, as everything in it is in the database. The time of the mark.
    ///
    /// # Errors
    /// As any call; repeating is safe.
    pub async fn mark(&self) -> Result<Timestamp> {
        self.read(self.file.mark_moved()).await
    }
}

fn last<R>(rows: &[R], id: impl Fn(&R) -> Uuid) -> Option<Uuid> {
    rows.last().map(id)
}
