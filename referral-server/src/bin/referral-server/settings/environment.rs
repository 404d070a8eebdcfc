//! Checks of environment variables that start with `REFERRAL_`. Empty variables are ignored. Unknown
//! variables are rejected, because otherwise a misspelled name silently leaves the default in effect.

use std::{collections::BTreeSet, env, ffi::OsStr};

use clap::{Command, builder::Resettable};

/// Prefix of all environment variables of the program.
const PREFIX: &str = "REFERRAL_";

/// Similarity above which a known name is suggested: the value that clap uses for misspelled flags.
const MIN_SIMILARITY: f64 = 0.7;

/// Error of environment variables that belong to no flag.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", describe(.0))]
pub(crate) struct UnknownVariables(Vec<Unknown>);

/// Name of an unknown variable, and the most similar known name.
#[derive(Debug, PartialEq, Eq)]
struct Unknown {
    name: String,
    suggestion: Option<String>,
}

/// Returns `command` without the environment variables that are empty.
///
/// Compose files and Helm charts pass an empty variable for a value that is not set.
pub(crate) fn ignore_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|arg| match arg.get_env() {
        Some(name) if is_empty(name) => arg.env(Resettable::Reset),
        _ => arg,
    });
    command.mut_subcommands(ignore_empty_variables)
}

/// Rejects environment variables that start with `REFERRAL_` and that no flag of `command` reads.
pub(crate) fn reject_unknown_variables(command: &Command) -> Result<(), UnknownVariables> {
    // Values are only compared with the empty string, because they may be secrets.
    let set = env::vars_os().filter(|(_, value)| !value.is_empty());
    // A name that is not UTF-8 is unknown, also with replacement characters in it.
    let names = set.map(|(name, _)| name.to_string_lossy().into_owned());
    reject_unknown(&known_names(command), &names.collect())
}

fn known_names(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str()).map(str::to_owned);
    own.chain(command.get_subcommands().flat_map(known_names)).collect()
}

fn reject_unknown(known: &BTreeSet<String>, set: &BTreeSet<String>) -> Result<(), UnknownVariables> {
    let is_unknown =
        |name: &&String| name.starts_with(PREFIX) && !known.contains(*name) && !is_of_kubernetes(name, set);
    let unknown = set.iter().filter(is_unknown).map(|name| {
        let suggestion = nearest(name, known).map(str::to_owned);
        Unknown { name: name.clone(), suggestion }
    });
    let unknown: Vec<_> = unknown.collect();
    if unknown.is_empty() { Ok(()) } else { Err(UnknownVariables(unknown)) }
}

fn nearest<'a>(name: &str, known: &'a BTreeSet<String>) -> Option<&'a str> {
    // Without the common prefix, which would make all names similar.
    let word = |name: &'a str| name.strip_prefix(PREFIX).unwrap_or(name);
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let similar = known.iter().map(|known| (strsim::jaro_winkler(name, word(known)), known.as_str()));
    let similar = similar.filter(|(similarity, _)| *similarity > MIN_SIMILARITY);
    similar.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, known)| known)
}

/// Returns `true` if Kubernetes sets the variable for a service with the name `referral` or with a name that
/// starts with `referral-`.
///
/// Each container of a namespace gets such variables for each service in the namespace.
fn is_of_kubernetes(name: &str, set: &BTreeSet<String>) -> bool {
    let Some(rest) = name.strip_prefix("REFERRAL") else { return false };
    if rest.strip_prefix('_').is_some_and(is_of_service) {
        return true;
    }
    // The end of the service name is ambiguous, as in `REFERRAL_A_PORT_SERVICE_PORT`. So each possible end is
    // tried, and counts only if Kubernetes also sets the host of this service.
    rest.match_indices('_').skip(1).any(|(at, _)| {
        let (service, variable) = (&rest[..at], &rest[at + 1..]);
        is_of_service(variable) && set.contains(&format!("REFERRAL{service}_SERVICE_HOST"))
    })
}

/// Returns `true` if `variable` is a suffix that Kubernetes appends to the name of a service: `SERVICE_HOST`,
/// `SERVICE_PORT`, `SERVICE_PORT_HTTP`, `PORT`, `PORT_8080_TCP`, `PORT_8080_TCP_ADDR`, ….
fn is_of_service(variable: &str) -> bool {
    if matches!(variable, "SERVICE_HOST" | "SERVICE_PORT" | "PORT") {
        return true;
    }
    if let Some(port_name) = variable.strip_prefix("SERVICE_PORT_") {
        return !port_name.is_empty();
    }
    let Some((port, protocol)) = variable.strip_prefix("PORT_").and_then(|rest| rest.split_once('_')) else {
        return false;
    };
    let (protocol, part) = protocol.split_once('_').unwrap_or((protocol, "PROTO"));
    port.parse::<u16>().is_ok()
        && matches!(protocol, "TCP" | "UDP" | "SCTP")
        && matches!(part, "PROTO" | "PORT" | "ADDR")
}

