//! Change of the phone of a user, in transactions that lock the user.

use referral_core::{
    Refusal, User, UserId,
    storage::{
        AttemptWrites, ChangedPhone, Decision, PhoneChangeFacts, PhoneChangeRequest, PhoneChangeWrites,
        Result, SessionSelection,
    },
};
use uuid::Uuid;

use super::{
    audit,
    counters::{self, bind_keys, four_counters, global_counters},
    deletion,
    lease::Lease,
    profiles::lock_user,
    rows, sessions,
    sign_in::push_challenge,
    users::{bind_search_keys, user_columns},
    write::{Values, Write},
};
use crate::{error::failure, hook::Changes, rows::challenge_columns};

/// Locks the challenge `$1` of the phone `$2`. The rows are locked in the order in which a sign-in locks
/// them: challenge, counters, user.
pub(super) const LOCK_CHALLENGE: &str =
    "SELECT 1 FROM referral.challenges WHERE id = $1 AND phone = $2 FOR NO KEY UPDATE";

/// Selects the facts for a change of a phone: four counters, the state of the service, the challenge `$7` if
/// it belongs to the new phone `$6`, the user with the new phone, and the user `$8`.
pub(super) const PHONE_CHANGE_FACTS: &str = concat!(
    "SELECT ",
    four_counters!(),
    ", ",
    global_counters!("$5"),
    ", ",
    challenge_columns!(),
    ", ",
    user_columns!(),
    ", (SELECT id FROM referral.users WHERE phone = $6) AS phone_owner \
     FROM (SELECT 1) one LEFT JOIN referral.challenges c ON c.id = $7 AND c.phone = $6 \
     LEFT JOIN referral.users u ON u.id = $8 AND u.erased_at IS NULL \
     LEFT JOIN referral.invitations i ON i.invitee = u.id"
);

async fn load(lease: &mut Lease, request: &PhoneChangeRequest) -> Result<PhoneChangeFacts> {
    let redemption = &request.redemption;
    let keys = redemption.counters();
    let facts = bind_keys(lease.query(PHONE_CHANGE_FACTS), &keys, 4)
        .bind(redemption.global_counters().failed_attempts_since)
        .bind(redemption.phone.as_str())
        .bind(redemption.challenge.0)
        .bind(request.user.0);
    let row = lease.fetch_one(facts).await.map_err(failure)?;
    let user = rows::get::<Option<Uuid>>(&row, "id")?;
    Ok(PhoneChangeFacts {
        user: user.map(|_| rows::user(&row)).transpose()?,
        owner: rows::get::<Option<Uuid>>(&row, "phone_owner")?.map(UserId),
        redemption: deletion::read(lease, &row, redemption).await?,
    })
}

/// Decides about a change of a phone, and stores the decision. Another user who gets the phone in the
/// meantime makes the write conflict with the unique key, and the request starts again.
pub(super) async fn change_phone(
    lease: &mut Lease,
    request: &PhoneChangeRequest,
) -> Result<std::result::Result<ChangedPhone, Refusal>> {
    let redemption = &request.redemption;
    let challenge = lease.query(LOCK_CHALLENGE).bind(redemption.challenge.0).bind(redemption.phone.as_str());
    lease.execute(challenge).await.map_err(failure)?;
    counters::lock(lease, &redemption.counters()).await?;
    lock_user(lease, request.user).await?;
    let facts = load(lease, request).await?;
    let Decision { writes, outcome } = request.decide(&facts);
    let stored = &facts.redemption;
    let mut write = Write::new();
    let (mut ended_sessions, mut entry) = (Vec::new(), None);
    match &writes {
        PhoneChangeWrites::Attempt(AttemptWrites { challenge, counters }) => {
            if let Some(challenge) = challenge {
                push_challenge(&mut write, stored.challenge.as_ref(), challenge)?;
            }
            counters::push(&mut write, &stored.counters, counters);
            write.execute(lease).await?;
        }
        PhoneChangeWrites::Change { challenge, user, counters, audit } => {
            push_challenge(&mut write, stored.challenge.as_ref(), challenge)?;
            counters::push(&mut write, &stored.counters, counters);
            write.execute(lease).await?;
            change(lease, user).await?;
            let others = SessionSelection::AllExcept(request.session);
            ended_sessions = sessions::end(lease, user.id, others, request.now).await?;
            audit::add(lease, audit).await?;
            entry = Some(audit.clone());
            let phone_changed = Some((user, request.old_phone()));
            lease.run_hook_for(Changes { phone_changed, ..Changes::default() }).await?;
        }
    }
    Ok(outcome.map(|user| ChangedPhone { user, ended_sessions, audit: entry }))
}

pub(super) const CHANGE_PHONE: &str = "\
    WITH changed AS (UPDATE referral.users SET phone = $2 WHERE id = $1 RETURNING 1) \
    UPDATE referral.user_search SET public = $3, private = $4, ngrams = $5 \
    WHERE user_id = $1 AND EXISTS (SELECT 1 FROM changed)";

async fn change(lease: &mut Lease, user: &User) -> Result<()> {
    let mut update = Values::new();
    update.push(CHANGE_PHONE).bind(user.id.0).bind(user.phone.as_str());
    bind_search_keys(&mut update, user);
    lease.write_row(lease.compose(update)?).await
}
