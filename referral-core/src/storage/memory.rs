//! Storage in memory behind one lock, for tests and as the shortest example of a storage.

mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use self::state::State;
use super::{
    Ancestry, AttackCheck, AttackStatus, ChallengeDecision, ChallengeFacts, ChallengeRequest, CounterUpdate,
    Decided, DeliveryTransition, DeliveryUpdate, EditedProfile, FoundInvitees, FoundUsers, GrantedChallenge,
    KeyMismatch, KeyRegistration, NewStaff, NewUser, ProfileDecision, ProfileEdit, ProfileFacts,
    RefreshDecision, RefreshRequest, RegisteredKey, Result, Retention, Session, SessionSelection,
    SignInDecision, SignInFacts, SignInRequest, Storage, StorageReadiness, StoredSession, StoredSignIn,
    UserQuery, UserWithInvited,
};
use crate::{
    ChallengeId, InvitedBy, PageSize, PageStart, Refusal, SessionId, SharedSetting, User, UserId,
    clock::Clock, user::listing::COUNT_LIMIT,
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
impl Storage for MemoryStorage {
    async fn start_challenge(&self, request: &ChallengeRequest) -> Decided<GrantedChallenge> {
        let mut state = self.lock();
        let phone = &request.phone;
        let newest = state.newest_challenge(phone);
        let mut facts = ChallengeFacts {
            last_sent_at: newest.map(|challenge| challenge.sent_at),
            last_is_redeemed: newest.is_some_and(|challenge| challenge.redeemed_at.is_some()),
            last_code_length: newest.map(|challenge| challenge.code_length),
            last_login: state.user_with_phone(phone).and_then(|user| user.last_login),
            counters: state.counters(request.counters()),
            global_counters: state.global_counter_facts(request.global_counters()),
        };
        facts.global_counters.usual_failed_attempts =
            request.usual_times(&facts).map(|times| state.usual_failed_attempts(&times));
        match request.decide(&facts) {
            ChallengeDecision::Grant { granted, counter_update, attack_until } => {
                state.put_challenge(granted.challenge.clone());
                state.count(counter_update);
                state.attack_until = state.attack_until.max(attack_until);
                Ok(Ok(granted))
            }
            ChallengeDecision::Refuse(refusal) => Ok(Err(refusal)),
        }
    }

    async fn cancel_challenge(&self, challenge: ChallengeId, counter_update: &CounterUpdate) -> Result<()> {
        let mut state = self.lock();
        if state.challenges.contains_key(&challenge) {
            state.remove_challenge(challenge);
            state.count(counter_update.clone());
        }
        Ok(())
    }

    async fn record_delivery(&self, news: &DeliveryUpdate) -> Result<DeliveryTransition> {
        let mut state = self.lock();
        if let Some((id, gateway)) = &news.challenge
            && let Some(challenge) = state.challenges.get_mut(id)
            && challenge.redeemed_at.is_none()
        {
            challenge.gateway = Some(gateway.clone());
        }
        let Some(key) = &news.message else {
            return Ok(DeliveryTransition::default());
        };
        let decision = news.decide(state.messages.get(key).map(|(_, message)| *message));
        if let Some(put) = decision.put {
            state.messages.entry(key.clone()).or_insert((news.now, put)).1 = put;
        }
        Ok(decision.change)
    }

    async fn sign_in(&self, request: &SignInRequest) -> Decided<StoredSignIn> {
        let mut state = self.lock();
        let challenge = match request.challenge {
            Some(id) => state.challenges.get(&id).filter(|challenge| challenge.phone == request.phone),
            None => state.newest_challenge(&request.phone),
        };
        let mut facts = SignInFacts {
            challenge: challenge.cloned(),
            user: state.user_with_phone(&request.phone).cloned(),
            inviter: state.owner_of(request.invite_code.as_ref()),
            ancestry: Ancestry::NotWalked,
            counters: state.counters(request.counters()),
            global_counters: state.global_counter_facts(request.global_counters()),
        };
        facts.global_counters.usual_failed_attempts =
            request.usual_times(&facts).map(|times| state.usual_failed_attempts(&times));
        if request.needs_ancestry(&facts)
            && let (Some(user), Some(inviter)) = (&facts.user, &facts.inviter)
        {
            facts.ancestry = state.walk_lineage(inviter.id, user.id);
        }

        let (challenge, user, invitation, outcome, counter_update, max_sessions) = match request
            .decide(&facts)
        {
            SignInDecision::Refuse { refusal, challenge, counter_update } => {
                if let Some(challenge) = challenge {
                    state.put_challenge(challenge);
                }
                state.count(counter_update);
                return Ok(Err(refusal));
            }
            SignInDecision::Accept { challenge, user, invitation, outcome, counter_update, max_sessions } => {
                (challenge, user, invitation, outcome, counter_update, max_sessions)
            }
        };
        let created = user.is_none();
        let user = match user {
            Some(user) => {
                state.put_user(&user);
                user
            }
            None => state.add_user(&request.new_user, invitation.as_ref().map(InvitedBy::from))?,
        };
        if let Some(invitation) = &invitation {
            state.add_invitation(invitation);
        }
        let session = request.session_of(user.id);
        state.sessions.insert(session.id, session.clone());
        if let Some(max_sessions) = max_sessions {
            state.keep_newest_sessions(user.id, max_sessions);
        }
        let gateway = challenge.gateway.clone();
        state.put_challenge(challenge);
        state.count(counter_update);
        Ok(Ok(StoredSignIn { user, session, created, accepted: invitation, outcome, gateway }))
    }

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
        let Some(session) = state.sessions.get(&request.session) else {
            return Ok(Err(Refusal::TokenNotValid));
        };
        let user_is_active = state.users.get(&session.user).is_some_and(|user| user.is_active);
        match request.decide(session, user_is_active) {
            RefreshDecision::Rotate(session) | RefreshDecision::Repeat(Some(session)) => {
                state.sessions.insert(session.id, session.clone());
                Ok(Ok(session))
            }
            RefreshDecision::Repeat(None) => Ok(Ok(session.clone())),
            RefreshDecision::Revoke(session) => {
                state.sessions.insert(session.id, session);
                Ok(Err(Refusal::RefreshReused))
            }
            RefreshDecision::Refuse(refusal) => Ok(Err(refusal)),
        }
    }

    async fn sessions(&self, user: UserId, now: OffsetDateTime, limit: u32) -> Result<Vec<Session>> {
        let state = self.lock();
        let active = state.sessions.values().rev().filter(|session| {
            session.user == user && session.revoked_at.is_none() && session.ends_at() > now
        });
        Ok(active.take(limit as usize).cloned().collect())
    }

    async fn end_sessions(
        &self,
        user: UserId,
        sessions: SessionSelection,
        now: OffsetDateTime,
    ) -> Result<Vec<SessionId>> {
        Ok(self.lock().end_sessions(user, sessions, now))
    }

    async fn user(&self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>> {
        Ok(self.lock().with_invited(id, invited))
    }

    async fn users(&self, query: &UserQuery) -> Decided<FoundUsers> {
        let state = self.lock();
        let matching = || state.users.values().filter(|user| query.filter.matches(user));
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
        let count_exact = query.filter.is_empty() || count <= COUNT_LIMIT;
        Ok(Ok(FoundUsers {
            users: users.into_iter().cloned().collect(),
            has_more,
            count: if count_exact { count } else { COUNT_LIMIT },
            count_exact,
        }))
    }

    async fn invitees(
        &self,
        inviter: UserId,
        older_than: Option<UserId>,
        limit: PageSize,
    ) -> Result<Option<FoundInvitees>> {
        let state = self.lock();
        let Some(user) = state.users.get(&inviter) else {
            return Ok(None);
        };
        let limit = limit.get() as usize;
        let mut invitees = state.invitees(inviter, older_than, limit + 1);
        let has_more = invitees.len() > limit;
        invitees.truncate(limit);
        Ok(Some(FoundInvitees { invitees, has_more, count: user.invited_count }))
    }

    async fn edit_profile(&self, edit: &ProfileEdit) -> Decided<EditedProfile, Vec<Refusal>> {
        let mut state = self.lock();
        let Some(user) = state.users.get(&edit.user) else {
            return Ok(Err(vec![Refusal::UserNotFound]));
        };
        let email = edit.change.email.as_ref().and_then(Option::as_ref);
        let mut facts = ProfileFacts {
            user: user.clone(),
            email_owner: email.and_then(|email| state.by_email.get(email)).copied(),
            inviter: state.owner_of(edit.change.invited_by_code.as_ref()),
            ancestry: Ancestry::NotWalked,
            counters: state.counters(edit.counters()),
        };
        if edit.needs_ancestry(&facts)
            && let Some(inviter) = &facts.inviter
        {
            facts.ancestry = state.walk_lineage(inviter.id, edit.user);
        }
        match edit.decide(&facts) {
            ProfileDecision::Accept { edited, counter_update } => {
                state.put_user(&edited.user);
                if let Some(invitation) = &edited.accepted {
                    state.add_invitation(invitation);
                }
                state.count(counter_update);
                Ok(Ok(edited))
            }
            ProfileDecision::Refuse { refusals, counter_update } => {
                state.count(counter_update);
                Ok(Err(refusals))
            }
        }
    }

    async fn make_staff(&self, user: &NewUser, now: OffsetDateTime) -> Result<NewStaff> {
        let mut state = self.lock();
        let known = match state.user_with_phone(&user.phone).cloned() {
            Some(known) => known,
            None => state.add_user(user, None)?,
        };
        let ended_sessions = if known.is_staff {
            Vec::new()
        } else {
            state.end_sessions(known.id, SessionSelection::All, now)
        };
        let user = User { is_staff: true, ..known };
        state.put_user(&user);
        Ok(NewStaff { user, ended_sessions })
    }

    async fn set_active(&self, id: UserId, is_active: bool) -> Result<Option<User>> {
        Ok(self.lock().users.get_mut(&id).map(|user| {
            user.is_active = is_active;
            user.clone()
        }))
    }

    async fn check_attack(&self, request: &AttackCheck) -> Result<AttackStatus> {
        let mut state = self.lock();
        let mut facts = state.global_counter_facts(request.global_counters());
        facts.usual_failed_attempts =
            request.usual_times(&facts).map(|times| state.usual_failed_attempts(&times));
        let attack_status = request.decide(&facts);
        state.attack_until = state.attack_until.max(attack_status.record_until);
        Ok(attack_status)
    }

    async fn delete_expired(&self, delete_expired: &Retention) -> Result<u64> {
        let Retention { ended_before: before, global_counters_before, messages_before, batch } =
            *delete_expired;
        let mut state = self.lock();
        let batch = batch as usize;
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
        let deleted = expired.len() + ended.len() + idle.len() + old.len() + known.len();
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
        Ok(deleted as u64)
    }

    async fn registered_keys(&self) -> Result<Vec<RegisteredKey>> {
        Ok(self.lock().keys.clone())
    }

    async fn register_keys(&self, request: &KeyRegistration) -> Decided<(), KeyMismatch> {
        let mut state = self.lock();
        let decision = request.decide(&state.keys);
        Ok(decision.map(|changed| {
            for changed in changed {
                state.keys.retain(|key| (key.purpose, &key.id) != (changed.purpose, &changed.id));
                state.keys.push(changed);
            }
        }))
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
        Ok(()).into()
    }

    async fn current_time(&self) -> Result<Option<OffsetDateTime>> {
        Ok(self.clock.as_ref().map(|clock| clock.now()))
    }
}
