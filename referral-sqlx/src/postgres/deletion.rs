//! Deletion of users, of whom erased rows stay, immediately or after a grace period, in transactions that lock the
//! user.

use referral_core::{
    Refusal, User,
    storage::{
        AttemptWrites, Decision, DeletedUser, DeletionFacts, DeletionRequest, DeletionWrites, DueDeletion,
        Redemption, RedemptionFacts, Result, SessionSelection,
    },
};
use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    audit, code_requests,
    counters::{self, bind_keys, four_counters, global_counters},
    lease::Lease,
    profiles::lock_user,
    rows, sessions,
    sign_in::push_challenge,
    users::{has_other_admin, user_columns, with_limit},
    write::Write,
};
use crate::{error::failure, hook::Changes, rows::challenge_columns};

/// Locks all challenges of the phone of the user `$1`. The rows are locked in the order in which a sign-in
/// locks them: challenge, counters, user.
pub(super) const LOCK_CHALLENGES: &str = "\
    SELECT 1 FROM referral.challenges WHERE phone = (SELECT phone FROM referral.users WHERE id = $1) \
    ORDER BY number FOR UPDATE";

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
    " FROM (SELECT 1) one LEFT JOIN referral.challenges c ON c.id = $7 AND c.phone = $6 \
     LEFT JOIN referral.users u ON u.id = $8 AND u.erased_at IS NULL \
     LEFT JOIN referral.invitations i ON i.invitee = u.id"
);

async fn load(lease: &mut Lease, request: &DeletionRequest) -> Result<DeletionFacts> {
    let redemption = request.redemption.as_ref();
    let keys = redemption.map(Redemption::counters).unwrap_or_default();
    let facts = bind_keys(lease.query(DELETION_FACTS), &keys, 4)
        .bind(redemption.and_then(|code| code.global_counters().failed_attempts_since))
        .bind(redemption.map(|code| code.phone.as_str()))
        .bind(redemption.map(|code| code.challenge.0))
        .bind(request.user.0);
    let row = lease.fetch_one(facts).await.map_err(failure)?;
    let user = rows::get::<Option<Uuid>>(&row, "id")?;
    let mut facts = DeletionFacts {
        user: user.map(|_| rows::user(&row)).transpose()?,
        has_other_admin: false,
        redemption: match redemption {
            Some(redemption) => read(lease, &row, redemption).await?,
            None => RedemptionFacts::default(),
        },
    };
    if request.needs_other_admin(&facts) {
        facts.has_other_admin = has_other_admin(lease, request.user).await?;
    }
    Ok(facts)
}

/// Reads the facts of a redemption from a row with the columns of its counters, the state of the service, and
/// the challenge.
pub(super) async fn read(lease: &mut Lease, row: &PgRow, redemption: &Redemption) -> Result<RedemptionFacts> {
    let challenge = rows::get::<Option<Uuid>>(row, "challenge_id")?;
    Ok(RedemptionFacts {
        challenge: challenge.map(|_| rows::challenge(row, &redemption.phone)).transpose()?,
        counters: rows::counters(row, redemption.counters())?,
        global_counters: counters::global(lease, row, redemption.global_counters()).await?,
    })
}

