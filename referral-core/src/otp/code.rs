//! One-time codes: generation, and parsing of codes that users type. `otp/challenge.rs` hashes
//! them with the peppers of `keys.rs`.

use std::{borrow::Cow, fmt};

use zeroize::Zeroizing;

use crate::{
    error::{catalog::ErrorCode, input::InvalidInput},
    random::Random,
    text::is_ignored_in_code,
    user::phone::decimal_digit,
};

/// Allowed lengths of a code, in digits. With three digits, three attempts would guess one code in 333. More
/// than ten digits are too many to type.
pub const CODE_LENGTHS: std::ops::RangeInclusive<u8> = 4..=10;

/// Code to send. It is enough to sign in, so only [`reveal`](Self::reveal) returns the digits.
#[derive(Clone)]
pub struct OneTimeCode(Zeroizing<String>);

impl OneTimeCode {
    /// Creates a code with known digits, for tests of a gateway.
    #[must_use]
    pub fn from_static(digits: impl Into<String>) -> Self {
        Self(Zeroizing::new(digits.into()))
    }

    pub(crate) fn generate(random: &dyn Random, length: u8) -> Self {
        Self(Zeroizing::new(random.digits(length)))
    }

    /// Returns a code with the first `length` digits, which are as random as all digits.
    pub(crate) fn first(&self, length: u8) -> Self {
        Self(Zeroizing::new(self.0[..usize::from(length)].to_owned()))
    }

    /// Returns the digits, for the message.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OneTimeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneTimeCode(…)")
    }
}

/// Code that a user typed.
#[derive(Clone)]
pub struct CodeInput {
    digits: Zeroizing<String>,
    /// `true` if the code was sent as a number, which has no leading zeros.
    is_number: bool,
}

impl CodeInput {
    /// Parses a code as people type or paste it: digits of any script. White space, invisible characters and
    /// punctuation are ignored.
    ///
    /// # Errors
    ///
    /// `malformed_code` if there are other characters, no digits or more than ten digits.
    pub fn parse(input: &str) -> Result<Self, InvalidInput> {
        let invalid = || InvalidInput::from(ErrorCode::MalformedCode);

        let mut digits = Zeroizing::new(String::with_capacity(10));
        for c in input.chars().filter(|c| !is_ignored_in_code(*c)) {
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

    /// Creates a code that a client sent as a number. Leading zeros are added up to the length of the code
    /// with which it is compared.
    ///
    /// # Errors
    ///
    /// `malformed_code` if the number has more than ten digits.
    pub fn from_number(number: u64) -> Result<Self, InvalidInput> {
        let input = Self::parse(&number.to_string())?;
        Ok(Self { is_number: true, ..input })
    }

    /// Returns `true` if the code has fewer digits than a code of `length` digits.
    pub(crate) fn is_shorter_than(&self, length: u8) -> bool {
        self.for_length(length).len() < usize::from(length)
    }

    /// Returns `true` if the code can be one of `length` digits.
    pub(crate) fn has_length(&self, length: u8) -> bool {
        self.for_length(length).len() == usize::from(length)
    }

    /// Returns the digits to compare with a code of `length` digits.
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
    fn codes_are_parsed_as_people_type_them() {
        for (input, digits) in [
            ("0123", "0123"),
            (" 01-23 ", "0123"),
            ("0 1 2 3", "0123"),
            ("０１２３", "0123"),
            ("٠١٢٣", "0123"),
            ("1", "1"),
            ("8221\n", "8221"),
            ("\u{200b}82\u{2011}21\u{feff}\r\n", "8221"),
            ("“82\u{3000}21”.", "8221"),
        ] {
            assert_eq!(CodeInput::parse(input).expect(input).for_length(4), digits);
        }
    }

    #[test]
    fn a_number_gets_leading_zeros() {
        let code = CodeInput::from_number(42).expect("two digits");
        assert_eq!(code.for_length(4), "0042");
        assert_eq!(code.for_length(6), "000042");
        let code = CodeInput::from_number(12_345).expect("five digits");
        assert_eq!(code.for_length(4), "12345");
    }

    #[test]
    fn other_input_is_rejected() {
        for input in ["", " ", "12a4", "12345678901", "1\u{0}234", "+123", "½½½½", &"1".repeat(1_000_000)]
        {
            assert!(CodeInput::parse(input).is_err(), "{input:.20}");
        }
        assert!(CodeInput::from_number(u64::MAX).is_err());
    }

    #[test]
    fn debug_output_hides_the_code() {
        let code = CodeInput::parse("4711").expect("four digits");
        assert!(!format!("{code:?}").contains("4711"));
    }
}
