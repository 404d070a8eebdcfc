//! Error of input that does not parse.

use std::borrow::Cow;

use super::catalog::ErrorCode;

/// Error of an input that failed to parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct InvalidInput {
    code: ErrorCode,
    detail: Cow<'static, str>,
}

impl InvalidInput {
    /// Creates an error with a code for programs and a `detail` for people. The detail states what is wrong
    /// and what to do. It must not repeat the input.
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// Returns the code of the error.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }
}

/// Returns the error with the message of its code.
impl From<ErrorCode> for InvalidInput {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.message())
    }
}

/// Parses the id of a user, a session or a challenge.
pub(crate) fn parse_id(input: &str) -> Result<uuid::Uuid, InvalidInput> {
    uuid::Uuid::try_parse(input).map_err(|_| ErrorCode::InvalidId.into())
}
