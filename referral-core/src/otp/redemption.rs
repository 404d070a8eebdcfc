//! Redemption of a one-time code for a change of the own account.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::{
    keys::Peppers,
    otp::{
        attempt::{self, Attempt},
        challenge::{Challenge, ChallengeId},
        code::CodeInput,
        purpose::CodePurpose,
    },
    policy::Policy,
    rate_limit::{
        attack::{GlobalCounterFacts, GlobalCounterQuery},
        client::ClientAddress,
        counters::{CounterKey, Counters},
    },
    user::{User, phone::PhoneNumber},
};

/// One-time code that a signed-in user returns for a change of the own account.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Redemption {
    /// Phone to which the code was sent.
    pub phone: PhoneNumber,
    /// Id of the challenge in the request.
    pub challenge: ChallengeId,
    pub(crate) now: OffsetDateTime,
    pub(crate) code: CodeInput,
    pub(crate) purpose: CodePurpose,
    pub(crate) address: Option<ClientAddress>,
    /// Id of the request in the log of the embedding service.
    pub(crate) request_id: Option<String>,
    pub(crate) counts_attempts_without_challenge: bool,
    pub(crate) policy: Arc<Policy>,
    pub(crate) peppers: Arc<Peppers>,
}

/// Stored data on which the redemption of a code depends.
#[derive(Clone, Debug, Default)]
pub struct RedemptionFacts {
    /// Challenge with the id in the request, or `None` if it does not exist or was sent to another phone.
    pub challenge: Option<Challenge>,
    /// Counters with the keys of [`Redemption::counters`].
    pub counters: Counters,
    /// Counts that [`Redemption::global_counters`] queries.
    pub global_counters: GlobalCounterFacts,
}

impl Redemption {
    /// Returns the keys of the counters on which the decision depends, sorted. There are four at most.
    #[must_use]
    pub fn counters(&self) -> Vec<CounterKey> {
        attempt::counters(&self.policy, &self.phone, self.address, false)
    }

    /// Returns the query for the counts of the whole service on which the decision depends.
    #[must_use]
    pub fn global_counters(&self) -> GlobalCounterQuery {
        self.policy.global_counter_query(self.now).without_messages()
    }

    /// Returns the attempt to redeem the code. `user` is the user with the phone, or who changes the phone to
    /// this one. `keys` are the [`counters`](Self::counters).
    pub(crate) fn attempt<'a>(
        &'a self,
        facts: &'a RedemptionFacts,
        user: Option<&'a User>,
        keys: &'a [CounterKey],
    ) -> Attempt<'a> {
        Attempt {
            phone: &self.phone,
            named: Some(self.challenge),
            code: &self.code,
            purpose: self.purpose,
            now: self.now,
            address: self.address,
            counts_attempts_without_challenge: self.counts_attempts_without_challenge,
            policy: &self.policy,
            peppers: &self.peppers,
            keys,
            challenge: facts.challenge.as_ref(),
            user,
            counters: &facts.counters,
            global_counters: &facts.global_counters,
        }
    }
}
