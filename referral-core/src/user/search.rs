//! Search of users by parts of their names, codes, phones and email addresses.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;

use crate::{
    text::is_separator,
    user::{
        User,
        email::Email,
        name::Name,
        phone::{PhoneNumber, Region, decimal_digit},
    },
};

/// Number of characters from which a term matches anywhere in a value. A shorter term matches only the start
/// of a value, because almost every value contains a given letter.
const MIN_INFIX_CHARS: usize = 3;

/// Term of a search, in lower case.
#[derive(Clone, PartialEq, Eq)]
pub struct SearchTerm {
    /// Text that one of the [`SearchKeys`] must contain. No character in it has a special meaning.
    pub pattern: String,
    /// `true` if [`SearchKeys::private`] may be searched.
    pub sees_private: bool,
}

impl fmt::Debug for SearchTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SearchTerm(…)")
    }
}

impl SearchTerm {
    /// Splits an input into terms, at white space. Private values are searched if `sees_private` is `true`.
    ///
    /// An input that is a phone in any spelling is one term, which is parsed as dialed in `default_region`.
    ///
    /// A term that is contained in another one is omitted, since every match of the longer term is a match of
    /// both. That includes repeated terms.
    #[must_use]
    pub fn split(input: &str, default_region: Option<Region>, sees_private: bool) -> Vec<Self> {
        let words = match phone_in(input, default_region) {
            Some(phone) => vec![phone],
            None => input.split_whitespace().map(canonical).collect(),
        };
        let mut terms: Vec<Self> = Vec::new();
        for term in words {
            let is_infix = term.chars().nth(MIN_INFIX_CHARS - 1).is_some();
            let pattern = if is_infix { term } else { format!("{}{term}", SearchKeys::VALUE_START) };
            if terms.iter().all(|known| !known.pattern.contains(&pattern)) {
                terms.retain(|known| !pattern.contains(&known.pattern));
                terms.push(Self { pattern, sees_private });
            }
        }
        terms
    }

    /// Returns `true` if the term has fewer than three characters, so it matches only the start of a value.
    pub(crate) fn is_short(&self) -> bool {
        self.pattern.starts_with(SearchKeys::VALUE_START)
    }
}

/// Texts in which a user is searched, in lower case. A storage stores them with the user. Each value in them
/// follows a line feed, so that a pattern that starts with a line feed matches the start of a value.
#[derive(Clone, PartialEq, Eq)]
pub struct SearchKeys {
    /// Names, own invite code and code of the inviter.
    pub public: String,
    /// Phone, with and without its plus, and email address, with its domain in ASCII and in Unicode.
    pub private: String,
}

impl fmt::Debug for SearchKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SearchKeys(…)")
    }
}

impl SearchKeys {
    /// Character before each value. No value contains it.
    pub const VALUE_START: char = '\n';

    /// Returns the keys of `user`.
    #[must_use]
    pub fn of(user: &User) -> Self {
        fn keys<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> String {
            let values = values.into_iter().flatten();
            values.flat_map(|value| [SearchKeys::VALUE_START.to_string(), fold(value)]).collect()
        }
        let phone = user.phone.as_str();
        let email = user.email.as_ref().map(Email::as_str);
        // The Unicode form is added, so that a part of the domain finds the address.
        let readable = user.email.as_ref().map(Email::to_unicode);
        let readable = readable.as_deref().filter(|readable| Some(*readable) != email);
        Self {
            public: keys([
                user.first_name.as_ref().map(Name::as_str),
                user.last_name.as_ref().map(Name::as_str),
                Some(user.invite_code.as_str()),
                user.invited_by.as_ref().map(|named| named.code.as_str()),
            ]),
            private: keys([Some(phone), phone.strip_prefix('+'), email, readable]),
        }
    }

    /// Returns `true` if a value matches the term.
    pub(crate) fn matches(&self, term: &SearchTerm) -> bool {
        self.public.contains(&term.pattern) || (term.sees_private && self.private.contains(&term.pattern))
    }
}

/// Returns the phone that the input is, or the part of a phone without country code: seven to fifteen digits
/// with separators. Fewer digits may be several terms.
fn phone_in(input: &str, default_region: Option<Region>) -> Option<String> {
    let digits = digits_of(input)?;
    if !(7..=15).contains(&digits.trim_start_matches('+').len()) {
        return None;
    }
    let phone = PhoneNumber::parse_possible(input, default_region);
    Some(phone.map_or(digits, |phone| phone.as_str().to_owned()))
}

/// Returns the digits of a phone without the prefix that is dialed before it inside a country: 0, or 8 in Russia
/// and Kazakhstan. Returns `None` if the input is not such a phone.
pub(crate) fn without_trunk_prefix(input: &str) -> Option<String> {
    let digits = digits_of(input)?;
    let rest = digits.strip_prefix(['0', '8'])?;
    (7..=14).contains(&rest.len()).then(|| rest.to_owned())
}

/// Returns the digits of a number with separators, and its leading `+`.
fn digits_of(input: &str) -> Option<String> {
    let input = input.trim();
    let mut digits = String::new();
    for c in input.chars().filter(|c| !is_separator(*c)) {
        match c {
            '+' if digits.is_empty() => digits.push(c),
            c => digits.push(decimal_digit(c)?),
        }
    }
    digits.ends_with(|c: char| c.is_ascii_digit()).then_some(digits)
}

/// Returns a term in the form that searches compare. A complete email address is brought into canonical form,
/// so that each form of its domain finds it, and the separators of a number are removed.
fn canonical(term: &str) -> String {
    let email = Email::parse(term).map(|email| email.as_str().to_owned());
    email.ok().or_else(|| digits_of(term)).unwrap_or_else(|| fold(term))
}

