//! Reading JSON bodies field by field, so that one answer names everything that is wrong.

use std::{fmt, marker::PhantomData};

use poem::{FromRequest, Request, RequestBody, http::header, web::headers::ContentType};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaMediaType, MetaRequest, Registry},
    types::Type,
};
use referral_core::Invalid;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{
    code::Code,
    problem::{FieldErrors, Problem},
};

/// A body that the document describes as a `T`.
pub(crate) struct Body<T> {
    /// The fields as they came.
    pub(crate) fields: Fields,
    document: PhantomData<T>,
}

/// The fields of a body, each taken out as it is read.
pub(crate) struct Fields {
    values: Map<String, Value>,
    errors: FieldErrors,
}

/// A field that was wrong. [`Fields::finish`] has told so by the time this could be asked for.
#[derive(Debug)]
pub(crate) struct Wrong;

impl From<Wrong> for Problem {
    fn from(_: Wrong) -> Self {
        Self::new(Code::ValidationFailed)
    }
}

impl Fields {
    fn parse(body: &[u8]) -> Result<Self, Problem> {
        // RFC 8259, section 8.1, lets a parser ignore it, and some clients send it.
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        match serde_json::from_slice(body) {
            Ok(UniqueKeys(Value::Object(values))) => Ok(Self { values, errors: FieldErrors::new() }),
            Ok(_) => Err(Problem::with_detail(Code::MalformedJson, "The body must be a JSON object.")),
            Err(error) => {
                let place = format!("line {}, column {}", error.line(), error.column());
                let detail = if error.is_data() {
                    format!("An object in the body has the same key twice ({place}). Send each key once.")
                } else {
                    format!("The body is not valid JSON ({place}).")
                };
                Err(Problem::with_detail(Code::MalformedJson, detail))
            }
        }
    }

    /// A field that must be there.
    pub(crate) fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Value) -> Result<T, Invalid>,
    ) -> Result<T, Wrong> {
        match self.values.remove(name) {
            Some(value) => self.note(name, read(&value)),
            None => self.note(name, Err(Invalid::new("required", "This field must be given."))),
        }
    }

    /// A field that may be absent.
    pub(crate) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Value) -> Result<T, Invalid>,
    ) -> Result<Option<T>, Wrong> {
        match self.values.remove(name) {
            Some(value) => self.note(name, read(&value).map(Some)),
            None => Ok(None),
        }
    }

    fn note<T>(&mut self, name: &str, read: Result<T, Invalid>) -> Result<T, Wrong> {
        read.map_err(|invalid| {
            self.errors.entry(name.to_owned()).or_default().push(invalid.into());
            Wrong
        })
    }

    /// Ends the reading: whatever has not been read is not known.
    ///
    /// # Errors
    ///
    /// Everything that was wrong.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        // Long names and many of them would only be sent back.
        for name in self.values.keys().take(20) {
            let name = name.chars().filter(|c| !c.is_control()).take(64).collect();
            let unknown = Invalid::new("unknown_field", "This field is not known here, or not yours to set.");
            self.errors.entry(name).or_default().push(unknown.into());
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::of_fields(self.errors)) }
    }
}

/// Reads a string, and what it stands for.
pub(crate) fn text<T>(
    read: impl FnOnce(&str) -> Result<T, Invalid>,
) -> impl FnOnce(&Value) -> Result<T, Invalid> {
    |value| match value {
        Value::String(text) => match read(text) {
            Ok(_) if text.chars().any(char::is_control) => {
                Err(Invalid::new("invalid_text", "Leave out the control characters."))
            }
            read => read,
        },
        _ => Err(Invalid::new("wrong_type", "This must be a string.")),
    }
}

/// Reads `null` as nothing.
pub(crate) fn nullable<T>(
    read: impl FnOnce(&Value) -> Result<T, Invalid>,
) -> impl FnOnce(&Value) -> Result<Option<T>, Invalid> {
    |value| if value.is_null() { Ok(None) } else { read(value).map(Some) }
}

/// Reads `null` and the empty string as nothing.
pub(crate) fn blank_or<T>(
    read: impl FnOnce(&Value) -> Result<T, Invalid>,
) -> impl FnOnce(&Value) -> Result<Option<T>, Invalid> {
    |value| match value.as_str().map(|text| text.trim_matches(' ')) {
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
            let detail = "Send the body as `application/json`, in UTF-8 and not compressed.";
            return Err(Problem::with_detail(Code::UnsupportedMediaType, detail).into());
        }
        let body = <Vec<u8> as FromRequest>::from_request(request, body).await?;
        Ok(Self { fields: Fields::parse(&body)?, document: PhantomData })
    }
}

/// Whether the body is JSON in UTF-8, neither compressed nor encoded otherwise.
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

/// A JSON value none of whose objects has a key twice, at any depth.
///
/// Of such a key some parsers take the first value and others the last. So a proxy that checks a request
/// could see another one than this server.
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
                // The parser adds the place.
                return Err(de::Error::custom("a key twice"));
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

    fn word(input: &str) -> Result<String, Invalid> {
        if input.is_empty() { Err(Invalid::new("empty", "empty")) } else { Ok(input.to_owned()) }
    }

    #[test]
    fn absent_null_and_blank_are_told_apart() {
        let mut body = fields(r#"{"null": null, "blank": " ", "word": "x"}"#);
        assert_eq!(body.optional("absent", nullable(text(word))).expect("fine"), None);
        assert_eq!(body.optional("null", nullable(text(word))).expect("fine"), Some(None));
        assert_eq!(body.optional("blank", blank_or(text(word))).expect("fine"), Some(None));
        assert_eq!(body.required("word", blank_or(text(word))).expect("fine"), Some("x".into()));
        assert!(body.finish().is_ok());
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let mut body = fields(r#"{"empty": "", "number": 1, "other": true}"#);
        let _ = body.required("empty", text(word));
        let _ = body.required("number", text(word));
        let _ = body.required("missing", text(word));
        let problem = body.finish().expect_err("wrong").to_string();
        assert!(problem.starts_with("validation_failed"), "{problem}");
    }

    #[test]
    fn what_is_no_object_is_refused() {
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
    fn a_key_that_is_there_twice_is_refused_at_any_depth_with_its_place() {
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
    fn all_kinds_of_values_are_read_as_they_are() {
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
