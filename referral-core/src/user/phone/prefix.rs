//! Prefixes of numbers that an operator adds to the numbering plans.

use std::{fmt, str::FromStr};

use crate::error::{catalog::ErrorCode, input::InvalidInput};

/// First digits of mobile numbers that the numbering plans do not have yet, such as `+4915410`.
///
/// Regulators assign new ranges faster than the plans are released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberPrefix(String);

impl NumberPrefix {
    /// Parses a prefix in international form: `+` and 4 to 14 digits. Fewer digits would be whole countries.
    ///
    /// # Errors
    ///
    /// `invalid_phone` if the input does not have that form.
    pub fn parse(input: &str) -> Result<Self, InvalidInput> {
        let input = input.trim();
        let digits = input.strip_prefix('+').unwrap_or_default();
        if (4..=14).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(input.to_owned()))
        } else {
            let detail = "A prefix must be `+` and 4 to 14 digits, such as +4915410.";
            Err(InvalidInput::new(ErrorCode::InvalidPhone, detail))
        }
    }

    /// Returns `true` if a number in E.164 form starts with this prefix.
    pub(crate) fn is_of(&self, number: &str) -> bool {
        number.starts_with(&self.0)
    }
}

impl FromStr for NumberPrefix {
    type Err = InvalidInput;

    fn from_str(input: &str) -> Result<Self, InvalidInput> {
        Self::parse(input)
    }
}

impl fmt::Display for NumberPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_a_plus_and_four_to_fourteen_digits() {
        assert!(NumberPrefix::parse(" +4915410 ").is_ok());
        for input in ["", "+", "4915410", "+491", "+49154101234567890", "+4915x", "++4915410", "+4915 410"] {
            let error = NumberPrefix::parse(input).expect_err(input);
            assert_eq!(error.code(), ErrorCode::InvalidPhone);
        }
    }
}
