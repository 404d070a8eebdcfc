//! Statements that write the decisions of the core if the facts have not changed.

use referral_core::{
    Challenge, ChallengeId, Email, Invitation, Name, PhoneNumber, Session, SessionId, SharedSetting, User,
    UserId,
    storage::{
        Counter, CounterKey, CounterUpdate, Counters, DeliveryUpdate, Gram, MessageKey, RegisteredKey,
        Result, Retention, SearchKeys, SessionSelection, StoredMessage,
    },
};
use sqlx::{Postgres, postgres::PgArguments, query::Query};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Lease,
    retry::{WriteConflict, write_error},
    rows, statements,
};
use crate::{
    encoding::{event_to_text, events_to_text, failed_attempts_to_bytes, retired_to_bytes},
    error::failure,
};

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Stores a challenge with the number after `newest`, the number of the newest challenge of the phone, and
/// updates counters.
pub(super) async fn new_challenge(
    lease: &mut Lease,
    challenge: &Challenge,
    newest: i64,
    counts: &Counts<'_>,
    attack_until: Option<OffsetDateTime>,
) -> Result<()> {
    let insert = counts
        .bind(lease.query(statements::NEW_CHALLENGE))
        .bind(challenge.id.0)
        .bind(challenge.phone.as_str())
        .bind(newest + 1)
        .bind(i64::from(challenge.code_length))
        .bind(challenge.code_hash.as_slice())
        .bind(&*challenge.pepper_id)
        .bind(challenge.sent_at)
        .bind(challenge.expires_at)
        .bind(challenge.redeemed_at)
        .bind(i64::from(challenge.attempts_with_id))
        .bind(i64::from(challenge.attempts_without_id))
        .bind(challenge.address.map(|address| address.to_string()))
        .bind(attack_until);
    one_row(lease, insert).await
}

/// Deletes a challenge. Returns `true` if it existed.
pub(super) async fn delete_challenge(lease: &mut Lease, id: ChallengeId) -> Result<bool> {
    let delete = lease.query(statements::DELETE_CHALLENGE).bind(id.0);
    Ok(lease.execute(delete).await.map_err(failure)?.rows_affected() > 0)
}

/// Replaces the stored message `from` with `to`, and stores the gateway of the challenge if `news` has one.
pub(super) async fn message(
    lease: &mut Lease,
    news: &DeliveryUpdate,
    key: &MessageKey,
    from: Option<StoredMessage>,
    to: &StoredMessage,
) -> Result<()> {
    let put = lease
        .query(statements::PUT_MESSAGE)
        .bind(news.challenge.as_ref().map(|(challenge, _)| challenge.0))
        .bind(key.gateway())
        .bind(key.id())
        .bind(to.is_ours)
        .bind(to.region.map(|region| region.to_string()))
        .bind(to.status.as_str())
        .bind(news.now)
        .bind(from.map(|from| from.is_ours))
        .bind(from.map(|from| from.status.as_str()));
    one_row(lease, put).await
}

/// Stores only the gateway of a challenge, if `news` has one.
pub(super) async fn gateway(lease: &mut Lease, news: &DeliveryUpdate) -> Result<()> {
    if let Some((challenge, gateway)) = &news.challenge {
        let update = lease.query(statements::RECORD_GATEWAY).bind(challenge.0).bind(&**gateway);
        lease.execute(update).await.map_err(write_error)?;
    }
    Ok(())
}

/// Updates counters, if there are any to update.
pub(super) async fn counter_update(lease: &mut Lease, counts: &Counts<'_>) -> Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    let count = counts.bind(lease.query(statements::COUNT));
    one_row(lease, count).await
}

