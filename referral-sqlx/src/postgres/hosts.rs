//! List of the servers in a URL, and the search for the primary among them.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use sqlx::{
    ConnectOptions as _, Executor as _, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::error::code;
use crate::{error::ConnectError, pool::Connect};

/// Time after which the next server is tried although the previous one has not responded yet: several round
/// trips within a region. A frozen server accepts connections and never responds.
const NEXT_HOST_AFTER: Duration = Duration::from_millis(200);

/// Selects whether the server is a standby, its cluster, and the timeline that it writes.
const SERVER: &str = "\
    SELECT pg_is_in_recovery() AS is_standby, \
           (SELECT system_identifier::text FROM pg_control_system()) AS cluster, \
           CASE WHEN pg_is_in_recovery() THEN '' \
                ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline";

/// Query parameter of libpq that selects the kind of server. The storage always uses the primary.
const TARGET: &str = "target_session_attrs";

/// Values of [`TARGET`] that select a server that accepts writes.
const WRITABLE_TARGETS: [&str; 2] = ["read-write", "primary"];

/// Query parameters that `sqlx` supports. It ignores all others.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Parses a URL with one or more hosts, such as `postgres://user@one:5432,two:5432/name`.
///
/// # Errors
///
/// Returns an error if the URL is not valid, has an unknown parameter, or selects a standby.
pub(super) fn parse(url: &str) -> Result<Vec<PgConnectOptions>, ConnectError> {
    let invalid = |reason: &'static str| ConnectError::InvalidUrl(reason.into());
    let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("`://` is missing"))?;
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let query = query.map(read_parameters).transpose()?.unwrap_or_default();
    let hosts: Vec<_> = hosts.split(',').collect();
    if hosts.len() > 1 && hosts.iter().any(|host| host.is_empty()) {
        return Err(invalid("a host in the list is empty"));
    }
    let options = hosts.into_iter().map(|host| {
        let options = format!("{scheme}://{user}{host}{path}?{query}").parse::<PgConnectOptions>();
        options.map_err(|error| match error {
            sqlx::Error::Configuration(reason) => ConnectError::InvalidUrl(reason),
            error => ConnectError::InvalidUrl(error.into()),
        })
    });
    options.map(|options| Ok(options?.application_name("referral"))).collect()
}

/// Checks the parameters of a URL, and returns those that are passed to `sqlx`.
fn read_parameters(query: &str) -> Result<String, ConnectError> {
    let mut passed = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name == TARGET {
            if !WRITABLE_TARGETS.contains(&value) {
                return Err(ConnectError::StandbyWanted { value: value.to_owned() });
            }
        } else if matches!(name, "sslmode" | "ssl-mode") && value.parse::<PgSslMode>().is_err() {
            return Err(ConnectError::UnknownSslMode { value: value.to_owned() });
        } else if PARAMETERS.contains(&name) || name.starts_with("options[") || name.starts_with("options%5B")
        {
            passed.push(parameter);
        } else {
            return Err(ConnectError::UnknownParameter { name: name.to_owned() });
        }
    }
    Ok(passed.join("&"))
}

/// Servers of a cluster. One of them is the primary.
pub(super) struct Hosts {
    options: Vec<PgConnectOptions>,
    /// Index of the server that was the last known primary.
    last_primary: AtomicUsize,
    /// Newest timeline of a primary.
    newest: Mutex<Option<Timeline>>,
}

/// Timeline of a cluster. Each promotion increases its number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Timeline {
    /// Identifier that all servers of a cluster share.
    cluster: String,
    number: u32,
}

/// Error of connecting to one server.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostError {
    #[error(transparent)]
    Failed(#[from] sqlx::Error),
    #[error("the server is a standby, which does not accept writes")]
    Standby,
    #[error(
        "the server is on timeline {number}, but a primary on timeline {newest} has been seen: it was the \
         primary before a fail-over; restart this process if the server was restored from a backup"
    )]
    FormerPrimary { number: u32, newest: u32 },
    #[error("the server did not respond in time")]
    TimedOut,
}

/// Error of connecting to a cluster, with the error of each server.
#[derive(Debug)]
pub(super) struct NotConnected(Vec<(String, HostError)>);

