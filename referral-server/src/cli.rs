//! The command line: flags, each with its environment variable, and sub-commands.

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
    connections::Limits,
    flags,
    keys::KeysCommand,
    limits::LimitSettings,
    log,
    patience::Times,
    sms::{SmsCommand, SmsConfig},
};

/// Sign-in by phone and one-time code, with a simple referral system, over HTTP.
///
/// Without any setting it keeps everything in `./referral-data`, listens on 127.0.0.1:8080 and
/// returns codes in its answers instead of sending them, so that all of it can be tried in a
/// browser. Each flag can also be given as the environment variable that stands beside it.
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
    /// Bring the schema of the database up to date, and exit. Servers do so when they start, unless they have
    /// `--migrate=false`.
    Migrate,
    /// Print the OpenAPI document.
    Openapi,
    /// Make the user with a phone staff; make the user first, if there is none.
    ///
    /// Staff see everybody's data, whatever the visibility. They sign in like anybody else.
    CreateSuperuser {
        /// The phone, in international form.
        #[arg(long)]
        phone: String,
    },
    /// Make, show and rotate the keys that sign tokens and the peppers that hash codes.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Try out how messages are sent, and what they say.
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
    /// Address of the API; port 0 picks a free one and prints it
    #[arg(
        long,
        env = "REFERRAL_LISTEN",
        global = true,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) listen: SocketAddr,
    /// Address of the figures for Prometheus, at `/metrics`, which others must not reach; port 0 picks a
    /// free one and prints it [default: none]
    #[arg(long, env = "REFERRAL_METRICS_LISTEN", global = true, value_name = "ADDRESS")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Scheme and host that clients use, for links to other pages, and that gateways call with reports
    /// [default: links are relative, except for clients on this machine, and gateways are told no URL]
    #[arg(long, env = "REFERRAL_PUBLIC_URL", global = true, value_name = "URL", value_parser = public_url)]
    pub(crate) public_url: Option<String>,
    /// Origins, such as `https://app.example.com`, whose pages may use the API in a browser: a list with
    /// commas, or `*` for any [default: none but the server's own]
    #[arg(long, env = "REFERRAL_CORS_ORIGINS", global = true, value_name = "LIST")]
    pub(crate) cors_origins: Option<CorsOrigins>,
    /// Reverse proxies that are believed who the client is: a list of addresses and blocks with commas,
    /// such as `10.0.0.0/8,::1` [default: none, so that the client is whoever connects]
    #[arg(long, env = "REFERRAL_TRUSTED_PROXIES", global = true, value_name = "LIST")]
    pub(crate) trusted_proxies: Option<TrustedProxies>,
    /// Header in which they say it, such as `X-Forwarded-For` or `Forwarded`; they must set it or
    /// append to it [default: none]
    #[arg(long, env = "REFERRAL_CLIENT_ADDRESS_HEADER", global = true, value_name = "NAME")]
    pub(crate) client_address_header: Option<HeaderName>,
    /// How long a body may take to arrive, and the answer to be found; each
    #[arg(long, env = "REFERRAL_TIME_LIMIT", global = true, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub(crate) time_limit: Duration,
    /// How long the head of a request may take to arrive; the first one from the moment of connecting
    #[arg(long, env = "REFERRAL_HEAD_TIME", global = true, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub(crate) head_time: Duration,
    /// How long a connection stays open without a request, and without anything read of an answer
    #[arg(long, env = "REFERRAL_IDLE_TIME", global = true, value_name = "TIME", default_value = "60s", value_parser = some_time)]
    pub(crate) idle_time: Duration,
    /// Connections that are open at most. Another one replaces the longest idle one of the client address
    /// with the most. Each takes 3 KiB before its first byte, 14 KiB between requests and at most 20 KiB.
    /// An eighth of them may speak HTTP/2, and these take up to 90 KiB together with their requests
    #[arg(long, env = "REFERRAL_MAX_CONNECTIONS", global = true, value_name = "NUMBER", default_value = "10240", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) max_connections: u32,
    /// Requests that are in flight at most, over all connections: from their head until their response has
    /// been written. Further ones get a 503. One client address has at most a quarter of them
    #[arg(long, env = "REFERRAL_MAX_REQUESTS", global = true, value_name = "NUMBER", default_value = "2000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) max_requests: u32,
    /// How long requests are served after the signal to stop, while `/health/ready` responds with 503 so that
    /// balancers stop sending requests. Longer than a balancer takes to notice. A second signal ends the
    /// process immediately
    #[arg(long, env = "REFERRAL_DRAIN_DELAY", global = true, value_name = "TIME", default_value = "0s", value_parser = delay)]
    pub(crate) drain_delay: Duration,
    /// How long requests in flight may take after the drain delay
    #[arg(long, env = "REFERRAL_SHUTDOWN_TIME", global = true, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub(crate) shutdown_time: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Storage")]
