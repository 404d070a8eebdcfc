//! The command line: sub-commands and flags. Each flag has an environment variable.

pub(crate) mod development;
pub(crate) mod environment;
pub(crate) mod flags;
pub(crate) mod limits;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{BoolishValueParser, NonEmptyStringValueParser},
};
use poem::http::HeaderName;
use referral_core::{Policy, Region, Visibility};
use referral_server::{ClientAddresses, CorsOrigins, TrustedProxies};
use referral_sqlx::{PostgresOptions, SqliteOptions};

use crate::{
    commands::{keys::KeysCommand, sms::SmsCommand},
    listener::{Limits, timeouts::Times},
    log,
    settings::limits::LimitSettings,
    sms_config::SmsConfig,
};

/// HTTP server for sign-in by phone and one-time code, with a simple referral system.
///
/// Without settings, the server stores all data in `./referral-data`, listens on 127.0.0.1:8080 and
/// returns codes in responses instead of sending them, so that you can try the API in a browser. Each
/// flag can also be set by the environment variable next to it.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the API. The default.
    Serve,
    /// Apply the missing migrations to the database, and exit. Servers do so when they start, unless they
    /// have `--migrate=false`.
    Migrate,
    /// Print the OpenAPI document.
    Openapi,
    /// Make the user with a phone a member of staff. If there is no such user, it is created.
    ///
    /// Staff can see the data of all users, regardless of `--visibility`. They sign in like other users.
    CreateSuperuser {
        /// Phone of the user, in international form.
        #[arg(long)]
        phone: String,
    },
    /// Create, list and rotate the keys that sign tokens and the peppers that hash codes.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Test the gateways, and show the texts of messages.
    #[command(subcommand)]
    Sms(SmsCommand),
}

#[derive(Debug, Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) network: Network,
    #[command(flatten)]
    pub(crate) store: Store,
    #[command(flatten)]
    pub(crate) postgres: Postgres,
    #[command(flatten)]
    pub(crate) sign_in: SignIn,
    #[command(flatten)]
    pub(crate) limits: LimitSettings,
    #[command(flatten)]
    pub(crate) tokens: Tokens,
    #[command(flatten)]
    pub(crate) log: Log,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Network {
    /// Address of the API. Port 0 selects a free port, which is printed
    #[arg(
        long,
        env = "REFERRAL_LISTEN",
        global = true,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) listen: SocketAddr,
    /// Address of the metrics for Prometheus, at `/metrics`. Other clients must not reach it. Port 0 selects
    /// a free port, which is printed [default: none]
    #[arg(long, env = "REFERRAL_METRICS_LISTEN", global = true, value_name = "ADDRESS")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Scheme and host of this server for clients, for links to other pages and for the URLs that gateways
    /// send reports to [default: links are relative, except for clients on this machine, and gateways get no
    /// URL]
    #[arg(long, env = "REFERRAL_PUBLIC_URL", global = true, value_name = "URL", value_parser = public_url)]
    pub(crate) public_url: Option<String>,
    /// Origins whose pages may use the API in a browser: a comma-separated list, such as
    /// `https://app.example.com`, or `*` for any [default: only the server's own origin]
    #[arg(long, env = "REFERRAL_CORS_ORIGINS", global = true, value_name = "LIST")]
    pub(crate) cors_origins: Option<CorsOrigins>,
    /// Reverse proxies that may name the client address: a comma-separated list of addresses and networks,
    /// such as `10.0.0.0/8,::1` [default: none, so the client address is the address of the connection]
    #[arg(long, env = "REFERRAL_TRUSTED_PROXIES", global = true, value_name = "LIST")]
    pub(crate) trusted_proxies: Option<TrustedProxies>,
    /// Header in which the trusted proxies name the client address, such as `X-Forwarded-For` or `Forwarded`.
    /// The proxies must set it or append to it [default: none]
    #[arg(long, env = "REFERRAL_CLIENT_ADDRESS_HEADER", global = true, value_name = "NAME")]
    pub(crate) client_address_header: Option<HeaderName>,
    /// Longest time to receive a request body, and longest time to process a request. Each has this limit
    #[arg(long, env = "REFERRAL_REQUEST_TIMEOUT", global = true, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub(crate) request_timeout: Duration,
    /// Longest time to receive the headers of a request. The first request is measured from the connection
    #[arg(long, env = "REFERRAL_HEADER_TIMEOUT", global = true, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub(crate) header_timeout: Duration,
    /// Time after which a connection is closed if it sends no request, or reads nothing of a response
    #[arg(long, env = "REFERRAL_IDLE_TIMEOUT", global = true, value_name = "TIME", default_value = "60s", value_parser = some_time)]
    pub(crate) idle_timeout: Duration,
    /// Maximum number of open connections. A further connection replaces the longest idle connection of the
    /// client address with the most connections. A connection takes 3 KiB before its first byte, 14 KiB
    /// between requests and at most 20 KiB. One eighth of them may use HTTP/2, which takes up to 90 KiB for a
    /// connection with its requests
    #[arg(long, env = "REFERRAL_MAX_CONNECTIONS", global = true, value_name = "NUMBER", default_value = "10240", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) max_connections: u32,
    /// Maximum number of requests in flight, over all connections. A request is in flight from its headers
    /// until its response has been written. Further requests get a 503. One client address has at most a
    /// quarter of them
    #[arg(long, env = "REFERRAL_MAX_REQUESTS", global = true, value_name = "NUMBER", default_value = "2000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) max_requests: u32,
    /// Time for which requests are served after the signal to stop, while `/health/ready` responds with 503
    /// so that load balancers stop sending requests. It must be longer than load balancers need to notice. A
    /// second signal ends the process immediately
    #[arg(long, env = "REFERRAL_DRAIN_DELAY", global = true, value_name = "TIME", default_value = "0s", value_parser = delay)]
    pub(crate) drain_delay: Duration,
    /// Longest time of requests in flight after the drain delay
    #[arg(long, env = "REFERRAL_SHUTDOWN_TIMEOUT", global = true, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub(crate) shutdown_timeout: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Storage")]
