-- Users, invitations, challenges, sessions, counters, messages, records of requests, and keys.
--
-- The tables are in a separate schema, so that they do not conflict with other tables in the database. The
-- constraints and triggers enforce the invariants for all programs that write to the tables.

-- Oldest version of the program that works with the schema after each migration. An older program refuses to
-- start. A newer program does not need to know the changes of the migration.
CREATE TABLE referral.migration_compatibility (
    version bigint PRIMARY KEY,
    oldest_program text COLLATE "C" NOT NULL CHECK (oldest_program ~ '^[0-9]+\.[0-9]+\.[0-9]+')
);

-- Domains check a value when it is written. A constraint of a table would check all values of a row in each
-- update, such as the email address in each sign-in.
CREATE DOMAIN referral.phone AS text COLLATE "C" CHECK (VALUE ~ '^\+[0-9]{7,15}$');

CREATE DOMAIN referral.invite_code AS text COLLATE "C" CHECK (VALUE ~ '^[A-Z0-9]{6,12}$');

-- A dot-string of at most 64 bytes, `@`, and at least two labels of letters, digits and hyphens. The domain
-- name is in its ASCII form.
CREATE DOMAIN referral.email AS text COLLATE "C" CHECK (
    octet_length(VALUE) BETWEEN 5 AND 254
    AND position('@' IN VALUE) <= 65
    AND VALUE ~ '^[a-z0-9!#$%&''*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&''*+/=?^_`{|}~-]+)*@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?$'
);

-- 1 to 64 characters as users count them. Each can have any number of combining marks.
CREATE DOMAIN referral.person_name AS text COLLATE "C" CHECK (octet_length(VALUE) BETWEEN 1 AND 1024);

-- Id that the host gives a user. It is compared by its bytes.
CREATE DOMAIN referral.external_id AS text COLLATE "C" CHECK (octet_length(VALUE) BETWEEN 1 AND 255);

-- JSON object of the host. It is stored as text, because `jsonb` changes numbers. `jsonb` accepts no NUL
-- character.
CREATE DOMAIN referral.metadata AS text COLLATE "C" CHECK (
    octet_length(VALUE) <= 4096 AND jsonb_typeof(VALUE::jsonb) = 'object'
);

-- Name of an SMS gateway in the settings.
CREATE DOMAIN referral.gateway AS text COLLATE "C" CHECK (char_length(VALUE) BETWEEN 1 AND 64);

-- Number of events.
CREATE DOMAIN referral.count AS bigint CHECK (VALUE >= 0);

-- Sequence of an id or an address (16 bytes), and a time (8 bytes, big-endian microseconds since 1970).
CREATE DOMAIN referral.marks AS bytea CHECK (octet_length(VALUE) % 24 = 0);

-- A deleted user stays as an erased row without personal data. It keeps its invite code, so that no user gets
-- the code again, and its invitations.
CREATE TABLE referral.users (
    id uuid PRIMARY KEY,
    -- NULL if the user is erased, or has lost the phone.
    phone referral.phone UNIQUE,
    -- Phone that a user without a phone had, and the time at which the user lost it.
    former_phone referral.phone,
    phone_detached_at timestamptz,
    invite_code referral.invite_code NOT NULL UNIQUE,
    email referral.email UNIQUE,
    first_name referral.person_name,
    last_name referral.person_name,
    -- NULL if the user is not staff.
    staff_role text COLLATE "C" CHECK (staff_role IN ('support', 'admin')),
    is_active boolean NOT NULL,
    date_joined timestamptz NOT NULL,
    last_login timestamptz,
    -- Time of the last sign-in or refresh, to within a day.
    last_active timestamptz,
    -- Number of invitees. From 100 on, `invited_counts` is added. Updated by the triggers on invitations.
    invited_count referral.count NOT NULL DEFAULT 0,
    external_id referral.external_id UNIQUE,
    metadata referral.metadata NOT NULL DEFAULT '{}',
    -- Time at which the user is deleted unless the user signs in before.
    deletion_at timestamptz,
    erased_at timestamptz,
    CHECK ((former_phone IS NULL) = (phone_detached_at IS NULL)),
    CHECK (erased_at IS NULL OR deletion_at IS NULL),
    CHECK (
        CASE WHEN erased_at IS NULL THEN (phone IS NULL) = (former_phone IS NOT NULL)
        ELSE coalesce(phone, former_phone, email, first_name, last_name, external_id, staff_role) IS NULL
            AND coalesce(last_login, last_active) IS NULL AND metadata = '{}' AND NOT is_active
        END
    )
-- A sign-in changes a column without an index. With free space on the page, it does not update any index.
) WITH (fillfactor = 85);

