//! Rule of deleting a user, immediately or after a grace period.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::{
    audit::{AuditAction, AuditContext, AuditEntry, FieldChange},
    decision::Decision,
    error::refusal::Refusal,
    keys::Peppers,
    otp::{
        attempt::{Attempt, AttemptWrites},
        challenge::Challenge,
        code_request::PhoneHash,
        redemption::{Redemption, RedemptionFacts},
    },
    rate_limit::counter_update::CounterUpdate,
    session::SessionId,
    user::{User, UserId},
};

/// Request to delete a user, for [`UserStorage::delete_user`](crate::storage::UserStorage::delete_user).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeletionRequest {
    /// User to delete.
    pub user: UserId,
    /// Current time.
    pub now: OffsetDateTime,
    /// Code of the user, or `None` if staff or the host delete the user.
    pub redemption: Option<Redemption>,
    /// `true` if the user is only deleted if the grace period has ended.
    pub(crate) only_if_due: bool,
    /// Data for the audit log, if the deletion is recorded there.
    pub(crate) audit: Option<AuditContext>,
    /// Peppers with which the phone may be hashed in records of requests.
    pub(crate) peppers: Arc<Peppers>,
}

/// Stored data on which [`DeletionRequest::decide`] depends.
#[derive(Clone, Debug, Default)]
pub struct DeletionFacts {
    /// User to delete, if the user exists.
    pub user: Option<User>,
    /// `true` if there is an active admin besides the user, if [`DeletionRequest::needs_other_admin`] returns
    /// `true`.
    pub has_other_admin: bool,
    /// Facts of [`DeletionRequest::redemption`], if there is one.
    pub redemption: RedemptionFacts,
}

/// Changes of a decision about a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a storage must write each variant")]
pub enum DeletionWrites {
    /// Changes of a refused attempt.
    Attempt(AttemptWrites),
    /// Changes of a deletion that starts a grace period. All sessions of the user end.
    Schedule {
        /// Redeemed challenge to store in place of the current one.
        challenge: Challenge,
        /// User to store in place of the current one. Only [`User::deletion_at`] differs.
        user: User,
        /// Changes of counters.
        counters: CounterUpdate,
        /// Entry to add to the audit log.
        audit: Option<AuditEntry>,
    },
    /// Changes of a deletion.
    Erase {
        /// User to erase, as the user is stored. The challenges of the phone are deleted if the user
        /// [has it](User::has_phone).
        user: User,
        /// Changes of counters.
        counters: CounterUpdate,
        /// Entry to add to the audit log, after the entries about the user are erased.
        audit: Option<AuditEntry>,
        /// Hashes of the phone whose [records of requests](crate::CodeRequest) are to be deleted.
        code_requests: Vec<PhoneHash>,
    },
}

impl Default for DeletionWrites {
    fn default() -> Self {
        Self::Attempt(AttemptWrites::default())
    }
}

/// Decision about a deletion.
pub type DeletionDecision = Decision<DeletionWrites, Result<DeletedUser, Refusal>>;

/// User who was deleted, or whose deletion was scheduled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeletedUser {
    /// User as before the deletion.
    pub user: User,
    /// Time of the deletion, if it was scheduled.
    pub scheduled_at: Option<OffsetDateTime>,
    /// Sessions that were active, in any order. The storage sets them.
    pub ended_sessions: Vec<SessionId>,
    /// Entry that was added to the audit log.
    pub audit: Option<AuditEntry>,
}

impl DeletedUser {
    /// Returns the same result with the sessions that the storage has ended.
    #[must_use]
    pub fn with_ended_sessions(self, ended_sessions: Vec<SessionId>) -> Self {
        Self { ended_sessions, ..self }
    }
}

/// Scheduled deletion of a user, for
/// [`UserStorage::users_to_delete`](crate::storage::UserStorage::users_to_delete).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "a storage must read each field")]
pub struct DueDeletion {
    /// Time of the deletion.
    pub deletion_at: OffsetDateTime,
    /// User to delete.
    pub user: UserId,
}

