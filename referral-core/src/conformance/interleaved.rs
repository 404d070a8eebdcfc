//! Storage that distributes calls over several handles of the same data.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

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

/// Storage that passes each call to another of its handles than the previous call.
///
/// The handles share only the data. So a case reads through another handle than the one that wrote, and the
/// concurrent requests of a case use different handles, like requests to different processes.
#[derive(Debug)]
pub struct Interleaved<S: ?Sized> {
    handles: Vec<Arc<S>>,
    turn: Mutex<Turn>,
}

#[derive(Debug, Default)]
struct Turn {
    calls: usize,
    handle: usize,
}

impl<S: Storage + ?Sized> Interleaved<S> {
    /// Creates a storage of at least two handles.
    ///
    /// # Panics
    ///
    /// If there are fewer handles.
    #[must_use]
    pub fn new(handles: Vec<Arc<S>>) -> Self {
        assert!(handles.len() > 1, "{} handles cannot be interleaved", handles.len());
        Self { handles, turn: Mutex::default() }
    }

    /// Returns the handle of the next call.
    fn next(&self) -> &S {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        turn.handle = (turn.handle + turn.step(self.handles.len())) % self.handles.len();
        turn.calls += 1;
        &self.handles[turn.handle]
    }
}

impl Turn {
    /// Returns the distance to the next handle, which is less than `handles` and not 0. Three or more handles
    /// are not called in a cycle: operations that repeat the same calls would make each of them through the
    /// same handle. The number of set bits of successive numbers (Thue-Morse sequence) has no period.
    fn step(&self, handles: usize) -> usize {
        1 + self.calls.count_ones() as usize % (handles - 1)
    }
}

#[async_trait]
impl<S: Storage + ?Sized> ChallengeStorage for Interleaved<S> {
    async fn start_challenge(&self, request: &ChallengeRequest) -> Decided<GrantedChallenge> {
        self.next().start_challenge(request).await
    }

    async fn cancel_challenge(&self, challenge: ChallengeId, counters: &CounterUpdate) -> Result<()> {
        self.next().cancel_challenge(challenge, counters).await
    }

    async fn record_delivery(&self, update: &DeliveryUpdate) -> Result<DeliveryTransition> {
        self.next().record_delivery(update).await
    }

    async fn sign_in(&self, request: &SignInRequest) -> Decided<SignInOutcome> {
        self.next().sign_in(request).await
    }

    async fn record_code_requests(&self, requests: &[CodeRequest]) -> Result<()> {
        self.next().record_code_requests(requests).await
    }

    async fn code_requests(&self, phone: &[PhoneHash], limit: u32) -> Result<Vec<CodeRequestView>> {
        self.next().code_requests(phone, limit).await
    }
}

#[async_trait]
impl<S: Storage + ?Sized> SessionStorage for Interleaved<S> {
    async fn session(&self, id: SessionId, invited: u32) -> Result<Option<StoredSession>> {
        self.next().session(id, invited).await
    }

    async fn mark_tokens_used(&self, session: SessionId, access_id: Uuid) -> Result<()> {
        self.next().mark_tokens_used(session, access_id).await
    }

    async fn refresh(&self, request: &RefreshRequest) -> Decided<Session> {
        self.next().refresh(request).await
    }

