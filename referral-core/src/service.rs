//! What is counted for the whole service: messages, against a budget, and wrong codes, which tell
//! that it is under attack.
//!
//! One guess at each of many phones passes every limit per phone and, from many addresses, per
//! address. So when there are far more wrong codes than usual, new codes get longer for everybody, and
//! those that are shorter are dead: else whoever first asked for all codes and then guessed would
//! never meet a longer one. Nothing becomes mandatory, and an attacker cannot stop those who just want
//! to sign in: who had a code when it began asks for another.
//!
//! These figures are sums of many small counts, read without excluding those who add to them: they
//! may be a few behind, but there is no row that every request waits for.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;

use crate::Policy;

/// How far back wrong codes are looked at.
const ATTACK_WINDOW: Duration = Duration::from_mins(10);

/// How many days back the usual number of wrong codes is looked for, at the same time of day.
const USUAL_DAYS: u32 = 7;

/// How many times the usual number is an attack. The usual is the median of the days, which three days
/// of attacks do not move.
const ATTACK_FACTOR: u64 = 3;

/// How long it must be calm for an attack to be over.
const CALM: Duration = Duration::from_hours(1);

/// How late an attack that goes on is noted again, so that not every request writes it.
const NOTE_EVERY: Duration = Duration::from_mins(1);

/// How long counts are kept.
pub(crate) const SERVICE_MEMORY: Duration = Duration::from_hours(24 * USUAL_DAYS as u64 + 2);

/// What is counted for the whole service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceFigure {
    /// Wrong codes, by the minute.
    Failures,
    /// Messages, by the hour.
    Messages,
}

impl ServiceFigure {
    /// The name it is stored under.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Messages => "messages",
        }
    }

    /// How much time one count is about.
    fn bucket(self) -> Duration {
        match self {
            Self::Failures => Duration::from_mins(1),
            Self::Messages => Duration::from_hours(1),
        }
    }

    /// The count that a moment belongs to.
    fn bucket_of(self, at: OffsetDateTime) -> OffsetDateTime {
        let length = self.bucket().as_secs().cast_signed();
        let start = at.unix_timestamp().div_euclid(length) * length;
        OffsetDateTime::from_unix_timestamp(start).unwrap_or(at)
    }
}

/// Something to be added to a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceCount {
    /// Which.
    pub figure: ServiceFigure,
    /// The minute or the hour that it is counted in.
    pub since: OffsetDateTime,
    /// How many; less than none if they are taken back.
    pub by: i32,
}

impl ServiceCount {
    pub(crate) fn one(figure: ServiceFigure, at: OffsetDateTime) -> Self {
        Self { figure, since: figure.bucket_of(at), by: 1 }
    }

    /// The same, taken back.
    pub(crate) fn taken_back(self) -> Self {
        Self { by: -self.by, ..self }
    }
}

/// Which figures a request is decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceQuery {
    /// From when on wrong codes are to be summed up, and when the attack that is noted ends; `None`
    /// if nobody watches out for attacks.
    pub failures_since: Option<OffsetDateTime>,
    /// From when on messages are to be given, hour by hour; `None` if they have no budget.
    pub messages_since: Option<OffsetDateTime>,
}

/// The figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceFacts {
    /// How many wrong codes there were.
    pub failures: u64,
    /// How many there were at each of the times that the request asks for, if it does.
    pub usual_failures: Option<Vec<u64>>,
    /// Until when the service counts as under attack, as far as is noted.
    pub attack_until: Option<OffsetDateTime>,
    /// The hours with messages, in order, and how many in each.
    pub messages: Vec<(OffsetDateTime, u64)>,
}

impl ServiceFacts {
    /// The same, with another message.
    pub(crate) fn with_message(&self, at: OffsetDateTime) -> Self {
        let mut facts = self.clone();
        facts.messages.push((ServiceFigure::Messages.bucket_of(at), 1));
        facts
    }
}

/// What the figures say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Whether the service is under attack.
    pub under_attack: bool,
    /// Until when, if that is to be noted.
    pub note_until: Option<OffsetDateTime>,
}

impl Policy {
    /// Which figures tell what the service is in for.
    pub(crate) fn service_query(&self, now: OffsetDateTime) -> ServiceQuery {
        let this_minute = ServiceFigure::Failures.bucket_of(now);
        let this_hour = ServiceFigure::Messages.bucket_of(now);
        ServiceQuery {
            // The minute under way is the last of them.
            failures_since: self
                .attack_failures
                .map(|_| this_minute + ServiceFigure::Failures.bucket() - ATTACK_WINDOW),
            messages_since: self.budget().map(|_| this_hour - Duration::from_hours(24)),
        }
    }

    /// The times whose wrong codes tell what is usual, as beginnings and ends; asked for only where
    /// there are enough for an attack.
    pub(crate) fn usual_times(
        &self,
        facts: &ServiceFacts,
        now: OffsetDateTime,
    ) -> Option<Vec<(OffsetDateTime, OffsetDateTime)>> {
        let since = self.service_query(now).failures_since?;
        let days = (1..=USUAL_DAYS).map(|days| Duration::from_hours(24) * days);
        let times = days.map(|ago| (since - ago, since - ago + ATTACK_WINDOW));
        (facts.failures > u64::from(self.attack_failures?)).then(|| times.collect())
    }

