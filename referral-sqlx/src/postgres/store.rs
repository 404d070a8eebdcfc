//! Implementation of the storage traits: each method runs one operation of an aggregate with retries.
//!
//! This module contains no rules and no SQL.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use referral_core::{
    ChallengeId, Check, Invitation, InviteCode, PageSize, PhoneNumber, Refusal, Session, SessionId, User,
    UserId,
    audit::AuditEntry,
    keys::KeyMismatch,
    storage::{
        AddUserRequest, AddedUser, AttackCheck, AuditPage, AuditQuery, AuditStorage, ChallengeRequest,
        ChallengeStorage, ChangedPhone, ChangedUser, CodeRequest, CodeRequestView, CounterUpdate,
        DailyCounts, Decided, DeletedUser, DeletionRequest, DeliveryTransition, DeliveryUpdate, DueDeletion,
        GlobalCounterFacts, GlobalCounterQuery, GrantedChallenge, ImportBatch, ImportOutcome, Invitee,
        KeyRegistration, MaintenanceStorage, PhoneChangeRequest, PhoneHash, ProfileEdit, ProfileOutcome,
        RefreshRequest, RegisteredKey, Result, Retention, SessionSelection, SessionStorage, SharedSetting,
        SignInOutcome, SignInRequest, StorageError, StorageReadiness, StoredPage, StoredSession,
        UnlockRequest, UserChangeRequest, UserQuery, UserRecord, UserStorage, UserWithInvited,
    },
};
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use super::{
    PostgresStorage, add_user, audit, challenges, change_user, code_requests, counters, daily_counts,
    deletion, import, invitations, keys, list, maintenance, messages, migrations, phone_change, profiles,
    retry::{WriteConflict, is_canceled, reason},
    sessions, sign_in, users,
};
use crate::error::failure;

/// Time that a read waits for the record that a new token is in use.
const MARK_TOKENS_USED_TIMEOUT: Duration = Duration::from_millis(250);

/// Runs `$work` on a connection, with retries. `$get` is the method that returns the connection: `lease`,
/// `lease_to_write` or `begin`.
macro_rules! with_lease {
    ($store:ident.$get:ident, $lease:ident => $work:expr) => {
        $store
            .repeat(|| async move {
                let mut $lease = $store.$get().await?;
                let done = $work.await?;
                $lease.finish().await?;
                Ok(done)
            })
            .await
    };
}

#[async_trait]
impl ChallengeStorage for PostgresStorage {
    async fn start_challenge(&self, request: &ChallengeRequest) -> Decided<GrantedChallenge> {
        with_lease!(self.lease_to_write, lease => challenges::start(&mut lease, request))
    }

    async fn cancel_challenge(&self, challenge: ChallengeId, counters: &CounterUpdate) -> Result<()> {
        with_lease!(self.begin, lease => challenges::cancel(&mut lease, challenge, counters))
    }

    async fn record_delivery(&self, update: &DeliveryUpdate) -> Result<DeliveryTransition> {
        with_lease!(self.lease_to_write, lease => messages::record(&mut lease, update))
    }

    async fn sign_in(&self, request: &SignInRequest) -> Decided<SignInOutcome> {
        for code in &request.new_user.invite_codes {
            let attempt = self.sign_in_with(request, code).await;
            if !is_code_taken(&attempt) {
                return attempt;
            }
        }
        Err(StorageError::InviteCodesExhausted)
    }

    async fn record_code_requests(&self, requests: &[CodeRequest]) -> Result<()> {
        with_lease!(self.begin, lease => code_requests::record(&mut lease, requests))
    }

    async fn code_requests(&self, phone: &[PhoneHash], limit: u32) -> Result<Vec<CodeRequestView>> {
        with_lease!(self.lease, lease => code_requests::code_requests(&mut lease, phone, limit))
    }
}

impl PostgresStorage {
    /// Signs in. A new user gets the invite code `code`.
    async fn sign_in_with(&self, request: &SignInRequest, code: &InviteCode) -> Decided<SignInOutcome> {
        let outcome =
            with_lease!(self.lease_to_write, lease => sign_in::attempt(&mut lease, request, code, false))?;
        if let Some(outcome) = outcome {
            return Ok(outcome);
        }
        let outcome = with_lease!(self.begin, lease => sign_in::attempt(&mut lease, request, code, true))?;
        outcome.ok_or_else(|| WriteConflict::Stale.into())
    }
}

