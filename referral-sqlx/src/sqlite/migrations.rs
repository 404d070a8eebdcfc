//! Bringing the schema up to date.

use referral_core::storage::Result;
use sqlx::{Connection, Row, SqliteConnection, migrate::Migration};

use super::{search, statements};
use crate::{
    ConnectError,
    error::{failure, unreadable},
    migrations::{compare, migrator, step},
};

fn steps() -> Vec<Migration> {
    vec![
        step(1, "start", include_str!("../../migrations/sqlite/0001_start.sql")),
        step(2, "search and keys", include_str!("../../migrations/sqlite/0002_search_and_keys.sql")),
        step(3, "limits", include_str!("../../migrations/sqlite/0003_limits.sql")),
        step(4, "messages", include_str!("../../migrations/sqlite/0004_messages.sql")),
    ]
}

/// Applies the steps that are missing.
///
/// `sqlx` knows no lock for SQLite, so a transaction that excludes all others is one: of two
/// processes that start at once the second waits, and finds everything done.
pub(super) async fn run(connection: &mut SqliteConnection) -> std::result::Result<(), ConnectError> {
    let not_migrated = |error: sqlx::Error| ConnectError::NotMigrated(error.into());

    let mut transaction = connection.begin_with(statements::BEGIN).await.map_err(not_migrated)?;
    let has_grams = sqlx::query_scalar(statements::HAS_GRAMS).fetch_one(&mut *transaction).await;
    let has_grams: bool = has_grams.map_err(not_migrated)?;
    let migrator = migrator(steps(), statements::MIGRATIONS_TABLE);
    let applied = migrator.run_direct(None, &mut *transaction, false).await;
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
    let applied: sqlx::Result<Vec<_>> =
        rows.iter().map(|row| Ok((row.try_get("version")?, row.try_get("checksum")?))).collect();
    compare(&applied.map_err(unreadable)?, &steps())
}