/// Returns the text of the error. Names are escaped, because they can contain any character.
fn describe(unknown: &[Unknown]) -> String {
    let names = unknown.iter().map(|Unknown { name, suggestion }| match suggestion {
        Some(known) => format!("{} (did you mean {known}?)", name.escape_debug()),
        None => name.escape_debug().to_string(),
    });
    format!(
        "no flag reads these environment variables: {}; correct their names or unset them, \
         `referral-server --help` lists all names",
        names.collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::settings::Cli;

    fn check(names: &[&str]) -> Result<(), UnknownVariables> {
        reject_unknown(&known_names(&Cli::command()), &names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_misspelled_variable_is_reported_with_the_most_similar_known_name() {
        for (name, known) in [
            ("REFERRAL_SMS_CONFG", "REFERRAL_SMS_CONFIG"),
            ("REFERRAL_SMSCONFIG", "REFERRAL_SMS_CONFIG"),
            ("REFERRAL_SMS_CONFIG_FILE", "REFERRAL_SMS_CONFIG"),
            ("REFERRAL_DATABASE_URI", "REFERRAL_DATABASE_URL"),
            ("REFERRAL_TRUSTED_PROXY", "REFERRAL_TRUSTED_PROXIES"),
            ("REFERRAL_POSTGRES_PASSWORD", ""),
            ("REFERRAL_", ""),
        ] {
            let error = check(&["REFERRAL_LISTEN", "PATH", name]).expect_err(name).to_string();
            assert!(error.contains(&format!("variables: {name}")) && error.contains(known), "{error}");
            assert_eq!(error.contains("did you mean"), !known.is_empty(), "{error}");
            assert!(!error.contains("REFERRAL_LISTEN"), "{error}");
        }
    }

    #[test]
    fn one_error_names_all_unknown_variables_escaped() {
        let error = check(&["REFERRAL_ONE", "REFERRAL_TWO\n\u{1b}[31m"]).expect_err("unknown").to_string();
        assert!(error.contains("REFERRAL_ONE") && error.contains("REFERRAL_TWO\\n\\u{1b}[31m"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }

    #[test]
    fn variables_of_flags_and_of_other_programs_are_accepted() {
        let command = Cli::command();
        let known = known_names(&command);
        assert!(known.len() > 40 && known.iter().all(|name| name.starts_with(PREFIX)), "{known:?}");
        let names: Vec<_> = known.iter().map(String::as_str).collect();
        assert_eq!(check(&names), Ok(()));
        assert_eq!(check(&["PATH", "REFERRAL", "REFERRALS_X", "MY_REFERRAL_X", "referral_x"]), Ok(()));
    }

    #[test]
    fn variables_that_kubernetes_sets_for_services_are_accepted() {
        for service in ["REFERRAL", "REFERRAL_SERVER", "REFERRAL_A_PORT", "REFERRAL_DATABASE_8080"] {
            let of_service = |variable: &str| format!("{service}_{variable}");
            let host = of_service("SERVICE_HOST");
            for variable in [
                "SERVICE_HOST",
                "SERVICE_PORT",
                "SERVICE_PORT_HTTP",
                "SERVICE_PORT_HTTP_ALT",
                "PORT",
                "PORT_8080_TCP",
                "PORT_8080_TCP_PROTO",
                "PORT_8080_TCP_PORT",
                "PORT_8080_TCP_ADDR",
                "PORT_53_UDP_ADDR",
                "PORT_1_SCTP",
            ] {
                assert_eq!(check(&[&host, &of_service(variable)]), Ok(()), "{service}, {variable}");
                let alone = check(&[&of_service(variable)]);
                let is_known_alone = service == "REFERRAL" || variable == "SERVICE_HOST";
                assert_eq!(alone.is_ok(), is_known_alone, "{service}, {variable}");
            }
            for variable in [
                "SERVICE_PORT_",
                "PORT_",
                "PORT_8080",
                "PORT_8080_",
                "PORT_8080_HTTP",
                "PORT_X_TCP",
                "PORT_99999_TCP",
                "PORT_8080_TCP_HOST",
                "PORTS",
                "HOST",
            ] {
                assert!(check(&[&host, &of_service(variable)]).is_err(), "{service}, {variable}");
            }
        }
        // The host of one service does not affect the variables of another service.
        assert!(check(&["REFERRAL_SERVER_SERVICE_HOST", "REFERRAL_OTHER_PORT"]).is_err());
        assert!(check(&["REFERRAL_SERVICE_HOST", "REFERRAL_OTHER_PORT"]).is_err());
    }
}
