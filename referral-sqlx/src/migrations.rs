//! The steps that made the schema what it is, whichever the database.

use std::borrow::Cow;

use referral_core::storage::{BoxError, Result, StorageError};
use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// A step, which is never changed once it has been published.
pub(crate) fn step(version: i64, description: &'static str, sql: &'static str) -> Migration {
    let description = Cow::Borrowed(description);
    Migration::new(version, description, MigrationType::Simple, sql.into_sql_str(), false)
}

/// What applies the steps that are missing. They are noted in `table`, since the database may
/// have migrations of its owner's beside ours.
pub(crate) fn migrator(steps: Vec<Migration>, table: &'static str) -> Migrator {
    let mut migrator = Migrator::with_migrations(steps);
    migrator.dangerous_set_table_name(table);
    migrator
}

/// An error unless exactly these steps have been applied, as they are here.
pub(crate) fn compare(applied: &[(i64, Vec<u8>)], steps: &[Migration]) -> Result<()> {
    let expected = steps.iter().map(|step| (step.version, &*step.checksum));
    if expected.eq(applied.iter().map(|(version, checksum)| (*version, &**checksum))) {
        return Ok(());
    }
    let other = "the schema of the database is not the one that this version of the program expects";
    Err(StorageError::Failed(BoxError::from(other)))
}
