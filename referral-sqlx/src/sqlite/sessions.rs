//! Sessions: reading, refreshing and ending them.

use referral_core::{
    Refusal, Session, SessionId, UserId,
    audit::AuditEntry,
    storage::{
        CustomClaims, Decided, Decision, RefreshFacts, RefreshRequest, RefreshWrites, Result,
        SessionSelection, StoredSession,
    },
};
use sqlx::sqlite::SqliteRow;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    audit,
    batch::{Batch, Values},
    connection::Connection,
    rows,
    users::{newest_invitees, user_columns, user_with_invited},
    write_queue::Decide,
};
use crate::{
    encoding::{superseded_to_bytes, time_to_micros},
    error::failure,
    rows::{is_active_session, session_columns},
};

pub(super) const SESSION: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", ",
    user_columns!(),
    " FROM referral_sessions s JOIN referral_users u ON u.id = s.user_id LEFT JOIN referral_invitations i ON i.invitee = u.id \
     WHERE s.id = $1"
);

pub(super) const SESSION_WITH_INVITED: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", ",
    user_columns!(),
    ", ",
    newest_invitees!(),
    " FROM referral_sessions s JOIN referral_users u ON u.id = s.user_id LEFT JOIN referral_invitations i ON i.invitee = u.id \
     WHERE s.id = $1"
);

/// Reads a session with its user and the newest invitees.
pub(super) async fn session(
    connection: &mut Connection<'_>,
    id: SessionId,
    invited: u32,
) -> Result<Option<StoredSession>> {
    let found = match invited {
        0 => sqlx::query(SESSION).bind(id.0),
        _ => sqlx::query(SESSION_WITH_INVITED).bind(id.0).bind(invited),
    };
    let Some(row) = connection.fetch_optional(found).await.map_err(failure)? else {
        return Ok(None);
    };
    let user = user_with_invited(&row, invited)?;
    Ok(Some(StoredSession { session: rows::session(&row)?, user }))
}

pub(super) const MARK_TOKENS_USED: &str =
    "UPDATE referral_sessions SET tokens_used = 1 WHERE id = $1 AND access_id = $2 AND tokens_used = 0";

pub(super) async fn mark_tokens_used(
    connection: &mut Connection<'_>,
    session: SessionId,
    access_id: Uuid,
) -> Result<()> {
    let update = sqlx::query(MARK_TOKENS_USED).bind(session.0).bind(access_id);
    connection.execute(update).await.map_err(failure)?;
    Ok(())
}

impl Decide for RefreshRequest {
    type Outcome = std::result::Result<Session, Refusal>;

    fn push_facts(&self, batch: &mut Batch) {
        batch.push(SESSION).bind(self.session.0);
    }

    async fn decide(
        self,
        facts: Option<SqliteRow>,
        _: &mut Connection<'_>,
        writes: &mut Batch,
    ) -> Decided<Session> {
        let facts = facts.as_ref().map(refresh_facts).transpose()?;
        let Decision { writes: RefreshWrites { session, last_active }, outcome } =
            Self::decide(&self, facts.as_ref())?;
        if let Some(session) = session {
            push_change(writes, &session);
            if let Some(at) = last_active {
                writes.push_update(RECORD_ACTIVITY).bind(session.user.0).bind(time_to_micros(at));
            }
        }
        Ok(outcome)
    }
}

pub(super) const RECORD_ACTIVITY: &str = "UPDATE referral_users SET last_active = $2 WHERE id = $1";

fn refresh_facts(row: &SqliteRow) -> Result<RefreshFacts> {
    Ok(RefreshFacts { session: rows::session(row)?, user: rows::user(row)? })
}

const CHANGE_SESSION: &str = "\
    UPDATE referral_sessions SET revoked_at = $2, ends_at = $3, key_id = $4, access_id = $5, refresh_id = $6, \
                        issued_at = $7, access_expires_at = $8, refresh_expires_at = $9, tokens_used = $10, \
                        previous_refresh_id = $11, superseded = $12, address = $13, user_agent = $14, \
                        repeated_late = $15, late_repeats = $16, claims = $17 \
    WHERE id = $1";

/// Adds a statement that replaces the session with the same id, user, and times of start and end.
fn push_change(batch: &mut Batch, session: &Session) {
    bind_state(batch.push_update(CHANGE_SESSION).bind(session.id.0), session);
}

/// Binds the values of a session that can change, in the order of the columns in [`CHANGE_SESSION`].
fn bind_state(values: &mut Values, session: &Session) {
    values
        .bind(session.revoked_at.map(time_to_micros))
        .bind(time_to_micros(session.ends_at()))
        .bind(&*session.issued.key_id)
        .bind(session.issued.access_id)
        .bind(session.issued.refresh_id)
        .bind(time_to_micros(session.issued.issued_at))
        .bind(time_to_micros(session.issued.access_expires_at))
        .bind(time_to_micros(session.issued.refresh_expires_at))
        .bind(session.tokens_used)
        .bind(session.previous_refresh_id)
        .bind(superseded_to_bytes(&session.superseded))
        .bind(session.address.map(|address| address.to_string()))
        .bind(session.user_agent.as_deref())
        .bind(session.repeated_late)
        .bind(session.late_repeats)
        .bind(session.issued.claims.as_ref().map(CustomClaims::as_str));
}

