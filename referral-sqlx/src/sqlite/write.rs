//! Statements that write the decisions of the core.

use std::collections::BTreeMap;

use referral_core::{
    Challenge, ChallengeId, Email, Invitation, InvitedBy, Name, Session, SessionId, SharedSetting, User,
    UserId,
    storage::{
        CountedEvent, Counter, CounterUpdate, Counters, MessageKey, NewUser, RegisteredKey, Result,
        Retention, SearchKeys, SessionSelection, StorageError, StoredMessage,
    },
};
use sqlx::{Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{rows::COUNTER_COLUMNS, search, statements};
use crate::{
    encoding::{event_to_text, events_to_text, failed_attempts_to_bytes, retired_to_bytes, time_to_micros},
    error::failure,
};

/// Maximum number of keys of [`statements::REFUND`].
const REFUNDS_PER_STATEMENT: usize = 6;

/// Creates a user with the first invite code that is free.
pub(super) async fn new_user(
    connection: &mut SqliteConnection,
    new: &NewUser,
    invited_by: Option<InvitedBy>,
) -> Result<User> {
    for code in &new.invite_codes {
        let user = new.to_user(code.clone(), invited_by.clone());
        let keys = SearchKeys::of(&user);
        let insert = sqlx::query(statements::NEW_USER)
            .bind(user.id.0)
            .bind(user.phone.as_str())
            .bind(user.invite_code.as_str())
            .bind(user.is_staff)
            .bind(user.is_active)
            .bind(time_to_micros(user.date_joined))
            .bind(user.last_login.map(time_to_micros))
            .bind(keys.public)
            .bind(keys.private);
        if insert.execute(&mut *connection).await.map_err(failure)?.rows_affected() == 1 {
            search::add(connection, &user).await?;
            return Ok(user);
        }
    }
    Err(StorageError::InviteCodesExhausted)
}

/// Replaces the user with the same id. Does not write immutable columns, or the count of invitees, which the
/// database updates.
pub(super) async fn user(connection: &mut SqliteConnection, user: &User) -> Result<()> {
    let keys = SearchKeys::of(user);
    let update = sqlx::query(statements::CHANGE_USER)
        .bind(user.id.0)
        .bind(user.email.as_ref().map(Email::as_str))
        .bind(user.first_name.as_ref().map(Name::as_str))
        .bind(user.last_name.as_ref().map(Name::as_str))
        .bind(user.is_staff)
        .bind(user.is_active)
        .bind(user.last_login.map(time_to_micros))
        .bind(keys.public)
        .bind(keys.private);
    one_row(connection, update).await
}

/// Stores an invitation. Both users must exist.
pub(super) async fn invitation(connection: &mut SqliteConnection, invitation: &Invitation) -> Result<()> {
    let insert = sqlx::query(statements::NEW_INVITATION)
        .bind(invitation.invitee.0)
        .bind(invitation.inviter.0)
        .bind(invitation.code.as_str())
        .bind(time_to_micros(invitation.accepted_at))
        .bind(invitation.via.as_str());
    one_row(connection, insert).await
}

pub(super) async fn new_challenge(connection: &mut SqliteConnection, challenge: &Challenge) -> Result<()> {
    let insert = sqlx::query(statements::NEW_CHALLENGE)
        .bind(challenge.id.0)
        .bind(challenge.phone.as_str())
        .bind(challenge.code_length)
        .bind(challenge.code_hash.as_slice())
        .bind(&*challenge.pepper_id)
        .bind(time_to_micros(challenge.sent_at))
        .bind(time_to_micros(challenge.expires_at))
        .bind(challenge.redeemed_at.map(time_to_micros))
        .bind(challenge.attempts_with_id)
        .bind(challenge.attempts_without_id)
        .bind(challenge.address.map(|address| address.to_string()))
        .bind(failed_attempts_to_bytes(&challenge.failed_attempts));
    one_row(connection, insert).await
}

/// Replaces the challenge with the same id, which must not be redeemed.
pub(super) async fn challenge(connection: &mut SqliteConnection, challenge: &Challenge) -> Result<()> {
    let update = sqlx::query(statements::CHANGE_CHALLENGE)
        .bind(challenge.id.0)
        .bind(challenge.redeemed_at.map(time_to_micros))
        .bind(challenge.attempts_with_id)
        .bind(challenge.attempts_without_id)
        .bind(failed_attempts_to_bytes(&challenge.failed_attempts));
    one_row(connection, update).await
}

/// Deletes a challenge. Returns `true` if it existed.
pub(super) async fn delete_challenge(connection: &mut SqliteConnection, id: ChallengeId) -> Result<bool> {
    let delete = sqlx::query(statements::DELETE_CHALLENGE).bind(id.0);
    Ok(delete.execute(connection).await.map_err(failure)?.rows_affected() > 0)
}

/// Records the gateway that accepted the message of a challenge, if the challenge exists and is not redeemed.
pub(super) async fn gateway(
    connection: &mut SqliteConnection,
    challenge: ChallengeId,
    gateway: &str,
) -> Result<()> {
    let update = sqlx::query(statements::RECORD_GATEWAY).bind(challenge.0).bind(gateway);
    update.execute(connection).await.map_err(failure)?;
    Ok(())
}

/// Stores a message. `now` is its time of record if it is new.
pub(super) async fn message(
    connection: &mut SqliteConnection,
    key: &MessageKey,
    message: &StoredMessage,
    now: OffsetDateTime,
) -> Result<()> {
    let put = sqlx::query(statements::PUT_MESSAGE)
        .bind(key.gateway())
        .bind(key.id())
        .bind(message.is_ours)
        .bind(message.region.map(|region| region.to_string()))
        .bind(message.status.as_str())
        .bind(time_to_micros(now));
    one_row(connection, put).await
}

/// Updates counters. `facts` are the stored counters. No other request has changed them in the meantime, so
/// unchanged counters are not written.
pub(super) async fn counter_update(
    connection: &mut SqliteConnection,
    facts: &Counters,
    counter_update: &CounterUpdate,
) -> Result<()> {
    let is_changed = |counter: &&Counter| counter.events != facts.events(&counter.key);
    let changed: Vec<_> = counter_update.counters.iter().filter(is_changed).collect();
    if !changed.is_empty() {
        let put = (0..COUNTER_COLUMNS.len()).fold(sqlx::query(statements::PUT_COUNTERS), |put, index| {
            let counter = changed.get(index);
            put.bind(counter.map(|counter| counter.key.as_str()))
                .bind(counter.map(|counter| events_to_text(&counter.events)))
                .bind(counter.map(|counter| time_to_micros(counter.ends_at)))
        });
        rows_written(connection, put, changed.len() as u64).await?;
    }
    // A code has the same event in several counters, so one statement refunds it in all of them.
    let mut refunds: BTreeMap<CountedEvent, Vec<&str>> = BTreeMap::new();
    for (key, event) in &counter_update.refunds {
        refunds.entry(*event).or_default().push(key.as_str());
    }
    for (event, keys) in refunds {
        for keys in keys.chunks(REFUNDS_PER_STATEMENT) {
            let update = sqlx::query(statements::REFUND).bind(event_to_text(event));
            let update = (0..REFUNDS_PER_STATEMENT)
                .fold(update, |update, index| update.bind(keys.get(index).copied()));
            update.execute(&mut *connection).await.map_err(failure)?;
        }
    }
    if let Some(count) = counter_update.global_counters {
        let add = sqlx::query(statements::COUNT_GLOBALLY)
            .bind(count.counter.as_str())
            .bind(time_to_micros(count.since))
            .bind(count.by);
        one_row(connection, add).await?;
    }
    Ok(())
}

pub(super) async fn attack(connection: &mut SqliteConnection, until: OffsetDateTime) -> Result<()> {
    one_row(connection, sqlx::query(statements::RECORD_ATTACK).bind(time_to_micros(until))).await
}

/// Redeems a challenge that is not redeemed yet, and signs its user in.
pub(super) async fn sign_in(
    connection: &mut SqliteConnection,
    redeemed: &Challenge,
    session: &Session,
) -> Result<()> {
    let write = bind_session(statements::SIGN_IN, session)
        .bind(redeemed.id.0)
        .bind(redeemed.redeemed_at.map(time_to_micros));
    rows_written(connection, write, 3).await
}

/// Replaces the session with the same id.
pub(super) async fn session(connection: &mut SqliteConnection, session: &Session) -> Result<()> {
    one_row(connection, bind_session(statements::CHANGE_SESSION, session)).await
}

pub(super) async fn tokens_used(
    connection: &mut SqliteConnection,
    session: SessionId,
    access_id: Uuid,
) -> Result<()> {
    let update = sqlx::query(statements::MARK_TOKENS_USED).bind(session.0).bind(access_id);
    update.execute(connection).await.map_err(failure)?;
    Ok(())
}

pub(super) async fn key(connection: &mut SqliteConnection, key: &RegisteredKey) -> Result<()> {
    let put = sqlx::query(statements::PUT_KEY)
        .bind(key.purpose.as_str())
        .bind(&*key.id)
        .bind(key.fingerprint.as_slice())
        .bind(key.needed_until.map(time_to_micros));
    one_row(connection, put).await
}

/// Records settings. Replaces settings with the same names.
pub(super) async fn shared_settings(
    connection: &mut SqliteConnection,
    settings: &[SharedSetting],
) -> Result<()> {
    for setting in settings {
        let record = sqlx::query(statements::RECORD_SETTING).bind(&*setting.name).bind(&*setting.value);
        one_row(connection, record).await?;
    }
    Ok(())
}

/// Ends sessions of a user, and returns their ids.
pub(super) async fn end_sessions(
    connection: &mut SqliteConnection,
    user: UserId,
    sessions: SessionSelection,
    now: OffsetDateTime,
) -> Result<Vec<SessionId>> {
    let (statement, id) = match sessions {
        SessionSelection::One(id) => (statements::END_SESSION, id),
        SessionSelection::AllExcept(kept) => (statements::END_OTHER_SESSIONS, kept),
        // No session has this id.
        SessionSelection::All => (statements::END_OTHER_SESSIONS, SessionId(Uuid::nil())),
    };
    let end = sqlx::query_scalar(statement).bind(user.0).bind(time_to_micros(now)).bind(id.0);
    let mut ended: Vec<Uuid> = end.fetch_all(connection).await.map_err(failure)?;
    ended.sort_unstable_by(|a, b| b.cmp(a));
    Ok(ended.into_iter().map(SessionId).collect())
}

/// Deletes the sessions of a user except the newest `number`.
pub(super) async fn keep_newest_sessions(
    connection: &mut SqliteConnection,
    user: UserId,
    number: u32,
) -> Result<()> {
    let delete = sqlx::query(statements::KEEP_NEWEST_SESSIONS).bind(user.0).bind(number);
    delete.execute(connection).await.map_err(failure)?;
    Ok(())
}

/// Deletes a batch of expired rows from each table, and returns their number.
pub(super) async fn delete_expired(
    connection: &mut SqliteConnection,
    delete_expired: Retention,
) -> Result<u64> {
    let Retention { ended_before, global_counters_before, messages_before, batch } = delete_expired;
    let mut deleted = 0;
    for (statement, before) in [
        (statements::DELETE_EXPIRED_CHALLENGES, ended_before),
        (statements::DELETE_EXPIRED_SESSIONS, ended_before),
        (statements::DELETE_EXPIRED_COUNTERS, ended_before),
        (statements::DELETE_GLOBAL_COUNTERS, global_counters_before),
        (statements::DELETE_EXPIRED_MESSAGES, messages_before),
    ] {
        let delete = sqlx::query(statement).bind(time_to_micros(before)).bind(batch);
        deleted += delete.execute(&mut *connection).await.map_err(failure)?.rows_affected();
    }
    Ok(deleted)
}

/// Binds the values of a session. Both statements that write a session number them in this order.
fn bind_session<'q>(statement: &'static str, session: &'q Session) -> Query<'q, Sqlite, SqliteArguments> {
    sqlx::query(statement)
        .bind(session.id.0)
        .bind(session.user.0)
        .bind(time_to_micros(session.created_at))
        .bind(time_to_micros(session.expires_at))
        .bind(session.revoked_at.map(time_to_micros))
        .bind(time_to_micros(session.ends_at()))
        .bind(&*session.issued.key_id)
        .bind(session.issued.access_id)
        .bind(session.issued.refresh_id)
        .bind(time_to_micros(session.issued.issued_at))
        .bind(time_to_micros(session.issued.access_expires_at))
        .bind(time_to_micros(session.issued.refresh_expires_at))
        .bind(session.tokens_used)
        .bind(session.previous_refresh_id)
        .bind(retired_to_bytes(&session.superseded))
        .bind(session.address.map(|address| address.to_string()))
        .bind(session.user_agent.as_deref())
        .bind(session.repeated_late)
        .bind(session.late_repeats)
}

/// Executes a statement that must write one row, because the row was read under the same lock.
async fn one_row(
    connection: &mut SqliteConnection,
    statement: Query<'_, Sqlite, SqliteArguments>,
) -> Result<()> {
    rows_written(connection, statement, 1).await
}

async fn rows_written(
    connection: &mut SqliteConnection,
    statement: Query<'_, Sqlite, SqliteArguments>,
    expected: u64,
) -> Result<()> {
    let written = statement.execute(connection).await.map_err(failure)?.rows_affected();
    if written == expected {
        return Ok(());
    }
    Err(StorageError::Failed("a row to change is missing or can no longer change".into()))
}
