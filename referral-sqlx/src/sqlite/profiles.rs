//! Edits of profiles.

use referral_core::{
    Email, InviteCode, Refusal, UserId,
    storage::{Ancestry, Decided, Decision, EditedProfile, Inviter, ProfileEdit, ProfileFacts, Result},
};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{
    counters::{self, bind_keys, four_counters},
    invitations, rows,
    users::{self, user_columns},
};
use crate::error::failure;

/// Selects the facts except the ancestry: four counters, the user `$5`, and the owners of the email address
/// and the invite code.
pub(super) const PROFILE_FACTS: &str = concat!(
    "SELECT ",
    four_counters!(),
    ", ",
    user_columns!(),
    ", (SELECT id FROM users WHERE email = $6) AS email_owner, \
       (SELECT id FROM users WHERE invite_code = $7) AS code_owner \
     FROM (SELECT 1) one LEFT JOIN users u ON u.id = $5 LEFT JOIN invitations i ON i.invitee = u.id"
);

async fn load(connection: &mut SqliteConnection, edit: &ProfileEdit) -> Result<ProfileFacts> {
    let email = edit.change.email.as_ref().and_then(Option::as_ref);
    let code = edit.change.invited_by_code.as_ref();
    let keys = edit.counters();
    let facts = bind_keys(sqlx::query(PROFILE_FACTS), &keys, 4)
        .bind(edit.user.0)
        .bind(email.map(Email::as_str))
        .bind(code.map(InviteCode::as_str));
    let row = facts.fetch_one(&mut *connection).await.map_err(failure)?;
    let user = rows::get::<Option<Uuid>>(&row, "id")?;
    let owner = rows::get::<Option<Uuid>>(&row, "code_owner")?.map(UserId);
    let mut facts = ProfileFacts {
        user: user.map(|_| rows::user(&row)).transpose()?,
        email_owner: rows::get::<Option<Uuid>>(&row, "email_owner")?.map(UserId),
        inviter: owner.zip(code.cloned()).map(|(id, code)| Inviter { id, code }),
        ancestry: Ancestry::NotWalked,
        counters: rows::counters(&row, keys)?,
    };
    if edit.needs_ancestry(&facts)
        && let Some(inviter) = &facts.inviter
    {
        facts.ancestry = invitations::ancestry(connection, inviter.id, edit.user).await?;
    }
    Ok(facts)
}

/// Decides about an edit, and stores the decision.
pub(super) async fn edit(
    connection: &mut SqliteConnection,
    edit: &ProfileEdit,
) -> Decided<EditedProfile, Vec<Refusal>> {
    let facts = load(connection, edit).await?;
    let Decision { writes, outcome } = edit.decide(&facts);
    if let Some(user) = &writes.user {
        users::change(connection, user).await?;
    }
    if let Some(invitation) = &writes.invitation {
        invitations::add(connection, invitation).await?;
    }
    counters::update(connection, &writes.counters).await?;
    Ok(outcome)
}
