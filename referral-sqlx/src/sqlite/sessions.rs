//! Sessions: reading, refreshing and ending them.

use referral_core::{
    Session, SessionId, UserId,
    storage::{Decided, Decision, RefreshFacts, RefreshRequest, Result, SessionSelection, StoredSession},
};
use sqlx::{SqliteConnection, sqlite::SqliteRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    rows,
    statement::{Statement, write_row},
    users::{newest_invitees, user_columns, user_with_invited},
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
    " FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN invitations i ON i.invitee = u.id \
     WHERE s.id = $1"
);

pub(super) const SESSION_WITH_INVITED: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", ",
    user_columns!(),
    ", ",
    newest_invitees!(),
    " FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN invitations i ON i.invitee = u.id \
     WHERE s.id = $1"
);

/// Reads a session with its user and the newest invitees.
pub(super) async fn session(
    connection: &mut SqliteConnection,
    id: SessionId,
    invited: u32,
) -> Result<Option<StoredSession>> {
    let found = match invited {
        0 => sqlx::query(SESSION).bind(id.0),
        _ => sqlx::query(SESSION_WITH_INVITED).bind(id.0).bind(invited),
    };
    let Some(row) = found.fetch_optional(connection).await.map_err(failure)? else {
        return Ok(None);
    };
    let user = user_with_invited(&row, invited)?;
    Ok(Some(StoredSession { session: rows::session(&row)?, user }))
}

pub(super) const MARK_TOKENS_USED: &str =
    "UPDATE sessions SET tokens_used = 1 WHERE id = $1 AND access_id = $2 AND tokens_used = 0";

pub(super) async fn mark_tokens_used(
    connection: &mut SqliteConnection,
    session: SessionId,
    access_id: Uuid,
) -> Result<()> {
    let update = sqlx::query(MARK_TOKENS_USED).bind(session.0).bind(access_id);
    update.execute(connection).await.map_err(failure)?;
    Ok(())
}

pub(super) const REFRESH_FACTS: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", u.is_active FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1"
);

/// Decides about the exchange of a refresh token, and stores the decision.
pub(super) async fn refresh(connection: &mut SqliteConnection, request: &RefreshRequest) -> Decided<Session> {
    let found = sqlx::query(REFRESH_FACTS).bind(request.session.0);
    let row = found.fetch_optional(&mut *connection).await.map_err(failure)?;
    let facts = row.as_ref().map(refresh_facts).transpose()?;
    let Decision { writes, outcome } = request.decide(facts.as_ref());
    if let Some(session) = writes {
        change(connection, &session).await?;
    }
    Ok(outcome)
}

fn refresh_facts(row: &SqliteRow) -> Result<RefreshFacts> {
    Ok(RefreshFacts { session: rows::session(row)?, user_is_active: rows::get(row, "is_active")? })
}

const CHANGE_SESSION: &str = "\
    UPDATE sessions SET revoked_at = $2, ends_at = $3, key_id = $4, access_id = $5, refresh_id = $6, \
                        issued_at = $7, access_expires_at = $8, refresh_expires_at = $9, tokens_used = $10, \
                        previous_refresh_id = $11, superseded = $12, address = $13, user_agent = $14, \
                        repeated_late = $15, late_repeats = $16 \
    WHERE id = $1";

/// Replaces the session with the same id, user, and times of start and end.
async fn change(connection: &mut SqliteConnection, session: &Session) -> Result<()> {
    let update = sqlx::query(CHANGE_SESSION).bind(session.id.0);
    write_row(connection, bind_state(update, session)).await
}

/// Binds the values of a session that can change, in the order of the columns in [`CHANGE_SESSION`].
pub(super) fn bind_state<'q>(statement: Statement<'q>, session: &'q Session) -> Statement<'q> {
    statement
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
}

const SESSIONS: &str = concat!(
    "SELECT ",
    session_columns!(),
    " FROM sessions s WHERE s.user_id = $1 AND ",
    is_active_session!("$2"),
    " ORDER BY s.id DESC LIMIT $3 + 0"
);

/// Reads the active sessions of a user.
pub(super) async fn sessions(
    connection: &mut SqliteConnection,
    user: UserId,
    now: OffsetDateTime,
    limit: u32,
) -> Result<Vec<Session>> {
    let sessions = sqlx::query(SESSIONS).bind(user.0).bind(time_to_micros(now)).bind(limit);
    let sessions = sessions.fetch_all(connection).await.map_err(failure)?;
    sessions.iter().map(rows::session).collect()
}

/// Ends one session of a user.
pub(super) const END_SESSION: &str = concat!(
    "UPDATE sessions AS s SET revoked_at = $2, ends_at = $2 WHERE s.user_id = $1 AND ",
    is_active_session!("$2"),
    " AND s.id = $3 RETURNING id"
);

/// Ends all sessions of a user except one.
pub(super) const END_OTHER_SESSIONS: &str = concat!(
    "UPDATE sessions AS s SET revoked_at = $2, ends_at = $2 WHERE s.user_id = $1 AND ",
    is_active_session!("$2"),
    " AND s.id <> $3 RETURNING id"
);

/// Ends active sessions of a user, and returns their ids.
pub(super) async fn end(
    connection: &mut SqliteConnection,
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
    let end = sqlx::query_scalar(statement).bind(user.0).bind(time_to_micros(now)).bind(id.0);
    let ended: Vec<Uuid> = end.fetch_all(connection).await.map_err(failure)?;
    Ok(ended.into_iter().map(SessionId).collect())
}

/// Deletes the sessions of a user except the newest `$2`.
pub(super) const KEEP_NEWEST_SESSIONS: &str = "\
    DELETE FROM sessions WHERE user_id = $1 AND id <= ( \
        SELECT id FROM sessions WHERE user_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2 + 0)";

/// Deletes the sessions of a user except the newest `number`.
pub(super) async fn keep_newest(connection: &mut SqliteConnection, user: UserId, number: u32) -> Result<()> {
    let delete = sqlx::query(KEEP_NEWEST_SESSIONS).bind(user.0).bind(number);
    delete.execute(connection).await.map_err(failure)?;
    Ok(())
}
