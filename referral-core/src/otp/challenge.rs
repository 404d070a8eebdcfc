//! Challenges: codes that were sent to phones, and the rule for sending them.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    clock::CLOCK_SKEW,
    decision::Decision,
    error::{
        input::{InvalidInput, parse_id},
        refusal::Refusal,
    },
    keys::Peppers,
    otp::{
        code::{CodeInput, OneTimeCode},
        purpose::CodePurpose,
        test_number::TestNumber,
    },
    policy::Policy,
    rate_limit::{
        attack::{AttackStatus, GlobalCounter, GlobalCounterFacts, GlobalCounterQuery, GlobalCounterUpdate},
        client::ClientAddress,
        counter_update::{CounterUpdate, CounterUpdater},
        counters::{CounterKey, Counters, EventKind, Subject},
        limits::LimitName,
    },
    user::phone::PhoneNumber,
};

/// Id of a challenge. Only the client that requested the code gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChallengeId(pub Uuid);

impl fmt::Display for ChallengeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ChallengeId {
    type Err = InvalidInput;

    fn from_str(input: &str) -> Result<Self, InvalidInput> {
        parse_id(input).map(Self)
    }
}

/// Code that was sent, stored as a keyed hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Id of the challenge.
    pub id: ChallengeId,
    /// Phone to which the code was sent.
    pub phone: PhoneNumber,
    /// `true` if the code is to sign in. A sign-in without the id of a challenge finds only such challenges,
    /// so that a code for another purpose, which another user may request, does not replace the code to sign
    /// in.
    pub signs_in: bool,
    /// Number of digits of the code.
    pub code_length: u8,
    /// HMAC-SHA-256 of the purpose, the id, the phone and the code.
    pub code_hash: [u8; 32],
    /// Id of the pepper of the hash.
    pub pepper_id: String,
    /// Time at which the code was generated.
    #[serde(with = "crate::stored::micros")]
    pub sent_at: OffsetDateTime,
    /// Time from which the code is invalid.
    #[serde(with = "crate::stored::micros")]
    pub expires_at: OffsetDateTime,
    /// Time at which the code was redeemed. A redeemed code is invalid.
    #[serde(with = "crate::stored::optional_micros")]
    pub redeemed_at: Option<OffsetDateTime>,
    /// Number of wrong attempts with the id of the challenge.
    pub attempts_with_id: u32,
    /// Number of wrong attempts without the id. They are counted separately, so that an attacker that knows
    /// only the phone cannot use up the attempts of the client that requested the code.
    pub attempts_without_id: u32,
    /// Address of the client that requested the code, if it is known.
    pub address: Option<ClientAddress>,
    /// Wrong attempts that count against an address, until the code is redeemed.
    pub failed_attempts: Vec<FailedAttempt>,
    /// Name of the gateway that accepted the message, after it is recorded.
    pub gateway: Option<String>,
}

/// Wrong attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// Address of the client.
    pub address: ClientAddress,
    /// Time of the attempt, as in the counter of the address.
    #[serde(with = "crate::stored::micros")]
    pub at: OffsetDateTime,
}

impl Challenge {
    /// Returns `true` if the correct code is still valid in a request with or without the id. A code that is
    /// shorter than its phone now requires is invalid, since it would allow more guesses.
    pub(crate) fn is_valid(
        &self,
        names_id: bool,
        attempts_per_code: u32,
        required_length: u8,
        now: OffsetDateTime,
    ) -> bool {
        let attempts = if names_id { self.attempts_with_id } else { self.attempts_without_id };
        self.redeemed_at.is_none()
            && now < self.expires_at
            && attempts < attempts_per_code
            && self.code_length >= required_length
    }

    /// Returns `true` if `input` is the code that was sent for this purpose. The comparison takes constant
    /// time.
    pub(crate) fn accepts(&self, input: &CodeInput, purpose: CodePurpose, peppers: &Peppers) -> bool {
        let code = input.for_length(self.code_length);
        let hash = hash_code(peppers, &self.pepper_id, self.id, purpose, &self.phone, &code);
        hash.is_some_and(|hash| hash.ct_eq(&self.code_hash).into())
    }
}

