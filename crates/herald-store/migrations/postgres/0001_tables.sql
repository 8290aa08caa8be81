-- Herald's tables. Times are the server's clock (clock_timestamp()). Numbers of enums are fixed in herald-core
-- (State::number, Form::number, DispatchQueue::number, Platform::number); provider: 0 = apns, 1 = fcm.
--
-- There are no foreign keys on the hot tables: they would cost a lookup and a row lock for every delivery. Instead the
-- only inserter (intake, expand) writes notification and deliveries in one transaction, and the only deleter (sweep)
-- deletes both in one statement.

CREATE TABLE subscriptions (
    id           uuid PRIMARY KEY,
    app_id       text NOT NULL,
    user_id      text NOT NULL,
    platform     smallint NOT NULL,
    token_kind   text NOT NULL,
    token        text NOT NULL,
    environment  text NOT NULL,
    created_at   timestamptz NOT NULL,
    confirmed_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    ended_at     timestamptz,           -- set once; the row stays for 90 days so that its id still names its user
    end_reason   text                   -- gone, ended, replaced, expired
);
-- Resolve, list, fan-out pages.
CREATE INDEX subscriptions_of_user ON subscriptions (app_id, user_id, id) WHERE ended_at IS NULL;
-- One push token has one active subscription per app and environment.
CREATE UNIQUE INDEX subscriptions_by_token ON subscriptions (app_id, environment, token) WHERE ended_at IS NULL;
-- Sweep.
CREATE INDEX subscriptions_to_expire ON subscriptions (expires_at) WHERE ended_at IS NULL;
CREATE INDEX subscriptions_to_delete ON subscriptions (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE notifications (
    id          uuid PRIMARY KEY,       -- UUID v7
    app_id      text NOT NULL,
    user_id     text NOT NULL,
    key         text NOT NULL,          -- idempotency key
    lane        smallint NOT NULL,
    content     text NOT NULL,          -- JSON, read and written whole
    received_at timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    deliver_at  timestamptz,
    next_at     timestamptz,            -- set while it is due itself (scheduled, or a fan-out in pages)
    cursor      uuid,                   -- the last subscription of the last page
    swept_at    timestamptz,            -- its life was found to be over
    UNIQUE (app_id, user_id, key)
);
-- Fan-out.
CREATE INDEX notifications_due ON notifications (next_at) WHERE next_at IS NOT NULL;
-- Sweep: expire, then delete.
CREATE INDEX notifications_to_expire ON notifications (expires_at) WHERE swept_at IS NULL;
CREATE INDEX notifications_to_delete ON notifications (swept_at) WHERE swept_at IS NOT NULL;

CREATE TABLE deliveries (
    id                uuid PRIMARY KEY, -- UUID v7
    notification_id   uuid NOT NULL,
    unsid             uuid NOT NULL,
    next_at           timestamptz,      -- when there is something to do; NULL in closed states
    deadline_at       timestamptz,      -- of the fallback; NULL before the first take, or if none is owed
    received_at       timestamptz,      -- the app's proof, in time or late
    closed_at         timestamptz,
    version           bigint NOT NULL,
    fallback_delay_ms bigint,           -- NULL if no fallback is owed
    provider          smallint NOT NULL,
    state             smallint NOT NULL, -- open states are below 10
    form              smallint NOT NULL,
    lane              smallint NOT NULL,
    queue             smallint NOT NULL,
    takes             smallint NOT NULL, -- since the last recorded outcome
    attempt_count     smallint NOT NULL DEFAULT 0,
    failure           text,
    app_id            text NOT NULL,
    attempts          jsonb NOT NULL DEFAULT '[]'
) WITH (
    -- Every row is updated soon after it was inserted, while its page is still in memory: leave room for that.
    fillfactor = 70,
    -- Closed and moved rows leave dead entries at the old end of deliveries_due: clear them away often.
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.05
);
-- Due. next_at is the one column that moves; a second column ("held until") would make a claim read all held rows.
CREATE INDEX deliveries_due ON deliveries (queue, next_at) WHERE next_at IS NOT NULL;
-- Receipts by pair, traces, withdrawals, sweep.
CREATE INDEX deliveries_of_notification ON deliveries (notification_id, unsid);

CREATE TABLE pauses (
    app_id      text NOT NULL,
    provider    smallint NOT NULL,
    since       timestamptz NOT NULL,
    until       timestamptz NOT NULL,
    reason      text NOT NULL,
    detail      text NOT NULL,
    by_operator boolean NOT NULL,
    PRIMARY KEY (app_id, provider)
);

CREATE TABLE guard_counts (
    app_id   text NOT NULL,
    provider smallint NOT NULL,
    minute   timestamptz NOT NULL,
    accepted bigint NOT NULL,
    suspect  bigint NOT NULL,
    PRIMARY KEY (app_id, provider, minute)
);

CREATE TABLE outbox (
    id          uuid PRIMARY KEY,       -- the event's stable id
    routing_key text NOT NULL,
    body        text NOT NULL,
    next_at     timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX outbox_due ON outbox (next_at);

CREATE TABLE dead_letters (
    id           uuid PRIMARY KEY,
    source_queue text NOT NULL,
    reason_code  text NOT NULL,
    field        text NOT NULL,
    problem      text NOT NULL,
    fix          text NOT NULL,
    app_id       text,
    message_id   text,
    headers      text NOT NULL,         -- JSON
    body         bytea NOT NULL,
    parked_at    timestamptz NOT NULL
);
CREATE INDEX dead_letters_newest ON dead_letters (parked_at DESC, id DESC);
