//! The steps that made the schema what it is.

use std::borrow::Cow;

use referral_core::storage::{BoxError, Result, StorageError};
use sqlx::{
    Connection, Row, SqlSafeStr, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
};

use super::{search, statements};
use crate::{
    ConnectError,
    error::{failure, unreadable},
};

/// Applies the steps that are missing.
///
/// `sqlx` knows no lock for SQLite, so a transaction that excludes all others is one: of two
/// processes that start at once the second waits, and finds everything done.
pub(super) async fn run(connection: &mut SqliteConnection) -> std::result::Result<(), ConnectError> {
    let not_migrated = |error: sqlx::Error| ConnectError::NotMigrated(error.into());

    let mut transaction = connection.begin_with(statements::BEGIN).await.map_err(not_migrated)?;
    let has_grams = sqlx::query_scalar(statements::HAS_GRAMS).fetch_one(&mut *transaction).await;
    let has_grams: bool = has_grams.map_err(not_migrated)?;
    let applied = migrator().run_direct(None, &mut *transaction, false).await;
    applied.map_err(|error| ConnectError::NotMigrated(error.into()))?;
    if !has_grams {
        // What no SQL can do: the grams are made by the core.
        let filled = search::fill(&mut transaction).await;
        filled.map_err(|error| ConnectError::NotMigrated(error.into()))?;
    }
    transaction.commit().await.map_err(not_migrated)
}

/// An error unless exactly these steps have been applied, as they are here.
pub(super) async fn check_applied(connection: &mut SqliteConnection) -> Result<()> {
    let rows = sqlx::query(statements::APPLIED_MIGRATIONS).fetch_all(connection).await.map_err(failure)?;
    let applied: sqlx::Result<Vec<(i64, Vec<u8>)>> =
        rows.iter().map(|row| Ok((row.try_get("version")?, row.try_get("checksum")?))).collect();
    let applied = applied.map_err(unreadable)?;

    let expected: Vec<_> =
        migrations().into_iter().map(|step| (step.version, step.checksum.into_owned())).collect();
    if applied == expected {
        return Ok(());
    }
    let other = "the schema of the database is not the one that this version of the program expects";
    Err(StorageError::Failed(BoxError::from(other)))
}

fn migrator() -> Migrator {
    let mut migrator = Migrator::with_migrations(migrations());
    // The database may have migrations of its owner's beside ours.
    migrator.dangerous_set_table_name(statements::MIGRATIONS_TABLE);
    migrator
}

fn migrations() -> Vec<Migration> {
    let step = |version, description, sql: &'static str| {
        let description = Cow::Borrowed(description);
        Migration::new(version, description, MigrationType::Simple, sql.into_sql_str(), false)
    };
    vec![
        step(1, "start", include_str!("../../migrations/sqlite/0001_start.sql")),
        step(2, "search and keys", include_str!("../../migrations/sqlite/0002_search_and_keys.sql")),
    ]
}
