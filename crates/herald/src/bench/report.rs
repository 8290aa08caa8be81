//! What a bench prints: figures of one run beside each other, with what they were measured on.

use herald_core::subscription::{Provider, Subscription};
use herald_core::time::Timestamp;
use serde_json::{Value, json};

use super::window::Measured;
use super::{RawArgs, cpu, pushes};
use crate::out;

/// What was found about Herald.
pub(super) struct Herald {
    pub(super) measured: Measured,
    /// That the workers opened, by provider.
    pub(super) connections: Vec<(Provider, u64)>,
    /// Published, and not closed as accepted, by the workers' metrics.
    pub(super) lost: u64,
    /// Accepted more often than asked for.
    pub(super) repeated: u64,
    /// By the simulator.
    pub(super) refused: u64,
    /// Attempts with another outcome than accepted, by the workers' metrics.
    pub(super) not_accepted: u64,
    /// Bounds of the bucket, from intake to acceptance, in seconds; warm-up included.
    pub(super) p50: Option<(f64, f64)>,
    pub(super) p99: Option<(f64, f64)>,
}

impl Herald {
    /// As many as the ceiling needs to be fair; at least one.
    pub(super) fn connections_to(&self, provider: Provider) -> u16 {
        let found = self.connections.iter().find(|(of, _)| *of == provider).map_or(1, |(_, count)| *count);
        u16::try_from(found).unwrap_or(u16::MAX).max(1)
    }

    /// Bytes of a push's body.
    pub(super) fn payload_bytes(&self, subscriptions: &[Subscription], now: Timestamp) -> usize {
        subscriptions.first().map_or(0, |subscription| pushes::payload_bytes(subscription, now))
    }
}

/// One run.
pub(super) struct Report {
    pub(super) args: RawArgs,
    pub(super) budget: usize,
    pub(super) payload_bytes: usize,
    pub(super) herald: Herald,
    pub(super) ceiling: Measured,
    pub(super) ceiling_connections: u64,
    pub(super) ceiling_streams: usize,
}

impl Report {
    /// Prints it.
    ///
    /// # Errors
    /// When stdout can't be written.
    pub(super) fn print(&self, as_json: bool) -> anyhow::Result<()> {
        if as_json {
            return Ok(out::json(&self.json())?);
        }
        let (herald, args) = (&self.herald, &self.args);
        let connections: u64 = herald.connections.iter().map(|(_, count)| count).sum();
        let providers: Vec<&str> = args.provider.providers().iter().map(|provider| provider.as_str()).collect();
        out::line(format!(
            "{} raw pushes of {} bytes to {} users through {} on {}{}, after {} to warm up",
            herald.measured.count,
            self.payload_bytes,
            args.users,
            providers.join(" and "),
            machine(),
            if args.embedded { ", on embedded files" } else { "" },
            args.warm_up,
        ))?;
        out::line("simulator without delay; CPU in ms for 1,000 notifications")?;
        out::line("")?;
        let heading = ["", "ACCEPTED/S", "SECONDS", "CONNECTIONS", "CPU SENDER", "CPU SIMULATOR", "CPU REST"];
        let senders = if args.workers == 1 { "1 worker".to_owned() } else { format!("{} workers", args.workers) };
        let rows = [
            row(&format!("herald, {senders}"), &herald.measured, connections),
            row("bare HTTP/2", &self.ceiling, self.ceiling_connections),
        ];
        out::table(heading, &rows)?;
        out::line("")?;
        out::line(format!("ratio to bare HTTP/2: {:.1} %", self.ratio() * 100.0))?;
        let bucket = |bucket: Option<(f64, f64)>| bucket.map_or_else(|| "unknown".to_owned(), millis);
        out::line(format!("intake to acceptance: p50 {}, p99 {}", bucket(herald.p50), bucket(herald.p99)))?;
        out::line(format!(
            "lost {}, repeated {}, refused {}, attempts not accepted {}",
            herald.lost, herald.repeated, herald.refused, herald.not_accepted
        ))?;
        if cfg!(debug_assertions) {
            out::line("a debug build: these figures say nothing about speed; use --release")?;
        }
        Ok(())
    }

    /// Of Herald's rate to that of bare HTTP/2.
    fn ratio(&self) -> f64 {
        self.herald.measured.per_second() / self.ceiling.per_second()
    }

    fn json(&self) -> Value {
        let herald = &self.herald;
        let connections: serde_json::Map<String, Value> =
            herald.connections.iter().map(|(provider, count)| (provider.as_str().to_owned(), json!(count))).collect();
        json!({
            "machine": machine(),
            "release": !cfg!(debug_assertions),
            "embedded": self.args.embedded,
            "workers": self.args.workers,
            "users": self.args.users,
            "warmUp": self.args.warm_up,
            "budget": self.budget,
            "payloadBytes": self.payload_bytes,
            "herald": {
                "run": run(&herald.measured),
                "connections": connections,
                "acceptSeconds": { "p50": bounds(herald.p50), "p99": bounds(herald.p99) },
                "lost": herald.lost,
                "repeated": herald.repeated,
                "refused": herald.refused,
                "attemptsNotAccepted": herald.not_accepted,
            },
            "ceiling": {
                "run": run(&self.ceiling),
                "connections": self.ceiling_connections,
                "streamsPerConnection": self.ceiling_streams,
            },
            "ratio": self.ratio(),
        })
    }
}

fn row(name: &str, measured: &Measured, connections: u64) -> [String; 7] {
    let millis = |of: fn(cpu::Cpu) -> f64| {
        measured.cpu.map_or_else(|| "-".to_owned(), |cpu| format!("{:.0}", measured.millis_per_thousand(of(cpu))))
    };
    [
        name.to_owned(),
        format!("{:.0}", measured.per_second()),
        format!("{:.2}", measured.took.as_secs_f64()),
        connections.to_string(),
        millis(|cpu| cpu.senders),
        millis(|cpu| cpu.simulator),
        millis(cpu::Cpu::rest),
    ]
}

fn run(measured: &Measured) -> Value {
    let cpu = measured.cpu.map(|cpu| {
        json!({
            "sender": measured.millis_per_thousand(cpu.senders),
            "simulator": measured.millis_per_thousand(cpu.simulator),
            "rest": measured.millis_per_thousand(cpu.rest()),
        })
    });
    json!({
        "accepted": measured.count,
        "seconds": measured.took.as_secs_f64(),
        "acceptedPerSecond": measured.per_second(),
        "cpuMillisPerThousand": cpu,
    })
}

fn bounds(bucket: Option<(f64, f64)>) -> Value {
    // JSON has no infinity; an open end is null.
    bucket.map_or(Value::Null, |(above, up_to)| json!({ "above": above, "upTo": up_to.is_finite().then_some(up_to) }))
}

fn millis((above, up_to): (f64, f64)) -> String {
    let shown = |secs: f64| format!("{:.0}", secs * 1_000.0);
    if up_to.is_finite() {
        format!("{} to {} ms", shown(above), shown(up_to))
    } else {
        format!("over {} ms", shown(above))
    }
}

pub(super) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("{cores} cores ({})", cpu::model().unwrap_or_else(|| std::env::consts::ARCH.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_told_with_both_ends_and_an_open_one_without() {
        assert_eq!(millis((0.025, 0.05)), "25 to 50 ms");
        assert_eq!(millis((1800.0, f64::INFINITY)), "over 1800000 ms");
        assert_eq!(bounds(Some((1.0, f64::INFINITY))), json!({ "above": 1.0, "upTo": null }));
    }
}
