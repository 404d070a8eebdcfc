//! Errors of flags in one line, with the flag, its environment variable and the correction.

use clap::{
    Arg, Command, CommandFactory as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::settings::Cli;

/// Returns a flag such as `--listen` with its environment variable.
pub(crate) fn with_variable(flag: &str) -> String {
    match find(&Cli::command(), flag).and_then(|arg| arg.get_env()?.to_str().map(str::to_owned)) {
        Some(variable) => format!("{flag} ({variable})"),
        None => flag.to_owned(),
    }
}

/// Replaces names of the fields of a policy, such as `code_length` in backticks, with their flags.
pub(crate) fn in_place_of_fields(text: &str) -> String {
    let command = Cli::command();
    let parts = text.split('`').enumerate().map(|(index, part)| {
        if index % 2 == 0 {
            return part.to_owned();
        }
        let flag = format!("--{}", part.replace('_', "-"));
        if find(&command, &flag).is_some() { with_variable(&flag) } else { format!("`{part}`") }
    });
    phrase(&parts.collect::<String>())
}

/// Converts sentences to an error, which has no full stop and starts in lower case.
pub(crate) fn phrase(sentences: &str) -> String {
    let sentences = sentences.strip_suffix('.').unwrap_or(sentences).split(". ");
    sentences.map(in_lower_case).collect::<Vec<_>>().join("; ")
}

/// Returns the sentence with its first letter in lower case, unless its first word is an abbreviation.
fn in_lower_case(sentence: &str) -> String {
    let mut letters = sentence.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            format!("{}{}", first.to_lowercase(), letters.as_str())
        }
        _ => sentence.to_owned(),
    }
}

/// Describes an error of the command line or of the environment.
pub(crate) fn describe(error: &clap::Error) -> String {
    let described = match error.kind() {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => invalid_value(error),
        _ => None,
    };
    described.unwrap_or_else(|| one_line(error))
}

fn invalid_value(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) else { return None };
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else { return None };
    let flag = arg.split([' ', '[', '=']).next()?;
    let arg = find(&Cli::command(), flag)?;
    let value = if arg.is_hide_env_values_set() { String::new() } else { format!(" {value:?}") };
    let advice = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => format!("give {}", values.join(" or ")),
        _ => advice(&arg, &std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()),
    };
    Some(format!("invalid value{value} for {}: {advice}", with_variable(flag)))
}

/// Returns the correction of a value that was rejected for `reason`.
fn advice(arg: &Arg, reason: &str) -> String {
    const INTEGER: [&str; 4] =
        ["invalid digit found", "cannot parse integer", "number too large", "number too small"];
    let reason = phrase(reason);
    if reason.starts_with("give ") {
        return reason;
    }
    let range = reason.split_once(" is not in ").and_then(|(_, range)| range.split_once("..="));
    if let Some((least, most)) = range {
        return format!("give a whole number from {least} to {most}");
    }
    if INTEGER.iter().any(|integer| reason.starts_with(integer)) {
        return "give a whole number that is neither negative nor too large".to_owned();
    }
    let name = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    match name {
        "TIME" => "give a number with a unit, such as 500ms, 30s, 15m or 30d".to_owned(),
        "ADDRESS" => "give an IP address and a port, such as 127.0.0.1:8080".to_owned(),
        "BOOL" => "give true or false".to_owned(),
        _ if reason == "invalid HTTP header name" => {
            "give the name of one header, such as X-Forwarded-For".to_owned()
        }
        _ if reason.is_empty() => "give a value, or leave it out for the default".to_owned(),
        _ => reason,
    }
}

/// Joins the lines of an error of clap, without the usage text.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let mut joined = String::new();
    for line in lines {
        match joined.chars().last() {
            None => joined.push_str(line.strip_prefix("error: ").unwrap_or(line)),
            Some(':') => joined = format!("{joined} {line}"),
            Some(_) if line.starts_with('[') => joined = format!("{joined} {line}"),
            Some(_) => joined = format!("{joined}; {line}"),
        }
    }
    if matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand) {
        joined.push_str("; `referral-server --help` lists all flags");
    }
    if error.kind() == ErrorKind::InvalidSubcommand {
        joined.push_str("; a boolean flag requires `=` before its value, as in --require-challenge=false");
    }
    // clap puts flags and their values in single quotes.
    let parts = joined.split('\'').enumerate().map(|(index, part)| {
        let flag = part.split([' ', '[', '=']).next().unwrap_or_default();
        match (index % 2, flag.strip_prefix("--")) {
            (1, Some(_)) => with_variable(flag),
            (1, None) => format!("'{part}'"),
            _ => part.to_owned(),
        }
    });
    // Values may contain control characters.
    let text: String = parts.collect();
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Returns a flag of the command or of its sub-commands.
fn find(command: &Command, flag: &str) -> Option<Arg> {
    let long = flag.strip_prefix("--")?;
    let own = command.get_arguments().find(|arg| arg.get_long() == Some(long)).cloned();
    own.or_else(|| command.get_subcommands().find_map(|command| find(command, flag)))
}
