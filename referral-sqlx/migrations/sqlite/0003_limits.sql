-- What is counted, and where sessions are used from.

-- Of each phone, address, pair of both and number block, what happened of late. Codes and requests
-- come and go by the thousand, so a counter is one row with its newest moments, and is deleted when
-- they matter no more.
CREATE TABLE counters (
    key TEXT NOT NULL PRIMARY KEY,
    -- Each a number of 17 digits with a comma: microseconds since 1970, times eight, plus what was
    -- counted: 0 a code, 1 a wrong code, 2 an unknown invite code, 3 an attempt without a valid challenge,
    -- 4 an edit of an e-mail address.
    stamps TEXT NOT NULL CHECK (octet_length(stamps) % 18 = 0 AND stamps NOT GLOB '*[^0-9,]*'),
    ends_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX counters_by_end ON counters (ends_at);

-- Of the whole service, how many wrong codes in each minute, and how many messages in each hour.
CREATE TABLE service_counts (
    figure TEXT NOT NULL CHECK (figure IN ('failures', 'messages')),
    since INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (figure, since)
) STRICT, WITHOUT ROWID;

CREATE TABLE service_state (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    attack_until INTEGER
) STRICT;

INSERT INTO service_state (only_row) VALUES (1);

ALTER TABLE challenges ADD COLUMN address TEXT;
-- One after another, the address (16 bytes) and the time (8 bytes, big-endian) of each wrong try.
ALTER TABLE challenges ADD COLUMN failed_tries BLOB NOT NULL DEFAULT x'' CHECK (octet_length(failed_tries) % 24 = 0);

ALTER TABLE sessions ADD COLUMN address TEXT;
ALTER TABLE sessions ADD COLUMN user_agent TEXT;
