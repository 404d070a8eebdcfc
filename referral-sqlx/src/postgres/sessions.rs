//! Sessions: reading, refreshing and ending them.

use referral_core::{
    Session, SessionId, UserId,
    storage::{
        CustomClaims, Decided, Decision, RefreshFacts, RefreshRequest, Result, SessionSelection,
        StoredSession, UserWithInvited,
    },
};
use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    lease::{AnyLease, Lease},
    retry::write_error,
    rows,
    users::{newest_invitees, user_columns, with_limit},
    write::{Values, Write},
};
use crate::{
    encoding::superseded_to_bytes,
    error::failure,
    rows::{is_active_session, session_columns},
};

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
    newest_invitees!(),
    " WHERE s.id = $1"
);

/// Reads a session with its user and the newest invitees.
pub(super) async fn session(lease: &mut Lease, id: SessionId, invited: u32) -> Result<Option<StoredSession>> {
    let found = match invited {
        0 => lease.query(SESSION).bind(id.0),
        _ => lease.query(with_limit(SESSION_WITH_INVITED, invited)).bind(id.0),
    };
    let Some(row) = lease.fetch_optional(found).await.map_err(failure)? else {
        return Ok(None);
    };
    let invited = if invited == 0 { Vec::new() } else { rows::invited(&row)? };
    let user = UserWithInvited { user: rows::user(&row)?, invited };
    Ok(Some(StoredSession { session: rows::session(&row)?, user }))
}

pub(super) const MARK_TOKENS_USED: &str =
    "UPDATE referral.sessions SET tokens_used = TRUE WHERE id = $1 AND access_id = $2 AND NOT tokens_used";

pub(super) async fn mark_tokens_used(lease: &mut Lease, session: SessionId, access_id: Uuid) -> Result<()> {
    let update = lease.query(MARK_TOKENS_USED).bind(session.0).bind(access_id);
    lease.execute(update).await.map_err(failure)?;
    Ok(())
}

/// Decides about the exchange of a refresh token, and stores the decision.
pub(super) async fn refresh(lease: &mut Lease, request: &RefreshRequest) -> Decided<Session> {
    let found = lease.query(SESSION).bind(request.session.0);
    let row = lease.fetch_optional(found).await.map_err(failure)?;
    let facts = row.as_ref().map(refresh_facts).transpose()?;
    let Decision { writes, outcome } = request.decide(facts.as_ref())?;
    if let Some((from, to)) = facts.as_ref().zip(writes.session) {
        change(lease, &from.session, &to, writes.last_active).await?;
    }
    Ok(outcome)
}

fn refresh_facts(row: &PgRow) -> Result<RefreshFacts> {
    Ok(RefreshFacts { session: rows::session(row)?, user: rows::user(row)? })
}

/// Changes a session if it still has the refresh token `$2` and is not revoked.
pub(super) const CHANGE_SESSION: &str = "\
    UPDATE referral.sessions SET revoked_at = $3, ends_at = $4, key_id = $5, access_id = $6, \
        refresh_id = $7, issued_at = $8, access_expires_at = $9, refresh_expires_at = $10, \
        tokens_used = $11, previous_refresh_id = $12, superseded = $13, address = $14, user_agent = $15, \
        repeated_late = $16, late_repeats = $17, claims = $18 \
    WHERE id = $1 AND refresh_id = $2 AND revoked_at IS NULL";

pub(super) const RECORD_ACTIVITY: &str =
    "UPDATE referral.users SET last_active = $2 WHERE id = $1 AND $after RETURNING 1";

/// Replaces the session `from` with `to`, which has the same id and user and the same times of start and end, and
/// records the activity of the user. The user is locked before the session, as in a sign-in.
async fn change(
    lease: &mut Lease,
    from: &Session,
    to: &Session,
    last_active: Option<OffsetDateTime>,
) -> Result<()> {
    let bind = |update: &mut Values| {
        update.bind(from.id.0).bind(from.issued.refresh_id);
        bind_state(update, to);
    };
    let Some(last_active) = last_active else {
        let mut update = Values::new();
        bind(update.push(CHANGE_SESSION));
        return lease.write_row(lease.compose(update)?).await;
    };
    let mut write = Write::new();
    write.step("active", RECORD_ACTIVITY).bind(to.user.0).bind(last_active);
    bind(write.step("changed", &format!("{CHANGE_SESSION} AND $after RETURNING 1")));
    write.execute(lease).await
}

/// Binds the values of a session that can change, in the order of the columns in [`CHANGE_SESSION`].
pub(super) fn bind_state(values: &mut Values, session: &Session) {
    values
        .bind(session.revoked_at)
        .bind(session.ends_at())
        .bind(&*session.issued.key_id)
        .bind(session.issued.access_id)
        .bind(session.issued.refresh_id)
        .bind(session.issued.issued_at)
        .bind(session.issued.access_expires_at)
        .bind(session.issued.refresh_expires_at)
        .bind(session.tokens_used)
        .bind(session.previous_refresh_id)
        .bind(superseded_to_bytes(&session.superseded))
        .bind(session.address.map(|address| address.to_string()))
        .bind(session.user_agent.as_deref())
        .bind(session.repeated_late)
        .bind(i64::from(session.late_repeats))
        .bind(session.issued.claims.as_ref().map(CustomClaims::as_str));
}

pub(super) const SESSIONS: &str = concat!(
    "SELECT ",
    session_columns!(),
    " FROM referral.sessions s WHERE s.user_id = $1 AND ",
    is_active_session!("$2"),
    " AND s.id < $3 ORDER BY s.id DESC LIMIT {limit}"
);

/// Reads a page of the active sessions of a user.
pub(super) async fn sessions(
    lease: &mut Lease,
    user: UserId,
    now: OffsetDateTime,
    older_than: Option<SessionId>,
    limit: u32,
) -> Result<Vec<Session>> {
    let older_than = older_than.map_or(Uuid::max(), |id| id.0);
    let sessions = lease.query(with_limit(SESSIONS, limit)).bind(user.0).bind(now).bind(older_than);
    let sessions = lease.fetch_all(sessions).await.map_err(failure)?;
    sessions.iter().map(rows::session).collect()
}

/// Ends one session of a user.
pub(super) const END_SESSION: &str = concat!(
    "UPDATE referral.sessions s SET revoked_at = $2, ends_at = $2 WHERE s.user_id = $1 AND ",
    is_active_session!("$2"),
    " AND s.id = $3 RETURNING s.id"
);

/// Ends all sessions of a user except one.
pub(super) const END_OTHER_SESSIONS: &str = concat!(
    "UPDATE referral.sessions s SET revoked_at = $2, ends_at = $2 WHERE s.user_id = $1 AND ",
    is_active_session!("$2"),
    " AND s.id <> $3 RETURNING s.id"
);

/// Ends active sessions of a user, and returns their ids.
pub(super) async fn end(
    lease: &mut AnyLease<'_>,
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
    let end = lease.query(statement).bind(user.0).bind(now).bind(id.0);
    let rows = lease.fetch_all(end).await.map_err(write_error)?;
    rows.iter().map(|row| rows::get(row, "id").map(SessionId)).collect()
}
