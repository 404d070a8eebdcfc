//! All SQL statements except the list of users, which is built from its filter.

use crate::rows::{challenge_columns, invitee_columns, session_columns, user_columns};

pub(super) const SCHEMA: &str = "referral";

pub(super) const HAS_SCHEMA: &str = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)";

pub(super) const MIGRATIONS_TABLE: &str = "referral._migrations";

/// Table with the oldest version of the program that works with each migration.
pub(super) const COMPATIBILITY_TABLE: &str = "referral.migration_compatibility";

pub(super) const HAS_MIGRATIONS: &str = "SELECT to_regclass('referral._migrations') IS NOT NULL \
        AND to_regclass('referral.migration_compatibility') IS NOT NULL AS has_migrations";

pub(super) const APPLIED_MIGRATIONS: &str = "SELECT version, checksum, success, oldest_program FROM referral._migrations \
     LEFT JOIN referral.migration_compatibility USING (version) ORDER BY version";

/// Checks for a standby, which accepts reads but no writes.
pub(super) const IS_READ_ONLY: &str = "SELECT current_setting('transaction_read_only') = 'on' AS read_only";

/// Selects whether the server is a standby, its cluster, and the timeline that it writes.
pub(super) const SERVER: &str = "\
    SELECT pg_is_in_recovery() AS is_standby, \
           (SELECT system_identifier::text FROM pg_control_system()) AS cluster, \
           CASE WHEN pg_is_in_recovery() THEN '' \
                ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline";

/// Selects whether a commit of this role waits for a synchronous standby.
pub(super) const COMMITS_WAIT: &str = "\
    SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND usename = current_user) \
    AS commits_wait";

pub(super) const ENCODING: &str = "SELECT current_setting('server_encoding') AS encoding";

/// Allocates a file of 256 KiB. The new file of a truncated table has no free space to reuse.
pub(super) const PROBE_DISK: &str = "\
    TRUNCATE referral.disk_probe; \
    INSERT INTO referral.disk_probe (filler) SELECT repeat('x', 4000) FROM generate_series(1, 64)";

pub(super) const SHARED_SETTINGS: &str = "SELECT name, value FROM referral.shared_settings";

pub(super) const RECORD_SETTINGS: &str = "\
    INSERT INTO referral.shared_settings (name, value) SELECT * FROM unnest($1::text[], $2::text[]) \
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";

pub(super) const USER_TOTAL: &str = "SELECT sum(users)::bigint AS counted FROM referral.user_totals";

/// Join with the newest invitees of `u`, at most `$2`, in three array columns.
macro_rules! invited {
    () => {
        " LEFT JOIN LATERAL ( \
            SELECT array_agg(v.id) AS invited_ids, array_agg(v.phone) AS invited_phones, \
                   array_agg(v.date_joined) AS invited_joined \
            FROM ( \
                SELECT p.id, p.phone, p.date_joined \
                FROM referral.invitations j JOIN referral.users p ON p.id = j.invitee \
                WHERE j.inviter = u.id AND u.invited_count > 0 \
                ORDER BY j.invitee DESC LIMIT $2 \
            ) v \
        ) invited ON TRUE"
    };
}

pub(super) const USER: &str = concat!(
    "SELECT ",
    user_columns!(),
    ", invited.* FROM referral.users u LEFT JOIN referral.invitations i ON i.invitee = u.id",
    invited!(),
    " WHERE u.id = $1"
);

pub(super) const SESSION: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", ",
    user_columns!(),
    " FROM referral.sessions s JOIN referral.users u ON u.id = s.user_id \
      LEFT JOIN referral.invitations i ON i.invitee = u.id \
      WHERE s.id = $1"
);

pub(super) const SESSION_WITH_INVITED: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", ",
    user_columns!(),
    ", invited.* FROM referral.sessions s JOIN referral.users u ON u.id = s.user_id \
      LEFT JOIN referral.invitations i ON i.invitee = u.id",
    invited!(),
    " WHERE s.id = $1"
);

