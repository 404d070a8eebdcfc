//! Validation of a policy.

use std::{borrow::Cow, collections::BTreeSet, time::Duration};

use super::{Budget, CodeLengthStep, DAY, MINUTE, Policy, Regions};
use crate::{
    error::{catalog::ErrorCode, input::InvalidInput},
    otp::code::CODE_LENGTHS,
    rate_limit::limits::MAX_COUNT,
};

/// Maximum of `deletion_grace`. Personal data that the user asked to delete are not kept for longer.
const MAX_DELETION_GRACE: Duration = Duration::from_hours(90 * 24);

/// Maximum number of test numbers, and of additional prefixes. Each request searches the whole list.
const MAX_LISTED: usize = 100;

impl Policy {
    /// Validates the policy.
    ///
    /// # Errors
    ///
    /// `invalid_policy` if a field is out of bounds. The detail has the field in backticks and its bounds.
    pub fn check(&self) -> Result<(), InvalidInput> {
        self.check_codes()?;
        self.check_regions_and_budget()?;
        self.check_test_numbers()?;
        self.check_clock()?;
        self.check_tokens()
    }

    /// Checks `max_clock_offset`. The lower bound is the offset for which a warning is logged. The upper
    /// bound is the lifetime of a code in `standard`.
    fn check_clock(&self) -> Result<(), InvalidInput> {
        match self.max_clock_offset {
            Some(max) if !(Duration::from_secs(1)..=5 * MINUTE).contains(&max) => {
                no("`max_clock_offset` must be 1 second to 5 minutes.")
            }
            _ => Ok(()),
        }
    }

    fn check_codes(&self) -> Result<(), InvalidInput> {
        if !CODE_LENGTHS.contains(&self.code_length) || !CODE_LENGTHS.contains(&self.attack_code_length) {
            return no("`code_length` and `attack_code_length` must be 4 to 10 digits.");
        }
        if !self
            .code_length_steps
            .iter()
            .all(|step| CODE_LENGTHS.contains(&step.code_length) && step.failed_attempts > 0)
        {
            return no("Each step of `code_length_steps` must have 4 to 10 digits and 1 wrong code or more.");
        }
        let rises = |pair: &[CodeLengthStep]| {
            pair[0].failed_attempts < pair[1].failed_attempts && pair[0].code_length < pair[1].code_length
        };
        if !self.code_length_steps.windows(2).all(rises) || self.max_relevant_failures() > MAX_COUNT {
            return no(
                "The steps of `code_length_steps` must have more digits for more wrong codes, and `code_length_steps` \
                 and `lockout_threshold` must have 1000 wrong codes or fewer.",
            );
        }
        if self.lockout_threshold == Some(0) {
            return no("`lockout_threshold` must be 1 wrong code or more.");
        }
        if !(DAY..=366 * DAY).contains(&self.failed_attempt_window) {
            return no("`failed_attempt_window` must be 1 to 366 days.");
        }
        if !(MINUTE..=10 * MINUTE).contains(&self.code_lifetime) {
            return no("`code_lifetime` must be 1 to 10 minutes.");
        }
        if !(1..=10).contains(&self.attempts_per_code) {
            return no("`attempts_per_code` must be 1 to 10.");
        }
        if self.resend_interval > DAY {
            return no("`resend_interval` must be 1 day or less.");
        }
        Ok(())
    }

    fn check_regions_and_budget(&self) -> Result<(), InvalidInput> {
        match &self.regions {
            None => return no("`regions` must be set: give the regions to which codes are sent, or all."),
            Some(Regions::Only(regions)) if regions.is_empty() => {
                return no("`regions` must have one region or more.");
            }
            Some(Regions::Only(regions)) => {
                if let Some(invalid) = regions.iter().find_map(|region| region.require_mobile_numbers().err())
                {
                    return no(format!("`regions` is not valid. {invalid}"));
                }
            }
            _ => {}
        }
        if self.additional_prefixes.len() > MAX_LISTED {
            return no("`additional_prefixes` must have 100 entries or fewer.");
        }
        match self.messages_per_day {
            None => no("`messages_per_day` must be set: give a number, or unlimited."),
            Some(Budget::Messages(0)) => no("`messages_per_day` must be 1 or more."),
            _ => Ok(()),
        }
    }

    fn check_test_numbers(&self) -> Result<(), InvalidInput> {
        if self.test_numbers.len() > MAX_LISTED {
            return no("`test_numbers` must have 100 entries or fewer.");
        }
        if self.test_numbers.iter().any(|number| number.code_length() < self.code_length) {
            return no("Each code of `test_numbers` must have at least as many digits as `code_length`.");
        }
        let phones: BTreeSet<_> = self.test_numbers.iter().map(|number| &number.phone).collect();
        if phones.len() < self.test_numbers.len() {
            return no("`test_numbers` must not have a phone twice.");
        }
        Ok(())
    }

    fn check_tokens(&self) -> Result<(), InvalidInput> {
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
        if self.max_sessions == Some(0) {
            return no("`max_sessions` must be 1 session or more.");
        }
        // The activity of a user is stored to the day. So no session can be refreshed by then, and a user can cancel
        // a scheduled deletion until its time.
        if let Some(silence) = self.phones_recycled_after
            && !(self.refresh_lifetime.max(self.deletion_grace) + DAY..=3_660 * DAY).contains(&silence)
        {
            return no(
                "`phones_recycled_after` must be at least 1 day longer than `refresh_lifetime` and `deletion_grace`, and 10 years or less.",
            );
        }
        if self.deletion_grace > MAX_DELETION_GRACE {
            return no("`deletion_grace` must be 90 days or less.");
        }
        if self.refresh_grace > 10 * MINUTE {
            return no("`refresh_grace` must be 10 minutes or less.");
        }
        Ok(())
    }
}

fn no(detail: impl Into<Cow<'static, str>>) -> Result<(), InvalidInput> {
    Err(InvalidInput::new(ErrorCode::InvalidPolicy, detail))
}
