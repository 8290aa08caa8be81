//! Processes that are killed with -9 while they hold messages of a file: nothing is lost, each time is counted, and what kills
//! process after process is moved out of the way.
//!
//! The process that is killed is this test's own executable, told by a variable to hold messages instead of testing.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use herald_core::lane::Lane;
use herald_queue::conformance::{ids, request, take};
use herald_queue::{Queue, Source, topology};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::queue_in;

const LIMIT: Duration = Duration::from_secs(60);
const HIGH: Source = Source::Requests(Lane::High);

/// Tells this executable which file's messages to hold, and of which queue.
const FILE: &str = "HERALD_TEST_HOLD_FILE";
const QUEUE: &str = "HERALD_TEST_HOLD_QUEUE";

/// What the process prints before what its test wants to know.
const SAYS: &str = "says:";

/// What a process does that is to be killed: takes a message of a queue and does not settle it.
async fn hold(file: &Path) -> Result<()> {
    let source = std::env::var(QUEUE).ok().and_then(|name| Source::from_queue(&name)).context("a queue")?;
    let queue = Queue::open_file(file).await?;
    let mut consumer = queue.consume(source, 2);
    let held = take(&mut consumer, 1).await;
    println!("{SAYS}{}", held[0].delivery_count);
    // Until it is killed, or whoever started it is gone.
    tokio::io::stdin().read_to_end(&mut vec![]).await?;
    Ok(())
}

/// The lines that another process prints.
type Said = Lines<BufReader<ChildStdout>>;

/// This executable as another process that runs one test.
fn start(test: &str, folder: &TempDir, queue: &str) -> Result<(Child, Said)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(FILE, folder.path().join("queue.db"))
        .env(QUEUE, queue)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let lines = BufReader::new(child.stdout.take().context("it is piped")?).lines();
    Ok((child, lines))
}

/// The next thing it says; `None` once it has ended.
async fn next_said(lines: &mut Said) -> Result<Option<String>> {
    timeout(LIMIT, async {
        while let Some(line) = lines.next_line().await? {
            if let Some((_, said)) = line.split_once(SAYS) {
                return Ok(Some(said.to_owned()));
            }
        }
        Ok(None)
    })
    .await?
}

/// Starts a process that holds a message, and says how often it had been delivered.
async fn holder(test: &str, folder: &TempDir, source: Source) -> Result<(Child, u32)> {
    let (child, mut lines) = start(test, folder, source.queue())?;
    let count = next_said(&mut lines).await?.context("the process ended without holding anything")?;
    Ok((child, count.parse()?))
}

#[tokio::test]
async fn what_a_killed_process_held_comes_again_and_each_time_is_counted() -> Result<()> {
    if let Some(file) = std::env::var_os(FILE) {
        return hold(Path::new(&file)).await;
    }
    let test = "killed::what_a_killed_process_held_comes_again_and_each_time_is_counted";
    let folder = TempDir::new()?;
    let queue = queue_in(&folder).await;
    queue.publisher().publish(request(Lane::High, "kills")).await?;
    for before in 0..3 {
        let (mut child, count) = holder(test, &folder, HIGH).await?;
        assert_eq!(count, before);
        assert_eq!(queue.depth(HIGH).await?, 0, "it is claimed");
        // With SIGKILL.
        child.kill().await?;
    }

    let mut consumer = queue.consume(HIGH, 10);
    let again = take(&mut consumer, 1).await;
    assert_eq!((ids(&again), again[0].delivery_count, again[0].redelivered), (vec!["kills".to_owned()], 3, true));
    assert_eq!(queue.give_back(again).await, 1);
    let again = take(&mut consumer, 1).await;
    assert_eq!(again[0].delivery_count, 3, "what is given back is not counted");
    assert_eq!(queue.ack(again).await, 1);
    queue.close().await;
    Ok(())
}

