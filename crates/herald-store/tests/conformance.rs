//! The store's suite against PostgreSQL.

use std::time::Duration;

use herald_harness::Database;
use herald_store::{Config, Store};

async fn fresh() -> (Database, Store) {
    let database = herald_harness::database().await.expect("a PostgreSQL for tests");
    let config =
        Config { url: database.url(), ca_pem: None, max_connections: 8, statement_timeout: Duration::from_secs(20) };
    let store = Store::connect(config).await.expect("connects");
    store.migrate().await.expect("makes its tables");
    (database, store)
}

herald_store::conformance_tests!(fresh);
