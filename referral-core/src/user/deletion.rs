//! Rule of deleting a user.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::{
    audit::{AuditAction, AuditContext, AuditEntry},
    decision::Decision,
    error::refusal::Refusal,
    keys::Peppers,
    otp::{
        attempt::{Attempt, AttemptWrites},
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
#[expect(
    clippy::exhaustive_enums,
    clippy::large_enum_variant,
    reason = "a storage must write each variant; one is created per request, and moved once"
)]
pub enum DeletionWrites {
    /// Changes of a refused attempt.
    Attempt(AttemptWrites),
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

/// Decision about a deletion. The outcome is the user as before the deletion.
pub type DeletionDecision = Decision<DeletionWrites, Result<User, Refusal>>;

/// User who was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedUser {
    /// User as before the deletion.
    pub user: User,
    /// Sessions that were active, in any order.
    pub ended_sessions: Vec<SessionId>,
    /// Entry that was added to the audit log.
    pub audit: Option<AuditEntry>,
}

impl DeletionRequest {
    /// Returns `true` if [`DeletionFacts::has_other_admin`] must be read, under the lock for staff.
    #[must_use]
    pub fn needs_other_admin(&self, facts: &DeletionFacts) -> bool {
        facts.user.as_ref().is_some_and(User::is_active_admin)
    }

    /// Decides whether the user is deleted: by the host, or by the user with the code that was sent for this.
    #[must_use]
    pub fn decide(&self, facts: &DeletionFacts) -> DeletionDecision {
        let Some(redemption) = &self.redemption else {
            return match &facts.user {
                Some(user) => self.erase(user, facts, CounterUpdate::default()),
                None => Decision::refuse(Refusal::UserNotFound),
            };
        };
        // The request was authenticated before these facts were loaded.
        let is_same = |user: &&User| user.is_active && user.has_phone() && user.phone == redemption.phone;
        let user = facts.user.as_ref().filter(is_same);
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
                self.erase(user, facts, updater.finish())
            }
            Err((refusal, writes)) => {
                Decision { writes: DeletionWrites::Attempt(writes), outcome: Err(refusal) }
            }
        }
    }

    fn erase(&self, user: &User, facts: &DeletionFacts, counters: CounterUpdate) -> DeletionDecision {
        if user.is_active_admin() && !facts.has_other_admin {
            return Decision::refuse(Refusal::LastAdmin);
        }
        let audit = self.audit.as_ref();
        let audit = audit.map(|audit| audit.entry(AuditAction::UserDeleted, Some(user.id), Vec::new()));
        let code_requests = self.phone_hashes(user);
        let writes = DeletionWrites::Erase { user: user.clone(), counters, audit, code_requests };
        Decision { writes, outcome: Ok(user.clone()) }
    }

    /// Returns the hash of the phone of a user with each pepper. The records of a detached phone may be about
    /// another person.
    pub(crate) fn phone_hashes(&self, user: &User) -> Vec<PhoneHash> {
        if user.has_phone() { PhoneHash::all(&user.phone, &self.peppers) } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
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
        DeletionRequest { user: user(1).id, now: NOW, redemption, audit: None, peppers: Arc::new(peppers()) }
    }

    fn with_code(code: &str) -> DeletionRequest {
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
            policy: Arc::new(Policy::standard()),
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
        assert_eq!(request(None).decide(&facts).outcome, Ok(inactive));
    }

    #[test]
    fn the_last_active_admin_is_kept() {
        let admin = User { staff_role: Some(StaffRole::Admin), ..user(1) };
        let facts = |user: &User| facts(user.clone(), CodePurpose::DeleteUser(user.id));
        for request in [request(None), with_code("4711")] {
            let last = request.decide(&facts(&admin));
            assert_eq!(last, Decision::refuse(Refusal::LastAdmin));
            let other = DeletionFacts { has_other_admin: true, ..facts(&admin) };
            assert_eq!(request.decide(&other).outcome, Ok(admin.clone()));
        }
        let inactive = User { is_active: false, ..admin };
        assert_eq!(request(None).decide(&facts(&inactive)).outcome, Ok(inactive));
    }

    #[test]
    fn only_a_code_for_the_deletion_of_this_user_is_accepted() {
        let anna = user(1);
        let right = CodePurpose::DeleteUser(anna.id);
        assert_eq!(with_code("4711").decide(&facts(anna.clone(), right)).outcome, Ok(anna.clone()));
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
