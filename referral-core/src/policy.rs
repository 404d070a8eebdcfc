//! Settings of the rules, each with its default and its reason.

mod check;
mod rule;

use std::time::Duration;

use time::OffsetDateTime;

use crate::{
    error::input::InvalidInput,
    rate_limit::{
        counters::{CounterKey, Counters, EventKind, Subject},
        limits::{Keep, MAX_COUNT},
    },
    user::{
        User,
        phone::{PhoneNumber, Region},
    },
};
pub use crate::{
    otp::{code::CODE_LENGTHS, test_number::TestNumber},
    rate_limit::limits::{Limit, LimitName, Limits},
    user::phone::NumberPrefix,
};

/// Settings of the rules. Start from one of the three policies and change the fields that must differ.
/// [`check`](Self::check) validates the result.
///
/// One of ten thousand attempts guesses a four-digit code, so only limits make such a code secure. With the
/// limits of [`standard`](Self::standard), an attacker that continuously guesses codes of one phone succeeds
/// with a probability below 0.66 % per year. Wrong codes from an attacker do not lock the owner out: codes
/// get longer, and none is refused, unless [`lockout_threshold`](Self::lockout_threshold) is set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// Number of digits of a code. Four digits are convenient, but NIST SP 800-63B-4 (section 3.1.3.2) and
    /// OWASP ASVS 5.0 (6.6) require six.
    pub code_length: u8,
    /// Steps that increase the code length after wrong codes for a phone, in ascending order. The risk is the
    /// sum of the allowed guesses, each divided by 10^digits, however they are spread over codes. Neither a
    /// new code nor a sign-in resets the count (NIST SP 800-63B-4, section 3.2.2). Otherwise each sign-in of
    /// the owner would reset the count of an attacker.
    pub code_length_steps: Vec<CodeLengthStep>,
    /// Number of wrong codes for a phone that lock it out: it gets no codes until enough of them are older
    /// than [`failed_attempt_window`](Self::failed_attempt_window). With `None`, codes get longer instead.
    /// NIST SP 800-63B-4, section 3.2.2, allows 100 at most.
    pub lockout_threshold: Option<u32>,
    /// Time during which a wrong code counts against its phone. It is 31 days, so that a year has no more
    /// than twelve such periods.
    pub failed_attempt_window: Duration,
    /// Lifetime of a code. NIST SP 800-63B-4, section 3.1.3.2, allows ten minutes at most.
    pub code_lifetime: Duration,
    /// Number of wrong attempts after which a code is invalid. Attempts with the id of the challenge and
    /// attempts without it are counted separately, so that an attacker cannot use up the attempts of the
    /// owner.
    pub attempts_per_code: u32,
    /// Limits on wrong codes from one address. Attempts beyond them are refused. Wrong codes for a challenge
    /// that its owner redeems later are refunded.
    pub failed_attempts_per_address: Limits,
    /// Limits on attempts from one address to sign in with a phone that has no valid challenge. Such attempts
    /// cannot succeed, so the limit is ten times as high as the limit on wrong codes, and a correct code
    /// still signs in.
    pub attempts_without_challenge: Limits,
    /// Number of wrong codes in ten minutes above which the whole service is under attack, if it is also more
    /// than three times the usual number at that time of day. One guess for each of many phones passes every
    /// other limit. `None` disables the detection.
    pub attack_threshold: Option<u32>,
    /// Minimum number of digits of codes during an attack, and until an hour has passed without one. Shorter
    /// codes are invalid during this time.
    pub attack_code_length: u8,
    /// Resend interval: the minimum time between two codes for one phone, unless the phone signs in between.
    pub resend_interval: Duration,
    /// Limits on codes for one phone.
    pub codes_per_phone: Limits,
    /// Limits on codes for one phone that one address requested and that were not used to sign in. They
    /// prevent an attacker from using up the codes of the phone. With
    /// [`require_challenge`](Self::require_challenge), the maximum for one address is also one less than
    /// [`codes_per_phone`](Self::codes_per_phone) allows, since the owner cannot sign in with a code that
    /// another client requested.
    pub codes_per_phone_and_address: Limits,
    /// Limits on codes that one address requested and that were not used to sign in. They stop SMS pumping,
    /// and do not affect people that share an address of a carrier.
    pub codes_per_address: Limits,
    /// Limits on codes for a number range that were not used to sign in. A number range is all numbers that
    /// differ in the last three digits only. Messages to one number range after another are typical of toll
    /// fraud. One address gets at most a third of the codes, so that a single attacker cannot block a number
    /// range.
    pub codes_per_number_range: Limits,
    /// Limits on unknown invite codes, for each phone and each address. They prevent guessing, since an
    /// invite code has only six symbols.
    pub unknown_invite_codes: Limits,
    /// Limits on profile edits with an email address, for each user. The response to such an edit reveals
    /// whether another user has the address.
    pub email_changes: Limits,
    /// Regions to which codes are sent. Regions are used in place of calling codes, since up to 25 regions
    /// share a calling code. `None` means that it is not configured yet, and is rejected.
    pub regions: Option<Regions>,
    /// Maximum number of messages per day: the last line of defense. One address gets a twentieth of them
    /// without signing in, and at least three. `None` means that it is not configured yet, and is rejected.
    pub messages_per_day: Option<Budget>,
    /// `true` if a sign-in must have the id of its challenge. The id prevents an attacker that knows only
    /// the phone from using up attempts, but older clients do not send it.
    pub require_challenge: bool,
    /// Phones that sign in with a fixed code and get no message, 100 at most. Of the limits on codes, only
    /// the limits per address apply to them. All limits on wrong codes apply, and 60 wrong codes in a day
    /// lock such a phone out.
    pub test_numbers: Vec<TestNumber>,
    /// Lifetime of an access token. Another service that verifies only the signature accepts a token up to
    /// this long after its session has ended.
    pub access_lifetime: Duration,
    /// Lifetime of a refresh token, and so the maximum time for which a session may be unused.
    pub refresh_lifetime: Duration,
    /// Maximum lifetime of a session, even if it is used.
    pub session_lifetime: Duration,
    /// Maximum number of active sessions of a user. A sign-in beyond it ends the oldest sessions. `None` means
    /// that there is no maximum.
    pub max_sessions: Option<u32>,
    /// Time without activity of a user after which the phone may belong to another person, because operators
    /// assign unused numbers again. From then on, a correct code alone creates a new user, and the old one
    /// stays without a phone: see [`SignIn::refresh_token`](crate::SignIn::refresh_token). `None`
    /// means that a code always opens the account.
    pub phones_recycled_after: Option<Duration>,
    /// Time between the confirmed deletion of the own account and the erasure of the data. A sign-in in this time
    /// cancels the deletion. With zero, the data are erased immediately. The upper bound is 90 days. The GDPR,
    /// article 12(3), allows one month for a response to a request for erasure, so 30 days are usual.
    pub deletion_grace: Duration,
    /// Time during which an exchanged refresh token may be sent again without revoking the session. It covers
    /// two browser tabs and lost responses. RFC 9700, section 4.14.2, does not specify the time.
    pub refresh_grace: Duration,
    /// Maximum difference between the clocks of this host and of the storage. Above it, this host is not
    /// [ready](crate::ReferralService::check_ready). With `None`, the difference does not affect readiness.
    /// Limits of hosts that share a storage are looser by the difference between their clocks. Five seconds
    /// are much more than the difference between hosts with NTP, and much less than the shortest window of
    /// the limits, 15 minutes.
    pub max_clock_offset: Option<Duration>,
    /// Region of phone numbers without a country code.
    pub default_region: Option<Region>,
    /// Prefixes of mobile numbers that the numbering plans do not have yet, 100 at most. Codes are sent to
    /// them in any region.
    pub additional_prefixes: Vec<NumberPrefix>,
    /// Visibility of phones, email addresses and users to other users.
    pub visibility: Visibility,
}

