//! Data of the memory storage, with its lookups and changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use time::{Date, OffsetDateTime, UtcOffset};
use uuid::Uuid;

use crate::{
    audit::{AuditAction, AuditEntry, AuditEntryId},
    invite::{code::InviteCode, invitation::Invitation},
    otp::challenge::{Challenge, ChallengeId},
    session::{Session, SessionId},
    shared_settings::SharedSetting,
    storage::{
        Ancestry, CodeRequest, Counter, CounterKey, CounterUpdate, Counters, DetachedPhone, GlobalCounter,
        GlobalCounterFacts, GlobalCounterQuery, GlobalCounterUpdate, Inviter, MessageKey, NewUser, PhoneHash,
        RegisteredKey, SessionSelection, StoredMessage, UserWithInvited, UserWrite,
        error::{Result, StorageError},
    },
    user::{
        Invitee, User, UserId, daily_counts::DailyCounts, email::Email, external_id::ExternalId,
        phone::PhoneNumber, record::ErasedUser,
    },
};

#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) users: BTreeMap<UserId, User>,
    pub(super) erased: BTreeMap<UserId, ErasedUser>,
    pub(super) by_phone: HashMap<PhoneNumber, UserId>,
    pub(super) by_code: HashMap<InviteCode, UserId>,
    pub(super) by_email: HashMap<Email, UserId>,
    pub(super) by_external_id: HashMap<ExternalId, UserId>,
    /// Invitations by invitee.
    pub(super) invitations: BTreeMap<UserId, Invitation>,
    /// Pairs of inviter and invitee. The invitees of one inviter are adjacent, in the order of their ids.
    pub(super) invitees: BTreeSet<(UserId, UserId)>,
    pub(super) challenges: BTreeMap<ChallengeId, Challenge>,
    /// Challenges of each phone, in the order of their ids.
    pub(super) sent: HashMap<PhoneNumber, BTreeSet<ChallengeId>>,
    /// Stored messages, with the time at which each was stored first.
    pub(super) messages: HashMap<MessageKey, (OffsetDateTime, StoredMessage)>,
    /// Records of requests by phone, in the order of their ids.
    pub(super) code_requests: HashMap<PhoneHash, BTreeMap<Uuid, CodeRequest>>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) counters: HashMap<CounterKey, Counter>,
    /// Counts of the whole service in each minute or hour.
    pub(super) global_counters: HashMap<(GlobalCounter, OffsetDateTime), i64>,
    pub(super) attack_until: Option<OffsetDateTime>,
    /// Numbers of sign-ups and invitations of each day in UTC.
    pub(super) daily_counts: BTreeMap<Date, DailyCounts>,
    pub(super) keys: Vec<RegisteredKey>,
    pub(super) shared_settings: Vec<SharedSetting>,
    pub(super) audit_log: BTreeMap<AuditEntryId, AuditEntry>,
    pub(super) is_closed: bool,
}

impl State {
    pub(super) fn user_with_phone(&self, phone: &PhoneNumber) -> Option<&User> {
        self.users.get(self.by_phone.get(phone)?)
    }

    pub(super) fn newest_challenge(&self, phone: &PhoneNumber) -> Option<&Challenge> {
        self.challenges.get(self.sent.get(phone)?.last()?)
    }

    pub(super) fn newest_challenge_to_sign_in(&self, phone: &PhoneNumber) -> Option<&Challenge> {
        let sent = self.sent.get(phone)?.iter().rev().filter_map(|id| self.challenges.get(id));
        sent.into_iter().find(|challenge| challenge.signs_in)
    }

    pub(super) fn owner_of(&self, code: Option<&InviteCode>) -> Option<Inviter> {
        // The code of an erased user is taken, and has no owner.
        let id = *self.by_code.get(code?).filter(|id| self.users.contains_key(*id))?;
        Some(Inviter { id, code: code?.clone() })
    }

    pub(super) fn owner_of_external_id(&self, id: Option<&ExternalId>) -> Option<UserId> {
        self.by_external_id.get(id?).copied()
    }

    pub(super) fn ancestry(&self, inviter: UserId, invitee: UserId) -> Ancestry {
        let mut next = Some(inviter);
        // At most one step for each invitation, so the search ends even if the stored inviters form a cycle.
        for _ in 0..=self.invitations.len() {
            let Some(ancestor) = next else {
                break;
            };
            if ancestor == invitee {
                return Ancestry::WithInvitee;
            }
            next = self.invitations.get(&ancestor).map(|invitation| invitation.inviter);
        }
        Ancestry::WithoutInvitee
    }

