//! Every statement but the list of users, which is put together from its filter.

use crate::rows::{challenge_columns, invitee_columns, session_columns, user_columns};

pub(super) const SCHEMA: &str = "referral";

pub(super) const HAS_SCHEMA: &str = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)";

pub(super) const MIGRATIONS_TABLE: &str = "referral._migrations";

/// The table with the oldest version of the program that works with each migration.
pub(super) const COMPATIBILITY_TABLE: &str = "referral.migration_compatibility";

pub(super) const HAS_MIGRATIONS: &str = "SELECT to_regclass('referral._migrations') IS NOT NULL \
        AND to_regclass('referral.migration_compatibility') IS NOT NULL AS has_migrations";

pub(super) const APPLIED_MIGRATIONS: &str = "SELECT version, checksum, success, oldest_program FROM referral._migrations \
     LEFT JOIN referral.migration_compatibility USING (version) ORDER BY version";

/// A standby answers, but does not write.
pub(super) const IS_READ_ONLY: &str = "SELECT current_setting('transaction_read_only') = 'on' AS read_only";

/// Whether the server is a standby, its cluster, and the timeline that it writes.
pub(super) const SERVER: &str = "\
    SELECT pg_is_in_recovery() AS is_standby, \
           (SELECT system_identifier::text FROM pg_control_system()) AS cluster, \
           CASE WHEN pg_is_in_recovery() THEN '' \
                ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline";

/// Whether a commit of this role waits for a synchronous standby.
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

pub(super) const USER_TOTAL: &str = "SELECT sum(users)::bigint AS counted FROM referral.totals";

/// The newest of the users whom `u` invited, at most `$2`, in three columns.
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

/// A page of invitees, each with the count of all; one row without an invitee if there is none.
pub(super) const INVITEES: &str = concat!(
    "SELECT u.invited_count, v.* FROM referral.users u LEFT JOIN LATERAL (SELECT ",
    invitee_columns!(),
    " FROM referral.invitations j JOIN referral.users p ON p.id = j.invitee \
      WHERE j.inviter = u.id AND j.invitee < $2 \
      ORDER BY j.invitee DESC LIMIT $3) v ON TRUE WHERE u.id = $1"
);

/// All that a request for a code is decided on, but for messages and what is usual: the newest
/// challenge of a phone, when its user last signed in, and seven counters. The figures are looked for
/// between two times, though there are none from the future: of half a line the planner takes it that a
/// third of the table lies on it.
pub(super) const CHALLENGE_FACTS: &str = "\
    SELECT c.number, c.sent_at AS last_sent_at, coalesce(c.redeemed_at IS NOT NULL, FALSE) AS last_is_redeemed, \
           c.code_length AS last_code_length, \
           u.last_login, \
           (SELECT stamps FROM referral.counters WHERE key = $2) AS counter_0, \
           (SELECT stamps FROM referral.counters WHERE key = $3) AS counter_1, \
           (SELECT stamps FROM referral.counters WHERE key = $4) AS counter_2, \
           (SELECT stamps FROM referral.counters WHERE key = $5) AS counter_3, \
           (SELECT stamps FROM referral.counters WHERE key = $6) AS counter_4, \
           (SELECT stamps FROM referral.counters WHERE key = $7) AS counter_5, \
           (SELECT stamps FROM referral.counters WHERE key = $8) AS counter_6, \
           (SELECT coalesce(sum(count), 0)::bigint FROM referral.service_counts \
            WHERE figure = 'failures' AND since >= $9 AND since < $9 + interval '1 hour') AS failures, \
           (SELECT attack_until FROM referral.service_state) AS attack_until \
    FROM (SELECT 1) one \
    LEFT JOIN LATERAL ( \
        SELECT number, sent_at, redeemed_at, code_length FROM referral.challenges \
        WHERE phone = $1 ORDER BY number DESC LIMIT 1 \
    ) c ON TRUE \
    LEFT JOIN referral.users u ON u.phone = $1";

/// How the service is doing, as [`CHALLENGE_FACTS`] has it.
pub(super) const SERVICE_FACTS: &str = "\
    SELECT coalesce(sum(count), 0)::bigint AS failures, \
           (SELECT attack_until FROM referral.service_state) AS attack_until \
    FROM referral.service_counts WHERE figure = 'failures' AND since >= $1 AND since < $1 + interval '1 hour'";