/// Step that increases the code length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeLengthStep {
    /// Number of wrong codes from which the step applies.
    pub failed_attempts: u32,
    /// Number of digits of codes.
    pub code_length: u8,
}

/// Regions of the numbering plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Regions {
    /// All regions.
    All,
    /// Only these regions.
    Only(Vec<Region>),
}

/// Number of messages that may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Budget {
    /// No maximum.
    Unlimited,
    /// Maximum number of messages.
    Messages(u32),
}

/// Data that users see of other users. Staff see all data, and users see all of their own data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Visibility {
    /// All signed-in users see all data.
    #[default]
    Full,
    /// Phones are masked, such as `+7960*****17`, and email addresses are hidden. Only staff can search by
    /// them.
    Masked,
    /// Only staff see other users.
    Staff,
}

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Number of wrong codes in a day that lock out a test number. No limit on its codes bounds the guesses, so
/// it gets as many as another phone: ten codes, each with three attempts with the id and three without.
const TEST_FAILURES_PER_DAY: u32 = 60;

/// Divisor of the messages per day that gives the share of one address without signing in. With a twentieth
/// each, twenty addresses are needed to use up the budget.
const BUDGET_SHARE: u32 = 20;

/// Minimum share of an address in a budget, so that a small budget is enough for a household.
const MIN_BUDGET_SHARE: u32 = 3;

