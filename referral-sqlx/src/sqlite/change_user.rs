//! Changes of users by the host or by staff.

use referral_core::{
    ExternalId, Refusal, User, UserId,
    storage::{Decided, Decision, UserChangeFacts, UserChangeRequest},
};
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{
    batch::{Batch, no_facts},
    connection::Connection,
    rows,
    users::user_columns,
    write_queue::Decide,
};

/// Selects the user `$1`, and the owner of the external id `$2`.
pub(super) const CHANGE_USER_FACTS: &str = concat!(
    "SELECT ",
    user_columns!(),
    ", (SELECT id FROM referral_users WHERE external_id = $2) AS external_id_owner \
     FROM (SELECT 1) one LEFT JOIN referral_users u ON u.id = $1 AND u.erased_at IS NULL \
     LEFT JOIN referral_invitations i ON i.invitee = u.id"
);

impl Decide for UserChangeRequest {
    type Outcome = std::result::Result<User, Refusal>;

    fn push_facts(&self, batch: &mut Batch) {
        let external_id = self.external_id().map(ExternalId::as_str);
        batch.push(CHANGE_USER_FACTS).bind(self.user.0).bind(external_id);
    }

    async fn decide(
        self,
        facts: Option<SqliteRow>,
        _: &mut Connection<'_>,
        batch: &mut Batch,
    ) -> Decided<User> {
        let row = facts.ok_or_else(no_facts)?;
        let facts = UserChangeFacts {
            user: rows::get::<Option<Uuid>>(&row, "id")?.map(|_| rows::user(&row)).transpose()?,
            external_id_owner: rows::get::<Option<Uuid>>(&row, "external_id_owner")?.map(UserId),
        };
        let Decision { writes, outcome } = Self::decide(&self, &facts);
        if let Some(user) = &writes {
            push_change(batch, user);
        }
        Ok(outcome)
    }
}

/// Changes the columns that [`UserChange`](referral_core::UserChange) has. The search index has none of them.
pub(super) const CHANGE_HOST_DATA: &str =
    "UPDATE referral_users SET is_active = $2, external_id = $3, metadata = $4 WHERE id = $1";

fn push_change(batch: &mut Batch, user: &User) {
    batch
        .push_update(CHANGE_HOST_DATA)
        .bind(user.id.0)
        .bind(user.is_active)
        .bind(user.external_id.as_ref().map(ExternalId::as_str))
        .bind(user.metadata.to_string());
}
