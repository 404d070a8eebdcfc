//! Rule of redeeming a one-time code: the limits of attempts, and how a wrong code counts. It is the same for
//! all purposes of a code.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    error::refusal::Refusal,
    keys::Peppers,
    otp::{
        challenge::{Challenge, ChallengeId, FailedAttempt, hash_code},
        code::{CODE_LENGTHS, CodeInput},
        purpose::CodePurpose,
    },
    policy::Policy,
    rate_limit::{
        attack::{GlobalCounter, GlobalCounterFacts, GlobalCounterUpdate},
        client::ClientAddress,
        counter_update::{CounterUpdate, CounterUpdater},
        counters::{CounterKey, Counters, EventKind},
        limits::LimitName,
    },
    user::{User, phone::PhoneNumber},
};

/// Attempt to redeem a code, with the facts on which its outcome depends.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    /// Phone in the request.
    pub(crate) phone: &'a PhoneNumber,
    /// Id of the challenge in the request.
    pub(crate) named: Option<ChallengeId>,
    pub(crate) code: &'a CodeInput,
    pub(crate) purpose: CodePurpose,
    pub(crate) now: OffsetDateTime,
    pub(crate) address: Option<ClientAddress>,
    /// `true` if an attempt without a valid challenge is counted, which may add a row for each address.
    pub(crate) counts_attempts_without_challenge: bool,
    pub(crate) policy: &'a Policy,
    pub(crate) peppers: &'a Peppers,
    /// Keys of the counters that are loaded, sorted.
    pub(crate) keys: &'a [CounterKey],
    /// Challenge with the id in the request, or the newest challenge of the phone to sign in.
    pub(crate) challenge: Option<&'a Challenge>,
    /// User with the phone, or who changes the phone to this one.
    pub(crate) user: Option<&'a User>,
    pub(crate) counters: &'a Counters,
    pub(crate) global_counters: &'a GlobalCounterFacts,
}

/// Changes of a refused attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptWrites {
    /// Challenge to store in place of the current one.
    pub challenge: Option<Challenge>,
    /// Changes of counters.
    pub counters: CounterUpdate,
}

/// Attempt that was refused, with the changes to store.
pub(crate) type Refused = (Refusal, AttemptWrites);

/// Returns the keys of the counters of attempts with a phone, sorted. There are four at most.
pub(crate) fn counters(
    policy: &Policy,
    phone: &PhoneNumber,
    address: Option<ClientAddress>,
    counts_invites: bool,
) -> Vec<CounterKey> {
    let Policy { failed_attempts_per_address, attempts_without_challenge, .. } = policy;
    let counts_address =
        counts_invites || !failed_attempts_per_address.is_off() || !attempts_without_challenge.is_off();
    let counts_phone = counts_invites || policy.max_relevant_failures() > 0;
    let of_address = CounterKey::networks(address.filter(|_| counts_address));
    let mut keys: Vec<_> = of_address.chain(counts_phone.then(|| CounterKey::phone(phone))).collect();
    keys.sort_unstable();
    keys
}

