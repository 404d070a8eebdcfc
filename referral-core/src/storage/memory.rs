//! Storage in memory behind one lock, for tests and as the shortest example of a storage.

mod change;
mod code_requests;
mod deletion;
mod import;
#[cfg(all(test, feature = "conformance"))]
mod mutants;
mod phone_change;
mod sign_in;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use self::state::State;
use super::{
    AddUserFacts, AddUserRequest, AddedUser, Ancestry, AttackCheck, AuditPage, AuditQuery, AuditStorage,
    ChallengeFacts, ChallengeRequest, ChallengeStorage, ChallengeWrites, ChangedPhone, ChangedUser,
    CodeRequest, CodeRequestView, CounterUpdate, DailyCounts, Decided, Decision, DeletedUser,
    DeletionRequest, DeliveryFacts, DeliveryTransition, DeliveryUpdate, DueDeletion, GlobalCounterFacts,
    GlobalCounterQuery, GrantedChallenge, ImportBatch, ImportOutcome, KeyRegistration, MaintenanceStorage,
    PhoneChangeRequest, PhoneHash, ProfileEdit, ProfileFacts, ProfileOutcome, ProfileWrites, RefreshFacts,
    RefreshRequest, RegisteredKey, Result, Retention, SessionSelection, SessionStorage, SignInOutcome,
    SignInRequest, StorageError, StorageReadiness, StoredPage, StoredSession, UnlockRequest,
    UserChangeRequest, UserQuery, UserRecord, UserStorage, UserWithInvited,
};
use crate::{
    audit::AuditEntry,
    clock::Clock,
    error::refusal::Refusal,
    invite::invitation::Invitation,
    keys::registry::KeyMismatch,
    otp::challenge::ChallengeId,
    session::{Session, SessionId},
    shared_settings::SharedSetting,
    user::{
        Invitee, User, UserId,
        listing::{PageSize, PageStart},
        phone::PhoneNumber,
    },
};

/// Storage that keeps all data in memory until it is dropped.
#[derive(Default)]
pub struct MemoryStorage {
    state: Mutex<State>,
    clock: Option<Arc<dyn Clock>>,
}

impl MemoryStorage {
    /// Creates an empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates an empty storage that returns the time of this clock as its own, for tests in which the clock
    /// of the host differs from the clock of the database.
    #[must_use]
    pub fn with_clock(clock: impl Clock) -> Self {
        Self { clock: Some(Arc::new(clock)), ..Self::default() }
    }

    /// Locks all data, so that each method is atomic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ChallengeStorage for MemoryStorage {
    async fn start_challenge(&self, request: &ChallengeRequest) -> Decided<GrantedChallenge> {
        let mut state = self.lock();
        let phone = &request.phone;
        let newest = state.newest_challenge(phone);
        let facts = ChallengeFacts {
            last_sent_at: newest.map(|challenge| challenge.sent_at),
            last_is_redeemed: newest.is_some_and(|challenge| challenge.redeemed_at.is_some()),
            last_code_length: newest.map(|challenge| challenge.code_length),
            last_login: state.user_with_phone(phone).and_then(|user| user.last_login),
            counters: state.counters(request.counters()),
            global_counters: state.global_counter_facts(request.global_counters()),
        };
        let Decision { writes, outcome } = request.decide(&facts);
        let ChallengeWrites { challenge, counters, attack_until } = writes;
        if let Some(challenge) = challenge {
            state.put_challenge(challenge);
        }
        state.count(counters);
        state.attack_until = state.attack_until.max(attack_until);
        Ok(outcome)
    }

    async fn cancel_challenge(&self, challenge: ChallengeId, counters: &CounterUpdate) -> Result<()> {
        let mut state = self.lock();
        if state.challenges.contains_key(&challenge) {
            state.remove_challenge(challenge);
            state.count(counters.clone());
        }
        Ok(())
    }

    async fn record_delivery(&self, update: &DeliveryUpdate) -> Result<DeliveryTransition> {
        let mut state = self.lock();
        let message = update.message.as_ref().and_then(|key| state.messages.get(key));
        let challenge = update.challenge.as_ref().and_then(|(id, _)| state.challenges.get(id));
        let facts = DeliveryFacts {
            message: message.map(|(_, message)| *message),
            has_open_challenge: challenge.is_some_and(|challenge| challenge.redeemed_at.is_none()),
        };
        let Decision { writes, outcome } = update.decide(facts);
        if let Some((id, gateway)) = writes.gateway
            && let Some(challenge) = state.challenges.get_mut(&id)
        {
            challenge.gateway = Some(gateway);
        }
        if let Some((key, put)) = update.message.clone().zip(writes.message) {
            state.messages.entry(key).or_insert((update.now, put)).1 = put;
        }
        Ok(outcome)
    }

