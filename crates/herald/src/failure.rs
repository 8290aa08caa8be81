//! Why the process ends with another exit code than 0.
//!
//! The codes are those of `sysexits.h`, so that a supervisor can tell "never try again" (64) from "try again" (69).
//! Commands return `anyhow` reports; a [`Failure`] anywhere in the report's chain says which code it is.

use std::process::ExitCode;

/// `EX_USAGE`: the command line or the configuration is wrong. Said before any port or connection is opened.
pub(crate) const USAGE: u8 = 64;
/// `EX_UNAVAILABLE`: broker or store can't be reached, or refuse us.
pub(crate) const UNAVAILABLE: u8 = 69;
/// `EX_SOFTWARE`: a fault of ours.
pub(crate) const INTERNAL: u8 = 70;
/// Anything else.
pub(crate) const OTHER: u8 = 1;

/// A failure whose kind decides the exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was asked for, or the configuration, is wrong: the text says where, what, and what to do.
    #[error("{0}")]
    Usage(String),
    /// Broker or store can't be reached, or refuse us: the text says which.
    #[error("{0:#}")]
    Unavailable(anyhow::Error),
    /// A fault of ours.
    #[error("{0:#}")]
    Internal(anyhow::Error),
}

/// The exit code for a report: that of the first [`Failure`] in its chain.
pub(crate) fn exit_code(report: &anyhow::Error) -> ExitCode {
    ExitCode::from(code(report))
}

fn code(report: &anyhow::Error) -> u8 {
    match report.chain().find_map(|error| error.downcast_ref::<Failure>()) {
        Some(Failure::Usage(_)) => USAGE,
        Some(Failure::Unavailable(_)) => UNAVAILABLE,
        Some(Failure::Internal(_)) => INTERNAL,
        None => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_kind_decides_the_code_however_deep_it_is() {
        let check = |report: anyhow::Error, expected| assert_eq!(code(&report), expected);
        check(anyhow::anyhow!("no"), OTHER);
        check(Failure::Usage("no".to_owned()).into(), USAGE);
        let away = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let failure: Result<(), Failure> = Err(away).map_err(|error| Failure::Unavailable(error.into()));
        check(failure.context("the worker").unwrap_err(), UNAVAILABLE);
        check(Failure::Internal(anyhow::anyhow!("no")).into(), INTERNAL);
    }
}
