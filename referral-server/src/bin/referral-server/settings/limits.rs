//! Flags that set limits, as lists such as `3/15m,5/1h`.

use std::time::Duration;

use clap::Args;
use referral_core::{
    Region,
    policy::{Budget, CodeLengthStep, Limits, Policy, Regions},
};

#[derive(Debug, Args)]
#[command(
    next_help_heading = "Limits, as lists such as 3/15m,5/1h (3 in any 15 minutes and 5 in any hour), or off. An address is an IPv4 address or an IPv6 /64. A /56 has twice these limits and a /48 four times"
)]
pub(crate) struct LimitSettings {
    /// Codes for one phone [default: 3/15m,5/1h,10/24h; development: 10/15m]
    #[arg(long, env = "REFERRAL_CODES_PER_PHONE", global = true, value_name = "LIMITS", value_parser = limits)]
    codes_per_phone: Option<Limits>,
    /// Codes for one phone that one address requested and that did not lead to a sign-in. With
    /// --require-challenge also at most one code less than --codes-per-phone [default: 3/24h; development:
    /// off]
    #[arg(long, env = "REFERRAL_CODES_PER_PHONE_AND_ADDRESS", global = true, value_name = "LIMITS", value_parser = limits)]
    codes_per_phone_and_address: Option<Limits>,
    /// Codes that one address requested and that did not lead to a sign-in [default: 10/1h,50/24h;
    /// development: off]
    #[arg(long, env = "REFERRAL_CODES_PER_ADDRESS", global = true, value_name = "LIMITS", value_parser = limits)]
    codes_per_address: Option<Limits>,
    /// Codes for one number range (numbers that differ only in the last three digits) that did not lead to a
    /// sign-in. One address gets a third of them [default: 10/1h; development: off]
    #[arg(long, env = "REFERRAL_CODES_PER_NUMBER_RANGE", global = true, value_name = "LIMITS", value_parser = limits)]
    codes_per_number_range: Option<Limits>,
    /// Wrong codes from one address, except attempts at a code that is redeemed later [default:
    /// 20/1h,60/24h; development: off]
    #[arg(long, env = "REFERRAL_FAILED_ATTEMPTS_PER_ADDRESS", global = true, value_name = "LIMITS", value_parser = limits)]
    failed_attempts_per_address: Option<Limits>,
    /// Attempts to sign in with a phone that has no valid code, from one address [default: 200/1h;
    /// development: off]
    #[arg(long, env = "REFERRAL_ATTEMPTS_WITHOUT_CHALLENGE", global = true, value_name = "LIMITS", value_parser = limits)]
    attempts_without_challenge: Option<Limits>,
    /// Profile changes with an email address, for each user [default: 10/1h; development: off]
    #[arg(long, env = "REFERRAL_EMAIL_CHANGES", global = true, value_name = "LIMITS", value_parser = limits)]
    email_changes: Option<Limits>,
    /// Unknown invite codes, for each phone and each address [default: 10/1h; development: off]
    #[arg(long, env = "REFERRAL_UNKNOWN_INVITE_CODES", global = true, value_name = "LIMITS", value_parser = limits)]
    unknown_invite_codes: Option<Limits>,
    /// Steps that increase the code length after wrong codes for a phone [default: 5:6,30:8; strict: 30:8;
    /// development: off]
    #[arg(long, env = "REFERRAL_CODE_LENGTH_STEPS", global = true, value_name = "FAILURES:DIGITS,…", value_parser = code_length_steps)]
    code_length_steps: Option<Steps>,
    /// Number of wrong codes after which a phone gets no more codes, or off [default: off; strict: 100]
    #[arg(long, env = "REFERRAL_LOCKOUT_THRESHOLD", global = true, value_name = "FAILURES", value_parser = number_or_off)]
    lockout_threshold: Option<Number>,
    /// Time for which a wrong code counts for --code-length-steps and --lockout-threshold, 1 to 366 days [default: 31d]
    #[arg(long, env = "REFERRAL_FAILED_ATTEMPT_WINDOW", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    failed_attempt_window: Option<Duration>,
    /// Number of wrong codes in ten minutes above which the whole service counts as under attack, if they are
    /// also more than three times the usual number, or off [default: 50; strict: 200; development: off]
    #[arg(long, env = "REFERRAL_ATTACK_THRESHOLD", global = true, value_name = "FAILURES", value_parser = number_or_off)]
    attack_threshold: Option<Number>,
    /// Smallest number of digits of codes while the service is under attack. Shorter codes are invalid
    /// [default: 6]
    #[arg(long, env = "REFERRAL_ATTACK_CODE_LENGTH", global = true, value_name = "DIGITS", value_parser = clap::value_parser!(u8).range(4..=10))]
    attack_code_length: Option<u8>,
    /// Messages of the whole service in a day, or unlimited. One address without a sign-in gets a twentieth
    /// of them, at least three [default: unlimited; strict: must be set]
    #[arg(long, env = "REFERRAL_MESSAGES_PER_DAY", global = true, value_name = "NUMBER", value_parser = budget)]
    messages_per_day: Option<Budget>,
    /// Difference between the clocks of this host and of PostgreSQL above which this host is not ready, 1
    /// second to 5 minutes, or off [default: 5s]
    #[arg(long, env = "REFERRAL_MAX_CLOCK_OFFSET", global = true, value_name = "TIME", value_parser = time_or_off)]
    max_clock_offset: Option<Time>,
    /// Regions that codes are sent to, such as RU,KZ, or all [default: all; strict: must be set]
    #[arg(long, env = "REFERRAL_REGIONS", global = true, value_name = "REGIONS", value_parser = regions)]
    regions: Option<Regions>,
}

