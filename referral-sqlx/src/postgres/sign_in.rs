//! Sign-in: redeems a challenge, adds or updates the user, and adds a session.

use referral_core::{
    InviteCode, PhoneNumber, Refusal, Session, SessionId, StaffRole, User, UserId,
    storage::{
        Ancestry, Challenge, Decision, Inviter, Result, SignInFacts, SignInOutcome, SignInRequest,
        SignInWrites, StorageError, UserWrite,
    },
};
use uuid::Uuid;

use super::{
    audit,
    counters::{self, bind_keys, four_counters, global_counters},
    invitations,
    lease::{AnyLease, Lease},
    rows, sessions,
    users::{self, user_columns},
    write::Write,
};
use crate::{
    encoding::failed_attempts_to_bytes,
    error::failure,
    hook::Changes,
    rows::{challenge_columns, is_active_session},
};

/// Selects the facts for a sign-in except the ancestry: four counters, the state of the service, the challenge
/// `c`, the user with the phone, and the owner of the invite code.
macro_rules! sign_in_facts {
    ($challenge:literal) => {
        concat!(
            "SELECT ",
            four_counters!(),
            ", ",
            global_counters!("$5"),
            ", ",
            challenge_columns!(),
            ", ",
            user_columns!(),
            ", (SELECT id FROM referral.users WHERE invite_code = $7 AND erased_at IS NULL) AS code_owner \
             FROM (SELECT 1) one ",
            $challenge,
            " LEFT JOIN referral.users u ON u.phone = $6 LEFT JOIN referral.invitations i ON i.invitee = u.id"
        )
    };
}

/// Selects the facts with the newest challenge of the phone to sign in.
pub(super) const SIGN_IN_FACTS: &str = sign_in_facts!(
    "LEFT JOIN LATERAL ( \
         SELECT * FROM referral.challenges WHERE phone = $6 AND signs_in ORDER BY number DESC LIMIT 1 \
     ) c ON TRUE"
);

/// Selects the facts with the challenge `$8`, if it belongs to the phone.
pub(super) const SIGN_IN_FACTS_NAMED: &str =
    sign_in_facts!("LEFT JOIN referral.challenges c ON c.id = $8 AND c.phone = $6");

/// Reads all facts except the ancestry.
async fn load(lease: &mut Lease, request: &SignInRequest) -> Result<SignInFacts> {
    let (query, keys) = (request.global_counters(), request.counters());
    let code = request.invite_code.as_ref();
    let statement = if request.challenge.is_some() { SIGN_IN_FACTS_NAMED } else { SIGN_IN_FACTS };
    let mut facts = bind_keys(lease.query(statement), &keys, 4)
        .bind(query.failed_attempts_since)
        .bind(request.phone.as_str())
        .bind(code.map(InviteCode::as_str));
    if let Some(id) = request.challenge {
        facts = facts.bind(id.0);
    }
    let row = lease.fetch_one(facts).await.map_err(failure)?;
    let challenge = rows::get::<Option<Uuid>>(&row, "challenge_id")?;
    let user = rows::get::<Option<Uuid>>(&row, "id")?;
    let owner = rows::get::<Option<Uuid>>(&row, "code_owner")?.map(UserId);
    Ok(SignInFacts {
        challenge: challenge.map(|_| rows::challenge(&row, &request.phone)).transpose()?,
        user: user.map(|_| rows::user(&row)).transpose()?,
        inviter: owner.zip(code.cloned()).map(|(id, code)| Inviter { id, code }),
        ancestry: Ancestry::NotWalked,
        counters: rows::counters(&row, keys)?,
        global_counters: counters::global(lease, &row, query).await?,
    })
}

/// Reads the facts with the ancestry, in a transaction that holds the lock for late acceptances. The other
/// rows are locked in the order in which a sign-in locks them: challenge, counters, user.
async fn load_with_ancestry(lease: &mut Lease, request: &SignInRequest) -> Result<SignInFacts> {
    invitations::lock_late_acceptance(lease).await?;
    lock_challenge(lease, request).await?;
    counters::lock(lease, &request.counters()).await?;
    lock_user(lease, &request.phone).await?;
    let mut facts = load(lease, request).await?;
    if let (Some(user), Some(inviter)) = (&facts.user, &facts.inviter) {
        facts.ancestry = invitations::ancestry(lease, inviter.id, user.id).await?;
    }
    Ok(facts)
}