/// Replaces the challenge `from` with `to`, which has the same id, and updates counters.
pub(super) async fn challenge(
    lease: &mut Lease,
    from: &Challenge,
    to: &Challenge,
    counts: &Counts<'_>,
) -> Result<()> {
    let update = bind_facts(counts.bind(lease.query(statements::CHANGE_CHALLENGE)), from)
        .bind(to.redeemed_at)
        .bind(i64::from(to.attempts_with_id))
        .bind(i64::from(to.attempts_without_id))
        .bind(failed_attempts_to_bytes(&to.failed_attempts));
    one_row(lease, update).await
}

/// Redeems the challenge `from`, updates counters, and signs the user in.
pub(super) async fn sign_in(
    lease: &mut Lease,
    from: &Challenge,
    redeemed_at: Option<OffsetDateTime>,
    session: &Session,
    counts: &Counts<'_>,
) -> Result<()> {
    let sign_in = bind_facts(counts.bind(lease.query(statements::SIGN_IN)), from).bind(redeemed_at);
    let sign_in = bind_session(sign_in, session);
    one_row(lease, sign_in).await
}

/// Redeems the challenge `from`, updates counters, creates a user, and signs the user in.
pub(super) async fn sign_up(
    lease: &mut Lease,
    from: &Challenge,
    redeemed_at: Option<OffsetDateTime>,
    session: &Session,
    user: &User,
    invitation: Option<&Invitation>,
    counts: &Counts<'_>,
) -> Result<()> {
    let sign_up = bind_facts(counts.bind(lease.query(statements::SIGN_UP)), from).bind(redeemed_at);
    let sign_up = bind_session(sign_up, session)
        .bind(user.phone.as_str())
        .bind(user.invite_code.as_str())
        .bind(user.is_staff)
        .bind(user.is_active)
        .bind(user.date_joined)
        .bind(user.last_login);
    let sign_up = bind_search_keys(sign_up, user)
        .bind(invitation.map(|invitation| invitation.inviter.0))
        .bind(invitation.map(|invitation| invitation.code.as_str()))
        .bind(invitation.map(|invitation| invitation.accepted_at))
        .bind(invitation.map(|invitation| invitation.via.as_str()));
    one_row(lease, sign_up).await
}

pub(super) async fn attack(lease: &mut Lease, until: OffsetDateTime) -> Result<()> {
    let note = lease.query(statements::RECORD_ATTACK).bind(until);
    lease.execute(note).await.map_err(failure)?;
    Ok(())
}

/// Creates a user without a session.
pub(super) async fn new_user(lease: &mut Lease, user: &User) -> Result<()> {
    let insert = lease
        .query(statements::NEW_USER)
        .bind(user.id.0)
        .bind(user.phone.as_str())
        .bind(user.invite_code.as_str())
        .bind(user.is_staff)
        .bind(user.is_active)
        .bind(user.date_joined)
        .bind(user.last_login);
    let insert = bind_search_keys(insert, user);
    one_row(lease, insert).await
}

/// Stores the edited profile of a user.
pub(super) async fn profile(lease: &mut Lease, user: &User) -> Result<()> {
    let update = lease
        .query(statements::CHANGE_PROFILE)
        .bind(user.id.0)
        .bind(user.email.as_ref().map(Email::as_str))
        .bind(user.first_name.as_ref().map(Name::as_str))
        .bind(user.last_name.as_ref().map(Name::as_str));
    let update = bind_search_keys(update, user);
    one_row(lease, update).await
}

/// Stores an invitation that `user` accepted late. Both users must exist.
pub(super) async fn invitation(lease: &mut Lease, invitation: &Invitation, user: &User) -> Result<()> {
    let insert = lease
        .query(statements::NEW_INVITATION)
        .bind(invitation.invitee.0)
        .bind(invitation.inviter.0)
        .bind(invitation.code.as_str())
        .bind(invitation.accepted_at)
        .bind(invitation.via.as_str());
    let insert = bind_search_keys(insert, user);
    one_row(lease, insert).await
}

