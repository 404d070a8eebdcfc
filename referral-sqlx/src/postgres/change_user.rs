//! Changes of users by the host or by staff, in transactions that lock the user.

use referral_core::{
    ExternalId, Refusal, User, UserId,
    storage::{Decision, Result, UserChangeFacts, UserChangeRequest},
};
use uuid::Uuid;

use super::{
    lease::AnyLease,
    profiles::lock_user,
    rows,
    users::{external_id_owner, user_columns},
};
use crate::error::failure;

/// Selects the user `$1`, and the owner of the external id `$2`.
pub(super) const CHANGE_USER_FACTS: &str = concat!(
    "SELECT ",
    user_columns!(),
    ", ",
    external_id_owner!("$2"),
    " FROM (SELECT 1) one LEFT JOIN referral.users u ON u.id = $1 AND u.erased_at IS NULL \
     LEFT JOIN referral.invitations i ON i.invitee = u.id"
);

/// Changes a user, in a transaction.
pub(super) async fn change_user(
    lease: &mut AnyLease<'_>,
    request: &UserChangeRequest,
) -> Result<std::result::Result<User, Refusal>> {
    lock_user(lease, request.user).await?;
    let facts = lease
        .query(CHANGE_USER_FACTS)
        .bind(request.user.0)
        .bind(request.external_id().map(ExternalId::as_str));
    let row = lease.fetch_one(facts).await.map_err(failure)?;
    let facts = UserChangeFacts {
        user: rows::get::<Option<Uuid>>(&row, "id")?.map(|_| rows::user(&row)).transpose()?,
        external_id_owner: rows::get::<Option<Uuid>>(&row, "external_id_owner")?.map(UserId),
    };
    let Decision { writes, outcome } = request.decide(&facts);
    if let Some(user) = &writes {
        write(lease, user).await?;
    }
    Ok(outcome)
}

/// Changes the columns that [`UserChange`](referral_core::UserChange) has.
pub(super) const CHANGE_HOST_DATA: &str =
    "UPDATE referral.users SET is_active = $2, external_id = $3, metadata = $4 WHERE id = $1";

async fn write(lease: &mut AnyLease<'_>, user: &User) -> Result<()> {
    let update = lease
        .query(CHANGE_HOST_DATA)
        .bind(user.id.0)
        .bind(user.is_active)
        .bind(user.external_id.as_ref().map(ExternalId::as_str))
        .bind(user.metadata.to_string());
    lease.write_row(update).await
}