/// Selects a page of invitees. Each row has the count of all invitees. If there are no invitees, there is one
/// row without an invitee.
pub(super) const INVITEES: &str = concat!(
    "SELECT u.invited_count, v.* FROM referral.users u LEFT JOIN LATERAL (SELECT ",
    invitee_columns!(),
    " FROM referral.invitations j JOIN referral.users p ON p.id = j.invitee \
      WHERE j.inviter = u.id AND j.invitee < $2 \
      ORDER BY j.invitee DESC LIMIT $3) v ON TRUE WHERE u.id = $1"
);

/// Selects the facts for a request for a code, except messages and the usual number of failed attempts: the newest
/// challenge of a phone, the last login of its user, seven counters, and the state of the service. The
/// failed attempts are selected between two times although there are none in the future. For a condition with a
/// single bound, the planner assumes that it matches a third of the table.
pub(super) const CHALLENGE_FACTS: &str = "\
    SELECT c.number, c.sent_at AS last_sent_at, coalesce(c.redeemed_at IS NOT NULL, FALSE) AS last_is_redeemed, \
           c.code_length AS last_code_length, \
           u.last_login, \
           (SELECT events FROM referral.counters WHERE key = $2) AS counter_0, \
           (SELECT events FROM referral.counters WHERE key = $3) AS counter_1, \
           (SELECT events FROM referral.counters WHERE key = $4) AS counter_2, \
           (SELECT events FROM referral.counters WHERE key = $5) AS counter_3, \
           (SELECT events FROM referral.counters WHERE key = $6) AS counter_4, \
           (SELECT events FROM referral.counters WHERE key = $7) AS counter_5, \
           (SELECT events FROM referral.counters WHERE key = $8) AS counter_6, \
           (SELECT coalesce(sum(count), 0)::bigint FROM referral.global_counters \
            WHERE counter = 'failed_attempts' AND since >= $9 AND since < $9 + interval '1 hour') AS failed_attempts, \
           (SELECT attack_until FROM referral.attack_state) AS attack_until \
    FROM (SELECT 1) one \
    LEFT JOIN LATERAL ( \
        SELECT number, sent_at, redeemed_at, code_length FROM referral.challenges \
        WHERE phone = $1 ORDER BY number DESC LIMIT 1 \
    ) c ON TRUE \
    LEFT JOIN referral.users u ON u.phone = $1";

/// Selects the state of the service in the same form as [`CHALLENGE_FACTS`].
pub(super) const GLOBAL_COUNTER_FACTS: &str = "\
    SELECT coalesce(sum(count), 0)::bigint AS failed_attempts, \
           (SELECT attack_until FROM referral.attack_state) AS attack_until \
    FROM referral.global_counters WHERE counter = 'failed_attempts' AND since >= $1 AND since < $1 + interval '1 hour'";

/// Selects the number of wrong codes in each interval. The two arrays contain the starts and the ends.
pub(super) const FAILURES_BETWEEN: &str = "\
    SELECT (SELECT coalesce(sum(count), 0)::bigint FROM referral.global_counters \
            WHERE counter = 'failed_attempts' AND since >= t.since AND since < t.until) AS failed_attempts \
    FROM unnest($1::timestamptz[], $2::timestamptz[]) AS t (since, until)";

pub(super) const MESSAGES_SINCE: &str = "\
    SELECT since, sum(count)::bigint AS count FROM referral.global_counters \
    WHERE counter = 'messages' AND since >= $1 AND since < $1 + interval '2 days' GROUP BY since ORDER BY since";

