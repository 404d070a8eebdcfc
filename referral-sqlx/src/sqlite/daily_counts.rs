//! Numbers of sign-ups and invitations of each day. Triggers add to them.

use referral_core::storage::{DailyCounts, Result};
use sqlx::sqlite::SqliteRow;
use time::{Date, Duration, OffsetDateTime};

use super::{connection::Connection, rows};
use crate::error::{failure, unreadable};

pub(super) const DAILY_COUNTS: &str = "\
    SELECT day, sign_ups, invitations FROM referral_daily_counts WHERE day BETWEEN $1 AND $2 ORDER BY day";

/// First day of the numbers of days.
const EPOCH: Date = OffsetDateTime::UNIX_EPOCH.date();

pub(super) async fn daily_counts(
    connection: &mut Connection<'_>,
    since: Date,
    until: Date,
) -> Result<Vec<DailyCounts>> {
    let number = |day: Date| (day - EPOCH).whole_days();
    let found = sqlx::query(DAILY_COUNTS).bind(number(since)).bind(number(until));
    let found = connection.fetch_all(found).await.map_err(failure)?;
    found.iter().map(read).collect()
}

fn read(row: &SqliteRow) -> Result<DailyCounts> {
    let day = EPOCH.checked_add(Duration::days(rows::get(row, "day")?));
    Ok(DailyCounts {
        day: day.ok_or_else(|| unreadable("a day is out of range"))?,
        sign_ups: rows::number(row, "sign_ups")?,
        invitations: rows::number(row, "invitations")?,
    })
}
