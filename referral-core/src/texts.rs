//! Texts of errors for people, in English, Russian and Kazakh.
//!
//! An [`ErrorCode`] is for programs, and its [`message`](ErrorCode::message) for developers and logs. Users of
//! an app read a [`Text`] in their own language. All texts are in one table: [`Text::ALL`].
//!
//! A service returns the [`Detail`] of an error in the first language that the client accepts:
//!
//! ```
//! use referral_core::{PhoneNumber, sms::Locale, texts::Language};
//!
//! // From the header `Accept-Language`, in the order of preference.
//! let accepted = [Locale::parse("de")?, Locale::parse("ru-RU")?];
//! let language = Language::choose(&accepted);
//! assert_eq!(language, Language::Russian);
//!
//! let invalid = PhoneNumber::parse("960 854-30-17", None).expect_err("a number without country code");
//! assert_eq!(
//!     invalid.detail().write(language),
//!     "В номере телефона нет кода страны. Введите номер в международном формате, например +79608543017."
//! );
//! # Ok::<_, referral_core::InvalidInput>(())
//! ```

mod message_format;
mod table;

use std::{borrow::Cow, fmt};

pub use self::table::Text;
use crate::{error::catalog::ErrorCode, sms::Locale};

/// Language of the texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Language {
    /// English, the default.
    #[default]
    English,
    /// Russian.
    Russian,
    /// Kazakh, in Cyrillic script.
    Kazakh,
}

impl Language {
    /// All languages.
    pub const ALL: &[Self] = &[Self::English, Self::Russian, Self::Kazakh];

    /// Returns the BCP 47 tag, such as `ru`.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Russian => "ru",
            Self::Kazakh => "kk",
        }
    }

    /// Returns the first of the accepted languages that has texts, or English. For `kk-Cyrl-KZ`, Kazakh
    /// matches (lookup of RFC 4647).
    #[must_use]
    pub fn choose(accepted: &[Locale]) -> Self {
        let with_tag = |tag: &str| Self::ALL.iter().copied().find(|language| language.tag() == tag);
        accepted.iter().flat_map(Locale::ranges).find_map(with_tag).unwrap_or_default()
    }

    /// Returns the plural category of a whole number in Unicode's CLDR.
    fn plural_category(self, number: u64) -> &'static str {
        match self {
            Self::English | Self::Kazakh if number == 1 => "one",
            Self::English | Self::Kazakh => "other",
            Self::Russian => match (number % 10, number % 100) {
                (_, 11..=14) => "many",
                (1, _) => "one",
                (2..=4, _) => "few",
                _ => "many",
            },
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tag())
    }
}

/// Description of one error for people: a [`Text`] with its values, or the text of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail(Source);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Table {
        text: Text,
        values: Vec<(&'static str, u64)>,
    },
    /// English text that is not in the table. In other languages, the text of the code replaces it.
    English {
        english: Cow<'static, str>,
        code: ErrorCode,
    },
    /// Text of the host, in a language that is not known here.
    Host(String),
}

impl Detail {
    /// Sets the value of a placeholder, such as `seconds`.
    #[must_use]
    pub fn with(mut self, placeholder: &'static str, value: u64) -> Self {
        if let Source::Table { values, .. } = &mut self.0 {
            values.retain(|(name, _)| *name != placeholder);
            values.push((placeholder, value));
        }
        self
    }

    pub(crate) fn of_host(text: String) -> Self {
        Self(Source::Host(text))
    }

    pub(crate) fn english(code: ErrorCode, english: Cow<'static, str>) -> Self {
        Self(Source::English { english, code })
    }

    /// Returns the text in a language. The text of a host is the same for all languages. A placeholder without
    /// a value is left as it is.
    #[must_use]
    pub fn write(&self, language: Language) -> Cow<'_, str> {
        match &self.0 {
            Source::Table { text, values } => {
                message_format::write(text.template(language), language, values)
            }
            Source::English { english, .. } if language == Language::English => Cow::Borrowed(english),
            Source::English { code, .. } => {
                message_format::write(Text::from(*code).template(language), language, &[])
            }
            Source::Host(text) => Cow::Borrowed(text),
        }
    }

    /// Returns `true` if [`write`](Self::write) returns a text in the chosen language. It is `false` for a
    /// text of the host: do not claim its language, for example in the header `Content-Language`.
    #[must_use]
    pub fn is_translated(&self) -> bool {
        !matches!(self.0, Source::Host(_))
    }
}

impl From<Text> for Detail {
    fn from(text: Text) -> Self {
        Self(Source::Table { text, values: Vec::new() })
    }
}

/// Returns the text of the code.
impl From<ErrorCode> for Detail {
    fn from(code: ErrorCode) -> Self {
        Text::from(code).into()
    }
}

/// Writes the English text, or the text of the host.
impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.write(Language::English))
    }
}

#[cfg(test)]
mod tests;