    /// Whether the service is under attack.
    pub(crate) fn alert(&self, facts: &ServiceFacts, now: OffsetDateTime) -> Alert {
        let Some(floor) = self.attack_failures else {
            return Alert { under_attack: false, note_until: None };
        };
        let usual = median(facts.usual_failures.clone().unwrap_or_default());
        let is_attack = facts.failures > u64::from(floor).max(ATTACK_FACTOR * usual);
        let until = now + CALM;
        let is_noted = facts.attack_until.is_some_and(|noted| until < noted + NOTE_EVERY);
        Alert {
            under_attack: is_attack || facts.attack_until.is_some_and(|noted| now < noted),
            note_until: (is_attack && !is_noted).then_some(until),
        }
    }

    /// How long to wait until the budget has room for another message.
    pub(crate) fn wait_for_budget(&self, facts: &ServiceFacts, now: OffsetDateTime) -> Option<Duration> {
        let budget = u64::from(self.budget()?);
        let mut sent: u64 = facts.messages.iter().map(|(_, count)| count).sum();
        let mut wait = None;
        for (hour, count) in &facts.messages {
            if sent < budget {
                break;
            }
            sent -= count;
            // The last message of that hour is a day old.
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

/// Asks how the whole service is doing, as [`Storage::watch`](crate::storage::Storage::watch) gets it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WatchRequest {
    /// The time.
    pub now: OffsetDateTime,
    pub(crate) policy: Arc<Policy>,
}

impl WatchRequest {
    /// Which figures to load.
    #[must_use]
    pub fn service(&self) -> ServiceQuery {
        self.policy.service_query(self.now)
    }

    /// Which times to load [`ServiceFacts::usual_failures`] of, if that matters.
    #[must_use]
    pub fn usual_times(&self, facts: &ServiceFacts) -> Option<Vec<(OffsetDateTime, OffsetDateTime)>> {
        self.policy.usual_times(facts, self.now)
    }

    /// Says how it is.
    #[must_use]
    pub fn decide(&self, facts: &ServiceFacts) -> Alert {
        self.policy.alert(facts, self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-11-25 12:34:56 UTC);

    fn facts(failures: u64, usual: u64) -> ServiceFacts {
        let usual_failures = Some(vec![usual, 0, 10_000, usual, usual, 10_000, 0]);
        ServiceFacts { failures, usual_failures, ..ServiceFacts::default() }
    }

    #[test]
    fn an_attack_is_more_than_fifty_and_three_times_what_most_days_have() {
        let policy = Policy::standard();
        for (failures, usual, is_attack) in
            [(50, 0, false), (51, 0, true), (60, 20, false), (61, 20, true), (1_000, 1_000, false)]
        {
            let alert = policy.alert(&facts(failures, usual), NOW);
            assert_eq!(alert.under_attack, is_attack, "{failures} with {usual} on most days");
            assert_eq!(alert.note_until, is_attack.then(|| NOW + CALM));
        }
    }

    #[test]
    fn an_attack_is_over_after_an_hour_of_calm() {
        let policy = Policy::standard();
        let calm = ServiceFacts { attack_until: Some(NOW + CALM), ..facts(0, 0) };
        assert!(policy.alert(&calm, NOW + CALM - Duration::from_micros(1)).under_attack);
        assert!(!policy.alert(&calm, NOW + CALM).under_attack);
        let going_on = ServiceFacts { failures: 51, ..calm };
        assert_eq!(policy.alert(&going_on, NOW + Duration::from_secs(59)).note_until, None);
        let later = NOW + Duration::from_mins(1);
        assert_eq!(policy.alert(&going_on, later).note_until, Some(later + CALM));
    }

    #[test]
    fn the_usual_is_asked_for_when_it_matters_and_is_that_of_the_same_minutes() {
        let policy = Policy::standard();
        assert_eq!(policy.usual_times(&facts(50, 0), NOW), None);
        let times = policy.usual_times(&facts(51, 0), NOW).expect("it matters");
        assert_eq!(times.len(), 7);
        let first = time::macros::datetime!(2026-11-24 12:25 UTC);
        assert_eq!(times[0], (first, first + ATTACK_WINDOW));
        assert!(times.iter().all(|(since, _)| NOW - *since < SERVICE_MEMORY));
    }

    #[test]
    fn a_budget_has_room_again_when_enough_hours_are_a_day_old() {
        let policy = Policy { messages_per_day: Some(crate::Budget::Messages(10)), ..Policy::standard() };
        let hour = |ago| ServiceFigure::Messages.bucket_of(NOW) - Duration::from_hours(ago);
        let wait = |messages| policy.wait_for_budget(&ServiceFacts { messages, ..facts(0, 0) }, NOW);
        assert_eq!(wait(vec![(hour(3), 9)]), None);
        let until = |hour: OffsetDateTime| Some((hour + Duration::from_hours(25) - NOW).unsigned_abs());
        assert_eq!(wait(vec![(hour(3), 1), (hour(2), 9)]), until(hour(3)));
        assert_eq!(wait(vec![(hour(3), 1), (hour(2), 10)]), until(hour(2)));
    }
}
