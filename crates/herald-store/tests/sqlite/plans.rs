//! What the statements read: none searches a large table from end to end.
//!
//! SQLite plans without statistics here, as in the store, so what it says of empty tables is what it does with full ones. The
//! statements are taken from the sources: each is a literal there, and none can be forgotten.

use std::fs;
use std::path::Path;

use herald_sqlite::rusqlite::Connection;

use crate::{fresh, look_into};

/// Tables with a row for each message or device.
const LARGE: [&str; 5] = ["notifications", "deliveries", "subscriptions", "outbox", "dead_letters"];

/// What figures read: an index of what is open or waiting, which they count; and what is done once in a lifetime.
const COUNTS: [(&str, &str); 8] = [
    ("history.rs", "SCAN deliveries USING INDEX deliveries_due"),
    ("history.rs", "SCAN dead_letters USING COVERING INDEX"),
    ("history.rs", "SCAN outbox USING COVERING INDEX"),
    ("dead.rs", "SCAN dead_letters USING COVERING INDEX"),
    // A clock that was put right.
    ("time.rs", "SCAN deliveries"),
    ("time.rs", "SCAN notifications"),
    ("time.rs", "SCAN outbox"),
    ("time.rs", "SCAN subscriptions"),
];

/// A statement and the file it is in.
struct Literal {
    file: String,
    sql: String,
}

/// All SQL of src/sqlite.
fn statements() -> Vec<Literal> {
    let mut all = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sqlite")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let source = fs::read_to_string(&path).unwrap();
        let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        // Every second piece is within quotes: no literal of ours has a quote in it.
        for literal in code.join("\n").split('"').skip(1).step_by(2) {
            let sql = literal.trim();
            if ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH "].iter().any(|verb| sql.starts_with(verb)) {
                all.push(Literal { file: file.clone(), sql: sql.to_owned() });
            }
        }
    }
    all
}

/// The lines of `EXPLAIN QUERY PLAN`.
fn plan(file: &Connection, sql: &str) -> Vec<String> {
    let mut explain =
        file.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap_or_else(|error| panic!("{error}: {sql}"));
    let lines = explain.raw_query().mapped(|row| row.get("detail")).collect::<Result<_, _>>();
    lines.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_reads_a_large_table_from_end_to_end() {
    let (folder, _store) = fresh().await;
    let file = look_into(folder.path());
    let statements = statements();
    assert!(statements.len() > 50, "only {} statements were found", statements.len());
    let mut searched = 0;
    for Literal { file: name, sql } in &statements {
        for line in plan(&file, sql) {
            searched += usize::from(line.starts_with("SEARCH"));
            let counts = COUNTS.iter().any(|(file, count)| name == file && line.starts_with(count));
            let large = LARGE.iter().any(|table| line.split(' ').nth(1) == Some(table));
            assert!(!(line.starts_with("SCAN") && large) || counts, "{name}: {line}\n{sql}");
        }
    }
    assert!(searched > 40, "only {searched} searches were found");
}

/// The plan of the one statement of a file that has these words, which must read by this index, in its order.
fn assert_uses(connection: &Connection, statements: &[Literal], (file, words): (&str, &str), index: &str) {
    let mut found = statements.iter().filter(|s| s.file == file && s.sql.contains(words));
    let sql = &found.next().unwrap_or_else(|| panic!("{file} has no statement with {words}")).sql;
    let lines = plan(connection, sql);
    assert!(lines.iter().any(|line| line.starts_with("SEARCH") && line.contains(index)), "{lines:?}\n{sql}");
    // A claim that sorts has read all that is due, however little it may take.
    assert!(!lines.iter().any(|line| line.contains("TEMP B-TREE")), "{lines:?}\n{sql}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_in_order_is_read_in_the_order_of_its_index() {
    let (folder, _store) = fresh().await;
    let connection = look_into(folder.path());
    let statements = statements();
    for (statement, index) in [
        (("due.rs", "ORDER BY next_at"), "deliveries_due (queue=? AND next_at<?)"),
        (("fanout.rs", "ORDER BY next_at"), "notifications_due (next_at<?)"),
        (("outbox.rs", "ORDER BY next_at"), "outbox_due (next_at<?)"),
        (("sweep.rs", "ORDER BY expires_at"), "_to_expire (expires_at<?)"),
        (("sweep.rs", "ORDER BY swept_at"), "notifications_to_delete (swept_at>? AND swept_at<?)"),
        (("sweep.rs", "ORDER BY ended_at"), "subscriptions_to_delete (ended_at>? AND ended_at<?)"),
        (("subscriptions.rs", "ORDER BY id"), "subscriptions_of_user (app_id=? AND user_id=? AND id>?)"),
        (("subscriptions.rs", "token = ?3 AND"), "subscriptions_by_token (app_id=? AND environment=? AND token=?)"),
        (
            ("dead.rs", "IS NULL)\n         ORDER BY parked_at DESC"),
            "dead_letters_newest ((parked_at,id)>(?,?) AND (parked_at,id)<(?,?))",
        ),
        (("dead.rs", "ORDER BY parked_at, id"), "dead_letters_newest ((parked_at,id)>(?,?) AND (parked_at,id)<(?,?))"),
        (("reading.rs", "ORDER BY id DESC"), "notifications_of_user (app_id=? AND user_id=? AND id<?)"),
        (("pauses.rs", "next_at <= ?4"), "deliveries_due (queue=? AND next_at<?)"),
        (("pauses.rs", "next_at > ?6"), "deliveries_due (queue=? AND next_at>?)"),
        (("receipts.rs", "FROM deliveries"), "deliveries_of_notification (notification_id=? AND unsid=?)"),
        (("history.rs", "ORDER BY next_at"), "deliveries_due (queue=? AND next_at<?)"),
    ] {
        assert_uses(&connection, &statements, statement, index);
    }
}
