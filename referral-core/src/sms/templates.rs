//! Templates of the messages.

use std::collections::BTreeMap;

use super::Segments;
use crate::{
    error::{catalog::ErrorCode, input::InvalidInput},
    otp::{code::OneTimeCode, purpose::CodePurpose},
    sms::{locale::Locale, notice::Notice},
};

/// Placeholder for the code in a template.
const CODE: &str = "{code}";

/// Placeholder for the last two digits of a phone in the template of a notice.
const LAST_DIGITS: &str = "{last_digits}";

/// Number of digits of a phone that a notice shows. A notice goes to a phone that may belong to another
/// person.
const LAST_DIGITS_SHOWN: usize = 2;

/// Language that has a built-in text for each purpose and each notice.
const ENGLISH: &str = "en";

/// Built-in texts of a purpose, by language. With a host of 20 characters, an Android hash and a code of 10
/// digits each of them fits into one segment, which has 70 characters if one of them is Cyrillic.
type BuiltIn = [(&'static str, &'static str); 3];

const SIGN_IN: BuiltIn = [
    (ENGLISH, "{code} is your code to sign in."),
    ("kk", "Кіру коды: {code}"),
    ("ru", "Код для входа {code}"),
];

const DELETION: BuiltIn = [
    (ENGLISH, "{code} is your code to delete your account."),
    ("kk", "Жою коды: {code}"),
    ("ru", "Код удаления {code}"),
];

const CHANGE_OF_PHONE: BuiltIn = [
    (ENGLISH, "{code} is your code to change your phone number."),
    ("kk", "Нөмір коды: {code}"),
    ("ru", "Смена номера {code}"),
];

/// Built-in texts of the notice that a phone was changed. Each of them fits into one segment.
const PHONE_CHANGED: BuiltIn = [
    (
        ENGLISH,
        "The phone number of your account was changed to one that ends in {last_digits}. If this was not you, \
         contact support.",
    ),
    ("kk", "Нөміріңіз …{last_digits} болып өзгерді. Сіз емес пе? Қолдауға жазыңыз."),
    ("ru", "Ваш номер изменён на …{last_digits}. Если это не вы, напишите в поддержку."),
];

/// Length of the string by which Android identifies an app.
const ANDROID_HASH_LENGTH: usize = 11;

/// Templates of the messages for each purpose of a code, each notice and each language: the built-in English,
/// Russian and Kazakh, and added ones.
///
/// ```
/// use referral_core::{CodePurpose, OneTimeCode, sms::{Locale, MessageTemplates}};
///
/// let texts = MessageTemplates::default().template("de", "{code} ist Ihr Code.")?.host("app.example.com")?;
/// let german = [Locale::parse("de-AT")?];
/// let text = texts.write(CodePurpose::SignIn, &OneTimeCode::from_static("4711"), &german);
/// assert_eq!(text, "4711 ist Ihr Code.\n@app.example.com #4711");
/// # Ok::<_, referral_core::InvalidInput>(())
/// ```
#[derive(Clone, Debug)]
pub struct MessageTemplates {
    sign_in: Texts,
    deletion: Texts,
    change_of_phone: Texts,
    phone_changed: Texts,
    /// A locale that has a template for signing in.
    default_locale: Locale,
    host: Option<String>,
    android_hash: Option<String>,
}

/// Templates of one purpose by language. One of them is English.
type Texts = BTreeMap<Locale, String>;

fn built_in(texts: BuiltIn) -> Texts {
    texts.map(|(locale, template)| (Locale::from_static(locale), template.to_owned())).into()
}

impl Default for MessageTemplates {
    fn default() -> Self {
        Self {
            sign_in: built_in(SIGN_IN),
            deletion: built_in(DELETION),
            change_of_phone: built_in(CHANGE_OF_PHONE),
            phone_changed: built_in(PHONE_CHANGED),
            default_locale: Locale::from_static(ENGLISH),
            host: None,
            android_hash: None,
        }
    }
}

