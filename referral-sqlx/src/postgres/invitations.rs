//! Invitations. A lock excludes concurrent late acceptances, because a loop of invitations can include any
//! number of users.

use referral_core::{
    Invitation, User, UserId,
    storage::{Ancestry, Result},
};

use super::{
    lease::{AnyLease, Lease},
    rows,
    users::bind_search_keys,
    write::Write,
};
use crate::error::failure;

/// Locks late acceptances. It is a separate statement, so that the next statement sees the writes of earlier
/// holders of the lock.
const LOCK_LATE_ACCEPTANCE: &str = "SELECT 1 FROM referral.locks WHERE name = 'late_acceptance' FOR UPDATE";

/// Takes the lock for late acceptances until the end of the transaction.
pub(super) async fn lock_late_acceptance(lease: &mut AnyLease<'_>) -> Result<()> {
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
pub(super) async fn ancestry(lease: &mut AnyLease<'_>, inviter: UserId, invitee: UserId) -> Result<Ancestry> {
    let has_invitee = lease.query(ANCESTRY_HAS).bind(inviter.0).bind(invitee.0);
    let row = lease.fetch_one(has_invitee).await.map_err(failure)?;
    Ok(if rows::get(&row, "has_invitee")? { Ancestry::WithInvitee } else { Ancestry::WithoutInvitee })
}

pub(super) const INVITATION: &str =
    "SELECT invitee, inviter, code, accepted_at, via FROM referral.invitations WHERE invitee = $1";

/// Reads the invitation of a user.
pub(super) async fn invitation(lease: &mut Lease, invitee: UserId) -> Result<Option<Invitation>> {
    let found = lease.fetch_optional(lease.query(INVITATION).bind(invitee.0)).await;
    found.map_err(failure)?.as_ref().map(rows::invitation).transpose()
}

pub(super) const ADD_INVITATION: &str = "\
    INSERT INTO referral.invitations (invitee, inviter, code, accepted_at, via) \
    SELECT $1::uuid, $2::uuid, $3, $4::timestamptz, $5 WHERE $after RETURNING 1";

/// Adds a step that adds an invitation.
pub(super) fn push(write: &mut Write, invitation: &Invitation) {
    write
        .step("invited", ADD_INVITATION)
        .bind(invitation.invitee.0)
        .bind(invitation.inviter.0)
        .bind(invitation.code.as_str())
        .bind(invitation.accepted_at)
        .bind(invitation.via.as_str());
}

pub(super) const REMOVE_INVITATION: &str = "DELETE FROM referral.invitations WHERE invitee = $1";

/// Removes the invitation of a user, if there is one.
pub(super) async fn remove(lease: &mut AnyLease<'_>, invitee: UserId) -> Result<()> {
    let remove = lease.query(REMOVE_INVITATION).bind(invitee.0);
    lease.execute(remove).await.map_err(failure)?;
    Ok(())
}

/// Replaces the searched texts of a user. After an invitation, a search for its code finds the user.
pub(super) const CHANGE_SEARCH_KEYS: &str = "\
    UPDATE referral.user_search SET public = $2, private = $3, ngrams = $4 \
    WHERE user_id = $1 AND $after RETURNING 1";

/// Adds an invitation that `user` accepted late. Both users must exist.
pub(super) async fn add(lease: &mut Lease, invitation: &Invitation, user: &User) -> Result<()> {
    let mut write = Write::new();
    push(&mut write, invitation);
    bind_search_keys(write.step("searched", CHANGE_SEARCH_KEYS).bind(user.id.0), user);
    write.execute(lease).await
}
