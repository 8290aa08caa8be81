//! Log lines: to stderr, so that stdout is free for what was asked for.
//!
//! `HERALD_LOG` says which (the syntax of `tracing-subscriber`'s `EnvFilter`: `debug`, `info,herald_worker=debug`).
//! It never logs itself, and never decides what a line may contain: that is the rule of whoever writes it.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::LogFormat;
use crate::failure::Failure;

/// Everything below us only from `warn`. Nothing of lapin: it calls the end of every connection an error, our own orderly
/// close included, and what is really lost is said by `herald-queue`.
const OTHERS: &str = "warn,lapin=off";
/// Our crates if nothing else is asked for. `herald` is a prefix: it matches `herald_worker` as well.
const DEFAULT_LEVEL: &str = "info";

/// Starts logging, for the whole process and once. `filter` is the value of `HERALD_LOG`.
///
/// A plain level (`debug`) means our crates at that level; anything more is taken as it is written.
///
/// # Errors
/// [`Failure::Usage`] if the filter can't be read.
pub(crate) fn init(format: LogFormat, filter: Option<&str>) -> Result<(), Failure> {
    let filter = parse(filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => lines.with_ansi(false).finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(|error| Failure::Internal(anyhow::anyhow!("logging could not be started: {error}")))
}

fn parse(filter: Option<&str>) -> Result<EnvFilter, Failure> {
    let text = match filter.map(str::trim) {
        None | Some("") => format!("{OTHERS},herald={DEFAULT_LEVEL}"),
        Some(level) if level.parse::<tracing::Level>().is_ok() => format!("{OTHERS},herald={level}"),
        Some(text) => text.to_owned(),
    };
    EnvFilter::builder().parse(&text).map_err(|error| {
        Failure::Usage(format!("HERALD_LOG: {error}; give a level, or a list like info,herald_worker=debug"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_for_our_crates_and_a_list_is_taken_as_written() {
        let check = |given: Option<&str>, filter: &str| assert_eq!(parse(given).unwrap().to_string(), filter);
        check(None, "herald=info,lapin=off,warn");
        check(Some(""), "herald=info,lapin=off,warn");
        check(Some("debug"), "herald=debug,lapin=off,warn");
        check(Some("lapin=trace,error"), "lapin=trace,error");
        let wrong = parse(Some("herald=loud")).unwrap_err();
        assert!(wrong.to_string().starts_with("HERALD_LOG: "), "{wrong}");
    }
}
