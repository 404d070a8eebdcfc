//! Everything in memory, behind one lock: for tests, and as the shortest example.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Alert, ChallengeDecision, ChallengeFacts, ChallengeRequest, Counter, CounterKey, Counters, Counting,
    Decided, EditedProfile, EndedSessions, FoundInvitees, FoundUsers, GrantedChallenge, Invitation, Inviter,
    KeyMismatch, KeyRequest, KnownKey, Lineage, NewUser, ProfileDecision, ProfileEdit, ProfileFacts,
    RefreshDecision, RefreshRequest, Result, ServiceFacts, ServiceFigure, ServiceQuery, Session,
    SignInDecision, SignInFacts, SignInRequest, Storage, StorageError, StoredSession, StoredSignIn,
    UserQuery, UserWithInvited, WatchRequest,
};
use crate::{
    Challenge, ChallengeId, Email, InviteCode, InvitedBy, Invitee, PageSize, PhoneNumber, Position, Refusal,
    SessionId, User, UserId, users::COUNT_LIMIT,
};

/// Keeps everything in memory, until it is dropped.
#[derive(Default)]
pub struct MemoryStorage {
    state: Mutex<State>,
}

impl MemoryStorage {
    /// An empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All at once excludes all else, so every method is atomic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct State {
    users: BTreeMap<UserId, User>,
    by_phone: HashMap<PhoneNumber, UserId>,
    by_code: HashMap<InviteCode, UserId>,
    by_email: HashMap<Email, UserId>,
    /// Inviter and invitee: the invitees of one inviter lie together, in the order of their ids.
    edges: BTreeSet<(UserId, UserId)>,
    challenges: BTreeMap<ChallengeId, Challenge>,
    /// The challenges of each phone, in the order of their ids.
    sent: HashMap<PhoneNumber, BTreeSet<ChallengeId>>,
    sessions: BTreeMap<SessionId, Session>,
    counters: HashMap<CounterKey, Counter>,
    /// What was counted for the whole service in each minute or hour.
    service: HashMap<(ServiceFigure, OffsetDateTime), i64>,
    attack_until: Option<OffsetDateTime>,
    keys: Vec<KnownKey>,
}

impl State {
    fn user_with_phone(&self, phone: &PhoneNumber) -> Option<&User> {
        self.users.get(self.by_phone.get(phone)?)
    }

    fn newest_challenge(&self, phone: &PhoneNumber) -> Option<&Challenge> {
        self.challenges.get(self.sent.get(phone)?.last()?)
    }

    fn owner_of(&self, code: Option<&InviteCode>) -> Option<Inviter> {
        let id = *self.by_code.get(code?)?;
        Some(Inviter { id, code: code?.clone() })
    }

    fn walk_lineage(&self, inviter: UserId, invitee: UserId) -> Lineage {
        let mut next = Some(inviter);
        // No more steps than there are users, so that it ends even where there is a loop.
        for _ in 0..self.users.len() {
            let Some(ancestor) = next else {
                break;
            };
            if ancestor == invitee {
                return Lineage::WithInvitee;
            }
            let user = self.users.get(&ancestor);
            next = user.and_then(|user| user.invited_by.as_ref()).map(|named| named.inviter);
        }
        Lineage::WithoutInvitee
    }

    fn add_user(&mut self, new: &NewUser, invited_by: Option<InvitedBy>) -> Result<User> {
        let code = new.invite_codes.iter().find(|code| !self.by_code.contains_key(*code));
        let code = code.ok_or(StorageError::InviteCodesExhausted)?;
        let user = new.to_user(code.clone(), invited_by);
        self.by_phone.insert(user.phone.clone(), user.id);
        self.by_code.insert(code.clone(), user.id);
        self.users.insert(user.id, user.clone());
        Ok(user)
    }

    /// Stores `user` in place of the one with the same id, phone and code.
    fn put_user(&mut self, user: &User) {
        let Some(old) = self.users.insert(user.id, user.clone()) else {
            return;
        };
        if let Some(email) = old.email {
            self.by_email.remove(&email);
        }
        if let Some(email) = &user.email {
            self.by_email.insert(email.clone(), user.id);
        }
    }

