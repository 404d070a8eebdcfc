//! Ids that the host gives users.

use std::fmt;

use crate::{
    error::{catalog::ErrorCode, input::InvalidInput},
    text::has_control,
};

/// Id of a user in the system of the host: 1 to 255 bytes of text, compared exactly.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ExternalId(String);

impl ExternalId {
    /// Largest size of an id in bytes. Subjects of `OpenID` Connect have at most as many.
    pub const MAX_BYTES: usize = 255;

    /// Parses an id, which is kept unchanged: letter case and Unicode form count.
    ///
    /// # Errors
    ///
    /// `invalid_external_id` if it is empty or too long, or if it has control characters or white space at
    /// its start or end.
    pub fn parse(input: &str) -> Result<Self, InvalidInput> {
        if input.trim() == input && !has_control(input) {
            Self::from_stored(input)
        } else {
            Err(ErrorCode::InvalidExternalId.into())
        }
    }

    /// Creates an id from its stored form, unchanged.
    ///
    /// # Errors
    ///
    /// `invalid_external_id` if it is empty or too long. Such an id is never stored.
    pub fn from_stored(stored: &str) -> Result<Self, InvalidInput> {
        if (1..=Self::MAX_BYTES).contains(&stored.len()) {
            Ok(Self(stored.to_owned()))
        } else {
            Err(ErrorCode::InvalidExternalId.into())
        }
    }

    /// Returns the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExternalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Shows no value, since the host may use an email address or a phone.
impl fmt::Debug for ExternalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExternalId(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_unchanged() {
        for input in [
            "0",
            "42",
            "auth0|5f7c",
            "CN=Anna Ivanova,OU=Sales",
            "550E8400-E29B-41D4-A716-446655440000",
            "Анна",
            "e\u{301}",
            "NULL",
            "'; DROP TABLE users; --",
            &"x".repeat(255),
            &"ж".repeat(127),
        ] {
            let id = ExternalId::parse(input).expect(input);
            assert_eq!(id.as_str(), input);
            assert_eq!(ExternalId::from_stored(input), Ok(id));
        }
    }

    #[test]
    fn empty_long_and_blank_ids_are_rejected() {
        for input in [
            "",
            " ",
            " 42",
            "42 ",
            "\u{a0}42",
            "42\u{2028}",
            "4\n2",
            "4\u{0}2",
            "4\u{7f}2",
            "4\u{85}2",
            &"x".repeat(256),
            &"ж".repeat(128),
            &"x".repeat(10_000_000),
        ] {
            let error = ExternalId::parse(input).expect_err("invalid");
            assert_eq!(error.code(), ErrorCode::InvalidExternalId, "{input:.20}");
        }
        assert!(ExternalId::from_stored("").is_err());
        assert!(ExternalId::from_stored(&"x".repeat(256)).is_err());
    }

    #[test]
    fn ids_are_compared_exactly() {
        let id = |input| ExternalId::parse(input).expect("valid");
        assert_ne!(id("a"), id("A"));
        assert_ne!(id("\u{e9}"), id("e\u{301}"));
        assert_ne!(id("1"), id("01"));
    }

    #[test]
    fn debug_output_has_no_value() {
        assert_eq!(format!("{:?}", ExternalId::parse("anna@example.com")), "Ok(ExternalId(…))");
    }
}