/// Returns the keyed hash of a code, or `None` if the pepper is unknown.
pub(crate) fn hash_code(
    peppers: &Peppers,
    pepper_id: &str,
    id: ChallengeId,
    purpose: CodePurpose,
    phone: &PhoneNumber,
    code: &str,
) -> Option<[u8; 32]> {
    let purpose = purpose.to_bytes();
    let parts = [&*purpose, id.0.as_bytes().as_slice(), phone.as_str().as_bytes(), code.as_bytes()];
    peppers.hash(pepper_id, &parts)
}

/// Request to send a code, for [`ChallengeStorage::start_challenge`].
///
/// [`ChallengeStorage::start_challenge`]: crate::storage::ChallengeStorage::start_challenge
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChallengeRequest {
    /// Id of the challenge to create.
    pub id: ChallengeId,
    /// Phone to which the code is to be sent.
    pub phone: PhoneNumber,
    /// Current time.
    pub now: OffsetDateTime,
    pub(crate) purpose: CodePurpose,
    pub(crate) address: Option<ClientAddress>,
    /// As many digits as the longest code has. The decision determines how many of them are sent.
    pub(crate) digits: OneTimeCode,
    pub(crate) policy: Arc<Policy>,
    pub(crate) peppers: Arc<Peppers>,
}

/// Stored data on which [`ChallengeRequest::decide`] depends.
#[derive(Clone, Debug, Default)]
pub struct ChallengeFacts {
    /// [`Challenge::sent_at`] of the newest challenge of the phone.
    pub last_sent_at: Option<OffsetDateTime>,
    /// `true` if the newest challenge is redeemed.
    pub last_is_redeemed: bool,
    /// [`Challenge::code_length`] of the newest challenge.
    pub last_code_length: Option<u8>,
    /// [`User::last_login`](crate::User::last_login) of the user with the phone.
    pub last_login: Option<OffsetDateTime>,
    /// Counters with the keys of [`ChallengeRequest::counters`].
    pub counters: Counters,
    /// Counts that [`ChallengeRequest::global_counters`] queries.
    pub global_counters: GlobalCounterFacts,
}

/// Changes of a decision about a request to send a code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChallengeWrites {
    /// Challenge to add.
    pub challenge: Option<Challenge>,
    /// Changes of counters.
    pub counters: CounterUpdate,
    /// End of the attack on the service, if it is to be recorded.
    pub attack_until: Option<OffsetDateTime>,
}

/// Decision about a request to send a code.
pub type ChallengeDecision = Decision<ChallengeWrites, Result<GrantedChallenge, Refusal>>;

/// Challenge whose code may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedChallenge {
    /// The challenge as it is stored.
    pub challenge: Challenge,
    /// Time to wait before the next code can be requested.
    pub resend_in: Duration,
    /// `true` if the service is under attack.
    pub under_attack: bool,
}

impl ChallengeRequest {
    /// Returns the keys of the counters on which the decision depends, sorted. There are seven at most.
    #[must_use]
    pub fn counters(&self) -> Vec<CounterKey> {
        let is_limited = |key: &CounterKey| self.policy.keep(key.subject(), EventKind::Code).is_some();
        let of_address = CounterKey::networks(self.address);
        let mut keys: Vec<_> = of_address.filter(is_limited).collect();
        // For a test number, only wrong codes and the address of the client are limited.
        if self.test_number().is_none() {
            let shares = |address| CounterKey::shares_of_address(&self.phone, address);
            keys.extend(self.address.into_iter().flat_map(shares).filter(is_limited));
            keys.extend(Some(CounterKey::number_range(&self.phone)).filter(is_limited));
        }
        keys.push(CounterKey::phone(&self.phone));
        keys.sort_unstable();
        keys
    }

    /// Returns the test number of the phone, if there is one. Its code is fixed, and no message is sent.
    pub(crate) fn test_number(&self) -> Option<&TestNumber> {
        self.policy.test_number(&self.phone, self.now)
    }

    /// Returns the query for the counts of the whole service on which the decision depends.
    #[must_use]
    pub fn global_counters(&self) -> GlobalCounterQuery {
        self.policy.global_counter_query(self.now)
    }

