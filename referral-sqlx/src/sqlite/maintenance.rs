//! Maintenance: deletion of expired rows, and shared settings.

use referral_core::storage::{Result, Retention, SharedSetting};
use sqlx::sqlite::SqliteRow;

use super::{connection::Connection, rows};
use crate::{encoding::time_to_micros, error::failure};

pub(super) const DELETE_CHALLENGES: &str = "\
    DELETE FROM referral_challenges WHERE id IN \
        (SELECT id FROM referral_challenges WHERE expires_at < $1 ORDER BY expires_at LIMIT $2 + 0)";

pub(super) const DELETE_SESSIONS: &str = "\
    DELETE FROM referral_sessions WHERE id IN \
        (SELECT id FROM referral_sessions WHERE ends_at < $1 ORDER BY ends_at LIMIT $2 + 0)";

pub(super) const DELETE_COUNTERS: &str = "\
    DELETE FROM referral_counters WHERE key IN \
        (SELECT key FROM referral_counters WHERE ends_at < $1 ORDER BY ends_at LIMIT $2 + 0)";

pub(super) const DELETE_GLOBAL_COUNTERS: &str = "\
    DELETE FROM referral_global_counters WHERE (counter, period_start) IN ( \
        SELECT counter, period_start FROM referral_global_counters \
        WHERE counter IN ('failed_attempts', 'messages') AND period_start < $1 LIMIT $2 + 0)";

pub(super) const DELETE_MESSAGES: &str = "\
    DELETE FROM referral_messages WHERE (gateway, message_id) IN ( \
        SELECT gateway, message_id FROM referral_messages WHERE recorded_at < $1 ORDER BY recorded_at LIMIT $2 + 0)";

pub(super) const DELETE_CODE_REQUESTS: &str = "\
    DELETE FROM referral_code_requests WHERE (phone_hash, id) IN ( \
        SELECT phone_hash, id FROM referral_code_requests WHERE requested_at < $1 \
        ORDER BY requested_at LIMIT $2 + 0)";

/// Deletes a batch of expired rows from each table, and returns their number.
pub(super) async fn delete_expired(connection: &mut Connection<'_>, retention: Retention) -> Result<u64> {
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
        let delete = sqlx::query(statement).bind(time_to_micros(before)).bind(batch_size);
        deleted += connection.execute(delete).await.map_err(failure)?.rows_affected();
    }
    Ok(deleted)
}

const SHARED_SETTINGS: &str = "SELECT name, value FROM referral_shared_settings";

pub(super) async fn shared_settings(connection: &mut Connection<'_>) -> Result<Vec<SharedSetting>> {
    let settings = connection.fetch_all(sqlx::query(SHARED_SETTINGS)).await.map_err(failure)?;
    let read = |row: &SqliteRow| {
        Ok(SharedSetting::new(rows::get::<String>(row, "name")?, rows::get::<String>(row, "value")?))
    };
    settings.iter().map(read).collect()
}

const RECORD_SETTING: &str = "\
    INSERT INTO referral_shared_settings (name, value) VALUES ($1, $2) \
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// Records settings. Replaces settings with the same names.
pub(super) async fn record_settings(
    connection: &mut Connection<'_>,
    settings: &[SharedSetting],
) -> Result<()> {
    for setting in settings {
        let record = sqlx::query(RECORD_SETTING).bind(&*setting.name).bind(&*setting.value);
        connection.execute(record).await.map_err(failure)?;
    }
    Ok(())
}
