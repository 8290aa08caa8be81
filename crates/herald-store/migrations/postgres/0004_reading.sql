-- What users do with their notifications, and what has changed since a client last asked.
ALTER TABLE notifications
    ADD COLUMN read        boolean NOT NULL DEFAULT false,
    ADD COLUMN user_action smallint NOT NULL DEFAULT 0,  -- UserAction::number in herald-core
    ADD COLUMN modified_at timestamptz,                  -- the last change by its user; NULL before the first
    ADD COLUMN deleted_at  timestamptz,                  -- what is left is a tombstone, its content wiped
    ADD COLUMN revision    integer NOT NULL DEFAULT 0,   -- one more with each change; its ETag
    -- The transaction that wrote last what a client sees of it. A client asks for all that was written by no earlier one than
    -- the oldest that was still running when it last asked, so it may see a change twice, and can't miss one.
    ADD COLUMN changed     bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint;
-- Lists, newest first (ids are UUID v7), and deltas.
CREATE INDEX notifications_of_user ON notifications (app_id, user_id, id);

-- Which store it is: transaction numbers mean nothing in another. Whoever restores an old backup writes a new one, so that
-- clients begin anew. One row.
CREATE TABLE reading (
    epoch uuid NOT NULL
);
INSERT INTO reading VALUES (gen_random_uuid());
