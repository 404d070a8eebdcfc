//! Deletion of users, of whom erased rows stay, immediately or after a grace period.

use referral_core::{
    Refusal, User,
    storage::{
        AttemptWrites, Decided, Decision, DeletedUser, DeletionFacts, DeletionRequest, DeletionWrites,
        DueDeletion, Redemption, RedemptionFacts, Result, SessionSelection,
    },
};
use sqlx::sqlite::SqliteRow;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Hook, audit,
    batch::{Batch, no_facts},
    code_requests,
    connection::Connection,
    counters::{self, bind_keys, four_counters, global_counters},
    rows, sessions,
    sign_in::push_challenge,
    users::{self, has_other_admin, user_columns},
    write_queue::Decide,
};
use crate::{encoding::time_to_micros, error::failure, hook::Changes, rows::challenge_columns};

/// Selects the facts for a deletion: four counters, the state of the service, the challenge `$7` if it
/// belongs to the phone `$6`, and the user `$8`.
pub(super) const DELETION_FACTS: &str = concat!(
    "SELECT ",
    four_counters!(),
    ", ",
    global_counters!("$5"),
    ", ",
    challenge_columns!(),
    ", ",
    user_columns!(),
    ", ",
    has_other_admin!("$8"),
    " FROM (SELECT 1) one LEFT JOIN referral_challenges c ON c.id = $7 AND c.phone = $6 \
     LEFT JOIN referral_users u ON u.id = $8 AND u.erased_at IS NULL \
     LEFT JOIN referral_invitations i ON i.invitee = u.id"
);

/// Deletion of a user.
pub(super) struct Deletion {
    pub(super) request: DeletionRequest,
    pub(super) hook: Option<Hook>,
}

impl Decide for Deletion {
    type Outcome = std::result::Result<DeletedUser, Refusal>;

    fn push_facts(&self, batch: &mut Batch) {
        let redemption = self.request.redemption.as_ref();
        let keys = redemption.map(Redemption::counters).unwrap_or_default();
        let since = redemption.and_then(|code| code.global_counters().failed_attempts_since);
        bind_keys(batch.push(DELETION_FACTS), &keys, 4)
            .bind(since.map(time_to_micros))
            .bind(redemption.map(|code| code.phone.as_str()))
            .bind(redemption.map(|code| code.challenge.0))
            .bind(self.request.user.0);
    }

    async fn decide(
        self,
        facts: Option<SqliteRow>,
        connection: &mut Connection<'_>,
        batch: &mut Batch,
    ) -> Decided<DeletedUser> {
        let Self { request, hook } = self;
        let row = facts.ok_or_else(no_facts)?;
        let user = rows::get::<Option<Uuid>>(&row, "id")?;
        let facts = DeletionFacts {
            user: user.map(|_| rows::user(&row)).transpose()?,
            has_other_admin: rows::get(&row, "has_other_admin")?,
            redemption: match &request.redemption {
                Some(redemption) => read(connection, &row, redemption).await?,
                None => RedemptionFacts::default(),
            },
        };
        let Decision { writes, outcome } = request.decide(&facts);
        let mut ended_sessions = Vec::new();
        match &writes {
            DeletionWrites::Attempt(AttemptWrites { challenge, counters }) => {
                if let Some(challenge) = challenge {
                    push_challenge(batch, challenge);
                }
                counters::push(batch, counters);
            }
            DeletionWrites::Schedule { challenge, user, counters, audit } => {
                ended_sessions =
                    sessions::end(connection, user.id, SessionSelection::All, request.now).await?;
                push_challenge(batch, challenge);
                let schedule = batch.push_update(SCHEDULE).bind(user.id.0);
                schedule.bind(user.deletion_at.map(time_to_micros));
                counters::push(batch, counters);
                if let Some(entry) = audit {
                    audit::push(batch, entry)?;
                }
            }
            DeletionWrites::Erase { user, counters, audit, code_requests: phones } => {
                ended_sessions =
                    sessions::end(connection, user.id, SessionSelection::All, request.now).await?;
                push_erasure(batch, user, request.now);
                code_requests::push_deletion(batch, phones);
                counters::push(batch, counters);
                if let Some(entry) = audit {
                    audit::push(batch, entry)?;
                }
                if let Some(hook) = hook {
                    let changes = Changes { deleted: Some(user), ..Changes::default() };
                    batch.write_changes_with_hook(connection, &hook, changes).await?;
                }
            }
        }
        Ok(outcome.map(|deleted| deleted.with_ended_sessions(ended_sessions)))
    }
}