impl MessageTemplates {
    /// Adds or replaces the text of a language for codes to sign in. `{code}` is the placeholder for the
    /// code.
    ///
    /// # Errors
    ///
    /// `invalid_locale` if the locale is not a language tag; `invalid_template` if the template does not
    /// contain `{code}`, or contains other braces, a control character other than a line feed, or a word that
    /// starts with `@`.
    pub fn template(mut self, locale: &str, template: impl Into<String>) -> Result<Self, InvalidInput> {
        add(&mut self.sign_in, locale, template.into(), CODE)?;
        Ok(self)
    }

    /// Adds or replaces the text of a language for codes that delete an account. A language without such a
    /// text gets that of the default language, or English.
    ///
    /// # Errors
    ///
    /// As for [`template`](Self::template).
    pub fn deletion_template(
        mut self,
        locale: &str,
        template: impl Into<String>,
    ) -> Result<Self, InvalidInput> {
        add(&mut self.deletion, locale, template.into(), CODE)?;
        Ok(self)
    }

    /// Adds or replaces the text of a language for codes that change the phone of an account. A language
    /// without such a text gets that of the default language, or English.
    ///
    /// # Errors
    ///
    /// As for [`template`](Self::template).
    pub fn phone_change_template(
        mut self,
        locale: &str,
        template: impl Into<String>,
    ) -> Result<Self, InvalidInput> {
        add(&mut self.change_of_phone, locale, template.into(), CODE)?;
        Ok(self)
    }

    /// Adds or replaces the text of a language for the notice that the phone of an account was changed, which
    /// goes to the phone before the change. `{last_digits}` is the placeholder for the last two digits of the
    /// new phone. A language without such a text gets that of the default language, or English.
    ///
    /// # Errors
    ///
    /// As for [`template`](Self::template), except that the template need not contain its placeholder.
    pub fn phone_changed_template(
        mut self,
        locale: &str,
        template: impl Into<String>,
    ) -> Result<Self, InvalidInput> {
        add(&mut self.phone_changed, locale, template.into(), LAST_DIGITS)?;
        Ok(self)
    }

    /// Sets the language for users that accept none of the available languages. The default is English. A
    /// template for the language must have been added before.
    ///
    /// # Errors
    ///
    /// `invalid_locale` if the locale is not a language tag or has no template.
    pub fn default_locale(mut self, locale: &str) -> Result<Self, InvalidInput> {
        let locale = Locale::parse(locale)?;
        if !self.sign_in.contains_key(&locale) {
            let detail = "There is no template for the default locale. Add one, or choose another locale.";
            return Err(InvalidInput::new(ErrorCode::InvalidLocale, detail));
        }
        self.default_locale = locale;
        Ok(self)
    }

    /// Sets the host of the website where users enter codes. It adds a last line such as `@app.example.com
    /// #4711`, an [origin-bound one-time code](https://wicg.github.io/sms-one-time-codes/): browsers fill in
    /// the code on this website only.
    ///
    /// # Errors
    ///
    /// `invalid_host` if the value is not a host name: the format allows no scheme, port or path.
    pub fn host(mut self, host: &str) -> Result<Self, InvalidInput> {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if host.len() > 253 || !host.split('.').all(is_label) {
            let detail =
                "The host must be an ASCII name such as `app.example.com`. Leave out scheme, port and path.";
            return Err(InvalidInput::new(ErrorCode::InvalidHost, detail));
        }
        self.host = Some(host.to_ascii_lowercase());
        Ok(self)
    }

    /// Sets the hash by which Android's SMS Retriever assigns a message to an app, such as `FA+9qCX9VSu`. It
    /// is a separate line before the line with the host, which must be the last. Android ignores messages of
    /// more than 140 bytes, which is one segment.
    ///
    /// # Errors
    ///
    /// `invalid_android_hash` if the value is not 11 characters of Base64.
    pub fn android_hash(mut self, hash: &str) -> Result<Self, InvalidInput> {
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        if hash.len() != ANDROID_HASH_LENGTH || !hash.bytes().all(is_base64) {
            return Err(ErrorCode::InvalidAndroidHash.into());
        }
        self.android_hash = Some(hash.to_owned());
        Ok(self)
    }

