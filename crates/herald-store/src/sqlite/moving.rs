//! What a move reads of a file: pages by ascending id, of bounded size; and the mark that it was moved.

use std::path::Path;

use herald_core::time::Timestamp;
use herald_sqlite::rusqlite::{Connection, OptionalExtension as _, Params, params};
use uuid::Uuid;

use super::rows::Columns;
use super::{JobResult, Sqlite};
use crate::moving::ById;
use crate::moving::rows::{
    DeadLetterRow, DeliveryMark, DeliveryRow, EventRow, KeyRow, NotificationRow, PauseRow, SubscriptionRow,
};
use crate::{Result, SqliteConfig, StoreError};

const OPERATION: &str = "move";

/// Rows of a page: what one transaction on the other side takes without a long pause for others.
const PAGE: i64 = 2_000;
/// Bytes of a page at most, and one row: bodies may be large.
const PAGE_BYTES: usize = 8 << 20;
/// Ids of a page, for counting.
const IDS: i64 = 10_000;

/// Why nobody may work on the file any more: its move to a PostgreSQL has begun, or is done.
pub(super) fn refusal(connection: &Connection) -> JobResult<Option<String>> {
    let mut statement = connection.prepare_cached("SELECT move_begun_us, moved_us FROM clock")?;
    let marks = statement.query_row([], |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)));
    let at = Timestamp::from_micros;
    Ok(match marks.optional()? {
        Some((_, Some(moved))) => Some(format!(
            "was moved to PostgreSQL on {}; set HERALD_AMQP_URL and HERALD_DATABASE_URL, or give another folder",
            at(moved)
        )),
        Some((Some(begun), None)) => Some(format!(
            "its move to PostgreSQL began on {} and is not done; run `herald migrate` again until it says so",
            at(begun)
        )),
        Some((None, None)) | None => None,
    })
}

/// When all of a file was moved to a PostgreSQL.
fn moved_at(connection: &Connection) -> JobResult<Option<Timestamp>> {
    let moved = connection
        .prepare_cached("SELECT moved_us FROM clock")?
        .query_row([], |row| row.get::<_, Option<i64>>(0))
        .optional()?;
    Ok(moved.flatten().map(Timestamp::from_micros))
}

/// A row that is moved.
pub(crate) trait Moved: Sized + Send + 'static {
    /// The page after ?1, at most ?2 rows. Index: primary key.
    const SELECT: &'static str;

    fn read(columns: &Columns<'_>) -> JobResult<Self>;

    /// About how large it is.
    fn bytes(&self) -> usize;
}

impl Sqlite {
    /// As [`Sqlite::connect`] with `leads`, but whether or not it was moved, and without a new reckoning of its time.
    pub(crate) async fn open_to_move(path: &Path) -> Result<Self> {
        Self::open(SqliteConfig { path: path.to_owned(), leads: true }, true).await
    }

    pub(crate) async fn moved_at(&self) -> Result<Option<Timestamp>> {
        self.read(OPERATION, |tx| moved_at(tx.connection)).await
    }

    /// From now on only the move goes on: what another process does to the file could be missed.
    pub(crate) async fn mark_begun(&self) -> Result<()> {
        self.write(OPERATION, |tx| {
            let sql = "UPDATE clock SET move_begun_us = coalesce(move_begun_us, ?1)";
            tx.connection.prepare_cached(sql)?.execute([tx.now().micros()])?;
            Ok(())
        })
        .await
    }

    /// # Errors
    /// [`StoreError::InUse`] if its move has begun, or is done.
    pub(crate) async fn check_not_moved(&self) -> Result<()> {
        let refused = self.read(OPERATION, |tx| refusal(tx.connection)).await?;
        refused.map_or(Ok(()), |why| Err(StoreError::InUse { problem: format!("{}: {why}", self.name) }))
    }

    pub(crate) async fn mark_moved(&self) -> Result<Timestamp> {
        self.write(OPERATION, |tx| {
            let now = tx.now();
            tx.connection.prepare_cached("UPDATE clock SET moved_us = ?1")?.execute([now.micros()])?;
            Ok(now)
        })
        .await
    }

    pub(crate) async fn page_of_rows<T: Moved>(&self, after: Uuid) -> Result<Vec<T>> {
        self.page_by(T::SELECT, after).await
    }

    pub(crate) async fn page_of_ended(&self, after: Uuid) -> Result<Vec<SubscriptionRow>> {
        const ENDED: &str = "SELECT * FROM subscriptions WHERE id > ?1 AND ended_at IS NOT NULL ORDER BY id LIMIT ?2";
        self.page_by(ENDED, after).await
    }

    pub(crate) async fn page_of_active(&self, after: Uuid) -> Result<Vec<SubscriptionRow>> {
        self.page_by(SubscriptionRow::SELECT, after).await
    }

