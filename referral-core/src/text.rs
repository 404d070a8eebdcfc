//! Checks for characters that text from clients must not have.

use std::sync::LazyLock;

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
