//! Queries for results, and for the facts that the rules of the core depend on.

use referral_core::{
    Ancestry, Email, InviteCode, Inviter, PageSize, PhoneNumber, Session, SessionId, SharedSetting, User,
    UserId, UserWithInvited,
    storage::{
        AttackCheck, ChallengeFacts, ChallengeRequest, CounterKey, Counters, FoundInvitees,
        GlobalCounterFacts, MessageKey, ProfileEdit, ProfileFacts, RegisteredKey, Result, SignInFacts,
        SignInRequest, StoredMessage, StoredSession,
    },
};
use sqlx::{
    Sqlite, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{rows, statements};
use crate::{encoding::time_to_micros, error::failure};

pub(super) async fn challenge_facts(
    connection: &mut SqliteConnection,
    request: &ChallengeRequest,
) -> Result<ChallengeFacts> {
    let (query, keys) = (request.global_counters(), request.counters());
    let facts = sqlx::query(statements::CHALLENGE_FACTS).bind(request.phone.as_str());
    let facts = bind_keys(facts, &keys, 7).bind(query.failed_attempts_since.map(time_to_micros));
    let row = facts.fetch_one(&mut *connection).await.map_err(failure)?;
    let mut facts = ChallengeFacts {
        last_sent_at: rows::optional_time(&row, "last_sent_at")?,
        last_is_redeemed: rows::get(&row, "last_is_redeemed")?,
        last_code_length: rows::optional_number(&row, "last_code_length")?,
        last_login: rows::optional_time(&row, "last_login")?,
        counters: rows::counters(&row, keys)?,
        global_counters: global_counter_facts(&row)?,
    };
    if let Some(times) = request.usual_times(&facts) {
        facts.global_counters.usual_failed_attempts = Some(failed_attempts(connection, &times).await?);
    }
    if let Some(since) = query.messages_since {
        facts.global_counters.messages = messages(connection, since).await?;
    }
    Ok(facts)
}

/// Reads the facts about the state of the service.
pub(super) async fn attack_facts(
    connection: &mut SqliteConnection,
    request: &AttackCheck,
) -> Result<GlobalCounterFacts> {
    let since = request.global_counters().failed_attempts_since.map(time_to_micros);
    let row = sqlx::query(statements::GLOBAL_COUNTER_FACTS).bind(since).fetch_one(&mut *connection).await;
    let mut facts = global_counter_facts(&row.map_err(failure)?)?;
    if let Some(times) = request.usual_times(&facts) {
        facts.usual_failed_attempts = Some(failed_attempts(connection, &times).await?);
    }
    Ok(facts)
}

fn global_counter_facts(row: &SqliteRow) -> Result<GlobalCounterFacts> {
    Ok(GlobalCounterFacts {
        failed_attempts: rows::number(row, "failed_attempts")?,
        attack_until: rows::optional_time(row, "attack_until")?,
        ..GlobalCounterFacts::default()
    })
}

/// Reads the number of wrong codes in each of these intervals.
async fn failed_attempts(
    connection: &mut SqliteConnection,
    times: &[(OffsetDateTime, OffsetDateTime)],
) -> Result<Vec<u64>> {
    let mut failed_attempts = Vec::with_capacity(times.len());
    for (since, end) in times {
        let sum = sqlx::query(statements::FAILURES_BETWEEN);
        let sum = sum.bind(time_to_micros(*since)).bind(time_to_micros(*end));
        let row = sum.fetch_one(&mut *connection).await.map_err(failure)?;
        failed_attempts.push(rows::number(&row, "failed_attempts")?);
    }
    Ok(failed_attempts)
}

/// Reads the hours since `since` in which messages were sent, with the number of messages.
async fn messages(
    connection: &mut SqliteConnection,
    since: OffsetDateTime,
) -> Result<Vec<(OffsetDateTime, u64)>> {
    let hours = sqlx::query(statements::MESSAGES_SINCE).bind(time_to_micros(since));
    let hours = hours.fetch_all(connection).await.map_err(failure)?;
    hours.iter().map(rows::messages).collect()
}

pub(super) async fn message(
    connection: &mut SqliteConnection,
    key: &MessageKey,
) -> Result<Option<StoredMessage>> {
    let found = sqlx::query(statements::MESSAGE).bind(key.gateway()).bind(key.id());
    let row = found.fetch_optional(connection).await.map_err(failure)?;
    row.as_ref().map(rows::message).transpose()
}

/// Reads up to four counters.
pub(super) async fn counters(connection: &mut SqliteConnection, keys: Vec<CounterKey>) -> Result<Counters> {
    let counters = bind_keys(sqlx::query(statements::COUNTERS), &keys, 4);
    rows::counters(&counters.fetch_one(connection).await.map_err(failure)?, keys)
}

/// Binds the keys, followed by NULL values up to `number` values.
fn bind_keys<'q>(
    statement: Query<'q, Sqlite, SqliteArguments>,
    keys: &'q [CounterKey],
    number: usize,
) -> Query<'q, Sqlite, SqliteArguments> {
    (0..number).fold(statement, |statement, index| statement.bind(keys.get(index).map(CounterKey::as_str)))
}