/// Common table expressions that update counters together with a decision. Other statements start with them.
///
/// The arrays `$1` to `$4` are counters: keys, the events that the decision is based on, the new events, and
/// the times at which the counters end. The arrays `$5` and `$6` are keys and events to refund. `$7` to `$9`
/// are a change of a global counter: its name, its time, and its increment.
///
/// Existing counters are locked first, in the order of their keys, so that concurrent requests for the same
/// counters seldom deadlock. All changes depend on `$condition`.
macro_rules! counter_update {
    ($condition:literal) => {
        concat!(
            "counted AS ( \
                SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) \
                    AS n (key, was, events, ends_at) \
            ), refund AS ( \
                SELECT key, string_agg(event, '|') AS events \
                FROM unnest($5::text[], $6::text[]) AS n (key, event) GROUP BY key \
            ), locked AS MATERIALIZED ( \
                SELECT key FROM referral.counters \
                WHERE key = ANY ($1::text[] || $5::text[]) AND ",
            $condition,
            " ORDER BY key FOR UPDATE \
            ), put AS ( \
                INSERT INTO referral.counters AS c (key, events, ends_at) \
                SELECT key, events, ends_at FROM counted \
                WHERE (SELECT count(*) FROM locked) >= 0 AND ",
            $condition,
            " ORDER BY key \
                ON CONFLICT (key) DO UPDATE SET events = excluded.events, ends_at = excluded.ends_at \
                WHERE c.events = (SELECT was FROM counted n WHERE n.key = c.key) \
                RETURNING 1 \
            ), refunded AS ( \
                UPDATE referral.counters c SET events = regexp_replace(c.events, t.events, '', 'g') \
                FROM refund t WHERE c.key = t.key AND c.key IN (SELECT key FROM locked) \
            ), counted_globally AS ( \
                INSERT INTO referral.global_counters AS s (counter, since, slot, count) \
                SELECT $7::text, $8::timestamptz, floor(random() * 8)::smallint, $9::bigint \
                WHERE $7::text IS NOT NULL AND (SELECT count(*) FROM put) >= 0 AND ",
            $condition,
            " ON CONFLICT (counter, since, slot) DO UPDATE SET count = s.count + excluded.count \
            )"
        )
    };
}

/// Undoes the statement unless it has written all counters and one row of something else, which `$others`
/// counts.
macro_rules! all_or_nothing {
    ($others:literal) => {
        concat!(
            " SELECT referral.all_or_nothing((SELECT count(*) FROM put) + ",
            $others,
            ", cardinality($1::text[]) + 1)"
        )
    };
}

/// Updates counters only.
pub(super) const COUNT: &str = concat!("WITH ", counter_update!("TRUE"), all_or_nothing!("1"));

/// Stores a challenge with the number `$12` if the newest challenge of the phone has the previous number. The
/// newest challenge is locked, so that no maintenance deletes it and its number is not used again. Records an
/// attack that lasts until `$22`.
pub(super) const NEW_CHALLENGE: &str = concat!(
    "WITH newest AS ( \
        SELECT number FROM referral.challenges WHERE phone = $11 ORDER BY number DESC LIMIT 1 FOR KEY SHARE \
    ), sent AS ( \
        INSERT INTO referral.challenges (id, phone, number, code_length, code_hash, pepper_id, sent_at, \
                                         expires_at, redeemed_at, attempts_with_id, attempts_without_id, \
                                         address, failed_attempts) \
        SELECT $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, '' \
        WHERE coalesce((SELECT number FROM newest), 0) + 1 = $12 \
        ON CONFLICT (phone, number) DO NOTHING RETURNING 1 \
    ), ",
    counter_update!("EXISTS (SELECT 1 FROM sent)"),
    ", attack AS ( \
        UPDATE referral.attack_state SET attack_until = greatest(attack_until, $22) WHERE $22::timestamptz IS NOT NULL \
    )",
    all_or_nothing!("(SELECT count(*) FROM sent)")
);

pub(super) const RECORD_ATTACK: &str =
    "UPDATE referral.attack_state SET attack_until = greatest(attack_until, $1)";

/// Records the gateway `$2` that accepted the message of the challenge `$1`.
macro_rules! record_gateway {
    () => {
        "UPDATE referral.challenges SET gateway = $2 WHERE id = $1 AND redeemed_at IS NULL"
    };
}