/// How many wrong codes there were at each of the times that begin and end with the pairs of two arrays.
pub(super) const FAILURES_BETWEEN: &str = "\
    SELECT (SELECT coalesce(sum(count), 0)::bigint FROM referral.service_counts \
            WHERE figure = 'failures' AND since >= t.since AND since < t.until) AS failures \
    FROM unnest($1::timestamptz[], $2::timestamptz[]) AS t (since, until)";

pub(super) const MESSAGES_SINCE: &str = "\
    SELECT since, sum(count)::bigint AS count FROM referral.service_counts \
    WHERE figure = 'messages' AND since >= $1 AND since < $1 + interval '2 days' GROUP BY since ORDER BY since";

/// What is counted along with a decision, in common table expressions that other statements begin
/// with. The arrays `$1` to `$4` are counters: keys, the stamps that the decision was made on, those to
/// be stored, and ends. The arrays `$5` and `$6` are keys and stamps to be taken back. `$7` to `$9` are
/// something to be counted for the service: what, when, and how many.
///
/// Those that are there are locked first, in the order of their keys, so that two who count the same
/// seldom wait for one another. All is done only under `$condition`.
macro_rules! counting {
    ($condition:literal) => {
        concat!(
            "counted AS ( \
                SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) \
                    AS n (key, was, stamps, ends_at) \
            ), taken_back AS ( \
                SELECT key, string_agg(stamp, '|') AS stamps \
                FROM unnest($5::text[], $6::text[]) AS n (key, stamp) GROUP BY key \
            ), locked AS MATERIALIZED ( \
                SELECT key FROM referral.counters \
                WHERE key = ANY ($1::text[] || $5::text[]) AND ",
            $condition,
            " ORDER BY key FOR UPDATE \
            ), put AS ( \
                INSERT INTO referral.counters AS c (key, stamps, ends_at) \
                SELECT key, stamps, ends_at FROM counted \
                WHERE (SELECT count(*) FROM locked) >= 0 AND ",
            $condition,
            " ORDER BY key \
                ON CONFLICT (key) DO UPDATE SET stamps = excluded.stamps, ends_at = excluded.ends_at \
                WHERE c.stamps = (SELECT was FROM counted n WHERE n.key = c.key) \
                RETURNING 1 \
            ), refunded AS ( \
                UPDATE referral.counters c SET stamps = regexp_replace(c.stamps, t.stamps, '', 'g') \
                FROM taken_back t WHERE c.key = t.key AND c.key IN (SELECT key FROM locked) \
            ), counted_for_service AS ( \
                INSERT INTO referral.service_counts AS s (figure, since, slot, count) \
                SELECT $7::text, $8::timestamptz, floor(random() * 8)::smallint, $9::bigint \
                WHERE $7::text IS NOT NULL AND (SELECT count(*) FROM put) >= 0 AND ",
            $condition,
            " ON CONFLICT (figure, since, slot) DO UPDATE SET count = s.count + excluded.count \
            )"
        )
    };
}

/// Undoes everything unless so many counters were written as there were to be, and so many rows of
/// something else.
macro_rules! all_or_nothing {
    ($others:literal) => {
        concat!(
            " SELECT referral.all_or_nothing((SELECT count(*) FROM put) + ",
            $others,
            ", cardinality($1::text[]) + 1)"
        )
    };
}

/// Counts, and does nothing else.
pub(super) const COUNT: &str = concat!("WITH ", counting!("TRUE"), all_or_nothing!("1"));

/// Stores a challenge, if the phone's newest has the number before its own, `$12`. That one is
/// locked, so that it is not swept away meanwhile, and its number given to another. Notes an attack
/// that goes on until `$22`.
pub(super) const NEW_CHALLENGE: &str = concat!(
    "WITH newest AS ( \
        SELECT number FROM referral.challenges WHERE phone = $11 ORDER BY number DESC LIMIT 1 FOR KEY SHARE \
    ), sent AS ( \
        INSERT INTO referral.challenges (id, phone, number, code_length, code_hash, pepper_id, sent_at, \
                                         expires_at, redeemed_at, tries_with_id, tries_without_id, \
                                         address, failed_tries) \
        SELECT $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, '' \
        WHERE coalesce((SELECT number FROM newest), 0) + 1 = $12 \
        ON CONFLICT (phone, number) DO NOTHING RETURNING 1 \
    ), ",
    counting!("EXISTS (SELECT 1 FROM sent)"),
    ", attack AS ( \
        UPDATE referral.service_state SET attack_until = greatest(attack_until, $22) WHERE $22::timestamptz IS NOT NULL \
    )",
    all_or_nothing!("(SELECT count(*) FROM sent)")
);

