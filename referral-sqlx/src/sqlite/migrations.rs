//! Functions that apply migrations and check the applied ones.

use referral_core::storage::{BoxError, Result, StorageError};
use sqlx::{Connection, Executor as _, Row as _, SqliteConnection, sqlite::SqliteRow};

use super::table_prefix::TablePrefix;
use crate::{
    error::{ConnectError, failure},
    migrations::{Applied, Migrations, SchemaMigration, migration},
};

/// Starts a transaction that excludes all other writing transactions, in this process and in others.
const BEGIN: &str = "BEGIN IMMEDIATE";

const MIGRATIONS_TABLE: &str = "referral_migrations";

/// Table with the oldest version of the program that works with each migration.
const COMPATIBILITY_TABLE: &str = "referral_migration_compatibility";

const HAS_MIGRATIONS: &str = "SELECT count(*) = 2 FROM sqlite_master \
    WHERE type = 'table' AND name IN ('referral_migrations', 'referral_migration_compatibility')";

const APPLIED_MIGRATIONS: &str = "SELECT version, checksum, success, oldest_program FROM referral_migrations \
     LEFT JOIN referral_migration_compatibility USING (version) ORDER BY version";

/// Creates the table that lists the migrations, as `sqlx` does.
const CREATE_LIST: &str = "CREATE TABLE IF NOT EXISTS referral_migrations (version BIGINT PRIMARY KEY, \
    description TEXT NOT NULL, installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, \
    success BOOLEAN NOT NULL, checksum BLOB NOT NULL, execution_time BIGINT NOT NULL);";

/// Migrations of the tables with a prefix.
pub(super) struct TableMigrations {
    prefix: TablePrefix,
    migrations: Migrations,
}

impl TableMigrations {
    pub(super) fn new(prefix: TablePrefix) -> Self {
        let schema = prefix.rename(include_str!("../../migrations/sqlite/0001_schema.sql"));
        let all = vec![migration(1, "schema", "0.1.0", &schema, &prefix.rename(COMPATIBILITY_TABLE))];
        let migrations = Migrations::new(&prefix.rename(MIGRATIONS_TABLE), all);
        Self { prefix, migrations }
    }

    pub(super) fn prefix(&self) -> &TablePrefix {
        &self.prefix
    }

    /// Returns the migrations as scripts.
    pub(super) fn scripts(&self) -> Vec<SchemaMigration> {
        self.migrations.scripts(&self.prefix.rename(CREATE_LIST), "x'")
    }

    /// Applies the missing migrations.
    ///
    /// `sqlx` has no migration lock for SQLite. Instead, the migrations are one transaction that excludes all
    /// other writes. The second of two concurrently started processes waits, and finds all migrations
    /// applied.
    pub(super) async fn run(
        &self,
        connection: &mut SqliteConnection,
    ) -> std::result::Result<(), ConnectError> {
        let failed = |error: sqlx::Error| ConnectError::NotMigrated(error.into());

        let mut transaction = connection.begin_with(BEGIN).await.map_err(failed)?;
        let missing = self.migrations.check(&self.applied(&mut transaction).await.map_err(failed)?)?;
        let Some(first) = missing else { return transaction.rollback().await.map_err(failed) };
        let migrated = self.migrations.migrator().run_direct(None, &mut *transaction, false).await;
        migrated.map_err(|error| ConnectError::NotMigrated(error.into()))?;
        transaction.commit().await.map_err(failed)?;
        self.migrations.log_applied(first);
        Ok(())
    }

    /// Reads the applied migrations. Returns none if the table that lists them is missing.
    async fn applied(&self, connection: &mut SqliteConnection) -> sqlx::Result<Vec<Applied>> {
        let has_table = sqlx::query_scalar(self.prefix.rename_in(HAS_MIGRATIONS));
        if !has_table.fetch_one(&mut *connection).await? {
            return Ok(Vec::new());
        }
        let rows = connection.fetch_all(self.prefix.rename_in(APPLIED_MIGRATIONS)).await?;
        rows.iter().map(read_applied).collect()
    }

    /// Checks on a new connection that all migrations have been applied.
    pub(super) async fn check_connection(
        &self,
        connection: &mut SqliteConnection,
    ) -> std::result::Result<(), ConnectError> {
        let applied =
            self.applied(connection).await.map_err(|error| ConnectError::NotOpened(error.into()))?;
        Ok(self.migrations.check_complete(&applied)?)
    }

    /// Checks that all migrations have been applied, and that newer ones work with this version.
    pub(super) async fn check_applied(&self, connection: &mut SqliteConnection) -> Result<()> {
        let applied = self.applied(connection).await.map_err(failure)?;
        let checked = self.migrations.check_complete(&applied);
        checked.map_err(|error| StorageError::Failed(BoxError::from(error)))
    }
}

fn read_applied(row: &SqliteRow) -> sqlx::Result<Applied> {
    Ok(Applied {
        version: row.try_get("version")?,
        checksum: row.try_get("checksum")?,
        is_finished: row.try_get("success")?,
        oldest_program: row.try_get("oldest_program")?,
    })
}
