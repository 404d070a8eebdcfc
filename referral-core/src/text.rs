//! Characters that text from clients may not have.

use std::sync::LazyLock;

use regex::Regex;

/// Returns `true` if there are control characters.
pub(crate) fn has_control(input: &str) -> bool {
    input.chars().any(char::is_control)
}

/// Returns `true` if there is something to see: not only spaces, marks and what is invisible.
pub(crate) fn has_visible(text: &str) -> bool {
    static VISIBLE: LazyLock<Regex> =
        LazyLock::new(|| regex(&format!(r"[^\p{{White_Space}}\p{{M}}{INVISIBLE}]")));
    VISIBLE.is_match(text)
}

/// Returns each character that shows nothing by itself, with its place in bytes.
pub(crate) fn invisible(text: &str) -> impl Iterator<Item = (usize, char)> {
    static ONE: LazyLock<Regex> = LazyLock::new(|| regex(&format!("[{INVISIBLE}]")));
    ONE.find_iter(text).flat_map(|found| found.as_str().chars().map(move |c| (found.start(), c)))
}

/// Returns `true` for the characters that join or part letters: U+200C and U+200D.
pub(crate) fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Compiles a pattern that is fixed in the program.
pub(crate) fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is fixed and has been tried")
}

/// Control, format, private and unassigned characters, separators of lines and paragraphs, what Unicode says
/// may be ignored in display, and what it does not say: blank Braille, the stand-in for an object, the note
/// without a head, and the Khitan filler.
const INVISIBLE: &str =
    concat!(r"\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}", r"\x{2800}\x{fffc}\x{1d159}\x{16fe4}",);
