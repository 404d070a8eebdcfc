//! Changes of users by the host or by staff.

use referral_core::{
    Email, ExternalId, InviteCode, Name, PhoneNumber, Refusal, StaffRole, User, UserId,
    storage::{
        Ancestry, ChangedUser, Decided, Decision, InvitationWrite, Inviter, Result, SearchKeys,
        SessionSelection, UserChangeFacts, UserChangeRequest, UserChangeWrites,
    },
};
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{
    audit,
    batch::{Batch, no_facts},
    connection::Connection,
    invitations, rows, sessions,
    users::{self, has_other_admin, user_columns},
    write_queue::Decide,
};
use crate::encoding::time_to_micros;

/// Selects the user `$1`, the owners of the email address `$2`, the external id `$3`, the invite code `$4` and the
/// phone `$5`, and whether there is another active admin.
pub(super) const CHANGE_USER_FACTS: &str = concat!(
    "SELECT ",
    user_columns!(),
    ", (SELECT id FROM referral_users WHERE email = $2) AS email_owner, \
       (SELECT id FROM referral_users WHERE external_id = $3) AS external_id_owner, \
       (SELECT id FROM referral_users WHERE invite_code = $4 AND erased_at IS NULL) AS code_owner, \
       (SELECT id FROM referral_users WHERE phone = $5) AS phone_owner, ",
    has_other_admin!("$1"),
    " FROM (SELECT 1) one LEFT JOIN referral_users u ON u.id = $1 AND u.erased_at IS NULL \
     LEFT JOIN referral_invitations i ON i.invitee = u.id"
);

impl Decide for UserChangeRequest {
    type Outcome = std::result::Result<ChangedUser, Refusal>;

    fn push_facts(&self, batch: &mut Batch) {
        batch
            .push(CHANGE_USER_FACTS)
            .bind(self.user.0)
            .bind(self.email().map(Email::as_str))
            .bind(self.external_id().map(ExternalId::as_str))
            .bind(self.invited_by_code().map(InviteCode::as_str))
            .bind(self.phone().map(PhoneNumber::as_str));
    }

    async fn decide(
        self,
        facts: Option<SqliteRow>,
        connection: &mut Connection<'_>,
        batch: &mut Batch,
    ) -> Decided<ChangedUser> {
        let row = facts.ok_or_else(no_facts)?;
        let owner = |column| rows::get::<Option<Uuid>>(&row, column).map(|id| id.map(UserId));
        let mut facts = UserChangeFacts {
            user: rows::get::<Option<Uuid>>(&row, "id")?.map(|_| rows::user(&row)).transpose()?,
            email_owner: owner("email_owner")?,
            external_id_owner: owner("external_id_owner")?,
            phone_owner: owner("phone_owner")?,
            inviter: owner("code_owner")?
                .zip(self.invited_by_code().cloned())
                .map(|(id, code)| Inviter { id, code }),
            ancestry: Ancestry::NotWalked,
            has_other_admin: rows::get(&row, "has_other_admin")?,
        };
        if self.needs_ancestry(&facts)
            && let Some(inviter) = &facts.inviter
        {
            facts.ancestry = invitations::ancestry(connection, inviter.id, self.user).await?;
        }
        let Decision { writes, outcome } = Self::decide(&self, &facts);
        if let Some((before, after)) = facts.user.as_ref().zip(writes.user.as_ref()) {
            push_change(batch, before, after);
        }
        let mut ended_sessions = Vec::new();
        if writes.ends_sessions {
            ended_sessions = sessions::end(connection, self.user, SessionSelection::All, self.now).await?;
        }
        push_others(batch, self.user, &writes)?;
        Ok(outcome.map(|changed| changed.with_ended_sessions(ended_sessions)))
    }
}

/// Changes all columns that [`UserChange`](referral_core::UserChange) has.
pub(super) const CHANGE_ACCOUNT: &str = "\
    UPDATE referral_users SET is_active = $2, staff_role = $3, external_id = $4, metadata = $5, email = $6, \
                     first_name = $7, last_name = $8, deletion_at = $9 \
    WHERE id = $1";

fn push_change(batch: &mut Batch, before: &User, after: &User) {
    let moves_phone = before.current_phone() != after.current_phone();
    if moves_phone {
        users::push_phone_link(batch, before, after);
    }
    // The keys of different names can be equal.
    if moves_phone || SearchKeys::of(before) != SearchKeys::of(after) {
        users::push_change(batch, after);
    }
    batch
        .push_update(CHANGE_ACCOUNT)
        .bind(after.id.0)
        .bind(after.is_active)
        .bind(after.staff_role.map(StaffRole::as_str))
        .bind(after.external_id.as_ref().map(ExternalId::as_str))
        .bind(after.metadata.to_string())
        .bind(after.email.as_ref().map(Email::as_str))
        .bind(after.first_name.as_ref().map(Name::as_str))
        .bind(after.last_name.as_ref().map(Name::as_str))
        .bind(after.deletion_at.map(time_to_micros));
}

fn push_others(batch: &mut Batch, user: UserId, writes: &UserChangeWrites) -> Result<()> {
    if let Some(write) = &writes.invitation {
        invitations::push_removal(batch, user);
        if let InvitationWrite::Put(invitation) = write {
            invitations::push(batch, invitation);
        }
    }
    match &writes.audit {
        Some(entry) => audit::push(batch, entry),
        None => Ok(()),
    }
}
