use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::{
    message_format::{Piece, parse},
    *,
};
use crate::{PhoneNumber, Refusal, gate::Rejection, rate_limit::limits::LimitName};

/// Placeholders that a text can have.
const PLACEHOLDERS: [&str; 3] = ["seconds", "line", "column"];

/// Returns the names of the placeholders of a template.
fn placeholders(template: &str) -> BTreeSet<&str> {
    let pieces = parse(template).unwrap_or_else(|| panic!("malformed: {template}"));
    let name = |piece| match piece {
        Piece::Number { name } | Piece::Plural { name, .. } => Some(name),
        Piece::Literal(_) => None,
    };
    pieces.into_iter().filter_map(name).collect()
}

#[test]
fn each_error_code_has_the_text_with_its_id() {
    for code in ErrorCode::ALL {
        assert_eq!(Text::from(*code).id(), code.as_str());
    }
    let ids: BTreeSet<_> = Text::ALL.iter().map(|text| text.id()).collect();
    assert_eq!(ids.len(), Text::ALL.len());
    for id in &ids {
        let code = id.split('.').next().unwrap_or_default();
        assert!(ids.contains(code), "{id} refines no text");
    }
}

#[test]
fn each_text_has_two_sentences_in_the_script_of_its_language() {
    for text in Text::ALL {
        for language in Language::ALL {
            let template = text.template(*language);
            // Terms of the API, which are in backticks, and the names of placeholders are not translated.
            let words: String = template.split('`').step_by(2).collect();
            let is_cyrillic = |c: char| ('\u{400}'..='\u{4ff}').contains(&c);
            let cyrillic = words.chars().filter(|c| is_cyrillic(*c)).count();
            match language {
                Language::English => assert_eq!(cyrillic, 0, "{template}"),
                _ => assert!(cyrillic > 20, "{template}"),
            }
            let has_kazakh = words.to_lowercase().contains(['ә', 'і', 'ң', 'ғ', 'ү', 'ұ', 'қ', 'ө', 'һ']);
            assert_eq!(has_kazakh, *language == Language::Kazakh, "{template}");
            assert!(template.ends_with('.') && template.trim() == template, "{template}");
            assert!(template.matches(". ").count() >= 1, "{template}");
            assert!(!template.contains("  ") && !template.contains('\''), "{template}");
        }
    }
}