CREATE INDEX users_staff ON referral.users (staff_role) WHERE staff_role IS NOT NULL;
CREATE INDEX users_former_phone ON referral.users (former_phone, id) WHERE former_phone IS NOT NULL;
CREATE INDEX users_to_delete ON referral.users (deletion_at, id) WHERE deletion_at IS NOT NULL;
-- A list has no users without a phone.
CREATE INDEX users_first_name ON referral.users (first_name, id) WHERE phone_detached_at IS NULL;
CREATE INDEX users_last_name ON referral.users (last_name, id) WHERE phone_detached_at IS NULL;

-- Texts that a search of users matches. Users without a phone have no row. They are in a separate table, because they
-- are long and only a search reads them.
CREATE TABLE referral.user_search (
    user_id uuid PRIMARY KEY REFERENCES referral.users (id) ON DELETE CASCADE,
    public text COLLATE "C" NOT NULL,
    private text COLLATE "C" NOT NULL,
    -- N-grams, which are pieces of both texts and are created by the program. An array of numbers can be
    -- indexed without an extension, and independently of the letters that the database knows.
    ngrams integer[] NOT NULL
);

-- The planner knows the frequency of the most common n-grams, and that all other n-grams are less frequent.
-- The more n-grams it knows, the lower are its estimates for the others. With this number, it looks up a rare
-- n-gram in the index and does not scan all users for it.
ALTER TABLE referral.user_search ALTER COLUMN ngrams SET STATISTICS 1000;

-- New n-grams are first added to a pending list. Each search reads the whole list, so the program keeps it short
-- with the setting `gin_pending_list_limit`. The index has no limit of its own, which an import could not raise.
CREATE INDEX user_search_ngrams ON referral.user_search USING gin (ngrams) WITH (fastupdate = on);

-- Number of users with a phone, so that it need not be counted. It is the sum of several rows, because sign-ups would wait
-- for each other to update a single row.
CREATE TABLE referral.user_totals (
    slot smallint PRIMARY KEY CHECK (slot BETWEEN 0 AND 31),
    -- May be negative, because a deleted user can be subtracted from a different slot.
    users bigint NOT NULL
) WITH (fillfactor = 10);

INSERT INTO referral.user_totals (slot, users) SELECT slot, 0 FROM generate_series(0, 31) AS slot;

-- Numbers of sign-ups and invitations of each day in UTC. They are sums of several rows, because sign-ups would
-- wait for each other to update a single row. Later deletions do not change them.
CREATE TABLE referral.daily_counts (
    day date NOT NULL,
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 31),
    sign_ups referral.count NOT NULL,
    invitations referral.count NOT NULL,
    PRIMARY KEY (day, slot)
) WITH (fillfactor = 50);

CREATE FUNCTION referral.count_on_day(at timestamptz, more_sign_ups bigint, more_invitations bigint)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO referral.daily_counts AS c (day, slot, sign_ups, invitations)
    VALUES ((at AT TIME ZONE 'UTC')::date, pg_backend_pid() % 32, more_sign_ups, more_invitations)
    ON CONFLICT (day, slot) DO UPDATE SET
        sign_ups = c.sign_ups + more_sign_ups, invitations = c.invitations + more_invitations
$$;

CREATE FUNCTION referral.count_user() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    any_slot CONSTANT smallint := floor(random() * 32);
    before CONSTANT integer := CASE WHEN TG_OP = 'INSERT' THEN 0 ELSE (OLD.phone IS NOT NULL)::integer END;
    after CONSTANT integer := CASE WHEN TG_OP = 'DELETE' THEN 0 ELSE (NEW.phone IS NOT NULL)::integer END;
BEGIN
    IF TG_OP = 'INSERT' AND (NEW.invited_count <> 0 OR NEW.erased_at IS NOT NULL) THEN
        RAISE check_violation USING MESSAGE = 'a new user must have an invited_count of 0 and not be erased';
    END IF;
    -- All transactions update the row of the day before that of the total, so they do not deadlock.
    IF TG_OP = 'INSERT' THEN
        PERFORM referral.count_on_day(NEW.date_joined, 1, 0);
    END IF;
    UPDATE referral.user_totals SET users = users + after - before WHERE slot = any_slot;
    RETURN NULL;