/// Locks the challenge `$2` of a phone, or its newest challenge to sign in if `$2` is NULL. This and
/// [`LOCK_USER_WITH_PHONE`] are separate statements, because a statement that waits for a lock sees the new
/// version of the locked row, but the old versions of all other rows.
pub(super) const LOCK_CHALLENGE: &str = "\
    SELECT 1 FROM referral.challenges WHERE phone = $1 AND (id = $2 OR $2::uuid IS NULL AND signs_in) \
    ORDER BY number DESC LIMIT 1 FOR NO KEY UPDATE";

async fn lock_challenge(lease: &mut Lease, request: &SignInRequest) -> Result<()> {
    let lock =
        lease.query(LOCK_CHALLENGE).bind(request.phone.as_str()).bind(request.challenge.map(|id| id.0));
    lease.execute(lock).await.map_err(failure)?;
    Ok(())
}

/// Locks the user with a phone.
pub(super) const LOCK_USER_WITH_PHONE: &str =
    "SELECT 1 FROM referral.users WHERE phone = $1 FOR NO KEY UPDATE";

pub(super) async fn lock_user(lease: &mut AnyLease<'_>, phone: &PhoneNumber) -> Result<()> {
    let lock = lease.query(LOCK_USER_WITH_PHONE).bind(phone.as_str());
    lease.execute(lock).await.map_err(failure)?;
    Ok(())
}

/// Decides about an attempt to sign in, and stores the decision. A new user gets the invite code `code`.
/// Returns `None` if the facts must be locked in a transaction, and `in_transaction` is `false`.
pub(super) async fn attempt(
    lease: &mut Lease,
    request: &SignInRequest,
    code: &InviteCode,
    in_transaction: bool,
) -> Result<Option<std::result::Result<SignInOutcome, Refusal>>> {
    let facts = if in_transaction {
        load_with_ancestry(lease, request).await?
    } else {
        let facts = load(lease, request).await?;
        if request.needs_ancestry(&facts) || request.detaches_phone(&facts) {
            return Ok(None);
        }
        facts
    };
    let Decision { writes, outcome } = request.decide(&facts, code)?;
    let ended_sessions = apply(lease, request, &facts, &writes).await?;
    Ok(Some(outcome.map(|outcome| outcome.with_ended_sessions(ended_sessions))))
}

/// Stores a decision. Returns the sessions that were active and that it deletes.
async fn apply(
    lease: &mut Lease,
    request: &SignInRequest,
    facts: &SignInFacts,
    writes: &SignInWrites,
) -> Result<Vec<SessionId>> {
    let mut write = Write::new();
    match writes {
        SignInWrites::Attempt { challenge, counters } => {
            if let Some(challenge) = challenge {
                push_challenge(&mut write, facts.challenge.as_ref(), challenge)?;
            }
            counters::push(&mut write, &facts.counters, counters);
            write.execute(lease).await?;
            Ok(Vec::new())
        }
        SignInWrites::SignIn {
            challenge,
            detached,
            user,
            invitation,
            session,
            kept_sessions,
            counters,
            audit,
        } => {
            lease.begin_for_hook(user.added(), invitation.as_ref()).await?;
            if let Some(detached) = detached {
                users::detach(lease, detached).await?;
            }
            push_challenge(&mut write, facts.challenge.as_ref(), challenge)?;
            counters::push(&mut write, &facts.counters, counters);
            match user {
                UserWrite::Add(user) => {
                    // The count of the inviter is updated before the total of users. Otherwise a sign-up that
                    // waits for its inviter would lock the total, and other sign-ups would wait for it.
                    if let Some(invitation) = invitation {
                        invitations::push(&mut write, invitation);
                    }
                    users::push_new(&mut write, user);
                }
                UserWrite::Change(user) => push_login(&mut write, facts.user.as_ref(), user),
            }
            if let Some(kept_sessions) = kept_sessions {
                let delete = write.optional_step("deleted", DELETE_OLD_SESSIONS);
                delete.bind(session.user.0).bind(i64::from(*kept_sessions)).bind(request.now);
            }
            push_session(&mut write, session);
            if let Some(entry) = audit {
                audit::push(&mut write, entry)?;
            }
            let ended = if kept_sessions.is_some() {
                let row = write.fetch(lease, ENDED_SESSIONS).await?;
                rows::get::<Option<Vec<Uuid>>>(&row, "ended_sessions")?.unwrap_or_default()
            } else {
                write.execute(lease).await?;
                Vec::new()
            };
            if let (UserWrite::Change(user), Some(invitation)) = (user, invitation) {
                invitations::add(lease, invitation, user).await?;
            }
            let detached = detached.as_ref().map(|detached| detached.user);
            let accepted = invitation.as_ref();
            let changes = Changes { created: user.added(), accepted, detached, ..Changes::default() };
            lease.run_hook_for(changes).await?;
            Ok(ended.into_iter().map(SessionId).collect())
        }
    }
}

