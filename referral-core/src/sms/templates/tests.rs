//! Tests of the texts, read in the same manner as browsers read them.

use proptest::prelude::*;
use regex::Regex;

use super::*;
use crate::{
    otp::code::CODE_LENGTHS,
    sms::Encoding,
    user::{phone::PhoneNumber, tests::user},
};

const HOST: &str = "login.example.com.kz";
const HASH: &str = "FA+9qCX9VSu";

fn locales(tags: &[&str]) -> Vec<Locale> {
    tags.iter().map(|tag| Locale::parse(tag).expect(tag)).collect()
}

fn write(texts: &MessageTemplates, tags: &[&str]) -> String {
    texts.write(CodePurpose::SignIn, &OneTimeCode::from_static("4711"), &locales(tags))
}

fn write_deletion(texts: &MessageTemplates, tags: &[&str]) -> String {
    let purpose = CodePurpose::DeleteUser(user(1).id);
    texts.write(purpose, &OneTimeCode::from_static("4711"), &locales(tags))
}

/// Parses a message as specified in <https://wicg.github.io/sms-one-time-codes/#parsing>, and returns the
/// host and the code.
fn read_by_the_standard(message: &str) -> Option<(&str, &str)> {
    let line = message.rsplit('\n').next()?;
    let (host, rest) = marked_token(line, '@')?;
    let (code, rest) = marked_token(rest.strip_prefix(' ')?, '#')?;
    assert_eq!(rest, "", "an embedded host or reserved text");
    Some((host, code))
}

fn marked_token(line: &str, marker: char) -> Option<(&str, &str)> {
    let line = line.strip_prefix(marker)?;
    let end = line.find(|c: char| c.is_ascii_whitespace()).unwrap_or(line.len());
    Some(line.split_at(end)).filter(|(token, _)| !token.is_empty())
}

/// Parses a message as Chromium does: the first match in the whole text.
fn read_by_chromium(message: &str) -> Option<(&str, &str)> {
    let pattern =
        Regex::new(r"(?:^|\s)@([a-zA-Z0-9.-]+) #([^#\s]+)(?: @([a-zA-Z0-9.-]+))?").expect("valid pattern");
    let found = pattern.captures(message)?;
    assert!(found.get(3).is_none(), "an embedded host");
    Some((found.get(1)?.as_str(), found.get(2)?.as_str()))
}

/// Returns texts with every combination of a host and a hash.
fn with_lines() -> Vec<MessageTemplates> {
    let plain = MessageTemplates::default();
    let host = plain.clone().host(HOST).expect("valid host");
    let hash = plain.clone().android_hash(HASH).expect("valid hash");
    let both = host.clone().android_hash(HASH).expect("valid hash");
    vec![plain, host, hash, both]
}

#[test]
fn every_built_in_text_fits_into_one_segment() {
    assert_eq!(HOST.len(), 20);
    for texts in with_lines() {
        for length in CODE_LENGTHS {
            for TemplatePreview { locale, text, segments } in texts.preview(length) {
                assert_eq!(segments.count, 1, "{locale}, {length} digits: {text}");
                let encoding = if locale.as_str() == "en" { Encoding::Gsm7 } else { Encoding::Ucs2 };
                assert_eq!(segments.encoding, encoding);
                let bits = if encoding == Encoding::Gsm7 { 7 } else { 16 };
                assert!(segments.units * bits <= 140 * 8, "Android reads 140 bytes: {text}");
            }
            assert_eq!(texts.preview(length).count(), 12);
            assert_eq!(texts.too_long(length).count(), 0);
        }
    }
}

#[test]
fn text_is_a_sentence_and_the_lines_for_programs() {
    let [plain, host, hash, both] = with_lines().try_into().expect("four");
    assert_eq!(write(&plain, &[]), "4711 is your code to sign in.");
    assert_eq!(write(&plain, &["ru"]), "Код для входа 4711");
    assert_eq!(write(&plain, &["kk"]), "Кіру коды: 4711");
    assert_eq!(write(&host, &["ru"]), "Код для входа 4711\n@login.example.com.kz #4711");
    assert_eq!(write(&hash, &["ru"]), "Код для входа 4711\nFA+9qCX9VSu");
    assert_eq!(write(&both, &["ru"]), "Код для входа 4711\nFA+9qCX9VSu\n@login.example.com.kz #4711");
}

#[test]
fn first_available_language_is_used() {
    let texts = MessageTemplates::default().template("pt-BR", "Seu código: {code}").expect("valid template");
    let [english, russian, kazakh] = [&[][..], &["ru"], &["kk"]].map(|tags| write(&texts, tags));
    for (tags, expected) in [
        (&["ru-RU"][..], &russian),
        (&["RU"], &russian),
        (&["kk-Cyrl-KZ"], &kazakh),
        (&["kk-x-secret"], &kazakh),
        (&["tt", "ru", "kk"], &russian),
        (&["ru-RU", "kk"], &russian),
        (&["tt", "zz-ZZ"], &english),
        // A more specific tag does not match.
        (&["pt"], &english),
        (&["pt-PT"], &english),
        // A tag with the same prefix does not match.
        (&["rue"], &english),
    ] {
        assert_eq!(&write(&texts, tags), expected, "{tags:?}");
    }
    assert_eq!(write(&texts, &["PT-br-abnt2"]), "Seu código: 4711");
}

