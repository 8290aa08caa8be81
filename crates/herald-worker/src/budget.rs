//! Pushes in flight: who may have how many.
//!
//! Stands before intake and take: a worker takes from the queues only what this budget allows, so that the backlog stays
//! in the broker. [`Shares`] is the rule, as a value; [`Budget`] hands out [`Permit`]s and wakes those who wait. A permit
//! is given back when the push's record is committed, so the budget bounds what a crash can repeat (G4) too.
//!
//! - Fallbacks have a share of their own (an eighth) that nothing else uses, and may use what is free besides.
//! - Normal and low together never use the last quarter of the rest: a flood of them can't delay high (G7).
//! - New and due work of a lane share it half and half while both wait.
//! - No app holds more than half of a lane while another waits: its excess is stored as due.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use herald_core::ids::AppId;
use herald_core::lane::DispatchQueue;
use tokio::sync::Notify;

/// Whether work comes from a request or from a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// First pushes, straight from intake.
    New,
    /// Retries, fallbacks, lapsed leases, and first pushes beyond a budget.
    Due,
}

/// The shares of a budget, and what is in use.
#[derive(Debug)]
struct Shares {
    total: usize,
    /// In use by (queue, kind).
    used: [[usize; 2]; 4],
    /// Who waits for room.
    waiting: [[bool; 2]; 4],
    /// In use by app, per queue.
    by_app: [HashMap<AppId, usize>; 4],
}

impl Shares {
    fn new(total: usize) -> Self {
        Self { total, used: [[0; 2]; 4], waiting: [[false; 2]; 4], by_app: Default::default() }
    }

    fn used_by(&self, queue: DispatchQueue) -> usize {
        self.used[queue as usize].iter().sum()
    }

    /// The most that a queue's work may use if nobody else were there.
    fn cap(&self, queue: DispatchQueue) -> usize {
        let rest = self.total - self.total / 8;
        match queue {
            DispatchQueue::Fallback => self.total,
            DispatchQueue::High => rest,
            DispatchQueue::Normal | DispatchQueue::Low => (rest * 3 / 4).max(1),
        }
    }

    /// How many more of this work may go in flight now.
    fn room(&self, queue: DispatchQueue, kind: Kind) -> usize {
        let all: usize = DispatchQueue::ALL.into_iter().map(|q| self.used_by(q)).sum();
        let lanes = all - self.used_by(DispatchQueue::Fallback);
        let bulk = self.used_by(DispatchQueue::Normal) + self.used_by(DispatchQueue::Low);
        let free = self.total.saturating_sub(all);
        let of_queue = match queue {
            DispatchQueue::Fallback => free,
            DispatchQueue::High => self.cap(queue).saturating_sub(lanes).min(free),
            DispatchQueue::Normal | DispatchQueue::Low => self.cap(queue).saturating_sub(bulk).min(free),
        };
        let other = match kind {
            Kind::New => Kind::Due,
            Kind::Due => Kind::New,
        };
        let contended = self.waiting[queue as usize][other as usize] || self.used[queue as usize][other as usize] > 0;
        if contended {
            let half = (self.cap(queue) / 2).max(1);
            of_queue.min(half.saturating_sub(self.used[queue as usize][kind as usize]))
        } else {
            of_queue
        }
    }
}

/// Hands out permits.
#[derive(Debug)]
pub(crate) struct Budget {
    shares: Mutex<Shares>,
    freed: Notify,
}

impl Budget {
    /// A budget of this many pushes in flight, at least 8.
    pub(crate) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { shares: Mutex::new(Shares::new(total.max(8))), freed: Notify::new() })
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        // Counts stay true whoever panicked: each change is one assignment.
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for this work, and says how much. Safe to drop while waiting.
    pub(crate) async fn room(&self, queue: DispatchQueue, kind: Kind) -> usize {
        loop {
            // Registered before the look, or a permit freed in between would wake nobody.
            let freed = self.freed.notified();
            let room = {
                let mut shares = self.shares();
                let room = shares.room(queue, kind);
                shares.waiting[queue as usize][kind as usize] = room == 0;
                room
            };
            if room > 0 {
                return room;
            }
            freed.await;
        }
    }

    /// How much room there is now, without waiting for any.
    pub(crate) fn room_now(&self, queue: DispatchQueue, kind: Kind) -> usize {
        self.shares().room(queue, kind)
    }

    /// Takes up to `want` permits at once, perhaps none.
    pub(crate) fn take(self: &Arc<Self>, queue: DispatchQueue, kind: Kind, want: usize) -> Permits {
        let mut shares = self.shares();
        let left = shares.room(queue, kind).min(want);
        shares.used[queue as usize][kind as usize] += left;
        Permits { budget: Arc::clone(self), queue, kind, left }
    }

    /// Must this app's new work of that queue wait as due, because it holds half of it while another app is there too?
    pub(crate) fn is_crowded_by(&self, queue: DispatchQueue, app: &AppId, another_waits: bool) -> bool {
        let shares = self.shares();
        let held = &shares.by_app[queue as usize];
        let another = another_waits || held.keys().any(|other| other != app);
        another && held.get(app).copied().unwrap_or(0) >= (shares.cap(queue) / 2).max(1)
    }

    /// Pushes in flight now.
    pub(crate) fn in_flight(&self) -> usize {
        self.shares().used.iter().flatten().sum()
    }

    fn release(&self, queue: DispatchQueue, kind: Kind, count: usize, app: Option<&AppId>) {
        let mut shares = self.shares();
        shares.used[queue as usize][kind as usize] -= count;
        if let Some(app) = app
            && let Some(held) = shares.by_app[queue as usize].get_mut(app)
        {
            *held -= 1;
            if *held == 0 {
                shares.by_app[queue as usize].remove(app);
            }
        }
        drop(shares);
        self.freed.notify_waiters();
    }
}

