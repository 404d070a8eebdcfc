//! The numbers of the service, each with its default and its reason.

use std::{collections::BTreeSet, time::Duration};

use time::OffsetDateTime;

use crate::{
    Invalid, PhoneNumber, TestNumber,
    counters::{Counted, Keep, Subject},
    limits::{LONGEST, Limit, Limits},
    phone::Region,
    sms_code::CODE_LENGTHS,
};

/// Every number that the rules depend on. Start from one of the three policies and change what
/// must differ; [`check`](Self::check) says whether the result makes sense.
///
/// A four-digit code is guessed by one in ten thousand tries, so nothing makes it strong but limits
/// that hold. Those here make it under 0.66 % a year for whoever does nothing else than guess at one
/// phone. Wrong codes of strangers lock nobody out of it: codes get longer, and none is refused, unless
/// [`hold_at`](Self::hold_at) is set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// The digits of a code. Four are a convenience outside NIST SP 800-63B-4 (section 3.1.3.2)
    /// and OWASP ASVS 5.0 (6.6), which ask for six.
    pub code_length: u8,
    /// From how many wrong codes of a phone on its codes have more digits; in rising order. However
    /// the guesses are spread over codes, the risk is the sum of those allowed over 10^digits. NIST
    /// SP 800-63B-4, section 3.2.2: neither a new code nor a success resets the count, else who
    /// signs in each week has their guesser's count reset each week.
    pub lengthening: Vec<Lengthening>,
    /// From how many wrong codes of a phone on it gets none, until enough of them are old; `None` to
    /// send ever longer ones instead. NIST SP 800-63B-4, section 3.2.2, allows 100 at most.
    pub hold_at: Option<u32>,
    /// How long a wrong code counts against its phone. 31 days, so that no year has room for a
    /// thirteenth month of guesses.
    pub failure_memory: Duration,
    /// How long a code lives. NIST SP 800-63B-4, section 3.1.3.2, allows ten minutes at most.
    pub code_lifetime: Duration,
    /// Wrong tries after which a code is dead; for requests that name the challenge's id and for
    /// those that do not, each, so that a stranger cannot use up the owner's.
    pub tries_per_code: u32,
    /// Wrong codes from one address, refused beyond; those at a code that its owner redeems later
    /// are taken back.
    pub failures_per_address: Limits,
    /// Attempts to sign in with a phone that has no valid challenge, from one address. They cannot succeed,
    /// so the limit is ten times as wide as that on wrong codes, and a correct code still signs in.
    pub attempts_without_challenge: Limits,
    /// Above how many wrong codes in ten minutes the whole service is under attack, if there are more
    /// than three times as many as usual at that time of day: one guess at each of many phones passes
    /// every other limit. `None` to watch out for none.
    pub attack_failures: Option<u32>,
    /// The digits that codes have at least while it is, until it has been calm for an hour: new ones
    /// have as many, and what is shorter is dead.
    pub attack_code_length: u8,
    /// How long to wait between two codes for one phone, unless it signs in before.
    pub cool_down: Duration,
    /// Codes for one phone.
    pub codes_per_phone: Limits,
    /// Codes for one phone that one address asked for and nobody signed in with, so that a stranger
    /// cannot use up those of the phone. With [`require_challenge`](Self::require_challenge) one address
    /// also gets at most all but one of [`codes_per_phone`](Self::codes_per_phone), since the owner cannot
    /// sign in with a code that a stranger requested.
    pub codes_per_phone_and_address: Limits,
    /// Codes that one address asked for and nobody signed in with: so people behind one address of
    /// a carrier are not punished, and pumpers are.
    pub codes_per_address: Limits,
    /// Codes for numbers that differ in the last three digits only, and that nobody signed in with.
    /// Messages to one such block after another are the mark of toll fraud. One address gets at most a third
    /// of them, so that a stranger cannot stop a block alone.
    pub codes_per_block: Limits,
    /// Invite codes that nobody has, for each phone and each address: six symbols can be guessed.
    pub invite_failures: Limits,
    /// Edits of a profile that name an e-mail address, for each user: the response tells whether another
    /// user has the address.
    pub email_changes: Limits,
    /// Where codes are sent. By region and not by calling code, which 25 regions may share. `None`
    /// is for whoever has not decided yet, and is refused.
    pub regions: Option<Regions>,
    /// How many messages are sent in a day: the last line of defence. One address gets at most a twentieth
    /// of them, at least three, without signing in. `None` means not decided yet, and is
    /// refused.
    pub messages_per_day: Option<Budget>,
    /// Whether a sign-in must name the id of its challenge. It keeps a stranger, who knows only
    /// the phone, from using up tries, but older clients do not send it.
    pub require_challenge: bool,
    /// Phones that sign in with a fixed code, and get no message; 100 at most. Of the limits on codes only
    /// those per address hold for them; all limits on wrong codes do, and sixty in a day hold such a phone.
    pub test_numbers: Vec<TestNumber>,
    /// How long an access token is valid: so long may another service, which verifies it by its
    /// signature alone, take a session for alive that has ended.
    pub access_lifetime: Duration,
    /// How long a refresh token is valid, hence how long a session lives without being used.
    pub refresh_lifetime: Duration,
    /// How long a session lives, however much it is used.
    pub session_lifetime: Duration,
    /// How long a refresh token that was exchanged may be seen again without harm: as long as
    /// two tabs or a lost response may take (RFC 9700, section 4.14.2, leaves the time open).
    pub refresh_grace: Duration,
    /// The difference between the clocks of this host and of the storage above which this host is not
    /// [ready](crate::Referral::check_ready), or `None` to be ready whatever it is. Hosts that share a
    /// storage loosen each other's limits by the difference between their clocks. Five seconds are far more
    /// than hosts with NTP differ by, and little beside the shortest window of the limits, 15 minutes.
    pub max_clock_offset: Option<Duration>,
    /// Where a phone number without its country code is taken to belong.
    pub default_region: Option<Region>,
    /// Who sees whose phone and e-mail address.
    pub visibility: Visibility,
}

