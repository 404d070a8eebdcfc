-- Users, invitations, challenges, sessions and keys, in a schema of their own, so that they do not
-- meet the tables of whoever shares the database. The tables hold what must always be true, whoever
-- writes.

-- The oldest version of the program that works with the schema after each migration. An older one refuses to
-- start; a newer one need not know what the migration did.
CREATE TABLE referral.migration_compatibility (
    version bigint PRIMARY KEY,
    oldest_program text COLLATE "C" NOT NULL CHECK (oldest_program ~ '^[0-9]+\.[0-9]+\.[0-9]+')
);

CREATE TABLE referral.users (
    id uuid PRIMARY KEY,
    phone text COLLATE "C" NOT NULL UNIQUE CHECK (phone ~ '^\+[0-9]{7,15}$'),
    invite_code text COLLATE "C" NOT NULL UNIQUE CHECK (invite_code ~ '^[A-Z0-9]{6,12}$'),
    -- A dot-string of at most 64 bytes, `@`, and two labels or more of letters, digits and hyphens. The
    -- domain is in its ASCII form.
    email text COLLATE "C" UNIQUE CHECK (
        octet_length(email) BETWEEN 5 AND 254
        AND position('@' IN email) <= 65
        AND email ~ '^[a-z0-9!#$%&''*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&''*+/=?^_`{|}~-]+)*@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?$'
    ),
    -- Of 1 to 64 characters as readers count them, which have any number of marks.
    first_name text COLLATE "C" CHECK (octet_length(first_name) BETWEEN 1 AND 1024),
    last_name text COLLATE "C" CHECK (octet_length(last_name) BETWEEN 1 AND 1024),
    is_staff boolean NOT NULL,
    is_active boolean NOT NULL,
    date_joined timestamptz NOT NULL,
    last_login timestamptz,
    -- Kept by the triggers on invitations.
    invited_count bigint NOT NULL DEFAULT 0 CHECK (invited_count >= 0)
-- Signing in changes a column that is in no index: with room on the page it touches no index either.
) WITH (fillfactor = 85);

CREATE INDEX users_first_name ON referral.users (first_name, id);
CREATE INDEX users_last_name ON referral.users (last_name, id);

-- What users are searched in. Apart from the users, because it is long and only a search reads it.
CREATE TABLE referral.user_search (
    user_id uuid PRIMARY KEY REFERENCES referral.users (id) ON DELETE CASCADE,
    public text COLLATE "C" NOT NULL,
    private text COLLATE "C" NOT NULL,
    -- The pieces of both texts, as the program makes them: an array of numbers can be indexed without
    -- an extension, and whatever the database takes for a letter.
    grams integer[] NOT NULL
);

-- Of the most common grams the planner knows how common they are, of all others that they are less
-- so. The more it knows, the rarer it takes the others for: enough that it looks up what hardly
-- anybody has, and does not walk through everybody until it is found.
ALTER TABLE referral.user_search ALTER COLUMN grams SET STATISTICS 1000;

-- New grams wait in a list, which each search reads to the end, so it is kept short.
CREATE INDEX user_search_grams ON referral.user_search USING gin (grams)
WITH (fastupdate = on, gin_pending_list_limit = 256);

-- How many users there are, so that nobody has to count them: the sum of a few rows, since each who
-- joins would wait for the one before on a single one.
CREATE TABLE referral.totals (
    slot smallint PRIMARY KEY CHECK (slot BETWEEN 0 AND 31),
    -- Who leaves may be counted off another slot than they were counted on.
    users bigint NOT NULL
) WITH (fillfactor = 10);

INSERT INTO referral.totals (slot, users) SELECT slot, 0 FROM generate_series(0, 31) AS slot;

CREATE FUNCTION referral.count_user() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    any_slot CONSTANT smallint := floor(random() * 32);
BEGIN
    IF TG_OP = 'INSERT' AND NEW.invited_count <> 0 THEN
        RAISE check_violation USING MESSAGE = 'a new user has invited nobody yet';
    END IF;
    UPDATE referral.totals SET users = users + CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END
    WHERE slot = any_slot;
    RETURN NULL;
END
$$;

CREATE TRIGGER users_are_counted AFTER INSERT OR DELETE ON referral.users
FOR EACH ROW EXECUTE FUNCTION referral.count_user();

