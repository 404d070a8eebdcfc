//! One-time codes: drawn, typed back, and kept only as a keyed hash.

use std::{borrow::Cow, fmt};

use zeroize::Zeroizing;

use crate::{Invalid, phone::decimal_digit, random::Random};

/// The lengths that a code may have, in digits. Below four, three tries would find one code in
/// 333; above ten, nobody types it.
pub const CODE_LENGTHS: std::ops::RangeInclusive<u8> = 4..=10;

/// A code to be sent. Whoever sees it can sign in, so nothing shows it but
/// [`reveal`](Self::reveal).
#[derive(Clone)]
pub struct SmsCode(Zeroizing<String>);

impl SmsCode {
    /// A code that is known beforehand, to try out a gateway with.
    #[must_use]
    pub fn known(digits: impl Into<String>) -> Self {
        Self(Zeroizing::new(digits.into()))
    }

    pub(crate) fn draw(random: &dyn Random, length: u8) -> Self {
        Self(Zeroizing::new(random.digits(length)))
    }

    /// A code of the first `length` digits, which are as random as all of them.
    pub(crate) fn first(&self, length: u8) -> Self {
        Self(Zeroizing::new(self.0[..usize::from(length)].to_owned()))
    }

    /// The digits, for the message.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SmsCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmsCode(…)")
    }
}

/// A code as somebody gave it back.
#[derive(Clone)]
pub struct CodeInput {
    digits: Zeroizing<String>,
    /// Given as a number, which has lost its leading zeros.
    is_number: bool,
}

impl CodeInput {
    /// Reads what somebody typed: digits of any script, with spaces and dashes.
    ///
    /// # Errors
    ///
    /// `malformed_code` if there is anything else, no digit or more than ten.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new("malformed_code", "A code has digits only, ten at most.");

        let mut digits = Zeroizing::new(String::with_capacity(10));
        for c in input.chars().filter(|c| {
            !matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
        }) {
            if digits.len() == usize::from(*CODE_LENGTHS.end()) {
                return Err(invalid());
            }
            digits.push(decimal_digit(c).ok_or_else(invalid)?);
        }
        if digits.is_empty() {
            return Err(invalid());
        }
        Ok(Self { digits, is_number: false })
    }

    /// Takes a code that a client sent as a number: zeros are put back in front until it has
    /// the length of the code it is compared with.
    ///
    /// # Errors
    ///
    /// `malformed_code` if it has more than ten digits.
    pub fn from_number(number: u64) -> Result<Self, Invalid> {
        let input = Self::parse(&number.to_string())?;
        Ok(Self { is_number: true, ..input })
    }

    /// The digits to compare with a code of `length` digits.
    pub(crate) fn for_length(&self, length: u8) -> Cow<'_, str> {
        let width = usize::from(length);
        if self.is_number && self.digits.len() < width {
            Cow::Owned(format!("{:0>width$}", *self.digits))
        } else {
            Cow::Borrowed(&self.digits)
        }
    }
}

impl fmt::Debug for CodeInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeInput(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_type_them() {
        for (input, digits) in [
            ("0123", "0123"),
            (" 01-23 ", "0123"),
            ("0 1 2 3", "0123"),
            ("０１２３", "0123"),
            ("٠١٢٣", "0123"),
            ("1", "1"),
        ] {
            assert_eq!(CodeInput::parse(input).expect(input).for_length(4), digits);
        }
    }

    #[test]
    fn a_number_gets_its_leading_zeros_back() {
        let code = CodeInput::from_number(42).expect("two digits");
        assert_eq!(code.for_length(4), "0042");
        assert_eq!(code.for_length(6), "000042");
        let code = CodeInput::from_number(12_345).expect("five digits");
        assert_eq!(code.for_length(4), "12345");
    }

    #[test]
    fn anything_else_is_refused() {
        for input in ["", " ", "12a4", "12345678901", "1\u{0}234", "+123", "½½½½", &"1".repeat(1_000_000)]
        {
            assert!(CodeInput::parse(input).is_err(), "{input:.20}");
        }
        assert!(CodeInput::from_number(u64::MAX).is_err());
    }

    #[test]
    fn debug_shows_nothing() {
        let code = CodeInput::parse("4711").expect("four digits");
        assert!(!format!("{code:?}").contains("4711"));
    }
}
