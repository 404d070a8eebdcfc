//! Staff: making a new or an existing user staff.

use referral_core::storage::{Decision, NewStaff, Result, SessionSelection, StaffRequest, UserWrite};
use sqlx::SqliteConnection;

use super::{
    batch::Batch,
    rows, sessions,
    users::{self, free_code, json_codes, user_columns},
};
use crate::error::failure;

pub(super) const USER_WITH_PHONE: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM referral_users u LEFT JOIN referral_invitations i ON i.invitee = u.id WHERE u.phone = $1"
);

const FREE_CODE: &str = concat!("SELECT ", free_code!("$1"), " AS free_code");

/// Makes the user with a phone staff.
pub(super) async fn make_staff(
    connection: &mut SqliteConnection,
    request: &StaffRequest,
) -> Result<NewStaff> {
    let new_user = &request.new_user;
    let found = sqlx::query(USER_WITH_PHONE).bind(new_user.phone.as_str());
    let found = found.fetch_optional(&mut *connection).await.map_err(failure)?;
    let known = found.as_ref().map(rows::user).transpose()?;
    let code = sqlx::query(FREE_CODE).bind(json_codes(&new_user.invite_codes));
    let code = code.fetch_one(&mut *connection).await.map_err(failure)?;
    let code = rows::free_code(&code)?;
    let Decision { writes, outcome: user } = request.decide(known.as_ref(), &code);
    let mut batch = Batch::new();
    match &writes.user {
        Some(UserWrite::Add(user)) => users::push_new(&mut batch, user),
        Some(UserWrite::Change(user)) => users::push_change(&mut batch, user),
        None => {}
    }
    batch.write(connection).await?;
    let ended_sessions = if writes.ends_sessions {
        sessions::end(connection, user.id, SessionSelection::All, request.now).await?
    } else {
        Vec::new()
    };
    Ok(NewStaff { user, ended_sessions })
}
