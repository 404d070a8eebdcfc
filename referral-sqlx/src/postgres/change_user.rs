//! Changes of users by the host or by staff, in transactions that lock the user.

use referral_core::{
    Email, ExternalId, InviteCode, Name, PhoneNumber, Refusal, StaffRole, User, UserId,
    storage::{
        Ancestry, ChangedUser, Decision, InvitationWrite, Inviter, Result, SearchKeys, SessionSelection,
        UserChangeFacts, UserChangeRequest, UserChangeWrites,
    },
};
use uuid::Uuid;

use super::{
    audit,
    deletion::DELETE_SEARCH_KEYS,
    invitations::{self, CHANGE_SEARCH_KEYS},
    lease::AnyLease,
    profiles::lock_user,
    rows, sessions,
    users::{ADD_SEARCH_KEYS, bind_search_keys, external_id_owner, has_other_admin, user_columns},
    write::Write,
};
use crate::error::failure;

/// Selects the user `$1`, and the owners of the external id `$2`, the email address `$3`, the invite code `$4` and
/// the phone `$5`.
pub(super) const CHANGE_USER_FACTS: &str = concat!(
    "SELECT ",
    user_columns!(),
    ", ",
    external_id_owner!("$2"),
    ", (SELECT id FROM referral.users WHERE email = $3) AS email_owner, \
       (SELECT id FROM referral.users WHERE invite_code = $4 AND erased_at IS NULL) AS code_owner, \
       (SELECT id FROM referral.users WHERE phone = $5) AS phone_owner \
     FROM (SELECT 1) one LEFT JOIN referral.users u ON u.id = $1 AND u.erased_at IS NULL \
     LEFT JOIN referral.invitations i ON i.invitee = u.id"
);

/// Changes a user, in a transaction.
pub(super) async fn change_user(
    lease: &mut AnyLease<'_>,
    request: &UserChangeRequest,
) -> Result<std::result::Result<ChangedUser, Refusal>> {
    if request.invited_by_code().is_some() {
        invitations::lock_late_acceptance(lease).await?;
    }
    lock_user(lease, request.user).await?;
    let facts = load(lease, request).await?;
    let Decision { writes, outcome } = request.decide(&facts);
    if let Some(before) = &facts.user {
        write(lease, before, &writes).await?;
    }
    let mut ended_sessions = Vec::new();
    if writes.ends_sessions {
        ended_sessions = sessions::end(lease, request.user, SessionSelection::All, request.now).await?;
    }
    if let Some(entry) = &writes.audit {
        audit::add(lease, entry).await?;
    }
    Ok(outcome.map(|changed| changed.with_ended_sessions(ended_sessions)))
}

async fn load(lease: &mut AnyLease<'_>, request: &UserChangeRequest) -> Result<UserChangeFacts> {
    let facts = lease
        .query(CHANGE_USER_FACTS)
        .bind(request.user.0)
        .bind(request.external_id().map(ExternalId::as_str))
        .bind(request.email().map(Email::as_str))
        .bind(request.invited_by_code().map(InviteCode::as_str))
        .bind(request.phone().map(PhoneNumber::as_str));
    let row = lease.fetch_one(facts).await.map_err(failure)?;
    let owner = |column| rows::get::<Option<Uuid>>(&row, column).map(|id| id.map(UserId));
    let code = request.invited_by_code().cloned();
    let mut facts = UserChangeFacts {
        user: rows::get::<Option<Uuid>>(&row, "id")?.map(|_| rows::user(&row)).transpose()?,
        email_owner: owner("email_owner")?,
        external_id_owner: owner("external_id_owner")?,
        phone_owner: owner("phone_owner")?,
        inviter: owner("code_owner")?.zip(code).map(|(id, code)| Inviter { id, code }),
        ancestry: Ancestry::NotWalked,
        has_other_admin: false,
    };
    if request.needs_ancestry(&facts)
        && let Some(inviter) = &facts.inviter
    {
        facts.ancestry = invitations::ancestry(lease, inviter.id, request.user).await?;
    }
    if request.needs_other_admin(&facts) {
        facts.has_other_admin = has_other_admin(lease, request.user).await?;
    }
    Ok(facts)
}

/// Changes all columns that [`UserChange`](referral_core::UserChange) has.
pub(super) const CHANGE_USER: &str = "\
    UPDATE referral.users SET email = $2, first_name = $3, last_name = $4, is_active = $5, staff_role = $6, \
                              external_id = $7, metadata = $8, phone = $9, former_phone = $10, \
                              phone_detached_at = $11, last_active = $12, deletion_at = $13 \
    WHERE id = $1 AND $after RETURNING 1";

async fn write(lease: &mut AnyLease<'_>, before: &User, writes: &UserChangeWrites) -> Result<()> {
    let Some(user) = &writes.user else {
        return Ok(());
    };
    if writes.invitation.is_some() {
        invitations::remove(lease, user.id).await?;
    }
    let mut write = Write::new();
    write
        .step("changed", CHANGE_USER)
        .bind(user.id.0)
        .bind(user.email.as_ref().map(Email::as_str))
        .bind(user.first_name.as_ref().map(Name::as_str))
        .bind(user.last_name.as_ref().map(Name::as_str))
        .bind(user.is_active)
        .bind(user.staff_role.map(StaffRole::as_str))
        .bind(user.external_id.as_ref().map(ExternalId::as_str))
        .bind(user.metadata.to_string())
        .bind(user.current_phone().map(PhoneNumber::as_str))
        .bind(user.former_phone().map(PhoneNumber::as_str))
        .bind(user.phone_detached_at)
        .bind(user.last_active)
        .bind(user.deletion_at);
    match (before.has_phone(), user.has_phone()) {
        (true, true) if SearchKeys::of(before) != SearchKeys::of(user) => {
            bind_search_keys(write.step("searched", CHANGE_SEARCH_KEYS).bind(user.id.0), user);
        }
        (true, false) => {
            let delete = format!("{DELETE_SEARCH_KEYS} AND $after RETURNING 1");
            write.step("searched", &delete).bind(user.id.0);
        }
        (false, true) => {
            bind_search_keys(write.step("searched", ADD_SEARCH_KEYS).bind(user.id.0), user);
        }
        _ => {}
    }
    if let Some(InvitationWrite::Put(invitation)) = &writes.invitation {
        invitations::push(&mut write, invitation);
    }
    write.execute(lease).await
}
