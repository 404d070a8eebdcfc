-- Users, invitations, challenges, sessions, counters, messages, records of requests, and keys.
--
-- The constraints and triggers enforce the invariants for all programs that write to the tables. Ids are
-- UUIDs of 16 bytes. Times are microseconds since 1970 in UTC. If length() and octet_length() must be equal,
-- a text is ASCII without a NUL character, at which length() would stop.

-- Oldest version of the program that works with the schema after each migration. An older program refuses to
-- start. A newer program does not need to know the changes of the migration.
CREATE TABLE referral_migration_compatibility (
    version INTEGER PRIMARY KEY,
    oldest_program TEXT NOT NULL CHECK (oldest_program GLOB '[0-9]*.[0-9]*.[0-9]*')
) STRICT;

-- A deleted user stays as an erased row without personal data. It keeps its invite code, so that no user gets
-- the code again, and its invitations.
CREATE TABLE referral_users (
    id BLOB NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    -- NULL if the user is erased, or has lost the phone.
    phone TEXT UNIQUE CHECK (
        octet_length(phone) BETWEEN 8 AND 16
        AND length(phone) = octet_length(phone)
        AND substr(phone, 1, 1) = '+'
        AND substr(phone, 2) NOT GLOB '*[^0-9]*'
    ),
    -- Phone that a user without a phone had, and the time at which the user lost it.
    former_phone TEXT CHECK (
        octet_length(former_phone) BETWEEN 8 AND 16
        AND length(former_phone) = octet_length(former_phone)
        AND substr(former_phone, 1, 1) = '+'
        AND substr(former_phone, 2) NOT GLOB '*[^0-9]*'
    ),
    phone_detached_at INTEGER,
    invite_code TEXT NOT NULL UNIQUE CHECK (
        octet_length(invite_code) BETWEEN 6 AND 12
        AND length(invite_code) = octet_length(invite_code)
        AND invite_code NOT GLOB '*[^A-Z0-9]*'
    ),
    -- A dot-string of at most 64 bytes, `@`, and at least two labels of letters, digits and hyphens. The
    -- domain is in its ASCII form.
    email TEXT UNIQUE CHECK (
        octet_length(email) BETWEEN 5 AND 254
        AND length(email) = octet_length(email)
        AND instr(email, '@') BETWEEN 2 AND 65
        AND email NOT GLOB '*[^-a-z0-9.@!#$%&''*+/=?^_`{|}~]*'
        AND email NOT GLOB '.*'
        AND email NOT GLOB '*.@*'
        AND email NOT GLOB '*..*'
        AND substr(email, instr(email, '@') + 1) NOT GLOB '*[^-.a-z0-9]*'
        AND '.' || substr(email, instr(email, '@') + 1) || '.' NOT GLOB '*.[-.]*'
        AND '.' || substr(email, instr(email, '@') + 1) || '.' NOT GLOB '*-.*'
        AND substr(email, instr(email, '@') + 1) GLOB '*.*'
    ),
    -- 1 to 64 characters as users count them. Each can have any number of combining marks.
    first_name TEXT CHECK (octet_length(first_name) BETWEEN 1 AND 1024 AND instr(first_name, char(0)) = 0),
    last_name TEXT CHECK (octet_length(last_name) BETWEEN 1 AND 1024 AND instr(last_name, char(0)) = 0),
    -- NULL if the user is not staff.
    staff_role TEXT CHECK (staff_role IN ('support', 'admin')),
    is_active INTEGER NOT NULL CHECK (is_active IN (0, 1)),
    date_joined INTEGER NOT NULL,
    last_login INTEGER,
    -- Time of the last sign-in or refresh, to within a day.
    last_active INTEGER,
    -- Updated by the triggers on invitations.
    invited_count INTEGER NOT NULL DEFAULT 0 CHECK (invited_count >= 0),
    -- Id that the host gives the user. It is compared by its bytes.
    external_id TEXT UNIQUE CHECK (
        octet_length(external_id) BETWEEN 1 AND 255 AND instr(external_id, char(0)) = 0
    ),
    -- JSON object of the host.
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (
        octet_length(metadata) BETWEEN 2 AND 4096
        AND instr(metadata, char(0)) = 0
        AND iif(json_valid(metadata), json_type(metadata), NULL) IS 'object'
    ),
    -- Time at which the user is deleted unless the user signs in before.
    deletion_at INTEGER,
    -- These columns are last, because they are long and only a search reads them.
    search_public TEXT NOT NULL,
    search_private TEXT NOT NULL,
    erased_at INTEGER,
    CHECK ((former_phone IS NULL) = (phone_detached_at IS NULL)),
    CHECK (erased_at IS NULL OR deletion_at IS NULL),
    CHECK (iif(
        erased_at IS NULL,
        (phone IS NULL) = (former_phone IS NOT NULL),
        coalesce(phone, former_phone, email, first_name, last_name, external_id, staff_role) IS NULL
            AND coalesce(last_login, last_active) IS NULL AND metadata = '{}' AND is_active = 0 AND search_public = '' AND search_private = ''
    ))
) STRICT;

