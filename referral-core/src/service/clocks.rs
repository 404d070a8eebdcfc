//! Comparison of the clock of this host with the clock of the storage.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;

use super::ReferralService;
use crate::{clock::ClockOffset, error::Error, events::Event};

/// Offset above which a measurement is logged as a warning. Hosts that run NTP differ by a few milliseconds,
/// and a second is the shortest limit that can be set.
const WARN_ABOVE: Duration = Duration::from_secs(1);

/// Shortest time between two warnings.
const WARN_INTERVAL: Duration = Duration::from_mins(1);

/// Largest number of round trips of one measurement. The fastest one is used.
const MAX_ROUND_TRIPS: u32 = 3;

/// Uncertainty below which a measurement needs no further round trip. It is small compared with
/// [`WARN_ABOVE`].
const LOW_UNCERTAINTY: Duration = Duration::from_millis(50);

/// Last measurement and time of the last warning.
#[derive(Default)]
pub(super) struct Clocks(Mutex<Measured>);

#[derive(Clone, Copy, Default)]
struct Measured {
    last: Option<ClockOffset>,
    warned_at: Option<OffsetDateTime>,
}

impl Clocks {
    /// Stores the measurement, and returns `true` if a warning is due.
    fn set(&self, measured: ClockOffset, now: OffsetDateTime) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.last = Some(measured);
        // A clock that was set back must not suppress warnings.
        let is_recent = |at| now >= at && now < at + WARN_INTERVAL;
        let is_due = measured.at_least() > WARN_ABOVE && !state.warned_at.is_some_and(is_recent);
        if is_due {
            state.warned_at = Some(now);
        }
        is_due
    }

    fn last(&self) -> Option<ClockOffset> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last
    }
}

impl ReferralService {
    /// Measures the offset between the clock of this host and the clock of the storage. Returns `None` if the
    /// storage has no clock of its own, or if the clock of this host was set back during the measurement.
    ///
    /// Call it before the first request. [`run_maintenance`](Self::run_maintenance) repeats it. An offset
    /// above one second is logged as a warning, and above
    /// [`Policy::max_clock_offset`](crate::policy::Policy::max_clock_offset)
    /// [`check_ready`](Self::check_ready) fails.
    ///
    /// # Errors
    ///
    /// If the storage fails. The last measurement is then kept.
    pub async fn measure_clock(&self) -> Result<Option<ClockOffset>, Error> {
        let mut quickest: Option<ClockOffset> = None;
        for _ in 0..MAX_ROUND_TRIPS {
            let before = self.inner.clock.now();
            let Some(storage) = self.inner.storage.current_time().await? else { return Ok(None) };
            let after = self.inner.clock.now();
            let Some(measured) = ClockOffset::from_round_trip(before, storage, after) else { continue };
            if quickest.is_none_or(|quickest| measured.uncertainty < quickest.uncertainty) {
                quickest = Some(measured);
            }
            if measured.uncertainty <= LOW_UNCERTAINTY {
                break;
            }
        }
        let Some(measured) = quickest else { return Ok(None) };
        if self.inner.clocks.set(measured, self.inner.clock.now()) {
            tracing::warn!(
                offset_ms = measured.milliseconds(),
                uncertainty_ms = measured.uncertainty.as_millis(),
                "clock of this host differs from the clock of the database, which loosens limits; synchronize both by NTP"
            );
        }
        self.emit(Event::ClockMeasured(measured)).await;
        Ok(Some(measured))
    }

    /// Returns an error if the clocks are known to differ by more than the policy allows.
    pub(super) fn check_clock(&self) -> Result<(), Error> {
        let Some(max) = self.inner.policy.max_clock_offset else { return Ok(()) };
        match self.inner.clocks.last() {
            Some(measured) if measured.at_least() > max => Err(Error::ClockOffset { measured, max }),
            _ => Ok(()),
        }
    }
}