/// Number of requests of a phone in an hour that ask the gate about a sign-up or an invitation. A rejection
/// leaves the code usable and stores nothing. Without the limit, a client could send one correct code again
/// and again, and cause one question each time. It equals the limit on unknown invite codes.
pub(crate) const MAX_QUESTIONS_PER_HOUR: u32 = 10;

/// Divisor of the codes of a number range that gives the share of one address.
const NUMBER_RANGE_SHARE: u32 = 3;

/// Maximum number of sessions of a test number. Its code is known to several people and needs no message, so
/// no other limit bounds the sessions that they can create.
const TEST_SESSIONS: u32 = 20;

impl Policy {
    /// Returns the policy for most services. Codes have four digits.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            code_length: 4,
            code_length_steps: code_length_steps(&[(5, 6), (30, 8)]),
            lockout_threshold: None,
            failed_attempt_window: 31 * DAY,
            code_lifetime: 5 * MINUTE,
            attempts_per_code: 3,
            failed_attempts_per_address: Limits::of([(20, HOUR), (60, DAY)]),
            attempts_without_challenge: Limits::of([(200, HOUR)]),
            attack_threshold: Some(50),
            attack_code_length: 6,
            resend_interval: MINUTE,
            codes_per_phone: Limits::of([(3, 15 * MINUTE), (5, HOUR), (10, DAY)]),
            codes_per_phone_and_address: Limits::of([(3, DAY)]),
            codes_per_address: Limits::of([(10, HOUR), (50, DAY)]),
            codes_per_number_range: Limits::of([(10, HOUR)]),
            unknown_invite_codes: Limits::of([(10, HOUR)]),
            email_changes: Limits::of([(10, HOUR)]),
            regions: Some(Regions::All),
            messages_per_day: Some(Budget::Unlimited),
            require_challenge: false,
            test_numbers: Vec::new(),
            access_lifetime: 15 * MINUTE,
            refresh_lifetime: 30 * DAY,
            session_lifetime: 180 * DAY,
            max_sessions: None,
            phones_recycled_after: None,
            deletion_grace: Duration::ZERO,
            refresh_grace: Duration::from_secs(30),
            max_clock_offset: Some(Duration::from_secs(5)),
            default_region: None,
            additional_prefixes: Vec::new(),
            visibility: Visibility::Full,
        }
    }

    /// Returns a policy with six digits, as NIST SP 800-63B-4, section 3.1.3.2, requires. The id of the
    /// challenge is required. `regions` and `messages_per_day` must be set.
    #[must_use]
    pub fn strict() -> Self {
        Self {
            code_length: 6,
            code_length_steps: code_length_steps(&[(30, 8)]),
            lockout_threshold: Some(100),
            attempts_per_code: 5,
            attack_threshold: Some(200),
            regions: None,
            messages_per_day: None,
            require_challenge: true,
            ..Self::standard()
        }
    }

    /// Returns a policy for development. It has no resend interval, and only two limits: on the attempts for
    /// a code, and ten codes for a phone in 15 minutes.
    #[must_use]
    pub fn development() -> Self {
        Self {
            code_length_steps: Vec::new(),
            failed_attempts_per_address: Limits::off(),
            attempts_without_challenge: Limits::off(),
            attack_threshold: None,
            resend_interval: Duration::ZERO,
            codes_per_phone: Limits::of([(10, 15 * MINUTE)]),
            codes_per_phone_and_address: Limits::off(),
            codes_per_address: Limits::off(),
            codes_per_number_range: Limits::off(),
            unknown_invite_codes: Limits::off(),
            email_changes: Limits::off(),
            ..Self::standard()
        }
    }

    /// Returns the number of digits that codes for a phone must have, from the times of its wrong codes and
    /// whether the whole service is under attack.
    pub(crate) fn required_length(
        &self,
        failed_attempts: &[OffsetDateTime],
        under_attack: bool,
        now: OffsetDateTime,
    ) -> u8 {
        let failed_attempts =
            failed_attempts.iter().filter(|at| **at + self.failed_attempt_window > now).count();
        let reached = |step: &&CodeLengthStep| failed_attempts >= step.failed_attempts as usize;
        let lengthened = self.code_length_steps.iter().rev().find(reached).map(|step| step.code_length);
        let in_attack = under_attack.then_some(self.attack_code_length);
        self.code_length.max(lengthened.unwrap_or_default()).max(in_attack.unwrap_or_default())
    }

    /// Returns the remaining time of the lockout of a phone, if it is locked out.
    pub(crate) fn lockout(
        &self,
        phone: &PhoneNumber,
        failed_attempts: &[OffsetDateTime],
        now: OffsetDateTime,
    ) -> Option<Duration> {
        let of_any =
            self.lockout_threshold.map(|failed_attempts| (failed_attempts, self.failed_attempt_window));
        let of_test = self.test_number(phone, now).map(|_| (TEST_FAILURES_PER_DAY, DAY));
        of_any
            .into_iter()
            .chain(of_test)
            .filter_map(|limit| Limits::of([limit]).wait(failed_attempts, now))
            .max()
    }

    /// Returns the test number of a phone, if there is one and it has not expired.
    pub(crate) fn test_number(&self, phone: &PhoneNumber, now: OffsetDateTime) -> Option<&TestNumber> {
        self.test_numbers.iter().find(|number| number.phone == *phone && now < number.until)
    }

    /// Parses a phone number as typed. A number that no numbering plan assigns is accepted if it has an
    /// [additional prefix](Self::additional_prefixes) or is a [test number](Self::test_numbers): regulators
    /// reserve unassigned numbers for examples and tests.
    pub(crate) fn parse_phone(&self, input: &str, now: OffsetDateTime) -> Result<PhoneNumber, InvalidInput> {
        let is_known =
            |phone: &PhoneNumber| self.is_additional(phone) || self.test_number(phone, now).is_some();
        PhoneNumber::parse_if(input, self.default_region, is_known)
    }

    fn is_additional(&self, phone: &PhoneNumber) -> bool {
        self.additional_prefixes.iter().any(|prefix| prefix.is_of(phone.as_str()))
    }

    /// Returns `true` if codes are sent to this number: its region is allowed, and it may be a mobile number.
    #[must_use]
    pub fn serves(&self, phone: &PhoneNumber) -> bool {
        if self.is_additional(phone) {
            return true;
        }
        let is_served = match &self.regions {
            Some(Regions::Only(regions)) => phone.region().is_some_and(|region| regions.contains(&region)),
            _ => true,
        };
        is_served && phone.may_be_mobile()
    }

    pub(crate) fn budget(&self) -> Option<u32> {
        match self.messages_per_day {
            Some(Budget::Messages(number)) => Some(number),
            _ => None,
        }
    }

    /// Returns the time to wait until the limits of a counter allow another event of the kind `kind`.
    pub(crate) fn wait(
        &self,
        counters: &Counters,
        key: &CounterKey,
        kind: EventKind,
        now: OffsetDateTime,
    ) -> Option<Duration> {
        self.limits(key.subject(), kind).wait(&counters.timestamps(key, kind), now)
    }

    /// Returns the limits on an event in a counter, or none if the counter does not count the event. The
    /// module `challenge` has further rules for the codes of a phone.
    fn limits(&self, subject: Subject, kind: EventKind) -> Limits {
        match (subject, kind) {
            (Subject::Phone, EventKind::Code) => self.codes_per_phone.clone(),
            (Subject::Phone, EventKind::EmailChange) => self.email_changes.clone(),
            (Subject::Phone, EventKind::UnknownInvite) => self.unknown_invite_codes.clone(),
            (Subject::PhoneAndAddress, EventKind::Code) => self.pair_limits(),
            (Subject::NumberRange, EventKind::Code) => self.codes_per_number_range.clone(),
            (Subject::NumberRangeAndAddress, EventKind::Code) => {
                self.codes_per_number_range.share(|count| count / NUMBER_RANGE_SHARE)
            }
            (Subject::Address { widening }, EventKind::Code) => self.codes_per_address.widened(widening),
            (Subject::Address { widening }, EventKind::FailedAttempt) => {
                self.failed_attempts_per_address.widened(widening)
            }
            (Subject::Address { widening }, EventKind::UnknownInvite) => {
                self.unknown_invite_codes.widened(widening)
            }
            (Subject::Address { widening }, EventKind::AttemptWithoutChallenge) => {
                self.attempts_without_challenge.widened(widening)
            }
            _ => Limits::off(),
        }
    }

    fn pair_limits(&self) -> Limits {
        let limits = self.codes_per_phone_and_address.clone();
        if self.require_challenge && !limits.is_off() {
            limits.and(self.codes_per_phone.share(|count| count - 1))
        } else {
            limits
        }
    }

    /// Returns the limit on the messages per day that one address uses without signing in. It is the same for
    /// each of the networks of the address.
    pub(crate) fn budget_share(&self) -> Limits {
        let share = |budget: u32| ((budget / BUDGET_SHARE).clamp(MIN_BUDGET_SHARE, MAX_COUNT), DAY);
        self.budget().map_or_else(Limits::off, |budget| Limits::of([share(budget)]))
    }

    /// Returns how many events a counter stores and for how long, or `None` if there is no limit on the
    /// event.
    pub(crate) fn keep(&self, subject: Subject, kind: EventKind) -> Option<Keep> {
        if (subject, kind) == (Subject::Phone, EventKind::FailedAttempt) {
            let newest = self.max_relevant_failures() as usize;
            return (newest > 0).then_some(Keep { memory: self.failed_attempt_window, newest });
        }
        let limits = self.limits(subject, kind);
        match (subject, kind) {
            (Subject::Address { .. }, EventKind::Code) => limits.and(self.budget_share()).keep(),
            _ => limits.keep(),
        }
    }

    /// Returns `true` if the phone of a user may belong to another person. Test numbers belong to no person.
    pub(crate) fn may_be_recycled(&self, user: &User, now: OffsetDateTime) -> bool {
        let is_silent = self.phones_recycled_after.is_some_and(|silence| user.last_seen() + silence <= now);
        is_silent && self.test_number(&user.phone, now).is_none()
    }

    /// Returns the number of older sessions that the user of a phone keeps at a sign-in, if it is limited.
    pub(crate) fn kept_sessions(&self, phone: &PhoneNumber, now: OffsetDateTime) -> Option<u32> {
        let of_test = self.test_number(phone, now).map(|_| TEST_SESSIONS);
        of_test.into_iter().chain(self.max_sessions).min().map(|sessions| sessions.saturating_sub(1))
    }

    /// Returns the number of wrong codes for a phone above which further ones make no difference.
    pub(crate) fn max_relevant_failures(&self) -> u32 {
        let last = self.code_length_steps.last().map(|step| step.failed_attempts);
        let of_test = (!self.test_numbers.is_empty()).then_some(TEST_FAILURES_PER_DAY);
        last.max(self.lockout_threshold).max(of_test).unwrap_or_default()
    }
}

fn code_length_steps(steps: &[(u32, u8)]) -> Vec<CodeLengthStep> {
    steps
        .iter()
        .map(|&(failed_attempts, code_length)| CodeLengthStep { failed_attempts, code_length })
        .collect()
}

impl Default for Policy {
    fn default() -> Self {
        Self::standard()
    }
}

#[cfg(test)]
mod tests;
