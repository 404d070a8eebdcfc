//! Segments of a text: the number of messages that the phone network sends for it.

/// Default alphabet of 3GPP TS 23.038, in the order of its table and without the escape.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?\
                     ¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";

/// Extension of the default alphabet. Each of these characters is preceded by an escape.
const EXTENSION: &str = "\u{c}^{}\\[~]|€";

/// Encoding of the characters of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "SMS has these two encodings")]
pub enum Encoding {
    /// Default alphabet of GSM 03.38 and its extension, with 7 bits per unit.
    Gsm7,
    /// UTF-16, with 16 bits per unit. It is used if a text contains any other character, such as a Cyrillic
    /// letter.
    Ucs2,
}

impl Encoding {
    /// Returns the maximum number of units of a text that fits into a single segment.
    #[must_use]
    pub fn units_alone(self) -> usize {
        match self {
            Self::Gsm7 => 160,
            Self::Ucs2 => 70,
        }
    }

    /// Returns the maximum number of units in each segment of a longer text. Some bytes of each segment hold
    /// its position.
    #[must_use]
    pub fn units_of_several(self) -> usize {
        match self {
            Self::Gsm7 => 153,
            Self::Ucs2 => 67,
        }
    }
}

/// Segments in which a text is sent. Each of them is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segments {
    /// Encoding of the text.
    pub encoding: Encoding,
    /// Number of units of the text.
    pub units: usize,
    /// Number of segments.
    pub count: usize,
}

impl Segments {
    /// Counts the segments of a text, for networks without national character tables.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text.chars().map(septets).collect::<Option<Vec<_>>>() {
            Some(lengths) => Self::counted(Encoding::Gsm7, lengths),
            None => Self::counted(Encoding::Ucs2, text.chars().map(char::len_utf16)),
        }
    }

    fn counted(encoding: Encoding, lengths: impl IntoIterator<Item = usize>) -> Self {
        let (mut units, mut count, mut filled) = (0, 1, 0);
        for length in lengths {
            units += length;
            // A character of two units is not split between segments.
            if filled + length > encoding.units_of_several() {
                count += 1;
                filled = 0;
            }
            filled += length;
        }
        if units <= encoding.units_alone() {
            count = 1;
        }
        Self { encoding, units, count }
    }
}

/// Returns the number of 7-bit units of a character, or `None` if the alphabet does not contain it.
fn septets(c: char) -> Option<usize> {
    if BASIC.contains(c) {
        Some(1)
    } else if EXTENSION.contains(c) {
        Some(2)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(text: &str) -> (Encoding, usize, usize) {
        let Segments { encoding, units, count } = Segments::of(text);
        (encoding, units, count)
    }

    #[test]
    fn alphabet_matches_the_standard() {
        assert_eq!((BASIC.chars().count(), EXTENSION.chars().count()), (127, 10));
        let all = ('\0'..=char::MAX).filter(|c| septets(*c).is_some());
        assert_eq!(all.count(), 137, "no character occurs twice");
        // The mapping table of Unicode has the small letter, the standard has the capital letter.
        assert_eq!((septets('Ç'), septets('ç')), (Some(1), None));
        for c in "`\t\0\u{1b}\u{a0}’“”–—…áíóúâêôűĞ№₸ёΑя".chars() {
            assert_eq!(septets(c), None, "{c:?}");
        }
    }

    #[test]
    fn text_is_split_where_a_segment_is_full() {
        use Encoding::{Gsm7, Ucs2};
        for (character, encoding, borders) in [
            ("a", Gsm7, &[(0, 1), (1, 1), (160, 1), (161, 2), (306, 2), (307, 3), (459, 3), (460, 4)][..]),
            // Two units each, and 153 is odd: one unit of each segment stays unused.
            ("€", Gsm7, &[(80, 1), (81, 2), (152, 2), (153, 3)]),
            ("ё", Ucs2, &[(1, 1), (70, 1), (71, 2), (134, 2), (135, 3), (201, 3), (202, 4)]),
            ("Қ", Ucs2, &[(70, 1), (71, 2)]),
            ("`", Ucs2, &[(70, 1), (71, 2)]),
            // Two units each, and 67 is odd.
            ("🙂", Ucs2, &[(35, 1), (36, 2), (66, 2), (67, 3)]),
        ] {
            let width = if matches!(character, "€" | "🙂") { 2 } else { 1 };
            for &(count, expected) in borders {
                let text = character.repeat(count);
                let encoding = if count == 0 { Gsm7 } else { encoding };
                assert_eq!(segments(&text), (encoding, count * width, expected), "{count} × {character}");
            }
        }
    }

    #[test]
    fn units_of_one_character_are_not_split() {
        // The 153rd unit would be the escape, so it stays unused, and 153 more units do not fit.
        let text = |before, after| format!("{}€{}", "a".repeat(before), "a".repeat(after));
        assert_eq!(segments(&text(151, 153)), (Encoding::Gsm7, 306, 2));
        assert_eq!(segments(&text(152, 151)), (Encoding::Gsm7, 305, 2));
        assert_eq!(segments(&text(152, 152)), (Encoding::Gsm7, 306, 3));
        let text = |before, after| format!("{}🙂{}", "я".repeat(before), "я".repeat(after));
        assert_eq!(segments(&text(65, 67)), (Encoding::Ucs2, 134, 2));
        assert_eq!(segments(&text(66, 65)), (Encoding::Ucs2, 133, 2));
        assert_eq!(segments(&text(66, 66)), (Encoding::Ucs2, 134, 3));
    }

    #[test]
    fn one_character_determines_the_encoding_of_the_text() {
        assert_eq!(segments(&"a".repeat(71)), (Encoding::Gsm7, 71, 1));
        assert_eq!(segments(&format!("{}ё", "a".repeat(70))), (Encoding::Ucs2, 71, 2));
    }
}
