//! Data of the host about a user.

use std::{fmt, str::FromStr, sync::Arc};

use serde_json::{Map, Number, Value};

use crate::{
    error::{catalog::ErrorCode, input::InvalidInput},
    texts::Text,
};

/// Data of the host about a user: a JSON object of at most 4096 bytes.
///
/// The keys of all objects are sorted, and the text has no white space between values. So two equal objects
/// have the same text, and the text that [`Display`](fmt::Display) writes parses to the same object:
///
/// ```
/// let metadata: referral_core::Metadata = r#"{ "plan": "gold", "beta": true }"#.parse()?;
/// assert_eq!(metadata.to_string(), r#"{"beta":true,"plan":"gold"}"#);
/// # Ok::<(), referral_core::InvalidInput>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata(Arc<Map<String, Value>>);

/// Magnitude from which a number that is not an integer of 64 bits is rejected: 2^53. From here on, numbers
/// of double precision do not have all integers.
const FIRST_INEXACT: f64 = 9_007_199_254_740_992.0;

impl Metadata {
    /// Largest size of the text in bytes. Every response with the user contains it.
    pub const MAX_BYTES: usize = 4096;

    /// Largest number of nested objects and arrays, with the outermost object. Parsers of JSON limit it too,
    /// the usual ones to 64 or more.
    pub const MAX_DEPTH: usize = 32;

    /// Creates metadata from a JSON object.
    ///
    /// # Errors
    ///
    /// `invalid_metadata` if
    /// - its text has more than 4096 bytes,
    /// - it has more than 32 nested objects and arrays,
    /// - a text or a key has the character U+0000, which not every database can store,
    /// - a number is not an integer of 64 bits, and its magnitude is 2^53 or more. Such a number could be
    ///   rounded to another integer.
    pub fn new(object: Map<String, Value>) -> Result<Self, InvalidInput> {
        let mut object = Value::Object(object);
        if !is_storable(&object, Self::MAX_DEPTH) {
            return Err(ErrorCode::InvalidMetadata.into());
        }
        object.sort_all_objects();
        let Value::Object(object) = object else { return Err(ErrorCode::InvalidMetadata.into()) };
        let metadata = Self(object.into());
        if metadata.to_string().len() > Self::MAX_BYTES {
            return Err(InvalidInput::with_text(ErrorCode::InvalidMetadata, Text::MetadataTooLong));
        }
        Ok(metadata)
    }

    /// Creates metadata from their stored text.
    ///
    /// # Errors
    ///
    /// `invalid_metadata` if the text is not a JSON object. Such a text is never stored. The limits of
    /// [`new`](Self::new) do not apply, since the host can write the text with SQL. But numbers must be in
    /// the range of double precision, and at most 127 objects and arrays can be nested.
    pub fn from_stored(stored: &str) -> Result<Self, InvalidInput> {
        // Most users have no metadata.
        if stored == "{}" {
            return Ok(Self::default());
        }
        let object = serde_json::from_str(stored).map_err(|_| ErrorCode::InvalidMetadata)?;
        Ok(Self(Arc::new(object)))
    }

    /// Returns the object.
    #[must_use]
    pub fn as_object(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Returns the object.
    #[must_use]
    pub fn into_object(self) -> Map<String, Value> {
        Arc::unwrap_or_clone(self.0)
    }

    /// Returns `true` if the object has no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns `true` if every storage keeps the value and all values in it, and at most `depth` objects and
/// arrays are nested.
fn is_storable(value: &Value, depth: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::Number(number) => is_exact(number),
        Value::String(text) => !text.contains('\0'),
        Value::Array(_) | Value::Object(_) if depth == 0 => false,
        Value::Array(values) => values.iter().all(|value| is_storable(value, depth - 1)),
        Value::Object(object) => {
            object.iter().all(|(key, value)| !key.contains('\0') && is_storable(value, depth - 1))
        }
    }
}

/// Returns `true` if the number was not rounded to another integer.
fn is_exact(number: &Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|number| number.abs() < FIRST_INEXACT)
}

/// Parses the text of a JSON object, with the errors of [`Metadata::new`]. If an object has a key twice, the
/// last value is used.
impl FromStr for Metadata {
    type Err = InvalidInput;

    fn from_str(text: &str) -> Result<Self, InvalidInput> {
        serde_json::from_str(text).map_err(|_| ErrorCode::InvalidMetadata.into()).and_then(Self::new)
    }
}

/// Creates metadata from a JSON value, with the errors of [`Metadata::new`], or `invalid_metadata` if it is
/// not an object.
impl TryFrom<Value> for Metadata {
    type Error = InvalidInput;

    fn try_from(value: Value) -> Result<Self, InvalidInput> {
        match value {
            Value::Object(object) => Self::new(object),
            _ => Err(ErrorCode::InvalidMetadata.into()),
        }
    }
}

