//! What a caller may rely on, with real files.

use std::path::Path;
use std::time::Duration;

use herald_sqlite::{Database, Fault, FileLock, LockError, Settings};
use tempfile::TempDir;
use tokio::task::JoinSet;

const APPLICATION_ID: i32 = 7;

fn settings(folder: &Path) -> Settings {
    Settings {
        path: folder.join("made/for.us/test.db"),
        application_id: APPLICATION_ID,
        migrations: &[
            "CREATE TABLE numbers (n INTEGER PRIMARY KEY) STRICT",
            "ALTER TABLE numbers ADD COLUMN text TEXT",
        ],
    }
}

async fn open() -> (TempDir, Database) {
    let folder = TempDir::new().expect("a folder");
    let database = Database::open(settings(folder.path())).await.expect("opens");
    (folder, database)
}

async fn insert(database: &Database, n: i64) -> Result<(), Fault> {
    database
        .write(move |connection| {
            connection.prepare_cached("INSERT INTO numbers (n) VALUES (?1)")?.execute([n])?;
            Ok(())
        })
        .await
}

async fn numbers(database: &Database) -> Vec<i64> {
    let all = database.read(|connection| {
        let mut statement = connection.prepare("SELECT n FROM numbers ORDER BY n")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<Vec<i64>, _>>()?)
    });
    all.await.expect("reads")
}

#[tokio::test]
async fn what_was_answered_is_there_after_it_is_opened_again_and_nothing_beside_the_file() {
    let (folder, database) = open().await;
    insert(&database, 1).await.expect("writes");
    database.close().await;
    assert_eq!(insert(&database, 2).await, Err(Fault::Closed));
    let beside: Vec<_> = std::fs::read_dir(database.path().parent().expect("a folder")).expect("is there").collect();
    assert_eq!(beside.len(), 1, "{beside:?}");

    let again = Database::open(settings(folder.path())).await.expect("opens again");
    assert_eq!(numbers(&again).await, [1]);
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_user_may_read_the_file_and_those_beside_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_folder, database) = open().await;
    insert(&database, 1).await.expect("writes");
    for entry in std::fs::read_dir(database.path().parent().expect("a folder")).expect("is there") {
        let entry = entry.expect("is there");
        assert_eq!(entry.metadata().expect("is there").permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_jobs_that_share_a_commit_only_the_one_that_fails_is_undone() {
    let (_folder, database) = open().await;
    insert(&database, 50).await.expect("writes");
    let mut jobs = JoinSet::new();
    for n in 0..100 {
        let database = database.clone();
        jobs.spawn(async move { (n, insert(&database, n).await) });
    }
    while let Some(done) = jobs.join_next().await {
        let (n, result) = done.expect("no panic");
        assert_eq!(result.is_err(), n == 50, "{n}: {result:?}");
    }
    assert_eq!(numbers(&database).await, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_job_that_panics_does_so_in_its_caller_and_leaves_nothing() {
    let (_folder, database) = open().await;
    let panicking = database.clone();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let job = panicking.write(|connection| -> Result<(), Fault> {
            connection.execute("INSERT INTO numbers (n) VALUES (1)", [])?;
            panic!("within the job")
        });
        job.await
    });
    let panic = task.join_next().await.expect("one").expect_err("panics").into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"within the job"));
    insert(&database, 2).await.expect("goes on");
    assert_eq!(numbers(&database).await, [2]);
}

#[tokio::test]
async fn a_job_that_takes_its_transaction_with_it_is_told_so_and_the_next_one_goes_on() {
    let (_folder, database) = open().await;
    for misuse in ["ROLLBACK", "RELEASE job"] {
        let job = database.write(move |connection| {
            connection.execute("INSERT INTO numbers (n) VALUES (1)", [])?;
            Ok(connection.execute_batch(misuse)?)
        });
        assert!(job.await.is_err(), "{misuse}");
        let read = database.read(|connection| Ok(connection.execute_batch("COMMIT")?));
        assert_eq!(read.await, Ok(()));
        assert_eq!(numbers(&database).await, Vec::<i64>::new(), "{misuse}: nothing of it stays");
    }
    insert(&database, 2).await.expect("goes on");
    assert_eq!(numbers(&database).await, [2]);
}