END
$$;

-- An import sets `referral_import.is_running` for its transaction. It adds many users, and erased users. It
-- counts the users itself, because counting each row takes longer than adding it.
CREATE TRIGGER users_are_counted AFTER INSERT ON referral.users
FOR EACH ROW WHEN (current_setting('referral_import.is_running', TRUE) IS DISTINCT FROM 'true')
EXECUTE FUNCTION referral.count_user();

CREATE TRIGGER users_are_counted_off AFTER DELETE ON referral.users
FOR EACH ROW EXECUTE FUNCTION referral.count_user();

CREATE TRIGGER users_are_counted_while_they_have_a_phone AFTER UPDATE OF phone ON referral.users
FOR EACH ROW WHEN ((OLD.phone IS NULL) <> (NEW.phone IS NULL))
EXECUTE FUNCTION referral.count_user();

CREATE FUNCTION referral.keep_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE check_violation USING MESSAGE = 'the invite code of an erased user stays taken';
    END IF;
    RAISE check_violation USING MESSAGE = 'an erased user stays erased';
END
$$;

CREATE TRIGGER users_stay_erased
BEFORE UPDATE OF id, phone, invite_code, date_joined, erased_at ON referral.users
FOR EACH ROW WHEN (OLD.erased_at IS NOT NULL) EXECUTE FUNCTION referral.keep_erased();

CREATE TRIGGER users_are_not_deleted_after_erasure BEFORE DELETE ON referral.users
FOR EACH ROW WHEN (OLD.erased_at IS NOT NULL) EXECUTE FUNCTION referral.keep_erased();

CREATE FUNCTION referral.check_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM referral.sessions WHERE user_id = NEW.id)
        OR EXISTS (SELECT FROM referral.user_search WHERE user_id = NEW.id)
        OR EXISTS (
            SELECT FROM referral.audit_log WHERE user_id = NEW.id AND (reason IS NOT NULL OR changes <> '[]')
        ) THEN
        RAISE check_violation
        USING MESSAGE = 'the data about an erased user in other tables must be deleted before';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER users_are_erased_completely AFTER UPDATE OF erased_at ON referral.users
FOR EACH ROW WHEN (NEW.erased_at IS NOT NULL) EXECUTE FUNCTION referral.check_erasure();

CREATE FUNCTION referral.check_detached() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM referral.user_search WHERE user_id = NEW.id) THEN
        RAISE check_violation USING MESSAGE = 'the search index has no user without a phone';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER users_lose_their_phone_completely AFTER UPDATE OF phone_detached_at ON referral.users
FOR EACH ROW WHEN (NEW.phone_detached_at IS NOT NULL) EXECUTE FUNCTION referral.check_detached();

-- Invitations. Each user has at most one. It is immutable, and only deleted by staff and the host. Users are erased and not deleted, so that
-- their invitations are kept.
CREATE TABLE referral.invitations (
    invitee uuid PRIMARY KEY REFERENCES referral.users (id),
    inviter uuid NOT NULL REFERENCES referral.users (id),
    code referral.invite_code NOT NULL,
    accepted_at timestamptz NOT NULL,
    via text COLLATE "C" NOT NULL CHECK (via IN ('sign_up', 'sign_in', 'profile', 'staff', 'import')),
    CHECK (invitee <> inviter)
);

CREATE INDEX invitations_of_inviter ON referral.invitations (inviter, invitee);

-- Invitees of popular inviters, of whom `invited_count` is at least 100. Sign-ups under a popular inviter would
-- wait for each other to update one row. If it is locked, they add to the row of their backend here.
CREATE TABLE referral.invited_counts (
    inviter uuid NOT NULL REFERENCES referral.users (id) ON DELETE CASCADE,
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 31),
    count referral.count NOT NULL,
    PRIMARY KEY (inviter, slot)
) WITH (fillfactor = 50);

