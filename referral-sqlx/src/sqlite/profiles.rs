//! Edits of profiles.

use referral_core::{
    Email, InviteCode, Refusal, UserId,
    storage::{Ancestry, Decided, Decision, Inviter, ProfileEdit, ProfileFacts, ProfileOutcome},
};
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{
    Hook,
    batch::{Batch, no_facts},
    connection::Connection,
    counters::{self, bind_keys, four_counters},
    invitations, rows,
    users::{self, user_columns},
    write_queue::Decide,
};

/// Selects the facts except the ancestry: four counters, the user `$5`, and the owners of the email address
/// and the invite code.
pub(super) const PROFILE_FACTS: &str = concat!(
    "SELECT ",
    four_counters!(),
    ", ",
    user_columns!(),
    ", (SELECT id FROM referral_users WHERE email = $6) AS email_owner, \
       (SELECT id FROM referral_users WHERE invite_code = $7 AND erased_at IS NULL) AS code_owner \
     FROM (SELECT 1) one LEFT JOIN referral_users u ON u.id = $5 AND u.erased_at IS NULL \
     LEFT JOIN referral_invitations i ON i.invitee = u.id"
);

/// Edit of a profile.
pub(super) struct Edit {
    pub(super) request: ProfileEdit,
    pub(super) hook: Option<Hook>,
}

impl Decide for Edit {
    type Outcome = std::result::Result<ProfileOutcome, Vec<Refusal>>;

    fn push_facts(&self, batch: &mut Batch) {
        let request = &self.request;
        let email = request.change.email.as_ref().and_then(Option::as_ref);
        bind_keys(batch.push(PROFILE_FACTS), &request.counters(), 4)
            .bind(request.user.0)
            .bind(email.map(Email::as_str))
            .bind(request.change.invited_by_code.as_ref().map(InviteCode::as_str));
    }

    async fn decide(
        self,
        facts: Option<SqliteRow>,
        connection: &mut Connection<'_>,
        batch: &mut Batch,
    ) -> Decided<ProfileOutcome, Vec<Refusal>> {
        let Self { request, hook } = self;
        let row = facts.ok_or_else(no_facts)?;
        let user = rows::get::<Option<Uuid>>(&row, "id")?;
        let owner = rows::get::<Option<Uuid>>(&row, "code_owner")?.map(UserId);
        let code = request.change.invited_by_code.clone();
        let mut facts = ProfileFacts {
            user: user.map(|_| rows::user(&row)).transpose()?,
            email_owner: rows::get::<Option<Uuid>>(&row, "email_owner")?.map(UserId),
            inviter: owner.zip(code).map(|(id, code)| Inviter { id, code }),
            ancestry: Ancestry::NotWalked,
            counters: rows::counters(&row, request.counters())?,
        };
        if request.needs_ancestry(&facts)
            && let Some(inviter) = &facts.inviter
        {
            facts.ancestry = invitations::ancestry(connection, inviter.id, request.user).await?;
        }
        let Decision { writes, outcome } = request.decide(&facts);
        if let Some(user) = &writes.user {
            users::push_change(batch, user);
        }
        if let Some(invitation) = &writes.invitation {
            invitations::push(batch, invitation);
        }
        counters::push(batch, &writes.counters);
        if let Some(hook) = hook {
            batch.write_with_hook(connection, &hook, None, writes.invitation.as_ref()).await?;
        }
        Ok(outcome)
    }
}
