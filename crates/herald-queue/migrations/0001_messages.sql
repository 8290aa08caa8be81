-- The queue of one machine: every message that is waiting, or handed out and not settled. A row that is gone was acked.
CREATE TABLE messages (
    -- The order of delivery. Never given to another message.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- As RabbitMQ would call it (docs/protocol.md), herald.unrouted included.
    queue TEXT NOT NULL,
    -- 1: handed to the one process that consumes. What it leaves behind is handed out again by the next one.
    claimed INTEGER NOT NULL DEFAULT 0 CHECK (claimed IN (0, 1)),
    -- 1: it may have been handed out before.
    redelivered INTEGER NOT NULL DEFAULT 0 CHECK (redelivered IN (0, 1)),
    -- How often it was handed out and not given back, the present claim included.
    deliveries INTEGER NOT NULL DEFAULT 0 CHECK (deliveries >= 0),
    -- How it was published.
    exchange TEXT NOT NULL,
    routing_key TEXT NOT NULL,
    -- AMQP's properties by their names there; headers are text.
    properties TEXT NOT NULL CHECK (json_valid(properties)),
    body BLOB NOT NULL
) STRICT;

-- What is next in a queue (then by id, which ends every index), how many are ready, and what a process left claimed.
CREATE INDEX messages_by_claim ON messages (claimed, queue);
