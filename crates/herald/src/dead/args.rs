//! What can be asked of `herald dead`.
//!
//! A part of the command line, as in `cli.rs`: it never reads the configuration or the store.

use std::time::Duration;

use clap::{Args, Subcommand};
use herald_core::ids::AppId;
use herald_core::time::Timestamp;
use herald_queue::Source;
use herald_store::OfApp;
use uuid::Uuid;

/// `herald dead`
#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// Show how many there are and why the latest were parked; never what they hold
    List(ListArgs),
    /// Show all of one but its content
    Show(ShowArgs),
    /// Publish them again where they came from, and remove them
    Replay(ReplayArgs),
    /// Remove them for good
    Discard(DiscardArgs),
}

/// Which dead letters.
#[derive(Debug, Default, Args)]
pub(crate) struct WhichArgs {
    /// These, by their ids
    #[arg(value_name = "ID", conflicts_with_all = ["reason", "app", "queue", "since", "until"])]
    pub ids: Vec<Uuid>,
    /// Parked for this reason, e.g. invalid_request
    #[arg(long, value_name = "CODE")]
    pub reason: Option<String>,
    /// Of this app; - for those whose app could not be read or was not configured
    #[arg(long, value_name = "HOST", value_parser = app)]
    pub app: Option<OfApp>,
    /// From this queue, e.g. herald.requests.high
    #[arg(long, value_name = "NAME", value_parser = queue)]
    pub queue: Option<Source>,
    /// Parked then or later: a time (2026-12-01T00:00:00Z), or so long ago (90s, 15m, 2h, 3d)
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub since: Option<When>,
    /// Parked before then; as --since
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub until: Option<When>,
}

impl WhichArgs {
    /// Whether it chooses any from all.
    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
            && (&self.reason, &self.app, self.queue, self.since, self.until) == (&None, &None, None, None, None)
    }
}

/// `herald dead list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Which
    #[command(flatten)]
    pub which: WhichArgs,
    /// How many of the latest
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Those that come after this one in the list: the next page
    #[arg(long, value_name = "ID", conflicts_with = "ids")]
    pub after: Option<Uuid>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `herald dead show`
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Its id
    pub id: Uuid,
    /// Show the body too: it holds what a person would be told
    #[arg(long)]
    pub body: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `herald dead replay`
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Which
    #[command(flatten)]
    pub which: WhichArgs,
    /// All of them
    #[arg(long, conflicts_with_all = ["ids", "reason", "app", "queue", "since", "until"])]
    pub all: bool,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Publish the one letter under this idempotency key instead of its own
    #[arg(long, value_name = "KEY", requires = "ids", conflicts_with = "all", value_parser = key)]
    pub message_id: Option<String>,
}

/// `herald dead discard`
#[derive(Debug, Args)]
pub(crate) struct DiscardArgs {
    /// Which
    #[command(flatten)]
    pub which: WhichArgs,
    /// All of them
    #[arg(long, conflicts_with_all = ["ids", "reason", "app", "queue", "since", "until"])]
    pub all: bool,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// A moment, as it is given on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// This one.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
}

impl When {
    /// Which one it is.
    pub(crate) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.minus(ago),
        }
    }
}

fn when(text: &str) -> Result<When, &'static str> {
    let ago = || {
        let secs: u64 = match text.chars().last()? {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        let number: u64 = text[..text.len() - 1].parse().ok()?;
        Some(When::Ago(Duration::from_secs(number.checked_mul(secs)?)))
    };
    let at = Timestamp::parse_rfc3339(text).map(When::At);
    at.or_else(ago).ok_or("give 2026-12-01T00:00:00Z, or 90s, 15m, 2h, 3d for so long ago")
}

#[allow(clippy::unnecessary_wraps, reason = "what clap asks of a parser")]
fn app(text: &str) -> Result<OfApp, &'static str> {
    match text {
        "-" => Ok(OfApp::Unknown),
        text => Ok(OfApp::Named(AppId::new(text.to_ascii_lowercase()))),
    }
}

fn queue(text: &str) -> Result<Source, String> {
    Source::from_queue(text).ok_or_else(|| {
        let names: Vec<&str> = Source::ALL.into_iter().map(Source::queue).collect();
        format!("one of {}", names.join(", "))
    })
}

/// As long as a request's key may be.
fn key(text: &str) -> Result<String, &'static str> {
    match text.chars().count() {
        1..=128 => Ok(text.to_owned()),
        _ => Err("1 to 128 characters"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    #[test]
    fn a_choice_is_by_ids_or_by_filters_and_not_by_both() {
        let check = |args: &[&str], good: bool| {
            let all = ["herald", "dead"].iter().chain(args);
            assert_eq!(Cli::try_parse_from(all).is_ok(), good, "{args:?}");
        };
        check(&["list", "--app", "-", "--since", "2h", "--until", "2026-12-01T00:00:00Z"], true);
        check(&["list", ID, ID], true);
        check(&["list", ID, "--app", "a"], false);
        check(&["list", "--queue", "herald.requests.low", "--after", ID], true);
        check(&["list", "--queue", "low"], false);
        check(&["list", "--since", "yesterday"], false);
        check(&["show", ID, "--body"], true);
        check(&["show", "7"], false);
        check(&["replay", ID, "--message-id", "k"], true);
        check(&["replay", "--all", "--message-id", "k"], false);
        check(&["replay", ID, "--message-id", ""], false);
        check(&["replay", "--all", "--app", "a"], false);
        check(&["discard", "--all", ID], false);
        check(&["discard", "--reason", "poison", "--dry-run"], true);
    }

    #[test]
    fn a_moment_is_a_time_or_so_long_ago() {
        let now = Timestamp::from_secs(1_000_000);
        let check = |text, expected| assert_eq!(when(text).ok().map(|when| when.at(now).secs()), expected, "{text}");
        check("90s", Some(999_910));
        check("2h", Some(992_800));
        check("3d", Some(740_800));
        check("1970-01-01T00:01:00Z", Some(60));
        check("ä", None);
        check("", None);
        check("99999999999999999999d", None);
    }
}
