//! Challenges: a code was sent to a phone and is waited for.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use subtle::ConstantTimeEq;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    ClientAddress, Invalid, PhoneNumber, Policy, Refusal, SmsCode, TestNumber,
    clock::CLOCK_SKEW,
    counters::{Counted, CounterKey, Counters, Counting, Ledger, Subject},
    error::parse_id,
    keys::Peppers,
    limits::LimitName,
    service::{ServiceCount, ServiceFacts, ServiceFigure, ServiceQuery},
    sms_code::CodeInput,
};

/// The id of a challenge. Whoever asked for the code has it, and no one else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChallengeId(pub Uuid);

impl fmt::Display for ChallengeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ChallengeId {
    type Err = Invalid;

    fn from_str(input: &str) -> Result<Self, Invalid> {
        parse_id(input).map(Self)
    }
}

/// A code that was sent, kept as its keyed hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The id.
    pub id: ChallengeId,
    /// Where the code was sent.
    pub phone: PhoneNumber,
    /// The code's length in digits.
    pub code_length: u8,
    /// HMAC-SHA-256 over the purpose, the id, the phone and the code.
    pub code_hash: [u8; 32],
    /// The id of the pepper that the hash was made with.
    pub pepper_id: String,
    /// When the code was drawn.
    pub sent_at: OffsetDateTime,
    /// From when on the code is dead.
    pub expires_at: OffsetDateTime,
    /// When the code was redeemed; it is dead from then on.
    pub redeemed_at: Option<OffsetDateTime>,
    /// Wrong tries that named the challenge's id.
    pub tries_with_id: u32,
    /// Wrong tries that did not. They are counted apart, so that a stranger who knows only the
    /// phone cannot use up the tries of the one who asked for the code.
    pub tries_without_id: u32,
    /// Where it was asked for from, if that is known.
    pub address: Option<ClientAddress>,
    /// The wrong tries that count against an address, until the code is redeemed.
    pub failed_tries: Vec<FailedTry>,
    /// The name of the gateway that accepted the message, once that is noted.
    pub gateway: Option<String>,
}

/// A wrong try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedTry {
    /// Where it came from.
    pub address: ClientAddress,
    /// When, as the address's counter has it.
    pub at: OffsetDateTime,
}

impl Challenge {
    /// Whether a right code is still worth something in a request that names the id, or not. One
    /// that is shorter than its phone now requires is not: else there would be more tries at it.
    pub(crate) fn is_live(
        &self,
        names_id: bool,
        tries_per_code: u32,
        required_length: u8,
        now: OffsetDateTime,
    ) -> bool {
        let tries = if names_id { self.tries_with_id } else { self.tries_without_id };
        self.redeemed_at.is_none()
            && now < self.expires_at
            && tries < tries_per_code
            && self.code_length >= required_length
    }

    /// Whether `input` is the code that was sent, told in a time that does not depend on where
    /// the two differ.
    pub(crate) fn accepts(&self, input: &CodeInput, peppers: &Peppers) -> bool {
        let code = input.for_length(self.code_length);
        let hash = hash_code(peppers, &self.pepper_id, self.id, &self.phone, &code);
        hash.is_some_and(|hash| hash.ct_eq(&self.code_hash).into())
    }
}

/// The keyed hash under which a code is kept.
pub(crate) fn hash_code(
    peppers: &Peppers,
    pepper_id: &str,
    id: ChallengeId,
    phone: &PhoneNumber,
    code: &str,
) -> Option<[u8; 32]> {
    let parts = [b"sign-in", id.0.as_bytes().as_slice(), phone.as_str().as_bytes(), code.as_bytes()];
    peppers.hash(pepper_id, &parts)
}

/// A request to send a code, as [`Storage::start_challenge`] gets it.
///
/// [`Storage::start_challenge`]: crate::storage::Storage::start_challenge
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChallengeRequest {
    /// The id of the challenge that is granted.
    pub id: ChallengeId,
    /// Where the code is to be sent.
    pub phone: PhoneNumber,
    /// The time.
    pub now: OffsetDateTime,
    pub(crate) address: Option<ClientAddress>,
    /// As many digits as a code can have. How many of them are sent is decided with the facts.
    pub(crate) digits: SmsCode,
    pub(crate) policy: Arc<Policy>,
    pub(crate) peppers: Arc<Peppers>,
}

/// What [`ChallengeRequest::decide`] must know.
#[derive(Clone, Debug, Default)]
pub struct ChallengeFacts {
    /// [`Challenge::sent_at`] of the phone's newest challenge.
    pub last_sent_at: Option<OffsetDateTime>,
    /// Whether that one has been redeemed.
    pub last_is_redeemed: bool,
    /// [`Challenge::code_length`] of that one.
    pub last_code_length: Option<u8>,
    /// [`User::last_login`](crate::User::last_login) of the phone's user.
    pub last_login: Option<OffsetDateTime>,
    /// The counters that [`ChallengeRequest::counters`] names.
    pub counters: Counters,
    /// The figures that [`ChallengeRequest::service`] asks for.
    pub service: ServiceFacts,
}

