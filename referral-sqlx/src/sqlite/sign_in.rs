//! Sign-in: redeems a challenge, adds or updates the user, and adds a session.

use referral_core::{
    InviteCode, Session, User, UserId,
    storage::{
        Ancestry, Challenge, Decided, Decision, Inviter, Result, SignInFacts, SignInRequest, SignInWrites,
        StorageError, StoredSignIn, UserWrite,
    },
};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{
    counters::{self, bind_keys, four_counters, global_counters},
    invitations, rows, sessions,
    statement::{write_row, write_rows},
    users::{self, user_columns},
};
use crate::{
    encoding::{failed_attempts_to_bytes, time_to_micros},
    error::failure,
    rows::challenge_columns,
};

/// Selects the facts for a sign-in except the ancestry: four counters, the state of the service, the
/// challenge `c`, the user with the phone, and the owner of the invite code.
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
            ", (SELECT id FROM users WHERE invite_code = $7) AS code_owner FROM (SELECT 1) one \
              LEFT JOIN challenges c ON ",
            $challenge,
            " LEFT JOIN users u ON u.phone = $6 LEFT JOIN invitations i ON i.invitee = u.id"
        )
    };
}

/// Selects the facts with the newest challenge of the phone.
pub(super) const SIGN_IN_FACTS: &str =
    sign_in_facts!("c.id = (SELECT id FROM challenges WHERE phone = $6 ORDER BY id DESC LIMIT 1)");

/// Selects the facts with the challenge `$8`, if it belongs to the phone.
pub(super) const SIGN_IN_FACTS_NAMED: &str = sign_in_facts!("c.id = $8 AND c.phone = $6");

async fn load(connection: &mut SqliteConnection, request: &SignInRequest) -> Result<SignInFacts> {
    let (query, keys) = (request.global_counters(), request.counters());
    let code = request.invite_code.as_ref();
    let statement = if request.challenge.is_some() { SIGN_IN_FACTS_NAMED } else { SIGN_IN_FACTS };
    let mut facts = bind_keys(sqlx::query(statement), &keys, 4)
        .bind(query.failed_attempts_since.map(time_to_micros))
        .bind(request.phone.as_str())
        .bind(code.map(InviteCode::as_str));
    if let Some(id) = request.challenge {
        facts = facts.bind(id.0);
    }
    let row = facts.fetch_one(&mut *connection).await.map_err(failure)?;
    let challenge = rows::get::<Option<Uuid>>(&row, "challenge_id")?;
    let user = rows::get::<Option<Uuid>>(&row, "id")?;
    let owner = rows::get::<Option<Uuid>>(&row, "code_owner")?.map(UserId);
    let mut facts = SignInFacts {
        challenge: challenge.map(|_| rows::challenge(&row, &request.phone)).transpose()?,
        user: user.map(|_| rows::user(&row)).transpose()?,
        inviter: owner.zip(code.cloned()).map(|(id, code)| Inviter { id, code }),
        ancestry: Ancestry::NotWalked,
        counters: rows::counters(&row, keys)?,
        global_counters: counters::global(connection, &row, query).await?,
    };
    if request.needs_ancestry(&facts)
        && let (Some(user), Some(inviter)) = (&facts.user, &facts.inviter)
    {
        facts.ancestry = invitations::ancestry(connection, inviter.id, user.id).await?;
    }
    Ok(facts)
}

/// Decides about an attempt to sign in, and stores the decision.
pub(super) async fn attempt(
    connection: &mut SqliteConnection,
    request: &SignInRequest,
) -> Decided<StoredSignIn> {
    let facts = load(connection, request).await?;
    for code in &request.new_user.invite_codes {
        let Decision { writes, outcome } = request.decide(&facts, code);
        if apply(connection, writes).await? {
            return Ok(outcome);
        }
    }
    Err(StorageError::InviteCodesExhausted)
}

/// Stores a decision. Returns `false` if the invite code of the new user is taken, and nothing was stored.
async fn apply(connection: &mut SqliteConnection, writes: SignInWrites) -> Result<bool> {
    match writes {
        SignInWrites::Attempt { challenge, counters } => {
            if let Some(challenge) = &challenge {
                change_challenge(connection, challenge).await?;
            }
            counters::update(connection, &counters).await?;
        }
        SignInWrites::SignIn { challenge, user, invitation, session, kept_sessions, counters } => {
            let user = match user {
                UserWrite::Add(user) => {
                    if !users::add(connection, &user).await? {
                        return Ok(false);
                    }
                    user
                }
                UserWrite::Change(user) => {
                    if invitation.is_some() {
                        users::change(connection, &user).await?;
                    }
                    user
                }
            };
            if let Some(invitation) = &invitation {
                invitations::add(connection, invitation).await?;
            }
            if let Some(kept_sessions) = kept_sessions {
                sessions::keep_newest(connection, user.id, kept_sessions).await?;
            }
            sign_in(connection, &challenge, &session, &user).await?;
            counters::update(connection, &counters).await?;
        }
    }
    Ok(true)
}

const CHANGE_CHALLENGE: &str = "\
    UPDATE challenges \
    SET redeemed_at = $2, attempts_with_id = $3, attempts_without_id = $4, failed_attempts = $5 \
    WHERE id = $1 AND redeemed_at IS NULL";

/// Replaces the challenge with the same id, which must not be redeemed.
async fn change_challenge(connection: &mut SqliteConnection, challenge: &Challenge) -> Result<()> {
    let update = sqlx::query(CHANGE_CHALLENGE)
        .bind(challenge.id.0)
        .bind(challenge.redeemed_at.map(time_to_micros))
        .bind(challenge.attempts_with_id)
        .bind(challenge.attempts_without_id)
        .bind(failed_attempts_to_bytes(&challenge.failed_attempts));
    write_row(connection, update).await
}

/// Redeems a challenge that is not redeemed yet, records the login of its user and adds a session. Writes
/// three rows.
const SIGN_IN: &str = "\
    UPDATE challenges SET redeemed_at = $2 WHERE id = $1 AND redeemed_at IS NULL; \
    UPDATE users SET last_login = $3 WHERE id = $5; \
    INSERT INTO sessions (id, user_id, created_at, expires_at, revoked_at, ends_at, key_id, access_id, \
                          refresh_id, issued_at, access_expires_at, refresh_expires_at, tokens_used, \
                          previous_refresh_id, superseded, address, user_agent, repeated_late, late_repeats) \
    VALUES ($4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)";

async fn sign_in(
    connection: &mut SqliteConnection,
    redeemed: &Challenge,
    session: &Session,
    user: &User,
) -> Result<()> {
    let write = sqlx::query(SIGN_IN)
        .bind(redeemed.id.0)
        .bind(redeemed.redeemed_at.map(time_to_micros))
        .bind(user.last_login.map(time_to_micros))
        .bind(session.id.0)
        .bind(session.user.0)
        .bind(time_to_micros(session.created_at))
        .bind(time_to_micros(session.expires_at));
    write_rows(connection, sessions::bind_state(write, session), 3).await
}
