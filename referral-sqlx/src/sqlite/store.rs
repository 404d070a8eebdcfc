//! Implementation of [`Storage`]: each method loads the facts, lets the core decide, and writes the decision.
//! The writer runs and commits each method that writes.
//!
//! This module contains no rules and no SQL.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use referral_core::{
    ChallengeId, Check, InvitedBy, KeyMismatch, PageSize, Refusal, Session, SessionId, SharedSetting, User,
    UserId, UserWithInvited,
    storage::{
        AttackCheck, AttackStatus, ChallengeDecision, ChallengeRequest, CounterUpdate, Counters, Decided,
        DeliveryTransition, DeliveryUpdate, EditedProfile, FoundInvitees, FoundUsers, GrantedChallenge,
        KeyRegistration, NewStaff, NewUser, ProfileDecision, ProfileEdit, RefreshDecision, RefreshRequest,
        RegisteredKey, Result, Retention, SessionSelection, SignInDecision, SignInRequest, Storage,
        StorageError, StorageReadiness, StoredSession, StoredSignIn, UserQuery,
    },
};
use sqlx::SqliteConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{SqliteStore, disk, list, load, migrations, search, write};

/// Time that a read waits for the record that a new token is in use.
const MARK_TOKENS_USED_TIMEOUT: Duration = Duration::from_millis(200);

/// Time limit of the readiness check for the lock to write. Clients of the check wait one second.
const READINESS_TIMEOUT: Duration = Duration::from_millis(500);

async fn within<T>(timeout: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = tokio::time::timeout(timeout, work).await;
    done.unwrap_or_else(|elapsed| Err(StorageError::Unavailable(elapsed.into())))
}

#[async_trait]
impl Storage for SqliteStore {
    async fn start_challenge(&self, request: &ChallengeRequest) -> Decided<GrantedChallenge> {
        let request = request.clone();
        self.writer
            .write(|connection| async move { start_challenge(connection, &request).await }.boxed())
            .await
    }

    async fn cancel_challenge(&self, challenge: ChallengeId, counter_update: &CounterUpdate) -> Result<()> {
        let counter_update = counter_update.clone();
        self.writer
            .write(move |connection| {
                async move {
                    if write::delete_challenge(connection, challenge).await? {
                        write::counter_update(connection, &Counters::default(), &counter_update).await?;
                    }
                    Ok(())
                }
                .boxed()
            })
            .await
    }

    async fn record_delivery(&self, news: &DeliveryUpdate) -> Result<DeliveryTransition> {
        let news = news.clone();
        self.writer.write(|connection| async move { record_delivery(connection, &news).await }.boxed()).await
    }

    async fn sign_in(&self, request: &SignInRequest) -> Decided<StoredSignIn> {
        let request = request.clone();
        self.writer.write(|connection| async move { sign_in(connection, &request).await }.boxed()).await
    }

    async fn session(&self, id: SessionId, invited: u32) -> Result<Option<StoredSession>> {
        load::session(&mut *self.reader().await?, id, invited).await
    }

    async fn mark_tokens_used(&self, session: SessionId, access_id: Uuid) -> Result<()> {
        // Only a short wait: the read does not depend on this record, and the next read writes it.
        let note =
            self.writer.write(move |connection| write::tokens_used(connection, session, access_id).boxed());
        within(MARK_TOKENS_USED_TIMEOUT, note).await
    }

    async fn refresh(&self, request: &RefreshRequest) -> Decided<Session> {
        let request = request.clone();
        self.writer.write(|connection| async move { refresh(connection, &request).await }.boxed()).await
    }

    async fn sessions(&self, user: UserId, now: OffsetDateTime, limit: u32) -> Result<Vec<Session>> {
        load::sessions(&mut *self.reader().await?, user, now, limit).await
    }

    async fn end_sessions(
        &self,
        user: UserId,
        sessions: SessionSelection,
        now: OffsetDateTime,
    ) -> Result<Vec<SessionId>> {
        self.writer
            .write(move |connection| write::end_sessions(connection, user, sessions, now).boxed())
            .await
    }

