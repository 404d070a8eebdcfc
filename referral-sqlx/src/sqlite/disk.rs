//! Check of the free space on the disk.

use std::path::Path;

use referral_core::storage::{Result, StorageError};

/// Minimum free space in bytes, the size of the log of a busy minute. With less, writes are about to fail.
pub(super) const MIN_ROOM: u64 = 16 * 1024 * 1024;

/// Error of a full or nearly full disk.
#[derive(Debug, thiserror::Error)]
#[error("the disk of the database has {room} free bytes, but {needed} are needed")]
struct DiskFull {
    room: u64,
    needed: u64,
}

/// Checks that the disk with `path` has `needed` free bytes. Passes if the free space is unknown.
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
    fn a_full_disk_is_detected() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        check_room(directory.path(), 0).expect("no space is needed");
        let error = check_room(directory.path(), u64::MAX).expect_err("no disk is that large");
        assert!(matches!(error, StorageError::Unavailable(_)));
    }
}