pub(crate) struct Store {
    /// Folder of the database, the keys and the pepper, as far as no other place is given. It and its files
    /// must belong to the user that the server runs as, and be out of reach of other users
    #[arg(
        long,
        env = "REFERRAL_DATA_DIR",
        global = true,
        value_name = "DIR",
        default_value = "./referral-data"
    )]
    pub(crate) data_dir: PathBuf,
    /// Database: `sqlite:path/to/file.db`, a file of mode 0600, or `postgres://user:password@host:5432/name`, after which
    /// `?sslmode=verify-full&sslrootcert=ca.pem` encrypts [default: `referral.db` in the data folder]
    #[arg(long, env = "REFERRAL_DATABASE_URL", global = true, value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
    /// Whether the schema is brought up to date at the start. If not, `referral-server migrate` must have done it
    #[arg(long, env = "REFERRAL_MIGRATE", global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) migrate: bool,
    /// Time limit of a search, and of a list by a large offset or with combined filters. Such lists run on
    /// a few connections, so that sign-ins are not slowed down [default: 500ms]
    #[arg(long, env = "REFERRAL_SEARCH_TIMEOUT", global = true, value_name = "TIME", value_parser = some_time)]
    pub(crate) search_timeout: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "PostgreSQL")]
#[expect(clippy::struct_field_names, reason = "a flag has the name of its field")]
pub(crate) struct Postgres {
    /// Connections that are open at most [default: 10]
    #[arg(long, env = "REFERRAL_DATABASE_CONNECTIONS", global = true, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) database_connections: Option<u32>,
    /// How long to wait for a connection [default: 3s]
    #[arg(long, env = "REFERRAL_DATABASE_ACQUIRE_TIMEOUT", global = true, value_name = "TIME", value_parser = some_time)]
    pub(crate) database_acquire_timeout: Option<Duration>,
    /// How long a statement may take [default: 5s]
    #[arg(long, env = "REFERRAL_DATABASE_STATEMENT_TIMEOUT", global = true, value_name = "TIME", value_parser = some_time)]
    pub(crate) database_statement_timeout: Option<Duration>,
    /// Whether the URL leads to a pooler, which may give each transaction another connection, such as
    /// PgBouncer in transaction mode [default: false]
    #[arg(long, env = "REFERRAL_DATABASE_POOLER", global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) database_pooler: Option<bool>,
    /// Where the schema is brought up to date, if not at the URL: past a pooler [default: the URL;
    /// with a pooler nowhere, so that the schema must be up to date]
    #[arg(
        long,
        env = "REFERRAL_DATABASE_MIGRATION_URL",
        global = true,
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) database_migration_url: Option<String>,
    /// Whether an advisory lock is taken for that, which engines other than PostgreSQL may not have
    /// [default: true]
    #[arg(long, env = "REFERRAL_DATABASE_MIGRATION_LOCK", global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) database_migration_lock: Option<bool>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Signing in")]
