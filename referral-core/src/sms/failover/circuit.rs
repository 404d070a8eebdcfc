//! Circuit breaker of a gateway.

use std::time::Duration;

use tokio::time::Instant;

/// Longest time during which a gateway is not called because it returned
/// [`SmsError::Busy`](crate::sms::SmsError::Busy). If it is the only gateway, no user can sign in during this
/// time.
const LONGEST_ALONE: Duration = Duration::from_mins(5);

/// Time beyond its time limit that a trial may take until its result is recorded. During a trial there is no
/// other trial.
const TRIAL_GRACE: Duration = Duration::from_secs(1);

/// Maximum of the time that a circuit stays open, as a multiple of the initial time: 10 minutes for half a
/// minute.
const LONGEST_REST: u32 = 20;

/// Number of consecutive failures after which the circuit opens, and the time that it stays open at first.
#[derive(Clone, Copy)]
pub(super) struct Rest {
    pub(super) failures: u32,
    pub(super) time: Duration,
}

/// Recent results of a gateway.
#[derive(Default)]
pub(super) struct Circuit {
    /// Number of consecutive failures.
    failures: u32,
    /// Number of times that the circuit opened without a success in between.
    rests: u32,
    /// Time until which the circuit is open or a trial is running.
    rests_until: Option<Instant>,
    /// Time until which the gateway is backing off.
    alone_until: Option<Instant>,
}

/// Decision about calling a gateway.
pub(super) enum Admission {
    Ask(Turn),
    /// The circuit is open. The gateway may be called if no other gateway accepts the message.
    Resting(Instant),
    /// The gateway is backing off.
    Busy(Instant),
}

/// Reason for calling a gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The circuit is closed.
    Usual,
    /// The circuit was open, and this call tests whether the gateway works again.
    Trial,
    /// The circuit is open, and no other gateway accepted the message.
    LastResort,
}

impl Circuit {
    /// Decides whether the gateway is called now. After the circuit was open, one call is admitted as a
    /// trial. For other messages the circuit stays open for as long as the trial may take, even if the trial
    /// is canceled.
    pub(super) fn admit(&mut self, now: Instant, trial: Duration) -> Admission {
        if let Some(until) = self.alone_until.filter(|until| now < *until) {
            return Admission::Busy(until);
        }
        match self.rests_until {
            Some(until) if now < until => Admission::Resting(until),
            Some(_) => {
                self.rests_until = Some(now + trial + TRIAL_GRACE);
                Admission::Ask(Turn::Trial)
            }
            None => Admission::Ask(Turn::Usual),
        }
    }

    /// Records a success. Returns `true` if the circuit was open. A success does not shorten the time that
    /// the gateway is backing off, because its request may have started before.
    pub(super) fn work(&mut self) -> bool {
        let worked_not = self.rests_until.is_some();
        *self = Self { alone_until: self.alone_until, ..Self::default() };
        worked_not
    }

    /// Records a failure. If the circuit opens, returns the time for which it is open.
    pub(super) fn fail(&mut self, now: Instant, turn: Turn, rest: Rest) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        // Failures of requests that started before the circuit opened are ignored.
        let goes_on =
            if self.rests_until.is_some() { turn != Turn::Trial } else { self.failures < rest.failures };
        if goes_on {
            return None;
        }
        let factor = 2_u32.saturating_pow(self.rests).min(LONGEST_REST);
        let time = rest.time * factor;
        self.rests = self.rests.saturating_add(1);
        self.rests_until = Some(now + time);
        Some(time)
    }

    /// Records that the gateway is busy. Returns the time until which it is backing off, which another
    /// message may have set to a later time.
    pub(super) fn leave_alone(&mut self, now: Instant, time: Duration) -> Instant {
        let until = now + time.min(LONGEST_ALONE);
        *self.alone_until.insert(self.alone_until.map_or(until, |before| before.max(until)))
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
        circuit.leave_alone(now, 90 * SECOND);
        circuit.work();
        assert!(is_busy(&mut circuit, now + 89 * SECOND), "another message was accepted");
        circuit.leave_alone(now, 5 * SECOND);
        assert!(is_busy(&mut circuit, now + 89 * SECOND), "another message got a shorter time");
        circuit.fail(now, Turn::Usual, Rest { failures: 1, time: SECOND });
        assert!(is_busy(&mut circuit, now + 89 * SECOND), "another message failed");
        assert!(!is_busy(&mut circuit, now + 90 * SECOND));
    }
}
