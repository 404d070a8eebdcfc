//! Implementation of [`Storage`]: each method loads the facts, lets the core decide, and writes the decision
//! if the facts have not changed.
//!
//! This module contains no rules and no SQL.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use referral_core::{
    Challenge, ChallengeId, Check, Invitation, InvitationOutcome, InviteCode, InvitedBy, KeyMismatch,
    PageSize, Refusal, Session, SessionId, SharedSetting, User, UserId, UserWithInvited,
    storage::{
        AttackCheck, AttackStatus, ChallengeDecision, ChallengeRequest, CounterUpdate, Counters, Decided,
        DeliveryTransition, DeliveryUpdate, EditedProfile, FoundInvitees, FoundUsers, GrantedChallenge,
        KeyRegistration, NewStaff, NewUser, ProfileDecision, ProfileEdit, RefreshDecision, RefreshRequest,
        RegisteredKey, Result, Retention, SessionSelection, SignInDecision, SignInFacts, SignInRequest,
        Storage, StorageError, StorageReadiness, StoredSession, StoredSignIn, UserQuery,
    },
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Lease, PostgresStore, list, load, migrations,
    retry::{WriteConflict, is_canceled, reason},
    statements,
    write::{self, Counts},
};
use crate::error::failure;

/// Time that a read waits for the record that a new token is in use.
const MARK_TOKENS_USED_TIMEOUT: Duration = Duration::from_millis(250);

/// Runs `$work` on a connection, with retries. `$get` is the method that returns the connection: `lease` or
/// `lease_to_write`.
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
impl Storage for PostgresStore {
    async fn start_challenge(&self, request: &ChallengeRequest) -> Decided<GrantedChallenge> {
        self.repeat(|| self.try_challenge(request)).await
    }

    async fn cancel_challenge(&self, challenge: ChallengeId, counter_update: &CounterUpdate) -> Result<()> {
        self.repeat(|| async move {
            let mut lease = self.begin().await?;
            if write::delete_challenge(&mut lease, challenge).await? {
                let facts = &Counters::default();
                write::counter_update(&mut lease, &Counts { facts, counter_update }).await?;
            }
            lease.finish().await
        })
        .await
    }

    async fn record_delivery(&self, news: &DeliveryUpdate) -> Result<DeliveryTransition> {
        self.repeat(|| self.try_record_delivery(news)).await
    }

    async fn sign_in(&self, request: &SignInRequest) -> Decided<StoredSignIn> {
        for code in &request.new_user.invite_codes {
            let attempt = self.repeat(|| self.try_sign_in(request, code)).await;
            if !is_code_taken(&attempt) {
                return attempt;
            }
        }
        Err(StorageError::InviteCodesExhausted)
    }

    async fn session(&self, id: SessionId, invited: u32) -> Result<Option<StoredSession>> {
        with_lease!(self.lease, lease => load::session(&mut lease, id, invited))
    }

    async fn mark_tokens_used(&self, session: SessionId, access_id: Uuid) -> Result<()> {
        // No retry and only a short wait: the read does not depend on this record, and the next read writes
        // it.
        let noting = async {
            let mut lease = self.lease_to_write().await?;
            write::tokens_used(&mut lease, session, access_id).await?;
            lease.finish().await
        };
        let noted = tokio::time::timeout(MARK_TOKENS_USED_TIMEOUT, noting).await;
        noted.unwrap_or_else(|_| Err(failure(sqlx::Error::PoolTimedOut)))
    }

    async fn refresh(&self, request: &RefreshRequest) -> Decided<Session> {
        self.repeat(|| self.try_refresh(request)).await
    }

    async fn sessions(&self, user: UserId, now: OffsetDateTime, limit: u32) -> Result<Vec<Session>> {
        with_lease!(self.lease, lease => load::sessions(&mut lease, user, now, limit))
    }

    async fn end_sessions(
        &self,
        user: UserId,
        sessions: SessionSelection,
        now: OffsetDateTime,
    ) -> Result<Vec<SessionId>> {
        with_lease!(self.lease_to_write, lease => write::end_sessions(&mut lease, user, sessions, now))
    }

    async fn user(&self, id: UserId, invited: u32) -> Result<Option<UserWithInvited>> {
        with_lease!(self.lease, lease => load::user(&mut lease, id, invited))
    }

