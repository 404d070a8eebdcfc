//! Check of the limit of open files. Each connection needs one file.

use rustix::process::{Resource, getrlimit};

use crate::{listener::EVICTED_CONNECTIONS_DIVISOR, settings::Settings};

/// Open files of an SQLite database: seven connections, each with the database, its log and its index.
const SQLITE_FILES: u64 = 21;

/// Listeners, standard streams, key files, and connections of Prometheus, of the resolver and to gateways.
const OTHER_FILES: u64 = 64;

/// Logs a warning if the process may open fewer files than the settings need.
pub(crate) fn warn(settings: &Settings) {
    // There may be no limit.
    let Some(limit) = getrlimit(Resource::Nofile).current else { return };
    let needed = needed(settings);
    if limit < needed {
        tracing::warn!(
            "the limit of open files is {limit}, but --max-connections {} and the database need {needed}, so \
             connections may be refused; raise it with `ulimit -n {needed}`, or with `LimitNOFILE={needed}` in a \
             systemd unit, or lower --max-connections",
            settings.network.max_connections
        );
    }
}

/// Returns the maximum number of open files with these settings.
fn needed(settings: &Settings) -> u64 {
    let connections = u64::from(settings.network.max_connections);
    let database = if settings.store.is_postgres() {
        u64::from(settings.postgres_options().max_connections)
    } else {
        SQLITE_FILES
    };
    // Evicted connections stay open until they are closed.
    connections + connections / u64::from(EVICTED_CONNECTIONS_DIVISOR) + database + OTHER_FILES
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::settings::Cli;

    #[test]
    fn connections_of_clients_and_of_the_database_are_counted() {
        let needed = |arguments: &[&str]| {
            needed(&Cli::parse_from(["referral-server"].iter().chain(arguments)).settings)
        };
        assert_eq!(needed(&[]), 10_240 + 1_280 + SQLITE_FILES + OTHER_FILES);
        let postgres = ["--database-url", "postgres://localhost/referral", "--max-connections", "800"];
        assert_eq!(needed(&postgres), 800 + 100 + 10 + OTHER_FILES);
        let more = [&postgres[..], &["--database-connections", "500"]].concat();
        assert_eq!(needed(&more), 800 + 100 + 500 + OTHER_FILES);
    }
}