/// Permits not yet given to a push. Those left when it is dropped go back.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permits {
    budget: Arc<Budget>,
    queue: DispatchQueue,
    kind: Kind,
    left: usize,
}

impl Permits {
    /// How many are left.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// One for a push of this app.
    pub(crate) fn one(&mut self, app: &AppId) -> Option<Permit> {
        self.left = self.left.checked_sub(1)?;
        *self.budget.shares().by_app[self.queue as usize].entry(app.clone()).or_default() += 1;
        Some(Permit { budget: Arc::clone(&self.budget), queue: self.queue, kind: self.kind, app: app.clone() })
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        if self.left > 0 {
            self.budget.release(self.queue, self.kind, self.left, None);
        }
    }
}

/// The right to one push in flight; given back when dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit {
    budget: Arc<Budget>,
    queue: DispatchQueue,
    kind: Kind,
    app: AppId,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.release(self.queue, self.kind, 1, Some(&self.app));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(budget: &Arc<Budget>, queue: DispatchQueue, kind: Kind) -> Permits {
        budget.take(queue, kind, usize::MAX)
    }

    #[test]
    fn a_flood_of_normal_leaves_a_quarter_to_high_and_an_eighth_to_fallbacks() {
        let budget = Budget::new(800);
        let normal = take_all(&budget, DispatchQueue::Normal, Kind::New);
        assert_eq!(normal.left(), 525);
        assert_eq!(take_all(&budget, DispatchQueue::Low, Kind::New).left(), 0);
        let high = take_all(&budget, DispatchQueue::High, Kind::New);
        assert_eq!(high.left(), 175);
        assert_eq!(take_all(&budget, DispatchQueue::Fallback, Kind::Due).left(), 100);
        drop(normal);
        assert_eq!(take_all(&budget, DispatchQueue::Fallback, Kind::Due).left(), 625);
        drop(high);
        assert_eq!(budget.in_flight(), 0);
    }

    #[test]
    fn new_and_due_work_share_a_lane_half_and_half_while_both_are_there() {
        let budget = Budget::new(800);
        let due = budget.take(DispatchQueue::High, Kind::Due, 1);
        assert_eq!(take_all(&budget, DispatchQueue::High, Kind::New).left(), 350);
        drop(due);
        assert_eq!(take_all(&budget, DispatchQueue::High, Kind::New).left(), 700);
    }

    #[test]
    fn an_app_holds_at_most_half_of_a_lane_while_another_waits() {
        let budget = Budget::new(80);
        let app = AppId::new("flood");
        let mut permits = take_all(&budget, DispatchQueue::High, Kind::New);
        let held: Vec<_> = (0..34).filter_map(|_| permits.one(&app)).collect();
        assert!(!budget.is_crowded_by(DispatchQueue::High, &app, true));
        let last = permits.one(&app);
        assert!(budget.is_crowded_by(DispatchQueue::High, &app, true));
        assert!(!budget.is_crowded_by(DispatchQueue::High, &app, false), "alone it may have all of it");
        let other = permits.one(&AppId::new("other"));
        assert!(budget.is_crowded_by(DispatchQueue::High, &app, false));
        assert!(!budget.is_crowded_by(DispatchQueue::High, &AppId::new("other"), true));
        drop((held, last, other, permits));
        assert_eq!(budget.in_flight(), 0);
    }

    #[tokio::test]
    async fn who_waits_for_room_is_woken_when_a_permit_comes_back() {
        let budget = Budget::new(8);
        let all = take_all(&budget, DispatchQueue::High, Kind::New);
        let waiting = budget.room(DispatchQueue::High, Kind::New);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(all);
        assert_eq!(waiting.await, 7);
    }
}