pub(crate) struct SignIn {
    /// File with the gateways that messages are sent through, and what messages say [default: none, so that
    /// codes come back in answers, and anybody can sign in as anybody]
    #[arg(long, env = "REFERRAL_SMS_CONFIG", global = true, value_name = "FILE")]
    pub(crate) sms_config: Option<PathBuf>,
    /// Accept settings that let other machines reach the development sender, which returns the code of
    /// any phone to any client: another address than loopback, PostgreSQL, a public URL, trusted
    /// proxies, a policy other than development; and accept requests for any host
    #[arg(long, env = "REFERRAL_RETURN_CODES_TO_ANYONE", global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) return_codes_to_anyone: bool,
    /// The numbers that hold where no flag says otherwise [default: standard with --sms-config, else
    /// development]
    #[arg(long, env = "REFERRAL_POLICY", global = true)]
    pub(crate) policy: Option<PolicyName>,
    /// Digits of a code, 4 to 10 [default: 4; strict: 6]
    #[arg(long, env = "REFERRAL_CODE_LENGTH", global = true, value_name = "DIGITS", value_parser = clap::value_parser!(u8).range(4..=10))]
    pub(crate) code_length: Option<u8>,
    /// How long a code is good, 1 to 10 minutes [default: 300s]
    #[arg(long, env = "REFERRAL_CODE_LIFETIME", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) code_lifetime: Option<Duration>,
    /// Wrong tries after which a code is dead, 1 to 10 [default: 3; strict: 5]
    #[arg(long, env = "REFERRAL_TRIES_PER_CODE", global = true, value_name = "TRIES", value_parser = clap::value_parser!(u32).range(1..=10))]
    pub(crate) tries_per_code: Option<u32>,
    /// How long to wait between two codes for one phone [default: 60s; development: 0s]
    #[arg(long, env = "REFERRAL_COOL_DOWN", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) cool_down: Option<Duration>,
    /// Whether signing in takes the `challenge_id` [default: false; strict: true]
    #[arg(long, env = "REFERRAL_REQUIRE_CHALLENGE", global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) require_challenge: Option<bool>,
    /// Phones that sign in with a fixed code and get no message, each with its last day (UTC), such as
    /// `+79608543017=47110815@2026-12-31`: a list with commas. Better set as the variable: others can
    /// read arguments [default: none]
    #[arg(long, env = "REFERRAL_TEST_NUMBERS", global = true, value_name = "LIST", hide_env_values = true)]
    pub(crate) test_numbers: Option<String>,
    /// Region of phone numbers without a country code, such as `RU` [default: none, so that only
    /// international numbers are read]
    #[arg(long, env = "REFERRAL_DEFAULT_REGION", global = true, value_name = "REGION")]
    pub(crate) default_region: Option<Region>,
    /// Who sees whose phone and e-mail address; staff always see everything
    #[arg(long, env = "REFERRAL_VISIBILITY", global = true, default_value = "full")]
    pub(crate) visibility: VisibilityName,
    /// File with the peppers that hash codes, a JSON Web Key Set: the first hashes, all verify
    /// [default: `peppers.json` in the data folder, made if it is not there]
    #[arg(long, env = "REFERRAL_PEPPER_FILE", global = true, value_name = "FILE")]
    pub(crate) pepper_file: Option<PathBuf>,
    /// The peppers themselves, in place of a file. As the variable: arguments can be read by others
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
    /// File with the keys that sign tokens, a JSON Web Key Set: the first signs, all verify
    /// [default: `keys.json` in the data folder, made if it is not there]
    #[arg(long, env = "REFERRAL_KEY_FILE", global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The keys themselves, in place of a file. As the variable: arguments can be read by others
    #[arg(
        long,
        env = "REFERRAL_KEYS",
        global = true,
        value_name = "JSON",
        hide_env_values = true,
        conflicts_with = "key_file"
    )]
    pub(crate) keys: Option<String>,
    /// Who issues the tokens (`iss`)
    #[arg(long, env = "REFERRAL_ISSUER", global = true, value_name = "NAME", default_value = "referral", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) issuer: String,
    /// Whom the tokens are for (`aud`)
    #[arg(long, env = "REFERRAL_AUDIENCE", global = true, value_name = "NAME", default_value = "referral", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) audience: String,
    /// How long an access token is valid [default: 15m]
    #[arg(long, env = "REFERRAL_ACCESS_LIFETIME", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) access_lifetime: Option<Duration>,
    /// How long a refresh token is valid, hence how long a session lives unused [default: 30d]
    #[arg(long, env = "REFERRAL_REFRESH_LIFETIME", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) refresh_lifetime: Option<Duration>,
    /// How long a session lives, however much it is used [default: 180d]
    #[arg(long, env = "REFERRAL_SESSION_LIFETIME", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) session_lifetime: Option<Duration>,
    /// How long an exchanged refresh token may be seen again without harm [default: 30s]
    #[arg(long, env = "REFERRAL_REFRESH_GRACE", global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) refresh_grace: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Log (written to standard error, without phones, codes and tokens)")]
