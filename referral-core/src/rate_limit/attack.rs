//! Counts of the whole service: messages, which have a budget, and wrong codes, which reveal an attack.
//!
//! One guess for each of many phones passes every limit per phone and, from many addresses, every limit per
//! address. If there are far more wrong codes than usual, the service is under attack. During an attack, new
//! codes are longer for all phones, and shorter codes are invalid. Otherwise an attacker that first requests
//! all codes and then guesses them would never have to guess a longer code. Users can still sign in during an
//! attack. A user with a code from before the attack requests another one.
//!
//! The counts are sums of many small counts, which are read without a lock against concurrent writes. So a
//! sum may miss the newest events, but there is no row for which every request waits.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{decision::Decision, policy::Policy};

/// Time window in which wrong codes are counted to detect an attack.
const ATTACK_WINDOW: Duration = Duration::from_mins(10);

/// Number of past days whose wrong codes, at the same time of day, give the usual number.
const USUAL_DAYS: u32 = 7;

/// Factor by which an attack exceeds the usual number of wrong codes. The usual number is the median of the
/// days, which does not change if three of the days have attacks.
const ATTACK_FACTOR: u64 = 3;

/// Time without an attack after which the attack has ended.
const CALM: Duration = Duration::from_hours(1);

/// Interval at which a continuing attack is recorded again, so that not every request writes it.
const RECORD_INTERVAL: Duration = Duration::from_mins(1);

/// Time for which counts are stored.
pub(crate) const GLOBAL_COUNTER_RETENTION: Duration = Duration::from_hours(24 * USUAL_DAYS as u64 + 2);

/// Kind of event that is counted for the whole service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "a storage has each counter in its schema")]
pub enum GlobalCounter {
    /// Wrong codes, per minute.
    FailedAttempts,
    /// Messages, per hour.
    Messages,
}

impl GlobalCounter {
    /// Returns the name under which the count is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FailedAttempts => "failed_attempts",
            Self::Messages => "messages",
        }
    }

    /// Returns the length of the time range of one count.
    fn period(self) -> Duration {
        match self {
            Self::FailedAttempts => Duration::from_mins(1),
            Self::Messages => Duration::from_hours(1),
        }
    }

    /// Returns the start of the time range that includes `at`.
    fn period_of(self, at: OffsetDateTime) -> OffsetDateTime {
        let length = self.period().as_secs().cast_signed();
        let start = at.unix_timestamp().div_euclid(length) * length;
        OffsetDateTime::from_unix_timestamp(start).unwrap_or(at)
    }
}

/// Change of a count of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlobalCounterUpdate {
    /// Kind of the events.
    pub counter: GlobalCounter,
    /// Start of the minute or the hour in which the events are counted.
    pub period_start: OffsetDateTime,
    /// Number to add. It is negative for a refund.
    pub delta: i32,
}

impl GlobalCounterUpdate {
    pub(crate) fn one(counter: GlobalCounter, at: OffsetDateTime) -> Self {
        Self { counter, period_start: counter.period_of(at), delta: 1 }
    }

    /// Returns the refund of this count.
    pub(crate) fn refund(self) -> Self {
        Self { delta: -self.delta, ..self }
    }
}

/// Query for the counts on which the decision about a request depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlobalCounterQuery {
    /// Time from which to sum up wrong codes, or `None` if attacks are not detected. With it, the recorded
    /// end of the attack is loaded too.
    pub failed_attempts_since: Option<OffsetDateTime>,
    /// Time from which to load the messages of each hour, or `None` if there is no budget.
    pub messages_since: Option<OffsetDateTime>,
    /// Number of wrong codes above which an attack is possible.
    attack_threshold: u64,
}