/// From so many wrong codes on, so many digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengthening {
    /// Wrong codes.
    pub failures: u32,
    /// Digits.
    pub code_length: u8,
}

/// Regions of the numbering plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Regions {
    /// All there are.
    All,
    /// These, and no others.
    Only(Vec<Region>),
}

/// How much may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// As much as it takes.
    Unlimited,
    /// So many messages.
    Messages(u32),
}

/// Who sees what of others. Staff see everything, and everybody sees their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// Everybody who is signed in sees everything.
    #[default]
    Full,
    /// Phones are shown as `+7960*****17`, e-mail addresses not at all, and nobody but staff
    /// finds others by them.
    Masked,
    /// Only staff see others.
    Staff,
}

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// The most that a limit allows: so many moments are kept for each of whom it is about.
const MAX_COUNT: u32 = 1_000;

/// The most test numbers: each request looks through them.
const MAX_TEST_NUMBERS: usize = 100;

/// From how many wrong codes in a day on a test number is held. Its codes have no limit that bounds the
/// guesses at them; so it has as many as another phone, whose ten codes have three tries with the id and
/// three without.
const TEST_FAILURES_PER_DAY: u32 = 60;

/// Part of the messages of a day that one address gets without signing in: with a twentieth, twenty
/// addresses are needed to use up the budget.
const BUDGET_SHARE: u32 = 20;

/// The least that an address gets of a budget, so that a small one serves a household.
const MIN_BUDGET_SHARE: u32 = 3;

/// Part of the codes of a number block that one address gets.
const BLOCK_SHARE: u32 = 3;

/// Number of sessions of a test number. Its code is known to several people and costs no message, so
/// nothing else bounds the sessions that one of them can create.
const TEST_SESSIONS: u32 = 20;

