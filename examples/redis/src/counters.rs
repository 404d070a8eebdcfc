//! Counters, and counters of the whole service.

use referral_core::storage::{
    Counter, CounterKey, CounterUpdate, Counters, GlobalCounter, GlobalCounterFacts, GlobalCounterQuery,
    GlobalCounterUpdate, Result,
};
use time::OffsetDateTime;

use crate::{
    documents::{micros, time_of},
    transaction::{Transaction, ends},
};

/// Key of the end of an attack, in microseconds since 1970.
const ATTACK_UNTIL: &str = "attack_until";

/// Kind of the numbers of events of the whole service in a minute or an hour. They are not watched, so that
/// requests do not conflict because of them.
pub(crate) const COUNT: &str = "count";

impl Transaction {
    /// Loads counters.
    pub(crate) async fn counters(&mut self, keys: &[CounterKey]) -> Result<Counters> {
        let keys: Vec<_> = keys.iter().map(CounterKey::as_str).collect();
        let counters: Vec<Counter> = self.get_all(&keys).await?;
        Ok(counters.into_iter().map(|counter| (counter.key, counter.events)).collect())
    }

    /// Writes changes of counters. The unchanged counters need no write: the transaction watches them.
    pub(crate) async fn count(&mut self, update: &CounterUpdate) -> Result<()> {
        for counter in &update.counters {
            self.put(counter)?;
        }
        for (key, refunded) in &update.refunds {
            if let Some(mut counter) = self.get::<Counter>(key.as_str()).await? {
                counter.events.retain(|event| event != refunded);
                self.put(&counter)?;
            }
        }
        if let Some(GlobalCounterUpdate { counter, period_start, delta }) = update.global_counter {
            let id = format!("{}/{}", counter.as_str(), micros(period_start));
            self.add(&format!("{COUNT}/{id}"), delta);
            self.add_end(COUNT, &id, period_start);
        }
        Ok(())
    }

    /// Loads the counts of the whole service.
    pub(crate) async fn global_counters(&mut self, query: GlobalCounterQuery) -> Result<GlobalCounterFacts> {
        let mut facts = GlobalCounterFacts::default();
        if let Some(since) = query.failed_attempts_since {
            facts.attack_until = self.attack_until().await?;
            facts.failed_attempts = self.failed_attempts(since, None).await?;
        }
        for (since, end) in query.usual_times(facts.failed_attempts).unwrap_or_default() {
            facts.usual_failed_attempts.push(self.failed_attempts(since, Some(end)).await?);
        }
        if let Some(since) = query.messages_since {
            facts.messages = self.counts(GlobalCounter::Messages, since, None).await?;
        }
        Ok(facts)
    }

    async fn failed_attempts(&mut self, since: OffsetDateTime, end: Option<OffsetDateTime>) -> Result<u64> {
        let counts = self.counts(GlobalCounter::FailedAttempts, since, end).await?;
        Ok(counts.iter().map(|(_, count)| count).sum())
    }

    /// Returns the periods in a time range and their counts, in order.
    async fn counts(
        &mut self,
        counter: GlobalCounter,
        since: OffsetDateTime,
        end: Option<OffsetDateTime>,
    ) -> Result<Vec<(OffsetDateTime, u64)>> {
        let end = end.map_or("+inf".to_owned(), |end| format!("({}", micros(end)));
        let mut read = redis::pipe();
        read.cmd("ZRANGE").arg(self.key(&ends(COUNT))).arg(micros(since)).arg(end).arg("BYSCORE");
        let (mut ids,): (Vec<String>,) = self.query(&read).await?;
        ids.retain(|id| id.starts_with(counter.as_str()));
        let keys: Vec<_> = ids.iter().map(|id| format!("{COUNT}/{id}")).collect();
        let counts: Vec<Option<i64>> = self.load(&keys, false).await?;
        let counts = ids.iter().zip(counts).filter_map(|(id, count)| {
            let (_, period_start) = id.rsplit_once('/')?;
            // A count is negative only if more was refunded than was counted.
            Some((time_of(period_start.parse().ok()?)?, u64::try_from(count?).unwrap_or_default()))
        });
        Ok(counts.collect())
    }

    /// Records the end of an attack, unless a later one is recorded.
    pub(crate) async fn record_attack(&mut self, until: Option<OffsetDateTime>) -> Result<()> {
        if let Some(until) = until
            && self.attack_until().await? < Some(until)
        {
            self.set(ATTACK_UNTIL, &micros(until))?;
        }
        Ok(())
    }

    async fn attack_until(&mut self) -> Result<Option<OffsetDateTime>> {
        Ok(self.value(ATTACK_UNTIL).await?.and_then(time_of))
    }
}
