-- How often a notification that is due itself was claimed since its last page: what kills its workers is done alone.
ALTER TABLE notifications ADD COLUMN claims smallint NOT NULL DEFAULT 0;