pub(crate) struct Store {
    /// Directory of the database, the keys and the peppers, unless other flags name them. The directory and
    /// its files must belong to the user that the server runs as, and other users must have no access
    #[arg(
        long,
        env = "REFERRAL_DATA_DIR",
        global = true,
        value_name = "DIR",
        default_value = "./referral-data"
    )]
    pub(crate) data_dir: PathBuf,
    /// Database: `sqlite:path/to/file.db`, a file of mode 0600, or `postgres://user:password@host:5432/name`.
    /// Append `?sslmode=verify-full&sslrootcert=ca.pem` for an encrypted connection [default: `referral.db`
    /// in the data directory]
    #[arg(long, env = "REFERRAL_DATABASE_URL", global = true, value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
    /// Apply missing migrations to the database at the start. If `false`, run `referral-server migrate`
    /// before
    #[arg(long, env = "REFERRAL_MIGRATE", global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) migrate: bool,
    /// Time limit of a search, and of a list with a large offset or with combined filters. These queries use
    /// few connections, so that they do not slow down sign-ins [default: 500ms]
    #[arg(long, env = "REFERRAL_SEARCH_TIMEOUT", global = true, value_name = "TIME", value_parser = some_time)]
    pub(crate) search_timeout: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "PostgreSQL")]
#[expect(clippy::struct_field_names, reason = "a flag has the name of its field")]
pub(crate) struct Postgres {
    /// Maximum number of connections to the database [default: 10]
    #[arg(long, env = "REFERRAL_DATABASE_CONNECTIONS", global = true, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) database_connections: Option<u32>,
    /// Longest time to wait for a connection [default: 3s]
    #[arg(long, env = "REFERRAL_DATABASE_ACQUIRE_TIMEOUT", global = true, value_name = "TIME", value_parser = some_time)]
    pub(crate) database_acquire_timeout: Option<Duration>,
    /// Time limit of a statement [default: 5s]
    #[arg(long, env = "REFERRAL_DATABASE_STATEMENT_TIMEOUT", global = true, value_name = "TIME", value_parser = some_time)]
    pub(crate) database_statement_timeout: Option<Duration>,
    /// The URL is that of a pooler that may use another connection for each transaction, such as PgBouncer in
    /// transaction mode [default: false]
    #[arg(long, env = "REFERRAL_DATABASE_POOLER", global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) database_pooler: Option<bool>,
    /// URL for migrations, which bypasses a pooler [default: the database URL; with a pooler no migrations
    /// are applied, so the schema must be up to date]
    #[arg(
        long,
        env = "REFERRAL_DATABASE_MIGRATION_URL",
        global = true,
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) database_migration_url: Option<String>,
    /// Take an advisory lock for migrations. Database engines other than PostgreSQL may not support it
    /// [default: true]
    #[arg(long, env = "REFERRAL_DATABASE_MIGRATION_LOCK", global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) database_migration_lock: Option<bool>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Signing in")]
