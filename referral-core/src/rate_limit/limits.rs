//! Limits: a maximum number of events in any time window of a given length.
//!
//! Windows slide. They do not start at full hours or days, so there is no boundary around which twice the
//! maximum is allowed.

use std::time::Duration;

use time::OffsetDateTime;

use crate::{clock::CLOCK_SKEW, rate_limit::counters::Keep};

/// Longest time window of a limit.
pub(crate) const LONGEST: Duration = Duration::from_hours(31 * 24);

/// Maximum number of events in any time window of a given length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Maximum number of events.
    pub count: u32,
    /// Length of the time window.
    pub per: Duration,
}

/// Limits that all apply together. An empty list limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits(Vec<Limit>);

impl Limits {
    /// Returns an empty list of limits.
    #[must_use]
    pub const fn off() -> Self {
        Self(Vec::new())
    }

    /// Creates limits from pairs of a count and the length of its time window.
    #[must_use]
    pub fn new(limits: impl IntoIterator<Item = (u32, Duration)>) -> Self {
        Self(limits.into_iter().map(|(count, per)| Limit { count, per }).collect())
    }

    /// Returns `true` if there is no limit.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns an iterator over the limits.
    pub fn iter(&self) -> impl Iterator<Item = &Limit> {
        self.0.iter()
    }

    /// Returns the same limits, with each count multiplied by `factor`.
    pub(crate) fn widened(&self, factor: u32) -> Self {
        let widened = |limit: &Limit| Limit { count: limit.count.saturating_mul(factor), ..*limit };
        Self(self.0.iter().map(widened).collect())
    }

    /// Returns the share of the limits that one client may use: `part` of each count, and at least one.
    pub(crate) fn share(&self, part: impl Fn(u32) -> u32) -> Self {
        let share = |limit: &Limit| Limit { count: part(limit.count).max(1), ..*limit };
        Self(self.0.iter().map(share).collect())
    }

    /// Returns the limits of both lists.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Returns the number of events that must be stored to check the limits, and for how long: the largest
    /// count and the longest window. Returns `None` if there is no limit.
    pub(crate) fn keep(&self) -> Option<Keep> {
        let newest = self.0.iter().map(|limit| limit.count as usize).max()?;
        let memory = self.0.iter().map(|limit| limit.per).max()?;
        Some(Keep { memory, newest })
    }

    /// Returns the time to wait until all limits allow another event, or `None` if they allow it now.
    /// `timestamps` must be sorted.
    pub(crate) fn wait(&self, timestamps: &[OffsetDateTime], now: OffsetDateTime) -> Option<Duration> {
        // An event much later than now was recorded by a wrong clock.
        let timestamps = &timestamps[..timestamps.partition_point(|at| *at <= now + CLOCK_SKEW)];
        let wait = |limit: &Limit| {
            let nth_newest = timestamps.len().checked_sub(limit.count as usize)?;
            let wait = *timestamps.get(nth_newest)? + limit.per - now;
            wait.is_positive().then(|| wait.unsigned_abs())
        };
        self.0.iter().filter_map(wait).max()
    }
}

/// Name of the limit that refused a request. It is meant for events and metrics. The client gets only the
/// time to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LimitName {
    /// [`Policy::resend_interval`](crate::Policy::resend_interval).
    ResendInterval,
    /// [`Policy::lockout_threshold`](crate::Policy::lockout_threshold), or 60 wrong codes for a
    /// [test number](crate::TestNumber) in a day.
    Lockout,
    /// [`Policy::codes_per_phone`](crate::Policy::codes_per_phone).
    CodesPerPhone,
    /// [`Policy::codes_per_phone_and_address`](crate::Policy::codes_per_phone_and_address).
    CodesPerPhoneAndAddress,
    /// [`Policy::codes_per_address`](crate::Policy::codes_per_address).
    CodesPerAddress,
    /// [`Policy::codes_per_number_range`](crate::Policy::codes_per_number_range).
    CodesPerNumberRange,
    /// The third of [`Policy::codes_per_number_range`](crate::Policy::codes_per_number_range) that one address may use.
    CodesPerNumberRangeAndAddress,
    /// [`Policy::messages_per_day`](crate::Policy::messages_per_day).
    MessagesPerDay,
    /// The twentieth of [`Policy::messages_per_day`](crate::Policy::messages_per_day) that one address may
    /// use without signing in.
    MessagesPerDayAndAddress,
    /// [`Policy::failed_attempts_per_address`](crate::Policy::failed_attempts_per_address).
    FailedAttemptsPerAddress,
    /// [`Policy::attempts_without_challenge`](crate::Policy::attempts_without_challenge).
    AttemptsWithoutChallenge,
    /// [`Policy::unknown_invite_codes`](crate::Policy::unknown_invite_codes).
    UnknownInviteCodes,
    /// [`Policy::email_changes`](crate::Policy::email_changes).
    EmailChanges,
}

impl LimitName {
    /// Returns the name of the limit, which is the name of its field in the policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ResendInterval => "resend_interval",
            Self::Lockout => "lockout_threshold",
            Self::CodesPerPhone => "codes_per_phone",
            Self::CodesPerPhoneAndAddress => "codes_per_phone_and_address",
            Self::CodesPerAddress => "codes_per_address",
            Self::CodesPerNumberRange => "codes_per_number_range",
            Self::CodesPerNumberRangeAndAddress => "codes_per_number_range_and_address",
            Self::MessagesPerDay => "messages_per_day",
            Self::MessagesPerDayAndAddress => "messages_per_day_and_address",
            Self::FailedAttemptsPerAddress => "failed_attempts_per_address",
            Self::AttemptsWithoutChallenge => "attempts_without_challenge",
            Self::UnknownInviteCodes => "unknown_invite_codes",
            Self::EmailChanges => "email_changes",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[test]
    fn events_far_in_the_future_are_ignored() {
        let limits = Limits::new([(1, Duration::from_mins(10))]);
        let at = |seconds| [START + Duration::from_secs(seconds)];
        assert_eq!(
            limits.wait(&at(30), START),
            Some(Duration::from_secs(630)),
            "the clock of another host is ahead"
        );
        assert_eq!(limits.wait(&at(3_600), START), None);
    }
}