    async fn users(&self, query: &UserQuery) -> Decided<FoundUsers> {
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
    ) -> Result<Option<FoundInvitees>> {
        with_lease!(self.lease, lease => load::invitees(&mut lease, inviter, older_than, limit))
    }

    async fn edit_profile(&self, edit: &ProfileEdit) -> Decided<EditedProfile, Vec<Refusal>> {
        if let Some(decision) = self.repeat(|| self.try_edit(edit, false)).await? {
            return Ok(decision);
        }
        let decision = self.repeat(|| self.try_edit(edit, true)).await?;
        Ok(decision.unwrap_or(Err(vec![Refusal::UserNotFound])))
    }

    async fn make_staff(&self, user: &NewUser, now: OffsetDateTime) -> Result<NewStaff> {
        for code in &user.invite_codes {
            let attempt = self.repeat(|| self.try_make_staff(user, code, now)).await;
            if !is_code_taken(&attempt) {
                return attempt;
            }
        }
        Err(StorageError::InviteCodesExhausted)
    }

    async fn set_active(&self, id: UserId, is_active: bool) -> Result<Option<User>> {
        self.repeat(|| async move {
            let mut lease = self.lease_to_write().await?;
            let change = lease.query(statements::SET_ACTIVE).bind(id.0).bind(is_active);
            let user = load::changed_user(&mut lease, change).await?;
            lease.finish().await?;
            Ok(user)
        })
        .await
    }

    async fn check_attack(&self, request: &AttackCheck) -> Result<AttackStatus> {
        self.repeat(|| async move {
            let mut lease = self.lease_to_write().await?;
            let attack_status = request.decide(&load::attack_facts(&mut lease, request).await?);
            if let Some(until) = attack_status.record_until {
                write::attack(&mut lease, until).await?;
            }
            lease.finish().await?;
            Ok(attack_status)
        })
        .await
    }

    async fn delete_expired(&self, delete_expired: &Retention) -> Result<u64> {
        with_lease!(self.lease_to_write, lease => write::delete_expired(&mut lease, *delete_expired))
    }

    async fn registered_keys(&self) -> Result<Vec<RegisteredKey>> {
        with_lease!(self.lease, lease => load::registered_keys(&mut lease))
    }

    async fn register_keys(&self, request: &KeyRegistration) -> Decided<(), KeyMismatch> {
        self.repeat(|| async move {
            let mut lease = self.begin().await?;
            write::lock(&mut lease, statements::LOCK_KEYS).await?;
            let changed = match request.decide(&load::registered_keys(&mut lease).await?) {
                Ok(changed) => changed,
                Err(mismatch) => return Ok(Err(mismatch)),
            };
            for key in &changed {
                write::key(&mut lease, key).await?;
            }
            lease.finish().await.map(Ok)
        })
        .await
    }

    async fn shared_settings(&self) -> Result<Vec<SharedSetting>> {
        with_lease!(self.lease, lease => load::shared_settings(&mut lease))
    }

    async fn record_settings(&self, settings: &[SharedSetting]) -> Result<()> {
        with_lease!(self.lease_to_write, lease => write::shared_settings(&mut lease, settings))
    }

    async fn check_ready(&self) -> StorageReadiness {
        let database = with_lease!(self.lease, lease => migrations::check_writable(&mut lease));
        if database.is_err() {
            return database.into();
        }
        StorageReadiness {
            database: Check::Passed,
            schema: with_lease!(self.lease, lease => migrations::check_applied(&mut lease)).into(),
            disk: self.check_disk().await.into(),
        }
    }