pub(crate) struct SignIn {
    /// File with the gateways that send messages, and with the texts of messages [default: none, so codes are
    /// returned in responses, and any client can sign in as any user]
    #[arg(long, env = "REFERRAL_SMS_CONFIG", global = true, value_name = "FILE")]
    pub(crate) sms_config: Option<PathBuf>,
    /// Allow other machines to use the development sender, which returns the code of any phone to any client.
    /// This accepts a listen address other than loopback, PostgreSQL, a public URL, trusted proxies, a policy
    /// other than development, and requests for any host
    #[arg(long, env = "REFERRAL_RETURN_CODES_TO_ANYONE", global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) return_codes_to_anyone: bool,
    /// Defaults of the flags below and of the limits [default: standard with --sms-config, otherwise
    /// development]
    #[arg(long, env = "REFERRAL_POLICY", global = true)]
    pub(crate) policy: Option<PolicyName>,
    /// Number of digits of a code, 4 to 10 [default: 4; strict: 6]
    #[arg(long, env = "REFERRAL_CODE_LENGTH", global = true, value_name = "DIGITS", value_parser = clap::value_parser!(u8).range(4..=10))]
    pub(crate) code_length: Option<u8>,
    /// Time after which a code expires, 1 to 10 minutes [default: 300s]
    #[arg(long, env = "REFERRAL_CODE_LIFETIME", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) code_lifetime: Option<Duration>,
    /// Number of wrong attempts that invalidate a code, 1 to 10 [default: 3; strict: 5]
    #[arg(long, env = "REFERRAL_TRIES_PER_CODE", global = true, value_name = "TRIES", value_parser = clap::value_parser!(u32).range(1..=10))]
    pub(crate) attempts_per_code: Option<u32>,
    /// Shortest time between two codes for one phone [default: 60s; development: 0s]
    #[arg(long, env = "REFERRAL_RESEND_INTERVAL", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) resend_interval: Option<Duration>,
    /// Require the `challenge_id` to sign in [default: false; strict: true]
    #[arg(long, env = "REFERRAL_REQUIRE_CHALLENGE", global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) require_challenge: Option<bool>,
    /// Phones that sign in with a fixed code and get no message, each with its last day (UTC): a
    /// comma-separated list such as `+79608543017=47110815@2026-12-31`. Use the environment variable: other
    /// users of the host can read arguments [default: none]
    #[arg(long, env = "REFERRAL_TEST_NUMBERS", global = true, value_name = "LIST", hide_env_values = true)]
    pub(crate) test_numbers: Option<String>,
    /// Region of phone numbers without a country code, such as `RU` [default: none, so only international
    /// numbers are accepted]
    #[arg(long, env = "REFERRAL_DEFAULT_REGION", global = true, value_name = "REGION")]
    pub(crate) default_region: Option<Region>,
    /// Visibility of phones and email addresses for other users. Staff always see all data
    #[arg(long, env = "REFERRAL_VISIBILITY", global = true, default_value = "full")]
    pub(crate) visibility: VisibilityName,
    /// File with the peppers that hash codes, a JSON Web Key Set. The first pepper hashes, all verify
    /// [default: `peppers.json` in the data directory, created if it does not exist]
    #[arg(long, env = "REFERRAL_PEPPER_FILE", global = true, value_name = "FILE")]
    pub(crate) pepper_file: Option<PathBuf>,
    /// The peppers, instead of a file. Use the environment variable: other users of the host can read
    /// arguments
    #[arg(
        long,
        env = "REFERRAL_PEPPERS",
        global = true,
        value_name = "JSON",
        hide_env_values = true,
        conflicts_with = "pepper_file"
    )]
    pub(crate) peppers: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Tokens")]
