//! Users that are added without a sign-in, and users that become staff.

use referral_core::{
    ExternalId, Refusal, UserId,
    storage::{AddUserFacts, AddUserRequest, AddedUser, Decided, Decision, SessionSelection, UserWrite},
};
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{
    Hook, audit,
    batch::{Batch, no_facts},
    connection::Connection,
    rows, sessions,
    users::{self, free_code, json_codes, user_columns},
    write_queue::Decide,
};

/// Selects the user with the phone `$1`, and an invite code and the owner of the external id `$3` for a new
/// user.
pub(super) const ADD_USER_FACTS: &str = concat!(
    "SELECT ",
    user_columns!(),
    ", ",
    free_code!("$2"),
    " AS free_code, (SELECT id FROM referral_users WHERE external_id = $3) AS external_id_owner \
     FROM (SELECT 1) one LEFT JOIN referral_users u ON u.phone = $1 \
     LEFT JOIN referral_invitations i ON i.invitee = u.id"
);

/// Request to add a user or make one staff.
pub(super) struct AddUser {
    pub(super) request: AddUserRequest,
    pub(super) hook: Option<Hook>,
}

impl Decide for AddUser {
    type Outcome = std::result::Result<AddedUser, Refusal>;

    fn push_facts(&self, batch: &mut Batch) {
        let new_user = &self.request.new_user;
        batch
            .push(ADD_USER_FACTS)
            .bind(new_user.phone.as_str())
            .bind(json_codes(&new_user.invite_codes))
            .bind(new_user.external_id.as_ref().map(ExternalId::as_str));
    }

    async fn decide(
        self,
        facts: Option<SqliteRow>,
        connection: &mut Connection<'_>,
        batch: &mut Batch,
    ) -> Decided<AddedUser> {
        let Self { request, hook } = self;
        let row = facts.ok_or_else(no_facts)?;
        let facts = AddUserFacts {
            user: rows::get::<Option<Uuid>>(&row, "id")?.map(|_| rows::user(&row)).transpose()?,
            external_id_owner: rows::get::<Option<Uuid>>(&row, "external_id_owner")?.map(UserId),
        };
        let Decision { writes, outcome } = request.decide(&facts, &rows::free_code(&row)?);
        let user = match outcome {
            Ok(user) => user,
            Err(refusal) => return Ok(Err(refusal)),
        };
        match &writes.user {
            Some(UserWrite::Add(user)) => users::push_new(batch, user),
            Some(UserWrite::Change(user)) => users::push_change(batch, user),
            None => {}
        }
        if let Some(hook) = hook {
            let added = writes.user.as_ref().and_then(UserWrite::added);
            batch.write_with_hook(connection, &hook, added, None).await?;
        }
        let ended_sessions = if writes.ends_sessions {
            sessions::end(connection, user.id, SessionSelection::All, request.now).await?
        } else {
            Vec::new()
        };
        if let Some(entry) = &writes.audit {
            audit::push(batch, entry)?;
        }
        Ok(Ok(AddedUser { user, ended_sessions, audit: writes.audit }))
    }
}