impl DeletionRequest {
    /// Returns `true` if [`DeletionFacts::has_other_admin`] must be read, under the lock for staff.
    #[must_use]
    pub fn needs_other_admin(&self, facts: &DeletionFacts) -> bool {
        facts.user.as_ref().is_some_and(User::is_active_admin)
    }

    /// Decides whether the user is deleted: by the host, at the end of the grace period, or by the user with the
    /// code that was sent for this. With a [grace period](crate::policy::Policy::deletion_grace), the code only
    /// schedules the deletion.
    #[must_use]
    pub fn decide(&self, facts: &DeletionFacts) -> DeletionDecision {
        let Some(redemption) = &self.redemption else {
            let is_due = |user: &&User| user.deletion_at.is_some_and(|deletion_at| deletion_at <= self.now);
            return match facts.user.as_ref().filter(|user| !self.only_if_due || is_due(user)) {
                Some(user) => self.erase(user, facts, CounterUpdate::default()),
                None => Decision::refuse(Refusal::UserNotFound),
            };
        };
        // The request was authenticated before these facts were loaded. After a concurrent request has scheduled
        // the deletion, the session of this request has ended.
        let has_session = |user: &&User| user.is_active && user.has_phone() && user.deletion_at.is_none();
        let user = facts.user.as_ref().filter(has_session).filter(|user| user.phone == redemption.phone);
        let Some(user) = user else {
            return Decision::refuse(Refusal::TokenNotValid);
        };
        if user.is_active_admin() && !facts.has_other_admin {
            return Decision::refuse(Refusal::LastAdmin);
        }
        let keys = redemption.counters();
        let attempt = redemption.attempt(&facts.redemption, Some(user), &keys);
        match attempt.check() {
            Ok(challenge) => {
                let mut updater = attempt.updater();
                Attempt::refund_failed_attempts(&mut updater, challenge);
                attempt.refund_codes(&mut updater, challenge);
                let grace = redemption.policy.deletion_grace;
                if grace.is_zero() {
                    self.erase(user, facts, updater.finish())
                } else {
                    self.schedule(user, self.now + grace, attempt.redeemed(challenge), updater.finish())
                }
            }
            Err((refusal, writes)) => {
                Decision { writes: DeletionWrites::Attempt(writes), outcome: Err(refusal) }
            }
        }
    }

    fn schedule(
        &self,
        user: &User,
        deletion_at: OffsetDateTime,
        challenge: Challenge,
        counters: CounterUpdate,
    ) -> DeletionDecision {
        let scheduled = User { deletion_at: Some(deletion_at), ..user.clone() };
        let audit = self.audit.as_ref().map(|audit| {
            let changes = FieldChange::between(user, &scheduled);
            audit.entry(AuditAction::DeletionScheduled, Some(user.id), changes)
        });
        let outcome = DeletedUser {
            user: user.clone(),
            scheduled_at: Some(deletion_at),
            ended_sessions: Vec::new(),
            audit: audit.clone(),
        };
        let writes = DeletionWrites::Schedule { challenge, user: scheduled, counters, audit };
        Decision { writes, outcome: Ok(outcome) }
    }

    fn erase(&self, user: &User, facts: &DeletionFacts, counters: CounterUpdate) -> DeletionDecision {
        if user.is_active_admin() && !facts.has_other_admin {
            return Decision::refuse(Refusal::LastAdmin);
        }
        let audit = self.audit.as_ref();
        let audit = audit.map(|audit| audit.entry(AuditAction::UserDeleted, Some(user.id), Vec::new()));
        let code_requests = self.phone_hashes(user);
        let outcome = DeletedUser {
            user: user.clone(),
            scheduled_at: None,
            ended_sessions: Vec::new(),
            audit: audit.clone(),
        };
        let writes = DeletionWrites::Erase { user: user.clone(), counters, audit, code_requests };
        Decision { writes, outcome: Ok(outcome) }
    }

