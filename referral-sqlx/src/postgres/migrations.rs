//! Bringing the schema up to date.

use referral_core::storage::Result;
use sqlx::{PgConnection, Row as _, migrate::Migration};

use super::{Lease, repeat::NotWritten, rows, statements};
use crate::{
    ConnectError,
    error::{failure, unreadable},
    migrations::{compare, migrator, step},
};

/// How often it is tried again without a lock: others may be at the same step, and each attempt
/// finds one more step done.
const ATTEMPTS: usize = 10;

fn steps() -> Vec<Migration> {
    vec![
        step(1, "start", include_str!("../../migrations/postgres/0001_start.sql")),
        step(2, "limits", include_str!("../../migrations/postgres/0002_limits.sql")),
        step(3, "messages", include_str!("../../migrations/postgres/0003_messages.sql")),
    ]
}

/// Applies the steps that are missing. With `is_locking`, of two processes that start at once the
/// second waits; without, for engines that know no advisory locks, the one that comes second to a
/// step fails, and tries again.
pub(super) async fn run(
    connection: &mut PgConnection,
    is_locking: bool,
) -> std::result::Result<(), ConnectError> {
    let mut attempt = 1;
    loop {
        match try_run(connection, is_locking).await {
            Err(error) if !is_locking && attempt < ATTEMPTS => {
                tracing::debug!(%error, "the schema was not brought up to date; trying again");
                attempt += 1;
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            done => return done.map_err(|error| ConnectError::NotMigrated(error.into())),
        }
    }
}

async fn try_run(
    connection: &mut PgConnection,
    is_locking: bool,
) -> std::result::Result<(), sqlx::migrate::MigrateError> {
    let mut migrator = migrator(steps(), statements::MIGRATIONS_TABLE);
    migrator.set_locking(is_locking);
    // Not asked for where it is there: making one takes a right on the whole database, which
    // whoever made it beforehand need not give.
    if !has_schema(connection).await? {
        migrator.create_schema(statements::SCHEMA);
    }
    migrator.run_direct(None, connection, false).await
}

async fn has_schema(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar(statements::HAS_SCHEMA).bind(statements::SCHEMA).fetch_one(connection).await
}

/// An error unless exactly these steps have been applied, as they are here.
pub(super) async fn check_applied(lease: &mut Lease) -> Result<()> {
    let applied = lease.query(statements::APPLIED_MIGRATIONS);
    let rows = lease.fetch_all(applied).await.map_err(failure)?;
    let applied: sqlx::Result<Vec<_>> =
        rows.iter().map(|row| Ok((row.try_get("version")?, row.try_get("checksum")?))).collect();
    compare(&applied.map_err(unreadable)?, &steps())
}

/// The same, and an error if the database does not write.
pub(super) async fn check_ready(lease: &mut Lease) -> Result<()> {
    check_applied(lease).await?;
    let read_only = lease.query(statements::IS_READ_ONLY);
    let row = lease.fetch_one(read_only).await.map_err(failure)?;
    if rows::get(&row, "read_only")? {
        return Err(NotWritten::Standby.into());
    }
    Ok(())
}