pub(crate) struct Log {
    /// What to log: a level (off, error, warn, info, debug, trace), or levels by module as in
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
    /// How to write it
    #[arg(long = "log-format", env = "REFERRAL_LOG_FORMAT", global = true, default_value = "text")]
    pub(crate) format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyName {
    /// Four digits
    Standard,
    /// Six digits, and the challenge it answers; asks for --regions and --messages-per-day
    Strict,
    /// Standard without waiting between two codes, and almost without limits
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
    /// Everybody who is signed in sees everything
    Full,
    /// Phones of others are masked and their e-mail addresses hidden
    Masked,
    /// Only staff see others
    Staff,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// For machines, one object a line
    Json,
}

impl Network {
    /// How the address of a client is found out.
    pub(crate) fn client_addresses(&self) -> Result<ClientAddresses, &'static str> {
        match (&self.trusted_proxies, &self.client_address_header) {
            (None, None) => Ok(ClientAddresses::default()),
            (Some(proxies), Some(header)) => Ok(ClientAddresses::forwarded(proxies.clone(), header.clone())),
            (Some(_), None) => Err("--trusted-proxies needs the header in which they name the client; add \
                 --client-address-header, such as X-Forwarded-For, and see that they set it or append to it"),
            (None, Some(_)) => {
                Err("--client-address-header is believed of known proxies only, since any client can \
                 send it; add --trusted-proxies with their addresses")
            }
        }
    }

    /// What connections may take.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections,
            requests: self.max_requests,
            body: self.time_limit,
            patience: Times { head: self.head_time, idle: self.idle_time },
            shutdown: self.shutdown_time,
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
    /// The likeliest cause is a `--database-url` that is missing on this host.
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

    /// Whether anything is kept in the data folder.
    pub(crate) fn uses_data_dir(&self) -> bool {
        let Self { store, tokens, sign_in, .. } = self;
        store.database_url.is_none()
            || (tokens.key_file.is_none() && tokens.keys.is_none())
            || (sign_in.pepper_file.is_none() && sign_in.peppers.is_none())
    }

    /// How PostgreSQL is used.
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

    /// Whether messages are sent. If not, whoever asks for a code has it.
    pub(crate) fn sends_messages(&self) -> bool {
        self.sign_in.sms_config.is_some()
    }

    /// How messages are sent, and what they say, if a file is named.
    pub(crate) fn sms_config(&self) -> Result<Option<SmsConfig>, String> {
        self.sign_in.sms_config.as_deref().map(SmsConfig::read).transpose()
    }

    /// The policy that holds where no flag says otherwise.
    pub(crate) fn policy_name(&self) -> PolicyName {
        let by_sender = if self.sends_messages() { PolicyName::Standard } else { PolicyName::Development };
        self.sign_in.policy.unwrap_or(by_sender)
    }

    /// The policy named, with the numbers that flags give in its place.
    pub(crate) fn policy(&self) -> Policy {
        let Self { sign_in, tokens, .. } = self;
        let mut policy = match self.policy_name() {
            PolicyName::Standard => Policy::standard(),
            PolicyName::Strict => Policy::strict(),
            PolicyName::Development => Policy::development(),
        };
        set(&mut policy.code_length, sign_in.code_length);
        set(&mut policy.code_lifetime, sign_in.code_lifetime);
        set(&mut policy.tries_per_code, sign_in.tries_per_code);
        set(&mut policy.cool_down, sign_in.cool_down);
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

/// Puts what was given in place of the default.
fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

/// A duration in which something can happen, and whose end somebody lives to see.
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
    fn the_command_line_is_well_formed() {
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
    fn flags_go_before_the_policy() {
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
        assert_eq!(policy.tries_per_code, 5);
        assert_eq!(policy.access_lifetime, Duration::from_mins(5));
    }

    #[test]
    fn every_flag_of_postgresql_is_rejected_with_sqlite() {
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
        assert!(error.contains("CONNECTIONS), --database-pooler"), "all are named: {error}");
        assert_eq!(check(&["--search-timeout", "1s"]), Ok(()), "it applies to both");
    }

    #[test]
    fn a_public_url_is_scheme_and_host() {
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
