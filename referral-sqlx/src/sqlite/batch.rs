//! Statements that are sent together to the thread of the connection. The way there and back takes longer than
//! most statements.

use std::mem;

use futures_util::StreamExt as _;
use referral_core::{
    Invitation, User,
    storage::{Result, StorageError},
};
use sqlx::{Either, Sqlite, sqlite::SqliteRow};

use super::{ACQUIRE_TIMEOUT, Hook, connection::Connection};
use crate::{
    error::failure,
    fragments::Composed,
    hook::{self, Changes},
};

/// Values of a statement.
pub(super) type Values = Composed<Sqlite>;

/// Fails with the message [`MISSING_ROW`] if the statement before it has not changed one row.
const REQUIRE_ROW: &str = "SELECT abs(-9223372036854775807 - 1) WHERE changes() <> 1";

const MISSING_ROW: &str = "integer overflow";

/// Statements that are executed one after the other.
pub(super) struct Batch {
    statements: Values,
    number: usize,
}

/// Result of a batch.
pub(super) struct Executed {
    /// Number of statements that were executed without an error.
    pub(super) completed: usize,
    /// Row of the last statement, if it has one.
    pub(super) row: Option<SqliteRow>,
    pub(super) error: Option<sqlx::Error>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { statements: Values::new(), number: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.number
    }

    /// Adds a statement. The caller binds its values.
    pub(super) fn push(&mut self, statement: &str) -> &mut Values {
        if self.number > 0 {
            self.statements.push("; ");
        }
        self.number += 1;
        self.statements.push(statement)
    }

    /// Adds a statement that must change one row, because the row was read under the same lock.
    pub(super) fn push_update(&mut self, statement: &str) -> &mut Values {
        self.push(statement);
        self.push(REQUIRE_ROW)
    }

    /// Executes the statements until one fails.
    pub(super) async fn execute(self, connection: &mut Connection<'_>) -> Executed {
        let mut executed = Executed { completed: 0, row: None, error: None };
        if self.number == 0 {
            return executed;
        }
        let query = match self.statements.into_query() {
            Ok(query) => query,
            Err(error) => return Executed { error: Some(error), ..executed },
        };
        let mut results = connection.fetch_many(query);
        while let Some(result) = results.next().await {
            match result {
                Ok(Either::Left(_)) => executed.completed += 1,
                Ok(Either::Right(row)) if executed.completed + 1 == self.number => executed.row = Some(row),
                Ok(Either::Right(_)) => {}
                Err(error) => executed.error = Some(named(error)),
            }
        }
        if executed.error.is_none() && executed.completed < self.number {
            executed.error = Some(sqlx::Error::WorkerCrashed);
        }
        executed
    }

    /// Executes the statements, and then the hook for a user that they add and an invitation that they accept. If
    /// they do neither, they stay in the batch.
    pub(super) async fn write_with_hook(
        &mut self,
        connection: &mut Connection<'_>,
        hook: &Hook,
        user: Option<&User>,
        invitation: Option<&Invitation>,
    ) -> Result<()> {
        let changes = Changes { created: user, accepted: invitation, ..Changes::default() };
        self.write_changes_with_hook(connection, hook, changes).await
    }

    /// Executes the statements, and then the hook for changes that they make. Without changes, they stay in
    /// the batch.
    pub(super) async fn write_changes_with_hook(
        &mut self,
        connection: &mut Connection<'_>,
        hook: &Hook,
        changes: Changes<'_>,
    ) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        mem::replace(self, Self::new()).write(connection).await?;
        hook::run(&**hook, connection.raw(), ACQUIRE_TIMEOUT, changes).await
    }

    /// Executes statements that write.
    pub(super) async fn write(self, connection: &mut Connection<'_>) -> Result<()> {
        self.execute(connection).await.error.map_or(Ok(()), |error| Err(failure(error)))
    }
}

/// Returns the error of a query for facts that must have a row.
pub(super) fn no_facts() -> StorageError {
    failure(sqlx::Error::RowNotFound)
}

/// Returns the error of [`REQUIRE_ROW`] under its name.
fn named(error: sqlx::Error) -> sqlx::Error {
    match error.as_database_error() {
        Some(database_error) if database_error.message() == MISSING_ROW => sqlx::Error::RowNotFound,
        _ => error,
    }
}
