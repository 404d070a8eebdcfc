//! Storage that distributes calls over several stores that share a database.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use referral_core::{
    ChallengeId, PageSize, Refusal, Session, SessionId, User, UserId,
    keys::KeyMismatch,
    storage::{
        AttackCheck, ChallengeRequest, ChallengeStorage, CounterUpdate, Decided, DeliveryTransition,
        DeliveryUpdate, EditedProfile, GrantedChallenge, Invitee, KeyRegistration, MaintenanceStorage,
        NewStaff, ProfileEdit, RefreshRequest, RegisteredKey, Result, Retention, SessionSelection,
        SessionStorage, SharedSetting, SignInRequest, StaffRequest, Storage, StorageReadiness, StoredPage,
        StoredSession, StoredSignIn, UserQuery, UserStorage, UserWithInvited,
    },
};
use time::OffsetDateTime;
use uuid::Uuid;

/// Storage that passes each call to the next of its stores. The stores share only the database, so a test
/// fails if one of them keeps state in memory that the others need.
pub(crate) struct RoundRobin {
    stores: Vec<Arc<dyn Storage>>,
    calls: AtomicUsize,
}

impl RoundRobin {
    pub(crate) fn new(stores: Vec<Arc<dyn Storage>>) -> Arc<Self> {
        Arc::new(Self { stores, calls: AtomicUsize::new(0) })
    }

    fn next(&self) -> &dyn Storage {
        &*self.stores[self.calls.fetch_add(1, Ordering::Relaxed) % self.stores.len()]
    }
}

#[async_trait]
impl ChallengeStorage for RoundRobin {
    async fn start_challenge(&self, request: &ChallengeRequest) -> Decided<GrantedChallenge> {
        self.next().start_challenge(request).await
    }

    async fn cancel_challenge(&self, challenge: ChallengeId, counters: &CounterUpdate) -> Result<()> {
        self.next().cancel_challenge(challenge, counters).await
    }

    async fn record_delivery(&self, update: &DeliveryUpdate) -> Result<DeliveryTransition> {
        self.next().record_delivery(update).await
    }

    async fn sign_in(&self, request: &SignInRequest) -> Decided<StoredSignIn> {
        self.next().sign_in(request).await
    }
}

#[async_trait]
impl SessionStorage for RoundRobin {
    async fn session(&self, id: SessionId, invited: u32) -> Result<Option<StoredSession>> {
        self.next().session(id, invited).await
    }

    async fn mark_tokens_used(&self, session: SessionId, access_id: Uuid) -> Result<()> {
        self.next().mark_tokens_used(session, access_id).await
    }

    async fn refresh(&self, request: &RefreshRequest) -> Decided<Session> {
        self.next().refresh(request).await
    }

    async fn sessions(&self, user: UserId, now: OffsetDateTime, limit: u32) -> Result<Vec<Session>> {
        self.next().sessions(user, now, limit).await
    }

    async fn end_sessions(
        &self,
        user: UserId,
        sessions: SessionSelection,
        now: OffsetDateTime,
    ) -> Result<Vec<SessionId>> {
        self.next().end_sessions(user, sessions, now).await
    }
}

#[async_trait]
impl UserStorage for RoundRobin {
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

    async fn edit_profile(&self, edit: &ProfileEdit) -> Decided<EditedProfile, Vec<Refusal>> {
        self.next().edit_profile(edit).await
    }

    async fn make_staff(&self, request: &StaffRequest) -> Result<NewStaff> {
        self.next().make_staff(request).await
    }

    async fn set_active(&self, id: UserId, is_active: bool) -> Result<Option<User>> {
        self.next().set_active(id, is_active).await
    }
}

#[async_trait]
impl MaintenanceStorage for RoundRobin {
    async fn check_attack(&self, check: &AttackCheck) -> Result<bool> {
        self.next().check_attack(check).await
    }

    async fn delete_expired(&self, retention: &Retention) -> Result<u64> {
        self.next().delete_expired(retention).await
    }

    async fn registered_keys(&self) -> Result<Vec<RegisteredKey>> {
        self.next().registered_keys().await
    }

    async fn register_keys(&self, request: &KeyRegistration) -> Decided<(), KeyMismatch> {
        self.next().register_keys(request).await
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
        for store in &self.stores {
            store.close().await;
        }
    }
}
