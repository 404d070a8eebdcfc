//! Queries for results, and for the facts that the rules of the core depend on.

use referral_core::{
    Ancestry, Email, InviteCode, Inviter, PageSize, PhoneNumber, Session, SessionId, SharedSetting, User,
    UserId, UserWithInvited,
    storage::{
        AttackCheck, ChallengeFacts, ChallengeRequest, CounterKey, FoundInvitees, GlobalCounterFacts,
        MessageKey, ProfileEdit, ProfileFacts, RegisteredKey, Result, SignInFacts, SignInRequest,
        StoredMessage, StoredSession,
    },
};
use sqlx::{
    Postgres,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Lease, rows, statements};
use crate::error::failure;

/// Reads the facts, and the number of the newest challenge of the phone. The number is zero if there is none.
pub(super) async fn challenge_facts(
    lease: &mut Lease,
    request: &ChallengeRequest,
) -> Result<(ChallengeFacts, i64)> {
    let (query, keys) = (request.global_counters(), request.counters());
    let facts = lease.query(statements::CHALLENGE_FACTS).bind(request.phone.as_str());
    let facts = bind_keys(facts, &keys, 7).bind(query.failed_attempts_since);
    let row = lease.fetch_one(facts).await.map_err(failure)?;
    let mut facts = ChallengeFacts {
        last_sent_at: rows::optional_time(&row, "last_sent_at")?,
        last_is_redeemed: rows::get(&row, "last_is_redeemed")?,
        last_code_length: rows::optional_number(&row, "last_code_length")?,
        last_login: rows::optional_time(&row, "last_login")?,
        counters: rows::counters(&row, keys)?,
        global_counters: global_counter_facts(&row)?,
    };
    if let Some(times) = request.usual_times(&facts) {
        facts.global_counters.usual_failed_attempts = Some(failed_attempts(lease, times).await?);
    }
    if let Some(since) = query.messages_since {
        facts.global_counters.messages = messages(lease, since).await?;
    }
    Ok((facts, rows::get::<Option<i64>>(&row, "number")?.unwrap_or(0)))
}

/// Reads the facts about the state of the service.
pub(super) async fn attack_facts(lease: &mut Lease, request: &AttackCheck) -> Result<GlobalCounterFacts> {
    let facts =
        lease.query(statements::GLOBAL_COUNTER_FACTS).bind(request.global_counters().failed_attempts_since);
    let row = lease.fetch_one(facts).await.map_err(failure)?;
    let mut facts = global_counter_facts(&row)?;
    if let Some(times) = request.usual_times(&facts) {
        facts.usual_failed_attempts = Some(failed_attempts(lease, times).await?);
    }
    Ok(facts)
}

fn global_counter_facts(row: &PgRow) -> Result<GlobalCounterFacts> {
    Ok(GlobalCounterFacts {
        failed_attempts: rows::number(row, "failed_attempts")?,
        attack_until: rows::optional_time(row, "attack_until")?,
        ..GlobalCounterFacts::default()
    })
}

/// Reads the number of wrong codes in each of these intervals.
async fn failed_attempts(
    lease: &mut Lease,
    times: Vec<(OffsetDateTime, OffsetDateTime)>,
) -> Result<Vec<u64>> {
    let (since, until): (Vec<_>, Vec<_>) = times.into_iter().unzip();
    let sums = lease.query(statements::FAILURES_BETWEEN).bind(since).bind(until);
    let sums = lease.fetch_all(sums).await.map_err(failure)?;
    sums.iter().map(|sum| rows::number(sum, "failed_attempts")).collect()
}

/// Reads the hours since `since` in which messages were sent, with the number of messages.
async fn messages(lease: &mut Lease, since: OffsetDateTime) -> Result<Vec<(OffsetDateTime, u64)>> {
    let hours = lease.query(statements::MESSAGES_SINCE).bind(since);
    let hours = lease.fetch_all(hours).await.map_err(failure)?;
    hours.iter().map(rows::messages).collect()
}

pub(super) async fn message(lease: &mut Lease, key: &MessageKey) -> Result<Option<StoredMessage>> {
    let found = lease.query(statements::MESSAGE).bind(key.gateway()).bind(key.id());
    let row = lease.fetch_optional(found).await.map_err(failure)?;
    row.as_ref().map(rows::message).transpose()
}

