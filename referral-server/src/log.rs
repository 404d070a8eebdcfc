//! The log: its filter, its format and its output.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Log, LogFormat},
    serve::Result,
};

/// The levels that a directive may have.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Starts to write the log to standard error.
pub(crate) fn start(log: &Log) -> Result<()> {
    let filter = EnvFilter::try_new(&log.filter).map_err(|error| format!("--log: {error}"))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A log that cannot be written must not take a request with it.
        .log_internal_errors(false)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    // The place of a panic, and not its message, which may hold personal data.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(location = panic.location().map(ToString::to_string), "panicked");
    }));
    Ok(())
}

/// Checks the directives of a filter, and returns them without the spaces between them.
///
/// `EnvFilter` takes a directive without a known level for the name of a module. A misspelt level such as
/// `inof` would thus hide the whole log.
pub(crate) fn check_filter(filter: &str) -> Result<String, String> {
    let directives = filter.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let directives: Vec<_> = directives.collect();
    if directives.is_empty() {
        return Err(format!("name a level: {}", LEVELS.join(", ")));
    }
    directives.iter().try_for_each(|directive| check_directive(directive))?;
    let filter = directives.join(",");
    EnvFilter::try_new(&filter).map_err(|error| error.to_string())?;
    Ok(filter)
}

fn check_directive(directive: &str) -> Result<(), String> {
    // Filters of spans and fields, which `EnvFilter` checks.
    if directive.contains('[') {
        return Ok(());
    }
    let (target, level) = match directive.split_once('=') {
        Some((target, level)) => (Some(target), level),
        None => (None, directive),
    };
    let is_level = LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
    if is_level && target.is_none_or(is_module) {
        return Ok(());
    }
    let levels = LEVELS.join(", ");
    Err(match target {
        None => format!(
            "the directive `{directive}` is not a level; use one of {levels}, or a module with a level, such as \
             sqlx=debug"
        ),
        Some(_) => format!(
            "the directive `{directive}` is not a module with a level, such as sqlx=debug; use one of the levels \
             {levels}"
        ),
    })
}

/// Returns `true` if the text can be the name of a module, or another target of log lines.
fn is_module(target: &str) -> bool {
    let is_in_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '-' | '.');
    !target.is_empty() && target.chars().all(is_in_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_with_a_known_level_are_accepted() {
        for filter in [
            "off",
            "ERROR",
            "info,poem=warn",
            "referral_core::session=trace",
            "info,[request]=debug",
            "[{status=500}]=trace",
        ] {
            assert_eq!(check_filter(filter), Ok(filter.to_owned()), "{filter}");
        }
        assert_eq!(check_filter(" info, sqlx=debug ,"), Ok("info,sqlx=debug".to_owned()));
    }

    #[test]
    fn a_directive_without_a_known_level_is_rejected_by_name() {
        for (filter, directive) in [
            ("inof", "inof"),
            ("info,sqlx", "sqlx"),
            ("info,sqlx=debg", "sqlx=debg"),
            ("info,sqlx=", "sqlx="),
            ("=info", "=info"),
            ("x=y=z", "x=y=z"),
            ("info;sqlx=debug", "info;sqlx=debug"),
            ("3", "3"),
        ] {
            let error = check_filter(filter).expect_err(filter);
            assert!(error.contains(&format!("`{directive}`")), "{filter}: {error}");
            assert!(error.contains(&LEVELS.join(", ")), "{filter}: {error}");
        }
        for filter in ["", " ", ","] {
            assert!(check_filter(filter).expect_err("empty").contains("name a level"), "{filter:?}");
        }
        assert!(check_filter("info,[").is_err());
    }
}
