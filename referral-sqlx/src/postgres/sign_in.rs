//! Sign-in: redeems a challenge, adds or updates the user, and adds a session.

use referral_core::{
    Invitation, InviteCode, PhoneNumber, Refusal, Session, User, UserId,
    storage::{
        Ancestry, Challenge, CounterUpdate, Counters, Decision, Inviter, Result, SignInFacts, SignInRequest,
        SignInWrites, StoredSignIn, UserWrite,
    },
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    counters::{
        self, all_or_nothing, bind_counters, bind_global, bind_keys, bind_refunds, count_globally,
        four_counters, global_counters, put_counters, refund,
    },
    invitations,
    lease::{Lease, Statement},
    retry::WriteConflict,
    rows, sessions,
    users::bind_search_keys,
};
use crate::{
    encoding::{failed_attempts_to_bytes, superseded_to_bytes},
    error::failure,
    rows::{challenge_columns, user_columns},
};

/// Columns of the facts for a sign-in: four counters, the state of the service, the challenge `c`, the user
/// with the phone, and the owner of the invite code.
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
            ", o.id AS code_owner FROM (SELECT 1) one ",
            $challenge,
            " LEFT JOIN referral.users u ON u.phone = $6 \
              LEFT JOIN referral.invitations i ON i.invitee = u.id \
              LEFT JOIN referral.users o ON o.invite_code = $7"
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

/// Reads the facts with the ancestry, in a transaction that holds the lock for late acceptances.
async fn load_with_ancestry(lease: &mut Lease, request: &SignInRequest) -> Result<SignInFacts> {
    invitations::lock_late_acceptance(lease).await?;
    counters::lock(lease, &request.counters()).await?;
    lock_user(lease, &request.phone).await?;
    let mut facts = load(lease, request).await?;
    if let (Some(user), Some(inviter)) = (&facts.user, &facts.inviter) {
        facts.ancestry = invitations::ancestry(lease, inviter.id, user.id).await?;
    }
    Ok(facts)
}