/// Replaces the session `from` with `to`, which has the same id.
pub(super) async fn session(lease: &mut Lease, from: &Session, to: &Session) -> Result<()> {
    let update = bind_session(lease.query(statements::CHANGE_SESSION).bind(from.issued.refresh_id), to);
    one_row(lease, update).await
}

pub(super) async fn tokens_used(lease: &mut Lease, session: SessionId, access_id: Uuid) -> Result<()> {
    let update = lease.query(statements::MARK_TOKENS_USED).bind(session.0).bind(access_id);
    lease.execute(update).await.map_err(failure)?;
    Ok(())
}

/// Ends sessions of a user, and returns their ids.
pub(super) async fn end_sessions(
    lease: &mut Lease,
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
    let end = lease.query(statement).bind(user.0).bind(now).bind(id.0);
    let rows = lease.fetch_all(end).await.map_err(write_error)?;
    let ended: Result<Vec<Uuid>> = rows.iter().map(|row| rows::get(row, "id")).collect();
    let mut ended = ended?;
    ended.sort_unstable_by(|a, b| b.cmp(a));
    Ok(ended.into_iter().map(SessionId).collect())
}

/// Deletes the sessions of a user except the newest `number`.
pub(super) async fn keep_newest_sessions(lease: &mut Lease, user: UserId, number: u32) -> Result<()> {
    let delete = lease.query(statements::KEEP_NEWEST_SESSIONS).bind(user.0).bind(i64::from(number));
    lease.execute(delete).await.map_err(write_error)?;
    Ok(())
}

/// Deletes a batch of expired rows from each table, and returns their number.
pub(super) async fn delete_expired(lease: &mut Lease, delete_expired: Retention) -> Result<u64> {
    let Retention { ended_before, global_counters_before, messages_before, batch } = delete_expired;
    let mut deleted = 0;
    for (statement, before) in [
        (statements::DELETE_EXPIRED_CHALLENGES, ended_before),
        (statements::DELETE_EXPIRED_SESSIONS, ended_before),
        (statements::DELETE_EXPIRED_COUNTERS, ended_before),
        (statements::DELETE_GLOBAL_COUNTERS, global_counters_before),
        (statements::DELETE_EXPIRED_MESSAGES, messages_before),
    ] {
        let delete = lease.query(statement).bind(before).bind(i64::from(batch));
        deleted += lease.execute(delete).await.map_err(failure)?.rows_affected();
    }
    Ok(deleted)
}

/// Locks the counters that exist. They must be locked before users, in the same order as in a sign-in.
pub(super) async fn lock_counters(lease: &mut Lease, keys: &[CounterKey]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let keys: Vec<_> = keys.iter().map(|key| key.as_str().to_owned()).collect();
    let lock = lease.query(statements::LOCK_COUNTERS).bind(keys);
    lease.execute(lock).await.map_err(failure)?;
    Ok(())
}

/// Locks a user, if it exists, until the end of the transaction.
pub(super) async fn lock_user(lease: &mut Lease, id: UserId) -> Result<()> {
    let lock = lease.query(statements::LOCK_USER).bind(id.0);
    lease.execute(lock).await.map_err(failure)?;
    Ok(())
}

/// Locks the user with a phone, if it exists, until the end of the transaction.
pub(super) async fn lock_user_with_phone(lease: &mut Lease, phone: &PhoneNumber) -> Result<()> {
    let lock = lease.query(statements::LOCK_USER_WITH_PHONE).bind(phone.as_str());
    lease.execute(lock).await.map_err(failure)?;
    Ok(())
}

/// Takes a lock until the end of the transaction.
pub(super) async fn lock(lease: &mut Lease, lock: &'static str) -> Result<()> {
    let lock = lease.query(lock);
    lease.fetch_one(lock).await.map_err(failure)?;
    Ok(())
}

pub(super) async fn key(lease: &mut Lease, key: &RegisteredKey) -> Result<()> {
    let put = lease
        .query(statements::PUT_KEY)
        .bind(key.purpose.as_str())
        .bind(&*key.id)
        .bind(key.fingerprint.as_slice())
        .bind(key.needed_until);
    one_row(lease, put).await
}

