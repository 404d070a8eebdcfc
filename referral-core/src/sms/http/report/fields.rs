//! Fields of a request: names and values in the query and the body.

use std::borrow::Cow;

use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use super::ReportRequest;
use crate::sms::http::selector::{Pointer, scalar};

pub(super) type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Fields of the query and the body. Invalid UTF-8 is replaced.
pub(super) struct Fields<'a> {
    pub(super) query: Pairs<'a>,
    pub(super) body: Body<'a>,
}

pub(super) enum Body<'a> {
    Empty,
    Form(Pairs<'a>),
    Json(Value),
}

impl<'a> Fields<'a> {
    /// Parses the fields of a request. Returns `None` if the body cannot be parsed.
    pub(super) fn of(request: &ReportRequest<'a>) -> Option<Self> {
        let query = request.url.split_once('?').map_or("", |(_, query)| query);
        let content_type = request.headers.get(CONTENT_TYPE).map_or(Some(""), |value| value.to_str().ok())?;
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let body = match &*media_type {
            _ if request.body.is_empty() => Body::Empty,
            "" | "application/x-www-form-urlencoded" => Body::Form(pairs(request.body)),
            "application/json" => Body::Json(serde_json::from_slice(request.body).ok()?),
            _ => return None,
        };
        Some(Self { query: pairs(query.as_bytes()), body })
    }

    /// Returns the value with this name or at this JSON pointer. It is searched in the body, or in the query
    /// if the body is empty.
    pub(super) fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        match &self.body {
            Body::Json(json) => in_json(json, name),
            Body::Form(pairs) => only(pairs, name).map(Cow::Borrowed),
            Body::Empty => only(&self.query, name).map(Cow::Borrowed),
        }
    }

    /// Returns all names and values, if every value is a scalar.
    pub(super) fn all(&self) -> Option<Vec<(&str, Cow<'_, str>)>> {
        let pairs = match &self.body {
            Body::Json(json) => {
                let fields = json.as_object()?.iter();
                return fields.map(|(name, value)| Some((&**name, scalar(value)?))).collect();
            }
            Body::Form(pairs) => pairs,
            Body::Empty => &self.query,
        };
        Some(pairs.iter().map(|(name, value)| (&**name, Cow::Borrowed(&**value))).collect())
    }

    /// Returns the values with this name and any index, such as `data[0]`, in the order of the request.
    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        let pairs = match &self.body {
            Body::Json(_) => return Vec::new(),
            Body::Form(pairs) => pairs,
            Body::Empty => &self.query,
        };
        let is_item = |item: &str| item.strip_prefix(name).is_some_and(|index| index.starts_with('['));
        pairs.iter().filter(|(item, _)| is_item(item)).map(|(_, value)| &**value).collect()
    }
}

fn pairs(text: &[u8]) -> Pairs<'_> {
    form_urlencoded::parse(text).collect()
}

/// Returns the value with this name. If there are several, the result is `None`, since it is unknown which of
/// them is meant.
pub(super) fn only<'p>(pairs: &'p Pairs<'_>, name: &str) -> Option<&'p str> {
    let mut values = pairs.iter().filter(|(known, _)| known == name).map(|(_, value)| &**value);
    values.next().filter(|_| values.next().is_none())
}

/// Returns the value of a member of a JSON object, or at a JSON pointer.
pub(super) fn in_json<'j>(json: &'j Value, name: &str) -> Option<Cow<'j, str>> {
    scalar(match Pointer::parse(name) {
        Some(pointer) => pointer.find(json)?,
        None => json.get(name)?,
    })
}
