//! Context of a request for the gate.

use std::fmt;

use serde_json::{Map, Value};

use crate::error::{catalog::ErrorCode, input::InvalidInput};

/// JSON object that a request carries for the gate, such as the token of a captcha or the id of a device.
///
/// The service passes it to the gate only. It is neither stored nor logged, and its `Debug` output is
/// redacted. Without a gate it is ignored.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Context(Map<String, Value>);

impl Context {
    /// Maximum length in bytes, as JSON without white space. Tokens of known captcha providers have at most 2
    /// KiB.
    pub const MAX_BYTES: usize = 4096;

    /// Creates a context.
    ///
    /// # Errors
    ///
    /// `invalid_context` if the object is longer than [`MAX_BYTES`](Self::MAX_BYTES).
    pub fn new(object: Map<String, Value>) -> Result<Self, InvalidInput> {
        let length = serde_json::to_vec(&object).map(|json| json.len());
        if length.is_ok_and(|length| length <= Self::MAX_BYTES) {
            Ok(Self(object))
        } else {
            Err(ErrorCode::InvalidContext.into())
        }
    }

    /// Returns the value of a member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Returns the object.
    #[must_use]
    pub fn as_object(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl TryFrom<Value> for Context {
    type Error = InvalidInput;

    /// Creates a context from an object.
    ///
    /// # Errors
    ///
    /// `invalid_context` if the value is not an object, or is too long.
    fn try_from(value: Value) -> Result<Self, InvalidInput> {
        match value {
            Value::Object(object) => Self::new(object),
            _ => Err(ErrorCode::InvalidContext.into()),
        }
    }
}

/// Hides the content, which may be secret.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Context(…)")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_of_at_most_four_kib_is_a_context() {
        // `{"a":"…"}` has eight bytes besides the text.
        let of_length = |length: usize| Context::try_from(json!({ "a": "x".repeat(length - 8) }));
        assert!(of_length(Context::MAX_BYTES).is_ok());
        assert!(of_length(Context::MAX_BYTES + 1).is_err());
        // The length is that of the JSON text, in which a NUL has six bytes.
        assert!(Context::try_from(json!({ "a": "\0".repeat(1_000) })).is_err());
        assert_eq!(Context::try_from(json!({})), Ok(Context::default()));
        for other in [json!(null), json!([]), json!("{}"), json!(1), json!(true)] {
            let error = Context::try_from(other).expect_err("not an object");
            assert_eq!(error.code(), ErrorCode::InvalidContext);
        }
    }

    #[test]
    fn debug_output_hides_the_content() {
        let context = Context::try_from(json!({ "captcha": "secret" })).expect("valid");
        assert_eq!(format!("{context:?}"), "Context(…)");
    }
}