    async fn user(&self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>> {
        load::user_and_invited(&mut *self.reader().await?, id, invited).await
    }

    async fn users(&self, query: &UserQuery) -> Decided<FoundUsers> {
        if query.is_expensive() {
            return self.expensive_list(query).await;
        }
        list::users(&mut *self.reader().await?, query).await.map(Ok)
    }

    async fn invitees(
        &self,
        inviter: UserId,
        older_than: Option<UserId>,
        limit: PageSize,
    ) -> Result<Option<FoundInvitees>> {
        load::invitees(&mut *self.reader().await?, inviter, older_than, limit).await
    }

    async fn edit_profile(&self, edit: &ProfileEdit) -> Decided<EditedProfile, Vec<Refusal>> {
        let edit = edit.clone();
        self.writer.write(|connection| async move { edit_profile(connection, &edit).await }.boxed()).await
    }

    async fn make_staff(&self, user: &NewUser, now: OffsetDateTime) -> Result<NewStaff> {
        let user = user.clone();
        self.writer
            .write(move |connection| async move { make_staff(connection, &user, now).await }.boxed())
            .await
    }

    async fn set_active(&self, id: UserId, is_active: bool) -> Result<Option<User>> {
        self.writer.write(move |connection| set_active(connection, id, is_active).boxed()).await
    }

    async fn check_attack(&self, request: &AttackCheck) -> Result<AttackStatus> {
        let facts = load::attack_facts(&mut *self.reader().await?, request).await?;
        let attack_status = request.decide(&facts);
        if let Some(until) = attack_status.record_until {
            self.writer.write(move |connection| write::attack(connection, until).boxed()).await?;
        }
        Ok(attack_status)
    }

    async fn delete_expired(&self, delete_expired: &Retention) -> Result<u64> {
        let delete_expired = *delete_expired;
        self.writer.write(move |connection| write::delete_expired(connection, delete_expired).boxed()).await
    }

    async fn registered_keys(&self) -> Result<Vec<RegisteredKey>> {
        load::registered_keys(&mut *self.reader().await?).await
    }

    async fn register_keys(&self, request: &KeyRegistration) -> Decided<(), KeyMismatch> {
        let request = request.clone();
        self.writer.write(|connection| async move { register_keys(connection, &request).await }.boxed()).await
    }

    async fn shared_settings(&self) -> Result<Vec<SharedSetting>> {
        load::shared_settings(&mut *self.reader().await?).await
    }

    async fn record_settings(&self, settings: &[SharedSetting]) -> Result<()> {
        let settings = settings.to_vec();
        self.writer
            .write(move |connection| {
                async move { write::shared_settings(connection, &settings).await }.boxed()
            })
            .await
    }

    async fn check_ready(&self) -> StorageReadiness {
        // An empty write checks that the lock to write is available.
        let database = within(READINESS_TIMEOUT, self.writer.write(|_| async { Ok(()) }.boxed())).await;
        if database.is_err() {
            return database.into();
        }
        let schema = async { migrations::check_applied(&mut *self.reader().await?).await };
        StorageReadiness {
            database: Check::Passed,
            schema: schema.await.into(),
            disk: disk::check_room(&self.path, disk::MIN_ROOM).into(),
        }
    }

    async fn close(&self) {
        // The writer is closed last. Closing the last connection copies the log into the database file.
        self.list_readers.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }
}

async fn start_challenge(
    connection: &mut SqliteConnection,
    request: &ChallengeRequest,
) -> Decided<GrantedChallenge> {
    let facts = load::challenge_facts(connection, request).await?;
    match request.decide(&facts) {
        ChallengeDecision::Grant { granted, counter_update, attack_until } => {
            write::new_challenge(connection, &granted.challenge).await?;
            write::counter_update(connection, &facts.counters, &counter_update).await?;
            if let Some(until) = attack_until {
                write::attack(connection, until).await?;
            }
            Ok(Ok(granted))
        }
        ChallengeDecision::Refuse(refusal) => Ok(Err(refusal)),
    }
}

async fn record_delivery(
    connection: &mut SqliteConnection,
    news: &DeliveryUpdate,
) -> Result<DeliveryTransition> {
    if let Some((challenge, gateway)) = &news.challenge {
        write::gateway(connection, *challenge, gateway).await?;
    }
    let Some(key) = &news.message else {
        return Ok(DeliveryTransition::default());
    };
    let decision = news.decide(load::message(connection, key).await?);
    if let Some(put) = &decision.put {
        write::message(connection, key, put, news.now).await?;
    }
    Ok(decision.change)
}

async fn sign_in(connection: &mut SqliteConnection, request: &SignInRequest) -> Decided<StoredSignIn> {
    let mut facts = load::sign_in_facts(connection, request).await?;
    if request.needs_ancestry(&facts)
        && let (Some(user), Some(inviter)) = (&facts.user, &facts.inviter)
    {
        facts.ancestry = load::ancestry(connection, inviter.id, user.id).await?;
    }

    let (challenge, user, invitation, outcome, counter_update, max_sessions) = match request.decide(&facts) {
        SignInDecision::Refuse { refusal, challenge, counter_update } => {
            if let Some(challenge) = challenge {
                write::challenge(connection, &challenge).await?;
            }
            write::counter_update(connection, &facts.counters, &counter_update).await?;
            return Ok(Err(refusal));
        }
        SignInDecision::Accept { challenge, user, invitation, outcome, counter_update, max_sessions } => {
            (challenge, user, invitation, outcome, counter_update, max_sessions)
        }
    };
    let created = user.is_none();
    let user = if let Some(user) = user {
        if let Some(invitation) = &invitation {
            write::user(connection, &user).await?;
            search::put(connection, &user).await?;
            write::invitation(connection, invitation).await?;
        }
        user
    } else {
        let invited_by = invitation.as_ref().map(InvitedBy::from);
        let user = write::new_user(connection, &request.new_user, invited_by).await?;
        if let Some(invitation) = &invitation {
            write::invitation(connection, invitation).await?;
        }
        user
    };
    if let Some(max_sessions) = max_sessions {
        // One session is added next.
        write::keep_newest_sessions(connection, user.id, max_sessions - 1).await?;
    }
    let session = request.session_of(user.id);
    write::sign_in(connection, &challenge, &session).await?;
    write::counter_update(connection, &facts.counters, &counter_update).await?;
    let gateway = challenge.gateway;
    Ok(Ok(StoredSignIn { user, session, created, accepted: invitation, outcome, gateway }))
}

async fn refresh(connection: &mut SqliteConnection, request: &RefreshRequest) -> Decided<Session> {
    let Some((session, user_is_active)) = load::refresh_facts(connection, request.session).await? else {
        return Ok(Err(Refusal::TokenNotValid));
    };
    match request.decide(&session, user_is_active) {
        RefreshDecision::Rotate(session) | RefreshDecision::Repeat(Some(session)) => {
            write::session(connection, &session).await?;
            Ok(Ok(session))
        }
        RefreshDecision::Repeat(None) => Ok(Ok(session)),
        RefreshDecision::Revoke(session) => {
            write::session(connection, &session).await?;
            Ok(Err(Refusal::RefreshReused))
        }
        RefreshDecision::Refuse(refusal) => Ok(Err(refusal)),
    }
}

async fn edit_profile(
    connection: &mut SqliteConnection,
    edit: &ProfileEdit,
) -> Decided<EditedProfile, Vec<Refusal>> {
    let Some(mut facts) = load::profile_facts(connection, edit).await? else {
        return Ok(Err(vec![Refusal::UserNotFound]));
    };
    if edit.needs_ancestry(&facts)
        && let Some(inviter) = &facts.inviter
    {
        facts.ancestry = load::ancestry(connection, inviter.id, edit.user).await?;
    }
    match edit.decide(&facts) {
        ProfileDecision::Accept { edited, counter_update } => {
            write::user(connection, &edited.user).await?;
            search::put(connection, &edited.user).await?;
            if let Some(invitation) = &edited.accepted {
                write::invitation(connection, invitation).await?;
            }
            write::counter_update(connection, &facts.counters, &counter_update).await?;
            Ok(Ok(edited))
        }
        ProfileDecision::Refuse { refusals, counter_update } => {
            write::counter_update(connection, &facts.counters, &counter_update).await?;
            Ok(Err(refusals))
        }
    }
}

async fn make_staff(
    connection: &mut SqliteConnection,
    new: &NewUser,
    now: OffsetDateTime,
) -> Result<NewStaff> {
    let known = match load::user_with_phone(connection, &new.phone).await? {
        Some(known) => known,
        None => write::new_user(connection, new, None).await?,
    };
    let ended_sessions = if known.is_staff {
        Vec::new()
    } else {
        write::end_sessions(connection, known.id, SessionSelection::All, now).await?
    };
    let user = User { is_staff: true, ..known };
    write::user(connection, &user).await?;
    Ok(NewStaff { user, ended_sessions })
}

async fn set_active(connection: &mut SqliteConnection, id: UserId, is_active: bool) -> Result<Option<User>> {
    let Some(user) = load::user(connection, id).await? else {
        return Ok(None);
    };
    let user = User { is_active, ..user };
    write::user(connection, &user).await?;
    Ok(Some(user))
}

async fn register_keys(
    connection: &mut SqliteConnection,
    request: &KeyRegistration,
) -> Decided<(), KeyMismatch> {
    let changed = match request.decide(&load::registered_keys(connection).await?) {
        Ok(changed) => changed,
        Err(mismatch) => return Ok(Err(mismatch)),
    };
    for key in &changed {
        write::key(connection, key).await?;
    }
    Ok(Ok(()))
}
