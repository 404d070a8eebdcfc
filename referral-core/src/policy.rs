//! The numbers of the service, each with its default and its reason.

use std::time::Duration;

use crate::{Invalid, phone::Region, sms_code::CODE_LENGTHS};

/// Every number that the rules depend on. Start from one of the three policies and change what
/// must differ; [`check`](Self::check) says whether the result makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// The digits of a code. Four are a convenience outside NIST SP 800-63B-4 (section 3.1.3.2)
    /// and OWASP ASVS 5.0 (6.6), which ask for six.
    pub code_length: u8,
    /// How long a code lives. NIST SP 800-63B-4, section 3.1.3.2, allows ten minutes at most.
    pub code_lifetime: Duration,
    /// Wrong tries after which a code is dead; for requests that name the challenge's id and for
    /// those that do not, each.
    pub tries_per_code: u32,
    /// How long to wait between two codes for one phone, unless it signs in before.
    pub cool_down: Duration,
    /// Whether a sign-in must name the id of its challenge. It keeps a stranger, who knows only
    /// the phone, from using up tries, but older clients do not send it.
    pub require_challenge: bool,
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
    /// Where a phone number without its country code is taken to belong.
    pub default_region: Option<Region>,
    /// Who sees whose phone and e-mail address.
    pub visibility: Visibility,
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
const DAY: Duration = Duration::from_hours(24);

impl Policy {
    /// What fits most services: four digits.
    #[must_use]
    pub const fn standard() -> Self {
        Self {
            code_length: 4,
            code_lifetime: Duration::from_mins(5),
            tries_per_code: 3,
            cool_down: MINUTE,
            require_challenge: false,
            access_lifetime: Duration::from_mins(15),
            refresh_lifetime: Duration::from_hours(30 * 24),
            session_lifetime: Duration::from_hours(180 * 24),
            refresh_grace: Duration::from_secs(30),
            default_region: None,
            visibility: Visibility::Full,
        }
    }

    /// Six digits, as NIST SP 800-63B-4, section 3.1.3.2, asks, and the challenge's id.
    #[must_use]
    pub const fn strict() -> Self {
        Self { code_length: 6, tries_per_code: 5, require_challenge: true, ..Self::standard() }
    }

    /// For trying things out: no waiting between two codes.
    #[must_use]
    pub const fn development() -> Self {
        Self { cool_down: Duration::ZERO, ..Self::standard() }
    }

    /// Whether the numbers make sense together.
    ///
    /// # Errors
    ///
    /// `invalid_policy`, with a sentence that names the number and its bounds.
    pub fn check(&self) -> Result<(), Invalid> {
        let no = |detail: &'static str| Err(Invalid::new("invalid_policy", detail));

        if !CODE_LENGTHS.contains(&self.code_length) {
            return no("A code has 4 to 10 digits.");
        }
        if !(MINUTE..=10 * MINUTE).contains(&self.code_lifetime) {
            return no("A code lives 1 to 10 minutes.");
        }
        if !(1..=10).contains(&self.tries_per_code) {
            return no("A code has 1 to 10 tries.");
        }
        if self.cool_down > DAY {
            return no("The time between two codes for one phone is a day at most.");
        }
        let of_tokens = [self.access_lifetime, self.refresh_lifetime, self.session_lifetime];
        if of_tokens.iter().any(|lifetime| lifetime.subsec_nanos() != 0) {
            return no("Tokens and sessions last whole seconds.");
        }
        if self.access_lifetime < Duration::from_secs(1) || self.access_lifetime > DAY {
            return no("An access token is valid for 1 second to 1 day.");
        }
        if self.refresh_lifetime < self.access_lifetime {
            return no("A refresh token is valid for no shorter a time than an access token.");
        }
        if self.session_lifetime < self.refresh_lifetime || self.session_lifetime > 3_660 * DAY {
            return no("A session lives as long as a refresh token or longer, ten years at most.");
        }
        if self.refresh_grace > 10 * MINUTE {
            return no("The grace for an exchanged refresh token is 10 minutes at most.");
        }
        Ok(())
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::standard()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_policies_make_sense() {
        for policy in [Policy::standard(), Policy::strict(), Policy::development()] {
            assert_eq!(policy.check(), Ok(()));
        }
    }

    #[test]
    fn numbers_out_of_bounds_are_refused() {
        let standard = Policy::standard;
        for policy in [
            Policy { code_length: 3, ..standard() },
            Policy { code_length: 11, ..standard() },
            Policy { code_lifetime: Duration::ZERO, ..standard() },
            Policy { code_lifetime: 11 * MINUTE, ..standard() },
            Policy { tries_per_code: 0, ..standard() },
            Policy { cool_down: 2 * DAY, ..standard() },
            Policy { access_lifetime: Duration::ZERO, ..standard() },
            Policy { access_lifetime: Duration::from_millis(1_500), ..standard() },
            Policy { refresh_lifetime: MINUTE, ..standard() },
            Policy { session_lifetime: DAY, ..standard() },
            Policy { session_lifetime: Duration::MAX, refresh_lifetime: Duration::MAX, ..standard() },
            Policy { refresh_grace: DAY, ..standard() },
        ] {
            assert!(policy.check().is_err(), "{policy:?}");
        }
    }
}
