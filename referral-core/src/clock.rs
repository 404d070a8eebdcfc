//! The one clock. Everything that depends on time asks the clock given to the handle, so that
//! tests set it and no rule depends on when it runs.

use std::time::Duration;

use time::OffsetDateTime;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> OffsetDateTime;
}

/// The system's clock, in UTC.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all others ask")]
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

/// The difference between the clock of this host and the clock of the storage.
///
/// Each host counts and compares times by its own clock, so a limit is looser by the difference between
/// two hosts that share a storage. Each measures its difference from the storage instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockOffset {
    /// The time of this host minus the time of the storage: positive if this host is ahead.
    pub offset: time::Duration,
    /// The largest possible error of `offset`: half the round trip to the storage.
    pub uncertainty: Duration,
}

impl ClockOffset {
    /// Computes the offset from the time of the storage and the times of this host before and after it was
    /// read, as NTP does. Returns `None` if the clock of this host was set back in between.
    pub(crate) fn from_round_trip(
        before: OffsetDateTime,
        storage: OffsetDateTime,
        after: OffsetDateTime,
    ) -> Option<Self> {
        let uncertainty = Duration::try_from(after - before).ok()? / 2;
        Some(Self { offset: before + uncertainty - storage, uncertainty })
    }

    /// Returns the least that the clocks differ by, whatever part of the round trip was spent on the way.
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

/// How far the clocks of two hosts may be apart.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// The time cut to whole microseconds, the finest step that every database keeps.
pub(crate) fn to_microseconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(time.microsecond() * 1_000)
        .expect("a microsecond below a million makes a nanosecond below a billion")
}

/// The time cut to whole seconds, as JSON Web Tokens carry it.
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
    fn an_offset_is_measured_from_the_middle_of_the_round_trip() {
        for (before, storage, after, offset, uncertainty, at_least) in [
            (0, 0, 0, 0, 0, 0),
            (1_000, 1_100, 1_200, 0, 100, 0),
            (8_000, 5_000, 8_200, 3_100, 100, 3_000),
            (2_000, 5_000, 2_200, -2_900, 100, 2_800),
            // A slow answer proves nothing: the storage may have been asked at its very end.
            (0, 3_000, 4_000, -1_000, 2_000, 0),
        ] {
            let measured =
                ClockOffset::from_round_trip(at(before), at(storage), at(after)).expect("measured");
            assert_eq!(measured.milliseconds(), offset);
            assert_eq!(measured.uncertainty, Duration::from_millis(uncertainty));
            assert_eq!(measured.at_least(), Duration::from_millis(at_least));
        }
    }

    #[test]
    fn a_clock_that_was_set_back_during_the_round_trip_is_not_measured() {
        assert_eq!(ClockOffset::from_round_trip(at(1), at(0), at(0)), None);
    }
}
