-- What became of messages, and which gateway accepted that of a challenge. Nothing here tells to whom a
-- message went but its region.

CREATE TABLE messages (
    gateway TEXT NOT NULL CHECK (length(gateway) BETWEEN 1 AND 64),
    -- What the gateway calls the message.
    message_id TEXT NOT NULL CHECK (length(message_id) BETWEEN 1 AND 128),
    -- Whether it is noted that it was sent from here. Until then there is only a report.
    is_ours INTEGER NOT NULL CHECK (is_ours IN (0, 1)),
    region TEXT CHECK (length(region) = 2 AND region NOT GLOB '*[^A-Z]*'),
    status TEXT NOT NULL CHECK (status IN ('sent', 'failed', 'delivered')),
    -- When it was first heard of: what it is swept by.
    noted_at INTEGER NOT NULL,
    PRIMARY KEY (gateway, message_id),
    CHECK (is_ours = 1 OR (region IS NULL AND status <> 'sent'))
) STRICT, WITHOUT ROWID;

CREATE INDEX messages_by_time ON messages (noted_at);

ALTER TABLE challenges ADD COLUMN gateway TEXT CHECK (length(gateway) BETWEEN 1 AND 64);
