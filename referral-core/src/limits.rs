//! Limits: so many and no more, in any time of some length.
//!
//! Windows slide: nothing is counted by the hour or the day, so there is no edge at which twice as much
//! is allowed.

use std::time::Duration;

use time::OffsetDateTime;

use crate::{clock::CLOCK_SKEW, counters::Keep};

/// The longest time that a limit is about.
pub(crate) const LONGEST: Duration = Duration::from_hours(31 * 24);

/// So many, and no more, in any time of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many.
    pub count: u32,
    /// In how long a time.
    pub per: Duration,
}

/// Limits that hold together. Without any, there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits(Vec<Limit>);

impl Limits {
    /// No limit.
    #[must_use]
    pub const fn off() -> Self {
        Self(Vec::new())
    }

    /// So many in so long a time, for each pair.
    #[must_use]
    pub fn new(limits: impl IntoIterator<Item = (u32, Duration)>) -> Self {
        Self(limits.into_iter().map(|(count, per)| Limit { count, per }).collect())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Limit> {
        self.0.iter()
    }

    /// Returns the same limits with `factor` times the count each.
    pub(crate) fn widened(&self, factor: u32) -> Self {
        let widened = |limit: &Limit| Limit { count: limit.count.saturating_mul(factor), ..*limit };
        Self(self.0.iter().map(widened).collect())
    }

    /// Returns the part of the limits that one client may take: `part` of each count, at least one.
    pub(crate) fn share(&self, part: impl Fn(u32) -> u32) -> Self {
        let share = |limit: &Limit| Limit { count: part(limit.count).max(1), ..*limit };
        Self(self.0.iter().map(share).collect())
    }

    /// Returns the limits of both lists.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// What must be kept to tell: as much as the largest of them allows, for as long as the longest.
    /// `None` without any.
    pub(crate) fn keep(&self) -> Option<Keep> {
        let newest = self.0.iter().map(|limit| limit.count as usize).max()?;
        let memory = self.0.iter().map(|limit| limit.per).max()?;
        Some(Keep { memory, newest })
    }

    /// How long to wait until one more is within all of them; `None` if it is now. `moments` are in
    /// order.
    pub(crate) fn wait(&self, moments: &[OffsetDateTime], now: OffsetDateTime) -> Option<Duration> {
        // What happened much later than now, happened by a clock that was wrong.
        let moments = &moments[..moments.partition_point(|at| *at <= now + CLOCK_SKEW)];
        let wait = |limit: &Limit| {
            let nth_newest = moments.len().checked_sub(limit.count as usize)?;
            let wait = *moments.get(nth_newest)? + limit.per - now;
            wait.is_positive().then(|| wait.unsigned_abs())
        };
        self.0.iter().filter_map(wait).max()
    }
}

/// Which limit it was that refused a request. For events and figures: whoever is refused is told how
/// long to wait, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LimitName {
    /// [`Policy::cool_down`](crate::Policy::cool_down).
    CoolDown,
    /// [`Policy::hold_at`](crate::Policy::hold_at), or sixty wrong codes of a
    /// [test number](crate::TestNumber) in a day.
    Hold,
    /// [`Policy::codes_per_phone`](crate::Policy::codes_per_phone).
    CodesPerPhone,
    /// [`Policy::codes_per_phone_and_address`](crate::Policy::codes_per_phone_and_address).
    CodesPerPhoneAndAddress,
    /// [`Policy::codes_per_address`](crate::Policy::codes_per_address).
    CodesPerAddress,
    /// [`Policy::codes_per_block`](crate::Policy::codes_per_block).
    CodesPerBlock,
    /// The third of [`Policy::codes_per_block`](crate::Policy::codes_per_block) that one address may take.
    CodesPerBlockAndAddress,
    /// [`Policy::messages_per_day`](crate::Policy::messages_per_day).
    MessagesPerDay,
    /// The twentieth of [`Policy::messages_per_day`](crate::Policy::messages_per_day) that one address may
    /// cause without signing in.
    MessagesPerDayAndAddress,
    /// [`Policy::failures_per_address`](crate::Policy::failures_per_address).
    FailuresPerAddress,
    /// [`Policy::attempts_without_challenge`](crate::Policy::attempts_without_challenge).
    AttemptsWithoutChallenge,
    /// [`Policy::invite_failures`](crate::Policy::invite_failures).
    InviteFailures,
    /// [`Policy::email_changes`](crate::Policy::email_changes).
    EmailChanges,
}

impl LimitName {
    /// The name of the number, as the policy has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CoolDown => "cool_down",
            Self::Hold => "hold_at",
            Self::CodesPerPhone => "codes_per_phone",
            Self::CodesPerPhoneAndAddress => "codes_per_phone_and_address",
            Self::CodesPerAddress => "codes_per_address",
            Self::CodesPerBlock => "codes_per_block",
            Self::CodesPerBlockAndAddress => "codes_per_block_and_address",
            Self::MessagesPerDay => "messages_per_day",
            Self::MessagesPerDayAndAddress => "messages_per_day_and_address",
            Self::FailuresPerAddress => "failures_per_address",
            Self::AttemptsWithoutChallenge => "attempts_without_challenge",
            Self::InviteFailures => "invite_failures",
            Self::EmailChanges => "email_changes",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[test]
    fn a_clock_that_was_wrong_locks_nobody_out() {
        let limits = Limits::new([(1, Duration::from_mins(10))]);
        let at = |seconds| [START + Duration::from_secs(seconds)];
        assert_eq!(limits.wait(&at(30), START), Some(Duration::from_secs(630)), "another host is ahead");
        assert_eq!(limits.wait(&at(3_600), START), None);
    }
}
