//! Users that are added without a sign-in, and users that become staff.

use referral_core::{
    ExternalId, InviteCode, Refusal, StaffRole, User, UserId,
    storage::{AddUserFacts, AddUserRequest, AddedUser, Decision, Result, SessionSelection, UserWrite},
};
use uuid::Uuid;

use super::{
    audit,
    lease::AnyLease,
    rows, sessions,
    sign_in::lock_user,
    users::{self, external_id_owner, user_columns},
};
use crate::error::failure;

/// Selects the user with the phone `$1`, and the owner of the external id `$2` of a new user.
pub(super) const ADD_USER_FACTS: &str = concat!(
    "SELECT ",
    user_columns!(),
    ", ",
    external_id_owner!("$2"),
    " FROM (SELECT 1) one LEFT JOIN referral.users u ON u.phone = $1 \
     LEFT JOIN referral.invitations i ON i.invitee = u.id"
);

/// Adds a user or makes one staff, in a transaction. A new user gets the invite code `code`.
pub(super) async fn add_user(
    lease: &mut AnyLease<'_>,
    request: &AddUserRequest,
    code: &InviteCode,
) -> Result<std::result::Result<AddedUser, Refusal>> {
    let new_user = &request.new_user;
    // Only a promotion depends on the stored values of the user.
    if new_user.staff_role.is_some() {
        lock_user(lease, &new_user.phone).await?;
    }
    let external_id = new_user.external_id.as_ref().map(ExternalId::as_str);
    let facts = lease.query(ADD_USER_FACTS).bind(new_user.phone.as_str()).bind(external_id);
    let row = lease.fetch_one(facts).await.map_err(failure)?;
    let facts = AddUserFacts {
        user: rows::get::<Option<Uuid>>(&row, "id")?.map(|_| rows::user(&row)).transpose()?,
        external_id_owner: rows::get::<Option<Uuid>>(&row, "external_id_owner")?.map(UserId),
    };
    let Decision { writes, outcome } = request.decide(&facts, code);
    let user = match outcome {
        Ok(user) => user,
        Err(refusal) => return Ok(Err(refusal)),
    };
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
    if let Some(entry) = &writes.audit {
        audit::add(lease, entry).await?;
    }
    Ok(Ok(AddedUser { user, ended_sessions, audit: writes.audit }))
}

pub(super) const SET_STAFF: &str =
    "UPDATE referral.users SET staff_role = $2, last_active = $3 WHERE id = $1";

async fn set_staff(lease: &mut AnyLease<'_>, user: &User) -> Result<()> {
    let update = lease.query(SET_STAFF).bind(user.id.0).bind(user.staff_role.map(StaffRole::as_str));
    lease.write_row(update.bind(user.last_active)).await
}