impl NotConnected {
    /// Returns `true` if connecting may succeed later. Returns `false` if each server rejects the database,
    /// the user or the password.
    pub(super) fn is_transient(&self) -> bool {
        !self.0.iter().all(|(_, error)| match error {
            HostError::Failed(sqlx::Error::Configuration(_)) => true,
            HostError::Failed(error) => {
                code(error).is_some_and(|code| code.starts_with("28") || code == "3D000")
            }
            _ => false,
        })
    }
}

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed to connect to the database")?;
        for (index, (host, error)) in self.0.iter().enumerate() {
            write!(f, "{} {host}: {error}", if index == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl std::error::Error for NotConnected {}

impl Hosts {
    pub(super) fn new(options: Vec<PgConnectOptions>) -> Self {
        Self { options, last_primary: AtomicUsize::new(0), newest: Mutex::new(None) }
    }

    /// Connects to the primary. Waits up to `timeout`.
    pub(super) async fn connect_within(&self, timeout: Duration) -> Result<PgConnection, NotConnected> {
        match tokio::time::timeout(timeout, self.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(NotConnected(
                self.options.iter().map(|options| (name(options), HostError::TimedOut)).collect(),
            )),
        }
    }

    fn not_connected(&self, mut errors: Vec<(usize, HostError)>) -> NotConnected {
        errors.sort_by_key(|(index, _)| *index);
        NotConnected(errors.into_iter().map(|(index, error)| (name(&self.options[index]), error)).collect())
    }

    async fn connect_to(&self, index: usize) -> Result<PgConnection, (usize, HostError)> {
        let connected = async {
            let mut connection = self.options[index].connect().await?;
            self.check_primary(&mut connection).await?;
            Ok(connection)
        };
        let connection = connected.await.map_err(|error| (index, error))?;
        self.last_primary.store(index, Ordering::Relaxed);
        Ok(connection)
    }

    /// Rejects a standby, and a former primary that has not detected yet that another server was promoted.
    /// Rows that a former primary lacks would look as if they had never existed.
    async fn check_primary(&self, connection: &mut PgConnection) -> Result<(), HostError> {
        let row = match connection.fetch_one(sqlx::raw_sql(SERVER)).await {
            Ok(row) => row,
            // The engine does not have these functions, or the role has no permission to call them.
            Err(error) if code(&error).is_some_and(|code| matches!(&*code, "42883" | "42501" | "0A000")) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if row.try_get("is_standby")? {
            return Err(HostError::Standby);
        }
        let (cluster, number): (String, String) = (row.try_get("cluster")?, row.try_get("timeline")?);
        let Ok(number) = u32::from_str_radix(&number, 16) else { return Ok(()) };
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*newest {
            Some(newest) if newest.cluster == cluster && newest.number > number => {
                Err(HostError::FormerPrimary { number, newest: newest.number })
            }
            _ => {
                *newest = Some(Timeline { cluster, number });
                Ok(())
            }
        }
    }
}

impl Connect for Hosts {
    type Connection = PgConnection;
    type Error = NotConnected;
    const IS_REMOTE: bool = true;

    /// Connects to the primary. Tries the last known primary first, and the next server as soon as the
    /// previous one has failed or is slow. Tries servers that failed again while another one does not
    /// respond, since one of them may be promoted.
    async fn connect(&self) -> Result<PgConnection, NotConnected> {
        let count = self.options.len();
        let first = self.last_primary.load(Ordering::Relaxed);
        let mut untried = (0..count).map(|offset| (first + offset) % count);
        let mut attempts = FuturesUnordered::new();
        let mut failed = Vec::new();
        loop {
            attempts.extend(untried.next().map(|index| self.connect_to(index)));
            match tokio::time::timeout(NEXT_HOST_AFTER, attempts.next()).await {
                Ok(Some(Ok(connection))) => return Ok(connection),
                Ok(Some(Err(error))) => failed.push(error),
                Ok(None) => return Err(self.not_connected(failed)),
                Err(_) if untried.len() == 0 => {
                    attempts.extend(failed.drain(..).map(|(index, _)| self.connect_to(index)));
                }
                Err(_) => {}
            }
        }
    }
}

/// Returns the name of a server for error messages.
fn name(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(url: &str) -> Vec<String> {
        let options = parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        options.iter().map(name).collect()
    }

    #[test]
    fn a_url_names_one_host_or_several() {
        for (url, hosts) in [
            ("postgres://user:word@one/name", vec!["one:5432"]),
            ("postgresql://one:1,two:2/name", vec!["one:1", "two:2"]),
            (
                "postgres://user:p%40ss@one:1,[::1]:2,10.0.0.1/name?sslmode=disable",
                vec!["one:1", "[::1]:2", "10.0.0.1:5432"],
            ),
            ("postgres://user@one,two?target_session_attrs=read-write", vec!["one:5432", "two:5432"]),
            ("postgres://user@one/name?target_session_attrs=primary&sslmode=disable", vec!["one:5432"]),
            ("postgres://%2Frun%2Fpostgresql/name", vec!["/run/postgresql"]),
            (
                "postgres:///name?host=/run/postgresql&options[jit]=off&options=-c%20jit=off",
                vec!["/run/postgresql"],
            ),
        ] {
            assert_eq!(names(url), hosts, "{url}");
        }
        let socket = parse("postgres:///name?host=/run/postgresql&user=anna").expect("a URL");
        assert_eq!(socket[0].get_username(), "anna");
        let options = parse("postgres://anna:secret@one,two:2/name?sslmode=require").expect("a URL");
        for options in options {
            assert_eq!((options.get_username(), options.get_database()), ("anna", Some("name")));
            assert!(matches!(options.get_ssl_mode(), PgSslMode::Require));
        }
    }

    #[test]
    fn a_url_with_a_mistake_is_rejected() {
        for (url, reason) in [
            ("postgres://one,,two/name", "cannot be parsed"),
            ("postgres://one,/name", "cannot be parsed"),
            ("postgres://[", "cannot be parsed"),
            ("postgres:one", "cannot be parsed"),
            ("postgres://one:99999/name", "cannot be parsed"),
            ("postgres://one/name?sslmode=no-verify", "sslmode=no-verify; use disable"),
            ("postgres://one/name?ssl-mode=", "sslmode=; use disable"),
            ("postgres://one/name?ssl_mode=verify-full", "`ssl_mode`"),
            ("postgres://one/name?SSLMODE=require", "`SSLMODE`"),
            ("postgres://one/name?connect_timeout=3", "`connect_timeout`"),
            ("postgres://one/name?target_session_attrs=any", "target_session_attrs=any"),
            ("postgres://one,two/name?target_session_attrs=", "target_session_attrs="),
        ] {
            let error = parse(url).err().unwrap_or_else(|| panic!("{url} was accepted")).to_string();
            assert!(error.contains(reason), "{url}: {error}");
        }
        let error = parse("postgres://user:hunter2@one:x/name").expect_err("no port");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
