//! Storages with one fault each, which the conformance suite must detect.

mod faults;
mod processes;

use std::{
    mem,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use async_trait::async_trait;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use super::{MemoryStorage, State};
use crate::{
    audit::AuditEntry,
    error::refusal::Refusal,
    invite::invitation::Invitation,
    keys::registry::KeyMismatch,
    otp::challenge::ChallengeId,
    session::{Session, SessionId},
    shared_settings::SharedSetting,
    storage::{
        AddUserRequest, AddedUser, AttackCheck, AuditPage, AuditQuery, AuditStorage, ChallengeRequest,
        ChallengeStorage, ChangedPhone, ChangedUser, CodeRequest, CodeRequestView, CounterUpdate,
        DailyCounts, Decided, DeletedUser, DeletionRequest, DeliveryTransition, DeliveryUpdate, DueDeletion,
        GlobalCounterFacts, GlobalCounterQuery, GrantedChallenge, ImportBatch, ImportOutcome,
        KeyRegistration, MaintenanceStorage, PhoneChangeRequest, PhoneHash, ProfileEdit, ProfileOutcome,
        RefreshRequest, RegisteredKey, Result, Retention, SessionSelection, SessionStorage, SignInOutcome,
        SignInRequest, Storage, StorageReadiness, StoredPage, StoredSession, UnlockRequest,
        UserChangeRequest, UserQuery, UserRecord, UserStorage, UserWithInvited,
    },
    user::{Invitee, User, UserId, listing::PageSize, phone::PhoneNumber},
};

/// Returns `true` if the case fails on the storage. The tasks of the case run on one thread, so that their
/// order is always the same.
fn detects<F: Future<Output = ()>>(case: impl Fn(Arc<dyn Storage>) -> F, storage: Arc<dyn Storage>) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("the runtime starts");
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(case(storage)))).is_err()
}

/// Storage that makes each call on a copy of the data.
struct Mutant<D>(D);

/// Data of a storage with a fault.
#[async_trait]
trait Database: Send + Sync + 'static {
    /// Returns a copy of the data for a call.
    async fn start(&self, call: Call<'_>) -> Transaction<'_>;
}

