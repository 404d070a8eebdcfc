//! Conversion of SQLite rows. SQLite has no type for times and arrays, so times are microseconds, and the
//! events of a counter are a JSON array.

use referral_core::storage::{CountedEvent, StorageError};
use serde::Deserialize;
use sqlx::{Sqlite, sqlite::SqliteRow};

use crate::encoding::{events_from_numbers, time_from_micros};

crate::rows::read_rows!(Sqlite, SqliteRow, i64, time_from_micros, events);

/// Reads the invitees of a row from a JSON array, with the newest first.
pub(super) fn invited(row: &SqliteRow) -> Result<Vec<Invitee>> {
    let list: Vec<(&str, String, i64)> = serde_json::from_str(get(row, "invited")?).map_err(unreadable)?;
    let invited = list.into_iter().map(|(id, phone, joined_at)| {
        let id = UserId(Uuid::try_parse(id).map_err(unreadable)?);
        let phone = PhoneNumber::from_stored(phone).map_err(unreadable)?;
        Ok(Invitee { id, phone, joined_at: time_from_micros(joined_at)? })
    });
    let mut invited = invited.collect::<Result<Vec<_>>>()?;
    // SQL does not guarantee the order of an aggregated subquery.
    invited.sort_unstable_by_key(|invitee| std::cmp::Reverse(invitee.id));
    Ok(invited)
}

/// User in a JSON array, as [`json_user!`](super::users::json_user) writes it.
#[derive(Deserialize)]
struct JsonUser {
    id: Uuid,
    phone: String,
    invite_code: String,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    staff_role: Option<String>,
    is_active: u8,
    date_joined: i64,
    last_login: Option<i64>,
    last_active: Option<i64>,
    phone_detached_at: Option<i64>,
    inviter: Option<Uuid>,
    inviter_code: Option<String>,
    invited_count: u64,
    external_id: Option<String>,
    metadata: String,
    deletion_at: Option<i64>,
}

/// Reads the users of a row from a JSON array, in its order.
pub(super) fn users(row: &SqliteRow) -> Result<Vec<User>> {
    let list: Vec<JsonUser> = serde_json::from_str(get(row, "users")?).map_err(unreadable)?;
    let read = |user: JsonUser| {
        let columns = UserColumns {
            id: user.id,
            phone: user.phone,
            invite_code: &user.invite_code,
            email: user.email.as_deref(),
            first_name: user.first_name.as_deref(),
            last_name: user.last_name.as_deref(),
            staff_role: user.staff_role.as_deref(),
            is_active: user.is_active != 0,
            date_joined: time_from_micros(user.date_joined)?,
            last_login: user.last_login.map(time_from_micros).transpose()?,
            last_active: user.last_active.map(time_from_micros).transpose()?,
            phone_detached_at: user.phone_detached_at.map(time_from_micros).transpose()?,
            inviter: user.inviter,
            inviter_code: user.inviter_code.as_deref(),
            invited_count: user.invited_count,
            external_id: user.external_id.as_deref(),
            metadata: &user.metadata,
            deletion_at: user.deletion_at.map(time_from_micros).transpose()?,
        };
        columns.parse()
    };
    list.into_iter().map(read).collect()
}

/// Reads the events of a counter.
fn events(array: &str) -> Result<Vec<CountedEvent>> {
    let list = array.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let list = list.ok_or_else(|| unreadable("the events of a counter are not a JSON array"))?;
    let numbers = list.split_terminator(',').map(|number| number.parse().map_err(unreadable));
    events_from_numbers(numbers.collect::<Result<_>>()?)
}

/// Reads the invite code for a new user. It is NULL if all candidates are taken.
pub(super) fn free_code(row: &SqliteRow) -> Result<InviteCode> {
    let code = get::<Option<&str>>(row, "free_code")?.ok_or(StorageError::InviteCodesExhausted)?;
    InviteCode::from_stored(code).map_err(unreadable)
}
