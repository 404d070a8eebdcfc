//! Text of an error with its sources, for log lines and for the command line.

/// Returns an error and its sources in one line. A source whose text is in the line already is omitted.
#[must_use]
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        next = source.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Failure {
        text: &'static str,
        source: Option<Box<Failure>>,
    }

    fn failure(texts: &[&'static str]) -> Option<Box<Failure>> {
        let (text, sources) = texts.split_first()?;
        Some(Box::new(Failure { text, source: failure(sources) }))
    }

    #[test]
    fn each_source_is_appended_unless_its_text_is_in_the_line() {
        for (texts, line) in [
            (&["failed to connect"][..], "failed to connect"),
            (&["failed to connect", "refused", "os error 111"], "failed to connect: refused: os error 111"),
            (
                &["failed to connect: refused", "refused", "os error 111"],
                "failed to connect: refused: os error 111",
            ),
        ] {
            assert_eq!(with_sources(&*failure(texts).expect("an error")), line);
        }
    }
}
