//! Circuit breaker of a gateway: stops calls of the gateway after consecutive failures, and tests with single
//! calls whether the gateway works again.

use std::time::Duration;

use tokio::time::Instant;

/// Longest time during which a gateway is not called because it returned
/// [`SmsError::Busy`](crate::sms::SmsError::Busy). If it is the only gateway, no user can sign in during this
/// time.
const MAX_BACK_OFF: Duration = Duration::from_mins(5);

/// Time that is added to the time limit of a trial call, so that its result can be recorded before the next
/// trial is admitted. Otherwise two trials could run concurrently.
const HALF_OPEN_GRACE: Duration = Duration::from_secs(1);

/// Largest factor between the time that a circuit stays open and [`CircuitSettings::open_time`]. Each failed
/// trial doubles the time. With the default of 30 seconds, the time is at most 10 minutes.
const MAX_OPEN_FACTOR: u32 = 20;

/// Number of consecutive failures after which the circuit opens, and the time that it stays open at first.
#[derive(Clone, Copy)]
pub(super) struct CircuitSettings {
    pub(super) failures: u32,
    pub(super) open_time: Duration,
}

/// Recent results of a gateway.
#[derive(Default)]
pub(super) struct Circuit {
    /// Number of consecutive failures.
    failures: u32,
    /// Number of times that the circuit opened without a success in between.
    openings: u32,
    /// Time until which the circuit is open or a trial is running.
    open_until: Option<Instant>,
    /// Time until which the gateway is backing off.
    backing_off_until: Option<Instant>,
}

/// Decision about calling a gateway.
pub(super) enum Admission {
    Call(CallMode),
    /// The circuit is open. The gateway may be called if no other gateway accepts the message.
    Open(Instant),
    /// The gateway is backing off.
    Busy(Instant),
}

/// Reason for calling a gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CallMode {
    /// The circuit is closed.
    Closed,
    /// The circuit was open, and this call tests whether the gateway works again.
    HalfOpen,
    /// The circuit is open, and no other gateway accepted the message.
    Fallback,
}

impl Circuit {
    /// Decides whether the gateway is called now. After the circuit was open, one call is admitted as a
    /// trial. For other messages the circuit stays open for as long as the trial may take, even if the trial
    /// is canceled.
    pub(super) fn admit(&mut self, now: Instant, trial: Duration) -> Admission {
        if let Some(until) = self.backing_off_until.filter(|until| now < *until) {
            return Admission::Busy(until);
        }
        match self.open_until {
            Some(until) if now < until => Admission::Open(until),
            Some(_) => {
                self.open_until = Some(now + trial + HALF_OPEN_GRACE);
                Admission::Call(CallMode::HalfOpen)
            }
            None => Admission::Call(CallMode::Closed),
        }
    }

    /// Records a success. Returns `true` if the circuit was open. A success does not shorten the time that
    /// the gateway is backing off, because its request may have started before.
    pub(super) fn succeed(&mut self) -> bool {
        let was_open = self.open_until.is_some();
        *self = Self { backing_off_until: self.backing_off_until, ..Self::default() };
        was_open
    }

    /// Records a failure. If the circuit opens, returns the time for which it is open.
    pub(super) fn fail(
        &mut self,
        now: Instant,
        mode: CallMode,
        settings: CircuitSettings,
    ) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        // Failures of requests that started before the circuit opened are ignored.
        let stays = if self.open_until.is_some() {
            mode != CallMode::HalfOpen
        } else {
            self.failures < settings.failures
        };
        if stays {
            return None;
        }
        let factor = 2_u32.saturating_pow(self.openings).min(MAX_OPEN_FACTOR);
        let time = settings.open_time * factor;
        self.openings = self.openings.saturating_add(1);
        self.open_until = Some(now + time);
        Some(time)
    }

    /// Records that the gateway is busy. Returns the time until which it is backing off, which another
    /// message may have set to a later time.
    pub(super) fn back_off(&mut self, now: Instant, time: Duration) -> Instant {
        let until = now + time.min(MAX_BACK_OFF);
        *self.backing_off_until.insert(self.backing_off_until.map_or(until, |before| before.max(until)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn is_busy(circuit: &mut Circuit, now: Instant) -> bool {
        matches!(circuit.admit(now, SECOND), Admission::Busy(_))
    }

    #[test]
    fn concurrent_results_do_not_shorten_the_back_off() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        circuit.back_off(now, 90 * SECOND);
        circuit.succeed();
        assert!(is_busy(&mut circuit, now + 89 * SECOND), "another message was accepted");
        circuit.back_off(now, 5 * SECOND);
        assert!(is_busy(&mut circuit, now + 89 * SECOND), "another message got a shorter time");
        circuit.fail(now, CallMode::Closed, CircuitSettings { failures: 1, open_time: SECOND });
        assert!(is_busy(&mut circuit, now + 89 * SECOND), "another message failed");
        assert!(!is_busy(&mut circuit, now + 90 * SECOND));
    }
}