/// Locks the user with a phone. It is a separate statement, because a statement that waits for a lock sees
/// the new version of the locked row, but the old versions of all other rows.
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
        SignInWrites::SignIn { challenge, user, invitation, session, max_sessions, counters } => {
            let from = facts.challenge.as_ref().ok_or(WriteConflict::Stale)?;
            let redeemed_at = challenge.redeemed_at;
            match user {
                UserWrite::Add(user) => {
                    let invitation = invitation.as_ref();
                    sign_up(lease, from, redeemed_at, session, user, invitation, counters).await
                }
                UserWrite::Change(user) => {
                    if let Some(max_sessions) = max_sessions {
                        // One session is added next.
                        sessions::keep_newest(lease, user.id, max_sessions - 1).await?;
                    }
                    sign_in(lease, from, redeemed_at, session, user, counters).await?;
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
    count_globally!("$7", "$8", "$9", "EXISTS (SELECT 1 FROM changed)"),
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

/// Adds a session from the values `$7` to `$25`.
macro_rules! add_session {
    ($from:literal) => {
        concat!(
            "started AS ( \
                INSERT INTO referral.sessions (id, user_id, created_at, expires_at, revoked_at, ends_at, \
                    key_id, access_id, refresh_id, issued_at, access_expires_at, refresh_expires_at, \
                    tokens_used, previous_refresh_id, superseded, address, user_agent, repeated_late, \
                    late_repeats) \
                SELECT $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, \
                    $24, $25 FROM ",
            $from,
            " RETURNING 1)"
        )
    };
}

/// Binds the values of [`add_session`].
fn bind_session<'q>(statement: Statement<'q>, session: &'q Session) -> Statement<'q> {
    statement
        .bind(session.id.0)
        .bind(session.user.0)
        .bind(session.created_at)
        .bind(session.expires_at)
        .bind(session.revoked_at)
        .bind(session.ends_at())
        .bind(&*session.issued.key_id)
        .bind(session.issued.access_id)
        .bind(session.issued.refresh_id)
        .bind(session.issued.issued_at)
        .bind(session.issued.access_expires_at)
        .bind(session.issued.refresh_expires_at)
        .bind(session.tokens_used)
        .bind(session.previous_refresh_id)
        .bind(superseded_to_bytes(&session.superseded))
        .bind(session.address.map(|address| address.to_string()))
        .bind(session.user_agent.as_deref())
        .bind(session.repeated_late)
        .bind(i64::from(session.late_repeats))
}

/// Redeems a challenge, refunds events, and signs a user in.
pub(super) const SIGN_IN: &str = concat!(
    "WITH redeemed AS (",
    change_challenge!("redeemed_at = $6", "$3", "$4", "$5"),
    "), ",
    refund!("$1", "$2", "EXISTS (SELECT 1 FROM redeemed)"),
    ", seen AS ( \
        UPDATE referral.users SET last_login = $26 WHERE id = $8 AND EXISTS (SELECT 1 FROM redeemed) RETURNING 1 \
     ), ",
    add_session!("redeemed, seen"),
    " SELECT referral.all_or_nothing((SELECT count(*) FROM started), 1)"
);

async fn sign_in(
    lease: &mut Lease,
    from: &Challenge,
    redeemed_at: Option<OffsetDateTime>,
    session: &Session,
    user: &User,
    counters: &CounterUpdate,
) -> Result<()> {
    let write = bind_refunds(lease.query(SIGN_IN), counters);
    let write = bind_challenge(write, from).bind(redeemed_at);
    let write = bind_session(write, session).bind(user.last_login);
    lease.write_row(write).await
}

/// Redeems a challenge, refunds events, adds a user with the inviter `$35` if it is not NULL, and signs the
/// user in. The count of the inviter is updated before the total of users. Otherwise a transaction that waits
/// for a popular inviter would lock the total, and other sign-ups would wait for it.
pub(super) const SIGN_UP: &str = concat!(
    "WITH redeemed AS (",
    change_challenge!("redeemed_at = $6", "$3", "$4", "$5"),
    "), ",
    refund!("$1", "$2", "EXISTS (SELECT 1 FROM redeemed)"),
    ", invited AS ( \
        INSERT INTO referral.invitations (invitee, inviter, code, accepted_at, via) \
        SELECT $8, $35, $36, $37, $38 FROM redeemed WHERE $35::uuid IS NOT NULL RETURNING 1 \
     ), added AS ( \
        INSERT INTO referral.users (id, phone, invite_code, is_staff, is_active, date_joined, last_login) \
        SELECT $8, $26, $27, $28, $29, $30, $31 FROM redeemed WHERE (SELECT count(*) FROM invited) >= 0 \
        RETURNING 1 \
     ), searched AS ( \
        INSERT INTO referral.user_search (user_id, public, private, ngrams) \
        SELECT $8, $32, $33, $34 FROM added \
     ), ",
    add_session!("added"),
    " SELECT referral.all_or_nothing((SELECT count(*) FROM started), 1)"
);

async fn sign_up(
    lease: &mut Lease,
    from: &Challenge,
    redeemed_at: Option<OffsetDateTime>,
    session: &Session,
    user: &User,
    invitation: Option<&Invitation>,
    counters: &CounterUpdate,
) -> Result<()> {
    let write = bind_refunds(lease.query(SIGN_UP), counters);
    let write = bind_challenge(write, from).bind(redeemed_at);
    let write = bind_session(write, session)
        .bind(user.phone.as_str())
        .bind(user.invite_code.as_str())
        .bind(user.is_staff)
        .bind(user.is_active)
        .bind(user.date_joined)
        .bind(user.last_login);
    let write = bind_search_keys(write, user)
        .bind(invitation.map(|invitation| invitation.inviter.0))
        .bind(invitation.map(|invitation| invitation.code.as_str()))
        .bind(invitation.map(|invitation| invitation.accepted_at))
        .bind(invitation.map(|invitation| invitation.via.as_str()));
    lease.write_row(write).await
}