pub(crate) struct Tokens {
    /// File with the keys that sign tokens, a JSON Web Key Set. The first key signs, all verify [default:
    /// `keys.json` in the data directory, created if it does not exist]
    #[arg(long, env = "REFERRAL_KEY_FILE", global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The keys, instead of a file. Use the environment variable: other users of the host can read arguments
    #[arg(
        long,
        env = "REFERRAL_KEYS",
        global = true,
        value_name = "JSON",
        hide_env_values = true,
        conflicts_with = "key_file"
    )]
    pub(crate) keys: Option<String>,
    /// Issuer of tokens (`iss`)
    #[arg(long, env = "REFERRAL_ISSUER", global = true, value_name = "NAME", default_value = "referral", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) issuer: String,
    /// Audience of tokens (`aud`)
    #[arg(long, env = "REFERRAL_AUDIENCE", global = true, value_name = "NAME", default_value = "referral", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) audience: String,
    /// Lifetime of an access token [default: 15m]
    #[arg(long, env = "REFERRAL_ACCESS_LIFETIME", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) access_lifetime: Option<Duration>,
    /// Lifetime of a refresh token. A session that is not used for this time ends [default: 30d]
    #[arg(long, env = "REFERRAL_REFRESH_LIFETIME", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) refresh_lifetime: Option<Duration>,
    /// Longest lifetime of a session, even if it is used [default: 180d]
    #[arg(long, env = "REFERRAL_SESSION_LIFETIME", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) session_lifetime: Option<Duration>,
    /// Time during which a refresh token may be exchanged again without ending the session [default: 30s]
    #[arg(long, env = "REFERRAL_REFRESH_GRACE", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) refresh_grace: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Log (written to standard error, without phones, codes and tokens)")]
pub(crate) struct Log {
    /// Log filter: a level (off, error, warn, info, debug, trace), or levels by module, such as
    /// `info,sqlx=debug`
    #[arg(
        long = "log",
        env = "REFERRAL_LOG",
        global = true,
        value_name = "FILTER",
        default_value = "info,poem=warn",
        value_parser = log::check_filter
    )]
    pub(crate) filter: String,
    /// Log format
    #[arg(long = "log-format", env = "REFERRAL_LOG_FORMAT", global = true, default_value = "text")]
    pub(crate) format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyName {
    /// Four digits
    Standard,
    /// Six digits, requires the challenge id; --regions and --messages-per-day must be set
    Strict,
    /// Like standard, without a resend interval and almost without limits
    Development,
}

impl PolicyName {
    /// Returns the value of `--policy`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Strict => "strict",
            Self::Development => "development",
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum VisibilityName {
    /// All signed-in users see all data
    Full,
    /// Phones of other users are masked, and their email addresses are hidden
    Masked,
    /// Only staff see other users
    Staff,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text for people
    Text,
    /// JSON, one object per line
    Json,
}

impl Network {
    /// Returns the source of the client address.
    pub(crate) fn client_addresses(&self) -> Result<ClientAddresses, &'static str> {
        match (&self.trusted_proxies, &self.client_address_header) {
            (None, None) => Ok(ClientAddresses::default()),
            (Some(proxies), Some(header)) => Ok(ClientAddresses::forwarded(proxies.clone(), header.clone())),
            (Some(_), None) => Err("--trusted-proxies requires the header with the client address; add \
                 --client-address-header, such as X-Forwarded-For, and configure the proxies to set it or to append \
                 to it"),
            (None, Some(_)) => {
                Err("--client-address-header requires trusted proxies, because any client can send \
                 the header; add --trusted-proxies with the addresses of the proxies")
            }
        }
    }

    /// Returns the limits of connections and requests.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections,
            requests: self.max_requests,
            body: self.request_timeout,
            timeouts: Times { head: self.header_timeout, idle: self.idle_timeout },
            shutdown: self.shutdown_timeout,
        }
    }
}

impl Store {
    /// Returns `true` if the database is PostgreSQL.
    pub(crate) fn is_postgres(&self) -> bool {
        let url = self.database_url.as_deref().unwrap_or_default();
        url.starts_with("postgres:") || url.starts_with("postgresql:")
    }
}

