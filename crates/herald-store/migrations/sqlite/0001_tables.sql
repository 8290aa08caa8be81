-- Herald's tables on SQLite; the same as migrations/postgres, which explains them. Times are microseconds since 1970, the
-- store's clock (src/sqlite/time.rs). Ids are UUIDs as 16 bytes. Numbers of enums are fixed in herald-core;
-- provider: 0 = apns, 1 = fcm.

-- What the store's clock is reckoned from. One row.
CREATE TABLE clock (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    boot     TEXT NOT NULL,             -- which start of the machine
    ticks_us INTEGER NOT NULL,          -- the machine's monotonic clock …
    store_us INTEGER NOT NULL,          -- … when it was this time
    seen_us  INTEGER NOT NULL,          -- the latest time that was ever told: no start goes behind it
    move_begun_us INTEGER,              -- when a move of all this to a PostgreSQL began: only the move goes on from then
    moved_us INTEGER                    -- when it was done
) STRICT;

CREATE TABLE subscriptions (
    id           BLOB PRIMARY KEY,
    app_id       TEXT NOT NULL,
    user_id      TEXT NOT NULL,
    platform     INTEGER NOT NULL,
    token_kind   TEXT NOT NULL,
    token        TEXT NOT NULL,
    environment  TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    confirmed_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    ended_at     INTEGER,
    end_reason   TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX subscriptions_of_user ON subscriptions (app_id, user_id, id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX subscriptions_by_token ON subscriptions (app_id, environment, token) WHERE ended_at IS NULL;
CREATE INDEX subscriptions_to_expire ON subscriptions (expires_at) WHERE ended_at IS NULL;
CREATE INDEX subscriptions_to_delete ON subscriptions (ended_at) WHERE ended_at IS NOT NULL;

-- Rows with much content keep a rowid: a b-tree of large rows by a random key would be rewritten all over.
CREATE TABLE notifications (
    id          BLOB PRIMARY KEY,
    app_id      TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    key         TEXT NOT NULL,
    lane        INTEGER NOT NULL,
    content     TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    deliver_at  INTEGER,
    next_at     INTEGER,
    cursor      BLOB,
    swept_at    INTEGER,
    UNIQUE (app_id, user_id, key)
) STRICT;
CREATE INDEX notifications_due ON notifications (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX notifications_to_expire ON notifications (expires_at) WHERE swept_at IS NULL;
CREATE INDEX notifications_to_delete ON notifications (swept_at) WHERE swept_at IS NOT NULL;

CREATE TABLE deliveries (
    id                BLOB PRIMARY KEY,
    notification_id   BLOB NOT NULL,
    unsid             BLOB NOT NULL,
    next_at           INTEGER,
    deadline_at       INTEGER,
    received_at       INTEGER,
    closed_at         INTEGER,
    version           INTEGER NOT NULL,
    fallback_delay_ms INTEGER,
    provider          INTEGER NOT NULL,
    state             INTEGER NOT NULL,
    form              INTEGER NOT NULL,
    lane              INTEGER NOT NULL,
    queue             INTEGER NOT NULL,
    takes             INTEGER NOT NULL,
    attempt_count     INTEGER NOT NULL DEFAULT 0,
    failure           TEXT,
    app_id            TEXT NOT NULL,
    attempts          TEXT NOT NULL DEFAULT '[]'
) STRICT;
CREATE INDEX deliveries_due ON deliveries (queue, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX deliveries_of_notification ON deliveries (notification_id, unsid);

CREATE TABLE pauses (
    app_id      TEXT NOT NULL,
    provider    INTEGER NOT NULL,
    since       INTEGER NOT NULL,
    until       INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    detail      TEXT NOT NULL,
    by_operator INTEGER NOT NULL,
    held_until  INTEGER,
    PRIMARY KEY (app_id, provider)
) STRICT, WITHOUT ROWID;

CREATE TABLE guard_counts (
    app_id   TEXT NOT NULL,
    provider INTEGER NOT NULL,
    minute   INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    suspect  INTEGER NOT NULL,
    PRIMARY KEY (app_id, provider, minute)
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    id          BLOB PRIMARY KEY,
    routing_key TEXT NOT NULL,
    body        TEXT NOT NULL,
    next_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_due ON outbox (next_at);

CREATE TABLE dead_letters (
    id           BLOB PRIMARY KEY,
    source_queue TEXT NOT NULL,
    reason_code  TEXT NOT NULL,
    field        TEXT NOT NULL,
    problem      TEXT NOT NULL,
    fix          TEXT NOT NULL,
    app_id       TEXT,
    message_id   TEXT,
    headers      TEXT NOT NULL,
    body         BLOB NOT NULL,
    parked_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX dead_letters_newest ON dead_letters (parked_at DESC, id DESC);
