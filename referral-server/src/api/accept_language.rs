//! Parsing of the header `Accept-Language`.

use std::cmp::Reverse;

use poem::{
    FromRequest, Request, RequestBody, Result,
    http::{HeaderMap, header},
};
use referral_core::sms::Locale;

/// Maximum number of languages that are parsed. Browsers send a few.
const MAX_LANGUAGES: usize = 16;

/// Extractor of the languages that the client accepts, in the order of preference.
pub(crate) struct AcceptLanguage(pub(crate) Vec<Locale>);

impl<'a> FromRequest<'a> for AcceptLanguage {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(Self(languages(request.headers())))
    }
}

/// Returns the languages in the headers. Entries that cannot be parsed and `*`, which names no language, are
/// skipped.
pub(crate) fn languages(headers: &HeaderMap) -> Vec<Locale> {
    let lines = headers.get_all(header::ACCEPT_LANGUAGE).iter();
    let entries = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let mut languages: Vec<_> = entries.take(MAX_LANGUAGES).filter_map(language).collect();
    languages.sort_by_key(|(_, quality)| Reverse(*quality));
    languages.into_iter().map(|(locale, _)| locale).collect()
}

/// Parses an entry such as `ru-RU` or `en;q=0.8` into a language and its quality in thousandths. Returns
/// `None` also for a language that the client rejects.
fn language(entry: &[u8]) -> Option<(Locale, u16)> {
    let entry = str::from_utf8(entry).ok()?;
    let (range, weight) =
        entry.split_once(';').map_or((entry, None), |(range, weight)| (range, Some(weight)));
    let locale = Locale::parse(range.trim_matches([' ', '\t'])).ok()?;
    let quality = weight.map_or(Some(1000), quality)?;
    (quality > 0).then_some((locale, quality))
}

/// Parses a weight such as `q=0.8` with at most three decimals into thousandths.
fn quality(weight: &str) -> Option<u16> {
    let (name, value) = weight.trim_matches([' ', '\t']).split_once('=')?;
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    let is_weight = name.eq_ignore_ascii_case("q")
        && matches!(whole, "0" | "1")
        && decimals.len() <= 3
        && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let quality = format!("{whole}{decimals:0<3}").parse().ok()?;
    (is_weight && quality <= 1000).then_some(quality)
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    fn read(lines: &[&[u8]]) -> Vec<String> {
        let value = |line: &&[u8]| HeaderValue::from_bytes(line).expect("a value");
        let headers = lines.iter().map(|line| (header::ACCEPT_LANGUAGE, value(line))).collect();
        languages(&headers).iter().map(Locale::to_string).collect()
    }

    #[test]
    fn languages_are_ordered_by_preference() {
        for (header, expected) in [
            ("ru", &["ru"][..]),
            ("ru-RU,ru;q=0.9,en-US;q=0.8,en;q=0.7", &["ru-RU", "ru", "en-US", "en"]),
            ("en;q=0.7, kk;q=0.75, ru", &["ru", "kk", "en"]),
            ("en;q=0.5,ru;q=0.5,kk;q=0.500", &["en", "ru", "kk"]),
            ("en;q=0.001,ru;Q=1.000", &["ru", "en"]),
            (" ru\t;\tq=1. ,, en ", &["ru", "en"]),
            // Rejected by the client.
            ("en;q=0, ru;q=0.0, kk;q=0.000", &[]),
            // `*` means any language, so it names none.
            ("*", &[]),
            ("*, ru;q=0.5", &["ru"]),
            ("ru-*, en", &["en"]),
        ] {
            assert_eq!(read(&[header.as_bytes()]), expected, "{header}");
        }
    }

    #[test]
    fn header_lines_form_one_list() {
        assert_eq!(read(&[b"en;q=0.5", b"ru, kk;q=0.7"]), ["ru", "kk", "en"]);
        assert!(read(&[]).is_empty());
    }

    #[test]
    fn malformed_entries_are_skipped() {
        for entry in [
            "",
            " ",
            ";",
            "=",
            "q=1",
            "abcdefghi",
            "a b",
            "ru;",
            "ru;q",
            "ru;q=",
            "ru;q=2",
            "ru;q=1.001",
            "ru;q=-1",
            "ru;q=0.1234",
            "ru;q=.5",
            "ru;q=0..5",
            "ru;q=+0.5",
            "ru;q=nan",
            "ru;q=1e0",
            "ru;q = 1",
            "ru;q=1;q=0",
            "ru;level=1",
            "рус",
            "\"ru",
            "ru\u{a0}",
        ] {
            assert_eq!(read(&[format!("{entry}, en").as_bytes()]), ["en"], "{entry}");
        }
        assert_eq!(read(&[b"\xff\xfe, en;q=\xff, ru"]), ["ru"]);
    }

    #[test]
    fn a_long_header_is_parsed_up_to_a_limit() {
        let many: String = (0..100_000).map(|_| "ru,").collect();
        assert_eq!(read(&[many.as_bytes()]).len(), MAX_LANGUAGES);
        assert!(read(&["a".repeat(1_000_000).as_bytes()]).is_empty());
    }
}