impl<'a> Attempt<'a> {
    /// Returns the challenge if the code is correct and valid.
    #[expect(clippy::result_large_err, reason = "one is created per request, and moved once")]
    pub(crate) fn check(&self) -> Result<&'a Challenge, Refused> {
        if let Some(retry_after) = self.wait(EventKind::FailedAttempt) {
            let limit = LimitName::FailedAttemptsPerAddress;
            return Err(without_changes(Refusal::TooManyRequests { retry_after, limit }));
        }
        if self.has_wrong_length() {
            return Err(without_changes(Refusal::MalformedCode));
        }
        let is_right_code = self.is_right_code();
        self.challenge
            .filter(|challenge| is_right_code && self.is_valid(challenge))
            .ok_or_else(|| self.refuse(is_right_code))
    }

    /// Returns the challenge after it was redeemed.
    pub(crate) fn redeemed(&self, challenge: &Challenge) -> Challenge {
        Challenge { redeemed_at: Some(self.now), ..challenge.clone() }
    }

    /// Refuses a code that is wrong or no longer valid.
    fn refuse(&self, is_right_code: bool) -> Refused {
        // The response must not reveal whether the phone has a valid challenge.
        let limit = LimitName::AttemptsWithoutChallenge;
        let wait = self.wait(EventKind::AttemptWithoutChallenge);
        let refusal =
            wait.map_or(Refusal::InvalidCode, |retry_after| Refusal::TooManyRequests { retry_after, limit });
        if is_right_code {
            // A correct code that is expired, too short, redeemed or has no attempts left is not a guess.
            return without_changes(refusal);
        }
        let Some(challenge) = self.challenge.filter(|challenge| self.is_valid(challenge)) else {
            if wait.is_some() || !self.counts_attempts_without_challenge {
                return without_changes(refusal);
            }
            // There was no code to guess, so the attempt does not count for the phone, which may belong to
            // another person.
            let of_address = self.keys.iter().filter(|key| key.is_of_address()).cloned();
            let mut updater = CounterUpdater::new(self.counters, of_address, self.policy, self.now);
            let kind = EventKind::AttemptWithoutChallenge;
            updater.count(kind, updater.unused_timestamp(kind));
            return (refusal, AttemptWrites { challenge: None, counters: updater.finish() });
        };
        let mut updater = self.updater();
        let at = updater.unused_timestamp(EventKind::FailedAttempt);
        updater.count(EventKind::FailedAttempt, at);
        if self.policy.attack_threshold.is_some() {
            updater.count_globally(GlobalCounterUpdate::one(GlobalCounter::FailedAttempts, at));
        }
        let challenge = Some(self.with_counted_attempt(challenge, at));
        (refusal, AttemptWrites { challenge, counters: updater.finish() })
    }

    /// Returns the longest wait until the limits of all counters allow another event of the kind `kind`.
    pub(crate) fn wait(&self, kind: EventKind) -> Option<Duration> {
        let of_address = CounterKey::networks(self.address);
        // Wrong codes for a phone make its codes longer, and do not require a wait.
        let phone = (kind == EventKind::UnknownInvite).then(|| CounterKey::phone(self.phone));
        let keys = of_address.chain(phone);
        keys.filter_map(|key| self.policy.wait(self.counters, &key, kind, self.now)).max()
    }

    pub(crate) fn updater(&self) -> CounterUpdater<'a> {
        CounterUpdater::new(self.counters, self.keys.iter().cloned(), self.policy, self.now)
    }

    /// Refunds the wrong attempts of a client that then sent the correct code: it had mistyped the code.
    pub(crate) fn refund_failed_attempts(updater: &mut CounterUpdater<'_>, challenge: &Challenge) {
        for failed in &challenge.failed_attempts {
            for key in CounterKey::networks(failed.address) {
                updater.refund(key, EventKind::FailedAttempt, failed.at);
            }
        }
    }

    /// Refunds the code that was redeemed, and earlier codes that were not. Those codes arrived late or were
    /// mistyped, and their phone belongs to a user.
    pub(crate) fn refund_codes(&self, updater: &mut CounterUpdater<'_>, challenge: &Challenge) {
        // The last sign-in refunded the codes before it.
        let last_login = self.user.and_then(|user| user.last_login);
        let mut codes = self.counters.timestamps(&CounterKey::phone(self.phone), EventKind::Code);
        codes.retain(|sent_at| {
            last_login.is_none_or(|login| *sent_at > login) && *sent_at != challenge.sent_at
        });
        codes.push(challenge.sent_at);
        for sent_at in codes {
            updater.refund(CounterKey::number_range(self.phone), EventKind::Code, sent_at);
            let of_address = challenge.address.into_iter().flat_map(|address| {
                CounterKey::networks(address).chain(CounterKey::shares_of_address(self.phone, address))
            });
            for key in of_address {
                updater.refund(key, EventKind::Code, sent_at);
            }
        }
    }

    /// Returns `true` if the code cannot be the one that was sent, because of its length. A form that submits
    /// on each key must not use up the attempts.
    ///
    /// Only a request with the id of the challenge is compared with its length. Otherwise the response would
    /// reveal whether the phone has a valid challenge.
    fn has_wrong_length(&self) -> bool {
        let named = self.challenge.filter(|_| self.named.is_some());
        if let Some(challenge) = named.filter(|challenge| self.is_valid(challenge)) {
            return !self.code.has_length(challenge.code_length);
        }
        self.code.is_shorter_than(self.policy.code_length)
    }

    /// Returns `true` if the code is that of the challenge, which may be invalid.
    fn is_right_code(&self) -> bool {
        let Some(challenge) = self.challenge else {
            // Compute the same hash as for a challenge that exists, so that both cases take the same time.
            let (id, code) = (ChallengeId(Uuid::nil()), self.code.for_length(*CODE_LENGTHS.start()));
            let _ = hash_code(self.peppers, self.peppers.current_id(), id, self.purpose, self.phone, &code);
            return false;
        };
        challenge.accepts(self.code, self.purpose, self.peppers) && !self.is_test_of_staff()
    }

    /// Returns `true` if the user is staff and the phone is a test number, whose code is known to several
    /// people. The code is treated as a wrong code.
    fn is_test_of_staff(&self) -> bool {
        self.user.is_some_and(User::is_staff) && self.policy.test_number(self.phone, self.now).is_some()
    }

    fn is_valid(&self, challenge: &Challenge) -> bool {
        let failed_attempts =
            self.counters.timestamps(&CounterKey::phone(self.phone), EventKind::FailedAttempt);
        let under_attack = self.policy.attack_status(self.global_counters, self.now).under_attack;
        let required_length = self.policy.required_length(&failed_attempts, under_attack, self.now);
        self.policy.lockout(self.phone, &failed_attempts, self.now).is_none()
            && challenge.is_valid(
                self.named.is_some(),
                self.policy.attempts_per_code,
                required_length,
                self.now,
            )
    }

    fn with_counted_attempt(&self, challenge: &Challenge, at: OffsetDateTime) -> Challenge {
        let mut counted = challenge.clone();
        if self.named.is_some() {
            counted.attempts_with_id += 1;
        } else {
            counted.attempts_without_id += 1;
        }
        // Only attempts that probably come from the owner are refunded when the owner redeems the code.
        let is_owner = |address| self.named.is_some() || challenge.address == Some(address);
        let address = self.address.filter(|address| is_owner(*address));
        counted.failed_attempts.extend(address.map(|address| FailedAttempt { address, at }));
        counted
    }
}

fn without_changes(refusal: Refusal) -> Refused {
    (refusal, AttemptWrites::default())
}
