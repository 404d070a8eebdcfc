//! Invitations, and the chain of inviters.

use referral_core::{
    Invitation, UserId,
    storage::{Ancestry, Result},
};

use super::{batch::Batch, connection::Connection, rows};
use crate::{encoding::time_to_micros, error::failure};

/// Selects whether `$2` is `$1` or one of its direct or indirect inviters. `UNION` visits each user once, so
/// the query ends even if there is a loop.
pub(super) const ANCESTRY_HAS: &str = "\
    WITH RECURSIVE ancestry (id) AS ( \
        SELECT $1 \
        UNION \
        SELECT i.inviter FROM ancestry l JOIN referral_invitations i ON i.invitee = l.id \
    ) \
    SELECT EXISTS (SELECT 1 FROM ancestry WHERE id = $2) AS has_invitee";

/// Walks from `inviter` up to the first inviter. The caller must be in a transaction that writes, so that no
/// invitation is added in the meantime.
pub(super) async fn ancestry(
    connection: &mut Connection<'_>,
    inviter: UserId,
    invitee: UserId,
) -> Result<Ancestry> {
    let ancestry = sqlx::query(ANCESTRY_HAS).bind(inviter.0).bind(invitee.0);
    let row = connection.fetch_one(ancestry).await.map_err(failure)?;
    Ok(if rows::get(&row, "has_invitee")? { Ancestry::WithInvitee } else { Ancestry::WithoutInvitee })
}

pub(super) const INVITATION: &str =
    "SELECT invitee, inviter, code, accepted_at, via FROM referral_invitations WHERE invitee = $1";

/// Reads the invitation of a user.
pub(super) async fn invitation(
    connection: &mut Connection<'_>,
    invitee: UserId,
) -> Result<Option<Invitation>> {
    let found = connection.fetch_optional(sqlx::query(INVITATION).bind(invitee.0)).await;
    found.map_err(failure)?.as_ref().map(rows::invitation).transpose()
}

const ADD_INVITATION: &str =
    "INSERT INTO referral_invitations (invitee, inviter, code, accepted_at, via) VALUES ($1, $2, $3, $4, $5)";

pub(super) const REMOVE_INVITATION: &str = "DELETE FROM referral_invitations WHERE invitee = $1";

/// Adds a statement that removes the invitation of a user, if there is one.
pub(super) fn push_removal(batch: &mut Batch, invitee: UserId) {
    batch.push(REMOVE_INVITATION).bind(invitee.0);
}

/// Adds a statement that stores an invitation. Both users must exist.
pub(super) fn push(batch: &mut Batch, invitation: &Invitation) {
    batch
        .push(ADD_INVITATION)
        .bind(invitation.invitee.0)
        .bind(invitation.inviter.0)
        .bind(invitation.code.as_str())
        .bind(time_to_micros(invitation.accepted_at))
        .bind(invitation.via.as_str());
}
