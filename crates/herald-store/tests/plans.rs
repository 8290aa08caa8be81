//! What the hot statements read when the table is large: a million held rows, a million closed ones, some due.
//!
//! A claim that reads what is held, or a take that reads the table, would be right and useless.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::ops::RangeInclusive;
use std::time::Duration;

use herald_store::{PostgresConfig, Store, statements};
use serde_json::Value;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, Postgres, Row};
use uuid::Uuid;

/// Held until the next hour, closed, due.
const HELD: u32 = 1_000_000;
const CLOSED: u32 = 1_000_000;
const DUE: u32 = 5_000;
/// Rows of each statement's batch.
const BATCH: u32 = 500;

fn id(n: u32) -> Uuid {
    Uuid::from_u128(u128::from(n))
}

fn ids(range: RangeInclusive<u32>) -> Vec<Uuid> {
    range.map(id).collect()
}

/// Fills the table without its indexes and without a log, which makes it a matter of seconds.
async fn fill(connection: &mut PgConnection) {
    let statements = format!(
        "
        DROP INDEX deliveries_due;
        DROP INDEX deliveries_of_notification;
        ALTER TABLE deliveries DROP CONSTRAINT deliveries_pkey;
        ALTER TABLE deliveries SET UNLOGGED;
        ALTER TABLE deliveries SET (autovacuum_enabled = false);
        INSERT INTO deliveries (id, notification_id, unsid, app_id, provider, state, form, lane, queue, version, takes,
                                next_at, closed_at)
        SELECT lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(n / 2), 32, '0')::uuid, lpad(to_hex(n), 32, '0')::uuid,
               'mail.contoso.com', 0,
               CASE WHEN n <= {open} THEN 0 ELSE 10 END, 0, 1 + n % 3, 1 + n % 3, 1, 0,
               CASE WHEN n <= {DUE} THEN clock_timestamp() - n * interval '1 ms'
                    WHEN n <= {open} THEN clock_timestamp() + interval '1 hour' + n * interval '1 ms' END,
               CASE WHEN n > {open} THEN clock_timestamp() END
          FROM generate_series(1, {all}) AS n;
        ALTER TABLE deliveries ADD PRIMARY KEY (id);
        CREATE INDEX deliveries_due ON deliveries (queue, next_at) WHERE next_at IS NOT NULL;
        CREATE INDEX deliveries_of_notification ON deliveries (notification_id, unsid);
        VACUUM ANALYZE deliveries;",
        open = DUE + HELD,
        all = DUE + HELD + CLOSED,
    );
    for statement in statements.split(';').filter(|s| !s.trim().is_empty()) {
        sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut *connection).await.unwrap();
    }
}

/// What a statement did, as PostgreSQL tells it.
struct Told {
    plan: Value,
    modified: i64,
}

/// Runs a statement under EXPLAIN ANALYZE and undoes it.
async fn explain(
    connection: &mut PgConnection,
    sql: &str,
    bind: impl FnOnce(Query<'_, Postgres, PgArguments>) -> Query<'_, Postgres, PgArguments>,
) -> Told {
    let mut tx = connection.begin().await.unwrap();
    let sql = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}");
    let row: PgRow = bind(sqlx::query(AssertSqlSafe(sql))).fetch_one(&mut *tx).await.unwrap();
    let json: String = row.try_get_unchecked(0).unwrap();
    tx.rollback().await.unwrap();
    let mut plans: Value = serde_json::from_str(&json).unwrap();
    let plan = plans[0]["Plan"].take();
    let modified = plan["Actual Rows"].as_f64().unwrap() as i64;
    Told { plan, modified }
}

/// All nodes of a plan that scan `deliveries`: (kind, index, rows read and thrown away).
fn scans(plan: &Value) -> Vec<(String, String, i64)> {
    let mut found = Vec::new();
    let kind = plan["Node Type"].as_str().unwrap_or_default();
    if kind.contains("Scan") && (plan["Relation Name"] == "deliveries" || kind.contains("Bitmap Index")) {
        let loops = plan["Actual Loops"].as_f64().unwrap_or(1.0);
        let number = |key: &str| (plan[key].as_f64().unwrap_or(0.0) * loops) as i64;
        let thrown = number("Rows Removed by Filter") + number("Rows Removed by Index Recheck");
        let index = plan["Index Name"].as_str().unwrap_or("none");
        found.push((kind.to_owned(), index.to_owned(), thrown));
    }
    for child in plan["Plans"].as_array().into_iter().flatten() {
        found.extend(scans(child));
    }
    found
}

