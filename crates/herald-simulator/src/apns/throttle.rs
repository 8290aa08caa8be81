//! How many pushes a device gets: a bucket for each, if the rules say so.

use std::collections::HashMap;
use std::sync::Mutex;

use super::rules::DeviceRate;

/// How many devices are remembered; then all are forgotten, which refuses too little rather than too much.
const DEVICES_LIMIT: usize = 100_000;

/// What each device may still get.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    devices: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u32,
    /// When the last refill was, in seconds since 1970.
    since: i64,
}

impl Buckets {
    /// Takes one; says whether there was one left. `now` in seconds since 1970.
    pub(crate) fn take(&self, device: &str, rate: DeviceRate, now: i64) -> bool {
        let mut devices = self.devices.lock().expect("nothing panics while buckets are held");
        if devices.len() >= DEVICES_LIMIT && !devices.contains_key(device) {
            devices.clear();
        }
        let full = Bucket { left: rate.burst, since: now };
        let bucket = devices.entry(device.to_owned()).or_insert(full);
        let pause = i64::try_from(rate.refill_secs).unwrap_or(i64::MAX).max(1);
        let more = now.saturating_sub(bucket.since).max(0) / pause;
        bucket.left = bucket.left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(rate.burst);
        bucket.since =
            if bucket.left == rate.burst { now } else { bucket.since.saturating_add(more.saturating_mul(pause)) };
        let taken = bucket.left > 0;
        bucket.left = bucket.left.saturating_sub(1);
        taken
    }

    pub(crate) fn clear(&self) {
        self.devices.lock().expect("nothing panics while buckets are held").clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_gets_its_burst_and_then_one_a_pause() {
        let buckets = Buckets::default();
        let rate = DeviceRate { burst: 2, refill_secs: 10 };
        for (now, taken) in [
            (100, true),
            (100, true),
            (100, false),
            (109, false),
            (110, true),
            (119, false),
            (120, true),
            // Never more than the burst, however long the pause.
            (1000, true),
            (1000, true),
            (1000, false),
            // A clock put back refuses, and doesn't panic.
            (0, false),
        ] {
            assert_eq!(buckets.take("ab", rate, now), taken, "{now}");
        }
        assert!(buckets.take("cd", rate, 1000));
    }
}