impl Postgres {
    /// Returns the flags that were given.
    fn given(&self) -> Vec<&'static str> {
        let Self {
            database_connections,
            database_acquire_timeout,
            database_statement_timeout,
            database_pooler,
            database_migration_url,
            database_migration_lock,
        } = self;
        let flags = [
            ("--database-connections", database_connections.is_some()),
            ("--database-acquire-timeout", database_acquire_timeout.is_some()),
            ("--database-statement-timeout", database_statement_timeout.is_some()),
            ("--database-pooler", database_pooler.is_some()),
            ("--database-migration-url", database_migration_url.is_some()),
            ("--database-migration-lock", database_migration_lock.is_some()),
        ];
        flags.into_iter().filter(|(_, is_given)| *is_given).map(|(flag, _)| flag).collect()
    }
}

impl Settings {
    /// Rejects flags that apply to PostgreSQL only if the database is SQLite.
    ///
    /// The most likely cause is a missing `--database-url` on this host.
    pub(crate) fn reject_postgres_flags(&self) -> Result<(), String> {
        let given = self.postgres.given();
        if given.is_empty() || self.store.is_postgres() {
            return Ok(());
        }
        let flags: Vec<_> = given.into_iter().map(flags::with_variable).collect();
        let database = match &self.store.database_url {
            None => "--database-url (REFERRAL_DATABASE_URL) is not given, so the database is SQLite",
            Some(_) => "--database-url (REFERRAL_DATABASE_URL) is not PostgreSQL",
        };
        Err(format!(
            "{} cannot be used: {database}; remove it, or give a URL such as \
             postgres://user:password@host:5432/name",
            flags.join(", ")
        ))
    }

    /// Returns `true` if the database, the keys or the peppers are in the data directory.
    pub(crate) fn uses_data_dir(&self) -> bool {
        let Self { store, tokens, sign_in, .. } = self;
        store.database_url.is_none()
            || (tokens.key_file.is_none() && tokens.keys.is_none())
            || (sign_in.pepper_file.is_none() && sign_in.peppers.is_none())
    }

    /// Returns the options of a PostgreSQL database.
    pub(crate) fn postgres_options(&self) -> PostgresOptions {
        let given = &self.postgres;
        let mut options = PostgresOptions::default();
        set(&mut options.max_connections, given.database_connections);
        set(&mut options.acquire_timeout, given.database_acquire_timeout);
        set(&mut options.statement_timeout, given.database_statement_timeout);
        set(&mut options.search_timeout, self.store.search_timeout);
        options.migrate = self.store.migrate;
        set(&mut options.transaction_pooler, given.database_pooler);
        set(&mut options.migration_lock, given.database_migration_lock);
        options.migration_url.clone_from(&given.database_migration_url);
        options
    }

    /// Returns the options of an SQLite database.
    pub(crate) fn sqlite_options(&self) -> SqliteOptions {
        let mut options = SqliteOptions::default();
        options.migrate = self.store.migrate;
        set(&mut options.search_timeout, self.store.search_timeout);
        options
    }

    /// Returns `true` if messages are sent. Otherwise codes are returned in responses.
    pub(crate) fn sends_messages(&self) -> bool {
        self.sign_in.sms_config.is_some()
    }

    /// Reads the configuration of gateways and texts, if a file is named.
    pub(crate) fn sms_config(&self) -> Result<Option<SmsConfig>, String> {
        self.sign_in.sms_config.as_deref().map(SmsConfig::read).transpose()
    }

    /// Returns the name of the policy that provides the defaults.
    pub(crate) fn policy_name(&self) -> PolicyName {
        let by_sender = if self.sends_messages() { PolicyName::Standard } else { PolicyName::Development };
        self.sign_in.policy.unwrap_or(by_sender)
    }

    /// Returns the named policy, with the values of flags in place of its defaults.
    pub(crate) fn policy(&self) -> Policy {
        let Self { sign_in, tokens, .. } = self;
        let mut policy = match self.policy_name() {
            PolicyName::Standard => Policy::standard(),
            PolicyName::Strict => Policy::strict(),
            PolicyName::Development => Policy::development(),
        };
        set(&mut policy.code_length, sign_in.code_length);
        set(&mut policy.code_lifetime, sign_in.code_lifetime);
        set(&mut policy.attempts_per_code, sign_in.attempts_per_code);
        set(&mut policy.resend_interval, sign_in.resend_interval);
        set(&mut policy.require_challenge, sign_in.require_challenge);
        set(&mut policy.access_lifetime, tokens.access_lifetime);
        set(&mut policy.refresh_lifetime, tokens.refresh_lifetime);
        set(&mut policy.session_lifetime, tokens.session_lifetime);
        set(&mut policy.refresh_grace, tokens.refresh_grace);
        self.limits.set(&mut policy);
        policy.default_region = sign_in.default_region;
        policy.visibility = match sign_in.visibility {
            VisibilityName::Full => Visibility::Full,
            VisibilityName::Masked => Visibility::Masked,
            VisibilityName::Staff => Visibility::Staff,
        };
        policy
    }
}