    async fn sign_in(&self, request: &SignInRequest) -> Decided<SignInOutcome> {
        self.lock().sign_in(request)
    }

    async fn record_code_requests(&self, requests: &[CodeRequest]) -> Result<()> {
        self.lock().record_code_requests(requests);
        Ok(())
    }

    async fn code_requests(&self, phone: &[PhoneHash], limit: u32) -> Result<Vec<CodeRequestView>> {
        Ok(self.lock().newest_code_requests(phone, limit))
    }
}

#[async_trait]
impl SessionStorage for MemoryStorage {
    async fn session(&self, id: SessionId, invited: u32) -> Result<Option<StoredSession>> {
        let state = self.lock();
        Ok(state.sessions.get(&id).and_then(|session| {
            let user = state.with_invited(session.user, invited)?;
            Some(StoredSession { session: session.clone(), user })
        }))
    }

    async fn mark_tokens_used(&self, session: SessionId, access_id: Uuid) -> Result<()> {
        if let Some(session) = self.lock().sessions.get_mut(&session)
            && session.issued.access_id == access_id
        {
            session.tokens_used = true;
        }
        Ok(())
    }

    async fn refresh(&self, request: &RefreshRequest) -> Decided<Session> {
        let mut state = self.lock();
        let facts = state.sessions.get(&request.session).and_then(|session| {
            let user = state.users.get(&session.user)?.clone();
            Some(RefreshFacts { session: session.clone(), user })
        });
        let Decision { writes, outcome } = request.decide(facts.as_ref())?;
        if let Some(session) = writes.session {
            if writes.last_active.is_some()
                && let Some(user) = state.users.get_mut(&session.user)
            {
                user.last_active = writes.last_active;
            }
            state.sessions.insert(session.id, session);
        }
        Ok(outcome)
    }

