//! Counters of recent events, and the counters of the whole service.

use std::collections::BTreeMap;

use referral_core::storage::{
    AttackCheck, Counter, CounterKey, CounterUpdate, Counters, Decision, GlobalCounterFacts,
    GlobalCounterQuery, GlobalCounterUpdate, Result,
};
use sqlx::postgres::PgRow;

use super::{
    lease::{Lease, Statement},
    rows,
    write::Write,
};
use crate::{encoding::events_to_numbers, error::failure};

/// Columns of four counters with the keys `$1` to `$4`.
macro_rules! four_counters {
    () => {
        "(SELECT events FROM referral.counters WHERE key = $1) AS counter_0, \
         (SELECT events FROM referral.counters WHERE key = $2) AS counter_1, \
         (SELECT events FROM referral.counters WHERE key = $3) AS counter_2, \
         (SELECT events FROM referral.counters WHERE key = $4) AS counter_3"
    };
}
pub(super) use four_counters;

/// Columns of seven counters with the keys `$1` to `$7`.
macro_rules! seven_counters {
    () => {
        concat!(
            $crate::postgres::counters::four_counters!(),
            ", (SELECT events FROM referral.counters WHERE key = $5) AS counter_4, \
               (SELECT events FROM referral.counters WHERE key = $6) AS counter_5, \
               (SELECT events FROM referral.counters WHERE key = $7) AS counter_6"
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
/// `$since`, which is ten minutes ago. The sum has two bounds although no period starts in the future, because
/// the planner assumes that a condition with a single bound matches a third of the table.
macro_rules! global_counters {
    ($since:literal) => {
        concat!(
            "(SELECT attack_until FROM referral.attack_state WHERE only_row) AS attack_until, \
             (SELECT coalesce(sum(count), 0)::bigint FROM referral.global_counters \
              WHERE counter = 'failed_attempts' AND period_start >= ",
            $since,
            " AND period_start < ",
            $since,
            " + interval '1 hour') AS recent_failed_attempts"
        )
    };
}
pub(super) use global_counters;

pub(super) const ATTACK_FACTS: &str = concat!("SELECT ", global_counters!("$1"));

/// Selects the number of wrong codes in each interval. The two arrays are the starts and the ends.
pub(super) const FAILED_ATTEMPTS_BETWEEN: &str = "\
    SELECT (SELECT coalesce(sum(count), 0)::bigint FROM referral.global_counters \
            WHERE counter = 'failed_attempts' AND period_start >= t.since AND period_start < t.until) \
           AS failed_attempts \
    FROM unnest($1::timestamptz[], $2::timestamptz[]) AS t (since, until)";

/// Selects the number of messages in each hour since `$1`, which is a day ago. It has two bounds for the reason
/// that [`global_counters`] names.
pub(super) const MESSAGES_SINCE: &str = "\
    SELECT period_start, sum(count)::bigint AS count FROM referral.global_counters \
    WHERE counter = 'messages' AND period_start >= $1 AND period_start < $1 + interval '2 days' \
    GROUP BY period_start ORDER BY period_start";

const RECORD_ATTACK: &str =
    "UPDATE referral.attack_state SET attack_until = greatest(attack_until, $1) WHERE only_row";

/// Reads the state of the service from a row with the columns [`global_counters`], and loads the counts that
/// are needed in addition.
pub(super) async fn global(
    lease: &mut Lease,
    row: &PgRow,
    query: GlobalCounterQuery,
) -> Result<GlobalCounterFacts> {
    let mut facts = GlobalCounterFacts {
        failed_attempts: rows::number(row, "recent_failed_attempts")?,
        attack_until: rows::optional_time(row, "attack_until")?,
        ..GlobalCounterFacts::default()
    };
    if let Some(times) = query.usual_times(facts.failed_attempts) {
        let (since, until): (Vec<_>, Vec<_>) = times.into_iter().unzip();
        let sums = lease.query(FAILED_ATTEMPTS_BETWEEN).bind(since).bind(until);
        let sums = lease.fetch_all(sums).await.map_err(failure)?;
        facts.usual_failed_attempts =
            sums.iter().map(|sum| rows::number(sum, "failed_attempts")).collect::<Result<_>>()?;
    }
    if let Some(since) = query.messages_since {
        let hours = lease.query(MESSAGES_SINCE).bind(since);
        let hours = lease.fetch_all(hours).await.map_err(failure)?;
        facts.messages = hours.iter().map(rows::messages).collect::<Result<_>>()?;
    }
    Ok(facts)
}

/// Loads the state of the service.
pub(super) async fn load_global(lease: &mut Lease, query: GlobalCounterQuery) -> Result<GlobalCounterFacts> {
    let facts = lease.query(ATTACK_FACTS).bind(query.failed_attempts_since);
    let row = lease.fetch_one(facts).await.map_err(failure)?;
    global(lease, &row, query).await
}

/// Checks for an attack, and records its end. Returns `true` if the service is under attack.
pub(super) async fn check_attack(lease: &mut Lease, check: &AttackCheck) -> Result<bool> {
    let facts = load_global(lease, check.global_counters()).await?;
    let Decision { writes, outcome } = check.decide(&facts);
    if let Some(until) = writes {
        let record = lease.query(RECORD_ATTACK).bind(until);
        lease.execute(record).await.map_err(failure)?;
    }
    Ok(outcome)
}

/// Stores a counter that still has the events `$4`, or that is not stored.
pub(super) const PUT_COUNTER: &str = "\
    INSERT INTO referral.counters AS c (key, events, ends_at) \
    SELECT $1::text, $2::bigint[], $3::timestamptz WHERE $after \
    ON CONFLICT (key) DO UPDATE SET events = excluded.events, ends_at = excluded.ends_at \
    WHERE c.events = $4 RETURNING 1";

/// Keeps a counter that still has the events `$2`. Waits only for requests that change the counter, so users
/// behind one address do not wait for each other.
pub(super) const KEEP_COUNTER: &str = "\
    SELECT 1 FROM referral.counters WHERE key = $1 AND events = $2::bigint[] AND $after FOR SHARE";

/// Removes the events `$2` from a counter.
pub(super) const REFUND: &str = "\
    UPDATE referral.counters SET events = ARRAY( \
        SELECT event FROM unnest(events) AS event WHERE event <> ALL ($2::bigint[]) ORDER BY event \
    ) WHERE key = $1 AND $after RETURNING 1";

/// Adds to a counter of the whole service. It is the sum of several rows, one of which is chosen at random.
pub(super) const COUNT_GLOBALLY: &str = "\
    INSERT INTO referral.global_counters AS g (counter, period_start, slot, count) \
    SELECT $1::text, $2::timestamptz, floor(random() * 8)::smallint, $3::bigint WHERE $after \
    ON CONFLICT (counter, period_start, slot) DO UPDATE SET count = g.count + excluded.count RETURNING 1";

/// Change of a counter.
enum Change<'a> {
    Put(&'a Counter),
    Keep,
    Refund(Vec<i64>),
}

/// Adds steps that update counters. `facts` are the counters on which the decision depends.
///
/// The counters are in the order of their keys, so that concurrent requests do not deadlock. The counter of the
/// whole service comes after them, because many requests wait for it.
pub(super) fn push(write: &mut Write, facts: &Counters, update: &CounterUpdate) {
    let mut changes = BTreeMap::new();
    changes.extend(update.counters.iter().map(|counter| (&counter.key, Change::Put(counter))));
    changes.extend(update.unchanged.iter().map(|key| (key, Change::Keep)));
    for (key, event) in &update.refunds {
        if let Change::Refund(events) = changes.entry(key).or_insert(Change::Refund(Vec::new())) {
            events.push(event.to_number());
        }
    }
    for (index, (key, change)) in changes.into_iter().enumerate() {
        let name = format!("counter_{index}");
        let former = || events_to_numbers(facts.events(key));
        match change {
            Change::Put(counter) => write
                .step(&name, PUT_COUNTER)
                .bind(key.as_str())
                .bind(events_to_numbers(&counter.events))
                .bind(counter.ends_at)
                .bind(former()),
            Change::Keep => write.step(&name, KEEP_COUNTER).bind(key.as_str()).bind(former()),
            Change::Refund(events) => write.optional_step(&name, REFUND).bind(key.as_str()).bind(events),
        };
    }
    if let Some(GlobalCounterUpdate { counter, period_start, delta }) = update.global_counter {
        let count = write.step("counted_globally", COUNT_GLOBALLY);
        count.bind(counter.as_str()).bind(period_start).bind(i64::from(delta));
    }
}

/// Updates counters, if there are any to update.
pub(super) async fn update(lease: &mut Lease, facts: &Counters, update: &CounterUpdate) -> Result<()> {
    let mut write = Write::new();
    push(&mut write, facts, update);
    write.execute(lease).await
}

/// Locks counters.
pub(super) const LOCK_COUNTERS: &str =
    "SELECT 1 FROM referral.counters WHERE key = ANY ($1) ORDER BY key FOR UPDATE";

/// Locks the counters that exist. They must be locked before users, in the same order as in a sign-in.
pub(super) async fn lock(lease: &mut Lease, keys: &[CounterKey]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let keys: Vec<_> = keys.iter().map(|key| key.as_str().to_owned()).collect();
    let lock = lease.query(LOCK_COUNTERS).bind(keys);
    lease.execute(lock).await.map_err(failure)?;
    Ok(())
}
