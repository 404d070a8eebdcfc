//! Sign-in: redeems a challenge, adds or updates the user, and adds a session.

use referral_core::{
    Invitation, InviteCode, PhoneNumber, Refusal, Session, User, UserId,
    storage::{
        Ancestry, Challenge, CounterUpdate, Counters, Decision, Inviter, Result, SignInFacts, SignInRequest,
        SignInWrites, StorageError, StoredSignIn, UserWrite,
    },
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    counters::{
        self, after_counters, all_or_nothing, bind_counters, bind_global, bind_keys, bind_refunds,
        count_globally, four_counters, global_counters, put_counters, refund,
    },
    invitations,
    lease::{Lease, Statement},
    rows, sessions,
    users::bind_new_user,
};
use crate::{
    encoding::failed_attempts_to_bytes,
    error::failure,
    rows::{challenge_columns, user_columns},
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
            ", (SELECT id FROM referral.users WHERE invite_code = $7) AS code_owner FROM (SELECT 1) one ",
            $challenge,
            " LEFT JOIN referral.users u ON u.phone = $6 LEFT JOIN referral.invitations i ON i.invitee = u.id"
        )
    };
}

/// Selects the facts with the newest challenge of the phone.
pub(super) const SIGN_IN_FACTS: &str = sign_in_facts!(
    "LEFT JOIN LATERAL ( \
         SELECT * FROM referral.challenges WHERE phone = $6 ORDER BY number DESC LIMIT 1 \
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
/// rows are locked in the order in which [`SIGN_IN`] locks them: challenge, counters, user.
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

/// Locks the challenge `$2` of a phone, or its newest challenge if `$2` is NULL. This and
/// [`LOCK_USER_WITH_PHONE`] are separate statements, because a statement that waits for a lock sees the new
/// version of the locked row, but the old versions of all other rows.
pub(super) const LOCK_CHALLENGE: &str = "\
    SELECT 1 FROM referral.challenges WHERE phone = $1 AND ($2::uuid IS NULL OR id = $2) \
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

async fn lock_user(lease: &mut Lease, phone: &PhoneNumber) -> Result<()> {
    let lock = lease.query(LOCK_USER_WITH_PHONE).bind(phone.as_str());
    lease.execute(lock).await.map_err(failure)?;
    Ok(())
}

/// Decides about an attempt to sign in, and stores the decision. A new user gets the invite code `code`.
/// Returns `None` if the facts must be loaded in a transaction that holds the lock for late acceptances, and
/// `in_transaction` is `false`.
pub(super) async fn attempt(
    lease: &mut Lease,
    request: &SignInRequest,
    code: &InviteCode,
    in_transaction: bool,
) -> Result<Option<std::result::Result<StoredSignIn, Refusal>>> {
    let facts = if in_transaction {
        load_with_ancestry(lease, request).await?
    } else {
        let facts = load(lease, request).await?;
        if request.needs_ancestry(&facts) {
            return Ok(None);
        }
        facts
    };
    let Decision { writes, outcome } = request.decide(&facts, code);
    apply(lease, &facts, &writes).await?;
    Ok(Some(outcome))
}

async fn apply(lease: &mut Lease, facts: &SignInFacts, writes: &SignInWrites) -> Result<()> {
    match writes {
        SignInWrites::Attempt { challenge, counters } => {
            match facts.challenge.as_ref().zip(challenge.as_ref()) {
                Some((from, to)) => change_challenge(lease, from, to, &facts.counters, counters).await,
                None => counters::update(lease, &facts.counters, counters).await,
            }
        }
        SignInWrites::SignIn { challenge, user, invitation, session, kept_sessions, counters } => {
            let redeemed_at = challenge.redeemed_at;
            match user {
                UserWrite::Add(user) => {
                    let invitation = invitation.as_ref();
                    sign_up(lease, facts, redeemed_at, counters, session, user, invitation).await
                }
                UserWrite::Change(user) => {
                    sign_in(lease, facts, redeemed_at, counters, session, user, *kept_sessions).await?;
                    match invitation {
                        Some(invitation) => invitations::add(lease, invitation, user).await,
                        None => Ok(()),
                    }
                }
            }
        }
    }
}

/// Changes a challenge if it is not redeemed and still has the same numbers of attempts.
macro_rules! change_challenge {
    ($changes:literal, $id:literal, $with_id:literal, $without_id:literal) => {
        concat!(
            "UPDATE referral.challenges SET ",
            $changes,
            " WHERE id = ",
            $id,
            " AND redeemed_at IS NULL AND attempts_with_id = ",
            $with_id,
            " AND attempts_without_id = ",
            $without_id,
            " RETURNING 1"
        )
    };
}

/// Updates counters and changes a challenge.
pub(super) const CHANGE_CHALLENGE: &str = concat!(
    "WITH changed AS (",
    change_challenge!(
        "redeemed_at = $13, attempts_with_id = $14, attempts_without_id = $15, failed_attempts = $16",
        "$10",
        "$11",
        "$12"
    ),
    "), ",
    put_counters!("$1", "$2", "$3", "$4", "EXISTS (SELECT 1 FROM changed)"),
    ", ",
    refund!("$5", "$6", "EXISTS (SELECT 1 FROM changed)"),
    ", ",
    count_globally!("$7", "$8", "$9", "EXISTS (SELECT 1 FROM changed)", after_counters!()),
    all_or_nothing!("$1", "(SELECT count(*) FROM changed)")
);

/// Replaces the challenge `from` with `to`, which has the same id, and updates counters.
async fn change_challenge(
    lease: &mut Lease,
    from: &Challenge,
    to: &Challenge,
    facts: &Counters,
    counters: &CounterUpdate,
) -> Result<()> {
    let update = bind_counters(lease.query(CHANGE_CHALLENGE), facts, counters);
    let update = bind_global(bind_refunds(update, counters), counters);
    let update = bind_challenge(update, from)
        .bind(to.redeemed_at)
        .bind(i64::from(to.attempts_with_id))
        .bind(i64::from(to.attempts_without_id))
        .bind(failed_attempts_to_bytes(&to.failed_attempts));
    lease.write_row(update).await
}

/// Binds the id of the challenge to change, and the values that it must still have.
fn bind_challenge<'q>(statement: Statement<'q>, challenge: &Challenge) -> Statement<'q> {
    statement
        .bind(challenge.id.0)
        .bind(i64::from(challenge.attempts_with_id))
        .bind(i64::from(challenge.attempts_without_id))
}