/// Reads all facts except the ancestry.
pub(super) async fn sign_in_facts(
    connection: &mut SqliteConnection,
    request: &SignInRequest,
) -> Result<SignInFacts> {
    let code = request.invite_code.as_ref();
    let statement = match request.challenge {
        Some(_) => statements::SIGN_IN_FACTS_NAMED,
        None => statements::SIGN_IN_FACTS,
    };
    let keys = request.counters();
    let facts = sqlx::query(statement).bind(request.phone.as_str()).bind(code.map(InviteCode::as_str));
    let since = request.global_counters().failed_attempts_since.map(time_to_micros);
    let mut facts = bind_keys(facts, &keys, 4).bind(since);
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
        global_counters: global_counter_facts(&row)?,
    };
    if let Some(times) = request.usual_times(&facts) {
        facts.global_counters.usual_failed_attempts = Some(failed_attempts(connection, &times).await?);
    }
    Ok(facts)
}

/// Reads all facts except the ancestry. Returns `None` if the user does not exist.
pub(super) async fn profile_facts(
    connection: &mut SqliteConnection,
    edit: &ProfileEdit,
) -> Result<Option<ProfileFacts>> {
    let Some(user) = user(connection, edit.user).await? else {
        return Ok(None);
    };
    let email = edit.change.email.as_ref().and_then(Option::as_ref);
    Ok(Some(ProfileFacts {
        user,
        email_owner: owner_of_email(connection, email).await?,
        inviter: owner_of_code(connection, edit.change.invited_by_code.as_ref()).await?,
        ancestry: Ancestry::NotWalked,
        counters: counters(connection, edit.counters()).await?,
    }))
}

/// Walks from `inviter` up to the first inviter. The caller must be in a transaction that writes, so that no
/// invitation is added in the meantime.
pub(super) async fn ancestry(
    connection: &mut SqliteConnection,
    inviter: UserId,
    invitee: UserId,
) -> Result<Ancestry> {
    let has_invitee = sqlx::query_scalar(statements::ANCESTRY_HAS).bind(inviter.0).bind(invitee.0);
    let has_invitee: bool = has_invitee.fetch_one(connection).await.map_err(failure)?;
    Ok(if has_invitee { Ancestry::WithInvitee } else { Ancestry::WithoutInvitee })
}

/// Reads a session with its user and the newest invitees.
pub(super) async fn session(
    connection: &mut SqliteConnection,
    id: SessionId,
    invited: u32,
) -> Result<Option<StoredSession>> {
    let found = match invited {
        0 => sqlx::query(statements::SESSION).bind(id.0),
        _ => sqlx::query(statements::SESSION_WITH_INVITED).bind(id.0).bind(invited),
    };
    let found = found.fetch_all(connection).await.map_err(failure)?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    let user = user_with_invited(row, &found, invited)?;
    Ok(Some(StoredSession { session: rows::session(row)?, user }))
}

/// Reads the user of `row`, and the invitees of all rows if `invited` is not zero.
fn user_with_invited(row: &SqliteRow, all: &[SqliteRow], invited: u32) -> Result<UserWithInvited> {
    let all = if invited == 0 { &[] } else { all };
    let invited = all.iter().filter_map(|row| rows::invitee(row).transpose()).collect::<Result<_>>()?;
    Ok(UserWithInvited { user: rows::user(row)?, invited })
}

/// Reads a session. The second value is `true` if its user is active.
pub(super) async fn refresh_facts(
    connection: &mut SqliteConnection,
    id: SessionId,
) -> Result<Option<(Session, bool)>> {
    let found = sqlx::query(statements::REFRESH_FACTS).bind(id.0).fetch_optional(connection).await;
    let row = found.map_err(failure)?;
    row.map(|row| Ok((rows::session(&row)?, rows::get(&row, "is_active")?))).transpose()
}

