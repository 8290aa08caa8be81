//! Errors of the driver become [`StoreError`]: by SQLSTATE, never by text, which may quote a value.

use crate::StoreError;

/// For `map_err`: this happened during `operation`.
pub(crate) fn during(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| classify(operation, &error)
}

fn classify(operation: &'static str, error: &sqlx::Error) -> StoreError {
    let unavailable = |cause: String| StoreError::Unavailable { operation, cause };
    let defect = |problem: String| StoreError::Defect { operation, problem };
    match error {
        sqlx::Error::Database(e) => {
            let code = e.code().unwrap_or_default();
            let constraint = e.constraint().map(|c| format!(" ({c})")).unwrap_or_default();
            match &*code {
                // No such table, column, function; no such schema.
                "42P01" | "42703" | "42883" | "3F000" => {
                    StoreError::Schema { problem: format!("the tables are missing or old (SQLSTATE {code})") }
                }
                code if is_transient(code) => unavailable(format!("SQLSTATE {code}")),
                code => defect(format!("SQLSTATE {code}{constraint}")),
            }
        }
        sqlx::Error::Io(e) => unavailable(format!("connection: {}", e.kind())),
        sqlx::Error::Tls(_) => unavailable("TLS handshake failed".to_owned()),
        sqlx::Error::PoolTimedOut => unavailable("no connection to be had in time".to_owned()),
        sqlx::Error::PoolClosed => unavailable("the store is closed".to_owned()),
        sqlx::Error::WorkerCrashed | sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => {
            unavailable("the connection is out of step".to_owned())
        }
        sqlx::Error::ColumnDecode { index, .. } => defect(format!("column {index} can't be read")),
        sqlx::Error::RowNotFound => defect("a row is missing".to_owned()),
        _ => defect("the driver refused it".to_owned()),
    }
}

/// SQLSTATE classes and codes after which the same transaction may succeed (PostgreSQL, appendix A).
fn is_transient(code: &str) -> bool {
    // 08 connection, 40 rollback (deadlock, serialization), 53 resources, 57P shutdown and recovery, 58 system.
    ["08", "40", "53", "57P", "58"].iter().any(|class| code.starts_with(class))
        // Cancelled (statement timeout), lock not available, idle in transaction, read-only (a failover's old primary).
        || ["57014", "55P03", "25P03", "25006"].contains(&code)
}

/// Is it a second row where a unique index allows one?
pub(crate) fn is_unique_violation(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.is_unique_violation())
}

/// A row that this binary can't read: a number it doesn't know, JSON that isn't.
pub(crate) fn unreadable(operation: &'static str, column: &'static str) -> StoreError {
    StoreError::Defect { operation, problem: format!("column {column} can't be read") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_repeat_may_mend_is_transient() {
        for code in ["08006", "40001", "40P01", "53300", "57P01", "57P03", "57014", "55P03", "25006"] {
            assert!(is_transient(code), "{code}");
        }
        for code in ["23505", "22P02", "42601", "42501", "28P01", "3D000"] {
            assert!(!is_transient(code), "{code}");
        }
    }

    #[test]
    fn a_missing_pool_connection_is_transient_and_a_missing_row_is_not() {
        assert!(classify("take", &sqlx::Error::PoolTimedOut).is_transient());
        assert!(!classify("take", &sqlx::Error::RowNotFound).is_transient());
    }
}