#[tokio::test]
async fn a_consumer_takes_over_from_a_process_that_is_killed_while_it_waits() -> Result<()> {
    if let Some(file) = std::env::var_os(FILE) {
        return hold(Path::new(&file)).await;
    }
    let test = "killed::a_consumer_takes_over_from_a_process_that_is_killed_while_it_waits";
    let folder = TempDir::new()?;
    let queue = queue_in(&folder).await;
    queue.publisher().publish(request(Lane::High, "r")).await?;
    let (mut child, _) = holder(test, &folder, HIGH).await?;

    let mut consumer = queue.consume(HIGH, 10);
    queue.publisher().publish(request(Lane::High, "next")).await?;
    let pid = child.id().context("it runs")?.to_string();
    herald_harness::wait::until(LIMIT, "the reason", async || {
        queue.health().last_loss.is_some_and(|why| why.contains(&pid))
    })
    .await?;
    child.kill().await?;
    let all = take(&mut consumer, 2).await;
    assert_eq!(ids(&all), ["next", "r"]);
    assert!(queue.health().consuming);
    queue.close().await;
    Ok(())
}

#[tokio::test]
async fn what_was_confirmed_to_a_process_that_is_killed_is_there_once() -> Result<()> {
    if let Some(file) = std::env::var_os(FILE) {
        let publisher = Queue::open_file(Path::new(&file)).await?.publisher();
        for id in 0.. {
            publisher.publish(request(Lane::High, &format!("{id:06}"))).await?;
            println!("{SAYS}{id:06}");
        }
    }
    let test = "killed::what_was_confirmed_to_a_process_that_is_killed_is_there_once";
    let folder = TempDir::new()?;
    let queue = queue_in(&folder).await;
    let mut consumer = queue.consume(HIGH, 10_000);
    let (mut child, mut lines) = start(test, &folder, "")?;
    let mut confirmed = vec![];
    while confirmed.len() < 30 {
        confirmed.push(next_said(&mut lines).await?.context("it ended by itself")?);
    }
    child.kill().await?;
    while let Some(id) = next_said(&mut lines).await? {
        confirmed.push(id);
    }

    let taken = take(&mut consumer, confirmed.len()).await;
    assert_eq!(ids(&taken), confirmed);
    // At most one more: committed, and killed before it could say so.
    queue.publisher().publish(request(Lane::High, "last")).await?;
    let next = ids(&take(&mut consumer, 1).await);
    assert!(next == ["last"] || next == [format!("{:06}", confirmed.len())], "{next:?} was published by nobody");
    queue.close().await;
    Ok(())
}

/// Each opening of the file that ends with messages held counts as a delivery, however it ends.
#[tokio::test]
async fn too_many_deliveries_lead_to_suspect_and_from_there_to_parked() -> Result<()> {
    let folder = TempDir::new()?;
    let queue = queue_in(&folder).await;
    queue.publisher().publish(request(Lane::High, "poison")).await?;
    queue.close().await;
    let close_while_holding = async |source: Source, before: u32| {
        let queue = queue_in(&folder).await;
        let held = take(&mut queue.consume(source, 1), 1).await;
        assert_eq!((ids(&held), held[0].origin, held[0].delivery_count), (vec!["poison".to_owned()], HIGH, before));
        queue.close().await;
    };

    for before in 0..=topology::WORK_DELIVERY_LIMIT {
        close_while_holding(HIGH, before).await;
    }
    // Whoever consumes the queue next moves it; nobody needs to take it.
    let queue = queue_in(&folder).await;
    let (_high, mut suspects) = (queue.consume(HIGH, 1), queue.consume(Source::Suspect, 1));
    let held = take(&mut suspects, 1).await;
    assert_eq!((held[0].origin, held[0].delivery_count, held[0].redelivered), (HIGH, 0, false));
    queue.close().await;
    drop(held);
    for before in 1..=topology::SUSPECT_DELIVERY_LIMIT {
        close_while_holding(Source::Suspect, before).await;
    }

    let queue = queue_in(&folder).await;
    let (_suspects, mut parked) = (queue.consume(Source::Suspect, 1), queue.consume(Source::Parked, 1));
    let parked = take(&mut parked, 1).await;
    assert_eq!((ids(&parked), parked[0].origin, parked[0].park_reason()), (vec!["poison".to_owned()], HIGH, None));
    assert_eq!(parked[0].headers(), [], "no header of the queue passes for the producer's");
    assert_eq!(queue.ack(parked).await, 1);
    queue.close().await;
    Ok(())
}
