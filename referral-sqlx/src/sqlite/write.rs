//! Writing what the core's rules decided.

use referral_core::{
    Challenge, ChallengeId, Email, Invitation, InvitedBy, Name, Session, SessionId, User,
    storage::{KnownKey, NewUser, Result, SearchKeys, StorageError},
};
use sqlx::{Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{search, statements};
use crate::{
    error::failure,
    values::{retired_to_bytes, time_to_micros},
};

/// Makes a user with the first of the codes that is free.
pub(super) async fn new_user(
    connection: &mut SqliteConnection,
    new: &NewUser,
    invited_by: Option<InvitedBy>,
) -> Result<User> {
    for code in &new.invite_codes {
        let user = new.to_user(code.clone(), invited_by.clone());
        let keys = SearchKeys::of(&user);
        let insert = sqlx::query(statements::NEW_USER)
            .bind(user.id.0)
            .bind(user.phone.as_str())
            .bind(user.invite_code.as_str())
            .bind(user.is_staff)
            .bind(user.is_active)
            .bind(time_to_micros(user.date_joined))
            .bind(user.last_login.map(time_to_micros))
            .bind(keys.public)
            .bind(keys.private);
        if insert.execute(&mut *connection).await.map_err(failure)?.rows_affected() == 1 {
            search::add(connection, &user).await?;
            return Ok(user);
        }
    }
    Err(StorageError::InviteCodesExhausted)
}

/// Stores `user` in place of the one with the same id: all but what never changes, and the count
/// of invitees, which the database keeps itself.
pub(super) async fn user(connection: &mut SqliteConnection, user: &User) -> Result<()> {
    let keys = SearchKeys::of(user);
    let update = sqlx::query(statements::CHANGE_USER)
        .bind(user.id.0)
        .bind(user.email.as_ref().map(Email::as_str))
        .bind(user.first_name.as_ref().map(Name::as_str))
        .bind(user.last_name.as_ref().map(Name::as_str))
        .bind(user.is_staff)
        .bind(user.is_active)
        .bind(user.last_login.map(time_to_micros))
        .bind(keys.public)
        .bind(keys.private);
    one_row(connection, update).await
}

/// Stores an invitation. Both users must be there.
pub(super) async fn invitation(connection: &mut SqliteConnection, invitation: &Invitation) -> Result<()> {
    let insert = sqlx::query(statements::NEW_INVITATION)
        .bind(invitation.invitee.0)
        .bind(invitation.inviter.0)
        .bind(invitation.code.as_str())
        .bind(time_to_micros(invitation.accepted_at))
        .bind(invitation.via.as_str());
    one_row(connection, insert).await
}

pub(super) async fn new_challenge(connection: &mut SqliteConnection, challenge: &Challenge) -> Result<()> {
    let insert = sqlx::query(statements::NEW_CHALLENGE)
        .bind(challenge.id.0)
        .bind(challenge.phone.as_str())
        .bind(challenge.code_length)
        .bind(challenge.code_hash.as_slice())
        .bind(&*challenge.pepper_id)
        .bind(time_to_micros(challenge.sent_at))
        .bind(time_to_micros(challenge.expires_at))
        .bind(challenge.redeemed_at.map(time_to_micros))
        .bind(challenge.tries_with_id)
        .bind(challenge.tries_without_id);
    one_row(connection, insert).await
}

/// Stores `challenge` in place of the one with the same id, which must not have been redeemed.
pub(super) async fn challenge(connection: &mut SqliteConnection, challenge: &Challenge) -> Result<()> {
    let update = sqlx::query(statements::CHANGE_CHALLENGE)
        .bind(challenge.id.0)
        .bind(challenge.redeemed_at.map(time_to_micros))
        .bind(challenge.tries_with_id)
        .bind(challenge.tries_without_id);
    one_row(connection, update).await
}

pub(super) async fn delete_challenge(connection: &mut SqliteConnection, id: ChallengeId) -> Result<()> {
    let delete = sqlx::query(statements::DELETE_CHALLENGE).bind(id.0);
    delete.execute(connection).await.map_err(failure)?;
    Ok(())
}

/// Redeems a challenge, which must not have been, and signs its user in.
pub(super) async fn sign_in(
    connection: &mut SqliteConnection,
    redeemed: &Challenge,
    session: &Session,
) -> Result<()> {
    let write = bind_session(statements::SIGN_IN, session)
        .bind(redeemed.id.0)
        .bind(redeemed.redeemed_at.map(time_to_micros));
    rows_written(connection, write, 3).await
}

/// Stores `session` in place of the one with the same id.
pub(super) async fn session(connection: &mut SqliteConnection, session: &Session) -> Result<()> {
    one_row(connection, bind_session(statements::CHANGE_SESSION, session)).await
}

pub(super) async fn grant_used(
    connection: &mut SqliteConnection,
    session: SessionId,
    access_id: Uuid,
) -> Result<()> {
    let update = sqlx::query(statements::NOTE_GRANT_USED).bind(session.0).bind(access_id);
    update.execute(connection).await.map_err(failure)?;
    Ok(())
}

pub(super) async fn key(connection: &mut SqliteConnection, key: &KnownKey) -> Result<()> {
    let put = sqlx::query(statements::PUT_KEY)
        .bind(key.purpose.as_str())
        .bind(&*key.id)
        .bind(key.fingerprint.as_slice())
        .bind(key.needed_until.map(time_to_micros));
    one_row(connection, put).await
}

/// Deletes some of the challenges and sessions that ended before `before`.
pub(super) async fn sweep(
    connection: &mut SqliteConnection,
    before: OffsetDateTime,
    batch: u32,
) -> Result<u64> {
    let mut swept = 0;
    for statement in [statements::SWEEP_CHALLENGES, statements::SWEEP_SESSIONS] {
        let delete = sqlx::query(statement).bind(time_to_micros(before)).bind(batch);
        swept += delete.execute(&mut *connection).await.map_err(failure)?.rows_affected();
    }
    Ok(swept)
}

/// The values of a session, in the order in which both statements that write one number them.
fn bind_session<'q>(statement: &'static str, session: &'q Session) -> Query<'q, Sqlite, SqliteArguments> {
    sqlx::query(statement)
        .bind(session.id.0)
        .bind(session.user.0)
        .bind(time_to_micros(session.created_at))
        .bind(time_to_micros(session.expires_at))
        .bind(session.revoked_at.map(time_to_micros))
        .bind(time_to_micros(session.ends_at()))
        .bind(&*session.grant.key_id)
        .bind(session.grant.access_id)
        .bind(session.grant.refresh_id)
        .bind(time_to_micros(session.grant.issued_at))
        .bind(time_to_micros(session.grant.access_expires_at))
        .bind(time_to_micros(session.grant.refresh_expires_at))
        .bind(session.grant_used)
        .bind(session.parent)
        .bind(retired_to_bytes(&session.retired))
}

/// Executes a statement that must write one row, since what it names was just read under the
/// same lock.
async fn one_row(
    connection: &mut SqliteConnection,
    statement: Query<'_, Sqlite, SqliteArguments>,
) -> Result<()> {
    rows_written(connection, statement, 1).await
}

async fn rows_written(
    connection: &mut SqliteConnection,
    statement: Query<'_, Sqlite, SqliteArguments>,
    expected: u64,
) -> Result<()> {
    let written = statement.execute(connection).await.map_err(failure)?.rows_affected();
    if written == expected {
        return Ok(());
    }
    Err(StorageError::Failed("what was to be changed is not there, or was over already".into()))
}