impl GlobalCounterQuery {
    /// Returns the time ranges for which to load [`GlobalCounterFacts::usual_failed_attempts`], as starts and
    /// ends. Returns `None` if there are too few wrong codes for an attack. `failed_attempts` is the number
    /// since [`failed_attempts_since`](Self::failed_attempts_since).
    #[must_use]
    pub fn usual_times(&self, failed_attempts: u64) -> Option<Vec<(OffsetDateTime, OffsetDateTime)>> {
        let since = self.failed_attempts_since?;
        let days = (1..=USUAL_DAYS).map(|days| Duration::from_hours(24) * days);
        let times = days.map(|ago| (since - ago, since - ago + ATTACK_WINDOW));
        (failed_attempts > self.attack_threshold).then(|| times.collect())
    }

    /// Returns the same query without the messages.
    pub(crate) fn without_messages(self) -> Self {
        Self { messages_since: None, ..self }
    }
}

/// Counts of the service on which a decision depends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GlobalCounterFacts {
    /// Number of wrong codes.
    pub failed_attempts: u64,
    /// Number of wrong codes in each of the [usual times](GlobalCounterQuery::usual_times). Empty if they
    /// were not loaded.
    pub usual_failed_attempts: Vec<u64>,
    /// Recorded time until which the service is under attack.
    pub attack_until: Option<OffsetDateTime>,
    /// Hours with messages, sorted, and the number of messages in each.
    pub messages: Vec<(OffsetDateTime, u64)>,
}

impl GlobalCounterFacts {
    /// Returns the same counts with another message.
    pub(crate) fn with_message(&self, at: OffsetDateTime) -> Self {
        let mut facts = self.clone();
        facts.messages.push((GlobalCounter::Messages.period_of(at), 1));
        facts
    }
}

/// Attack state that the global counters show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttackStatus {
    /// `true` if the service is under attack.
    pub(crate) under_attack: bool,
    /// End of the attack, if it is to be recorded.
    pub(crate) record_until: Option<OffsetDateTime>,
}

impl Policy {
    /// Returns the query for the counts that the policy needs.
    pub(crate) fn global_counter_query(&self, now: OffsetDateTime) -> GlobalCounterQuery {
        let this_minute = GlobalCounter::FailedAttempts.period_of(now);
        let this_hour = GlobalCounter::Messages.period_of(now);
        GlobalCounterQuery {
            // The current minute is the last of the window.
            failed_attempts_since: self
                .attack_threshold
                .map(|_| this_minute + GlobalCounter::FailedAttempts.period() - ATTACK_WINDOW),
            messages_since: self.budget().map(|_| this_hour - Duration::from_hours(24)),
            attack_threshold: self.attack_threshold.map_or(u64::MAX, u64::from),
        }
    }

    /// Returns whether the service is under attack.
    pub(crate) fn attack_status(&self, facts: &GlobalCounterFacts, now: OffsetDateTime) -> AttackStatus {
        let Some(floor) = self.attack_threshold else {
            return AttackStatus { under_attack: false, record_until: None };
        };
        let usual = median(facts.usual_failed_attempts.clone());
        let is_attack = facts.failed_attempts > u64::from(floor).max(ATTACK_FACTOR * usual);
        let until = now + CALM;
        let is_recorded = facts.attack_until.is_some_and(|recorded| until < recorded + RECORD_INTERVAL);
        AttackStatus {
            under_attack: is_attack || facts.attack_until.is_some_and(|recorded| now < recorded),
            record_until: (is_attack && !is_recorded).then_some(until),
        }
    }

    /// Returns the time to wait until the budget allows another message.
    pub(crate) fn wait_for_budget(
        &self,
        facts: &GlobalCounterFacts,
        now: OffsetDateTime,
    ) -> Option<Duration> {
        let budget = u64::from(self.budget()?);
        let mut sent: u64 = facts.messages.iter().map(|(_, count)| count).sum();
        let mut wait = None;
        for (hour, count) in &facts.messages {
            if sent < budget {
                break;
            }
            sent -= count;
            // At this time the last message of the hour is a day old.
            let gone = *hour + Duration::from_hours(25) - now;
            wait = Some(gone.try_into().unwrap_or_default());
        }
        wait
    }
}

