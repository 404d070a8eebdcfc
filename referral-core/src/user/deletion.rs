//! Rule of deleting a user.

use time::OffsetDateTime;

use crate::{
    decision::Decision,
    error::refusal::Refusal,
    otp::{
        attempt::{Attempt, AttemptWrites},
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
    /// Code of the user, or `None` if the host deletes the user.
    pub redemption: Option<Redemption>,
}

/// Stored data on which [`DeletionRequest::decide`] depends.
#[derive(Clone, Debug, Default)]
pub struct DeletionFacts {
    /// User to delete, if the user exists.
    pub user: Option<User>,
    /// Facts of [`DeletionRequest::redemption`], if there is one.
    pub redemption: RedemptionFacts,
}

/// Changes of a decision about a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a storage must write each variant")]
pub enum DeletionWrites {
    /// Changes of a refused attempt.
    Attempt(AttemptWrites),
    /// Changes of a deletion.
    Erase {
        /// User to erase, as the user is stored.
        user: User,
        /// Changes of counters.
        counters: CounterUpdate,
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
}

impl DeletionRequest {
    /// Decides whether the user is deleted: by the host, or by the user with the code that was sent for this.
    #[must_use]
    pub fn decide(&self, facts: &DeletionFacts) -> DeletionDecision {
        let Some(redemption) = &self.redemption else {
            return match &facts.user {
                Some(user) => erase(user, CounterUpdate::default()),
                None => Decision::refuse(Refusal::UserNotFound),
            };
        };
        // The request was authenticated before these facts were loaded.
        let user = facts.user.as_ref().filter(|user| user.is_active && user.phone == redemption.phone);
        let Some(user) = user else {
            return Decision::refuse(Refusal::TokenNotValid);
        };
        let keys = redemption.counters();
        let attempt = redemption.attempt(&facts.redemption, Some(user), &keys);
        match attempt.check() {
            Ok(challenge) => {
                let mut updater = attempt.updater();
                Attempt::refund_failed_attempts(&mut updater, challenge);
                attempt.refund_codes(&mut updater, challenge);
                erase(user, updater.finish())
            }
            Err((refusal, writes)) => {
                Decision { writes: DeletionWrites::Attempt(writes), outcome: Err(refusal) }
            }
        }
    }
}

fn erase(user: &User, counters: CounterUpdate) -> DeletionDecision {
    Decision { writes: DeletionWrites::Erase { user: user.clone(), counters }, outcome: Ok(user.clone()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
        user::tests::user,
    };

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn request(redemption: Option<Redemption>) -> DeletionRequest {
        DeletionRequest { user: user(1).id, now: NOW, redemption }
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
        DeletionFacts { user: Some(user), redemption }
    }

    #[test]
    fn the_host_needs_no_code() {
        assert_eq!(request(None).decide(&DeletionFacts::default()).outcome, Err(Refusal::UserNotFound));
        let inactive = User { is_active: false, ..user(1) };
        let facts = DeletionFacts { user: Some(inactive.clone()), ..DeletionFacts::default() };
        assert_eq!(request(None).decide(&facts).outcome, Ok(inactive));
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