    async fn page_by<T: Moved>(&self, sql: &'static str, after: Uuid) -> Result<Vec<T>> {
        self.read(OPERATION, move |tx| {
            let mut page = tx.connection.prepare_cached(sql)?;
            let mut found = page.query(params![after, PAGE])?;
            let (mut rows, mut bytes) = (Vec::new(), 0);
            while let Some(row) = found.next()? {
                let row = T::read(&Columns(row))?;
                bytes += row.bytes();
                rows.push(row);
                if bytes >= PAGE_BYTES {
                    break;
                }
            }
            Ok(rows)
        })
        .await
    }

    /// The pauses that run and began after `since`. Reads the whole table: a row for each app and provider at most.
    pub(crate) async fn running_pauses(&self, since: Option<Timestamp>) -> Result<Vec<PauseRow>> {
        self.read(OPERATION, move |tx| {
            let sql = "SELECT * FROM pauses WHERE until > ?1 AND since > ?2";
            let since = since.map_or(-1, Timestamp::micros);
            all(tx.connection, sql, params![tx.now().micros(), since], |columns| {
                Ok(PauseRow {
                    app_id: text(columns, "app_id")?,
                    provider: columns.get("provider")?,
                    since: columns.get("since")?,
                    until: columns.get("until")?,
                    reason: text(columns, "reason")?,
                    detail: text(columns, "detail")?,
                    by_operator: columns.get("by_operator")?,
                })
            })
        })
        .await
    }

    /// Ids after `after`, each with the time that says whether it is older than a mark. Index: primary key.
    pub(crate) async fn page_of_ids(&self, by_id: ById, after: Uuid) -> Result<Vec<(Uuid, i64)>> {
        let sql = match by_id {
            ById::Subscriptions => "SELECT id, created_at AS at FROM subscriptions WHERE id > ?1 ORDER BY id LIMIT ?2",
            ById::Notifications => "SELECT id, received_at AS at FROM notifications WHERE id > ?1 ORDER BY id LIMIT ?2",
            ById::Events => "SELECT id, next_at AS at FROM outbox WHERE id > ?1 ORDER BY id LIMIT ?2",
            ById::DeadLetters => "SELECT id, parked_at AS at FROM dead_letters WHERE id > ?1 ORDER BY id LIMIT ?2",
        };
        self.read(OPERATION, move |tx| {
            all(tx.connection, sql, params![after, IDS], |columns| Ok((columns.get("id")?, columns.get("at")?)))
        })
        .await
    }

    /// Index: primary key.
    pub(crate) async fn page_of_deliveries(&self, after: Uuid) -> Result<Vec<DeliveryMark>> {
        self.read(OPERATION, move |tx| {
            let sql = "
                SELECT id, notification_id, unsid, version, state < 10 AS open
                  FROM deliveries
                 WHERE id > ?1
                 ORDER BY id
                 LIMIT ?2";
            all(tx.connection, sql, params![after, IDS], |columns| {
                Ok(DeliveryMark {
                    id: columns.get("id")?,
                    notification_id: columns.get("notification_id")?,
                    unsid: columns.get("unsid")?,
                    version: columns.get("version")?,
                    open: columns.get("open")?,
                })
            })
        })
        .await
    }

    /// What these notifications are unique by; those that are not there are left out. Index: primary key.
    pub(crate) async fn keys_of(&self, mut ids: Vec<Uuid>) -> Result<Vec<KeyRow>> {
        ids.sort_unstable();
        ids.dedup();
        self.read(OPERATION, move |tx| {
            let sql = "SELECT id, app_id, user_id, key FROM notifications WHERE id = ?1";
            let mut keys = Vec::with_capacity(ids.len());
            for id in ids {
                keys.extend(all(tx.connection, sql, [id], |columns| {
                    Ok(KeyRow {
                        id: columns.get("id")?,
                        app_id: text(columns, "app_id")?,
                        user_id: text(columns, "user_id")?,
                        key: text(columns, "key")?,
                    })
                })?);
            }
            Ok(keys)
        })
        .await
    }
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Columns<'_>) -> JobResult<T>,
) -> JobResult<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_and_then(params, |row| read(&Columns(row)))?.collect()
}

/// A PostgreSQL's text holds no NUL, and a file's may.
fn text(columns: &Columns<'_>, column: &str) -> JobResult<String> {
    Ok(without_nul(columns.get(column)?))
}

fn text_or_none(columns: &Columns<'_>, column: &str) -> JobResult<Option<String>> {
    Ok(columns.get::<Option<String>>(column)?.map(without_nul))
}

fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text }
}

impl Moved for SubscriptionRow {
    const SELECT: &'static str = "SELECT * FROM subscriptions WHERE id > ?1 AND ended_at IS NULL ORDER BY id LIMIT ?2";

