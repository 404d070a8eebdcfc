//! Custom claims: data of the embedding service in access tokens.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};

use crate::{
    error::{catalog::ErrorCode, input::InvalidInput},
    session::SessionId,
    user::User,
};

/// Largest size in bytes of custom claims, as JSON with their name.
///
/// In base64, the claims have 2 731 bytes. With the other parts, the token has at most 4 096 bytes in most
/// configurations, which is the size up to which this service reads tokens. Such a token fits into one cookie
/// (RFC 6265, section 6.1), and into a half of the 8 KiB that nginx and Apache accept for one header.
pub(crate) const MAX_CLAIMS_BYTES: usize = 2_048;

/// Largest size in bytes of the name of custom claims. A name is repeated in each access token, and usual
/// names have 20 to 40 bytes.
const MAX_NAME_BYTES: usize = 255;

/// Custom claims of [issued tokens](super::IssuedTokens): the JSON object with one member that an access
/// token has in addition to its other claims. The text is kept, so that the same bytes can be signed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomClaims(String);

impl CustomClaims {
    /// Restores claims from their [text](Self::as_str).
    ///
    /// # Errors
    ///
    /// If no claims have this text.
    pub fn from_stored(text: &str) -> Result<Self, InvalidInput> {
        let claims = Self(text.to_owned());
        let is_one_member = claims.members().is_ok_and(|members| members.len() == 1);
        if is_one_member && text.len() <= MAX_CLAIMS_BYTES {
            Ok(claims)
        } else {
            Err(InvalidInput::new(
                ErrorCode::ValidationFailed,
                "The stored text is not that of custom claims.",
            ))
        }
    }

    /// Returns the text of a JSON object. It has at most 2 048 bytes, and no control characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the member of the object with the exact text of its value.
    pub(super) fn members(&self) -> serde_json::Result<BTreeMap<String, &RawValue>> {
        serde_json::from_str(&self.0)
    }

    fn new(name: &str, mut value: Value) -> Result<Self, ClaimsError> {
        // Another crate may have enabled the feature of `serde_json` that keeps the order of insertion.
        value.sort_all_objects();
        let text = serde_json::to_string(&BTreeMap::from([(name, value)]))?;
        if text.len() > MAX_CLAIMS_BYTES {
            return Err(ClaimsError::TooLarge { bytes: text.len() });
        }
        // A parser limits the depth, and a serializer does not.
        serde_json::from_str::<Map<String, Value>>(&text)?;
        Ok(Self(text))
    }
}

/// Error of the function that [`ReferralServiceBuilder::claims`](crate::ReferralServiceBuilder::claims) sets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimsError {
    /// The value cannot be serialized to JSON, or has more than 127 levels.
    #[error("custom claims must be a JSON value")]
    NotJson(#[from] serde_json::Error),
    /// The claims are too large for a token.
    #[error("custom claims must have at most {MAX_CLAIMS_BYTES} bytes as JSON with their name, not {bytes}")]
    TooLarge {
        /// Size in bytes.
        bytes: usize,
    },
    /// The function panicked.
    #[error("the function of the custom claims panicked")]
    Panicked,
}

type ValueFn = dyn Fn(&User, SessionId) -> serde_json::Result<Value> + Send + Sync;

/// Function that returns the custom claims of a user and a session.
#[derive(Clone)]
pub(crate) struct ClaimsFn {
    name: Arc<str>,
    value: Arc<ValueFn>,
}

impl fmt::Debug for ClaimsFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClaimsFn").field(&self.name).finish()
    }
}

impl ClaimsFn {
    pub(crate) fn new<C: Serialize>(
        name: String,
        claims: impl Fn(&User, SessionId) -> C + Send + Sync + 'static,
    ) -> Self {
        let value = move |user: &User, session| serde_json::to_value(claims(user, session));
        Self { name: name.into(), value: Arc::new(value) }
    }

    /// Returns `true` if the name is a URI (RFC 3986). The names of all other claims are words without a
    /// colon, so no present or future claim has this name. RFC 7519, section 4.2, recommends such names.
    pub(crate) fn has_valid_name(&self) -> bool {
        let is_of_scheme = |character: char| character.is_ascii_alphanumeric() || "+-.".contains(character);
        let is_of_uri = |character: char| character.is_ascii_graphic() && !r#""<>\^`{|}"#.contains(character);
        self.name.len() <= MAX_NAME_BYTES
            && self.name.split_once(':').is_some_and(|(scheme, rest)| {
                scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                    && scheme.chars().all(is_of_scheme)
                    && !rest.is_empty()
                    && rest.chars().all(is_of_uri)
            })
    }

    /// Calls the function. A value of `null` means no claims.
    pub(crate) fn call(&self, user: &User, session: SessionId) -> Result<Option<CustomClaims>, ClaimsError> {
        // The storage holds locks, which a panic must not leave in place.
        let value = catch_unwind(AssertUnwindSafe(|| (self.value)(user, session)));
        match value.map_err(|_| ClaimsError::Panicked)?? {
            Value::Null => Ok(None),
            value => CustomClaims::new(&self.name, value).map(Some),
        }
    }

    /// Returns claims of the largest size.
    pub(crate) fn largest(&self) -> Result<CustomClaims, ClaimsError> {
        let others = r#"{"":""}"#.len() + self.name.len();
        CustomClaims::new(&self.name, "x".repeat(MAX_CLAIMS_BYTES.saturating_sub(others)).into())
    }
}

#[cfg(test)]
mod tests;
