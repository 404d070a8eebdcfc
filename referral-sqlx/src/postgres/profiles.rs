//! Edits of profiles, in transactions that lock the user.

use referral_core::{
    Email, InviteCode, Name, Refusal, User, UserId,
    storage::{Ancestry, Decision, Inviter, ProfileEdit, ProfileFacts, ProfileOutcome, Result},
};
use uuid::Uuid;

use super::{
    counters::{self, bind_keys, four_counters},
    invitations,
    lease::{AnyLease, Lease},
    rows,
    users::{bind_search_keys, user_columns},
    write::Values,
};
use crate::error::failure;

/// Locks a user for a change that may change a unique column. A concurrent request that
/// accepts the invite code of the user then waits from its start, and not in the middle.
const LOCK_USER: &str = "SELECT 1 FROM referral.users WHERE id = $1 FOR UPDATE";

pub(super) async fn lock_user(lease: &mut AnyLease<'_>, id: UserId) -> Result<()> {
    let lock = lease.query(LOCK_USER).bind(id.0);
    lease.execute(lock).await.map_err(failure)?;
    Ok(())
}

/// Selects the facts except the ancestry: four counters, the user `$5`, and the owners of the email address
/// and the invite code.
pub(super) const PROFILE_FACTS: &str = concat!(
    "SELECT ",
    four_counters!(),
    ", ",
    user_columns!(),
    ", (SELECT id FROM referral.users WHERE email = $6) AS email_owner, \
       (SELECT id FROM referral.users WHERE invite_code = $7 AND erased_at IS NULL) AS code_owner \
     FROM (SELECT 1) one LEFT JOIN referral.users u ON u.id = $5 AND u.erased_at IS NULL \
     LEFT JOIN referral.invitations i ON i.invitee = u.id"
);

async fn load(lease: &mut Lease, edit: &ProfileEdit) -> Result<ProfileFacts> {
    let email = edit.change.email.as_ref().and_then(Option::as_ref);
    let code = edit.change.invited_by_code.as_ref();
    let keys = edit.counters();
    let facts = bind_keys(lease.query(PROFILE_FACTS), &keys, 4)
        .bind(edit.user.0)
        .bind(email.map(Email::as_str))
        .bind(code.map(InviteCode::as_str));
    let row = lease.fetch_one(facts).await.map_err(failure)?;
    let user = rows::get::<Option<Uuid>>(&row, "id")?;
    let owner = rows::get::<Option<Uuid>>(&row, "code_owner")?.map(UserId);
    Ok(ProfileFacts {
        user: user.map(|_| rows::user(&row)).transpose()?,
        email_owner: rows::get::<Option<Uuid>>(&row, "email_owner")?.map(UserId),
        inviter: owner.zip(code.cloned()).map(|(id, code)| Inviter { id, code }),
        ancestry: Ancestry::NotWalked,
        counters: rows::counters(&row, keys)?,
    })
}

/// Decides about an edit, and stores the decision. Returns `None` if the edit needs the lock for late
/// acceptances and `late` is `false`. With `late`, the lock is taken before all others. A transaction that
/// locks the row of the user first could deadlock.
pub(super) async fn edit(
    lease: &mut Lease,
    edit: &ProfileEdit,
    late: bool,
) -> Result<Option<std::result::Result<ProfileOutcome, Vec<Refusal>>>> {
    if late {
        invitations::lock_late_acceptance(lease).await?;
    }
    counters::lock(lease, &edit.counters()).await?;
    lock_user(lease, edit.user).await?;
    let mut facts = load(lease, edit).await?;
    if edit.needs_ancestry(&facts)
        && let Some(inviter) = &facts.inviter
    {
        if !late {
            return Ok(None);
        }
        facts.ancestry = invitations::ancestry(lease, inviter.id, edit.user).await?;
    }
    let Decision { writes, outcome } = edit.decide(&facts);
    if let Some(user) = &writes.user {
        change(lease, user).await?;
        if let Some(invitation) = &writes.invitation {
            invitations::add(lease, invitation, user).await?;
        }
    }
    counters::update(lease, &facts.counters, &writes.counters).await?;
    lease.run_hook(None, writes.invitation.as_ref()).await?;
    Ok(Some(outcome))
}

pub(super) const CHANGE_PROFILE: &str = "\
    WITH changed AS ( \
        UPDATE referral.users SET email = $2, first_name = $3, last_name = $4 WHERE id = $1 RETURNING 1 \
    ) \
    UPDATE referral.user_search SET public = $5, private = $6, ngrams = $7 \
    WHERE user_id = $1 AND EXISTS (SELECT 1 FROM changed)";

async fn change(lease: &mut Lease, user: &User) -> Result<()> {
    let mut update = Values::new();
    update
        .push(CHANGE_PROFILE)
        .bind(user.id.0)
        .bind(user.email.as_ref().map(Email::as_str))
        .bind(user.first_name.as_ref().map(Name::as_str))
        .bind(user.last_name.as_ref().map(Name::as_str));
    bind_search_keys(&mut update, user);
    lease.write_row(lease.compose(update)?).await
}