/// Call of the storage, with the input that a fault depends on.
#[derive(Clone, Copy)]
enum Call<'a> {
    StartChallenge(&'a ChallengeRequest),
    SignIn(&'a SignInRequest),
    ChangePhone(&'a PhoneChangeRequest),
    CheckAttack(&'a AttackCheck),
    DeleteExpired(&'a Retention),
    RecordCodeRequests,
    UsersToDelete(OffsetDateTime),
    Sessions(OffsetDateTime),
    EndSessions(OffsetDateTime),
    AddAuditEntry,
    Other,
}

/// Copy of the data, which is committed when the transaction is dropped.
struct Transaction<'a> {
    copy: MemoryStorage,
    commit: Option<Box<dyn FnOnce(State) + Send + 'a>>,
}

impl<'a> Transaction<'a> {
    fn new(data: State, commit: impl FnOnce(State) + Send + 'a) -> Self {
        let copy = MemoryStorage { state: data.into(), clock: None };
        Self { copy, commit: Some(Box::new(commit)) }
    }
}

impl Deref for Transaction<'_> {
    type Target = MemoryStorage;

    fn deref(&self) -> &MemoryStorage {
        &self.copy
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if let Some(commit) = self.commit.take() {
            let data = mem::take(&mut *self.copy.lock());
            commit(data);
        }
    }
}

#[async_trait]
impl<D: Database> ChallengeStorage for Mutant<D> {
    async fn start_challenge(&self, request: &ChallengeRequest) -> Decided<GrantedChallenge> {
        self.0.start(Call::StartChallenge(request)).await.start_challenge(request).await
    }

    async fn cancel_challenge(&self, challenge: ChallengeId, counters: &CounterUpdate) -> Result<()> {
        self.0.start(Call::Other).await.cancel_challenge(challenge, counters).await
    }

    async fn record_delivery(&self, update: &DeliveryUpdate) -> Result<DeliveryTransition> {
        self.0.start(Call::Other).await.record_delivery(update).await
    }

    async fn sign_in(&self, request: &SignInRequest) -> Decided<SignInOutcome> {
        self.0.start(Call::SignIn(request)).await.sign_in(request).await
    }

    async fn record_code_requests(&self, requests: &[CodeRequest]) -> Result<()> {
        self.0.start(Call::RecordCodeRequests).await.record_code_requests(requests).await
    }

    async fn code_requests(&self, phone: &[PhoneHash], limit: u32) -> Result<Vec<CodeRequestView>> {
        self.0.start(Call::Other).await.code_requests(phone, limit).await
    }
}

#[async_trait]
impl<D: Database> SessionStorage for Mutant<D> {
    async fn session(&self, id: SessionId, invited: u32) -> Result<Option<StoredSession>> {
        self.0.start(Call::Other).await.session(id, invited).await
    }

    async fn mark_tokens_used(&self, session: SessionId, access_id: Uuid) -> Result<()> {
        self.0.start(Call::Other).await.mark_tokens_used(session, access_id).await
    }

    async fn refresh(&self, request: &RefreshRequest) -> Decided<Session> {
        self.0.start(Call::Other).await.refresh(request).await
    }

    async fn sessions(
        &self,
        user: UserId,
        now: OffsetDateTime,
        older_than: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<Session>> {
        self.0.start(Call::Sessions(now)).await.sessions(user, now, older_than, limit).await
    }

    async fn end_sessions(
        &self,
        user: UserId,
        sessions: SessionSelection,
        now: OffsetDateTime,
        audit: Option<&AuditEntry>,
    ) -> Result<Vec<SessionId>> {
        self.0.start(Call::EndSessions(now)).await.end_sessions(user, sessions, now, audit).await
    }
}

#[async_trait]
impl<D: Database> UserStorage for Mutant<D> {
    async fn user(&self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>> {
        self.0.start(Call::Other).await.user(id, invited).await
    }

    async fn users(&self, query: &UserQuery) -> Decided<StoredPage<User>> {
        self.0.start(Call::Other).await.users(query).await
    }

    async fn invitees(
        &self,
        inviter: UserId,
        older_than: Option<UserId>,
        limit: PageSize,
    ) -> Result<Option<StoredPage<Invitee>>> {
        self.0.start(Call::Other).await.invitees(inviter, older_than, limit).await
    }

    async fn former_users(&self, phone: &PhoneNumber, limit: u32) -> Result<Vec<User>> {
        self.0.start(Call::Other).await.former_users(phone, limit).await
    }

    async fn invitation(&self, invitee: UserId) -> Result<Option<Invitation>> {
        self.0.start(Call::Other).await.invitation(invitee).await
    }

    async fn edit_profile(&self, edit: &ProfileEdit) -> Decided<ProfileOutcome, Vec<Refusal>> {
        self.0.start(Call::Other).await.edit_profile(edit).await
    }

    async fn add_user(&self, request: &AddUserRequest) -> Decided<AddedUser> {
        self.0.start(Call::Other).await.add_user(request).await
    }

    async fn delete_user(&self, request: &DeletionRequest) -> Decided<DeletedUser> {
        self.0.start(Call::Other).await.delete_user(request).await
    }

    async fn users_to_delete(
        &self,
        now: OffsetDateTime,
        after: Option<&DueDeletion>,
        limit: u32,
    ) -> Result<Vec<DueDeletion>> {
        self.0.start(Call::UsersToDelete(now)).await.users_to_delete(now, after, limit).await
    }

    async fn change_phone(&self, request: &PhoneChangeRequest) -> Decided<ChangedPhone> {
        self.0.start(Call::ChangePhone(request)).await.change_phone(request).await
    }

    async fn change_user(&self, request: &UserChangeRequest) -> Decided<ChangedUser> {
        self.0.start(Call::Other).await.change_user(request).await
    }

    async fn daily_counts(&self, since: Date, until: Date) -> Result<Vec<DailyCounts>> {
        self.0.start(Call::Other).await.daily_counts(since, until).await
    }

    async fn export_users(&self, after: Option<UserId>, limit: u32) -> Result<Vec<UserRecord>> {
        self.0.start(Call::Other).await.export_users(after, limit).await
    }

    async fn import_users(&self, batch: &ImportBatch) -> Result<Vec<ImportOutcome>> {
        self.0.start(Call::Other).await.import_users(batch).await
    }
}

#[async_trait]
impl<D: Database> AuditStorage for Mutant<D> {
    async fn audit_log(&self, query: &AuditQuery) -> Result<AuditPage> {
        self.0.start(Call::Other).await.audit_log(query).await
    }

    async fn unlock_phone(&self, request: &UnlockRequest) -> Result<AuditEntry> {
        self.0.start(Call::Other).await.unlock_phone(request).await
    }

    async fn add_audit_entry(&self, entry: &AuditEntry) -> Result<()> {
        self.0.start(Call::AddAuditEntry).await.add_audit_entry(entry).await
    }
}

#[async_trait]
impl<D: Database> MaintenanceStorage for Mutant<D> {
    async fn check_attack(&self, check: &AttackCheck) -> Result<bool> {
        self.0.start(Call::CheckAttack(check)).await.check_attack(check).await
    }

    async fn global_counters(&self, query: GlobalCounterQuery) -> Result<GlobalCounterFacts> {
        self.0.start(Call::Other).await.global_counters(query).await
    }

    async fn delete_expired(&self, retention: &Retention) -> Result<u64> {
        self.0.start(Call::DeleteExpired(retention)).await.delete_expired(retention).await
    }

    async fn registered_keys(&self) -> Result<Vec<RegisteredKey>> {
        self.0.start(Call::Other).await.registered_keys().await
    }

    async fn register_keys(&self, registration: &KeyRegistration) -> Decided<(), KeyMismatch> {
        self.0.start(Call::Other).await.register_keys(registration).await
    }

    async fn shared_settings(&self) -> Result<Vec<SharedSetting>> {
        self.0.start(Call::Other).await.shared_settings().await
    }

    async fn record_settings(&self, settings: &[SharedSetting]) -> Result<()> {
        self.0.start(Call::Other).await.record_settings(settings).await
    }

    async fn check_ready(&self) -> StorageReadiness {
        self.0.start(Call::Other).await.check_ready().await
    }

    async fn current_time(&self) -> Result<Option<OffsetDateTime>> {
        self.0.start(Call::Other).await.current_time().await
    }

    async fn close(&self) {
        self.0.start(Call::Other).await.close().await;
    }
}