CREATE FUNCTION referral.count_invitation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        RAISE check_violation USING MESSAGE = 'an invitation is immutable';
    ELSIF TG_OP = 'DELETE' THEN
        -- Waits for sign-ups under the inviter, so that the next statements see their invitations.
        PERFORM 1 FROM referral.users WHERE id = OLD.inviter FOR UPDATE;
        DELETE FROM referral.invited_counts WHERE inviter = OLD.inviter;
        UPDATE referral.users
        SET invited_count = (SELECT count(*) FROM referral.invitations WHERE inviter = OLD.inviter)
        WHERE id = OLD.inviter;
        RETURN NULL;
    END IF;
    -- The foreign keys have locked both users, so that they are not erased before the commit.
    IF EXISTS (SELECT FROM referral.users WHERE id IN (NEW.invitee, NEW.inviter) AND erased_at IS NOT NULL) THEN
        RAISE check_violation USING
            MESSAGE = 'an erased user accepts no invitation and invites no user',
            CONSTRAINT = 'invitations_need_present_users';
    END IF;
    UPDATE referral.users SET invited_count = invited_count + 1
    WHERE id = NEW.inviter AND invited_count < 100;
    IF NOT FOUND THEN
        UPDATE referral.users SET invited_count = invited_count + 1
        WHERE id = (SELECT id FROM referral.users WHERE id = NEW.inviter FOR NO KEY UPDATE SKIP LOCKED);
    END IF;
    IF NOT FOUND THEN
        INSERT INTO referral.invited_counts AS c (inviter, slot, count) VALUES (NEW.inviter, pg_backend_pid() % 32, 1)
        ON CONFLICT (inviter, slot) DO UPDATE SET count = c.count + 1;
    END IF;
    PERFORM referral.count_on_day(NEW.accepted_at, 0, 1);
    RETURN NULL;
END
$$;

-- An import adds the counts itself, and invitations of users who were erased since.
CREATE TRIGGER invitations_are_counted AFTER INSERT ON referral.invitations
FOR EACH ROW WHEN (current_setting('referral_import.is_running', TRUE) IS DISTINCT FROM 'true')
EXECUTE FUNCTION referral.count_invitation();

CREATE TRIGGER invitations_are_immutable_and_counted_off AFTER UPDATE OR DELETE ON referral.invitations
FOR EACH ROW EXECUTE FUNCTION referral.count_invitation();

-- Rows for locks. They are used if the transactions that must exclude each other have no other row in common.
CREATE TABLE referral.locks (name text COLLATE "C" PRIMARY KEY);

INSERT INTO referral.locks (name) VALUES ('keys'), ('late_acceptance'), ('staff');

CREATE TABLE referral.challenges (
    id uuid PRIMARY KEY,
    phone referral.phone NOT NULL,
    -- Number 1 for the first challenge of the phone. Each further challenge has the number after the newest
    -- one at the time of its request. Of two concurrent requests, only one challenge is therefore stored.
    number bigint NOT NULL,
    -- True if the code is to sign in, false if it is for another purpose.
    signs_in boolean NOT NULL DEFAULT TRUE,
    code_length bigint NOT NULL,
    code_hash bytea NOT NULL,
    pepper_id text NOT NULL,
    sent_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    redeemed_at timestamptz,
    attempts_with_id referral.count NOT NULL,
    attempts_without_id referral.count NOT NULL,
    address text COLLATE "C",
    -- Addresses and times of failed attempts.
    failed_attempts referral.marks NOT NULL DEFAULT '',
    -- Gateway that accepted the message.
    gateway referral.gateway,
    UNIQUE (phone, number),
    CHECK (number > 0 AND code_length BETWEEN 4 AND 10 AND octet_length(code_hash) = 32)
) WITH (fillfactor = 85);

CREATE INDEX challenges_by_end ON referral.challenges (expires_at);

CREATE FUNCTION referral.keep_redeemed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE check_violation USING MESSAGE = 'a redeemed challenge is immutable';
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
    -- Time at which the session ends if it is not refreshed again. Ended sessions are deleted by this time.
    ends_at timestamptz NOT NULL,
    key_id text NOT NULL,
    access_id uuid NOT NULL,
    refresh_id uuid NOT NULL,
    issued_at timestamptz NOT NULL,
    access_expires_at timestamptz NOT NULL,
    refresh_expires_at timestamptz NOT NULL,
    tokens_used boolean NOT NULL,
    previous_refresh_id uuid,
    -- True if the newest tokens were returned again after the grace period.
    repeated_late boolean NOT NULL DEFAULT FALSE,
    -- Number of consecutive earlier refreshes to which this applied.
    late_repeats referral.count NOT NULL DEFAULT 0,
    -- Ids of superseded refresh tokens, and the times at which they were superseded.
    superseded referral.marks NOT NULL,
    address text COLLATE "C",
    user_agent text,
    -- JSON object with the custom claim of the newest access token.
    claims text COLLATE "C" CHECK (octet_length(claims) <= 2048 AND json_typeof(claims::json) = 'object')
) WITH (fillfactor = 85);

