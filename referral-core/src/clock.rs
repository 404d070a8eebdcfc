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