/// Decides about a deletion, and stores the decision.
pub(super) async fn delete(
    lease: &mut Lease,
    request: &DeletionRequest,
) -> Result<std::result::Result<DeletedUser, Refusal>> {
    let challenges = lease.query(LOCK_CHALLENGES).bind(request.user.0);
    lease.execute(challenges).await.map_err(failure)?;
    let keys = request.redemption.as_ref().map(Redemption::counters).unwrap_or_default();
    counters::lock(lease, &keys).await?;
    lock_user(lease, request.user).await?;
    let facts = load(lease, request).await?;
    let Decision { writes, outcome } = request.decide(&facts);
    let mut ended_sessions = Vec::new();
    match &writes {
        DeletionWrites::Attempt(AttemptWrites { challenge, counters }) => {
            let mut write = Write::new();
            if let Some(challenge) = challenge {
                push_challenge(&mut write, facts.redemption.challenge.as_ref(), challenge)?;
            }
            counters::push(&mut write, &facts.redemption.counters, counters);
            write.execute(lease).await?;
        }
        DeletionWrites::Schedule { challenge, user, counters, audit } => {
            let mut write = Write::new();
            push_challenge(&mut write, facts.redemption.challenge.as_ref(), challenge)?;
            counters::push(&mut write, &facts.redemption.counters, counters);
            write.execute(lease).await?;
            let schedule = lease.query(SCHEDULE).bind(user.id.0).bind(user.deletion_at);
            lease.write_row(schedule).await?;
            ended_sessions = sessions::end(lease, user.id, SessionSelection::All, request.now).await?;
            if let Some(entry) = audit {
                audit::add(lease, entry).await?;
            }
        }
        DeletionWrites::Erase { user, counters, audit, code_requests: phones } => {
            counters::update(lease, &facts.redemption.counters, counters).await?;
            ended_sessions = sessions::end(lease, user.id, SessionSelection::All, request.now).await?;
            erase(lease, user, request.now).await?;
            if let Some(entry) = audit {
                audit::add(lease, entry).await?;
            }
            code_requests::delete(lease, phones).await?;
            lease.run_hook_for(Changes { deleted: Some(user), ..Changes::default() }).await?;
        }
    }
    Ok(outcome.map(|deleted| deleted.with_ended_sessions(ended_sessions)))
}

/// Selects users whose deletion is due at `$1`, after the one with the time `$2` and the id `$3`, at most
/// `{limit}`.
pub(super) const USERS_TO_DELETE: &str = "\
    SELECT id, deletion_at FROM referral.users \
    WHERE deletion_at <= $1 AND (deletion_at, id) > ( \
        coalesce($2, '-infinity'::timestamptz), coalesce($3, '00000000-0000-0000-0000-000000000000'::uuid) \
    ) ORDER BY deletion_at, id LIMIT {limit}";

/// Reads users whose deletion is due.
pub(super) async fn users_to_delete(
    lease: &mut Lease,
    now: OffsetDateTime,
    after: Option<&DueDeletion>,
    limit: u32,
) -> Result<Vec<DueDeletion>> {
    let due = lease
        .query(with_limit(USERS_TO_DELETE, limit))
        .bind(now)
        .bind(after.map(|due| due.deletion_at))
        .bind(after.map(|due| due.user.0));
    let due = lease.fetch_all(due).await.map_err(failure)?;
    due.iter().map(rows::due_deletion).collect()
}

/// Sets the time of the deletion of a user.
pub(super) const SCHEDULE: &str = "UPDATE referral.users SET deletion_at = $2 WHERE id = $1";

pub(super) const DELETE_SESSIONS: &str = "DELETE FROM referral.sessions WHERE user_id = $1";

pub(super) const DELETE_CHALLENGES: &str = "DELETE FROM referral.challenges WHERE phone = $1";

pub(super) const DELETE_SEARCH_KEYS: &str = "DELETE FROM referral.user_search WHERE user_id = $1";

pub(super) const ERASE_AUDIT_ENTRIES: &str =
    "UPDATE referral.audit_log SET reason = NULL, changes = '[]' WHERE user_id = $1";

/// Erases the columns of a user except the id, the invite code, the time of joining and the count of
/// invitees.
pub(super) const ERASE: &str = "\
    UPDATE referral.users SET phone = NULL, former_phone = NULL, phone_detached_at = NULL, email = NULL, \
                              first_name = NULL, last_name = NULL, external_id = NULL, metadata = '{}', \
                              staff_role = NULL, is_active = FALSE, last_login = NULL, last_active = NULL, \
                              deletion_at = NULL, erased_at = $2 \
    WHERE id = $1";

async fn erase(lease: &mut Lease, user: &User, now: OffsetDateTime) -> Result<()> {
    // The challenges of a detached phone belong to another person.
    if user.has_phone() {
        let challenges = lease.query(DELETE_CHALLENGES).bind(user.phone.as_str());
        lease.execute(challenges).await.map_err(failure)?;
    }
    for delete in [
        lease.query(DELETE_SESSIONS).bind(user.id.0),
        lease.query(DELETE_SEARCH_KEYS).bind(user.id.0),
        lease.query(ERASE_AUDIT_ENTRIES).bind(user.id.0),
    ] {
        lease.execute(delete).await.map_err(failure)?;
    }
    let erase = lease.query(ERASE).bind(user.id.0).bind(now);
    lease.write_row(erase).await
}
