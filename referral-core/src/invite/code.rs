//! Invite codes: generation and parsing.

use std::fmt;

use crate::{
    error::{catalog::ErrorCode, input::InvalidInput},
    random::Random,
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
    /// Parses a code as people type it. Letters may have either case, and Cyrillic letters that look like
    /// Latin letters are replaced. Spaces and hyphens are ignored. Other similar symbols are not replaced,
    /// since codes from other systems may have both `O` and `0`.
    ///
    /// # Errors
    ///
    /// `invalid_invite_code` if the input is not 6 to 12 letters and digits.
    pub fn parse(input: &str) -> Result<Self, InvalidInput> {
        let detail =
            "An invite code must have 6 to 12 letters A–Z and digits. Check the code, or leave it out.";
        let invalid = || InvalidInput::new(ErrorCode::InvalidInviteCode, detail);

        let mut code = String::with_capacity(12);
        for c in input.chars().filter(|c| !matches!(c, ' ' | '\u{a0}' | '-')) {
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
        ] {
            assert_eq!(InviteCode::parse(input).expect(input).as_str(), code);
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
