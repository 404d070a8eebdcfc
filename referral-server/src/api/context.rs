//! Context of a request for the gate.

use std::collections::BTreeMap;

use referral_core::gate::Context;
use serde_json::Value;

use crate::error::FieldError;

/// Type of a context in the OpenAPI document.
pub(super) type ContextObject = BTreeMap<String, Value>;

/// Parses a context. `null` counts as absent.
pub(super) fn read_context(value: &Value) -> Result<Context, FieldError> {
    if value.is_null() { Ok(Context::default()) } else { Ok(Context::try_from(value.clone())?) }
}