    /// Decides whether the code may be sent, and how many digits it has. The resend interval must have passed
    /// since the last code, unless the phone has signed in since then.
    #[must_use]
    pub fn decide(&self, facts: &ChallengeFacts) -> ChallengeDecision {
        if let Some(number) = self.test_number() {
            return self.decide_test(facts, number);
        }
        let attack_status = self.policy.attack_status(&facts.global_counters, self.now);
        let failed_attempts =
            facts.counters.timestamps(&CounterKey::phone(&self.phone), EventKind::FailedAttempt);
        let code_length = self.policy.required_length(&failed_attempts, attack_status.under_attack, self.now);
        let resend_interval =
            self.resend_interval(facts, code_length).map(|wait| (wait, LimitName::ResendInterval));
        let budget = self.policy.wait_for_budget(&facts.global_counters, self.now);
        let budget = budget.map(|wait| (wait, LimitName::MessagesPerDay));
        if let Some((retry_after, limit)) = resend_interval.max(budget).max(self.wait(&facts.counters)) {
            return Decision::refuse(Refusal::TooManyRequests { retry_after, limit });
        }

        let mut updater = CounterUpdater::new(&facts.counters, self.counters(), &self.policy, self.now);
        let sent_at = updater.unused_timestamp(EventKind::Code);
        updater.count(EventKind::Code, sent_at);
        if self.policy.budget().is_some() {
            updater.count_globally(GlobalCounterUpdate::one(GlobalCounter::Messages, sent_at));
        }
        let limits = self.wait(&updater.counters()).map(|(wait, _)| wait);
        let budget = self.policy.wait_for_budget(&facts.global_counters.with_message(sent_at), self.now);
        let granted = GrantedChallenge {
            challenge: self.challenge(code_length, &self.digits.first(code_length), sent_at),
            resend_in: limits.max(budget).unwrap_or_default().max(self.policy.resend_interval),
            under_attack: attack_status.under_attack,
        };
        grant(granted, updater.finish(), attack_status)
    }

    /// Decides whether a challenge may be created for a test number. No message is sent, so the request
    /// counts only for the address of the client, which could otherwise fill the storage. Wrong codes count
    /// as for any phone.
    fn decide_test(&self, facts: &ChallengeFacts, number: &TestNumber) -> ChallengeDecision {
        let wait = |counters: &Counters| self.lockout(counters).max(self.wait_of_address(counters));
        if let Some((retry_after, limit)) = wait(&facts.counters) {
            return Decision::refuse(Refusal::TooManyRequests { retry_after, limit });
        }
        let attack_status = self.policy.attack_status(&facts.global_counters, self.now);
        let of_address = self.counters().into_iter().filter(CounterKey::is_of_address);
        let mut updater = CounterUpdater::new(&facts.counters, of_address, &self.policy, self.now);
        let sent_at = updater.unused_timestamp(EventKind::Code);
        updater.count(EventKind::Code, sent_at);
        let resend_in = wait(&updater.counters()).map(|(wait, _)| wait);
        let mut challenge = self.challenge(number.code_length(), &number.code(), sent_at);
        challenge.expires_at = challenge.expires_at.min(number.until);
        let granted = GrantedChallenge {
            challenge,
            resend_in: resend_in.unwrap_or_default(),
            under_attack: attack_status.under_attack,
        };
        grant(granted, updater.finish(), attack_status)
    }

    /// Returns the refunds for a code that was certainly not sent. The phone and its number range can get
    /// another code immediately. The code still counts for the address, and for its share of
    /// the number range, since a client can cause such failures deliberately.
    pub(crate) fn cancellation(&self, sent_at: OffsetDateTime) -> CounterUpdate {
        let none = Counters::default();
        let mut updater = CounterUpdater::new(&none, [], &self.policy, self.now);
        updater.refund(CounterKey::phone(&self.phone), EventKind::Code, sent_at);
        updater.refund(CounterKey::number_range(&self.phone), EventKind::Code, sent_at);
        if let Some(address) = self.address {
            updater.refund(CounterKey::phone_and_address(&self.phone, address), EventKind::Code, sent_at);
        }
        if self.policy.budget().is_some() {
            updater.count_globally(GlobalCounterUpdate::one(GlobalCounter::Messages, sent_at).refund());
        }
        updater.finish()
    }

