//! Source of the current time. All code reads the clock of the [`ReferralService`](crate::ReferralService),
//! so the outcome of a rule does not depend on the time at which the rule runs. Tests set the time with
//! `ManualClock` in `test_util` (feature `test-util`).

use std::time::Duration;

use time::OffsetDateTime;

/// Source of the current time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> OffsetDateTime;
}

/// Clock of the operating system, in UTC.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all other code uses")]
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

/// Difference between the clock of this host and the clock of the storage.
///
/// Each host records and compares times by its own clock. If the clocks of two hosts that share a storage
/// differ, limits are looser by the difference. Each host measures its difference from the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockOffset {
    /// Time of this host minus the time of the storage: positive if this host is ahead.
    pub offset: time::Duration,
    /// Largest possible error of `offset`: half of the round trip to the storage.
    pub uncertainty: Duration,
}

impl ClockOffset {
    /// Computes the offset as NTP does: from the time of the storage, and the times of this host before and
    /// after the read. Returns `None` if the clock of this host was set back in between.
    pub(crate) fn from_round_trip(
        before: OffsetDateTime,
        storage: OffsetDateTime,
        after: OffsetDateTime,
    ) -> Option<Self> {
        let uncertainty = Duration::try_from(after - before).ok()? / 2;
        Some(Self { offset: before + uncertainty - storage, uncertainty })
    }

    /// Returns the smallest possible difference between the clocks, given the uncertainty.
    #[must_use]
    pub fn at_least(&self) -> Duration {
        self.offset.unsigned_abs().saturating_sub(self.uncertainty)
    }

    /// Returns the offset in milliseconds, positive if this host is ahead.
    #[must_use]
    pub fn milliseconds(&self) -> i64 {
        self.offset.whole_milliseconds().try_into().unwrap_or(if self.offset.is_negative() {
            i64::MIN
        } else {
            i64::MAX
        })
    }
}

/// Maximum difference between the clocks of two hosts that the rules tolerate.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// Truncates the time to whole microseconds, the finest resolution that every database stores.
pub(crate) fn to_microseconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(time.microsecond() * 1_000)
        .expect("less than a million microseconds are less than a billion nanoseconds")
}

/// Truncates the time to whole seconds, the resolution of times in JSON Web Tokens.
pub(crate) fn to_seconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).expect("zero is a valid nanosecond")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(milliseconds)
    }

    #[test]
    fn the_offset_is_measured_at_the_middle_of_the_round_trip() {
        for (before, storage, after, offset, uncertainty, at_least) in [
            (0, 0, 0, 0, 0, 0),
            (1_000, 1_100, 1_200, 0, 100, 0),
            (8_000, 5_000, 8_200, 3_100, 100, 3_000),
            (2_000, 5_000, 2_200, -2_900, 100, 2_800),
            // A slow response shows no offset, because the storage may have read its clock at the end.
            (0, 3_000, 4_000, -1_000, 2_000, 0),
        ] {
            let measured = ClockOffset::from_round_trip(at(before), at(storage), at(after))
                .expect("the clock was not set back");
            assert_eq!(measured.milliseconds(), offset);
            assert_eq!(measured.uncertainty, Duration::from_millis(uncertainty));
            assert_eq!(measured.at_least(), Duration::from_millis(at_least));
        }
    }

    #[test]
    fn the_offset_is_not_measured_if_the_clock_is_set_back_during_the_round_trip() {
        assert_eq!(ClockOffset::from_round_trip(at(1), at(0), at(0)), None);
    }
}
