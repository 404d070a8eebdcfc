-- Counters for limits, and the addresses of challenges and sessions.

-- Recent events of each phone, address, pair of both and number range. A counter is one row with the events
-- of the newest events. It is deleted when they do not matter any more.
CREATE TABLE referral.counters (
    key text COLLATE "C" PRIMARY KEY,
    -- Each stamp is a number of 17 digits with a comma: microseconds since 1970, times eight, plus the kind
    -- of event: 0 a code, 1 a wrong code, 2 an unknown invite code, 3 an attempt without a valid challenge, 4
    -- an edit of an email address. The type is text, because one statement can remove a part of a text, and
    -- write rows of different lengths.
    events text COLLATE "C" NOT NULL CHECK (events ~ '^([0-9]{17},)*$'),
    -- A full hour, so that a change of the events seldom updates the index.
    ends_at timestamptz NOT NULL
) WITH (fillfactor = 70);

CREATE INDEX counters_by_end ON referral.counters (ends_at);

-- Numbers of wrong codes in each minute and of messages in each hour, for the whole service. They are sums of
-- several rows, because requests would wait for each other to update a single row.
CREATE TABLE referral.global_counters (
    counter text COLLATE "C" NOT NULL CHECK (counter IN ('failed_attempts', 'messages')),
    since timestamptz NOT NULL,
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 7),
    count bigint NOT NULL,
    PRIMARY KEY (counter, since, slot)
) WITH (fillfactor = 50);

CREATE INDEX global_counters_by_time ON referral.global_counters (since);

CREATE TABLE referral.attack_state (
    only_row boolean PRIMARY KEY DEFAULT TRUE CHECK (only_row),
    attack_until timestamptz
);

INSERT INTO referral.attack_state DEFAULT VALUES;

ALTER TABLE referral.challenges ADD address text COLLATE "C";
-- Sequence of the address (16 bytes) and the time (8 bytes, big-endian microseconds since 1970) of each
-- failed attempt.
ALTER TABLE referral.challenges ADD failed_attempts bytea NOT NULL DEFAULT ''
    CHECK (octet_length(failed_attempts) % 24 = 0);

ALTER TABLE referral.sessions ADD address text COLLATE "C";
ALTER TABLE referral.sessions ADD user_agent text;

-- Undoes a statement that has not written all its rows, because the facts of its decision have changed.
CREATE FUNCTION referral.all_or_nothing(written bigint, expected bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF written <> expected THEN
        RAISE EXCEPTION 'what this was decided on has changed' USING ERRCODE = 'RF001';
    END IF;
    RETURN TRUE;
END
$$;
