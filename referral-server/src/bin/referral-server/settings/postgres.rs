//! Flags of a PostgreSQL database, which are rejected for SQLite.

use std::time::Duration;

use clap::{Args, builder::BoolishValueParser};
use referral_sqlx::PostgresOptions;

use crate::settings::{Settings, flags, set, times::parse_timeout};

#[derive(Debug, Args)]
#[command(next_help_heading = "PostgreSQL")]
#[expect(clippy::struct_field_names, reason = "a flag has the name of its field")]
pub(crate) struct Postgres {
    /// Maximum number of connections to the database [default: 10]
    #[arg(long, env = "REFERRAL_DATABASE_CONNECTIONS", global = true, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) database_connections: Option<u32>,
    /// Longest time to wait for a connection [default: 3s]
    #[arg(long, env = "REFERRAL_DATABASE_ACQUIRE_TIMEOUT", global = true, value_name = "TIME", value_parser = parse_timeout)]
    pub(crate) database_acquire_timeout: Option<Duration>,
    /// Time limit of a statement [default: 5s]
    #[arg(long, env = "REFERRAL_DATABASE_STATEMENT_TIMEOUT", global = true, value_name = "TIME", value_parser = parse_timeout)]
    pub(crate) database_statement_timeout: Option<Duration>,
    /// Treat the database URL as that of a pooler that may use another connection for each transaction, such
    /// as PgBouncer in transaction mode [default: false]
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
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::settings::Cli;

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
}
