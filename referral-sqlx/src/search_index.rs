//! Search index: maps n-grams, which are pieces of the searched texts, to users.
//!
//! A text that contains a pattern also contains the pieces of the pattern. So an index from pieces to users
//! finds all users who may match, independent of how the database treats letters. Only these users must be
//! compared with the pattern. Pieces of one length are not enough, so there are several:
//!
//! - three characters, the length of the shortest pattern that matches anywhere in a value. Every phone has
//!   digits, though: of a million phones, one in a hundred has three given digits in a given place;
//! - five characters. One phone in ten thousand has five given digits, so a search for most of a phone reads
//!   few users, however many there are;
//! - the first character and the first two characters of a value, for shorter patterns, which match only the
//!   start of a value.

use referral_core::storage::{SearchKeys, SearchTerm};

/// Piece of a text, as a number of 32 bits. Two pieces may have the same number. An index then finds
/// additional users, but misses none.
pub(crate) type Ngram = u32;

/// Mark of the n-grams of public values, which keeps them apart from n-grams of private values.
const PUBLIC: u8 = 1;

/// Mark of the n-grams of private values.
const PRIVATE: u8 = 2;

/// Lengths of the pieces that match anywhere in a value.
const SHORT: usize = 3;
const LONG: usize = 5;

/// Returns the n-grams by which the index finds a user. A user who matches a term has all its public n-grams,
/// or all its private n-grams. The reverse does not hold, so each user that the index finds must be compared
/// with the pattern. Each n-gram occurs once, in ascending order.
#[must_use]
#[cfg_attr(not(feature = "benchmark"), expect(unreachable_pub, reason = "the benchmark uses it"))]
pub fn of_user(keys: &SearchKeys) -> Vec<u32> {
    let mut ngrams = of_values(PUBLIC, &keys.public);
    ngrams.extend(of_values(PRIVATE, &keys.private));
    ngrams.sort_unstable();
    ngrams.dedup();
    ngrams
}

/// Returns the n-grams of each user who matches the term in a public value.
pub(crate) fn public(term: &SearchTerm) -> Vec<Ngram> {
    of_pattern(PUBLIC, &term.pattern)
}

/// Returns the n-grams of each user who matches the term in a private value, or `None` if private values may
/// not be searched.
pub(crate) fn private(term: &SearchTerm) -> Option<Vec<Ngram>> {
    term.sees_private.then(|| of_pattern(PRIVATE, &term.pattern))
}

/// Returns the n-grams of the values of a text.
fn of_values(mark: u8, text: &str) -> Vec<Ngram> {
    let mut ngrams = Vec::new();
    for value in text.split(SearchKeys::VALUE_START).skip(1) {
        let chars: Vec<char> = value.chars().collect();
        for length in [SHORT, LONG] {
            ngrams.extend(chars.windows(length).map(|piece| ngram(mark, piece)));
        }
        for length in 1..SHORT.min(chars.len() + 1) {
            let beginning: Vec<char> =
                [SearchKeys::VALUE_START].iter().chain(&chars[..length]).copied().collect();
            ngrams.push(ngram(mark, &beginning));
        }
    }
    ngrams
}

/// Returns a few n-grams of a pattern that do not overlap much. More n-grams would exclude hardly any further
/// user, and each n-gram is a list to read. For digits these are the last n-grams, since the phones of a
/// country start alike. For other text these are the first, since the addresses of a host end alike. A
/// pattern has three characters or more, or is the start of a value.
fn of_pattern(mark: u8, pattern: &str) -> Vec<Ngram> {
    let chars: Vec<char> = pattern.chars().collect();
    if chars.len() < SHORT || chars[0] == SearchKeys::VALUE_START {
        return vec![ngram(mark, &chars)];
    }
    let length = if chars.len() < LONG { SHORT } else { LONG };
    let last = chars.len() - length;
    let is_number = chars.iter().all(|character| character.is_ascii_digit() || *character == '+');
    let places: Vec<usize> = if is_number {
        vec![last, last.saturating_sub(SHORT)]
    } else {
        (0..=last).step_by(length).take(2).chain([last.min(2 * length)]).collect()
    };
    let mut ngrams: Vec<Ngram> = places.iter().map(|at| ngram(mark, &chars[*at..*at + length])).collect();
    ngrams.sort_unstable();
    ngrams.dedup();
    ngrams
}

/// Returns the number of a piece: its FNV-1a hash, which is the same on every machine and in every version.
/// Databases store it, so it must never change.
fn ngram(mark: u8, piece: &[char]) -> Ngram {
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

    #[test]
    fn ngrams_are_stable() {
        // Computed with another implementation of FNV-1a.
        assert_eq!(ngram(PUBLIC, &['a']), 0x2c6a_20ff);
        assert_eq!(of_pattern(PRIVATE, "854"), [0x6838_88fa]);
    }

    #[test]
    fn ngrams_of_every_part_of_a_value_are_ngrams_of_the_value() {
        let text = "\n+79608543017\n79608543017\nпётр@example.com\nab";
        let ngrams = of_values(PRIVATE, text);
        for value in text.split(SearchKeys::VALUE_START).skip(1) {
            let chars: Vec<char> = value.chars().collect();
            for from in 0..chars.len() {
                for to in from + SHORT..=chars.len() {
                    let part: String = chars[from..to].iter().collect();
                    let wanted = of_pattern(PRIVATE, &part);
                    assert!(wanted.iter().all(|ngram| ngrams.contains(ngram)), "{part}");
                    assert!((1..=3).contains(&wanted.len()), "{part}");
                }
            }
            for length in 1..SHORT {
                let beginning: String = [SearchKeys::VALUE_START].iter().chain(&chars[..length]).collect();
                assert!(ngrams.contains(&of_pattern(PRIVATE, &beginning)[0]), "{value}");
            }
        }
    }

    #[test]
    fn public_and_private_ngrams_of_the_same_text_differ() {
        assert_ne!(of_pattern(PUBLIC, "854"), of_pattern(PRIVATE, "854"));
    }
}