/// Adds a session from the values `$11` to `$29`.
macro_rules! add_session {
    ($from:literal) => {
        concat!(
            "started AS ( \
                INSERT INTO referral.sessions (id, user_id, created_at, expires_at, revoked_at, ends_at, \
                    key_id, access_id, refresh_id, issued_at, access_expires_at, refresh_expires_at, \
                    tokens_used, previous_refresh_id, superseded, address, user_agent, repeated_late, \
                    late_repeats) \
                SELECT $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, \
                    $28, $29 FROM ",
            $from,
            " RETURNING 1)"
        )
    };
}

/// Binds the values of [`add_session`].
fn bind_session<'q>(statement: Statement<'q>, session: &'q Session) -> Statement<'q> {
    let statement =
        statement.bind(session.id.0).bind(session.user.0).bind(session.created_at).bind(session.expires_at);
    sessions::bind_state(statement, session)
}

/// Common table expressions that redeem a challenge and update counters, with the values `$1` to `$10`.
macro_rules! redeem {
    () => {
        concat!(
            "WITH redeemed AS (",
            change_challenge!("redeemed_at = $10", "$7", "$8", "$9"),
            "), ",
            put_counters!("$1", "$2", "$3", "$4", "EXISTS (SELECT 1 FROM redeemed)"),
            ", ",
            refund!("$5", "$6", "EXISTS (SELECT 1 FROM redeemed)"),
            ", "
        )
    };
}

