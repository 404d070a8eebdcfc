//! Times in responses.

use std::borrow::Cow;

use poem_openapi::{
    registry::MetaSchemaRef,
    types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::Value;
use time::{OffsetDateTime, UtcOffset, format_description::BorrowedFormatItem, macros::format_description};

/// RFC 3339 in UTC, always with six digits of the fraction: clients with a fixed pattern fail if the number
/// of digits depends on the value.
const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// Time in a response, such as `2026-11-22T10:15:30.123456Z`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamp(pub(crate) OffsetDateTime);

impl From<OffsetDateTime> for Timestamp {
    fn from(time: OffsetDateTime) -> Self {
        Self(time)
    }
}

impl Type for Timestamp {
    const IS_REQUIRED: bool = true;

    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        OffsetDateTime::name()
    }

    fn schema_ref() -> MetaSchemaRef {
        OffsetDateTime::schema_ref()
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.to_offset(UtcOffset::UTC).format(FORMAT).map_err(S::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

/// Examples in the document are written like responses.
impl ToJSON for Timestamp {
    fn to_json(&self) -> Option<Value> {
        serde_json::to_value(self).ok()
    }
}

/// Objects with a time require this, although no request has one.
impl ParseFromJSON for Timestamp {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        OffsetDateTime::parse_from_json(value).map(Self).map_err(ParseError::propagate)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn every_time_has_six_digits_of_the_fraction_in_utc() {
        for (time, text) in [
            (datetime!(2026-11-29 10:15:30.118370 UTC), "2026-11-29T10:15:30.118370Z"),
            (datetime!(2026-11-29 10:15:30 UTC), "2026-11-29T10:15:30.000000Z"),
            (datetime!(2026-11-29 13:15:30.1234567 +3), "2026-11-29T10:15:30.123456Z"),
        ] {
            assert_eq!(Timestamp(time).to_json(), Some(text.into()));
        }
    }
}