#[tokio::test]
async fn a_full_disk_is_said_loses_nothing_and_is_over_when_there_is_space() {
    let (_folder, database) = open().await;
    insert(&database, 1).await.expect("writes");
    database.limit_pages(1).await.expect("limits");
    let fill = |database: Database| async move {
        let job = database.write(|connection| {
            for n in 10..2_000 {
                connection.execute("INSERT INTO numbers (n, text) VALUES (?1, printf('%.*c', 500, 'x'))", [n])?;
            }
            Ok(())
        });
        job.await
    };
    assert_eq!(fill(database.clone()).await, Err(Fault::Full));
    assert!(Fault::Full.is_transient());
    assert_eq!(numbers(&database).await, [1]);
    database.limit_pages(u32::MAX).await.expect("lifts");
    fill(database.clone()).await.expect("has space");
    assert_eq!(numbers(&database).await.len(), 1_991);
}

#[tokio::test]
async fn what_is_no_database_or_not_ours_is_left_as_it_is() {
    let folder = TempDir::new().expect("a folder");
    let path = settings(folder.path()).path;
    std::fs::create_dir_all(path.parent().expect("has one")).expect("makes it");
    let text = "this is a text, and long enough for the header of a database: ".repeat(20);
    std::fs::write(&path, &text).expect("writes");
    assert_eq!(Database::open(settings(folder.path())).await.err(), Some(Fault::Corrupt));
    assert_eq!(std::fs::read_to_string(&path).expect("reads"), text);

    std::fs::remove_file(&path).expect("removes");
    let other = herald_sqlite::rusqlite::Connection::open(&path).expect("opens");
    other.execute_batch("CREATE TABLE mine (a)").expect("makes");
    drop(other);
    assert_eq!(Database::open(settings(folder.path())).await.err(), Some(Fault::Foreign));

    let nowhere = Settings { path: folder.path().to_path_buf(), ..settings(folder.path()) };
    assert!(matches!(Database::open(nowhere).await, Err(Fault::CantOpen { .. })));
}

#[tokio::test]
async fn another_process_may_write_too_and_is_noticed() {
    let (folder, database) = open().await;
    let other = Database::open(settings(folder.path())).await.expect("opens as well");
    let before = database.version().await.expect("tells");
    assert_eq!(database.version().await, Ok(before));
    insert(&other, 1).await.expect("writes");
    assert_ne!(database.version().await, Ok(before));
    assert_eq!(numbers(&database).await, [1]);
}

#[tokio::test]
async fn an_abandoned_job_is_not_done_and_a_reader_can_not_write() {
    let (_folder, database) = open().await;
    let written = database.read(|connection| {
        connection.execute("INSERT INTO numbers (n) VALUES (1)", [])?;
        Ok(())
    });
    assert_eq!(written.await, Err(Fault::ReadOnly));

    // The writer is busy until told; what is given up meanwhile is not begun.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let mut busy = JoinSet::new();
    let blocked = database.clone();
    busy.spawn(async move {
        let job = move |_: &_| {
            begun.send(()).ok();
            wait.recv_timeout(Duration::from_secs(20)).ok();
            Ok(())
        };
        blocked.write(job).await
    });
    has_begun.await.expect("begins");
    tokio::select! {
        biased;
        done = insert(&database, 9) => panic!("{done:?}"),
        () = tokio::task::yield_now() => {}
    }
    go.send(()).expect("it waits");
    assert_eq!(busy.join_next().await.expect("one").expect("no panic"), Ok(()));
    insert(&database, 2).await.expect("writes");
    assert_eq!(numbers(&database).await, [2]);
}

#[test]
fn a_lock_is_held_by_one_and_says_by_whom() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("lock");
    let lock = FileLock::take(&path).expect("is free");
    let refused = FileLock::take(&path).expect_err("is held");
    assert!(
        matches!(&refused, LockError::Held { process: Some(p) } if *p == std::process::id().to_string()),
        "{refused}"
    );
    drop(lock);
    drop(FileLock::take(&path).expect("is free again"));
}
