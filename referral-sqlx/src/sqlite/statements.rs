//! All SQL statements except the list of users, which is built from its filter.
//!
//! A limit is written as `$1 + 0`. If it were `$1`, SQLite would plan the statement again for each value, and
//! planning takes longer than running.

use crate::rows::{challenge_columns, invitee_columns, session_columns, user_columns};

/// Starts a transaction that excludes all other writing transactions, in this process and in others.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";

/// Starts a transaction for a group of writes, and the savepoint of the first write.
pub(super) const BEGIN_GROUP: &str = "BEGIN IMMEDIATE; SAVEPOINT step";

/// Keeps a write of a group, and starts the savepoint of the next write.
pub(super) const NEXT_STEP: &str = "RELEASE step; SAVEPOINT step";

/// Undoes a single write of a group. The savepoint remains for the next write.
pub(super) const UNDO_STEP: &str = "ROLLBACK TO step";

/// Commits a group.
pub(super) const COMMIT: &str = "COMMIT";

pub(super) const ROLLBACK: &str = "ROLLBACK";

pub(super) const MIGRATIONS_TABLE: &str = "_referral_migrations";

/// Table with the oldest version of the program that works with each migration.
pub(super) const COMPATIBILITY_TABLE: &str = "migration_compatibility";

pub(super) const HAS_MIGRATIONS: &str = "SELECT count(*) = 2 FROM sqlite_master \
    WHERE type = 'table' AND name IN ('_referral_migrations', 'migration_compatibility')";

pub(super) const APPLIED_MIGRATIONS: &str = "SELECT version, checksum, success, oldest_program FROM _referral_migrations \
     LEFT JOIN migration_compatibility USING (version) ORDER BY version";

/// Joins and conditions that follow a user `u`. They select one row for each of the newest invitees, at most
/// `$2`, or one row without an invitee if there are none.
macro_rules! newest_invitees {
    ($condition:literal) => {
        concat!(
            " LEFT JOIN invitations j ON j.inviter = u.id LEFT JOIN users p ON p.id = j.invitee WHERE ",
            $condition,
            " ORDER BY j.invitee DESC LIMIT $2 + 0"
        )
    };
}

pub(super) const USER: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM users u LEFT JOIN invitations i ON i.invitee = u.id WHERE u.id = $1"
);

pub(super) const USER_WITH_INVITED: &str = concat!(
    "SELECT ",
    user_columns!(),
    ", ",
    invitee_columns!(),
    " FROM users u LEFT JOIN invitations i ON i.invitee = u.id",
    newest_invitees!("u.id = $1")
);

pub(super) const USER_WITH_PHONE: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM users u LEFT JOIN invitations i ON i.invitee = u.id WHERE u.phone = $1"
);

pub(super) const OWNER_OF_CODE: &str = "SELECT id FROM users WHERE invite_code = $1";

pub(super) const OWNER_OF_EMAIL: &str = "SELECT id FROM users WHERE email = $1";

pub(super) const NEW_USER: &str = "\
    INSERT INTO users (id, phone, invite_code, is_staff, is_active, date_joined, last_login, \
                       search_public, search_private) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
    ON CONFLICT (invite_code) DO NOTHING";

/// Adds a user to the search index. Writes two rows.
pub(super) const NEW_GRAMS: &str = "\
    INSERT INTO user_numbers (user_id) VALUES ($1); \
    INSERT INTO user_grams (rowid, grams) \
    VALUES ((SELECT number FROM user_numbers WHERE user_id = $1), $2)";

pub(super) const PUT_GRAMS: &str = "\
    INSERT OR REPLACE INTO user_grams (rowid, grams) \
    VALUES ((SELECT number FROM user_numbers WHERE user_id = $1), $2)";

pub(super) const HAS_GRAMS: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'user_grams')";

pub(super) const USERS_AFTER_NUMBER: &str = concat!(
    "SELECT n.number, ",
    user_columns!(),
    " FROM user_numbers n JOIN users u ON u.id = n.user_id LEFT JOIN invitations i ON i.invitee = u.id \
     WHERE n.number > $1 ORDER BY n.number LIMIT 1000"
);

/// Changes all mutable columns of a user except the count of invitees, which a trigger updates.
pub(super) const CHANGE_USER: &str = "\
    UPDATE users SET email = $2, first_name = $3, last_name = $4, is_staff = $5, is_active = $6, \
                     last_login = $7, search_public = $8, search_private = $9 \
    WHERE id = $1";

pub(super) const USER_TOTAL: &str = "SELECT users AS counted FROM user_totals";

