//! The store's time on files: one reckoning for all processes of a machine, and no steps of the wall clock in it.
//!
//! It is the machine's monotonic clock plus an offset that is stored in the file, so every process that opens it tells the
//! same time, and a step of the wall clock while a worker runs moves no deadline. It follows the wall clock only when
//! - the machine has started anew: forward;
//! - the worker starts and the wall clock is ahead by more than a second: forward, as if the time had passed;
//! - the worker starts and the wall clock is behind by more than a minute: back. It was wrong before, and would let
//!   notifications expire too early. What waits for a time then waits as long as it would have ([`shift`]).

use herald_core::time::Timestamp;
use herald_sqlite::Fault;
use herald_sqlite::rusqlite::{Connection, OptionalExtension as _, params};
use rustix::time::{ClockId, clock_gettime};

/// Where Linux says which start of the machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The store's time may be so far ahead of the wall clock when the worker starts before it is moved back.
const BEHIND_US: i64 = 60_000_000;

/// The wall clock may be so far ahead when the worker starts before the store's time is moved: within it, they agree.
const AHEAD_US: i64 = 1_000_000;

/// The latest time that was told is noted so often, for the next start.
const SEEN_EVERY_US: i64 = 60_000_000;

/// The store's time, cheap to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreTime {
    offset_us: i64,
}

/// What the file says: at this start of the machine, and these ticks of it, it was this time; and the latest time told.
struct Stored {
    boot: String,
    ticks: i64,
    store: i64,
    seen: i64,
}

impl StoreTime {
    pub(crate) fn now(self) -> Timestamp {
        Timestamp::from_micros(ticks_us() + self.offset_us)
    }

    /// How far the wall clock is ahead of it, in microseconds.
    pub(crate) fn behind_wall_us(self) -> i64 {
        wall_us() - self.now().micros()
    }

    /// Reads the offset, or makes it. `leads`: this is the worker, which may move it.
    pub(crate) fn of(connection: &Connection, leads: bool) -> Result<Self, Fault> {
        let (boot, ticks, wall) = (boot(), ticks_us(), wall_us());
        let stored = read(connection)?;
        let goes_on = goes_on(stored.as_ref(), boot.as_deref(), ticks, wall);
        let store = if leads { follow(goes_on, wall) } else { goes_on };
        let back = goes_on - store;
        if back > 0 {
            let seconds = back / 1_000_000;
            tracing::warn!(
                seconds,
                "the store's time was ahead of the wall clock; it goes back, and what waits with it"
            );
            shift(connection, back, store)?;
        }
        let seen = if back > 0 { store } else { stored.map_or(store, |stored| stored.seen.max(store)) };
        connection
            .prepare_cached(
                "
                INSERT INTO clock (id, boot, ticks_us, store_us, seen_us) VALUES (1, ?1, ?2, ?3, ?4)
                    ON CONFLICT (id) DO UPDATE
                   SET boot = excluded.boot, ticks_us = excluded.ticks_us, store_us = excluded.store_us,
                       seen_us = excluded.seen_us",
            )?
            .execute(params![boot.unwrap_or_default(), ticks, store, seen])?;
        Ok(Self { offset_us: store - ticks })
    }

    /// The time; noted now and then, so that a start of the machine with a wall clock that is a little behind doesn't go back.
    pub(crate) fn seen(self, connection: &Connection) -> Result<Timestamp, Fault> {
        let now = self.now();
        connection
            .prepare_cached("UPDATE clock SET seen_us = ?1 WHERE seen_us < ?1 - ?2")?
            .execute([now.micros(), SEEN_EVERY_US])?;
        Ok(now)
    }
}

fn read(connection: &Connection) -> Result<Option<Stored>, Fault> {
    let mut statement = connection.prepare_cached("SELECT boot, ticks_us, store_us, seen_us FROM clock")?;
    let stored = statement.query_row([], |row| {
        Ok(Stored { boot: row.get(0)?, ticks: row.get(1)?, store: row.get(2)?, seen: row.get(3)? })
    });
    Ok(stored.optional()?)
}