CREATE INDEX referral_users_staff ON referral_users (staff_role) WHERE staff_role IS NOT NULL;
CREATE INDEX referral_users_former_phone ON referral_users (former_phone, id) WHERE former_phone IS NOT NULL;
CREATE INDEX referral_users_to_delete ON referral_users (deletion_at, id) WHERE deletion_at IS NOT NULL;
-- A list has no users without a phone. With the last column, it skips them without reading their rows.
CREATE INDEX referral_users_first_name ON referral_users (first_name, id, phone_detached_at);
CREATE INDEX referral_users_last_name ON referral_users (last_name, id, phone_detached_at);

-- Number of a user in the search index. It increases with each added user, and with each user who gets a phone
-- again. Users without a phone have none.
CREATE TABLE referral_user_numbers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id BLOB NOT NULL UNIQUE REFERENCES referral_users (id)
) STRICT;

-- Index from n-grams, which are pieces of the searched texts, to users. The program writes the n-grams as
-- words. The index stores neither the text nor positions.
CREATE VIRTUAL TABLE referral_user_ngrams USING fts5 (
    ngrams, content = '', contentless_delete = 1, detail = 'none', tokenize = 'ascii'
);

-- Number of users with a phone, so that it need not be counted.
CREATE TABLE referral_user_totals (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    users INTEGER NOT NULL CHECK (users >= 0)
) STRICT;

INSERT INTO referral_user_totals (only_row, users) VALUES (1, 0);

-- Numbers of sign-ups and invitations of each day in UTC, as days since 1970. Later deletions do not change them.
CREATE TABLE referral_daily_counts (
    day INTEGER NOT NULL PRIMARY KEY,
    sign_ups INTEGER NOT NULL CHECK (sign_ups >= 0),
    invitations INTEGER NOT NULL CHECK (invitations >= 0)
) STRICT;

-- Is 1 during the transaction of an import, which adds erased users, and invitations of users who were erased
-- since. No other writer sees the value.
CREATE TABLE referral_import (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    is_running INTEGER NOT NULL CHECK (is_running IN (0, 1))
) STRICT;

INSERT INTO referral_import (only_row, is_running) VALUES (1, 0);

CREATE TRIGGER referral_users_start_without_invitees BEFORE INSERT ON referral_users
WHEN NEW.invited_count <> 0
BEGIN
    SELECT RAISE(ABORT, 'a new user must have an invited_count of 0');
END;

-- The keys reject a second row, but INSERT OR REPLACE would bypass them and the counts.
CREATE TRIGGER referral_users_are_not_replaced BEFORE INSERT ON referral_users
WHEN EXISTS (
    SELECT 1 FROM referral_users
    WHERE id = NEW.id OR phone = NEW.phone OR email = NEW.email OR external_id = NEW.external_id
        OR invite_code = NEW.invite_code
)
BEGIN
    SELECT RAISE(ABORT, 'the user exists');
END;

CREATE TRIGGER referral_users_start_present BEFORE INSERT ON referral_users
WHEN NEW.erased_at IS NOT NULL AND (SELECT is_running FROM referral_import) = 0
BEGIN
    SELECT RAISE(ABORT, 'a new user must not be erased');
