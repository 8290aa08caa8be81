//! Processor time of processes and of the machine, as Linux tells it under `/proc`. Elsewhere there is none to tell.

use std::ops::Sub;

/// What `/proc` counts in: `USER_HZ`, 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time used so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Cpu {
    /// By the worker processes, or by this process while it measures the ceiling.
    pub(super) senders: f64,
    /// By the simulator.
    pub(super) simulator: f64,
    /// By the whole machine: those two, broker, store, and whatever else runs.
    pub(super) machine: f64,
}

impl Cpu {
    /// By neither senders nor simulator.
    pub(super) fn rest(self) -> f64 {
        (self.machine - self.senders - self.simulator).max(0.0)
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            senders: self.senders - earlier.senders,
            simulator: self.simulator - earlier.simulator,
            machine: self.machine - earlier.machine,
        }
    }
}

/// Of these processes and of the machine, now. `None` where `/proc` does not tell.
pub(super) fn now(senders: &[u32], simulator: u32) -> Option<Cpu> {
    let of = |pid: &u32| of_process(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
    Some(Cpu {
        senders: senders.iter().map(of).sum::<Option<f64>>()?,
        simulator: of(&simulator)?,
        machine: of_machine(&std::fs::read_to_string("/proc/stat").ok()?)?,
    })
}

/// The processor's name.
pub(super) fn model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// `utime` and `stime`, fields 14 and 15 of proc(5); the second field is a name in parentheses that may hold anything.
fn of_process(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

/// user + nice + system + irq + softirq of the first line; idle, iowait and steal are not work of this machine.
fn of_machine(stat: &str) -> Option<f64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    Some([0, 1, 2, 5, 6].into_iter().map(|index| ticks.get(index).copied()).sum::<Option<f64>>()? / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 100 1 1";
        assert_eq!(of_process(stat), Some(3.0));
        assert_eq!(of_process("17 (a"), None);
    }

    #[test]
    fn the_machine_has_worked_when_it_was_not_idle() {
        assert_eq!(of_machine("cpu  100 10 50 9999 9999 20 20 9999 0 0\ncpu0 1"), Some(2.0));
        assert_eq!(of_machine("cpu0 1"), None);
    }
}