#[test]
fn default_language_must_be_available() {
    let texts = MessageTemplates::default().default_locale("RU").expect("valid locale");
    assert_eq!(write(&texts, &["de"]), "Код для входа 4711");
    assert_eq!(write(&texts, &["en"]), "4711 is your code to sign in.");
    for tag in ["de", "ru-RU", ""] {
        let error = MessageTemplates::default().default_locale(tag).expect_err("unavailable locale");
        assert_eq!(error.code().as_str(), "invalid_locale");
    }
    let texts = MessageTemplates::default().template("en", "Code {code}").expect("valid template");
    assert_eq!(write(&texts, &["de"]), "Code 4711", "a replaced text is still the default");
}

#[test]
fn text_of_a_deletion_states_its_purpose() {
    let texts = MessageTemplates::default().template("de", "{code} ist Ihr Code.").expect("valid template");
    assert_eq!(write_deletion(&texts, &["ru-RU"]), "Код удаления 4711");
    // A language without a text of its own for deletions.
    assert_eq!(write_deletion(&texts, &["de"]), "4711 is your code to delete your account.");
    let german = texts.default_locale("de").expect("available");
    assert_eq!(write_deletion(&german, &["de"]), "4711 is your code to delete your account.");
    let german = german.deletion_template("de", "{code} löscht Ihr Konto.").expect("valid template");
    assert_eq!(write_deletion(&german, &["tt"]), "4711 löscht Ihr Konto.");
    assert_eq!(write(&german, &["tt"]), "4711 ist Ihr Code.");
    assert!(MessageTemplates::default().deletion_template("de", "Konto").is_err());
}

#[test]
fn texts_of_a_changed_phone_state_the_change() {
    let purpose = CodePurpose::ChangePhone(user(1).id);
    let texts = MessageTemplates::default();
    let code = OneTimeCode::from_static("4711");
    assert_eq!(texts.write(purpose, &code, &locales(&["ru"])), "Смена номера 4711");
    assert_eq!(texts.write(purpose, &code, &[]), "4711 is your code to change your phone number.");
    let texts = texts.phone_change_template("de", "{code} ändert Ihre Nummer.").expect("valid template");
    assert_eq!(texts.write(purpose, &code, &locales(&["de-AT"])), "4711 ändert Ihre Nummer.");

    let new = PhoneNumber::parse("+79608543017", None).expect("valid number");
    let notice = Notice::PhoneChanged { new };
    for texts in with_lines() {
        // A notice has no lines for programs, which would look for a code.
        let text = texts.write_notice(&notice, &locales(&["ru-RU"]));
        assert_eq!(text, "Ваш номер изменён на …17. Если это не вы, напишите в поддержку.");
        assert!(texts.write_notice(&notice, &[]).contains("ends in 17."));
    }
    let texts = texts.phone_changed_template("de", "Neue Nummer: …{last_digits}").expect("valid template");
    assert_eq!(texts.write_notice(&notice, &locales(&["de"])), "Neue Nummer: …17");
    let texts = texts.phone_changed_template("de", "Neue Nummer").expect("the placeholder is optional");
    assert_eq!(texts.write_notice(&notice, &locales(&["de"])), "Neue Nummer");
    for template in ["", "{code}", "{phone}", "a\u{7}", "@host"] {
        assert!(MessageTemplates::default().phone_changed_template("de", template).is_err(), "{template}");
    }
}

#[test]
fn invalid_template_is_rejected() {
    for template in [
        "",
        "Your code",
        "Your code: {Code}",
        "Your code: code",
        "{code} for {phone}",
        "{code} {",
        "} {code}",
        "{{code}}",
        "{co{code}de}",
        "{code} {}",
        "{code}\r\n",
        "{code}\t",
        "{code}\0",
        "{code}\u{85}",
        "@{code}",
        "{code}\n@evil.example #1",
        "{code}\n @evil.example #1",
        "Ask @support #1 for {code}",
        "{code}\u{2028}@evil.example #1",
    ] {
        let error = MessageTemplates::default().template("de", template).expect_err(template);
        assert_eq!(error.code().as_str(), "invalid_template", "{template}");
    }
    for template in ["{code}", "{code} {code}", "a@b.cd: {code}", "\n{code}\n", "🔑 {code}"] {
        MessageTemplates::default().template("de", template).expect(template);
    }
    let error = MessageTemplates::default().template("de DE", "{code}").expect_err("invalid locale");
    assert_eq!(error.code().as_str(), "invalid_locale");
}

