ALTER TABLE notifications ADD COLUMN read INTEGER NOT NULL DEFAULT 0;
ALTER TABLE notifications ADD COLUMN user_action INTEGER NOT NULL DEFAULT 0;
ALTER TABLE notifications ADD COLUMN modified_at INTEGER;
ALTER TABLE notifications ADD COLUMN deleted_at INTEGER;
ALTER TABLE notifications ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
-- The number of the change that wrote last what a client sees of it: one writer, so they are seen in their order.
ALTER TABLE notifications ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX notifications_of_user ON notifications (app_id, user_id, id);

-- Which store it is, and how many changes it has seen. One row.
CREATE TABLE reading (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    epoch   BLOB NOT NULL,
    changes INTEGER NOT NULL
) STRICT;
INSERT INTO reading (id, epoch, changes) VALUES (1, randomblob(16), 0);
