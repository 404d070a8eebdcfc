//! Invite codes: generation and parsing.

use std::fmt;

use crate::{
    error::{catalog::ErrorCode, input::InvalidInput},
    random::Random,
    text::{is_blank, is_ignored_in_code, is_sentence_mark},
};

/// Symbols of new codes: digits and consonants that are hard to confuse with each other and do not form
/// words.
const ALPHABET: &[u8] = b"23456789BCDFGHJKMNPQRSTVWXYZ";

/// Length of new codes. There are 28⁶ = 482 million codes, so with a million users the first generated code
/// is free in 99.8 % of all cases.
const LENGTH: usize = 6;

/// Number of codes that are tried for a new user before [`StorageError::InviteCodesExhausted`]. With a
/// million users, eight collisions in a row happen once in 10²¹ sign-ups.
///
/// [`StorageError::InviteCodesExhausted`]: crate::storage::error::StorageError::InviteCodesExhausted
pub(crate) const CANDIDATES: usize = 8;

/// Invite code of a user, which other users send when they sign in. It has 6 to 12 symbols of `A–Z0–9`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InviteCode(String);

impl InviteCode {
    /// Parses a code as people type or paste it. Letters may have either case, and Cyrillic letters that look
    /// like Latin letters are replaced. White space, invisible characters and punctuation are ignored. Other
    /// similar symbols are not replaced, since codes from other systems may have both `O` and `0`.
    ///
    /// An invite link is parsed as its code: the value of a parameter such as `ref`, otherwise the last
    /// segment of its path.
    ///
    /// # Errors
    ///
    /// `invalid_invite_code` if the input is not 6 to 12 letters and digits, or a link to them.
    pub fn parse(input: &str) -> Result<Self, InvalidInput> {
        let invalid = || InvalidInput::from(ErrorCode::InvalidInviteCode);

        let mut code = String::with_capacity(12);
        let input = code_of_link(input).unwrap_or(input);
        for c in input.chars().filter(|c| !is_ignored_in_code(*c)) {
            if code.len() == 12 {
                return Err(invalid());
            }
            code.push(canonical(c).ok_or_else(invalid)?);
        }
        if code.len() < 6 {
            return Err(invalid());
        }
        Ok(Self(code))
    }

    /// Creates a code from its stored form, unchanged.
    ///
    /// # Errors
    ///
    /// `invalid_invite_code` if it is not in canonical form. Such a code is never stored.
    pub fn from_stored(stored: &str) -> Result<Self, InvalidInput> {
        let code = Self::parse(stored)?;
        let invalid = "The stored invite code is not in canonical form.";
        (code.0 == stored).then_some(code).ok_or(InvalidInput::new(ErrorCode::InvalidInviteCode, invalid))
    }

    /// Generates a new code.
    pub(crate) fn generate(random: &dyn Random) -> Self {
        Self(random.symbols(ALPHABET, LENGTH))
    }

    /// Returns the canonical form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the part of a link that has the invite code, or `None` if the input is not a link.
fn code_of_link(input: &str) -> Option<&str> {
    /// Names of parameters in the invite links of common referral programs.
    const PARAMETERS: [&str; 8] = [
        "ref",
        "referral",
        "referral_code",
        "invite",
        "invite_code",
        "invited_by",
        "invited_by_code",
        "code",
    ];

    let link = input.trim_matches(|c| is_blank(c) || is_sentence_mark(c));
    let link = match link.split_once("://") {
        Some((_scheme, link)) => link,
        None if link.contains('/') => link,
        None => return None,
    };
    let (_host, rest) = link.split_at(link.find(['/', '?', '#'])?);
    let is_known = |name: &str| PARAMETERS.iter().any(|known| name.eq_ignore_ascii_case(known));
    let mut parameters = rest.split(['?', '&', '#']).filter_map(|part| part.split_once('='));
    let value = parameters.find(|(name, _)| is_known(name)).map(|(_, value)| value);
    value.or_else(|| {
        // A page that routes by the fragment has the path there: `/#/i/GXVJ9Z`.
        let (path, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        last_segment(path).or_else(|| last_segment(fragment))
    })
}

/// Returns the last segment of a path that is not empty, without the query after it.
fn last_segment(path: &str) -> Option<&str> {
    path.split('?').next()?.rsplit('/').find(|segment| !segment.is_empty())
}

/// Returns the upper-case Latin letter or digit for `c`, or `None` if there is none.
fn canonical(c: char) -> Option<char> {
    let c = match c {
        'А' | 'а' => 'A',
        'В' | 'в' => 'B',
        'С' | 'с' => 'C',
        'Е' | 'е' => 'E',
        'Н' | 'н' => 'H',
        'К' | 'к' => 'K',
        'М' | 'м' => 'M',
        'О' | 'о' => 'O',
        'Р' | 'р' => 'P',
        'Т' | 'т' => 'T',
        'Х' | 'х' => 'X',
        'У' | 'у' => 'Y',
        latin => latin.to_ascii_uppercase(),
    };
    (c.is_ascii_uppercase() || c.is_ascii_digit()).then_some(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    #[test]
    fn codes_are_parsed_as_people_type_them() {
        for (input, code) in [
            ("K7M2QX", "K7M2QX"),
            (" k7m-2qx ", "K7M2QX"),
            ("к7м2QX", "K7M2QX"),
            ("авсенкмортху", "ABCEHKMOPTXY"),
            ("O0O0O0", "O0O0O0"),
            ("GXVJ9Z\n", "GXVJ9Z"),
            ("GXVJ9Z.", "GXVJ9Z"),
            ("\u{feff}GXVJ\u{200b}9Z\u{2060}", "GXVJ9Z"),
            ("«gxv\u{2013}j9z»!", "GXVJ9Z"),
        ] {
            assert_eq!(InviteCode::parse(input).expect(input).as_str(), code);
        }
    }

    #[test]
    fn an_invite_link_is_parsed_as_its_code() {
        for link in [
            "https://example.com/i/9R3WJ5",
            "https://example.com/i/9r3wj5/\n",
            "https://example.com/?ref=9R3WJ5",
            "https://example.com?utm_source=telegram&Invite=9R3WJ5#friends",
            "https://example.com/i/9R3WJ5?utm_source=telegram",
            "https://example.com/i/9R3WJ5#friends",
            "https://example.com/#/i/9R3WJ5",
            "https://example.com/#/join?invite_code=9R3WJ5",
            "myapp://invite/9R3WJ5",
            "example.com/9R3WJ5",
            "<https://example.com/i/9R3-WJ5>.",
        ] {
            assert_eq!(InviteCode::parse(link).expect(link).as_str(), "9R3WJ5");
        }
        for link in ["https://example.com", "https://example.com/", "https://example.com/?ref=", "/", "://"] {
            assert!(InviteCode::parse(link).is_err(), "{link}");
        }
    }

    #[test]
    fn other_input_is_rejected() {
        for input in
            ["", "ABCDE", "ABCDEFGHIJKLM", "ABC_DEF", "ЖЖЖЖЖЖ", "ABCDE\0", "ßßßßßß", &"A".repeat(1_000_000)]
        {
            assert!(InviteCode::parse(input).is_err(), "{input:.20}");
        }
    }

    #[test]
    fn generated_codes_are_canonical() {
        for _ in 0..1_000 {
            let code = InviteCode::generate(&SystemRandom);
            assert_eq!(InviteCode::parse(code.as_str()), Ok(code));
        }
    }
}
