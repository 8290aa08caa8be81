//! `herald migrate`: moves what `herald up` has on files to a broker and a PostgreSQL, and shows the counts of both sides.
//!
//! The store first ([`herald_store::moving`]), then the queue ([`queue`]): a request that names a subscription must find it.
//! Cut off at any point, the same command takes up the rest; done again, it moves what came since. Nothing is deleted in the
//! store's file; once everything agrees it is marked, and no worker starts on it again.

mod queue;
mod report;

use std::path::Path;
use std::time::Duration;

use herald_queue::Queue;
use herald_store::Store;
use herald_store::moving::{Compared, Move};

use crate::cli::MigrateArgs;
use crate::config::{BROKER_EXAMPLE, Config, STORE_EXAMPLE};
use crate::connect::{Role, store_failure};
use crate::failure::Failure;
use crate::{connect, topology};
use report::Report;

/// How often a page is tried in all, if the database is away or a worker on it is in the way.
const TRIES: u32 = 5;
/// How long is waited before the next try.
const RETRY: Duration = Duration::from_secs(1);
/// A difference of the clocks that is worth saying: times are moved as they are.
const CLOCKS_DIFFER_MS: i64 = 1_000;
/// A difference with which nothing is moved: the least fallback's delay that Graph allows.
const CLOCKS_TOO_FAR_MS: i64 = 60_000;

/// Moves, or with `--dry-run` counts.
///
/// # Errors
/// [`Failure::Usage`] without both URLs, or for a folder without the files; [`Failure::Unavailable`] if one side can't be used
/// now, or a process works on the files; a report of what differs if the counts do.
pub(crate) async fn run(config: &Config, args: &MigrateArgs) -> anyhow::Result<()> {
    check_places(config, &args.from)?;
    let to = connect::store(config, Role::Other).await?;
    // The lock on it keeps every worker away from both files until the end.
    let from = Store::open_to_move(&args.from.join(connect::STORE_FILE)).await.map_err(store_failure)?;
    let waiting = queue::open(&args.from.join(connect::QUEUE_FILE)).await?;
    let done = both(config, args, (&from, &to), waiting.as_ref()).await;
    if let Some(queue) = &waiting {
        queue.close().await;
    }
    to.close().await;
    from.close().await;
    let report = done?;
    report.print(args.json)?;
    if args.dry_run || report.agrees() {
        return Ok(());
    }
    anyhow::bail!("{}; run it again while no other process uses these files", report.differences())
}

/// Everything that must be given is.
fn check_places(config: &Config, from: &Path) -> Result<(), Failure> {
    let mut missing = Vec::new();
    if config.broker.urls.is_empty() {
        missing.push(format!("no broker is configured; set {BROKER_EXAMPLE}"));
    }
    if config.store.url.is_none() {
        missing.push(format!("no store is configured; set {STORE_EXAMPLE}"));
    }
    let store = from.join(connect::STORE_FILE);
    if !store.is_file() {
        missing.push(format!("--from: no {}; give the folder that `herald up` works in (HERALD_DIR)", store.display()));
    }
    if missing.is_empty() { Ok(()) } else { Err(Failure::Usage(missing.join("\n"))) }
}

async fn both(
    config: &Config,
    args: &MigrateArgs,
    (from, to): (&Store, &Store),
    waiting: Option<&Queue>,
) -> anyhow::Result<Report> {
    let clock_difference_ms = clock_difference_ms(from, to);
    if clock_difference_ms.abs() > CLOCKS_DIFFER_MS {
        tracing::warn!(
            clock_difference_ms,
            "the clocks differ, the database's is ahead by this: so much sooner is due what is moved"
        );
    }
    if clock_difference_ms.abs() > CLOCKS_TOO_FAR_MS && !args.dry_run {
        let seconds = clock_difference_ms / 1_000;
        return Err(Failure::Unavailable(anyhow::anyhow!(
            "the database's clock is ahead of the files' by {seconds} s (behind, if below 0), and deadlines would move by \
             that; set the clocks right, start and end `herald up` once, and try again"
        ))
        .into());
    }
    let mut report = Report { dry_run: args.dry_run, clock_difference_ms, ..Report::default() };
    if let Some(waiting) = waiting {
        report.queue = queue::count(waiting).await?;
        check_login(config, &report)?;
    }
    if args.dry_run {
        report.store = Move::new(from, to).await.map_err(store_failure)?.compare().await.map_err(store_failure)?;
        return Ok(report);
    }
    let broker = connect::queue(config, "migrate", Role::Other).await?;
    broker.declare_topology().await.map_err(topology::failure)?;
    to.migrate().await.map_err(store_failure)?;
    let mut moving = Move::new(from, to).await.map_err(store_failure)?;
    // Killed after this, the files are only for the same command again: no worker pushes there what one here does too.
    moving.begin().await.map_err(store_failure)?;
    report.store = move_store(&mut moving).await?;
    if let Some(waiting) = waiting {
        let moved = queue::move_all(waiting, &broker, connect::broker_login(config), &mut report.queue).await;
        broker.close().await;
        moved?;
    }
    if report.agrees() {
        report.marked = Some(moving.mark().await.map_err(store_failure)?);
    }
    Ok(report)
}

async fn move_store(moving: &mut Move) -> anyhow::Result<Compared> {
    let (mut last, mut failed) = (None, 0);
    loop {
        match moving.step().await {
            Ok(None) => break,
            Ok(Some(kind)) => {
                failed = 0;
                if last.replace(kind) != Some(kind) {
                    tracing::info!(kind = kind.as_str(), "moving");
                }
            }
            Err(error) if error.is_transient() && failed + 1 < TRIES => {
                failed += 1;
                tracing::warn!(%error, "a page was not moved; trying it again");
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => {
                let failure = anyhow::Error::from(store_failure(error));
                return Err(failure.context("not all was moved; the same command goes on from here"));
            }
        }
    }
    Ok(moving.compare().await.map_err(store_failure)?)
}

/// How far the database's clock is ahead of the files'.
fn clock_difference_ms(from: &Store, to: &Store) -> i64 {
    (to.clock().now().micros() - from.clock().now().micros()) / 1_000
}

/// On files, whoever may write them speaks for every app; on a broker its login does, and that is ours for what is moved.
fn check_login(config: &Config, report: &Report) -> Result<(), Failure> {
    let login = connect::broker_login(config);
    let needed = |users: &[String]| config.apps.len() > 1 || !users.is_empty();
    let listed = |users: &[String]| login.as_ref().is_some_and(|login| users.contains(login));
    let refused: Vec<&str> = config
        .apps
        .iter()
        .filter(|app| needed(&app.amqp_users) && !listed(&app.amqp_users))
        .map(|app| app.id.as_str())
        .collect();
    let waiting = report.queue.iter().filter(|queue| queue.by_login()).map(|queue| queue.files).sum::<u64>();
    if waiting == 0 || refused.is_empty() {
        return Ok(());
    }
    let login = login.map_or_else(|| "the login of broker.url".to_owned(), |login| format!("the login {login}"));
    Err(Failure::Usage(format!(
        "{waiting} requests and receipts wait in the queue, and {login} may not publish for {}; list it in amqp_users of \
         these apps, at least until what was moved has been taken in",
        refused.join(", "),
    )))
}
