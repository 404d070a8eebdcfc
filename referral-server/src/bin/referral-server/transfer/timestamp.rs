//! Times in files and in the JSON of commands.

use time::{
    OffsetDateTime, UtcOffset, format_description::BorrowedFormatItem,
    format_description::well_known::Rfc3339, macros::format_description,
};

/// RFC 3339 in UTC with microseconds, as in responses of the API.
const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// Formats a time. All times of users have a year of four digits.
pub(crate) fn format(time: OffsetDateTime) -> String {
    time.to_offset(UtcOffset::UTC).format(FORMAT).unwrap_or_default()
}

/// Parses a time of RFC 3339, or in the form of PostgreSQL (`2026-11-22 10:15:30.123456+00`). Digits after
/// the microseconds are dropped.
pub(crate) fn parse(text: &str) -> Option<OffsetDateTime> {
    let mut text = text.trim().to_owned();
    if text.get(10..11) == Some(" ") {
        text.replace_range(10..11, "T");
    }
    // PostgreSQL omits the minutes of the offset if they are 0.
    if text.len() > 3 && matches!(text.as_bytes()[text.len() - 3], b'+' | b'-') {
        text.push_str(":00");
    }
    let time = OffsetDateTime::parse(&text, &Rfc3339).ok()?.to_offset(UtcOffset::UTC);
    let is_formattable = (0..=9_999).contains(&time.year());
    time.replace_nanosecond(time.nanosecond() / 1_000 * 1_000).ok().filter(|_| is_formattable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_any_offset_and_microseconds() {
        for (text, expected) in [
            ("2026-11-22T10:15:30.123456Z", "2026-11-22T10:15:30.123456Z"),
            ("2026-11-22T13:15:30.1234567+03:00", "2026-11-22T10:15:30.123456Z"),
            ("2026-11-22t10:15:30z", "2026-11-22T10:15:30.000000Z"),
            ("2026-11-22 10:15:30.5+00", "2026-11-22T10:15:30.500000Z"),
            ("2026-11-22 15:45:30+05:30", "2026-11-22T10:15:30.000000Z"),
            ("2026-11-22 02:15:30-08", "2026-11-22T10:15:30.000000Z"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        ] {
            let time = parse(text).expect(text);
            assert_eq!(format(time), expected);
            assert_eq!(parse(&format(time)), Some(time));
        }
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T10:15:30",
            "infinity",
            "2026-13-01T00:00:00Z",
            "0000-01-01T00:00:00+14:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
