//! Parsing of JSON bodies field by field, so that one response names all invalid fields.

use std::{fmt, marker::PhantomData};

use poem::{FromRequest, Request, RequestBody, http::header, web::headers::ContentType};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaMediaType, MetaRequest, Registry},
    types::Type,
};
use referral_core::{
    InvalidInput,
    texts::{Detail, Text},
};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{
    error::{FieldError, FieldErrors, Problem, shown_name},
    error_code::ErrorCode,
};

/// JSON body that the OpenAPI document describes as a `T`.
pub(crate) struct Body<T> {
    /// Fields as the client sent them.
    pub(crate) fields: Fields,
    document: PhantomData<T>,
}

/// Fields of a body. A field is removed when it is read.
pub(crate) struct Fields {
    values: Map<String, Value>,
    errors: FieldErrors,
}

/// Error of an invalid field. [`Fields::finish`] returns the details before this error is used.
#[derive(Debug)]
pub(crate) struct Wrong;

impl From<Wrong> for Problem {
    fn from(_: Wrong) -> Self {
        Self::new(ErrorCode::ValidationFailed)
    }
}

impl Fields {
    fn parse(body: &[u8]) -> Result<Self, Problem> {
        // Some clients send a byte order mark. A parser may ignore it (RFC 8259, section 8.1).
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        match serde_json::from_slice(body) {
            Ok(UniqueKeys(Value::Object(values))) => Ok(Self { values, errors: FieldErrors::new() }),
            Ok(_) => Err(Problem::with_detail(ErrorCode::MalformedJson, Text::JsonObjectExpected)),
            Err(error) => {
                let text = if error.is_data() { Text::JsonDuplicateKey } else { Text::JsonSyntax };
                let detail = Detail::from(text)
                    .with("line", error.line() as u64)
                    .with("column", error.column() as u64);
                Err(Problem::with_detail(ErrorCode::MalformedJson, detail))
            }
        }
    }

    /// Reads a required field.
    pub(crate) fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Value) -> Result<T, FieldError>,
    ) -> Result<T, Wrong> {
        match self.values.remove(name) {
            Some(value) => self.record(name, read(&value)),
            None => self.record(name, Err(ErrorCode::Required.into())),
        }
    }

    /// Reads an optional field.
    pub(crate) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Value) -> Result<T, FieldError>,
    ) -> Result<Option<T>, Wrong> {
        match self.values.remove(name) {
            Some(value) => self.record(name, read(&value).map(Some)),
            None => Ok(None),
        }
    }

    fn record<T>(&mut self, name: &str, read: Result<T, FieldError>) -> Result<T, Wrong> {
        read.map_err(|error| {
            self.errors.entry(name.to_owned()).or_default().push(error);
            Wrong
        })
    }

    /// Finishes the parsing. Fields that were not read are unknown.
    ///
    /// # Errors
    ///
    /// Returns a problem with the errors of all fields.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        // The number of the names is limited, because the response contains them.
        for name in self.values.keys().take(20) {
            self.errors.entry(shown_name(name)).or_default().push(ErrorCode::UnknownField.into());
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::of_fields(self.errors)) }
    }
}

/// Returns a parser of a JSON string, which applies `read` to its text.
pub(crate) fn text<T>(
    read: impl FnOnce(&str) -> Result<T, InvalidInput>,
) -> impl FnOnce(&Value) -> Result<T, FieldError> {
    |value| match value {
        Value::String(text) => read(text).map_err(FieldError::from),
        _ => Err(FieldError::new(ErrorCode::WrongType, Text::StringExpected)),
    }
}

/// Returns a parser of a JSON object, which applies `read` to its fields.
pub(crate) fn object<T>(
    read: impl FnOnce(Map<String, Value>) -> Result<T, InvalidInput>,
) -> impl FnOnce(&Value) -> Result<T, FieldError> {
    |value| match value {
        Value::Object(fields) => read(fields.clone()).map_err(FieldError::from),
        _ => Err(FieldError::new(ErrorCode::WrongType, Text::ObjectExpected)),
    }
}

/// Parses a JSON boolean.
pub(crate) fn boolean(value: &Value) -> Result<bool, FieldError> {
    value.as_bool().ok_or_else(|| FieldError::new(ErrorCode::WrongType, Text::BooleanExpected))
}

/// Parses a token. Whether it is valid is checked later.
pub(crate) fn token(value: &Value) -> Result<String, FieldError> {
    let token = text(|token| Ok(token.trim().to_owned()))(value)?;
    if token.is_empty() {
        return Err(FieldError::new(ErrorCode::Required, Text::TokenRequired));
    }
    if token.chars().any(char::is_control) {
        return Err(FieldError::new(ErrorCode::InvalidText, Text::ControlCharacters));
    }
    Ok(token)
}

/// Parses a JSON `null`, which clears a field.
pub(crate) fn null(value: &Value) -> Result<(), FieldError> {
    if value.is_null() { Ok(()) } else { Err(FieldError::new(ErrorCode::WrongType, Text::NullExpected)) }
}

/// Returns a parser that reads `null` as `None`.
pub(crate) fn nullable<T>(
    read: impl FnOnce(&Value) -> Result<T, FieldError>,
) -> impl FnOnce(&Value) -> Result<Option<T>, FieldError> {
    |value| if value.is_null() { Ok(None) } else { read(value).map(Some) }
}