CREATE FUNCTION referral.check_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The foreign key has locked the user, so that it does not lose the phone before the commit.
    IF EXISTS (SELECT FROM referral.users WHERE id = NEW.user_id AND phone IS NULL) THEN
        RAISE check_violation USING
            MESSAGE = 'a user without a phone starts no session',
            CONSTRAINT = 'sessions_need_a_user_with_a_phone';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER sessions_need_a_user_with_a_phone AFTER INSERT ON referral.sessions
FOR EACH ROW EXECUTE FUNCTION referral.check_session();

CREATE INDEX sessions_of_user ON referral.sessions (user_id, id);
CREATE INDEX sessions_by_end ON referral.sessions (ends_at);

-- Recent events of each phone, address, pair of both, number range, and number range with address. A counter
-- is one row with its newest events. It is deleted when no limit needs them.
CREATE TABLE referral.counters (
    key text COLLATE "C" PRIMARY KEY,
    -- Numbers in ascending order: microseconds since 1970, times eight, plus the kind of event: 0 a code, 1 a
    -- wrong code, 2 an unknown invite code, 3 an attempt without a valid challenge, 4 an edit of an email
    -- address.
    events bigint[] NOT NULL,
    -- A full hour, so that a change of the events seldom updates the index.
    ends_at timestamptz NOT NULL
) WITH (fillfactor = 70);

CREATE INDEX counters_by_end ON referral.counters (ends_at);

-- Numbers of wrong codes in each minute and of messages in each hour, for the whole service. They are sums of
-- several rows, because requests would wait for each other to update a single row.
CREATE TABLE referral.global_counters (
    counter text COLLATE "C" NOT NULL CHECK (counter IN ('failed_attempts', 'messages')),
    period_start timestamptz NOT NULL,
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 7),
    count bigint NOT NULL,
    PRIMARY KEY (counter, period_start, slot)
) WITH (fillfactor = 50);

CREATE INDEX global_counters_by_time ON referral.global_counters (period_start);

CREATE TABLE referral.attack_state (
    only_row boolean PRIMARY KEY DEFAULT TRUE CHECK (only_row),
    attack_until timestamptz
);

INSERT INTO referral.attack_state DEFAULT VALUES;

-- Undoes a statement that has not written all its rows, because the facts of its decision have changed.
CREATE FUNCTION referral.all_or_nothing(has_all boolean) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT has_all THEN
        RAISE EXCEPTION 'the facts of the decision have changed' USING ERRCODE = 'RF001';
    END IF;
    RETURN TRUE;
END
$$;

-- Delivery status of messages. The region is the only information about the recipient of a message.
CREATE TABLE referral.messages (
    gateway referral.gateway NOT NULL,
    -- Id that the gateway gave to the message.
    message_id text COLLATE "C" NOT NULL CHECK (char_length(message_id) BETWEEN 1 AND 128),
    -- True if it is recorded that this service sent the message. Before that, there is only a report.
    is_ours boolean NOT NULL,
    region text COLLATE "C" CHECK (region ~ '^[A-Z]{2}$'),
    status text COLLATE "C" NOT NULL CHECK (status IN ('sent', 'failed', 'delivered')),
    -- Time of the first record. Old messages are deleted by this time.
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (gateway, message_id),
    CHECK (is_ours OR (region IS NULL AND status <> 'sent'))
-- A report changes columns without an index. With free space on the page, it does not update any index.
) WITH (fillfactor = 85);

CREATE INDEX messages_by_time ON referral.messages (recorded_at);

-- Changes by staff and the host, and of users by themselves with a code.
CREATE TABLE referral.audit_log (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    -- User that made the change. NULL for the host. Without a foreign key, two admins can change each other at
    -- the same time.
    actor uuid,
    action text COLLATE "C" NOT NULL CHECK (
        action IN (
            'user_added', 'user_changed', 'phone_changed', 'deletion_scheduled', 'deletion_canceled', 'user_deleted',
            'sessions_ended', 'phone_unlocked', 'data_exported'
        )
    ),
    -- User that was changed.
    user_id uuid REFERENCES referral.users (id),
    reason text COLLATE "C" CHECK (char_length(reason) BETWEEN 1 AND 500),
    -- JSON array of the changed fields. Empty, and without a reason, if the user was deleted later.
    changes text COLLATE "C" NOT NULL CHECK (json_typeof(changes::json) = 'array')
);

