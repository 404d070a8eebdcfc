//! Numbers of sign-ups and invitations of each day. Triggers add to them.

use referral_core::storage::{DailyCounts, Result};
use sqlx::postgres::PgRow;
use time::Date;

use super::{lease::Lease, rows};
use crate::error::failure;

pub(super) const DAILY_COUNTS: &str = "\
    SELECT day, sum(sign_ups)::bigint AS sign_ups, sum(invitations)::bigint AS invitations \
    FROM referral.daily_counts WHERE day BETWEEN $1 AND $2 GROUP BY day ORDER BY day";

pub(super) async fn daily_counts(lease: &mut Lease, since: Date, until: Date) -> Result<Vec<DailyCounts>> {
    let found = lease.query(DAILY_COUNTS).bind(since).bind(until);
    let found = lease.fetch_all(found).await.map_err(failure)?;
    found.iter().map(read).collect()
}

fn read(row: &PgRow) -> Result<DailyCounts> {
    Ok(DailyCounts {
        day: rows::get(row, "day")?,
        sign_ups: rows::number(row, "sign_ups")?,
        invitations: rows::number(row, "invitations")?,
    })
}