#[test]
fn all_languages_of_a_text_have_the_same_placeholders_and_terms() {
    for text in Text::ALL {
        let english = text.template(Language::English);
        let names = placeholders(english);
        assert!(names.iter().all(|name| PLACEHOLDERS.contains(name)), "{english}");
        for language in Language::ALL {
            let template = text.template(*language);
            assert_eq!(placeholders(template), names, "{template}");
            assert_eq!(template.matches('`').count() % 2, 0, "{template}");
            let terms =
                |template: &'static str| template.split('`').skip(1).step_by(2).collect::<BTreeSet<_>>();
            assert!(terms(template).is_superset(&terms(english)), "{template}");
        }
    }
}

#[test]
fn plural_forms_are_those_of_the_language() {
    for text in Text::ALL {
        for language in Language::ALL {
            let categories: BTreeSet<_> = (0..200).map(|n| language.plural_category(n)).collect();
            for piece in parse(text.template(*language)).expect("a valid template") {
                let Piece::Plural { forms, .. } = piece else { continue };
                let given: BTreeSet<_> = forms.iter().map(|(category, _)| *category).collect();
                assert!(given.is_superset(&categories), "{text:?} in {language}");
                assert!(forms.iter().all(|(_, form)| form.contains('#')), "{text:?} in {language}");
            }
        }
    }
}

#[test]
fn a_refused_request_names_the_seconds() {
    for (millis, english, russian, kazakh) in [
        (200, "1 second.", "1 секунду.", "1 секундтан"),
        (2_000, "2 seconds.", "2 секунды.", "2 секундтан"),
        (5_000, "5 seconds.", "5 секунд.", "5 секундтан"),
        (11_000, "11 seconds.", "11 секунд.", "11 секундтан"),
        (12_000, "12 seconds.", "12 секунд.", "12 секундтан"),
        (21_000, "21 seconds.", "21 секунду.", "21 секундтан"),
        (41_200, "42 seconds.", "42 секунды.", "42 секундтан"),
        (100_000, "100 seconds.", "100 секунд.", "100 секундтан"),
        (111_000, "111 seconds.", "111 секунд.", "111 секундтан"),
        (3_601_000, "3601 seconds.", "3601 секунду.", "3601 секундтан"),
    ] {
        let retry_after = Duration::from_millis(millis);
        let refusal = Refusal::TooManyRequests { retry_after, limit: LimitName::CodesPerPhone };
        let detail = crate::Error::from(refusal).detail();
        for (language, expected) in
            [(Language::English, english), (Language::Russian, russian), (Language::Kazakh, kazakh)]
        {
            let written = detail.write(language);
            assert!(written.contains(&format!(" {expected}")), "{written}");
        }
    }
}

#[test]
fn a_temporary_failure_names_the_seconds() {
    let error = crate::Error::Storage(crate::storage::StorageError::Unavailable("network".into()));
    assert_eq!(
        error.detail().write(Language::Russian),
        "Сервис временно недоступен. Попробуйте снова через 1 секунду."
    );
}

#[test]
fn the_text_of_the_host_is_never_translated() {
    let rejection = Rejection::new("captcha_required", "Solve the captcha.").expect("a valid rejection");
    let detail = Refusal::RejectedByHost(rejection).detail();
    for language in Language::ALL {
        assert_eq!(detail.write(*language), "Solve the captcha.");
    }
    assert!(!detail.is_translated());
}

#[test]
fn an_english_detail_is_replaced_with_the_text_of_its_code() {
    let invalid = crate::InvalidInput::new(ErrorCode::InvalidName, "No digits, please.");
    assert_eq!(invalid.to_string(), "No digits, please.");
    assert_eq!(invalid.detail().write(Language::English), "No digits, please.");
    let russian = Text::InvalidName.template(Language::Russian);
    assert_eq!(invalid.detail().write(Language::Russian), russian);
}

#[test]
fn a_more_precise_text_is_translated() {
    let invalid = PhoneNumber::parse("+7", None).expect_err("too short");
    assert_eq!(invalid.detail(), &Detail::from(Text::PhoneNotAssigned));
}

#[test]
fn the_first_accepted_language_with_texts_is_chosen() {
    for (accepted, language) in [
        (&[][..], Language::English),
        (&["ru"], Language::Russian),
        (&["ru-RU"], Language::Russian),
        (&["RU_kz"], Language::Russian),
        (&["kk-Cyrl-KZ"], Language::Kazakh),
        (&["de", "kk", "ru"], Language::Kazakh),
        (&["de-DE", "de"], Language::English),
        (&["en-US", "ru"], Language::English),
        (&["rus"], Language::English),
        (&["x-ru"], Language::English),
    ] {
        let locales: Vec<_> = accepted.iter().map(|tag| Locale::parse(tag).expect("a tag")).collect();
        assert_eq!(Language::choose(&locales), language, "{accepted:?}");
    }
}

#[test]
fn malformed_templates_are_detected() {
    for template in ["{", "}", "{}", "a } b", "{n", "{n, plural}", "{n, plural, }", "{n, plural, one {#}}"] {
        assert_eq!(parse(template), None, "{template}");
    }
    for template in ["{N}", "{n, select, other {#}}", "{n, plural, other {{n}}}", "{n, plural, other #}"] {
        assert_eq!(parse(template), None, "{template}");
    }
    let missing = message_format::write("{seconds} and {n, plural, other {#}}", Language::English, &[]);
    assert_eq!(missing, "{seconds} and {n}");
}

proptest! {
    #[test]
    fn each_value_is_written_in_each_language(value: u64) {
        for text in Text::ALL {
            let filled = PLACEHOLDERS.into_iter().fold(Detail::from(*text), |detail, name| detail.with(name, value));
            for language in Language::ALL {
                let written = filled.write(*language);
                prop_assert!(!written.contains(['{', '}', '#']), "{written}");
                let has_placeholder = !placeholders(text.template(*language)).is_empty();
                prop_assert!(!has_placeholder || written.contains(&value.to_string()), "{written}");
            }
        }
    }

    #[test]
    fn parsing_a_template_never_panics(template in "[{}a-z, #й]{0,40}") {
        let _ = parse(&template);
    }
}