pub(super) fn is_code_taken<T>(attempt: &Result<T>) -> bool {
    attempt.as_ref().err().and_then(reason).is_some_and(|reason| matches!(reason, WriteConflict::CodeTaken))
}

#[async_trait]
impl SessionStorage for PostgresStorage {
    async fn session(&self, id: SessionId, invited: u32) -> Result<Option<StoredSession>> {
        with_lease!(self.lease, lease => sessions::session(&mut lease, id, invited))
    }

    async fn mark_tokens_used(&self, session: SessionId, access_id: Uuid) -> Result<()> {
        // No retry and only a short wait: the read does not depend on this record, and the next read writes
        // it.
        let marking = async {
            let mut lease = self.lease_to_write().await?;
            sessions::mark_tokens_used(&mut lease, session, access_id).await?;
            lease.finish().await
        };
        let marked = tokio::time::timeout(MARK_TOKENS_USED_TIMEOUT, marking).await;
        marked.unwrap_or_else(|_| Err(failure(sqlx::Error::PoolTimedOut)))
    }

    async fn refresh(&self, request: &RefreshRequest) -> Decided<Session> {
        with_lease!(self.lease_to_write, lease => sessions::refresh(&mut lease, request))
    }

    async fn sessions(
        &self,
        user: UserId,
        now: OffsetDateTime,
        older_than: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<Session>> {
        with_lease!(self.lease, lease => sessions::sessions(&mut lease, user, now, older_than, limit))
    }

    async fn end_sessions(
        &self,
        user: UserId,
        sessions: SessionSelection,
        now: OffsetDateTime,
        audit: Option<&AuditEntry>,
    ) -> Result<Vec<SessionId>> {
        let Some(entry) = audit else {
            return with_lease!(self.lease_to_write, lease => sessions::end(&mut lease, user, sessions, now));
        };
        with_lease!(self.begin, lease => async {
            audit::add(&mut lease, entry).await?;
            sessions::end(&mut lease, user, sessions, now).await
        })
    }
}

#[async_trait]
impl UserStorage for PostgresStorage {
    async fn user(&self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>> {
        with_lease!(self.lease, lease => users::user(&mut lease, id, invited))
    }

    async fn users(&self, query: &UserQuery) -> Decided<StoredPage<User>> {
        if !query.is_expensive() {
            return with_lease!(self.lease, lease => list::users(&mut lease, query)).map(Ok);
        }
        let place = Arc::new(self.lists.enter(query.caller).await?);
        let found = self.repeat(|| async {
            let mut lease = self.begin_list(Arc::clone(&place)).await?;
            let found = list::users(&mut lease, query).await?;
            lease.finish().await?;
            Ok(found)
        });
        match found.await {
            Err(error) if is_canceled(&error) => Ok(Err(Refusal::SearchTooBroad)),
            found => found.map(Ok),
        }
    }

    async fn invitees(
        &self,
        inviter: UserId,
        older_than: Option<UserId>,
        limit: PageSize,
    ) -> Result<Option<StoredPage<Invitee>>> {
        with_lease!(self.lease, lease => users::invitees(&mut lease, inviter, older_than, limit))
    }

    async fn former_users(&self, phone: &PhoneNumber, limit: u32) -> Result<Vec<User>> {
        with_lease!(self.lease, lease => users::former_users(&mut lease, phone, limit))
    }

    async fn invitation(&self, invitee: UserId) -> Result<Option<Invitation>> {
        with_lease!(self.lease, lease => invitations::invitation(&mut lease, invitee))
    }

    async fn edit_profile(&self, edit: &ProfileEdit) -> Decided<ProfileOutcome, Vec<Refusal>> {
        if let Some(outcome) = with_lease!(self.begin, lease => profiles::edit(&mut lease, edit, false))? {
            return Ok(outcome);
        }
        let outcome = with_lease!(self.begin, lease => profiles::edit(&mut lease, edit, true))?;
        outcome.ok_or_else(|| WriteConflict::Stale.into())
    }

    async fn add_user(&self, request: &AddUserRequest) -> Decided<AddedUser> {
        for code in &request.new_user.invite_codes {
            let attempt = with_lease!(self.begin, lease => add_user::add_user(&mut lease, request, code));
            if !is_code_taken(&attempt) {
                return attempt;
            }
        }
        Err(StorageError::InviteCodesExhausted)
    }

    async fn delete_user(&self, request: &DeletionRequest) -> Decided<DeletedUser> {
        with_lease!(self.begin, lease => deletion::delete(&mut lease, request))
    }

    async fn users_to_delete(
        &self,
        now: OffsetDateTime,
        after: Option<&DueDeletion>,
        limit: u32,
    ) -> Result<Vec<DueDeletion>> {
        with_lease!(self.lease, lease => deletion::users_to_delete(&mut lease, now, after, limit))
    }

    async fn change_phone(&self, request: &PhoneChangeRequest) -> Decided<ChangedPhone> {
        with_lease!(self.begin, lease => phone_change::change_phone(&mut lease, request))
    }

    async fn change_user(&self, request: &UserChangeRequest) -> Decided<ChangedUser> {
        with_lease!(self.begin, lease => change_user::change_user(&mut lease, request))
    }

    async fn daily_counts(&self, since: Date, until: Date) -> Result<Vec<DailyCounts>> {
        with_lease!(self.lease, lease => daily_counts::daily_counts(&mut lease, since, until))
    }

    async fn export_users(&self, after: Option<UserId>, limit: u32) -> Result<Vec<UserRecord>> {
        with_lease!(self.lease, lease => import::records_after(&mut lease, after, limit))
    }

    async fn import_users(&self, batch: &ImportBatch) -> Result<Vec<ImportOutcome>> {
        if let Some(outcome) = with_lease!(self.begin, lease => import::import(&mut lease, batch, false))? {
            return Ok(outcome);
        }
        let outcome = with_lease!(self.begin, lease => import::import(&mut lease, batch, true))?;
        outcome.ok_or_else(|| WriteConflict::Stale.into())
    }
}

#[async_trait]
impl AuditStorage for PostgresStorage {
    async fn audit_log(&self, query: &AuditQuery) -> Result<AuditPage> {
        with_lease!(self.lease, lease => audit::page(&mut lease, query))
    }

