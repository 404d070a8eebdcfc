//! Environment variables that begin with `REFERRAL_`: empty ones count as unset, and unknown ones are
//! rejected, since a misspelt name would otherwise leave a default in force.

use std::{collections::BTreeSet, env, ffi::OsStr};

use clap::{Command, builder::Resettable};

/// What every variable of the program begins with.
const PREFIX: &str = "REFERRAL_";

/// The similarity from which on a known name is suggested: clap's own, for misspelt flags.
const MIN_SIMILARITY: f64 = 0.7;

/// Environment variables that no flag reads.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", describe(.0))]
pub(crate) struct UnknownVariables(Vec<Unknown>);

/// The name of an unknown variable and the known name that is nearest to it.
#[derive(Debug, PartialEq, Eq)]
struct Unknown {
    name: String,
    suggestion: Option<String>,
}

/// Returns `command` with every flag cut off from its environment variable if that variable is empty.
///
/// Compose files and Helm charts pass an empty variable for a value that is not given.
pub(crate) fn ignore_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|arg| match arg.get_env() {
        Some(name) if is_empty(name) => arg.env(Resettable::Reset),
        _ => arg,
    });
    command.mut_subcommands(ignore_empty_variables)
}

/// Rejects variables of the process that begin with `REFERRAL_` and that no flag of `command` reads.
pub(crate) fn reject_unknown_variables(command: &Command) -> Result<(), UnknownVariables> {
    // No value is read further than that: it may be a secret.
    let set = env::vars_os().filter(|(_, value)| !value.is_empty());
    // A name that is not UTF-8 is unknown, and stays so with replacement characters in it.
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
    // Without the prefix, which all names share and which would make all of them similar.
    let word = |name: &'a str| name.strip_prefix(PREFIX).unwrap_or(name);
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let similar = known.iter().map(|known| (strsim::jaro_winkler(name, word(known)), known.as_str()));
    let similar = similar.filter(|(similarity, _)| *similarity > MIN_SIMILARITY);
    similar.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, known)| known)
}

/// Returns `true` if Kubernetes sets the variable for a service named `referral`, or for one whose name
/// begins with `referral-`.
///
/// Every container of a namespace gets such variables for every service in it.
fn is_of_kubernetes(name: &str, set: &BTreeSet<String>) -> bool {
    let Some(rest) = name.strip_prefix("REFERRAL") else { return false };
    if rest.strip_prefix('_').is_some_and(is_of_service) {
        return true;
    }
    // Where the name of the service ends is not certain: `REFERRAL_A_PORT_SERVICE_PORT`. So each end is
    // tried, and counts only if Kubernetes names the host of such a service too.
    rest.match_indices('_').skip(1).any(|(at, _)| {
        let (service, variable) = (&rest[..at], &rest[at + 1..]);
        is_of_service(variable) && set.contains(&format!("REFERRAL{service}_SERVICE_HOST"))
    })
}

/// Returns `true` if `variable` follows the name of a service in what Kubernetes sets: `SERVICE_HOST`,
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

/// Writes the error. Names are escaped, since a name can hold any character.
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
    use crate::cli::Cli;

    fn check(names: &[&str]) -> Result<(), UnknownVariables> {
        reject_unknown(&known_names(&Cli::command()), &names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_misspelt_variable_is_named_with_its_nearest_known_name() {
        for (name, known) in [
            ("REFERRAL_SMS_CONFG", "REFERRAL_SMS_CONFIG"),
            ("REFERRAL_SMSCONFIG", "REFERRAL_SMS_CONFIG"),
            ("REFERRAL_SMS_CONFIG_FILE", "REFERRAL_SMS_CONFIG"),
            ("REFERRAL_DATABASE_URI", "REFERRAL_DATABASE_URL"),
            ("REFERRAL_TRUSTED_PROXY", "REFERRAL_TRUSTED_PROXIES"),
            ("REFERRAL_POSTGRES_PASSWORD", ""),
            ("REFERRAL_", ""),
            ("REFERRAL_TEST_REQUIRE_ALL", ""),
        ] {
            let error = check(&["REFERRAL_LISTEN", "PATH", name]).expect_err(name).to_string();
            assert!(error.contains(&format!("variables: {name}")) && error.contains(known), "{error}");
            assert_eq!(error.contains("did you mean"), !known.is_empty(), "{error}");
            assert!(!error.contains("REFERRAL_LISTEN"), "{error}");
        }
    }

    #[test]
    fn all_unknown_variables_are_named_at_once_and_escaped() {
        let error = check(&["REFERRAL_ONE", "REFERRAL_TWO\n\u{1b}[31m"]).expect_err("unknown").to_string();
        assert!(error.contains("REFERRAL_ONE") && error.contains("REFERRAL_TWO\\n\\u{1b}[31m"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }

    #[test]
    fn every_flag_and_other_programs_variables_are_known() {
        let command = Cli::command();
        let known = known_names(&command);
        assert!(known.len() > 40 && known.iter().all(|name| name.starts_with(PREFIX)), "{known:?}");
        let names: Vec<_> = known.iter().map(String::as_str).collect();
        assert_eq!(check(&names), Ok(()));
        assert_eq!(check(&["PATH", "REFERRAL", "REFERRALS_X", "MY_REFERRAL_X", "referral_x"]), Ok(()));
    }

    #[test]
    fn variables_that_kubernetes_sets_for_services_are_known() {
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
        // The host of one service makes nothing known of another.
        assert!(check(&["REFERRAL_SERVER_SERVICE_HOST", "REFERRAL_OTHER_PORT"]).is_err());
        assert!(check(&["REFERRAL_SERVICE_HOST", "REFERRAL_OTHER_PORT"]).is_err());
    }
}
