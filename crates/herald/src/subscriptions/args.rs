//! What can be asked of `herald subscriptions import` and `export`.
//!
//! A part of the command line, as in `cli.rs`: it never reads the configuration or the store.

use std::path::{Path, PathBuf};

use clap::Args;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Names in the first line, then a row a line.
    Csv,
    /// One JSON object a line.
    JsonLines,
}

/// `herald subscriptions export`
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Those of this app alone
    #[arg(long, value_name = "HOST")]
    pub app: Option<String>,
    /// csv or jsonl
    #[arg(long, value_name = "csv|jsonl", default_value = "csv", value_parser = format)]
    pub format: Format,
}

/// `herald subscriptions import`
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Rows of app, user, platform, token; and, if known, tokenKind, environment, unsid, expiresAt; `-` reads them from stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// csv or jsonl; by the file's name if it is left out: .jsonl, .ndjson, else csv
    #[arg(long, value_name = "csv|jsonl", value_parser = format)]
    pub format: Option<Format>,
    /// Begin here: where an import before was broken off
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub from_line: u64,
    /// Print the counts as JSON
    #[arg(long)]
    pub json: bool,
}

impl ImportArgs {
    /// As given, or as the file is called.
    pub(crate) fn format(&self) -> Format {
        let by_name = |path: &Path| match path.extension().and_then(|end| end.to_str()) {
            Some("jsonl" | "ndjson") => Format::JsonLines,
            _ => Format::Csv,
        };
        self.format.unwrap_or_else(|| by_name(&self.file))
    }
}

fn format(text: &str) -> Result<Format, &'static str> {
    match text {
        "csv" => Ok(Format::Csv),
        "jsonl" => Ok(Format::JsonLines),
        _ => Err("csv or jsonl"),
    }
}
