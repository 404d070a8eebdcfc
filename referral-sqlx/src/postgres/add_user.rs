//! Users that are added without a sign-in, and users that become staff.

use referral_core::{
    InviteCode, User,
    storage::{AddUserRequest, AddedUser, Decision, Result, SessionSelection, UserWrite},
};

use super::{
    lease::Lease,
    rows, sessions,
    users::{self, user_columns},
};
use crate::error::failure;

/// Selects and locks the user with a phone.
pub(super) const USER_WITH_PHONE: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM referral.users u LEFT JOIN referral.invitations i ON i.invitee = u.id WHERE u.phone = $1 \
      FOR NO KEY UPDATE OF u"
);

/// Adds a user or makes one staff, in a transaction. A new user gets the invite code `code`.
pub(super) async fn add_user(
    lease: &mut Lease,
    request: &AddUserRequest,
    code: &InviteCode,
) -> Result<AddedUser> {
    let found = lease.query(USER_WITH_PHONE).bind(request.new_user.phone.as_str());
    let found = lease.fetch_optional(found).await.map_err(failure)?;
    let known = found.as_ref().map(rows::user).transpose()?;
    let Decision { writes, outcome: user } = request.decide(known.as_ref(), code);
    match &writes.user {
        Some(UserWrite::Add(user)) => {
            users::add(lease, user).await?;
            lease.run_hook(Some(user), None).await?;
        }
        Some(UserWrite::Change(user)) => set_staff(lease, user).await?,
        None => {}
    }
    let ended_sessions = if writes.ends_sessions {
        sessions::end(lease, user.id, SessionSelection::All, request.now).await?
    } else {
        Vec::new()
    };
    Ok(AddedUser { user, ended_sessions })
}

pub(super) const SET_STAFF: &str = "UPDATE referral.users SET is_staff = $2 WHERE id = $1";

async fn set_staff(lease: &mut Lease, user: &User) -> Result<()> {
    let update = lease.query(SET_STAFF).bind(user.id.0).bind(user.is_staff);
    lease.write_row(update).await
}
