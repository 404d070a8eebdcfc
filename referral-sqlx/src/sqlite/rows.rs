//! Rows as the types of the core. What a row holds was checked when it was written; if it does not
//! read back, somebody else has written it.

use referral_core::{
    Challenge, ChallengeId, Email, InviteCode, InvitedBy, Invitee, Name, PhoneNumber, Session, SessionId,
    User, UserId,
    storage::{Grant, Result},
};
use sqlx::{ColumnIndex, Decode, Row, Sqlite, Type, sqlite::SqliteRow};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    error::unreadable,
    values::{retired_from_bytes, time_from_micros},
};

pub(super) fn user(row: &SqliteRow) -> Result<User> {
    let inviter = get::<Option<Uuid>>(row, "inviter")?.map(UserId);
    let inviter_code = optional(row, "inviter_code", InviteCode::parse)?;
    Ok(User {
        id: UserId(get(row, "id")?),
        phone: phone(row)?,
        invite_code: InviteCode::parse(get(row, "invite_code")?).map_err(unreadable)?,
        invited_by: inviter.zip(inviter_code).map(|(inviter, code)| InvitedBy { inviter, code }),
        invited_count: number(row, "invited_count")?,
        email: optional(row, "email", Email::parse)?,
        first_name: optional(row, "first_name", Name::parse)?,
        last_name: optional(row, "last_name", Name::parse)?,
        is_staff: get(row, "is_staff")?,
        is_active: get(row, "is_active")?,
        date_joined: time(row, "date_joined")?,
        last_login: optional_time(row, "last_login")?,
    })
}

pub(super) fn invitee(row: &SqliteRow) -> Result<Invitee> {
    Ok(Invitee { id: UserId(get(row, "id")?), phone: phone(row)?, joined_at: time(row, "date_joined")? })
}

pub(super) fn challenge(row: &SqliteRow) -> Result<Challenge> {
    Ok(Challenge {
        id: ChallengeId(get(row, "id")?),
        phone: phone(row)?,
        code_length: number(row, "code_length")?,
        code_hash: get::<&[u8]>(row, "code_hash")?.try_into().map_err(unreadable)?,
        pepper_id: get(row, "pepper_id")?,
        sent_at: time(row, "sent_at")?,
        expires_at: time(row, "expires_at")?,
        redeemed_at: optional_time(row, "redeemed_at")?,
        tries_with_id: number(row, "tries_with_id")?,
        tries_without_id: number(row, "tries_without_id")?,
    })
}

pub(super) fn session(row: &SqliteRow) -> Result<Session> {
    Ok(Session {
        id: SessionId(get(row, "session_id")?),
        user: UserId(get(row, "user_id")?),
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
        revoked_at: optional_time(row, "revoked_at")?,
        grant: Grant {
            key_id: get(row, "key_id")?,
            access_id: get(row, "access_id")?,
            refresh_id: get(row, "refresh_id")?,
            issued_at: time(row, "issued_at")?,
            access_expires_at: time(row, "access_expires_at")?,
            refresh_expires_at: time(row, "refresh_expires_at")?,
        },
        grant_used: get(row, "grant_used")?,
        parent: get(row, "parent")?,
        retired: retired_from_bytes(get(row, "retired")?)?,
    })
}

pub(super) fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
    &'static str: ColumnIndex<SqliteRow>,
{
    row.try_get(column).map_err(unreadable)
}

pub(super) fn optional_time(row: &SqliteRow, column: &'static str) -> Result<Option<OffsetDateTime>> {
    get::<Option<i64>>(row, column)?.map(time_from_micros).transpose()
}

/// A number that the schema keeps from being negative or too large.
pub(super) fn number<T: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    T::try_from(get(row, column)?).map_err(unreadable)
}

fn time(row: &SqliteRow, column: &'static str) -> Result<OffsetDateTime> {
    time_from_micros(get(row, column)?)
}

fn phone(row: &SqliteRow) -> Result<PhoneNumber> {
    PhoneNumber::from_stored(get(row, "phone")?).map_err(unreadable)
}

fn optional<T>(
    row: &SqliteRow,
    column: &'static str,
    parse: fn(&str) -> std::result::Result<T, referral_core::Invalid>,
) -> Result<Option<T>> {
    get::<Option<&str>>(row, column)?.map(parse).transpose().map_err(unreadable)
}
