//! Languages of messages, as BCP 47 tags.

use std::{borrow::Borrow, fmt, iter, str::FromStr};

use crate::error::{catalog::ErrorCode, input::InvalidInput};

/// Largest number of characters of a tag: the buffer size that RFC 5646 (4.4.1) recommends.
const MAX_LENGTH: usize = 35;

/// Language as a BCP 47 tag such as `ru`, `kk-Cyrl-KZ` or `pt-BR`. Only the form of the tag is checked, not
/// whether the language exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locale(String);

impl Locale {
    /// Parses a tag: subtags of 1 to 8 letters and digits, separated by `-` or `_`. The first subtag has
    /// letters only. Case is ignored.
    ///
    /// Identifiers of platforms are parsed without their suffixes: `en_US@calendar=gregorian` of iOS,
    /// `zh_TW_#Hant` of Java and `ru_RU.UTF-8` of POSIX.
    ///
    /// # Errors
    ///
    /// `invalid_locale` if the input does not have that form, or the tag has more than 35 characters.
    pub fn parse(input: &str) -> Result<Self, InvalidInput> {
        let tag = input.split(['@', '#', '.']).next().unwrap_or_default().trim_end_matches('_');
        let tag = &*tag.replace('_', "-");
        let is_subtag = |subtag: &str| {
            (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let is_tag = tag.len() <= MAX_LENGTH
            && tag.split('-').all(is_subtag)
            && !tag.bytes().take_while(|byte| *byte != b'-').any(|byte| byte.is_ascii_digit());
        if !is_tag {
            return Err(ErrorCode::InvalidLocale.into());
        }
        Ok(Self(with_usual_case(tag)))
    }

    /// Creates a locale from a valid tag in its usual case.
    pub(crate) fn from_static(tag: &str) -> Self {
        Self(tag.to_owned())
    }

    /// Returns the tag in its usual case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the tag and its less specific forms, in the order of the lookup (RFC 4647, 3.4): `kk-Cyrl-KZ`,
    /// `kk-Cyrl`, `kk`.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = &str> {
        iter::successors(Some(self.as_str()), |range| {
            let (shorter, _) = range.rsplit_once('-')?;
            // A single-character subtag is removed together with the subtag after it.
            match shorter.rsplit_once('-') {
                Some((before, last)) if last.len() == 1 => Some(before),
                _ => Some(shorter),
            }
        })
    }
}

/// Orders and hashes like its text.
impl Borrow<str> for Locale {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Locale {
    type Err = InvalidInput;

    fn from_str(input: &str) -> Result<Self, InvalidInput> {
        Self::parse(input)
    }
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the tag in the case that RFC 5646 (2.1.1) recommends, such as `kk-Cyrl-KZ`.
fn with_usual_case(tag: &str) -> String {
    let mut written = tag.to_ascii_lowercase();
    let mut from = 0;
    let mut follows_single = true;
    for subtag in tag.split('-') {
        match subtag.len() {
            2 if !follows_single => written[from..from + 2].make_ascii_uppercase(),
            4 if !follows_single => written[from..=from].make_ascii_uppercase(),
            _ => {}
        }
        follows_single = subtag.len() == 1;
        from += subtag.len() + 1;
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_parsed_in_any_case_and_returned_in_the_usual_case() {
        for (input, tag) in [
            ("ru", "ru"),
            ("RU", "ru"),
            ("pt-br", "pt-BR"),
            ("KK-CYRL-kz", "kk-Cyrl-KZ"),
            ("es-419", "es-419"),
            ("de-ch-1996", "de-CH-1996"),
            ("EN-CA-X-CA", "en-CA-x-ca"),
            ("x-Klingon", "x-klingon"),
            ("ru_RU", "ru-RU"),
            ("zh_hant_tw", "zh-Hant-TW"),
            ("en_US@calendar=gregorian", "en-US"),
            ("zh_TW_#Hant", "zh-TW"),
            ("ru_RU.UTF-8", "ru-RU"),
            ("C.UTF-8", "c"),
            ("abcdefgh-12345678-12345678-12345678", "abcdefgh-12345678-12345678-12345678"),
        ] {
            assert_eq!(Locale::parse(input).expect(input).as_str(), tag);
        }
    }

    #[test]
    fn invalid_tags_are_rejected() {
        for input in [
            "",
            "-",
            "ru-",
            "-ru",
            "ru--RU",
            "_ru",
            "ru__RU",
            "@ru",
            "ru RU",
            "*",
            "ru-*",
            "419",
            "r1",
            "abcdefghi",
            "ru-abcdefghi",
            "abcdefgh-12345678-12345678-123456-89",
            "рус",
            "ru\0",
            "ru\n@evil.example #1234",
            &"a".repeat(1_000_000),
            &"a-".repeat(1_000_000),
            &"a_".repeat(1_000_000),
            &"_".repeat(1_000_000),
        ] {
            let error = Locale::parse(input).expect_err("refused");
            assert_eq!(error.code().as_str(), "invalid_locale", "{input:.20}");
        }
    }

    #[test]
    fn ranges_are_ordered_from_the_most_specific_to_the_least_specific() {
        for (tag, ranges) in [
            ("ru", &["ru"][..]),
            ("kk-Cyrl-KZ", &["kk-Cyrl-KZ", "kk-Cyrl", "kk"]),
            // The example of RFC 4647.
            (
                "zh-Hant-CN-x-private1-private2",
                &["zh-Hant-CN-x-private1-private2", "zh-Hant-CN-x-private1", "zh-Hant-CN", "zh-Hant", "zh"],
            ),
            ("x-klingon", &["x-klingon", "x"]),
        ] {
            let locale = Locale::parse(tag).expect(tag);
            assert_eq!(locale.ranges().collect::<Vec<_>>(), ranges);
        }
    }
}