END;

CREATE TRIGGER referral_users_stay_erased
BEFORE UPDATE OF id, phone, invite_code, date_joined, erased_at ON referral_users
WHEN OLD.erased_at IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'an erased user stays erased');
END;

CREATE TRIGGER referral_users_are_not_deleted_after_erasure BEFORE DELETE ON referral_users
WHEN OLD.erased_at IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'the invite code of an erased user stays taken');
END;

CREATE TRIGGER referral_users_are_erased_completely AFTER UPDATE OF erased_at ON referral_users
WHEN NEW.erased_at IS NOT NULL AND (
    EXISTS (SELECT 1 FROM referral_sessions WHERE user_id = NEW.id)
    OR EXISTS (SELECT 1 FROM referral_challenges WHERE phone = OLD.phone)
    OR EXISTS (SELECT 1 FROM referral_user_numbers WHERE user_id = NEW.id)
    OR EXISTS (
        SELECT 1 FROM referral_audit_log WHERE user_id = NEW.id AND (reason IS NOT NULL OR changes <> '[]')
    )
)
BEGIN
    SELECT RAISE(ABORT, 'the data about an erased user in other tables must be deleted before');
END;

CREATE TRIGGER referral_users_are_counted AFTER INSERT ON referral_users
WHEN NEW.erased_at IS NULL
BEGIN
    UPDATE referral_user_totals SET users = users + (NEW.phone IS NOT NULL);
    INSERT INTO referral_daily_counts (day, sign_ups, invitations)
    VALUES (NEW.date_joined / 86400000000, 1, 0)
    ON CONFLICT (day) DO UPDATE SET sign_ups = sign_ups + 1;
END;

CREATE TRIGGER referral_users_are_counted_off AFTER DELETE ON referral_users
BEGIN
    UPDATE referral_user_totals SET users = users - (OLD.phone IS NOT NULL);
END;

CREATE TRIGGER referral_users_are_counted_while_they_have_a_phone AFTER UPDATE OF phone ON referral_users
WHEN (OLD.phone IS NULL) <> (NEW.phone IS NULL)
BEGIN
    UPDATE referral_user_totals SET users = users + (NEW.phone IS NOT NULL) - (OLD.phone IS NOT NULL);
END;

CREATE TRIGGER referral_users_lose_their_phone_completely AFTER UPDATE OF phone_detached_at ON referral_users
WHEN NEW.phone_detached_at IS NOT NULL
    AND EXISTS (SELECT 1 FROM referral_user_numbers WHERE user_id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'the search index has no user without a phone');
END;

-- Invitations. Each user has at most one. It is immutable, and only deleted by staff and the host. Users are erased and not deleted, so that
-- their invitations are kept. The rows are small and always read through an index, so they are stored in the
-- order of their key.
CREATE TABLE referral_invitations (
    invitee BLOB NOT NULL PRIMARY KEY REFERENCES referral_users (id),
    inviter BLOB NOT NULL REFERENCES referral_users (id),
    code TEXT NOT NULL CHECK (
        octet_length(code) BETWEEN 6 AND 12
        AND length(code) = octet_length(code)
        AND code NOT GLOB '*[^A-Z0-9]*'
    ),
    accepted_at INTEGER NOT NULL,
    via TEXT NOT NULL CHECK (via IN ('sign_up', 'sign_in', 'profile', 'staff', 'import')),
    CHECK (invitee <> inviter)
) STRICT, WITHOUT ROWID;

CREATE INDEX referral_invitations_of_inviter ON referral_invitations (inviter, invitee);

CREATE TRIGGER referral_invitations_are_immutable BEFORE UPDATE ON referral_invitations
BEGIN
    SELECT RAISE(ABORT, 'an invitation is immutable');
END;

-- The primary key rejects a second row, but INSERT OR REPLACE would bypass it.
CREATE TRIGGER referral_invitations_are_not_replaced BEFORE INSERT ON referral_invitations
WHEN EXISTS (SELECT 1 FROM referral_invitations WHERE invitee = NEW.invitee)
BEGIN
    SELECT RAISE(ABORT, 'an invitation is immutable');