/// Reads the facts of a redemption from a row with the columns of its counters, the state of the service, and
/// the challenge.
pub(super) async fn read(
    connection: &mut Connection<'_>,
    row: &SqliteRow,
    redemption: &Redemption,
) -> Result<RedemptionFacts> {
    let challenge = rows::get::<Option<Uuid>>(row, "challenge_id")?;
    Ok(RedemptionFacts {
        challenge: challenge.map(|_| rows::challenge(row, &redemption.phone)).transpose()?,
        counters: rows::counters(row, redemption.counters())?,
        global_counters: counters::global(connection, row, redemption.global_counters()).await?,
    })
}

/// Selects users whose deletion is due at `$1`, after the one with the time `$2` and the id `$3`.
pub(super) const USERS_TO_DELETE: &str = "\
    SELECT id, deletion_at FROM referral_users WHERE deletion_at <= $1 AND (deletion_at, id) > ($2, $3) \
    ORDER BY deletion_at, id LIMIT $4 + 0";

/// Reads users whose deletion is due.
pub(super) async fn users_to_delete(
    connection: &mut Connection<'_>,
    now: OffsetDateTime,
    after: Option<&DueDeletion>,
    limit: u32,
) -> Result<Vec<DueDeletion>> {
    let (time, id) =
        after.map_or((i64::MIN, Uuid::nil()), |due| (time_to_micros(due.deletion_at), due.user.0));
    let due = sqlx::query(USERS_TO_DELETE).bind(time_to_micros(now)).bind(time).bind(id).bind(limit);
    let due = connection.fetch_all(due).await.map_err(failure)?;
    due.iter().map(rows::due_deletion).collect()
}

/// Sets the time of the deletion of a user.
pub(super) const SCHEDULE: &str = "UPDATE referral_users SET deletion_at = $2 WHERE id = $1";

pub(super) const DELETE_SESSIONS: &str = "DELETE FROM referral_sessions WHERE user_id = $1";

pub(super) const DELETE_CHALLENGES: &str = "DELETE FROM referral_challenges WHERE phone = $1";

pub(super) const ERASE_AUDIT_ENTRIES: &str =
    "UPDATE referral_audit_log SET reason = NULL, changes = '[]' WHERE user_id = $1";

/// Erases the columns of a user except the id, the invite code, the time of joining and the count of
/// invitees.
pub(super) const ERASE: &str = "\
    UPDATE referral_users SET phone = NULL, former_phone = NULL, phone_detached_at = NULL, email = NULL, \
                              first_name = NULL, last_name = NULL, external_id = NULL, metadata = '{}', \
                              staff_role = NULL, is_active = 0, last_login = NULL, last_active = NULL, \
                              deletion_at = NULL, search_public = '', search_private = '', erased_at = $2 \
    WHERE id = $1";

fn push_erasure(batch: &mut Batch, user: &User, now: OffsetDateTime) {
    batch.push(DELETE_SESSIONS).bind(user.id.0);
    // The challenges of a detached phone belong to another person.
    if user.has_phone() {
        batch.push(DELETE_CHALLENGES).bind(user.phone.as_str());
    }
    users::push_search_removal(batch, user.id);
    batch.push(ERASE_AUDIT_ENTRIES).bind(user.id.0);
    batch.push_update(ERASE).bind(user.id.0).bind(time_to_micros(now));
}
