//! Every statement but the list of users, which is put together from its filter.

use crate::rows::{challenge_columns, invitee_columns, session_columns, user_columns};

pub(super) const SCHEMA: &str = "referral";

pub(super) const HAS_SCHEMA: &str = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)";

pub(super) const MIGRATIONS_TABLE: &str = "referral._migrations";

pub(super) const APPLIED_MIGRATIONS: &str =
    "SELECT version, checksum FROM referral._migrations WHERE success ORDER BY version";

/// A standby answers, but does not write.
pub(super) const IS_READ_ONLY: &str = "SELECT current_setting('transaction_read_only') = 'on' AS read_only";

pub(super) const ENCODING: &str = "SELECT current_setting('server_encoding') AS encoding";

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

/// The newest challenge of a phone, and when its user last signed in.
pub(super) const CHALLENGE_FACTS: &str = "\
    SELECT c.number, c.sent_at AS last_sent_at, u.last_login \
    FROM (SELECT 1) one \
    LEFT JOIN LATERAL ( \
        SELECT number, sent_at FROM referral.challenges WHERE phone = $1 ORDER BY number DESC LIMIT 1 \
    ) c ON TRUE \
    LEFT JOIN referral.users u ON u.phone = $1";

/// Stores a challenge if the phone's newest has the number before its own, `$3`. That one is
/// locked, so that it is not swept away meanwhile, and its number given to another.
pub(super) const NEW_CHALLENGE: &str = "\
    WITH newest AS ( \
        SELECT number FROM referral.challenges WHERE phone = $2 ORDER BY number DESC LIMIT 1 FOR KEY SHARE \
    ) \
    INSERT INTO referral.challenges (id, phone, number, code_length, code_hash, pepper_id, sent_at, \
                                     expires_at, redeemed_at, tries_with_id, tries_without_id) \
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 \
    WHERE coalesce((SELECT number FROM newest), 0) + 1 = $3 \
    ON CONFLICT (phone, number) DO NOTHING";

pub(super) const DELETE_CHALLENGE: &str = "DELETE FROM referral.challenges WHERE id = $1";

/// All that an attempt to sign in is decided on, but for the lineage, with the phone's newest
/// challenge.
pub(super) const SIGN_IN_FACTS: &str = concat!(
    "SELECT ",
    challenge_columns!(),
    ", ",
    user_columns!(),
    ", o.id AS code_owner FROM (SELECT 1) one \
      LEFT JOIN LATERAL ( \
          SELECT * FROM referral.challenges WHERE phone = $1 ORDER BY number DESC LIMIT 1 \
      ) c ON TRUE \
      LEFT JOIN referral.users u ON u.phone = $1 \
      LEFT JOIN referral.invitations i ON i.invitee = u.id \
      LEFT JOIN referral.users o ON o.invite_code = $2"
);

/// The same, with the challenge `$3` if it is this phone's.
pub(super) const SIGN_IN_FACTS_NAMED: &str = concat!(
    "SELECT ",
    challenge_columns!(),
    ", ",
    user_columns!(),
    ", o.id AS code_owner FROM (SELECT 1) one \
      LEFT JOIN referral.challenges c ON c.id = $3 AND c.phone = $1 \
      LEFT JOIN referral.users u ON u.phone = $1 \
      LEFT JOIN referral.invitations i ON i.invitee = u.id \
      LEFT JOIN referral.users o ON o.invite_code = $2"
);

/// Changes a challenge, `$1`, if it is what it was: not redeemed, and with `$2` and `$3` tries.
macro_rules! change_challenge {
    ($changes:literal) => {
        concat!(
            "UPDATE referral.challenges SET ",
            $changes,
            " WHERE id = $1 AND redeemed_at IS NULL AND tries_with_id = $2 AND tries_without_id = $3"
        )
    };
}

pub(super) const CHANGE_CHALLENGE: &str =
    change_challenge!("redeemed_at = $4, tries_with_id = $5, tries_without_id = $6");

/// The columns of a session to write, in the order of their values.
macro_rules! session_to_write {
    () => {
        "(id, user_id, created_at, expires_at, revoked_at, ends_at, key_id, access_id, refresh_id, \
          issued_at, access_expires_at, refresh_expires_at, grant_used, parent, retired)"
    };
}

