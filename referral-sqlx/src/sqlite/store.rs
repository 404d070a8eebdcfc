//! Implementation of the storage traits: each method runs one operation of an aggregate. The writer runs and
//! commits each method that writes.
//!
//! This module contains no rules and no SQL.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use referral_core::{
    ChallengeId, Check, Invitation, PageSize, PhoneNumber, Refusal, Session, SessionId, User, UserId,
    audit::AuditEntry,
    keys::KeyMismatch,
    storage::{
        AddUserRequest, AddedUser, AttackCheck, AuditPage, AuditQuery, AuditStorage, ChallengeRequest,
        ChallengeStorage, ChangedPhone, ChangedUser, CodeRequest, CodeRequestView, CounterUpdate,
        DailyCounts, Decided, Decision, DeletedUser, DeletionRequest, DeliveryTransition, DeliveryUpdate,
        DueDeletion, GlobalCounterFacts, GlobalCounterQuery, GrantedChallenge, ImportBatch, ImportOutcome,
        Invitee, KeyRegistration, MaintenanceStorage, PhoneChangeRequest, PhoneHash, ProfileEdit,
        ProfileOutcome, RefreshRequest, RegisteredKey, Result, Retention, SessionSelection, SessionStorage,
        SharedSetting, SignInOutcome, SignInRequest, StorageError, StorageReadiness, StoredPage,
        StoredSession, UnlockRequest, UserChangeRequest, UserQuery, UserRecord, UserStorage, UserWithInvited,
    },
};
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use super::{
    SqliteStorage,
    add_user::AddUser,
    audit,
    batch::Batch,
    challenges, code_requests, counters, daily_counts,
    deletion::{self, Deletion},
    disk, import, invitations, keys, list, maintenance,
    phone_change::PhoneChange,
    profiles::Edit,
    sessions,
    sign_in::SignIn,
    users,
};

/// Time that a read waits for the record that a new token is in use.
const MARK_TOKENS_USED_TIMEOUT: Duration = Duration::from_millis(200);

/// Time limit of the readiness check for the lock to write. Clients of the check wait one second.
const READINESS_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs `$work` on the connection that writes. `$value` is cloned, because the writer may run the work after
/// the caller has dropped the request.
macro_rules! write {
    ($store:ident, $connection:ident, $value:ident => $work:expr) => {{
        let $value = $value.to_owned();
        $store.writer.write(move |$connection| async move { $work.await }.boxed()).await
    }};
}

async fn within<T>(timeout: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = tokio::time::timeout(timeout, work).await;
    done.unwrap_or_else(|elapsed| Err(StorageError::Unavailable(elapsed.into())))
}

#[async_trait]
impl ChallengeStorage for SqliteStorage {
    async fn start_challenge(&self, request: &ChallengeRequest) -> Decided<GrantedChallenge> {
        self.writer.decide(request.clone()).await
    }

    async fn cancel_challenge(&self, challenge: ChallengeId, counters: &CounterUpdate) -> Result<()> {
        write!(self, connection, counters => challenges::cancel(connection, challenge, &counters))
    }

    async fn record_delivery(&self, update: &DeliveryUpdate) -> Result<DeliveryTransition> {
        self.writer.decide(update.clone()).await
    }

    async fn sign_in(&self, request: &SignInRequest) -> Decided<SignInOutcome> {
        self.writer.decide(SignIn { request: request.clone(), hook: self.hook.clone() }).await
    }

    async fn record_code_requests(&self, requests: &[CodeRequest]) -> Result<()> {
        write!(self, connection, requests => code_requests::record(connection, &requests))
    }

    async fn code_requests(&self, phone: &[PhoneHash], limit: u32) -> Result<Vec<CodeRequestView>> {
        code_requests::code_requests(&mut *self.reader().await?, phone, limit).await
    }
}

#[async_trait]
impl SessionStorage for SqliteStorage {
    async fn session(&self, id: SessionId, invited: u32) -> Result<Option<StoredSession>> {
        sessions::session(&mut *self.reader().await?, id, invited).await
    }

    async fn mark_tokens_used(&self, session: SessionId, access_id: Uuid) -> Result<()> {
        // The wait is short, because the read does not depend on this record, and the next read writes it.
        let marking = self
            .writer
            .write(move |connection| sessions::mark_tokens_used(connection, session, access_id).boxed());
        within(MARK_TOKENS_USED_TIMEOUT, marking).await
    }

    async fn refresh(&self, request: &RefreshRequest) -> Decided<Session> {
        self.writer.decide(request.clone()).await
    }