pub(super) const RECORD_GATEWAY: &str = record_gateway!();

pub(super) const MESSAGE: &str =
    "SELECT is_ours, region, status FROM referral.messages WHERE gateway = $1 AND message_id = $2";

/// Stores the message `$3` of the gateway `$2` if the stored message has not changed. `$8` and `$9` are its
/// stored `is_ours` and `status`, both NULL if it was not stored. The time of the first record does not
/// change. Records the gateway of the challenge `$1`, if it is given, independently of the message.
pub(super) const PUT_MESSAGE: &str = concat!(
    "WITH noted AS (",
    record_gateway!(),
    ") INSERT INTO referral.messages AS m (gateway, message_id, is_ours, region, status, recorded_at) \
       VALUES ($2, $3, $4, $5, $6, $7) \
       ON CONFLICT (gateway, message_id) DO UPDATE \
       SET is_ours = excluded.is_ours, region = excluded.region, status = excluded.status \
       WHERE m.is_ours = $8 AND m.status = $9"
);

pub(super) const DELETE_CHALLENGE: &str = "DELETE FROM referral.challenges WHERE id = $1";

/// Selects the facts for a sign-in except the ancestry, with the newest challenge of the phone.
pub(super) const SIGN_IN_FACTS: &str = concat!(
    "SELECT ",
    challenge_columns!(),
    ", ",
    user_columns!(),
    ", o.id AS code_owner, \
      (SELECT events FROM referral.counters WHERE key = $3) AS counter_0, \
      (SELECT events FROM referral.counters WHERE key = $4) AS counter_1, \
      (SELECT events FROM referral.counters WHERE key = $5) AS counter_2, \
      (SELECT events FROM referral.counters WHERE key = $6) AS counter_3, \
      (SELECT coalesce(sum(count), 0)::bigint FROM referral.global_counters \
       WHERE counter = 'failed_attempts' AND since >= $7 AND since < $7 + interval '1 hour') AS failed_attempts, \
      (SELECT attack_until FROM referral.attack_state) AS attack_until FROM (SELECT 1) one \
      LEFT JOIN LATERAL ( \
          SELECT * FROM referral.challenges WHERE phone = $1 ORDER BY number DESC LIMIT 1 \
      ) c ON TRUE \
      LEFT JOIN referral.users u ON u.phone = $1 \
      LEFT JOIN referral.invitations i ON i.invitee = u.id \
      LEFT JOIN referral.users o ON o.invite_code = $2"
);

/// Selects the same facts with the challenge `$8`, if it belongs to the phone.
pub(super) const SIGN_IN_FACTS_NAMED: &str = concat!(
    "SELECT ",
    challenge_columns!(),
    ", ",
    user_columns!(),
    ", o.id AS code_owner, \
      (SELECT events FROM referral.counters WHERE key = $3) AS counter_0, \
      (SELECT events FROM referral.counters WHERE key = $4) AS counter_1, \
      (SELECT events FROM referral.counters WHERE key = $5) AS counter_2, \
      (SELECT events FROM referral.counters WHERE key = $6) AS counter_3, \
      (SELECT coalesce(sum(count), 0)::bigint FROM referral.global_counters \
       WHERE counter = 'failed_attempts' AND since >= $7 AND since < $7 + interval '1 hour') AS failed_attempts, \
      (SELECT attack_until FROM referral.attack_state) AS attack_until FROM (SELECT 1) one \
      LEFT JOIN referral.challenges c ON c.id = $8 AND c.phone = $1 \
      LEFT JOIN referral.users u ON u.phone = $1 \
      LEFT JOIN referral.invitations i ON i.invitee = u.id \
      LEFT JOIN referral.users o ON o.invite_code = $2"
);