/// Selects a page of invitees. Each row has the count of all invitees. If there are no invitees, there is one
/// row without an invitee.
pub(super) const INVITEES: &str = concat!(
    "SELECT u.invited_count, ",
    invitee_columns!(),
    " FROM users u LEFT JOIN invitations j ON j.inviter = u.id AND j.invitee < $2 \
      LEFT JOIN users p ON p.id = j.invitee \
      WHERE u.id = $1 ORDER BY j.invitee DESC LIMIT $3 + 0"
);

pub(super) const NEW_INVITATION: &str =
    "INSERT INTO invitations (invitee, inviter, code, accepted_at, via) VALUES ($1, $2, $3, $4, $5)";

/// Selects whether `$2` is `$1` or one of its direct or indirect inviters. `UNION` visits each user once, so
/// the query ends even if there is a loop.
pub(super) const ANCESTRY_HAS: &str = "\
    WITH RECURSIVE ancestry (id) AS ( \
        SELECT $1 \
        UNION \
        SELECT i.inviter FROM ancestry l JOIN invitations i ON i.invitee = l.id \
    ) \
    SELECT EXISTS (SELECT 1 FROM ancestry WHERE id = $2)";

/// Selects the facts for a request for a code, except messages and the usual number of failed attempts: the newest
/// challenge of a phone, the last login of its user, seven counters, and the state of the service.
pub(super) const CHALLENGE_FACTS: &str = "\
    SELECT c.sent_at AS last_sent_at, c.redeemed_at IS NOT NULL AS last_is_redeemed, \
           c.code_length AS last_code_length, \
           (SELECT last_login FROM users WHERE phone = $1) AS last_login, \
           (SELECT events FROM counters WHERE key = $2) AS counter_0, \
           (SELECT events FROM counters WHERE key = $3) AS counter_1, \
           (SELECT events FROM counters WHERE key = $4) AS counter_2, \
           (SELECT events FROM counters WHERE key = $5) AS counter_3, \
           (SELECT events FROM counters WHERE key = $6) AS counter_4, \
           (SELECT events FROM counters WHERE key = $7) AS counter_5, \
           (SELECT events FROM counters WHERE key = $8) AS counter_6, \
           (SELECT coalesce(sum(count), 0) FROM global_counters WHERE counter = 'failed_attempts' AND since >= $9) \
               AS failed_attempts, \
           (SELECT attack_until FROM attack_state) AS attack_until \
    FROM (SELECT 1) one \
    LEFT JOIN challenges c ON c.id = (SELECT id FROM challenges WHERE phone = $1 ORDER BY id DESC LIMIT 1)";

/// Selects the state of the service in the same form as [`CHALLENGE_FACTS`].
pub(super) const GLOBAL_COUNTER_FACTS: &str = "\
    SELECT coalesce(sum(count), 0) AS failed_attempts, (SELECT attack_until FROM attack_state) AS attack_until \
    FROM global_counters WHERE counter = 'failed_attempts' AND since >= $1";

pub(super) const FAILURES_BETWEEN: &str = "\
    SELECT coalesce(sum(count), 0) AS failed_attempts FROM global_counters \
    WHERE counter = 'failed_attempts' AND since >= $1 AND since < $2";

pub(super) const MESSAGES_SINCE: &str = "\
    SELECT since, count FROM global_counters WHERE counter = 'messages' AND since >= $1 ORDER BY since";

pub(super) const COUNTERS: &str = "\
    SELECT (SELECT events FROM counters WHERE key = $1) AS counter_0, \
           (SELECT events FROM counters WHERE key = $2) AS counter_1, \
           (SELECT events FROM counters WHERE key = $3) AS counter_2, \
           (SELECT events FROM counters WHERE key = $4) AS counter_3";

/// Stores the counters whose key is not NULL.
pub(super) const PUT_COUNTERS: &str = "\
    INSERT INTO counters (key, events, ends_at) \
    SELECT column1, column2, column3 \
    FROM (VALUES ($1, $2, $3), ($4, $5, $6), ($7, $8, $9), ($10, $11, $12), ($13, $14, $15), \
                 ($16, $17, $18), ($19, $20, $21)) WHERE column1 IS NOT NULL \
    ON CONFLICT (key) DO UPDATE SET events = excluded.events, ends_at = excluded.ends_at";

/// Removes an event from up to six counters.
pub(super) const REFUND: &str =
    "UPDATE counters SET events = replace(events, $1, '') WHERE key IN ($2, $3, $4, $5, $6, $7)";

