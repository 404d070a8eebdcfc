//! Grams: the pieces of texts that an index over a search is made of.
//!
//! A text that contains a pattern contains the pieces of the pattern. So an index from pieces to
//! users finds all who may match, whatever the database and its idea of letters, and only they
//! have to be looked at. There are pieces of several lengths, since one alone does not do:
//!
//! - three characters, the shortest pattern that may stand anywhere. Everybody's phone has digits,
//!   though, and of a million phones every hundredth has a given three of them in a given place;
//! - five characters, of which a given five stand in one phone of ten thousand: so a search for most
//!   of a phone looks at a few users, however many there are;
//! - the first one and the first two of a value, for the shorter patterns, which match beginnings.

/// A piece of a text, as a number of 32 bits. Two pieces may have one number: that finds somebody
/// too many, never too few.
pub type Gram = u32;

/// Marks the grams of public values, so that they are not found by private ones.
pub(crate) const PUBLIC: u8 = 1;

/// Marks the grams of private values.
pub(crate) const PRIVATE: u8 = 2;

/// The lengths of the pieces that stand anywhere.
const SHORT: usize = 3;
const LONG: usize = 5;

/// The grams of a text whose values each begin with `start`.
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

/// A few grams of a pattern, one beside the other: more would find hardly anybody less, and each is a
/// list to read. Of digits they are the last, since the phones of a country begin alike; of all else
/// the first, since the addresses at a host end alike. A pattern has three characters or more, or is
/// the beginning of a value.
pub(crate) fn of_pattern(mark: u8, pattern: &str) -> Vec<Gram> {
    let chars: Vec<char> = pattern.chars().collect();
    if chars.len() < SHORT || chars[0] == crate::users::KEY_START {
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

/// The number of a piece: FNV-1a, which is the same on every machine and in every version.
/// Databases keep it, so it must never change.
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
    use crate::users::KEY_START;

    #[test]
    fn a_gram_never_changes() {
        // Worked out once, with another implementation of FNV-1a.
        assert_eq!(gram(PUBLIC, &['a']), 0x2c6a_20ff);
        assert_eq!(of_pattern(PRIVATE, "854"), [0x6838_88fa]);
    }

    #[test]
    fn every_part_of_a_value_is_found_by_its_grams() {
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
    fn public_and_private_grams_do_not_meet() {
        assert_ne!(of_pattern(PUBLIC, "854"), of_pattern(PRIVATE, "854"));
    }
}