/// Returns `text` in the form that searches compare: in lower case and in NFKC, so that equal-looking texts
/// are equal.
fn fold(text: &str) -> String {
    text.nfkc().collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::listing::{FilterInput, tests::anna};

    fn finds(search: &str, sees_private: bool) -> bool {
        let input = FilterInput { search: Some(search), ..FilterInput::default() };
        input.parse(None, sees_private).expect("possible").matches(&anna())
    }

    #[test]
    fn long_terms_match_anywhere_and_short_terms_match_the_start() {
        for search in [
            "анн",
            "АННА",
            "neil",
            "_50%",
            "bcd001",
            "xyz789",
            "z78",
            "example",
            "854300",
            "+7960",
            "an",
            "ан",
            "79",
            "+7",
            "o'",
            "анна NEIL example",
            "  анна  ",
            "",
        ] {
            assert!(finds(search, true), "{search}");
        }
        for search in ["нн", "l_", "il", "%", "_", "анна boris", "анна\\", "_5%", "an na", "\u{0}"]
        {
            assert!(!finds(search, true), "{search}");
        }
    }

    #[test]
    fn address_is_found_by_each_form_of_its_domain() {
        let user = User { email: Email::parse("anna@пример.рф").ok(), ..anna() };
        let finds = |search, sees_private| {
            let input = FilterInput { search: Some(search), ..FilterInput::default() };
            input.parse(None, sees_private).expect("possible").matches(&user)
        };
        for search in [
            "anna@пример.рф",
            "ANNA@ПРИМЕР.РФ",
            "anna@xn--e1afmkfd.xn--p1ai",
            "ａｎｎａ@пример。рф",
            "пример",
            "@ПРИМЕР",
            "xn--e1",
        ] {
            assert!(finds(search, true), "{search}");
            assert!(!finds(search, false), "{search}");
        }
        for email in ["anna@пример.рф", "Anna@XN--e1afmkfd.xn--p1ai"] {
            let input = FilterInput { email: Some(email), ..FilterInput::default() };
            assert!(input.parse(None, true).expect("possible").matches(&user), "{email}");
        }
    }

    #[test]
    fn phone_is_found_in_any_spelling() {
        let region = Region::parse("RU").ok();
        for (search, region) in [
            ("+7 960 854-30-01", None),
            ("+7 (960) 854-30-01", None),
            (" 7 960 854-30-01", None),
            ("8 960 854-30-01", region),
            ("8(960)854-30-01", region),
            ("960 854 30 01", region),
            ("854-30-01", region),
            ("854-30-01", None),
            ("854 30\u{2011}01", None),
            ("854-30", None),
            ("анна 854-30", None),
            ("٨٥٤٣٠٠١", None),
        ] {
            let input = FilterInput { search: Some(search), ..FilterInput::default() };
            assert!(input.parse(region, true).expect("possible").matches(&anna()), "{search}");
            assert!(!input.parse(region, false).expect("possible").matches(&anna()), "{search}");
        }
        for search in ["8 960 854-30-01", "+8543001", "854-30-02"] {
            assert!(!finds(search, true), "{search}");
        }
    }

    #[test]
    fn terms_contained_in_others_are_omitted() {
        for (search, expected) in [
            ("", vec![]),
            ("7 7 7 7", vec!["\n7"]),
            ("7 79 7", vec!["\n79"]),
            ("Anna ANNA anna", vec!["anna"]),
            ("ann anna nna", vec!["anna"]),
            ("anna ann boris", vec!["anna", "boris"]),
            // A short term matches only the start of a value, and the longer term need not be there.
            ("an anna", vec!["\nan", "anna"]),
        ] {
            let terms = SearchTerm::split(search, None, true);
            let patterns: Vec<_> = terms.iter().map(|term| &*term.pattern).collect();
            assert_eq!(patterns, expected, "{search}");
        }
    }

    #[test]
    fn names_are_found_in_composed_and_decomposed_form() {
        let user = User { first_name: Name::parse("Jose\u{301} Zaﬃro").ok(), ..anna() };
        for search in ["josé", "JOSE\u{301}", "affi", "aﬃro"] {
            let input = FilterInput { search: Some(search), ..FilterInput::default() };
            assert!(input.parse(None, true).expect("possible").matches(&user), "{search}");
        }
    }

    #[test]
    fn search_with_too_many_terms_or_only_short_terms_is_rejected() {
        let many_repeated = "7 ".repeat(50);
        let one_too_many = "on one two three four five";
        for (search, expected) in [
            ("", Ok(())),
            ("7", Ok(())),
            ("+7", Ok(())),
            (&*many_repeated, Ok(())),
            ("7 79", Ok(())),
            ("ан петрова", Ok(())),
            ("a b c d anna", Ok(())),
            ("one two three four five", Ok(())),
            ("one two three four five FIVE one", Ok(())),
            (one_too_many, Err("invalid_search")),
            ("7 8", Err("invalid_search")),
            ("a b c d e", Err("invalid_search")),
            ("+7 an", Err("invalid_search")),
            ("a\u{0}b c d", Err("invalid_text")),
            (&"x ".repeat(51), Err("invalid_text")),
        ] {
            assert_eq!(
                FilterInput::check_search(search).map_err(|invalid| invalid.code().as_str()),
                expected,
                "{search}"
            );
        }
    }

    #[test]
    fn private_fields_are_searched_only_if_the_caller_may_see_them() {
        for search in ["example", "854300", "+7960", "79"] {
            assert!(!finds(search, false), "{search}");
        }
        assert!(finds("анна xyz", false));
    }
}
