//! Counters of recent events, and the counters of the whole service.

use std::collections::BTreeMap;

use referral_core::storage::{
    AttackCheck, CounterKey, CounterUpdate, Decision, GlobalCounterFacts, GlobalCounterQuery,
    GlobalCounterUpdate, Result,
};
use sqlx::sqlite::SqliteRow;
use time::OffsetDateTime;

use super::{
    batch::{Batch, Values},
    connection::Connection,
    rows,
};
use crate::{
    encoding::{events_to_numbers, time_to_micros},
    error::failure,
};

/// Columns of four counters with the keys `$1` to `$4`.
macro_rules! four_counters {
    () => {
        "(SELECT events FROM referral_counters WHERE key = $1) AS counter_0, \
         (SELECT events FROM referral_counters WHERE key = $2) AS counter_1, \
         (SELECT events FROM referral_counters WHERE key = $3) AS counter_2, \
         (SELECT events FROM referral_counters WHERE key = $4) AS counter_3"
    };
}
pub(super) use four_counters;

/// Columns of seven counters with the keys `$1` to `$7`.
macro_rules! seven_counters {
    () => {
        concat!(
            $crate::sqlite::counters::four_counters!(),
            ", (SELECT events FROM referral_counters WHERE key = $5) AS counter_4, \
               (SELECT events FROM referral_counters WHERE key = $6) AS counter_5, \
               (SELECT events FROM referral_counters WHERE key = $7) AS counter_6"
        )
    };
}
pub(super) use seven_counters;

/// Binds the keys of counters, followed by NULL values up to `number` values.
pub(super) fn bind_keys<'v>(values: &'v mut Values, keys: &[CounterKey], number: usize) -> &'v mut Values {
    (0..number).fold(values, |values, index| values.bind(keys.get(index).map(CounterKey::as_str)))
}

/// Columns of the state of the service: the recorded end of the attack, and the number of wrong codes since
/// `$since`.
macro_rules! global_counters {
    ($since:literal) => {
        concat!(
            "(SELECT attack_until FROM referral_attack_state) AS attack_until, \
             (SELECT coalesce(sum(count), 0) FROM referral_global_counters \
              WHERE counter = 'failed_attempts' AND period_start >= ",
            $since,
            ") AS recent_failed_attempts"
        )
    };
}
pub(super) use global_counters;

pub(super) const ATTACK_FACTS: &str = concat!("SELECT ", global_counters!("$1"));

pub(super) const FAILED_ATTEMPTS_BETWEEN: &str = "\
    SELECT coalesce(sum(count), 0) AS failed_attempts FROM referral_global_counters \
    WHERE counter = 'failed_attempts' AND period_start >= $1 AND period_start < $2";

pub(super) const MESSAGES_SINCE: &str = "\
    SELECT period_start, count FROM referral_global_counters WHERE counter = 'messages' AND period_start >= $1 \
    ORDER BY period_start";

const RECORD_ATTACK: &str =
    "UPDATE referral_attack_state SET attack_until = max(coalesce(attack_until, $1), $1)";

/// Reads the state of the service from a row with the columns [`global_counters`], and loads the counts that
/// are needed in addition.
pub(super) async fn global(
    connection: &mut Connection<'_>,
    row: &SqliteRow,
    query: GlobalCounterQuery,
) -> Result<GlobalCounterFacts> {
    let mut facts = GlobalCounterFacts {
        failed_attempts: rows::number(row, "recent_failed_attempts")?,
        attack_until: rows::optional_time(row, "attack_until")?,
        ..GlobalCounterFacts::default()
    };
    for (since, until) in query.usual_times(facts.failed_attempts).unwrap_or_default() {
        let sum = sqlx::query(FAILED_ATTEMPTS_BETWEEN);
        let sum = sum.bind(time_to_micros(since)).bind(time_to_micros(until));
        let row = connection.fetch_one(sum).await.map_err(failure)?;
        facts.usual_failed_attempts.push(rows::number(&row, "failed_attempts")?);
    }
    if let Some(since) = query.messages_since {
        let hours = sqlx::query(MESSAGES_SINCE).bind(time_to_micros(since));
        let hours = connection.fetch_all(hours).await.map_err(failure)?;
        facts.messages = hours.iter().map(rows::messages).collect::<Result<_>>()?;
    }
    Ok(facts)
}

/// Decides whether the service is under attack. Returns the writes too, because the caller reads without the
/// lock to write.
pub(super) async fn attack(
    connection: &mut Connection<'_>,
    check: &AttackCheck,
) -> Result<Decision<Option<OffsetDateTime>, bool>> {
    Ok(check.decide(&load_global(connection, check.global_counters()).await?))
}

/// Loads the state of the service.
pub(super) async fn load_global(
    connection: &mut Connection<'_>,
    query: GlobalCounterQuery,
) -> Result<GlobalCounterFacts> {
    let facts = sqlx::query(ATTACK_FACTS).bind(query.failed_attempts_since.map(time_to_micros));
    let row = connection.fetch_one(facts).await.map_err(failure)?;
    global(connection, &row, query).await
}

pub(super) fn push_attack(batch: &mut Batch, until: OffsetDateTime) {
    batch.push_update(RECORD_ATTACK).bind(time_to_micros(until));
}

const PUT_COUNTER: &str = "\
    INSERT INTO referral_counters (key, events, ends_at) VALUES ($1, $2, $3) \
    ON CONFLICT (key) DO UPDATE SET events = excluded.events, ends_at = excluded.ends_at";

/// Number of counters from which one statement removes an event.
const REFUNDS_PER_STATEMENT: usize = 6;

/// Removes an event from up to six counters.
pub(super) const REFUND: &str = "\
    UPDATE referral_counters SET events = (SELECT json_group_array(value) FROM json_each(events) WHERE value <> $1) \
    WHERE key IN ($2, $3, $4, $5, $6, $7)";

const COUNT_GLOBALLY: &str = "\
    INSERT INTO referral_global_counters (counter, period_start, count) VALUES ($1, $2, $3) \
    ON CONFLICT (counter, period_start) DO UPDATE SET count = count + excluded.count";

/// Adds statements that update counters. No other request has changed them since the facts were read.
pub(super) fn push(batch: &mut Batch, update: &CounterUpdate) {
    for counter in &update.counters {
        batch
            .push(PUT_COUNTER)
            .bind(counter.key.as_str())
            .bind(json_array(&events_to_numbers(&counter.events)))
            .bind(time_to_micros(counter.ends_at));
    }
    // A code is the same event in several counters, so one statement refunds it in all of them.
    let mut refunds: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    for (key, event) in &update.refunds {
        refunds.entry(event.to_number()).or_default().push(key.as_str());
    }
    for (event, keys) in refunds {
        for keys in keys.chunks(REFUNDS_PER_STATEMENT) {
            let values = batch.push(REFUND).bind(event);
            for index in 0..REFUNDS_PER_STATEMENT {
                values.bind(keys.get(index).copied());
            }
        }
    }
    if let Some(GlobalCounterUpdate { counter, period_start, delta }) = update.global_counter {
        let count = batch.push(COUNT_GLOBALLY);
        count.bind(counter.as_str()).bind(time_to_micros(period_start)).bind(delta);
    }
}

/// Formats numbers as a JSON array.
fn json_array(numbers: &[i64]) -> String {
    format!("[{}]", numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(","))
}