/// Redeems a challenge and signs its user in.
pub(super) const SIGN_IN: &str = concat!(
    "WITH redeemed AS (",
    change_challenge!("redeemed_at = $4"),
    " RETURNING 1), seen AS ( \
        UPDATE referral.users SET last_login = $4 WHERE id = $6 AND EXISTS (SELECT 1 FROM redeemed) RETURNING 1 \
      ) \
      INSERT INTO referral.sessions ",
    session_to_write!(),
    " SELECT $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19 FROM redeemed, seen"
);

/// Redeems a challenge, and makes a user who is signed in and, if `$29` says by whom, invited. The
/// inviter's count comes before the total, so that no one waits for a total while whoever holds it
/// waits for a popular inviter.
pub(super) const SIGN_UP: &str = concat!(
    "WITH redeemed AS (",
    change_challenge!("redeemed_at = $4"),
    " RETURNING 1), invited AS ( \
        INSERT INTO referral.invitations (invitee, inviter, code, accepted_at, via) \
        SELECT $6, $29, $30, $31, $32 FROM redeemed WHERE $29::uuid IS NOT NULL RETURNING 1 \
      ), made AS ( \
        INSERT INTO referral.users (id, phone, invite_code, is_staff, is_active, date_joined, last_login) \
        SELECT $6, $20, $21, $22, $23, $24, $25 FROM redeemed WHERE (SELECT count(*) FROM invited) >= 0 \
        RETURNING 1 \
      ), searched AS ( \
        INSERT INTO referral.user_search (user_id, public, private, grams) \
        SELECT $6, $26, $27, $28 FROM made \
      ) \
      INSERT INTO referral.sessions ",
    session_to_write!(),
    " SELECT $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19 FROM made"
);

/// Makes a user who has not signed in.
pub(super) const NEW_USER: &str = "\
    WITH made AS ( \
        INSERT INTO referral.users (id, phone, invite_code, is_staff, is_active, date_joined, last_login) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id \
    ) \
    INSERT INTO referral.user_search (user_id, public, private, grams) SELECT id, $8, $9, $10 FROM made";

pub(super) const MAKE_STAFF: &str = concat!(
    "WITH u AS (UPDATE referral.users SET is_staff = TRUE WHERE phone = $1 RETURNING *) SELECT ",
    user_columns!(),
    " FROM u LEFT JOIN referral.invitations i ON i.invitee = u.id"
);

pub(super) const SET_ACTIVE: &str = concat!(
    "WITH u AS (UPDATE referral.users SET is_active = $2 WHERE id = $1 RETURNING *) SELECT ",
    user_columns!(),
    " FROM u LEFT JOIN referral.invitations i ON i.invitee = u.id"
);

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
       (SELECT id FROM referral.users WHERE invite_code = $3) AS code_owner \
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
    " = ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
      WHERE id = $2 AND refresh_id = $1 AND revoked_at IS NULL"
);

pub(super) const NOTE_GRANT_USED: &str =
    "UPDATE referral.sessions SET grant_used = TRUE WHERE id = $1 AND access_id = $2 AND NOT grant_used";

/// Deletes a batch of what ended before `$1`, but for what others are deleting. The batch is an
/// array so that it is chosen once: as a set it could be chosen anew for each row.
pub(super) const SWEEP_CHALLENGES: &str = "\
    DELETE FROM referral.challenges WHERE id = ANY (ARRAY( \
        SELECT id FROM referral.challenges WHERE expires_at < $1 ORDER BY expires_at LIMIT $2 \
        FOR UPDATE SKIP LOCKED))";

pub(super) const SWEEP_SESSIONS: &str = "\
    DELETE FROM referral.sessions WHERE id = ANY (ARRAY( \
        SELECT id FROM referral.sessions WHERE ends_at < $1 ORDER BY ends_at LIMIT $2 \
        FOR UPDATE SKIP LOCKED))";

pub(super) const LOCK_KEYS: &str = "SELECT 1 FROM referral.locks WHERE name = 'keys' FOR UPDATE";

pub(super) const KNOWN_KEYS: &str = "SELECT purpose, id, fingerprint, needed_until FROM referral.keys";

pub(super) const PUT_KEY: &str = "\
    INSERT INTO referral.keys (purpose, id, fingerprint, needed_until) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (purpose, id) DO UPDATE SET needed_until = excluded.needed_until";
