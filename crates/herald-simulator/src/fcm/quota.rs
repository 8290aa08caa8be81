//! How many messages a project sends and a device gets, if the rules set a limit. By the simulator's clock.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use super::rules::{FcmDeviceRate, ProjectQuota};

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
/// How many devices are remembered; then all are forgotten, which refuses too little rather than too much.
const DEVICES_LIMIT: usize = 100_000;

/// What was sent lately.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    /// By app.
    projects: Mutex<HashMap<usize, Windows>>,
    /// By push token.
    devices: Mutex<HashMap<String, Windows>>,
}

/// A minute and an hour.
type Windows = [Window; 2];

/// A stretch of time after which the count begins again.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// When it began, in seconds since 1970.
    since: i64,
    used: u64,
}

impl Window {
    /// After how many seconds there is room for one more, if there is none at `now`. A window that is over is followed by
    /// one of the same length at the same second; a clock that was put back begins anew.
    fn full_for(&mut self, limit: u64, length: i64, now: i64) -> Option<u64> {
        let passed = now.saturating_sub(self.since);
        if !(0..length).contains(&passed) {
            let since = if passed < 0 { now } else { now.saturating_sub(passed % length) };
            *self = Self { since, used: 0 };
        }
        let left = self.since.saturating_add(length).saturating_sub(now);
        (self.used >= limit).then(|| u64::try_from(left).unwrap_or_default())
    }
}

impl Quotas {
    /// Counts a message of a project at `now` (seconds since 1970).
    ///
    /// # Errors
    /// There were too many: after how many seconds one more may come. This one isn't counted.
    pub(super) fn of_project(&self, app: usize, quota: ProjectQuota, now: i64) -> Result<(), u64> {
        take(&self.projects, app, [quota.per_minute, u64::MAX], now)
    }

    /// Counts a message to a device.
    ///
    /// # Errors
    /// As [`Quotas::of_project`].
    pub(super) fn of_device(&self, token: &str, rate: FcmDeviceRate, now: i64) -> Result<(), u64> {
        take(&self.devices, token.to_owned(), [rate.per_minute, rate.per_hour], now)
    }

    pub(crate) fn clear(&self) {
        self.projects.lock().expect("nothing panics while quotas are held").clear();
        self.devices.lock().expect("nothing panics while quotas are held").clear();
    }
}

fn take<K: Hash + Eq>(all: &Mutex<HashMap<K, Windows>>, key: K, [minute, hour]: [u64; 2], now: i64) -> Result<(), u64> {
    let mut all = all.lock().expect("nothing panics while quotas are held");
    if all.len() >= DEVICES_LIMIT && !all.contains_key(&key) {
        all.clear();
    }
    let windows = all.entry(key).or_insert([Window { since: now, used: 0 }; 2]);
    let [of_minute, of_hour] = windows;
    // Both are looked at, so that both begin anew in time; the longer wait is the true one.
    match of_minute.full_for(minute, MINUTE, now).max(of_hour.full_for(hour, HOUR, now)) {
        Some(secs) => Err(secs),
        None => {
            of_minute.used += 1;
            of_hour.used += 1;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_its_own_minutes() {
        let quotas = Quotas::default();
        let quota = ProjectQuota { per_minute: 2 };
        for (now, taken) in [
            (130, Ok(())),
            (140, Ok(())),
            (141, Err(49)),
            // A clock's minute begins; the project's doesn't.
            (180, Err(10)),
            (190, Ok(())),
            (249, Ok(())),
            (249, Err(1)),
            // After a long pause the minutes begin at the same second.
            (1000, Ok(())),
            (1000, Ok(())),
            (1029, Err(1)),
            (1030, Ok(())),
            // A clock that is put back doesn't keep anybody out.
            (10, Ok(())),
            (10, Ok(())),
            (10, Err(60)),
        ] {
            assert_eq!(quotas.of_project(0, quota, now), taken, "{now}");
        }
        assert_eq!(quotas.of_project(1, quota, 10), Ok(()));
        quotas.clear();
        assert_eq!(quotas.of_project(0, quota, 10), Ok(()));
    }

    #[test]
    fn a_device_has_a_minute_and_an_hour() {
        let quotas = Quotas::default();
        let rate = FcmDeviceRate { per_minute: 2, per_hour: 3 };
        for (now, taken) in
            [(0, Ok(())), (0, Ok(())), (1, Err(59)), (60, Ok(())), (61, Err(3_539)), (3_599, Err(1)), (3_600, Ok(()))]
        {
            assert_eq!(quotas.of_device("a", rate, now), taken, "{now}");
        }
        assert_eq!(quotas.of_device("b", rate, 0), Ok(()));
    }
}