    /// Returns the remaining time of the resend interval. A code that is too short after an attack or wrong
    /// codes is invalid, so its owner does not need to wait for a longer one.
    fn resend_interval(&self, facts: &ChallengeFacts, code_length: u8) -> Option<Duration> {
        let last_sent_at = facts.last_sent_at?;
        // Without an interval, a request that was delayed, and so is older than the challenge, need not wait.
        if self.policy.resend_interval.is_zero()
            || facts.last_code_length.is_some_and(|length| length < code_length)
        {
            return None;
        }
        let signed_in_since =
            facts.last_is_redeemed || facts.last_login.is_some_and(|login| login >= last_sent_at);
        let clock_was_wrong = last_sent_at > self.now + CLOCK_SKEW;
        let wait = last_sent_at + self.policy.resend_interval - self.now;
        (!signed_in_since && !clock_was_wrong && wait.is_positive()).then(|| wait.unsigned_abs())
    }

    /// Returns the longest wait of all limits that refuse the request.
    fn wait(&self, counters: &Counters) -> Option<(Duration, LimitName)> {
        let waits = self.counters().into_iter().filter_map(|key| self.full(counters, &key));
        self.lockout(counters).into_iter().chain(waits).chain(self.wait_for_budget_share(counters)).max()
    }

    fn wait_for_budget_share(&self, counters: &Counters) -> Option<(Duration, LimitName)> {
        let share = self.policy.budget_share();
        let networks = CounterKey::networks(self.address);
        let wait = |key: CounterKey| share.wait(&counters.timestamps(&key, EventKind::Code), self.now);
        networks.filter_map(wait).max().map(|wait| (wait, LimitName::MessagesPerDayAndAddress))
    }

    fn lockout(&self, counters: &Counters) -> Option<(Duration, LimitName)> {
        let failed_attempts = counters.timestamps(&CounterKey::phone(&self.phone), EventKind::FailedAttempt);
        self.policy.lockout(&self.phone, &failed_attempts, self.now).map(|wait| (wait, LimitName::Lockout))
    }

    fn wait_of_address(&self, counters: &Counters) -> Option<(Duration, LimitName)> {
        let keys = CounterKey::networks(self.address);
        keys.filter_map(|key| self.full(counters, &key)).max()
    }

    /// Returns the wait of a counter whose limits do not allow another code.
    fn full(&self, counters: &Counters, key: &CounterKey) -> Option<(Duration, LimitName)> {
        let name = match key.subject() {
            Subject::Address { .. } => LimitName::CodesPerAddress,
            Subject::NumberRange => LimitName::CodesPerNumberRange,
            Subject::NumberRangeAndAddress => LimitName::CodesPerNumberRangeAndAddress,
            Subject::PhoneAndAddress => LimitName::CodesPerPhoneAndAddress,
            Subject::Phone => LimitName::CodesPerPhone,
        };
        self.policy.wait(counters, key, EventKind::Code, self.now).map(|wait| (wait, name))
    }

    /// Creates the challenge of a code.
    fn challenge(&self, code_length: u8, code: &OneTimeCode, sent_at: OffsetDateTime) -> Challenge {
        let pepper_id = self.peppers.current_id();
        let code_hash =
            hash_code(&self.peppers, pepper_id, self.id, self.purpose, &self.phone, code.reveal());
        Challenge {
            id: self.id,
            phone: self.phone.clone(),
            signs_in: self.purpose == CodePurpose::SignIn,
            code_length,
            code_hash: code_hash.expect("the ring contains its current pepper"),
            pepper_id: pepper_id.to_owned(),
            sent_at,
            expires_at: self.now + self.policy.code_lifetime,
            redeemed_at: None,
            attempts_with_id: 0,
            attempts_without_id: 0,
            address: self.address,
            failed_attempts: Vec::new(),
            gateway: None,
        }
    }
}

fn grant(granted: GrantedChallenge, counters: CounterUpdate, attack: AttackStatus) -> ChallengeDecision {
    let writes = ChallengeWrites {
        challenge: Some(granted.challenge.clone()),
        counters,
        attack_until: attack.record_until,
    };
    Decision { writes, outcome: Ok(granted) }
}

#[cfg(test)]
pub(crate) mod tests;
