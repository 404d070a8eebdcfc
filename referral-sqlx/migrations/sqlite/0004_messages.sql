-- Delivery status of messages, and the gateway that accepted the message of a challenge. The region is the
-- only information about the recipient of a message.

CREATE TABLE messages (
    gateway TEXT NOT NULL CHECK (length(gateway) BETWEEN 1 AND 64),
    -- Id that the gateway gave to the message.
    message_id TEXT NOT NULL CHECK (length(message_id) BETWEEN 1 AND 128),
    -- Whether it is recorded that this service sent the message. Before that, there is only a report.
    is_ours INTEGER NOT NULL CHECK (is_ours IN (0, 1)),
    region TEXT CHECK (length(region) = 2 AND region NOT GLOB '*[^A-Z]*'),
    status TEXT NOT NULL CHECK (status IN ('sent', 'failed', 'delivered')),
    -- Time of the first record. Old messages are deleted by this time.
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (gateway, message_id),
    CHECK (is_ours = 1 OR (region IS NULL AND status <> 'sent'))
) STRICT, WITHOUT ROWID;

CREATE INDEX messages_by_time ON messages (recorded_at);

ALTER TABLE challenges ADD COLUMN gateway TEXT CHECK (length(gateway) BETWEEN 1 AND 64);
