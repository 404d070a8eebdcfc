//! Sign-in: redeems a challenge, adds or updates the user, and adds a session.

use referral_core::{
    InviteCode, Refusal, UserId,
    storage::{
        Ancestry, Challenge, Decided, Decision, Inviter, Result, SignInFacts, SignInOutcome, SignInRequest,
        SignInWrites, UserWrite,
    },
};
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{
    Hook, audit,
    batch::{Batch, no_facts},
    connection::Connection,
    counters::{self, bind_keys, four_counters, global_counters},
    invitations, rows, sessions,
    users::{self, free_code, json_codes, user_columns},
    write_queue::Decide,
};
use crate::{
    encoding::{failed_attempts_to_bytes, time_to_micros},
    hook::Changes,
    rows::challenge_columns,
};

/// Selects the facts for a sign-in except the ancestry: four counters, the state of the service, the
/// challenge `c`, the user with the phone, the owner of the invite code, and an invite code for a new user.
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
            ", (SELECT id FROM referral_users WHERE invite_code = $7 AND erased_at IS NULL) AS code_owner, \
               CASE WHEN u.id IS NULL THEN ",
            free_code!("$8"),
            " END AS free_code FROM (SELECT 1) one LEFT JOIN referral_challenges c ON ",
            $challenge,
            " LEFT JOIN referral_users u ON u.phone = $6 LEFT JOIN referral_invitations i ON i.invitee = u.id"
        )
    };
}

/// Selects the facts with the newest challenge of the phone to sign in.
pub(super) const SIGN_IN_FACTS: &str = sign_in_facts!(
    "c.id = (SELECT id FROM referral_challenges WHERE phone = $6 AND signs_in ORDER BY id DESC LIMIT 1)"
);

/// Selects the facts with the challenge `$9`, if it belongs to the phone.
pub(super) const SIGN_IN_FACTS_NAMED: &str = sign_in_facts!("c.id = $9 AND c.phone = $6");

/// Attempt to sign in.
pub(super) struct SignIn {
    pub(super) request: SignInRequest,
    pub(super) hook: Option<Hook>,
}

impl Decide for SignIn {
    type Outcome = std::result::Result<SignInOutcome, Refusal>;

    fn push_facts(&self, batch: &mut Batch) {
        let request = &self.request;
        let statement = if request.challenge.is_some() { SIGN_IN_FACTS_NAMED } else { SIGN_IN_FACTS };
        let values = bind_keys(batch.push(statement), &request.counters(), 4)
            .bind(request.global_counters().failed_attempts_since.map(time_to_micros))
            .bind(request.phone.as_str())
            .bind(request.invite_code.as_ref().map(InviteCode::as_str))
            .bind(json_codes(&request.new_user.invite_codes));
        if let Some(challenge) = request.challenge {
            values.bind(challenge.0);
        }
    }

    async fn decide(
        self,
        facts: Option<SqliteRow>,
        connection: &mut Connection<'_>,
        batch: &mut Batch,
    ) -> Decided<SignInOutcome> {
        let Self { request, hook } = self;
        let row = facts.ok_or_else(no_facts)?;
        let facts = read(connection, &row, &request).await?;
        let code = match (&facts.user, &request.new_user.invite_codes[..]) {
            (Some(_), codes) if request.detaches_phone(&facts) => {
                users::read_free_code(connection, codes).await?
            }
            (Some(_), [unused, ..]) => unused.clone(),
            _ => rows::free_code(&row)?,
        };
        let Decision { writes, outcome } = request.decide(&facts, &code)?;
        let mut ended_sessions = Vec::new();
        if let SignInWrites::SignIn { session, kept_sessions: Some(kept), .. } = &writes {
            ended_sessions = sessions::keep_newest(connection, session.user, *kept, request.now).await?;
        }
        push(batch, &writes)?;
        if let (Some(hook), SignInWrites::SignIn { user, invitation, detached, .. }) = (hook, &writes) {
            let detached = detached.as_ref().map(|detached| detached.user);
            let accepted = invitation.as_ref();
            let changes = Changes { created: user.added(), accepted, detached, ..Changes::default() };
            batch.write_changes_with_hook(connection, &hook, changes).await?;
        }
        Ok(outcome.map(|outcome| outcome.with_ended_sessions(ended_sessions)))
    }
}

