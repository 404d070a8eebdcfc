//! Counters of recent events, and the counters of the whole service.

use std::collections::BTreeMap;

use referral_core::storage::{
    AttackCheck, Counter, CounterKey, CounterUpdate, Decision, GlobalCounterFacts, GlobalCounterQuery, Result,
};
use sqlx::{SqliteConnection, sqlite::SqliteRow};
use time::OffsetDateTime;

use super::{
    rows,
    statement::{Statement, write_row, write_rows},
};
use crate::{
    encoding::{events_to_numbers, time_to_micros},
    error::failure,
};

/// Columns of four counters with the keys `$1` to `$4`.
macro_rules! four_counters {
    () => {
        "(SELECT events FROM counters WHERE key = $1) AS counter_0, \
         (SELECT events FROM counters WHERE key = $2) AS counter_1, \
         (SELECT events FROM counters WHERE key = $3) AS counter_2, \
         (SELECT events FROM counters WHERE key = $4) AS counter_3"
    };
}
pub(super) use four_counters;

/// Columns of seven counters with the keys `$1` to `$7`.
macro_rules! seven_counters {
    () => {
        concat!(
            $crate::sqlite::counters::four_counters!(),
            ", (SELECT events FROM counters WHERE key = $5) AS counter_4, \
               (SELECT events FROM counters WHERE key = $6) AS counter_5, \
               (SELECT events FROM counters WHERE key = $7) AS counter_6"
        )
    };
}
pub(super) use seven_counters;

/// Binds the keys of counters, followed by NULL values up to `number` values.
pub(super) fn bind_keys<'q>(
    statement: Statement<'q>,
    keys: &'q [CounterKey],
    number: usize,
) -> Statement<'q> {
    (0..number).fold(statement, |statement, index| statement.bind(keys.get(index).map(CounterKey::as_str)))
}

/// Columns of the state of the service: the recorded end of the attack, and the number of wrong codes since
/// `$since`.
macro_rules! global_counters {
    ($since:literal) => {
        concat!(
            "(SELECT attack_until FROM attack_state) AS attack_until, \
             (SELECT coalesce(sum(count), 0) FROM global_counters \
              WHERE counter = 'failed_attempts' AND period_start >= ",
            $since,
            ") AS recent_failed_attempts"
        )
    };
}
pub(super) use global_counters;

pub(super) const ATTACK_FACTS: &str = concat!("SELECT ", global_counters!("$1"));

pub(super) const FAILED_ATTEMPTS_BETWEEN: &str = "\
    SELECT coalesce(sum(count), 0) AS failed_attempts FROM global_counters \
    WHERE counter = 'failed_attempts' AND period_start >= $1 AND period_start < $2";

pub(super) const MESSAGES_SINCE: &str = "\
    SELECT period_start, count FROM global_counters WHERE counter = 'messages' AND period_start >= $1 \
    ORDER BY period_start";

const RECORD_ATTACK: &str = "UPDATE attack_state SET attack_until = max(coalesce(attack_until, $1), $1)";

/// Reads the state of the service from a row with the columns [`global_counters`], and loads the counts that
/// are needed in addition.
pub(super) async fn global(
    connection: &mut SqliteConnection,
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
        let row = sum.fetch_one(&mut *connection).await.map_err(failure)?;
        facts.usual_failed_attempts.push(rows::number(&row, "failed_attempts")?);
    }
    if let Some(since) = query.messages_since {
        let hours = sqlx::query(MESSAGES_SINCE).bind(time_to_micros(since));
        let hours = hours.fetch_all(connection).await.map_err(failure)?;
        facts.messages = hours.iter().map(rows::messages).collect::<Result<_>>()?;
    }
    Ok(facts)
}