pub(super) const COUNT_GLOBALLY: &str = "\
    INSERT INTO global_counters (counter, since, count) VALUES ($1, $2, $3) \
    ON CONFLICT (counter, since) DO UPDATE SET count = count + excluded.count";

pub(super) const RECORD_ATTACK: &str =
    "UPDATE attack_state SET attack_until = max(coalesce(attack_until, $1), $1)";

/// Selects the facts for a sign-in except the ancestry, with the newest challenge of the phone.
pub(super) const SIGN_IN_FACTS: &str = concat!(
    "SELECT ",
    challenge_columns!(),
    ", ",
    user_columns!(),
    ", (SELECT id FROM users WHERE invite_code = $2) AS code_owner, \
      (SELECT events FROM counters WHERE key = $3) AS counter_0, \
      (SELECT events FROM counters WHERE key = $4) AS counter_1, \
      (SELECT events FROM counters WHERE key = $5) AS counter_2, \
      (SELECT events FROM counters WHERE key = $6) AS counter_3, \
      (SELECT coalesce(sum(count), 0) FROM global_counters WHERE counter = 'failed_attempts' AND since >= $7) \
          AS failed_attempts, \
      (SELECT attack_until FROM attack_state) AS attack_until FROM (SELECT 1) one \
      LEFT JOIN challenges c ON c.id = (SELECT id FROM challenges WHERE phone = $1 ORDER BY id DESC LIMIT 1) \
      LEFT JOIN users u ON u.phone = $1 LEFT JOIN invitations i ON i.invitee = u.id"
);

/// Selects the same facts with the challenge `$8`, if it belongs to the phone.
pub(super) const SIGN_IN_FACTS_NAMED: &str = concat!(
    "SELECT ",
    challenge_columns!(),
    ", ",
    user_columns!(),
    ", (SELECT id FROM users WHERE invite_code = $2) AS code_owner, \
      (SELECT events FROM counters WHERE key = $3) AS counter_0, \
      (SELECT events FROM counters WHERE key = $4) AS counter_1, \
      (SELECT events FROM counters WHERE key = $5) AS counter_2, \
      (SELECT events FROM counters WHERE key = $6) AS counter_3, \
      (SELECT coalesce(sum(count), 0) FROM global_counters WHERE counter = 'failed_attempts' AND since >= $7) \
          AS failed_attempts, \
      (SELECT attack_until FROM attack_state) AS attack_until FROM (SELECT 1) one \
      LEFT JOIN challenges c ON c.id = $8 AND c.phone = $1 \
      LEFT JOIN users u ON u.phone = $1 LEFT JOIN invitations i ON i.invitee = u.id"
);

pub(super) const NEW_CHALLENGE: &str = "\
    INSERT INTO challenges (id, phone, code_length, code_hash, pepper_id, sent_at, expires_at, \
                            redeemed_at, attempts_with_id, attempts_without_id, address, failed_attempts) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

pub(super) const CHANGE_CHALLENGE: &str = "\
    UPDATE challenges SET redeemed_at = $2, attempts_with_id = $3, attempts_without_id = $4, failed_attempts = $5 \
    WHERE id = $1 AND redeemed_at IS NULL";

pub(super) const DELETE_CHALLENGE: &str = "DELETE FROM challenges WHERE id = $1";

/// Records the gateway that accepted the message of a challenge.
pub(super) const RECORD_GATEWAY: &str =
    "UPDATE challenges SET gateway = $2 WHERE id = $1 AND redeemed_at IS NULL";

pub(super) const MESSAGE: &str =
    "SELECT is_ours, region, status FROM messages WHERE gateway = $1 AND message_id = $2";

/// Stores a message. The time of the first record does not change.
pub(super) const PUT_MESSAGE: &str = "\
    INSERT INTO messages (gateway, message_id, is_ours, region, status, recorded_at) \
    VALUES ($1, $2, $3, $4, $5, $6) \
    ON CONFLICT (gateway, message_id) DO UPDATE \
    SET is_ours = excluded.is_ours, region = excluded.region, status = excluded.status";

pub(super) const SESSION: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", ",
    user_columns!(),
    " FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN invitations i ON i.invitee = u.id \
     WHERE s.id = $1"
);

pub(super) const SESSION_WITH_INVITED: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", ",
    user_columns!(),
    ", ",
    invitee_columns!(),
    " FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN invitations i ON i.invitee = u.id",
    newest_invitees!("s.id = $1")
);

