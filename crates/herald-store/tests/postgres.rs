//! What only a PostgreSQL can show: its errors, and rows that are months old.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::time::Duration;

use herald_core::delivery::State;
use herald_core::ids::{AppId, PushToken, UserId};
use herald_core::subscription::{Environment, Platform, TokenKind};
use herald_core::time::Timestamp;
use herald_harness::Database;
use herald_store::conformance::{due, only};
use herald_store::{DeadFilter, Delta, DeltaFrom, NewSubscription, PostgresConfig, Store, StoreError};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

fn config(url: String) -> PostgresConfig {
    PostgresConfig { url, ca_pem: None, max_connections: 2, statement_timeout: Duration::from_secs(10) }
}

async fn empty() -> (Database, Store) {
    let database = herald_harness::database().await.unwrap();
    let store = Store::connect(config(database.url())).await.unwrap();
    (database, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_tables_say_what_to_run() {
    let (_database, store) = empty().await;
    for error in [
        store.check_schema().await.unwrap_err(),
        store.stats().await.unwrap_err(),
        store.list(&AppId::new("a"), &UserId::new("u")).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Schema { .. }), "{error}");
        assert!(error.to_string().contains("herald topology"));
        assert!(!error.is_transient());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_an_older_binary_say_what_to_run() {
    let (database, store) = empty().await;
    store.migrate().await.unwrap();
    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    sqlx::query("DELETE FROM _sqlx_migrations").execute(&mut connection).await.unwrap();
    let error = store.check_schema().await.unwrap_err();
    assert!(error.to_string().contains("lack version 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_may_migrate_at_once() {
    let (database, _) = empty().await;
    let mut migrating = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let config = config(database.url());
        migrating.spawn(async move { Store::connect(config).await.unwrap().migrate().await });
    }
    while let Some(migrated) = migrating.join_next().await {
        migrated.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_at_the_address_is_transient_and_the_password_is_not_told() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://herald:hunter2@127.0.0.1:{port}/herald");
    let error = Store::connect(config(url)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_url_that_cannot_be_read_is_named_without_it() {
    let error = Store::connect(config("postgres//herald:hunter2@db".to_owned())).await.unwrap_err();
    assert!(matches!(error, StoreError::Config { .. }) && !error.is_transient());
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_waits_too_long_is_ended_and_transient() {
    let (database, store) = empty().await;
    store.migrate().await.unwrap();
    let mut blocker = PgConnection::connect(&database.url()).await.unwrap();
    let mut tx = blocker.begin().await.unwrap();
    sqlx::query("LOCK TABLE dead_letters").execute(&mut *tx).await.unwrap();
    let quick = PostgresConfig { statement_timeout: Duration::from_millis(200), ..config(database.url()) };
    let quick = Store::connect(quick).await.unwrap();
    let error = quick.dead_matching(&DeadFilter::default()).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("57014"), "{error}");
    tx.rollback().await.unwrap();
    assert_eq!(quick.dead_matching(&DeadFilter::default()).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_by_the_server_are_replaced() {
    let (database, store) = empty().await;
    store.migrate().await.unwrap();
    let mut admin = PgConnection::connect(&database.url()).await.unwrap();
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'herald' AND datname = current_database()")
        .execute(&mut admin)
        .await
        .unwrap();
    // Each of the two connections may fail once, transiently; then all is well.
    for _ in 0..3 {
        match store.dead_matching(&DeadFilter::default()).await {
            Ok(count) => assert_eq!(count, 0),
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
    assert_eq!(store.dead_matching(&DeadFilter::default()).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_subscription_is_known_for_90_days() {
    let (database, store) = empty().await;
    store.migrate().await.unwrap();
    let new = NewSubscription {
        app: AppId::new("mail.contoso.com"),
        user: UserId::new("anna"),
        platform: Platform::Ios,
        token_kind: TokenKind::Token,
        token: PushToken::new("00ff"),
        environment: Environment::Production,
        expires_at: Timestamp::from_secs(4_000_000_000),
        unsid: None,
    };
    let ended = store.subscribe(new).await.unwrap();
    store.end(ended.id).await.unwrap();
    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    for (days, known) in [(89, true), (91, false)] {
        let sql = format!("UPDATE subscriptions SET ended_at = clock_timestamp() - interval '{days} days'");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        let swept = store.sweep(100, Duration::ZERO).await.unwrap();
        assert_eq!(swept.subscriptions_deleted, u64::from(!known), "after {days} days");
        assert_eq!(store.subscription(ended.id).await.unwrap().is_some(), known);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guard_forgets_after_five_minutes_and_its_rows_are_swept() {
    let (database, store) = empty().await;
    store.migrate().await.unwrap();
    let (app, provider) = (AppId::new("a"), herald_core::subscription::Provider::Apns);
    store.guard_count(&app, provider, 5, 5).await.unwrap();
    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    for (minutes, counted) in [(3, 6), (8, 1)] {
        let sql = format!(
            "DELETE FROM guard_counts WHERE accepted <> 5;
             UPDATE guard_counts SET minute = date_trunc('minute', clock_timestamp()) - interval '{minutes} minutes'"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        assert_eq!(store.guard_count(&app, provider, 1, 0).await.unwrap().0, counted, "{minutes} minutes old");
    }
    sqlx::query("UPDATE guard_counts SET minute = minute - interval '20 minutes'")
        .execute(&mut connection)
        .await
        .unwrap();
    assert_eq!(store.sweep(100, Duration::ZERO).await.unwrap().counts_deleted, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_passes_by_what_another_transaction_holds() {
    use herald_store::conformance::{LONG, claim, due};
    let (database, store) = empty().await;
    store.migrate().await.unwrap();
    let (_, held) = due(&store, "anna", "1").await;
    let (_, free) = due(&store, "anna", "2").await;
    let mut other = PgConnection::connect(&database.url()).await.unwrap();
    let mut tx = other.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM deliveries WHERE id = $1 FOR UPDATE")
        .bind(held.delivery.0)
        .execute(&mut *tx)
        .await
        .unwrap();
    assert_eq!(claim(&store, LONG).await, [free]);
    tx.rollback().await.unwrap();
    assert_eq!(claim(&store, LONG).await, [held]);
}

/// A notification as a transaction of another writer inserts it.
const INSERT: &str = "
    INSERT INTO notifications (id, app_id, user_id, key, lane, content, received_at, expires_at)
    VALUES (gen_random_uuid(), 'mail.contoso.com', 'anna', $1, 1, $2, clock_timestamp(), clock_timestamp() + interval '1 day')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_after_a_mark_was_taken_is_in_the_next_delta_however_early_it_began() {
    let (database, store) = empty().await;
    store.migrate().await.unwrap();
    let content = r#"{"payload":{"raw":"{}"},"target_policy":["iOS"]}"#;
    let mut slow = PgConnection::connect(&database.url()).await.unwrap();
    let mut quick = PgConnection::connect(&database.url()).await.unwrap();
    let mut open = slow.begin().await.unwrap();
    sqlx::query(INSERT).bind("slow").bind(content).execute(&mut *open).await.unwrap();
    // A later transaction commits first; a client that remembered its number, or the time, would miss the slow one.
    sqlx::query(INSERT).bind("quick").bind(content).execute(&mut quick).await.unwrap();
    let (app, user) = (AppId::new("mail.contoso.com"), UserId::new("anna"));
    let page = async |since| {
        let from = DeltaFrom { since, ..DeltaFrom::default() };
        match store.delta(&app, &user, from, 10).await.unwrap() {
            Delta::Page(page, mark) => (page.entries.len(), mark),
            Delta::UnknownMark => panic!("the mark is this store's"),
        }
    };
    let (first, mark) = page(None).await;
    assert_eq!(first, 1, "only what is committed is seen");
    open.commit().await.unwrap();
    let (second, _) = page(Some(mark)).await;
    assert_eq!(second, 2, "the slow one; the quick one again, since it is not known to be older");
}

#[tokio::test]
async fn what_is_due_to_a_subscription_that_was_erased_meanwhile_is_closed_when_it_is_taken() {
    let (database, store) = empty().await;
    store.migrate().await.unwrap();
    let (id, hint) = due(&store, "anna", "1").await;
    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    sqlx::query("DELETE FROM subscriptions").execute(&mut connection).await.unwrap();
    assert!(store.take(&[hint], Duration::from_secs(60)).await.unwrap().is_empty());
    assert_eq!(only(&store, id).await.delivery.state, State::Withdrawn);
}