    /// Returns the message for a code in the first of these languages that is available, or in the default
    /// language. For `ru-RU`, `ru` matches too (lookup of RFC 4647).
    #[must_use]
    pub fn write(&self, purpose: CodePurpose, code: &OneTimeCode, locales: &[Locale]) -> String {
        let texts = match purpose {
            CodePurpose::SignIn => &self.sign_in,
            CodePurpose::DeleteUser(_) => &self.deletion,
            CodePurpose::ChangePhone(_) => &self.change_of_phone,
        };
        self.fill(self.find(texts, locales), code)
    }

    /// Returns the message of a notice in the language that [`write`](Self::write) would choose.
    #[must_use]
    pub fn write_notice(&self, notice: &Notice, locales: &[Locale]) -> String {
        match notice {
            Notice::PhoneChanged { new } => {
                let digits = new.as_str();
                let last = &digits[digits.len() - LAST_DIGITS_SHOWN..];
                self.find(&self.phone_changed, locales).replace(LAST_DIGITS, last)
            }
        }
    }

    fn find<'a>(&self, texts: &'a Texts, locales: &[Locale]) -> &'a str {
        let default = [self.default_locale.as_str()];
        let mut ranges = locales.iter().flat_map(Locale::ranges).chain(default);
        ranges.find_map(|range| texts.get(range)).unwrap_or(&texts[ENGLISH])
    }

    fn fill(&self, template: &str, code: &OneTimeCode) -> String {
        let code = code.reveal();
        let mut lines = vec![template.replace(CODE, code)];
        lines.extend(self.android_hash.clone());
        lines.extend(self.host.as_ref().map(|host| format!("@{host} #{code}")));
        lines.join("\n")
    }

    /// Returns every text with a code of this length, ordered by purpose and language. The notices are last.
    pub fn preview(&self, code_length: u8) -> impl Iterator<Item = TemplatePreview> {
        let code = OneTimeCode::from_static("0".repeat(code_length.into()));
        let of_codes = self.sign_in.iter().chain(&self.deletion).chain(&self.change_of_phone);
        let of_codes = of_codes.map(move |(locale, template)| (locale, self.fill(template, &code)));
        let notices = self.phone_changed.iter();
        let notices = notices.map(|(locale, template)| (locale, template.replace(LAST_DIGITS, "00")));
        of_codes.chain(notices).map(|(locale, text)| TemplatePreview {
            locale: locale.clone(),
            segments: Segments::of(&text),
            text,
        })
    }

    /// Returns the texts that need more than one segment. Each of them costs more than one message, and
    /// Android passes none of them to an app.
    pub fn too_long(&self, code_length: u8) -> impl Iterator<Item = TemplatePreview> {
        self.preview(code_length).filter(|preview| preview.segments.count > 1)
    }
}

/// Text of a message and its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TemplatePreview {
    /// Language of the text.
    pub locale: Locale,
    /// Text of the message.
    pub text: String,
    /// Segments of the text.
    pub segments: Segments,
}

/// Adds a text with a placeholder.
fn add(texts: &mut Texts, locale: &str, template: String, placeholder: &str) -> Result<(), InvalidInput> {
    check(&template, placeholder).map_err(|detail| InvalidInput::new(ErrorCode::InvalidTemplate, detail))?;
    texts.insert(Locale::parse(locale)?, template);
    Ok(())
}

fn check(template: &str, placeholder: &str) -> Result<(), &'static str> {
    if placeholder == CODE && !template.contains(CODE) {
        return Err("The template must contain `{code}`, the placeholder for the code.");
    }
    if template.replace(placeholder, "").contains(['{', '}']) {
        return Err("The template must not contain other braces than those of its placeholder. Remove them.");
    }
    if template.is_empty() {
        return Err("The template is empty. Write a text.");
    }
    if template.chars().any(|c| c.is_control() && c != '\n') {
        return Err("The template must not contain control characters other than line feeds. Remove them.");
    }
    // Browsers would read such a word as the host. Chromium reads the first match in the whole text.
    if template.split(char::is_whitespace).any(|word| word.starts_with('@')) {
        return Err("No word of the template may start with `@`. Set the host instead.");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
