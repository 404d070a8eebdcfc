//! What messages say.

use std::collections::BTreeMap;

use super::Segments;
use crate::{Invalid, Locale, SmsCode};

/// Stands for the code in a template.
const CODE: &str = "{code}";

/// The texts that there are without anybody's doing. With a host of 20 characters, an Android hash
/// and a code of 10 digits each is one segment: 70 characters, where one of them is Cyrillic.
const BUILT_IN: [(&str, &str); 3] =
    [("en", "{code} is your code to sign in."), ("kk", "Кіру коды: {code}"), ("ru", "Код для входа {code}")];

/// The length of the string by which Android knows an app.
const ANDROID_HASH_LENGTH: usize = 11;

/// What messages say, in each language: English, Russian and Kazakh, and those that are added.
///
/// ```
/// use referral_core::{Locale, SmsCode, sms::Texts};
///
/// let texts = Texts::default().template("de", "{code} ist Ihr Code.")?.host("app.example.com")?;
/// let german = [Locale::parse("de-AT")?];
/// let text = texts.write(&SmsCode::known("4711"), &german);
/// assert_eq!(text, "4711 ist Ihr Code.\n@app.example.com #4711");
/// # Ok::<_, referral_core::Invalid>(())
/// ```
#[derive(Clone, Debug)]
pub struct Texts {
    templates: BTreeMap<Locale, String>,
    /// One of those that have a template.
    default_locale: Locale,
    host: Option<String>,
    android_hash: Option<String>,
}

impl Default for Texts {
    fn default() -> Self {
        let built_in = BUILT_IN.map(|(locale, template)| (Locale::known(locale), template.to_owned()));
        Self {
            templates: built_in.into(),
            default_locale: Locale::known("en"),
            host: None,
            android_hash: None,
        }
    }
}

impl Texts {
    /// Adds a language, or says something else in one that there is. `{code}` stands for the code.
    ///
    /// # Errors
    ///
    /// `invalid_locale` for what is no tag; `invalid_template` if there is no `{code}`, or anything
    /// else in braces, a control character other than a line feed, or a word that begins with `@`.
    pub fn template(mut self, locale: &str, template: impl Into<String>) -> Result<Self, Invalid> {
        let template = template.into();
        check(&template).map_err(|detail| Invalid::new("invalid_template", detail))?;
        self.templates.insert(Locale::parse(locale)?, template);
        Ok(self)
    }

    /// The language for whoever reads none of those that there are; by default English. A template
    /// for it must have been added.
    ///
    /// # Errors
    ///
    /// `invalid_locale` for what is no tag, or has no template.
    pub fn default_locale(mut self, locale: &str) -> Result<Self, Invalid> {
        let locale = Locale::parse(locale)?;
        if !self.templates.contains_key(&locale) {
            let detail = "There is no template for the default locale. Add one, or choose another locale.";
            return Err(Invalid::new("invalid_locale", detail));
        }
        self.default_locale = locale;
        Ok(self)
    }

    /// The host of the website that codes are typed into. It makes a last line such as
    /// `@app.example.com #4711`, an [origin-bound one-time
    /// code](https://wicg.github.io/sms-one-time-codes/): browsers fill it in there, and nowhere else.
    ///
    /// # Errors
    ///
    /// `invalid_host` for anything but a host's name: that format has no scheme, port or path.
    pub fn host(mut self, host: &str) -> Result<Self, Invalid> {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if host.len() > 253 || !host.split('.').all(is_label) {
            let detail =
                "A host is a name such as `app.example.com`, in ASCII. Leave out scheme, port and path.";
            return Err(Invalid::new("invalid_host", detail));
        }
        self.host = Some(host.to_ascii_lowercase());
        Ok(self)
    }

    /// The hash by which Android's SMS Retriever gives a message to an app, such as `FA+9qCX9VSu`. It
    /// has a line of its own before that of the host, which must be last. Android reads no message
    /// of more than 140 bytes, which is one segment.
    ///
    /// # Errors
    ///
    /// `invalid_android_hash` for anything but 11 characters of Base64.
    pub fn android_hash(mut self, hash: &str) -> Result<Self, Invalid> {
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        if hash.len() != ANDROID_HASH_LENGTH || !hash.bytes().all(is_base64) {
            let detail = "The hash of an Android app is 11 characters of Base64, such as `FA+9qCX9VSu`.";
            return Err(Invalid::new("invalid_android_hash", detail));
        }
        self.android_hash = Some(hash.to_owned());
        Ok(self)
    }

    /// The message for a code, in the first of these languages that there is: for `ru-RU`, `ru` will
    /// do (the lookup of RFC 4647). Without one, in the default language.
    #[must_use]
    pub fn write(&self, code: &SmsCode, locales: &[Locale]) -> String {
        let mut ranges = locales.iter().flat_map(Locale::ranges);
        let template = ranges.find_map(|range| self.templates.get(range));
        self.fill(template.unwrap_or(&self.templates[&self.default_locale]), code)
    }

    fn fill(&self, template: &str, code: &SmsCode) -> String {
        let code = code.reveal();
        let mut lines = vec![template.replace(CODE, code)];
        lines.extend(self.android_hash.clone());
        lines.extend(self.host.as_ref().map(|host| format!("@{host} #{code}")));
        lines.join("\n")
    }

    /// Every text as it is with a code of this many digits, by language.
    pub fn preview(&self, code_length: u8) -> impl Iterator<Item = Preview> {
        let code = SmsCode::known("0".repeat(code_length.into()));
        self.templates.iter().map(move |(locale, template)| {
            let text = self.fill(template, &code);
            Preview { locale: locale.clone(), segments: Segments::of(&text), text }
        })
    }

    /// The texts that are sent in more than one segment, so that each costs more than one message and
    /// Android gives none to an app.
    pub fn too_long(&self, code_length: u8) -> impl Iterator<Item = Preview> {
        self.preview(code_length).filter(|preview| preview.segments.count > 1)
    }
}

/// What a message looks like, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Preview {
    /// The language.
    pub locale: Locale,
    /// The text.
    pub text: String,
    /// The segments it is sent in.
    pub segments: Segments,
}

fn check(template: &str) -> Result<(), &'static str> {
    if !template.contains(CODE) {
        return Err("A template must have `{code}` where the code is to stand.");
    }
    if template.replace(CODE, "").contains(['{', '}']) {
        return Err("A template has no other braces than those of `{code}`.");
    }
    if template.chars().any(|c| c.is_control() && c != '\n') {
        return Err("A template has no control characters but line feeds.");
    }
    // Browsers would take it for the line that names the host: Chromium the first one, wherever it is.
    if template.split(char::is_whitespace).any(|word| word.starts_with('@')) {
        return Err("No word of a template begins with `@`. Set the host instead.");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
