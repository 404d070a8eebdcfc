//! Functions that apply migrations and check the applied ones.

use std::sync::LazyLock;

use referral_core::storage::{BoxError, Result, StorageError};
use sqlx::{Connection, Executor as _, Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{search, statements};
use crate::{
    ConnectError,
    error::failure,
    migrations::{Applied, Migrations, migration},
};

static MIGRATIONS: LazyLock<Migrations> = LazyLock::new(|| {
    let all = [
        (1, "start", "0.1.0", include_str!("../../migrations/sqlite/0001_start.sql")),
        (2, "search and keys", "0.1.0", include_str!("../../migrations/sqlite/0002_search_and_keys.sql")),
        (3, "limits", "0.1.0", include_str!("../../migrations/sqlite/0003_limits.sql")),
        (4, "messages", "0.1.0", include_str!("../../migrations/sqlite/0004_messages.sql")),
    ];
    let all = all.map(|(version, description, oldest_program, sql)| {
        migration(version, description, oldest_program, sql, statements::COMPATIBILITY_TABLE)
    });
    Migrations::new(statements::MIGRATIONS_TABLE, all.into())
});

/// Applies the missing migrations.
///
/// `sqlx` has no migration lock for SQLite. Instead, the migrations are one transaction that excludes all
/// other writes. The second of two concurrently started processes waits, and finds all migrations applied.
pub(super) async fn run(connection: &mut SqliteConnection) -> std::result::Result<(), ConnectError> {
    let failed = |error: sqlx::Error| ConnectError::NotMigrated(error.into());

    let mut transaction = connection.begin_with(statements::BEGIN).await.map_err(failed)?;
    let missing = MIGRATIONS.check(&applied(&mut transaction).await.map_err(failed)?)?;
    let Some(first) = missing else { return transaction.rollback().await.map_err(failed) };
    let has_grams = sqlx::query_scalar(statements::HAS_GRAMS).fetch_one(&mut *transaction).await;
    let has_grams: bool = has_grams.map_err(failed)?;
    let migrated = MIGRATIONS.migrator().run_direct(None, &mut *transaction, false).await;
    migrated.map_err(|error| ConnectError::NotMigrated(error.into()))?;
    if !has_grams {
        // SQL cannot do this, because the core creates the grams.
        let filled = search::fill(&mut transaction).await;
        filled.map_err(|error| ConnectError::NotMigrated(error.into()))?;
    }
    transaction.commit().await.map_err(failed)?;
    MIGRATIONS.log_applied(first);
    Ok(())
}

/// Reads the applied migrations. Returns none if the table that lists them is missing.
async fn applied(connection: &mut SqliteConnection) -> sqlx::Result<Vec<Applied>> {
    let has_table: bool = sqlx::query_scalar(statements::HAS_MIGRATIONS).fetch_one(&mut *connection).await?;
    if !has_table {
        return Ok(Vec::new());
    }
    let rows = connection.fetch_all(sqlx::query(statements::APPLIED_MIGRATIONS)).await?;
    rows.iter().map(read_applied).collect()
}

fn read_applied(row: &SqliteRow) -> sqlx::Result<Applied> {
    Ok(Applied {
        version: row.try_get("version")?,
        checksum: row.try_get("checksum")?,
        is_finished: row.try_get("success")?,
        oldest_program: row.try_get("oldest_program")?,
    })
}

/// Checks on a new connection that all migrations have been applied.
pub(super) async fn check_connection(
    connection: &mut SqliteConnection,
) -> std::result::Result<(), ConnectError> {
    let applied = applied(connection).await.map_err(|error| ConnectError::NotOpened(error.into()))?;
    Ok(MIGRATIONS.check_complete(&applied)?)
}

/// Checks that all migrations have been applied, and that newer ones work with this version.
pub(super) async fn check_applied(connection: &mut SqliteConnection) -> Result<()> {
    let checked = MIGRATIONS.check_complete(&applied(connection).await.map_err(failure)?);
    checked.map_err(|error| StorageError::Failed(BoxError::from(error)))
}