/// What is to become of a request to send a code.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one is made per request, and moved once")]
pub enum ChallengeDecision {
    /// Store all of this.
    Grant {
        /// The answer.
        granted: GrantedChallenge,
        /// To be counted.
        counting: Counting,
        /// Until when the service counts as under attack, if that is to be noted.
        attack_until: Option<OffsetDateTime>,
    },
    /// Store nothing and refuse.
    Refuse(Refusal),
}

/// A code that may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedChallenge {
    /// The challenge, as stored.
    pub challenge: Challenge,
    /// How long to wait before asking for another.
    pub resend_in: Duration,
    /// Whether the service is under attack.
    pub under_attack: bool,
}

impl ChallengeRequest {
    /// The counters to decide on, in order: seven at most.
    #[must_use]
    pub fn counters(&self) -> Vec<CounterKey> {
        let is_limited = |key: &CounterKey| self.policy.keep(key.subject(), Counted::Code).is_some();
        let of_address = self.address.into_iter().flat_map(CounterKey::of_networks);
        let mut keys: Vec<_> = of_address.filter(is_limited).collect();
        // Of a test number only wrong codes matter, and where its codes are asked for.
        if self.test_number().is_none() {
            let of_phone_and_address = |address| {
                [
                    CounterKey::of_pair(&self.phone, address),
                    CounterKey::of_block_and_address(&self.phone, address),
                ]
            };
            keys.extend(self.address.into_iter().flat_map(of_phone_and_address).filter(is_limited));
            keys.extend(Some(CounterKey::of_block(&self.phone)).filter(is_limited));
        }
        keys.push(CounterKey::of_phone(&self.phone));
        keys.sort_unstable();
        keys
    }

    /// The test number that the phone is, if it is one: then its code is fixed, and nothing is sent.
    pub(crate) fn test_number(&self) -> Option<&TestNumber> {
        self.policy.test_number(&self.phone, self.now)
    }

    /// The figures of the whole service to decide on.
    #[must_use]
    pub fn service(&self) -> ServiceQuery {
        self.policy.service_query(self.now)
    }

    /// Which times to load [`ServiceFacts::usual_failures`] of, if that matters.
    #[must_use]
    pub fn usual_times(&self, facts: &ChallengeFacts) -> Option<Vec<(OffsetDateTime, OffsetDateTime)>> {
        self.policy.usual_times(&facts.service, self.now)
    }

    /// Decides whether the code may be sent, and how many digits it has. Between two codes lies the
    /// cool-down, unless the phone has signed in since the last.
    #[must_use]
    pub fn decide(&self, facts: &ChallengeFacts) -> ChallengeDecision {
        if let Some(number) = self.test_number() {
            return self.decide_test(facts, number);
        }
        let alert = self.policy.alert(&facts.service, self.now);
        let failures = facts.counters.moments(&CounterKey::of_phone(&self.phone), Counted::Failure);
        let code_length = self.policy.required_length(&failures, alert.under_attack, self.now);
        let cool_down = self.cool_down(facts, code_length).map(|wait| (wait, LimitName::CoolDown));
        let budget = self.policy.wait_for_budget(&facts.service, self.now);
        let budget = budget.map(|wait| (wait, LimitName::MessagesPerDay));
        if let Some((retry_after, limit)) = cool_down.max(budget).max(self.wait(&facts.counters)) {
            return ChallengeDecision::Refuse(Refusal::TooManyRequests { retry_after, limit });
        }

        let mut ledger = Ledger::new(&facts.counters, self.counters(), &self.policy, self.now);
        let sent_at = ledger.free_moment(Counted::Code);
        ledger.count(Counted::Code, sent_at);
        if self.policy.budget().is_some() {
            ledger.count_for_service(ServiceCount::one(ServiceFigure::Messages, sent_at));
        }
        let limits = self.wait(&ledger.counters()).map(|(wait, _)| wait);
        let budget = self.policy.wait_for_budget(&facts.service.with_message(sent_at), self.now);
        ChallengeDecision::Grant {
            granted: GrantedChallenge {
                challenge: self.challenge(code_length, &self.digits.first(code_length), sent_at),
                resend_in: limits.max(budget).unwrap_or_default().max(self.policy.cool_down),
                under_attack: alert.under_attack,
            },
            counting: ledger.finish(),
            attack_until: alert.note_until,
        }
    }