/// Replaces the default with the given value, if there is one.
fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

/// Parses a timeout between 100 ms and 24 h.
fn some_time(input: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(input).map_err(|error| error.to_string())?;
    let range = Duration::from_millis(100)..=Duration::from_hours(24);
    if range.contains(&time) { Ok(time) } else { Err("give 100ms to 1d".into()) }
}

/// Parses a delay up to 24 hours.
fn delay(input: &str) -> Result<Duration, String> {
    let delay = humantime::parse_duration(input).map_err(|error| error.to_string())?;
    if delay <= Duration::from_hours(24) { Ok(delay) } else { Err("give 0s to 1d".into()) }
}

fn public_url(input: &str) -> Result<String, String> {
    let uri: poem::http::Uri = input.parse().map_err(|_| "this is not a URL".to_owned())?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let is_host = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if is_web && is_host && matches!(uri.path(), "" | "/") && uri.query().is_none() {
        Ok(input.trim_end_matches('/').to_owned())
    } else {
        Err("give scheme and host only, such as https://api.example.com".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_environment_variable() {
        for arg in Cli::command().get_arguments().filter(|arg| arg.get_long().is_some()) {
            let flag = arg.get_long().unwrap_or_default();
            let expected = format!("REFERRAL_{}", flag.replace('-', "_").to_uppercase());
            let variable = arg.get_env().and_then(|name| name.to_str());
            assert!(matches!(flag, "help" | "version") || variable == Some(&*expected), "--{flag}");
        }
    }

    #[test]
    fn flags_override_the_policy() {
        let cli = Cli::parse_from([
            "referral-server",
            "--policy",
            "strict",
            "--code-length=8",
            "--access-lifetime",
            "5m",
        ]);
        let policy = cli.settings.policy();
        assert_eq!(policy.code_length, 8);
        assert_eq!(policy.attempts_per_code, 5);
        assert_eq!(policy.access_lifetime, Duration::from_mins(5));
    }

    #[test]
    fn postgresql_flags_are_rejected_with_sqlite() {
        let check = |arguments: &[&str]| {
            let arguments = ["referral-server"].iter().chain(arguments);
            Cli::parse_from(arguments).settings.reject_postgres_flags()
        };
        let command = Postgres::augment_args(clap::Command::new("referral-server"));
        let flags: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        assert_eq!(flags.len(), 6, "{flags:?}");
        for flag in flags {
            let value = match flag {
                "database-connections" => "5",
                "database-pooler" | "database-migration-lock" => "false",
                "database-migration-url" => "postgres://user:hunter2@localhost/referral",
                _ => "1s",
            };
            let given = format!("--{flag}={value}");
            let variable = format!("REFERRAL_{}", flag.replace('-', "_").to_uppercase());
            for database in [&[][..], &["--database-url", "sqlite:referral.db"]] {
                let error = check(&[&[&*given], database].concat()).expect_err(flag);
                assert!(error.contains(&format!("--{flag} ({variable}) cannot be used")), "{error}");
                assert!(error.contains("--database-url") && !error.contains("hunter2"), "{error}");
            }
            assert_eq!(check(&[&given, "--database-url", "postgres://localhost/referral"]), Ok(()));
        }
        let error = check(&["--database-pooler", "--database-connections=5"]).expect_err("SQLite");
        assert!(error.contains("CONNECTIONS), --database-pooler"), "the error names all flags: {error}");
        assert_eq!(check(&["--search-timeout", "1s"]), Ok(()), "the flag applies to both databases");
    }

    #[test]
    fn public_urls_have_scheme_and_host_only() {
        assert_eq!(public_url("https://api.example.com/"), Ok("https://api.example.com".into()));
        for input in [
            "example.com",
            "ftp://example.com",
            "https://example.com/path",
            "https://",
            "https://a:b@example.com",
            "",
        ] {
            assert!(public_url(input).is_err(), "{input}");
        }
    }
}
