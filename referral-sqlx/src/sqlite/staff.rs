//! Staff: making a new or an existing user staff.

use referral_core::storage::{
    Decision, NewStaff, Result, SessionSelection, StaffRequest, StorageError, UserWrite,
};
use sqlx::SqliteConnection;

use super::{
    rows, sessions,
    users::{self, user_columns},
};
use crate::error::failure;

pub(super) const USER_WITH_PHONE: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM users u LEFT JOIN invitations i ON i.invitee = u.id WHERE u.phone = $1"
);

/// Makes the user with a phone staff.
pub(super) async fn make_staff(
    connection: &mut SqliteConnection,
    request: &StaffRequest,
) -> Result<NewStaff> {
    let found = sqlx::query(USER_WITH_PHONE).bind(request.new_user.phone.as_str());
    let found = found.fetch_optional(&mut *connection).await.map_err(failure)?;
    let known = found.as_ref().map(rows::user).transpose()?;
    for code in &request.new_user.invite_codes {
        let Decision { writes, outcome: user } = request.decide(known.as_ref(), code);
        let is_written = match &writes.user {
            Some(UserWrite::Add(user)) => users::add(connection, user).await?,
            Some(UserWrite::Change(user)) => users::change(connection, user).await.map(|()| true)?,
            None => true,
        };
        if !is_written {
            continue;
        }
        let ended_sessions = if writes.ends_sessions {
            sessions::end(connection, user.id, SessionSelection::All, request.now).await?
        } else {
            Vec::new()
        };
        return Ok(NewStaff { user, ended_sessions });
    }
    Err(StorageError::InviteCodesExhausted)
}