/// Pages touched by a plan and all below it, and by its scan of an index alone.
fn pages(plan: &Value) -> i64 {
    plan["Shared Hit Blocks"].as_i64().unwrap_or(0) + plan["Shared Read Blocks"].as_i64().unwrap_or(0)
}

/// Pages touched by the one scan of this index.
fn pages_of_index(plan: &Value, index: &str) -> Option<i64> {
    if plan["Index Name"] == index && plan["Node Type"].as_str().is_some_and(|kind| kind.starts_with("Index")) {
        return Some(pages(plan));
    }
    plan["Plans"].as_array().into_iter().flatten().find_map(|child| pages_of_index(child, index))
}

/// Never reads the table from end to end, nor rows that it throws away; a batch touches a bounded number of pages.
fn check(name: &str, told: &Told, rows: u32, indexes: &[&str]) {
    let scans = scans(&told.plan);
    assert!(!scans.is_empty(), "{name}: {:#}", told.plan);
    for (kind, index, thrown) in &scans {
        assert_ne!(kind, "Seq Scan", "{name} reads the whole table: {:#}", told.plan);
        assert!(kind.starts_with("Bitmap Heap") || indexes.contains(&index.as_str()), "{name}: {kind} {index}");
        assert!(*thrown <= i64::from(rows), "{name} reads {thrown} rows for nothing: {:#}", told.plan);
    }
    assert_eq!(told.modified, i64::from(rows), "{name}");
    // For each row: found twice (lock, update), a new row, entries in three indexes: some 25 pages, mostly the same ones.
    let most = i64::from(rows) * 40;
    assert!(pages(&told.plan) <= most, "{name} touches {} pages", pages(&told.plan));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hot_statements_read_only_what_they_write_however_large_the_table() {
    let database = herald_harness::database().await.unwrap();
    let config = PostgresConfig {
        url: database.url(),
        ca_pem: None,
        max_connections: 2,
        statement_timeout: Duration::from_secs(120),
    };
    let store = Store::connect(config).await.unwrap();
    store.migrate().await.unwrap();
    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    fill(&mut connection).await;
    sqlx::query("SET random_page_cost = 1.1").execute(&mut connection).await.unwrap();
    sqlx::query("SET jit = off").execute(&mut connection).await.unwrap();
    let many = BATCH as usize;

    let claim = explain(&mut connection, statements::CLAIM_DUE, |query| {
        query.bind(1_i16).bind(i64::from(BATCH)).bind(30_000_000_i64)
    })
    .await;
    check("claim", &claim, BATCH, &["deliveries_due", "deliveries_pkey"]);
    // The claim itself: a page of the heap for each row at most, and a few of the index; nothing of what is held.
    let claimed = pages_of_index(&claim.plan, "deliveries_due").expect("the claim searches deliveries_due");
    assert!(claimed <= i64::from(BATCH) * 2, "the claim touches {claimed} pages: {:#}", claim.plan);

    // A claim that finds less than it may take stops at the first row that is held.
    let last = explain(&mut connection, statements::CLAIM_DUE, |query| {
        query.bind(1_i16).bind(i64::from(DUE)).bind(30_000_000_i64)
    })
    .await;
    check("last claim", &last, DUE / 3, &["deliveries_due", "deliveries_pkey"]);

    // Spread over the whole table, as random work would be.
    let spread: Vec<Uuid> = (0..BATCH).map(|n| id(1 + n * 2_000)).collect();
    let take = explain(&mut connection, statements::TAKE, |query| {
        query.bind(spread.clone()).bind(vec![1_i64; many]).bind(1_i16).bind(30_000_000_i64)
    })
    .await;
    check("take", &take, BATCH, &["deliveries_pkey"]);

    let record = explain(&mut connection, statements::RECORD, |query| {
        query
            .bind(spread.clone())
            .bind(vec![1_i64; many])
            .bind(vec![10_i16; many])
            .bind(vec![0_i16; many])
            .bind(vec![1_i16; many])
            .bind(vec![None::<time::OffsetDateTime>; many])
            .bind(vec![None::<time::OffsetDateTime>; many])
            .bind(vec![false; many])
            .bind(vec![None::<String>; many])
            .bind(vec![Some("{}".to_owned()); many])
    })
    .await;
    check("record", &record, BATCH, &["deliveries_pkey"]);

    let receive = explain(&mut connection, statements::RECEIVE, |query| {
        query.bind(ids(1..=BATCH)).bind(vec![None::<time::OffsetDateTime>; many]).bind(11_i16)
    })
    .await;
    check("receive", &receive, BATCH, &["deliveries_pkey"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_dead_letters_are_read_in_the_order_of_their_index_and_without_bodies() {
    let database = herald_harness::database().await.unwrap();
    let config = PostgresConfig {
        url: database.url(),
        ca_pem: None,
        max_connections: 2,
        statement_timeout: Duration::from_secs(120),
    };
    let store = Store::connect(config).await.unwrap();
    store.migrate().await.unwrap();
    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    let fill = "
        INSERT INTO dead_letters (id, source_queue, reason_code, field, problem, fix, app_id, headers, body, parked_at)
        SELECT lpad(to_hex(n), 32, '0')::uuid, 'herald.requests.high', CASE n % 2 WHEN 0 THEN 'poison' ELSE 'other' END,
               '', '', '', 'mail.contoso.com', '{}', decode(repeat(md5(n::text), 1000), 'hex'),
               timestamptz '2026-01-01' + n * interval '1 s'
          FROM generate_series(1, 20000) AS n";
    sqlx::query(fill).execute(&mut connection).await.unwrap();
    sqlx::query("VACUUM ANALYZE dead_letters").execute(&mut connection).await.unwrap();
    sqlx::query("SET random_page_cost = 1.1").execute(&mut connection).await.unwrap();
    let (from, to) =
        (time::OffsetDateTime::UNIX_EPOCH, time::OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1 << 32));
    for statement in [statements::DEAD_OLDEST, statements::DEAD_NEWEST] {
        let told = explain(&mut connection, statement, |query| {
            let stretch = query.bind(from).bind(Uuid::nil()).bind(to).bind(Uuid::max());
            stretch.bind(Some("poison")).bind(None::<String>).bind(None::<String>).bind(false).bind(500_i64)
        })
        .await;
        let plan = told.plan.to_string();
        assert_eq!(told.modified, 500, "{plan}");
        assert!(plan.contains("dead_letters_newest") && !plan.contains("Sort") && !plan.contains("Seq Scan"), "{plan}");
        // A thousand rows and their part of the index; a body has four pages of its own.
        assert!(pages(&told.plan) < 1_000, "reads {} pages", pages(&told.plan));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_notifications_are_read_newest_first_by_their_index_and_nobody_elses() {
    let database = herald_harness::database().await.unwrap();
    let config = PostgresConfig {
        url: database.url(),
        ca_pem: None,
        max_connections: 2,
        statement_timeout: Duration::from_secs(120),
    };
    let store = Store::connect(config).await.unwrap();
    store.migrate().await.unwrap();
    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    // 50 of each user, all over the table.
    let fill = "
        INSERT INTO notifications (id, app_id, user_id, key, lane, content, received_at, expires_at)
        SELECT lpad(to_hex(n), 32, '0')::uuid, 'mail.contoso.com', 'user-' || n % 2000, n::text, 1, repeat('x', 500),
               clock_timestamp(), clock_timestamp() + interval '1 day'
          FROM generate_series(1, 100000) AS n";
    sqlx::query(fill).execute(&mut connection).await.unwrap();
    sqlx::query("VACUUM ANALYZE notifications").execute(&mut connection).await.unwrap();
    sqlx::query("SET random_page_cost = 1.1").execute(&mut connection).await.unwrap();
    for (since, found) in [(None, 21), (Some(i64::MAX), 0)] {
        let told = explain(&mut connection, statements::ENTRIES, |query| {
            let whose = query.bind("mail.contoso.com").bind("user-7").bind(Uuid::max());
            let filter = whose.bind(Some(false)).bind(None::<bool>).bind(None::<i16>).bind(None::<String>);
            filter.bind(since).bind(21_i64)
        })
        .await;
        let plan = told.plan.to_string();
        assert_eq!(told.modified, found, "{plan}");
        assert!(plan.contains("notifications_of_user") && !plan.contains("Sort"), "{plan}");
        // The user's own rows, and their part of the index.
        assert!(pages(&told.plan) <= 60, "reads {} pages: {plan}", pages(&told.plan));
    }
}