/// Changes the challenge `$10` if it is not redeemed and still has `$11` and `$12` attempts.
macro_rules! change_challenge {
    ($changes:literal) => {
        concat!(
            "UPDATE referral.challenges SET ",
            $changes,
            " WHERE id = $10 AND redeemed_at IS NULL AND attempts_with_id = $11 AND attempts_without_id = $12 RETURNING 1"
        )
    };
}

/// Updates counters and changes a challenge.
pub(super) const CHANGE_CHALLENGE: &str = concat!(
    "WITH changed AS (",
    change_challenge!(
        "redeemed_at = $13, attempts_with_id = $14, attempts_without_id = $15, failed_attempts = $16"
    ),
    "), ",
    counter_update!("EXISTS (SELECT 1 FROM changed)"),
    all_or_nothing!("(SELECT count(*) FROM changed)")
);

/// Columns of a session to write, in the order of their values.
macro_rules! session_to_write {
    () => {
        "(id, user_id, created_at, expires_at, revoked_at, ends_at, key_id, access_id, refresh_id, \
          issued_at, access_expires_at, refresh_expires_at, tokens_used, previous_refresh_id, superseded, address, \
          user_agent, repeated_late, late_repeats)"
    };
}

/// Values of a session, starting with `$14`.
macro_rules! session_values {
    () => {
        "$14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32"
    };
}

/// Redeems a challenge, updates counters, and signs a user in.
pub(super) const SIGN_IN: &str = concat!(
    "WITH redeemed AS (",
    change_challenge!("redeemed_at = $13"),
    "), ",
    counter_update!("EXISTS (SELECT 1 FROM redeemed)"),
    ", seen AS ( \
        UPDATE referral.users SET last_login = $13 WHERE id = $15 AND EXISTS (SELECT 1 FROM redeemed) RETURNING 1 \
      ), begun AS ( \
        INSERT INTO referral.sessions ",
    session_to_write!(),
    " SELECT ",
    session_values!(),
    " FROM redeemed, seen RETURNING 1 \
      )",
    all_or_nothing!("(SELECT count(*) FROM begun)")
);

/// Redeems a challenge, updates counters, creates a user with the inviter `$42` if it is not NULL, and signs
/// the user in. The count of the inviter is updated before the total of users. Otherwise a transaction that
/// waits for a popular inviter would lock the total, and other sign-ups would wait for it.
pub(super) const SIGN_UP: &str = concat!(
    "WITH redeemed AS (",
    change_challenge!("redeemed_at = $13"),
    "), ",
    counter_update!("EXISTS (SELECT 1 FROM redeemed)"),
    ", invited AS ( \
        INSERT INTO referral.invitations (invitee, inviter, code, accepted_at, via) \
        SELECT $15, $42, $43, $44, $45 FROM redeemed WHERE $42::uuid IS NOT NULL RETURNING 1 \
      ), made AS ( \
        INSERT INTO referral.users (id, phone, invite_code, is_staff, is_active, date_joined, last_login) \
        SELECT $15, $33, $34, $35, $36, $37, $38 FROM redeemed WHERE (SELECT count(*) FROM invited) >= 0 \
        RETURNING 1 \
      ), searched AS ( \
        INSERT INTO referral.user_search (user_id, public, private, grams) \
        SELECT $15, $39, $40, $41 FROM made \
      ), begun AS ( \
        INSERT INTO referral.sessions ",
    session_to_write!(),
    " SELECT ",
    session_values!(),
    " FROM made RETURNING 1 \
      )",
    all_or_nothing!("(SELECT count(*) FROM begun)")
);

/// Creates a user without a session.
pub(super) const NEW_USER: &str = "\
    WITH made AS ( \
        INSERT INTO referral.users (id, phone, invite_code, is_staff, is_active, date_joined, last_login) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id \
    ) \
    INSERT INTO referral.user_search (user_id, public, private, grams) SELECT id, $8, $9, $10 FROM made";