/// Binds the keys, followed by NULL values up to `number` values.
fn bind_keys<'q>(
    statement: Query<'q, Postgres, PgArguments>,
    keys: &'q [CounterKey],
    number: usize,
) -> Query<'q, Postgres, PgArguments> {
    (0..number).fold(statement, |statement, index| statement.bind(keys.get(index).map(CounterKey::as_str)))
}

/// Reads all facts except the ancestry.
pub(super) async fn sign_in_facts(lease: &mut Lease, request: &SignInRequest) -> Result<SignInFacts> {
    let code = request.invite_code.as_ref();
    let statement = match request.challenge {
        Some(_) => statements::SIGN_IN_FACTS_NAMED,
        None => statements::SIGN_IN_FACTS,
    };
    let keys = request.counters();
    let facts = lease.query(statement).bind(request.phone.as_str()).bind(code.map(InviteCode::as_str));
    let mut facts = bind_keys(facts, &keys, 4).bind(request.global_counters().failed_attempts_since);
    if let Some(id) = request.challenge {
        facts = facts.bind(id.0);
    }
    let row = lease.fetch_one(facts).await.map_err(failure)?;
    let challenge = rows::get::<Option<Uuid>>(&row, "challenge_id")?;
    let user = rows::get::<Option<Uuid>>(&row, "id")?;
    let mut facts = SignInFacts {
        challenge: challenge.map(|_| rows::challenge(&row, &request.phone)).transpose()?,
        user: user.map(|_| rows::user(&row)).transpose()?,
        inviter: code_owner(&row, code)?,
        ancestry: Ancestry::NotWalked,
        counters: rows::counters(&row, keys)?,
        global_counters: global_counter_facts(&row)?,
    };
    if let Some(times) = request.usual_times(&facts) {
        facts.global_counters.usual_failed_attempts = Some(failed_attempts(lease, times).await?);
    }
    Ok(facts)
}

/// Reads all facts except the ancestry. Returns `None` if the user does not exist.
pub(super) async fn profile_facts(lease: &mut Lease, edit: &ProfileEdit) -> Result<Option<ProfileFacts>> {
    let email = edit.change.email.as_ref().and_then(Option::as_ref);
    let code = edit.change.invited_by_code.as_ref();
    let keys = edit.counters();
    let facts = lease
        .query(statements::PROFILE_FACTS)
        .bind(edit.user.0)
        .bind(email.map(Email::as_str))
        .bind(code.map(InviteCode::as_str));
    let facts = bind_keys(facts, &keys, 4);
    let Some(row) = lease.fetch_optional(facts).await.map_err(failure)? else {
        return Ok(None);
    };
    Ok(Some(ProfileFacts {
        user: rows::user(&row)?,
        email_owner: rows::get::<Option<Uuid>>(&row, "email_owner")?.map(UserId),
        inviter: code_owner(&row, code)?,
        ancestry: Ancestry::NotWalked,
        counters: rows::counters(&row, keys)?,
    }))
}

/// Walks from `inviter` up to the first inviter. The caller must hold the lock for late acceptances.
pub(super) async fn ancestry(lease: &mut Lease, inviter: UserId, invitee: UserId) -> Result<Ancestry> {
    let has_invitee = lease.query(statements::ANCESTRY_HAS).bind(inviter.0).bind(invitee.0);
    let row = lease.fetch_one(has_invitee).await.map_err(failure)?;
    Ok(if rows::get(&row, "has_invitee")? { Ancestry::WithInvitee } else { Ancestry::WithoutInvitee })
}

/// Reads a session with its user and the newest invitees.
pub(super) async fn session(lease: &mut Lease, id: SessionId, invited: u32) -> Result<Option<StoredSession>> {
    let found = match invited {
        0 => lease.query(statements::SESSION).bind(id.0),
        _ => lease.query(statements::SESSION_WITH_INVITED).bind(id.0).bind(i64::from(invited)),
    };
    let Some(row) = lease.fetch_optional(found).await.map_err(failure)? else {
        return Ok(None);
    };
    let invited = if invited == 0 { Vec::new() } else { rows::invited(&row)? };
    let user = UserWithInvited { user: rows::user(&row)?, invited };
    Ok(Some(StoredSession { session: rows::session(&row)?, user }))
}

