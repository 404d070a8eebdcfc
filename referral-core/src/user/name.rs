//! First and last names.

use std::{fmt, sync::LazyLock};

use regex::Regex;
use unicode_segmentation::UnicodeSegmentation as _;

use crate::{
    error::{catalog::ErrorCode, input::InvalidInput},
    text::{has_control, has_visible, invisible, regex},
};

/// First or last name: 1 to 64 grapheme clusters, which readers perceive as characters, without surrounding
/// white space and without invisible characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Largest number of grapheme clusters of a name.
    pub const MAX_GRAPHEMES: usize = 64;

    /// Largest size of a name in bytes, since one grapheme cluster can have any number of marks: 16 for each
    /// cluster. A Thai letter with vowel and tone mark has 9 bytes, two joined Indic letters with a vowel
    /// sign have 12.
    pub const MAX_BYTES: usize = 16 * Self::MAX_GRAPHEMES;

    /// Parses a name and trims it.
    ///
    /// # Errors
    ///
    /// `invalid_name` if the trimmed name is empty or too long, or if it has control characters, line or
    /// paragraph separators, or invisible characters. Joiners are accepted between letters of scripts that
    /// need them, and variation selectors after characters that have variants.
    pub fn parse(input: &str) -> Result<Self, InvalidInput> {
        let name = input.trim();
        // The size is checked first, since it limits the work of all further checks.
        let is_name = (1..=Self::MAX_BYTES).contains(&name.len())
            && !input.chars().any(|c| matches!(c, '\u{2028}' | '\u{2029}'))
            && !has_control(input)
            && name.graphemes(true).count() <= Self::MAX_GRAPHEMES
            && has_visible(name)
            && invisible(name).all(|(at, c)| fits_its_place(name, at, c));
        if is_name { Ok(Self(name.to_owned())) } else { Err(ErrorCode::InvalidName.into()) }
    }

    /// Creates a name from its stored form, unchanged.
    ///
    /// # Errors
    ///
    /// `invalid_name` if it is empty, too long, or has control characters. Such a name is never stored.
    pub fn from_stored(stored: &str) -> Result<Self, InvalidInput> {
        if (1..=Self::MAX_BYTES).contains(&stored.len()) && !has_control(stored) {
            Ok(Self(stored.to_owned()))
        } else {
            Err(InvalidInput::new(
                ErrorCode::InvalidName,
                "The stored name is empty, too long, or has control characters.",
            ))
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Scripts whose letters change shape next to a joiner: of the cursive ones, those in which Persian, Urdu,
/// Syriac, Mongolian, N’Ko and Rohingya are written, and those of India and its neighbors.
const SCRIPTS_WITH_JOINERS: [&str; 18] = [
    "Arabic",
    "Syriac",
    "Mongolian",
    "Nko",
    "Hanifi_Rohingya",
    "Devanagari",
    "Bengali",
    "Gurmukhi",
    "Gujarati",
    "Oriya",
    "Tamil",
    "Telugu",
    "Kannada",
    "Malayalam",
    "Sinhala",
    "Tibetan",
    "Myanmar",
    "Khmer",
];

/// Returns `true` if an invisible character changes how its neighbors look, as joiners and selectors do in
/// some scripts.
///
/// `c` is at the byte `at` of `name`.
fn fits_its_place(name: &str, at: usize, c: char) -> bool {
    /// Joiner between two letters of one script, each with its marks.
    static JOINED: LazyLock<Regex> = LazyLock::new(|| {
        let pairs = SCRIPTS_WITH_JOINERS.map(|script| {
            let letter = format!(r"[\p{{scx={script}}}&&[\p{{L}}\p{{M}}]]");
            format!(r"{letter}[\x{{200c}}\x{{200d}}]{letter}")
        });
        // In Mongolian, the vowel separator is accepted as well.
        regex(&format!(r"^(?:{}|\p{{Mongolian}}\x{{180e}}\p{{Mongolian}})$", pairs.join("|")))
    });
    /// Selector after a character with variants: those of Japanese names (UTS 37), emoji, and Mongolian.
    static VARIANT: LazyLock<Regex> = LazyLock::new(|| {
        regex(concat!(
            r"^(?:\p{Unified_Ideograph}[\x{fe00}-\x{fe02}\x{e0100}-\x{e01ef}]",
            r"|\p{Extended_Pictographic}[\x{fe0e}\x{fe0f}]",
            r"|\p{Mongolian}[\x{180b}-\x{180d}\x{180f}])$",
        ))
    });
    let (before, rest) = name.split_at(at);
    let with_previous: String = before.chars().next_back().into_iter().chain([c]).collect();
    let with_next: String = with_previous.chars().chain(rest.chars().nth(1)).collect();
    VARIANT.is_match(&with_previous) || JOINED.is_match(&with_next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed() {
        assert_eq!(Name::parse("  Анна-Мария\u{a0}").expect("a name").as_str(), "Анна-Мария");
    }

    #[test]
    fn real_names_are_accepted() {
        for name in [
            "María de los Ángeles Guadalupe Hernández",
            "O’Neil",
            "Jean-Luc",
            "Nguyễn Thị Minh Khai",
            "สมชาย ศักดิ์สิทธิ์เจริญรุ่งเรืองกิจ",
            "Ọlábísí",
            "X Æ A-12",
            "李",
            "渡\u{908a}\u{e0101}",
            "葛\u{e0100}城",
            "علی\u{200c}رضا",
            "محمّد\u{200c}علی",
            "ශ්\u{200d}රී",
            "क\u{94d}\u{200d}ष",
            "র\u{200d}\u{9cd}যাব",
            "ᠠᠮᠠ\u{180e}ᠠ",
            "ᠠ\u{180b}",
            "❤\u{fe0f}",
            "👩",
        ] {
            assert_eq!(Name::parse(name).expect(name).as_str(), name);
            assert_eq!(Name::from_stored(name), Name::parse(name));
        }
    }

    #[test]
    fn length_is_counted_in_grapheme_clusters() {
        // One, three and four characters in a cluster.
        for cluster in ["ж", "ที่", "क्षी"] {
            assert_eq!(cluster.graphemes(true).count(), 1, "{cluster}");
            assert!(Name::parse(&cluster.repeat(64)).is_ok(), "{cluster}");
            assert!(Name::parse(&cluster.repeat(65)).is_err(), "{cluster}");
        }
        let marks = |count| "e".to_owned() + &"\u{301}".repeat(count);
        assert_eq!(marks(500).graphemes(true).count(), 1);
        assert!(Name::parse(&marks(511)).is_ok());
        assert!(Name::parse(&marks(512)).is_err(), "1025 bytes");
        assert!(Name::parse(&"x".repeat(10_000_000)).is_err());
    }

    #[test]
    fn empty_names_and_names_with_invisible_characters_or_line_breaks_are_rejected() {
        for input in [
            "",
            "   ",
            "\u{a0}\u{3000}",
            "a\0b",
            "a\nb",
            "\n",
            "Anna\n",
            "a\u{85}b",
            "a\u{2028}b",
            "a\u{2029}b",
            "\u{2028}Anna",
            "Anna\u{2029}",
            "\u{301}",
            "\u{2800}",
            "a\u{2800}b",
            "a\u{200b}b",
            "a\u{2060}b",
            "\u{feff}Anna",
            "a\u{ad}b",
            "a\u{34f}b",
            "a\u{61c}b",
            "a\u{200e}b",
            "a\u{200f}b",
            "a\u{202e}b",
            "a\u{2066}b\u{2069}",
            "\u{115f}",
            "a\u{1160}",
            "\u{3164}",
            "a\u{3164}b",
            "\u{ffa0}",
            "a\u{17b4}",
            "a\u{e0061}b",
            "a\u{e0001}",
            "a\u{fff9}b",
            "a\u{fffc}b",
            "\u{1d159}",
            "a\u{16fe4}b",
            "a\u{ffff}b",
            "a\u{e000}b",
            "a\u{378}b",
        ] {
            assert!(Name::parse(input).is_err(), "{input:?}");
        }
    }

    #[test]
    fn joiners_and_selectors_without_effect_are_rejected() {
        for input in [
            "a\u{200d}b",
            "Ан\u{200c}на",
            "\u{200c}علی",
            "علی\u{200c}",
            "علی\u{200c} رضا",
            "علی\u{200c}\u{200c}رضا",
            "علی\u{200c}a",
            "علی\u{200c}र",
            "李\u{200d}李",
            "👩\u{200d}👧",
            "\u{fe0f}",
            "a\u{fe0f}",
            "1\u{fe0f}",
            "ж\u{fe00}",
            "a\u{e0100}",
            "李\u{e0100}\u{e0100}",
            "李\u{fe0f}",
            "❤\u{fe0f}\u{fe0f}",
            "a\u{180b}",
            "a\u{180e}b",
            "ᠠ\u{180e}",
        ] {
            assert!(Name::parse(input).is_err(), "{input:?}");
        }
    }
}