    async fn sessions(
        &self,
        user: UserId,
        now: OffsetDateTime,
        older_than: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<Session>> {
        self.next().sessions(user, now, older_than, limit).await
    }

    async fn end_sessions(
        &self,
        user: UserId,
        sessions: SessionSelection,
        now: OffsetDateTime,
        audit: Option<&AuditEntry>,
    ) -> Result<Vec<SessionId>> {
        self.next().end_sessions(user, sessions, now, audit).await
    }
}

#[async_trait]
impl<S: Storage + ?Sized> UserStorage for Interleaved<S> {
    async fn user(&self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>> {
        self.next().user(id, invited).await
    }

    async fn users(&self, query: &UserQuery) -> Decided<StoredPage<User>> {
        self.next().users(query).await
    }

    async fn invitees(
        &self,
        inviter: UserId,
        older_than: Option<UserId>,
        limit: PageSize,
    ) -> Result<Option<StoredPage<Invitee>>> {
        self.next().invitees(inviter, older_than, limit).await
    }

    async fn former_users(&self, phone: &PhoneNumber, limit: u32) -> Result<Vec<User>> {
        self.next().former_users(phone, limit).await
    }

    async fn invitation(&self, invitee: UserId) -> Result<Option<Invitation>> {
        self.next().invitation(invitee).await
    }

    async fn edit_profile(&self, edit: &ProfileEdit) -> Decided<ProfileOutcome, Vec<Refusal>> {
        self.next().edit_profile(edit).await
    }

    async fn add_user(&self, request: &AddUserRequest) -> Decided<AddedUser> {
        self.next().add_user(request).await
    }

    async fn delete_user(&self, request: &DeletionRequest) -> Decided<DeletedUser> {
        self.next().delete_user(request).await
    }

    async fn users_to_delete(
        &self,
        now: OffsetDateTime,
        after: Option<&DueDeletion>,
        limit: u32,
    ) -> Result<Vec<DueDeletion>> {
        self.next().users_to_delete(now, after, limit).await
    }

    async fn change_phone(&self, request: &PhoneChangeRequest) -> Decided<ChangedPhone> {
        self.next().change_phone(request).await
    }

    async fn change_user(&self, request: &UserChangeRequest) -> Decided<ChangedUser> {
        self.next().change_user(request).await
    }

    async fn daily_counts(&self, since: Date, until: Date) -> Result<Vec<DailyCounts>> {
        self.next().daily_counts(since, until).await
    }

    async fn export_users(&self, after: Option<UserId>, limit: u32) -> Result<Vec<UserRecord>> {
        self.next().export_users(after, limit).await
    }

    async fn import_users(&self, batch: &ImportBatch) -> Result<Vec<ImportOutcome>> {
        self.next().import_users(batch).await
    }
}

#[async_trait]
impl<S: Storage + ?Sized> AuditStorage for Interleaved<S> {
    async fn audit_log(&self, query: &AuditQuery) -> Result<AuditPage> {
        self.next().audit_log(query).await
    }

    async fn unlock_phone(&self, request: &UnlockRequest) -> Result<AuditEntry> {
        self.next().unlock_phone(request).await
    }

    async fn add_audit_entry(&self, entry: &AuditEntry) -> Result<()> {
        self.next().add_audit_entry(entry).await
    }
}

#[async_trait]
impl<S: Storage + ?Sized> MaintenanceStorage for Interleaved<S> {
    async fn check_attack(&self, check: &AttackCheck) -> Result<bool> {
        self.next().check_attack(check).await
    }

    async fn global_counters(&self, query: GlobalCounterQuery) -> Result<GlobalCounterFacts> {
        self.next().global_counters(query).await
    }

    async fn delete_expired(&self, retention: &Retention) -> Result<u64> {
        self.next().delete_expired(retention).await
    }

    async fn registered_keys(&self) -> Result<Vec<RegisteredKey>> {
        self.next().registered_keys().await
    }

    async fn register_keys(&self, registration: &KeyRegistration) -> Decided<(), KeyMismatch> {
        self.next().register_keys(registration).await
    }

    async fn shared_settings(&self) -> Result<Vec<SharedSetting>> {
        self.next().shared_settings().await
    }

    async fn record_settings(&self, settings: &[SharedSetting]) -> Result<()> {
        self.next().record_settings(settings).await
    }

    async fn check_ready(&self) -> StorageReadiness {
        self.next().check_ready().await
    }

    async fn current_time(&self) -> Result<Option<OffsetDateTime>> {
        self.next().current_time().await
    }

    async fn close(&self) {
        for handle in &self.handles {
            handle.close().await;
        }
    }
}
