//! What a command answers: lines on stdout. What went wrong: stderr. Log lines are [`crate::telemetry`]'s.
//!
//! Unlike `println!` it fails instead of panicking when stdout is closed, as by `herald dead list | head -1`.

use std::io::{self, Write as _};

/// Writes one line to stdout.
///
/// # Errors
/// When stdout can't be written.
pub(crate) fn line(text: impl AsRef<str>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", text.as_ref())
}

/// Writes a value as JSON, indented.
///
/// # Errors
/// When stdout can't be written.
pub(crate) fn json(value: &serde_json::Value) -> io::Result<()> {
    line(format!("{value:#}"))
}

/// Writes rows below a heading, each column as wide as its widest cell; the last is left as it is.
///
/// # Errors
/// When stdout can't be written.
pub(crate) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
    for row in aligned(heading, rows) {
        line(row)?;
    }
    Ok(())
}

/// Text from outside, without what a terminal would obey: a line break, an escape.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

fn aligned<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let all: Vec<[&str; N]> =
        std::iter::once(heading).chain(rows.iter().map(|row| row.each_ref().map(String::as_str))).collect();
    let mut widths = [0; N];
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let pad = |row: &[&str; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    all.iter().map(pad).collect()
}

/// Says on stderr how far it is, or what was passed over.
pub(crate) fn note(text: impl AsRef<str>) {
    // Nobody is left to tell if this fails.
    writeln!(io::stderr().lock(), "{}", text.as_ref()).ok();
}

/// Says on stderr why the process fails: the report and its causes, in one line each for configuration.
pub(crate) fn report(report: &anyhow::Error) {
    let mut stderr = io::stderr().lock();
    // Nobody is left to tell if this fails.
    writeln!(stderr, "{report:#}").ok();
}

/// Whoever read our stdout has seen enough: no failure.
pub(crate) fn is_closed_pipe(report: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    report.downcast_ref::<io::Error>().is_some_and(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_spaces_at_their_end() {
        let rows = [["a".to_owned(), "1".to_owned()], ["long name".to_owned(), String::new()]];
        assert_eq!(aligned(["NAME", "COUNT"], &rows), ["NAME       COUNT", "a          1", "long name"]);
    }
}