/// What the store's time is at this moment if nobody moves it.
fn goes_on(stored: Option<&Stored>, boot: Option<&str>, ticks: i64, wall: i64) -> i64 {
    let Some(stored) = stored else { return wall };
    if boot != Some(stored.boot.as_str()) || ticks < stored.ticks {
        return wall.max(stored.seen);
    }
    stored.store + (ticks - stored.ticks)
}

/// What the worker makes of it.
fn follow(goes_on: i64, wall: i64) -> i64 {
    if wall > goes_on + AHEAD_US || wall < goes_on - BEHIND_US { wall } else { goes_on }
}

/// Moves what waits for a time back by this much, so that it waits as long as it would have. Times that a producer gave
/// (expiry, `deliverAt`) stay: they never were the store's. Reads whole tables; a clock is wrong once in a lifetime.
fn shift(connection: &Connection, back: i64, now: i64) -> Result<(), Fault> {
    connection.execute(
        "UPDATE deliveries SET next_at = next_at - ?1, deadline_at = deadline_at - ?1 WHERE next_at IS NOT NULL",
        [back],
    )?;
    connection.execute(
        "UPDATE notifications SET next_at = max(next_at - ?1, coalesce(deliver_at, 0)) WHERE next_at IS NOT NULL",
        [back],
    )?;
    connection.execute("UPDATE outbox SET next_at = next_at - ?1", [back])?;
    connection
        .execute("UPDATE pauses SET since = since - ?1, until = until - ?1, held_until = held_until - ?1", [back])?;
    // Else a token could not be called dead until the store's time is as late as it was.
    connection
        .execute("UPDATE subscriptions SET confirmed_at = ?1 WHERE confirmed_at > ?1 AND ended_at IS NULL", [now])?;
    connection.execute("DELETE FROM guard_counts", [])?;
    Ok(())
}

/// None where no system tells (not Linux): then the wall clock decides at each opening.
fn boot() -> Option<String> {
    std::fs::read_to_string(BOOT_ID).ok().map(|id| id.trim().to_owned())
}

/// Goes on while the machine sleeps, where it can: a notification expires in the meantime as well.
fn ticks_us() -> i64 {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    micros(clock)
}

fn wall_us() -> i64 {
    micros(ClockId::Realtime)
}

fn micros(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    /// `stored`: boot, ticks, store, seen; `boot`, `ticks` and `wall` now; what goes on, and what a worker makes of it.
    fn check(stored: (&str, i64, i64, i64), boot: Option<&str>, ticks: i64, wall: i64, then: (i64, i64)) {
        let (at_boot, at_ticks, at_store, seen) = stored;
        let stored = Stored { boot: at_boot.to_owned(), ticks: at_ticks * S, store: at_store * S, seen: seen * S };
        let on = goes_on(Some(&stored), boot, ticks * S, wall * S);
        assert_eq!((on, follow(on, wall * S)), (then.0 * S, then.1 * S));
    }

    #[test]
    fn steps_of_the_wall_clock_move_no_running_time_and_a_worker_follows_it_at_its_start() {
        // 10 s after it was stored, whatever the wall says.
        check(("a", 100, 5_000, 5_000), Some("a"), 110, 5_010, (5_010, 5_010));
        check(("a", 100, 5_000, 5_000), Some("a"), 110, 1_000, (5_010, 1_000));
        check(("a", 100, 5_000, 5_000), Some("a"), 110, 9_000, (5_010, 9_000));
        // A little behind is no reason to go back.
        check(("a", 100, 5_000, 5_000), Some("a"), 110, 4_980, (5_010, 5_010));
    }

    #[test]
    fn after_a_start_of_the_machine_the_wall_decides_but_a_little_behind_is_not_back() {
        check(("a", 100, 5_000, 5_500), Some("b"), 7, 6_000, (6_000, 6_000));
        check(("a", 100, 5_000, 5_500), Some("b"), 7, 5_480, (5_500, 5_500));
        check(("a", 100, 5_000, 5_500), Some("b"), 7, 5_200, (5_500, 5_200));
        // The same name of a start, but less time since it; and a system that doesn't tell.
        check(("a", 100, 5_000, 5_500), Some("a"), 7, 6_000, (6_000, 6_000));
        check(("", 100, 5_000, 5_500), None, 110, 6_000, (6_000, 6_000));
        assert_eq!(goes_on(None, Some("a"), 7, 6_000), 6_000);
    }
}
