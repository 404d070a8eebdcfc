//! Invitations that existing users accept late. A lock excludes concurrent ones, because a loop of
//! invitations can include any number of users.

use referral_core::{
    Invitation, User, UserId,
    storage::{Ancestry, Result},
};

use super::{lease::Lease, rows, users::bind_search_keys, write::Values};
use crate::error::failure;

/// Locks late acceptances. It is a separate statement, so that the next statement sees the writes of earlier
/// holders of the lock.
const LOCK_LATE_ACCEPTANCE: &str = "SELECT 1 FROM referral.locks WHERE name = 'late_acceptance' FOR UPDATE";

/// Takes the lock for late acceptances until the end of the transaction.
pub(super) async fn lock_late_acceptance(lease: &mut Lease) -> Result<()> {
    lease.fetch_one(lease.query(LOCK_LATE_ACCEPTANCE)).await.map_err(failure)?;
    Ok(())
}

/// Selects whether `$2` is `$1` or one of its direct or indirect inviters. `UNION` visits each user once, so
/// the query ends even if there is a loop.
pub(super) const ANCESTRY_HAS: &str = "\
    WITH RECURSIVE ancestry (id) AS ( \
        SELECT $1::uuid \
        UNION \
        SELECT i.inviter FROM ancestry l JOIN referral.invitations i ON i.invitee = l.id \
    ) \
    SELECT EXISTS (SELECT 1 FROM ancestry WHERE id = $2) AS has_invitee";

/// Walks from `inviter` up to the first inviter. The caller must hold the lock for late acceptances.
pub(super) async fn ancestry(lease: &mut Lease, inviter: UserId, invitee: UserId) -> Result<Ancestry> {
    let has_invitee = lease.query(ANCESTRY_HAS).bind(inviter.0).bind(invitee.0);
    let row = lease.fetch_one(has_invitee).await.map_err(failure)?;
    Ok(if rows::get(&row, "has_invitee")? { Ancestry::WithInvitee } else { Ancestry::WithoutInvitee })
}

/// Adds an invitation of an existing user. From then on, a search for its code finds the user.
pub(super) const ADD_INVITATION: &str = "\
    WITH invited AS ( \
        INSERT INTO referral.invitations (invitee, inviter, code, accepted_at, via) \
        VALUES ($1, $2, $3, $4, $5) RETURNING 1 \
    ) \
    UPDATE referral.user_search SET public = $6, private = $7, ngrams = $8 \
    WHERE user_id = $1 AND EXISTS (SELECT 1 FROM invited)";

/// Adds an invitation that `user` accepted late. Both users must exist.
pub(super) async fn add(lease: &mut Lease, invitation: &Invitation, user: &User) -> Result<()> {
    let mut insert = Values::new();
    bind(insert.push(ADD_INVITATION, ""), invitation);
    bind_search_keys(&mut insert, user);
    lease.write_row(lease.compose(insert)?).await
}

/// Binds the values of an invitation, in the order of the columns in [`ADD_INVITATION`].
pub(super) fn bind(values: &mut Values, invitation: &Invitation) {
    values
        .bind(invitation.invitee.0)
        .bind(invitation.inviter.0)
        .bind(invitation.code.as_str())
        .bind(invitation.accepted_at)
        .bind(invitation.via.as_str());
}