    async fn sessions(
        &self,
        user: UserId,
        now: OffsetDateTime,
        older_than: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<Session>> {
        sessions::sessions(&mut *self.reader().await?, user, now, older_than, limit).await
    }

    async fn end_sessions(
        &self,
        user: UserId,
        sessions: SessionSelection,
        now: OffsetDateTime,
        audit: Option<&AuditEntry>,
    ) -> Result<Vec<SessionId>> {
        let entry = audit.cloned();
        let end = self.writer.write(move |connection| {
            sessions::end_with_entry(connection, user, sessions, now, entry).boxed()
        });
        end.await
    }
}

#[async_trait]
impl UserStorage for SqliteStorage {
    async fn user(&self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>> {
        users::with_invited(&mut *self.reader().await?, id, invited).await
    }

    async fn users(&self, query: &UserQuery) -> Decided<StoredPage<User>> {
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
    ) -> Result<Option<StoredPage<Invitee>>> {
        users::invitees(&mut *self.reader().await?, inviter, older_than, limit).await
    }

    async fn former_users(&self, phone: &PhoneNumber, limit: u32) -> Result<Vec<User>> {
        users::former_users(&mut *self.reader().await?, phone, limit).await
    }

    async fn invitation(&self, invitee: UserId) -> Result<Option<Invitation>> {
        invitations::invitation(&mut *self.reader().await?, invitee).await
    }

    async fn edit_profile(&self, edit: &ProfileEdit) -> Decided<ProfileOutcome, Vec<Refusal>> {
        self.writer.decide(Edit { request: edit.clone(), hook: self.hook.clone() }).await
    }

    async fn add_user(&self, request: &AddUserRequest) -> Decided<AddedUser> {
        self.writer.decide(AddUser { request: request.clone(), hook: self.hook.clone() }).await
    }

    async fn delete_user(&self, request: &DeletionRequest) -> Decided<DeletedUser> {
        self.writer.decide(Deletion { request: request.clone(), hook: self.hook.clone() }).await
    }

    async fn users_to_delete(
        &self,
        now: OffsetDateTime,
        after: Option<&DueDeletion>,
        limit: u32,
    ) -> Result<Vec<DueDeletion>> {
        deletion::users_to_delete(&mut *self.reader().await?, now, after, limit).await
    }

    async fn change_phone(&self, request: &PhoneChangeRequest) -> Decided<ChangedPhone> {
        self.writer.decide(PhoneChange { request: request.clone(), hook: self.hook.clone() }).await
    }

    async fn change_user(&self, request: &UserChangeRequest) -> Decided<ChangedUser> {
        self.writer.decide(request.clone()).await
    }

    async fn daily_counts(&self, since: Date, until: Date) -> Result<Vec<DailyCounts>> {
        daily_counts::daily_counts(&mut *self.reader().await?, since, until).await
    }

    async fn export_users(&self, after: Option<UserId>, limit: u32) -> Result<Vec<UserRecord>> {
        import::records_after(&mut *self.reader().await?, after, limit).await
    }

    async fn import_users(&self, batch: &ImportBatch) -> Result<Vec<ImportOutcome>> {
        write!(self, connection, batch => import::import(connection, &batch))
    }
}

#[async_trait]
impl AuditStorage for SqliteStorage {
    async fn audit_log(&self, query: &AuditQuery) -> Result<AuditPage> {
        audit::page(&mut *self.reader().await?, query).await
    }

    async fn unlock_phone(&self, request: &UnlockRequest) -> Result<AuditEntry> {
        write!(self, connection, request => audit::unlock(connection, &request))
    }

    async fn add_audit_entry(&self, entry: &AuditEntry) -> Result<()> {
        write!(self, connection, entry => audit::add(connection, &entry))
    }
}

#[async_trait]
impl MaintenanceStorage for SqliteStorage {
    async fn check_attack(&self, check: &AttackCheck) -> Result<bool> {
        let Decision { writes, outcome } = counters::attack(&mut *self.reader().await?, check).await?;
        if let Some(until) = writes {
            let mut record = Batch::new();
            counters::push_attack(&mut record, until);
            self.writer.write(move |connection| record.write(connection).boxed()).await?;
        }
        Ok(outcome)
    }

    async fn global_counters(&self, query: GlobalCounterQuery) -> Result<GlobalCounterFacts> {
        counters::load_global(&mut *self.reader().await?, query).await
    }

    async fn delete_expired(&self, retention: &Retention) -> Result<u64> {
        let retention = *retention;
        self.writer.write(move |connection| maintenance::delete_expired(connection, retention).boxed()).await
    }

    async fn registered_keys(&self) -> Result<Vec<RegisteredKey>> {
        keys::registered(&mut *self.reader().await?).await
    }

    async fn register_keys(&self, registration: &KeyRegistration) -> Decided<(), KeyMismatch> {
        write!(self, connection, registration => keys::register(connection, &registration))
    }

    async fn shared_settings(&self) -> Result<Vec<SharedSetting>> {
        maintenance::shared_settings(&mut *self.reader().await?).await
    }

    async fn record_settings(&self, settings: &[SharedSetting]) -> Result<()> {
        write!(self, connection, settings => maintenance::record_settings(connection, &settings))
    }

    async fn check_ready(&self) -> StorageReadiness {
        // An empty write checks that the lock to write is available.
        let database = within(READINESS_TIMEOUT, self.writer.write(|_| async { Ok(()) }.boxed())).await;
        if database.is_err() {
            return database.into();
        }
        let schema = async { self.migrations.check_applied(self.reader().await?.raw()).await };
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