/// A number, or `None` for `off`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number(pub(crate) Option<u32>);

/// A duration, or `None` for `off`.
#[derive(Clone, Copy, Debug)]
struct Time(Option<Duration>);

/// Steps that increase the code length.
#[derive(Clone, Debug)]
struct Steps(Vec<CodeLengthStep>);

impl LimitSettings {
    /// Replaces the limits of the policy with those that were given.
    pub(crate) fn set(&self, policy: &mut Policy) {
        for (limits, given) in [
            (&mut policy.codes_per_phone, &self.codes_per_phone),
            (&mut policy.codes_per_phone_and_address, &self.codes_per_phone_and_address),
            (&mut policy.codes_per_address, &self.codes_per_address),
            (&mut policy.codes_per_number_range, &self.codes_per_number_range),
            (&mut policy.failed_attempts_per_address, &self.failed_attempts_per_address),
            (&mut policy.attempts_without_challenge, &self.attempts_without_challenge),
            (&mut policy.email_changes, &self.email_changes),
            (&mut policy.unknown_invite_codes, &self.unknown_invite_codes),
        ] {
            if let Some(given) = given {
                limits.clone_from(given);
            }
        }
        if let Some(Steps(steps)) = &self.code_length_steps {
            policy.code_length_steps.clone_from(steps);
        }
        if let Some(Number(failures)) = self.lockout_threshold {
            policy.lockout_threshold = failures;
        }
        if let Some(Number(failures)) = self.attack_threshold {
            policy.attack_threshold = failures;
        }
        if let Some(Time(max)) = self.max_clock_offset {
            policy.max_clock_offset = max;
        }
        policy.failed_attempt_window = self.failed_attempt_window.unwrap_or(policy.failed_attempt_window);
        policy.attack_code_length = self.attack_code_length.unwrap_or(policy.attack_code_length);
        policy.messages_per_day = self.messages_per_day.or(policy.messages_per_day);
        if self.regions.is_some() {
            policy.regions.clone_from(&self.regions);
        }
    }
}

fn is_off(input: &str) -> bool {
    input.eq_ignore_ascii_case("off")
}