/// Reads the sessions of a user that have not ended.
pub(super) async fn sessions(
    connection: &mut SqliteConnection,
    user: UserId,
    now: OffsetDateTime,
    limit: u32,
) -> Result<Vec<Session>> {
    let sessions = sqlx::query(statements::SESSIONS).bind(user.0).bind(time_to_micros(now)).bind(limit);
    let sessions = sessions.fetch_all(connection).await.map_err(failure)?;
    sessions.iter().map(rows::session).collect()
}

pub(super) async fn user(connection: &mut SqliteConnection, id: UserId) -> Result<Option<User>> {
    let found = sqlx::query(statements::USER).bind(id.0).fetch_optional(connection).await;
    found.map_err(failure)?.as_ref().map(rows::user).transpose()
}

pub(super) async fn user_with_phone(
    connection: &mut SqliteConnection,
    phone: &PhoneNumber,
) -> Result<Option<User>> {
    let found = sqlx::query(statements::USER_WITH_PHONE).bind(phone.as_str());
    let found = found.fetch_optional(connection).await.map_err(failure)?;
    found.as_ref().map(rows::user).transpose()
}

pub(super) async fn user_and_invited(
    connection: &mut SqliteConnection,
    id: UserId,
    invited: u32,
) -> Result<Option<UserWithInvited>> {
    let found = match invited {
        0 => sqlx::query(statements::USER).bind(id.0),
        _ => sqlx::query(statements::USER_WITH_INVITED).bind(id.0).bind(invited),
    };
    let found = found.fetch_all(connection).await.map_err(failure)?;
    found.first().map(|row| user_with_invited(row, &found, invited)).transpose()
}

/// Reads a page of invitees. Returns `None` if the inviter does not exist.
pub(super) async fn invitees(
    connection: &mut SqliteConnection,
    inviter: UserId,
    older_than: Option<UserId>,
    limit: PageSize,
) -> Result<Option<FoundInvitees>> {
    let older_than = older_than.map_or(Uuid::max(), |id| id.0);
    // One more than the limit shows whether there are more.
    let limit = limit.get();
    let found = sqlx::query(statements::INVITEES).bind(inviter.0).bind(older_than).bind(limit + 1);
    let found = found.fetch_all(connection).await.map_err(failure)?;
    let Some(first) = found.first() else {
        return Ok(None);
    };
    let count = rows::number(first, "invited_count")?;
    let limit = limit as usize;
    let invitees = found.iter().take(limit).filter_map(|row| rows::invitee(row).transpose());
    let invitees = invitees.collect::<Result<_>>()?;
    Ok(Some(FoundInvitees { invitees, has_more: found.len() > limit, count }))
}

pub(super) async fn registered_keys(connection: &mut SqliteConnection) -> Result<Vec<RegisteredKey>> {
    let known = sqlx::query(statements::REGISTERED_KEYS).fetch_all(connection).await.map_err(failure)?;
    known.iter().map(rows::known_key).collect()
}

pub(super) async fn shared_settings(connection: &mut SqliteConnection) -> Result<Vec<SharedSetting>> {
    let settings = sqlx::query(statements::SHARED_SETTINGS).fetch_all(connection).await.map_err(failure)?;
    let read = |row: &SqliteRow| {
        Ok(SharedSetting::new(rows::get::<String>(row, "name")?, rows::get::<String>(row, "value")?))
    };
    settings.iter().map(read).collect()
}

async fn owner_of_code(
    connection: &mut SqliteConnection,
    code: Option<&InviteCode>,
) -> Result<Option<Inviter>> {
    let Some(code) = code else {
        return Ok(None);
    };
    let owner = sqlx::query_scalar(statements::OWNER_OF_CODE).bind(code.as_str());
    let owner = owner.fetch_optional(connection).await.map_err(failure)?;
    Ok(owner.map(|id| Inviter { id: UserId(id), code: code.clone() }))
}

async fn owner_of_email(connection: &mut SqliteConnection, email: Option<&Email>) -> Result<Option<UserId>> {
    let Some(email) = email else {
        return Ok(None);
    };
    let owner = sqlx::query_scalar(statements::OWNER_OF_EMAIL).bind(email.as_str());
    Ok(owner.fetch_optional(connection).await.map_err(failure)?.map(UserId))
}
