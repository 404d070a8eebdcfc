-- What is counted, and where sessions are used from.

-- Of each phone, address, pair of both and number block, what happened of late: one row with its
-- newest moments, which is deleted when they matter no more.
CREATE TABLE referral.counters (
    key text COLLATE "C" PRIMARY KEY,
    -- Each a number of 17 digits with a comma: microseconds since 1970, times eight, plus what was
    -- counted: 0 a code, 1 a wrong code, 2 an unknown invite code, 3 an attempt without a valid challenge,
    -- 4 an edit of an e-mail address. A text, because of a text a part
    -- can be taken out, and rows of different lengths written, in one statement.
    stamps text COLLATE "C" NOT NULL CHECK (stamps ~ '^([0-9]{17},)*$'),
    -- A full hour, so that a change of the stamps seldom touches the index.
    ends_at timestamptz NOT NULL
) WITH (fillfactor = 70);

CREATE INDEX counters_by_end ON referral.counters (ends_at);

-- Of the whole service, how many wrong codes in each minute, and how many messages in each hour:
-- sums of a few rows, since each who adds to one would wait for the one before.
CREATE TABLE referral.service_counts (
    figure text COLLATE "C" NOT NULL CHECK (figure IN ('failures', 'messages')),
    since timestamptz NOT NULL,
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 7),
    count bigint NOT NULL,
    PRIMARY KEY (figure, since, slot)
) WITH (fillfactor = 50);

CREATE INDEX service_counts_by_time ON referral.service_counts (since);

CREATE TABLE referral.service_state (
    only_row boolean PRIMARY KEY DEFAULT TRUE CHECK (only_row),
    attack_until timestamptz
);

INSERT INTO referral.service_state DEFAULT VALUES;

ALTER TABLE referral.challenges ADD address text COLLATE "C";
-- One after another, the address (16 bytes) and the time (8 bytes, big-endian microseconds since
-- 1970) of each wrong try.
ALTER TABLE referral.challenges ADD failed_tries bytea NOT NULL DEFAULT ''
    CHECK (octet_length(failed_tries) % 24 = 0);

ALTER TABLE referral.sessions ADD address text COLLATE "C";
ALTER TABLE referral.sessions ADD user_agent text;

-- Undoes a statement that did not write all it was to, since what it was decided on has changed.
CREATE FUNCTION referral.all_or_nothing(written bigint, expected bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF written <> expected THEN
        RAISE EXCEPTION 'what this was decided on has changed' USING ERRCODE = 'RF001';
    END IF;
    RETURN TRUE;
END
$$;
