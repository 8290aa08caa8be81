-- Of a pause that was ended before its time: its old end. A worker that was stopped before it saw the end may have held work
-- until then.
ALTER TABLE pauses ADD COLUMN held_until timestamptz;