/// Reads a session. The second value is `true` if its user is active.
pub(super) async fn refresh_facts(lease: &mut Lease, id: SessionId) -> Result<Option<(Session, bool)>> {
    let found = lease.query(statements::REFRESH_FACTS).bind(id.0);
    let row = lease.fetch_optional(found).await.map_err(failure)?;
    row.map(|row| Ok((rows::session(&row)?, rows::get(&row, "is_active")?))).transpose()
}

/// Reads the sessions of a user that have not ended.
pub(super) async fn sessions(
    lease: &mut Lease,
    user: UserId,
    now: OffsetDateTime,
    limit: u32,
) -> Result<Vec<Session>> {
    let sessions = lease.query(statements::SESSIONS).bind(user.0).bind(now).bind(i64::from(limit));
    let sessions = lease.fetch_all(sessions).await.map_err(failure)?;
    sessions.iter().map(rows::session).collect()
}

pub(super) async fn user(lease: &mut Lease, id: UserId, invited: u32) -> Result<Option<UserWithInvited>> {
    let found = lease.query(statements::USER).bind(id.0).bind(i64::from(invited));
    let row = lease.fetch_optional(found).await.map_err(failure)?;
    row.map(|row| Ok(UserWithInvited { user: rows::user(&row)?, invited: rows::invited(&row)? })).transpose()
}

pub(super) async fn user_with_phone(lease: &mut Lease, phone: &PhoneNumber) -> Result<Option<User>> {
    let found = lease.query(statements::USER_WITH_PHONE).bind(phone.as_str());
    let found = lease.fetch_optional(found).await.map_err(failure)?;
    found.as_ref().map(rows::user).transpose()
}

/// Executes a statement that changes a user, and returns the changed user.
pub(super) async fn changed_user(
    lease: &mut Lease,
    change: Query<'_, Postgres, PgArguments>,
) -> Result<Option<User>> {
    let changed = lease.fetch_optional(change).await.map_err(failure)?;
    changed.as_ref().map(rows::user).transpose()
}

/// Reads a page of invitees. Returns `None` if the inviter does not exist.
pub(super) async fn invitees(
    lease: &mut Lease,
    inviter: UserId,
    older_than: Option<UserId>,
    limit: PageSize,
) -> Result<Option<FoundInvitees>> {
    let older_than = older_than.map_or(Uuid::max(), |id| id.0);
    // One more than the limit shows whether there are more.
    let limit = limit.get() as usize;
    let found = lease
        .query(statements::INVITEES)
        .bind(inviter.0)
        .bind(older_than)
        .bind(i64::try_from(limit + 1).unwrap_or(i64::MAX));
    let found = lease.fetch_all(found).await.map_err(failure)?;
    let Some(first) = found.first() else {
        return Ok(None);
    };
    let count = rows::number(first, "invited_count")?;
    let invitees = found.iter().take(limit).filter_map(|row| rows::invitee(row).transpose());
    let invitees = invitees.collect::<Result<_>>()?;
    Ok(Some(FoundInvitees { invitees, has_more: found.len() > limit, count }))
}

pub(super) async fn registered_keys(lease: &mut Lease) -> Result<Vec<RegisteredKey>> {
    let known = lease.query(statements::REGISTERED_KEYS);
    let known = lease.fetch_all(known).await.map_err(failure)?;
    known.iter().map(rows::known_key).collect()
}

pub(super) async fn shared_settings(lease: &mut Lease) -> Result<Vec<SharedSetting>> {
    let settings = lease.query(statements::SHARED_SETTINGS);
    let settings = lease.fetch_all(settings).await.map_err(failure)?;
    let read = |row: &PgRow| {
        Ok(SharedSetting::new(rows::get::<String>(row, "name")?, rows::get::<String>(row, "value")?))
    };
    settings.iter().map(read).collect()
}

pub(super) async fn current_time(lease: &mut Lease) -> Result<OffsetDateTime> {
    let time = lease.query(statements::CURRENT_TIME);
    let time = lease.fetch_one(time).await.map_err(failure)?;
    rows::get(&time, "time")
}

fn code_owner(row: &PgRow, code: Option<&InviteCode>) -> Result<Option<Inviter>> {
    let owner = rows::get::<Option<Uuid>>(row, "code_owner")?.map(UserId);
    Ok(owner.zip(code.cloned()).map(|(id, code)| Inviter { id, code }))
}