pub(super) const NOTE_ATTACK: &str =
    "UPDATE referral.service_state SET attack_until = greatest(attack_until, $1)";

/// Notes which gateway accepted the message of a challenge. In a statement that names both as `$1` and
/// `$2`.
macro_rules! note_gateway {
    () => {
        "UPDATE referral.challenges SET gateway = $2 WHERE id = $1 AND redeemed_at IS NULL"
    };
}

pub(super) const NOTE_GATEWAY: &str = note_gateway!();

pub(super) const MESSAGE: &str =
    "SELECT is_ours, region, status FROM referral.messages WHERE gateway = $1 AND message_id = $2";

/// Stores what is known of a message, `$3` of the gateway `$2`, if it is what it was: `$8` is whether it
/// was ours and `$9` its status, both NULL if nothing was known. When it was first heard of stays. Notes
/// the gateway of the challenge `$1`, if there is one: in any case, since that hangs on nothing else.
pub(super) const PUT_MESSAGE: &str = concat!(
    "WITH noted AS (",
    note_gateway!(),
    ") INSERT INTO referral.messages AS m (gateway, message_id, is_ours, region, status, noted_at) \
       VALUES ($2, $3, $4, $5, $6, $7) \
       ON CONFLICT (gateway, message_id) DO UPDATE \
       SET is_ours = excluded.is_ours, region = excluded.region, status = excluded.status \
       WHERE m.is_ours = $8 AND m.status = $9"
);

pub(super) const DELETE_CHALLENGE: &str = "DELETE FROM referral.challenges WHERE id = $1";

/// All that an attempt to sign in is decided on, but for the lineage, with the phone's newest
/// challenge.
pub(super) const SIGN_IN_FACTS: &str = concat!(
    "SELECT ",
    challenge_columns!(),
    ", ",
    user_columns!(),
    ", o.id AS code_owner, \
      (SELECT stamps FROM referral.counters WHERE key = $3) AS counter_0, \
      (SELECT stamps FROM referral.counters WHERE key = $4) AS counter_1, \
      (SELECT stamps FROM referral.counters WHERE key = $5) AS counter_2, \
      (SELECT stamps FROM referral.counters WHERE key = $6) AS counter_3, \
      (SELECT coalesce(sum(count), 0)::bigint FROM referral.service_counts \
       WHERE figure = 'failures' AND since >= $7 AND since < $7 + interval '1 hour') AS failures, \
      (SELECT attack_until FROM referral.service_state) AS attack_until FROM (SELECT 1) one \
      LEFT JOIN LATERAL ( \
          SELECT * FROM referral.challenges WHERE phone = $1 ORDER BY number DESC LIMIT 1 \
      ) c ON TRUE \
      LEFT JOIN referral.users u ON u.phone = $1 \
      LEFT JOIN referral.invitations i ON i.invitee = u.id \
      LEFT JOIN referral.users o ON o.invite_code = $2"
);

/// The same, with the challenge `$8` if it is this phone's.
pub(super) const SIGN_IN_FACTS_NAMED: &str = concat!(
    "SELECT ",
    challenge_columns!(),
    ", ",
    user_columns!(),
    ", o.id AS code_owner, \
      (SELECT stamps FROM referral.counters WHERE key = $3) AS counter_0, \
      (SELECT stamps FROM referral.counters WHERE key = $4) AS counter_1, \
      (SELECT stamps FROM referral.counters WHERE key = $5) AS counter_2, \
      (SELECT stamps FROM referral.counters WHERE key = $6) AS counter_3, \
      (SELECT coalesce(sum(count), 0)::bigint FROM referral.service_counts \
       WHERE figure = 'failures' AND since >= $7 AND since < $7 + interval '1 hour') AS failures, \
      (SELECT attack_until FROM referral.service_state) AS attack_until FROM (SELECT 1) one \
      LEFT JOIN referral.challenges c ON c.id = $8 AND c.phone = $1 \
      LEFT JOIN referral.users u ON u.phone = $1 \
      LEFT JOIN referral.invitations i ON i.invitee = u.id \
      LEFT JOIN referral.users o ON o.invite_code = $2"
);