/// Makes the user with a phone a staff member, unless the user already is one.
pub(super) const MAKE_STAFF: &str = concat!(
    "WITH u AS (UPDATE referral.users SET is_staff = TRUE WHERE phone = $1 AND NOT is_staff RETURNING *) SELECT ",
    user_columns!(),
    " FROM u LEFT JOIN referral.invitations i ON i.invitee = u.id"
);

pub(super) const USER_WITH_PHONE: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM referral.users u LEFT JOIN referral.invitations i ON i.invitee = u.id WHERE u.phone = $1"
);

pub(super) const SET_ACTIVE: &str = concat!(
    "WITH u AS (UPDATE referral.users SET is_active = $2 WHERE id = $1 RETURNING *) SELECT ",
    user_columns!(),
    " FROM u LEFT JOIN referral.invitations i ON i.invitee = u.id"
);

/// Locks counters.
pub(super) const LOCK_COUNTERS: &str =
    "SELECT 1 FROM referral.counters WHERE key = ANY ($1) ORDER BY key FOR UPDATE";

/// Locks the user with a phone. This and the next are separate statements, because a statement that waits for
/// a lock sees the new version of the locked row, but the old versions of all other rows.
pub(super) const LOCK_USER_WITH_PHONE: &str =
    "SELECT 1 FROM referral.users WHERE phone = $1 FOR NO KEY UPDATE";

/// Locks a user for an edit of the profile, which may change a unique column. A concurrent request that
/// accepts the invite code of the user then waits from its start, and not in the middle.
pub(super) const LOCK_USER: &str = "SELECT 1 FROM referral.users WHERE id = $1 FOR UPDATE";

/// Selects the facts for an edit of a profile except the ancestry.
pub(super) const PROFILE_FACTS: &str = concat!(
    "SELECT ",
    user_columns!(),
    ", (SELECT id FROM referral.users WHERE email = $2) AS email_owner, \
       (SELECT id FROM referral.users WHERE invite_code = $3) AS code_owner, \
       (SELECT events FROM referral.counters WHERE key = $4) AS counter_0, \
       (SELECT events FROM referral.counters WHERE key = $5) AS counter_1, \
       (SELECT events FROM referral.counters WHERE key = $6) AS counter_2, \
       (SELECT events FROM referral.counters WHERE key = $7) AS counter_3 \
      FROM referral.users u LEFT JOIN referral.invitations i ON i.invitee = u.id \
      WHERE u.id = $1"
);

pub(super) const CHANGE_PROFILE: &str = "\
    WITH changed AS ( \
        UPDATE referral.users SET email = $2, first_name = $3, last_name = $4 WHERE id = $1 RETURNING 1 \
    ) \
    UPDATE referral.user_search SET public = $5, private = $6, grams = $7 \
    WHERE user_id = $1 AND EXISTS (SELECT 1 FROM changed)";

/// Stores an invitation that an existing user accepts late. From then on, a search for its code finds the
/// user.
pub(super) const NEW_INVITATION: &str = "\
    WITH invited AS ( \
        INSERT INTO referral.invitations (invitee, inviter, code, accepted_at, via) \
        VALUES ($1, $2, $3, $4, $5) RETURNING 1 \
    ) \
    UPDATE referral.user_search SET public = $6, private = $7, grams = $8 \
    WHERE user_id = $1 AND EXISTS (SELECT 1 FROM invited)";

/// Locks late acceptances of invitations. It is a separate statement, so that the next statement sees the
/// writes of earlier holders of the lock.
pub(super) const LOCK_LATE_ACCEPTANCE: &str =
    "SELECT 1 FROM referral.locks WHERE name = 'late_acceptance' FOR UPDATE";

/// Selects whether `$2` is `$1` or one of its direct or indirect inviters. `UNION` visits each user once, so
/// the query ends even if there is a loop.
pub(super) const ANCESTRY_HAS: &str = "\
    WITH RECURSIVE ancestry (id) AS ( \
        SELECT $1::uuid \
        UNION \
        SELECT i.inviter FROM ancestry l JOIN referral.invitations i ON i.invitee = l.id \
    ) \
    SELECT EXISTS (SELECT 1 FROM ancestry WHERE id = $2) AS has_invitee";