    /// Returns the hash of the phone of a user with each pepper. The records of a detached phone may be about
    /// another person.
    pub(crate) fn phone_hashes(&self, user: &User) -> Vec<PhoneHash> {
        if user.has_phone() { PhoneHash::all(&user.phone, &self.peppers) } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        otp::{
            challenge::{
                Challenge, hash_code,
                tests::{challenge, peppers},
            },
            code::CodeInput,
            purpose::CodePurpose,
        },
        policy::Policy,
        user::{staff_role::StaffRole, tests::user},
    };

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn request(redemption: Option<Redemption>) -> DeletionRequest {
        DeletionRequest {
            user: user(1).id,
            now: NOW,
            redemption,
            only_if_due: false,
            audit: None,
            peppers: Arc::new(peppers()),
        }
    }

    /// Returns the outcome of the deletion of a user without an entry in the audit log.
    fn deleted(user: &User, scheduled_at: Option<OffsetDateTime>) -> DeletedUser {
        DeletedUser { user: user.clone(), scheduled_at, ended_sessions: Vec::new(), audit: None }
    }

    fn with_code(code: &str) -> DeletionRequest {
        with_code_and_grace(code, Duration::ZERO)
    }

    fn with_code_and_grace(code: &str, deletion_grace: Duration) -> DeletionRequest {
        let user = user(1);
        request(Some(Redemption {
            challenge: challenge(user.phone.clone()).id,
            now: NOW,
            code: CodeInput::parse(code).expect("digits"),
            purpose: CodePurpose::DeleteUser(user.id),
            phone: user.phone,
            address: None,
            request_id: None,
            counts_attempts_without_challenge: true,
            policy: Arc::new(Policy { deletion_grace, ..Policy::standard() }),
            peppers: Arc::new(peppers()),
        }))
    }

    /// Returns the facts with a challenge of a purpose, whose code is 4711.
    fn facts(user: User, purpose: CodePurpose) -> DeletionFacts {
        let sent = challenge(user.phone.clone());
        let code_hash = hash_code(&peppers(), "p1", sent.id, purpose, &sent.phone, "4711");
        let sent = Challenge { code_hash: code_hash.expect("a known pepper"), ..sent };
        let redemption = RedemptionFacts { challenge: Some(sent), ..RedemptionFacts::default() };
        DeletionFacts { user: Some(user), has_other_admin: false, redemption }
    }

    #[test]
    fn the_host_needs_no_code() {
        assert_eq!(request(None).decide(&DeletionFacts::default()).outcome, Err(Refusal::UserNotFound));
        let inactive = User { is_active: false, ..user(1) };
        let facts = DeletionFacts { user: Some(inactive.clone()), ..DeletionFacts::default() };
        assert_eq!(request(None).decide(&facts).outcome, Ok(deleted(&inactive, None)));
    }

    #[test]
    fn the_last_active_admin_is_kept() {
        let admin = User { staff_role: Some(StaffRole::Admin), ..user(1) };
        let facts = |user: &User| facts(user.clone(), CodePurpose::DeleteUser(user.id));
        for request in [request(None), with_code("4711")] {
            let last = request.decide(&facts(&admin));
            assert_eq!(last, Decision::refuse(Refusal::LastAdmin));
            let other = DeletionFacts { has_other_admin: true, ..facts(&admin) };
            assert_eq!(request.decide(&other).outcome, Ok(deleted(&admin, None)));
        }
        let inactive = User { is_active: false, ..admin };
        assert_eq!(request(None).decide(&facts(&inactive)).outcome, Ok(deleted(&inactive, None)));
    }