    async fn sessions(
        &self,
        user: UserId,
        now: OffsetDateTime,
        older_than: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<Session>> {
        let state = self.lock();
        let sessions = state.sessions.values().rev();
        let older = sessions.filter(|session| older_than.is_none_or(|id| session.id < id));
        let active = older.filter(|session| session.user == user && session.is_active(now));
        Ok(active.take(limit as usize).cloned().collect())
    }

    async fn end_sessions(
        &self,
        user: UserId,
        sessions: SessionSelection,
        now: OffsetDateTime,
        audit: Option<&AuditEntry>,
    ) -> Result<Vec<SessionId>> {
        let mut state = self.lock();
        state.record(audit.cloned());
        Ok(state.end_sessions(user, sessions, now))
    }
}

#[async_trait]
impl UserStorage for MemoryStorage {
    async fn user(&self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>> {
        Ok(self.lock().with_invited(id, invited))
    }

    async fn users(&self, query: &UserQuery) -> Decided<StoredPage<User>> {
        let state = self.lock();
        let listed = |user: &&User| user.has_phone() && query.filter.matches(user);
        let matching = || state.users.values().filter(listed);
        let limit = query.limit.get() as usize;

        // One more row than the page has shows whether there are more.
        let mut users: Vec<_> = match query.start {
            PageStart::Offset(offset) => {
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                matching().rev().skip(offset).take(limit + 1).collect()
            }
            PageStart::OlderThan(id) => {
                matching().rev().filter(|user| user.id < id).take(limit + 1).collect()
            }
            PageStart::NewerThan(id) => matching().filter(|user| user.id > id).take(limit + 1).collect(),
        };
        let has_more = users.len() > limit;
        users.truncate(limit);
        if matches!(query.start, PageStart::NewerThan(_)) {
            users.reverse();
        }

        let count = matching().count() as u64;
        let count_exact = query.filter.is_empty() || count <= UserQuery::COUNT_LIMIT;
        Ok(Ok(StoredPage {
            items: users.into_iter().cloned().collect(),
            has_more,
            count: if count_exact { count } else { UserQuery::COUNT_LIMIT },
            count_exact,
        }))
    }

    async fn invitees(
        &self,
        inviter: UserId,
        older_than: Option<UserId>,
        limit: PageSize,
    ) -> Result<Option<StoredPage<Invitee>>> {
        let state = self.lock();
        let Some(user) = state.users.get(&inviter) else {
            return Ok(None);
        };
        let limit = limit.get() as usize;
        let mut items = state.invitees(inviter, older_than, limit + 1);
        let has_more = items.len() > limit;
        items.truncate(limit);
        Ok(Some(StoredPage { items, has_more, count: user.invited_count, count_exact: true }))
    }

    async fn former_users(&self, phone: &PhoneNumber, limit: u32) -> Result<Vec<User>> {
        let state = self.lock();
        let former = state.users.values().rev().filter(|user| !user.has_phone() && user.phone == *phone);
        Ok(former.take(limit as usize).cloned().collect())
    }

    async fn invitation(&self, invitee: UserId) -> Result<Option<Invitation>> {
        Ok(self.lock().invitations.get(&invitee).cloned())
    }

    async fn edit_profile(&self, edit: &ProfileEdit) -> Decided<ProfileOutcome, Vec<Refusal>> {
        let mut state = self.lock();
        let email = edit.change.email.as_ref().and_then(Option::as_ref);
        let mut facts = ProfileFacts {
            user: state.users.get(&edit.user).cloned(),
            email_owner: email.and_then(|email| state.by_email.get(email)).copied(),
            inviter: state.owner_of(edit.change.invited_by_code.as_ref()),
            ancestry: Ancestry::NotWalked,
            counters: state.counters(edit.counters()),
        };
        if edit.needs_ancestry(&facts)
            && let Some(inviter) = &facts.inviter
        {
            facts.ancestry = state.ancestry(inviter.id, edit.user);
        }
        let Decision { writes: ProfileWrites { user, invitation, counters }, outcome } = edit.decide(&facts);
        if let Some(user) = user {
            state.put_user(&user);
        }
        if let Some(invitation) = &invitation {
            state.add_invitation(invitation);
        }
        state.count(counters);
        Ok(outcome)
    }

    async fn add_user(&self, request: &AddUserRequest) -> Decided<AddedUser> {
        let mut state = self.lock();
        let new_user = &request.new_user;
        let facts = AddUserFacts {
            user: state.user_with_phone(&new_user.phone).cloned(),
            external_id_owner: state.owner_of_external_id(new_user.external_id.as_ref()),
        };
        let Decision { writes, outcome } = request.decide(&facts, state.free_code(new_user)?);
        if let Some(write) = writes.user {
            state.write_user(write);
        }
        Ok(outcome.map(|user| {
            let ended_sessions = if writes.ends_sessions {
                state.end_sessions(user.id, SessionSelection::All, request.now)
            } else {
                Vec::new()
            };
            state.record(writes.audit.clone());
            AddedUser { user, ended_sessions, audit: writes.audit }
        }))
    }

    async fn delete_user(&self, request: &DeletionRequest) -> Decided<DeletedUser> {
        Ok(self.lock().delete_user(request))
    }

    async fn users_to_delete(
        &self,
        now: OffsetDateTime,
        after: Option<&DueDeletion>,
        limit: u32,
    ) -> Result<Vec<DueDeletion>> {
        Ok(self.lock().users_to_delete(now, after, limit as usize))
    }

    async fn change_phone(&self, request: &PhoneChangeRequest) -> Decided<ChangedPhone> {
        Ok(self.lock().change_phone(request))
    }

    async fn change_user(&self, request: &UserChangeRequest) -> Decided<ChangedUser> {
        Ok(self.lock().change_user(request))
    }

    async fn daily_counts(&self, since: Date, until: Date) -> Result<Vec<DailyCounts>> {
        Ok(self.lock().daily_counts.range(since..=until).map(|(_, counts)| *counts).collect())
    }

    async fn export_users(&self, after: Option<UserId>, limit: u32) -> Result<Vec<UserRecord>> {
        Ok(self.lock().records_after(after, limit as usize))
    }

    async fn import_users(&self, batch: &ImportBatch) -> Result<Vec<ImportOutcome>> {
        Ok(self.lock().import(batch))
    }
}

#[async_trait]
impl AuditStorage for MemoryStorage {
    async fn audit_log(&self, query: &AuditQuery) -> Result<AuditPage> {
        let state = self.lock();
        let limit = query.limit.get() as usize;
        // One more entry than the page has shows whether there are more.
        let matching = state.audit_log.values().rev().filter(|entry| query.matches(entry));
        let mut entries: Vec<_> = matching.take(limit + 1).cloned().collect();
        let has_more = entries.len() > limit;
        entries.truncate(limit);
        Ok(AuditPage { entries, has_more })
    }

