//! Error of input that does not parse.

use std::borrow::Cow;

use super::catalog::ErrorCode;
use crate::texts::{Detail, Text};

/// Error of an input that failed to parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct InvalidInput {
    code: ErrorCode,
    detail: Detail,
}

impl InvalidInput {
    /// Creates an error with a code for programs and an English `detail` for people. The detail states what is
    /// wrong and what to do. It must not repeat the input. In other languages, the text of the code replaces
    /// it.
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: Detail::english(code, detail.into()) }
    }

    /// Creates an error whose text is more precise than that of the code.
    pub(crate) fn with_text(code: ErrorCode, text: Text) -> Self {
        Self { code, detail: text.into() }
    }

    /// Returns the code of the error.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// Returns the text for people.
    #[must_use]
    pub fn detail(&self) -> &Detail {
        &self.detail
    }
}

/// Returns the error with the text of its code.
impl From<ErrorCode> for InvalidInput {
    fn from(code: ErrorCode) -> Self {
        Self::with_text(code, code.into())
    }
}

/// Parses the id of a user, a session or a challenge.
pub(crate) fn parse_id(input: &str) -> Result<uuid::Uuid, InvalidInput> {
    uuid::Uuid::try_parse(input).map_err(|_| ErrorCode::InvalidId.into())
}