END;

CREATE TRIGGER referral_invitations_need_present_users BEFORE INSERT ON referral_invitations
WHEN (SELECT is_running FROM referral_import) = 0
    AND EXISTS (SELECT 1 FROM referral_users WHERE id IN (NEW.invitee, NEW.inviter) AND erased_at IS NOT NULL)
BEGIN
    SELECT RAISE(ABORT, 'an erased user accepts no invitation and invites no user');
END;

CREATE TRIGGER referral_invitations_are_counted AFTER INSERT ON referral_invitations
BEGIN
    UPDATE referral_users SET invited_count = invited_count + 1 WHERE id = NEW.inviter;
    INSERT INTO referral_daily_counts (day, sign_ups, invitations)
    VALUES (NEW.accepted_at / 86400000000, 0, 1)
    ON CONFLICT (day) DO UPDATE SET invitations = invitations + 1;
END;

CREATE TRIGGER referral_invitations_are_counted_off AFTER DELETE ON referral_invitations
BEGIN
    UPDATE referral_users SET invited_count = invited_count - 1 WHERE id = OLD.inviter;
END;

CREATE TABLE referral_challenges (
    id BLOB NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    phone TEXT NOT NULL CHECK (
        octet_length(phone) BETWEEN 8 AND 16
        AND length(phone) = octet_length(phone)
        AND substr(phone, 1, 1) = '+'
        AND substr(phone, 2) NOT GLOB '*[^0-9]*'
    ),
    -- 1 if the code is to sign in, 0 if it is for another purpose.
    signs_in INTEGER NOT NULL DEFAULT 1 CHECK (signs_in IN (0, 1)),
    code_length INTEGER NOT NULL CHECK (code_length BETWEEN 4 AND 10),
    code_hash BLOB NOT NULL CHECK (octet_length(code_hash) = 32),
    pepper_id TEXT NOT NULL,
    sent_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    redeemed_at INTEGER,
    attempts_with_id INTEGER NOT NULL DEFAULT 0 CHECK (attempts_with_id >= 0),
    attempts_without_id INTEGER NOT NULL DEFAULT 0 CHECK (attempts_without_id >= 0),
    address TEXT,
    -- Sequence of the address (16 bytes) and the time (8 bytes, big-endian) of each failed attempt.
    failed_attempts BLOB NOT NULL DEFAULT x'' CHECK (octet_length(failed_attempts) % 24 = 0),
    -- Gateway that accepted the message.
    gateway TEXT CHECK (length(gateway) BETWEEN 1 AND 64)
) STRICT, WITHOUT ROWID;

CREATE INDEX referral_challenges_of_phone ON referral_challenges (phone, id);
CREATE INDEX referral_challenges_by_end ON referral_challenges (expires_at);

CREATE TRIGGER referral_challenges_are_redeemed_once BEFORE UPDATE ON referral_challenges
WHEN OLD.redeemed_at IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'a redeemed challenge is immutable');
END;

CREATE TRIGGER referral_challenges_are_not_replaced BEFORE INSERT ON referral_challenges
WHEN EXISTS (SELECT 1 FROM referral_challenges WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'the challenge exists');
END;

CREATE TABLE referral_sessions (
    id BLOB NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    user_id BLOB NOT NULL REFERENCES referral_users (id),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    -- Time at which the session ends if it is not refreshed again. Ended sessions are deleted by this time.
    ends_at INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    access_id BLOB NOT NULL CHECK (octet_length(access_id) = 16),
    refresh_id BLOB NOT NULL CHECK (octet_length(refresh_id) = 16),
    issued_at INTEGER NOT NULL,
    access_expires_at INTEGER NOT NULL,
    refresh_expires_at INTEGER NOT NULL,
    tokens_used INTEGER NOT NULL CHECK (tokens_used IN (0, 1)),
    previous_refresh_id BLOB CHECK (octet_length(previous_refresh_id) = 16),
    -- True if the newest tokens were returned again after the grace period.
    repeated_late INTEGER NOT NULL DEFAULT 0 CHECK (repeated_late IN (0, 1)),
    -- Number of consecutive earlier refreshes to which this applied.
    late_repeats INTEGER NOT NULL DEFAULT 0 CHECK (late_repeats >= 0),
    -- Sequence of the id (16 bytes) and the time (8 bytes, big-endian) of each superseded refresh token.
    superseded BLOB NOT NULL CHECK (octet_length(superseded) % 24 = 0),
    address TEXT,
    user_agent TEXT,
    -- JSON object with the custom claim of the newest access token.
    claims TEXT CHECK (octet_length(claims) <= 2048 AND json_type(claims) = 'object')
) STRICT, WITHOUT ROWID;

