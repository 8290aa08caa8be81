//! The store's time on files: one reckoning for all processes of a machine, and no steps of the wall clock in it.
//!
//! It is the machine's monotonic clock plus an offset that is stored in the file, so every process that opens it tells the
//! same time. The offset is made anew after a start of the machine, and moved forward, never back, when the worker starts: so
//! a wall clock that was set wrong is not kept for ever, and a step while a worker runs moves no deadline.

use herald_core::time::Timestamp;
use herald_sqlite::rusqlite::{Connection, OptionalExtension as _};
use herald_sqlite::{Fault, rusqlite::params};
use rustix::time::{ClockId, clock_gettime};

/// Where Linux says which start of the machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The wall clock may be so far behind the store's before it is said.
const BEHIND_US: i64 = 60_000_000;

/// The wall clock may be so far ahead when the worker starts before the store's is moved: within it, they agree.
const AHEAD_US: i64 = 1_000_000;

/// The store's time, cheap to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreTime {
    offset_us: i64,
}

impl StoreTime {
    pub(crate) fn now(self) -> Timestamp {
        Timestamp::from_micros(ticks_us() + self.offset_us)
    }

    /// Reads the offset, or makes it. `leads`: this is the worker, which may move it forward.
    pub(crate) fn of(connection: &Connection, leads: bool) -> Result<Self, Fault> {
        let (boot, ticks, wall) = (boot(), ticks_us(), wall_us());
        let stored: Option<(String, i64, i64, i64)> = connection
            .prepare_cached("SELECT boot, ticks_us, store_us, seen_us FROM clock")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .optional()?;
        let store = reckon(stored.as_ref(), &boot, ticks, wall, leads);
        if wall < store - BEHIND_US {
            let behind_s = (store - wall) / 1_000_000;
            tracing::warn!(behind_s, "the wall clock is behind the store's time, which never goes back; is it right?");
        }
        connection
            .prepare_cached(
                "
                INSERT INTO clock (id, boot, ticks_us, store_us, seen_us) VALUES (1, ?1, ?2, ?3, ?3)
                    ON CONFLICT (id) DO UPDATE
                   SET boot = excluded.boot, ticks_us = excluded.ticks_us, store_us = excluded.store_us,
                       seen_us = max(seen_us, excluded.seen_us)",
            )?
            .execute(params![boot, ticks, store])?;
        Ok(Self { offset_us: store - ticks })
    }

    /// Notes that this time was told. To be called every minute or so.
    pub(crate) fn seen(self, connection: &Connection) -> Result<Timestamp, Fault> {
        let now = self.now();
        connection.prepare_cached("UPDATE clock SET seen_us = max(seen_us, ?1)")?.execute([now.micros()])?;
        Ok(now)
    }
}

/// What the store's time is at this moment. `stored`: boot, ticks, store, seen.
fn reckon(stored: Option<&(String, i64, i64, i64)>, boot: &str, ticks: i64, wall: i64, leads: bool) -> i64 {
    let Some((at_boot, at_ticks, at_store, seen)) = stored else { return wall };
    if at_boot != boot || ticks < *at_ticks {
        return wall.max(*seen);
    }
    let goes_on = at_store + (ticks - at_ticks);
    if leads && wall > goes_on + AHEAD_US { wall } else { goes_on }
}

/// Without it (not Linux), one that never matches another start's: the wall clock decides then.
fn boot() -> String {
    std::fs::read_to_string(BOOT_ID).map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
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

    fn check(stored: (&str, i64, i64, i64), boot: &str, ticks: i64, wall: i64, leads: bool, store: i64) {
        let (at_boot, at_ticks, at_store, seen) = stored;
        let stored = (at_boot.to_owned(), at_ticks * S, at_store * S, seen * S);
        assert_eq!(reckon(Some(&stored), boot, ticks * S, wall * S, leads), store * S);
    }

    #[test]
    fn steps_of_the_wall_clock_move_the_time_of_no_running_worker() {
        // 10 s after it was stored, whatever the wall says; only the worker, at its start, goes forward with it.
        check(("a", 100, 5_000, 5_000), "a", 110, 5_010, true, 5_010);
        check(("a", 100, 5_000, 5_000), "a", 110, 1_000, true, 5_010);
        check(("a", 100, 5_000, 5_000), "a", 110, 9_000, false, 5_010);
        check(("a", 100, 5_000, 5_000), "a", 110, 9_000, true, 9_000);
    }

    #[test]
    fn after_a_start_of_the_machine_the_wall_decides_but_time_never_goes_back() {
        check(("a", 100, 5_000, 5_500), "b", 7, 6_000, false, 6_000);
        check(("a", 100, 5_000, 5_500), "b", 7, 5_200, true, 5_500);
        // The same name of a start, but less time since it: a system that doesn't tell them apart.
        check(("a", 100, 5_000, 5_500), "a", 7, 6_000, false, 6_000);
        assert_eq!(reckon(None, "a", 7, 6_000, false), 6_000);
    }
}
