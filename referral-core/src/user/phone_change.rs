//! Rule of changing the phone of a user.

use time::OffsetDateTime;

use crate::{
    audit::{AuditAction, AuditContext, AuditEntry, FieldChange},
    decision::Decision,
    error::refusal::Refusal,
    otp::{
        attempt::{Attempt, AttemptWrites},
        challenge::Challenge,
        redemption::{Redemption, RedemptionFacts},
    },
    rate_limit::{
        attack::{GlobalCounter, GlobalCounterUpdate},
        counter_update::CounterUpdate,
    },
    session::SessionId,
    user::{User, UserId, phone::PhoneNumber},
};

/// Request to change the phone of a user, for
/// [`UserStorage::change_phone`](crate::storage::UserStorage::change_phone).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PhoneChangeRequest {
    /// User whose phone is changed.
    pub user: UserId,
    /// Session of the request. It continues, and all other sessions of the user end.
    pub session: SessionId,
    /// Current time.
    pub now: OffsetDateTime,
    /// Code that was sent to the new phone, which is [`Redemption::phone`].
    pub redemption: Redemption,
    /// Phone of the user when the request was authenticated.
    pub(crate) old: PhoneNumber,
    /// `true` if a notice is sent to the old phone after the change. It counts as a message.
    pub(crate) sends_notice: bool,
    pub(crate) audit: AuditContext,
}

/// Stored data on which [`PhoneChangeRequest::decide`] depends.
#[derive(Clone, Debug, Default)]
pub struct PhoneChangeFacts {
    /// User whose phone is changed, if the user exists.
    pub user: Option<User>,
    /// User with the new phone.
    pub owner: Option<UserId>,
    /// Facts of [`PhoneChangeRequest::redemption`].
    pub redemption: RedemptionFacts,
}

/// Changes of a decision about a change of a phone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    clippy::large_enum_variant,
    reason = "a storage must write each variant; one is created per request, and moved once"
)]
pub enum PhoneChangeWrites {
    /// Changes of a refused attempt.
    Attempt(AttemptWrites),
    /// Changes of a phone.
    Change {
        /// Redeemed challenge to store in place of the current one.
        challenge: Challenge,
        /// User with the new phone, to store in place of the user with the same id. The phone before is free
        /// from then on, and a search finds the user by the new phone only.
        user: User,
        /// Changes of counters.
        counters: CounterUpdate,
        /// Entry to add to the audit log.
        audit: AuditEntry,
    },
}

impl Default for PhoneChangeWrites {
    fn default() -> Self {
        Self::Attempt(AttemptWrites::default())
    }
}

/// Decision about a change of a phone. The outcome is the user with the new phone.
pub type PhoneChangeDecision = Decision<PhoneChangeWrites, Result<User, Refusal>>;

/// User whose phone was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedPhone {
    /// User with the new phone.
    pub user: User,
    /// Sessions that were ended, in any order.
    pub ended_sessions: Vec<SessionId>,
    /// Entry that was added to the audit log.
    pub audit: Option<AuditEntry>,
}

impl PhoneChangeRequest {
    /// Returns the phone of the user before the change.
    #[must_use]
    pub fn old_phone(&self) -> &PhoneNumber {
        &self.old
    }

    /// Decides whether the user gets the new phone. Whether another user has it is checked after the code, so
    /// that only the owner of the phone learns it.
    #[must_use]
    pub fn decide(&self, facts: &PhoneChangeFacts) -> PhoneChangeDecision {
        // The request was authenticated before these facts were loaded. After a concurrent change of the
        // phone or deletion of the account, the session of this request has ended.
        let has_session = |user: &&User| user.is_active && user.has_phone() && user.deletion_at.is_none();
        let user = facts.user.as_ref().filter(has_session).filter(|user| user.phone == self.old);
        let Some(user) = user else {
            return Decision::refuse(Refusal::TokenNotValid);
        };
        let Redemption { phone, policy, .. } = &self.redemption;
        if user.phone == *phone {
            return Decision::refuse(Refusal::OwnPhone);
        }
        let keys = self.redemption.counters();
        let attempt = self.redemption.attempt(&facts.redemption, Some(user), &keys);
        let challenge = match attempt.check() {
            Ok(challenge) => challenge,
            Err((refusal, writes)) => return refuse(refusal, writes),
        };
        let redeemed = attempt.redeemed(challenge);
        let mut updater = attempt.updater();
        Attempt::refund_failed_attempts(&mut updater, challenge);
        if facts.owner.is_some() {
            let writes = AttemptWrites { challenge: Some(redeemed), counters: updater.finish() };
            return refuse(Refusal::PhoneTaken, writes);
        }
        attempt.refund_codes(&mut updater, challenge);
        if self.sends_notice && policy.budget().is_some() {
            updater.count_globally(GlobalCounterUpdate::one(GlobalCounter::Messages, self.now));
        }
        let changed = User { phone: phone.clone(), ..user.clone() };
        let changes = FieldChange::between(user, &changed);
        let audit = self.audit.entry(AuditAction::PhoneChanged, Some(user.id), changes);
        let (outcome, counters) = (Ok(changed.clone()), updater.finish());
        let writes = PhoneChangeWrites::Change { challenge: redeemed, user: changed, counters, audit };
        Decision { writes, outcome }
    }
}

fn refuse(refusal: Refusal, writes: AttemptWrites) -> PhoneChangeDecision {
    Decision { writes: PhoneChangeWrites::Attempt(writes), outcome: Err(refusal) }
}

#[cfg(test)]
mod tests;
