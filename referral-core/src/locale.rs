//! Languages, as somebody names them.

use std::{borrow::Borrow, fmt, iter, str::FromStr};

use crate::Invalid;

/// The most characters of a tag: the longest that RFC 5646 (4.4.1) says to make room for.
const MAX_LENGTH: usize = 35;

/// A language that somebody reads, as a BCP 47 tag such as `ru`, `kk-Cyrl-KZ` or `pt-BR`. Only its
/// form is checked: whether there is such a language nobody asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locale(String);

impl Locale {
    /// Reads a tag: subtags of 1 to 8 letters and digits with `-` between, the first of letters
    /// only. Case does not matter.
    ///
    /// # Errors
    ///
    /// `invalid_locale` for anything else, or for more than 35 characters.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let is_subtag = |subtag: &str| {
            (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let is_tag = input.len() <= MAX_LENGTH
            && input.split('-').all(is_subtag)
            && !input.bytes().take_while(|byte| *byte != b'-').any(|byte| byte.is_ascii_digit());
        if !is_tag {
            return Err(Invalid::new("invalid_locale", "A locale is a BCP 47 tag, such as `ru` or `pt-BR`."));
        }
        Ok(Self(with_usual_case(input)))
    }

    /// A tag that is known to be one, in its usual case.
    pub(crate) fn known(tag: &str) -> Self {
        Self(tag.to_owned())
    }

    /// The tag, in the case in which tags are usually written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag and what it is more special than, as in `kk-Cyrl-KZ`, `kk-Cyrl`, `kk`: where to look
    /// for it, in order (RFC 4647, 3.4).
    pub(crate) fn ranges(&self) -> impl Iterator<Item = &str> {
        iter::successors(Some(self.as_str()), |range| {
            let (shorter, _) = range.rsplit_once('-')?;
            // What a single character begins is not cut in two.
            match shorter.rsplit_once('-') {
                Some((before, last)) if last.len() == 1 => Some(before),
                _ => Some(shorter),
            }
        })
    }
}

/// Sorts and hashes as its text does.
impl Borrow<str> for Locale {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Locale {
    type Err = Invalid;

    fn from_str(input: &str) -> Result<Self, Invalid> {
        Self::parse(input)
    }
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `kk-Cyrl-KZ`, as RFC 5646 (2.1.1) recommends it.
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
    fn a_tag_is_read_in_any_case_and_written_in_one() {
        for (input, tag) in [
            ("ru", "ru"),
            ("RU", "ru"),
            ("pt-br", "pt-BR"),
            ("KK-CYRL-kz", "kk-Cyrl-KZ"),
            ("es-419", "es-419"),
            ("de-ch-1996", "de-CH-1996"),
            ("EN-CA-X-CA", "en-CA-x-ca"),
            ("x-Klingon", "x-klingon"),
            ("abcdefgh-12345678-12345678-12345678", "abcdefgh-12345678-12345678-12345678"),
        ] {
            assert_eq!(Locale::parse(input).expect(input).as_str(), tag);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for input in [
            "",
            "-",
            "ru-",
            "-ru",
            "ru--RU",
            "ru_RU",
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
        ] {
            let error = Locale::parse(input).expect_err("refused");
            assert_eq!(error.code(), "invalid_locale", "{input:.20}");
        }
    }

    #[test]
    fn it_is_looked_for_from_the_most_special_on() {
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
