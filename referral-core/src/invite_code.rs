//! Invite codes: drawing them, and reading what somebody typed.

use std::fmt;

use crate::{Invalid, random::Random};

/// The symbols of new codes: digits and consonants that are hard to take for one another and
/// spell no words.
const ALPHABET: &[u8] = b"23456789BCDFGHJKMNPQRSTVWXYZ";

/// The length of new codes. 28⁶ is 482 million: enough for a million users to find a free code
/// at the first draw in 99.8 % of all cases.
const LENGTH: usize = 6;

/// How many codes a new user is offered before [`StorageError::InviteCodesExhausted`]: with a
/// million users, eight collisions in a row happen once in 10²¹ sign-ups.
///
/// [`StorageError::InviteCodesExhausted`]: crate::storage::StorageError::InviteCodesExhausted
pub(crate) const CANDIDATES: usize = 8;

/// A user's own code, which friends name when they sign in: 6 to 12 of `A–Z0–9`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InviteCode(String);

impl InviteCode {
    /// Reads a code as people type it: letters of either case, with spaces and hyphens, and
    /// Cyrillic letters that look like Latin ones. No other symbols are taken for one another:
    /// codes from elsewhere may hold both `O` and `0`.
    ///
    /// # Errors
    ///
    /// `invalid_invite_code` for anything but 6 to 12 letters and digits.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let invalid =
            || Invalid::new("invalid_invite_code", "An invite code has 6 to 12 letters A–Z and digits.");

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

    /// Draws a new code.
    pub(crate) fn draw(random: &dyn Random) -> Self {
        Self(random.symbols(ALPHABET, LENGTH))
    }

    /// The canonical form.
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

/// The upper-case Latin letter or digit that is meant by `c`.
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
    fn codes_are_read_as_people_type_them() {
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
    fn anything_else_is_refused() {
        for input in
            ["", "ABCDE", "ABCDEFGHIJKLM", "ABC_DEF", "ЖЖЖЖЖЖ", "ABCDE\0", "ßßßßßß", &"A".repeat(1_000_000)]
        {
            assert!(InviteCode::parse(input).is_err(), "{input:.20}");
        }
    }

    #[test]
    fn a_drawn_code_reads_as_itself() {
        for _ in 0..1_000 {
            let code = InviteCode::draw(&SystemRandom);
            assert_eq!(InviteCode::parse(code.as_str()), Ok(code));
        }
    }
}
