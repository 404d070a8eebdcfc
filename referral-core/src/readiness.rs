//! Readiness of a process: the outcome of each check that decides whether the process can serve requests.
//! [`MaintenanceStorage::check_ready`](crate::storage::MaintenanceStorage::check_ready) checks the storage,
//! and [`ReferralService::readiness`](crate::ReferralService::readiness) adds the checks of the keys and the
//! clock.

use crate::{
    error::Error,
    storage::error::{Result as StorageResult, StorageError},
};

/// Outcome of a check.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a check has no other outcome")]
pub enum Check<E = Error> {
    /// Requests can be served, as far as this check goes.
    Passed,
    /// Requests would fail.
    Failed(E),
    /// The check was not made, because another check failed.
    Skipped,
}

impl<E> Check<E> {
    /// Returns `true` if the check was made and passed.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        matches!(self, Self::Passed)
    }

    fn map<T>(self, map: impl FnOnce(E) -> T) -> Check<T> {
        match self {
            Self::Passed => Check::Passed,
            Self::Failed(error) => Check::Failed(map(error)),
            Self::Skipped => Check::Skipped,
        }
    }
}

impl<E> From<std::result::Result<(), E>> for Check<E> {
    fn from(result: std::result::Result<(), E>) -> Self {
        result.map_or_else(Self::Failed, |()| Self::Passed)
    }
}

/// Outcome of the checks of
/// [`MaintenanceStorage::check_ready`](crate::storage::MaintenanceStorage::check_ready).
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "every storage reports each check")]
pub struct StorageReadiness {
    /// The database can be reached and accepts writes.
    pub database: Check<StorageError>,
    /// The schema of the database works with this version of the program.
    pub schema: Check<StorageError>,
    /// The disk of the database has enough free space for more rows.
    pub disk: Check<StorageError>,
}

impl StorageReadiness {
    /// Returns `Ok` if no check failed.
    ///
    /// # Errors
    ///
    /// The error of the first failed check.
    pub fn into_result(self) -> StorageResult<()> {
        first_error([self.database, self.schema, self.disk])
    }
}

/// Converts the outcome of a storage that makes a single check. An error is the outcome of the check of the
/// database.
impl From<StorageResult<()>> for StorageReadiness {
    fn from(result: StorageResult<()>) -> Self {
        match result {
            Ok(()) => Self { database: Check::Passed, schema: Check::Passed, disk: Check::Passed },
            Err(error) => {
                Self { database: Check::Failed(error), schema: Check::Skipped, disk: Check::Skipped }
            }
        }
    }
}

/// Outcome of the checks of [`ReferralService::readiness`](crate::ReferralService::readiness).
#[derive(Debug)]
#[non_exhaustive]
pub struct Readiness {
    /// The database can be reached and accepts writes.
    pub database: Check,
    /// The schema of the database works with this version of the program.
    pub schema: Check,
    /// The disk of the database has enough free space for more rows.
    pub disk: Check,
    /// This process has all keys and peppers that other processes on the database use.
    pub keys: Check,
    /// The clock of this host differs from the clock of the database by at most
    /// [`Policy::max_clock_offset`](crate::policy::Policy::max_clock_offset).
    pub clock: Check,
}

impl Readiness {
    pub(crate) fn new(storage: StorageReadiness, keys: Check, clock: Check) -> Self {
        Self {
            database: storage.database.map(Error::Storage),
            schema: storage.schema.map(Error::Storage),
            disk: storage.disk.map(Error::Storage),
            keys,
            clock,
        }
    }

    /// Returns the checks with their names.
    #[must_use]
    pub fn checks(&self) -> [(&'static str, &Check); 5] {
        [
            ("database", &self.database),
            ("schema", &self.schema),
            ("disk", &self.disk),
            ("keys", &self.keys),
            ("clock", &self.clock),
        ]
    }

    /// Returns `true` if all checks passed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.checks().iter().all(|(_, check)| check.is_passed())
    }

    /// Returns `Ok` if no check failed.
    ///
    /// # Errors
    ///
    /// The error of the first failed check.
    pub fn into_result(self) -> Result<(), Error> {
        first_error([self.database, self.schema, self.disk, self.keys, self.clock])
    }
}

fn first_error<E, const N: usize>(checks: [Check<E>; N]) -> std::result::Result<(), E> {
    checks.into_iter().try_for_each(|check| match check {
        Check::Failed(error) => Err(error),
        Check::Passed | Check::Skipped => Ok(()),
    })
}