    async fn current_time(&self) -> Result<Option<OffsetDateTime>> {
        with_lease!(self.lease, lease => load::current_time(&mut lease)).map(Some)
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

impl PostgresStore {
    /// Checks that the database has free space, if a previous write failed because the disk was full.
    async fn check_disk(&self) -> Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            let mut lease = self.begin().await?;
            // The transaction and its writes are rolled back.
            write::probe_disk(&mut lease).await?;
            self.is_full.store(false, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn is_code_taken<T>(attempt: &Result<T>) -> bool {
    attempt.as_ref().err().and_then(reason).is_some_and(|reason| matches!(reason, WriteConflict::CodeTaken))
}

impl PostgresStore {
    async fn try_challenge(&self, request: &ChallengeRequest) -> Decided<GrantedChallenge> {
        let mut lease = self.lease_to_write().await?;
        let (facts, newest) = load::challenge_facts(&mut lease, request).await?;
        let decided = match request.decide(&facts) {
            ChallengeDecision::Grant { granted, counter_update, attack_until } => {
                let counts = Counts { facts: &facts.counters, counter_update: &counter_update };
                let challenge = &granted.challenge;
                write::new_challenge(&mut lease, challenge, newest, &counts, attack_until).await?;
                Ok(granted)
            }
            ChallengeDecision::Refuse(refusal) => Err(refusal),
        };
        lease.finish().await?;
        Ok(decided)
    }

    async fn try_record_delivery(&self, news: &DeliveryUpdate) -> Result<DeliveryTransition> {
        let mut lease = self.lease_to_write().await?;
        let stored = match &news.message {
            Some(key) => load::message(&mut lease, key).await?,
            None => None,
        };
        let decision = news.decide(stored);
        match (&news.message, &decision.put) {
            (Some(key), Some(put)) => write::message(&mut lease, news, key, stored, put).await?,
            _ => write::gateway(&mut lease, news).await?,
        }
        lease.finish().await?;
        Ok(decision.change)
    }

    /// Tries to sign a user in. A new user gets the invite code `code`.
    async fn try_sign_in(&self, request: &SignInRequest, code: &InviteCode) -> Decided<StoredSignIn> {
        let mut lease = self.lease_to_write().await?;
        let mut facts = load::sign_in_facts(&mut lease, request).await?;
        if request.needs_ancestry(&facts) {
            drop(lease);
            lease = self.begin().await?;
            write::lock(&mut lease, statements::LOCK_LATE_ACCEPTANCE).await?;
            write::lock_counters(&mut lease, &request.counters()).await?;
            write::lock_user_with_phone(&mut lease, &request.phone).await?;
            facts = load::sign_in_facts(&mut lease, request).await?;
            if let (Some(user), Some(inviter)) = (&facts.user, &facts.inviter) {
                facts.ancestry = load::ancestry(&mut lease, inviter.id, user.id).await?;
            }
        }
        let decided = match request.decide(&facts) {
            SignInDecision::Refuse { refusal, challenge, counter_update } => {
                let counts = Counts { facts: &facts.counters, counter_update: &counter_update };
                match facts.challenge.as_ref().zip(challenge.as_ref()) {
                    Some((from, to)) => write::challenge(&mut lease, from, to, &counts).await?,
                    None => write::counter_update(&mut lease, &counts).await?,
                }
                Err(refusal)
            }
            SignInDecision::Accept { challenge, user, invitation, outcome, counter_update, max_sessions } => {
                if let (Some(user), Some(max_sessions)) = (&user, max_sessions) {
                    // One session is added next.
                    write::keep_newest_sessions(&mut lease, user.id, max_sessions - 1).await?;
                }
                let accepted = Accepted { challenge, user, invitation, outcome, counter_update };
                Ok(accepted.write(&mut lease, request, &facts, code).await?)
            }
        };
        lease.finish().await?;
        Ok(decided)
    }

    async fn try_refresh(&self, request: &RefreshRequest) -> Decided<Session> {
        let mut lease = self.lease_to_write().await?;
        let Some((from, user_is_active)) = load::refresh_facts(&mut lease, request.session).await? else {
            return Ok(Err(Refusal::TokenNotValid));
        };
        let (to, outcome) = match request.decide(&from, user_is_active) {
            RefreshDecision::Rotate(session) | RefreshDecision::Repeat(Some(session)) => {
                (session.clone(), Ok(session))
            }
            RefreshDecision::Revoke(session) => (session, Err(Refusal::RefreshReused)),
            RefreshDecision::Repeat(None) => {
                lease.finish().await?;
                return Ok(Ok(from));
            }
            RefreshDecision::Refuse(refusal) => {
                lease.finish().await?;
                return Ok(Err(refusal));
            }
        };
        write::session(&mut lease, &from, &to).await?;
        lease.finish().await?;
        Ok(outcome)
    }

    /// Tries to edit a profile. Returns `None` if the edit needs the lock for late acceptances and `late` is
    /// `false`. With `late`, the lock is taken before all others. A transaction that locks the row of the
    /// user first could deadlock.
    async fn try_edit(
        &self,
        edit: &ProfileEdit,
        late: bool,
    ) -> Result<Option<std::result::Result<EditedProfile, Vec<Refusal>>>> {
        let mut lease = self.begin().await?;
        if late {
            write::lock(&mut lease, statements::LOCK_LATE_ACCEPTANCE).await?;
        }
        write::lock_counters(&mut lease, &edit.counters()).await?;
        write::lock_user(&mut lease, edit.user).await?;
        let Some(mut facts) = load::profile_facts(&mut lease, edit).await? else {
            return Ok(Some(Err(vec![Refusal::UserNotFound])));
        };
        if edit.needs_ancestry(&facts)
            && let Some(inviter) = &facts.inviter
        {
            if !late {
                return Ok(None);
            }
            facts.ancestry = load::ancestry(&mut lease, inviter.id, edit.user).await?;
        }
        let (decision, counter_update) = match edit.decide(&facts) {
            ProfileDecision::Accept { edited, counter_update } => (Ok(edited), counter_update),
            ProfileDecision::Refuse { refusals, counter_update } => (Err(refusals), counter_update),
        };
        if let Ok(edited) = &decision {
            write::profile(&mut lease, &edited.user).await?;
            if let Some(invitation) = &edited.accepted {
                write::invitation(&mut lease, invitation, &edited.user).await?;
            }
        }
        write::counter_update(
            &mut lease,
            &Counts { facts: &facts.counters, counter_update: &counter_update },
        )
        .await?;
        lease.finish().await?;
        Ok(Some(decision))
    }

    /// Tries to make a user a staff member. A new user gets the invite code `code`.
    async fn try_make_staff(
        &self,
        new: &NewUser,
        code: &InviteCode,
        now: OffsetDateTime,
    ) -> Result<NewStaff> {
        let mut lease = self.begin().await?;
        let change = lease.query(statements::MAKE_STAFF).bind(new.phone.as_str());
        let mut ended_sessions = Vec::new();
        let user = if let Some(promoted) = load::changed_user(&mut lease, change).await? {
            ended_sessions = write::end_sessions(&mut lease, promoted.id, SessionSelection::All, now).await?;
            promoted
        } else if let Some(known) = load::user_with_phone(&mut lease, &new.phone).await? {
            known
        } else {
            let user = User { is_staff: true, ..new.to_user(code.clone(), None) };
            write::new_user(&mut lease, &user).await?;
            user
        };
        lease.finish().await?;
        Ok(NewStaff { user, ended_sessions })
    }
}

/// Accepted sign-in that is to be written.
struct Accepted {
    challenge: Challenge,
    user: Option<User>,
    invitation: Option<Invitation>,
    outcome: InvitationOutcome,
    counter_update: CounterUpdate,
}

impl Accepted {
    async fn write(
        self,
        lease: &mut Lease,
        request: &SignInRequest,
        facts: &SignInFacts,
        code: &InviteCode,
    ) -> Result<StoredSignIn> {
        let Self { challenge, user, invitation, outcome, counter_update } = self;
        let counts = &Counts { facts: &facts.counters, counter_update: &counter_update };
        let from = facts.challenge.as_ref().ok_or(WriteConflict::Stale)?;
        let created = user.is_none();
        let user = user.unwrap_or_else(|| {
            request.new_user.to_user(code.clone(), invitation.as_ref().map(InvitedBy::from))
        });
        let session = request.session_of(user.id);
        let gateway = challenge.gateway;
        if created {
            let invitation = invitation.as_ref();
            write::sign_up(lease, from, challenge.redeemed_at, &session, &user, invitation, counts).await?;
        } else {
            write::sign_in(lease, from, challenge.redeemed_at, &session, counts).await?;
            if let Some(invitation) = &invitation {
                write::invitation(lease, invitation, &user).await?;
            }
        }
        Ok(StoredSignIn { user, session, created, accepted: invitation, outcome, gateway })
    }
}
