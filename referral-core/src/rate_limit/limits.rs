//! Limits: a maximum number of events in any time window of a given length.
//!
//! Windows slide. They do not start at full hours or days, so there is no boundary around which twice the
//! maximum is allowed.

use std::{fmt, time::Duration};

use time::OffsetDateTime;

use crate::{
    clock::CLOCK_SKEW,
    error::{catalog::ErrorCode, input::InvalidInput},
};

/// Longest time window of a limit.
pub(crate) const MAX_WINDOW: Duration = Duration::from_hours(31 * 24);

/// Largest number of events that a limit can have. The limits of an IPv6 /48 are four times as large. A counter
/// stores each event in 8 bytes, so the events of one kind take 32 kB at most. With the predefined policies,
/// whose largest limit has 200 events, they take 6.4 kB.
pub(crate) const MAX_COUNT: u32 = 1_000;

/// Maximum number of events in any time window of a given length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    count: u32,
    window: Duration,
}

impl Limit {
    /// Creates a limit of `count` events in each time window of the length `window`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidPolicy`] if the count is not 1 to 1000, or the window not 1 second to 31 days.
    pub fn new(count: u32, window: Duration) -> Result<Self, InvalidInput> {
        let is_valid =
            (1..=MAX_COUNT).contains(&count) && (Duration::from_secs(1)..=MAX_WINDOW).contains(&window);
        let detail = "A limit must have a count of 1 to 1000 and a time of 1 second to 31 days.";
        is_valid
            .then_some(Self { count, window })
            .ok_or_else(|| InvalidInput::new(ErrorCode::InvalidPolicy, detail))
    }

    /// Returns the maximum number of events.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }

    /// Returns the length of the time window.
    #[must_use]
    pub fn window(self) -> Duration {
        self.window
    }
}

/// Formats the limit as `3/15m`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, Span(self.window))
    }
}

/// Time that is formatted as a whole number of its largest unit, such as `15m`, `24h` or `31d`.
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        let seconds = self.0.as_secs();
        // A day is `24h`, as in the flags of the server.
        let (unit, name) = match seconds {
            _ if seconds > DAY && seconds.is_multiple_of(DAY) => (DAY, "d"),
            _ if seconds >= HOUR && seconds.is_multiple_of(HOUR) => (HOUR, "h"),
            _ if seconds >= MINUTE && seconds.is_multiple_of(MINUTE) => (MINUTE, "m"),
            _ => (1, "s"),
        };
        write!(f, "{}{name}", seconds / unit)
    }
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

    /// Creates a list of limits from pairs of a count and the length of its time window.
    ///
    /// # Errors
    ///
    /// See [`Limit::new`].
    pub fn new(limits: impl IntoIterator<Item = (u32, Duration)>) -> Result<Self, InvalidInput> {
        limits.into_iter().map(|(count, window)| Limit::new(count, window)).collect()
    }

    /// Creates a list of limits whose counts and windows are known to be valid.
    pub(crate) fn of<const N: usize>(limits: [(u32, Duration); N]) -> Self {
        Self(limits.map(|(count, window)| Limit { count, window }).into())
    }

    /// Returns `true` if there is no limit.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the limits that can require a wait of `retry_after`: those whose time window is not shorter.
    /// The wait exceeds the window by up to the clock skew if another host recorded an event.
    pub(crate) fn with_wait(&self, retry_after: Duration) -> Self {
        self.0.iter().filter(|limit| limit.window + CLOCK_SKEW >= retry_after).copied().collect()
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
        let memory = self.0.iter().map(|limit| limit.window).max()?;
        Some(Keep { memory, newest })
    }

    /// Returns the time to wait until all limits allow another event, or `None` if they allow it now.
    /// `timestamps` must be sorted.
    pub(crate) fn wait(&self, timestamps: &[OffsetDateTime], now: OffsetDateTime) -> Option<Duration> {
        // An event later than now by more than the clock skew comes from a wrong clock, so it is ignored.
        let timestamps = &timestamps[..timestamps.partition_point(|at| *at <= now + CLOCK_SKEW)];
        let wait = |limit: &Limit| {
            let nth_newest = timestamps.len().checked_sub(limit.count as usize)?;
            let wait = *timestamps.get(nth_newest)? + limit.window - now;
            wait.is_positive().then(|| wait.unsigned_abs())
        };
        self.0.iter().filter_map(wait).max()
    }
}