    fn read(columns: &Columns<'_>) -> JobResult<Self> {
        Ok(Self {
            id: columns.get("id")?,
            app_id: text(columns, "app_id")?,
            user_id: text(columns, "user_id")?,
            platform: columns.get("platform")?,
            token_kind: text(columns, "token_kind")?,
            token: text(columns, "token")?,
            environment: text(columns, "environment")?,
            created_at: columns.get("created_at")?,
            confirmed_at: columns.get("confirmed_at")?,
            expires_at: columns.get("expires_at")?,
            ended_at: columns.get("ended_at")?,
            end_reason: text_or_none(columns, "end_reason")?,
            alerts_allowed: columns.get("alerts_allowed")?,
            low_power_mode: columns.get("low_power_mode")?,
            background_refresh: columns.get("background_refresh")?,
            reported_at: columns.get("reported_at")?,
        })
    }

    fn bytes(&self) -> usize {
        self.token.len() + self.user_id.len()
    }
}

impl Moved for NotificationRow {
    const SELECT: &'static str = "SELECT * FROM notifications WHERE id > ?1 ORDER BY id LIMIT ?2";

    fn read(columns: &Columns<'_>) -> JobResult<Self> {
        Ok(Self {
            id: columns.get("id")?,
            app_id: text(columns, "app_id")?,
            user_id: text(columns, "user_id")?,
            key: text(columns, "key")?,
            lane: columns.get("lane")?,
            content: text(columns, "content")?,
            received_at: columns.get("received_at")?,
            expires_at: columns.get("expires_at")?,
            deliver_at: columns.get("deliver_at")?,
            next_at: columns.get("next_at")?,
            cursor: columns.get("cursor")?,
            swept_at: columns.get("swept_at")?,
            read: columns.get("read")?,
            user_action: columns.get("user_action")?,
            modified_at: columns.get("modified_at")?,
            deleted_at: columns.get("deleted_at")?,
            revision: columns.get("revision")?,
        })
    }

    fn bytes(&self) -> usize {
        self.content.len()
    }
}

impl Moved for DeliveryRow {
    const SELECT: &'static str = "SELECT * FROM deliveries WHERE id > ?1 ORDER BY id LIMIT ?2";

    fn read(columns: &Columns<'_>) -> JobResult<Self> {
        Ok(Self {
            id: columns.get("id")?,
            notification_id: columns.get("notification_id")?,
            unsid: columns.get("unsid")?,
            next_at: columns.get("next_at")?,
            deadline_at: columns.get("deadline_at")?,
            received_at: columns.get("received_at")?,
            closed_at: columns.get("closed_at")?,
            version: columns.get("version")?,
            fallback_delay_ms: columns.get("fallback_delay_ms")?,
            provider: columns.get("provider")?,
            state: columns.get("state")?,
            form: columns.get("form")?,
            lane: columns.get("lane")?,
            queue: columns.get("queue")?,
            takes: columns.get("takes")?,
            attempt_count: columns.get("attempt_count")?,
            failure: text_or_none(columns, "failure")?,
            app_id: text(columns, "app_id")?,
            // JSON, where a NUL is escaped; `jsonb` takes none either.
            attempts: text(columns, "attempts")?.replace("\\u0000", "\\ufffd"),
        })
    }

    fn bytes(&self) -> usize {
        self.attempts.len()
    }
}

impl Moved for EventRow {
    const SELECT: &'static str = "SELECT * FROM outbox WHERE id > ?1 ORDER BY id LIMIT ?2";

    fn read(columns: &Columns<'_>) -> JobResult<Self> {
        Ok(Self {
            id: columns.get("id")?,
            routing_key: text(columns, "routing_key")?,
            body: text(columns, "body")?,
            next_at: columns.get("next_at")?,
        })
    }

    fn bytes(&self) -> usize {
        self.body.len()
    }
}

impl Moved for DeadLetterRow {
    const SELECT: &'static str = "SELECT * FROM dead_letters WHERE id > ?1 ORDER BY id LIMIT ?2";

    fn read(columns: &Columns<'_>) -> JobResult<Self> {
        Ok(Self {
            id: columns.get("id")?,
            source_queue: text(columns, "source_queue")?,
            reason_code: text(columns, "reason_code")?,
            field: text(columns, "field")?,
            problem: text(columns, "problem")?,
            fix: text(columns, "fix")?,
            app_id: text_or_none(columns, "app_id")?,
            message_id: text_or_none(columns, "message_id")?,
            headers: text(columns, "headers")?,
            body: columns.get("body")?,
            parked_at: columns.get("parked_at")?,
        })
    }

    fn bytes(&self) -> usize {
        self.body.len() + self.headers.len()
    }
}