/// Changes a challenge, `$10`, if it is what it was: not redeemed, and with `$11` and `$12` tries.
macro_rules! change_challenge {
    ($changes:literal) => {
        concat!(
            "UPDATE referral.challenges SET ",
            $changes,
            " WHERE id = $10 AND redeemed_at IS NULL AND tries_with_id = $11 AND tries_without_id = $12 RETURNING 1"
        )
    };
}

/// Counts, and changes a challenge.
pub(super) const CHANGE_CHALLENGE: &str = concat!(
    "WITH changed AS (",
    change_challenge!("redeemed_at = $13, tries_with_id = $14, tries_without_id = $15, failed_tries = $16"),
    "), ",
    counting!("EXISTS (SELECT 1 FROM changed)"),
    all_or_nothing!("(SELECT count(*) FROM changed)")
);

/// The columns of a session to write, in the order of their values.
macro_rules! session_to_write {
    () => {
        "(id, user_id, created_at, expires_at, revoked_at, ends_at, key_id, access_id, refresh_id, \
          issued_at, access_expires_at, refresh_expires_at, grant_used, parent, retired, address, \
          user_agent, repeated_late, late_repeats)"
    };
}

/// The values of a session, beginning with `$14`.
macro_rules! session_values {
    () => {
        "$14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32"
    };
}