#[test]
fn host_must_be_a_host_name() {
    for host in ["app.example.com", "localhost", "xn--e1afmkfd.xn--p1ai", "a-b.example", "192.0.2.1"] {
        MessageTemplates::default().host(host).expect(host);
    }
    let texts = MessageTemplates::default().host("App.Example.COM").expect("valid host");
    assert!(write(&texts, &[]).ends_with("\n@app.example.com #4711"));
    for host in [
        "",
        ".",
        "example.com.",
        ".example.com",
        "a..b",
        "https://example.com",
        "example.com/",
        "example.com:443",
        "[::1]",
        "example.com #1",
        "example.com\n",
        "-a.example",
        "a-.example",
        "a_b.example",
        "пример.рф",
        &"a".repeat(64),
        &"a.".repeat(127),
        &format!("{}a", "a.".repeat(127)),
    ] {
        let error = MessageTemplates::default().host(host).expect_err(host);
        assert_eq!(error.code().as_str(), "invalid_host");
    }
}

#[test]
fn hash_must_be_eleven_characters_of_base64() {
    for hash in ["", "FA+9qCX9VS", "FA+9qCX9VSuu", "FA+9qCX9VS=", "FA+9 CX9VSu", "FA-9qCX9VSu", "ФФФФФu"]
    {
        let error = MessageTemplates::default().android_hash(hash).expect_err(hash);
        assert_eq!(error.code().as_str(), "invalid_android_hash");
    }
    MessageTemplates::default().android_hash("abc/+XYZ019").expect("valid hash");
}

#[test]
fn custom_template_that_is_too_long_is_reported() {
    let texts = MessageTemplates::default()
        .template("uk", "Ваш код для входу до застосунку: {code}. Нікому його не кажіть, навіть нам.")
        .and_then(|texts| {
            texts.template("de", "{code} ist Ihr Code. Geben Sie ihn niemandem, auch uns nicht.")
        })
        .expect("templates");
    let too_long: Vec<_> = texts.too_long(4).collect();
    assert_eq!(too_long.len(), 1);
    assert_eq!((too_long[0].locale.as_str(), too_long[0].segments.count), ("uk", 2));
    assert!(too_long[0].text.contains("0000") && !too_long[0].text.contains("00000"));

    // Too long only with a code of 7 digits or more.
    let texts = MessageTemplates::default()
        .template("uk", format!("{}{{code}}", "ї".repeat(64)))
        .expect("valid template");
    assert_eq!([6, 7].map(|length| texts.too_long(length).count()), [0, 1]);
}

prop_compose! {
    fn host()(labels in prop::collection::vec("[a-zA-Z0-9]([a-zA-Z0-9-]{0,20}[a-zA-Z0-9])?", 1..5)) -> String {
        labels.join(".")
    }
}

/// Generates valid templates, and many that are almost valid.
fn template() -> impl Strategy<Value = String> {
    let bound = "(a| |\n)@[a.]{1,3} #[a1]{1,3}[ \n]?";
    ("[-@#{}a-zа-я .:\n]{0,20}", prop_oneof!["\\PC{0,20}", bound], "[ \n@#a.]{0,6}")
        .prop_map(|(before, between, after)| format!("{before}{{code}}{between}{after}"))
}

proptest! {
    #[test]
    fn browsers_read_the_host_and_the_code(
        host in host(),
        template in template(),
        code in "[0-9]{4,10}",
        has_hash in any::<bool>(),
    ) {
        let texts = MessageTemplates::default().host(&host).expect("valid host");
        let texts = if has_hash { texts.android_hash(HASH).expect("valid hash") } else { texts };
        let Ok(texts) = texts.template("de", template.as_str()) else { return Ok(()) };
        let text = texts.write(CodePurpose::SignIn, &OneTimeCode::from_static(code.as_str()), &locales(&["de"]));

        let host = host.to_ascii_lowercase();
        prop_assert_eq!(read_by_the_standard(&text), Some((&*host, &*code)));
        prop_assert_eq!(read_by_chromium(&text), Some((&*host, &*code)));
        let line = format!("@{host} #{code}");
        prop_assert_eq!(text.lines().last(), Some(&*line));
        prop_assert_eq!(text.lines().rev().nth(1) == Some(HASH), has_hash);
        let sentence = template.replace(CODE, &code);
        prop_assert!(text.starts_with(&sentence));
    }

    #[test]
    fn text_for_any_locale_is_a_built_in_text(tag in "[a-zA-Z0-9-]{0,36}|\\PC{0,40}|(ru|kk|en)-.{0,9}") {
        let Ok(locale) = Locale::parse(&tag) else { return Ok(()) };
        prop_assert_eq!(Locale::parse(locale.as_str()), Ok(locale.clone()));
        let text = MessageTemplates::default().write(CodePurpose::SignIn, &OneTimeCode::from_static("4711"), &[locale]);
        let ours = [&[][..], &["ru"], &["kk"]].map(|tags| write(&MessageTemplates::default(), tags));
        prop_assert!(ours.contains(&text));
    }
}
