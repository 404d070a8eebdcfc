//! Maintenance: deletion of expired rows, shared settings, the clock, and a check for free disk space.

use referral_core::storage::{Result, Retention, SharedSetting};
use sqlx::postgres::PgRow;
use time::OffsetDateTime;

use super::{lease::Lease, rows};
use crate::error::failure;

/// Deletes a batch of the rows of a table whose time is before `$1`. Skips rows that other transactions have
/// locked. The batch is an array so that it is selected once. A subquery could be evaluated again for each
/// row.
macro_rules! delete_expired {
    ($table:literal, $key:literal, $time:literal) => {
        concat!(
            "DELETE FROM referral.",
            $table,
            " WHERE ",
            $key,
            " = ANY (ARRAY(SELECT ",
            $key,
            " FROM referral.",
            $table,
            " WHERE ",
            $time,
            " < $1 ORDER BY ",
            $time,
            " LIMIT $2 FOR UPDATE SKIP LOCKED))"
        )
    };
}

pub(super) const DELETE_CHALLENGES: &str = delete_expired!("challenges", "id", "expires_at");

pub(super) const DELETE_SESSIONS: &str = delete_expired!("sessions", "id", "ends_at");

pub(super) const DELETE_COUNTERS: &str = delete_expired!("counters", "key", "ends_at");

pub(super) const DELETE_GLOBAL_COUNTERS: &str = delete_expired!("global_counters", "ctid", "period_start");

pub(super) const DELETE_MESSAGES: &str = delete_expired!("messages", "ctid", "recorded_at");

pub(super) const DELETE_CODE_REQUESTS: &str = delete_expired!("code_requests", "ctid", "requested_at");

/// Deletes a batch of expired rows from each table, and returns their number.
pub(super) async fn delete_expired(lease: &mut Lease, retention: Retention) -> Result<u64> {
    let Retention { ended_before, global_counters_before, messages_before, code_requests_before, batch_size } =
        retention;
    let mut deleted = 0;
    for (statement, before) in [
        (DELETE_CHALLENGES, ended_before),
        (DELETE_SESSIONS, ended_before),
        (DELETE_COUNTERS, ended_before),
        (DELETE_GLOBAL_COUNTERS, global_counters_before),
        (DELETE_MESSAGES, messages_before),
        (DELETE_CODE_REQUESTS, code_requests_before),
    ] {
        let delete = lease.query(statement).bind(before).bind(i64::from(batch_size));
        deleted += lease.execute(delete).await.map_err(failure)?.rows_affected();
    }
    Ok(deleted)
}

const SHARED_SETTINGS: &str = "SELECT name, value FROM referral.shared_settings";

pub(super) async fn shared_settings(lease: &mut Lease) -> Result<Vec<SharedSetting>> {
    let settings = lease.fetch_all(lease.query(SHARED_SETTINGS)).await.map_err(failure)?;
    let read = |row: &PgRow| {
        Ok(SharedSetting::new(rows::get::<String>(row, "name")?, rows::get::<String>(row, "value")?))
    };
    settings.iter().map(read).collect()
}

const RECORD_SETTINGS: &str = "\
    INSERT INTO referral.shared_settings (name, value) SELECT * FROM unnest($1::text[], $2::text[]) \
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// Records settings. Replaces settings with the same names.
pub(super) async fn record_settings(lease: &mut Lease, settings: &[SharedSetting]) -> Result<()> {
    let (names, values): (Vec<_>, Vec<_>) =
        settings.iter().map(|setting| (setting.name.clone(), setting.value.clone())).unzip();
    let record = lease.query(RECORD_SETTINGS).bind(names).bind(values);
    lease.execute(record).await.map_err(failure)?;
    Ok(())
}

/// Selects the current time. `now()` would be the start of the transaction.
const CURRENT_TIME: &str = "SELECT clock_timestamp() AS time";

pub(super) async fn current_time(lease: &mut Lease) -> Result<OffsetDateTime> {
    let time = lease.fetch_one(lease.query(CURRENT_TIME)).await.map_err(failure)?;
    rows::get(&time, "time")
}

/// Allocates a file of 256 KiB. The new file of a truncated table has no free space to reuse.
const PROBE_DISK: &str = "\
    TRUNCATE referral.disk_probe; \
    INSERT INTO referral.disk_probe (filler) SELECT repeat('x', 4000) FROM generate_series(1, 64)";

/// Writes enough rows to allocate disk space. The caller must roll back the transaction.
pub(super) async fn probe_disk(lease: &mut Lease) -> Result<()> {
    lease.execute_text(PROBE_DISK).await.map_err(failure)
}
