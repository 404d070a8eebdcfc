//! Classification of the errors of SQLite by their result codes.

use sqlx::error::DatabaseError;

/// Returns `true` if the same operation may succeed later: another process has locked the file, the disk is
/// full or unavailable, or the file is not writable.
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    const READ_ONLY: i32 = 8;
    const IO_ERROR: i32 = 10;
    const FULL: i32 = 13;
    const CANNOT_OPEN: i32 = 14;
    error.as_database_error().is_some_and(|error| {
        is_busy(error) || matches!(primary_code(error), Some(READ_ONLY | IO_ERROR | FULL | CANNOT_OPEN))
    })
}

/// Returns `true` if another process has locked the file for longer than the busy timeout.
pub(super) fn is_busy(error: &dyn DatabaseError) -> bool {
    const BUSY: i32 = 5;
    /// Failure to get a lock of the write-ahead log.
    const PROTOCOL: i32 = 15;
    matches!(primary_code(error), Some(BUSY | PROTOCOL))
}

/// Returns the primary result code of SQLite: 5 for the extended code 517, `SQLITE_BUSY_SNAPSHOT`.
pub(super) fn primary_code(error: &dyn DatabaseError) -> Option<i32> {
    error.code()?.parse::<i32>().ok().map(|code| code & 0xff)
}
