//! Test numbers: phones that sign in with a fixed code and get no messages.

use std::{fmt, str::FromStr};

use time::{Date, Duration, Month, OffsetDateTime};
use zeroize::Zeroizing;

use crate::{
    error::{catalog::ErrorCode, input::InvalidInput},
    otp::code::{CODE_LENGTHS, OneTimeCode},
    user::phone::PhoneNumber,
};

/// Phone with a fixed code until a given time, with which reviewers of an app store and end-to-end tests can
/// sign in. No message is sent to it.
///
/// The code is enough to sign in, so staff cannot sign in with it. Choose eight digits or more. Wrong codes
/// increase the required code length, so with the default policy five wrong codes from an attacker invalidate
/// a fixed code of four digits for a month.
#[derive(Clone, PartialEq, Eq)]
pub struct TestNumber {
    /// The phone. It may have any region and any line type, since no message is sent. The numbers that
    /// regulators reserve for fiction, such as +447700900123, belong to no other person.
    pub phone: PhoneNumber,
    /// Time from which the phone is a normal phone.
    pub until: OffsetDateTime,
    code: Zeroizing<String>,
}

impl TestNumber {
    /// Creates a test number from a phone, its code, and the time from which it is a normal phone.
    ///
    /// # Errors
    ///
    /// `invalid_test_number` if the code is not 4 to 10 digits.
    pub fn new(phone: PhoneNumber, code: &str, until: OffsetDateTime) -> Result<Self, InvalidInput> {
        let is_code =
            CODE_LENGTHS.contains(&length_of(code)) && code.bytes().all(|byte| byte.is_ascii_digit());
        if !is_code {
            return Err(invalid("The code of a test number must be 4 to 10 digits."));
        }
        Ok(Self { phone, until, code: Zeroizing::new(code.to_owned()) })
    }

    /// Returns the last day, in UTC, on which the phone is a test number.
    #[must_use]
    pub fn last_day(&self) -> Date {
        (self.until - Duration::NANOSECOND).date()
    }

    /// Returns the code.
    pub(crate) fn code(&self) -> OneTimeCode {
        OneTimeCode::from_static(&*self.code)
    }

    /// Returns the number of digits of the code.
    pub(crate) fn code_length(&self) -> u8 {
        length_of(&self.code)
    }
}

/// Parses `PHONE=CODE@DATE`, such as `+79608543017=47110815@2026-12-31`. The phone has the international
/// form. The date is the last day, which ends at midnight UTC.
impl FromStr for TestNumber {
    type Err = InvalidInput;

    fn from_str(input: &str) -> Result<Self, InvalidInput> {
        let (phone, code, date) = input
            .split_once('=')
            .and_then(|(phone, rest)| rest.split_once('@').map(|(code, date)| (phone, code, date)))
            .ok_or_else(|| invalid("Give PHONE=CODE@DATE, such as +79608543017=47110815@2026-12-31."))?;
        let last_day = parse_date(date.trim())
            .and_then(Date::next_day)
            .ok_or_else(|| invalid("Give the last day as a date, such as 2026-12-31."))?;
        Self::new(PhoneNumber::parse_possible(phone, None)?, code.trim(), last_day.midnight().assume_utc())
    }
}

/// Hides the code.
impl fmt::Debug for TestNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phone, until, .. } = self;
        f.debug_struct("TestNumber").field("phone", phone).field("until", until).finish_non_exhaustive()
    }
}

fn invalid(detail: &'static str) -> InvalidInput {
    InvalidInput::new(ErrorCode::InvalidTestNumber, detail)
}

/// Returns the length of a code, at most 255.
fn length_of(code: &str) -> u8 {
    u8::try_from(code.len()).unwrap_or(u8::MAX)
}

/// Parses a date such as `2026-12-31`.
fn parse_date(input: &str) -> Option<Date> {
    let is_form = input.bytes().enumerate().all(|(index, byte)| match index {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    if input.len() != "2026-12-31".len() || !is_form {
        return None;
    }
    let month = Month::try_from(input[5..7].parse::<u8>().ok()?).ok()?;
    Date::from_calendar_date(input[..4].parse().ok()?, month, input[8..].parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use time::macros::{date, datetime};

    use super::*;

    #[test]
    fn the_documented_form_is_parsed() {
        for input in ["+79608543017=47110815@2026-12-31", " +7 960 854-30-17 = 47110815 @ 2026-12-31 "] {
            let number: TestNumber = input.parse().expect(input);
            assert_eq!(number.phone.as_str(), "+79608543017");
            assert_eq!(number.code().reveal(), "47110815");
            assert_eq!(number.code_length(), 8);
            assert_eq!(number.until, datetime!(2027-01-01 0:00 UTC), "the end of the last day");
            assert_eq!(number.last_day(), date!(2026 - 12 - 31));
        }
    }

    #[test]
    fn other_input_is_rejected_and_the_error_does_not_repeat_it() {
        for input in [
            "",
            "+79608543017",
            "+79608543017=47110815",
            "+79608543017@2026-12-31=47110815",
            "+79608543017=471@2026-12-31",
            "+79608543017=47110815471@2026-12-31",
            "+79608543017=4711o815@2026-12-31",
            "+79608543017=４７１１@2026-12-31",
            "+79608543017=@2026-12-31",
            "+79608543017=47110815@2026-02-29",
            "+79608543017=47110815@2026-13-01",
            "+79608543017=47110815@31.12.2026",
            "+79608543017=47110815@2026-1-1",
            "+79608543017=47110815@+026-12-31",
            "+79608543017=47110815@9999-12-31",
            "+79608543017=47110815@2026-12-31Ж",
            "+79608543017=47110815@2026-12-3Ж",
            "89608543017=47110815@2026-12-31",
            "+7960854301=47110815@2026-12-31",
        ] {
            let error = input.parse::<TestNumber>().expect_err(input).to_string();
            // The example in the error is not the input.
            let rest = error.replace("+79608543017=47110815@2026-12-31", "").replace("+79608543017", "");
            assert!(!rest.contains("4711") && !rest.contains("9608543017"), "{error}");
        }
    }

    #[test]
    fn debug_output_hides_the_code_and_the_phone() {
        let number: TestNumber = "+79608543017=47110815@2026-12-31".parse().expect("valid");
        let shown = format!("{number:?}");
        assert!(!shown.contains("47110815") && !shown.contains("9608543017"), "{shown}");
    }
}
