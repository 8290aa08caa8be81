//! `herald subscriptions import`: very many at once, in transactions of 5,000. Adds what isn't there, takes nothing from what is,
//! and so may be repeated; broken off, it says where to go on.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use herald_core::time::Timestamp;
use herald_store::{IMPORT_STEP, Imported, NewSubscription, Store};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::args::{Format, ImportArgs};
use super::rows::{Rows, Wrong, subscription};
use crate::config::Config;
use crate::connect::{self, Role};
use crate::failure::Failure;
use crate::{out, shutdown};

/// Batches that are read ahead of the store: one is written while the next is read.
const AHEAD: usize = 2;
/// Bad lines that are shown; the others are counted.
const SHOWN: u64 = 1_000;
/// How many lines after which it says how far it is.
const NOTE_EVERY: u64 = 100_000;

/// Rows that are imported at once.
#[derive(Debug, Default)]
struct Batch {
    new: Vec<NewSubscription>,
    /// The line of each.
    lines: Vec<u64>,
    bad: Vec<Wrong>,
    /// The last line in it.
    line: u64,
}

/// What became of all lines.
#[derive(Debug, Default)]
struct Tally {
    added: u64,
    known: u64,
    superseded: u64,
    bad: u64,
    /// The last line that is dealt with.
    line: u64,
}

/// Reads and imports to the end, or until a signal.
///
/// # Errors
/// [`Failure::Usage`] for a file that can't be read or has no columns; a report if lines were bad, or if it was broken off; as any
/// call of the store.
pub(super) async fn run(config: &Config, args: &ImportArgs) -> anyhow::Result<()> {
    let store = connect::ready_store(config, Role::Other).await?;
    let rows = open(&args.file, args.format(), args.from_line)?;
    let known: Vec<_> = config.apps.iter().map(|app| app.id.clone()).collect();
    let (batches, read) = mpsc::channel(AHEAD);
    let now = store.clock().now();
    let is_known = move |app: &herald_core::ids::AppId| known.is_empty() || known.contains(app);
    let reading = tokio::task::spawn_blocking(move || read_all(rows, now, is_known, &batches));
    let mut tally = Tally::default();
    let done = shutdown::until_signal(|stop| write_all(&store, read, reading, &mut tally, stop)).await;
    store.close().await;
    if let Err(report) = done {
        let again =
            format!("{} is imported; go on with --from-line {}", last(&tally), tally.line.max(args.from_line - 1) + 1);
        return Err(report.context(again));
    }
    told(&tally, args.json)?;
    if tally.bad > 0 {
        anyhow::bail!("{} of the lines could not be imported; the others are", tally.bad);
    }
    Ok(())
}

fn last(tally: &Tally) -> String {
    match tally.line {
        0 => "nothing".to_owned(),
        line => format!("all up to line {line}"),
    }
}

fn told(tally: &Tally, json: bool) -> io::Result<()> {
    let Tally { added, known, superseded, bad, line } = tally;
    if json {
        return out::json(
            &json!({ "added": added, "known": known, "superseded": superseded, "bad": bad, "lastLine": line }),
        );
    }
    out::line(format!(
        "{added} added, {known} known already, {superseded} superseded here, {bad} bad; last line {line}"
    ))
}

type Input = Box<dyn BufRead + Send>;

fn open(file: &Path, format: Format, from_line: u64) -> Result<Rows<Input>, Failure> {
    let wrong = |error: String| Failure::Usage(format!("{}: {error}", file.display()));
    let input: Input = if file == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(file).map_err(|error| wrong(error.to_string()))?))
    };
    let rows = Rows::new(input, format, from_line).map_err(|error| wrong(error.to_string()))?;
    rows.map_err(|error| wrong(error.to_string()))
}

/// Reads to the end, or until nobody wants more.
fn read_all(
    mut rows: Rows<Input>,
    now: Timestamp,
    known: impl Fn(&herald_core::ids::AppId) -> bool,
    batches: &mpsc::Sender<Batch>,
) -> io::Result<()> {
    loop {
        let mut batch = Batch::default();
        while batch.lines.len() + batch.bad.len() < IMPORT_STEP
            && let Some((line, row)) = rows.next()?
        {
            batch.line = line;
            match row.and_then(|row| subscription(&row, line, now, &known)) {
                Ok(new) => {
                    batch.new.push(new);
                    batch.lines.push(line);
                }
                Err(wrong) => batch.bad.push(wrong),
            }
        }
        if batch.line == 0 || batches.blocking_send(batch).is_err() {
            return Ok(());
        }
    }
}

/// Writes what was read. What of it is committed is in the tally, however this ends.
async fn write_all(
    store: &Store,
    mut read: mpsc::Receiver<Batch>,
    reading: JoinHandle<io::Result<()>>,
    tally: &mut Tally,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        // Dropping the other future is safe: a batch that was not received is not committed, and not counted.
        let batch = tokio::select! {
            biased;
            () = stop.cancelled() => anyhow::bail!("stopped by a signal"),
            batch = read.recv() => batch,
        };
        let Some(batch) = batch else { break };
        let results = store.import(&batch.new).await.map_err(connect::store_failure)?;
        let before = tally.line / NOTE_EVERY;
        tally.line = batch.line;
        for wrong in &batch.bad {
            tally.bad(wrong);
        }
        for (result, line) in results.into_iter().zip(batch.lines) {
            match result {
                Imported::Added => tally.added += 1,
                Imported::Known => tally.known += 1,
                Imported::Superseded => tally.superseded += 1,
                Imported::Refused => tally.bad(&format!(
                    "line {line}: unsid: is another user's or another app's here; leave it out for a new one"
                )),
            }
        }
        if tally.line / NOTE_EVERY > before {
            out::note(format!("line {}: {} added", tally.line, tally.added));
        }
    }
    // Nothing more comes, so it has ended.
    Ok(reading.await??)
}

impl Tally {
    fn bad(&mut self, what: &impl ToString) {
        self.bad += 1;
        if self.bad <= SHOWN {
            out::note(what.to_string());
        } else if self.bad == SHOWN + 1 {
            out::note("more bad lines are counted, and not shown");
        }
    }
}