/// Formats the limits as `3/15m,5/1h`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, limit) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{limit}")?;
        }
        Ok(())
    }
}

/// Number of events that a counter stores, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) memory: Duration,
    pub(crate) newest: usize,
}

impl FromIterator<Limit> for Limits {
    fn from_iter<T: IntoIterator<Item = Limit>>(limits: T) -> Self {
        Self(limits.into_iter().collect())
    }
}

/// Name of the limit that refused a request. It is meant for events and metrics. The client gets only the
/// time to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LimitName {
    /// [`Policy::resend_interval`](crate::policy::Policy::resend_interval).
    ResendInterval,
    /// [`Policy::lockout_threshold`](crate::policy::Policy::lockout_threshold), or 60 wrong codes for a
    /// [test number](crate::policy::TestNumber) in a day.
    Lockout,
    /// [`Policy::codes_per_phone`](crate::policy::Policy::codes_per_phone).
    CodesPerPhone,
    /// [`Policy::codes_per_phone_and_address`](crate::policy::Policy::codes_per_phone_and_address).
    CodesPerPhoneAndAddress,
    /// [`Policy::codes_per_address`](crate::policy::Policy::codes_per_address).
    CodesPerAddress,
    /// [`Policy::codes_per_number_range`](crate::policy::Policy::codes_per_number_range).
    CodesPerNumberRange,
    /// The third of [`Policy::codes_per_number_range`](crate::policy::Policy::codes_per_number_range) that
    /// one address may use.
    CodesPerNumberRangeAndAddress,
    /// [`Policy::messages_per_day`](crate::policy::Policy::messages_per_day).
    MessagesPerDay,
    /// The twentieth of [`Policy::messages_per_day`](crate::policy::Policy::messages_per_day) that one
    /// address may use without signing in.
    MessagesPerDayAndAddress,
    /// [`Policy::failed_attempts_per_address`](crate::policy::Policy::failed_attempts_per_address).
    FailedAttemptsPerAddress,
    /// [`Policy::attempts_without_challenge`](crate::policy::Policy::attempts_without_challenge).
    AttemptsWithoutChallenge,
    /// [`Policy::unknown_invite_codes`](crate::policy::Policy::unknown_invite_codes).
    UnknownInviteCodes,
    /// [`Policy::email_changes`](crate::policy::Policy::email_changes).
    EmailChanges,
    /// Ten requests an hour of one phone that ask the [gate](crate::gate) about a sign-up or an invitation.
    GateQuestions,
}

impl LimitName {
    /// Returns the stable name of the limit, for events and metrics.
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
            Self::GateQuestions => "gate_questions",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[test]
    fn limits_are_formatted_like_the_flags() {
        let limits = [(3, 15 * 60), (5, 3_600), (10, 86_400), (100, 31 * 86_400), (1, 90), (2, 1)];
        let limits = limits.map(|(count, seconds)| (count, Duration::from_secs(seconds)));
        let limits = Limits::new(limits).expect("valid");
        assert_eq!(limits.to_string(), "3/15m,5/1h,10/24h,100/31d,1/90s,2/1s");
        assert_eq!(limits.with_wait(Duration::from_hours(1)).to_string(), "5/1h,10/24h,100/31d");
        assert_eq!(Limits::off().to_string(), "");
    }

    #[test]
    fn events_far_in_the_future_are_ignored() {
        let limits = Limits::of([(1, Duration::from_mins(10))]);
        let at = |seconds| [START + Duration::from_secs(seconds)];
        assert_eq!(
            limits.wait(&at(30), START),
            Some(Duration::from_secs(630)),
            "the clock of another host is ahead"
        );
        assert_eq!(limits.wait(&at(3_600), START), None);
    }
}