/// Changes a challenge that is not redeemed and still has the same numbers of attempts.
pub(super) const CHANGE_CHALLENGE: &str = "\
    UPDATE referral.challenges \
    SET redeemed_at = $1, attempts_with_id = $2, attempts_without_id = $3, failed_attempts = $4 \
    WHERE id = $5 AND redeemed_at IS NULL AND attempts_with_id = $6 AND attempts_without_id = $7 AND $after \
    RETURNING 1";

/// Adds a step that replaces the challenge `from` with `to`, which has the same id.
pub(super) fn push_challenge(write: &mut Write, from: Option<&Challenge>, to: &Challenge) -> Result<()> {
    let from = from.ok_or_else(|| StorageError::Failed("the challenge to change was not read".into()))?;
    write
        .step("challenge", CHANGE_CHALLENGE)
        .bind(to.redeemed_at)
        .bind(i64::from(to.attempts_with_id))
        .bind(i64::from(to.attempts_without_id))
        .bind(failed_attempts_to_bytes(&to.failed_attempts))
        .bind(from.id.0)
        .bind(i64::from(from.attempts_with_id))
        .bind(i64::from(from.attempts_without_id));
    Ok(())
}

/// Records the login of a user who still has the phone, and is as active and as much staff as before, and whose
/// deletion is scheduled at the same time as before. Cancels the deletion. A column that does not change is not
/// updated in its index.
pub(super) const RECORD_LOGIN: &str = "\
    UPDATE referral.users SET last_login = $2, last_active = $6, deletion_at = NULL \
    WHERE id = $1 AND is_active = $3 AND staff_role IS NOT DISTINCT FROM $4 AND phone = $5 \
        AND deletion_at IS NOT DISTINCT FROM $7 AND $after RETURNING 1";

fn push_login(write: &mut Write, before: Option<&User>, user: &User) {
    let record = write.step("login", RECORD_LOGIN);
    let record = record
        .bind(user.id.0)
        .bind(user.last_login)
        .bind(user.is_active)
        .bind(user.staff_role.map(StaffRole::as_str));
    record.bind(user.phone.as_str()).bind(user.last_active).bind(before.and_then(|user| user.deletion_at));
}

/// Deletes the sessions of a user except the newest `$2` of those that are active at `$3`.
pub(super) const DELETE_OLD_SESSIONS: &str = concat!(
    "DELETE FROM referral.sessions WHERE user_id = $1 \
     AND (revoked_at IS NOT NULL OR ends_at <= $3 OR id <= ( \
         SELECT s.id FROM referral.sessions s WHERE s.user_id = $1 AND ",
    is_active_session!("$3"),
    " ORDER BY s.id DESC OFFSET $2 LIMIT 1 \
     )) AND $after RETURNING id, revoked_at IS NULL AND ends_at > $3 AS was_active"
);

/// Column with the ids of the sessions that [`DELETE_OLD_SESSIONS`] has deleted and that were active.
const ENDED_SESSIONS: &str =
    ", (SELECT array_agg(deleted.id) FROM deleted WHERE deleted.was_active) AS ended_sessions";

pub(super) const ADD_SESSION: &str = "\
    INSERT INTO referral.sessions (id, user_id, created_at, expires_at, revoked_at, ends_at, key_id, access_id, \
        refresh_id, issued_at, access_expires_at, refresh_expires_at, tokens_used, previous_refresh_id, \
        superseded, address, user_agent, repeated_late, late_repeats, claims) \
    SELECT $1::uuid, $2::uuid, $3::timestamptz, $4::timestamptz, $5::timestamptz, $6::timestamptz, $7, $8::uuid, \
        $9::uuid, $10::timestamptz, $11::timestamptz, $12::timestamptz, $13::boolean, $14::uuid, $15::bytea, $16, \
        $17, $18::boolean, $19::bigint, $20 WHERE $after RETURNING 1";

fn push_session(write: &mut Write, session: &Session) {
    let add = write.step("started", ADD_SESSION);
    add.bind(session.id.0).bind(session.user.0).bind(session.created_at).bind(session.expires_at);
    sessions::bind_state(add, session);
}