-- Who was invited by whom: once, and for good. Users are deactivated and not deleted, so that an
-- invitation outlives whatever happens to an account.
CREATE TABLE referral.invitations (
    invitee uuid PRIMARY KEY REFERENCES referral.users (id),
    inviter uuid NOT NULL REFERENCES referral.users (id),
    code text COLLATE "C" NOT NULL CHECK (code ~ '^[A-Z0-9]{6,12}$'),
    accepted_at timestamptz NOT NULL,
    via text COLLATE "C" NOT NULL CHECK (via IN ('sign_up', 'sign_in', 'profile')),
    CHECK (invitee <> inviter)
);

CREATE INDEX invitations_of_inviter ON referral.invitations (inviter, invitee);

CREATE FUNCTION referral.count_invitation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        RAISE check_violation USING MESSAGE = 'an invitation is accepted once and for good';
    ELSIF TG_OP = 'INSERT' THEN
        UPDATE referral.users SET invited_count = invited_count + 1 WHERE id = NEW.inviter;
    ELSE
        UPDATE referral.users SET invited_count = invited_count - 1 WHERE id = OLD.inviter;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER invitations_are_counted AFTER INSERT OR UPDATE OR DELETE ON referral.invitations
FOR EACH ROW EXECUTE FUNCTION referral.count_invitation();

-- Rows to lock where there is no other row that all who must exclude one another have in common.
CREATE TABLE referral.locks (name text COLLATE "C" PRIMARY KEY);

INSERT INTO referral.locks (name) VALUES ('keys'), ('late_acceptance');

CREATE TABLE referral.challenges (
    id uuid PRIMARY KEY,
    phone text COLLATE "C" NOT NULL CHECK (phone ~ '^\+[0-9]{7,15}$'),
    -- The phone's first has 1, and each the number after the one that was newest when it was
    -- asked for. So of two that were asked for at once only one is stored.
    number bigint NOT NULL CHECK (number > 0),
    code_length bigint NOT NULL CHECK (code_length BETWEEN 4 AND 10),
    code_hash bytea NOT NULL CHECK (octet_length(code_hash) = 32),
    pepper_id text NOT NULL,
    sent_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    redeemed_at timestamptz,
    tries_with_id bigint NOT NULL CHECK (tries_with_id >= 0),
    tries_without_id bigint NOT NULL CHECK (tries_without_id >= 0),
    UNIQUE (phone, number)
) WITH (fillfactor = 85);

CREATE INDEX challenges_by_end ON referral.challenges (expires_at);

CREATE FUNCTION referral.keep_redeemed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE check_violation USING MESSAGE = 'a redeemed challenge is over';
END
$$;

CREATE TRIGGER challenges_are_redeemed_once BEFORE UPDATE ON referral.challenges
FOR EACH ROW WHEN (OLD.redeemed_at IS NOT NULL) EXECUTE FUNCTION referral.keep_redeemed();

CREATE TABLE referral.sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES referral.users (id),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    -- When the session ends if nothing is refreshed in it any more: what it is swept by.
    ends_at timestamptz NOT NULL,
    key_id text NOT NULL,
    access_id uuid NOT NULL,
    refresh_id uuid NOT NULL,
    issued_at timestamptz NOT NULL,
    access_expires_at timestamptz NOT NULL,
    refresh_expires_at timestamptz NOT NULL,
    grant_used boolean NOT NULL,
    parent uuid,
    -- Whether the tokens issued last were given out again after the grace, and of how many refreshes in
    -- succession before that was so.
    repeated_late boolean NOT NULL DEFAULT FALSE,
    late_repeats bigint NOT NULL DEFAULT 0 CHECK (late_repeats >= 0),
    -- One after another, the id (16 bytes) and the time (8 bytes, big-endian microseconds since
    -- 1970) of each retired refresh token.
    retired bytea NOT NULL CHECK (octet_length(retired) % 24 = 0)
) WITH (fillfactor = 85);

CREATE INDEX sessions_of_user ON referral.sessions (user_id);
CREATE INDEX sessions_by_end ON referral.sessions (ends_at);

CREATE TABLE referral.keys (
    purpose text COLLATE "C" NOT NULL CHECK (purpose IN ('signing', 'pepper')),
    id text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 16),
    -- NULL while the key is the first of a ring.
    needed_until timestamptz,
    PRIMARY KEY (purpose, id)
);

-- Filled by a transaction that is rolled back, which shows whether the disk has room.
CREATE TABLE referral.disk_probe (filler text COLLATE "C" NOT NULL);
ALTER TABLE referral.disk_probe ALTER COLUMN filler SET STORAGE PLAIN;

-- What all processes on this database should have the same, as the one that started last has it.
CREATE TABLE referral.shared_settings (
    name text COLLATE "C" PRIMARY KEY,
    value text COLLATE "C" NOT NULL
);