    fn put_challenge(&mut self, challenge: Challenge) {
        self.sent.entry(challenge.phone.clone()).or_default().insert(challenge.id);
        self.challenges.insert(challenge.id, challenge);
    }

    fn remove_challenge(&mut self, id: ChallengeId) {
        if let Some(challenge) = self.challenges.remove(&id)
            && let Some(sent) = self.sent.get_mut(&challenge.phone)
        {
            sent.remove(&id);
            if sent.is_empty() {
                self.sent.remove(&challenge.phone);
            }
        }
    }

    fn counters(&self, keys: Vec<CounterKey>) -> Counters {
        let stamps = |key: &CounterKey| self.counters.get(key).map(|counter| counter.stamps.clone());
        keys.into_iter().map(|key| (key.clone(), stamps(&key).unwrap_or_default())).collect()
    }

    fn count(&mut self, counting: Counting) {
        for counter in counting.counters {
            self.counters.insert(counter.key.clone(), counter);
        }
        for (key, stamp) in counting.refunds {
            if let Some(counter) = self.counters.get_mut(&key) {
                counter.stamps.retain(|counted| *counted != stamp);
            }
        }
        if let Some(count) = counting.service {
            *self.service.entry((count.figure, count.since)).or_default() += i64::from(count.by);
        }
    }

    fn service_facts(&self, query: ServiceQuery) -> ServiceFacts {
        let failures = query.failures_since.map(|since| self.failures(|minute| minute >= since));
        let messages = query.messages_since.map(|since| {
            let of_hours = self
                .service
                .iter()
                .filter(|((figure, hour), _)| *figure == ServiceFigure::Messages && *hour >= since);
            let hours: BTreeMap<_, _> =
                of_hours.map(|((_, hour), count)| (*hour, positive(*count))).collect();
            hours.into_iter().collect()
        });
        ServiceFacts {
            failures: failures.unwrap_or_default(),
            usual_failures: None,
            attack_until: self.attack_until,
            messages: messages.unwrap_or_default(),
        }
    }

    fn usual_failures(&self, times: &[(OffsetDateTime, OffsetDateTime)]) -> Vec<u64> {
        times.iter().map(|(since, end)| self.failures(|minute| (since..end).contains(&&minute))).collect()
    }

    /// How many wrong codes there were in the minutes that are looked for.
    fn failures(&self, is_looked_for: impl Fn(OffsetDateTime) -> bool) -> u64 {
        let found = self
            .service
            .iter()
            .filter(|((figure, minute), _)| *figure == ServiceFigure::Failures && is_looked_for(*minute));
        found.map(|(_, count)| positive(*count)).sum()
    }

    fn add_invitation(&mut self, invitation: &Invitation) {
        if self.edges.insert((invitation.inviter, invitation.invitee))
            && let Some(inviter) = self.users.get_mut(&invitation.inviter)
        {
            inviter.invited_count += 1;
        }
    }

    fn invitees(&self, inviter: UserId, older_than: Option<UserId>, limit: usize) -> Vec<Invitee> {
        let first = (inviter, UserId(Uuid::nil()));
        let end = (inviter, older_than.unwrap_or(UserId(Uuid::max())));
        let ids = self.edges.range(first..end).rev().map(|(_, invitee)| invitee);
        ids.take(limit)
            .filter_map(|id| self.users.get(id))
            .map(|user| Invitee { id: user.id, phone: user.phone.clone(), joined_at: user.date_joined })
            .collect()
    }

    fn with_invited(&self, id: UserId, invited: u32) -> Option<UserWithInvited> {
        let user = self.users.get(&id)?.clone();
        Some(UserWithInvited { user, invited: self.invitees(id, None, invited as usize) })
    }
}