CREATE INDEX audit_log_of_user ON referral.audit_log (user_id, id);
CREATE INDEX audit_log_by_actor ON referral.audit_log (actor, id);
CREATE INDEX audit_log_by_action ON referral.audit_log (action, id);

CREATE FUNCTION referral.keep_audit_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.reason IS NULL AND NEW.changes = '[]'
        AND (NEW.id, NEW.at, NEW.actor, NEW.action, NEW.user_id)
            IS NOT DISTINCT FROM (OLD.id, OLD.at, OLD.actor, OLD.action, OLD.user_id) THEN
        RETURN NEW;
    END IF;
    RAISE check_violation USING MESSAGE = 'an entry of the audit log is only erased';
END
$$;

CREATE FUNCTION referral.erase_audit_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Waits for a deletion of the user.
    PERFORM 1 FROM referral.users WHERE id = NEW.user_id FOR KEY SHARE;
    IF EXISTS (SELECT FROM referral.users WHERE id = NEW.user_id AND erased_at IS NOT NULL) THEN
        NEW.reason := NULL;
        NEW.changes := '[]';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER audit_entries_about_erased_users_are_erased BEFORE INSERT ON referral.audit_log
FOR EACH ROW WHEN (NEW.user_id IS NOT NULL AND NEW.action <> 'user_deleted')
EXECUTE FUNCTION referral.erase_audit_entry();

CREATE TRIGGER audit_entries_are_only_erased BEFORE UPDATE OR DELETE ON referral.audit_log
FOR EACH ROW EXECUTE FUNCTION referral.keep_audit_entry();

-- Records of requests to send and to redeem codes, for support. A phone is stored as a keyed hash, whose key is
-- not in the database.
CREATE TABLE referral.code_requests (
    phone_hash bytea NOT NULL CHECK (octet_length(phone_hash) = 16),
    -- UUID of version 7, which sorts by time.
    id uuid NOT NULL,
    requested_at timestamptz NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('send', 'redeem')),
    purpose text COLLATE "C" NOT NULL CHECK (char_length(purpose) BETWEEN 1 AND 32),
    outcome text COLLATE "C" NOT NULL CHECK (outcome IN (
        'sent', 'unknown', 'test_number', 'not_sent', 'redeemed', 'refused', 'rejected_by_host', 'gate_failed', 'failed'
    )),
    reason text COLLATE "C" CHECK (char_length(reason) BETWEEN 1 AND 64),
    -- Limit that refused the request, with its numbers such as `3/15m`.
    limit_name text COLLATE "C" CHECK (char_length(limit_name) BETWEEN 1 AND 64),
    limit_rule text COLLATE "C" CHECK (char_length(limit_rule) BETWEEN 1 AND 128),
    -- Time from which the limit no longer refuses the same request.
    free_at timestamptz,
    gateway referral.gateway,
    message_id text COLLATE "C" CHECK (char_length(message_id) BETWEEN 1 AND 128),
    -- Id of the request in the log.
    request_id text COLLATE "C" CHECK (char_length(request_id) BETWEEN 1 AND 128),
    PRIMARY KEY (phone_hash, id),
    CHECK ((limit_name IS NULL) = (free_at IS NULL)),
    CHECK (limit_rule IS NULL OR limit_name IS NOT NULL),
    CHECK (message_id IS NULL OR gateway IS NOT NULL)
);

CREATE INDEX code_requests_by_time ON referral.code_requests (requested_at);

-- Keys that are, or were, the first of the ring of a process.
CREATE TABLE referral.keys (
    purpose text COLLATE "C" NOT NULL CHECK (purpose IN ('signing', 'pepper')),
    id text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 16),
    -- NULL while the key is the first of a ring.
    needed_until timestamptz,
    PRIMARY KEY (purpose, id)
);

-- Filled by a transaction that is rolled back, to check the free space on the disk.
CREATE TABLE referral.disk_probe (filler text COLLATE "C" NOT NULL);
ALTER TABLE referral.disk_probe ALTER COLUMN filler SET STORAGE PLAIN;

-- Settings that should be equal in all processes on this database. Values of the process that started last.
CREATE TABLE referral.shared_settings (
    name text COLLATE "C" PRIMARY KEY,
    value text COLLATE "C" NOT NULL
);
