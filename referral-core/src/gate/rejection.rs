//! Rejection of a request by the host.

use crate::text::{has_control, has_visible};

/// Code and text with which the host rejects a request. The client receives both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    code: Box<str>,
    detail: Box<str>,
}

/// Error of an invalid [`Rejection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRejection {
    /// The code is invalid.
    #[error(
        "the code of a rejection must have 1 to 64 of the characters a-z, 0-9 and _, and start with a letter"
    )]
    Code,
    /// The text is invalid.
    #[error("the text of a rejection must have 1 to 500 characters, and no control characters")]
    Detail,
}

impl Rejection {
    /// Maximum number of characters of a code. The longest error code of the service has 27.
    pub const MAX_CODE_CHARS: usize = 64;

    /// Maximum number of characters of a text: sufficient for two long sentences.
    pub const MAX_DETAIL_CHARS: usize = 500;

    /// Creates a rejection with a code in `snake_case`, on which clients branch, and a text for people.
    ///
    /// # Errors
    ///
    /// [`InvalidRejection`] if the code is not in `snake_case` or is too long, or if the text is empty, too
    /// long or has control characters.
    pub fn new(code: impl Into<String>, detail: impl Into<String>) -> Result<Self, InvalidRejection> {
        let (code, detail) = (code.into(), detail.into());
        let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if code.len() > Self::MAX_CODE_CHARS
            || !code.starts_with(|first: char| first.is_ascii_lowercase())
            || !code.bytes().all(is_part)
        {
            return Err(InvalidRejection::Code);
        }
        if !has_visible(&detail) || detail.chars().count() > Self::MAX_DETAIL_CHARS || has_control(&detail) {
            return Err(InvalidRejection::Detail);
        }
        Ok(Self { code: code.into(), detail: detail.into() })
    }

    /// Returns the code of the host.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Returns the text for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_snake_case_and_short() {
        let long = "a".repeat(64);
        for code in ["a", "captcha_required", "r2d2", &long] {
            assert_eq!(Rejection::new(code, "No.").expect("valid").code(), code);
        }
        let too_long = "a".repeat(65);
        for code in ["", "_a", "2a", "Captcha", "a-b", "a b", "a\n", "a\0", "é", "код", &too_long] {
            assert_eq!(Rejection::new(code, "No."), Err(InvalidRejection::Code), "{code:?}");
        }
    }

    #[test]
    fn texts_are_visible_and_short() {
        for detail in ["Нет.", &"é".repeat(500)] {
            assert_eq!(Rejection::new("a", detail).expect("valid").detail(), detail);
        }
        for detail in ["", " ", "\u{200b}", "a\nb", "a\0", "\u{1b}[31m", &"é".repeat(501)] {
            assert_eq!(Rejection::new("a", detail), Err(InvalidRejection::Detail), "{detail:?}");
        }
    }
}