/// Writes the text of the object without white space between values.
impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.as_object()).map_err(|_| fmt::Error)?)
    }
}

/// Shows no values, since the values can be private.
impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metadata(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<Metadata, InvalidInput> {
        text.parse()
    }

    #[test]
    fn objects_are_kept_in_their_shortest_form() {
        for (text, stored) in [
            ("{}", "{}"),
            (" { } ", "{}"),
            (r#"{"b": 1, "a": {"d": [ ], "c": null}}"#, r#"{"a":{"c":null,"d":[]},"b":1}"#),
            (r#"{"a":[{"c":1,"b":2}]}"#, r#"{"a":[{"b":2,"c":1}]}"#),
            (r#"{"text":"\u0416\ud83d\ude42\\u0000\u0001"}"#, r#"{"text":"Ж🙂\\u0000\u0001"}"#),
            (r#"{"":"","a":1,"a":2}"#, r#"{"":"","a":2}"#),
            (
                r#"{"id":18446744073709551615,"least":-9223372036854775808}"#,
                r#"{"id":18446744073709551615,"least":-9223372036854775808}"#,
            ),
            (r#"{"n":[1.50,1e3,-0.0,0.1,5e-324]}"#, r#"{"n":[1.5,1000.0,-0.0,0.1,5e-324]}"#),
            (r#"{"n":122.416294033786585}"#, r#"{"n":122.41629403378658}"#),
        ] {
            let metadata = parse(text).expect(text);
            assert_eq!(metadata.to_string(), stored);
            assert_eq!(parse(stored).as_ref(), Ok(&metadata));
            assert_eq!(Metadata::from_stored(stored), Ok(metadata));
        }
    }

    #[test]
    fn values_that_are_no_object_are_rejected() {
        for text in
            ["", "null", "1", "[]", "\"{}\"", "{", "{}{}", "{\"a\":}", "{'a':1}", "\u{feff}{}", "{\"a\":NaN}"]
        {
            assert_eq!(parse(text).expect_err(text).code(), ErrorCode::InvalidMetadata);
            assert!(Metadata::from_stored(text).is_err(), "{text}");
        }
        assert!(Metadata::try_from(json!([])).is_err() && Metadata::try_from(json!({})).is_ok());
    }

    #[test]
    fn size_is_limited_to_4096_bytes() {
        let of_size = |size: usize| json!({"a": "x".repeat(size - r#"{"a":""}"#.len())});
        assert_eq!(Metadata::try_from(of_size(4096)).expect("short enough").to_string().len(), 4096);
        let error = Metadata::try_from(of_size(4097)).expect_err("too long");
        assert!(error.to_string().contains("too long"), "{error}");
        // Bytes are counted, not characters, and escapes as they are stored.
        assert!(Metadata::try_from(json!({"a": "ж".repeat(2045)})).is_err());
        assert!(Metadata::try_from(json!({"a": "\n".repeat(2045)})).is_err());
        let spaces = format!("{{{}}}", " ".repeat(10_000));
        assert!(parse(&spaces).is_ok(), "white space is not stored");
    }

    #[test]
    fn depth_is_limited_to_32() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(31)).is_ok());
        assert!(parse(&nested(32)).is_err());
        assert!(parse(&nested(100_000)).is_err());
        let mut deep = json!({});
        for _ in 0..32 {
            deep = json!({"a": deep});
        }
        assert!(Metadata::try_from(deep).is_err());
    }

    #[test]
    fn nul_is_rejected_in_texts_and_keys() {
        for text in [r#"{"a":"\u0000"}"#, r#"{"\u0000":1}"#, r#"{"a":[{"b":"x\u0000"}]}"#] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(r#"{"a":"\\u0000"}"#).is_ok(), "a backslash and five characters");
    }

    #[test]
    fn numbers_that_would_be_rounded_are_rejected() {
        for number in [
            "18446744073709551616",
            "9007199254740992.0",
            "-9223372036854775809",
            "9007199254740993.0",
            "1e16",
            "1e308",
        ] {
            assert!(parse(&format!("{{\"a\":{number}}}")).is_err(), "{number}");
        }
        for number in ["9007199254740993", "9007199254740991.0", "-9007199254740991.0", "1e15"] {
            assert!(parse(&format!("{{\"a\":{number}}}")).is_ok(), "{number}");
        }
    }

    #[test]
    fn debug_output_has_no_value() {
        assert_eq!(format!("{:?}", parse(r#"{"a":1}"#)), "Ok(Metadata(…))");
    }

    proptest! {
        #[test]
        fn numbers_are_kept(number in -FIRST_INEXACT..FIRST_INEXACT) {
            let metadata = Metadata::try_from(json!({"n": number})).expect("in range");
            let text = metadata.to_string();
            let again = parse(&text).expect("its own text");
            prop_assert_eq!(again.to_string(), text);
            prop_assert_eq!(again.as_object()["n"].as_f64(), Some(number));
        }
    }
}
