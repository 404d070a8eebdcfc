//! Changes of counters that belong to a decision.

use std::{collections::BTreeMap, time::Duration};

use time::OffsetDateTime;

use crate::{
    policy::Policy,
    rate_limit::{
        attack::GlobalCounterUpdate,
        counters::{CountedEvent, Counter, CounterKey, Counters, EventKind},
        limits::MAX_WINDOW,
    },
};

/// Changes of counters that belong to a decision. The storage commits them together with the decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CounterUpdate {
    /// Counters with their new events, sorted by key. Each replaces the stored counter, which must still have
    /// the events that the decision read. A counter that was not stored is included also without events, so
    /// that the storage has a row to lock.
    pub counters: Vec<Counter>,
    /// Stored counters that do not change, sorted by key. They must still have the events that the decision
    /// read. Otherwise concurrent requests could guess more codes than sequential ones.
    pub unchanged: Vec<CounterKey>,
    /// Events to remove from other counters, if they are there, sorted by key.
    pub refunds: Vec<(CounterKey, CountedEvent)>,
    /// Event to count for the whole service.
    pub global_counter: Option<GlobalCounterUpdate>,
}

impl CounterUpdate {
    /// Returns `true` if there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { counters, unchanged, refunds, global_counter } = self;
        counters.is_empty() && unchanged.is_empty() && refunds.is_empty() && global_counter.is_none()
    }
}

/// Builder of a [`CounterUpdate`] from the loaded counters.
pub(crate) struct CounterUpdater<'a> {
    /// Counters as they were loaded.
    loaded: &'a Counters,
    counters: BTreeMap<CounterKey, Vec<CountedEvent>>,
    refunds: Vec<(CounterKey, CountedEvent)>,
    global_counter: Option<GlobalCounterUpdate>,
    policy: &'a Policy,
    now: OffsetDateTime,
}

impl<'a> CounterUpdater<'a> {
    /// Creates an updater with the counters of these keys.
    pub(crate) fn new(
        loaded: &'a Counters,
        keys: impl IntoIterator<Item = CounterKey>,
        policy: &'a Policy,
        now: OffsetDateTime,
    ) -> Self {
        let events = |key: CounterKey| (key.clone(), loaded.events(&key).to_vec());
        Self {
            loaded,
            counters: keys.into_iter().map(events).collect(),
            refunds: Vec::new(),
            global_counter: None,
            policy,
            now,
        }
    }

    /// Returns the earliest time from now on at which no counter has an event of this kind, so that events
    /// are unique.
    pub(crate) fn unused_timestamp(&self, kind: EventKind) -> OffsetDateTime {
        let mut at = self.now;
        while self.counters.values().any(|events| events.contains(&CountedEvent { at, kind })) {
            at += Duration::from_micros(1);
        }
        at
    }

    /// Adds an event to each counter with a limit on this kind of event.
    pub(crate) fn count(&mut self, kind: EventKind, at: OffsetDateTime) {
        for (key, events) in &mut self.counters {
            if self.policy.keep(key.subject(), kind).is_some() {
                events.push(CountedEvent { at, kind });
                events.sort_unstable();
            }
        }
    }

    /// Removes an event from a counter.
    pub(crate) fn refund(&mut self, key: CounterKey, kind: EventKind, at: OffsetDateTime) {
        if self.policy.keep(key.subject(), kind).is_none() {
            return;
        }
        let event = CountedEvent { at, kind };
        match self.counters.get_mut(&key) {
            Some(events) => events.retain(|counted| *counted != event),
            None => self.refunds.push((key, event)),
        }
    }

    pub(crate) fn count_globally(&mut self, update: GlobalCounterUpdate) {
        self.global_counter = Some(update);
    }

    /// Returns the counters with the changes so far.
    pub(crate) fn counters(&self) -> Counters {
        Counters(self.counters.clone())
    }

    /// Returns the changes to store.
    pub(crate) fn finish(mut self) -> CounterUpdate {
        let pruned = |(key, events)| pruned(key, events, self.policy, self.now);
        let is_unchanged = |counter: &Counter| self.loaded.0.get(&counter.key) == Some(&counter.events);
        let (unchanged, counters): (Vec<_>, Vec<_>) =
            self.counters.into_iter().map(pruned).partition(is_unchanged);
        let unchanged = unchanged.into_iter().map(|counter| counter.key).collect();
        self.refunds.sort_unstable();
        CounterUpdate { counters, unchanged, refunds: self.refunds, global_counter: self.global_counter }
    }
}

/// Returns the counter without the events that no limit needs any more.
fn pruned(key: CounterKey, mut events: Vec<CountedEvent>, policy: &Policy, now: OffsetDateTime) -> Counter {
    for kind in EventKind::ALL {
        let Some(keep) = policy.keep(key.subject(), kind) else { continue };
        let counted = events.iter().filter(|event| event.kind == kind).count();
        let mut surplus = counted.saturating_sub(keep.newest);
        events.retain(|event| {
            let is_old = event.kind == kind && surplus > 0;
            surplus -= usize::from(is_old);
            !is_old
        });
    }
    // During a change of the policy, other processes that share the storage may count events that this
    // process does not count. They are kept for the longest window of a limit.
    let memory = |kind| policy.keep(key.subject(), kind).map_or(MAX_WINDOW, |keep| keep.memory);
    events.retain(|event| event.at + memory(event.kind) > now);
    let ends = events.iter().map(|event| event.at + memory(event.kind));
    // The counter must not expire while another request uses it.
    let ends_at = next_hour(ends.fold(now, OffsetDateTime::max));
    Counter { key, events, ends_at }
}

/// Returns the first full hour after a time.
fn next_hour(time: OffsetDateTime) -> OffsetDateTime {
    const HOUR: i64 = 3_600;
    let hours = time.unix_timestamp().div_euclid(HOUR) + 1;
    OffsetDateTime::from_unix_timestamp(hours * HOUR).unwrap_or(time)
}

#[cfg(test)]
impl Counters {
    /// Stores the changes, as a storage does.
    pub(crate) fn apply(&mut self, update: CounterUpdate) {
        self.0.extend(update.counters.into_iter().map(|counter| (counter.key, counter.events)));
        for (key, event) in update.refunds {
            self.0.entry(key).or_default().retain(|counted| *counted != event);
        }
    }
}

#[cfg(test)]
mod tests;