impl Policy {
    /// What fits most services: four digits.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            code_length: 4,
            lengthening: lengthening(&[(5, 6), (30, 8)]),
            hold_at: None,
            failure_memory: 31 * DAY,
            code_lifetime: 5 * MINUTE,
            tries_per_code: 3,
            failures_per_address: Limits::new([(20, HOUR), (60, DAY)]),
            attempts_without_challenge: Limits::new([(200, HOUR)]),
            attack_failures: Some(50),
            attack_code_length: 6,
            cool_down: MINUTE,
            codes_per_phone: Limits::new([(3, 15 * MINUTE), (5, HOUR), (10, DAY)]),
            codes_per_phone_and_address: Limits::new([(3, DAY)]),
            codes_per_address: Limits::new([(10, HOUR), (50, DAY)]),
            codes_per_block: Limits::new([(10, HOUR)]),
            invite_failures: Limits::new([(10, HOUR)]),
            email_changes: Limits::new([(10, HOUR)]),
            regions: Some(Regions::All),
            messages_per_day: Some(Budget::Unlimited),
            require_challenge: false,
            test_numbers: Vec::new(),
            access_lifetime: 15 * MINUTE,
            refresh_lifetime: 30 * DAY,
            session_lifetime: 180 * DAY,
            refresh_grace: Duration::from_secs(30),
            max_clock_offset: Some(Duration::from_secs(5)),
            default_region: None,
            visibility: Visibility::Full,
        }
    }

    /// Six digits, as NIST SP 800-63B-4, section 3.1.3.2, asks, and the challenge's id. Regions and
    /// a number of messages a day must be set.
    #[must_use]
    pub fn strict() -> Self {
        Self {
            code_length: 6,
            lengthening: lengthening(&[(30, 8)]),
            hold_at: Some(100),
            tries_per_code: 5,
            attack_failures: Some(200),
            regions: None,
            messages_per_day: None,
            require_challenge: true,
            ..Self::standard()
        }
    }

    /// For trying things out: no waiting between two codes, and no limits but the tries of a code and
    /// ten codes for a phone in 15 minutes.
    #[must_use]
    pub fn development() -> Self {
        Self {
            lengthening: Vec::new(),
            failures_per_address: Limits::off(),
            attempts_without_challenge: Limits::off(),
            attack_failures: None,
            cool_down: Duration::ZERO,
            codes_per_phone: Limits::new([(10, 15 * MINUTE)]),
            codes_per_phone_and_address: Limits::off(),
            codes_per_address: Limits::off(),
            codes_per_block: Limits::off(),
            invite_failures: Limits::off(),
            email_changes: Limits::off(),
            ..Self::standard()
        }
    }

    /// Whether the numbers make sense together.
    ///
    /// # Errors
    ///
    /// `invalid_policy`, with a sentence that names the field in backticks and its bounds.
    pub fn check(&self) -> Result<(), Invalid> {
        self.check_codes()?;
        self.check_limits()?;
        self.check_test_numbers()?;
        self.check_clock()?;
        self.check_tokens()
    }

    /// The shortest is what a warning is logged for. The longest is the lifetime of a code in `standard`.
    fn check_clock(&self) -> Result<(), Invalid> {
        match self.max_clock_offset {
            Some(max) if !(Duration::from_secs(1)..=5 * MINUTE).contains(&max) => {
                no("`max_clock_offset` must be 1 second to 5 minutes.")
            }
            _ => Ok(()),
        }
    }

    fn check_codes(&self) -> Result<(), Invalid> {
        if !CODE_LENGTHS.contains(&self.code_length) || !CODE_LENGTHS.contains(&self.attack_code_length) {
            return no("`code_length` and `attack_code_length` must be 4 to 10 digits.");
        }
        if !self.lengthening.iter().all(|step| CODE_LENGTHS.contains(&step.code_length) && step.failures > 0)
        {
            return no("`lengthening` must have steps of 4 to 10 digits, from one wrong code on or later.");
        }
        let rises = |pair: &[Lengthening]| {
            pair[0].failures < pair[1].failures && pair[0].code_length < pair[1].code_length
        };
        if !self.lengthening.windows(2).all(rises) || self.failures_that_matter() > MAX_COUNT {
            return no(
                "`lengthening` must have more digits from more wrong codes on, and `lengthening` and `hold_at` at most 1000 wrong codes.",
            );
        }
        if self.hold_at == Some(0) {
            return no("`hold_at` must be 1 wrong code or more.");
        }
        if !(DAY..=366 * DAY).contains(&self.failure_memory) {
            return no("`failure_memory` must be 1 to 366 days.");
        }
        if !(MINUTE..=10 * MINUTE).contains(&self.code_lifetime) {
            return no("`code_lifetime` must be 1 to 10 minutes.");
        }
        if !(1..=10).contains(&self.tries_per_code) {
            return no("`tries_per_code` must be 1 to 10.");
        }
        if self.cool_down > DAY {
            return no("`cool_down` must be 1 day or less.");
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), Invalid> {
        let all = [
            ("failures_per_address", &self.failures_per_address),
            ("attempts_without_challenge", &self.attempts_without_challenge),
            ("codes_per_phone", &self.codes_per_phone),
            ("codes_per_phone_and_address", &self.codes_per_phone_and_address),
            ("codes_per_address", &self.codes_per_address),
            ("codes_per_block", &self.codes_per_block),
            ("invite_failures", &self.invite_failures),
            ("email_changes", &self.email_changes),
        ];
        for (field, limits) in all {
            let is_sound = |limit: &Limit| {
                (1..=MAX_COUNT).contains(&limit.count)
                    && (Duration::from_secs(1)..=LONGEST).contains(&limit.per)
            };
            if !limits.iter().all(is_sound) {
                let detail = format!("`{field}` must have limits of 1 to 1000 in 1 second to 31 days.");
                return Err(Invalid::new("invalid_policy", detail));
            }
        }
        match &self.regions {
            None => return no("`regions` must be set: name the regions that codes are sent to, or all."),
            Some(Regions::Only(regions)) if regions.is_empty() => {
                return no("`regions` must have one region or more.");
            }
            _ => {}
        }
        match self.messages_per_day {
            None => no("`messages_per_day` must be set: give a number, or unlimited."),
            Some(Budget::Messages(0)) => no("`messages_per_day` must be 1 or more."),
            _ => Ok(()),
        }
    }

    fn check_test_numbers(&self) -> Result<(), Invalid> {
        if self.test_numbers.len() > MAX_TEST_NUMBERS {
            return no("`test_numbers` must have 100 entries or fewer.");
        }
        if self.test_numbers.iter().any(|number| number.code_length() < self.code_length) {
            return no("Each code of `test_numbers` must have at least as many digits as `code_length`.");
        }
        let phones: BTreeSet<_> = self.test_numbers.iter().map(|number| &number.phone).collect();
        if phones.len() < self.test_numbers.len() {
            return no("`test_numbers` must have each phone once.");
        }
        Ok(())
    }

    fn check_tokens(&self) -> Result<(), Invalid> {
        let of_tokens = [self.access_lifetime, self.refresh_lifetime, self.session_lifetime];
        if of_tokens.iter().any(|lifetime| lifetime.subsec_nanos() != 0) {
            return no("`access_lifetime`, `refresh_lifetime` and `session_lifetime` must be whole seconds.");
        }
        if self.access_lifetime < Duration::from_secs(1) || self.access_lifetime > DAY {
            return no("`access_lifetime` must be 1 second to 1 day.");
        }
        if self.refresh_lifetime < self.access_lifetime {
            return no("`refresh_lifetime` must not be shorter than `access_lifetime`.");
        }
        if self.session_lifetime < self.refresh_lifetime || self.session_lifetime > 3_660 * DAY {
            return no(
                "`session_lifetime` must not be shorter than `refresh_lifetime`, and 10 years or less.",
            );
        }
        if self.refresh_grace > 10 * MINUTE {
            return no("`refresh_grace` must be 10 minutes or less.");
        }
        Ok(())
    }

    /// The digits that codes for a phone must have, given when there were wrong ones, and whether the
    /// whole service is under attack.
    pub(crate) fn required_length(
        &self,
        failures: &[OffsetDateTime],
        under_attack: bool,
        now: OffsetDateTime,
    ) -> u8 {
        let failures = failures.iter().filter(|at| **at + self.failure_memory > now).count();
        let reached = |step: &&Lengthening| failures >= step.failures as usize;
        let lengthened = self.lengthening.iter().rev().find(reached).map(|step| step.code_length);
        let in_attack = under_attack.then_some(self.attack_code_length);
        self.code_length.max(lengthened.unwrap_or_default()).max(in_attack.unwrap_or_default())
    }

    /// How long a phone is held, if it is.
    pub(crate) fn hold(
        &self,
        phone: &PhoneNumber,
        failures: &[OffsetDateTime],
        now: OffsetDateTime,
    ) -> Option<Duration> {
        let of_any = self.hold_at.map(|failures| (failures, self.failure_memory));
        let of_test = self.test_number(phone, now).map(|_| (TEST_FAILURES_PER_DAY, DAY));
        Limits::new(of_any.into_iter().chain(of_test)).wait(failures, now)
    }

    /// The test number that a phone is now, if it is one.
    pub(crate) fn test_number(&self, phone: &PhoneNumber, now: OffsetDateTime) -> Option<&TestNumber> {
        self.test_numbers.iter().find(|number| number.phone == *phone && now < number.until)
    }

    /// Whether codes are sent to this number: its region is served, and its line may be mobile.
    #[must_use]
    pub fn serves(&self, phone: &PhoneNumber) -> bool {
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

    /// Returns the limits on an event in a counter; off where the event is not counted there. The codes of
    /// a phone have further rules, which are with the challenge.
    pub(crate) fn limits(&self, subject: Subject, what: Counted) -> Limits {
        match (subject, what) {
            (Subject::Phone, Counted::Code) => self.codes_per_phone.clone(),
            (Subject::Phone, Counted::EmailChange) => self.email_changes.clone(),
            (Subject::Phone, Counted::UnknownInvite) => self.invite_failures.clone(),
            (Subject::Pair, Counted::Code) => self.pair_limits(),
            (Subject::Block, Counted::Code) => self.codes_per_block.clone(),
            (Subject::BlockAndAddress, Counted::Code) => {
                self.codes_per_block.share(|count| count / BLOCK_SHARE)
            }
            (Subject::Address { widening }, Counted::Code) => self.codes_per_address.widened(widening),
            (Subject::Address { widening }, Counted::Failure) => self.failures_per_address.widened(widening),
            (Subject::Address { widening }, Counted::UnknownInvite) => self.invite_failures.widened(widening),
            (Subject::Address { widening }, Counted::AttemptWithoutChallenge) => {
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

    /// Returns the limit on the messages of a day that one address causes without signing in, however wide
    /// its network.
    pub(crate) fn budget_share(&self) -> Limits {
        let share = |budget: u32| ((budget / BUDGET_SHARE).clamp(MIN_BUDGET_SHARE, MAX_COUNT), DAY);
        Limits::new(self.budget().map(share))
    }

    /// What a counter keeps of what was counted; `None` where there is no limit.
    pub(crate) fn keep(&self, subject: Subject, what: Counted) -> Option<Keep> {
        if (subject, what) == (Subject::Phone, Counted::Failure) {
            let newest = self.failures_that_matter() as usize;
            return (newest > 0).then_some(Keep { memory: self.failure_memory, newest });
        }
        let limits = self.limits(subject, what);
        match (subject, what) {
            (Subject::Address { .. }, Counted::Code) => limits.and(self.budget_share()).keep(),
            _ => limits.keep(),
        }
    }

    /// Returns how many sessions the user of a phone may have; the oldest are deleted.
    pub(crate) fn max_sessions(&self, phone: &PhoneNumber, now: OffsetDateTime) -> Option<u32> {
        self.test_number(phone, now).map(|_| TEST_SESSIONS)
    }

    /// Beyond how many wrong codes of a phone more make no difference.
    pub(crate) fn failures_that_matter(&self) -> u32 {
        let last = self.lengthening.last().map(|step| step.failures);
        let of_test = (!self.test_numbers.is_empty()).then_some(TEST_FAILURES_PER_DAY);
        last.max(self.hold_at).max(of_test).unwrap_or_default()
    }
}

fn no(detail: &'static str) -> Result<(), Invalid> {
    Err(Invalid::new("invalid_policy", detail))
}

fn lengthening(steps: &[(u32, u8)]) -> Vec<Lengthening> {
    steps.iter().map(|&(failures, code_length)| Lengthening { failures, code_length }).collect()
}

impl Default for Policy {
    fn default() -> Self {
        Self::standard()
    }
}

#[cfg(test)]
mod tests;