    #[test]
    fn code_with_a_grace_period_schedules_the_deletion_and_is_redeemed() {
        let (anna, grace) = (user(1), Duration::from_hours(24));
        let facts = facts(anna.clone(), CodePurpose::DeleteUser(anna.id));
        let Decision { writes, outcome } = with_code_and_grace("4711", grace).decide(&facts);
        assert_eq!(outcome, Ok(deleted(&anna, Some(NOW + grace))));
        let DeletionWrites::Schedule { challenge, user, .. } = writes else { panic!("{writes:?}") };
        assert_eq!(challenge.redeemed_at, Some(NOW));
        assert_eq!(user, User { deletion_at: Some(NOW + grace), ..anna.clone() });

        let again = DeletionFacts { user: Some(user), ..facts.clone() };
        let again = with_code_and_grace("4711", grace).decide(&again);
        assert_eq!(again, Decision::refuse(Refusal::TokenNotValid), "the sessions have ended");
        let Decision { writes, outcome } = with_code_and_grace("4712", grace).decide(&facts);
        assert_eq!(outcome, Err(Refusal::InvalidCode));
        assert!(matches!(writes, DeletionWrites::Attempt(_)), "{writes:?}");
    }

    #[test]
    fn last_active_admin_schedules_no_deletion_and_a_scheduled_admin_needs_no_other() {
        let grace = Duration::from_hours(24);
        let admin = User { staff_role: Some(StaffRole::Admin), ..user(1) };
        let last = facts(admin.clone(), CodePurpose::DeleteUser(admin.id));
        let request = with_code_and_grace("4711", grace);
        assert!(request.needs_other_admin(&last));
        assert_eq!(request.decide(&last), Decision::refuse(Refusal::LastAdmin));
        let scheduled = User { deletion_at: Some(NOW), ..admin };
        let facts = DeletionFacts { user: Some(scheduled.clone()), ..DeletionFacts::default() };
        let due = DeletionRequest { only_if_due: true, ..self::request(None) };
        assert!(!due.needs_other_admin(&facts));
        assert_eq!(due.decide(&facts).outcome, Ok(deleted(&scheduled, None)));
    }

    #[test]
    fn only_a_due_deletion_is_carried_out() {
        let due = DeletionRequest { only_if_due: true, ..request(None) };
        let microsecond = Duration::from_micros(1);
        for (deletion_at, is_due) in [
            (None, false),
            (Some(NOW + microsecond), false),
            (Some(NOW), true),
            (Some(NOW - microsecond), true),
        ] {
            let user = User { deletion_at, ..user(1) };
            let facts = DeletionFacts { user: Some(user.clone()), ..DeletionFacts::default() };
            let expected = if is_due { Ok(deleted(&user, None)) } else { Err(Refusal::UserNotFound) };
            assert_eq!(due.decide(&facts).outcome, expected, "{deletion_at:?}");
            assert_eq!(request(None).decide(&facts).outcome, Ok(deleted(&user, None)), "by the host");
        }
    }

    #[test]
    fn only_a_code_for_the_deletion_of_this_user_is_accepted() {
        let anna = user(1);
        let right = CodePurpose::DeleteUser(anna.id);
        assert_eq!(with_code("4711").decide(&facts(anna.clone(), right)).outcome, Ok(deleted(&anna, None)));
        for (code, purpose) in
            [("4712", right), ("4711", CodePurpose::SignIn), ("4711", CodePurpose::DeleteUser(user(2).id))]
        {
            let Decision { writes, outcome } = with_code(code).decide(&facts(anna.clone(), purpose));
            assert_eq!(outcome, Err(Refusal::InvalidCode));
            let DeletionWrites::Attempt(AttemptWrites { challenge, counters }) = writes else {
                panic!("{writes:?}");
            };
            assert_eq!(challenge.map(|counted| counted.attempts_with_id), Some(1));
            assert_eq!(counters.counters.len(), 1, "the attempt counts for the phone");
        }
    }

    #[test]
    fn a_user_who_has_changed_since_the_authentication_is_kept() {
        let right = CodePurpose::DeleteUser(user(1).id);
        let gone = DeletionFacts { user: None, ..facts(user(1), right) };
        for facts in [
            gone,
            facts(User { is_active: false, ..user(1) }, right),
            facts(User { phone: user(2).phone, ..user(1) }, right),
        ] {
            let Decision { writes, outcome } = with_code("4711").decide(&facts);
            assert_eq!((writes, outcome), (DeletionWrites::default(), Err(Refusal::TokenNotValid)));
        }
    }
}