const ADD_SESSION: &str = "\
    INSERT INTO referral_sessions (id, user_id, created_at, expires_at, revoked_at, ends_at, key_id, access_id, \
                          refresh_id, issued_at, access_expires_at, refresh_expires_at, tokens_used, \
                          previous_refresh_id, superseded, address, user_agent, repeated_late, late_repeats, \
                          claims) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";

/// Adds a statement that adds a session.
pub(super) fn push_new(batch: &mut Batch, session: &Session) {
    let values = batch
        .push(ADD_SESSION)
        .bind(session.id.0)
        .bind(session.user.0)
        .bind(time_to_micros(session.created_at))
        .bind(time_to_micros(session.expires_at));
    bind_state(values, session);
}

pub(super) const SESSIONS: &str = concat!(
    "SELECT ",
    session_columns!(),
    " FROM referral_sessions s WHERE s.user_id = $1 AND ",
    is_active_session!("$2"),
    " AND s.id < $3 ORDER BY s.id DESC LIMIT $4 + 0"
);

/// Reads a page of the active sessions of a user.
pub(super) async fn sessions(
    connection: &mut Connection<'_>,
    user: UserId,
    now: OffsetDateTime,
    older_than: Option<SessionId>,
    limit: u32,
) -> Result<Vec<Session>> {
    let older_than = older_than.map_or(Uuid::max(), |id| id.0);
    let sessions = sqlx::query(SESSIONS).bind(user.0).bind(time_to_micros(now)).bind(older_than).bind(limit);
    let sessions = connection.fetch_all(sessions).await.map_err(failure)?;
    sessions.iter().map(rows::session).collect()
}

/// Ends one session of a user.
pub(super) const END_SESSION: &str = concat!(
    "UPDATE referral_sessions AS s SET revoked_at = $2, ends_at = $2 WHERE s.user_id = $1 AND ",
    is_active_session!("$2"),
    " AND s.id = $3 RETURNING id"
);

/// Ends all sessions of a user except one.
pub(super) const END_OTHER_SESSIONS: &str = concat!(
    "UPDATE referral_sessions AS s SET revoked_at = $2, ends_at = $2 WHERE s.user_id = $1 AND ",
    is_active_session!("$2"),
    " AND s.id <> $3 RETURNING id"
);

/// Ends active sessions of a user as [`end`] does, and adds an entry to the audit log.
pub(super) async fn end_with_entry(
    connection: &mut Connection<'_>,
    user: UserId,
    sessions: SessionSelection,
    now: OffsetDateTime,
    entry: Option<AuditEntry>,
) -> Result<Vec<SessionId>> {
    if let Some(entry) = &entry {
        audit::add(connection, entry).await?;
    }
    end(connection, user, sessions, now).await
}

/// Ends active sessions of a user, and returns their ids.
pub(super) async fn end(
    connection: &mut Connection<'_>,
    user: UserId,
    sessions: SessionSelection,
    now: OffsetDateTime,
) -> Result<Vec<SessionId>> {
    let (statement, id) = match sessions {
        SessionSelection::One(id) => (END_SESSION, id),
        SessionSelection::AllExcept(kept) => (END_OTHER_SESSIONS, kept),
        // No session has this id.
        SessionSelection::All => (END_OTHER_SESSIONS, SessionId(Uuid::nil())),
    };
    let end = sqlx::query(statement).bind(user.0).bind(time_to_micros(now)).bind(id.0);
    let ended = connection.fetch_all(end).await.map_err(failure)?;
    ended.iter().map(|row| rows::get(row, "id").map(SessionId)).collect()
}

/// Deletes the sessions of a user except the newest `$3` of those that are active at `$2`.
pub(super) const KEEP_NEWEST_SESSIONS: &str = concat!(
    "DELETE FROM referral_sessions WHERE user_id = $1 AND (revoked_at IS NOT NULL OR ends_at <= $2 OR id <= ( \
        SELECT s.id FROM referral_sessions s WHERE s.user_id = $1 AND ",
    is_active_session!("$2"),
    " ORDER BY s.id DESC LIMIT 1 OFFSET $3 + 0)) \
     RETURNING id, revoked_at IS NULL AND ends_at > $2 AS was_active"
);

/// Deletes the sessions of a user except the newest `number` of the active ones. Returns the ids of the deleted
/// ones that were active.
pub(super) async fn keep_newest(
    connection: &mut Connection<'_>,
    user: UserId,
    number: u32,
    now: OffsetDateTime,
) -> Result<Vec<SessionId>> {
    let delete = sqlx::query(KEEP_NEWEST_SESSIONS).bind(user.0).bind(time_to_micros(now)).bind(number);
    let mut ended = Vec::new();
    for row in connection.fetch_all(delete).await.map_err(failure)? {
        if rows::get(&row, "was_active")? {
            ended.push(SessionId(rows::get(&row, "id")?));
        }
    }
    Ok(ended)
}