pub(super) const REFRESH_FACTS: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", u.is_active FROM referral.sessions s JOIN referral.users u ON u.id = s.user_id WHERE s.id = $1"
);

/// Changes a session if it still has the refresh token `$1`.
pub(super) const CHANGE_SESSION: &str = concat!(
    "UPDATE referral.sessions SET ",
    session_to_write!(),
    " = ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) \
      WHERE id = $2 AND refresh_id = $1 AND revoked_at IS NULL"
);

/// Selects the sessions of a user that have not ended.
pub(super) const SESSIONS: &str = concat!(
    "SELECT ",
    session_columns!(),
    " FROM referral.sessions s WHERE s.user_id = $1 AND s.revoked_at IS NULL AND s.ends_at > $2 \
      ORDER BY s.id DESC LIMIT $3"
);

/// Ends one session of a user.
pub(super) const END_SESSION: &str = "\
    UPDATE referral.sessions SET revoked_at = $2, ends_at = $2 \
    WHERE user_id = $1 AND revoked_at IS NULL AND ends_at > $2 AND id = $3 RETURNING id";

/// Ends all sessions of a user except one.
pub(super) const END_OTHER_SESSIONS: &str = "\
    UPDATE referral.sessions SET revoked_at = $2, ends_at = $2 \
    WHERE user_id = $1 AND revoked_at IS NULL AND ends_at > $2 AND id <> $3 RETURNING id";

/// Deletes the sessions of a user except the newest `$2`.
pub(super) const KEEP_NEWEST_SESSIONS: &str = "\
    DELETE FROM referral.sessions WHERE user_id = $1 AND id <= ( \
        SELECT id FROM referral.sessions WHERE user_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1)";

pub(super) const MARK_TOKENS_USED: &str =
    "UPDATE referral.sessions SET tokens_used = TRUE WHERE id = $1 AND access_id = $2 AND NOT tokens_used";

/// Deletes a batch of the rows of a table whose time is before `$1`. Skips rows that other transactions have
/// locked. The batch is an array so that it is selected once. A subquery could be evaluated again for each
/// row.
macro_rules! delete_expired {
    ($table:literal, $key:literal, $time:literal) => {
        concat!(
            "DELETE FROM referral.",
            $table,
            " WHERE ",
            $key,
            " = ANY (ARRAY(SELECT ",
            $key,
            " FROM referral.",
            $table,
            " WHERE ",
            $time,
            " < $1 ORDER BY ",
            $time,
            " LIMIT $2 FOR UPDATE SKIP LOCKED))"
        )
    };
}

pub(super) const DELETE_EXPIRED_CHALLENGES: &str = delete_expired!("challenges", "id", "expires_at");

pub(super) const DELETE_EXPIRED_SESSIONS: &str = delete_expired!("sessions", "id", "ends_at");

pub(super) const DELETE_EXPIRED_COUNTERS: &str = delete_expired!("counters", "key", "ends_at");

pub(super) const DELETE_GLOBAL_COUNTERS: &str = delete_expired!("global_counters", "ctid", "since");

pub(super) const DELETE_EXPIRED_MESSAGES: &str = delete_expired!("messages", "ctid", "recorded_at");

pub(super) const LOCK_KEYS: &str = "SELECT 1 FROM referral.locks WHERE name = 'keys' FOR UPDATE";

pub(super) const REGISTERED_KEYS: &str = "SELECT purpose, id, fingerprint, needed_until FROM referral.keys";

pub(super) const PUT_KEY: &str = "\
    INSERT INTO referral.keys (purpose, id, fingerprint, needed_until) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (purpose, id) DO UPDATE SET needed_until = excluded.needed_until";

/// Selects the current time. `now()` would be the start of the transaction.
pub(super) const CURRENT_TIME: &str = "SELECT clock_timestamp() AS time";
