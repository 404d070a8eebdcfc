//! Storage that distributes calls over several stores that share a database.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use referral_core::{
    ChallengeId, KeyMismatch, PageSize, Refusal, Session, SessionId, SharedSetting, User, UserId,
    UserWithInvited,
    storage::{
        AttackCheck, AttackStatus, ChallengeRequest, CounterUpdate, Decided, DeliveryTransition,
        DeliveryUpdate, EditedProfile, FoundInvitees, FoundUsers, GrantedChallenge, KeyRegistration,
        NewStaff, NewUser, ProfileEdit, RefreshRequest, RegisteredKey, Result, Retention, SessionSelection,
        SignInRequest, Storage, StorageReadiness, StoredSession, StoredSignIn, UserQuery,
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
impl Storage for RoundRobin {
    async fn start_challenge(&self, request: &ChallengeRequest) -> Decided<GrantedChallenge> {
        self.next().start_challenge(request).await
    }

    async fn cancel_challenge(&self, challenge: ChallengeId, counter_update: &CounterUpdate) -> Result<()> {
        self.next().cancel_challenge(challenge, counter_update).await
    }

    async fn record_delivery(&self, news: &DeliveryUpdate) -> Result<DeliveryTransition> {
        self.next().record_delivery(news).await
    }

    async fn sign_in(&self, request: &SignInRequest) -> Decided<StoredSignIn> {
        self.next().sign_in(request).await
    }

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

    async fn user(&self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>> {
        self.next().user(id, invited).await
    }

    async fn users(&self, query: &UserQuery) -> Decided<FoundUsers> {
        self.next().users(query).await
    }

    async fn invitees(
        &self,
        inviter: UserId,
        older_than: Option<UserId>,
        limit: PageSize,
    ) -> Result<Option<FoundInvitees>> {
        self.next().invitees(inviter, older_than, limit).await
    }

    async fn edit_profile(&self, edit: &ProfileEdit) -> Decided<EditedProfile, Vec<Refusal>> {
        self.next().edit_profile(edit).await
    }

    async fn make_staff(&self, user: &NewUser, now: OffsetDateTime) -> Result<NewStaff> {
        self.next().make_staff(user, now).await
    }

    async fn set_active(&self, id: UserId, is_active: bool) -> Result<Option<User>> {
        self.next().set_active(id, is_active).await
    }

    async fn check_attack(&self, request: &AttackCheck) -> Result<AttackStatus> {
        self.next().check_attack(request).await
    }

    async fn delete_expired(&self, delete_expired: &Retention) -> Result<u64> {
        self.next().delete_expired(delete_expired).await
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