    /// Returns the first of the invite codes that is free.
    pub(super) fn free_code<'a>(&self, new: &'a NewUser) -> Result<&'a InviteCode> {
        let code = new.invite_codes.iter().find(|code| !self.by_code.contains_key(*code));
        code.ok_or(StorageError::InviteCodesExhausted)
    }

    pub(super) fn write_user(&mut self, write: UserWrite) {
        match write {
            UserWrite::Add(user) => {
                self.on_day(user.date_joined).sign_ups += 1;
                self.by_phone.extend(user.current_phone().map(|phone| (phone.clone(), user.id)));
                self.by_code.insert(user.invite_code.clone(), user.id);
                if let Some(id) = &user.external_id {
                    self.by_external_id.insert(id.clone(), user.id);
                }
                if let Some(email) = &user.email {
                    self.by_email.insert(email.clone(), user.id);
                }
                self.users.insert(user.id, user);
            }
            UserWrite::Change(user) => self.put_user(&user),
        }
    }

    /// Replaces the stored user that has the same id and code.
    pub(super) fn put_user(&mut self, user: &User) {
        let Some(old) = self.users.insert(user.id, user.clone()) else {
            return;
        };
        if let Some(phone) = old.current_phone() {
            self.by_phone.remove(phone);
        }
        self.by_phone.extend(user.current_phone().map(|phone| (phone.clone(), user.id)));
        if let Some(email) = old.email {
            self.by_email.remove(&email);
        }
        if let Some(email) = &user.email {
            self.by_email.insert(email.clone(), user.id);
        }
        if let Some(id) = old.external_id {
            self.by_external_id.remove(&id);
        }
        if let Some(id) = &user.external_id {
            self.by_external_id.insert(id.clone(), user.id);
        }
    }

    /// Stores the loss of a phone.
    pub(super) fn detach_phone(&mut self, detached: &DetachedPhone) {
        if let Some(user) = self.users.get(&detached.user).cloned() {
            self.put_user(&User { phone_detached_at: Some(detached.at), ..user });
        }
        self.sessions.retain(|_, session| session.user != detached.user);
    }

    pub(super) fn put_challenge(&mut self, challenge: Challenge) {
        self.sent.entry(challenge.phone.clone()).or_default().insert(challenge.id);
        self.challenges.insert(challenge.id, challenge);
    }

    pub(super) fn remove_challenge(&mut self, id: ChallengeId) {
        if let Some(challenge) = self.challenges.remove(&id)
            && let Some(sent) = self.sent.get_mut(&challenge.phone)
        {
            sent.remove(&id);
            if sent.is_empty() {
                self.sent.remove(&challenge.phone);
            }
        }
    }

    pub(super) fn counters(&self, keys: Vec<CounterKey>) -> Counters {
        let stored = |key| self.counters.get(&key).map(|counter| (key, counter.events.clone()));
        keys.into_iter().filter_map(stored).collect()
    }

    pub(super) fn count(&mut self, update: CounterUpdate) {
        for counter in update.counters {
            self.counters.insert(counter.key.clone(), counter);
        }
        for (key, event) in update.refunds {
            if let Some(counter) = self.counters.get_mut(&key) {
                counter.events.retain(|counted| *counted != event);
            }
        }
        if let Some(GlobalCounterUpdate { counter, period_start, delta }) = update.global_counter {
            *self.global_counters.entry((counter, period_start)).or_default() += i64::from(delta);
        }
    }

    pub(super) fn global_counter_facts(&self, query: GlobalCounterQuery) -> GlobalCounterFacts {
        let failed_attempts =
            query.failed_attempts_since.map_or(0, |since| self.failed_attempts(|minute| minute >= since));
        let usual_times = query.usual_times(failed_attempts).unwrap_or_default();
        let usual = usual_times
            .iter()
            .map(|(since, end)| self.failed_attempts(|minute| (since..end).contains(&&minute)));
        let hours: BTreeMap<_, _> = self
            .global_counters
            .iter()
            .filter(|((counter, hour), _)| {
                let is_recent = query.messages_since.is_some_and(|since| *hour >= since);
                *counter == GlobalCounter::Messages && is_recent
            })
            .map(|((_, hour), count)| (*hour, positive(*count)))
            .collect();
        GlobalCounterFacts {
            failed_attempts,
            usual_failed_attempts: usual.collect(),
            attack_until: self.attack_until,
            messages: hours.into_iter().collect(),
        }
    }

    /// Returns the number of wrong codes in the selected minutes.
    fn failed_attempts(&self, is_selected: impl Fn(OffsetDateTime) -> bool) -> u64 {
        let found = self.global_counters.iter().filter(|((counter, minute), _)| {
            *counter == GlobalCounter::FailedAttempts && is_selected(*minute)
        });
        found.map(|(_, count)| positive(*count)).sum()
    }

    /// Ends sessions of a user and returns their ids.
    pub(super) fn end_sessions(
        &mut self,
        user: UserId,
        sessions: SessionSelection,
        now: OffsetDateTime,
    ) -> Vec<SessionId> {
        let is_selected = |session: &Session| match sessions {
            SessionSelection::One(id) => session.id == id,
            SessionSelection::AllExcept(kept) => session.id != kept,
            SessionSelection::All => true,
        };
        let of_user = self.sessions.values_mut().filter(|session| session.user == user);
        let active = of_user.filter(|session| session.is_active(now) && is_selected(session));
        let end = |session: &mut Session| {
            session.revoked_at = Some(now);
            session.id
        };
        active.map(end).collect()
    }

    /// Deletes all sessions of a user except the newest `number` of the active ones. Returns the ids of the
    /// deleted ones that were active.
    pub(super) fn keep_newest_sessions(
        &mut self,
        user: UserId,
        number: u32,
        now: OffsetDateTime,
    ) -> Vec<SessionId> {
        self.sessions.retain(|_, session| session.user != user || session.is_active(now));
        let active = self.sessions.values().rev().filter(|session| session.user == user);
        let older: Vec<_> = active.skip(number as usize).map(|session| session.id).collect();
        for id in &older {
            self.sessions.remove(id);
        }
        older
    }

    pub(super) fn remove_invitation(&mut self, invitee: UserId) {
        if let Some(invitation) = self.invitations.remove(&invitee)
            && self.invitees.remove(&(invitation.inviter, invitee))
            && let Some(inviter) = self.users.get_mut(&invitation.inviter)
        {
            inviter.invited_count -= 1;
        }
    }

    /// Adds an entry to the audit log. An entry about a user who has been deleted meanwhile is erased.
    pub(super) fn record(&mut self, entry: Option<AuditEntry>) {
        let Some(mut entry) = entry else { return };
        let is_deleted = entry.user.is_some_and(|user| !self.users.contains_key(&user));
        if is_deleted && entry.action != AuditAction::UserDeleted {
            entry = entry.erased();
        }
        self.audit_log.insert(entry.id, entry);
    }

    pub(super) fn has_other_admin(&self, user: UserId) -> bool {
        self.users.values().any(|other| other.id != user && other.is_active_admin())
    }

    /// Returns the counts of the day of a time.
    fn on_day(&mut self, time: OffsetDateTime) -> &mut DailyCounts {
        let day = time.to_offset(UtcOffset::UTC).date();
        self.daily_counts.entry(day).or_insert(DailyCounts::none(day))
    }

    pub(super) fn add_invitation(&mut self, invitation: &Invitation) {
        self.on_day(invitation.accepted_at).invitations += 1;
        self.invitations.insert(invitation.invitee, invitation.clone());
        if self.invitees.insert((invitation.inviter, invitation.invitee))
            && let Some(inviter) = self.users.get_mut(&invitation.inviter)
        {
            inviter.invited_count += 1;
        }
    }

    pub(super) fn invitees(&self, inviter: UserId, older_than: Option<UserId>, limit: usize) -> Vec<Invitee> {
        let first = (inviter, UserId(Uuid::nil()));
        let end = (inviter, older_than.unwrap_or(UserId(Uuid::max())));
        let ids = self.invitees.range(first..end).rev().map(|(_, invitee)| invitee);
        ids.filter_map(|id| self.users.get(id))
            .filter(|user| user.has_phone())
            .take(limit)
            .map(|user| Invitee { id: user.id, phone: user.phone.clone(), joined_at: user.date_joined })
            .collect()
    }

    pub(super) fn with_invited(&self, id: UserId, invited: u32) -> Option<UserWithInvited> {
        let user = self.users.get(&id)?.clone();
        Some(UserWithInvited { user, invited: self.invitees(id, None, invited as usize) })
    }
}

/// Returns the count, or 0 if it is negative, which happens only if more was refunded than was counted.
fn positive(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}
