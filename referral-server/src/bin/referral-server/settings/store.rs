//! Flags of the storage: the data directory and the database.

use std::{path::PathBuf, time::Duration};

use clap::{Args, builder::BoolishValueParser};
use referral_sqlx::SqliteOptions;

use crate::settings::{Settings, set, times::parse_timeout};

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
    #[arg(long, env = "REFERRAL_SEARCH_TIMEOUT", global = true, value_name = "TIME", value_parser = parse_timeout)]
    pub(crate) search_timeout: Option<Duration>,
}

impl Store {
    /// Returns `true` if the database is PostgreSQL.
    pub(crate) fn is_postgres(&self) -> bool {
        let url = self.database_url.as_deref().unwrap_or_default();
        url.starts_with("postgres:") || url.starts_with("postgresql:")
    }
}

impl Settings {
    /// Returns `true` if the database, the keys or the peppers are in the data directory.
    pub(crate) fn uses_data_dir(&self) -> bool {
        let Self { store, tokens, sign_in, .. } = self;
        store.database_url.is_none()
            || (tokens.key_file.is_none() && tokens.keys.is_none())
            || (sign_in.pepper_file.is_none() && sign_in.peppers.is_none())
    }

    /// Returns the options of an SQLite database.
    pub(crate) fn sqlite_options(&self) -> SqliteOptions {
        let mut options = SqliteOptions::default();
        options.migrate = self.store.migrate;
        set(&mut options.search_timeout, self.store.search_timeout);
        options
    }
}
