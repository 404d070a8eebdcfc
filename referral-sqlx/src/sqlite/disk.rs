//! Whether the disk has room for more.

use std::path::Path;

use referral_core::storage::{Result, StorageError};

/// Bytes that the disk must have room for: the log of a busy minute. With less, writes are about to fail.
pub(super) const MIN_ROOM: u64 = 16 * 1024 * 1024;

/// Error of a disk that is full, or nearly so.
#[derive(Debug, thiserror::Error)]
#[error("the disk of the database has room for {room} bytes, but {needed} are needed")]
struct DiskFull {
    room: u64,
    needed: u64,
}

/// Checks that the disk with `path` has room for `needed` bytes. Passes where the system does not tell.
pub(super) fn check_room(path: &Path, needed: u64) -> Result<()> {
    let room = room(path).unwrap_or(u64::MAX);
    if room < needed { Err(StorageError::Unavailable(DiskFull { room, needed }.into())) } else { Ok(()) }
}

#[cfg(unix)]
fn room(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn room(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_is_found() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        check_room(folder.path(), 0).expect("room for nothing");
        let error = check_room(folder.path(), u64::MAX).expect_err("no disk is that large");
        assert!(matches!(error, StorageError::Unavailable(_)));
    }
}
