//! Functions that apply migrations and check the applied ones.

use referral_core::storage::{BoxError, Result, StorageError};
use sqlx::{Executor as _, PgConnection, Row as _, postgres::PgRow};

use super::{lease::Lease, retry::WriteConflict, rows, schema::Schema};
use crate::{
    error::{ConnectError, failure, unreadable},
    migrations::{Applied, Migrations, SchemaMigration, migration},
};

/// Number of attempts to migrate without a lock. Other processes may apply the same migration concurrently.
/// Each attempt finds at least one more applied migration.
const ATTEMPTS: usize = 10;

const HAS_SCHEMA: &str = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)";

const MIGRATIONS_TABLE: &str = "referral._migrations";

/// Table with the oldest version of the program that works with each migration.
const COMPATIBILITY_TABLE: &str = "referral.migration_compatibility";

const HAS_MIGRATIONS: &str = "SELECT to_regclass('referral._migrations') IS NOT NULL \
        AND to_regclass('referral.migration_compatibility') IS NOT NULL AS has_migrations";

const APPLIED_MIGRATIONS: &str = "SELECT version, checksum, success, oldest_program FROM referral._migrations \
     LEFT JOIN referral.migration_compatibility USING (version) ORDER BY version";

/// Checks for a standby, which accepts reads but no writes.
const IS_READ_ONLY: &str = "SELECT current_setting('transaction_read_only') = 'on' AS read_only";

/// Creates the schema and the table that lists the migrations, as `sqlx` does.
const CREATE_LIST: &str = "CREATE TABLE IF NOT EXISTS referral._migrations (version BIGINT PRIMARY KEY, \
    description TEXT NOT NULL, installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, \
    checksum BYTEA NOT NULL, execution_time BIGINT NOT NULL);";

/// Returns the migrations of the tables in `schema`.
pub(super) fn all(schema: &Schema) -> Migrations {
    let sql = schema.rename(include_str!("../../migrations/postgres/0001_schema.sql"));
    let all = vec![migration(1, "schema", "0.1.0", &sql, &schema.rename(COMPATIBILITY_TABLE))];
    Migrations::new(&schema.rename(MIGRATIONS_TABLE), all)
}

/// Returns the migrations of the tables in `schema` as scripts.
pub(super) fn scripts(schema: &Schema) -> Vec<SchemaMigration> {
    // `CREATE SCHEMA IF NOT EXISTS` requires a privilege on the database even if the schema exists.
    let first = format!(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{0}') THEN CREATE SCHEMA \"{0}\"; \
         END IF; END $$;\n{1}",
        schema.name(),
        schema.rename(CREATE_LIST)
    );
    all(schema).scripts(&first, "'\\x")
}

/// Applies the missing migrations.
///
/// With `is_locking`, the second of two concurrently started processes waits for the first. Without it, which
/// is for engines that have no advisory locks, the second process to apply a migration fails and tries again.
pub(super) async fn run(
    connection: &mut PgConnection,
    schema: &Schema,
    is_locking: bool,
) -> std::result::Result<(), ConnectError> {
    let mut attempt = 1;
    loop {
        match try_run(connection, schema, is_locking).await {
            Err(ConnectError::NotMigrated(error)) if !is_locking && attempt < ATTEMPTS => {
                tracing::debug!(%error, "failed to migrate the database; retrying");
                attempt += 1;
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            done => return done,
        }
    }
}

async fn try_run(
    connection: &mut PgConnection,
    schema: &Schema,
    is_locking: bool,
) -> std::result::Result<(), ConnectError> {
    let failed = |error: sqlx::Error| ConnectError::NotMigrated(error.into());
    let migrations = all(schema);
    let missing = migrations.check(&applied(connection, schema).await.map_err(failed)?)?;
    let Some(first) = missing else { return Ok(()) };
    let mut migrator = migrations.migrator();
    migrator.set_locking(is_locking);
    // The schema is created only if it is missing. Its creation requires a privilege on the whole database,
    // which the role does not need if the operator has created the schema before.
    if !has_schema(connection, schema).await.map_err(failed)? {
        migrator.create_schema(format!("\"{}\"", schema.name()));
    }
    let migrated = migrator.run_direct(None, connection, false).await;
    migrated.map_err(|error| ConnectError::NotMigrated(error.into()))?;
    // Another process with a newer program may have migrated the database concurrently.
    migrations.check_complete(&applied(connection, schema).await.map_err(failed)?)?;
    migrations.log_applied(first);
    Ok(())
}

async fn has_schema(connection: &mut PgConnection, schema: &Schema) -> sqlx::Result<bool> {
    sqlx::query_scalar(HAS_SCHEMA).bind(schema.name()).fetch_one(connection).await
}

/// Reads the applied migrations. Returns none if the table that lists them is missing.
async fn applied(connection: &mut PgConnection, schema: &Schema) -> sqlx::Result<Vec<Applied>> {
    let has_table = connection.fetch_one(sqlx::raw_sql(schema.rename_in(HAS_MIGRATIONS))).await?;
    if !has_table.try_get("has_migrations")? {
        return Ok(Vec::new());
    }
    let rows = connection.fetch_all(sqlx::raw_sql(schema.rename_in(APPLIED_MIGRATIONS))).await?;
    rows.iter().map(read_applied).collect()
}

fn read_applied(row: &PgRow) -> sqlx::Result<Applied> {
    Ok(Applied {
        version: row.try_get("version")?,
        checksum: row.try_get("checksum")?,
        is_finished: row.try_get("success")?,
        oldest_program: row.try_get("oldest_program")?,
    })
}

/// Checks on a new connection that all migrations have been applied.
pub(super) async fn check_connection(lease: &mut Lease) -> std::result::Result<(), ConnectError> {
    let schema = lease.schema.clone();
    let applied = lease.run(async |connection| applied(connection, &schema).await).await;
    let applied = applied.map_err(|error| ConnectError::NotReached(error.into()))?;
    Ok(all(&schema).check_complete(&applied)?)
}

/// Checks that all migrations have been applied, and that newer ones work with this version.
pub(super) async fn check_applied(lease: &mut Lease, migrations: &Migrations) -> Result<()> {
    let rows = lease.fetch_all(lease.query(APPLIED_MIGRATIONS)).await.map_err(failure)?;
    let applied: sqlx::Result<Vec<_>> = rows.iter().map(read_applied).collect();
    let checked = migrations.check_complete(&applied.map_err(unreadable)?);
    checked.map_err(|error| StorageError::Failed(BoxError::from(error)))
}

/// Checks that the server is not a standby.
pub(super) async fn check_writable(lease: &mut Lease) -> Result<()> {
    let read_only = lease.query(IS_READ_ONLY);
    let row = lease.fetch_one(read_only).await.map_err(failure)?;
    if rows::get(&row, "read_only")? { Err(WriteConflict::Standby.into()) } else { Ok(()) }
}