fn limits(input: &str) -> Result<Limits, String> {
    if is_off(input) {
        return Ok(Limits::off());
    }
    let read = |limit: &str| {
        let (count, per) = limit.split_once('/')?;
        Some((count.trim().parse().ok()?, humantime::parse_duration(per.trim()).ok()?))
    };
    let limits: Option<Vec<_>> = input.split(',').map(read).collect();
    let limits = limits.ok_or_else(|| "give limits such as 3/15m,5/1h, or off".to_owned())?;
    Limits::new(limits).map_err(|_| "a limit must be 1 to 1000 in 1 second to 31 days".to_owned())
}

fn time_or_off(input: &str) -> Result<Time, String> {
    if is_off(input) {
        return Ok(Time(None));
    }
    let time = humantime::parse_duration(input).map_err(|_| "give a time such as 5s, or off".to_owned())?;
    Ok(Time(Some(time)))
}

fn code_length_steps(input: &str) -> Result<Steps, String> {
    if is_off(input) {
        return Ok(Steps(Vec::new()));
    }
    let read = |step: &str| {
        let (failures, code_length) = step.split_once(':')?;
        Some(CodeLengthStep {
            failed_attempts: failures.trim().parse().ok()?,
            code_length: code_length.trim().parse().ok()?,
        })
    };
    let steps: Option<Vec<_>> = input.split(',').map(read).collect();
    steps.map(Steps).ok_or_else(|| "give steps such as 5:6,30:8, or off".to_owned())
}

pub(crate) fn number_or_off(input: &str) -> Result<Number, String> {
    if is_off(input) {
        return Ok(Number(None));
    }
    let number = input.trim().parse().map_err(|_| "give a number, or off".to_owned())?;
    Ok(Number(Some(number)))
}

fn budget(input: &str) -> Result<Budget, String> {
    if input.eq_ignore_ascii_case("unlimited") || is_off(input) {
        return Ok(Budget::Unlimited);
    }
    input.trim().parse().map(Budget::Messages).map_err(|_| "give a number, or unlimited".to_owned())
}

fn regions(input: &str) -> Result<Regions, String> {
    if input.eq_ignore_ascii_case("all") {
        return Ok(Regions::All);
    }
    let regions: Result<_, _> =
        input.split(',').map(|region| Region::parse(region)?.require_mobile_numbers()).collect();
    regions.map(Regions::Only).map_err(|invalid| invalid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_parsed() {
        let read = limits("3/15m, 5/1h,10/24h").expect("limits");
        assert_eq!(read, Policy::standard().codes_per_phone);
        assert_eq!(limits("OFF"), Ok(Limits::off()));
        for input in ["", "3", "3/", "/1h", "3/1x", "-3/1h", "3/1h,", "3/1h;4/2h"] {
            assert!(limits(input).is_err(), "{input}");
        }
    }

    #[test]
    fn steps_numbers_budgets_and_regions_are_parsed() {
        assert_eq!(code_length_steps("5:6,30:8").expect("steps").0, Policy::standard().code_length_steps);
        assert!(code_length_steps("5-6").is_err());
        assert_eq!(number_or_off("off").expect("none").0, None);
        assert_eq!(number_or_off("200").expect("a number").0, Some(200));
        assert!(number_or_off("many").is_err());
        assert_eq!(time_or_off("Off").expect("none").0, None);
        assert_eq!(time_or_off("2s").expect("a time").0, Some(Duration::from_secs(2)));
        assert!(time_or_off("2").is_err());
        assert_eq!(budget("1000"), Ok(Budget::Messages(1_000)));
        assert_eq!(budget("unlimited"), Ok(Budget::Unlimited));
        assert_eq!(regions("all"), Ok(Regions::All));
        assert!(matches!(regions("RU, kz"), Ok(Regions::Only(regions)) if regions.len() == 2));
        assert!(regions("RU,Narnia").is_err());
    }
}