/// Returns a parser that reads `null` and the empty string as `None`.
pub(crate) fn blank_or<T>(
    read: impl FnOnce(&Value) -> Result<T, FieldError>,
) -> impl FnOnce(&Value) -> Result<Option<T>, FieldError> {
    |value| match value.as_str().map(str::trim) {
        Some("") => Ok(None),
        _ => nullable(read)(value),
    }
}

impl<'a, T: Type> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: "application/json", schema: T::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        if !is_json(request) {
            return Err(Problem::new(ErrorCode::UnsupportedMediaType).into());
        }
        let body = <Vec<u8> as FromRequest>::from_request(request, body).await?;
        Ok(Self { fields: Fields::parse(&body)?, document: PhantomData })
    }
}

/// Returns `true` if the headers declare a JSON body in UTF-8 without compression or another encoding.
fn is_json(request: &Request) -> bool {
    if request.headers().get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return false;
    }
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let mime = content_type.and_then(|value| value.parse::<ContentType>().ok()).map(mime::Mime::from);
    mime.is_some_and(|mime| {
        let charset = mime.get_param(mime::CHARSET);
        mime.essence_str() == "application/json" && charset.is_none_or(|charset| charset == mime::UTF_8)
    })
}

/// JSON value without duplicate keys in any of its objects, at any depth.
///
/// Some parsers use the first value of a duplicate key, others the last. So a proxy that checks a request
/// could see another value than this server.
struct UniqueKeys(Value);

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueKeysVisitor).map(Self)
    }
}

struct UniqueKeysVisitor;

impl<'de> Visitor<'de> for UniqueKeysVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(UniqueKeys(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if values.contains_key(&key) {
                // The parser adds the line and column.
                return Err(de::Error::custom("duplicate key"));
            }
            let UniqueKeys(value) = entries.next_value()?;
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::parse(json.as_bytes()).expect("an object")
    }

    fn word(input: &str) -> Result<String, InvalidInput> {
        if input.is_empty() {
            Err(referral_core::ErrorCode::InvalidName.into())
        } else {
            Ok(input.to_owned())
        }
    }

    #[test]
    fn absent_null_and_blank_fields_are_distinguished() {
        let mut body = fields(r#"{"null": null, "blank": " ", "word": "x"}"#);
        assert_eq!(body.optional("absent", nullable(text(word))).expect("valid"), None);
        assert_eq!(body.optional("null", nullable(text(word))).expect("valid"), Some(None));
        assert_eq!(body.optional("blank", blank_or(text(word))).expect("valid"), Some(None));
        assert_eq!(body.required("word", blank_or(text(word))).expect("valid"), Some("x".into()));
        assert!(body.finish().is_ok());
    }

    #[test]
    fn all_invalid_fields_are_in_one_problem() {
        let mut body = fields(r#"{"empty": "", "number": 1, "other": true}"#);
        let _ = body.required("empty", text(word));
        let _ = body.required("number", text(word));
        let _ = body.required("missing", text(word));
        let problem = body.finish().expect_err("invalid").to_string();
        assert!(problem.starts_with("validation_failed"), "{problem}");
    }

    #[test]
    fn bodies_that_are_not_an_object_are_rejected() {
        let deep = "[".repeat(10_000);
        for body in [
            "",
            "[]",
            "null",
            "1",
            "{",
            "{\"a\":\"\\ud800\"}",
            "\u{feff}",
            "\u{feff}\u{feff}{}",
            " \u{feff}{}",
            &deep,
        ] {
            assert!(Fields::parse(body.as_bytes()).is_err(), "{body:.20}");
        }
        assert!(Fields::parse(b"{\"a\": \"\xff\"}").is_err());
    }

    #[test]
    fn a_byte_order_mark_before_the_body_is_skipped() {
        let body = fields("\u{feff}{\"word\": \"x\"}");
        assert_eq!(body.values["word"], "x");
    }

    #[test]
    fn duplicate_keys_are_rejected_at_any_depth_with_their_position() {
        for (body, place) in [
            (r#"{"a": 1, "a": 1}"#, "line 1, column 12"),
            ("{\"a\": 1,\n \"b\": 2,\n \"a\": null}", "line 3, column 4"),
            (r#"{"a": 1, "\u0061": 2}"#, "line 1, column 17"),
            (r#"{"x": {"a": 1, "a": 2}}"#, "line 1, column 18"),
            (r#"{"x": [[{"y": {"": 1, "": 2}}]]}"#, "line 1, column 24"),
        ] {
            let problem = Fields::parse(body.as_bytes()).err().expect(body).to_string();
            assert!(problem.starts_with("malformed_json") && problem.contains(place), "{body}: {problem}");
            assert!(problem.contains("same key twice"), "{problem}");
        }
        for body in [r#"{"a": {"a": {"a": 1}}}"#, r#"{"x": [{"a": 1}, {"a": 1}]}"#, r#"{"a": 1, "A": 1}"#] {
            assert!(Fields::parse(body.as_bytes()).is_ok(), "{body}");
        }
    }

    #[test]
    fn all_kinds_of_values_are_parsed() {
        let body =
            r#"{"a":null,"b":true,"c":-1,"d":18446744073709551615,"e":1.5,"f":"\u00e9","g":[1,{"h":[]}]}"#;
        let expected: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(Value::Object(fields(body).values), expected);
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(Fields::parse(nested(100).as_bytes()).is_ok());
        let problem = Fields::parse(nested(10_000).as_bytes()).err().expect("too deep").to_string();
        assert!(problem.contains("not valid JSON"), "{problem}");
    }
}