/// Redeems a challenge, counts, and signs a user in.
pub(super) const SIGN_IN: &str = concat!(
    "WITH redeemed AS (",
    change_challenge!("redeemed_at = $13"),
    "), ",
    counting!("EXISTS (SELECT 1 FROM redeemed)"),
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

/// Redeems a challenge, counts, and makes a user who is signed in and, if `$42` says by whom, invited.
/// The inviter's count comes before the total, so that no one waits for a total while whoever holds it
/// waits for a popular inviter.
pub(super) const SIGN_UP: &str = concat!(
    "WITH redeemed AS (",
    change_challenge!("redeemed_at = $13"),
    "), ",
    counting!("EXISTS (SELECT 1 FROM redeemed)"),
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

/// Makes a user who has not signed in.
pub(super) const NEW_USER: &str = "\
    WITH made AS ( \
        INSERT INTO referral.users (id, phone, invite_code, is_staff, is_active, date_joined, last_login) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id \
    ) \
    INSERT INTO referral.user_search (user_id, public, private, grams) SELECT id, $8, $9, $10 FROM made";

/// Makes the user with a phone staff, unless the user is staff already.
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

/// Waits until nobody else changes these counters.
pub(super) const LOCK_COUNTERS: &str =
    "SELECT 1 FROM referral.counters WHERE key = ANY ($1) ORDER BY key FOR UPDATE";

/// Waits until nobody else changes the user with this phone. In a statement of its own, as the next:
/// one that waits sees the row as it has become, but all else as it was.
pub(super) const LOCK_USER_WITH_PHONE: &str =
    "SELECT 1 FROM referral.users WHERE phone = $1 FOR NO KEY UPDATE";

/// The same for whoever edits their profile, and may change a unique column: whoever accepts the
/// user's invite code meanwhile waits from the start, and not halfway.
pub(super) const LOCK_USER: &str = "SELECT 1 FROM referral.users WHERE id = $1 FOR UPDATE";

/// All that an edit is decided on, but for the lineage.
pub(super) const PROFILE_FACTS: &str = concat!(
    "SELECT ",
    user_columns!(),
    ", (SELECT id FROM referral.users WHERE email = $2) AS email_owner, \
       (SELECT id FROM referral.users WHERE invite_code = $3) AS code_owner, \
       (SELECT stamps FROM referral.counters WHERE key = $4) AS counter_0, \
       (SELECT stamps FROM referral.counters WHERE key = $5) AS counter_1, \
       (SELECT stamps FROM referral.counters WHERE key = $6) AS counter_2, \
       (SELECT stamps FROM referral.counters WHERE key = $7) AS counter_3 \
      FROM referral.users u LEFT JOIN referral.invitations i ON i.invitee = u.id \
      WHERE u.id = $1"
);

pub(super) const CHANGE_PROFILE: &str = "\
    WITH changed AS ( \
        UPDATE referral.users SET email = $2, first_name = $3, last_name = $4 WHERE id = $1 RETURNING 1 \
    ) \
    UPDATE referral.user_search SET public = $5, private = $6, grams = $7 \
    WHERE user_id = $1 AND EXISTS (SELECT 1 FROM changed)";

/// An invitation that is accepted late, by somebody who is searched by its code from now on.
pub(super) const NEW_INVITATION: &str = "\
    WITH invited AS ( \
        INSERT INTO referral.invitations (invitee, inviter, code, accepted_at, via) \
        VALUES ($1, $2, $3, $4, $5) RETURNING 1 \
    ) \
    UPDATE referral.user_search SET public = $6, private = $7, grams = $8 \
    WHERE user_id = $1 AND EXISTS (SELECT 1 FROM invited)";

/// Waits until nobody else accepts an invitation late. In a statement of its own, so that the next
/// sees what those before have written.
pub(super) const LOCK_LATE_ACCEPTANCE: &str =
    "SELECT 1 FROM referral.locks WHERE name = 'late_acceptance' FOR UPDATE";

/// Whether `$2` is `$1`, or among the inviters of `$1`. `UNION` visits nobody twice, so it ends
/// even where there is a loop.
pub(super) const LINEAGE_HAS: &str = "\
    WITH RECURSIVE lineage (id) AS ( \
        SELECT $1::uuid \
        UNION \
        SELECT i.inviter FROM lineage l JOIN referral.invitations i ON i.invitee = l.id \
    ) \
    SELECT EXISTS (SELECT 1 FROM lineage WHERE id = $2) AS has_invitee";

pub(super) const REFRESH_FACTS: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", u.is_active FROM referral.sessions s JOIN referral.users u ON u.id = s.user_id WHERE s.id = $1"
);

/// Changes a session, if its refresh token is the one it was, `$1`.
pub(super) const CHANGE_SESSION: &str = concat!(
    "UPDATE referral.sessions SET ",
    session_to_write!(),
    " = ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) \
      WHERE id = $2 AND refresh_id = $1 AND revoked_at IS NULL"
);

/// The sessions of a user that have not ended.
pub(super) const SESSIONS: &str = concat!(
    "SELECT ",
    session_columns!(),
    " FROM referral.sessions s WHERE s.user_id = $1 AND s.revoked_at IS NULL AND s.ends_at > $2 \
      ORDER BY s.id DESC LIMIT $3"
);

/// Ends one of them.
pub(super) const END_SESSION: &str = "\
    UPDATE referral.sessions SET revoked_at = $2, ends_at = $2 \
    WHERE user_id = $1 AND revoked_at IS NULL AND ends_at > $2 AND id = $3 RETURNING id";

/// Ends all but one of them.
pub(super) const END_OTHER_SESSIONS: &str = "\
    UPDATE referral.sessions SET revoked_at = $2, ends_at = $2 \
    WHERE user_id = $1 AND revoked_at IS NULL AND ends_at > $2 AND id <> $3 RETURNING id";

/// Deletes the sessions of a user but the newest `$2`.
pub(super) const KEEP_NEWEST_SESSIONS: &str = "\
    DELETE FROM referral.sessions WHERE user_id = $1 AND id <= ( \
        SELECT id FROM referral.sessions WHERE user_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1)";

pub(super) const NOTE_GRANT_USED: &str =
    "UPDATE referral.sessions SET grant_used = TRUE WHERE id = $1 AND access_id = $2 AND NOT grant_used";

/// Deletes a batch of the rows of a table whose time is before `$1`, but for what others are deleting.
/// The batch is an array so that it is chosen once: as a set it could be chosen anew for each row.
macro_rules! sweep {
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

pub(super) const SWEEP_CHALLENGES: &str = sweep!("challenges", "id", "expires_at");

pub(super) const SWEEP_SESSIONS: &str = sweep!("sessions", "id", "ends_at");

pub(super) const SWEEP_COUNTERS: &str = sweep!("counters", "key", "ends_at");

pub(super) const SWEEP_SERVICE_COUNTS: &str = sweep!("service_counts", "ctid", "since");

pub(super) const SWEEP_MESSAGES: &str = sweep!("messages", "ctid", "noted_at");

pub(super) const LOCK_KEYS: &str = "SELECT 1 FROM referral.locks WHERE name = 'keys' FOR UPDATE";

pub(super) const KNOWN_KEYS: &str = "SELECT purpose, id, fingerprint, needed_until FROM referral.keys";

pub(super) const PUT_KEY: &str = "\
    INSERT INTO referral.keys (purpose, id, fingerprint, needed_until) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (purpose, id) DO UPDATE SET needed_until = excluded.needed_until";

/// The clock itself: `now()` is when the transaction began.
pub(super) const CURRENT_TIME: &str = "SELECT clock_timestamp() AS time";