/// Binds the values of [`redeem`].
fn bind_redeemed<'q>(
    statement: Statement<'q>,
    facts: &SignInFacts,
    redeemed_at: Option<OffsetDateTime>,
    counters: &CounterUpdate,
) -> Result<Statement<'q>> {
    let no_challenge = || StorageError::Failed("a sign-in has no challenge to redeem".into());
    let from = facts.challenge.as_ref().ok_or_else(no_challenge)?;
    let statement = bind_refunds(bind_counters(statement, &facts.counters, counters), counters);
    Ok(bind_challenge(statement, from).bind(redeemed_at))
}

/// Redeems a challenge, updates counters, and signs a user in who is still as active and as much staff as
/// before. Deletes the older sessions of the user except the newest `$33`, if it is not NULL.
pub(super) const SIGN_IN: &str = concat!(
    redeem!(),
    "seen AS ( \
        UPDATE referral.users SET last_login = $30 \
        WHERE id = $12 AND is_active = $31 AND is_staff = $32 AND EXISTS (SELECT 1 FROM redeemed) AND ",
    after_counters!(),
    "   RETURNING 1 \
     ), ended AS ( \
        DELETE FROM referral.sessions WHERE user_id = $12 AND id <= ( \
            SELECT id FROM referral.sessions WHERE user_id = $12 AND $33::bigint IS NOT NULL \
            ORDER BY id DESC OFFSET $33 LIMIT 1 \
        ) AND EXISTS (SELECT 1 FROM seen) \
     ), ",
    add_session!("seen"),
    all_or_nothing!("$1", "(SELECT count(*) FROM started)")
);

async fn sign_in(
    lease: &mut Lease,
    facts: &SignInFacts,
    redeemed_at: Option<OffsetDateTime>,
    counters: &CounterUpdate,
    session: &Session,
    user: &User,
    kept_sessions: Option<u32>,
) -> Result<()> {
    let write = bind_redeemed(lease.query(SIGN_IN), facts, redeemed_at, counters)?;
    let write = bind_session(write, session)
        .bind(user.last_login)
        .bind(user.is_active)
        .bind(user.is_staff)
        .bind(kept_sessions.map(i64::from));
    lease.write_row(write).await
}

/// Redeems a challenge, updates counters, adds a user with the inviter `$39` if it is not NULL, and signs the
/// user in. The count of the inviter is updated before the total of users. Otherwise a transaction that waits
/// for a popular inviter would lock the total, and other sign-ups would wait for it.
pub(super) const SIGN_UP: &str = concat!(
    redeem!(),
    "invited AS ( \
        INSERT INTO referral.invitations (invitee, inviter, code, accepted_at, via) \
        SELECT $12, $39, $40, $41, $42 FROM redeemed WHERE $39::uuid IS NOT NULL AND ",
    after_counters!(),
    "   RETURNING 1 \
     ), added AS ( \
        INSERT INTO referral.users (id, phone, invite_code, is_staff, is_active, date_joined, last_login) \
        SELECT $12, $30, $31, $32, $33, $34, $35 FROM redeemed \
        WHERE (SELECT count(*) FROM invited) >= 0 AND ",
    after_counters!(),
    "   RETURNING 1 \
     ), searched AS ( \
        INSERT INTO referral.user_search (user_id, public, private, ngrams) \
        SELECT $12, $36, $37, $38 FROM added \
     ), ",
    add_session!("added"),
    all_or_nothing!("$1", "(SELECT count(*) FROM started)")
);

async fn sign_up(
    lease: &mut Lease,
    facts: &SignInFacts,
    redeemed_at: Option<OffsetDateTime>,
    counters: &CounterUpdate,
    session: &Session,
    user: &User,
    invitation: Option<&Invitation>,
) -> Result<()> {
    let write = bind_redeemed(lease.query(SIGN_UP), facts, redeemed_at, counters)?;
    let write = bind_new_user(bind_session(write, session), user)
        .bind(invitation.map(|invitation| invitation.inviter.0))
        .bind(invitation.map(|invitation| invitation.code.as_str()))
        .bind(invitation.map(|invitation| invitation.accepted_at))
        .bind(invitation.map(|invitation| invitation.via.as_str()));
    lease.write_row(write).await
}
