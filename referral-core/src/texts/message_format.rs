//! The part of the ICU message format that the texts use: `{seconds}`, and plural forms such as
//! `{seconds, plural, one {# second} other {# seconds}}`.

use std::borrow::Cow;

use super::Language;

/// Part of a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Literal(&'a str),
    Number {
        name: &'a str,
    },
    /// Forms by plural category. `#` in a form is the number.
    Plural {
        name: &'a str,
        forms: Vec<(&'a str, &'a str)>,
    },
}

/// Returns the template with its values in a language. A placeholder without a value is left as it is.
pub(super) fn write(template: &'static str, language: Language, values: &[(&str, u64)]) -> Cow<'static, str> {
    let Some(pieces) = parse(template).filter(|_| template.contains('{')) else {
        return Cow::Borrowed(template);
    };
    let value_of = |name: &str| values.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
    let mut written = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(text) => written.push_str(text),
            Piece::Number { name } | Piece::Plural { name, .. } if value_of(name).is_none() => {
                written.extend(["{", name, "}"]);
            }
            Piece::Number { name } => written.extend(value_of(name).map(|value| value.to_string())),
            Piece::Plural { name, forms } => {
                let value = value_of(name).unwrap_or_default();
                let of = |category| forms.iter().find(|(of, _)| *of == category).map(|(_, form)| *form);
                let form = of(language.plural_category(value)).or_else(|| of("other"));
                written.push_str(&form.unwrap_or("#").replace('#', &value.to_string()));
            }
        }
    }
    Cow::Owned(written)
}

/// Parses a template. Returns `None` if its braces or its plural forms are malformed.
pub(super) fn parse(template: &str) -> Option<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((literal, after)) = rest.split_once('{') {
        pieces.push(literal_piece(literal)?);
        let (argument, after) = split_at_closing_brace(after)?;
        pieces.push(argument_piece(argument)?);
        rest = after;
    }
    pieces.push(literal_piece(rest)?);
    pieces.retain(|piece| *piece != Piece::Literal(""));
    Some(pieces)
}

fn literal_piece(text: &str) -> Option<Piece<'_>> {
    (!text.contains('}')).then_some(Piece::Literal(text))
}

fn argument_piece(argument: &str) -> Option<Piece<'_>> {
    let Some((name, plural)) = argument.split_once(',') else {
        return is_name(argument).then_some(Piece::Number { name: argument });
    };
    let mut rest = plural.trim_start().strip_prefix("plural,")?.trim();
    let mut forms = Vec::new();
    while !rest.is_empty() {
        let (category, after) = rest.split_once('{')?;
        let (form, after) = split_at_closing_brace(after)?;
        let category = category.trim();
        if !is_name(category) || form.contains('{') {
            return None;
        }
        forms.push((category, form));
        rest = after.trim_start();
    }
    let has_other = forms.iter().any(|(category, _)| *category == "other");
    (is_name(name) && has_other).then_some(Piece::Plural { name, forms })
}

/// Splits a text after an opening brace at the brace that closes it.
fn split_at_closing_brace(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_u32;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some((&text[..at], &text[at + 1..])),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}
