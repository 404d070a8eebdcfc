//! Request to verify a token, and its response.

use poem_openapi::{Object, types::Example};
use referral_core::{TokenKind, texts::Text};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    api::{examples, timestamp::Timestamp},
    error::FieldError,
    error_code::ErrorCode,
};

/// Request to verify a token.
#[derive(Object)]
#[oai(example)]
pub(super) struct VerifyRequest {
    /// The token.
    #[oai(validator(min_length = 1))]
    token: String,
    /// The required type of the token. If it is absent, both types are accepted.
    #[oai(skip_serializing_if_is_none)]
    token_type: Option<TokenType>,
}

impl Example for VerifyRequest {
    fn example() -> Self {
        Self { token: examples::TOKEN.into(), token_type: None }
    }
}

/// Type of a token.
#[derive(poem_openapi::Enum, Serialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(super) enum TokenType {
    Access,
    Refresh,
}

impl From<TokenKind> for TokenType {
    fn from(kind: TokenKind) -> Self {
        match kind {
            TokenKind::Access => Self::Access,
            TokenKind::Refresh => Self::Refresh,
        }
    }
}

/// Content of a valid token.
#[derive(Object, Serialize)]
#[oai(example)]
pub(super) struct VerifiedToken {
    /// The type of the token.
    token_type: TokenType,
    /// The id of the user that the token belongs to.
    user_id: Uuid,
    /// The id of the session that the token belongs to.
    session_id: Uuid,
    /// The time at which the token expires.
    expires_at: Timestamp,
}

impl From<referral_core::VerifiedToken> for VerifiedToken {
    fn from(token: referral_core::VerifiedToken) -> Self {
        Self {
            token_type: token.kind.into(),
            user_id: token.user.0,
            session_id: token.session.0,
            expires_at: token.expires_at.into(),
        }
    }
}

impl Example for VerifiedToken {
    fn example() -> Self {
        Self {
            token_type: TokenType::Access,
            user_id: examples::USER_ID,
            session_id: examples::SESSION_ID,
            expires_at: examples::TIME,
        }
    }
}

/// Parses a token type. An empty string counts as absent.
pub(super) fn read_kind(value: &Value) -> Result<Option<TokenKind>, FieldError> {
    match value.as_str() {
        Some("") => Ok(None),
        Some("access") => Ok(Some(TokenKind::Access)),
        Some("refresh") => Ok(Some(TokenKind::Refresh)),
        Some(_) => Err(FieldError::from(ErrorCode::InvalidTokenType)),
        None => Err(FieldError::new(ErrorCode::WrongType, Text::StringExpected)),
    }
}
