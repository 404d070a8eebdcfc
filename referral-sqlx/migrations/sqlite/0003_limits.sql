-- Counters for limits, and the addresses of challenges and sessions.

-- Recent events of each phone, address, pair of both and number range. There are thousands of codes and
-- requests, so a counter is one row with the events of the newest events. It is deleted when they do not
-- matter any more.
CREATE TABLE counters (
    key TEXT NOT NULL PRIMARY KEY,
    -- Each stamp is a number of 17 digits with a comma: microseconds since 1970, times eight, plus the kind
    -- of event: 0 a code, 1 a wrong code, 2 an unknown invite code, 3 an attempt without a valid challenge, 4
    -- an edit of an email address.
    events TEXT NOT NULL CHECK (octet_length(events) % 18 = 0 AND events NOT GLOB '*[^0-9,]*'),
    ends_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX counters_by_end ON counters (ends_at);

-- Numbers of wrong codes in each minute and of messages in each hour, for the whole service.
CREATE TABLE global_counters (
    counter TEXT NOT NULL CHECK (counter IN ('failed_attempts', 'messages')),
    since INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (counter, since)
) STRICT, WITHOUT ROWID;

CREATE TABLE attack_state (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    attack_until INTEGER
) STRICT;

INSERT INTO attack_state (only_row) VALUES (1);

ALTER TABLE challenges ADD COLUMN address TEXT;
-- Sequence of the address (16 bytes) and the time (8 bytes, big-endian) of each failed attempt.
ALTER TABLE challenges ADD COLUMN failed_attempts BLOB NOT NULL DEFAULT x'' CHECK (octet_length(failed_attempts) % 24 = 0);

ALTER TABLE sessions ADD COLUMN address TEXT;
ALTER TABLE sessions ADD COLUMN user_agent TEXT;