    /// Decides whether a test number may have its code again. That costs nothing, so nothing counts but
    /// against whoever asks, who could fill the storage; and wrong codes count as for any phone.
    fn decide_test(&self, facts: &ChallengeFacts, number: &TestNumber) -> ChallengeDecision {
        let wait = |counters: &Counters| self.hold(counters).max(self.wait_of_address(counters));
        if let Some((retry_after, limit)) = wait(&facts.counters) {
            return ChallengeDecision::Refuse(Refusal::TooManyRequests { retry_after, limit });
        }
        let alert = self.policy.alert(&facts.service, self.now);
        let of_address = self.counters().into_iter().filter(CounterKey::is_of_address);
        let mut ledger = Ledger::new(&facts.counters, of_address, &self.policy, self.now);
        let sent_at = ledger.free_moment(Counted::Code);
        ledger.count(Counted::Code, sent_at);
        let resend_in = wait(&ledger.counters()).map(|(wait, _)| wait);
        let mut challenge = self.challenge(number.code_length(), &number.code(), sent_at);
        challenge.expires_at = challenge.expires_at.min(number.until);
        ChallengeDecision::Grant {
            granted: GrantedChallenge {
                challenge,
                resend_in: resend_in.unwrap_or_default(),
                under_attack: alert.under_attack,
            },
            counting: ledger.finish(),
            attack_until: alert.note_until,
        }
    }

    /// What to take back of what was counted for a code that certainly was not sent: the phone and its
    /// number block may have another at once. The address may not, since it can cause this at will.
    pub(crate) fn void(&self, sent_at: OffsetDateTime) -> Counting {
        let mut ledger = Ledger::new(&Counters::default(), [], &self.policy, self.now);
        ledger.refund(CounterKey::of_phone(&self.phone), Counted::Code, sent_at);
        ledger.refund(CounterKey::of_block(&self.phone), Counted::Code, sent_at);
        if let Some(address) = self.address {
            ledger.refund(CounterKey::of_pair(&self.phone, address), Counted::Code, sent_at);
        }
        if self.policy.budget().is_some() {
            ledger.count_for_service(ServiceCount::one(ServiceFigure::Messages, sent_at).taken_back());
        }
        ledger.finish()
    }

    /// What is left of the cool-down. A code that has become too short, because of an attack or of wrong
    /// codes, is not valid any more, so its owner need not wait for a longer one.
    fn cool_down(&self, facts: &ChallengeFacts, code_length: u8) -> Option<Duration> {
        let last_sent_at = facts.last_sent_at?;
        if facts.last_code_length.is_some_and(|length| length < code_length) {
            return None;
        }
        let signed_in_since =
            facts.last_is_redeemed || facts.last_login.is_some_and(|login| login >= last_sent_at);
        let clock_was_wrong = last_sent_at > self.now + CLOCK_SKEW;
        let wait = last_sent_at + self.policy.cool_down - self.now;
        (!signed_in_since && !clock_was_wrong && wait.is_positive()).then(|| wait.unsigned_abs())
    }

    /// The longest wait over all counters that are full.
    fn wait(&self, counters: &Counters) -> Option<(Duration, LimitName)> {
        let waits = self.counters().into_iter().filter_map(|key| self.full(counters, &key));
        self.hold(counters).into_iter().chain(waits).chain(self.wait_for_budget_share(counters)).max()
    }

    fn wait_for_budget_share(&self, counters: &Counters) -> Option<(Duration, LimitName)> {
        let share = self.policy.budget_share();
        let networks = self.address.into_iter().flat_map(CounterKey::of_networks);
        let wait = |key: CounterKey| share.wait(&counters.moments(&key, Counted::Code), self.now);
        networks.filter_map(wait).max().map(|wait| (wait, LimitName::MessagesPerDayAndAddress))
    }

    fn hold(&self, counters: &Counters) -> Option<(Duration, LimitName)> {
        let failures = counters.moments(&CounterKey::of_phone(&self.phone), Counted::Failure);
        self.policy.hold(&self.phone, &failures, self.now).map(|wait| (wait, LimitName::Hold))
    }

    fn wait_of_address(&self, counters: &Counters) -> Option<(Duration, LimitName)> {
        let keys = self.address.into_iter().flat_map(CounterKey::of_networks);
        keys.filter_map(|key| self.full(counters, &key)).max()
    }

    /// The wait of a counter, if it has no room for a code.
    fn full(&self, counters: &Counters, key: &CounterKey) -> Option<(Duration, LimitName)> {
        let name = match key.subject() {
            Subject::Address { .. } => LimitName::CodesPerAddress,
            Subject::Block => LimitName::CodesPerBlock,
            Subject::BlockAndAddress => LimitName::CodesPerBlockAndAddress,
            Subject::Pair => LimitName::CodesPerPhoneAndAddress,
            Subject::Phone => LimitName::CodesPerPhone,
        };
        counters.wait(key, Counted::Code, &self.policy, self.now).map(|wait| (wait, name))
    }

    /// The challenge for this code.
    fn challenge(&self, code_length: u8, code: &SmsCode, sent_at: OffsetDateTime) -> Challenge {
        let pepper_id = self.peppers.current_id();
        let code_hash = hash_code(&self.peppers, pepper_id, self.id, &self.phone, code.reveal());
        Challenge {
            id: self.id,
            phone: self.phone.clone(),
            code_length,
            code_hash: code_hash.expect("the ring has its current pepper"),
            pepper_id: pepper_id.to_owned(),
            sent_at,
            expires_at: self.now + self.policy.code_lifetime,
            redeemed_at: None,
            tries_with_id: 0,
            tries_without_id: 0,
            address: self.address,
            failed_tries: Vec::new(),
            gateway: None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
