//! Locations of values in the responses and reports of a gateway.

use std::borrow::Cow;

use regex::Regex;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// JSON pointer (RFC 6901), in which `*` is the first member or element.
#[derive(Clone)]
pub(super) struct Pointer(Vec<String>);

impl Pointer {
    /// Parses a pointer, which starts with `/`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let steps = text.strip_prefix('/')?.split('/');
        Some(Self(steps.map(|step| step.replace("~1", "/").replace("~0", "~")).collect()))
    }

    pub(super) fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(value, |value, step| match value {
            Value::Object(fields) if step == "*" => fields.values().next(),
            Value::Object(fields) => fields.get(step),
            Value::Array(items) if step == "*" => items.first(),
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("a JSON pointer must start with /"))
    }
}

/// Regular expression.
#[derive(Clone)]
pub(super) struct Pattern(pub(super) Regex);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Regex::new(&String::deserialize(deserializer)?).map(Self).map_err(de::Error::custom)
    }
}

/// Returns the text of a string, a number or a boolean.
pub(super) fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string().into()),
        _ => None,
    }
}