fn median(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

/// Check for an attack, for
/// [`MaintenanceStorage::check_attack`](crate::storage::MaintenanceStorage::check_attack).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AttackCheck {
    /// Current time.
    pub now: OffsetDateTime,
    pub(crate) policy: Arc<Policy>,
}

impl AttackCheck {
    /// Returns the query for the counts to load.
    #[must_use]
    pub fn global_counters(&self) -> GlobalCounterQuery {
        self.policy.global_counter_query(self.now).without_messages()
    }

    /// Decides whether the service is under attack. The changes to store are the end of the attack.
    #[must_use]
    pub fn decide(&self, facts: &GlobalCounterFacts) -> Decision<Option<OffsetDateTime>, bool> {
        let status = self.policy.attack_status(facts, self.now);
        Decision { writes: status.record_until, outcome: status.under_attack }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-11-25 12:34:56 UTC);

    fn facts(failed_attempts: u64, usual: u64) -> GlobalCounterFacts {
        let usual_failed_attempts = vec![usual, 0, 10_000, usual, usual, 10_000, 0];
        GlobalCounterFacts { failed_attempts, usual_failed_attempts, ..GlobalCounterFacts::default() }
    }

    #[test]
    fn an_attack_is_more_than_fifty_failures_and_three_times_the_usual_number() {
        let policy = Policy::standard();
        for (failed_attempts, usual, is_attack) in
            [(50, 0, false), (51, 0, true), (60, 20, false), (61, 20, true), (1_000, 1_000, false)]
        {
            let attack_status = policy.attack_status(&facts(failed_attempts, usual), NOW);
            assert_eq!(attack_status.under_attack, is_attack, "{failed_attempts} with {usual} on most days");
            assert_eq!(attack_status.record_until, is_attack.then(|| NOW + CALM));
        }
    }

    #[test]
    fn an_attack_ends_after_an_hour_without_one() {
        let policy = Policy::standard();
        let calm = GlobalCounterFacts { attack_until: Some(NOW + CALM), ..facts(0, 0) };
        assert!(policy.attack_status(&calm, NOW + CALM - Duration::from_micros(1)).under_attack);
        assert!(!policy.attack_status(&calm, NOW + CALM).under_attack);
        let continuing = GlobalCounterFacts { failed_attempts: 51, ..calm };
        assert_eq!(policy.attack_status(&continuing, NOW + Duration::from_secs(59)).record_until, None);
        let later = NOW + Duration::from_mins(1);
        assert_eq!(policy.attack_status(&continuing, later).record_until, Some(later + CALM));
    }

    #[test]
    fn usual_times_are_the_same_minutes_of_past_days_and_are_needed_only_above_the_minimum() {
        let policy = Policy::standard();
        let query = policy.global_counter_query(NOW);
        assert_eq!(query.usual_times(50), None);
        let times = query.usual_times(51).expect("above the minimum");
        assert_eq!(times.len(), 7);
        let first = time::macros::datetime!(2026-11-24 12:25 UTC);
        assert_eq!(times[0], (first, first + ATTACK_WINDOW));
        assert!(times.iter().all(|(since, _)| NOW - *since < GLOBAL_COUNTER_RETENTION));
    }

    #[test]
    fn a_budget_allows_messages_again_when_enough_hours_are_a_day_old() {
        let policy =
            Policy { messages_per_day: Some(crate::policy::Budget::Messages(10)), ..Policy::standard() };
        let hour = |ago| GlobalCounter::Messages.period_of(NOW) - Duration::from_hours(ago);
        let wait = |messages| policy.wait_for_budget(&GlobalCounterFacts { messages, ..facts(0, 0) }, NOW);
        assert_eq!(wait(vec![(hour(3), 9)]), None);
        let until = |hour: OffsetDateTime| Some((hour + Duration::from_hours(25) - NOW).unsigned_abs());
        assert_eq!(wait(vec![(hour(3), 1), (hour(2), 9)]), until(hour(3)));
        assert_eq!(wait(vec![(hour(3), 1), (hour(2), 10)]), until(hour(2)));
    }
}