    async fn unlock_phone(&self, request: &UnlockRequest) -> Result<AuditEntry> {
        let mut state = self.lock();
        let (counter, pairs) = (request.counter(), request.pairs());
        state.counters.retain(|key, _| *key != counter && !pairs.contains(&key.as_str().to_owned()));
        let entry = request.entry(state.by_phone.get(&request.phone).copied());
        state.record(Some(entry.clone()));
        Ok(entry)
    }

    async fn add_audit_entry(&self, entry: &AuditEntry) -> Result<()> {
        self.lock().record(Some(entry.clone()));
        Ok(())
    }
}

#[async_trait]
impl MaintenanceStorage for MemoryStorage {
    async fn check_attack(&self, check: &AttackCheck) -> Result<bool> {
        let mut state = self.lock();
        let decision = check.decide(&state.global_counter_facts(check.global_counters()));
        state.attack_until = state.attack_until.max(decision.writes);
        Ok(decision.outcome)
    }

    async fn global_counters(&self, query: GlobalCounterQuery) -> Result<GlobalCounterFacts> {
        Ok(self.lock().global_counter_facts(query))
    }

    async fn delete_expired(&self, retention: &Retention) -> Result<u64> {
        let Retention {
            ended_before: before,
            global_counters_before,
            messages_before,
            code_requests_before,
            batch_size,
        } = *retention;
        let mut state = self.lock();
        let batch = batch_size as usize;
        let expired = state.challenges.values().filter(|challenge| challenge.expires_at < before);
        let expired: Vec<_> = expired.map(|challenge| challenge.id).take(batch).collect();
        let ended = state.sessions.values().filter(|session| session.ends_at() < before);
        let ended: Vec<_> = ended.map(|session| session.id).take(batch).collect();
        let idle = state.counters.values().filter(|counter| counter.ends_at < before);
        let idle: Vec<_> = idle.map(|counter| counter.key.clone()).take(batch).collect();
        let old = state.global_counters.keys().filter(|(_, since)| *since < global_counters_before);
        let old: Vec<_> = old.copied().take(batch).collect();
        let known = state.messages.iter().filter(|(_, (recorded_at, _))| *recorded_at < messages_before);
        let known: Vec<_> = known.map(|(key, _)| key.clone()).take(batch).collect();
        let requests = state.code_requests_before(code_requests_before, batch);
        let deleted = expired.len() + ended.len() + idle.len() + old.len() + known.len() + requests.len();
        for challenge in expired {
            state.remove_challenge(challenge);
        }
        for session in ended {
            state.sessions.remove(&session);
        }
        for key in idle {
            state.counters.remove(&key);
        }
        for bucket in old {
            state.global_counters.remove(&bucket);
        }
        for message in known {
            state.messages.remove(&message);
        }
        for (phone, id) in requests {
            state.remove_code_request(phone, id);
        }
        Ok(deleted as u64)
    }

    async fn registered_keys(&self) -> Result<Vec<RegisteredKey>> {
        Ok(self.lock().keys.clone())
    }

    async fn register_keys(&self, registration: &KeyRegistration) -> Decided<(), KeyMismatch> {
        let mut state = self.lock();
        let Decision { writes, outcome } = registration.decide(&state.keys);
        for changed in writes {
            state.keys.retain(|key| (key.purpose, &key.id) != (changed.purpose, &changed.id));
            state.keys.push(changed);
        }
        Ok(outcome)
    }

    async fn shared_settings(&self) -> Result<Vec<SharedSetting>> {
        Ok(self.lock().shared_settings.clone())
    }

    async fn record_settings(&self, settings: &[SharedSetting]) -> Result<()> {
        let mut state = self.lock();
        state.shared_settings.retain(|known| settings.iter().all(|setting| setting.name != known.name));
        state.shared_settings.extend_from_slice(settings);
        Ok(())
    }

    async fn check_ready(&self) -> StorageReadiness {
        let is_closed = self.lock().is_closed;
        let closed = || StorageError::Unavailable("the storage is closed".into());
        if is_closed { Err(closed()) } else { Ok(()) }.into()
    }

    async fn current_time(&self) -> Result<Option<OffsetDateTime>> {
        Ok(self.clock.as_ref().map(|clock| clock.now()))
    }

    async fn close(&self) {
        self.lock().is_closed = true;
    }
}