pub(super) const REFRESH_FACTS: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", u.is_active FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1"
);

/// Redeems a challenge that is not redeemed yet, and signs its user in. Writes three rows.
pub(super) const SIGN_IN: &str = "\
    UPDATE challenges SET redeemed_at = $21 WHERE id = $20 AND redeemed_at IS NULL; \
    UPDATE users SET last_login = $21 WHERE id = $2; \
    INSERT INTO sessions (id, user_id, created_at, expires_at, revoked_at, ends_at, key_id, access_id, \
                          refresh_id, issued_at, access_expires_at, refresh_expires_at, tokens_used, \
                          previous_refresh_id, superseded, address, user_agent, repeated_late, late_repeats) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)";

pub(super) const CHANGE_SESSION: &str = "\
    UPDATE sessions SET user_id = $2, created_at = $3, expires_at = $4, revoked_at = $5, ends_at = $6, \
                        key_id = $7, access_id = $8, refresh_id = $9, issued_at = $10, \
                        access_expires_at = $11, refresh_expires_at = $12, tokens_used = $13, \
                        previous_refresh_id = $14, superseded = $15, address = $16, user_agent = $17, \
                        repeated_late = $18, late_repeats = $19 \
    WHERE id = $1";

/// Deletes the sessions of a user except the newest `$2`.
pub(super) const KEEP_NEWEST_SESSIONS: &str = "\
    DELETE FROM sessions WHERE user_id = $1 AND id <= ( \
        SELECT id FROM sessions WHERE user_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2 + 0)";

pub(super) const MARK_TOKENS_USED: &str =
    "UPDATE sessions SET tokens_used = 1 WHERE id = $1 AND access_id = $2 AND tokens_used = 0";

/// Selects the sessions of a user that have not ended.
pub(super) const SESSIONS: &str = concat!(
    "SELECT ",
    session_columns!(),
    " FROM sessions s WHERE s.user_id = $1 AND s.revoked_at IS NULL AND s.ends_at > $2 \
      ORDER BY s.id DESC LIMIT $3 + 0"
);

/// Ends one session of a user.
pub(super) const END_SESSION: &str = "\
    UPDATE sessions SET revoked_at = $2, ends_at = $2 \
    WHERE user_id = $1 AND revoked_at IS NULL AND ends_at > $2 AND id = $3 RETURNING id";

/// Ends all sessions of a user except one.
pub(super) const END_OTHER_SESSIONS: &str = "\
    UPDATE sessions SET revoked_at = $2, ends_at = $2 \
    WHERE user_id = $1 AND revoked_at IS NULL AND ends_at > $2 AND id <> $3 RETURNING id";

pub(super) const DELETE_EXPIRED_CHALLENGES: &str = "\
    DELETE FROM challenges WHERE id IN \
        (SELECT id FROM challenges WHERE expires_at < $1 ORDER BY expires_at LIMIT $2 + 0)";

pub(super) const DELETE_EXPIRED_SESSIONS: &str = "\
    DELETE FROM sessions WHERE id IN \
        (SELECT id FROM sessions WHERE ends_at < $1 ORDER BY ends_at LIMIT $2 + 0)";

pub(super) const DELETE_EXPIRED_COUNTERS: &str = "\
    DELETE FROM counters WHERE key IN \
        (SELECT key FROM counters WHERE ends_at < $1 ORDER BY ends_at LIMIT $2 + 0)";

pub(super) const DELETE_GLOBAL_COUNTERS: &str = "\
    DELETE FROM global_counters WHERE (counter, since) IN ( \
        SELECT counter, since FROM global_counters \
        WHERE counter IN ('failed_attempts', 'messages') AND since < $1 LIMIT $2 + 0)";

pub(super) const DELETE_EXPIRED_MESSAGES: &str = "\
    DELETE FROM messages WHERE (gateway, message_id) IN ( \
        SELECT gateway, message_id FROM messages WHERE recorded_at < $1 ORDER BY recorded_at LIMIT $2 + 0)";

pub(super) const SHARED_SETTINGS: &str = "SELECT name, value FROM shared_settings";

pub(super) const RECORD_SETTING: &str = "\
    INSERT INTO shared_settings (name, value) VALUES ($1, $2) \
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";

pub(super) const REGISTERED_KEYS: &str = "SELECT purpose, id, fingerprint, needed_until FROM keys";

pub(super) const PUT_KEY: &str = "\
    INSERT INTO keys (purpose, id, fingerprint, needed_until) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (purpose, id) DO UPDATE SET needed_until = excluded.needed_until";