/// What is counted is not negative, unless somebody takes back what they never counted.
fn positive(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
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
            last_login: state.user_with_phone(phone).and_then(|user| user.last_login),
            counters: state.counters(request.counters()),
            service: state.service_facts(request.service()),
        };
        facts.service.usual_failures = request.usual_times(&facts).map(|times| state.usual_failures(&times));
        match request.decide(&facts) {
            ChallengeDecision::Grant { granted, counting, attack_until } => {
                state.put_challenge(granted.challenge.clone());
                state.count(counting);
                state.attack_until = state.attack_until.max(attack_until);
                Ok(Ok(granted))
            }
            ChallengeDecision::Refuse(refusal) => Ok(Err(refusal)),
        }
    }

    async fn void_challenge(&self, challenge: ChallengeId, counting: &Counting) -> Result<()> {
        let mut state = self.lock();
        if state.challenges.contains_key(&challenge) {
            state.remove_challenge(challenge);
            state.count(counting.clone());
        }
        Ok(())
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
            lineage: Lineage::NotWalked,
            counters: state.counters(request.counters()),
            service: state.service_facts(request.service()),
        };
        facts.service.usual_failures = request.usual_times(&facts).map(|times| state.usual_failures(&times));
        if request.needs_lineage(&facts)
            && let (Some(user), Some(inviter)) = (&facts.user, &facts.inviter)
        {
            facts.lineage = state.walk_lineage(inviter.id, user.id);
        }

        let (challenge, user, invitation, outcome, counting) = match request.decide(&facts) {
            SignInDecision::Refuse { refusal, challenge, counting } => {
                if let Some(challenge) = challenge {
                    state.put_challenge(challenge);
                }
                state.count(counting);
                return Ok(Err(refusal));
            }
            SignInDecision::Accept { challenge, user, invitation, outcome, counting } => {
                (challenge, user, invitation, outcome, counting)
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
        state.put_challenge(challenge);
        state.count(counting);
        Ok(Ok(StoredSignIn { user, session, created, accepted: invitation, outcome }))
    }

    async fn session(&self, id: SessionId, invited: u32) -> Result<Option<StoredSession>> {
        let state = self.lock();
        Ok(state.sessions.get(&id).and_then(|session| {
            let user = state.with_invited(session.user, invited)?;
            Some(StoredSession { session: session.clone(), user })
        }))
    }

    async fn note_grant_used(&self, session: SessionId, access_id: Uuid) -> Result<()> {
        if let Some(session) = self.lock().sessions.get_mut(&session)
            && session.grant.access_id == access_id
        {
            session.grant_used = true;
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
            RefreshDecision::Rotate(session) => {
                state.sessions.insert(session.id, session.clone());
                Ok(Ok(session))
            }
            RefreshDecision::Repeat => Ok(Ok(session.clone())),
            RefreshDecision::Revoke(session) => {
                state.sessions.insert(session.id, session);
                Ok(Err(Refusal::RefreshReused))
            }
            RefreshDecision::Refuse(refusal) => Ok(Err(refusal)),
        }
    }

    async fn sessions(&self, user: UserId, now: OffsetDateTime, limit: u32) -> Result<Vec<Session>> {
        let state = self.lock();
        let live = state.sessions.values().rev().filter(|session| {
            session.user == user && session.revoked_at.is_none() && session.ends_at() > now
        });
        Ok(live.take(limit as usize).cloned().collect())
    }

    async fn end_sessions(
        &self,
        user: UserId,
        sessions: EndedSessions,
        now: OffsetDateTime,
    ) -> Result<Vec<SessionId>> {
        let mut state = self.lock();
        let is_meant = |session: &Session| match sessions {
            EndedSessions::One(id) => session.id == id,
            EndedSessions::Others(kept) => session.id != kept,
        };
        let is_live = |session: &Session| session.revoked_at.is_none() && session.ends_at() > now;
        let live = state.sessions.values_mut().rev();
        let live = live.filter(|session| session.user == user && is_live(session) && is_meant(session));
        let end = |session: &mut Session| {
            session.revoked_at = Some(now);
            session.id
        };
        Ok(live.map(end).collect())
    }

    async fn user(&self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>> {
        Ok(self.lock().with_invited(id, invited))
    }

    async fn users(&self, query: &UserQuery) -> Result<FoundUsers> {
        let state = self.lock();
        let matching = || state.users.values().filter(|user| query.filter.matches(user));
        let limit = query.limit.get() as usize;

        // One more than fits tells whether there is more.
        let mut users: Vec<_> = match query.position {
            Position::Offset(offset) => {
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                matching().rev().skip(offset).take(limit + 1).collect()
            }
            Position::OlderThan(id) => matching().rev().filter(|user| user.id < id).take(limit + 1).collect(),
            Position::NewerThan(id) => matching().filter(|user| user.id > id).take(limit + 1).collect(),
        };
        let has_more = users.len() > limit;
        users.truncate(limit);
        if matches!(query.position, Position::NewerThan(_)) {
            users.reverse();
        }

        let count = matching().count() as u64;
        let count_exact = query.filter.is_empty() || count <= COUNT_LIMIT;
        Ok(FoundUsers {
            users: users.into_iter().cloned().collect(),
            has_more,
            count: if count_exact { count } else { COUNT_LIMIT },
            count_exact,
        })
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
            lineage: Lineage::NotWalked,
            counters: state.counters(edit.counters()),
        };
        if edit.needs_lineage(&facts)
            && let Some(inviter) = &facts.inviter
        {
            facts.lineage = state.walk_lineage(inviter.id, edit.user);
        }
        match edit.decide(&facts) {
            ProfileDecision::Accept { edited, counting } => {
                state.put_user(&edited.user);
                if let Some(invitation) = &edited.accepted {
                    state.add_invitation(invitation);
                }
                state.count(counting);
                Ok(Ok(edited))
            }
            ProfileDecision::Refuse { refusals, counting } => {
                state.count(counting);
                Ok(Err(refusals))
            }
        }
    }

    async fn make_staff(&self, user: &NewUser) -> Result<User> {
        let mut state = self.lock();
        let known = state.user_with_phone(&user.phone).cloned();
        let user = match known {
            Some(known) => User { is_staff: true, ..known },
            None => User { is_staff: true, ..state.add_user(user, None)? },
        };
        state.put_user(&user);
        Ok(user)
    }

    async fn set_active(&self, id: UserId, is_active: bool) -> Result<Option<User>> {
        Ok(self.lock().users.get_mut(&id).map(|user| {
            user.is_active = is_active;
            user.clone()
        }))
    }

    async fn watch(&self, request: &WatchRequest) -> Result<Alert> {
        let mut state = self.lock();
        let mut facts = state.service_facts(request.service());
        facts.usual_failures = request.usual_times(&facts).map(|times| state.usual_failures(&times));
        let alert = request.decide(&facts);
        state.attack_until = state.attack_until.max(alert.note_until);
        Ok(alert)
    }

    async fn sweep(&self, before: OffsetDateTime, figures_before: OffsetDateTime, batch: u32) -> Result<u64> {
        let mut state = self.lock();
        let batch = batch as usize;
        let expired = state.challenges.values().filter(|challenge| challenge.expires_at < before);
        let expired: Vec<_> = expired.map(|challenge| challenge.id).take(batch).collect();
        let ended = state.sessions.values().filter(|session| session.ends_at() < before);
        let ended: Vec<_> = ended.map(|session| session.id).take(batch).collect();
        let idle = state.counters.values().filter(|counter| counter.ends_at < before);
        let idle: Vec<_> = idle.map(|counter| counter.key.clone()).take(batch).collect();
        let old = state.service.keys().filter(|(_, since)| *since < figures_before);
        let old: Vec<_> = old.copied().take(batch).collect();
        let swept = expired.len() + ended.len() + idle.len() + old.len();
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
            state.service.remove(&bucket);
        }
        Ok(swept as u64)
    }

    async fn known_keys(&self) -> Result<Vec<KnownKey>> {
        Ok(self.lock().keys.clone())
    }

    async fn agree_on_keys(&self, request: &KeyRequest) -> Decided<(), KeyMismatch> {
        let mut state = self.lock();
        let decision = request.decide(&state.keys);
        Ok(decision.map(|changed| {
            for changed in changed {
                state.keys.retain(|key| (key.purpose, &key.id) != (changed.purpose, &changed.id));
                state.keys.push(changed);
            }
        }))
    }

    async fn check_ready(&self) -> Result<()> {
        Ok(())
    }
}
