//! Counters of recent events, and the counters of the whole service.

use referral_core::storage::{
    AttackCheck, Counter, CounterKey, CounterUpdate, Counters, Decision, GlobalCounterFacts,
    GlobalCounterQuery, Result,
};
use sqlx::postgres::PgRow;

use super::{
    lease::{Lease, Statement},
    rows,
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
            "(SELECT attack_until FROM referral.attack_state) AS attack_until, \
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

const RECORD_ATTACK: &str = "UPDATE referral.attack_state SET attack_until = greatest(attack_until, $1)";

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

/// Checks for an attack, and records its end. Returns `true` if the service is under attack.
pub(super) async fn check_attack(lease: &mut Lease, check: &AttackCheck) -> Result<bool> {
    let query = check.global_counters();
    let facts = lease.query(ATTACK_FACTS).bind(query.failed_attempts_since);
    let row = lease.fetch_one(facts).await.map_err(failure)?;
    let Decision { writes, outcome } = check.decide(&global(lease, &row, query).await?);
    if let Some(until) = writes {
        let record = lease.query(RECORD_ATTACK).bind(until);
        lease.execute(record).await.map_err(failure)?;
    }
    Ok(outcome)
}

/// Common table expression `put`, which stores counters if `$condition` is met and their events have not
/// changed. The arrays are the keys, the former events, the new events, and the times at which the counters
/// end. Events are arrays in text form, because the elements of an array of arrays must have the same length.
/// The rows are locked in the order of their keys, so that concurrent requests seldom deadlock.
macro_rules! put_counters {
    ($keys:literal, $former:literal, $events:literal, $ends:literal, $condition:literal) => {
        concat!(
            "put AS ( \
                INSERT INTO referral.counters AS c (key, events, ends_at) \
                SELECT key, events::bigint[], ends_at \
                FROM unnest(",
            $keys,
            "::text[], ",
            $events,
            "::text[], ",
            $ends,
            "::timestamptz[]) AS n (key, events, ends_at) WHERE ",
            $condition,
            " ORDER BY key \
                ON CONFLICT (key) DO UPDATE SET events = excluded.events, ends_at = excluded.ends_at \
                WHERE c.events = (SELECT f.events::bigint[] FROM unnest(",
            $keys,
            "::text[], ",
            $former,
            "::text[]) AS f (key, events) WHERE f.key = c.key) RETURNING 1)"
        )
    };
}
pub(super) use put_counters;

/// Binds the four values of [`put_counters`]. `facts` are the counters on which the decision depends.
pub(super) fn bind_counters<'q>(
    statement: Statement<'q>,
    facts: &Counters,
    update: &CounterUpdate,
) -> Statement<'q> {
    let array = |numbers: Vec<i64>| {
        format!("{{{}}}", numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(","))
    };
    let former = |counter: &Counter| array(events_to_numbers(facts.events(&counter.key)));
    let events = |counter: &Counter| array(events_to_numbers(&counter.events));
    let counters = &update.counters;
    statement
        .bind(counters.iter().map(|counter| counter.key.as_str().to_owned()).collect::<Vec<_>>())
        .bind(counters.iter().map(former).collect::<Vec<_>>())
        .bind(counters.iter().map(events).collect::<Vec<_>>())
        .bind(counters.iter().map(|counter| counter.ends_at).collect::<Vec<_>>())
}

/// Common table expressions that remove events from counters if `$condition` is met. The arrays are pairs of
/// a key and an event.
macro_rules! refund {
    ($keys:literal, $events:literal, $condition:literal) => {
        concat!(
            "refund_lock AS MATERIALIZED ( \
                SELECT key FROM referral.counters WHERE key = ANY (",
            $keys,
            "::text[]) AND ",
            $condition,
            " ORDER BY key FOR UPDATE \
            ), refund AS ( \
                UPDATE referral.counters c SET events = ARRAY( \
                    SELECT event FROM unnest(c.events) AS event WHERE NOT EXISTS ( \
                        SELECT FROM unnest(",
            $keys,
            "::text[], ",
            $events,
            "::bigint[]) AS r (key, event) WHERE r.key = c.key AND r.event = event.event \
                    ) ORDER BY event \
                ) WHERE c.key IN (SELECT key FROM refund_lock) RETURNING 1)"
        )
    };
}
pub(super) use refund;

/// Binds the two values of [`refund`].
pub(super) fn bind_refunds<'q>(statement: Statement<'q>, update: &CounterUpdate) -> Statement<'q> {
    let (keys, events): (Vec<_>, Vec<_>) =
        update.refunds.iter().map(|(key, event)| (key.as_str().to_owned(), event.to_number())).unzip();
    statement.bind(keys).bind(events)
}

/// Condition that is always met after counters were put and refunded. Users and global counters, for which
/// many requests wait, depend on it, so that concurrent requests lock rows in the same order.
macro_rules! after_counters {
    () => {
        "(SELECT count(*) FROM put) + (SELECT count(*) FROM refund) >= 0"
    };
}
pub(super) use after_counters;

/// Common table expression that changes a counter of the whole service if `$condition` is met. The values are
/// its name, the start of its period, and the number to add. A counter is the sum of several rows, one of
/// which is chosen at random. `$after` is a condition that is always met after other rows are locked.
macro_rules! count_globally {
    ($counter:literal, $period_start:literal, $delta:literal, $condition:literal, $after:expr) => {
        concat!(
            "counted_globally AS ( \
                INSERT INTO referral.global_counters AS g (counter, period_start, slot, count) \
                SELECT ",
            $counter,
            "::text, ",
            $period_start,
            "::timestamptz, floor(random() * 8)::smallint, ",
            $delta,
            "::bigint WHERE ",
            $counter,
            "::text IS NOT NULL AND ",
            $condition,
            " AND ",
            $after,
            " ON CONFLICT (counter, period_start, slot) DO UPDATE SET count = g.count + excluded.count)"
        )
    };
}
pub(super) use count_globally;

/// Binds the three values of [`count_globally`].
pub(super) fn bind_global<'q>(statement: Statement<'q>, update: &CounterUpdate) -> Statement<'q> {
    statement
        .bind(update.global_counter.map(|update| update.counter.as_str()))
        .bind(update.global_counter.map(|update| update.period_start))
        .bind(update.global_counter.map(|update| i64::from(update.delta)))
}

/// Undoes the statement unless it has written all counters of `$keys` and one row of something else, which
/// `$others` counts.
macro_rules! all_or_nothing {
    ($keys:literal, $others:literal) => {
        concat!(
            " SELECT referral.all_or_nothing((SELECT count(*) FROM put) + ",
            $others,
            ", cardinality(",
            $keys,
            "::text[]) + 1)"
        )
    };
}
pub(super) use all_or_nothing;

/// Updates counters only.
pub(super) const UPDATE_COUNTERS: &str = concat!(
    "WITH ",
    put_counters!("$1", "$2", "$3", "$4", "TRUE"),
    ", ",
    refund!("$5", "$6", "TRUE"),
    ", ",
    count_globally!("$7", "$8", "$9", "TRUE", after_counters!()),
    all_or_nothing!("$1", "1")
);

/// Updates counters, if there are any to update.
pub(super) async fn update(lease: &mut Lease, facts: &Counters, update: &CounterUpdate) -> Result<()> {
    if update.is_empty() {
        return Ok(());
    }
    let statement = bind_counters(lease.query(UPDATE_COUNTERS), facts, update);
    lease.write_row(bind_global(bind_refunds(statement, update), update)).await
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