/// Decides whether the service is under attack. Returns the writes too, because the caller reads without the
/// lock to write.
pub(super) async fn attack(
    connection: &mut SqliteConnection,
    check: &AttackCheck,
) -> Result<Decision<Option<OffsetDateTime>, bool>> {
    let query = check.global_counters();
    let facts = sqlx::query(ATTACK_FACTS).bind(query.failed_attempts_since.map(time_to_micros));
    let row = facts.fetch_one(&mut *connection).await.map_err(failure)?;
    Ok(check.decide(&global(connection, &row, query).await?))
}

pub(super) async fn record_attack(connection: &mut SqliteConnection, until: OffsetDateTime) -> Result<()> {
    write_row(connection, sqlx::query(RECORD_ATTACK).bind(time_to_micros(until))).await
}

/// Number of counters that one statement stores.
const COUNTERS_PER_STATEMENT: usize = 7;

/// Stores the counters whose key is not NULL.
const PUT_COUNTERS: &str = "\
    INSERT INTO counters (key, events, ends_at) \
    SELECT column1, column2, column3 \
    FROM (VALUES ($1, $2, $3), ($4, $5, $6), ($7, $8, $9), ($10, $11, $12), ($13, $14, $15), \
                 ($16, $17, $18), ($19, $20, $21)) WHERE column1 IS NOT NULL \
    ON CONFLICT (key) DO UPDATE SET events = excluded.events, ends_at = excluded.ends_at";

async fn put(connection: &mut SqliteConnection, counters: &[Counter]) -> Result<()> {
    for counters in counters.chunks(COUNTERS_PER_STATEMENT) {
        let put = (0..COUNTERS_PER_STATEMENT).fold(sqlx::query(PUT_COUNTERS), |put, index| {
            let counter = counters.get(index);
            put.bind(counter.map(|counter| counter.key.as_str()))
                .bind(counter.map(|counter| json_array(&events_to_numbers(&counter.events))))
                .bind(counter.map(|counter| time_to_micros(counter.ends_at)))
        });
        write_rows(connection, put, counters.len() as u64).await?;
    }
    Ok(())
}

/// Number of counters from which one statement removes an event.
const REFUNDS_PER_STATEMENT: usize = 6;

/// Removes an event from up to six counters.
pub(super) const REFUND: &str = "\
    UPDATE counters SET events = (SELECT json_group_array(value) FROM json_each(events) WHERE value <> $1) \
    WHERE key IN ($2, $3, $4, $5, $6, $7)";

async fn refund(connection: &mut SqliteConnection, update: &CounterUpdate) -> Result<()> {
    // A code is the same event in several counters, so one statement refunds it in all of them.
    let mut refunds: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    for (key, event) in &update.refunds {
        refunds.entry(event.to_number()).or_default().push(key.as_str());
    }
    for (event, keys) in refunds {
        for keys in keys.chunks(REFUNDS_PER_STATEMENT) {
            let update = sqlx::query(REFUND).bind(event);
            let update = (0..REFUNDS_PER_STATEMENT)
                .fold(update, |update, index| update.bind(keys.get(index).copied()));
            update.execute(&mut *connection).await.map_err(failure)?;
        }
    }
    Ok(())
}

const COUNT_GLOBALLY: &str = "\
    INSERT INTO global_counters (counter, period_start, count) VALUES ($1, $2, $3) \
    ON CONFLICT (counter, period_start) DO UPDATE SET count = count + excluded.count";

async fn count_globally(connection: &mut SqliteConnection, update: &CounterUpdate) -> Result<()> {
    if let Some(update) = update.global_counter {
        let add = sqlx::query(COUNT_GLOBALLY)
            .bind(update.counter.as_str())
            .bind(time_to_micros(update.period_start))
            .bind(update.delta);
        write_row(connection, add).await?;
    }
    Ok(())
}

/// Updates counters. No other request has changed them since the facts were read.
pub(super) async fn update(connection: &mut SqliteConnection, update: &CounterUpdate) -> Result<()> {
    put(connection, &update.counters).await?;
    refund(connection, update).await?;
    count_globally(connection, update).await
}

/// Formats numbers as a JSON array.
fn json_array(numbers: &[i64]) -> String {
    format!("[{}]", numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(","))
}
