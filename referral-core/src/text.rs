//! Kinds of characters in text from clients: those that are ignored, and those that are rejected.

use std::{ops::RangeInclusive, sync::LazyLock};

use regex::Regex;

/// Returns `true` if `input` has control characters.
pub(crate) fn has_control(input: &str) -> bool {
    input.chars().any(char::is_control)
}

/// Returns `true` if `text` has a visible character: one that is not a space, a mark or
/// [invisible](INVISIBLE).
pub(crate) fn has_visible(text: &str) -> bool {
    static VISIBLE: LazyLock<Regex> =
        LazyLock::new(|| regex(&format!(r"[^\p{{White_Space}}\p{{M}}{INVISIBLE}]")));
    VISIBLE.is_match(text)
}

/// Returns each invisible character with its byte offset.
pub(crate) fn invisible(text: &str) -> impl Iterator<Item = (usize, char)> {
    static ONE: LazyLock<Regex> = LazyLock::new(|| regex(&format!("[{INVISIBLE}]")));
    ONE.find_iter(text).flat_map(|found| found.as_str().chars().map(move |c| (found.start(), c)))
}

/// Returns `true` for the characters that separate or join letters: U+200C and U+200D.
pub(crate) fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Returns `true` for characters that pasted text has without a meaning: white space, line ends, and
/// characters without width such as joiners, marks of direction and the byte order mark.
pub(crate) fn is_blank(c: char) -> bool {
    c.is_whitespace()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// Returns `true` for characters that separate the groups of a number or a code: blanks, and the punctuation
/// that libphonenumber accepts in a phone number, except letters.
pub(crate) fn is_separator(c: char) -> bool {
    const DASHES: RangeInclusive<char> = '\u{2010}'..='\u{2015}';
    const OTHERS: &str = "-−ー－.．·/／()（）[]［］~⁓∼～";

    is_blank(c) || DASHES.contains(&c) || OTHERS.contains(c)
}

/// Returns `true` for characters that are ignored in one-time codes and invite codes.
pub(crate) fn is_ignored_in_code(c: char) -> bool {
    is_separator(c) || is_sentence_mark(c)
}

/// Returns `true` for punctuation that pasted text has before or after a number or a code: quotation marks,
/// and marks at the end of a sentence or a phrase.
pub(crate) fn is_sentence_mark(c: char) -> bool {
    const QUOTATION_MARKS: RangeInclusive<char> = '\u{2018}'..='\u{201f}';
    const OTHERS: &str = "\"'`«»‹›<>*,:;!?…、。，：！？";

    QUOTATION_MARKS.contains(&c) || OTHERS.contains(c)
}

/// Compiles a constant pattern.
pub(crate) fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant that is covered by tests")
}

/// Invisible characters: control, format, private and unassigned characters, separators of lines and
/// paragraphs, and characters that Unicode defines as ignorable in display. Four invisible characters that
/// Unicode does not define so are added: the blank Braille pattern, the object replacement character, the
/// null note head and the Khitan filler.
const INVISIBLE: &str =
    concat!(r"\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}", r"\x{2800}\x{fffc}\x{1d159}\x{16fe4}",);