async fn read(
    connection: &mut Connection<'_>,
    row: &SqliteRow,
    request: &SignInRequest,
) -> Result<SignInFacts> {
    let challenge = rows::get::<Option<Uuid>>(row, "challenge_id")?;
    let user = rows::get::<Option<Uuid>>(row, "id")?;
    let owner = rows::get::<Option<Uuid>>(row, "code_owner")?.map(UserId);
    let mut facts = SignInFacts {
        challenge: challenge.map(|_| rows::challenge(row, &request.phone)).transpose()?,
        user: user.map(|_| rows::user(row)).transpose()?,
        inviter: owner.zip(request.invite_code.clone()).map(|(id, code)| Inviter { id, code }),
        ancestry: Ancestry::NotWalked,
        counters: rows::counters(row, request.counters())?,
        global_counters: counters::global(connection, row, request.global_counters()).await?,
    };
    if request.needs_ancestry(&facts)
        && let (Some(user), Some(inviter)) = (&facts.user, &facts.inviter)
    {
        facts.ancestry = invitations::ancestry(connection, inviter.id, user.id).await?;
    }
    Ok(facts)
}

fn push(batch: &mut Batch, writes: &SignInWrites) -> Result<()> {
    match writes {
        SignInWrites::Attempt { challenge, counters } => {
            if let Some(challenge) = challenge {
                push_challenge(batch, challenge);
            }
            counters::push(batch, counters);
        }
        SignInWrites::SignIn {
            challenge,
            detached,
            user,
            invitation,
            session,
            kept_sessions: _,
            counters,
            audit,
        } => {
            push_challenge(batch, challenge);
            if let Some(detached) = detached {
                users::push_detached(batch, detached);
            }
            match user {
                UserWrite::Add(user) => users::push_new(batch, user),
                // The accepted invitation is in the search index.
                UserWrite::Change(user) if invitation.is_some() => users::push_change(batch, user),
                UserWrite::Change(user) => {
                    let record = batch.push_update(RECORD_LOGIN).bind(user.id.0);
                    record
                        .bind(user.last_login.map(time_to_micros))
                        .bind(user.last_active.map(time_to_micros));
                }
            }
            if let Some(invitation) = invitation {
                invitations::push(batch, invitation);
            }
            sessions::push_new(batch, session);
            counters::push(batch, counters);
            if let Some(entry) = audit {
                audit::push(batch, entry)?;
            }
        }
    }
    Ok(())
}

const CHANGE_CHALLENGE: &str = "\
    UPDATE referral_challenges \
    SET redeemed_at = $2, attempts_with_id = $3, attempts_without_id = $4, failed_attempts = $5 \
    WHERE id = $1 AND redeemed_at IS NULL";

/// Adds a statement that replaces the challenge with the same id, which must not be redeemed.
pub(super) fn push_challenge(batch: &mut Batch, challenge: &Challenge) {
    batch
        .push_update(CHANGE_CHALLENGE)
        .bind(challenge.id.0)
        .bind(challenge.redeemed_at.map(time_to_micros))
        .bind(challenge.attempts_with_id)
        .bind(challenge.attempts_without_id)
        .bind(failed_attempts_to_bytes(&challenge.failed_attempts));
}

/// Records the login of a user, which cancels a scheduled deletion.
pub(super) const RECORD_LOGIN: &str =
    "UPDATE referral_users SET last_login = $2, last_active = $3, deletion_at = NULL WHERE id = $1";
