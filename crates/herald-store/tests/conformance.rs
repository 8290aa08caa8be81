//! The store's suite against each kind of store.

mod postgres {
    use std::time::Duration;

    use herald_harness::Database;
    use herald_store::{PostgresConfig, Store};

    async fn fresh() -> (Database, Store) {
        let database = herald_harness::database().await.expect("a PostgreSQL for tests");
        let config = PostgresConfig {
            url: database.url(),
            ca_pem: None,
            max_connections: 8,
            statement_timeout: Duration::from_secs(20),
        };
        let store = Store::connect(config).await.expect("connects");
        store.migrate().await.expect("makes its tables");
        (database, store)
    }

    herald_store::conformance_tests!(fresh);
}

mod sqlite {
    use herald_store::{SqliteConfig, Store};
    use tempfile::TempDir;

    async fn fresh() -> (TempDir, Store) {
        let folder = TempDir::new().expect("a folder for tests");
        let config = SqliteConfig { path: folder.path().join("store.db"), leads: true };
        let store = Store::connect(config).await.expect("opens its file");
        (folder, store)
    }

    herald_store::conformance_tests!(fresh);
}