/// Changes of counters, and the counters that the decision is based on.
pub(super) struct Counts<'a> {
    pub(super) facts: &'a Counters,
    pub(super) counter_update: &'a CounterUpdate,
}

impl Counts<'_> {
    fn is_empty(&self) -> bool {
        let CounterUpdate { counters, refunds, global_counters } = self.counter_update;
        counters.is_empty() && refunds.is_empty() && global_counters.is_none()
    }

    /// Binds the first nine values of the [`statements`] that update counters.
    fn bind<'q>(&self, statement: Statement<'q>) -> Statement<'q> {
        let CounterUpdate { counters, refunds, global_counters } = self.counter_update;
        let key = |key: &CounterKey| key.as_str().to_owned();
        let was = |counter: &Counter| events_to_text(self.facts.events(&counter.key));
        statement
            .bind(counters.iter().map(|counter| key(&counter.key)).collect::<Vec<_>>())
            .bind(counters.iter().map(was).collect::<Vec<_>>())
            .bind(counters.iter().map(|counter| events_to_text(&counter.events)).collect::<Vec<_>>())
            .bind(counters.iter().map(|counter| counter.ends_at).collect::<Vec<_>>())
            .bind(refunds.iter().map(|(refunded, _)| key(refunded)).collect::<Vec<_>>())
            .bind(refunds.iter().map(|(_, event)| event_to_text(*event)).collect::<Vec<_>>())
            .bind(global_counters.map(|count| count.counter.as_str()))
            .bind(global_counters.map(|count| count.since))
            .bind(global_counters.map(|count| i64::from(count.by)))
    }
}

/// Binds the id of the challenge to change, and the values that it must still have.
fn bind_facts<'q>(statement: Statement<'q>, challenge: &Challenge) -> Statement<'q> {
    statement
        .bind(challenge.id.0)
        .bind(i64::from(challenge.attempts_with_id))
        .bind(i64::from(challenge.attempts_without_id))
}

/// Binds the values of a session. All statements that write a session number them in this order.
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
        .bind(retired_to_bytes(&session.superseded))
        .bind(session.address.map(|address| address.to_string()))
        .bind(session.user_agent.as_deref())
        .bind(session.repeated_late)
        .bind(i64::from(session.late_repeats))
}

fn bind_search_keys<'q>(statement: Statement<'q>, user: &User) -> Statement<'q> {
    let keys = SearchKeys::of(user);
    let grams = to_stored(&keys.grams());
    statement.bind(keys.public).bind(keys.private).bind(grams)
}

/// Converts grams to integers. The integers of PostgreSQL are signed.
pub(super) fn to_stored(grams: &[Gram]) -> Vec<i32> {
    grams.iter().map(|gram| gram.cast_signed()).collect()
}

/// Executes a statement that writes one row, or no row if the facts have changed.
async fn one_row(lease: &mut Lease, statement: Statement<'_>) -> Result<()> {
    match lease.execute(statement).await.map_err(write_error)?.rows_affected() {
        1 => Ok(()),
        _ => Err(WriteConflict::Stale.into()),
    }
}

/// Records settings. Replaces settings with the same names.
pub(super) async fn shared_settings(lease: &mut Lease, settings: &[SharedSetting]) -> Result<()> {
    let (names, values): (Vec<_>, Vec<_>) =
        settings.iter().map(|setting| (setting.name.clone(), setting.value.clone())).unzip();
    let record = lease.query(statements::RECORD_SETTINGS).bind(names).bind(values);
    lease.execute(record).await.map_err(failure)?;
    Ok(())
}

/// Writes enough rows to allocate disk space. The caller must roll back the transaction.
pub(super) async fn probe_disk(lease: &mut Lease) -> Result<()> {
    lease.execute_text(statements::PROBE_DISK).await.map_err(failure)
}
