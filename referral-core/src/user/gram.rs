//! Grams: pieces of texts, from which the index of the search is built.
//!
//! A text that contains a pattern also contains the pieces of the pattern. An index from pieces to users thus
//! finds all users who may match, independent of how the database treats letters. Only these users must be
//! compared with the pattern. Pieces of one length are not enough, so there are several:
//!
//! - three characters, the length of the shortest pattern that matches anywhere in a value. Every phone has
//!   digits, though: of a million phones, one in a hundred has three given digits in a given place;
//! - five characters. One phone in ten thousand has five given digits, so a search for most of a phone reads
//!   few users, however many there are;
//! - the first character and the first two characters of a value, for shorter patterns, which match only the
//!   start of a value.

/// Piece of a text, as a number of 32 bits. Two pieces may have the same number. An index then finds
/// additional users, but misses none.
pub type Gram = u32;

/// Mark of the grams of public values, which keeps them apart from grams of private values.
pub(crate) const PUBLIC: u8 = 1;

/// Mark of the grams of private values.
pub(crate) const PRIVATE: u8 = 2;

/// Lengths of the pieces that match anywhere in a value.
const SHORT: usize = 3;
const LONG: usize = 5;

/// Returns the grams of a text whose values each start with `start`.
pub(crate) fn of_values(mark: u8, text: &str, start: char) -> Vec<Gram> {
    let mut grams = Vec::new();
    for value in text.split(start).skip(1) {
        let chars: Vec<char> = value.chars().collect();
        for length in [SHORT, LONG] {
            grams.extend(chars.windows(length).map(|piece| gram(mark, piece)));
        }
        for length in 1..SHORT.min(chars.len() + 1) {
            let beginning: Vec<char> = [start].iter().chain(&chars[..length]).copied().collect();
            grams.push(gram(mark, &beginning));
        }
    }
    grams
}

/// Returns a few grams of a pattern that do not overlap much. More grams would exclude hardly any further
/// user, and each gram is a list to read. For digits these are the last grams, since the phones of a country
/// start alike. For other text these are the first, since the addresses of a host end alike. A pattern has
/// three characters or more, or is the start of a value.
pub(crate) fn of_pattern(mark: u8, pattern: &str) -> Vec<Gram> {
    let chars: Vec<char> = pattern.chars().collect();
    if chars.len() < SHORT || chars[0] == crate::user::listing::KEY_START {
        return vec![gram(mark, &chars)];
    }
    let length = if chars.len() < LONG { SHORT } else { LONG };
    let last = chars.len() - length;
    let is_number = chars.iter().all(|character| character.is_ascii_digit() || *character == '+');
    let places: Vec<usize> = if is_number {
        vec![last, last.saturating_sub(SHORT)]
    } else {
        (0..=last).step_by(length).take(2).chain([last.min(2 * length)]).collect()
    };
    let mut grams: Vec<Gram> = places.iter().map(|at| gram(mark, &chars[*at..*at + length])).collect();
    grams.sort_unstable();
    grams.dedup();
    grams
}

/// Returns the number of a piece: its FNV-1a hash, which is the same on every machine and in every version.
/// Databases store it, so it must never change.
fn gram(mark: u8, piece: &[char]) -> Gram {
    const OFFSET_BASIS: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    let bytes = piece.iter().flat_map(|character| u32::from(*character).to_be_bytes());
    [mark]
        .into_iter()
        .chain(bytes)
        .fold(OFFSET_BASIS, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::listing::KEY_START;

    #[test]
    fn grams_are_stable() {
        // Computed with another implementation of FNV-1a.
        assert_eq!(gram(PUBLIC, &['a']), 0x2c6a_20ff);
        assert_eq!(of_pattern(PRIVATE, "854"), [0x6838_88fa]);
    }

    #[test]
    fn grams_of_every_part_of_a_value_are_grams_of_the_value() {
        let text = "\n+79608543017\n79608543017\nпётр@example.com\nab";
        let grams = of_values(PRIVATE, text, KEY_START);
        for value in text.split(KEY_START).skip(1) {
            let chars: Vec<char> = value.chars().collect();
            for from in 0..chars.len() {
                for to in from + SHORT..=chars.len() {
                    let part: String = chars[from..to].iter().collect();
                    let wanted = of_pattern(PRIVATE, &part);
                    assert!(wanted.iter().all(|gram| grams.contains(gram)), "{part}");
                    assert!((1..=3).contains(&wanted.len()), "{part}");
                }
            }
            for length in 1..SHORT {
                let beginning: String = [KEY_START].iter().chain(&chars[..length]).collect();
                assert!(grams.contains(&of_pattern(PRIVATE, &beginning)[0]), "{value}");
            }
        }
    }

    #[test]
    fn public_and_private_grams_of_the_same_text_differ() {
        assert_ne!(of_pattern(PUBLIC, "854"), of_pattern(PRIVATE, "854"));
    }
}