    async fn unlock_phone(&self, request: &UnlockRequest) -> Result<AuditEntry> {
        with_lease!(self.begin, lease => audit::unlock(&mut lease, request))
    }

    async fn add_audit_entry(&self, entry: &AuditEntry) -> Result<()> {
        with_lease!(self.lease_to_write, lease => audit::add(&mut lease, entry))
    }
}

#[async_trait]
impl MaintenanceStorage for PostgresStorage {
    async fn check_attack(&self, check: &AttackCheck) -> Result<bool> {
        with_lease!(self.lease_to_write, lease => counters::check_attack(&mut lease, check))
    }

    async fn global_counters(&self, query: GlobalCounterQuery) -> Result<GlobalCounterFacts> {
        with_lease!(self.lease, lease => counters::load_global(&mut lease, query))
    }

    async fn delete_expired(&self, retention: &Retention) -> Result<u64> {
        with_lease!(self.lease_to_write, lease => maintenance::delete_expired(&mut lease, *retention))
    }

    async fn registered_keys(&self) -> Result<Vec<RegisteredKey>> {
        with_lease!(self.lease, lease => keys::registered(&mut lease))
    }

    async fn register_keys(&self, registration: &KeyRegistration) -> Decided<(), KeyMismatch> {
        with_lease!(self.begin, lease => keys::register(&mut lease, registration))
    }

    async fn shared_settings(&self) -> Result<Vec<SharedSetting>> {
        with_lease!(self.lease, lease => maintenance::shared_settings(&mut lease))
    }

    async fn record_settings(&self, settings: &[SharedSetting]) -> Result<()> {
        with_lease!(self.lease_to_write, lease => maintenance::record_settings(&mut lease, settings))
    }

    async fn check_ready(&self) -> StorageReadiness {
        let database = with_lease!(self.lease, lease => migrations::check_writable(&mut lease));
        if database.is_err() {
            return database.into();
        }
        StorageReadiness {
            database: Check::Passed,
            schema: with_lease!(self.lease, lease => migrations::check_applied(&mut lease, &self.migrations))
                .into(),
            disk: self.check_disk().await.into(),
        }
    }

    async fn current_time(&self) -> Result<Option<OffsetDateTime>> {
        with_lease!(self.lease, lease => maintenance::current_time(&mut lease)).map(Some)
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

impl PostgresStorage {
    /// Checks that the database has free space, if a previous write failed because the disk was full.
    async fn check_disk(&self) -> Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            let mut lease = self.begin().await?;
            // The transaction and its writes are rolled back.
            maintenance::probe_disk(&mut lease).await?;
            self.is_full.store(false, Ordering::Relaxed);
        }
        Ok(())
    }
}