CREATE TRIGGER referral_sessions_need_a_user_with_a_phone BEFORE INSERT ON referral_sessions
WHEN EXISTS (SELECT 1 FROM referral_users WHERE id = NEW.user_id AND phone IS NULL)
BEGIN
    SELECT RAISE(ABORT, 'a user without a phone starts no session');
END;

CREATE INDEX referral_sessions_of_user ON referral_sessions (user_id);
CREATE INDEX referral_sessions_by_end ON referral_sessions (ends_at);

-- Recent events of each phone, address, pair of both, number range, and number range with address. There are
-- thousands of codes and requests, so a counter is one row with its newest events. It is deleted when no limit
-- needs them.
CREATE TABLE referral_counters (
    key TEXT NOT NULL PRIMARY KEY,
    -- JSON array of numbers, in ascending order: microseconds since 1970, times eight, plus the kind of
    -- event: 0 a code, 1 a wrong code, 2 an unknown invite code, 3 an attempt without a valid challenge, 4 an
    -- edit of an email address.
    events TEXT NOT NULL CHECK (json_type(events) = 'array'),
    ends_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX referral_counters_by_end ON referral_counters (ends_at);

-- Numbers of wrong codes in each minute and of messages in each hour, for the whole service.
CREATE TABLE referral_global_counters (
    counter TEXT NOT NULL CHECK (counter IN ('failed_attempts', 'messages')),
    period_start INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (counter, period_start)
) STRICT, WITHOUT ROWID;

CREATE TABLE referral_attack_state (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    attack_until INTEGER
) STRICT;

INSERT INTO referral_attack_state (only_row) VALUES (1);

-- Delivery status of messages. The region is the only information about the recipient of a message.
CREATE TABLE referral_messages (
    gateway TEXT NOT NULL CHECK (length(gateway) BETWEEN 1 AND 64),
    -- Id that the gateway gave to the message.
    message_id TEXT NOT NULL CHECK (length(message_id) BETWEEN 1 AND 128),
    -- True if it is recorded that this service sent the message. Before that, there is only a report.
    is_ours INTEGER NOT NULL CHECK (is_ours IN (0, 1)),
    region TEXT CHECK (length(region) = 2 AND region NOT GLOB '*[^A-Z]*'),
    status TEXT NOT NULL CHECK (status IN ('sent', 'failed', 'delivered')),
    -- Time of the first record. Old messages are deleted by this time.
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (gateway, message_id),
    CHECK (is_ours = 1 OR (region IS NULL AND status <> 'sent'))
) STRICT, WITHOUT ROWID;

CREATE INDEX referral_messages_by_time ON referral_messages (recorded_at);

-- Changes by staff and the host, and of users by themselves with a code.
CREATE TABLE referral_audit_log (
    id BLOB NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    at INTEGER NOT NULL,
    -- User that made the change. NULL for the host.
    actor BLOB CHECK (octet_length(actor) = 16),
    action TEXT NOT NULL CHECK (
        action IN (
            'user_added', 'user_changed', 'phone_changed', 'deletion_scheduled', 'deletion_canceled', 'user_deleted',
            'sessions_ended', 'phone_unlocked', 'data_exported'
        )
    ),
    -- User that was changed.
    user_id BLOB REFERENCES referral_users (id),
    reason TEXT CHECK (length(reason) BETWEEN 1 AND 500),
    -- JSON array of the changed fields. Empty, and without a reason, if the user was deleted later.
    changes TEXT NOT NULL CHECK (json_type(changes) = 'array')
) STRICT, WITHOUT ROWID;

CREATE INDEX referral_audit_log_of_user ON referral_audit_log (user_id, id);
CREATE INDEX referral_audit_log_by_actor ON referral_audit_log (actor, id);
CREATE INDEX referral_audit_log_by_action ON referral_audit_log (action, id);

CREATE TRIGGER referral_audit_entries_are_only_erased BEFORE UPDATE ON referral_audit_log
WHEN NEW.reason IS NOT NULL OR NEW.changes <> '[]' OR NEW.id <> OLD.id OR NEW.at <> OLD.at
    OR NEW.actor IS NOT OLD.actor OR NEW.action <> OLD.action OR NEW.user_id IS NOT OLD.user_id
BEGIN
    SELECT RAISE(ABORT, 'an entry of the audit log is only erased');
END;

CREATE TRIGGER referral_audit_entries_about_erased_users_are_erased AFTER INSERT ON referral_audit_log
WHEN NEW.action <> 'user_deleted'
    AND EXISTS (SELECT 1 FROM referral_users WHERE id = NEW.user_id AND erased_at IS NOT NULL)
BEGIN
    UPDATE referral_audit_log SET reason = NULL, changes = '[]' WHERE id = NEW.id;
END;

CREATE TRIGGER referral_audit_entries_are_kept BEFORE DELETE ON referral_audit_log
BEGIN
    SELECT RAISE(ABORT, 'an entry of the audit log is kept');
END;

CREATE TRIGGER referral_audit_entries_are_not_replaced BEFORE INSERT ON referral_audit_log
WHEN EXISTS (SELECT 1 FROM referral_audit_log WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'the entry exists');
END;

-- Records of requests to send and to redeem codes, for support. A phone is stored as a keyed hash, whose key is
-- not in the database. The rows of a phone are read together, so the table is stored in the order of its key.
CREATE TABLE referral_code_requests (
    phone_hash BLOB NOT NULL CHECK (octet_length(phone_hash) = 16),
    -- UUID of version 7, which sorts by time.
    id BLOB NOT NULL CHECK (octet_length(id) = 16),
    requested_at INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('send', 'redeem')),
    purpose TEXT NOT NULL CHECK (length(purpose) BETWEEN 1 AND 32),
    outcome TEXT NOT NULL CHECK (outcome IN (
        'sent', 'unknown', 'test_number', 'not_sent', 'redeemed', 'refused', 'rejected_by_host', 'gate_failed', 'failed'
    )),
    reason TEXT CHECK (length(reason) BETWEEN 1 AND 64),
    -- Limit that refused the request, with its numbers such as `3/15m`.
    limit_name TEXT CHECK (length(limit_name) BETWEEN 1 AND 64),
    limit_rule TEXT CHECK (length(limit_rule) BETWEEN 1 AND 128),
    -- Time from which the limit no longer refuses the same request.
    free_at INTEGER,
    gateway TEXT CHECK (length(gateway) BETWEEN 1 AND 64),
    message_id TEXT CHECK (length(message_id) BETWEEN 1 AND 128),
    -- Id of the request in the log.
    request_id TEXT CHECK (length(request_id) BETWEEN 1 AND 128),
    PRIMARY KEY (phone_hash, id),
    CHECK ((limit_name IS NULL) = (free_at IS NULL)),
    CHECK (limit_rule IS NULL OR limit_name IS NOT NULL),
    CHECK (message_id IS NULL OR gateway IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX referral_code_requests_by_time ON referral_code_requests (requested_at);

-- Keys that are, or were, the first of the ring of a process.
CREATE TABLE referral_keys (
    purpose TEXT NOT NULL CHECK (purpose IN ('signing', 'pepper')),
    id TEXT NOT NULL,
    fingerprint BLOB NOT NULL CHECK (octet_length(fingerprint) = 16),
    -- NULL while the key is the first of a ring.
    needed_until INTEGER,
    PRIMARY KEY (purpose, id)
) STRICT, WITHOUT ROWID;

-- Settings that should be equal in all processes on this file. Values of the process that started last.
CREATE TABLE referral_shared_settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
