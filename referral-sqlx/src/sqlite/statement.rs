//! Execution of statements that must write a known number of rows.

use referral_core::storage::{Result, StorageError};
use sqlx::{Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};

use crate::error::failure;

pub(super) type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Executes a statement that must write one row, because the row was read under the same lock.
pub(super) async fn write_row(connection: &mut SqliteConnection, statement: Statement<'_>) -> Result<()> {
    write_rows(connection, statement, 1).await
}

/// Executes a statement that must write `expected` rows.
pub(super) async fn write_rows(
    connection: &mut SqliteConnection,
    statement: Statement<'_>,
    expected: u64,
) -> Result<()> {
    let written = statement.execute(connection).await.map_err(failure)?.rows_affected();
    if written == expected {
        return Ok(());
    }
    Err(StorageError::Failed("a row to change is missing or can no longer change".into()))
}
