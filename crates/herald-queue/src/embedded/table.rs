//! The statements on the one table, each a function named for its question. `migrations/0001_messages.sql` says what the
//! columns mean.
//!
//! Each runs as part of a job of [`Database`](herald_sqlite::Database), which is a unit: all of it stays, or nothing. It knows
//! no source and no limit; those come as arguments.

use herald_sqlite::Fault;
use herald_sqlite::rusqlite::{self, Connection, OptionalExtension as _, Row, params};

/// A message to insert.
#[derive(Clone)]
pub(super) struct NewRow {
    pub(super) queue: &'static str,
    pub(super) exchange: &'static str,
    pub(super) routing_key: String,
    pub(super) properties: String,
    pub(super) body: bytes::Bytes,
}

/// A message that was claimed.
#[derive(Debug)]
pub(super) struct ClaimedRow {
    pub(super) id: i64,
    /// This claim included.
    pub(super) deliveries: u32,
    pub(super) redelivered: bool,
    /// JSON, if whoever wrote it kept to that.
    pub(super) properties: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// Puts a message at the end of its queue.
pub(super) fn insert(connection: &Connection, row: &NewRow) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT INTO messages (queue, exchange, routing_key, properties, body) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![row.queue, row.exchange, row.routing_key, row.properties, &row.body[..]])?;
    Ok(())
}

/// What is next in a queue and nobody has; by `messages_by_claim`, where the id follows the queue.
const NEXT: &str = "SELECT id FROM messages WHERE claimed = 0 AND queue = ?1 ORDER BY id LIMIT ?2";

/// Claims the next messages of a queue, at most `limit`, oldest first.
pub(super) fn claim(connection: &Connection, queue: &str, limit: usize) -> Result<Vec<ClaimedRow>, Fault> {
    let mut statement = connection.prepare_cached(&format!(
        "UPDATE messages SET claimed = 1, deliveries = deliveries + 1 WHERE id IN ({NEXT})
         RETURNING id, deliveries, redelivered, properties, body"
    ))?;
    let rows = statement.query_map(params![queue, i64::try_from(limit).unwrap_or(i64::MAX)], claimed_row)?;
    let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
    // RETURNING promises no order.
    rows.sort_unstable_by_key(|row| row.id);
    Ok(rows)
}

fn claimed_row(row: &Row<'_>) -> Result<ClaimedRow, rusqlite::Error> {
    // By their bytes: TEXT that is no UTF-8 must not hold up what is behind it.
    let bytes = |index| Ok::<_, rusqlite::Error>(row.get_ref(index)?.as_bytes()?.to_vec());
    Ok(ClaimedRow {
        id: row.get(0)?,
        deliveries: u32::try_from(row.get::<_, i64>(1)?).unwrap_or(u32::MAX),
        redelivered: row.get(2)?,
        properties: bytes(3)?,
        body: bytes(4)?,
    })
}

/// Moves a message that is claimed to another queue, as if it had never been delivered.
pub(super) fn transfer(connection: &Connection, id: i64, queue: &str, properties: &str) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "UPDATE messages SET queue = ?2, properties = ?3, claimed = 0, redelivered = 0, deliveries = 0 WHERE id = ?1",
        )?
        .execute(params![id, queue, properties])?;
    Ok(())
}

/// Deletes a message; whether it was there.
pub(super) fn delete(connection: &Connection, id: i64) -> Result<bool, Fault> {
    Ok(connection.prepare_cached("DELETE FROM messages WHERE id = ?1")?.execute([id])? > 0)
}

/// Gives a claimed message back, as if this claim had not been; its queue, if it was there.
pub(super) fn give_back(connection: &Connection, id: i64) -> Result<Option<String>, Fault> {
    let mut statement = connection.prepare_cached(
        "UPDATE messages SET claimed = 0, redelivered = 1, deliveries = max(deliveries - 1, 0)
         WHERE id = ?1 AND claimed = 1 RETURNING queue",
    )?;
    Ok(statement.query_row([id], |row| row.get(0)).optional()?)
}

/// Frees all that is claimed; the claims stay counted. How many there were. By `messages_by_claim`.
pub(super) fn release_all(connection: &Connection) -> Result<usize, Fault> {
    Ok(connection.prepare_cached("UPDATE messages SET claimed = 0, redelivered = 1 WHERE claimed = 1")?.execute([])?)
}

/// How many messages of a queue are ready; by `messages_by_claim` alone.
const DEPTH: &str = "SELECT count(*) FROM messages WHERE claimed = 0 AND queue = ?1";

/// How many messages of a queue are ready.
pub(super) fn depth(connection: &Connection, queue: &str) -> Result<u64, Fault> {
    let count: i64 = connection.prepare_cached(DEPTH)?.query_row([queue], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Whether anything of a queue is ready; by `messages_by_claim` alone.
pub(super) fn has_ready(connection: &Connection, queue: &str) -> Result<bool, Fault> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM messages WHERE claimed = 0 AND queue = ?1 LIMIT 1")?;
    Ok(statement.exists([queue])?)
}

/// Writes a message of this many bytes and takes it out again: succeeds if there is room for one.
pub(super) fn try_room(connection: &Connection, bytes: usize) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT INTO messages (queue, claimed, exchange, routing_key, properties, body)
             VALUES ('', 1, '', '', '{}', zeroblob(?1))",
        )?
        .execute([i64::try_from(bytes).unwrap_or(i64::MAX)])?;
    delete(connection, connection.last_insert_rowid())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(sql: &str, arguments: &[&dyn rusqlite::ToSql]) -> String {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(super::super::MIGRATIONS[0]).unwrap();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map(arguments, |row| row.get::<_, String>(3)).unwrap();
        steps.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_is_next_and_how_many_there_are_is_read_from_the_index_alone() {
        let next = plan(NEXT, &[&"q", &1]);
        assert!(next.contains("USING COVERING INDEX messages_by_claim (claimed=? AND queue=?)"), "{next}");
        assert!(!next.contains("TEMP B-TREE"), "it is sorted already: {next}");
        let depth = plan(DEPTH, &[&"q"]);
        assert!(depth.contains("USING COVERING INDEX messages_by_claim (claimed=? AND queue=?)"), "{depth}");
    }

    #[test]
    fn what_a_process_left_claimed_is_found_without_looking_at_every_message() {
        let released = plan("UPDATE messages SET claimed = 0, redelivered = 1 WHERE claimed = 1", &[]);
        assert!(released.contains("messages_by_claim (claimed=?)"), "{released}");
    }
}
